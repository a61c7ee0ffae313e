//! Who belongs to the cluster, and who leads it: changes on request.

use crate::error::MemberError;
use crate::node::{Inner, Members, Node};
use crate::types::{Member, StoredMembership, TypeConfig};
use openraft::ChangeMembers;
use openraft::errors::{ClientWriteError, InitializeError, RaftError};
use openraft_rt::{Instant, WatchReceiver};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long a change of members may take to commit.
const CHANGE_PATIENCE: Duration = Duration::from_secs(30);

impl Node {
    /// Makes the first members of a new cluster: once, on one node, with empty disks. It is answered
    /// before the disk has it: that it lasts is said by the first command committed afterwards.
    ///
    /// # Errors
    /// It has members already.
    pub async fn initialize(&self, members: BTreeMap<u64, Member>) -> Result<(), MemberError> {
        match self.0.raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
                Err(MemberError::AlreadyInitialized)
            }
            Err(RaftError::APIError(error)) => Err(MemberError::Refused(error.to_string())),
            Err(RaftError::Fatal(_)) => Err(MemberError::Stopped),
        }
    }

    /// Who belongs to the cluster now.
    pub fn members(&self) -> Members {
        members_of(&self.0.raft.metrics().borrow_watched().membership_config)
    }

    /// A node that only follows, until it is promoted.
    ///
    /// # Errors
    /// As [`MemberError`] says.
    pub async fn add_learner(&self, id: u64, member: Member) -> Result<(), MemberError> {
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(id, member)]))).await
    }

    /// A learner becomes a voter.
    ///
    /// # Errors
    /// As [`MemberError`] says.
    pub async fn promote(&self, id: u64) -> Result<(), MemberError> {
        self.known_member(id)?;
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
    }

    /// A learner takes a voter's place, in one change: there is never a voter less than before.
    ///
    /// # Errors
    /// As [`MemberError`] says.
    pub async fn replace(&self, old: u64, new: u64) -> Result<(), MemberError> {
        self.known_member(new)?;
        self.known_member(old)?;
        let mut voters = self.members().voters;
        voters.remove(&old);
        voters.insert(new);
        self.change(ChangeMembers::ReplaceAllVoters(voters)).await?;
        self.forget_learner(old).await
    }

    /// Ends a change that a leader did not live to finish: both sets of voters deciding together
    /// tolerate less than one. True when there was one.
    ///
    /// # Errors
    /// As [`MemberError`] says.
    pub async fn settle_members(&self) -> Result<bool, MemberError> {
        let members = self.members();
        if members.joint {
            self.change(ChangeMembers::ReplaceAllVoters(members.next_voters)).await?;
        }
        Ok(members.joint)
    }

    /// A voter or learner leaves. A leader that is removed hands over first.
    ///
    /// # Errors
    /// As [`MemberError`] says.
    pub async fn remove(&self, id: u64) -> Result<(), MemberError> {
        self.known_member(id)?;
        if self.members().voters.contains(&id) {
            self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id]))).await?;
        }
        self.forget_learner(id).await
    }

    /// Takes one that does not vote out of the membership, if it is still in.
    async fn forget_learner(&self, id: u64) -> Result<(), MemberError> {
        match self.members().nodes.contains_key(&id) {
            true => self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await,
            false => Ok(()),
        }
    }

    /// Hands the lead to a voter, and waits until somebody else has it.
    ///
    /// # Errors
    /// This node does not lead, or nobody took over in time.
    pub async fn transfer_leader(&self, to: u64) -> Result<(), MemberError> {
        let mut leadership = self.leadership();
        let now = *leadership.borrow_and_update();
        if !now.leading {
            return Err(MemberError::NotLeader { leader: now.leader });
        }
        if !self.members().voters.contains(&to) {
            return Err(MemberError::NoMember { id: to });
        }
        if to == self.0.id {
            return Ok(());
        }
        let asked = self.0.raft.trigger().transfer_leader(to).await;
        asked.map_err(|_| MemberError::Stopped)?;
        let taken = leadership.wait_for(|now| now.leader.is_some_and(|id| id != self.0.id));
        let patience = self.0.timing.election_max.to_duration() * 3;
        match tokio::time::timeout(patience, taken).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(MemberError::Stopped),
            Err(_) => Err(MemberError::OutcomeUnknown),
        }
    }

    /// Writes a snapshot now.
    ///
    /// # Errors
    /// The node has stopped.
    pub async fn snapshot(&self) -> Result<(), MemberError> {
        self.0.raft.trigger().snapshot().await.map_err(|_| MemberError::Stopped)
    }

    fn known_member(&self, id: u64) -> Result<(), MemberError> {
        if self.members().nodes.contains_key(&id) {
            Ok(())
        } else {
            Err(MemberError::NoMember { id })
        }
    }

    async fn change(&self, change: ChangeMembers<u64, Member>) -> Result<(), MemberError> {
        let changed = self.0.raft.change_membership(change, false);
        match tokio::time::timeout(CHANGE_PATIENCE, changed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(not_changed(error)),
            Err(_) => Err(MemberError::OutcomeUnknown),
        }
    }
}

impl Inner {
    /// The voter that has most of the log, of those that answered within an election timeout.
    pub fn best_successor(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        let voters: BTreeSet<u64> = now.membership_config.voter_ids().collect();
        let patience = self.timing.election_max.to_duration();
        let answered: BTreeSet<u64> = (now.heartbeat.iter().flatten())
            .filter(|(_, at)| at.as_ref().is_some_and(|at| at.elapsed() < patience))
            .map(|(id, _)| *id)
            .collect();
        let peers = now.replication.iter().flatten();
        peers
            .filter(|(id, _)| **id != self.id && voters.contains(id) && answered.contains(id))
            .max_by_key(|(_, matched)| matched.as_ref().map(|id| id.index))
            .map(|(id, _)| *id)
    }
}

/// Shows the members as they change, until openraft is gone.
pub(crate) async fn follow_members(node: Arc<Inner>) {
    let mut metrics = node.raft.server_metrics();
    loop {
        let now = members_of(&metrics.borrow_watched().membership_config);
        node.members.send_if_modified(|shown| {
            let changed = *shown != now;
            *shown = now;
            changed
        });
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

fn members_of(stored: &StoredMembership) -> Members {
    let configs = stored.get_joint_config();
    Members {
        nodes: stored.nodes().map(|(id, member)| (*id, member.clone())).collect(),
        voters: stored.voter_ids().collect(),
        next_voters: configs.last().cloned().unwrap_or_default(),
        joint: configs.len() > 1,
    }
}

fn not_changed(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> MemberError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
            MemberError::NotLeader { leader: to.leader_id }
        }
        RaftError::APIError(error) => MemberError::Refused(error.to_string()),
        RaftError::Fatal(_) => MemberError::Stopped,
    }
}
