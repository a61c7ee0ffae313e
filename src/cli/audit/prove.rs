//! `audit prove`: that an entry stands in the chain under a head somebody trusts, without a server.
//!
//! The chain is a line, not a tree: the proof of an entry is the entry with every one that follows it
//! up to the head. `audit export --from N --to HEAD` makes the shortest.

use super::file::{Damage, Stopped, open};
use crate::Ended;
use crate::args::Format;
use crate::context::show;
use crate::exit::Exit;
use crate::render::audit as render;
use crate::screen::Screen;
use clap::Args;
use cryptorun_core::audit::AuditEntry;
use cryptorun_core::position::{Hash, Position};
use serde::Serialize;
use std::path::PathBuf;
use std::str::FromStr;

#[derive(Clone, Debug, Args)]
pub struct Prove {
    /// The entry's number
    #[arg(value_name = "SEQ")]
    seq: u64,
    /// An export that holds it
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// The hash of a later entry, from a source you trust
    #[arg(long, value_name = "HASH", value_parser = Hash::from_str)]
    head: Hash,
}

/// Whether it is proven. Plain data.
#[derive(Clone, Debug, Serialize)]
pub struct Proof {
    pub file: PathBuf,
    pub seq: u64,
    pub head: Hash,
    /// The entry, where the file holds it.
    pub entry: Option<AuditEntry>,
    /// Where the head stands in the file, where it does.
    pub head_at: Option<Position>,
    /// The entry is there, and the chain leads from it to the head.
    pub proven: bool,
    /// What does not hold on the way.
    pub damage: Option<Box<Damage>>,
}

pub fn run(args: Prove, format: Format, screen: &mut Screen) -> Ended {
    let Prove { seq, file, head } = args;
    let mut proof =
        Proof { file, seq, head, entry: None, head_at: None, proven: false, damage: None };
    match follow(&mut proof) {
        Ok(()) => {}
        Err(Stopped::Damaged(damage)) => proof.damage = Some(damage),
        Err(Stopped::Unread(failure)) => return Err(failure),
    }
    show(format, screen, &proof, |proof, screen| render::proof(proof, &screen.facts))?;
    Ok(if proof.proven { Exit::Done } else { Exit::CheckFailed })
}

/// Up to the head; what follows it in the file proves nothing and is not read.
fn follow(proof: &mut Proof) -> Result<(), Stopped> {
    let mut reader = open(&proof.file)?;
    while let Some(entry) = reader.entry()? {
        let at = Position { seq: entry.seq, hash: entry.hash };
        if entry.seq == proof.seq {
            proof.entry = Some(entry);
        }
        if at.hash == proof.head {
            proof.head_at = Some(at);
            proof.proven = proof.entry.is_some();
            return Ok(());
        }
    }
    Ok(())
}
