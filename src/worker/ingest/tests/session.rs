//! The whole session against a venue at the other end of a pipe, on tokio's paused clock.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cryptorun_core::time::WallTime;
use cryptorun_platform::Platform;
use cryptorun_platform::clock::{BootTime, Clock};
use cryptorun_platform::disk::SimDisk;
use cryptorun_platform::random::Random;
use cryptorun_platform::spawn::TokioSpawn;
use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};
use tokio_util::sync::CancellationToken;

use super::symbol;
use crate::ingest::book::Book;
use crate::ingest::dial::{Dial, Endpoint, Wire};
use crate::ingest::feed::{BookGap, FeedEvent, FeedReport, Gap, Phase, SymbolState};
use crate::ingest::kraken::KrakenSettings;
use crate::ingest::kraken::checksum::book_checksum;
use crate::ingest::model::{IdRange, Level};
use crate::ingest::rest::{RestClient, RestError};
use crate::ingest::sequence::{Missing, Resume, Seen};
use crate::ingest::session::{Feed, Session};

/// 2026-07-10T00:00:00Z
const NOON_MS: u64 = 1_783_641_600_000;

/// Goes with tokio's clock.
struct PausedClock(Instant);

impl Clock for PausedClock {
    fn boot(&self) -> BootTime {
        BootTime::default() + Duration::from_secs(1) + self.0.elapsed()
    }

