//! No grant without seals: enough sinks truly refused below the token first, and the new reign starts
//! behind everything any of them held. What sinks did is seen at the sinks, not in reports.

use super::{Event, Invariant, Once, entry_of};
use crate::cluster::{region, warm};
use crate::network::place;
use cryptorun_core::position::Position;
use cryptorun_core::token::Token;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub struct GrantsSealed {
    once: Once,
    /// By token and sink: where it ended when it began to refuse.
    sealed: BTreeMap<(Token, u64), Position>,
    granted: Token,
    /// Regions whose seals the machine went by, as of the entry before.
    counted: (Token, BTreeSet<String>),
}

impl Invariant for GrantsSealed {
    fn name(&self) -> &'static str {
        "grants_sealed"
    }

    fn see(&mut self, _now: Duration, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Sink { worker, view, .. } => {
                if let Some(sealed) = view.sealed
                    && view.highest >= sealed.token
                {
                    self.sealed.entry((sealed.token, *worker)).or_insert(view.end);
                }
                Ok(())
            }
            Event::Applied { seen, .. } if self.once.is_new(seen) => {
                let Some(scope) = seen.machine.scopes().get(&warm()) else { return Ok(()) };
                let counted = std::mem::take(&mut self.counted);
                if let Some(r) = &scope.reservation {
                    self.counted = (r.token, r.sealed.keys().map(ToString::to_string).collect());
                }
                let Some(reign) = scope.reign().filter(|r| r.token > self.granted) else {
                    return Ok(());
                };
                self.granted = reign.token;
                let ends: Vec<(u64, Position)> = self
                    .sealed
                    .range((reign.token, 0)..=(reign.token, u64::MAX))
                    .map(|((_, worker), end)| (*worker, *end))
                    .collect();
                let needed = if reign.promotion.is_some() { 2 } else { 1 };
                if ends.len() < needed {
                    let by = entry_of(seen).map(|entry| &entry.command);
                    return Err(format!(
                        "{} is granted to {} by {by:?}; sealed: {ends:?}",
                        reign.token, reign.region
                    ));
                }
                if !ends.iter().any(|(worker, _)| region(place(*worker)) == reign.region.as_str()) {
                    return Err(format!("{}: the candidate's own sink is not sealed", reign.token));
                }
                // One that answered too late was listed, and what it has beyond is a fork.
                let went_by = |worker: u64| {
                    counted.0 == reign.token && counted.1.contains(region(place(worker)))
                };
                let beyond = ends.iter().find(|(worker, end)| {
                    reign.promotion.is_some() && went_by(*worker) && end.seq > reign.start.seq
                });
                match beyond {
                    Some((worker, end)) => Err(format!(
                        "{} starts after {}, {worker} held {end}",
                        reign.token, reign.start
                    )),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
