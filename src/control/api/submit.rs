//! Putting a command into the log: here when this node leads, through the leader when it does not.

use super::Api;
use crate::caller::Caller;
use crate::forward::{self, Forwarded, authorize};
use crate::log::{Committed, Proposal, ProposeError};
use crate::problem::ApiError;
use cryptorun_core::command::{Command, Outcome};
use cryptorun_core::people::Actor;
use cryptorun_core::record::RequestKey;
use cryptorun_core::wire::Accepted;
use std::time::Duration;

/// How long a proposal waits for a leader to appear: an election of the profile `wan` fits.
const LEADER_PATIENCE: Duration = Duration::from_secs(3);
/// Keys are chosen by clients; longer ones serve nobody.
const KEY_BYTES_MAX: usize = 128;

/// An answer that was applied, with where it stands.
pub type Submitted = (u64, Outcome);

impl Api {
    /// Checks, proposes and waits for the answer; a refusal is an error here.
    pub(crate) async fn submit(
        &self,
        caller: &Caller,
        key: Option<&str>,
        command: Command,
    ) -> Result<Submitted, ApiError> {
        let request = key.map(|key| request_key(caller, key)).transpose()?;
        self.look(|machine, _| authorize(machine, &caller.actor, &command))?;
        let committed = self.propose(caller.actor.clone(), request, command).await?;
        Ok((committed.index, committed.answer?))
    }

    /// The same as an answer for the wire.
    pub(crate) async fn submit_accepted(
        &self,
        caller: &Caller,
        key: Option<&str>,
        command: Command,
    ) -> Result<Accepted, ApiError> {
        let (index, outcome) = self.submit(caller, key, command).await?;
        Ok(Accepted { index, outcome })
    }

    /// Proposes in an actor's name, forwarding where that is allowed.
    pub(crate) async fn propose(
        &self,
        actor: Actor,
        request: Option<RequestKey>,
        command: Command,
    ) -> Result<Committed, ApiError> {
        let log = &self.parts().log;
        let mut leadership = log.leadership();
        let known = leadership.wait_for(|now| now.leader.is_some());
        let leader = match tokio::time::timeout(LEADER_PATIENCE, known).await {
            Ok(Ok(now)) => now.leader,
            Ok(Err(_)) => return Err(ApiError::Stopping),
            Err(_) => return Err(ApiError::NoLeader),
        };
        let proposal = Proposal { actor, via: None, request, command };
        match leader {
            Some(leader) if leader != log.node() => self.propose_at(leader, proposal).await,
            _ => match log.propose(proposal.clone()).await {
                Ok(committed) => Ok(committed),
                // It stepped down between the look and the proposal; nothing happened here.
                Err(ProposeError::NotLeader { leader }) if leader != log.node() => {
                    self.propose_at(leader, proposal).await
                }
                Err(error) => Err(error.into()),
            },
        }
    }

    async fn propose_at(&self, leader: u64, proposal: Proposal) -> Result<Committed, ApiError> {
        if !forward::may_travel(&proposal.command) {
            return Err(self.elsewhere(leader));
        }
        let message = Forwarded::propose(proposal);
        forward::ask(&*self.parts().log, leader, &message, forward::PROPOSE_TTL)
            .await?
            .committed()
            .map_err(|error| match error {
                ApiError::Elsewhere { node, .. } => self.elsewhere(node),
                other => other,
            })
    }
}

fn request_key(caller: &Caller, key: &str) -> Result<RequestKey, ApiError> {
    let fits =
        !key.is_empty() && key.len() <= KEY_BYTES_MAX && key.bytes().all(|b| b.is_ascii_graphic());
    if !fits {
        return Err(ApiError::bad(format!(
            "Idempotency-Key must be 1 to {KEY_BYTES_MAX} printable characters without spaces"
        )));
    }
    Ok(RequestKey { identity: caller.spiffe.to_string(), key: key.to_owned() })
}