    fn raw(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> WallTime {
        WallTime(NOON_MS + self.0.elapsed().as_millis() as u64)
    }
}

/// Waits drawn at their shortest, so that what is left of them is the venue's budget.
struct NoJitter;

impl Random for NoJitter {
    fn next_u64(&self) -> u64 {
        0
    }
}

/// Hands the far end of each new pipe to whoever plays the venue.
struct PipeDial {
    sockets: mpsc::UnboundedSender<DuplexStream>,
    listing: Listing,
}

/// REST answers by path prefix; what was asked for.
#[derive(Clone, Default)]
struct Listing {
    answers: Arc<Mutex<BTreeMap<&'static str, String>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Dial for PipeDial {
    async fn dial(&self, to: &Endpoint) -> io::Result<Box<dyn Wire>> {
        let (near, far) = duplex(1 << 20);
        if to.host == "rest" {
            tokio::spawn(serve_listing(far, self.listing.clone()));
        } else if self.sockets.send(far).is_err() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(Box::new(near))
    }
}

async fn serve_listing(far: DuplexStream, listing: Listing) {
    let answer = service_fn(|request: Request<hyper::body::Incoming>| {
        let path = request.uri().to_string();
        listing.asked.lock().expect("a lock").push(path.clone());
        let answers = listing.answers.lock().expect("a lock");
        let found = answers.iter().find(|(start, _)| path.starts_with(**start));
        let (status, body) = match found {
            Some((_, body)) => (200, body.clone()),
            None => (503, String::new()),
        };
        let response = Response::builder().status(status).body(Full::new(Bytes::from(body)));
        async move { response }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(far), answer)
        .await;
}

struct Venue {
    sockets: mpsc::UnboundedReceiver<DuplexStream>,
    listing: Listing,
    feed: Feed,
    stop: CancellationToken,
}

/// One connection, from the venue's side.
struct Line(WebSocketStream<DuplexStream>);

fn venue(resume: Option<Resume>) -> Venue {
    let platform = Platform {
        clock: Arc::new(PausedClock(Instant::now())),
        random: Arc::new(NoJitter),
        spawn: Arc::new(TokioSpawn),
        disk: Arc::new(SimDisk::new()),
    };
    let (sender, sockets) = mpsc::unbounded_channel();
    let listing = Listing::default();
    let dial = Arc::new(PipeDial { sockets: sender, listing: listing.clone() });
    let settings = KrakenSettings {
        ws_url: "ws://venue/v2".into(),
        rest_url: "http://rest".into(),
        symbols: vec![symbol("BTC/USD")],
        depth: 10,
    };
    let resume = resume.map(|resume| (symbol("BTC/USD"), resume)).into_iter().collect();
    let (session, feed) = Session::kraken(platform, dial, &settings, &resume).expect("settings");
    let stop = CancellationToken::new();
    tokio::spawn(session.run(stop.clone()));
    Venue { sockets, listing, feed, stop }
}

impl Venue {
    async fn accept(&mut self) -> Line {
        let far = self.sockets.recv().await.expect("a connection");
        let mut line = Line(accept_async(far).await.expect("a handshake"));
        line.send(json!({"channel":"status","type":"update","data":[{"system":"online"}]})).await;
        line
    }

    /// Accepts, and plays the venue up to the point where data flows.
    async fn accept_live(&mut self) -> Line {
        let mut line = self.accept().await;
        line.asked("subscribe", "instrument").await;
        line.send(instruments()).await;
        for channel in ["trade", "book"] {
            let request = line.asked("subscribe", channel).await;
            line.acknowledge(&request).await;
        }
        line
    }

    async fn event(&mut self) -> FeedEvent {
        self.feed.events.recv().await.expect("an event")
    }

    /// The next event that is not a watermark, within ten minutes of the paused clock.
    async fn news(&mut self) -> FeedEvent {
        let news = async {
            loop {
                match self.event().await {
                    FeedEvent::Watermark { .. } => {}
                    event => return event,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(600), news).await.expect("news within ten minutes")
    }

    async fn trade_ids(&mut self, count: usize) -> Vec<u64> {
        let mut ids = Vec::new();
        while ids.len() < count {
            if let FeedEvent::Trade(trade) = self.news().await {
                ids.push(trade.id);
            }
        }
        ids
    }

    async fn until(&mut self, what: impl FnMut(&Arc<FeedReport>) -> bool) -> Arc<FeedReport> {
        let found = self.feed.report.wait_for(what);
        let report = tokio::time::timeout(Duration::from_secs(600), found).await;
        report.expect("the feed gets there").expect("the session runs").clone()
    }
}

impl Line {
    async fn send(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.expect("the pipe takes it");
    }

    /// The next request, which has to be this one; pings are answered on the way.
    async fn asked(&mut self, method: &str, channel: &str) -> Value {
        loop {
            let message = self.0.next().await.expect("a message").expect("a sound one");
            let request: Value =
                serde_json::from_str(message.to_text().expect("text")).expect("json");
            if request["method"] == "ping" {
                continue;
            }
            assert_eq!(
                (&request["method"], &request["params"]["channel"]),
                (&json!(method), &json!(channel))
            );
            return request;
        }
    }

    async fn acknowledge(&mut self, request: &Value) {
        for symbol in request["params"]["symbol"].as_array().expect("symbols") {
            let channel = &request["params"]["channel"];
            let result = json!({"channel": channel, "symbol": symbol});
            self.send(json!({"method": request["method"], "result": result, "success": true}))
                .await;
        }
    }

    /// Until the other side hangs up.
    async fn drained(mut self) {
        while let Some(Ok(_)) = self.0.next().await {}
    }
}

fn instruments() -> Value {
    json!({"channel":"instrument","type":"snapshot","data":{"assets":[],"pairs":[
        {"symbol":"BTC/USD","status":"online","price_precision":1,"qty_precision":8}]}})
}

/// Trade `id` is `id` seconds after the start.
fn trades(kind: &str, ids: impl IntoIterator<Item = u64>) -> Value {
    let row = |id: u64| {
        json!({"symbol":"BTC/USD","side":"buy","price":100.5,"qty":0.25,"trade_id":id,
            "timestamp": format!("2026-07-10T00:{:02}:{:02}.000000Z", id / 60, id % 60)})
    };
    json!({"channel":"trade","type":kind,"data": ids.into_iter().map(row).collect::<Vec<_>>()})
}

fn rest_page(ids: impl IntoIterator<Item = u64>) -> String {
    let row = |id: u64| json!(["100.50000", "0.25000000", NOON_MS / 1_000 + id, "b", "l", "", id]);
    let rows: Vec<Value> = ids.into_iter().map(row).collect();
    json!({"error":[],"result":{"XXBTZUSD": rows, "last": "0"}}).to_string()
}

/// A book of one level a side, with its true checksum or another.
fn book(kind: &str, ask: i64, honest: bool) -> Value {
    let mut truth = Book::new(10);
    truth.restart(&[Level { price: 1_000, qty: 100 }], &[Level { price: ask, qty: 100 }]);
    let checksum = book_checksum(&truth) ^ u32::from(!honest);
    let price = ask as f64 / 10.0;
    json!({"channel":"book","type":kind,"data":[{"symbol":"BTC/USD",
        "bids":[{"price":100.0,"qty":0.000001}],"asks":[{"price":price,"qty":0.000001}],
        "checksum":checksum,"timestamp":"2026-07-10T00:00:01.000000Z"}]})
}

fn btc(report: &FeedReport) -> &crate::ingest::feed::SymbolReport {
    &report.symbols[&symbol("BTC/USD")]
}

#[tokio::test(start_paused = true)]
async fn a_feed_goes_live_and_a_snapshot_repeats_nothing() {
    let mut venue = venue(None);
    let mut line = venue.accept_live().await;
    line.send(trades("snapshot", [3, 1, 2])).await;
    line.send(book("snapshot", 1_010, true)).await;
    line.send(trades("update", [3, 4])).await;
    assert_eq!(venue.trade_ids(4).await, [1, 2, 3, 4]);
    let report = venue.until(|report| btc(report).state == SymbolState::Live).await;
    assert_eq!(report.phase, Phase::Live);
    assert_eq!((btc(&report).trades, btc(&report).duplicates), (4, 1));
    assert_eq!(btc(&report).best_ask, Some(Level { price: 1_010, qty: 100 }));
    assert!(report.venue_online && report.summary(BootTime::default()).live);
    let mark = venue.event().await;
    assert!(
        matches!(mark, FeedEvent::Watermark { at_us, .. } if at_us == NOON_MS * 1_000 + 4_000_000)
    );
    venue.stop.cancel();
    line.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_trade_is_named_fetched_and_only_then_the_watermark_passes() {
    let mut venue = venue(None);
    venue.listing.answers.lock().expect("a lock").insert("/0/public/Trades", rest_page(1..=9));
    let mut line = venue.accept_live().await;
    line.send(trades("snapshot", [1, 2])).await;
    line.send(trades("update", [6])).await;
    assert_eq!(venue.trade_ids(2).await, [1, 2]);
    let gap = Gap::Trades(IdRange { first: 3, last: 5 });
    assert!(matches!(venue.news().await, FeedEvent::GapOpened { gap: named, .. } if named == gap));
    // What came after the gap is passed on at once; the listing's 7, 8 and 9 are not ours to tell.
    assert_eq!(venue.trade_ids(4).await, [6, 3, 4, 5]);
    assert!(matches!(venue.event().await, FeedEvent::GapClosed { gap: named, .. } if named == gap));
    assert!(matches!(venue.event().await, FeedEvent::Watermark { at_us, .. }
        if at_us == NOON_MS * 1_000 + 6_000_000));
    line.send(trades("update", [7])).await;
    assert_eq!(venue.trade_ids(1).await, [7]);
    let asked = venue.listing.asked.lock().expect("a lock").clone();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with("/0/public/Trades?pair=XBTUSD&since="), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_while_away_is_fetched_on_return() {
    let mut venue = venue(Some(Resume {
        last: Seen { id: 20, at_us: NOON_MS * 1_000 + 20_000_000 },
        missing: vec![Missing { ids: IdRange { first: 11, last: 13 }, since_us: NOON_MS * 1_000 }],
    }));
    venue.listing.answers.lock().expect("a lock").insert("/0/public/Trades", rest_page(1..=60));
    let mut line = venue.accept_live().await;
    line.send(trades("snapshot", 50..=60)).await;
    let mut ids = venue.trade_ids(43).await;
    ids.sort_unstable();
    assert_eq!(ids, (11..=13).chain(21..=60).collect::<Vec<_>>());
    venue.until(|report| btc(report).gaps_open == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_left_by_an_earlier_run_is_still_a_gap() {
    let mut venue = venue(Some(Resume {
        last: Seen { id: 20, at_us: NOON_MS * 1_000 + 20_000_000 },
        missing: vec![Missing { ids: IdRange { first: 11, last: 13 }, since_us: NOON_MS * 1_000 }],
    }));
    let mut line = venue.accept_live().await;
    line.send(book("snapshot", 1_010, true)).await;
    line.send(trades("snapshot", [21])).await;
    let report = venue.until(|report| btc(report).trades == 1).await;
    assert!(matches!(btc(&report).state, SymbolState::Gap { .. }));
    assert_eq!((btc(&report).ids_missing, btc(&report).watermark_us), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn rest_requests_keep_the_venues_pace_and_say_what_went_wrong() {
    let (sockets, _unused) = mpsc::unbounded_channel();
    let listing = Listing::default();
    listing.answers.lock().expect("a lock").insert("/known", "here".into());
    let dial = Arc::new(PipeDial { sockets, listing });
    let clock = Arc::new(PausedClock(Instant::now()));
    let rest = RestClient::new(clock, dial, "http://rest", Duration::from_secs(1)).expect("a url");
    let begun = Instant::now();
    let (first, second, third) =
        tokio::join!(rest.get("/known"), rest.get("/unknown"), rest.get("/known"));
    assert_eq!(begun.elapsed().as_secs(), 2);
    assert_eq!(first.expect("an answer"), "here");
    assert!(matches!(second, Err(RestError::Status { status: 503, .. })));
    assert!(third.is_ok());
}

#[tokio::test(start_paused = true)]
async fn trades_the_venue_no_longer_has_are_given_up_by_name() {
    let mut venue = venue(None);
    let page = rest_page([1, 2, 4, 6]);
    venue.listing.answers.lock().expect("a lock").insert("/0/public/Trades", page);
    let mut line = venue.accept_live().await;
    line.send(trades("snapshot", [1, 2])).await;
    line.send(trades("update", [6])).await;
    assert_eq!(venue.trade_ids(4).await, [1, 2, 6, 4]);
    let feeding = tokio::spawn(async move {
        loop {
            line.send(json!({"channel":"ticker","type":"update","data":[]})).await;
            line.send(book("snapshot", 1_010, true)).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let mut lost = Vec::new();
    loop {
        match venue.news().await {
            FeedEvent::GapLost { ids, .. } => lost.push((ids.first, ids.last)),
            FeedEvent::GapClosed { .. } => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(lost, [(3, 3), (5, 5)]);
    let report = venue.until(|report| btc(report).gaps_open == 0).await;
    assert_eq!((btc(&report).ids_lost, btc(&report).backfilled), (2, 1));
    feeding.abort();
}

#[tokio::test(start_paused = true)]
async fn a_gap_that_cannot_be_repaired_holds_the_watermark_for_a_minute_and_is_still_repaired() {
    let mut venue = venue(None); // REST answers 503.
    let mut line = venue.accept_live().await;
    line.send(trades("snapshot", [1, 2])).await;
    line.send(trades("update", [6])).await;
    let begun = Instant::now();
    let feeding = tokio::spawn(async move {
        for second in 7.. {
            line.send(trades("update", [second])).await;
            line.send(book("snapshot", 1_010, true)).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    loop {
        if let FeedEvent::Watermark { .. } = venue.event().await {
            break;
        }
    }
    assert_eq!(begun.elapsed().as_secs(), 60);
    let asked = venue.listing.asked.lock().expect("a lock").len();
    assert!((4..10).contains(&asked), "asked {asked} times within a minute");

    let answers = venue.listing.answers.clone();
    answers.lock().expect("a lock").insert("/0/public/Trades", rest_page(1..=6));
    let report = venue.feed.report.clone();
    loop {
        if let FeedEvent::GapClosed { .. } = venue.news().await {
            break;
        }
    }
    assert_eq!(btc(&report.borrow()).ids_lost, 0);
    assert!(begun.elapsed() < Duration::from_secs(100));
    feeding.abort();
}

#[tokio::test(start_paused = true)]
async fn a_failed_checksum_hides_the_book_until_a_new_snapshot_passes() {
    let mut venue = venue(None);
    let mut line = venue.accept_live().await;
    line.send(trades("snapshot", [1])).await;
    line.send(book("snapshot", 1_010, true)).await;
    venue.until(|report| btc(report).state == SymbolState::Live).await;
    assert_eq!(venue.trade_ids(1).await, [1]);

    line.send(book("update", 1_009, false)).await;
    let gap = Gap::Book(BookGap::Checksum);
    assert!(matches!(venue.news().await, FeedEvent::GapOpened { gap: named, .. } if named == gap));
    let report = venue.until(|report| btc(report).checksums_failed == 1).await;
    assert!(matches!(btc(&report).state, SymbolState::Gap { .. }));
    assert_eq!((btc(&report).best_ask, btc(&report).gaps_open), (None, 1));

    for method in ["unsubscribe", "subscribe"] {
        let request = line.asked(method, "book").await;
        line.send(book("update", 1_008, true)).await; // Still under way: of the broken book.
        line.acknowledge(&request).await;
    }
    line.send(book("snapshot", 1_020, true)).await;
    assert!(matches!(venue.news().await, FeedEvent::GapClosed { gap: named, .. } if named == gap));
    let report = venue.until(|report| btc(report).state == SymbolState::Live).await;
    assert_eq!(btc(&report).best_ask, Some(Level { price: 1_020, qty: 100 }));
}

#[tokio::test(start_paused = true)]
async fn a_book_whose_snapshot_was_lost_is_asked_for_again() {
    let mut venue = venue(None);
    let mut line = venue.accept_live().await;
    line.send(book("update", 1_009, true)).await;
    for method in ["unsubscribe", "subscribe"] {
        let request = line.asked(method, "book").await;
        line.acknowledge(&request).await;
    }
    line.send(trades("snapshot", [1])).await;
    line.send(book("snapshot", 1_020, true)).await;
    let report = venue.until(|report| btc(report).state == SymbolState::Live).await;
    assert_eq!((btc(&report).resyncs, report.connections), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_venue_that_answers_and_sends_no_data_moves_no_watermark() {
    let mut venue = venue(None);
    let mut line = venue.accept_live().await;
    line.send(trades("snapshot", [1])).await;
    for second in 2..10 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let time = format!("2026-07-10T00:00:{second:02}.000000Z");
        line.send(json!({"method":"pong","time_out":time})).await;
    }
    venue.until(|report| report.phase == Phase::Disconnected).await;
    let mut marks = Vec::new();
    while let Ok(event) = venue.feed.events.try_recv() {
        if let FeedEvent::Watermark { at_us, .. } = event {
            marks.push(at_us / 1_000_000 - NOON_MS / 1_000);
        }
    }
    assert_eq!(marks, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn too_many_resyncs_begin_the_connection_again() {
    let mut venue = venue(None);
    let mut line = venue.accept_live().await;
    line.send(book("snapshot", 1_010, true)).await;
    for _ in 0..7 {
        line.send(book("snapshot", 1_010, false)).await;
    }
    let begun = Instant::now();
    line.drained().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "it was the count, not a deadline");
    let mut line = venue.accept_live().await;
    line.send(trades("snapshot", [1])).await;
    line.send(book("snapshot", 1_010, true)).await;
    let report = venue.until(|report| btc(report).state == SymbolState::Live).await;
    assert_eq!((report.connections, btc(&report).checksums_failed), (2, 7));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_alone_do_not_keep_a_connection() {
    let mut venue = venue(None);
    let mut line = venue.accept_live().await;
    line.send(trades("snapshot", [1])).await;
    line.send(book("snapshot", 1_010, true)).await;
    venue.until(|report| btc(report).state == SymbolState::Live).await;
    let silent_from = Instant::now();
    let beating = async {
        loop {
            if line.0.send(Message::text(r#"{"channel":"heartbeat"}"#)).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let stale = async {
        venue.until(|report| report.phase == Phase::Disconnected && report.connections == 1).await
    };
    let report = tokio::select! {
        report = stale => report,
        () = beating => panic!("the pipe cannot close before the report says why"),
    };
    assert!((10..=11).contains(&silent_from.elapsed().as_secs()));
    assert!(matches!(btc(&report).state, SymbolState::Stale { .. }));
    assert!(!report.summary(BootTime::default()).live);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_nobody_acknowledges_is_not_waited_for_for_ever() {
    let mut venue = venue(None);
    let begun = Instant::now();
    let mut line = venue.accept().await;
    line.asked("subscribe", "instrument").await;
    line.send(instruments()).await;
    line.drained().await;
    assert!((10..=11).contains(&begun.elapsed().as_secs()));
    venue.accept_live().await;
}

#[tokio::test(start_paused = true)]
async fn precision_comes_over_rest_when_the_stream_does_not_tell() {
    let mut venue = venue(None);
    let pair = json!({"error":[],"result":{"XXBTZUSD":
        {"pair_decimals":1,"lot_decimals":8,"status":"online"}}});
    let answers = venue.listing.answers.clone();
    answers.lock().expect("a lock").insert("/0/public/AssetPairs", pair.to_string());
    let mut line = venue.accept().await;
    line.asked("subscribe", "instrument").await;
    let request = line.asked("subscribe", "trade").await;
    line.acknowledge(&request).await;
    line.send(trades("snapshot", [1])).await;
    assert_eq!(venue.trade_ids(1).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_symbol_is_said_and_the_reconnects_slow_down() {
    let mut venue = venue(None);
    let mut moments = Vec::new();
    for _ in 0..14 {
        let mut line = venue.accept().await;
        moments.push(Instant::now());
        line.asked("subscribe", "instrument").await;
        line.send(instruments()).await;
        for channel in ["trade", "book"] {
            let request = line.asked("subscribe", channel).await;
            line.send(json!({"error":"Currency pair not supported BTC/USD","method":"subscribe",
                "success":false,"symbol":"BTC/USD","req_id":request["req_id"]}))
                .await;
        }
        line.drained().await;
    }
    let report = venue.feed.report.borrow().clone();
    assert_eq!(btc(&report).refusal.as_deref(), Some("Currency pair not supported BTC/USD"));
    assert_eq!(btc(&report).state, SymbolState::Refused);
    // Ten attempts in a burst, then one each five seconds.
    let seconds: Vec<u64> = moments.iter().map(|at| (*at - moments[0]).as_secs()).collect();
    assert_eq!(seconds, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 10, 15, 20]);
}

#[tokio::test(start_paused = true)]
async fn unreadable_frames_are_counted_and_cost_the_book_not_the_connection() {
    let mut venue = venue(None);
    let mut line = venue.accept_live().await;
    line.send(trades("snapshot", [1])).await;
    line.send(book("snapshot", 1_010, true)).await;
    venue.until(|report| btc(report).state == SymbolState::Live).await;
    line.0.send(Message::text("{\"channel\":\"book\",\"ty")).await.expect("the pipe takes it");
    line.0.send(Message::binary(vec![0xff, 0x00])).await.expect("the pipe takes it");
    line.send(json!({"channel":"tomorrow"})).await;
    let report = venue.until(|report| report.unknown == 1).await;
    assert_eq!((report.quarantined, report.connections, btc(&report).resyncs), (2, 1, 1));
    let opened = Gap::Book(BookGap::Unreadable);
    assert_eq!(venue.trade_ids(1).await, [1]);
    assert!(matches!(venue.news().await, FeedEvent::GapOpened { gap, .. } if gap == opened));
}

#[tokio::test(start_paused = true)]
async fn a_venue_clock_far_ahead_moves_no_watermark() {
    let mut venue = venue(None);
    let mut line = venue.accept_live().await;
    line.send(trades("snapshot", [1])).await;
    line.send(json!({"method":"pong","time_out":"2027-01-01T00:00:00.000000Z"})).await;
    assert_eq!(venue.trade_ids(1).await, [1]);
    assert!(matches!(venue.event().await, FeedEvent::Watermark { at_us, .. }
        if at_us == NOON_MS * 1_000 + 1_000_000));
}

#[tokio::test(start_paused = true)]
async fn a_slow_consumer_loses_nothing() {
    let mut venue = venue(None);
    let mut line = venue.accept_live().await;
    let count = 2 * crate::ingest::session::EVENTS_MAX as u64;
    let sending = tokio::spawn(async move {
        for first in (1..=count).step_by(64) {
            let row = |id: u64| {
                json!({"symbol":"BTC/USD","side":"buy","price":1.5,"qty":1,
                "trade_id":id,"timestamp":"2026-07-10T00:00:00.5Z"})
            };
            let data: Vec<Value> = (first..first + 64).map(row).collect();
            line.send(json!({"channel":"trade","type":"update","data":data})).await;
        }
        line
    });
    tokio::time::sleep(Duration::from_secs(5)).await; // Nobody reads, on the paused clock.
    let ids = venue.trade_ids(count as usize).await;
    assert_eq!(ids, (1..=count).collect::<Vec<_>>());
    sending.await.expect("all sent");
}
