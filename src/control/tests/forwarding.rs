//! What a node may bring to the leader in somebody's name.

use super::sessions;
use super::world::{EAST, WEST, World, person, worker};
use crate::door;
use crate::forward::{Failed, Forwarded, Reply, ask};
use crate::history::{Line, OwnReport, What};
use crate::log::{Log, Proposal};
use cryptorun_core::command::{Approve, Command, PauseScope, Report};
use cryptorun_core::path::Path;
use cryptorun_core::people::Actor;
use cryptorun_core::promotion::PromotionId;
use cryptorun_core::report::{RegionReport, WorkerReport};
use cryptorun_core::scope::Tier;
use cryptorun_core::time::Millis;
use cryptorun_core::wire::{
    ClusterStatus, LateReports, Problem, RenewRequest, SimulationRequest, WordRequest,
};
use cryptorun_platform::clock::Clock;
use std::collections::BTreeMap;
use std::time::Duration;

/// A leader, and a follower that forwards to it and has the same machine.
async fn pair() -> (World, World) {
    let leader = World::founded().await;
    let follower = World::node(2, WEST, leader.clock.clone(), 10_000);
    follower.log.reach(&leader.log, true);
    catch_up(&leader, &follower);
    (leader, follower)
}

fn catch_up(leader: &World, follower: &World) {
    let (machine, index) = leader.log.machine();
    follower.log.show(machine, index);
}

