//! Endpoints that lead elsewhere, are gone, say no, or lose the answer.

use super::fixtures::{problem, promotion, shown, status};
use super::world::{Cluster, Node, run};
use crate::exit::Exit;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use cryptorun_core::command::{Answer, Outcome};
use cryptorun_core::promotion::PromotionId;
use cryptorun_core::wire::Accepted;
use std::sync::{Arc, Mutex};

const ASK: &str = "cryptorun replication failover --tier warm --promote us-west \
                   --demote us-east --dry-run=false --reason test";

fn answers() -> Router {
    Router::new().route("/v1/status", get(async || Json(status())))
}

fn no(status: u16, kind: &str, detail: &str) -> Response {
    let code = StatusCode::from_u16(status).unwrap();
    (code, Json(problem(status, kind, detail))).into_response()
}

/// What a cluster remembers of requests: key and answer, in order of arrival.
type Log = Arc<Mutex<Vec<(String, Answer)>>>;

/// Opens P-3 once for each key; `answer` is what it says.
fn opens(log: Log, answer: Answer) -> Router {
    let outcome = answer.clone();
    let open = async move |State(log): State<Log>, headers: HeaderMap| {
        let key = headers["idempotency-key"].to_str().unwrap().to_owned();
        let mut log = log.lock().unwrap();
        if !log.iter().any(|(known, _)| *known == key) {
            log.push((key, outcome.clone()));
        }
        match outcome {
            Ok(outcome) => {
                (StatusCode::ACCEPTED, Json(Accepted { index: 7, outcome })).into_response()
            }
            Err(refusal) => no(409, refusal.kind(), &refusal.to_string()),
        }
    };
    let known = async |State(log): State<Log>,
                       axum::extract::Path(key): axum::extract::Path<String>| {
        match log.lock().unwrap().iter().find(|(k, _)| *k == key) {
            Some((_, answer)) => {
                Json(serde_json::json!({"index": 7, "answer": answer})).into_response()
            }
            None => no(404, "not_found", "no such request"),
        }
    };
    Router::new()
        .route("/v1/promotions", post(open))
        .route("/v1/promotions/P-3", get(async || Json(shown(promotion()))))
        .route("/v1/requests/{key}", get(known))
        .with_state(log)
}

fn opened() -> Answer {
    Ok(Outcome::Promotion { id: PromotionId(3), people_missing: 1 })
}

#[tokio::test]
async fn endpoints_are_tried_in_order_and_each_says_why_not() {
    let cluster = Cluster::default()
        .node("a:1", Node::Down)
        .node("b:1", Node::Up(answers()))
        .node("c:1", Node::Up(answers()));
    assert_eq!(run(&cluster, "cryptorun replication status").await.exit, Exit::Done);
    assert_eq!(cluster.sent().len(), 2, "{:?}", cluster.sent());

    let busy = Router::new()
        .route("/v1/status", get(async || no(503, "no_leader", "no leader is known to this node")));
    let gone = Cluster::default().node("a:1", Node::Down).node("b:1", Node::Up(busy));
    let ran = run(&gone, "cryptorun replication status").await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Unreachable, ""));
    assert_eq!(
        ran.err,
        "error: no endpoint answered\n  a:1: connection refused\n  b:1: no leader is known to this \
         node\nhint: nothing was changed, it is safe to try again; one process alone answers: \
         cryptorun replication status --local\n"
    );
}

#[tokio::test]
async fn local_asks_the_first_endpoint_alone() {
    let cluster = Cluster::default().node("a:1", Node::Down).node("b:1", Node::Up(answers()));
    let ran = run(&cluster, "cryptorun replication status --local").await;
    assert_eq!(ran.exit, Exit::Unreachable);
    assert_eq!(cluster.sent(), ["a:1 GET /v1/status?consistency=stale"]);
}

