//! Recorded frames through decoder, book and checksum: the counts are those of the recordings'
//! own README, measured by other people on other code.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{samples, symbol};
use crate::ingest::book::Book;
use crate::ingest::decimal::{decimals_of, parse_fixed};
use crate::ingest::kraken::checksum::{book_checksum, text_checksum};
use crate::ingest::kraken::{Kraken, v1};
use crate::ingest::model::{Instrument, Side};
use crate::ingest::venue::{Check, Venue, VenueEvent};

#[derive(Deserialize)]
pub struct Recording<'a> {
    #[serde(borrow)]
    pub init: &'a RawValue,
    #[serde(borrow)]
    pub updates: Vec<&'a RawValue>,
}

/// A decoder that knows BTC/USD as the venue declares it.
pub fn kraken() -> Kraken {
    let mut venue = Kraken::new(10);
    venue.learn(Instrument {
        symbol: symbol("BTC/USD"),
        price_scale: 1,
        qty_scale: 8,
        online: true,
    });
    venue
}

pub fn events(venue: &mut Kraken, frame: &str) -> Vec<VenueEvent> {
    let mut out = Vec::new();
    venue.decode(frame.as_bytes(), &mut out).expect("a recorded frame decodes");
    out
}

#[test]
fn every_v2_checksum_agrees_at_the_declared_precision() {
    let Some(text) = samples::read("python-kraken-sdk/orderbook-v2.json.gz") else { return };
    let recording: Recording<'_> = serde_json::from_str(&text).expect("a recording");
    let mut venue = kraken();
    let mut book = Book::new(10);
    let (mut passed, mut checked) = (0, 0);
    for frame in std::iter::once(recording.init).chain(recording.updates) {
        for event in events(&mut venue, frame.get()) {
            let VenueEvent::Book(message) = event else { panic!("only book frames were recorded") };
            if message.snapshot {
                book.restart(&message.bids, &message.asks);
            } else {
                book.apply(&message.bids, &message.asks);
            }
            checked += 1;
            let claimed = message.checksum.expect("every frame carries one");
            passed += usize::from(venue.check(&book, claimed) == Check::Passed);
        }
    }
    assert_eq!((passed, checked), (510, 510));
}

#[test]
fn the_same_v2_frames_at_another_precision_do_not_agree() {
    let Some(text) = samples::read("python-kraken-sdk/orderbook-v2.json.gz") else { return };
    let recording: Recording<'_> = serde_json::from_str(&text).expect("a recording");
    let mut venue = kraken();
    venue.learn(Instrument {
        symbol: symbol("BTC/USD"),
        price_scale: 2,
        qty_scale: 8,
        online: true,
    });
    let VenueEvent::Book(message) = events(&mut venue, recording.init.get()).remove(0) else {
        panic!("a book frame");
    };
    let mut book = Book::new(10);
    book.restart(&message.bids, &message.asks);
    let check = venue.check(&book, message.checksum.expect("a checksum"));
    assert!(matches!(check, Check::Failed { .. }));
}

/// Replays v1 frames; answers (agreeing, checked), by pair.
fn replay_v1<'a>(
    frames: impl Iterator<Item = &'a str>,
    depth: usize,
) -> BTreeMap<String, (usize, usize)> {
    struct Pair {
        book: Book,
        scales: (u8, u8),
    }
    let mut pairs: BTreeMap<String, Pair> = BTreeMap::new();
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for frame in frames {
        let Some(frame) = v1::BookFrame::read(frame.as_bytes()) else { continue };
        if frame.snapshot {
            // v1 writes every number of a pair with all its decimals, so any level declares them.
            let (price, qty) = frame.asks.first().expect("a level");
            let scales = (decimals_of(price).expect("digits"), decimals_of(qty).expect("digits"));
            pairs.insert(frame.pair.clone(), Pair { book: Book::new(depth), scales });
        }
        let pair = pairs.get_mut(&frame.pair).expect("a snapshot came first");
        let (price_scale, qty_scale) = pair.scales;
        let bids = v1::levels(&frame.bids, price_scale, qty_scale).expect("exact text");
        let asks = v1::levels(&frame.asks, price_scale, qty_scale).expect("exact text");
        if frame.snapshot {
            pair.book.restart(&bids, &asks);
            continue;
        }
        pair.book.apply(&bids, &asks);
        let count = counts.entry(frame.pair).or_default();
        count.1 += 1;
        count.0 += usize::from(Some(book_checksum(&pair.book)) == frame.checksum);
    }
    counts
}

fn total(counts: &BTreeMap<String, (usize, usize)>) -> (usize, usize) {
    counts.values().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
}

#[test]
fn every_v1_checksum_of_ten_pairs_at_depth_1000_agrees() {
    let Some(text) = samples::read("cryptofeed/KRAKEN.ws.50.0.gz") else { return };
    // Lines are `time: frame`; what was sent and the connection itself are marked by arrows.
    let frames = text.lines().filter_map(|line| line.split_once(": ").map(|(_, frame)| frame));
    let counts = replay_v1(frames, 1000);
    assert_eq!(total(&counts), (4_269, 4_269));
    assert_eq!(counts.len(), 10);
    assert_eq!(counts["XMR/USD"], (846, 846));
}

