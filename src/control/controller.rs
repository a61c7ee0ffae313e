//! What the leader does: carry promotions on, regrant, ask when somebody is lost.
//!
//! It keeps nothing that matters: [`advance`] computes the next commands from the machine alone, so
//! whoever leads next goes on where this one stopped, and proposing a command twice is refused. What
//! it remembers is only what is on its way, or was just refused, so that it is not asked again at once.
//!
//! While a promotion is under way it does not wait for a report to be committed: what follows from it
//! is proposed as soon as it is appended ([`ahead`]).

use crate::log::{Committed, Log, Proposal, ProposeError, look};
use cryptorun_core::command::{Command, SetLink};
use cryptorun_core::diagnose::region_lost;
use cryptorun_core::machine::Machine;
use cryptorun_core::people::Actor;
use cryptorun_core::region::{Link, RegionName};
use cryptorun_core::seeded_bug;
use cryptorun_core::steps::{advance, ahead, is_under_way};
use cryptorun_core::time::Millis;
use cryptorun_platform::Platform;
use cryptorun_platform::clock::BootTime;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// It looks at least so often, whatever happened: deadlines pass in between.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A log that says it leads and takes nothing (it is on its way down, or has just lost) is left alone
/// for so long: asking it again at once would spin.
const STEP_BACK: Duration = Duration::from_millis(50);
/// A refused command is not proposed again before.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// Acts while this node leads, until the log stops.
pub async fn control(log: Arc<dyn Log>, platform: Platform) {
    let mut leadership = log.leadership();
    loop {
        if leadership.wait_for(|now| now.here).await.is_err() {
            return;
        }
        tracing::info!(node = log.node(), "leading");
        match lead(&*log, &platform).await {
            Err(Over::Stopped) => return,
            Err(Over::Deposed) => {}
            Ok(never) => match never {},
        }
        tracing::info!(node = log.node(), "not leading any more");
        tokio::time::sleep(STEP_BACK).await;
    }
}

/// Why [`lead`] ended.
enum Over {
    /// The log has stopped.
    Stopped,
    /// Somebody else leads, or nobody.
    Deposed,
}

async fn lead(log: &dyn Log, platform: &Platform) -> Result<Infallible, Over> {
    let stopped = |_| Over::Stopped;
    let (mut leadership, mut stirred) = (log.leadership(), log.stirred());
    let mut appended = log.appended();
    let mut memory = Memory::default();
    let mut under_way = FuturesUnordered::new();
    let left_alone =
        seeded_bug::is("inherited_left_alone") && look(log, |machine, _| is_under_way(machine));
    loop {
        stirred.mark_unchanged();
        let now = platform.clock.boot();
        let in_flight = log.in_flight();
        let mut seen = in_flight.keys().next_back().copied().unwrap_or_default();
        let (commands, hurried) = look(log, |machine, index| {
            let commands = ahead(machine, index, in_flight.values(), |machine| {
                let mut commands = all_commands(machine);
                commands.retain(|command| memory.may_try(command, now));
                commands.retain(|_| !left_alone || !is_under_way(machine));
                commands
            });
            (commands, is_under_way(machine))
        });
        // All at once: they are appended in this order, and a chain of steps waits for one commit.
        for command in commands {
            memory.asked(&command);
            under_way.push(propose(log, command));
        }
        let rest = tokio::time::sleep(LOOK_EVERY);
        tokio::pin!(rest);
        loop {
            let idle = under_way.is_empty();
            tokio::select! {
                Some((tried, outcome)) = under_way.next() => {
                    settle(&mut memory, tried, outcome, platform)?;
                }
                changed = stirred.changed(), if idle => {
                    changed.map_err(stopped)?;
                    break;
                }
                () = &mut rest, if idle => break,
                changed = appended.changed(), if hurried => {
                    changed.map_err(stopped)?;
                    if has_news(log, &mut seen) {
                        break;
                    }
                }
                changed = leadership.changed() => {
                    changed.map_err(stopped)?;
                    if !leadership.borrow().here {
                        return Err(Over::Deposed);
                    }
                }
            }
        }
    }
}

/// Whether something was appended behind `seen` that the controller did not ask for and may go by.
fn has_news(log: &dyn Log, seen: &mut u64) -> bool {
    let mut in_flight = log.in_flight();
    let new = in_flight.split_off(&(*seen + 1));
    *seen = new.keys().next_back().copied().unwrap_or(*seen);
    look(log, |machine, _| {
        let mut others = new.values().filter(|entry| entry.actor != Actor::Controller);
        others.any(|entry| machine.may_stir(&entry.command))
    })
}

