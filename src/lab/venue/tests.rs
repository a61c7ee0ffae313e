//! A venue as its clients see it: over sockets, checked by a small book of the tests' own that
//! works on the digits of the frames and computes CRC-32 bit by bit.

use super::*;
use crate::http;
use crate::protocol::VenueChannel;
use cryptorun_platform::clock::SystemClock;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Running {
    pub(super) websocket: SocketAddr,
    pub(super) rest: SocketAddr,
    control: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), VenueError>>,
}

pub(super) async fn start(frames: Option<PathBuf>) -> Running {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    start_with((any, any), frames).await
}

/// Where an earlier one listened.
pub(super) async fn start_at(addresses: (SocketAddr, SocketAddr)) -> Running {
    start_with(addresses, None).await
}

async fn start_with(
    (websocket, rest): (SocketAddr, SocketAddr),
    frames: Option<PathBuf>,
) -> Running {
    let settings = VenueSettings {
        name: "kraken".into(),
        websocket,
        rest,
        control: SocketAddr::from(([127, 0, 0, 1], 0)),
        seed: 42,
        rates: [Rates { book_per_second: 400, trades_per_second: 100 }; 2],
        frames,
        clock: Arc::new(SystemClock),
    };
    let venue = Venue::bind(settings).await.unwrap();
    let [websocket, rest, control] = venue.addresses().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(venue.run(stop.clone()));
    Running { websocket, rest, control, stop, task }
}

impl Running {
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    async fn client(&self, name: &str) -> Client {
        let url = format!("ws://{}/v2?client={name}", self.websocket);
        let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let mut client = Client { socket, tally: Tally::default() };
        let banner = client.next().await;
        assert_eq!(banner["channel"], "status");
        assert_eq!(banner["data"][0]["system"], "online");
        assert_eq!(banner["data"][0]["api_version"], "v2");
        client
    }

    pub(super) async fn fault(&self, fault: VenueFault) -> VenueFaultAnswer {
        http::post(self.control, "/fault", &fault, WITHIN).await.unwrap()
    }

    async fn rest(&self, path: &str) -> Value {
        http::get(self.rest, path, WITHIN).await.unwrap()
    }
}

struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    tally: Tally,
}

/// What a careful client at depth 10 has noticed in all frames it was sent.
#[derive(Default)]
struct Tally {
    book: Digits,
    wrong: u64,
    trades_missing: u64,
    last_trade: Option<u64>,
}

impl Tally {
    fn frame(&mut self, text: &str) {
        if let Some(right) = self.book.apply(text, 10) {
            self.wrong += u64::from(!right);
            return;
        }
        let frame: Value = serde_json::from_str(text).unwrap();
        for trade in frame["data"].as_array().into_iter().flatten() {
            let Some(id) = trade["trade_id"].as_u64() else { continue };
            self.trades_missing += self.last_trade.map_or(0, |last| id - last - 1);
            self.last_trade = Some(id);
        }
    }
}

impl Client {
    async fn text(&mut self) -> String {
        loop {
            let message = tokio::time::timeout(WITHIN, self.socket.next()).await.unwrap();
            if let Message::Text(text) = message.unwrap().unwrap() {
                return text.as_str().to_owned();
            }
        }
    }

    async fn next(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    async fn ask(&mut self, request: &str) {
        self.socket.send(Message::text(request)).await.unwrap();
    }

    async fn subscribe(&mut self, channel: &str, more: &str) -> Value {
        self.ask(&format!(
            r#"{{"method":"subscribe","params":{{"channel":"{channel}","symbol":["BTC/USD"]{more}}},"req_id":7}}"#
        ))
        .await;
        let ack = self.next().await;
        assert_eq!((&ack["success"], &ack["req_id"]), (&true.into(), &7.into()), "{ack}");
        ack
    }

    /// The ids of the next trade frame.
    async fn trade_ids(&mut self) -> Vec<u64> {
        loop {
            let frame = self.next().await;
            if frame["channel"] == "trade" {
                let trades = frame["data"].as_array().unwrap();
                return trades.iter().map(|trade| trade["trade_id"].as_u64().unwrap()).collect();
            }
        }
    }
}

/// A book of digits: prices and quantities are kept as the text they arrived as.
#[derive(Default)]
struct Digits {
    bids: BTreeMap<u64, (String, String)>,
    asks: BTreeMap<u64, (String, String)>,
}

#[derive(serde::Deserialize)]
struct Frame<'a> {
    #[serde(default)]
    channel: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(serde::Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    bids: Vec<Level<'a>>,
    #[serde(borrow)]
    asks: Vec<Level<'a>>,
    checksum: u32,
}

#[derive(serde::Deserialize)]
struct Level<'a> {
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    qty: &'a RawValue,
}

