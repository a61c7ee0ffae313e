//! A region is lost and its scope moved, with workers that do what their directives say: the
//! controller's part, what people see meanwhile, and what a simulation of it finds afterwards.

use super::world::{EAST, WEST, World, caller, config, person, worker};
use crate::log::{Log, Proposal, look};
use crate::{controller, recorder};
use cryptorun_core::command::{Command, Report};
use cryptorun_core::config::ClusterId;
use cryptorun_core::directive::{Directive, Want};
use cryptorun_core::path::Path;
use cryptorun_core::people::Actor;
use cryptorun_core::plan::Step;
use cryptorun_core::position::{Hash, Position};
use cryptorun_core::promotion::{Kind, PromotionId, State, StepRecord, StepState};
use cryptorun_core::region::RegionName;
use cryptorun_core::report::{RegionReport, Sealed, WorkerReport};
use cryptorun_core::scope::{Role, ScopeId};
use cryptorun_core::session::{SessionKey, WorkerAddresses};
use cryptorun_core::time::{Millis, WallTime};
use cryptorun_core::wire::{
    Afterwards, OpenSessionRequest, PromotionStatus, Refusals, RenewRequest, Simulation,
    SimulationRequest, Status,
};
use cryptorun_platform::clock::Clock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(super) const EU: &str = "eu-west-1";
const REGIONS: [(u64, &str); 3] = [(1, EAST), (2, WEST), (3, EU)];

pub(super) fn warm() -> ScopeId {
    "warm/global".parse().unwrap()
}

/// One worker with one sink, as obedient as can be.
struct Hand {
    region: &'static str,
    seq: u64,
    report: WorkerReport,
}

impl Hand {
    async fn start(world: &World, region: &'static str) -> Self {
        let boot = format!("{:016x}", 1);
        let open = OpenSessionRequest { boot, addresses: WorkerAddresses::default() };
        world.api.open_session(&worker(region), open).await.unwrap();
        let mut report = WorkerReport::default();
        report.scopes.insert(warm(), Default::default());
        Self { region, seq: 0, report }
    }

    fn obey(&mut self, directives: &[Directive], wall: WallTime) {
        let sink = self.report.scopes.entry(warm()).or_default();
        let Some(directive) = directives.iter().find(|d| d.scope == warm()) else { return };
        sink.rev = directive.rev;
        match &directive.want {
            Want::Seal { token } => {
                sink.highest = *token;
                sink.sealed = Some(Sealed { token: *token, end: sink.end });
            }
            Want::Primary { token, .. } => {
                (sink.role, sink.token, sink.highest) = (Role::Primary, *token, *token);
                sink.end = Position { seq: sink.end.seq + 1, hash: Hash::of(b"batch") };
                sink.rows += 1;
                sink.sealed_at = wall;
                sink.first_visible.get_or_insert(wall);
            }
            Want::Replica { token, .. } => {
                (sink.role, sink.token) = (Role::Replica, *token);
            }
            _ => {}
        }
    }
}

pub(super) struct Story {
    pub world: World,
    hands: Vec<Hand>,
    /// The region that nobody hears of.
    pub silent: Option<&'static str>,
    silent_for: u64,
}

impl Story {
    pub async fn start() -> Self {
        Self::on(World::empty()).await
    }

    /// The same in a world that was not founded yet.
    pub async fn on(world: World) -> Self {
        world.found().await;
        world.raise_version().await;
        let (log, platform) = (world.log.clone(), world.api.parts().platform.clone());
        let log: Arc<dyn Log> = log;
        tokio::spawn(controller::control(log.clone(), platform.clone()));
        tokio::spawn(recorder::record(log, platform, world.api.parts().history.clone()));
        let mut hands = Vec::new();
        for (_, region) in REGIONS {
            hands.push(Hand::start(&world, region).await);
        }
        Self { world, hands, silent: None, silent_for: 0 }
    }

