//! The log in production: the Raft node of this process.

use crate::log::{
    Alone, ChangeError, Committed, Extent, ForwardHandler, Leadership, Log, MemberAddress,
    MemberView, Proposal, ProposeError, ReadError, ReadInfo, Voters,
};
use async_trait::async_trait;
use bytes::Bytes;
use cryptorun_core::audit::AuditEntry;
use cryptorun_core::command::Entry;
use cryptorun_core::machine::Machine;
use cryptorun_core::position::Hash;
use cryptorun_core::region::RegionName;
use cryptorun_core::time::Millis;
use cryptorun_core::wire::Consistency;
use cryptorun_platform::Platform;
use cryptorun_platform::net::CallError;
use cryptorun_raft::{DiskId, Member, Node};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A Raft node as the control plane sees it.
pub struct RaftLog {
    node: Arc<Node>,
    platform: Platform,
    applied: watch::Receiver<u64>,
    leadership: watch::Receiver<Leadership>,
}

impl RaftLog {
    /// Wraps a started node.
    pub fn new(node: Arc<Node>, platform: Platform) -> Arc<Self> {
        let applied = mapped(node.applied(), &platform, |id| id.map_or(0, |id| id.index));
        let leadership = mapped(node.leadership(), &platform, |now| Leadership {
            term: now.term,
            leader: now.leader,
            here: now.anchored,
        });
        Arc::new(Self { node, platform, applied, leadership })
    }
}

/// A watch that shows another one's values in our own words.
fn mapped<A, B>(
    mut from: watch::Receiver<A>,
    platform: &Platform,
    map: impl Fn(&A) -> B + Send + 'static,
) -> watch::Receiver<B>
where
    A: Send + Sync + 'static,
    B: PartialEq + Send + Sync + 'static,
{
    let first = map(&from.borrow_and_update());
    let (to, seen) = watch::channel(first);
    let task = async move {
        while from.changed().await.is_ok() {
            let now = map(&from.borrow_and_update());
            to.send_if_modified(|shown| {
                *shown != now && {
                    *shown = now;
                    true
                }
            });
        }
    };
    platform.spawn.spawn("log watch", Box::pin(task));
    seen
}

struct Handler(Arc<dyn ForwardHandler>);

#[async_trait]
impl cryptorun_raft::ForwardHandler for Handler {
    async fn handle(&self, from: u64, request: Bytes) -> Bytes {
        self.0.forwarded(from, request).await
    }
}

fn change(error: impl std::fmt::Display) -> ChangeError {
    ChangeError(error.to_string())
}

fn member(at: MemberAddress) -> Member {
    Member {
        region: at.region.to_string(),
        name: at.name,
        raft: at.raft,
        api: at.api,
        disk: at.disk.and_then(DiskId::new),
    }
}

/// A member as this crate names it.
pub fn address(member: &Member) -> MemberAddress {
    MemberAddress {
        region: member.region_name(),
        name: member.name.clone(),
        raft: member.raft.clone(),
        api: member.api.clone(),
        disk: member.disk.map(DiskId::number),
    }
}

#[async_trait]
impl Log for RaftLog {
    fn node(&self) -> u64 {
        self.node.id()
    }

    async fn propose(&self, proposal: Proposal) -> Result<Committed, ProposeError> {
        use cryptorun_raft::ProposeError as From;
        let Proposal { actor, via, request, command } = proposal;
        match self.node.propose(actor, via, request, command).await {
            Ok(done) => Ok(Committed { index: done.index, stamp: done.stamp, answer: done.answer }),
            Err(From::NotLeader { leader: Some(leader) }) if leader != self.node.id() => {
                Err(ProposeError::NotLeader { leader })
            }
            Err(From::NotLeader { .. } | From::NoLeader) => Err(ProposeError::NoLeader),
            Err(error @ From::NoSpace(_)) => Err(ProposeError::NoSpace { why: error.to_string() }),
            Err(From::Overloaded) => Err(ProposeError::Overloaded),
            Err(From::TooLarge(why)) => Err(ProposeError::TooLarge { why }),
            Err(From::OutcomeUnknown) => Err(ProposeError::OutcomeUnknown),
            Err(From::Stopped) => Err(ProposeError::Stopped),
        }
    }

