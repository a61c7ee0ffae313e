//! Tokens only grow, and LogTime never goes back: in the order of the log, whoever led.

use super::{Event, Invariant};
use cryptorun_core::scope::ScopeId;
use cryptorun_core::time::LogTime;
use cryptorun_core::token::Token;
use std::collections::BTreeMap;
use std::time::Duration;

/// See the module.
pub struct TokensGrow {
    /// Whether clocks stay within what is tolerated.
    in_time: bool,
    last: u64,
    now: LogTime,
    highest: BTreeMap<ScopeId, Token>,
}

impl TokensGrow {
    pub fn new(in_time: bool) -> Self {
        Self { in_time, last: 0, now: LogTime::default(), highest: BTreeMap::new() }
    }
}

impl Invariant for TokensGrow {
    fn name(&self) -> &'static str {
        "tokens_grow"
    }

    fn see(&mut self, now: Duration, event: &Event<'_>) -> Result<(), String> {
        let Event::Applied { seen, .. } = event else { return Ok(()) };
        // The first node to get there; `hashes_agree` holds the others to it.
        if seen.log_id.index <= self.last && self.last > 0 {
            return Ok(());
        }
        self.last = seen.log_id.index;
        let log = seen.machine.now().log;
        if log < self.now {
            return Err(format!("LogTime went from {} back to {log}", self.now));
        }
        self.now = log;
        // Within the rate error of true time: half a per cent, and the run's start.
        let true_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        if self.in_time && log.0 > true_ms + true_ms / 100 + 10 {
            return Err(format!("LogTime {log} runs ahead of true time {true_ms} ms"));
        }
        for scope in seen.machine.scopes().values() {
            let before = self.highest.insert(scope.id.clone(), scope.highest);
            if before.is_some_and(|before| before > scope.highest) {
                return Err(format!("{}: {before:?} then {:?}", scope.id, scope.highest));
            }
            let reigns = scope.history.windows(2).all(|pair| pair[0].token < pair[1].token);
            let lease = scope.lease.as_ref().is_none_or(|lease| lease.token <= scope.highest);
            if !reigns || !lease {
                return Err(format!("{}: tokens out of order", scope.id));
            }
        }
        Ok(())
    }
}
