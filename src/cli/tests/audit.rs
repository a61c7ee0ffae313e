//! The audit read, told, carried away and proven.

use super::fixtures::{NOW, at, done, problem, promotion, shown};
use super::world::{Cluster, Ran, run, run_on, run_with};
use crate::audit::file::Reader;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::Facts;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use cryptorun_core::audit::sentence::{Asked, approval};
use cryptorun_core::audit::{AuditEntry, AuditHead, Filter};
use cryptorun_core::config::ClusterId;
use cryptorun_core::position::Hash;
use cryptorun_core::promotion::Promotion;
use cryptorun_core::time::{Timing, WallTime};
use cryptorun_core::wire::{AuditPage, ClusterStatus};
use insta::assert_snapshot;
use std::collections::BTreeMap;
use std::path::Path;

/// Entries the pretended node looks at for one answer: fewer than there are, so that answers page.
const SCAN: u64 = 5;

/// P-3 from request to done, with what happened around it.
fn story() -> (Vec<AuditEntry>, AuditHead) {
    let asked = Asked::of(&promotion()).to_string();
    let agreed = approval(&done(), Some("seen"));
    let held = "w1.0000000000000001 token=0.3";
    let mut head = AuditHead::default();
    let lines: [(u64, &str, &str, &str, &str); 14] = [
        (0, "ana", "found", "00000000000000000000000000000007", "demo with 3 regions"),
        (90, "ben", "pause", "warm/global", "for 60 s: before it"),
        (1_000, "ana", "request", "P-3", &asked),
        (2_000, "eve", "refused", "P-3", "not_allowed: eve is not an approver"),
        (3_000, "ana", "refused", "P-3", "same_person: ana stands behind P-3 already"),
        (4_000, "time", "resume", "warm/global", "pause ran out"),
        (9_000, "ben", "approve", "P-3", &agreed),
        (9_150, "the controller", "reserve", "warm/global P-3", "token=0.4 for us-west-2"),
        (9_200, "eve", "refused", "warm/global", "moving: warm/global is moved by P-3"),
        (9_300, "worker w1", "vacant", "warm/global P-3", &format!("handed over: {held}")),
        (9_420, "the controller", "grant", "warm/global P-3", "us-east-1 -> us-west-2 token=0.4"),
        (9_710, "the controller", "done", "P-3", "the scope is where it should be"),
        (9_800, "ben", "pause", "warm/global", "for 60 s: after it"),
        (9_900, "eve", "request", "P-31", "another"),
    ];
    let entries = lines.into_iter().map(|(ms, who, action, subject, detail)| {
        head.append(AuditEntry {
            seq: 0,
            index: 10,
            at: at(ms),
            actor: who.parse().unwrap(),
            via: None,
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail: detail.to_owned(),
            hash: Hash::ZERO,
        })
    });
    (entries.collect(), head)
}

/// A node that has these entries, and perhaps a promotion's record.
fn node(entries: Vec<AuditEntry>, head: AuditHead, kept: Option<Promotion>) -> Cluster {
    let end = head.end;
    let page = async move |Query(query): Query<BTreeMap<String, String>>| {
        let number = |name: &str| query.get(name).map(|text| text.parse::<u64>().unwrap());
        let time = |name: &str| query.get(name).map(|text| WallTime::parse(text).unwrap());
        let filter = Filter {
            by: query.get("by").map(|text| text.parse().unwrap()),
            about: query.get("about").cloned(),
            since: time("since"),
            until: time("until"),
        };
        let from = number("from").unwrap_or(end.seq);
        let limit = number("limit").unwrap().min(SCAN) as usize;
        let some = entries.iter().filter(|e| e.seq >= from).take(limit).cloned();
        if filter.is_open() {
            return Json(AuditPage { entries: some.collect(), end, through: None });
        }
        let seen: Vec<AuditEntry> =
            (from..).zip(some).take_while(|(seq, e)| e.seq == *seq).map(|(_, e)| e).collect();
        let through = Some(seen.last().map_or(from - 1, |entry| entry.seq));
        let entries = seen.into_iter().filter(|entry| filter.takes(entry)).collect();
        Json(AuditPage { entries, end, through })
    };
    let record = async move || -> Response {
        match kept {
            Some(kept) => Json(shown(kept)).into_response(),
            None => {
                let detail = "there is no P-3";
                (StatusCode::NOT_FOUND, Json(problem(404, "not_found", detail))).into_response()
            }
        }
    };
    let status = ClusterStatus {
        at: super::fixtures::read_at(),
        id: Some(ClusterId(7)),
        version: 2,
        incarnation: 0,
        members: Vec::new(),
        timing: Some(Timing::of(cryptorun_core::time::Profile::Local)),
        config_version: 1,
        state_hash: Hash::ZERO,
    };
    Cluster::of(
        Router::new()
            .route("/v1/audit", get(page))
            .route("/v1/cluster", get(async move || Json(status)))
            .route("/v1/promotions/{id}", get(record)),
    )
}

