//! What must hold in every run, one file each.

mod answers_kept;
mod hashes_agree;
mod one_holder;
mod one_leader;
mod reads_fresh;
mod tokens_grow;

use cryptorun_core::command::Command;
use cryptorun_core::machine::Machine;
use cryptorun_core::position::Hash;
use cryptorun_core::token::Token;
use cryptorun_raft::Committed;
use cryptorun_raft::probe::Seen;
use std::time::Duration;

/// Something that happened, as far as anybody may judge it.
pub enum Event<'a> {
    /// A node applied an entry.
    Applied {
        /// The node.
        node: u64,
        /// What it saw.
        seen: Seen<'a>,
    },
    /// A node took a snapshot from a peer.
    Installed {
        /// The node.
        node: u64,
        /// Up to where.
        index: u64,
        /// Its state hash.
        hash: Hash,
    },
    /// A node leads and may stamp.
    Leads {
        /// The node.
        node: u64,
        /// The term.
        term: u64,
    },
    /// A client was told that its command is committed.
    Acknowledged {
        /// When it was sent.
        sent: Duration,
        /// What it sent.
        command: &'a Command,
        /// What it was told.
        done: &'a Committed,
    },
    /// A linearizable read was answered.
    Read {
        /// By which node.
        node: u64,
        /// When the reader asked.
        began: Duration,
        /// What was applied there.
        index: u64,
    },
    /// A worker believes that it may write until then, in true time.
    Holds {
        /// The worker.
        worker: &'a str,
        /// Under this token.
        token: Token,
        /// Not a nanosecond later.
        until: Duration,
    },
    /// A worker has given up whatever it held.
    Stopped {
        /// The worker.
        worker: &'a str,
    },
    /// The run is over and the nodes are level.
    End {
        /// What they agree on.
        machine: &'a Machine,
    },
}

/// One thing that must hold.
pub trait Invariant: Send {
    /// As its file is called.
    fn name(&self) -> &'static str;

    /// Judges an event at a moment of true time.
    ///
    /// # Errors
    /// What is wrong.
    fn see(&mut self, now: Duration, event: &Event<'_>) -> Result<(), String>;
}

/// All of them, fresh.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::<one_leader::OneLeader>::default(),
        Box::<hashes_agree::HashesAgree>::default(),
        Box::<answers_kept::AnswersKept>::default(),
        Box::<tokens_grow::TokensGrow>::default(),
        Box::<one_holder::OneHolder>::default(),
        Box::<reads_fresh::ReadsFresh>::default(),
    ]
}
