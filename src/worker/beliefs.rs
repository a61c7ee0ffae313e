//! When this process believed that it might write, token by token, by its own clock.
//!
//! Journals tell what was written; between two writes a holder may still have been one. Whoever
//! measures how far apart two holders were needs the belief itself. Kept in memory: a process that
//! ended believes nothing any more.

use cryptorun_core::keeper::{BootNs, Held};
use cryptorun_core::scope::ScopeId;
use cryptorun_core::token::Token;
use serde::{Deserialize, Serialize};

/// Oldest ones go beyond this. A reign is one.
pub const BELIEFS_MAX: usize = 1_000;

/// One unbroken span under one token, in nanoseconds of CLOCK_BOOTTIME.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Belief {
    pub scope: ScopeId,
    pub token: Token,
    /// The answer that listed the lease was here.
    pub from_boot_ns: BootNs,
    /// The deadline, or the moment it let go.
    pub until_boot_ns: BootNs,
    /// It stopped before its deadline: handed over, released, or the session was given up.
    pub let_go: bool,
}

#[derive(Debug, Default)]
pub struct Beliefs(Vec<Belief>);

impl Beliefs {
    /// A renewal was answered: this is held now.
    pub fn holds(&mut self, now: BootNs, scope: &ScopeId, held: &Held) {
        let same = |b: &&mut Belief| b.token == held.token && !b.let_go && now <= b.until_boot_ns;
        let last = self.0.iter_mut().rev().find(|belief| belief.scope == *scope);
        if let Some(last) = last.filter(same) {
            last.until_boot_ns = held.deadline;
            return;
        }
        if held.deadline <= now {
            return; // Over before the answer came.
        }
        if self.0.len() >= BELIEFS_MAX {
            self.0.remove(0);
        }
        self.0.push(Belief {
            scope: scope.clone(),
            token: held.token,
            from_boot_ns: now,
            until_boot_ns: held.deadline,
            let_go: false,
        });
    }

    /// Whatever is held of a scope, or of all, is given up now.
    pub fn lets_go(&mut self, now: BootNs, scope: Option<&ScopeId>) {
        let of = |belief: &&mut Belief| scope.is_none_or(|scope| belief.scope == *scope);
        for belief in self.0.iter_mut().filter(of).filter(|belief| now < belief.until_boot_ns) {
            (belief.until_boot_ns, belief.let_go) = (now, true);
        }
    }

    /// In the order they began.
    pub fn all(&self) -> Vec<Belief> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptorun_core::position::Position;
    use cryptorun_core::scope::Tier;

    fn warm() -> ScopeId {
        ScopeId::new(Tier::Warm, "global")
    }

    fn held(epoch: u64, deadline: BootNs) -> Held {
        Held { token: Token { incarnation: 0, epoch }, start: Position::START, deadline }
    }

    fn spans(beliefs: &Beliefs) -> Vec<(u64, BootNs, BootNs, bool)> {
        let all = beliefs.all();
        all.iter().map(|b| (b.token.epoch, b.from_boot_ns, b.until_boot_ns, b.let_go)).collect()
    }

    #[test]
    fn renewals_make_one_span_that_ends_with_the_last_deadline() {
        let mut beliefs = Beliefs::default();
        beliefs.holds(10, &warm(), &held(1, 100));
        beliefs.holds(60, &warm(), &held(1, 150));
        assert_eq!(spans(&beliefs), [(1, 10, 150, false)]);
        // Past the deadline it was nobody for a while, also under the same token.
        beliefs.holds(160, &warm(), &held(1, 250));
        assert_eq!(spans(&beliefs), [(1, 10, 150, false), (1, 160, 250, false)]);
    }

    #[test]
    fn what_was_let_go_ends_then_and_is_not_taken_up_again() {
        let mut beliefs = Beliefs::default();
        beliefs.holds(10, &warm(), &held(1, 100));
        beliefs.lets_go(40, Some(&warm()));
        beliefs.lets_go(50, None);
        assert_eq!(spans(&beliefs), [(1, 10, 40, true)]);
        beliefs.holds(70, &warm(), &held(1, 170));
        assert_eq!(spans(&beliefs), [(1, 10, 40, true), (1, 70, 170, false)]);
    }

    #[test]
    fn an_answer_that_came_after_its_deadline_is_no_belief() {
        let mut beliefs = Beliefs::default();
        beliefs.holds(100, &warm(), &held(1, 100));
        assert_eq!(spans(&beliefs), []);
    }
}
