//! A committed answer is never lost or changed: what a client was told stands in the log that every
//! node ends up with.

use super::{Event, Invariant, entry_of};
use cryptorun_core::command::Entry;
use std::collections::BTreeMap;
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub struct AnswersKept {
    applied: BTreeMap<u64, Option<Entry>>,
    /// Highest index acknowledged.
    acknowledged: u64,
    /// Highest index applied on each node since it last started or installed.
    reached: BTreeMap<u64, u64>,
}

impl Invariant for AnswersKept {
    fn name(&self) -> &'static str {
        "answers_kept"
    }

    fn see(&mut self, _now: Duration, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Applied { node, seen } => {
                let entry = entry_of(seen).cloned();
                let index = seen.log_id.index;
                self.reached.insert(*node, index);
                match self.applied.get(&index) {
                    Some(known) if *known != entry => {
                        Err(format!("index {index} was {known:?} and is {entry:?}"))
                    }
                    Some(_) => Ok(()),
                    None => {
                        self.applied.insert(index, entry);
                        Ok(())
                    }
                }
            }
            Event::Installed { node, index, .. } => {
                self.reached.insert(*node, *index);
                Ok(())
            }
            Event::Acknowledged { command, keyed, done } => {
                self.acknowledged = self.acknowledged.max(done.index);
                match self.applied.get(&done.index) {
                    Some(Some(entry))
                        if entry.command == **command
                            && entry.request.is_some() == *keyed
                            && (*keyed || entry.stamp == done.stamp) =>
                    {
                        Ok(())
                    }
                    other => Err(format!("acknowledged {} holds {other:?}", done.index)),
                }
            }
            // Renewals go on while the nodes are judged: the one that is ahead counts.
            Event::End { .. } => {
                let reached = self.reached.values().max().copied().unwrap_or(0);
                if reached >= self.acknowledged {
                    return Ok(());
                }
                Err(format!("{} was acknowledged, nodes ended at {reached}", self.acknowledged))
            }
            _ => Ok(()),
        }
    }
}
