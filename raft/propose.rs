//! Commands on their way into the log.
//!
//! What always holds:
//!  1. stamps are given in append order: stamping and handing to openraft are one critical section;
//!  2. a command is bound to the leadership whose anchor stamped it, or not appended at all;
//!  3. what keeps sessions alive has places of its own, so no load of other commands delays it
//!     beyond the entries already in flight;
//!  4. a leader whose disk is full says so and takes nothing that can wait; sessions go on on the
//!     others' disks until it has handed its leadership over;
//!  5. `OutcomeUnknown` is said whenever a command may have been appended and no answer came.

use crate::error::ProposeError;
use crate::leadership::Leadership;
use crate::node::{Inner, Node};
use crate::types::{Payload, TypeConfig};
use cryptorun_core::command::{Answer, Command, Entry};
use cryptorun_core::people::Actor;
use cryptorun_core::record::RequestKey;
use cryptorun_core::time::Stamp;
use openraft::errors::{ClientWriteError, ForwardReason, ForwardToLeader};
use openraft::impls::ProgressResponder;
use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore, watch};

/// Commands of people and controllers in flight. At 70 ms a commit it allows 14 000 a second.
pub const ADMISSIONS_MAX: usize = 1024;
/// Renewals and their like in flight: one a session, and there are far fewer sessions.
pub const RENEWALS_MAX: usize = 1024;

/// The two lanes, the order of appending, and what was appended and is not answered yet.
pub(crate) struct Lanes {
    admissions: Semaphore,
    renewals: Semaphore,
    appending: Mutex<()>,
    in_flight: std::sync::Mutex<InFlight>,
    /// The number of the last.
    appended: watch::Sender<u64>,
}

/// What a node has appended as leader and neither seen applied nor given up, by numbers that count
/// what this process appended.
pub type InFlight = BTreeMap<u64, Arc<Entry>>;

/// A command's place among those in flight.
struct Flight<'a> {
    lanes: &'a Lanes,
    number: u64,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.lanes.entries().remove(&self.number);
    }
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            admissions: Semaphore::new(ADMISSIONS_MAX),
            renewals: Semaphore::new(RENEWALS_MAX),
            appending: Mutex::new(()),
            in_flight: std::sync::Mutex::default(),
            appended: watch::Sender::default(),
        }
    }
}

impl Lanes {
    fn of(&self, command: &Command) -> &Semaphore {
        match keeps_sessions(command) {
            true => &self.renewals,
            false => &self.admissions,
        }
    }

    fn entries(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called in the order of appending.
    fn appended(&self, entry: Arc<Entry>) -> Flight<'_> {
        let number = *self.appended.borrow() + 1;
        self.entries().insert(number, entry);
        self.appended.send_replace(number);
        Flight { lanes: self, number }
    }
}

/// Whether a command keeps sessions alive or lets go: it passes where others wait or are refused.
fn keeps_sessions(command: &Command) -> bool {
    matches!(
        command,
        Command::OpenSession(_)
            | Command::Renew(_)
            | Command::EndSession(_)
            | Command::Release(_)
            | Command::Handover(_)
            | Command::Tick
    )
}

/// A command that is in the log for good, and applied here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Where.
    pub index: u64,
    /// How it was stamped.
    pub stamp: Stamp,
    /// What the machine said; a refusal is an answer.
    pub answer: Answer,
}

impl Node {
    /// Stamps a command, appends it, and waits until it is committed and applied here.
    ///
    /// # Errors
    /// Only [`ProposeError::OutcomeUnknown`] leaves open whether it was appended.
    pub async fn propose(
        &self,
        actor: Actor,
        via: Option<u64>,
        request: Option<RequestKey>,
        command: Command,
    ) -> Result<Committed, ProposeError> {
        self.0.propose(actor, via, request, command).await
    }

    /// What is in flight. Asked before a look at the machine, the two leave nothing out between them;
    /// some of it may be applied by then.
    pub fn in_flight(&self) -> InFlight {
        self.0.lanes.entries().clone()
    }

    /// The number of what was appended last, as it grows.
    pub fn appended(&self) -> watch::Receiver<u64> {
        self.0.lanes.appended.subscribe()
    }
}

