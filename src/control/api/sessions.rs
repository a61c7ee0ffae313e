//! Workers' sessions: open, renew, give back, and what to be.

use super::Api;
use super::submit::Submitted;
use crate::caller::{Caller, Need};
use crate::log::{look, wait_applied};
use crate::problem::ApiError;
use cryptorun_core::command::{
    Command, EndSession, Handover, OpenSession, Outcome, Release, Renew, Renewed,
};
use cryptorun_core::directive::{Directive, for_session};
use cryptorun_core::refusal::Refusal;
use cryptorun_core::region::RegionName;
use cryptorun_core::session::SessionKey;
use cryptorun_core::time::Millis;
use cryptorun_core::wire::{
    Accepted, HandoverRequest, OpenSessionRequest, ReleaseRequest, RenewAnswer, RenewRequest,
    SessionOpened,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long an answer waits for this node to have applied what the leader has.
const CATCH_UP: Duration = Duration::from_millis(500);
/// Sets of directives that wait for a slow reader; each replaces the one before it.
const DIRECTIVES_BOUND: usize = 4;

impl Api {
    /// `POST /v1/sessions`.
    pub async fn open_session(
        &self,
        caller: &Caller,
        request: OpenSessionRequest,
    ) -> Result<SessionOpened, ApiError> {
        let session = SessionKey {
            worker: worker_of(caller)?.into(),
            boot: u64::from_str_radix(&request.boot, 16)
                .ok()
                .filter(|_| request.boot.len() == 16)
                .ok_or_else(|| {
                    ApiError::bad(format!("boot '{}' is not 16 hex digits", request.boot))
                })?,
        };
        let command = Command::OpenSession(OpenSession {
            session: session.clone(),
            region: RegionName::from(caller.spiffe.region.as_str()),
            addresses: request.addresses,
        });
        let (index, outcome) = self.submit(caller, None, command).await?;
        let renewed = renewed(outcome)?;
        // Timings are in the configuration, which this node may not have applied yet.
        wait_applied(self.log(), index, CATCH_UP).await;
        self.look(|machine, _| {
            let config = &machine.cluster().ok_or(Refusal::NotFounded)?.config;
            Ok(SessionOpened {
                renewed,
                timing: config.timing,
                limits: config.limits,
                directives: for_session(machine, &session),
            })
        })
    }

    /// `POST /v1/sessions/{id}/renew`. Of directives that have not changed since the index `known` the
    /// worker is not told again.
    pub async fn renew(
        &self,
        caller: &Caller,
        session: SessionKey,
        request: RenewRequest,
        known: Option<u64>,
    ) -> Result<RenewAnswer, ApiError> {
        let cluster = self.look(|machine, _| machine.cluster().map(|cluster| cluster.id));
        if cluster.is_some_and(|id| id != request.cluster) {
            return Err(ApiError::Conflict {
                why: format!("the session belongs to cluster {}, this is another", request.cluster),
            });
        }
        let command = Command::Renew(Renew {
            session: session.clone(),
            seq: request.seq,
            report: request.report,
        });
        let (index, outcome) = self.submit_renewal(caller, command).await?;
        let renewed = renewed(outcome)?;
        // Directives say by `rev` how new they are: no waiting on the renewal's path.
        Ok(self.look(|machine, at| RenewAnswer {
            index,
            wall: self.parts().platform.clock.wall(),
            renewed,
            directed: Some(at),
            directives: match known.is_some_and(|known| machine.stirred() <= known) {
                true => Vec::new(),
                false => for_session(machine, &session),
            },
        }))
    }

    /// The same renewal in the log twice changes nothing and is answered alike. So one that was handed
    /// to a leader that has died since is handed to the next as soon as that is known, not when its
    /// worker tries again: by then a lease may be over.
    async fn submit_renewal(
        &self,
        caller: &Caller,
        command: Command,
    ) -> Result<Submitted, ApiError> {
        let mut leadership = self.log().leadership();
        loop {
            let known = *leadership.borrow_and_update();
            let another = leadership.wait_for(|now| {
                now.leader.is_some() && (now.term, now.leader) != (known.term, known.leader)
            });
            tokio::select! {
                biased;
                answer = self.submit(caller, None, command.clone()) => return answer,
                Ok(_) = another => {}
            }
        }
    }

    /// `DELETE /v1/sessions/{id}`.
    pub async fn end_session(
        &self,
        caller: &Caller,
        session: SessionKey,
    ) -> Result<Accepted, ApiError> {
        self.submit_accepted(caller, None, Command::EndSession(EndSession { session })).await
    }

    /// `POST /v1/sessions/{id}/release`.
    pub async fn release(
        &self,
        caller: &Caller,
        session: SessionKey,
        ReleaseRequest { scope, token, end, keep_for_ms }: ReleaseRequest,
    ) -> Result<Accepted, ApiError> {
        let keep_for = keep_for_ms.map(Millis);
        let command = Command::Release(Release { session, scope, token, end, keep_for });
        self.submit_accepted(caller, None, command).await
    }

    /// `POST /v1/sessions/{id}/handover`.
    pub async fn handover(
        &self,
        caller: &Caller,
        session: SessionKey,
        HandoverRequest { promotion, token, end }: HandoverRequest,
    ) -> Result<Accepted, ApiError> {
        let command = Command::Handover(Handover { session, promotion, token, end });
        self.submit_accepted(caller, None, command).await
    }

    /// `GET /v1/sessions/{id}/directives`: what to be now, and again whenever that changes. Ends with
    /// the receiver, or when the session is gone.
    ///
    /// # Errors
    /// The session is not the caller's.
    pub fn directives(
        &self,
        caller: &Caller,
        session: SessionKey,
    ) -> Result<mpsc::Receiver<Vec<Directive>>, ApiError> {
        let worker = worker_of(caller)?;
        if worker != session.worker {
            return Err(ApiError::forbidden(format!(
                "worker {worker} may not see what worker {} should be",
                session.worker
            )));
        }
        let known = self.look(|machine, _| machine.live_session(&session).is_some());
        if !known {
            return Err(Refusal::NoSession { session: session.to_string() }.into());
        }
        let (tx, rx) = mpsc::channel(DIRECTIVES_BOUND);
        let log = Arc::clone(&self.parts().log);
        let task = async move {
            let mut stirred = log.stirred();
            let mut last: Option<Vec<Directive>> = None;
            loop {
                let now = look(&*log, |machine, _| {
                    machine.live_session(&session).map(|_| for_session(machine, &session))
                });
                let Some(now) = now else { return };
                if last.as_ref() != Some(&now) {
                    if tx.send(now.clone()).await.is_err() {
                        return;
                    }
                    last = Some(now);
                }
                tokio::select! {
                    changed = stirred.changed() => if changed.is_err() { return },
                    () = tx.closed() => return,
                }
            }
        };
        self.parts().platform.spawn.spawn("directives", Box::pin(task));
        Ok(rx)
    }
}

fn worker_of(caller: &Caller) -> Result<&str, ApiError> {
    match &caller.actor {
        cryptorun_core::people::Actor::Worker(id) => Ok(id),
        other => Err(ApiError::forbidden(format!(
            "{other} is not a worker; sessions are for workers ({:?})",
            Need::Worker
        ))),
    }
}

fn renewed(outcome: Outcome) -> Result<Renewed, ApiError> {
    match outcome {
        Outcome::Renewed(renewed) => Ok(renewed),
        other => Err(ApiError::Internal { why: format!("a renewal was answered with {other:?}") }),
    }
}