fn whole() -> Cluster {
    let (entries, head) = story();
    node(entries, head, None)
}

/// Runs a line without a cluster and without settings for one.
async fn alone(line: &str) -> Ran {
    let nobody = |_: &_| Err(Failure::usage("this needs no cluster"));
    run_with(&nobody, line, Facts::default(), "").await
}

/// An export of the story; the folder keeps it.
async fn exported(options: &str) -> (tempfile::TempDir, String, Ran) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.audit").display().to_string();
    let ran = run(&whole(), &format!("cryptorun audit export --out {path}{options}")).await;
    (folder, path, ran)
}

#[tokio::test]
async fn a_promotion_is_told_from_the_audit_alone() {
    let ran = run(&whole(), "cryptorun audit report P-3").await;
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Done, ""), "{ran:?}");
    assert_snapshot!(ran.out, @r"
    P-3 switchover warm/global us-east-1 → us-west-2
      asked by  ana, 2026-01-02T14:02:32Z: kernel update
      plan      b7993dee
      loss      0, agreed to as the most
      evidence  b26fcc30

    SEQ  AT                        WHO             ACTION   SUBJECT          DETAIL
    3    2026-01-02T14:02:32Z      ana             request  P-3              switchover warm/global us-east-1 -> us-west-2: kernel update; plan b7993dee, loss 0, evidence b26fcc30, needs 1 more
    4    2026-01-02T14:02:33Z      eve             refused  P-3              not_allowed: eve is not an approver
    5    2026-01-02T14:02:34Z      ana             refused  P-3              same_person: ana stands behind P-3 already
    6    2026-01-02T14:02:35Z      time            resume   warm/global      pause ran out
    7    2026-01-02T14:02:40Z      ben             approve  P-3              warm/global us-east-1 -> us-west-2: seen; 0 more needed
    8    2026-01-02T14:02:40.150Z  the controller  reserve  warm/global P-3  token=0.4 for us-west-2
    9    2026-01-02T14:02:40.200Z  eve             refused  warm/global      moving: warm/global is moved by P-3
    10   2026-01-02T14:02:40.300Z  worker w1       vacant   warm/global P-3  handed over: w1.0000000000000001 token=0.3
    11   2026-01-02T14:02:40.420Z  the controller  grant    warm/global P-3  us-east-1 -> us-west-2 token=0.4
    12   2026-01-02T14:02:40.710Z  the controller  done     P-3              the scope is where it should be

      phases    enough people after 8.00 s · token reserved after 0.15 s · lease granted after 0.27 s · the end after 0.29 s
      its record is not at hand: verdicts, single steps and the final loss are not in the audit
    P-3 done: the scope is where it should be
    looked at entries 1 to 14, which end with d6c715e9
    ");
}

#[tokio::test]
async fn a_promotion_that_is_still_kept_is_told_with_its_steps_and_what_was_bound() {
    let (entries, head) = story();
    let cluster = node(entries, head, Some(done()));
    let ran = run(&cluster, "cryptorun audit report P-3").await;
    for part in ["bound     primary yes", "✓ drain 0.06 s", "lost      0 rows", "0.39 s without"]
    {
        assert!(ran.out.contains(part), "{part} is not in\n{}", ran.out);
    }
    let json = run(&cluster, "cryptorun audit report P-3 -o json").await.out;
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["asked"]["reason"], "kernel update");
    assert_eq!(report["phases"][0]["took"], 8_000);
    assert_eq!(report["record"]["promotion"]["measured"]["lost_rows"], 0);
    assert_eq!((&report["outcome"], &report["end"]["seq"]), (&"done".into(), &14.into()));
}