async fn forward(follower: &World, actor: Actor, command: Command) -> Reply {
    let message = Forwarded::propose(Proposal { actor, via: None, request: None, command });
    ask(&*follower.log, 1, &message, Duration::from_secs(1)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_approval_forwarded_in_anothers_name_is_refused_counted_and_audited() {
    let (leader, follower) = pair().await;
    leader.raise_version().await;
    let index = leader.log.machine().1;
    let approve =
        Command::Approve(Approve { promotion: PromotionId(1), reason: None, certificate: None });
    let reply = forward(&follower, person("ana").actor, approve).await;
    assert!(matches!(reply, Reply::Failed(Failed::Refused { .. })), "{reply:?}");
    assert_eq!(leader.metrics.forwards_refused_total.get(["leader_only"]), 1);
    assert_eq!(leader.log.machine().1, index, "the approval is not in the log");
    tokio::spawn(door::tell(leader.api.clone()));
    tokio::time::sleep(Duration::from_millis(10)).await;
    let machine = leader.log.machine().0;
    let (_, told) = machine.audit().last_key_value().unwrap();
    assert_eq!((&told.actor, told.subject.as_str()), (&Actor::Node(2), "P-1"), "{told:?}");
    assert!(told.detail.starts_with("leader_only: approve in the name of ana"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_follower_asks_its_leader_who_answers_unless_it_may_be_stale() {
    let (leader, follower) = pair().await;
    leader.log.reach(&follower.log, false);
    let status = async |consistency: &str| {
        let path = format!("/v1/cluster?consistency={consistency}");
        let (_, status) = follower.json::<ClusterStatus>(&person("ana"), "GET", &path, "").await;
        status
    };
    let asked = status("linearizable").await;
    let index = leader.log.machine().1;
    assert_eq!(asked.at.voters_up, 2);
    for member in asked.members {
        assert_eq!((member.matched, member.answered), (Some(index), Some(Millis::ZERO)));
    }
    let here = status("stale").await;
    assert!(here.members.iter().all(|m| m.matched.is_none() && m.answered.is_none()));
}

#[tokio::test(start_paused = true)]
async fn no_node_speaks_for_the_controller_or_another_node() {
    let (leader, follower) = pair().await;
    let report = |region: &str| {
        Command::Report(Report { region: region.into(), report: RegionReport::default() })
    };
    for (actor, command, reason) in [
        (Actor::Node(3), report("eu-west-1"), "other_node"),
        (Actor::Node(2), report(EAST), "not_allowed"),
        (Actor::Controller, report(WEST), "controller"),
        (Actor::Controller, Command::Tick, "leader_only"),
    ] {
        forward(&follower, actor, command).await;
        assert_eq!(leader.metrics.forwards_refused_total.get([reason]), 1, "{reason}");
    }
    let reply = forward(&follower, Actor::Node(2), report(WEST)).await;
    assert!(matches!(reply, Reply::Committed { answer: Ok(_), .. }), "{reply:?}");
}

#[tokio::test(start_paused = true)]
async fn the_leader_looks_at_roles_again() {
    let (leader, follower) = pair().await;
    let pause = Command::Pause(PauseScope {
        scope: "warm/global".parse().unwrap(),
        reason: "x".into(),
        span: Millis::mins(1),
    });
    let reply = forward(&follower, person("stranger").actor, pause).await;
    assert!(matches!(reply, Reply::Failed(Failed::Refused { .. })), "{reply:?}");
    assert_eq!(leader.metrics.forwards_refused_total.get(["not_allowed"]), 1);
}

#[tokio::test(start_paused = true)]
async fn other_changes_travel_and_record_where_they_came_in() {
    let (leader, follower) = pair().await;
    let body = r#"{"tier":"warm","reason":"disks","for_ms":60000}"#;
    let response = follower.send(&person("ana"), "POST", "/v1/pauses", body).await;
    assert_eq!(response.status().as_u16(), 200);
    let entries = leader.log.audit(1, 10).await.unwrap();
    let pause = entries.iter().find(|entry| entry.action == "pause").unwrap();
    assert_eq!((pause.via, pause.actor.to_string().as_str()), (Some(2), "ana"));
    // A worker's renewal too.
    let opened = follower
        .send(
            &worker(WEST),
            "POST",
            "/v1/sessions",
            r#"{"boot":"00000000000000ab","addresses":{"api":"","data":""}}"#,
        )
        .await;
    assert_eq!(opened.status().as_u16(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_handed_to_a_leader_that_died_goes_to_the_next_at_once() {
    let (leader, follower) = pair().await;
    let opened = follower.api.open_session(&worker(WEST), sessions::open()).await.unwrap();
    catch_up(&leader, &follower);
    let next = World::node(3, "eu-west-1", leader.clock.clone(), 10_000);
    next.log.initialize(BTreeMap::new()).await.unwrap();
    catch_up(&leader, &next);
    let renew = RenewRequest {
        cluster: opened.renewed.cluster,
        seq: opened.renewed.seq + 1,
        report: WorkerReport::default(),
    };
    leader.log.set_commit_takes(Duration::from_secs(3600));
    let caller = worker(WEST);
    let renewal = follower.api.renew(&caller, opened.renewed.session, renew, None);
    let election = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        follower.log.reach(&next.log, true);
    };
    let started = tokio::time::Instant::now();
    let (answer, ()) = tokio::join!(renewal, election);
    assert_eq!(answer.unwrap().renewed.seq, opened.renewed.seq + 1);
    assert_eq!(started.elapsed(), Duration::from_millis(700), "not when the first try ran out");
}

#[tokio::test(start_paused = true)]
async fn approvals_are_sent_on_to_the_leader_itself() {
    let (_leader, follower) = pair().await;
    let response =
        follower.send(&person("ana"), "POST", "/v1/promotions/P-1/approve?x=1", "{}").await;
    assert_eq!(response.status().as_u16(), 307);
    let to = response.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(to, "https://api-1.example:7400/v1/promotions/P-1/approve?x=1");
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let problem: Problem = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(problem.leader.as_deref(), Some("api-1.example:7400"));
    follower.log.follow(None);
    let word = WordRequest { reason: Some("no".into()) };
    let error = follower.api.deny(&person("ana"), None, PromotionId(1), word).await.unwrap_err();
    assert_eq!(error.status(), 503);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_and_not_answered_is_unknown_and_what_was_not_sent_is_not() {
    let (leader, follower) = pair().await;
    let pause = |key: &'static str| {
        let body = cryptorun_core::wire::PauseRequest {
            tier: Tier::Warm,
            group: "global".into(),
            reason: "x".into(),
            for_ms: 1000,
        };
        let api = follower.api.clone();
        async move { api.pause(&person("ana"), Some(key), body).await }
    };
    leader.log.lose_quorum(Some(Millis(1)));
    assert_eq!(pause("a").await.unwrap_err().status(), 504);
    follower.log.follow(Some(3));
    assert_eq!(pause("b").await.unwrap_err().status(), 503);
}

#[tokio::test(start_paused = true)]
async fn late_reports_are_kept_for_simulations_and_only_those_of_the_node_that_tells() {
    let (leader, follower) = pair().await;
    let start = leader.clock.wall();
    let cut = |region: &str, secs: u64| OwnReport {
        region: region.into(),
        report: RegionReport {
            wall: start + Millis::secs(secs),
            control: [(EAST.into(), Path::down(Millis::secs(secs)))].into(),
            ..RegionReport::default()
        },
        committed: None,
    };
    let tell = async |reports: Vec<OwnReport>| {
        let message = Forwarded::Late(reports);
        ask(&*follower.log, 1, &message, Duration::from_secs(1)).await.unwrap()
    };
    let others = tell(vec![cut(WEST, 1), cut("eu-west-1", 2)]).await;
    assert!(matches!(others, Reply::Failed(Failed::Refused { .. })), "{others:?}");
    for _ in 0..2 {
        // The answer to the first time was lost.
        assert_eq!(tell(vec![cut(WEST, 1), cut(WEST, 2)]).await, Reply::Kept);
    }
    // A report of its own that no quorum took is recorded like any other.
    let own = Box::new(cut(EAST, 30));
    let line = Line { at: start + Millis::secs(3), what: What::Report(own) };
    leader.api.parts().history.append(&line).unwrap();
    leader.clock.advance(Duration::from_secs(60));
    let request = SimulationRequest {
        tier: Tier::Warm,
        group: "global".into(),
        from: EAST.into(),
        to: WEST.into(),
        start,
        end: start + Millis::secs(10),
        policy: None,
    };
    let found = leader.api.simulate(&person("ana"), &request).await.unwrap();
    let expected = LateReports {
        region: WEST.into(),
        reports: 2,
        span: (start + Millis::secs(1), start + Millis::secs(2)),
        unreached: [(EAST.into(), Millis::secs(2))].into(),
    };
    assert_eq!((found.reports, found.late), (1, vec![expected]));
}
