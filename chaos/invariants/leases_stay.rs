//! A cut of one link moves no lease; nor does a control plane that loses one node at a time: no
//! healthy holder loses its lease. Only in seeds that are about nothing else.

use super::{Event, Invariant, Once};
use crate::cluster::warm;
use cryptorun_core::token::Token;
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub struct LeasesStay {
    once: Once,
    first: Option<Token>,
}

impl Invariant for LeasesStay {
    fn name(&self) -> &'static str {
        "leases_stay"
    }

    fn see(&mut self, now: Duration, event: &Event<'_>) -> Result<(), String> {
        let Event::Applied { seen, .. } = event else { return Ok(()) };
        if !self.once.is_new(seen) {
            return Ok(());
        }
        let Some(scope) = seen.machine.scopes().get(&warm()) else { return Ok(()) };
        let lease = scope.lease.as_ref().map(|lease| lease.token);
        match (self.first, lease) {
            (None, token) => {
                self.first = token;
                Ok(())
            }
            (Some(first), now_held) if now_held != Some(first) => {
                self.first = None;
                Err(format!("{first} became {now_held:?} at {now:?}"))
            }
            _ => Ok(()),
        }
    }
}
