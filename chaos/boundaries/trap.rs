//! How a leader dies at an entry of its log.
//!
//! The trap stands where the control plane hands commands to the log. A command that it is set for
//! goes in as always; its proposer is dead as soon as the entry is appended, or as it is applied and
//! before the proposer says another word. The controller proposes chains of steps at once: where the
//! entry is to be applied, what stands behind it in the chain is held, so that the log ends there.
//!
//! Death is the loss of all outlets at that instant; the run then does to its disk what a crash does.

use super::Point;
use crate::world::World;
use cryptorun_control::log::{Committed, Log, Proposal, ProposeError};
use cryptorun_control::raft_log::RaftLog;
use cryptorun_core::command::Command;
use cryptorun_core::people::Actor;
use cryptorun_core::promotion::Kind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Which entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    At(Point),
    /// Whichever comes next.
    Next,
}

/// How far it must have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Appended,
    Applied,
}

/// See the module.
pub(crate) struct Trap {
    kind: Kind,
    state: Mutex<State>,
    caught: Notify,
}

#[derive(Default)]
struct State {
    aim: Option<(Aim, When)>,
    /// The life whose further commands wait for what became of its entry.
    holding: Option<u64>,
    caught: Option<u64>,
}

/// Hands a command to the log; pending for good where its proposer dies by it.
pub(crate) async fn propose(
    world: &Arc<World>,
    log: &RaftLog,
    life: u64,
    proposal: Proposal,
) -> Result<Committed, ProposeError> {
    let Some(trap) = &world.trap else { return log.propose(proposal).await };
    while proposal.actor == Actor::Controller && trap.state().holding == Some(life) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let one = One { trap, world, log, life };
    match trap.aimed_at(log, &proposal.command) {
        Some((point, When::Appended)) => one.appended(point, proposal).await,
        Some((point, When::Applied)) => one.applied(point, proposal).await,
        None => log.propose(proposal).await,
    }
}

impl Trap {
    pub fn new(kind: Kind) -> Arc<Self> {
        Arc::new(Self { kind, state: Mutex::default(), caught: Notify::new() })
    }

    pub(super) fn set(&self, aim: Aim, when: When) {
        self.state().aim = Some((aim, when));
    }

    pub(super) fn take_away(&self) {
        self.state().aim = None;
    }

    /// The next leader that it caught.
    pub(super) async fn sprung(&self) -> u64 {
        loop {
            if let Some(node) = self.state().caught.take() {
                return node;
            }
            self.caught.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn aimed_at(&self, log: &RaftLog, command: &Command) -> Option<(Point, When)> {
        let (aim, when) = self.state().aim?;
        let mut point = None;
        log.with_machine(&mut |machine, _| point = Point::of(command, machine, self.kind));
        let point = point?;
        (aim == Aim::Next || aim == Aim::At(point)).then_some((point, when))
    }
}

/// One command of one leader on its way into the trap.
struct One<'a> {
    trap: &'a Trap,
    world: &'a Arc<World>,
    log: &'a RaftLog,
    life: u64,
}

impl One<'_> {
    async fn appended(&self, point: Point, proposal: Proposal) -> Result<Committed, ProposeError> {
        let command = proposal.command.clone();
        let mut appended = self.log.appended();
        let asked = self.log.propose(proposal);
        tokio::pin!(asked);
        loop {
            tokio::select! {
                biased;
                done = &mut asked => return done,
                seen = appended.changed() => {
                    let in_flight = self.log.in_flight();
                    if seen.is_ok() && in_flight.values().any(|entry| entry.command == command) {
                        break;
                    }
                }
            }
        }
        // At once, or with the entry on its disk and not synced, or on its way to the others.
        let wait = Duration::from_micros(*self.world.pick(&[0, 200, 2500]));
        tokio::select! {
            biased;
            done = &mut asked => return done,
            () = tokio::time::sleep(wait) => {}
        }
        match self.dies(point, When::Appended) {
            true => std::future::pending().await,
            false => asked.await,
        }
    }

    async fn applied(&self, point: Point, proposal: Proposal) -> Result<Committed, ProposeError> {
        self.trap.state().holding = Some(self.life);
        let done = self.log.propose(proposal).await;
        let taken = matches!(&done, Ok(Committed { answer: Ok(_), .. }));
        if taken && self.dies(point, When::Applied) {
            std::future::pending::<()>().await;
        }
        self.trap.state().holding = None;
        done
    }

    /// Nothing of it reaches anybody any more, unless the trap was taken away meanwhile.
    fn dies(&self, point: Point, when: When) -> bool {
        let node = self.log.node();
        if !self.world.is_alive(node, self.life) {
            return true;
        }
        if self.trap.state().aim.take().is_none() {
            return false;
        }
        self.world.event(format_args!("n{node} DIES as {point} is {when:?}"));
        {
            let mut state = self.world.state();
            state.alive.remove(&node);
            state.services.remove(&node);
        }
        self.trap.state().caught = Some(node);
        self.trap.caught.notify_one();
        true
    }
}
