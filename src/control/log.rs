//! The replicated log as this crate needs it: propose, read, look at the machine, talk to peers.
//!
//! Production hands in the Raft node ([`crate::raft_log`]), the simulator its own; everything above
//! (API, detector, controller) cannot tell them apart.
//!
//! What always holds:
//!  1. `propose` returns `Ok` only for an entry that a quorum has on disk;
//!  2. [`ProposeError::OutcomeUnknown`] is never returned where it is known that nothing happened,
//!     nor the other way round;
//!  3. `propose` is refused with `NotLeader` on a node that does not lead: who forwards is
//!     [`crate::forward`], where the sender's right to speak for an actor is looked at.

use async_trait::async_trait;
use bytes::Bytes;
use cryptorun_core::audit::AuditEntry;
use cryptorun_core::command::{Answer, Command, Entry};
use cryptorun_core::machine::Machine;
use cryptorun_core::people::Actor;
use cryptorun_core::position::Hash;
use cryptorun_core::record::RequestKey;
use cryptorun_core::region::RegionName;
use cryptorun_core::restore::Seat;
use cryptorun_core::time::{Millis, Stamp};
use cryptorun_core::wire::Consistency;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What goes into the log, and in whose name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Who stands behind it, verified where it entered.
    pub actor: Actor,
    /// The node it entered at, when that was another.
    pub via: Option<u64>,
    /// Idempotency, where the sender chose a key.
    pub request: Option<RequestKey>,
    /// What to do.
    pub command: Command,
}

/// An entry that a quorum has, and what applying it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its index.
    pub index: u64,
    /// Its stamp.
    pub stamp: Stamp,
    /// What the machine said; a refusal is an answer.
    pub answer: Answer,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another node leads; nothing happened.
    #[error("node {leader} leads")]
    NotLeader {
        /// Which.
        leader: u64,
    },
    /// Nobody leads, as far as this node knows; nothing happened.
    #[error("no leader is known")]
    NoLeader,
    /// The leader's disk is full; nothing happened.
    #[error("{why}")]
    NoSpace {
        /// Which, and how full.
        why: String,
    },
    /// Too much is in flight; nothing happened.
    #[error("too many proposals are waiting")]
    Overloaded,
    /// It does not fit a log entry; nothing happened.
    #[error("{why}")]
    TooLarge {
        /// How so.
        why: String,
    },
    /// It was sent and no answer came: it may have happened, or happen yet.
    #[error("the outcome is unknown: it was sent and no answer came")]
    OutcomeUnknown,
    /// This node is on its way out; nothing happened.
    #[error("this node is stopping")]
    Stopped,
}

/// How a read was made good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadInfo {
    /// The machine is at least there.
    pub index: u64,
    /// Raft term.
    pub term: u64,
    /// Who leads, if known.
    pub leader: Option<u64>,
    /// How old the answer may be.
    pub age: Millis,
}

/// How many decide, and how many of them are heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Voters {
    /// That answer the leader, or, seen from elsewhere, that report through the log.
    pub up: u32,
    /// All.
    pub all: u32,
}

/// Why a linearizable read is not to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No quorum confirmed it in time.
    #[error("no quorum confirmed the read; ?consistency=stale asks this node alone")]
    NoQuorum,
    /// This node is on its way out.
    #[error("this node is stopping")]
    Stopped,
}

/// Who leads, as this node sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Raft term.
    pub term: u64,
    /// Who leads, if known.
    pub leader: Option<u64>,
    /// Whether that is this node, and it may propose.
    pub here: bool,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Its number.
    pub node: u64,
    /// Whether it votes.
    pub voter: bool,
    /// Highest index known to be on its disk; only the leader knows.
    pub matched: Option<u64>,
    /// How long ago it last answered; only the leader knows.
    pub answered: Option<Millis>,
    /// Where it stands, and with which disk.
    pub at: MemberAddress,
}

/// A member as the membership names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberAddress {
    /// Its region.
    pub region: RegionName,
    /// The id in its certificate.
    pub name: String,
    /// Where its peers reach it, `host:port`.
    pub raft: String,
    /// Its admin API, `host:port`.
    pub api: String,
    /// The id of its disk, where it said so.
    pub disk: Option<u64>,
}

impl MemberAddress {
    /// Where somebody says that a node stands; its certificate and disk are not known yet.
    pub fn said(seat: &Seat) -> Self {
        Self {
            region: seat.region.clone(),
            name: String::new(),
            raft: seat.raft.clone(),
            api: seat.api.clone(),
            disk: None,
        }
    }
}

/// How far one node's log and machine reach. Plain data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Raft term it knows.
    pub term: u64,
    /// Last entry it applied.
    pub applied: u64,
    /// Last entry it knows to be committed.
    pub committed: u64,
    /// Term and index of the last entry in its log, committed or not.
    pub last: (u64, u64),
}

/// Everything that one node has, committed or not.
#[derive(Clone, Debug)]
pub struct Alone {
    /// The machine with the node's whole log applied.
    pub machine: Machine,
    /// Last entry in it.
    pub index: u64,
    /// Last entry that is known to be committed.
    pub committed: u64,
}

