//! The log as the control plane has it, with the invariants looking at every answer.

use crate::invariants::Event;
use crate::world::World;
use crate::{boundaries, mutants};
use async_trait::async_trait;
use bytes::Bytes;
use cryptorun_control::log::{
    Alone, CallError, ChangeError, Committed, Extent, ForwardHandler, Leadership, Log,
    MemberAddress, MemberView, Proposal, ProposeError, ReadError, ReadInfo, Voters,
};
use cryptorun_control::raft_log::RaftLog;
use cryptorun_core::audit::AuditEntry;
use cryptorun_core::command::Entry;
use cryptorun_core::machine::Machine;
use cryptorun_core::position::Hash;
use cryptorun_core::time::Millis;
use cryptorun_core::wire::Consistency;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// One life's log.
pub(crate) struct SimLog {
    inner: Arc<RaftLog>,
    world: Arc<World>,
    life: u64,
}

impl SimLog {
    pub fn wrap(inner: Arc<RaftLog>, world: Arc<World>, life: u64) -> Arc<Self> {
        Arc::new(Self { inner, world, life })
    }

    fn is_alive(&self) -> bool {
        self.world.is_alive(self.inner.node(), self.life)
    }
}

#[async_trait]
impl Log for SimLog {
    fn node(&self) -> u64 {
        self.inner.node()
    }

    async fn propose(&self, proposal: Proposal) -> Result<Committed, ProposeError> {
        let command = proposal.command.clone();
        let keyed = proposal.request.is_some();
        if proposal.via.is_some() {
            self.world.tally("forwarded");
        }
        let asked = boundaries::propose(&self.world, &self.inner, self.life, proposal.clone());
        let done = match asked.await {
            // Known to be harmless only where the log says so.
            Err(ProposeError::OutcomeUnknown) if mutants::is("unknown_called_failed") => {
                return Err(ProposeError::NoLeader);
            }
            Err(ProposeError::OutcomeUnknown) if mutants::is("proposed_again_when_unknown") => {
                let again = Proposal { request: None, ..proposal };
                self.inner.propose(again).await
            }
            other => other,
        };
        if let Ok(done) = &done
            && self.is_alive()
        {
            let ok = if done.answer.is_ok() { "ok" } else { "refused" };
            self.world.event(format_args!("n{} acknowledges {} {ok}", self.node(), done.index));
            self.world.tally("acknowledged");
            self.world.show(&Event::Acknowledged { command: &command, keyed, done });
        }
        let mut done = done;
        if mutants::is("answer_of_another_index")
            && let Ok(done) = &mut done
        {
            done.index += 1;
        }
        done
    }

    async fn read(&self, consistency: Consistency) -> Result<ReadInfo, ReadError> {
        let began = self.world.now();
        let asked = match consistency {
            Consistency::Linearizable if mutants::is("stale_read") => Consistency::Stale,
            other => other,
        };
        let read = self.inner.read(asked).await?;
        if consistency == Consistency::Linearizable && self.is_alive() {
            let (node, mut index) = (self.node(), 0);
            self.inner.with_machine(&mut |_, at| index = at);
            self.world.event(format_args!("n{node} reads at {index}"));
            self.world.tally("reads");
            self.world.show(&Event::Read { node, began, index });
        }
        Ok(read)
    }

    fn with_machine(&self, look: &mut dyn FnMut(&Machine, u64)) {
        self.inner.with_machine(look);
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.inner.applied()
    }

    fn stirred(&self) -> watch::Receiver<u64> {
        self.inner.stirred()
    }

    fn in_flight(&self) -> BTreeMap<u64, Arc<Entry>> {
        self.inner.in_flight()
    }

    fn appended(&self) -> watch::Receiver<u64> {
        self.inner.appended()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership()
    }

    fn quorum_lost_for(&self) -> Option<Millis> {
        self.inner.quorum_lost_for()
    }

    fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    fn members(&self) -> Vec<MemberView> {
        self.inner.members()
    }

    fn voters(&self) -> Voters {
        self.inner.voters()
    }

    fn members_joint(&self) -> bool {
        self.inner.members_joint()
    }

    fn disk(&self) -> Option<u64> {
        self.inner.disk()
    }

    fn state_hash(&self) -> (u64, Hash) {
        self.inner.state_hash()
    }

    fn no_space(&self) -> Option<String> {
        self.inner.no_space()
    }

    fn state_hash_at(&self, index: u64) -> Option<Hash> {
        self.inner.state_hash_at(index)
    }

    fn extent(&self) -> Extent {
        self.inner.extent()
    }

    async fn alone(&self) -> io::Result<Alone> {
        self.inner.alone().await
    }

    async fn audit(&self, from: u64, max: usize) -> io::Result<Vec<AuditEntry>> {
        self.inner.audit(from, max).await
    }

    async fn transfer_leader(&self, to: u64) -> Result<(), ChangeError> {
        self.inner.transfer_leader(to).await
    }

    async fn initialize(&self, voters: BTreeMap<u64, MemberAddress>) -> Result<(), ChangeError> {
        self.inner.initialize(voters).await
    }

    async fn add_learner(&self, node: u64, at: MemberAddress) -> Result<(), ChangeError> {
        self.inner.add_learner(node, at).await
    }

    async fn promote(&self, node: u64) -> Result<(), ChangeError> {
        self.inner.promote(node).await
    }

    async fn replace(&self, old: u64, new: u64) -> Result<(), ChangeError> {
        self.inner.replace(old, new).await
    }

    async fn remove(&self, node: u64) -> Result<(), ChangeError> {
        self.inner.remove(node).await
    }

    async fn settle_members(&self) -> Result<bool, ChangeError> {
        self.inner.settle_members().await
    }

    async fn snapshot(&self) -> Result<(), ChangeError> {
        self.inner.snapshot().await
    }

    async fn forward(&self, to: u64, body: Bytes, ttl: Duration) -> Result<Bytes, CallError> {
        self.inner.forward(to, body, ttl).await
    }

    fn set_forward_handler(&self, handler: Arc<dyn ForwardHandler>) {
        self.inner.set_forward_handler(handler);
    }
}
