//! One value of each kind, as rich as it gets: what the golden files are first written from.

use cryptorun_core::audit::AuditHead;
use cryptorun_core::command::*;
use cryptorun_core::config::{Cluster, ClusterConfig, ClusterId, Limits, RegionConfig};
use cryptorun_core::decide::{Loss, Verdict};
use cryptorun_core::machine::Machine;
use cryptorun_core::offset::Offset;
use cryptorun_core::path::Path;
use cryptorun_core::people::{Actor, Grant as RoleGrant, OperatorId, Person, Role};
use cryptorun_core::plan::{Plan, Step};
use cryptorun_core::position::{Hash, Position};
use cryptorun_core::promotion::{
    Approval, BoundFacts, Kind, Measured, Promotion, PromotionId, State, StepRecord, StepState,
};
use cryptorun_core::record::{Clock, Record, RecordRef, RequestKey, Review};
use cryptorun_core::region::{Link, RegionName};
use cryptorun_core::report::{Answers, RegionReport, ScopeReport, Sealed, WorkerReport};
use cryptorun_core::restore::{Act, Begin, Finish, Progress, Restore, Restored, Seat};
use cryptorun_core::rules::{self, Change, RuleChange, RuleId};
use cryptorun_core::scope::{self, Mode, PartitionWrites, ScopeId, ScopePolicy, Tier};
use cryptorun_core::session::{SessionKey, WorkerAddresses};
use cryptorun_core::time::{LogTime, Millis, Profile, Stamp, Timing, WallTime};
use cryptorun_core::token::Token;
use std::collections::BTreeMap;

fn east() -> RegionName {
    "us-east-1".into()
}

fn west() -> RegionName {
    "us-west-2".into()
}

fn warm() -> ScopeId {
    ScopeId::new(Tier::Warm, "global")
}

fn token() -> Token {
    Token { incarnation: 1, epoch: 7 }
}

fn position() -> Position {
    Position { seq: 42, hash: Hash([0x5A; 32]) }
}

fn session() -> SessionKey {
    SessionKey { worker: "w-east".into(), boot: 0xB007 }
}

fn at(ms: u64) -> Stamp {
    Stamp { log: LogTime(ms), wall: WallTime(1_735_689_600_000 + ms) }
}

fn policy() -> ScopePolicy {
    ScopePolicy {
        primary: east(),
        members: vec![east(), west()],
        mode: Mode::Approve,
        people: 2,
        partition_writes: PartitionWrites::Stop,
        residency: Some(east()),
    }
}

pub fn config() -> ClusterConfig {
    let region = RegionConfig {
        aliases: vec!["us-east".to_owned()],
        node: 1,
        raft: "10.0.0.1:7401".to_owned(),
        api: "10.0.0.1:7400".to_owned(),
    };
    let role = RoleGrant { role: Role::Approver, tier: Some(Tier::Warm), region: Some(west()) };
    ClusterConfig {
        version: 3,
        name: "prod".to_owned(),
        timing: Timing::of(Profile::Wan),
        regions: BTreeMap::from([(east(), region)]),
        people: BTreeMap::from([(OperatorId::from("ana"), Person { grants: vec![role] })]),
        scopes: BTreeMap::from([(warm(), policy())]),
        limits: Limits::default(),
    }
}

fn worker_report() -> WorkerReport {
    let scope = ScopeReport {
        role: scope::Role::Primary,
        rev: 11,
        token: token(),
        highest: token(),
        end: position(),
        rows: 99,
        sealed: Some(Sealed { token: token(), end: position() }),
        barrier: Some(position()),
        checks: BTreeMap::from([("C1".to_owned(), Verdict::Inconclusive)]),
        first_visible: Some(WallTime(5)),
        ..ScopeReport::default()
    };
    WorkerReport {
        scopes: BTreeMap::from([(warm(), scope)]),
        clock_offset_ms: -12,
        clock_within_ms: 40,
        queue_bytes: 4096,
        queue_syncs: 8,
        arrived_ago: BTreeMap::from([(west(), Millis(250))]),
        reach: BTreeMap::from([(west(), Path::up(70_000))]),
        ..WorkerReport::default()
    }
}

fn region_report() -> RegionReport {
    RegionReport {
        wall: WallTime(1_735_689_600_000),
        control: BTreeMap::from([(west(), Path::down(Millis(61_000)))]),
        answers: Answers { all: 1000, errors: 3 },
        offsets: BTreeMap::from([(west(), Offset { ms: -4, within_ms: 35 })]),
        stood_still: Millis(120),
        held_up: Millis(450),
        ..RegionReport::default()
    }
}