#[tokio::test]
async fn a_promotion_that_never_was_is_no_report() {
    let ran = run(&whole(), "cryptorun audit report P-9").await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Usage, ""));
    assert_eq!(
        ran.err,
        "error: no P-9: none of the entries 1 to 14 is about it\n\
         hint: which there are: cryptorun replication history, or cryptorun audit list\n"
    );
}

#[tokio::test]
async fn who_shows_what_somebody_did_and_was_refused() {
    let cluster = whole();
    let ran = run(&cluster, "cryptorun audit who eve").await;
    assert_eq!(ran.exit, Exit::Done, "{ran:?}");
    assert_snapshot!(ran.out, @r"
    SEQ  AT                    WHO  ACTION   SUBJECT      DETAIL
    4    2026-01-02T14:02:33Z  eve  refused  P-3          not_allowed: eve is not an approver
    9    2026-01-02T14:02:40Z  eve  refused  warm/global  moving: warm/global is moved by P-3
    14   2026-01-02T14:02:40Z  eve  request  P-31         another
    eve: 3 entries, 2 of them refused · looked at 1 to 14, which ends with d6c715e9
    ");
    let until = WallTime(NOW + 2_500);
    let line = format!("cryptorun audit who eve --until {until} -o json");
    let acts: serde_json::Value = serde_json::from_str(&run(&cluster, &line).await.out).unwrap();
    assert_eq!((&acts["refused"], &acts["entries"][0]["seq"]), (&1.into(), &4.into()));
    assert_eq!(acts["entries"].as_array().unwrap().len(), 1);
    let nothing = run(&cluster, &format!("cryptorun audit who ana --since {until}")).await;
    assert_snapshot!(nothing.out, @r"
    SEQ  AT                    WHO  ACTION   SUBJECT  DETAIL
    5    2026-01-02T14:02:34Z  ana  refused  P-3      same_person: ana stands behind P-3 already
    ana since 2026-01-02T14:02:33.500Z: 1 entry, refused · looked at 1 to 14, which ends with d6c715e9
    ");
    let line = format!("cryptorun audit who ana --since {until} --until 2026-01-02T00:00:00Z");
    assert_eq!(run(&cluster, &line).await.exit, Exit::Usage);
    let asked = cluster.sent();
    assert!(asked[0].ends_with("/v1/audit?from=1&limit=1000&by=eve"), "{asked:?}");
}

#[tokio::test]
async fn what_is_not_to_be_had_is_named_and_the_rest_is_shown() {
    let (mut entries, head) = story();
    entries.drain(4..6);
    let ran = run(&node(entries, head, None), "cryptorun audit who ben").await;
    assert_eq!(ran.exit, Exit::CheckFailed);
    assert_eq!(
        ran.err,
        "gap: entries 5 to 6 are not to be had from the node that was asked; this is not \
         everything\nhint: ask another node: --endpoints HOST:PORT\n"
    );
    assert!(
        ran.out.ends_with("ben: 3 entries · looked at 1 to 14, which ends with d6c715e9\n"),
        "{}",
        ran.out
    );
}

#[tokio::test]
async fn an_export_holds_and_proves_without_a_cluster() {
    let (_folder, path, ran) = exported("").await;
    let (entries, head) = story();
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Done, ""), "{ran:?}");
    assert_snapshot!(ran.out.replace(&path, "FILE"), @r"
    audit of demo (00000000000000000000000000000007), entries 1 to 14, ends with d6c715e9ccd694371b227db7d261899757ce88b720c37b93738ccb034df21bfe
    in FILE
    check it anywhere with: cryptorun audit verify FILE --head d6c715e9ccd694371b227db7d261899757ce88b720c37b93738ccb034df21bfe
    ");
    let verified = alone(&format!("cryptorun audit verify {path} --head {}", head.end.hash)).await;
    assert_eq!((verified.exit, verified.err.as_str()), (Exit::Done, ""), "{verified:?}");
    assert_snapshot!(verified.out.replace(&path, "FILE"), @r"
    FILE ok: 14 entries, 1 to 14, of demo (00000000000000000000000000000007), taken 2026-01-02T14:02:31Z · ends with d6c715e9ccd694371b227db7d261899757ce88b720c37b93738ccb034df21bfe
    its last entry is the head d6c715e9
    ");

    let told = alone(&format!("cryptorun audit report P-3 --file {path}")).await;
    assert_eq!(told.out, run(&whole(), "cryptorun audit report P-3").await.out);
    let acts = alone(&format!("cryptorun audit who eve --file {path}")).await;
    assert_eq!(acts.out, run(&whole(), "cryptorun audit who eve").await.out);

    let prove = async |seq: u64, head: Hash| {
        alone(&format!("cryptorun audit prove {seq} --file {path} --head {head}")).await
    };
    let proven = prove(7, head.end.hash).await;
    assert_eq!(proven.exit, Exit::Done, "{proven:?}");
    assert_snapshot!(proven.out, @r"
    SEQ  AT                    WHO  ACTION   SUBJECT  DETAIL
    7    2026-01-02T14:02:40Z  ben  approve  P-3      warm/global us-east-1 -> us-west-2: seen; 0 more needed
    proven: entry 7 and the 7 after it lead to the head d6c715e9ccd694371b227db7d261899757ce88b720c37b93738ccb034df21bfe
    ");
    assert_eq!(prove(14, head.end.hash).await.exit, Exit::Done);
    for (seq, head, says) in [
        (7, Hash::of(b"another"), "from entry 7 nothing leads to the head"),
        (7, entries[5].hash, "the head stands at entry 6, and entry 7 is not among those"),
        (15, Hash::of(b"another"), "holds no entry 15"),
    ] {
        let ran = prove(seq, head).await;
        assert!(ran.exit == Exit::CheckFailed && ran.out.contains(says), "{ran:?}");
    }
    let foreign = Hash::of(b"another");
    let ran = alone(&format!("cryptorun audit verify {path} --head {foreign}")).await;
    assert!(ran.exit == Exit::CheckFailed && ran.out.contains("NO ENTRY"), "{ran:?}");
}

#[tokio::test]
async fn a_range_is_exported_with_where_it_hangs() {
    let (_folder, path, ran) = exported(" --from 3 --to 12 -o json").await;
    let (entries, _) = story();
    let written: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&written["first"], &written["last"]["seq"]), (&3.into(), &12.into()));
    let text = std::fs::read_to_string(&path).unwrap();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let header = &first["cryptorun_audit"];
    assert_eq!(header["before"]["hash"], entries[1].hash.to_string());
    assert_eq!(header["last"]["hash"], entries[11].hash.to_string());
    assert_eq!(header["id"], ClusterId(7).to_string());
    assert_eq!(alone(&format!("cryptorun audit verify {path}")).await.exit, Exit::Done);
    for (options, says) in [
        (" --from 15", "no entries 15 to 14: the audit holds 1 to 14"),
        (" --to 15", "no entries 1 to 15"),
        (" --from 5 --to 4", "no entries 5 to 4"),
    ] {
        let (folder, _, ran) = exported(options).await;
        assert!(ran.exit == Exit::Usage && ran.err.contains(says), "{ran:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    }
}

#[tokio::test]
async fn an_export_takes_nobodys_place_and_says_what_it_could_not_get() {
    let (folder, path, _) = exported("").await;
    let ran = run(&whole(), &format!("cryptorun audit export --out {path}")).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("is there already") && ran.err.contains("choose another name"));

    let out = folder.path().join("b.audit").display().to_string();
    let export = format!("cryptorun audit export --out {out}");
    let (mut holes, head) = story();
    holes.drain(4..6);
    let ran = run(&node(holes, head, None), &export).await;
    assert_eq!(ran.exit, Exit::CheckFailed);
    assert_snapshot!(ran.err, @r"
    error: entries 5 to 6 are not to be had from the node that was asked; nothing was written
    hint: ask another node: --endpoints HOST:PORT
          or export what comes after it: --from 8
          or what comes before it: --to 4
    ");
    let (mut edited, head) = story();
    edited[6].detail.push('!');
    let ran = run(&node(edited, head, None), &export).await;
    assert!(ran.exit == Exit::CheckFailed && ran.err.contains("entry 7 was edited"), "{ran:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the first");

    let facts = Facts { stderr_terminal: true, ..Facts::default() };
    let ran = run_on(&whole(), &export, facts, "").await;
    assert_eq!(ran.err, "entry 5 of 1 to 14\nentry 10 of 1 to 14\nentry 14 of 1 to 14\n");
}

async fn verify(path: &Path) -> Ran {
    alone(&format!("cryptorun audit verify {}", path.display())).await
}

/// Whether an export's bytes are followed to their end.
fn holds(bytes: &[u8]) -> bool {
    let Ok(mut reader) = Reader::new(bytes, Path::new("a")) else { return false };
    loop {
        match reader.entry() {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

#[tokio::test]
async fn no_changed_byte_and_no_missing_line_of_an_export_goes_unnoticed() {
    let (folder, path, _) = exported("").await;
    let good = std::fs::read(&path).unwrap();
    let bad = folder.path().join("bad.audit");
    let damaged = async |bytes: &[u8]| {
        std::fs::write(&bad, bytes).unwrap();
        let ran = verify(&bad).await;
        assert_eq!(ran.exit, Exit::CheckFailed, "{ran:?}");
        ran.out.replace(&bad.display().to_string(), "FILE")
    };
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        assert!(!holds(&bytes), "byte {at}");
        assert!(!holds(&good[..at]), "cut to {at}");
    }
    let lines: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
    for n in 0..lines.len() {
        let mut other = lines.clone();
        other.remove(n);
        assert!(!holds(&other.concat()), "without line {n}");
        other.insert(n, lines[n]);
        other.insert(n, lines[n]);
        assert!(!holds(&other.concat()), "line {n} twice");
        let mut other = lines.clone();
        other.swap(n, (n + 1) % lines.len());
        assert!(!holds(&other.concat()), "line {n} in another place");
    }
    assert!(holds(&good) && !holds(&[&good[..], b"\n"].concat()), "more");

    let edit = |from: &str, to: &str| {
        let text = String::from_utf8(good.clone()).unwrap();
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1).into_bytes()
    };
    assert_snapshot!(damaged(&edit(": seen;", ": sure;")).await, @r"
    FILE IS DAMAGED at entry 7 (line 8)
      expected  hash 81fffb0f0527f481a1ea0f971a555dc2628a90bf5add745c740d6860782ea88b of what stands there
      found     hash 6f7e7495b537291a29b6581aa14d037a97b326be7725703e277ffb23299326bc
    ");
    let mut other = lines.clone();
    other.remove(7);
    assert_snapshot!(damaged(&other.concat()).await, @r"
    FILE IS DAMAGED at entry 7 (line 8)
      expected  entry 7
      found     entry 8
    ");
    assert_snapshot!(damaged(&lines[..9].concat()).await, @r"
    FILE IS DAMAGED at entry 9 (line 10)
      expected  entry 9
      found     the end of the file
    ");
    let more = edit("\"via\":null", "\"via\":null,\"note\":1");
    assert_snapshot!(damaged(&more).await, @r"
    FILE IS DAMAGED at entry 1 (line 2)
      expected  entry 1
      found     a line that no export writes this way
    ");
    let kind = edit("\"actor\":\"controller\"", "\"actor\":{\"person\":\"the controller\"}");
    assert_snapshot!(damaged(&kind).await, @r"
    FILE IS DAMAGED at entry 8 (line 9)
      expected  the actor that is written 'the controller'
      found     another kind of actor by that name
    ");
}

#[tokio::test]
async fn what_cannot_be_read_is_not_called_damaged() {
    let (folder, path, _) = exported("").await;
    let later = std::fs::read_to_string(&path).unwrap().replacen("\"format\":1", "\"format\":9", 1);
    let other = folder.path().join("later.audit");
    std::fs::write(&other, later).unwrap();
    let ran = verify(&other).await;
    assert!(ran.exit == Exit::Usage && ran.err.contains("has layout 9, this reads 1"), "{ran:?}");
    let ran = verify(&folder.path().join("nowhere.audit")).await;
    assert!(ran.exit == Exit::Usage && ran.err.contains("cannot read"), "{ran:?}");
    std::fs::write(&other, "candles\n").unwrap();
    let ran = verify(&other).await;
    assert!(ran.exit == Exit::CheckFailed && ran.out.contains("IS DAMAGED at line 1"), "{ran:?}");
    let told = alone(&format!("cryptorun audit report P-3 --file {}", other.display())).await;
    assert_eq!((told.exit, told.out.as_str()), (Exit::CheckFailed, ""), "{told:?}");
    assert!(told.err.contains("does not hold: at line 1 expected"), "{told:?}");
}
