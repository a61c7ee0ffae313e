//! Answers as they are drawn.

use super::fixtures::{self, done, dry_run, explanation, lost, promotion, shown, status};
use super::world::{Cluster, Node, Ran, run, run_on};
use crate::exit::Exit;
use crate::screen::Facts;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use cryptorun_core::command::Extended;
use cryptorun_core::decide::{Change, Choice, Decision, Loss, Verdict};
use cryptorun_core::position::{Hash, Position};
use cryptorun_core::promotion::{Kind, PromotionId};
use cryptorun_core::scope::Phase;
use cryptorun_core::session::{SessionKey, WorkerAddresses};
use cryptorun_core::time::{Millis, WallTime};
use cryptorun_core::token::Token;
use cryptorun_core::wire::{
    Afterwards, CandleRow, Candles, LeaseEvent, LeaseState, Refusals, RefusedSpan, RegionStatus,
    SessionStatus, SimulatedAsk, SimulatedMoment, Simulation, Status,
};
use insta::assert_snapshot;
use std::collections::BTreeMap;

fn regions() -> Vec<RegionStatus> {
    let shipped = cryptorun_core::region::SHIPPED_ALIASES.iter();
    shipped
        .map(|(name, aliases)| RegionStatus {
            region: (*name).into(),
            aliases: aliases.iter().map(|a| a.to_string()).collect(),
            link: Default::default(),
            health: 1000,
            inputs: Default::default(),
            report: None,
            reported: None,
        })
        .collect()
}

fn says(status: Status) -> Cluster {
    Cluster::of(
        Router::new()
            .route("/v1/status", get(async move || Json(status)))
            .route("/v1/regions", get(async || Json(regions()))),
    )
}

async fn out(cluster: &Cluster, line: &str) -> String {
    let ran = run(cluster, line).await;
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Done, ""), "{line}: {}", ran.out);
    ran.out
}

