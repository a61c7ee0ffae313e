//! Configuration files, the audit, completions.

use super::fixtures::at;
use super::world::{Cluster, run};
use crate::exit::Exit;
use axum::extract::Query;
use axum::routing::{get, post};
use axum::{Json, Router};
use cryptorun_core::audit::{AuditEntry, AuditHead};
use cryptorun_core::command::Outcome;
use cryptorun_core::people::Actor;
use cryptorun_core::position::Hash;
use cryptorun_core::wire::{Accepted, AuditPage, AuditVerdict, InitRequest};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A folder with a good file and a bad one.
fn folder() -> (tempfile::TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let good = write("good.yaml", "name: demo\n");
    let bad = write("bad.yaml", "nam: demo\n");
    (folder, good, bad)
}

#[tokio::test]
async fn config_check_names_every_problem_of_every_file() {
    let (folder, good, bad) = folder();
    let nobody = Cluster::default();
    let ran = run(&nobody, &format!("cryptorun config check {good} {bad}")).await;
    assert_eq!(ran.exit, Exit::CheckFailed);
    assert!(ran.out.contains("good.yaml: ok, demo\n"), "{}", ran.out);
    assert!(ran.out.contains("2 problems") && ran.out.contains("nam"), "{}", ran.out);

    let json = run(&nobody, &format!("cryptorun config check {bad} -o json")).await;
    let read: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(read[0]["ok"], false);
    assert_eq!(read[0]["problems"].as_array().unwrap().len(), 2);

    let missing = folder.path().join("missing.yaml");
    let ran = run(&nobody, &format!("cryptorun config check {}", missing.display())).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.out.contains("cannot read settings"), "{}", ran.out);
}

#[tokio::test]
async fn init_sends_what_the_file_says_and_nothing_that_is_wrong() {
    let (_folder, good, bad) = folder();
    let got = Arc::new(Mutex::new(Vec::new()));
    let log = got.clone();
    let init = async move |Json(request): Json<InitRequest>| {
        log.lock().unwrap().push((request.expect, request.config.name));
        Json(Accepted { index: 2, outcome: Outcome::Done })
    };
    let cluster = Cluster::of(Router::new().route("/v1/cluster/init", post(init)));
    let ran = run(&cluster, &format!("cryptorun cluster init --expect 3 --config {bad}")).await;
    assert_eq!((ran.exit, got.lock().unwrap().len()), (Exit::Usage, 0));
    let ran = run(&cluster, &format!("cryptorun cluster init --expect 3 --config {good}")).await;
    assert_eq!(ran.exit, Exit::Done, "{ran:?}");
    assert_eq!(*got.lock().unwrap(), [(3, "demo".to_owned())]);
}

fn chain(count: u64) -> (Vec<AuditEntry>, AuditHead) {
    let mut head = AuditHead::default();
    let entries = (0..count)
        .map(|n| {
            head.append(AuditEntry {
                seq: 0,
                index: 10 + n,
                at: at(n),
                actor: Actor::Controller,
                via: None,
                action: "grant".to_owned(),
                subject: if n % 2 == 0 { "warm/global" } else { "P-3" }.to_owned(),
                detail: format!("token 0.{n}"),
                hash: Hash::ZERO,
            })
        })
        .collect();
    (entries, head)
}

/// A node that believes its chain to be whole, and is too old to search it.
fn node(entries: Vec<AuditEntry>, head: AuditHead) -> Cluster {
    let end = head.end;
    let verdict = AuditVerdict { checked: end.seq, end, broken_at: None };
    let page = async move |Query(query): Query<BTreeMap<String, String>>| {
        let limit: u64 = query["limit"].parse().unwrap();
        let newest = (end.seq + 1).saturating_sub(limit).max(1);
        let from = query.get("from").map_or(newest, |from| from.parse().unwrap());
        let limit = usize::try_from(limit).unwrap().min(1000);
        let some = entries.iter().filter(|e| e.seq >= from).take(limit).cloned().collect();
        Json(AuditPage { entries: some, end, through: None })
    };
    Cluster::of(
        Router::new()
            .route("/v1/audit", get(page))
            .route("/v1/audit/verify", get(async move || Json(verdict))),
    )
}

#[tokio::test]
async fn an_edited_entry_is_found_even_if_the_node_does_not_say_so() {
    let (entries, head) = chain(1500);
    let whole = run(&node(entries.clone(), head), "cryptorun audit verify").await;
    assert_eq!(whole.exit, Exit::Done, "{whole:?}");

    let mut edited = entries.clone();
    edited[1200].detail.push('!');
    let ran = run(&node(edited, head), "cryptorun audit verify").await;
    assert_eq!(ran.exit, Exit::CheckFailed);
    assert!(ran.out.starts_with("AUDIT CHAIN BROKEN at entry 1201"), "{}", ran.out);

    let mut short = entries;
    short.truncate(1400);
    let ran = run(&node(short, head), "cryptorun audit verify").await;
    assert!(ran.out.starts_with("AUDIT CHAIN BROKEN at entry 1401"), "{}", ran.out);
}

#[tokio::test]
async fn audit_list_finds_what_is_about_one_thing() {
    let (entries, head) = chain(1500);
    let cluster = node(entries, head);
    let line = "cryptorun audit list --subject P-3 --limit 2 -o json";
    let page: AuditPage = serde_json::from_str(&run(&cluster, line).await.out).unwrap();
    let found: Vec<u64> = page.entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(found, [1498, 1500]);
    let ran = run(&cluster, "cryptorun audit list --limit 1").await;
    insta::assert_snapshot!(ran.out, @r"
    SEQ   AT                    WHO             ACTION  SUBJECT  DETAIL
    1500  2026-01-02T14:02:32Z  the controller  grant   P-3      token 0.1499
    chain ends at 1500, 8ac3b81c
    ");
}

#[tokio::test]
async fn completions_cover_the_whole_program() {
    let ran = run(&Cluster::default(), "cryptorun completions bash").await;
    assert_eq!(ran.exit, Exit::Done);
    assert!(ran.out.contains("cryptorun__subcmd__node") || ran.out.contains("cryptorun__node"));
    assert!(ran.out.contains("switchover"));
}