    async fn read(&self, consistency: Consistency) -> Result<ReadInfo, ReadError> {
        let how = match consistency {
            Consistency::Linearizable => cryptorun_raft::Consistency::Linearizable,
            Consistency::Lease => cryptorun_raft::Consistency::Lease,
            Consistency::Stale => cryptorun_raft::Consistency::Stale,
        };
        let read = self.node.read(how).await.map_err(|error| match error {
            cryptorun_raft::ReadError::Stopped => ReadError::Stopped,
            _ => ReadError::NoQuorum,
        })?;
        let age =
            read.age.map_or(u64::MAX, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        Ok(ReadInfo { index: read.index, term: read.term, leader: read.leader, age: Millis(age) })
    }

    fn voters(&self) -> Voters {
        let figures = self.node.metrics();
        let all = self.node.members().voters.len();
        let up = match figures.leader == Some(self.node.id()) {
            true => figures.voters_up.len(),
            // Only the leader hears everybody; the others go by who reports through the log.
            false => self.node.with_machine(reporting).min(all),
        };
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Voters { up: count(up), all: count(all) }
    }

    fn with_machine(&self, look: &mut dyn FnMut(&Machine, u64)) {
        let index = self.node.applied_index();
        self.node.with_machine(|machine| look(machine, index));
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.applied.clone()
    }

    fn stirred(&self) -> watch::Receiver<u64> {
        self.node.stirred()
    }

    fn in_flight(&self) -> BTreeMap<u64, Arc<Entry>> {
        self.node.in_flight()
    }

    fn appended(&self) -> watch::Receiver<u64> {
        self.node.appended()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    fn quorum_lost_for(&self) -> Option<Millis> {
        let since = self.node.quorum_lost_since()?;
        let lost = (self.platform.clock.boot() - since).as_millis();
        Some(Millis(u64::try_from(lost).unwrap_or(u64::MAX)))
    }

    fn is_empty(&self) -> bool {
        self.node.metrics().last.is_none() && self.node.members().nodes.is_empty()
    }

    fn members(&self) -> Vec<MemberView> {
        let (members, figures) = (self.node.members(), self.node.metrics());
        let leads = figures.leader == Some(self.node.id());
        members
            .nodes
            .iter()
            .map(|(id, member)| MemberView {
                node: *id,
                voter: members.voters.contains(id),
                matched: figures.replicated.get(id).copied().flatten().filter(|_| leads),
                answered: (leads && figures.voters_up.contains(id)).then_some(Millis::ZERO),
                at: address(member),
            })
            .collect()
    }

    fn members_joint(&self) -> bool {
        self.node.members().joint
    }

    fn disk(&self) -> Option<u64> {
        Some(self.node.disk().number())
    }

    fn no_space(&self) -> Option<String> {
        self.node.no_space().map(|short| short.to_string())
    }

    fn state_hash_at(&self, index: u64) -> Option<Hash> {
        self.node.hash_at(index)
    }

    fn extent(&self) -> Extent {
        let figures = self.node.metrics();
        Extent {
            term: figures.term,
            applied: figures.applied.unwrap_or(0),
            committed: figures.committed.unwrap_or(0),
            last: self.node.last_entry().unwrap_or_default(),
        }
    }

    async fn alone(&self) -> io::Result<Alone> {
        let cryptorun_raft::Whole { machine, index, committed } = self.node.whole().await?;
        Ok(Alone { machine, index, committed })
    }

    fn state_hash(&self) -> (u64, Hash) {
        let (index, hash) = self.node.state_hash();
        (index.unwrap_or(0), hash)
    }

    async fn audit(&self, from: u64, max: usize) -> io::Result<Vec<AuditEntry>> {
        self.node.audit(from, max).await
    }

    async fn transfer_leader(&self, to: u64) -> Result<(), ChangeError> {
        self.node.transfer_leader(to).await.map_err(change)
    }

    async fn initialize(&self, voters: BTreeMap<u64, MemberAddress>) -> Result<(), ChangeError> {
        let voters = voters.into_iter().map(|(id, at)| (id, member(at))).collect();
        self.node.initialize(voters).await.map_err(change)
    }

    async fn add_learner(&self, node: u64, at: MemberAddress) -> Result<(), ChangeError> {
        self.node.add_learner(node, member(at)).await.map_err(change)
    }

    async fn promote(&self, node: u64) -> Result<(), ChangeError> {
        self.node.promote(node).await.map_err(change)
    }

    async fn replace(&self, old: u64, new: u64) -> Result<(), ChangeError> {
        self.node.replace(old, new).await.map_err(change)
    }

    async fn remove(&self, node: u64) -> Result<(), ChangeError> {
        self.node.remove(node).await.map_err(change)
    }

    async fn settle_members(&self) -> Result<bool, ChangeError> {
        self.node.settle_members().await.map_err(change)
    }

    async fn snapshot(&self) -> Result<(), ChangeError> {
        self.node.snapshot().await.map_err(change)
    }

    async fn forward(&self, to: u64, body: Bytes, ttl: Duration) -> Result<Bytes, CallError> {
        self.node.forward(to, body, ttl).await
    }

    fn set_forward_handler(&self, handler: Arc<dyn ForwardHandler>) {
        self.node.set_forward_handler(Arc::new(Handler(handler)));
    }
}

/// Regions whose node has reported lately.
fn reporting(machine: &Machine) -> usize {
    let (now, fresh) = (machine.now().log, machine.limits().report_fresh);
    let lately = |region: &&RegionName| {
        machine.regions()[*region].reported_at.is_some_and(|at| now.since(at) < fresh)
    };
    machine.regions().keys().filter(lately).count()
}
