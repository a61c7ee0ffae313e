//! Every decoder of this crate by name, for whoever feeds them arbitrary bytes (`chaos/fuzz`).

use crate::ingest::decimal::parse_fixed;
use crate::ingest::kraken::Kraken;
use crate::ingest::kraken::v1::BookFrame;
use crate::ingest::model::Symbol;
use crate::ingest::venue::{Venue, VenueEvent};
use crate::journal::Note;
use crate::queue;
use crate::settings::read_worker_text;
use crate::warm::batch::{self, Batch};
use crate::warm::{fork, log, wire};
use bytes::Bytes;
use cryptorun_platform::decoders::Decoder;

pub const ALL: &[(&str, Decoder)] = &[
    ("batch", read_batch),
    ("batch_log", batch_log),
    ("fork", read_fork),
    ("queue", queue::decode_any),
    ("worker_wire", worker_wire),
    ("kraken", kraken),
    ("kraken_rest", kraken_rest),
    ("worker_yaml", worker_yaml),
];

fn read_batch(bytes: &[u8]) {
    if let Ok(batch) = Batch::decode(bytes) {
        assert_eq!(batch.encode(), bytes, "two encodings of one batch");
        assert_eq!(batch::decode_header(bytes), Ok(batch.header));
    }
    if let Ok(row) = batch::decode_row(bytes) {
        assert_eq!(batch::encode_row(&row), bytes, "two encodings of one row");
    }
}

/// Entries as a log hands them out: kind, length, body.
fn batch_log(bytes: &[u8]) {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while let Some((&[kind, low, high], after)) = rest.split_first_chunk() {
        let (body, after) =
            after.split_at(usize::from(u16::from_le_bytes([low, high])).min(after.len()));
        entries.push((kind % 8, Bytes::copy_from_slice(body)));
        rest = after;
    }
    log::replay_any(&entries);
    if let Ok(note) = Note::decode(bytes) {
        assert_eq!(Note::decode(&note.encode()), Ok(note));
    }
}

fn read_fork(bytes: &[u8]) {
    let _ = fork::read(bytes);
    let mut whole = bytes.to_vec();
    whole.extend(crc32c::crc32c(bytes).to_le_bytes());
    let _ = fork::read(&whole);
}

fn worker_wire(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    let _ = wire::asked::<wire::PositionRequest>(&body);
    let _ = wire::asked::<wire::FetchRequest>(&body);
    let _ = wire::asked::<wire::TailRequest>(&body);
    let _ = wire::answered(&body);
}

/// Frames of one session, a line each.
fn kraken(bytes: &[u8]) {
    let mut venue = Kraken::new(10);
    let mut events = Vec::new();
    for frame in bytes.split(|byte| *byte == b'\n') {
        let _ = venue.decode(frame, &mut events);
        for event in events.drain(..) {
            if let VenueEvent::Instrument(instrument) = event {
                venue.learn(instrument);
            }
        }
        let _ = BookFrame::read(frame);
        let _ = std::str::from_utf8(frame).map(|text| parse_fixed(text, 8));
    }
}

fn kraken_rest(bytes: &[u8]) {
    let symbol: Result<Symbol, _> = "BTC/USD".parse();
    let Ok(symbol) = symbol else { return };
    let mut venue = Kraken::new(10);
    for body in bytes.split(|byte| *byte == b'\n') {
        if let Ok(instrument) = venue.decode_instrument(&symbol, body) {
            venue.learn(instrument);
        }
        let _ = venue.decode_trades(&symbol, body);
    }
}

fn worker_yaml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = read_worker_text("fuzz.yaml", text);
}