impl Digits {
    /// Applies a frame and says whether its checksum is right; `None` for other channels.
    fn apply(&mut self, frame: &str, depth: usize) -> Option<bool> {
        let frame: Frame = serde_json::from_str(frame).unwrap();
        if frame.channel != "book" {
            return None;
        }
        if frame.kind == "snapshot" {
            *self = Self::default();
        }
        let data: Vec<Data> = serde_json::from_str(frame.data.unwrap().get()).unwrap();
        for data in &data {
            set(&mut self.bids, &data.bids);
            set(&mut self.asks, &data.asks);
            while self.bids.len() > depth {
                self.bids.pop_first();
            }
            while self.asks.len() > depth {
                self.asks.pop_last();
            }
        }
        Some(self.crc() == data[0].checksum)
    }

    fn crc(&self) -> u32 {
        let top = self.asks.values().take(10).chain(self.bids.values().rev().take(10));
        let text: String = top.map(|(price, qty)| format!("{price}{qty}")).collect();
        let mut crc = u32::MAX;
        for byte in text.bytes() {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            }
        }
        !crc
    }
}

fn set(side: &mut BTreeMap<u64, (String, String)>, levels: &[Level]) {
    let strip = |text: &str| text.replace('.', "").trim_start_matches('0').to_owned();
    for level in levels {
        assert_eq!(level.price.get().split_once('.').unwrap().1.len(), 1, "price decimals");
        assert_eq!(level.qty.get().split_once('.').unwrap().1.len(), 8, "quantity decimals");
        let (price, qty) = (strip(level.price.get()), strip(level.qty.get()));
        let key = price.parse().unwrap();
        if qty.is_empty() {
            side.remove(&key);
        } else {
            side.insert(key, (price, qty));
        }
    }
}

