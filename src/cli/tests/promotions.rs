//! Asking, approving, following.

use super::fixtures::{done, dry_run, promotion, running, shown};
use super::world::{Cluster, run, run_on};
use crate::exit::Exit;
use crate::screen::Facts;
use axum::body::Bytes;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use cryptorun_core::command::Outcome;
use cryptorun_core::promotion::{Kind, Outcome as End, Promotion, State};
use cryptorun_core::wire::{
    Accepted, PauseRequest, PromotionRequest, PromotionStatus, WhoAmI, WordRequest,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const PERSON: Facts = Facts {
    interactive: true,
    stdout_terminal: false,
    stderr_terminal: false,
    width: None,
    colour: false,
};

type Said = Arc<Mutex<Vec<Option<String>>>>;

/// P-3 as `before`, and as `after` once somebody said a word about it.
fn world(before: Promotion, after: Promotion) -> (Cluster, Said) {
    let said = Said::default();
    let (heard, look) = (said.clone(), said.clone());
    let say = async move |Json(word): Json<WordRequest>| {
        heard.lock().unwrap().push(word.reason);
        (StatusCode::OK, Json(Accepted { index: 9, outcome: Outcome::Done }))
    };
    let show = async move || {
        let told = !look.lock().unwrap().is_empty();
        Json(shown(if told { after } else { before }))
    };
    let router = Router::new()
        .route("/v1/promotions/P-3", get(show))
        .route("/v1/promotions/P-3/{word}", post(say));
    (Cluster::of(router), said)
}

#[tokio::test]
async fn a_dry_run_is_the_default_and_changes_nothing() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    let ask = async move |Json(request): Json<PromotionRequest>| {
        log.lock().unwrap().push(request);
        Json(dry_run(Kind::Switchover))
    };
    let cluster = Cluster::of(Router::new().route("/v1/promotions", post(ask)));
    for line in [
        "cryptorun replication failover --tier warm --promote us-west-2",
        "cryptorun replication failover --tier warm --promote us-west-2 --dry-run",
        "cryptorun replication failover --tier warm --promote us-west-2 --dry-run=true",
    ] {
        let ran = run(&cluster, line).await;
        assert_eq!(ran.exit, Exit::Done, "{ran:?}");
        assert!(ran.out.starts_with("dry run: nothing was changed\nplan "), "{}", ran.out);
        assert!(ran.out.contains(": switchover warm/global us-east-1 → us-west-2"), "{}", ran.out);
    }
    assert!(asked.lock().unwrap().iter().all(|request| request.dry_run && request.kind.is_none()));
}

#[tokio::test]
async fn a_dry_run_that_would_be_refused_says_3() {
    let mut run_of = dry_run(Kind::Switchover);
    run_of.refusal = Some("eu-west-1 does not hold warm/global".to_owned());
    let router = Router::new().route("/v1/promotions", post(async move || Json(run_of)));
    let line = "cryptorun replication failover --tier warm --promote us-west-2 --demote eu-central";
    let ran = run(&Cluster::of(router), line).await;
    assert_eq!(ran.exit, Exit::Refused);
    assert!(ran.out.contains("would be refused: eu-west-1 does not hold"), "{}", ran.out);
}

#[tokio::test]
async fn execute_and_a_dry_run_contradict_each_other() {
    let line = "cryptorun replication failover --tier warm --to us-west-2 --execute --dry-run";
    let ran = run(&Cluster::of(Router::new()), line).await;
    assert_eq!(ran.exit, Exit::Usage);
}

#[tokio::test]
async fn a_script_must_say_yes_and_gives_its_reason() {
    let (cluster, said) = world(promotion(), running());
    let ran = run(&cluster, "cryptorun replication approve P-3").await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("--yes") && said.lock().unwrap().is_empty(), "{}", ran.err);

    let ran = run(&cluster, "cryptorun replication approve P-3 --yes --reason seen").await;
    assert_eq!(
        (ran.exit, ran.out.as_str()),
        (Exit::Done, "P-3 goes: enough people stand behind it\n")
    );
    assert_eq!(*said.lock().unwrap(), [Some("seen".to_owned())]);
}

#[tokio::test]
async fn an_approval_that_is_not_enough_stays_pending() {
    let (cluster, _) = world(promotion(), promotion());
    let ran = run(&cluster, "cryptorun replication approve P-3 --yes").await;
    assert_eq!(ran.exit, Exit::Pending);
    assert!(ran.out.contains("approve with:  cryptorun replication approve P-3"), "{}", ran.out);
}

#[tokio::test]
async fn who_approves_what_gave_no_reason_gives_one() {
    let unexplained = Promotion { reason: None, ..promotion() };
    let (cluster, said) = world(unexplained, running());
    let ran = run(&cluster, "cryptorun replication approve P-3 --yes").await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(said.lock().unwrap().is_empty() && ran.err.contains("--reason"), "{}", ran.err);
}

