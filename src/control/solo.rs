//! A log of one node, in memory: what is proposed is applied at once, to the real machine.
//!
//! For tests and the simulator. Time is the clock's; leadership, quorum and other nodes are what the
//! test says they are. Two of them can be joined so that one forwards to the other.

use crate::log::{
    Alone, CallError, ChangeError, Committed, Extent, ForwardHandler, Leadership, Log,
    MemberAddress, MemberView, Proposal, ProposeError, ReadError, ReadInfo, Voters,
};
use async_trait::async_trait;
use bytes::Bytes;
use cryptorun_core::audit::AuditEntry;
use cryptorun_core::command::Entry;
use cryptorun_core::machine::Machine;
use cryptorun_core::position::Hash;
use cryptorun_core::region::RegionName;
use cryptorun_core::restore::Seat;
use cryptorun_core::time::{LogTime, Millis, Stamp};
use cryptorun_core::wire::Consistency;
use cryptorun_platform::clock::Clock;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// See the module's header.
pub struct SoloLog {
    node: u64,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    applied: watch::Sender<u64>,
    stirred: watch::Sender<u64>,
    appended: watch::Sender<u64>,
    leadership: watch::Sender<Leadership>,
}

#[derive(Default)]
struct State {
    machine: Machine,
    index: u64,
    started: bool,
    quorum_lost: Option<Millis>,
    commit_takes: Duration,
    in_flight: BTreeMap<u64, Arc<Entry>>,
    handler: Option<Arc<dyn ForwardHandler>>,
    reached: BTreeMap<u64, Arc<SoloLog>>,
}

impl SoloLog {
    /// An empty log of node `node`, which leads once it is initialised.
    pub fn new(node: u64, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            node,
            clock,
            state: Mutex::default(),
            applied: watch::Sender::new(0),
            stirred: watch::Sender::new(0),
            appended: watch::Sender::new(0),
            leadership: watch::Sender::new(Leadership::default()),
        })
    }

    /// Lets this node reach another, which leads from here's point of view when `leads`.
    pub fn reach(&self, other: &Arc<SoloLog>, leads: bool) {
        self.state().reached.insert(other.node, Arc::clone(other));
        if leads {
            self.follow(Some(other.node));
        }
    }

    /// Makes another node, or nobody, the leader.
    pub fn follow(&self, leader: Option<u64>) {
        self.leadership.send_replace(Leadership { term: 2, leader, here: false });
    }

    /// Takes the quorum away, or gives it back.
    pub fn lose_quorum(&self, since: Option<Millis>) {
        self.state().quorum_lost = since;
    }

    /// From now on a command is applied so long after it was appended.
    pub fn set_commit_takes(&self, span: Duration) {
        self.state().commit_takes = span;
    }

    /// Shows another machine, as replication would.
    pub fn show(&self, machine: Machine, index: u64) {
        let mut state = self.state();
        state.machine = machine;
        state.index = index;
        state.started = true;
        drop(state);
        self.applied.send_replace(index);
        self.stirred.send_replace(index);
    }

    /// A copy of the machine and its index.
    pub fn machine(&self) -> (Machine, u64) {
        let state = self.state();
        (state.machine.clone(), state.index)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamp(&self) -> Stamp {
        let since_boot = Duration::from_nanos(self.clock.boot().0);
        let log = LogTime(u64::try_from(since_boot.as_millis()).unwrap_or(u64::MAX));
        Stamp { log, wall: self.clock.wall() }
    }
}

#[async_trait]
impl Log for SoloLog {
    fn node(&self) -> u64 {
        self.node
    }

    async fn propose(&self, proposal: Proposal) -> Result<Committed, ProposeError> {
        let leadership = *self.leadership.borrow();
        if !leadership.here {
            return Err(match leadership.leader {
                Some(leader) => ProposeError::NotLeader { leader },
                None => ProposeError::NoLeader,
            });
        }
        let Proposal { actor, via, request, command } = proposal;
        let stamp = self.stamp();
        let entry = Arc::new(Entry { stamp, actor, via, request, command });
        let (number, commit_takes) = {
            let mut state = self.state();
            let number = *self.appended.borrow() + 1;
            state.in_flight.insert(number, entry.clone());
            self.appended.send_replace(number);
            (number, state.commit_takes)
        };
        if !commit_takes.is_zero() {
            tokio::time::sleep(commit_takes).await;
        }
        let (index, answer, stirred) = {
            let mut state = self.state();
            state.in_flight.remove(&number);
            if state.quorum_lost.is_some() {
                return Err(ProposeError::OutcomeUnknown);
            }
            state.index += 1;
            let index = state.index;
            let answer = state.machine.apply(index, &entry).answer;
            (index, answer, state.machine.stirred() == index)
        };
        self.applied.send_replace(index);
        if stirred {
            self.stirred.send_replace(index);
        }
        Ok(Committed { index, stamp, answer })
    }

