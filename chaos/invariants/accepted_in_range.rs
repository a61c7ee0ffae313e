//! Accepted ranges of two tokens never overlap: a sink that knows of a later reign takes no record of
//! an older token from behind where that reign starts, wherever the record came from.

use super::{Event, Invariant, Once};
use crate::cluster::warm;
use cryptorun_core::scope::Reign;
use cryptorun_core::token::Token;
use cryptorun_worker::sink::View;
use std::collections::BTreeMap;
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub struct AcceptedInRange {
    once: Once,
    reigns: Vec<Reign>,
    /// By sink and life: the highest token it knew and where it ended when it was last seen.
    known: BTreeMap<(u64, u64), (Token, u64)>,
}

impl AcceptedInRange {
    /// A record behind the start of a reign that the sink knew of before it took it.
    fn beyond(&self, view: &View, knew: Token) -> Option<&Reign> {
        let last = view.last?;
        self.reigns.iter().find(|reign| {
            last.token < reign.token && reign.token <= knew && view.end.seq > reign.start.seq
        })
    }
}

impl Invariant for AcceptedInRange {
    fn name(&self) -> &'static str {
        "accepted_in_range"
    }

    fn see(&mut self, _now: Duration, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Applied { seen, .. } if self.once.is_new(seen) => {
                if let Some(scope) = seen.machine.scopes().get(&warm())
                    && self.reigns.len() != scope.history.len()
                {
                    self.reigns.clone_from(&scope.history);
                }
                Ok(())
            }
            Event::Sink { worker, life, view } => {
                let seen = (view.highest, view.end.seq);
                let Some((knew, ended)) = self.known.insert((*worker, *life), seen) else {
                    return Ok(());
                };
                if view.end.seq <= ended {
                    return Ok(()); // What it had was cut, or stands as it did.
                }
                match self.beyond(view, knew) {
                    None => Ok(()),
                    Some(reign) => Err(format!(
                        "{worker} knew of {} and took {} under {}; that reign starts after {}",
                        reign.token,
                        view.end,
                        view.last.map_or(Token::NONE, |last| last.token),
                        reign.start
                    )),
                }
            }
            _ => Ok(()),
        }
    }
}