/// One of each command.
pub fn commands() -> Vec<Command> {
    let promotion = PromotionId(9);
    let why = || "because".to_owned();
    vec![
        Command::Found(Found { id: ClusterId(0xC0FFEE), config: config() }),
        Command::OpenSession(OpenSession {
            session: session(),
            region: east(),
            addresses: WorkerAddresses { api: "a:1".to_owned(), data: "a:2".to_owned() },
        }),
        Command::Renew(Renew { session: session(), seq: 5, report: worker_report() }),
        Command::EndSession(EndSession { session: session() }),
        Command::Reserve(Reserve {
            scope: warm(),
            promotion: Some(promotion),
            candidate: session(),
        }),
        Command::Grant(Grant { scope: warm(), token: token() }),
        Command::Release(Release {
            session: session(),
            scope: warm(),
            token: token(),
            end: position(),
            keep_for: Some(Millis(60_000)),
        }),
        Command::Handover(Handover {
            session: session(),
            promotion,
            token: token(),
            end: position(),
        }),
        Command::RequestPromotion(RequestPromotion {
            kind: Kind::Emergency,
            scope: warm(),
            from: Some(east()),
            to: west(),
            reason: Some(why()),
            plan: Some(Hash([7; 32])),
        }),
        Command::Approve(Approve {
            promotion,
            reason: Some(why()),
            certificate: Some("0a:1b".to_owned()),
        }),
        Command::Deny(Deny { promotion, reason: why() }),
        Command::Cancel(Cancel { promotion }),
        Command::StepStarted(StepStarted { promotion, step: Step::Seal, attempt: 2 }),
        Command::StepDone(StepDone {
            promotion,
            step: Step::Seal,
            attempt: 2,
            done: Done::Sealed { ends: vec![(east(), position())], unsealed: vec![west()] },
        }),
        Command::StepFailed(StepFailed { promotion, step: Step::Drain, attempt: 1, why: why() }),
        Command::Rollback(Rollback { scope: warm(), promotion: Some(promotion), why: why() }),
        Command::Report(Report { region: east(), report: region_report() }),
        Command::SetLink(SetLink { region: east(), link: Link::Isolated { since: LogTime(77) } }),
        Command::Pause(PauseScope { scope: warm(), reason: why(), span: Millis(90_000) }),
        Command::Unpause(Unpause { scope: warm() }),
        Command::OpenReview(OpenReview { scope: warm(), what: why() }),
        Command::DecideReview(DecideReview { review: 3, decision: why() }),
        Command::SetClusterVersion(SetClusterVersion { version: 2 }),
        Command::Tick,
        Command::ProposeRules(ProposeRules {
            change: Change::ClusterVersion { from: 1, to: 2 },
            reason: Some(why()),
        }),
        Command::ApproveRules(ApproveRules {
            rule: RuleId(2),
            reason: Some(why()),
            certificate: Some("0c".to_owned()),
        }),
        Command::DenyRules(DenyRules { rule: RuleId(2), reason: why() }),
        Command::CancelRules(CancelRules { rule: RuleId(2) }),
        Command::Restore(restore(Act::Finish(Finish {
            parts: 3,
            id: ClusterId(0xBEEF),
            incarnation: 1_800_000_000,
            seats: vec![seat()],
        }))),
        Command::SetSeat(seat()),
        Command::PreferLeader(PreferLeader { regions: vec![east(), west()] }),
        Command::LeaveSeat(LeaveSeat { region: west(), node: 2 }),
        Command::TurnedAway(TurnedAway {
            who: Actor::Person("eve".into()),
            subject: "P-3".to_owned(),
            why: "not_allowed: eve is no approver".to_owned(),
        }),
    ]
}

/// The acts of a restore that [`commands`] does not show.
pub fn restores() -> Vec<(&'static str, Command)> {
    let records = vec![Record::Preference(vec![west()])];
    vec![
        ("RestoreBegin", Command::Restore(restore(Act::Begin(Box::new(begin()))))),
        ("RestorePart", Command::Restore(restore(Act::Part { part: 1, records }))),
    ]
}

fn restore(act: Act) -> Restore {
    Restore { backup: Hash([0xB0; 32]), act }
}

fn begin() -> Begin {
    Begin {
        cluster: Cluster { id: ClusterId(0xC0FFEE), version: 1, incarnation: 0, config: config() },
        clock: Clock { now: at(1234), next_promotion: 9, next_review: 4 },
        audit: AuditHead { end: position() },
    }
}

