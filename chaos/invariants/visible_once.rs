//! Two regions' writes are never both visible as the primary's: nothing becomes visible under a token
//! once a later one is granted, nor past the
//! holder's own deadline. Beyond tolerated clock rates: at no sink that knows of a later one.

use super::{Event, Invariant, Once};
use crate::cluster::warm;
use cryptorun_core::token::Token;
use std::collections::BTreeMap;
use std::time::Duration;

/// Rates change while a lease runs.
const LATE: Duration = Duration::from_millis(45);

/// See the module.
pub struct VisibleOnce {
    in_time: bool,
    once: Once,
    granted: (Token, Duration),
    /// The highest token that each sink said it has on its medium.
    highest: BTreeMap<u64, Token>,
    /// Under which token each worker may write, and until when.
    holds: BTreeMap<(u64, Token), Duration>,
}

impl VisibleOnce {
    pub fn new(in_time: bool) -> Self {
        let granted = (Token::NONE, Duration::ZERO);
        Self {
            in_time,
            once: Once::default(),
            granted,
            highest: BTreeMap::new(),
            holds: BTreeMap::new(),
        }
    }
}

impl Invariant for VisibleOnce {
    fn name(&self) -> &'static str {
        "visible_once"
    }

    fn see(&mut self, now: Duration, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Applied { seen, .. } if self.once.is_new(seen) => {
                let reign = seen.machine.scopes().get(&warm()).and_then(|scope| scope.reign());
                if let Some(token) = reign.map(|reign| reign.token).filter(|t| *t > self.granted.0)
                {
                    self.granted = (token, now);
                }
                Ok(())
            }
            Event::Sink { worker, view, .. } => {
                let highest = self.highest.entry(*worker).or_insert(Token::NONE);
                *highest = (*highest).max(view.highest);
                Ok(())
            }
            Event::Holds { worker, token, until } => {
                self.holds.insert((*worker, *token), *until);
                Ok(())
            }
            Event::Visible { worker, token, at } => {
                let until = self.holds.get(&(*worker, *token)).copied().unwrap_or_default();
                if self.in_time && now > until + LATE {
                    return Err(format!(
                        "{worker} shows {at} under {token}, whose lease it held until {until:?}"
                    ));
                }
                let (granted, since) = self.granted;
                if self.in_time && *token < granted {
                    return Err(format!(
                        "{worker} shows {at} under {token}, {granted} is granted since {since:?}"
                    ));
                }
                let highest = self.highest.get(worker).copied().unwrap_or(Token::NONE);
                if *token < highest {
                    return Err(format!("{worker} shows {at} under {token} below {highest}"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
