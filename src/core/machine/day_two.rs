//! What comes after the first day: rule changes, seats, preferences, and a cluster from a backup.

use super::Machine;
use super::world::{World, warm};
use crate::audit::AuditEntry;
use crate::command::{
    Approve, ApproveRules, CancelRules, Command, DenyRules, Outcome, PreferLeader, ProposeRules,
    RequestPromotion, TurnedAway,
};
use crate::config::{CLUSTER_VERSION, ClusterId};
use crate::people::Actor;
use crate::position::Hash;
use crate::promotion::{self, Kind, PromotionId};
use crate::record::{Record, RecordKey};
use crate::refusal::Refusal;
use crate::region::RegionName;
use crate::restore::{Act, Begin, Finish, Progress, Restore, Seat, backup};
use crate::rules::{self, Change, RuleId, State};
use crate::scope::Mode;
use crate::time::{Millis, Profile, Timing};
use crate::token::Token;

const R1: RuleId = RuleId(1);
const OTHER: ClusterId = ClusterId(2);
const SECOND: u32 = 1_800_000_000;

fn east() -> RegionName {
    "us-east-1".into()
}

fn says(world: &mut World, who: &str, command: Command) -> crate::command::Answer {
    world.propose(Actor::Person(who.into()), command).answer
}

fn approval(rule: RuleId) -> Command {
    Command::ApproveRules(ApproveRules { rule, reason: None, certificate: None })
}

fn upgrade(from: u32, to: u32) -> Command {
    let change = Change::ClusterVersion { from, to };
    Command::ProposeRules(ProposeRules { change, reason: Some("both are out".to_owned()) })
}

fn prefer(regions: &[&str]) -> Command {
    let regions = regions.iter().map(|region| (*region).into()).collect();
    Command::PreferLeader(PreferLeader { regions })
}

#[test]
fn an_upgrade_takes_two_people_and_only_then_what_it_brings_is_there() {
    if CLUSTER_VERSION < 2 {
        return; // The program before: it knows of no version to go to.
    }
    let mut world = World::new(Mode::Approve);
    let early = says(&mut world, "root", prefer(&["eu-west-1"]));
    assert_eq!(early, Err(Refusal::Version { needs: 2, has: 1 }));
    assert!(matches!(says(&mut world, "ana", upgrade(1, 2)), Err(Refusal::NotAllowed { .. })));
    let asked = says(&mut world, "root", upgrade(1, 2));
    assert_eq!(asked, Ok(Outcome::Rule { id: R1, people_missing: 1 }));
    let again = says(&mut world, "root", approval(R1));
    assert!(matches!(again, Err(Refusal::SamePersonRule { .. })), "one person is one");
    assert_eq!(world.machine.cluster().unwrap().version, 1);
    let agreed = says(&mut world, "ben", approval(R1));
    assert_eq!(agreed, Ok(Outcome::Rule { id: R1, people_missing: 0 }));
    assert_eq!(world.machine.cluster().unwrap().version, 2);
    assert_eq!(world.machine.rules()[&R1].state, State::Ended(rules::Outcome::Applied));
    assert_eq!(says(&mut world, "root", prefer(&["eu-west-1"])), Ok(Outcome::Done));
    assert_eq!(world.machine.leader_preference(), ["eu-west-1".into()]);
    let late = says(&mut world, "eve", approval(R1));
    assert!(matches!(late, Err(Refusal::RuleEnded { .. })));
}