/// Takes an answer in.
fn settle(
    memory: &mut Memory,
    tried: Tried,
    outcome: Result<Committed, ProposeError>,
    platform: &Platform,
) -> Result<(), Over> {
    memory.answered(&tried.key);
    match outcome {
        Ok(committed) => match committed.answer {
            Ok(_) => tracing::debug!(command = tried.word, index = committed.index, "did"),
            Err(refusal) => {
                tracing::debug!(command = tried.word, %refusal, "was refused");
                memory.refused(tried.key, platform.clock.boot());
            }
        },
        Err(ProposeError::Stopped) => return Err(Over::Stopped),
        Err(ProposeError::NotLeader { .. } | ProposeError::NoLeader) => return Err(Over::Deposed),
        Err(
            error @ (ProposeError::NoSpace { .. }
            | ProposeError::Overloaded
            | ProposeError::OutcomeUnknown
            | ProposeError::TooLarge { .. }),
        ) => {
            tracing::warn!(command = tried.word, %error, "could not be proposed");
            memory.refused(tried.key, platform.clock.boot());
        }
    }
    Ok(())
}

/// A command that was proposed, by what is remembered of it.
struct Tried {
    word: &'static str,
    key: String,
}

async fn propose(log: &dyn Log, command: Command) -> (Tried, Result<Committed, ProposeError>) {
    let tried = Tried { word: command.as_str(), key: memory_key(&command) };
    let proposal = Proposal { actor: Actor::Controller, via: None, request: None, command };
    (tried, log.propose(proposal).await)
}

fn all_commands(machine: &Machine) -> Vec<Command> {
    let mut commands = advance(machine);
    commands.extend(links(machine));
    commands
}

/// How regions stand toward their peers, where that changed: lost is isolated; talking again is
/// reconciling until what its workers have queued is down; then connected.
fn links(machine: &Machine) -> Vec<Command> {
    /// What is on its way at any moment; beyond it a region is still draining.
    const QUEUE_SMALL_BYTES: u64 = 1 << 20;
    /// Without progress for so long a reconciling region counts as isolated again (DESIGN §9).
    const STUCK: Millis = Millis::mins(10);
    let is_lost = |region: &RegionName| {
        region_lost(machine, region).is_some_and(|diagnosis| diagnosis.confirmed)
    };
    let lost: Vec<_> = machine.regions().keys().filter(|region| is_lost(region)).collect();
    let now = machine.now().log;
    let fresh =
        machine.cluster().map(|cluster| cluster.config.limits.report_fresh).unwrap_or_default();
    let mut commands = Vec::new();
    for (name, record) in machine.regions() {
        let heard = record.reported_at.is_some_and(|at| now.since(at) < fresh);
        let queued = || {
            let own = machine.live_sessions().filter(|session| session.region == *name);
            own.map(|session| session.report.queue_bytes).sum::<u64>()
        };
        let link = match record.link {
            Link::Connected | Link::Reconciling { .. } if lost.contains(&name) => {
                Link::Isolated { since: now }
            }
            Link::Isolated { .. } if heard && !lost.contains(&name) => {
                Link::Reconciling { queued: queued(), progress: now }
            }
            Link::Reconciling { queued: before, progress } => {
                let queued = queued();
                if heard && queued <= QUEUE_SMALL_BYTES {
                    Link::Connected
                } else if now.since(progress) > STUCK {
                    Link::Isolated { since: now }
                } else if queued < before {
                    Link::Reconciling { queued, progress: now }
                } else {
                    continue;
                }
            }
            Link::Connected | Link::Isolated { .. } => continue,
        };
        commands.push(Command::SetLink(SetLink { region: name.clone(), link }));
    }
    commands
}

/// What is on its way, and what was refused a moment ago.
#[derive(Default)]
struct Memory {
    under_way: BTreeSet<String>,
    refused: BTreeMap<String, BootTime>,
}

impl Memory {
    fn may_try(&self, command: &Command, now: BootTime) -> bool {
        let key = memory_key(command);
        let lately = self.refused.get(&key).is_some_and(|at| now - *at < AFTER_REFUSAL);
        !lately && !self.under_way.contains(&key)
    }

    fn asked(&mut self, command: &Command) {
        self.under_way.insert(memory_key(command));
    }

    fn answered(&mut self, key: &str) {
        self.under_way.remove(key);
    }

    fn refused(&mut self, key: String, now: BootTime) {
        self.refused.retain(|_, at| now - *at < AFTER_REFUSAL);
        self.refused.insert(key, now);
    }
}

/// The command without what changes by the moment: durations in reasons, times.
fn memory_key(command: &Command) -> String {
    let word = command.as_str();
    match command {
        Command::RequestPromotion(c) => format!("{word} {} {} {}", c.kind, c.scope, c.to),
        Command::Rollback(c) => format!("{word} {} {:?}", c.scope, c.promotion),
        Command::StepFailed(c) => format!("{word} {} {} {}", c.promotion, c.step, c.attempt),
        Command::StepDone(c) => format!("{word} {} {} {}", c.promotion, c.step, c.attempt),
        Command::SetLink(c) => format!("{word} {}", c.region),
        other => format!("{other:?}"),
    }
}
