//! One model worker a region: renews, believes its keeper and nothing else, follows its directives.
//!
//! Its sink is a chain of empty batches. What it believes it may write is shown to the invariants
//! as an interval of true time.

use crate::clients::{propose, warm};
use crate::cluster::{OUTSIDE, SimClock, region, timing};
use crate::invariants::Event;
use crate::world::World;
use cryptorun_core::chain::Chain;
use cryptorun_core::command::{Command, Handover, OpenSession, Outcome, Release, Renew};
use cryptorun_core::decide::Verdict;
use cryptorun_core::directive::{self, Want};
use cryptorun_core::keeper::Keeper;
use cryptorun_core::people::Actor;
use cryptorun_core::position::Position;
use cryptorun_core::report::{ScopeReport, Sealed, WorkerReport};
use cryptorun_core::scope::Role;
use cryptorun_core::session::{SessionKey, WorkerAddresses};
use cryptorun_core::time::WallTime;
use cryptorun_core::token::Token;
use cryptorun_platform::clock::Clock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

struct Worker {
    world: Arc<World>,
    node: u64,
    name: String,
    clock: SimClock,
    keeper: Keeper,
    end: Position,
    sealed_at: WallTime,
    highest: Token,
    token: Token,
    role: Role,
    sealed: Option<Sealed>,
    barrier: Option<Position>,
    first_visible: Option<WallTime>,
    last_visible: Option<WallTime>,
}

