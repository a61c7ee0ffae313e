//! A linearizable read shows everything acknowledged before it was asked.

use super::{Event, Invariant};
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub struct ReadsFresh {
    /// When each index was acknowledged, in order of time; indices only grow here.
    acknowledged: Vec<(Duration, u64)>,
}

impl Invariant for ReadsFresh {
    fn name(&self) -> &'static str {
        "reads_fresh"
    }

    fn see(&mut self, now: Duration, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Acknowledged { done, .. } => {
                if self.acknowledged.last().is_none_or(|(_, index)| *index < done.index) {
                    self.acknowledged.push((now, done.index));
                }
                Ok(())
            }
            Event::Read { node, began, index } => {
                let before = self.acknowledged.partition_point(|(at, _)| at < began);
                match before.checked_sub(1).map(|last| self.acknowledged[last].1) {
                    Some(known) if *index < known => Err(format!(
                        "node {node} answered from {index}, {known} was acknowledged before"
                    )),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