/// A change of membership or leadership that did not come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ChangeError(pub String);

/// Why a peer did not answer a forwarded message.
pub use cryptorun_platform::net::CallError;

/// Answers what other nodes forward.
#[async_trait]
pub trait ForwardHandler: Send + Sync {
    /// `from` is the sender as its certificate says.
    async fn forwarded(&self, from: u64, body: Bytes) -> Bytes;
}

/// See the module's header.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// This node's number.
    fn node(&self) -> u64;
    /// Puts a command into the log and waits for what applying it answered.
    async fn propose(&self, proposal: Proposal) -> Result<Committed, ProposeError>;
    /// Makes the local machine good for a read.
    async fn read(&self, consistency: Consistency) -> Result<ReadInfo, ReadError>;
    /// Looks at the machine. Short, and without asking the log anything meanwhile: applying waits.
    /// [`look`] is the pleasant form.
    fn with_machine(&self, look: &mut dyn FnMut(&Machine, u64));
    /// The applied index as it grows.
    fn applied(&self) -> watch::Receiver<u64>;
    /// The applied index that last changed more than the time and what sessions report of themselves:
    /// for those who need not look after each renewal.
    fn stirred(&self) -> watch::Receiver<u64>;
    /// What this node has appended as leader and neither seen applied nor given up, in the log's order,
    /// by numbers that grow. Asked before a look at the machine, the two leave nothing out between
    /// them; some of it may be applied by then.
    fn in_flight(&self) -> BTreeMap<u64, Arc<Entry>>;
    /// The number of what was appended last, as it grows.
    fn appended(&self) -> watch::Receiver<u64>;
    /// Who leads, as it changes.
    fn leadership(&self) -> watch::Receiver<Leadership>;
    /// For how long this node has been without a quorum; none while it has one.
    fn quorum_lost_for(&self) -> Option<Millis>;
    /// Whether this node's disk holds no log at all.
    fn is_empty(&self) -> bool;
    /// Voters, and those who answer.
    fn voters(&self) -> Voters;
    /// Members as far as known here.
    fn members(&self) -> Vec<MemberView>;
    /// Whether a change of members is half done.
    fn members_joint(&self) -> bool;
    /// The id of this node's disk.
    fn disk(&self) -> Option<u64>;
    /// Why this node's disk takes nothing more, while it does not.
    fn no_space(&self) -> Option<String>;
    /// Chained hash of the machine at its index.
    fn state_hash(&self) -> (u64, Hash);
    /// The same as it was at an index, while that is remembered.
    fn state_hash_at(&self, index: u64) -> Option<Hash>;
    /// How far this node's log and machine reach.
    fn extent(&self) -> Extent;
    /// What this node has, whether or not anybody else has it.
    async fn alone(&self) -> io::Result<Alone>;
    /// Audit entries from `from` on, or from the oldest there is, oldest first.
    async fn audit(&self, from: u64, max: usize) -> io::Result<Vec<AuditEntry>>;
    /// Hands leadership to another voter.
    async fn transfer_leader(&self, to: u64) -> Result<(), ChangeError>;
    /// Starts the cluster with these voters; once, on empty disks.
    async fn initialize(&self, voters: BTreeMap<u64, MemberAddress>) -> Result<(), ChangeError>;
    /// Adds a member that follows without a vote.
    async fn add_learner(&self, node: u64, at: MemberAddress) -> Result<(), ChangeError>;
    /// Gives a member that has caught up a vote.
    async fn promote(&self, node: u64) -> Result<(), ChangeError>;
    /// Gives one that has caught up the place of a voter, in one change.
    async fn replace(&self, old: u64, new: u64) -> Result<(), ChangeError>;
    /// Takes a member out.
    async fn remove(&self, node: u64) -> Result<(), ChangeError>;
    /// Ends a change of members that a leader did not live to finish. True when there was one.
    async fn settle_members(&self) -> Result<bool, ChangeError>;
    /// Writes a snapshot now.
    async fn snapshot(&self) -> Result<(), ChangeError>;
    /// Asks another node's [`ForwardHandler`].
    async fn forward(&self, to: u64, body: Bytes, ttl: Duration) -> Result<Bytes, CallError>;
    /// Who answers what others forward.
    fn set_forward_handler(&self, handler: Arc<dyn ForwardHandler>);
}

/// Looks at the machine and its index.
pub fn look<R>(log: &dyn Log, look: impl FnOnce(&Machine, u64) -> R) -> R {
    let mut look = Some(look);
    let mut seen = None;
    log.with_machine(&mut |machine, index| {
        seen = look.take().map(|look| look(machine, index));
    });
    // `with_machine` calls exactly once; a `Log` that does not is broken beyond repair.
    seen.unwrap_or_else(|| panic!("the log did not show its machine"))
}

/// Waits until the local machine has applied `index`, at most so long.
pub async fn wait_applied(log: &dyn Log, index: u64, patience: Duration) -> bool {
    let mut applied = log.applied();
    let reached = tokio::time::timeout(patience, applied.wait_for(|at| *at >= index)).await;
    matches!(reached, Ok(Ok(_)))
}
