//! `cryptorun audit`: who changed what, and the proof that nobody edited it since.

mod list;
mod verify;

use crate::Ended;
use crate::context::Context;
use clap::Subcommand;

/// Entries that a node hands out at once.
const PAGE_MAX: u64 = 1000;

/// The verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// List entries, oldest first
    List(list::List),
    /// Follow the hash chain; exits 1 where it breaks
    Verify(verify::Verify),
}

pub async fn run(verb: Verb, context: &mut Context) -> Ended {
    match verb {
        Verb::List(args) => list::run(args, context).await,
        Verb::Verify(args) => verify::run(args, context).await,
    }
}