#[tokio::test]
async fn every_checksum_verifies_at_every_depth() {
    let venue = start(None).await;
    for depth in [10, 25, 100] {
        let mut client = venue.client("one").await;
        let ack = client.subscribe("book", &format!(r#","depth":{depth}"#)).await;
        assert_eq!(ack["result"]["depth"], depth);
        let mut book = Digits::default();
        for frame in 0..200 {
            let text = client.text().await;
            assert_ne!(book.apply(&text, depth), Some(false), "frame {frame}: {text}");
            if frame == 0 {
                assert!(text.contains(r#""type":"snapshot""#));
                assert_eq!((book.bids.len(), book.asks.len()), (depth, depth));
            }
        }
        assert!(book.bids.last_key_value() < book.asks.first_key_value(), "crossed");
    }
    venue.stop().await;
}

#[tokio::test]
async fn clients_and_rest_agree_on_the_trades_and_a_restarted_venue_goes_on() {
    let venue = start(None).await;
    let mut one = venue.client("one").await;
    let mut two = venue.client("two").await;
    let ack = one.subscribe("trade", r#","snapshot":true"#).await;
    assert_eq!(ack["result"]["snapshot"], true);
    two.subscribe("trade", "").await;
    let mut seen = one.trade_ids().await;
    assert_eq!(seen.len(), 50, "a snapshot is the last fifty");
    while seen.len() < 90 {
        seen.extend(one.trade_ids().await);
    }
    assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seen:?}");
    let first_of_two = two.trade_ids().await[0];
    assert!(seen.contains(&first_of_two), "{first_of_two} in {seen:?}");
    let before = rows(&venue, "since=0&count=3").await;
    assert_eq!(before[0][6], 1, "history starts with the first trade ever");
    venue.stop().await;

    let again = start(None).await;
    let mut client = again.client("one").await;
    client.subscribe("trade", r#","snapshot":true"#).await;
    let mut after = client.trade_ids().await;
    after.extend(client.trade_ids().await);
    assert!(after.last() > seen.last(), "ids go on");
    assert_eq!(rows(&again, "since=0&count=3").await, before, "history is the same");

    // What was published before the restart is served after it, page by page, without a hole.
    let newest = rows(&again, "count=120").await;
    let (from, to) = (newest[0][6].as_u64().unwrap(), newest[119][6].as_u64().unwrap());
    let mut cursor = format!("{:.0}000", newest[0][2].as_f64().unwrap() * 1e6);
    let mut paged = vec![from];
    while paged.last() < Some(&to) {
        let path = format!("/0/public/Trades?pair=XBTUSD&since={cursor}&count=7");
        let page = again.rest(&path).await;
        cursor = page["result"]["last"].as_str().unwrap().to_owned();
        let page = page["result"]["XXBTZUSD"].as_array().unwrap();
        assert!(!page.is_empty(), "nothing after {cursor}");
        paged.extend(page.iter().map(|row| row[6].as_u64().unwrap()));
    }
    assert!(paged.windows(2).all(|pair| pair[1] == pair[0] + 1), "{paged:?}");
    again.stop().await;
}

async fn rows(venue: &Running, query: &str) -> Vec<Value> {
    let page = venue.rest(&format!("/0/public/Trades?pair=XBTUSD&{query}")).await;
    assert_eq!(page["error"], Value::Array(Vec::new()), "{page}");
    page["result"]["XXBTZUSD"].as_array().unwrap().clone()
}

/// A worker closes its candles by the venue's time: nothing earlier may come after it.
#[tokio::test]
async fn no_trade_comes_after_a_time_that_lies_behind_it() {
    let venue = start(None).await;
    let mut client = venue.client("one").await;
    client
        .ask(
            r#"{"method":"subscribe","params":{"channel":"trade","symbol":["BTC/USD","ETH/USD"]}}"#,
        )
        .await;
    // Of two pairs' trades one may be as late as the other; a time that was told lies before both.
    let (mut told, mut latest) = (String::new(), String::new());
    let (mut trades, mut times) = (0, 0);
    while trades < 300 || times < 30 {
        let frame = client.next().await;
        if let Some(time) = frame["time_out"].as_str() {
            told = told.max(time.to_owned());
            times += 1;
            continue;
        }
        for trade in frame["data"].as_array().into_iter().flatten() {
            let at = trade["timestamp"].as_str().unwrap();
            assert!(at > told.as_str() && at >= latest.as_str(), "{at} after {told}, {latest}");
            latest = at.to_owned();
            trades += 1;
        }
        if trades % 3 == 0 {
            client.ask(r#"{"method":"ping"}"#).await;
        }
    }
    venue.stop().await;
}

#[tokio::test]
async fn bad_requests_are_answered_as_kraken_answers_them() {
    let venue = start(None).await;
    let mut client = venue.client("one").await;
    for (request, error) in [
        ("what?", "Malformed request"),
        (r#"{"method":"buy"}"#, "Event(s) not found"),
        (
            r#"{"method":"subscribe","params":{"channel":"book","symbol":["XBT/USD"]}}"#,
            "Currency pair not supported XBT/USD",
        ),
        (
            r#"{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"],"depth":11}}"#,
            "Subscription depth not supported",
        ),
        (
            r#"{"method":"unsubscribe","params":{"channel":"book","symbol":["BTC/USD"]}}"#,
            "Subscription Not Found",
        ),
        (
            r#"{"method":"subscribe","params":{"channel":"gossip","symbol":["BTC/USD"]}}"#,
            "Channel not supported gossip",
        ),
    ] {
        client.ask(request).await;
        let answer = client.next().await;
        assert_eq!(answer["error"], error, "{request}");
        assert_eq!(answer["success"], false);
        assert!(answer["time_in"].is_string() && answer["time_out"].is_string());
    }
    client.ask(r#"{"method":"ping","req_id":5}"#).await;
    let pong = client.next().await;
    assert_eq!((&pong["method"], &pong["req_id"]), (&"pong".into(), &5.into()));

    client.ask(r#"{"method":"subscribe","params":{"channel":"instrument"}}"#).await;
    assert_eq!(client.next().await["result"]["channel"], "instrument");
    let instruments = client.next().await;
    let eth = &instruments["data"]["pairs"][1];
    assert_eq!((&eth["symbol"], &eth["price_precision"]), (&"ETH/USD".into(), &2.into()));
    // Nothing else is subscribed: the next frame is a heartbeat.
    assert_eq!(client.next().await["channel"], "heartbeat");

    client.subscribe("book", "").await;
    client
        .ask(r#"{"method":"unsubscribe","params":{"channel":"book","symbol":["BTC/USD"]}}"#)
        .await;
    while client.next().await["method"] != "unsubscribe" {}
    assert_eq!(client.next().await["channel"], "heartbeat");
    venue.stop().await;
}

#[tokio::test]
async fn rest_answers_in_krakens_shape() {
    let venue = start(None).await;
    assert_eq!(
        venue.rest("/0/public/Trades?pair=XBTEUR").await["error"][0],
        "EQuery:Unknown asset pair"
    );
    assert_eq!(venue.rest("/0/public/SystemStatus").await["result"]["status"], "online");
    assert!(venue.rest("/0/public/Time").await["result"]["unixtime"].as_u64() > Some(1 << 30));
    let pairs = venue.rest("/0/public/AssetPairs?pair=XBTUSD,ETHUSD").await;
    assert_eq!(pairs["result"]["XXBTZUSD"]["pair_decimals"], 1);
    assert_eq!(pairs["result"]["XETHZUSD"]["wsname"], "ETH/USD");
    let depth = venue.rest("/0/public/Depth?pair=XBTUSD&count=3").await;
    assert_eq!(depth["result"]["XXBTZUSD"]["asks"].as_array().map(Vec::len), Some(3));
    venue.stop().await;
}

#[tokio::test]
async fn ordered_faults_happen_to_the_named_client_and_are_counted() {
    let venue = start(None).await;
    let mut hit = venue.client("hit").await;
    let mut spared = venue.client("spared").await;
    hit.subscribe("book", "").await;
    hit.subscribe_quietly("trade").await;
    spared.subscribe("book", "").await;
    spared.subscribe_quietly("trade").await;
    while hit.tally.last_trade.is_none() {
        hit.careful().await;
    }
    let client = Some("hit".to_owned());
    let answer =
        venue.fault(VenueFault::CorruptChecksum { frames: 2, client: client.clone() }).await;
    assert_eq!(answer.connections, 2);
    venue
        .fault(VenueFault::Drop { channel: VenueChannel::Trade, frames: 3, client: client.clone() })
        .await;
    for _ in 0..400 {
        hit.careful().await;
        spared.careful().await;
    }
    assert_eq!((spared.tally.wrong, spared.tally.trades_missing), (0, 0));
    assert_eq!(hit.tally.wrong, 2);
    let status: VenueStatus = http::get(venue.control, "/status", WITHIN).await.unwrap();
    assert_eq!(status.faults.checksums_corrupted, 2);
    assert_eq!(status.faults.trade_frames_dropped, 3);
    assert_eq!(status.faults.trades_dropped, hit.tally.trades_missing);

    venue.fault(VenueFault::Stall { ms: 3_600_000, client }).await;
    let mut late = venue.client("hit").await;
    late.subscribe("book", "").await;
    late.ask(r#"{"method":"ping"}"#).await;
    assert_eq!(late.next().await["method"], "pong", "acknowledged, yet no snapshot before this");
    venue.fault(VenueFault::Disconnect { client: Some("spared".into()) }).await;
    while let Some(Ok(_)) = tokio::time::timeout(WITHIN, spared.socket.next()).await.unwrap() {}
    venue.stop().await;
}

impl Client {
    /// Subscribes while frames of another channel arrive.
    async fn subscribe_quietly(&mut self, channel: &str) {
        self.ask(&format!(
            r#"{{"method":"subscribe","params":{{"channel":"{channel}","symbol":["BTC/USD"]}}}}"#
        ))
        .await;
        while self.careful().await["method"] != "subscribe" {}
    }

    /// Reads a frame as a careful client does. All frames since the snapshot must go through here.
    async fn careful(&mut self) -> Value {
        let text = self.text().await;
        self.tally.frame(&text);
        serde_json::from_str(&text).unwrap()
    }
}

fn sample(name: &str) -> Option<Vec<u8>> {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/samples");
    let samples = std::env::var_os("CRYPTORUN_SAMPLES").unwrap_or(here.into());
    let read = std::fs::read(PathBuf::from(samples).join(name)).ok();
    if read.is_none() {
        eprintln!("skipped: no recording {name} (set CRYPTORUN_SAMPLES)");
    }
    read
}

/// 510 frames that Kraken sent in 2023, whose publisher lost the trailing zeros.
#[tokio::test]
async fn a_recording_plays_in_a_loop_and_verifies_all_the_way_round() {
    use std::io::Read;
    let Some(packed) = sample("python-kraken-sdk/orderbook-v2.json.gz") else { return };
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut text).unwrap();
    let recording: BTreeMap<String, &RawValue> = serde_json::from_str(&text).unwrap();
    let updates: Vec<&RawValue> = serde_json::from_str(recording["updates"].get()).unwrap();
    let frames: Vec<_> = std::iter::once(recording["init"]).chain(updates).collect();
    assert_eq!(frames.len(), 510);
    let line = |(index, frame): (usize, &&RawValue)| {
        let frame = frame.get().replace('\n', "");
        format!("{{\"recv_ns\":{},\"frame\":{frame}}}\n", index * 1_000_000)
    };
    let lines: String = frames.iter().enumerate().map(line).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines).unwrap();

    let venue = start(Some(file.path().to_path_buf())).await;
    let mut client = venue.client("one").await;
    let mut shallower = venue.client("two").await;
    shallower
        .ask(
            r#"{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"],"depth":25}}"#,
        )
        .await;
    assert_eq!(shallower.next().await["error"], "Subscription depth not supported");
    client.subscribe("book", "").await;
    let mut book = Digits::default();
    let mut right = 0;
    while right < 700 {
        match book.apply(&client.text().await, 10) {
            Some(verified) => assert!(verified, "frame {right}"),
            None => continue,
        }
        right += 1;
    }
    let status: VenueStatus = http::get(venue.control, "/status", WITHIN).await.unwrap();
    assert_eq!(status.pairs["BTC/USD"].book, "recorded");
    assert_eq!(status.pairs["ETH/USD"].book, "generated");
    venue.stop().await;

    let holed: String = frames.iter().enumerate().filter(|(n, _)| *n != 200).map(line).collect();
    let (bad_line, reason) = tape::load(&holed).unwrap_err();
    assert!(bad_line > 200 && reason.ends_with("a frame is missing"), "{bad_line}: {reason}");
}

/// Kraken's own worked example through this venue's checksum and writer, and back as a recording.
#[test]
fn the_documented_vector_is_reproduced() {
    let Some(text) = sample("kraken-docs/checksum-vectors.json") else { return };
    let text = String::from_utf8(text).unwrap();
    let from = text.find(r#"{"channel""#).unwrap();
    let to = text.find(r#","checksum_input""#).unwrap();
    let frame = &text[from..to];
    let mut tapes = tape::load(&format!("{{\"recv_ns\":1,\"frame\":{frame}}}")).unwrap();
    let mut book = book::Book::default();
    let _ = tapes[0].as_mut().unwrap().step(&mut book);
    assert_eq!(book::checksum(&book.window(10)), 3_310_070_434);
    let written = frames::book(&PAIRS[0], "snapshot", &book.window(10), 3_310_070_434, 0);
    assert!(written.starts_with(frame.split(r#","checksum""#).next().unwrap()));
    assert_eq!(Digits::default().apply(&written, 10), Some(true));
}