#[tokio::test(start_paused = true)]
async fn a_person_sees_what_is_bound_and_is_asked() {
    let (cluster, said) = world(promotion(), done());
    let no = run_on(&cluster, "cryptorun replication approve P-3", PERSON, "\n").await;
    assert_eq!(no.exit, Exit::Pending);
    assert!(
        no.err.contains("kernel update") && no.err.contains("bound     primary yes"),
        "{}",
        no.err
    );
    assert!(said.lock().unwrap().is_empty());

    let yes = run_on(&cluster, "cryptorun replication approve P-3", PERSON, "y\n").await;
    assert_eq!(
        (yes.exit, yes.out.as_str()),
        (Exit::Done, "P-3 done in 0.71 s · write pause 0.39 s · lost 0\n")
    );
    assert!(yes.err.contains("✓ fetch_tail 0.06 s: 0 rows"), "{}", yes.err);
}

#[tokio::test(start_paused = true)]
async fn patience_ends_without_ending_the_promotion() {
    let (cluster, said) = world(promotion(), promotion());
    let line = "cryptorun replication approve P-3 --yes --timeout 3s";
    let ran = run(&cluster, line).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Pending, ""));
    assert!(ran.err.contains("cancel:  cryptorun replication cancel P-3"), "{}", ran.err);
    assert_eq!(said.lock().unwrap().len(), 1, "one approval, no cancel");
}

#[tokio::test(start_paused = true)]
async fn each_end_has_its_code() {
    let by = cryptorun_core::people::OperatorId("eve".to_owned());
    for (end, exit) in [
        (End::Done, Exit::Done),
        (End::RolledBack { why: "seal".to_owned() }, Exit::RolledBack),
        (End::Denied { by, why: "no".to_owned() }, Exit::Refused),
        (End::Expired, Exit::Refused),
        (End::Void { differences: Vec::new() }, Exit::Refused),
    ] {
        let after = Promotion { state: State::Ended(end), ..running() };
        let (cluster, _) = world(promotion(), after);
        let ran = run(&cluster, "cryptorun replication approve P-3 --yes --wait").await;
        assert_eq!(ran.exit, exit, "{ran:?}");
    }
}

#[tokio::test]
async fn deny_pause_and_emergency_need_a_reason() {
    let (cluster, said) = world(promotion(), promotion());
    for line in [
        "cryptorun replication deny P-3",
        "cryptorun replication pause --tier warm --for 10m",
        "cryptorun replication emergency --tier warm --to us-west-2 --execute",
    ] {
        let ran = run(&cluster, line).await;
        assert_eq!(ran.exit, Exit::Usage, "{line}");
        assert!(ran.err.contains("hint: say why with --reason"), "{}", ran.err);
    }
    let told = run_on(&cluster, "cryptorun replication deny P-3", PERSON, "not now\n").await;
    assert_eq!(told.exit, Exit::Done);
    assert_eq!(*said.lock().unwrap(), [Some("not now".to_owned())]);
}

#[tokio::test]
async fn approve_alone_lists_what_waits_for_me() {
    let me = WhoAmI {
        spiffe: "spiffe://demo/cryptorun/demo/person/-/ben".to_owned(),
        grants: Vec::new(),
        waiting: vec![promotion().id],
        rules: Vec::new(),
    };
    let router = Router::new()
        .route("/v1/whoami", get(async move || Json(me)))
        .route("/v1/promotions/P-3", get(async || Json(shown(promotion()))));
    let ran = run(&Cluster::of(router.clone()), "cryptorun replication approve").await;
    assert_eq!(ran.exit, Exit::Done);
    assert!(ran.out.ends_with("approve with: cryptorun replication approve P-3\n"), "{}", ran.out);
    let json = run(&Cluster::of(router), "cryptorun replication approve -o json").await;
    let read: Vec<PromotionStatus> = serde_json::from_str(&json.out).unwrap();
    assert_eq!(read[0].promotion, promotion());
}

#[tokio::test]
async fn a_pause_has_an_end_and_can_be_ended() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (first, second) = (asked.clone(), asked.clone());
    let accepted = || Json(Accepted { index: 9, outcome: Outcome::Done });
    let pause = async move |Json(request): Json<PauseRequest>| {
        first.lock().unwrap().push(format!("{} {}", request.group, request.for_ms));
        accepted()
    };
    let resume = async move |Query(query): Query<BTreeMap<String, String>>, body: Bytes| {
        second.lock().unwrap().push(format!("{query:?} {}", body.len()));
        accepted()
    };
    let router = Router::new().route("/v1/pauses", post(pause).delete(resume));
    let cluster = Cluster::of(router);
    let line = "cryptorun replication pause --tier warm --group eu --for 2h --reason disk";
    let ran = run(&cluster, line).await;
    assert_eq!(ran.exit, Exit::Done, "{ran:?}");
    assert!(
        ran.out.ends_with("cryptorun replication resume --tier warm --group eu\n"),
        "{}",
        ran.out
    );
    let ran = run(&cluster, "cryptorun replication resume --tier warm --group eu").await;
    assert_eq!(ran.out, "warm/eu is no longer paused\n");
    assert_eq!(*asked.lock().unwrap(), ["eu 7200000", r#"{"group": "eu", "tier": "warm"} 0"#]);
}