#[tokio::test]
async fn status_tells_the_truth_in_two_lines() {
    assert_snapshot!(out(&says(status()), "cryptorun replication status").await, @r"
    demo · leader us-east-1 · term 4 · index 10733 · 3/3 voters · read 2026-01-02T14:02:31Z, 0.1 s old, via us-east-1
    all within target · YOU: nothing to do

    SCOPE        MODE     PHASE   HOLDER     EPOCH  LEASE  eu-west-1  us-east-1  us-west-2  NEXT
    warm/eu      approve  active  eu-west-1  3      8.1 s  primary    –          –          cannot move: data stays in eu-west-1
    warm/global  approve  active  us-east-1  3      8.1 s  8.0 s ok   primary    8.0 s ok   eu-west-1 ready · us-west-2 ready
    ");
}

#[tokio::test]
async fn status_of_one_region_shows_age_behind_and_state() {
    let line = "cryptorun replication status --tier warm --region us-east-1";
    let text = out(&says(status()), line).await;
    assert_snapshot!(text, @r"
    demo · leader us-east-1 · term 4 · index 10733 · 3/3 voters · read 2026-01-02T14:02:31Z, 0.1 s old, via us-east-1
    all within target · YOU: nothing to do

    SCOPE        REGION     ROLE     STATE  AGE    BEHIND  POSITION  REPORTED   FENCED  MODE     PHASE   HOLDER     EPOCH  LEASE
    warm/global  us-east-1  primary  ok     8.0 s  0       812       1.2 s ago  0       approve  active  us-east-1  3      8.1 s
    ");
    let alias = "cryptorun replication status --tier warm --region us-east";
    assert_eq!(out(&says(status()), alias).await, text);
}

#[tokio::test]
async fn status_at_three_in_the_morning() {
    assert_snapshot!(out(&says(lost()), "cryptorun replication status").await, @r"
    demo · leader us-east-1 · term 4 · index 10733 · 3/3 voters · read 2026-01-02T14:02:31Z, 0.1 s old, via us-east-1
    LOST us-east-1 since 2026-01-02T13:59:31Z (180 s; us-west-2 and eu-west-1 agree; no data of it) · YOU: P-2 waits for 1 more person
    link_cut eu-west-1 ⇹ us-east-1 since 2026-01-02T14:02:11Z (20 s), relayed via us-west-2
    warm/global is vacant; warm/global in us-east-1 190 s CRIT

    SCOPE        MODE     PHASE   HOLDER     EPOCH  LEASE  eu-west-1  us-east-1     us-west-2  NEXT
    warm/eu      approve  active  eu-west-1  3      8.1 s  primary    –             –          cannot move: data stays in eu-west-1
    warm/global  approve  vacant  –          3      –      8.0 s ok   primary CRIT  8.0 s ok   eu-west-1: behind is unknown, needs < 90 s · us-west-2 ready

    unsealed warm/global: us-east-1, sealed on first contact
    fork warm-global-0.3-us-east-1 of 14 rows kept in us-east-1
    open: P-2
    ");
    let checked = run(&says(lost()), "cryptorun replication status --check").await;
    assert_eq!(checked.exit, Exit::CheckFailed);
    let well = run(&says(status()), "cryptorun replication status --check").await;
    assert_eq!(well.exit, Exit::Done);
}

#[tokio::test]
async fn a_misspelt_region_lists_what_is_known() {
    let ran = run(&says(status()), "cryptorun replication status --region us-est").await;
    assert_eq!(
        ran,
        Ran {
            exit: Exit::Usage,
            out: String::new(),
            err: "error: no region 'us-est'; known: eu-west-1 (eu-west, eu-central), us-east-1 \
              (us-east), us-west-2 (us-west). Did you mean us-east?\n"
                .to_owned(),
        }
    );
}

#[tokio::test]
async fn a_narrow_terminal_shortens_sentences_and_then_stacks() {
    let on = async |width| {
        let facts = Facts { width: Some(width), ..Facts::default() };
        run_on(&says(status()), "cryptorun replication status --tier warm", facts, "").await.out
    };
    let narrow = on(106).await;
    assert!(narrow.lines().skip(3).all(|line| line.chars().count() <= 106), "{narrow}");
    assert_snapshot!(narrow, @r"
    demo · leader us-east-1 · term 4 · index 10733 · 3/3 voters · read 2026-01-02T14:02:31Z, 0.1 s old, via us-east-1
    all within target · YOU: nothing to do

    SCOPE        MODE     PHASE   HOLDER     EPOCH  LEASE  eu-west-1  us-east-1  us-west-2  NEXT
    warm/eu      approve  active  eu-west-1  3      8.1 s  primary    –          –          cannot move: data…
    warm/global  approve  active  us-east-1  3      8.1 s  8.0 s ok   primary    8.0 s ok   eu-west-1 ready ·…
    ");
    assert_snapshot!(on(60).await, @r"
    demo · leader us-east-1 · term 4 · index 10733 · 3/3 voters · read 2026-01-02T14:02:31Z, 0.1 s old, via us-east-1
    all within target · YOU: nothing to do

    SCOPE      warm/eu
    MODE       approve
    PHASE      active
    HOLDER     eu-west-1
    EPOCH      3
    LEASE      8.1 s
    eu-west-1  primary
    us-east-1  –
    us-west-2  –
    NEXT       cannot move: data stays in eu-west-1

    SCOPE      warm/global
    MODE       approve
    PHASE      active
    HOLDER     us-east-1
    EPOCH      3
    LEASE      8.1 s
    eu-west-1  8.0 s ok
    us-east-1  primary
    us-west-2  8.0 s ok
    NEXT       eu-west-1 ready · us-west-2 ready
    ");
}

#[tokio::test]
async fn colour_stays_within_a_terminal() {
    let facts = Facts { colour: true, stdout_terminal: true, ..Facts::default() };
    let line = "cryptorun replication status";
    let coloured = run_on(&says(lost()), line, facts, "").await.out;
    assert!(coloured.contains("\x1b[1;31mLOST us-east-1\x1b[0m"), "{coloured}");
    let plain = out(&says(lost()), line).await;
    assert!(!plain.contains('\x1b'));
}

#[tokio::test]
async fn programs_get_the_shapes_of_the_api() {
    let json = out(&says(lost()), "cryptorun replication status -o json").await;
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), lost());
    let yaml = out(&says(lost()), "cryptorun replication status -o yaml").await;
    assert_eq!(serde_yaml_ng::from_str::<Status>(&yaml).unwrap(), lost());
}

#[tokio::test]
async fn explain_says_what_to_type() {
    let router = Router::new().route("/v1/explain", get(async || Json(explanation())));
    let line = "cryptorun replication explain --tier warm --target us-west-2";
    assert_snapshot!(out(&Cluster::of(router), line).await, @r"
    warm/global → us-west-2: a failover would go with 1 more person
      ✓ primary  lost for 63 s  needs > 60 s  us-west-2, eu-west-1 agree
      ✓ behind   9 s, 14 rows   needs < 90 s
      ! checks   C7             needs all     us-west-2
      ✗ people   1 of 2         needs 2       ben
    loss: at most 14 rows, 9.0 s (records 813–814, 2)
    to go: 1 more person
    waiting: P-2
    do: cryptorun replication approve P-2
    ");
}

#[tokio::test]
async fn a_dry_run_prints_the_line_that_does_it() {
    let ask = async || Json(dry_run(Kind::Switchover));
    let router = Router::new().route("/v1/promotions", post(ask));
    let line = "cryptorun replication switchover --tier warm --to us-west-2";
    assert_snapshot!(out(&Cluster::of(router), line).await, @r"
    dry run: nothing was changed
    plan b7993dee: switchover warm/global us-east-1 → us-west-2 · preflight PASS · drain · reserve · seal · fetch_tail · grant · activate · invalidate_caches · redirect · validate · report
    loss at most 14 rows, 9.0 s (records 813–814, 2) · write pause about 520 ms · needs 2 sealed of 3 sinks · needs 2 people, you are one
      ✓ primary  lost for 63 s  needs > 60 s  us-west-2, eu-west-1 agree
      ✓ behind   9 s, 14 rows   needs < 90 s
      ! checks   C7             needs all     us-west-2
      ✗ people   1 of 2         needs 2       ben
    to do it: cryptorun replication switchover --tier warm --to us-west-2 --plan b7993dee --execute
    ");
}

#[tokio::test]
async fn history_lists_and_shows_one_whole() {
    let router = Router::new()
        .route("/v1/promotions", get(async || Json([shown(promotion()), shown(done())])))
        .route("/v1/promotions/P-3", get(async || Json(shown(done()))));
    let cluster = Cluster::of(router);
    assert_snapshot!(out(&cluster, "cryptorun replication history").await, @r"
    ID   ASKED                 KIND        SCOPE        FROM       TO         BY   STATE                    WRITE PAUSE  LOST  REASON
    P-3  2026-01-02T14:02:31Z  switchover  warm/global  us-east-1  us-west-2  ana  waits for 1 more person  –            –     kernel update
    P-3  2026-01-02T14:02:31Z  switchover  warm/global  us-east-1  us-west-2  ana  done                     0.39 s       0     kernel update
    ");
    assert_snapshot!(out(&cluster, "cryptorun replication history P-3").await, @r"
    P-3 switchover warm/global us-east-1 → us-west-2
      asked by  ana, 2026-01-02T14:02:31Z: kernel update
      expires   2026-01-02T14:32:31Z
      people    2 of 2: ana and ben
      plan      b7993dee · preflight · drain · reserve · seal · fetch_tail · grant · activate · invalidate_caches · redirect · validate · report
      sinks     2 of eu-west-1, us-east-1 and us-west-2
      loss      0, agreed to as the most
      bound     primary yes
      evidence  b26fcc30
      approved  ana 2026-01-02T14:02:31Z
      approved  ben 2026-01-02T14:02:40Z: seen
      agreed    2026-01-02T14:02:40Z
      2026-01-02T14:02:40Z      ✓ preflight 0.06 s
      2026-01-02T14:02:40.070Z  ✓ drain 0.06 s
      2026-01-02T14:02:40.140Z  ✓ reserve 0.06 s
      2026-01-02T14:02:40.210Z  ✓ seal 0.06 s
      2026-01-02T14:02:40.280Z  ✓ fetch_tail 0.06 s: 0 rows
      2026-01-02T14:02:40.350Z  ✓ grant 0.06 s
      2026-01-02T14:02:40.420Z  ✓ activate 0.06 s
      2026-01-02T14:02:40.490Z  ✓ invalidate_caches 0.06 s
      2026-01-02T14:02:40.560Z  – redirect: no driver
      2026-01-02T14:02:40.630Z  ✓ validate 0.06 s
      2026-01-02T14:02:40.700Z  ✓ report 0.06 s
      token     0.4
      holder    w2.0000000000000007
      barrier   820
      start     820
      unsealed  eu-west-1
      loss      0
      lost      0 rows in 0 records, settled
      pause     0.39 s without writes
      moved in  0.71 s
      ended     2026-01-02T14:02:40.710Z
    P-3 done in 0.71 s · write pause 0.39 s · lost 0
    ");
}

fn simulation(reports: u64) -> Simulation {
    let start = WallTime::parse("2025-01-01T00:00:00Z").unwrap();
    let moment = |ms, opened| SimulatedMoment {
        at: WallTime(start.0 + ms),
        decision: fixtures::decision(Kind::Failover),
        opened,
    };
    Simulation {
        scope: fixtures::warm(),
        from: fixtures::region("eu-west-1"),
        to: fixtures::region("us-east-1"),
        reports,
        covered: (reports > 0).then_some((start, WallTime(start.0 + 60_000))),
        moments: if reports > 0 { vec![moment(61_000, Some(PromotionId(2)))] } else { Vec::new() },
        decisions: Hash::of(b"decisions"),
        late: Vec::new(),
        asks: Vec::new(),
        by_policy: None,
    }
}

fn ask(start_s: u64, then: Afterwards) -> SimulatedAsk {
    let start = WallTime::parse("2025-01-01T00:00:00Z").unwrap() + Millis::secs(start_s);
    SimulatedAsk {
        at: start,
        until: start + Millis::secs(40),
        kind: Kind::Failover,
        to: fixtures::region("us-west-2"),
        alone: false,
        reason: "region_lost us-east-1: us-west-2 and eu-west-1 agree".to_owned(),
        loss: Loss::none(),
        then,
    }
}

#[tokio::test]
async fn refusals_say_from_when_to_when_what_was_missing() {
    let start = 1_767_362_400_000;
    let mut decision = Decision { choice: Choice::Refuse, ..fixtures::decision(Kind::Emergency) };
    decision.predicates[0].verdict = Verdict::No;
    decision.changes.push(Change::Wait { span: Millis::secs(12) });
    let refused = Refusals {
        scope: decision.scope.clone(),
        covered: Some((WallTime(start), WallTime(start + 3_600_000))),
        refusals: vec![RefusedSpan {
            since: WallTime(start + 1000),
            until: WallTime(start + 61_000),
            because: "region_lost us-east-1: us-west-2 and eu-west-1 agree".to_owned(),
            decision,
        }],
        left_out: 0,
    };
    let none = Refusals { covered: None, refusals: Vec::new(), ..refused.clone() };
    let line = "cryptorun replication refusals --tier warm";
    let answering = |refused: Refusals| {
        Cluster::of(Router::new().route("/v1/refusals", get(async move || Json(refused))))
    };
    assert_snapshot!(out(&answering(refused), line).await, @r"
    warm/global: 2026-01-02T14:00:00Z to 2026-01-02T15:00:00Z

    2026-01-02T14:00:01Z to 2026-01-02T14:01:01Z  us-west-2: an emergency would be refused
      region_lost us-east-1: us-west-2 and eu-west-1 agree
      ✗ primary  lost for 63 s  needs > 60 s  us-west-2, eu-west-1 agree
      to go: 1 more person
      to go: 12 s more
    ");
    let ended = run(&answering(none), line).await;
    assert_eq!(ended.exit, Exit::CheckFailed);
}

const SIMULATE: &str = "cryptorun replication simulate --from eu-central --to us-east --tier warm \
                        --window 2025-01-01T00:00:00Z/2025-01-01T06:00:00Z";

#[tokio::test]
async fn simulate_without_reports_says_so_and_exits_1() {
    let router = Router::new().route("/v1/simulations", post(async || Json(simulation(0))));
    let ran = run(&Cluster::of(router), SIMULATE).await;
    assert_eq!(ran.exit, Exit::CheckFailed);
    assert_eq!(
        ran.out,
        "no reports were recorded in 2025-01-01T00:00:00Z/2025-01-01T06:00:00Z: nothing to replay\n"
    );
}

#[tokio::test]
async fn simulate_shows_each_moment_with_its_predicates() {
    let router = Router::new().route("/v1/simulations", post(async || Json(simulation(90))));
    assert_snapshot!(out(&Cluster::of(router), SIMULATE).await, @r"
    warm/global eu-west-1 → us-east-1 · 90 reports replayed · 2025-01-01T00:00:00Z to 2025-01-01T00:01:00Z · decisions c54e065f

    2025-01-01T00:01:01Z  a failover would go with 1 more person · P-2 was opened
      ✓ primary  lost for 63 s  needs > 60 s  us-west-2, eu-west-1 agree
      ✓ behind   9 s, 14 rows   needs < 90 s
      ! checks   C7             needs all     us-west-2
      ✗ people   1 of 2         needs 2       ben

    asked for: nothing
    ");
}

/// By what held it asked twice; by the other rules once more, and not the second time.
fn compared() -> Simulation {
    let asks = vec![ask(60, Afterwards::CameBack), ask(600, Afterwards::Moved)];
    let others = vec![ask(50, Afterwards::CameBack), ask(300, Afterwards::CameBack)];
    Simulation { asks, by_policy: Some(others), moments: Vec::new(), ..simulation(90) }
}

#[tokio::test]
async fn simulate_compares_what_would_have_been_asked_for() {
    let router = Router::new().route("/v1/simulations", post(async || Json(compared())));
    assert_snapshot!(out(&Cluster::of(router), SIMULATE).await, @r"
    warm/global eu-west-1 → us-east-1 · 90 reports replayed · 2025-01-01T00:00:00Z to 2025-01-01T00:01:00Z · decisions c54e065f
    the decision never changed

    asked for: 2, 1 of them while the holder came back
        2025-01-01T00:01:00Z  failover → us-west-2 · loss 0 · the holder came back after 40 s · region_lost us-east-1: us-west-2 and eu-west-1 agree
        2025-01-01T00:10:00Z  failover → us-west-2 · loss 0 · a promotion moved it after 40 s · region_lost us-east-1: us-west-2 and eu-west-1 agree

    by the other policy: 2, 2 of them while the holder came back
        2025-01-01T00:00:50Z  failover → us-west-2 · loss 0 · the holder came back after 40 s · region_lost us-east-1: us-west-2 and eu-west-1 agree
      + 2025-01-01T00:05:00Z  failover → us-west-2 · loss 0 · the holder came back after 40 s · region_lost us-east-1: us-west-2 and eu-west-1 agree
      - 2025-01-01T00:10:00Z  failover → us-west-2 · loss 0 · a promotion moved it after 40 s · region_lost us-east-1: us-west-2 and eu-west-1 agree
    ");
}

#[tokio::test]
async fn a_backtest_fails_where_more_was_asked_for_in_vain_than_allowed() {
    let by_policy = Router::new().route("/v1/simulations", post(async || Json(compared())));
    let held = Simulation { by_policy: None, ..compared() };
    let alone = Router::new().route("/v1/simulations", post(async || Json(held)));
    for (router, most, exit) in [
        (&by_policy, 2, Exit::Done),
        (&by_policy, 1, Exit::CheckFailed),
        (&alone, 1, Exit::Done),
        (&alone, 0, Exit::CheckFailed),
    ] {
        let line = format!("{SIMULATE} --max-false {most}");
        assert_eq!(run(&Cluster::of(router.clone()), &line).await.exit, exit, "{most}");
    }
}

#[tokio::test]
async fn forks_are_listed_with_their_count() {
    assert_snapshot!(out(&says(lost()), "cryptorun replication forks list").await, @r"
    NAME                       SCOPE        REGION     TOKEN  RECORDS  ROWS  BYTES
    warm-global-0.3-us-east-1  warm/global  us-east-1  0.3    813–814  14    2048
    ");
    let none = out(&says(status()), "cryptorun replication forks list").await;
    assert_eq!(none, "no forks\n");
}

/// A worker of us-east-1 that holds the scope and one of us-west-2 that follows.
fn sessions() -> Vec<SessionStatus> {
    let session = |worker: &str, region: &str, holds: Vec<Extended>| SessionStatus {
        session: SessionKey { worker: worker.into(), boot: 1 },
        region: region.into(),
        addresses: WorkerAddresses { api: format!("{worker}:7410"), data: String::new() },
        renew_seq: 9,
        renewed: Millis(300),
        barred: false,
        holds,
    };
    let token = Token { incarnation: 0, epoch: 3 };
    let lease = Extended { scope: fixtures::warm(), token, start: Position::START };
    vec![session("w1", "us-east-1", vec![lease]), session("w2", "us-west-2", Vec::new())]
}

#[tokio::test]
async fn candles_come_from_the_holder_or_from_the_region_that_is_named() {
    let worker = |authority: &str| {
        let candles = Candles {
            authority: authority.to_owned(),
            token: Token { incarnation: 0, epoch: 3 },
            position: Position { seq: 812, hash: Hash::ZERO },
            staleness: Millis::secs(8),
            watermark: WallTime(fixtures::NOW),
            rows: vec![CandleRow {
                venue: "kraken".to_owned(),
                symbol: "BTC/USD".to_owned(),
                open_time: WallTime(fixtures::NOW),
                open: "91234.5".to_owned(),
                high: "91240.0".to_owned(),
                low: "91230.1".to_owned(),
                close: "91239.9".to_owned(),
                volume: "1.25000000".to_owned(),
                trades: 17,
                state: "revised".to_owned(),
                revision: 1,
            }],
        };
        Node::Up(Router::new().route("/v1/warm/candles", get(async move || Json(candles))))
    };
    let control = Router::new()
        .route("/v1/sessions", get(async || Json(sessions())))
        .route("/v1/regions", get(async || Json(regions())));
    let cluster = Cluster::of(control)
        .hidden("w1:7410", worker("primary"))
        .hidden("w2:7410", worker("replica"));
    let line = "cryptorun warm get --symbol BTC/USD --since 2026-01-01T00:00:00Z --limit 5";
    assert_snapshot!(out(&cluster, line).await, @r"
    primary · token 0.3 · position 812 · 8.0 s old · complete to 2026-01-02T14:02:31Z
    OPENED                VENUE   SYMBOL   OPEN     HIGH     LOW      CLOSE    VOLUME      TRADES  STATE
    2026-01-02T14:02:31Z  kraken  BTC/USD  91234.5  91240.0  91230.1  91239.9  1.25000000  17      revised (1)
    ");
    let there = out(&cluster, &format!("{line} --region us-west -o json")).await;
    assert_eq!(serde_json::from_str::<Candles>(&there).unwrap().authority, "replica");
    let asked = "w1:7410 GET /v1/warm/candles?group=global&symbol=BTC%2FUSD&limit=5\
                 &since=2026-01-01T00:00:00Z";
    assert_eq!(cluster.sent()[1], asked);
    let nobody = run(&cluster, "cryptorun warm get --symbol BTC/USD --region eu-west").await;
    assert_eq!(nobody.exit, Exit::CheckFailed);
    assert!(
        nobody.err.starts_with("error: no worker of eu-west-1 has a session"),
        "{}",
        nobody.err
    );
}

/// Two changes at a time, after the index that is named.
async fn leases(Query(query): Query<BTreeMap<String, u64>>) -> Response {
    let event = |index: u64| {
        let mut lease = LeaseState {
            scope: fixtures::warm(),
            phase: Phase::Active,
            holder: Some(fixtures::region("us-east-1")),
            session: None,
            token: Token { incarnation: 0, epoch: index },
            assigned: fixtures::region("us-east-1"),
        };
        if index.is_multiple_of(2) {
            (lease.phase, lease.holder) = (Phase::Vacant, None);
        }
        let data = serde_json::to_string(&LeaseEvent { index, leases: vec![lease] }).unwrap();
        format!("event: change\nid: {index}\ndata: {data}\n\n")
    };
    let from = query.get("watch_from").copied().unwrap_or(0);
    (from + 1..from + 3).map(event).collect::<String>().into_response()
}

#[tokio::test(start_paused = true)]
async fn watch_goes_on_after_the_last_index_it_showed() {
    let cluster = Cluster::of(Router::new().route("/v1/leases", get(leases)));
    let ran = run(&cluster, "cryptorun replication watch --count 3").await;
    assert_eq!(ran.exit, Exit::Done);
    assert_snapshot!(ran.out, @r"
    1         change  warm/global   active    us-east-1   token 0.1  assigned us-east-1
    2         change  warm/global   vacant    –           token 0.2  assigned us-east-1
    3         change  warm/global   active    us-east-1   token 0.3  assigned us-east-1
    ");
    let asked = ["a:1 GET /v1/leases", "a:1 GET /v1/leases?watch_from=2"];
    assert_eq!(cluster.sent(), asked);
    let json = run(&cluster, "cryptorun replication watch --from-index 7 --count 1 -o json").await;
    assert_eq!(serde_json::from_str::<LeaseEvent>(&json.out).unwrap().index, 8);
}

/// A reader that went away.
struct Closed;

impl std::io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_went_away_ends_the_command_quietly() {
    let input = Box::new(std::io::empty());
    let mut screen =
        crate::screen::Screen::new(Facts::default(), Box::new(Closed), Box::new(Closed), input);
    let failure = screen.line("more").unwrap_err();
    assert_eq!((failure.exit(), failure.text().as_str()), (Exit::Done, ""));
}
