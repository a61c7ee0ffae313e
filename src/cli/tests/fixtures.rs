//! Fixed answers: 2026-01-02T14:02:31Z in a cluster called demo.

use cryptorun_core::config::{ClusterConfig, Limits};
use cryptorun_core::decide::{Change, Choice, Decision, Loss, Predicate, PredicateName, Verdict};
use cryptorun_core::diagnose::{Class, Diagnosis, Severity};
use cryptorun_core::people::Actor;
use cryptorun_core::plan::{Plan, Step};
use cryptorun_core::position::{Hash, Position};
use cryptorun_core::promotion::{
    Approval, BoundFacts, Kind, Measured, Promotion, PromotionId, State, StepRecord, StepState,
};
use cryptorun_core::region::RegionName;
use cryptorun_core::report::Fork;
use cryptorun_core::scope::{Mode, PartitionWrites, Phase, Role, ScopeId, ScopePolicy, Tier};
use cryptorun_core::session::SessionKey;
use cryptorun_core::time::{LogTime, Millis, Profile, Stamp, Timing, WallTime};
use cryptorun_core::token::Token;
use cryptorun_core::wire::{
    Candidate, Consistency, DryRun, Explanation, ForkStatus, Level, Problem, PromotionStatus,
    ReadAt, ScopeStatus, SinkStatus, Status,
};
use std::collections::BTreeMap;

pub const NOW: u64 = 1_767_362_551_000;

pub fn region(name: &str) -> RegionName {
    RegionName::from(name)
}

pub fn warm() -> ScopeId {
    ScopeId::new(Tier::Warm, "global")
}

/// `ms` after the moment at which everything here happens.
pub fn at(ms: u64) -> Stamp {
    Stamp { log: LogTime(600_000 + ms), wall: WallTime(NOW + ms) }
}

pub fn config() -> ClusterConfig {
    ClusterConfig {
        version: 1,
        name: "demo".to_owned(),
        timing: Timing::of(Profile::Local),
        regions: BTreeMap::new(),
        people: BTreeMap::new(),
        scopes: BTreeMap::new(),
        limits: Limits::default(),
    }
}

pub fn read_at() -> ReadAt {
    ReadAt {
        cluster: "demo".to_owned(),
        leader: Some(region("us-east-1")),
        term: 4,
        index: 10_733,
        voters_up: 3,
        voters: 3,
        wall: WallTime(NOW),
        now: LogTime(600_000),
        age: Millis(100),
        via: region("us-east-1"),
        consistency: Consistency::Linearizable,
    }
}

pub fn sink(role: Role, age: u64, level: Level) -> SinkStatus {
    SinkStatus {
        role,
        end: Position { seq: 812, hash: Hash::ZERO },
        age: Some(Millis::secs(age)),
        behind: Some(Loss::none()),
        level,
        reported: Some(Millis(1_200)),
        fenced: 0,
    }
}

pub fn scope(id: ScopeId, holder: &str, regions: &[&str]) -> ScopeStatus {
    let role = |name: &str| if name == holder { Role::Primary } else { Role::Replica };
    ScopeStatus {
        scope: id,
        mode: Mode::Approve,
        phase: Phase::Active,
        holder: Some(region(holder)),
        assigned: region(holder),
        token: Token { incarnation: 0, epoch: 3 },
        lease: Some(Millis(8_100)),
        pause: None,
        regions: regions
            .iter()
            .map(|name| (region(name), sink(role(name), 8, Level::Ok)))
            .collect(),
        next: regions
            .iter()
            .filter(|name| **name != holder)
            .map(|name| Candidate {
                region: region(name),
                ready: true,
                why: None,
                proof_age: Some(Millis(900)),
            })
            .collect(),
        moving: None,
        unsealed: Vec::new(),
        forks: Vec::new(),
        residency: None,
    }
}

pub fn status() -> Status {
    let mut eu = scope(ScopeId::new(Tier::Warm, "eu"), "eu-west-1", &["eu-west-1"]);
    eu.residency = Some(region("eu-west-1"));
    Status {
        at: read_at(),
        diagnoses: Vec::new(),
        todo: Vec::new(),
        scopes: vec![eu, scope(warm(), "us-east-1", &["eu-west-1", "us-east-1", "us-west-2"])],
        open: Vec::new(),
    }
}

