//! Each class of DESIGN §7 as the machine's own reports give it, and what tells it from its likes.

use super::world::{World, warm};
use crate::command::{Approve, Command, RequestPromotion};
use crate::decide::{self, Ask, Change, Choice, PredicateName, Verdict};
use crate::diagnose::{Class, Diagnosis, Severity, diagnose, health, offset};
use crate::offset::Offset;
use crate::path::{Path, Reach};
use crate::promotion::{Kind, Outcome, State};
use crate::refusal::Refusal;
use crate::region::RegionName;
use crate::report::{Answers, DiskState, FeedState, RegionReport};
use crate::scope::Mode;
use crate::time::{Millis, WallTime};

const EAST: &str = "us-east-1";
const WEST: &str = "us-west-2";
const EU: &str = "eu-west-1";

fn classes(world: &World) -> Vec<String> {
    let confirmed = diagnose(&world.machine).into_iter().filter(|found| found.confirmed);
    confirmed.map(|found| found.class.to_string()).collect()
}

fn only(world: &World) -> Diagnosis {
    let mut all = diagnose(&world.machine);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn say(world: &mut World, region: &str, what: fn(&mut RegionReport)) {
    world.says.insert(region.into(), what);
}

fn feed(report: &mut RegionReport, live: bool) {
    report.feeds.insert("kraken".to_owned(), FeedState { live, ..FeedState::default() });
}

fn silent(report: &mut RegionReport) {
    feed(report, false);
}

fn heard(report: &mut RegionReport) {
    feed(report, true);
}

#[test]
fn a_venue_that_fails_in_two_regions_is_the_venue_and_in_one_the_way_there() {
    let mut world = World::running(Mode::Approve);
    for (region, what) in [(EAST, silent as fn(&mut _)), (WEST, heard), (EU, heard)] {
        say(&mut world, region, what);
    }
    world.advance(Millis::secs(20));
    assert_eq!(classes(&world), Vec::<String>::new(), "a blink of a feed is no outage");
    world.advance(Millis::secs(20));
    assert_eq!(classes(&world), ["provider_degraded_local kraken in us-east-1"]);
    assert!(only(&world).evidence.contains(&"us-west-2 hears it".to_owned()));
    say(&mut world, WEST, silent);
    world.advance(Millis::secs(40));
    let outage = only(&world);
    assert_eq!((outage.class.as_str(), outage.severity), ("provider_outage", Severity::Page));
    // As long as two have been without it, not one.
    assert!(outage.confirmed && outage.lasting < Millis::secs(45), "{outage:?}");
    say(&mut world, EAST, heard);
    say(&mut world, WEST, heard);
    world.advance(Millis::secs(6));
    assert_eq!(diagnose(&world.machine), []);
}

#[test]
fn a_disk_and_a_rate_of_errors_degrade_their_region_and_lose_nobody() {
    let mut world = World::running(Mode::Approve);
    say(&mut world, WEST, |report| report.disk = DiskState::Slow);
    say(&mut world, EU, |report| report.answers = Answers { all: 19, errors: 19 });
    world.advance(Millis::secs(15));
    assert_eq!(classes(&world), ["slow_disk us-west-2"], "nineteen answers are no rate");
    say(&mut world, WEST, |report| report.disk = DiskState::Full);
    say(&mut world, EU, |report| report.answers = Answers { all: 1000, errors: 51 });
    world.advance(Millis::secs(15));
    assert_eq!(classes(&world), ["slow_disk us-west-2", "errors_high eu-west-1"]);
    assert_eq!(diagnose(&world.machine)[0].severity, Severity::Page);
    assert_eq!(health(&world.machine, &WEST.into()).0, 0);
    say(&mut world, EU, |report| report.answers = Answers { all: 1000, errors: 50 });
    world.advance(Millis::secs(6));
    assert_eq!(classes(&world), ["slow_disk us-west-2"], "as many as are allowed");
    assert_eq!(world.holder(), Some(EAST.into()));
}

/// us-west-2's wall clock is a second and a half ahead; everybody measures everybody, over 70 ms.
fn west_is_ahead(report: &mut RegionReport, own: &str) {
    for other in [EAST, WEST, EU].into_iter().filter(|other| *other != own) {
        let of = |region: &str| if region == WEST { 1500 } else { 0 };
        let offset = Offset { ms: of(other) - of(own), within_ms: 35 };
        report.offsets.insert(other.into(), offset);
    }
}

fn each_says(world: &mut World, what: [fn(&mut RegionReport); 3]) {
    for (region, what) in [EAST, WEST, EU].into_iter().zip(what) {
        say(world, region, what);
    }
}

const WEST_IS_AHEAD: [fn(&mut RegionReport); 3] = [
    |report| west_is_ahead(report, EAST),
    |report| west_is_ahead(report, WEST),
    |report| west_is_ahead(report, EU),
];

fn lose(world: &mut World, region: &str) {
    let now = world.now;
    world.lost.insert(region.into(), now);
}

#[test]
fn a_third_clock_says_which_of_two_is_wrong() {
    let mut world = World::running(Mode::Approve);
    each_says(&mut world, WEST_IS_AHEAD);
    world.advance(Millis::secs(15));
    let found = only(&world);
    assert_eq!(
        (found.class.to_string().as_str(), found.severity),
        ("clock_bad us-west-2", Severity::Page)
    );
    let off = |world: &World, region: &str| offset(&world.machine, &region.into());
    let west = off(&world, WEST).unwrap();
    assert_eq!((west.ms, west.certain_ms()), (1500, 1465));
    assert_eq!([off(&world, EAST), off(&world, EU)], [Some(Offset::default()); 2]);
    // It is known by now: one neighbour sees that it is still so, and nobody else is blamed.
    lose(&mut world, EU);
    world.advance(Millis::secs(20));
    assert_eq!(off(&world, WEST).map(|o| o.ms), Some(1500));
    assert_eq!(off(&world, EAST), None);
}

#[test]
fn of_two_clocks_none_is_blamed() {
    let mut world = World::running(Mode::Approve);
    lose(&mut world, EU);
    world.advance(Millis::secs(20));
    each_says(&mut world, WEST_IS_AHEAD);
    world.advance(Millis::secs(20));
    assert_eq!([EAST, WEST].map(|region| offset(&world.machine, &region.into())), [None; 2]);
}

#[test]
fn a_witness_with_a_wrong_clock_opens_nothing_and_bars_nobody() {
    let mut world = World::running(Mode::Approve);
    each_says(&mut world, WEST_IS_AHEAD);
    world.advance(Millis::secs(15));
    lose(&mut world, EAST);
    world.advance(Millis::secs(90));
    let doubt = |world: &World| {
        let lost = diagnose(&world.machine).into_iter().find(|found| found.confirmed).unwrap();
        assert_eq!(lost.class, Class::RegionLost { region: EAST.into() });
        lost.doubt
    };
    assert_eq!(doubt(&world).as_deref(), Some("the clock of us-west-2 is 1500 ms off"));
    assert_eq!(world.machine.promotions().len(), 0, "the controller asks nobody");

    let ask = |by: Option<&str>| Ask {
        kind: Kind::Failover,
        scope: warm(),
        to: EU.into(),
        by: by.map(Into::into),
        promotion: None,
    };
    let own = decide::decide(&world.machine, &ask(None)).unwrap();
    assert_eq!(own.choice, Choice::Refuse);
    let names: Vec<_> = own.blocking().map(|p| p.name).collect();
    assert_eq!(names, [PredicateName::Witnesses]);
    assert_eq!(own.changes[0], Change::PersonAsks);
    let person = decide::decide(&world.machine, &ask(Some("ana"))).unwrap();
    assert_eq!(person.choice, Choice::Ask);
    let shown = person.predicates.iter().find(|p| p.name == PredicateName::Witnesses).unwrap();
    assert_eq!((shown.verdict, shown.hard), (Verdict::No, false));

    // So it is with one that stood still.
    each_says(&mut world, [|_| {}, |report| report.stood_still = Millis::secs(3), |_| {}]);
    world.advance(Millis::secs(10));
    let stood = "us-west-2 stood still for 3.0 s within the last minute";
    assert_eq!(doubt(&world).as_deref(), Some(stood));
    assert_eq!(world.machine.promotions().len(), 0);

    // Once its minute is over the controller opens it, and a later bad minute voids nothing.
    say(&mut world, WEST, |_| {});
    world.advance(Millis::secs(10));
    let open: Vec<_> = world.machine.promotions().values().filter(|p| p.is_open()).collect();
    assert_eq!(open.len(), 1);
    let id = open[0].id;
    say(&mut world, WEST, |report| report.stood_still = Millis::secs(3));
    world.advance(Millis::secs(10));
    let promotion = &world.machine.promotions()[&id];
    assert!(promotion.is_open());
    assert_eq!(world.machine.bound_differences(promotion), []);
}

/// Both others wait for it, and each other as usual.
fn late(report: &mut RegionReport, whom: &[&str]) {
    for (to, way) in &mut report.control {
        let rtt_us = if whom.contains(&to.as_str()) { 300_000 } else { 70_000 };
        *way = Path { reach: Reach::Up { rtt_us }, ..*way };
    }
}

#[test]
fn who_answers_everybody_late_is_overloaded_and_one_slow_link_is_not() {
    let mut world = World::running(Mode::Approve);
    each_says(&mut world, [|r| late(r, &[WEST]), |_| {}, |_| {}]);
    world.advance(Millis::secs(20));
    assert_eq!(classes(&world), Vec::<String>::new(), "one link is slow");
    each_says(&mut world, [|r| late(r, &[WEST]), |_| {}, |r| late(r, &[WEST])]);
    world.advance(Millis::secs(20));
    assert_eq!(classes(&world), ["overloaded us-west-2"]);
    each_says(&mut world, [|r| late(r, &[WEST, EU]), |_| {}, |r| late(r, &[WEST, EAST])]);
    world.advance(Millis::secs(20));
    assert_eq!(classes(&world), Vec::<String>::new(), "everything is slow");
    each_says(&mut world, [|_| {}, |r| r.stood_still = Millis(1500), |_| {}]);
    world.advance(Millis::secs(20));
    assert_eq!(classes(&world), ["overloaded us-west-2"]);
    assert!(
        only(&world)
            .evidence
            .contains(&"it stood still for 1.5 s at once, 0 ms of a minute".to_owned())
    );
}

#[test]
fn a_link_that_goes_and_comes_is_flapping_whatever_it_is_now() {
    let mut world = World::running(Mode::Approve);
    let often = |report: &mut RegionReport| {
        if let Some(way) = report.control.get_mut(WEST) {
            way.changes = 4;
        }
    };
    say(&mut world, EAST, often);
    world.advance(Millis::secs(6));
    assert_eq!(only(&world).class, Class::Flapping { a: EAST.into(), b: WEST.into() });
    let now = world.now;
    world.cut.insert((RegionName::from(EAST), RegionName::from(WEST)), now);
    world.advance(Millis::secs(6));
    assert_eq!(only(&world).class.as_str(), "flapping");
    say(&mut world, EAST, |_| {});
    world.advance(Millis::secs(6));
    assert_eq!(only(&world).class.as_str(), "link_cut");
}

#[test]
fn whose_probes_still_come_in_says_which_way_a_link_fails() {
    let mut world = World::running(Mode::Approve);
    let now = world.now;
    world.cut.insert((RegionName::from(EAST), RegionName::from(WEST)), now);
    let hears_west = |report: &mut RegionReport| {
        if let Some(way) = report.control.get_mut(WEST) {
            way.heard_ago = Some(Millis(900));
        }
    };
    say(&mut world, EAST, hears_west);
    world.advance(Millis::secs(15));
    assert_eq!(classes(&world), ["one_way_link us-east-1 ↛ us-west-2"]);
    say(&mut world, EAST, |_| {});
    world.advance(Millis::secs(6));
    assert_eq!(classes(&world), ["link_cut us-east-1 ⇹ us-west-2, relayed via eu-west-1"]);
    // us-west-2 cannot report any more, and tells eu-west-1 that it hears us-east-1.
    world.mute.insert(WEST.into());
    say(&mut world, EU, |report| {
        report.hears.insert(WEST.into(), [EAST.into(), EU.into()].into());
    });
    world.advance(Millis::secs(20));
    assert_eq!(classes(&world), ["one_way_link us-west-2 ↛ us-east-1"]);
    say(&mut world, EAST, hears_west);
    world.advance(Millis::secs(6));
    assert_eq!(classes(&world), ["link_cut us-east-1 ⇹ us-west-2, relayed via eu-west-1"]);
}

#[test]
fn a_holder_that_renews_and_does_nothing_is_stalled() {
    let mut world = World::running(Mode::Approve);
    world.worker_says.insert(EAST.into(), |report| {
        for scope in report.scopes.values_mut() {
            scope.watermark = WallTime(1);
        }
    });
    // Every batch is progress: only what lies between two of them counts.
    world.advance(Millis::secs(18));
    let stalled: Vec<_> = diagnose(&world.machine);
    assert_eq!(stalled[0].class, Class::StalledWorker { scope: warm(), region: EAST.into() });
    assert_eq!(world.holder(), Some(EAST.into()), "asked about, not acted on");
    assert_eq!(world.machine.promotions().len(), 0);
}

#[test]
fn nobody_is_lost_while_only_something_is_wrong() {
    let mut world = World::running(Mode::Auto);
    for region in [EAST, WEST, EU] {
        say(&mut world, region, |report| {
            silent(report);
            report.disk = DiskState::Full;
            report.answers = Answers { all: 100, errors: 100 };
            report.stood_still = Millis::secs(40);
        });
    }
    world.advance(Millis::mins(10));
    assert_eq!(world.holder(), Some(EAST.into()));
    assert_eq!(world.machine.promotions().len(), 0);
    let ask = world.by(
        "ana",
        Command::RequestPromotion(RequestPromotion {
            kind: Kind::Failover,
            scope: warm(),
            from: None,
            to: WEST.into(),
            reason: Some("why not".to_owned()),
            plan: None,
        }),
    );
    assert!(matches!(ask, Err(Refusal::Predicates { .. })), "{ask:?}");
}

#[test]
fn a_witness_that_was_started_anew_takes_no_certainty_away() {
    let mut world = World::running(Mode::Approve);
    world.lost.insert(EAST.into(), world.now);
    world.advance(Millis::mins(2));
    // It has watched the way there since now, and for a while says that it has been down so long.
    world.cut.insert((WEST.into(), EAST.into()), world.now);
    world.advance(Millis::secs(15));
    let unsure = diagnose(&world.machine).into_iter().find(|d| !d.confirmed).expect("it watches");
    assert_eq!(unsure.class, Class::RegionLost { region: EAST.into() });
    let ask = Ask {
        kind: Kind::Failover,
        scope: warm(),
        to: EU.into(),
        by: Some("ana".into()),
        promotion: None,
    };
    let decision = decide::decide(&world.machine, &ask).unwrap();
    assert_eq!(decision.blocking().count(), 0, "{decision:#?}");
}

#[test]
fn a_holder_that_does_nothing_is_asked_about_once_its_data_is_old_and_moved_by_people() {
    let mut world = World::running(Mode::Approve);
    world.hung.insert(EAST.into());
    world.worker_says.insert(EAST.into(), |report| {
        for scope in report.scopes.values_mut() {
            scope.watermark = WallTime(1);
        }
    });
    world.advance(Millis::mins(4));
    assert_eq!(world.machine.promotions().len(), 0, "its data is not old enough");
    world.advance(Millis::mins(2));
    let promotion = world.machine.promotions().values().next().expect("it was asked for").clone();
    assert_eq!(promotion.kind, Kind::Emergency);
    assert!(promotion.reason.as_ref().unwrap().starts_with("stalled_worker"), "{promotion:?}");
    assert_eq!(world.holder(), Some(EAST.into()), "nothing moves by itself");
    let held_under = world.scope().highest;
    for person in ["ana", "ben"] {
        let approve =
            Approve { promotion: promotion.id, reason: Some("seen".to_owned()), certificate: None };
        world.by(person, Command::Approve(approve)).unwrap();
    }
    world.advance(Millis::secs(40));
    assert_eq!(world.holder(), Some(promotion.to.clone()));
    assert!(world.scope().highest > held_under);
    let ended = &world.machine.promotions()[&promotion.id];
    assert_eq!(ended.state, State::Ended(Outcome::Done), "{ended:#?}");
}
