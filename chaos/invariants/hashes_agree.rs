//! All nodes' state hashes agree at each index, whether they applied their way there or installed.

use super::{Event, Invariant};
use cryptorun_core::position::Hash;
use std::collections::BTreeMap;
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub struct HashesAgree {
    at: BTreeMap<u64, (u64, Hash)>,
}

impl Invariant for HashesAgree {
    fn name(&self) -> &'static str {
        "hashes_agree"
    }

    fn see(&mut self, _now: Duration, event: &Event<'_>) -> Result<(), String> {
        let (node, index, hash) = match event {
            Event::Applied { node, seen } => (*node, seen.log_id.index, seen.hash),
            Event::Installed { node, index, hash } => (*node, *index, *hash),
            _ => return Ok(()),
        };
        let (first, known) = *self.at.entry(index).or_insert((node, hash));
        if known == hash {
            return Ok(());
        }
        Err(format!("index {index}: node {first} has {known}, node {node} has {hash}"))
    }
}
