//! Coverage-guided fuzzing of every decoder, by libFuzzer: `run` beside it says how.
//!
//! One program for all: `CRYPTORUN_DECODER` names the one that gets the bytes; without it every name
//! is printed. A panic, a stack overflow, memory beyond the limit or a hang ends the run and leaves
//! the input behind.

#![no_main]

use cryptorun_platform::decoders::Decoder;
use libfuzzer_sys::{Corpus, fuzz_target};
use std::sync::OnceLock;

fn all() -> impl Iterator<Item = (&'static str, Decoder)> {
    let lists = [
        cryptorun_platform::decoders::ALL,
        cryptorun_raft::decoders::ALL,
        cryptorun_worker::decoders::ALL,
        cryptorun_control::decoders::ALL,
        cryptorun_cli::decoders::ALL,
    ];
    lists.into_iter().flatten().copied()
}

static CHOSEN: OnceLock<Decoder> = OnceLock::new();

fn choose() {
    let name = std::env::var("CRYPTORUN_DECODER").unwrap_or_default();
    match all().find(|(known, _)| *known == name) {
        Some((_, decoder)) => drop(CHOSEN.set(decoder)),
        None => {
            all().for_each(|(name, _)| println!("{name}"));
            std::process::exit(if name.is_empty() { 0 } else { 2 });
        }
    }
}

// Chosen before libFuzzer begins: it takes a later exit for a crash.
fuzz_target!(init: choose(), |bytes: &[u8]| -> Corpus {
    if let Some(decoder) = CHOSEN.get() {
        decoder(bytes);
    }
    Corpus::Keep
});
