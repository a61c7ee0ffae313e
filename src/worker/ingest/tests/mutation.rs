//! What damage does: a dropped update is found, a damaged frame is quarantined, nothing panics.

use proptest::prelude::*;

use super::replay::{Recording, events, kraken};
use super::{samples, symbol};
use crate::ingest::book::Book;
use crate::ingest::model::Instrument;
use crate::ingest::venue::{BookMessage, Check, Venue, VenueEvent};

/// Each recorded update is left out in turn; the next frame's checksum has to notice.
///
/// An update whose levels the very next one sets again leaves no trace: with or without it the
/// book is the same, and nothing was lost (120 of 508 here, the best price being redrawn). Of the
/// drops that leave a wrong book behind, the share noticed at once is what counts.
#[test]
fn a_dropped_update_is_noticed_by_the_next_checksum() {
    let Some(text) = samples::read("python-kraken-sdk/orderbook-v2.json.gz") else { return };
    let recording: Recording<'_> = serde_json::from_str(&text).expect("a recording");
    let mut venue = kraken();
    let messages: Vec<BookMessage> = std::iter::once(recording.init)
        .chain(recording.updates)
        .flat_map(|frame| events(&mut venue, frame.get()))
        .filter_map(|event| match event {
            VenueEvent::Book(message) => Some(message),
            _ => None,
        })
        .collect();

    let mut book = Book::new(10);
    book.restart(&messages[0].bids, &messages[0].asks);
    let (mut noticed, mut wrong, mut trials) = (0, 0, 0);
    for pair in messages[1..].windows(2) {
        let [dropped, next] = pair else { continue };
        let mut damaged = book.clone();
        damaged.apply(&next.bids, &next.asks);
        book.apply(&dropped.bids, &dropped.asks);
        let mut whole = book.clone();
        whole.apply(&next.bids, &next.asks);

        trials += 1;
        let claimed = next.checksum.expect("every frame carries one");
        let failed = venue.check(&damaged, claimed) != Check::Passed;
        assert!(!failed || damaged != whole, "a false alarm: the book is as it should be");
        noticed += usize::from(failed);
        wrong += usize::from(damaged != whole);
    }
    assert_eq!((trials, wrong), (508, 388));
    assert!(noticed * 100 >= wrong * 99, "only {noticed} of {wrong} wrong books were noticed");
}

const FRAMES: [&str; 8] = [
    r#"{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":45283.5,"qty":0.10000000}],"asks":[],"checksum":3310070434,"timestamp":"2023-10-06T17:35:55.440295Z"}]}"#,
    r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":27000.5,"qty":0.00005100,"ord_type":"limit","trade_id":4665906,"timestamp":"2023-09-25T07:49:37.708706Z"}]}"#,
    r#"{"channel":"instrument","type":"snapshot","data":{"assets":[],"pairs":[{"symbol":"BTC/USD","status":"online","price_precision":1,"qty_precision":8}]}}"#,
    r#"{"method":"subscribe","result":{"channel":"book","depth":10,"snapshot":true,"symbol":"BTC/USD"},"success":true,"time_in":"2023-10-06T17:35:55.219022Z","time_out":"2023-10-06T17:35:55.219067Z"}"#,
    r#"{"error":"Currency pair not supported FOO/USD","method":"subscribe","success":false,"symbol":"FOO/USD","req_id":7}"#,
    r#"{"method":"pong","req_id":101,"time_in":"2023-09-24T14:10:23.799685Z","time_out":"2023-09-24T14:10:23.799703Z"}"#,
    r#"{"channel":"status","type":"update","data":[{"version":"2.0.0","system":"online","api_version":"v2","connection_id":12393906104898154338}]}"#,
    r#"{"channel":"heartbeat"}"#,
];

#[test]
fn each_known_kind_is_recognised() {
    let kinds: Vec<String> = FRAMES
        .iter()
        .flat_map(|frame| events(&mut kraken(), frame))
        .map(|event| format!("{event:?}").split([' ', '(', '{']).next().unwrap_or("").to_owned())
        .collect();
    assert_eq!(
        kinds,
        [
            "Book",
            "Trades",
            "Instrument",
            "Time",
            "Subscribed",
            "Refused",
            "Time",
            "Heartbeat",
            "Status",
            "Heartbeat"
        ]
    );
    assert_eq!(events(&mut kraken(), r#"{"channel":"tomorrow","data":7}"#), [VenueEvent::Unknown]);
    assert_eq!(events(&mut kraken(), r#"{"channel":"ticker"}"#), [VenueEvent::Ignored]);
    assert_eq!(events(&mut kraken(), "{}"), [VenueEvent::Unknown]);
}

#[test]
fn a_frame_with_one_bad_number_yields_nothing() {
    let mut venue = kraken();
    for (frame, names) in [
        (FRAMES[1].replace("0.00005100", "0.000051001"), "trade BTC/USD: qty"),
        (FRAMES[1].replace("27000.5", "\"27000.5\""), "trade BTC/USD: price"),
        (FRAMES[1].replace("sell", "short"), "side"),
        (FRAMES[1].replace("2023-09-25T", "1970-01-01 "), "timestamp"),
        (FRAMES[1].replace("BTC/USD", "ETH/USD"), "precision is not known"),
        (FRAMES[0].replace("\"update\"", "\"delta\""), "type"),
        (FRAMES[0].replace("0.10000000", "-1.0"), "level"),
        ("{\"channel\":\"trade\"".into(), "not a json message"),
    ] {
        let mut out = vec![VenueEvent::Heartbeat];
        let error = venue.decode(frame.as_bytes(), &mut out).expect_err("it is damaged");
        assert!(error.to_string().contains(names), "{error} does not name {names}");
        assert_eq!(out, [VenueEvent::Heartbeat]);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(frame in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = kraken().decode(&frame, &mut Vec::new());
    }

    #[test]
    fn damaged_frames_never_panic_and_are_all_or_nothing(
        which in 0..FRAMES.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..6),
    ) {
        let mut frame = FRAMES[which].as_bytes().to_vec();
        for (at, byte, how) in damage {
            if frame.is_empty() { break; }
            let at = at.index(frame.len());
            match how {
                0 => frame[at] = byte,
                1 => { frame.remove(at); }
                _ => frame.insert(at, byte),
            }
        }
        let mut venue = kraken();
        venue.learn(Instrument { symbol: symbol("ETH/USD"), price_scale: 2, qty_scale: 8, online: true });
        let mut out = Vec::new();
        if venue.decode(&frame, &mut out).is_err() {
            prop_assert!(out.is_empty());
        }
    }
}
