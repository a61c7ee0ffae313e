//! Whoever uses the cluster: people, readers, each region's reports, and the leader's controller.

use crate::cluster::{NODES, OUTSIDE, REGIONS, SimClock, region, timing};
use crate::invariants::Event;
use crate::world::{Mutant, World};
use cryptorun_core::command::{
    Approve, Cancel, Command, PauseScope, Report, RequestPromotion, Unpause,
};
use cryptorun_core::config::{ClusterConfig, Limits, RegionConfig};
use cryptorun_core::people::{Actor, Grant, OperatorId, Person, Role};
use cryptorun_core::promotion::Kind;
use cryptorun_core::region::RegionName;
use cryptorun_core::report::{Reach, RegionReport};
use cryptorun_core::scope::{Mode, PartitionWrites, ScopeId, ScopePolicy, Tier};
use cryptorun_core::steps;
use cryptorun_core::time::Millis;
use cryptorun_platform::clock::Clock;
use cryptorun_raft::{Committed, Consistency, Node, ProposeError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The scope that everybody fights for.
pub(crate) fn warm() -> ScopeId {
    ScopeId::new(Tier::Warm, "global")
}

pub(crate) fn config() -> ClusterConfig {
    let regions = NODES.iter().zip(REGIONS).map(|(node, name)| {
        let region = RegionConfig {
            aliases: Vec::new(),
            node: *node,
            raft: String::new(),
            api: String::new(),
        };
        (RegionName::from(name), region)
    });
    let approver =
        Person { grants: vec![Grant { role: Role::Approver, tier: None, region: None }] };
    let policy = ScopePolicy {
        primary: REGIONS[0].into(),
        members: REGIONS.iter().map(|name| (*name).into()).collect(),
        mode: Mode::Auto,
        people: 2,
        partition_writes: PartitionWrites::Stop,
        residency: None,
    };
    let people = ["ana", "ben", "eve"].map(|id| (OperatorId::from(id), approver.clone()));
    ClusterConfig {
        version: 1,
        name: crate::cluster::NAME.to_owned(),
        timing: timing(),
        regions: regions.collect(),
        people: BTreeMap::from(people),
        scopes: BTreeMap::from([(warm(), policy)]),
        // Short, so that a run of seconds sees whole failovers.
        limits: Limits {
            detection: Millis::secs(5),
            cooldown: Millis::secs(2),
            daily_budget: 1000,
            regrant_max: 100,
            ..Limits::default()
        },
    }
}

/// Proposes at one node, over the network, and shows what was acknowledged.
pub(crate) async fn propose_at(
    world: &Arc<World>,
    from: u64,
    to: u64,
    actor: Actor,
    command: Command,
) -> Result<(Node, Committed), ProposeError> {
    let sent = world.now();
    if !world.hop(from, to).await {
        tokio::time::sleep(Duration::from_millis(600)).await;
        return Err(ProposeError::NoLeader);
    }
    let found = {
        let state = world.state();
        state.nodes.get(&to).cloned().zip(state.alive.get(&to).copied())
    };
    let Some((node, life)) = found else { return Err(ProposeError::NoLeader) };
    let done = node.propose(actor, None, None, command.clone()).await;
    // An answer of a dead node reaches nobody; nor does one over a cut link.
    if !world.is_alive(to, life) || !world.hop(to, from).await {
        return Err(ProposeError::OutcomeUnknown);
    }
    let done = done?;
    let ok = if done.answer.is_ok() { "ok" } else { "refused" };
    world.event(format_args!("acknowledged {} {ok} from {to}", done.index));
    world.state().outcome.acknowledged += 1;
    world.show(&Event::Acknowledged { sent, command: &command, done: &done });
    Ok((node, done))
}

/// Follows the leader's name around; gives up after so many tries.
pub(crate) async fn propose(
    world: &Arc<World>,
    from: u64,
    actor: Actor,
    command: Command,
    tries: u32,
) -> Option<(Node, Committed)> {
    let mut target = from - OUTSIDE;
    for _ in 0..tries {
        match propose_at(world, from, target, actor.clone(), command.clone()).await {
            Ok(done) => return Some(done),
            Err(ProposeError::NotLeader { leader: Some(leader) }) => target = leader,
            Err(_) => {
                target = 1 + world.below(3);
                let pause = 20 + world.below(200);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }
    }
    None
}

pub(crate) async fn until_committed(world: &Arc<World>, from: u64, actor: Actor, command: Command) {
    while propose(world, from, actor.clone(), command.clone(), 10).await.is_none() {}
}

/// What the leader of the moment does: the step runner's next commands.
pub(crate) async fn controller(world: Arc<World>, node: Node, life: u64, _clock: Arc<SimClock>) {
    let mut applied = node.applied();
    while world.is_alive(node.id(), life) && !world.stopping() {
        let wait = tokio::time::timeout(Duration::from_millis(500), applied.changed());
        if matches!(wait.await, Ok(Err(_))) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        if !node.leadership().borrow().anchored {
            continue;
        }
        for command in node.with_machine(steps::advance) {
            drop(node.propose(Actor::Controller, None, None, command).await);
        }
    }
}

/// Shows each leadership this node takes.
pub(crate) async fn watch_leader(world: Arc<World>, node: Node, life: u64) {
    let mut leadership = node.leadership();
    while world.is_alive(node.id(), life) {
        let now = *leadership.borrow_and_update();
        if now.anchored {
            world.event(format_args!("n{} leads term {}", node.id(), now.term));
            world.state().outcome.leaderships += 1;
            world.show(&Event::Leads { node: node.id(), term: now.term });
        }
        if leadership.changed().await.is_err() {
            return;
        }
    }
}

/// A region's report, every second.
pub(crate) async fn reporter(world: Arc<World>, node: u64) {
    let me = OUTSIDE + node;
    let clock = SimClock::draw(&world);
    let mut down_since: BTreeMap<u64, Duration> = BTreeMap::new();
    while !world.stopping() {
        tokio::time::sleep(Duration::from_millis(900 + world.below(200))).await;
        let mut report = RegionReport { wall: clock.wall(), ..RegionReport::default() };
        for other in NODES.into_iter().filter(|other| *other != node) {
            let cut = {
                let state = world.state();
                state.cut.contains(&(node, other))
                    || state.cut.contains(&(other, node))
                    || !state.alive.contains_key(&other)
            };
            let now = world.now();
            let since = if cut {
                Some(*down_since.entry(other).or_insert(now))
            } else {
                down_since.remove(&other);
                None
            };
            let for_ms = since
                .map(|since| Millis(u64::try_from((now - since).as_millis()).unwrap_or(0).max(1)));
            let reach = match for_ms {
                Some(for_ms) => Reach::Down { for_ms },
                None => Reach::Up { rtt_us: 40_000 },
            };
            let name = RegionName::from(region(other));
            report.control.insert(name.clone(), reach);
            report.data.insert(name.clone(), reach);
            report.arrived_ago.insert(name, for_ms.unwrap_or(Millis(200)));
        }
        let command = Command::Report(Report { region: region(node).into(), report });
        propose(&world, me, Actor::Node(node), command, 3).await;
    }
}

/// Reads linearizably at its own node, and says what it had seen acknowledged before.
pub(crate) async fn reader(world: Arc<World>, node: u64) {
    let me = OUTSIDE + node;
    while !world.stopping() {
        tokio::time::sleep(Duration::from_millis(100 + world.below(400))).await;
        let target = if world.below(4) == 0 { 1 + world.below(3) } else { node };
        let began = world.now();
        if !world.hop(me, target).await {
            continue;
        }
        let found = {
            let state = world.state();
            state.nodes.get(&target).cloned().zip(state.alive.get(&target).copied())
        };
        let Some((at, life)) = found else { continue };
        let how = match world.options.mutant {
            Some(Mutant::StaleRead) => Consistency::Stale,
            _ => Consistency::Linearizable,
        };
        let Ok(_) = at.read(how).await else { continue };
        let index = at.applied_index();
        if !world.is_alive(target, life) {
            continue;
        }
        world.event(format_args!("read at {target}: {index}"));
        world.state().outcome.reads += 1;
        world.show(&Event::Read { node: target, began, index });
    }
}

/// Asks for promotions, approves them, pauses and resumes.
pub(crate) async fn people(world: Arc<World>) {
    const KINDS: [Kind; 3] = [Kind::Switchover, Kind::Failover, Kind::Emergency];
    while !world.stopping() {
        tokio::time::sleep(Duration::from_millis(300 + world.below(1500))).await;
        let from = OUTSIDE + 1 + world.below(3);
        let who = ["ana", "ben", "eve"][usize::try_from(world.below(3)).unwrap_or(0)];
        let open = {
            let state = world.state();
            let mut nodes = state.nodes.values();
            nodes.next().and_then(|node| {
                node.with_machine(|machine| {
                    let mut promotions = machine.promotions().values().rev();
                    promotions.find(|promotion| promotion.is_open()).map(|promotion| promotion.id)
                })
            })
        };
        let command = match (world.below(12), open) {
            (0..7, Some(promotion)) => {
                let reason = Some("agreed".to_owned());
                Command::Approve(Approve { promotion, reason, certificate: None })
            }
            (7, Some(promotion)) => Command::Cancel(Cancel { promotion }),
            (8, _) => Command::Pause(PauseScope {
                scope: warm(),
                reason: "a look".to_owned(),
                span: Millis::secs(1 + world.below(3)),
            }),
            (9, _) => Command::Unpause(Unpause { scope: warm() }),
            _ => Command::RequestPromotion(RequestPromotion {
                kind: KINDS[usize::try_from(world.below(3)).unwrap_or(0)],
                scope: warm(),
                from: None,
                to: REGIONS[usize::try_from(world.below(3)).unwrap_or(0)].into(),
                reason: Some("a drill".to_owned()),
                plan: None,
            }),
        };
        propose(&world, from, Actor::Person(who.into()), command, 4).await;
    }
}
