//! What the machine's headers promise, over arbitrary runs of a world.
//!
//! `World::propose` checks after each entry that `apply` is a function, that `changed` is exact,
//! that tokens only grow and that the audit verifies; what needs true time is checked here.

use super::world::{World, warm};
use crate::command::{Approve, Command, Deny, RequestPromotion};
use crate::explain;
use crate::people::Actor;
use crate::promotion::{Kind, PromotionId, State};
use crate::region::{RegionName, SHIPPED_ALIASES};
use crate::scope::Mode;
use crate::steps;
use crate::time::Millis;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Event {
    Advance(u64),
    Lose(usize),
    Find(usize),
    Cut(usize, usize),
    Heal,
    Kill(usize),
    Start(usize),
    Ask(usize, usize, usize),
    Approve(u64, usize),
    Deny(u64, usize),
}

fn event() -> impl Strategy<Value = Event> {
    let r = 0usize..3;
    prop_oneof![
        6 => (1u64..90).prop_map(Event::Advance),
        1 => r.clone().prop_map(Event::Lose),
        1 => r.clone().prop_map(Event::Find),
        1 => (r.clone(), r.clone()).prop_map(|(a, b)| Event::Cut(a, b)),
        1 => Just(Event::Heal),
        1 => r.clone().prop_map(Event::Kill),
        2 => r.clone().prop_map(Event::Start),
        2 => (r.clone(), r.clone(), 0usize..3).prop_map(|(k, to, who)| Event::Ask(k, to, who)),
        3 => (1u64..8, r.clone()).prop_map(|(id, who)| Event::Approve(id, who)),
        1 => (1u64..8, r).prop_map(|(id, who)| Event::Deny(id, who)),
    ]
}

const PEOPLE: [&str; 3] = ["ana", "ben", "eve"];

fn region(i: usize) -> RegionName {
    SHIPPED_ALIASES[i].0.into()
}

fn play(world: &mut World, event: &Event) {
    match event {
        Event::Advance(secs) => world.advance(Millis::secs(*secs)),
        Event::Lose(i) => {
            let now = world.now;
            // Two regions lost leave no quorum, hence no entries: that is another test's world.
            if world.lost.is_empty() {
                world.lost.insert(region(*i), now);
            }
        }
        Event::Find(i) => drop(world.lost.remove(&region(*i))),
        Event::Cut(a, b) if a != b => {
            let now = world.now;
            world.cut.clear();
            world.cut.insert((region(*a), region(*b)), now);
        }
        Event::Cut(..) | Event::Heal => world.cut.clear(),
        Event::Kill(i) => world.workers.get_mut(&region(*i)).unwrap().up = false,
        Event::Start(i) => world.workers.get_mut(&region(*i)).unwrap().restart(),
        Event::Ask(kind, to, who) => {
            let ask = RequestPromotion {
                kind: [Kind::Switchover, Kind::Failover, Kind::Emergency][*kind],
                scope: warm(),
                from: None,
                to: region(*to),
                reason: Some("asked by the test".to_owned()),
                plan: None,
            };
            let _ = world.by(PEOPLE[*who], Command::RequestPromotion(ask));
        }
        Event::Approve(id, who) => {
            let approve = Approve { promotion: PromotionId(*id), reason: None, certificate: None };
            let _ = world.by(PEOPLE[*who], Command::Approve(approve));
        }
        Event::Deny(id, who) => {
            let deny = Deny { promotion: PromotionId(*id), reason: "no".to_owned() };
            let _ = world.by(PEOPLE[*who], Command::Deny(deny));
        }
    }
}

