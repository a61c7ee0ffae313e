//! Every decoder of this crate by name, for whoever feeds them arbitrary bytes (`chaos/fuzz`).
//!
//! Each takes any bytes and ends without a panic; where what was read can be written, it must read
//! back the same. A checksum would turn arbitrary bytes away at the door, so some make theirs right.

use crate::framed::wire::FrameReader;
use crate::identity::SpiffeId;
use crate::segments::decoders::{segment, segment_batches};
use crate::settings::{Reader, parse_duration, parse_size};
use futures_util::FutureExt as _;

/// Takes any bytes; panics where the decoder is wrong.
pub type Decoder = fn(&[u8]);

pub const ALL: &[(&str, Decoder)] = &[
    ("segment", segment),
    ("segment_batches", segment_batches),
    ("framed", framed),
    ("yaml", yaml),
    ("identity", identity),
];

fn framed(bytes: &[u8]) {
    let mut reader = FrameReader::new(bytes);
    // Bytes in memory are always ready.
    while let Some(Ok(Some(_))) = reader.next().now_or_never() {}
}

fn yaml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Reader::parse("fuzz.yaml", text);
    let _ = (parse_duration(text), parse_size(text));
}

fn identity(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(id) = text.parse::<SpiffeId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