fn seat() -> Seat {
    Seat {
        region: west(),
        node: 4,
        raft: "10.0.0.4:7401".to_owned(),
        api: "10.0.0.4:7400".to_owned(),
    }
}

fn rule() -> RuleChange {
    RuleChange {
        id: RuleId(2),
        change: Change::Restore {
            from: ClusterId(0xC0FFEE),
            backup: Hash([0xB0; 32]),
            taken: at(9),
        },
        requester: Actor::Person("ana".into()),
        reason: Some("lost two".to_owned()),
        opened: at(70),
        expires: Some((LogTime(1000), WallTime(2000))),
        people_needed: 2,
        approvals: BTreeMap::from([(
            OperatorId::from("ben"),
            Approval { at: at(71), reason: None, certificate: None },
        )]),
        state: rules::State::Ended(rules::Outcome::Denied { by: "eve".into(), why: "no".into() }),
        ended: Some(at(72)),
    }
}

fn restored() -> Restored {
    Restored {
        backup: Hash([0xB0; 32]),
        by: "ana".into(),
        from: ClusterId(0xC0FFEE),
        progress: Progress::Arriving { begin: begin(), next: 2 },
    }
}

/// An entry around a command.
pub fn entry(command: Command) -> Entry {
    Entry {
        stamp: at(1234),
        actor: Actor::Person("ana".into()),
        via: Some(2),
        request: Some(RequestKey { identity: "ana".to_owned(), key: "k-1".to_owned() }),
        command,
    }
}

fn promotion() -> Promotion {
    let plan = Plan::new(&warm(), Kind::Failover, (&east(), &west()), &policy(), 3);
    Promotion {
        id: PromotionId(9),
        kind: Kind::Failover,
        scope: warm(),
        from: east(),
        to: west(),
        requester: Actor::Controller,
        reason: Some("gone".to_owned()),
        opened: at(10),
        expires_log: LogTime(1_800_010),
        expires_wall: WallTime(1_735_691_400_010),
        bound: BoundFacts {
            assignment_version: 1,
            from: east(),
            to: west(),
            kind: Kind::Failover,
            plan: plan.hash(),
            verdicts: BTreeMap::new(),
            loss_ceiling: Loss::default(),
        },
        plan,
        evidence: Hash([3; 32]),
        people_needed: 2,
        approvals: BTreeMap::from([(
            OperatorId::from("ben"),
            Approval { at: at(20), reason: None, certificate: Some("0c".to_owned()) },
        )]),
        state: State::Running,
        agreed: Some(at(30)),
        token: Some(token()),
        candidate: Some(session()),
        steps: vec![StepRecord {
            step: Step::Preflight,
            attempt: 1,
            state: StepState::Done { note: "pass".to_owned() },
            started: Some(at(31)),
            ended: Some(at(32)),
        }],
        barrier: Some(position()),
        start: Some(position()),
        unsealed: vec![east()],
        loss: Loss::default(),
        measured: Measured {
            write_pause_ms: Some(410),
            move_ms: None,
            lost_records: Some(0),
            lost_rows: Some(0),
        },
        ended: None,
    }
}

/// At least one of each record.
pub fn records() -> Vec<Record> {
    let mut machine = Machine::default();
    let lasting = commands().into_iter().filter(|it| !matches!(it, Command::EndSession(_)));
    for (index, command) in (1..).zip(lasting) {
        let actor = match command {
            Command::OpenSession(_) | Command::Renew(_) => Actor::Worker("w-east".to_owned()),
            _ => Actor::Person("ana".into()),
        };
        // One idempotent request: a second command under its key would only repeat its answer.
        let request = entry(Command::Tick).request.filter(|_| index == 1);
        machine.apply(index, &Entry { actor, request, ..entry(command) });
    }
    let mut kept: Vec<Record> = machine
        .keys()
        .iter()
        .filter_map(|key| machine.record(key).map(RecordRef::to_record))
        .collect();
    kept.push(Record::Promotion(promotion()));
    kept.push(Record::Review(Review {
        id: 4,
        scope: warm(),
        what: "2 rows".to_owned(),
        at: at(50),
        decided: Some(("eve".into(), "east".to_owned(), at(60))),
    }));
    kept.push(Record::Rule(rule()));
    kept.push(Record::Restored(restored()));
    kept.push(Record::Preference(vec![east()]));
    kept
}