#[test]
fn a_rule_change_ends_by_a_no_by_withdrawal_and_by_time() {
    let mut world = World::new(Mode::Approve);
    let (to, from) = (CLUSTER_VERSION, CLUSTER_VERSION - 1);
    if from == 0 {
        return;
    }
    says(&mut world, "root", upgrade(from, to)).unwrap();
    let deny = |reason: &str| Command::DenyRules(DenyRules { rule: R1, reason: reason.to_owned() });
    assert!(matches!(says(&mut world, "ben", deny(" ")), Err(Refusal::ReasonMissing { .. })));
    says(&mut world, "ben", deny("not on a Friday")).unwrap();

    let second = RuleId(2);
    says(&mut world, "root", upgrade(from, to)).unwrap();
    let waits = says(&mut world, "root", upgrade(from, to));
    assert_eq!(waits, Err(Refusal::RuleWaits { rule: second }));
    let cancel = Command::CancelRules(CancelRules { rule: second });
    says(&mut world, "root", cancel).unwrap();

    let third = RuleId(3);
    says(&mut world, "root", upgrade(from, to)).unwrap();
    world.now = world.now + world.machine.limits().approval;
    assert!(matches!(says(&mut world, "ben", approval(third)), Err(Refusal::RuleEnded { .. })));
    world.turn();
    assert_eq!(world.machine.rules()[&third].state, State::Ended(rules::Outcome::Expired));
    assert_eq!(world.machine.cluster().unwrap().version, from);
}

#[test]
fn a_region_s_node_is_named_by_an_admin_and_no_node_stands_in_two_regions() {
    let mut world = World::new(Mode::Approve);
    let seat = |region: &str, node| {
        let (raft, api) = ("10.0.0.9:7401".to_owned(), "10.0.0.9:7400".to_owned());
        Command::SetSeat(Seat { region: region.into(), node, raft, api })
    };
    assert!(says(&mut world, "ben", seat("us-west-2", 4)).is_err(), "ben is no admin");
    assert!(says(&mut world, "root", seat("us-west-2", 1)).is_err(), "1 is us-east-1's");
    assert!(says(&mut world, "root", seat("ap-south-1", 4)).is_err(), "no such region");
    let before = world.machine.cluster().unwrap().config.version;
    says(&mut world, "root", seat("us-west-2", 4)).unwrap();
    let config = &world.machine.cluster().unwrap().config;
    assert_eq!(config.region_of(4), Some(&"us-west-2".into()));
    assert_eq!((config.region_of(2), config.version), (None, before + 1));
}

/// A backup of a world's machine, with the audit that was there.
fn of(world: &World) -> (Begin, Vec<Record>) {
    let (begin, mut records) = backup(&world.machine).unwrap();
    let audit: Vec<AuditEntry> = world.machine.audit().values().cloned().collect();
    records.splice(0..0, audit.into_iter().map(Record::Audit));
    (begin, records)
}

fn act(act: Act) -> Command {
    Command::Restore(Restore { backup: Hash([7; 32]), act })
}

fn finish(parts: u32) -> Command {
    let seats = Vec::new();
    act(Act::Finish(Finish { parts, id: OTHER, incarnation: SECOND, seats }))
}

/// Restores into the place of a cluster that is gone.
fn restore(world: &mut World, (begin, records): &(Begin, Vec<Record>)) -> crate::command::Answer {
    world.lose_the_cluster();
    says(world, "root", act(Act::Begin(Box::new(begin.clone())))).unwrap();
    for (part, records) in records.chunks(7).enumerate() {
        let part = u32::try_from(part).unwrap();
        let again = act(Act::Part { part, records: records.to_vec() });
        says(world, "root", again.clone()).unwrap();
        says(world, "root", again).unwrap(); // Its answer was lost.
    }
    let parts = u32::try_from(records.len().div_ceil(7)).unwrap();
    says(world, "root", finish(parts))
}

/// Two people move the scope to the west, the one way that is open.
fn promote(world: &mut World, kind: Kind) {
    let ask = RequestPromotion {
        kind,
        scope: warm(),
        from: None,
        to: "us-west-2".into(),
        reason: Some("a drill".to_owned()),
        plan: None,
    };
    let asked = says(world, "ana", Command::RequestPromotion(ask));
    let id = match asked {
        Ok(Outcome::Promotion { id, .. }) | Err(Refusal::AlreadyAsked { promotion: id }) => id,
        other => panic!("{other:?}"),
    };
    for who in ["ana", "ben"] {
        let approve = Approve { promotion: id, reason: None, certificate: None };
        drop(says(world, who, Command::Approve(approve)));
    }
    world.advance(Millis::secs(60));
}

fn holder(machine: &Machine) -> Option<Token> {
    machine.scopes()[&warm()].lease.as_ref().map(|lease| lease.token)
}