/// Lives through sessions until the run ends.
pub(crate) async fn worker(world: Arc<World>, node: u64) {
    let clock = SimClock::draw(&world);
    let name = format!("w-{}", region(node));
    let (mut boot, mut before) = (0, None::<Worker>);
    while !world.stopping() {
        boot += 1;
        let session = SessionKey { worker: name.clone(), boot };
        let open = Command::OpenSession(OpenSession {
            session,
            region: region(node).into(),
            addresses: WorkerAddresses::default(),
        });
        let actor = Actor::Worker(name.clone());
        let opened = propose(&world, OUTSIDE + node, actor, open, 5).await;
        let Some((_, done)) = opened else { continue };
        let Ok(Outcome::Renewed(renewed)) = done.answer else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        let keeper = Keeper::new(timing(), &renewed);
        let mut life = match before.take() {
            Some(old) => Worker { keeper, role: Role::CatchingUp, ..old },
            None => Worker {
                world: world.clone(),
                node,
                name: name.clone(),
                clock: clock.again(),
                keeper,
                end: Position::START,
                sealed_at: WallTime(0),
                highest: Token::NONE,
                token: Token::NONE,
                role: Role::CatchingUp,
                sealed: None,
                barrier: None,
                first_visible: None,
                last_visible: None,
            },
        };
        while !world.stopping() && life.renew().await {
            let pause = 200 + world.below(400);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        before = Some(life);
    }
}

impl Worker {
    fn boot(&self) -> u64 {
        self.clock.boot().0
    }

    fn append(&mut self) {
        let body = format!("{} {}", self.token, self.clock.wall());
        self.end = Chain::Batch.append(self.end, body.as_bytes());
        self.sealed_at = self.clock.wall();
        self.last_visible = Some(self.sealed_at);
        self.world.event(format_args!("{} appends {}", self.name, self.end.seq));
    }

    fn report(&self) -> WorkerReport {
        let scope = ScopeReport {
            role: self.role,
            token: self.token,
            highest: self.highest,
            end: self.end,
            rows: self.end.seq,
            sealed_at: self.sealed_at,
            watermark: self.clock.wall(),
            input: self.clock.wall(),
            sealed: self.sealed,
            barrier: self.barrier,
            checks: BTreeMap::from([("C1".to_owned(), Verdict::Yes)]),
            first_visible: self.first_visible,
            last_visible: self.last_visible,
            ..ScopeReport::default()
        };
        WorkerReport { scopes: BTreeMap::from([(warm(), scope)]), ..WorkerReport::default() }
    }

    /// One renewal and what follows from it; false when the session is over.
    async fn renew(&mut self) -> bool {
        let report = self.report();
        let session = self.keeper.session().clone();
        let actor = Actor::Worker(self.name.clone());
        let mut answered = None;
        // Retries keep the first attempt's time; past its deadline a worker starts anew.
        for _ in 0..6 {
            let seq = self.keeper.attempt(self.boot());
            let command =
                Command::Renew(Renew { session: session.clone(), seq, report: report.clone() });
            answered = propose(&self.world, OUTSIDE + self.node, actor.clone(), command, 3).await;
            if answered.is_some() || self.world.stopping() {
                break;
            }
        }
        let Some((node, done)) = answered else { return false };
        let Ok(Outcome::Renewed(renewed)) = done.answer else {
            self.keeper.give_up(&warm());
            self.world.show(&Event::Stopped { worker: &self.name });
            return false;
        };
        if self.keeper.answered(&renewed)
            && let Some(held) = self.keeper.held(&warm())
        {
            let until = self.clock.true_time(held.deadline);
            self.world.show(&Event::Holds { worker: &self.name, token: held.token, until });
        }
        let wants = node.with_machine(|machine| directive::for_session(machine, &session));
        for directive in wants.into_iter().filter(|directive| directive.scope == warm()) {
            self.obey(directive.want, &node).await;
        }
        true
    }

    async fn obey(&mut self, want: Want, node: &cryptorun_raft::Node) {
        let session = self.keeper.session().clone();
        let actor = Actor::Worker(self.name.clone());
        let (world, from) = (self.world.clone(), OUTSIDE + self.node);
        match want {
            Want::Idle => {}
            Want::Primary { token, .. } => {
                if self.keeper.may_act(&warm(), self.boot()) == Some(token) {
                    if self.role != Role::Primary || self.token != token {
                        (self.role, self.token, self.sealed) = (Role::Primary, token, None);
                        self.barrier = None;
                        self.highest = self.highest.max(token);
                        self.append();
                        self.first_visible = Some(self.clock.wall());
                    } else if self.world.below(4) == 0 {
                        self.append();
                    }
                }
            }
            Want::Replica { token, .. } => {
                (self.role, self.barrier, self.first_visible) = (Role::Replica, None, None);
                self.highest = self.highest.max(token);
                self.token = token;
                if let Some(token) = self.keeper.give_up(&warm()) {
                    self.world.show(&Event::Stopped { worker: &self.name });
                    let release =
                        Release { session, scope: warm(), token, end: self.end, keep_for: None };
                    propose(&world, from, actor, Command::Release(release), 2).await;
                }
                self.follow(node);
            }
            Want::Drain { .. } => {
                self.role = Role::Replica;
                if self.barrier.is_none() {
                    self.append();
                    self.barrier = Some(self.end);
                }
            }
            Want::HandOver { promotion, token, end } => {
                self.keeper.give_up(&warm());
                self.world.show(&Event::Stopped { worker: &self.name });
                let handover = Handover { session, promotion, token, end };
                propose(&world, from, actor, Command::Handover(handover), 2).await;
            }
            Want::Seal { token } => {
                self.role = Role::Replica;
                self.highest = self.highest.max(token);
                self.sealed = Some(Sealed { token, end: self.end });
            }
            Want::FetchTail { to, .. } => {
                if to.seq > self.end.seq {
                    self.end = to;
                }
            }
        }
    }

    /// The primary's end as its last report says; cutting what the next reign did not start from.
    fn follow(&mut self, node: &cryptorun_raft::Node) {
        let end = node.with_machine(|machine| {
            let scope = machine.scopes().get(&warm())?;
            let (_, report) = machine.sink_of(&scope.assigned, &warm())?;
            (report.role == Role::Primary).then_some(report.end)
        });
        if let Some(end) = end {
            self.end = end;
        }
    }
}