impl Inner {
    pub async fn propose(
        &self,
        actor: Actor,
        via: Option<u64>,
        request: Option<RequestKey>,
        command: Command,
    ) -> Result<Committed, ProposeError> {
        let lane = self.lanes.of(&command);
        let _place = lane.try_acquire().map_err(|_| ProposeError::Overloaded)?;
        self.until_anchored().await?;
        if let Some(short) = self.no_space().filter(|_| !keeps_sessions(&command)) {
            return Err(ProposeError::NoSpace(short));
        }
        let (responder, answer) = ProgressResponder::complete_only();
        let (stamp, _flight) = {
            let _order = self.lanes.appending.lock().await;
            let anchor = *self.anchor.borrow();
            let Some(anchor) = anchor.filter(|_| self.leadership.borrow().anchored) else {
                return Err(elsewhere(&self.leadership.borrow()));
            };
            let stamp = anchor.stamp(self.platform.clock.as_ref());
            let payload = Payload::new(Entry { stamp, actor, via, request, command })
                .map_err(|error| ProposeError::TooLarge(error.to_string()))?;
            let entry = payload.shared();
            let write = self.raft.write(payload).with_leader(anchor.leader).responder(responder);
            write.await.map_err(|_| ProposeError::Stopped)?;
            (stamp, self.lanes.appended(entry))
        };
        let answered = tokio::time::timeout(self.patience(), answer).await;
        match answered {
            Ok(Ok(Ok(written))) => match written.data.0 {
                Some(answer) => Ok(Committed { index: written.log_id.index, stamp, answer }),
                // A command always has an answer.
                None => Err(ProposeError::OutcomeUnknown),
            },
            // openraft says this only of what it did not append.
            Ok(Ok(Err(ClientWriteError::ForwardToLeader(to)))) => Err(turned_away(&to)),
            Ok(Ok(Err(_)) | Err(_)) | Err(_) => Err(ProposeError::OutcomeUnknown),
        }
    }

    /// Appends a tick without waiting for anything but its place: called once for each anchor, before
    /// the leadership is announced as anchored.
    pub async fn append_tick(&self) {
        let _order = self.lanes.appending.lock().await;
        let Some(anchor) = *self.anchor.borrow() else { return };
        let entry = Entry {
            stamp: anchor.stamp(self.platform.clock.as_ref()),
            actor: Actor::Node(self.id),
            via: None,
            request: None,
            command: Command::Tick,
        };
        if let Ok(payload) = Payload::new(entry) {
            drop(self.raft.write(payload).with_leader(anchor.leader).await);
        }
    }

    /// A new leader cannot stamp before it has applied its first entry: a round trip and a sync.
    async fn until_anchored(&self) -> Result<(), ProposeError> {
        let mut leadership = self.leadership.subscribe();
        let now = *leadership.borrow();
        if now.anchored {
            return Ok(());
        }
        if !now.leading {
            return Err(elsewhere(&now));
        }
        let settled = leadership.wait_for(|now| now.anchored || !now.leading);
        let wait = self.timing.election_max.to_duration();
        match tokio::time::timeout(wait, settled).await {
            Ok(Ok(now)) if now.anchored => Ok(()),
            Ok(Ok(now)) => Err(elsewhere(&now)),
            Ok(Err(_)) => Err(ProposeError::Stopped),
            Err(_) => Err(ProposeError::NoLeader),
        }
    }

    /// Longest wait for a commit: a leader that lost its quorum, its successor's election, and the
    /// truncation that tells the old one.
    fn patience(&self) -> Duration {
        self.timing.election_max.to_duration() * 3 + Duration::from_secs(1)
    }
}

fn elsewhere(now: &Leadership) -> ProposeError {
    match now.leader {
        Some(_) if now.leading => ProposeError::NoLeader,
        Some(leader) => ProposeError::NotLeader { leader: Some(leader) },
        None => ProposeError::NoLeader,
    }
}

fn turned_away(to: &ForwardToLeader<TypeConfig>) -> ProposeError {
    match (to.reason, to.leader_id) {
        (ForwardReason::LeaseExpired, _) | (_, None) => ProposeError::NoLeader,
        (_, leader) => ProposeError::NotLeader { leader },
    }
}
