//! A refusal's changes are held to their word: with all of them it would go, without any one it would
//! not. Over worlds in which several things are wrong at once.

use super::world::{World, warm};
use crate::command::{Command, PauseScope, SetLink, Unpause};
use crate::decide::{self, Ask, Change, Choice, Decision, Verdict};
use crate::people::Actor;
use crate::promotion::Kind;
use crate::region::{Link, RegionName};
use crate::scope::Mode;
use crate::time::Millis;
use proptest::prelude::*;

const HOLDER: &str = "us-east-1";
const OTHERS: [&str; 2] = ["us-west-2", "eu-west-1"];

/// What is wrong, and what is asked.
#[derive(Clone, Debug)]
struct Wrong {
    observe: bool,
    /// The holder's region, or its worker alone, has been gone for so many seconds.
    gone: Option<(bool, u64)>,
    /// The target, or the third region, has no worker.
    target_down: bool,
    third_down: bool,
    /// The target has not heard of the last so many seconds.
    behind: Option<u64>,
    clock: bool,
    checks: bool,
    isolated: bool,
    paused: bool,
    kind: Kind,
    person: bool,
}

fn wrong() -> impl Strategy<Value = Wrong> {
    let rarely = || prop::bool::weighted(0.25);
    let world = (
        rarely(),
        prop::option::of((any::<bool>(), 0u64..90)),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.15),
        prop::option::weighted(0.3, 30u64..200),
    );
    let more = (rarely(), rarely(), rarely(), rarely());
    let asked = (prop::sample::select(Kind::ALL.to_vec()), any::<bool>());
    (world, more, asked).prop_map(|(world, more, (kind, person))| {
        let (observe, gone, target_down, third_down, behind) = world;
        let (clock, checks, isolated, paused) = more;
        Wrong {
            observe,
            gone,
            target_down,
            third_down,
            behind,
            clock,
            checks,
            isolated,
            paused,
            kind,
            person,
        }
    })
}

fn built(wrong: &Wrong) -> World {
    let mut world = World::running(if wrong.observe { Mode::Observe } else { Mode::Approve });
    let [target, third] = OTHERS.map(RegionName::from);
    if let Some(secs) = wrong.behind.filter(|_| !wrong.target_down) {
        let now = world.now;
        for other in [HOLDER.into(), third.clone()] {
            world.cut.insert((other, target.clone()), now);
        }
        world.advance(Millis::secs(secs));
    }
    // What is wrong with a worker that is not there nobody can know.
    if wrong.clock && !wrong.target_down {
        world.offsets.insert(target.clone(), 1500);
    }
    if wrong.checks && !wrong.target_down {
        world.worker_says.insert(target.clone(), |report| {
            for scope in report.scopes.values_mut() {
                scope.checks.insert("C2".to_owned(), Verdict::No);
            }
        });
    }
    for (down, region) in [(wrong.target_down, &target), (wrong.third_down, &third)] {
        if down {
            world.workers.get_mut(region).unwrap().up = false;
        }
    }
    if wrong.target_down || wrong.third_down {
        world.advance(Millis::secs(15));
    }
    if let Some((region, secs)) = wrong.gone {
        match region {
            true => drop(world.lost.insert(HOLDER.into(), world.now)),
            false => world.workers.get_mut(HOLDER).unwrap().up = false,
        }
        world.advance(Millis::secs(secs));
    }
    world.advance(Millis::secs(2));
    if wrong.isolated {
        let link = Link::Isolated { since: world.now };
        let set = Command::SetLink(SetLink { region: target, link });
        world.propose(Actor::Controller, set).answer.unwrap();
    }
    if wrong.paused {
        let span = Millis::mins(60);
        let pause = PauseScope { scope: warm(), reason: "disks".to_owned(), span };
        world.by("ana", Command::Pause(pause)).unwrap();
    }
    world
}

/// Makes one change so.
fn make_so(world: &mut World, ask: &mut Ask, change: &Change) {
    match change {
        Change::AskFor { kind } => ask.kind = *kind,
        Change::PersonAsks => ask.by = Some("ben".into()),
        Change::MorePeople { .. } => {} // Looked for in the answer.
        Change::Silence { region, span } => {
            let renews = world.workers[region].up;
            if renews && !world.lost.contains_key(region) {
                world.lost.insert(region.clone(), world.now);
            }
            world.advance(*span);
        }
        Change::Wait { span } => world.advance(*span),
        Change::HolderBack { region } | Change::WorkerUp { region } => {
            world.lost.remove(region);
            let worker = world.workers.get_mut(region).unwrap();
            if !worker.up {
                worker.restart();
            }
            for _ in 0..4 {
                world.turn();
            }
        }
        Change::CatchUp { region, .. } => {
            world.cut.retain(|(a, b), _| a != region && b != region);
            world.catch_up(region);
        }
        Change::ChecksPass { region, .. } => {
            world.worker_says.remove(region);
            world.turn();
        }
        Change::Level { region } => {
            let set = Command::SetLink(SetLink { region: region.clone(), link: Link::Connected });
            world.propose(Actor::Controller, set).answer.unwrap();
        }
        Change::ClockRight { region } => {
            world.offsets.remove(region);
            world.turn();
        }
        Change::PauseEnds { .. } => {
            world.by("ana", Command::Unpause(Unpause { scope: warm() })).unwrap();
        }
        Change::HigherIncarnation | Change::RestoreAgreed { .. } => {
            unreachable!("nothing was restored here")
        }
    }
}

/// Whether it goes once these have changed: with as many people as they name.
fn goes(world: &World, ask: &Ask, changes: &[&Change]) -> (bool, Decision) {
    let (mut world, mut ask) = (world.clone(), ask.clone());
    for change in changes {
        make_so(&mut world, &mut ask, change);
    }
    let people = changes.iter().find_map(|change| match change {
        Change::MorePeople { missing } => Some(*missing),
        _ => None,
    });
    let decision = decide::decide(&world.machine, &ask).unwrap();
    let goes = match decision.choice {
        Choice::Act => people.is_none(),
        Choice::Ask => people == Some(decision.people.1),
        Choice::Refuse => false,
    };
    (goes, decision)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn with_all_changes_it_goes_and_without_any_one_it_does_not(wrong in wrong()) {
        // How far behind a worker is that is not there, nobody can know either.
        prop_assume!(!(wrong.target_down && wrong.kind == Kind::Emergency));
        let world = built(&wrong);
        let ask = Ask {
            kind: wrong.kind,
            scope: warm(),
            to: OTHERS[0].into(),
            by: wrong.person.then(|| "ana".into()),
            promotion: None,
        };
        let decision = decide::decide(&world.machine, &ask).unwrap();
        prop_assert_eq!(decision.choice == Choice::Act, decision.changes.is_empty(), "{:?}", decision);
        let all: Vec<&Change> = decision.changes.iter().collect();
        let (went, then) = goes(&world, &ask, &all);
        prop_assert!(went, "{:?}\nof {:#?}\nthen {:#?}", all, decision, then);
        for left_out in 0..all.len() {
            let mut rest = all.clone();
            let change = rest.remove(left_out);
            let (went, _) = goes(&world, &ask, &rest);
            prop_assert!(!went, "goes without {change:?} of {all:?}");
        }
    }
}
