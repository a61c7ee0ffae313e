//! Two regions' writes are never both visible as the primary's: nothing becomes visible under a token
//! once a later one is granted. Beyond tolerated clock rates: at no sink that knows of a later one.

use super::{Event, Invariant, Once};
use crate::cluster::warm;
use cryptorun_core::token::Token;
use std::collections::BTreeMap;
use std::time::Duration;

/// See the module.
pub struct VisibleOnce {
    in_time: bool,
    once: Once,
    granted: (Token, Duration),
    /// The highest token that each sink said it has on its medium.
    highest: BTreeMap<u64, Token>,
}

impl VisibleOnce {
    pub fn new(in_time: bool) -> Self {
        let granted = (Token::NONE, Duration::ZERO);
        Self { in_time, once: Once::default(), granted, highest: BTreeMap::new() }
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
            Event::Visible { worker, token, at } => {
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
