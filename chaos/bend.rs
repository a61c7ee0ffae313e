//! Every decoder on bent forms of what it was written for: the kept corpus of `chaos/fuzz`, cut,
//! flipped, spliced and grown by a seed. Not guided by coverage, as that is; it needs no other build.

use crate::crash::{count_panics, guarded};
use cryptorun_platform::decoders::Decoder;
use cryptorun_platform::random::{Random, SeededRandom};
use std::io;
use std::path::{Path, PathBuf};

/// What one decoder was given.
#[derive(Debug)]
pub struct Bent {
    pub name: &'static str,
    pub inputs: usize,
    pub runs: u64,
    /// The first input that it panicked on, and how.
    pub wrong: Option<(Vec<u8>, String)>,
}

/// Numbers that lengths and counts go wrong at.
const EDGES: [u64; 6] = [0, 1, 0x7FFF_FFFF, 0xFFFF_FFFF, u64::MAX - 1, u64::MAX];

/// The corpus that is kept in the repository.
pub fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// Gives each decoder its corpus, then so many bent inputs.
pub fn bend(corpus: &Path, runs: u64, seed: u64) -> io::Result<Vec<Bent>> {
    count_panics();
    let lists = [
        cryptorun_platform::decoders::ALL,
        cryptorun_raft::decoders::ALL,
        cryptorun_worker::decoders::ALL,
        cryptorun_control::decoders::ALL,
    ];
    let all = lists.into_iter().flatten();
    all.map(|(name, decoder)| one(name, *decoder, &corpus.join(name), runs, seed)).collect()
}

fn one(name: &'static str, decoder: Decoder, dir: &Path, runs: u64, seed: u64) -> io::Result<Bent> {
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        kept.push(std::fs::read(entry?.path())?);
    }
    kept.sort(); // Folders come in any order.
    let random = SeededRandom::new(seed);
    let mut bent = Bent { name, inputs: kept.len(), runs: 0, wrong: None };
    let first = kept.iter().cloned();
    let more = (0..runs).map(|_| bent_form(&kept, &random));
    for input in first.chain(more) {
        bent.runs += 1;
        let took = guarded(|| {
            decoder(&input);
            Ok(())
        });
        if let Err(why) = took {
            bent.wrong = Some((input, why));
            break;
        }
    }
    Ok(bent)
}

fn bent_form(kept: &[Vec<u8>], random: &SeededRandom) -> Vec<u8> {
    let below = |n: usize| random.below(n.max(1) as u64) as usize;
    let mut bytes = kept.get(below(kept.len())).cloned().unwrap_or_default();
    for _ in 0..=below(4) {
        let at = below(bytes.len());
        match below(6) {
            0 => bytes.truncate(at),
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << below(8);
                }
            }
            2 => bytes.insert(at, below(256) as u8),
            3 => drop(bytes.splice(at..at, std::iter::repeat_n(below(256) as u8, below(40)))),
            4 => {
                let edge = EDGES[below(EDGES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][below(4)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&edge[..width]);
            }
            _ => {
                let other = kept.get(below(kept.len())).cloned().unwrap_or_default();
                bytes.truncate(at);
                bytes.extend_from_slice(&other[below(other.len()).min(other.len())..]);
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_decoder_has_a_corpus_and_takes_bent_forms_of_it() {
        for bent in bend(&corpus(), 400, 1).unwrap() {
            assert!(bent.inputs > 0, "{} has no corpus", bent.name);
            assert_eq!(bent.wrong, None, "{}", bent.name);
        }
    }

    #[test]
    fn a_decoder_that_trusts_a_length_is_caught() {
        let trusting: Decoder = |bytes| {
            if let Some((len, rest)) = bytes.split_first() {
                let _ = &rest[..usize::from(*len)];
            }
        };
        let dir = std::env::temp_dir().join(format!("cryptorun-bend-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("one"), [3, 1, 2, 3]).unwrap();
        count_panics();
        let bent = one("trusting", trusting, &dir, 1000, 1).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(bent.wrong.is_some_and(|(_, why)| why.contains("panic")));
    }
}
