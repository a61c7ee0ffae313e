//! A sink's highest token never goes back, across crashes too; and what a seal answered is final:
//! nothing of an older token lands behind it, but what the candidate fetches.

use super::{Event, Invariant, Once};
use crate::cluster::warm;
use crate::network::place;
use cryptorun_core::position::Position;
use cryptorun_core::region::RegionName;
use cryptorun_core::token::Token;
use std::collections::BTreeMap;
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub struct FenceHolds {
    once: Once,
    highest: BTreeMap<u64, Token>,
    /// What each sink last answered to a seal.
    sealed: BTreeMap<u64, (Token, Position)>,
    granted: Token,
    /// Which region may fetch a tail under which token, and up to where; late ones may land after
    /// their promotion was undone.
    fetches: BTreeMap<(Token, RegionName), Position>,
}

impl Invariant for FenceHolds {
    fn name(&self) -> &'static str {
        "fence_holds"
    }

    fn see(&mut self, _now: Duration, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Applied { seen, .. } if self.once.is_new(seen) => {
                let Some(scope) = seen.machine.scopes().get(&warm()) else { return Ok(()) };
                self.granted = scope.reign().map_or(Token::NONE, |reign| reign.token);
                if let Some(r) = &scope.reservation {
                    self.fetches.insert((r.token, r.region.clone()), r.tail());
                }
                Ok(())
            }
            Event::Sink { worker, view, .. } => {
                let known = self.highest.entry(*worker).or_insert(Token::NONE);
                if view.highest < *known {
                    return Err(format!(
                        "{worker} forgot {known}: its highest token is {} now",
                        view.highest
                    ));
                }
                *known = view.highest;
                if let Some(sealed) = view.sealed {
                    let first = self.sealed.entry(*worker).or_insert((sealed.token, sealed.end));
                    if first.0 != sealed.token {
                        *first = (sealed.token, sealed.end);
                    }
                }
                let Some((token, end)) = self.sealed.get(worker).copied() else { return Ok(()) };
                if token <= self.granted || view.end.seq <= end.seq {
                    return Ok(());
                }
                let own = RegionName::from(crate::cluster::region(place(*worker)));
                let fetched =
                    self.fetches.get(&(token, own)).is_some_and(|to| view.end.seq <= to.seq);
                if fetched {
                    return Ok(());
                }
                Err(format!(
                    "{worker} sealed {end} under {token} and ends at {} before that was granted",
                    view.end
                ))
            }
            _ => Ok(()),
        }
    }
}