#[test]
fn every_v1_checksum_of_btc_at_depth_10_agrees() {
    let Some(text) = samples::read("python-kraken-sdk/orderbook-v1.json.gz") else { return };
    let recording: Recording<'_> = serde_json::from_str(&text).expect("a recording");
    let init: Vec<&RawValue> = serde_json::from_str(recording.init.get()).expect("frames");
    let frames = init.into_iter().chain(recording.updates).map(RawValue::get);
    assert_eq!(total(&replay_v1(frames, 10)), (979, 979));
}

#[test]
fn every_v1_checksum_of_the_hard_pairs_agrees() {
    let mut sum = (0, 0);
    for name in ["xdg-usd", "luna-eur", "gst-eur"] {
        let Some(text) = samples::read(&format!("gocryptotrader/kraken-v1-{name}.jsonl")) else {
            return;
        };
        let count = total(&replay_v1(text.lines(), 10));
        sum = (sum.0 + count.0, sum.1 + count.1);
    }
    assert_eq!(sum, (16, 16));
}

#[test]
fn the_venues_worked_examples_agree() {
    let Some(text) = samples::read("kraken-docs/checksum-vectors.json") else { return };

    /// price, volume, time
    type Row = (String, String, String);
    #[derive(Deserialize)]
    struct Vector<'a> {
        #[serde(borrow)]
        frame: Option<&'a RawValue>,
        book: Option<BTreeMap<String, Vec<Row>>>,
        checksum_input: String,
        checksum: u32,
    }
    let vectors: Vec<Vector<'_>> = serde_json::from_str(&text).expect("vectors");
    let mut agreed = 0;
    for vector in vectors {
        assert_eq!(crc32fast::hash(vector.checksum_input.as_bytes()), vector.checksum);
        if let Some(frame) = vector.frame {
            let VenueEvent::Book(message) = events(&mut kraken(), frame.get()).remove(0) else {
                panic!("a book frame");
            };
            assert_eq!(message.checksum, Some(vector.checksum));
            let mut book = Book::new(10);
            book.restart(&message.bids, &message.asks);
            assert_eq!(book_checksum(&book), vector.checksum);
            agreed += 1;
        }
        if let Some(book) = vector.book {
            let side = |name: &str| book[name].iter().map(|(p, v, _)| (p.as_str(), v.as_str()));
            assert_eq!(text_checksum(side("as"), side("bs")), vector.checksum);
            agreed += 1;
        }
    }
    assert_eq!(agreed, 2);
}

/// The recorded pairs' own expectations: values by number, sides as the taker's, times to the
/// microsecond. A trade snapshot yields trades here; that one difference is ours.
#[test]
fn frames_become_the_records_another_project_expects() {
    let Some(text) = samples::read("tardis-node/kraken-v2.json") else { return };

    #[derive(Deserialize)]
    struct Pair<'a> {
        #[serde(borrow)]
        frame: &'a RawValue,
        expected: Vec<Value>,
    }
    let pairs: Vec<Pair<'_>> = serde_json::from_str(&text).expect("pairs");
    assert_eq!(pairs.len(), 6);
    let mut venue = kraken();
    venue.learn(Instrument {
        symbol: symbol("AAPLx/USD"),
        price_scale: 2,
        qty_scale: 8,
        online: true,
    });
    for pair in pairs {
        for event in events(&mut venue, pair.frame.get()) {
            match event {
                VenueEvent::Trades { snapshot, trades } => {
                    assert_eq!(trades.len(), 1);
                    let trade = &trades[0];
                    let Some(expected) = pair.expected.first() else {
                        assert!(snapshot && trade.id == 122);
                        continue;
                    };
                    assert!(!snapshot);
                    assert_eq!(expected["id"], trade.id.to_string());
                    assert_eq!(expected["symbol"], trade.source.symbol.as_str());
                    assert_eq!(Some(trade.price), fixed(&expected["price"], 1));
                    assert_eq!(Some(trade.qty), fixed(&expected["amount"], 8));
                    assert_eq!((trade.taker, &expected["side"]), (Side::Buy, &Value::from("buy")));
                    assert_eq!(Some(trade.at_us), time(&expected["timestamp"]));
                }
                VenueEvent::Book(message) => {
                    let expected = pair.expected.first().expect("a book record");
                    let scale = if message.symbol.as_str() == "BTC/USD" { 1 } else { 2 };
                    assert_eq!(expected["symbol"], message.symbol.as_str());
                    assert_eq!(expected["isSnapshot"], message.snapshot);
                    assert_eq!(message.at_us, time(&expected["timestamp"]));
                    for (levels, side) in [(&message.bids, "bids"), (&message.asks, "asks")] {
                        let wanted = expected[side].as_array().expect("levels");
                        assert_eq!(levels.len(), wanted.len());
                        for (level, wanted) in levels.iter().zip(wanted) {
                            assert_eq!(Some(level.price), fixed(&wanted["price"], scale));
                            assert_eq!(Some(level.qty), fixed(&wanted["amount"], 8));
                        }
                    }
                }
                // Quotes are derived from the verified book, so the ticker is passed over.
                VenueEvent::Ignored => {
                    assert!(pair.expected.iter().all(|record| record["type"] == "book_ticker"));
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

fn fixed(number: &Value, scale: u8) -> Option<i64> {
    parse_fixed(&number.to_string(), scale).ok()
}

fn time(text: &Value) -> Option<u64> {
    crate::ingest::venue_time::rfc3339_us(text.as_str()?)
}