/// Three in the morning.
pub fn lost() -> Status {
    let mut status = status();
    status.diagnoses = vec![
        Diagnosis {
            class: Class::RegionLost { region: region("us-east-1") },
            severity: Severity::Page,
            lasting: Millis::mins(3),
            confirmed: true,
            doubt: None,
            evidence: vec!["us-west-2 and eu-west-1 agree".to_owned(), "no data of it".to_owned()],
        },
        Diagnosis {
            class: Class::LinkCut {
                a: region("eu-west-1"),
                b: region("us-east-1"),
                relayed_via: Some(region("us-west-2")),
            },
            severity: Severity::Ticket,
            lasting: Millis::secs(20),
            confirmed: true,
            doubt: None,
            evidence: Vec::new(),
        },
    ];
    status.todo = vec!["P-2 waits for 1 more person".to_owned()];
    status.open = vec![PromotionId(2)];
    let warm = &mut status.scopes[1];
    warm.phase = Phase::Vacant;
    warm.holder = None;
    warm.lease = None;
    warm.unsealed = vec![region("us-east-1")];
    warm.forks =
        vec![ForkStatus { region: region("us-east-1"), scope: self::warm(), fork: fork() }];
    if let Some(sink) = warm.regions.get_mut(&region("us-east-1")) {
        sink.level = Level::Crit;
        sink.age = Some(Millis::secs(190));
    }
    warm.next[0].ready = false;
    warm.next[0].why = Some("behind is unknown, needs < 90 s".to_owned());
    status
}

pub fn fork() -> Fork {
    Fork {
        name: "warm-global-0.3-us-east-1".to_owned(),
        token: Token { incarnation: 0, epoch: 3 },
        from_seq: 813,
        to_seq: 814,
        rows: 14,
        bytes: 2_048,
    }
}

pub fn plan(kind: Kind) -> Plan {
    let regions = [region("eu-west-1"), region("us-east-1"), region("us-west-2")];
    let policy = ScopePolicy {
        primary: region("us-east-1"),
        members: regions.to_vec(),
        mode: Mode::Approve,
        people: 2,
        partition_writes: PartitionWrites::Stop,
        residency: None,
    };
    Plan::new(&warm(), kind, (&region("us-east-1"), &region("us-west-2")), &policy, 1)
}

pub fn predicates() -> Vec<Predicate> {
    let predicate = |name, value: &str, threshold: &str, source: &str, verdict| Predicate {
        name,
        value: value.to_owned(),
        threshold: threshold.to_owned(),
        source: source.to_owned(),
        age: None,
        verdict,
        hard: true,
        turned_by: Vec::new(),
    };
    vec![
        predicate(
            PredicateName::Primary,
            "lost for 63 s",
            "> 60 s",
            "us-west-2, eu-west-1 agree",
            Verdict::Yes,
        ),
        predicate(PredicateName::Behind, "9 s, 14 rows", "< 90 s", "", Verdict::Yes),
        Predicate {
            hard: false,
            ..predicate(PredicateName::Checks, "C7", "all", "us-west-2", Verdict::Inconclusive)
        },
        predicate(PredicateName::People, "1 of 2", "2", "ben", Verdict::No),
    ]
}

pub fn decision(kind: Kind) -> Decision {
    Decision {
        choice: Choice::Ask,
        kind,
        scope: warm(),
        from: region("us-east-1"),
        to: region("us-west-2"),
        predicates: predicates(),
        loss: Loss {
            known: true,
            records: 2,
            rows: 14,
            span: Millis::secs(9),
            from_seq: 813,
            to_seq: 814,
            unreported: Millis::ZERO,
        },
        plan: plan(kind),
        people: (2, 1),
        changes: vec![Change::MorePeople { missing: 1 }],
    }
}

