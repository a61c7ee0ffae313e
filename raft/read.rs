//! Reads that say how fresh they are.
//!
//! Linearizable: the leader confirms by a round of heartbeats that it still leads and says up to
//! where a reader must have applied; a follower asks it for that index and waits. By lease: the
//! leader takes its word from acknowledgements younger than four fifths of its lease, the rest
//! being margin for clocks that run apart. Stale: as it is here, with its age.

use crate::codec::rpc;
use crate::error::ReadError;
use crate::network::lane;
use crate::node::{Inner, Node};
use crate::types::TypeConfig;
use cryptorun_platform::net::CallError;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::linearizable_read::LinearizerOption;
use std::time::Duration;

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Confirmed by a quorum during the read.
    Linearizable,
    /// Linearizable while clocks of the nodes run at rates within a fifth of each other.
    Lease,
    /// As this node has it.
    Stale,
}

/// What a read may say of itself. The machine is at least as new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadInfo {
    /// Applied at least to here.
    pub index: u64,
    /// The term.
    pub term: u64,
    /// Who leads, as far as known.
    pub leader: Option<u64>,
    /// How old the answer may be; zero for a linearizable one, none where nobody can tell.
    pub age: Option<Duration>,
}

impl Node {
    /// Makes this node's machine fresh enough, then says how fresh it is.
    ///
    /// # Errors
    /// Nobody could confirm it in time; a stale read never fails.
    pub async fn read(&self, consistency: Consistency) -> Result<ReadInfo, ReadError> {
        match consistency {
            Consistency::Linearizable => self.fresh(false).await,
            Consistency::Lease => self.fresh(true).await,
            Consistency::Stale => Ok(self.as_it_is()),
        }
    }

    /// Waits until an entry is applied here.
    ///
    /// # Errors
    /// It was not, in that time.
    pub async fn wait_applied(&self, index: u64, timeout: Duration) -> Result<(), ReadError> {
        if self.applied_index() >= index {
            return Ok(());
        }
        let mut applied = self.applied();
        let reached = applied.wait_for(|id| id.is_some_and(|id| id.index >= index));
        match tokio::time::timeout(timeout, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ReadError::Stopped),
            Err(_) => Err(ReadError::TooSlow { index, applied: self.applied_index() }),
        }
    }

    async fn fresh(&self, lease: bool) -> Result<ReadInfo, ReadError> {
        let now = *self.0.leadership.borrow();
        let (index, term) = match now.leader {
            Some(leader) if leader != self.0.id => self.ask(leader, lease).await?,
            _ => self.0.confirm(lease).await?,
        };
        self.wait_applied(index, self.0.read_patience()).await?;
        let leader = self.0.leadership.borrow().leader;
        Ok(ReadInfo { index, term, leader, age: Some(Duration::ZERO) })
    }

    async fn ask(&self, leader: u64, lease: bool) -> Result<(u64, u64), ReadError> {
        let refused = |_| ReadError::NoQuorum;
        let body = rpc::read_index(lease).map_err(refused)?;
        let ttl = self.0.read_patience();
        let answer = self.0.peers.call(leader, lane::READ_INDEX, body.into(), ttl).await;
        let answer = answer.map_err(|error| match error {
            CallError::Unreachable => ReadError::NoLeader,
            CallError::TimedOut | CallError::Refused(_) => ReadError::NoQuorum,
        })?;
        let from = rpc::read_read_from(&answer).map_err(refused)?;
        Ok((from.index, from.term))
    }

    fn as_it_is(&self) -> ReadInfo {
        let now = *self.0.leadership.borrow();
        let boot = self.0.platform.clock.boot();
        let heard = match now.leader {
            Some(leader) if leader == self.0.id => self.0.quorum_age(),
            Some(leader) => self.0.last_heard(leader).map(|at| boot - at),
            None => (self.quorum_lost_since()).map(|since| boot - since),
        };
        let index = self.applied_index();
        ReadInfo { index, term: now.term, leader: now.leader, age: heard }
    }
}

impl Inner {
    /// As leader: the index a reader must have applied, and the term it was confirmed in.
    pub async fn confirm(&self, lease: bool) -> Result<(u64, u64), ReadError> {
        let option = if lease {
            let young = self.timing.election_max.to_duration() * 4 / 5;
            LinearizerOption::new(Some(young), true)
        } else {
            ReadPolicy::ReadIndex.into()
        };
        let confirmed = self.raft.get_read_linearizer(option);
        match tokio::time::timeout(self.read_patience(), confirmed).await {
            Ok(Ok(linearizer)) => {
                let id = linearizer.read_log_id();
                Ok((id.index(), id.committed_leader_id().term))
            }
            Ok(Err(error)) => Err(not_confirmed(&error)),
            Err(_) => Err(ReadError::NoQuorum),
        }
    }

    fn read_patience(&self) -> Duration {
        self.timing.election_max.to_duration() * 2
    }
}

fn not_confirmed(error: &RaftError<TypeConfig, LinearizableReadError<TypeConfig>>) -> ReadError {
    match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(_)) => ReadError::NoLeader,
        RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) => ReadError::NoQuorum,
        RaftError::Fatal(_) => ReadError::Stopped,
    }
}
