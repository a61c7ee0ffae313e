//! Every decoder of this crate by name, for whoever feeds them arbitrary bytes (`chaos/fuzz`).

use crate::forward::{Forwarded, Reply};
use crate::settings::{read_cluster_text, read_node_text, read_sources_text};
use cryptorun_platform::decoders::Decoder;

pub const ALL: &[(&str, Decoder)] = &[
    ("forwarded", forwarded),
    ("cluster_yaml", |bytes| text(bytes, |text| drop(read_cluster_text("fuzz.yaml", text, None)))),
    ("node_yaml", |bytes| text(bytes, |text| drop(read_node_text("fuzz.yaml", text)))),
    ("sources_yaml", |bytes| text(bytes, |text| drop(read_sources_text("fuzz.yaml", text)))),
];

fn forwarded(bytes: &[u8]) {
    let _ = serde_json::from_slice::<Forwarded>(bytes);
    let _ = serde_json::from_slice::<Reply>(bytes);
}

fn text(bytes: &[u8], read: fn(&str)) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        read(text);
    }
}