fn heal(world: &mut World) {
    world.lost.clear();
    world.cut.clear();
    for worker in world.workers.values_mut() {
        if !worker.up {
            worker.restart();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// No change of region without two people, whatever happens; and every promotion that ran ends.
    #[test]
    fn no_region_changes_without_people_and_every_promotion_ends(
        events in prop::collection::vec(event(), 1..25),
    ) {
        let mut world = World::running(Mode::Approve);
        for event in &events {
            play(&mut world, event);
        }
        heal(&mut world);
        world.advance(Millis::mins(8));
        for reign in &world.scope().history {
            match reign.promotion.map(|id| &world.machine.promotions()[&id]) {
                Some(promotion) => prop_assert!(promotion.approvals.len() >= 2),
                None => {
                    let before = world.scope().history.iter().rev().find(|r| r.token < reign.token);
                    prop_assert!(before.is_none_or(|before| before.region == reign.region));
                }
            }
        }
        for promotion in world.machine.promotions().values() {
            prop_assert!(promotion.state != State::Running, "{promotion:?}");
        }
    }

    /// With everything healed, somebody writes again without help, or a verb is open for a person.
    #[test]
    fn a_healed_world_has_a_holder_or_an_open_verb(
        events in prop::collection::vec(event(), 1..25),
    ) {
        let mut world = World::running(Mode::Approve);
        for event in &events {
            play(&mut world, event);
        }
        heal(&mut world);
        world.advance(Millis::mins(3));
        let open = || SHIPPED_ALIASES.iter().any(|(name, _)| {
            explain::explain(&world.machine, &warm(), &RegionName::from(*name), None)
                .is_ok_and(|explained| explained.command.is_some())
        });
        prop_assert!(world.holder().is_some() || open());
    }

    /// Steps proposed at once, where nothing came between, do what they do one after the other.
    #[test]
    fn a_chain_proposed_at_once_is_the_chain_proposed_step_by_step(
        events in prop::collection::vec(event(), 1..25),
    ) {
        let mut world = World::running(Mode::Approve);
        for event in &events {
            play(&mut world, event);
            let (mut at_once, mut by_steps) = (world.machine.clone(), world.machine.clone());
            let first = steps::advance(&world.machine);
            let chain = steps::ahead(&world.machine, world.index(), &[], steps::advance);
            prop_assert!(chain.starts_with(&first));
            for (n, command) in chain.into_iter().enumerate() {
                let answer = steps::take(&mut at_once, world.index(), &command);
                prop_assert!(answer.is_ok() || n < first.len());
            }
            let mut done = Vec::new();
            loop {
                let next = steps::advance(&by_steps).into_iter().find(|c| !done.contains(c));
                let Some(command) = next else { break };
                let _ = steps::take(&mut by_steps, world.index(), &command);
                done.push(command);
            }
            prop_assert_eq!(at_once.scopes(), by_steps.scopes());
            prop_assert_eq!(at_once.promotions(), by_steps.promotions());
        }
    }

    /// A cut of any one link moves no lease (promise 3).
    #[test]
    fn one_cut_link_moves_no_lease(a in 0usize..3, step in 1usize..3, secs in 1u64..900) {
        let mut world = World::running(Mode::Auto);
        let before = world.scope().history.clone();
        let now = world.now;
        world.cut.insert((region(a), region((a + step) % 3)), now);
        world.advance(Millis::secs(secs));
        prop_assert_eq!(&before, &world.scope().history);
        prop_assert!(world.holder().is_some());
        prop_assert!(world.machine.promotions().is_empty());
    }

    /// From 60 s after a loss some verb is allowed at every instant (invariant 21).
    #[test]
    fn a_lost_region_always_leaves_a_verb_open(
        i in 0usize..3, healthy in 0u64..60, after in 62u64..1500,
    ) {
        let mut world = World::running(Mode::Approve);
        world.advance(Millis::secs(healthy));
        let now = world.now;
        let lost = world.scope().assigned.clone();
        world.lost.insert(lost.clone(), now);
        world.advance(Millis::secs(after));
        let to = SHIPPED_ALIASES.iter().map(|(n, _)| RegionName::from(*n)).filter(|n| *n != lost)
            .nth(i % 2).unwrap();
        let explained = explain::explain(&world.machine, &warm(), &to, Some("ana".into())).unwrap();
        prop_assert!(explained.command.is_some(), "{explained:?}");
    }
}

/// What stands between people's yes and the workers' seals is one proposal, not five.
#[test]
fn what_waits_for_no_worker_is_proposed_at_once() {
    let mut world = World::running(Mode::Approve);
    let (from, now) = (world.scope().assigned.clone(), world.now);
    world.lost.insert(from, now);
    world.advance(Millis::secs(100));
    let asked = world.machine.promotions().keys().next().copied().expect("the controller asked");
    for person in ["ben", "eve"] {
        let approve = Approve { promotion: asked, reason: None, certificate: None };
        let actor = Actor::Person(person.into());
        world.propose(actor, Command::Approve(approve)).answer.unwrap();
    }
    let chain = steps::ahead(&world.machine, world.index(), &[], steps::advance);
    let words: Vec<String> = chain
        .iter()
        .map(|command| match command {
            Command::StepStarted(c) => format!("{} starts", c.step),
            Command::StepDone(c) => format!("{} is done", c.step),
            Command::Reserve(_) => "reserve".to_owned(),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(
        words,
        ["preflight starts", "preflight is done", "reserve starts", "reserve", "seal starts"]
    );
}

/// The far end of a cut cannot report when the leader is at the near one; the third region tells.
#[test]
fn a_cut_from_the_leaders_region_is_named_through_the_third() {
    use crate::diagnose::{Class, diagnose};
    let mut world = World::running(Mode::Approve);
    let (a, b) = (region(0), region(2));
    let now = world.now;
    world.cut.insert((a.clone(), b.clone()), now);
    world.mute.insert(b.clone());
    world.advance(Millis::secs(30));
    let found = diagnose(&world.machine);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].class, Class::LinkCut { a, b, relayed_via: Some(region(1)) });
}

/// Its node is gone and nobody reaches its worker, which still renews by another region's node.
#[test]
fn a_region_whose_worker_renews_is_not_lost() {
    use crate::diagnose::{Class, diagnose};
    let mut world = World::running(Mode::Approve);
    let (hidden, now) = (region(0), world.now);
    for other in [region(1), region(2)] {
        world.cut.insert((hidden.clone(), other), now);
    }
    world.mute.insert(hidden.clone());
    let is_lost = |world: &World| {
        let lost = Class::RegionLost { region: hidden.clone() };
        diagnose(&world.machine).into_iter().any(|found| found.class == lost)
    };
    world.advance(Millis::secs(100));
    assert!(!is_lost(&world));
    world.workers.get_mut(&hidden).expect("it is there").up = false;
    world.advance(Millis::secs(100));
    assert!(is_lost(&world));
}

/// A holder that is not heard may go on behind its barrier while its lease lives. Nothing says where
/// it ended but its own sealed sink, so the lease's end alone must not finish a switchover.
#[test]
fn a_switchover_is_undone_when_its_holder_falls_silent_before_its_sink_is_sealed() {
    use crate::plan::Step;
    use crate::promotion::Outcome;
    let mut world = World::running(Mode::Approve);
    let (from, others) = (world.scope().assigned.clone(), [region(1), region(2)]);
    let ask = RequestPromotion {
        kind: Kind::Switchover,
        scope: warm(),
        from: None,
        to: others[0].clone(),
        reason: Some("test".into()),
        plan: None,
    };
    let id = PromotionId(1);
    world.propose(Actor::Person("ana".into()), Command::RequestPromotion(ask)).answer.unwrap();
    let approve = Approve { promotion: id, reason: None, certificate: None };
    world.propose(Actor::Person("eve".into()), Command::Approve(approve)).answer.unwrap();
    let before = world.scope().history.clone();
    while world.machine.promotions()[&id].token.is_none() {
        world.work(&from);
        others.iter().for_each(|name| world.work(name));
        for command in steps::advance(&world.machine) {
            let _ = world.propose(Actor::Controller, command);
        }
    }
    assert_eq!(world.machine.promotions()[&id].current().map(|s| s.step), Some(Step::Seal));
    let now = world.now;
    world.lost.insert(from, now);
    world.advance(Millis::secs(40));
    let ended = &world.machine.promotions()[&id].state;
    assert!(matches!(ended, State::Ended(Outcome::RolledBack { .. })), "{ended:?}");
    assert_eq!(world.scope().history, before, "nobody else was granted it");
}