#[test]
fn a_restored_cluster_grants_nothing_before_people_agree_and_old_leases_are_over() {
    let mut world = World::running(Mode::Approve);
    let old = holder(&world.machine).expect("somebody holds it");
    let saved = of(&world);
    let answer = restore(&mut world, &saved);
    assert_eq!(answer, Ok(Outcome::Rule { id: R1, people_missing: 1 }));
    assert!(world.machine.scopes()[&warm()].lease.is_none());
    world.advance(Millis::secs(120));
    assert_eq!(holder(&world.machine), None, "root alone restored it");
    assert!(matches!(world.machine.may_grant(), Err(Refusal::Restoring { missing: 1, .. })));

    says(&mut world, "ben", approval(R1)).unwrap();
    world.advance(Millis::secs(60));
    let new = holder(&world.machine).expect("granted again");
    assert!(new > old && new.incarnation >= SECOND, "{new} after {old}");
    let history = &world.machine.scopes()[&warm()].history;
    assert!(history.iter().any(|reign| reign.token == old), "it knows what it was");
}

#[test]
fn an_agreement_at_once_still_waits_for_the_leases_of_the_old_cluster() {
    let mut world = World::running(Mode::Approve);
    let saved = of(&world);
    restore(&mut world, &saved).unwrap();
    says(&mut world, "ben", approval(R1)).unwrap();
    let run_out = Timing::of(Profile::Wan).run_out();
    let until = world.now + run_out;
    while world.now < until {
        assert_eq!(holder(&world.machine), None, "at {}", world.now);
        world.turn();
        world.now = world.now + Millis(250);
    }
    world.advance(Millis::secs(30));
    assert!(holder(&world.machine).is_some());
}

#[test]
fn what_a_sink_saw_of_a_later_restore_raises_the_incarnation_once_more() {
    let mut world = World::running(Mode::Approve);
    let saved = of(&world);
    for _ in 0..2 {
        // The same backup twice, with clocks that stand still: the second is told by the sinks.
        restore(&mut world, &saved).unwrap();
        world.advance(Millis::secs(5));
        says(&mut world, "ben", approval(R1)).unwrap();
        world.advance(Millis::secs(60));
        assert!(holder(&world.machine).is_some());
    }
    let token = holder(&world.machine).unwrap();
    assert_eq!(token.incarnation, SECOND + 1);
}

#[test]
fn after_a_restore_nobody_is_granted_what_another_region_has_more_of() {
    let mut world = World::running(Mode::Approve);
    let saved = of(&world);
    // What came after the backup: a move to the west, and data there that the east never got.
    promote(&mut world, Kind::Switchover);
    world.workers.get_mut(&east()).unwrap().up = false;
    world.advance(Millis::secs(60));
    world.workers.get_mut(&east()).unwrap().restart();
    restore(&mut world, &saved).unwrap();
    world.advance(Millis::secs(5));
    says(&mut world, "ben", approval(R1)).unwrap();
    world.advance(Millis::secs(60));
    assert_eq!(world.machine.scopes()[&warm()].assigned, east());
    assert_eq!(holder(&world.machine), None, "the west has records that the east lacks");

    promote(&mut world, Kind::Failover);
    assert_eq!(world.machine.scopes()[&warm()].assigned, "us-west-2".into());
    assert!(holder(&world.machine).is_some());
}

#[test]
fn what_was_open_in_the_old_cluster_is_over_in_the_new_one() {
    let mut world = World::running(Mode::Approve);
    let ask = RequestPromotion {
        kind: Kind::Switchover,
        scope: warm(),
        from: None,
        to: "us-west-2".into(),
        reason: Some("a drill".to_owned()),
        plan: None,
    };
    says(&mut world, "ana", Command::RequestPromotion(ask)).unwrap();
    let saved = of(&world);
    restore(&mut world, &saved).unwrap();
    let promotion = &world.machine.promotions()[&PromotionId(1)];
    let promotion::State::Ended(promotion::Outcome::Void { differences }) = &promotion.state else {
        panic!("{:?}", promotion.state);
    };
    assert_eq!(differences[0].field, "cluster");
    let approve = Approve { promotion: PromotionId(1), reason: None, certificate: None };
    assert!(says(&mut world, "ben", Command::Approve(approve)).is_err());
}

