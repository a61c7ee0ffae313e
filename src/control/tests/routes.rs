//! What every route shares: problems, bounds, health, watching.

use super::world::{EAST, World, person, worker};
use axum::http::Request;
use cryptorun_core::time::Millis;
use cryptorun_core::wire::{Problem, Status};
use futures_util::StreamExt;
use std::time::Duration;

async fn text(world: &World, path: &str) -> (u16, String) {
    let response = world.send(&person("ana"), "GET", path, "").await;
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_request_is_said_as_a_problem_document() {
    let world = World::founded().await;
    let ana = person("ana");
    for (method, path, body, status, word, part) in [
        ("GET", "/v1/nothing", "", 404, "not_found", "/v1/openapi.json"),
        ("PUT", "/v1/status", "", 405, "method_not_allowed", "PUT"),
        ("POST", "/v1/promotions", "{", 400, "bad_request", "EOF"),
        (
            "POST",
            "/v1/promotions",
            r#"{"tier":"warm","to":"us-west","x":1}"#,
            400,
            "bad_request",
            "`x`",
        ),
        (
            "POST",
            "/v1/promotions",
            r#"{"tier":"warm","to":"us-wst"}"#,
            400,
            "bad_request",
            "Did you mean us-west?",
        ),
        (
            "POST",
            "/v1/promotions",
            r#"{"tier":"cold","to":"us-west"}"#,
            404,
            "no_scope",
            "warm/global",
        ),
        ("GET", "/v1/explain?tier=tepid&target=us-west", "", 400, "bad_request", "tepid"),
        ("GET", "/v1/promotions/7", "", 400, "bad_request", "P-7"),
        ("GET", "/v1/promotions/P-9", "", 404, "no_promotion", "P-9"),
        ("GET", "/v1/status?consistency=maybe", "", 400, "bad_request", "maybe"),
        ("GET", "/v1/requests/none", "", 404, "not_found", "none"),
        (
            "POST",
            "/v1/pauses",
            r#"{"tier":"warm","reason":" ","for_ms":5}"#,
            400,
            "reason_missing",
            "a pause",
        ),
    ] {
        let response = world.send(&ana, method, path, body).await;
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json",
            "{method} {path}"
        );
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let problem: Problem = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(problem.status, status, "{method} {path}: {problem:?}");
        assert_eq!(problem.kind.rsplit('/').next(), Some(word), "{method} {path}: {problem:?}");
        assert!(problem.detail.contains(part), "{method} {path}: {}", problem.detail);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_beyond_the_bound_is_refused_whole() {
    let world = World::founded().await;
    let body = format!(r#"{{"reason":"{}"}}"#, "x".repeat(crate::http::BODY_BYTES_MAX));
    let path = "/v1/promotions/P-1/cancel";
    let (status, problem): (u16, Problem) = world.json(&person("ana"), "POST", path, &body).await;
    assert_eq!((status, problem.kind.rsplit('/').next()), (413, Some("too_large")));
}

#[tokio::test(start_paused = true)]
async fn one_identity_asking_too_often_holds_up_nobody_else() {
    let clock = World::empty().clock;
    let world = World::node(1, EAST, clock, 3);
    world.found().await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(world.send(&person("ana"), "GET", "/v1/whoami", "").await.status().as_u16());
    }
    assert_eq!(seen, [200, 200, 200, 429]);
    assert_eq!(world.send(&person("ben"), "GET", "/v1/whoami", "").await.status().as_u16(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_identity_gets_health_and_nothing_else() {
    let world = World::founded().await;
    for (path, status) in
        [("/live", 200), ("/metrics", 200), ("/v1/status", 403), ("/v1/whoami", 403)]
    {
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        let response = tower::ServiceExt::oneshot(world.router.clone(), request).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_quorum_says_so_and_still_answers_stale_reads() {
    let world = World::founded().await;
    assert_eq!(text(&world, "/ready").await.0, 200);
    assert_eq!(text(&world, "/leader").await.0, 200);
    world.log.lose_quorum(Some(Millis::secs(9)));
    let (status, body) = text(&world, "/partition").await;
    assert_eq!(status, 200);
    assert!(body.contains(r#""partition_mode":true"#), "{body}");
    assert_eq!(text(&world, "/ready").await.0, 503);
    let (status, body) = text(&world, "/health").await;
    assert_eq!(status, 503);
    assert!(body.contains("isolated_self"), "{body}");
    assert_eq!(text(&world, "/v1/status").await.0, 503);
    let (status, body) = text(&world, "/v1/status?consistency=stale").await;
    assert_eq!(status, 200);
    let status: Status = serde_json::from_str(&body).unwrap();
    assert_eq!(status.at.age, Millis::secs(9));
    assert_eq!(status.diagnoses[0].class.to_string(), "isolated_self");
}

#[tokio::test(start_paused = true)]
async fn metrics_carry_the_scopes_and_regions_of_the_machine() {
    let world = World::founded().await;
    crate::figures::export(&world.api, &world.metrics);
    let (_, page) = text(&world, "/metrics").await;
    for line in [
        r#"cryptorun_authority_epoch{tier="warm",group="global"} 0"#,
        r#"cryptorun_people_missing{tier="warm",group="global"} 0"#,
        r#"cryptorun_partition_mode{region="us-east-1"} 0"#,
        r#"cryptorun_region_health_score{region="eu-west-1"} 0"#,
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_an_index_that_does_not_come_says_so() {
    let world = World::founded().await;
    let (status, problem): (u16, Problem) =
        world.json(&person("ana"), "GET", "/v1/regions?wait_index=99", "").await;
    assert_eq!((status, problem.kind.rsplit('/').next()), (503, Some("not_ready")));
    assert!(problem.detail.contains("index 99"));
}

#[tokio::test(start_paused = true)]
async fn a_watcher_of_leases_gets_the_state_then_changes_then_progress() {
    let world = World::founded().await;
    let response = world.send(&worker(EAST), "GET", "/v1/leases", "").await;
    let mut body = response.into_body().into_data_stream();
    let mut next =
        async || String::from_utf8(body.next().await.unwrap().unwrap().to_vec()).unwrap();
    let first = next().await;
    assert!(first.starts_with("event: state\n"), "{first}");
    assert!(first.contains("warm/eu") && first.contains("warm/global"), "{first}");
    // Keep-alives are comments; the progress event comes within ten seconds.
    let progress = loop {
        let text = next().await;
        if !text.starts_with(':') {
            break text;
        }
    };
    assert!(progress.starts_with("event: progress\n"), "{progress}");
    assert!(progress.contains(r#""leases":[]"#), "{progress}");
    world.stop.cancel();
    assert!(
        tokio::time::timeout(Duration::from_secs(1), async {
            while body.next().await.is_some() {}
        })
        .await
        .is_ok()
    );
}