pub fn dry_run(kind: Kind) -> DryRun {
    let decision = decision(kind);
    DryRun {
        executed: false,
        kind,
        plan: decision.plan.clone(),
        plan_hash: decision.plan.hash(),
        refusal: None,
        people_needed: 2,
        write_pause: Millis(520),
        decision,
    }
}

pub fn explanation() -> Explanation {
    Explanation {
        at: read_at(),
        decision: decision(Kind::Failover),
        waiting: Some(PromotionId(2)),
        command: Some("cryptorun replication approve P-2".to_owned()),
        opens_in: None,
    }
}

/// P-3, asked for by ana, waiting.
pub fn promotion() -> Promotion {
    let plan = plan(Kind::Switchover);
    let approval = Approval { at: at(0), reason: None, certificate: None };
    Promotion {
        id: PromotionId(3),
        kind: Kind::Switchover,
        scope: warm(),
        from: region("us-east-1"),
        to: region("us-west-2"),
        requester: Actor::Person("ana".into()),
        reason: Some("kernel update".to_owned()),
        opened: at(0),
        expires_log: LogTime(600_000) + Millis::mins(30),
        expires_wall: WallTime(NOW) + Millis::mins(30),
        bound: BoundFacts {
            assignment_version: 3,
            from: region("us-east-1"),
            to: region("us-west-2"),
            kind: Kind::Switchover,
            plan: plan.hash(),
            verdicts: BTreeMap::from([(PredicateName::Primary, Verdict::Yes)]),
            loss_ceiling: Loss::none(),
        },
        steps: plan
            .steps
            .iter()
            .map(|step| StepRecord {
                step: *step,
                attempt: 0,
                state: StepState::Pending,
                started: None,
                ended: None,
            })
            .collect(),
        plan,
        evidence: Hash::of(b"evidence"),
        people_needed: 2,
        approvals: BTreeMap::from([("ana".into(), approval)]),
        state: State::Waiting,
        agreed: None,
        token: None,
        candidate: None,
        barrier: None,
        start: None,
        unsealed: Vec::new(),
        loss: Loss::none(),
        measured: Measured::default(),
        ended: None,
    }
}

/// The same after ben agreed.
pub fn running() -> Promotion {
    let mut p = promotion();
    let why = Some("seen".to_owned());
    p.approvals.insert("ben".into(), Approval { at: at(9_000), reason: why, certificate: None });
    p.agreed = Some(at(9_000));
    p.state = State::Running;
    p
}

/// The same when it was over.
pub fn done() -> Promotion {
    let mut p = running();
    p.state = State::Ended(cryptorun_core::promotion::Outcome::Done);
    for (n, record) in (0u64..).zip(&mut p.steps) {
        record.attempt = 1;
        record.started = Some(at(9_000 + n * 70));
        record.ended = Some(at(9_000 + n * 70 + 60));
        record.state = match record.step {
            Step::Redirect => StepState::Skipped { why: "no driver".to_owned() },
            Step::FetchTail => StepState::Done { note: "0 rows".to_owned() },
            _ => StepState::Done { note: String::new() },
        };
    }
    p.token = Some(Token { incarnation: 0, epoch: 4 });
    p.candidate = Some(SessionKey { worker: "w2".into(), boot: 7 });
    p.barrier = Some(Position { seq: 820, hash: Hash::ZERO });
    p.start = p.barrier;
    p.unsealed = vec![region("eu-west-1")];
    p.measured = Measured {
        write_pause_ms: Some(390),
        move_ms: Some(710),
        lost_records: Some(0),
        lost_rows: Some(0),
    };
    p.ended = Some(at(9_710));
    p
}

pub fn shown(promotion: Promotion) -> PromotionStatus {
    PromotionStatus {
        people_missing: promotion.people_missing(),
        approve_with: promotion
            .is_open()
            .then(|| format!("cryptorun replication approve {}", promotion.id)),
        decision: None,
        differences: Vec::new(),
        promotion,
    }
}

pub fn problem(status: u16, kind: &str, detail: &str) -> Problem {
    Problem {
        kind: format!("https://cryptorun.dev/problems/{kind}"),
        title: kind.to_owned(),
        status,
        detail: detail.to_owned(),
        ..Problem::default()
    }
}
