//! One leader per committed leader id, and leaderships in the log only grow.
//!
//! Two nodes may lead in one term: the id is term and node. So the id that a leadership's entries
//! carry must be one that its node really took, and along the log ids never go back.

use super::{Event, Invariant};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub struct OneLeader {
    /// Highest leader id applied at or below an index, with that index.
    along: BTreeMap<u64, (u64, u64)>,
    took: BTreeSet<(u64, u64)>,
}

impl Invariant for OneLeader {
    fn name(&self) -> &'static str {
        "one_leader"
    }

    fn see(&mut self, _now: Duration, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Leads { node, term } => {
                self.took.insert((*term, *node));
                Ok(())
            }
            Event::Applied { seen, .. } => {
                let id = seen.log_id;
                let by = (id.leader_id.term, id.leader_id.node_id);
                if let Some(known) = self.along.get(&id.index)
                    && *known != by
                {
                    return Err(format!("index {} is of {known:?} and of {by:?}", id.index));
                }
                if let Some((index, before)) = self.along.range(..id.index).next_back()
                    && *before > by
                {
                    return Err(format!("{by:?} at {} follows {before:?} at {index}", id.index));
                }
                self.along.insert(id.index, by);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