#[test]
fn a_part_that_does_not_fit_changes_nothing_and_a_restore_may_begin_anew() {
    let mut world = World::running(Mode::Approve);
    let (begin, records) = of(&world);
    world.lose_the_cluster();
    let start = act(Act::Begin(Box::new(begin.clone())));
    assert!(says(&mut world, "ben", start.clone()).is_err(), "no admin of the backup's people");
    says(&mut world, "root", start.clone()).unwrap();
    let part = |part, records: &[Record]| act(Act::Part { part, records: records.to_vec() });
    let ben = says(&mut world, "ben", part(0, &records[..5]));
    assert!(ben.is_err(), "somebody else's restore");
    assert!(says(&mut world, "root", part(1, &records[..5])).is_err(), "not the next");
    let mut edited = records[..5].to_vec();
    let Record::Audit(entry) = &mut edited[1] else { panic!("the audit comes first") };
    entry.detail.push('!');
    let before = world.machine.clone();
    assert!(says(&mut world, "root", part(0, &edited)).is_err(), "an edited audit");
    assert_eq!(world.machine.audit(), before.audit());
    assert!(says(&mut world, "root", finish(0)).is_err(), "the audit is not whole");

    says(&mut world, "root", part(0, &records[..5])).unwrap();
    says(&mut world, "root", start).unwrap();
    assert!(world.machine.audit().is_empty(), "what came of the first attempt is gone");
    assert!(matches!(
        world.machine.restored().unwrap().progress,
        Progress::Arriving { next: 0, .. }
    ));
    assert!(says(&mut world, "root", upgrade(1, 2)).is_err(), "it is no cluster yet");
}

#[test]
fn whom_a_node_turned_away_stands_in_the_audit_once_a_minute_and_changes_nothing_else() {
    if CLUSTER_VERSION < 2 {
        return; // The program before does not know it.
    }
    let mut world = World::new(Mode::Approve);
    says(&mut world, "root", upgrade(1, 2)).unwrap();
    says(&mut world, "ben", approval(R1)).unwrap();
    let eve = Actor::Person("eve".into());
    let away = |why: &str| Command::TurnedAway(TurnedAway::new(eve.clone(), "P-3", why));
    let told = |world: &World| {
        let refused = |e: &&AuditEntry| e.action == "refused" && e.subject == "P-3";
        world.machine.audit().values().filter(refused).cloned().collect::<Vec<_>>()
    };
    let keys = |world: &World| {
        let audit = |key: &RecordKey| matches!(key, RecordKey::Audit(_));
        world.machine.keys().into_iter().filter(|key| !audit(key)).collect::<Vec<_>>()
    };
    let before = keys(&world);
    for _ in 0..3 {
        world.propose(Actor::Node(2), away("not_allowed: no approver")).answer.unwrap();
    }
    world.propose(Actor::Node(2), away("forbidden")).answer.unwrap();
    let entries = told(&world);
    assert_eq!(entries.len(), 2, "{entries:?}");
    assert!(entries.iter().all(|entry| entry.actor == eve));
    assert_eq!(keys(&world), before);
    // Whoever has a certificate may not write into the audit by it.
    for other in [Actor::Person("ben".into()), Actor::Worker("w".into()), Actor::Controller] {
        let answer = world.propose(other, away("invented")).answer;
        assert!(matches!(answer, Err(Refusal::NotAllowed { .. })), "{answer:?}");
    }
    assert_eq!(told(&world).len(), 2);
    let long = TurnedAway::new(eve.clone(), &"é".repeat(900), &"é".repeat(900));
    world.propose(Actor::Node(2), Command::TurnedAway(long.clone())).answer.unwrap();
    let longer = TurnedAway { why: format!("{}..", long.why), ..long };
    let answer = world.propose(Actor::Node(2), Command::TurnedAway(longer)).answer;
    assert!(matches!(answer, Err(Refusal::Invalid { .. })), "{answer:?}");
}
