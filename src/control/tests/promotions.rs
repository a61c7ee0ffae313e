//! Requests: dry runs, keys, refusals.

use super::world::{World, person};
use cryptorun_core::command::Outcome;
use cryptorun_core::record::Request;
use cryptorun_core::scope::Tier;
use cryptorun_core::wire::{Accepted, DryRun, Explanation, PauseRequest, Problem, Status};

#[tokio::test(start_paused = true)]
async fn looking_is_the_default_and_changes_nothing() {
    let world = World::founded().await;
    let before = world.log.machine();
    let body = r#"{"tier":"warm","to":"us-west","from":"us-east"}"#;
    let (status, dry): (u16, DryRun) =
        world.json(&person("ana"), "POST", "/v1/promotions", body).await;
    assert_eq!(status, 200);
    assert!(!dry.executed);
    assert_eq!(dry.plan.to.as_str(), "us-west-2");
    assert_eq!(dry.people_needed, 2);
    assert!(dry.refusal.is_some(), "nobody holds it yet: {:?}", dry.decision.choice);
    assert_eq!(world.log.machine(), before);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_holder_is_refused_by_naming_the_right_one() {
    let world = World::founded().await;
    let body = r#"{"kind":"failover","tier":"warm","to":"us-west","from":"eu-central","dry_run":false,"reason":"x"}"#;
    let (status, problem): (u16, Problem) =
        world.json(&person("ana"), "POST", "/v1/promotions", body).await;
    assert_eq!(status, 409);
    assert!(
        problem.detail.contains("eu-west-1 does not hold warm/global; us-east-1 does"),
        "{problem:?}"
    );
    let dry = body.replace("false", "true");
    let (status, dry): (u16, DryRun) =
        world.json(&person("ana"), "POST", "/v1/promotions", &dry).await;
    assert_eq!(status, 200);
    assert!(dry.refusal.unwrap().contains("us-east-1 does"));
}

#[tokio::test(start_paused = true)]
async fn the_same_key_does_it_once_and_another_body_under_it_is_422() {
    let world = World::founded().await;
    let pause = |minutes: u64| PauseRequest {
        tier: Tier::Warm,
        group: "global".into(),
        reason: "disks".into(),
        for_ms: minutes * 60_000,
    };
    let ana = person("ana");
    let first = world.api.pause(&ana, Some("k-1"), pause(1)).await.unwrap();
    let again = world.api.pause(&ana, Some("k-1"), pause(1)).await.unwrap();
    assert_eq!(first.outcome, again.outcome);
    let audit = world.log.machine().0.audit().values().filter(|e| e.action == "pause").count();
    assert_eq!(audit, 1);
    let error = world.api.pause(&ana, Some("k-1"), pause(2)).await.unwrap_err();
    assert_eq!(error.status(), 422);
    let (status, known): (u16, Request) = world.json(&ana, "GET", "/v1/requests/k-1", "").await;
    assert_eq!((status, known.index), (200, first.index));
    assert_eq!(known.answer, Ok(Outcome::Done));
    // Somebody else's key is somebody else's.
    assert_eq!(
        world.send(&person("ben"), "GET", "/v1/requests/k-1", "").await.status().as_u16(),
        404
    );
    assert_eq!(world.api.pause(&ana, Some("a b"), pause(1)).await.unwrap_err().status(), 400);
}

#[tokio::test(start_paused = true)]
async fn a_pause_shows_and_ends() {
    let world = World::founded().await;
    let ana = person("ana");
    let body = r#"{"tier":"warm","reason":"disks","for_ms":60000}"#;
    let (_, accepted): (u16, Accepted) = world.json(&ana, "POST", "/v1/pauses", body).await;
    let path = format!("/v1/status?wait_index={}", accepted.index);
    let (_, status): (u16, Status) = world.json(&ana, "GET", &path, "").await;
    let scope = status.scopes.iter().find(|s| s.scope.group == "global").unwrap();
    assert_eq!(scope.pause.as_ref().unwrap().owner, "ana");
    let ended = world.send(&ana, "DELETE", "/v1/pauses?tier=warm", "").await;
    assert_eq!(ended.status().as_u16(), 200);
    assert_eq!(world.send(&ana, "DELETE", "/v1/pauses?tier=warm", "").await.status().as_u16(), 400);
}

#[tokio::test(start_paused = true)]
async fn explain_says_what_is_missing() {
    let world = World::founded().await;
    let path = "/v1/explain?tier=warm&target=us-west";
    let (status, explained): (u16, Explanation) = world.json(&person("ana"), "GET", path, "").await;
    assert_eq!(status, 200);
    assert!(explained.command.is_none());
    assert!(explained.decision.blocking().count() > 0);
    assert_eq!(explained.at.cluster, "test");
}

#[tokio::test(start_paused = true)]
async fn the_audit_pages_and_verifies() {
    let world = World::founded().await;
    let ana = person("ana");
    let body = r#"{"tier":"warm","reason":"disks","for_ms":60000}"#;
    for _ in 0..3 {
        world.send(&ana, "POST", "/v1/pauses", body).await;
    }
    let (_, page): (u16, cryptorun_core::wire::AuditPage) =
        world.json(&ana, "GET", "/v1/audit?from=2&limit=2", "").await;
    assert_eq!(page.entries.iter().map(|e| e.seq).collect::<Vec<_>>(), [2, 3]);
    let (_, verdict): (u16, cryptorun_core::wire::AuditVerdict) =
        world.json(&ana, "GET", "/v1/audit/verify", "").await;
    assert_eq!((verdict.checked, verdict.broken_at), (4, None));
}

#[tokio::test(start_paused = true)]
async fn the_audit_is_searched_by_whom_about_what_and_when() {
    let world = World::founded().await;
    let ana = person("ana");
    let body = r#"{"tier":"warm","reason":"disks","for_ms":60000}"#;
    for who in ["ana", "ben", "ana"] {
        world.send(&person(who), "POST", "/v1/pauses", body).await;
    }
    let ask = async |query: &str| {
        let path = format!("/v1/audit?{query}");
        let (status, page): (u16, cryptorun_core::wire::AuditPage) =
            world.json(&ana, "GET", &path, "").await;
        assert_eq!(status, 200, "{path}");
        (page.entries.iter().map(|e| e.seq).collect::<Vec<_>>(), page.through)
    };
    assert_eq!(ask("by=ana&about=warm/global").await, (vec![2, 4], Some(4)));
    assert_eq!(ask("by=ben").await, (vec![3], Some(4)));
    assert_eq!(ask("by=ana&about=warm/global&limit=1").await, (vec![2], Some(2)), "says where");
    assert_eq!(ask("by=ana&about=warm/global&from=3").await, (vec![4], Some(4)));
    assert_eq!(ask("about=P-7").await, (vec![], Some(4)), "and that it saw all");
    assert_eq!(ask("about=P-7&from=9").await, (vec![], Some(8)), "past the end");
    assert_eq!(ask("until=2024-12-31T00:00:00Z").await, (vec![], Some(4)));
    for query in ["by=two%20words", "since=yesterday"] {
        let reply = world.send(&ana, "GET", &format!("/v1/audit?{query}"), "").await;
        assert_eq!(reply.status(), 400, "{query}");
    }
}