    async fn read(&self, consistency: Consistency) -> Result<ReadInfo, ReadError> {
        let state = self.state();
        if state.quorum_lost.is_some() && consistency != Consistency::Stale {
            return Err(ReadError::NoQuorum);
        }
        let leadership = *self.leadership.borrow();
        Ok(ReadInfo {
            index: state.index,
            term: leadership.term,
            leader: leadership.leader,
            age: state.quorum_lost.unwrap_or_default(),
        })
    }

    fn voters(&self) -> Voters {
        Voters { up: 1, all: 1 }
    }

    fn with_machine(&self, look: &mut dyn FnMut(&Machine, u64)) {
        let state = self.state();
        look(&state.machine, state.index);
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    fn stirred(&self) -> watch::Receiver<u64> {
        self.stirred.subscribe()
    }

    fn in_flight(&self) -> BTreeMap<u64, Arc<Entry>> {
        self.state().in_flight.clone()
    }

    fn appended(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn quorum_lost_for(&self) -> Option<Millis> {
        self.state().quorum_lost
    }

    fn is_empty(&self) -> bool {
        !self.state().started
    }

    fn members(&self) -> Vec<MemberView> {
        let state = self.state();
        let leads = self.leadership.borrow().here;
        let seen = |node: u64| {
            let region = RegionName::from("nowhere");
            let here = Seat { region, node, raft: String::new(), api: String::new() };
            MemberView {
                node,
                voter: true,
                matched: leads.then_some(state.index),
                answered: leads.then_some(Millis::ZERO),
                at: MemberAddress::said(&here),
            }
        };
        state.reached.keys().copied().chain([self.node]).map(seen).collect()
    }

    fn members_joint(&self) -> bool {
        false
    }

    fn disk(&self) -> Option<u64> {
        None
    }

    fn no_space(&self) -> Option<String> {
        None
    }

    fn state_hash_at(&self, _: u64) -> Option<Hash> {
        None
    }

    fn extent(&self) -> Extent {
        let index = self.state().index;
        Extent { term: 1, applied: index, committed: index, last: (1, index) }
    }

    async fn alone(&self) -> io::Result<Alone> {
        let (machine, index) = self.machine();
        Ok(Alone { machine, index, committed: index })
    }

    fn state_hash(&self) -> (u64, Hash) {
        let state = self.state();
        (state.index, Hash::of(format!("{:?}", state.machine).as_bytes()))
    }

    async fn audit(&self, from: u64, max: usize) -> io::Result<Vec<AuditEntry>> {
        let state = self.state();
        let entries = state.machine.audit().range(from..).take(max);
        Ok(entries.map(|(_, entry)| entry.clone()).collect())
    }

    async fn transfer_leader(&self, to: u64) -> Result<(), ChangeError> {
        self.follow(Some(to));
        Ok(())
    }

    async fn initialize(&self, _: BTreeMap<u64, MemberAddress>) -> Result<(), ChangeError> {
        self.state().started = true;
        let here = Leadership { term: 1, leader: Some(self.node), here: true };
        self.leadership.send_replace(here);
        Ok(())
    }

    async fn add_learner(&self, node: u64, _: MemberAddress) -> Result<(), ChangeError> {
        Err(ChangeError(format!("a log of one node has no room for node {node}")))
    }

    async fn promote(&self, node: u64) -> Result<(), ChangeError> {
        Err(ChangeError(format!("node {node} is no member")))
    }

    async fn replace(&self, _: u64, new: u64) -> Result<(), ChangeError> {
        self.promote(new).await
    }

    async fn remove(&self, node: u64) -> Result<(), ChangeError> {
        Err(ChangeError(format!("node {node} is no member")))
    }

    async fn settle_members(&self) -> Result<bool, ChangeError> {
        Ok(false)
    }

    async fn snapshot(&self) -> Result<(), ChangeError> {
        Ok(())
    }

    async fn forward(&self, to: u64, body: Bytes, ttl: Duration) -> Result<Bytes, CallError> {
        let handler = {
            let state = self.state();
            let peer = state.reached.get(&to).ok_or(CallError::Unreachable)?;
            peer.state().handler.clone().ok_or(CallError::Unreachable)?
        };
        let answered = tokio::time::timeout(ttl, handler.forwarded(self.node, body)).await;
        answered.map_err(|_| CallError::TimedOut)
    }

    fn set_forward_handler(&self, handler: Arc<dyn ForwardHandler>) {
        self.state().handler = Some(handler);
    }
}
