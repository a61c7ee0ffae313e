//! What the run knows because it did it: whose worker was dead, stopped or out of reach, and when.

use crate::world::{now, since};
use cryptorun_core::time::Millis;
use cryptorun_platform::clock::BootTime;
use std::cell::RefCell;

/// A request may be on its way when its cause ends.
const ON_ITS_WAY: Millis = Millis::secs(3);

#[derive(Default)]
pub struct Truth(RefCell<Vec<Away>>);

struct Away {
    region: String,
    why: &'static str,
    since: BootTime,
    until: Option<BootTime>,
}

impl Truth {
    /// From now on nobody can expect a region's worker to hold anything.
    pub fn away(&self, region: &str, why: &'static str) {
        let away = Away { region: region.to_owned(), why, since: now(), until: None };
        self.0.borrow_mut().push(away);
    }

    /// Everybody is back and level.
    pub fn all_back(&self) {
        for away in self.0.borrow_mut().iter_mut().filter(|away| away.until.is_none()) {
            away.until = Some(now());
        }
    }

    /// Why a region's worker cannot be expected to hold anything now, and for how long.
    pub fn why_away(&self, region: &str) -> Option<String> {
        let known = self.0.borrow();
        let stands = |away: &&Away| away.until.is_none_or(|until| since(until) < ON_ITS_WAY);
        let found = known.iter().rev().filter(|away| away.region == region).find(stands)?;
        Some(format!("{} since {}", found.why, since(found.since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_away_may_be_replaced() {
        let truth = Truth::default();
        assert_eq!(truth.why_away("a"), None);
        truth.away("a", "kill -9 a worker");
        assert!(truth.why_away("a").is_some_and(|why| why.starts_with("kill -9 a worker since")));
        assert_eq!(truth.why_away("b"), None);
        // A request may still be on its way a moment later, and not for ever.
        truth.all_back();
        assert!(truth.why_away("a").is_some());
        truth.0.borrow_mut()[0].until = Some(BootTime(1));
        assert_eq!(truth.why_away("a"), None);
    }
}
