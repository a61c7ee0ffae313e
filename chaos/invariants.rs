//! What must hold, one file each; checked at every event that a run shows.
//!
//! They see the machine, sinks and clients from outside and compute what they need anew: an invariant
//! that asked the product for its opinion would share its mistakes.

mod accepted_in_range;
mod answers_kept;
mod audit_chain;
mod carried_out_once;
mod deadlines_honest;
mod directives_newest;
pub(crate) mod durable_at_send;
mod fence_holds;
mod grants_sealed;
mod hashes_agree;
mod leases_stay;
mod linearizable;
mod no_false_failover;
mod one_holder;
mod one_leader;
mod pauses_respected;
mod people_agree;
mod promotions_end;
mod reads_fresh;
mod steps_in_time;
mod tokens_grow;
mod visible_once;

use crate::tally::Tally;
use crate::world::Theme;
use cryptorun_control::log::Committed;
use cryptorun_core::command::{Command, Entry};
use cryptorun_core::machine::Machine;
use cryptorun_core::position::{Hash, Position};
use cryptorun_core::token::Token;
use cryptorun_histories::history::Operation;
use cryptorun_raft::probe::Seen;
use cryptorun_worker::sink::View;
use openraft::EntryPayload;
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
    /// The log answered that a command is committed.
    Acknowledged {
        /// What was proposed.
        command: &'a Command,
        /// Whether under a key: then the answer may be an earlier entry's.
        keyed: bool,
        /// The answer.
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
    /// A client's operation on a register is over, or given up as unknown.
    Operation {
        /// Which.
        operation: &'a Operation,
    },
    /// A client was told that its write of a register did nothing.
    Denied {
        /// What it would have written.
        value: &'a str,
    },
    /// A worker sends a renewal, for the first time or again.
    RenewalSent {
        /// The worker's end.
        worker: u64,
        /// Its session.
        session: &'a str,
        /// The renewal's number.
        seq: u64,
    },
    /// A worker believes that it may write until then, in true time.
    Holds {
        /// The worker's end.
        worker: u64,
        /// Under this token.
        token: Token,
        /// Not a nanosecond later.
        until: Duration,
    },
    /// A worker has given up whatever it held.
    Stopped {
        /// The worker's end.
        worker: u64,
    },
    /// A worker's process is gone, and what it held with it.
    Died {
        /// The worker's end.
        worker: u64,
    },
    /// A sink as it shows itself, at each change.
    Sink {
        /// The worker's end.
        worker: u64,
        /// Which life of it.
        life: u64,
        /// What it says.
        view: &'a View,
    },
    /// An own write became visible.
    Visible {
        /// The worker's end.
        worker: u64,
        /// Under this token.
        token: Token,
        /// The record.
        at: Position,
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

    /// Hands over what it reached since it was last asked.
    fn reached(&mut self, tally: &mut Tally) {
        let _ = tally;
    }
}

/// All of them that a theme allows to judge, fresh.
pub fn all(theme: Theme) -> Vec<Box<dyn Invariant>> {
    let in_time = theme != Theme::Wild;
    let mut all: Vec<Box<dyn Invariant>> = vec![
        Box::<one_leader::OneLeader>::default(),
        Box::<hashes_agree::HashesAgree>::default(),
        Box::<answers_kept::AnswersKept>::default(),
        Box::<carried_out_once::CarriedOutOnce>::default(),
        Box::<reads_fresh::ReadsFresh>::default(),
        Box::<linearizable::Linearizable>::default(),
        Box::new(tokens_grow::TokensGrow::new(in_time)),
        Box::new(one_holder::OneHolder::new(in_time)),
        Box::new(visible_once::VisibleOnce::new(in_time)),
        Box::<accepted_in_range::AcceptedInRange>::default(),
        Box::<fence_holds::FenceHolds>::default(),
        Box::<grants_sealed::GrantsSealed>::default(),
        Box::<people_agree::PeopleAgree>::default(),
        Box::<promotions_end::PromotionsEnd>::default(),
        Box::<audit_chain::AuditChain>::default(),
        Box::<pauses_respected::PausesRespected>::default(),
        Box::<directives_newest::DirectivesNewest>::default(),
        Box::<crate::rare::RareStates>::default(),
    ];
    if in_time {
        all.push(Box::<deadlines_honest::DeadlinesHonest>::default());
        all.push(Box::<no_false_failover::NoFalseFailover>::default());
        all.push(Box::<steps_in_time::StepsInTime>::default());
    }
    if matches!(theme, Theme::OneLink | Theme::ControlOnly) {
        all.push(Box::<leases_stay::LeasesStay>::default());
    }
    all
}

/// The command of an applied entry, where it has one.
pub(crate) fn entry_of<'a>(seen: &Seen<'a>) -> Option<&'a Entry> {
    match &seen.entry.payload {
        EntryPayload::Normal(payload) => Some(payload.entry()),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    }
}

/// Lets each index through once, from the first node that gets there.
#[derive(Debug, Default)]
pub(crate) struct Once(u64);

impl Once {
    /// Whether this is news.
    pub fn is_new(&mut self, seen: &Seen<'_>) -> bool {
        let new = seen.log_id.index > self.0;
        self.0 = self.0.max(seen.log_id.index);
        new
    }
}