#[tokio::test]
async fn a_redirect_leads_to_the_leader() {
    let elsewhere = async || {
        let to = [(header::LOCATION, "https://l:9/v1/promotions")];
        (StatusCode::TEMPORARY_REDIRECT, to)
    };
    let follower = Router::new()
        .route("/v1/promotions", post(elsewhere))
        .route("/v1/promotions/P-3", get(async || Json(shown(promotion()))));
    let log = Log::default();
    let cluster = Cluster::of(follower).hidden("l:9", Node::Up(opens(log.clone(), opened())));
    let ran = run(&cluster, ASK).await;
    assert_eq!(ran.exit, Exit::Pending, "{ran:?}");
    assert_eq!(cluster.sent()[1], "l:9 POST /v1/promotions");
    assert_eq!(log.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn nodes_that_point_at_each_other_are_left_alone() {
    let to = |host: &str| {
        let location = format!("https://{host}/v1/status");
        Router::new().route(
            "/v1/status",
            get(async move || (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)])),
        )
    };
    let cluster = Cluster::of(to("b:1")).hidden("b:1", Node::Up(to("a:1")));
    let ran = run(&cluster, "cryptorun replication status").await;
    assert_eq!(ran.exit, Exit::Unreachable);
    assert!(ran.err.contains("sent on more than 3 times"), "{}", ran.err);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_learnt_by_its_key() {
    let log = Log::default();
    let cluster = Cluster::default().node("a:1", Node::Mute(opens(log.clone(), opened())));
    let ran = run(&cluster, ASK).await;
    assert_eq!(ran.exit, Exit::Pending, "{ran:?}");
    assert!(ran.out.contains("P-3 waits for 1 more person"), "{}", ran.out);
    assert_eq!(cluster.sent().iter().filter(|line| line.contains("POST")).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_refusal_is_still_a_refusal() {
    let refusal = cryptorun_core::refusal::Refusal::AlreadyAsked { promotion: PromotionId(2) };
    let log = Log::default();
    let cluster = Cluster::default().node("a:1", Node::Mute(opens(log, Err(refusal))));
    let ran = run(&cluster, ASK).await;
    assert_eq!(
        (ran.exit, ran.err.as_str()),
        (Exit::Refused, "refused: P-2 asks for the same already\n")
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_cluster_never_saw_is_sent_again_under_its_key() {
    let black_hole = Router::new().fallback(async || no(503, "no_leader", "no leader"));
    let log = Log::default();
    let cluster = Cluster::default()
        .node("a:1", Node::Mute(black_hole))
        .node("b:1", Node::Up(opens(log.clone(), opened())));
    let ran = run(&cluster, ASK).await;
    assert_eq!(ran.exit, Exit::Pending, "{ran:?}");
    let log = log.lock().unwrap();
    assert_eq!(log.len(), 1, "one key, one request");
}

#[tokio::test(start_paused = true)]
async fn an_outcome_nobody_can_tell_is_unknown_and_names_its_key() {
    let black_hole = Router::new().fallback(async || no(503, "no_leader", "no leader"));
    let cluster = Cluster::default().node("a:1", Node::Mute(black_hole));
    let ran = run(&cluster, &format!("{ASK} --request my-key")).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Unknown, ""));
    assert_eq!(
        ran.err,
        "error: outcome unknown: request my-key was sent and no answer came back\n  a:1: no \
         leader\nhint: it may have taken effect; look with: cryptorun replication history\n      \
         the same line with --request my-key takes effect at most once\n"
    );
    assert_eq!(cluster.sent().iter().filter(|l| l.ends_with("POST /v1/promotions")).count(), 1);
}

#[tokio::test]
async fn refusals_keep_their_words_and_their_codes() {
    for (status, kind, exit, word) in [
        (409, "not_the_holder", Exit::Refused, "refused"),
        (403, "not_allowed", Exit::Refused, "refused"),
        (400, "unknown_region", Exit::Usage, "error"),
        (404, "no_scope", Exit::Usage, "error"),
    ] {
        let says = Router::new()
            .route("/v1/promotions", post(async move || no(status, kind, "so and so")));
        let ran = run(&Cluster::of(says), ASK).await;
        assert_eq!((ran.exit, ran.err), (exit, format!("{word}: so and so\n")), "{kind}");
    }
}