    /// A region is back after its session was forgotten: its worker starts anew, with the sink it had.
    pub async fn starts_again(&mut self, region: &str) {
        self.silent = None;
        self.silent_for = 0;
        if let Some(hand) = self.hands.iter_mut().find(|hand| hand.region == region) {
            let mut had = std::mem::take(&mut hand.report.scopes);
            *hand = Hand::start(&self.world, hand.region).await;
            had.values_mut().for_each(|sink| sink.role = Role::Replica);
            hand.report.scopes = had;
        }
    }

    /// A second passes: everybody who is there renews and reports.
    pub async fn second(&mut self) {
        self.world.clock.advance(Duration::from_secs(1));
        self.silent_for += u64::from(self.silent.is_some());
        self.renewals().await;
        self.observations().await;
        self.propose(Actor::Node(1), Command::Tick).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    /// One worker after the other.
    async fn renewals(&mut self) {
        for at in 0..self.hands.len() {
            if Some(self.hands[at].region) != self.silent {
                self.renewal(at).await;
            }
        }
    }

    /// A worker says what it has done, and does what it is told.
    async fn renewal(&mut self, at: usize) {
        let wall = self.world.clock.wall();
        let primary = self.hands.iter().find_map(|hand| {
            let sink = &hand.report.scopes[&warm()];
            (sink.role == Role::Primary).then_some((sink.end, sink.rows, sink.sealed_at))
        });
        let hand = &mut self.hands[at];
        let sink = hand.report.scopes.get_mut(&warm()).unwrap();
        if let (Role::Replica, Some((end, rows, at)), None) = (sink.role, primary, self.silent) {
            (sink.end, sink.rows, sink.sealed_at) = (end, rows, at);
        }
        hand.seq += 1;
        let request =
            RenewRequest { cluster: ClusterId(7), seq: hand.seq, report: hand.report.clone() };
        let session = SessionKey { worker: format!("w-{}", hand.region).into(), boot: 1 };
        let answer =
            self.world.api.renew(&worker(hand.region), session, request, None).await.unwrap();
        hand.obey(&answer.directives, wall);
    }

    /// Each node says whom it reaches.
    async fn observations(&self) {
        let (wall, silent) = (self.world.clock.wall(), self.silent);
        for (node, region) in REGIONS.iter().filter(|(_, region)| Some(*region) != silent) {
            let down = Path::down(Millis::secs(self.silent_for));
            let ways: BTreeMap<RegionName, Path> = REGIONS
                .iter()
                .filter(|(_, other)| other != region)
                .map(|(_, other)| {
                    let up = Path::up(70_000);
                    ((*other).into(), if Some(*other) == silent { down } else { up })
                })
                .collect();
            let report =
                RegionReport { wall, control: ways.clone(), data: ways, ..Default::default() };
            let command = Command::Report(Report { region: (*region).into(), report });
            self.propose(Actor::Node(*node), command).await;
        }
    }

    async fn propose(&self, actor: Actor, command: Command) {
        let proposal = Proposal { actor, via: None, request: None, command };
        self.world.log.propose(proposal).await.unwrap().answer.unwrap();
    }

    /// Ben and eve stand behind it, which must be taken.
    pub async fn two_agree(&self, id: PromotionId) {
        for who in ["ben", "eve"] {
            let path = format!("/v1/promotions/{id}/approve");
            let answer = self.world.send(&person(who), "POST", &path, r#"{"reason":"lost"}"#).await;
            assert_eq!(answer.status().as_u16(), 200, "{who}");
        }
    }

    pub fn holder(&self) -> Option<String> {
        self.world.api.look(|machine, _| {
            crate::views::live_holder(machine, &machine.scopes()[&warm()])
                .map(|session| session.region.to_string())
        })
    }

    async fn status(&self, who: &str) -> Status {
        self.world.json(&person(who), "GET", "/v1/status", "").await.1
    }

    async fn promotion(&self) -> PromotionStatus {
        self.world.json(&person("ana"), "GET", "/v1/promotions/P-1", "").await.1
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_region_is_asked_for_approved_moved_and_found_again_by_simulation() {
    let mut story = Story::start().await;
    for _ in 0..10 {
        story.second().await;
    }
    assert_eq!(story.holder().as_deref(), Some(EAST), "the first grant goes to the primary");
    let start = story.world.clock.wall();

    story.silent = Some(EAST);
    for _ in 0..75 {
        story.second().await;
    }
    assert_eq!(story.holder(), None);
    let asked = story.promotion().await;
    assert_eq!((asked.promotion.kind, asked.people_missing), (Kind::Failover, 2));
    assert_eq!(asked.promotion.requester, Actor::Controller);
    let status = story.status("ben").await;
    assert_eq!(status.todo, ["P-1 waits for 2 more people"]);
    assert!(
        status.diagnoses.iter().any(|d| d.class.to_string().starts_with("region_lost us-east-1"))
    );
    let other = story.status("dan").await;
    assert!(other.todo[0].contains("ana or ben or eve"), "{:?}", other.todo);

    story.two_agree(PromotionId(1)).await;
    let seen = story.promotion().await.promotion.approvals;
    assert!(
        seen.values().all(|approval| approval.certificate.as_deref() == Some("0a")),
        "{seen:?}"
    );
    for _ in 0..60 {
        story.second().await;
    }
    let done = story.promotion().await;
    assert!(matches!(done.promotion.state, State::Ended(_)), "{:?}", done.promotion.steps);
    let target = done.promotion.to.to_string();
    assert_eq!(story.holder(), Some(target.clone()));
    assert_ne!(target, EAST);

    let request = SimulationRequest {
        tier: warm().tier,
        group: "global".into(),
        from: EAST.into(),
        to: target,
        start,
        end: story.world.clock.wall(),
        policy: None,
    };
    let ana = person("ana");
    let found: Simulation = story.world.api.simulate(&ana, &request).await.unwrap();
    assert!(found.reports > 20, "{}", found.reports);
    let opened = found.moments.iter().find(|moment| moment.opened == Some(PromotionId(1)));
    let decision = &opened.expect("the promotion that was opened is shown").decision;
    assert_eq!(decision.kind, Kind::Failover);
    assert!(decision.blocking().next().is_none(), "people alone were missing");
    assert!(decision.predicates.len() > 10);
    let [ask] = &found.asks[..] else { panic!("{:?}", found.asks) };
    assert_eq!((ask.kind, ask.to.to_string()), (Kind::Failover, request.to.clone()));
    assert_eq!((ask.then, ask.alone), (Afterwards::Moved, false));
    assert!(ask.reason.starts_with("region_lost us-east-1"), "{ask:?}");
    assert_eq!(found.by_policy, None);
    // Whoever is watched for an hour is never asked about; without the scope there is no policy.
    let mut patient = config();
    patient.limits.detection = Millis::mins(60);
    let compared = SimulationRequest { policy: Some(Box::new(patient)), ..request.clone() };
    let other = story.world.api.simulate(&ana, &compared).await.unwrap();
    assert_eq!((&other.asks, other.by_policy), (&found.asks, Some(vec![])));
    let mut strange = config();
    strange.scopes.remove(&warm());
    let compared = SimulationRequest { policy: Some(Box::new(strange)), ..request.clone() };
    let error = story.world.api.simulate(&ana, &compared).await.unwrap_err();
    assert_eq!(error.status(), 400, "{error}");
    // The same recorded window gives the same decisions again.
    assert_eq!(story.world.api.simulate(&ana, &request).await.unwrap(), found);

    // The ledger of the same time: while it was too early to ask, and nothing of when it was asked.
    let path = format!("/v1/refusals?tier=warm&since={start}&until={}", request.end);
    let (status, ledger): (u16, Refusals) = story.world.json(&ana, "GET", &path, "").await;
    assert_eq!((status, ledger.left_out), (200, 0));
    let opened = opened.expect("seen above").at;
    let spans = &ledger.refusals;
    assert!(!spans.is_empty() && spans.iter().all(|span| span.until <= opened), "{ledger:#?}");
    assert!(spans.iter().all(|span| !span.decision.changes.is_empty()), "{ledger:#?}");
    let path = format!("/v1/refusals?tier=warm&since={start}&until={start}");
    assert_eq!(story.world.send(&ana, "GET", &path, "").await.status().as_u16(), 400);

    let nothing = SimulationRequest {
        start: WallTime::parse("2024-01-01T00:00:00Z").unwrap(),
        end: WallTime::parse("2024-01-01T06:00:00Z").unwrap(),
        ..request
    };
    let empty = story.world.api.simulate(&ana, &nothing).await.unwrap();
    assert_eq!((empty.reports, empty.covered, empty.moments.len()), (0, None, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_in_vain_is_counted_and_compared_with_other_rules() {
    let mut story = Story::start().await;
    for _ in 0..10 {
        story.second().await;
    }
    let start = story.world.clock.wall();
    story.silent = Some(EAST);
    for _ in 0..90 {
        story.second().await;
    }
    // It is back before anybody agreed.
    story.starts_again(EAST).await;
    for _ in 0..30 {
        story.second().await;
    }
    let mut eager = config();
    eager.limits.detection = Millis::secs(15);
    let request = SimulationRequest {
        tier: warm().tier,
        group: "global".into(),
        from: EAST.into(),
        to: WEST.into(),
        start,
        end: story.world.clock.wall(),
        policy: Some(Box::new(eager)),
    };
    let found = story.world.api.simulate(&person("ana"), &request).await.unwrap();
    let [ask] = &found.asks[..] else { panic!("{:?}", found.asks) };
    assert_eq!((ask.then, ask.is_false()), (Afterwards::CameBack, true));
    let by_policy = found.by_policy.unwrap();
    let [sooner] = &by_policy[..] else { panic!("{by_policy:?}") };
    assert!(sooner.at + Millis::secs(40) < ask.at, "{sooner:?} {ask:?}");
    assert!(sooner.is_false());
}

#[tokio::test(start_paused = true)]
async fn what_a_report_allows_takes_one_commit_with_it() {
    const COMMIT: Duration = Duration::from_millis(400);
    let mut story = Story::start().await;
    for _ in 0..10 {
        story.second().await;
    }
    story.silent = Some(EAST);
    for _ in 0..75 {
        story.second().await;
    }
    story.two_agree(PromotionId(1)).await;
    tokio::time::sleep(Duration::from_millis(1)).await; // The controller proposes, and is answered.
    let sealing = |step: &StepRecord| step.step == Step::Seal && step.state == StepState::Started;
    assert!(story.promotion().await.promotion.steps.iter().any(sealing));
    story.second().await; // The sinks are told, and seal.
    story.renewal(1).await;
    tokio::time::sleep(Duration::from_millis(1)).await; // The controller has looked.
    story.world.log.set_commit_takes(COMMIT);
    let log = story.world.log.clone();
    let (mut applied, asked) = (log.applied(), tokio::time::Instant::now());
    let granted = async {
        while look(&*log, |machine, _| machine.scopes()[&warm()].lease.is_none()) {
            applied.changed().await.unwrap();
        }
        asked.elapsed()
    };
    let (took, ()) = tokio::join!(granted, story.renewal(2));
    assert_eq!(took, COMMIT, "the last report and all that it allows");
}

#[tokio::test(start_paused = true)]
async fn a_paused_scope_is_left_alone_by_the_controller_and_shown_to_people() {
    let mut story = Story::start().await;
    for _ in 0..10 {
        story.second().await;
    }
    let pause = r#"{"tier":"warm","reason":"disks","for_ms":3600000}"#;
    story.world.send(&person("ana"), "POST", "/v1/pauses", pause).await;
    story.silent = Some(EAST);
    for _ in 0..80 {
        story.second().await;
    }
    let status = story.status("ana").await;
    assert_eq!(status.open, vec![], "nothing was asked for");
    let service = caller("service", EAST, "grafana");
    let (_, seen): (u16, Status) = story.world.json(&service, "GET", "/v1/status", "").await;
    assert!(seen.diagnoses.iter().any(|d| d.confirmed), "{:?}", seen.diagnoses);
}
