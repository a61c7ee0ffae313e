//! Recorded frames that other projects published (`samples/README.md` beside the checkout).

use std::fs;
use std::io::Read;
use std::path::PathBuf;

/// `None`, and a line that says so, where the recordings are not at hand.
pub fn read(name: &str) -> Option<String> {
    let dir = std::env::var_os("CRYPTORUN_SAMPLES").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples")
    });
    let path = dir.join(name);
    if !path.exists() {
        eprintln!("skipped: no recording {name} (set CRYPTORUN_SAMPLES)");
        return None;
    }
    let bytes = fs::read(&path).expect("a readable recording");
    let mut text = String::new();
    if name.ends_with(".gz") {
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).expect("gzip");
    } else {
        text = String::from_utf8(bytes).expect("text");
    }
    Some(text)
}
