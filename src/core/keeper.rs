//! The holder's side of a lease, as a pure function of what it sent, got back and reads on its clock.
//!
//! Times are nanoseconds of this machine's CLOCK_BOOTTIME, handed in. Authority comes only from the
//! answer to the keeper's own outstanding renewal: never from a replica, never from a push.
//!
//! What always holds:
//!  1. a lease's deadline counts from the *first* attempt of the renewal that extended it;
//!  2. only the outstanding (cluster, session, seq) counts, and only leases that its answer lists;
//!  3. from the moment a release or hand-over is sent, its token is never acted under again, unless
//!     the log shows it refused;
//!  4. past the deadline nothing revives a lease but a later renewal that lists it.
//!
//! Deliberately absent: the network, retries, what to do when a lease ends (`worker/keeper.rs`).

use crate::command::Renewed;
use crate::config::ClusterId;
use crate::scope::ScopeId;
use crate::session::SessionKey;
use crate::time::Timing;
use crate::token::Token;
use std::collections::{BTreeMap, BTreeSet};

/// A moment on this machine's CLOCK_BOOTTIME, in nanoseconds.
pub type BootNs = u64;

/// A lease as its holder sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The token to show.
    pub token: Token,
    /// The position the first record under it follows.
    pub start: crate::position::Position,
    /// Not a nanosecond later.
    pub deadline: BootNs,
}

/// An attempt that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outstanding {
    seq: u64,
    /// Read before the first attempt left; a retry keeps it.
    first_sent: BootNs,
}

/// The keeper of one session's leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    timing: Timing,
    cluster: ClusterId,
    session: SessionKey,
    seq: u64,
    outstanding: Option<Outstanding>,
    held: BTreeMap<ScopeId, Held>,
    /// Tokens given up: a late answer must not revive them.
    given_up: BTreeSet<(ScopeId, Token)>,
}

impl Keeper {
    /// After the session was opened. Nothing is held yet.
    pub fn new(timing: Timing, opened: &Renewed) -> Self {
        Self {
            timing,
            cluster: opened.cluster,
            session: opened.session.clone(),
            seq: opened.seq,
            outstanding: None,
            held: BTreeMap::new(),
            given_up: BTreeSet::new(),
        }
    }

    /// The session it keeps.
    pub fn session(&self) -> &SessionKey {
        &self.session
    }

    /// The cluster the session is with.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Timings in force.
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Before each attempt, with the clock read before it: the number to send. While an attempt is
    /// outstanding this is a retry and keeps the first attempt's time.
    pub fn attempt(&mut self, now: BootNs) -> u64 {
        let next = self.seq + 1;
        if crate::seeded_bug::is("retry_restarts_clock") {
            self.outstanding = None;
        }
        self.outstanding.get_or_insert(Outstanding { seq: next, first_sent: now }).seq
    }

    /// An answer arrived. Whether it was the one that counts.
    pub fn answered(&mut self, answer: &Renewed) -> bool {
        let counts = answer.cluster == self.cluster && answer.session == self.session;
        let Some(sent) = self.outstanding.take_if(|o| counts && o.seq == answer.seq) else {
            return false;
        };
        self.seq = sent.seq;
        let span = self.timing.holder_span().0.saturating_mul(1_000_000);
        let deadline = sent.first_sent.saturating_add(span);
        for lease in &answer.extended {
            let key = (lease.scope.clone(), lease.token);
            if !self.given_up.contains(&key) {
                let held = Held { token: lease.token, start: lease.start, deadline };
                self.held.insert(lease.scope.clone(), held);
            }
        }
        // A lease that is not listed ends at its previous deadline.
        true
    }

    /// Whether a write may be made visible now, and under which token. Read at the check; the token
    /// travels with the write.
    pub fn may_act(&self, scope: &ScopeId, now: BootNs) -> Option<Token> {
        self.held.get(scope).filter(|held| now < held.deadline).map(|held| held.token)
    }

    /// The lease, live or past its deadline.
    pub fn held(&self, scope: &ScopeId) -> Option<Held> {
        self.held.get(scope).copied()
    }

    /// All leases.
    pub fn all(&self) -> impl Iterator<Item = (&ScopeId, &Held)> {
        self.held.iter()
    }

    /// Before a release or hand-over is sent: the token is never acted under again.
    pub fn give_up(&mut self, scope: &ScopeId) -> Option<Token> {
        if crate::seeded_bug::is("handover_keeps_token") {
            return self.held.get(scope).map(|held| held.token);
        }
        let held = self.held.remove(scope)?;
        self.given_up.insert((scope.clone(), held.token));
        Some(held.token)
    }

    /// The log shows that the release or hand-over was refused: a later renewal may list it again.
    pub fn refused(&mut self, scope: &ScopeId, token: Token) {
        self.given_up.remove(&(scope.clone(), token));
    }

    /// Drops what is past its deadline; the scopes that ended.
    pub fn drop_overdue(&mut self, now: BootNs) -> Vec<ScopeId> {
        let over: Vec<ScopeId> = self
            .held
            .iter()
            .filter(|(_, held)| now >= held.deadline)
            .map(|(scope, _)| scope.clone())
            .collect();
        for scope in &over {
            self.held.remove(scope);
        }
        over
    }

    /// The clock's rate is off by more than it may be: nothing counted on it stands.
    pub fn drop_all(&mut self) -> Vec<ScopeId> {
        let all: Vec<ScopeId> = self.held.keys().cloned().collect();
        for scope in &all {
            self.give_up(scope);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Extended;
    use crate::position::Position;
    use crate::scope::Tier;
    use crate::time::{LogTime, Profile};
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;
    const TOKEN: Token = Token { incarnation: 0, epoch: 1 };

    fn warm() -> ScopeId {
        ScopeId::new(Tier::Warm, "global")
    }

    fn answer(seq: u64, leases: &[Token]) -> Renewed {
        Renewed {
            cluster: ClusterId(7),
            session: SessionKey { worker: "w1".into(), boot: 1 },
            seq,
            now: LogTime(0),
            extended: leases
                .iter()
                .map(|token| Extended { scope: warm(), token: *token, start: Position::START })
                .collect(),
            withheld: Vec::new(),
        }
    }

    fn keeper() -> Keeper {
        Keeper::new(Timing::of(Profile::Wan), &answer(0, &[]))
    }

    #[test]
    fn a_retry_keeps_the_time_of_the_first_attempt() {
        let mut keeper = keeper();
        assert_eq!(keeper.attempt(1000 * MS), 1);
        assert_eq!(keeper.attempt(5000 * MS), 1);
        assert!(keeper.answered(&answer(1, &[TOKEN])));
        assert_eq!(keeper.held(&warm()).unwrap().deadline, (1000 + 9400) * MS);
    }

    #[test]
    fn only_the_outstanding_answer_counts() {
        let mut keeper = keeper();
        assert!(!keeper.answered(&answer(1, &[TOKEN])), "nothing was sent");
        keeper.attempt(0);
        let mut other = answer(1, &[TOKEN]);
        other.cluster = ClusterId(8);
        assert!(!keeper.answered(&other), "another cluster's");
        assert!(!keeper.answered(&answer(2, &[TOKEN])), "another number");
        assert!(keeper.answered(&answer(1, &[TOKEN])));
        assert!(!keeper.answered(&answer(1, &[TOKEN])), "twice");
    }

    #[test]
    fn a_late_answer_does_not_revive_what_was_handed_over() {
        let mut keeper = keeper();
        keeper.attempt(0);
        keeper.answered(&answer(1, &[TOKEN]));
        keeper.attempt(1);
        assert_eq!(keeper.give_up(&warm()), Some(TOKEN));
        keeper.answered(&answer(2, &[TOKEN]));
        assert_eq!(keeper.may_act(&warm(), 2), None);
        keeper.refused(&warm(), TOKEN);
        keeper.attempt(3);
        keeper.answered(&answer(3, &[TOKEN]));
        assert_eq!(keeper.may_act(&warm(), 4), Some(TOKEN));
    }

    #[test]
    fn a_lease_that_is_not_listed_ends_at_its_previous_deadline() {
        let mut keeper = keeper();
        keeper.attempt(0);
        keeper.answered(&answer(1, &[TOKEN]));
        keeper.attempt(2000 * MS);
        keeper.answered(&answer(2, &[]));
        assert_eq!(keeper.may_act(&warm(), 9400 * MS - 1), Some(TOKEN));
        assert_eq!(keeper.may_act(&warm(), 9400 * MS), None);
    }

    #[derive(Clone, Debug)]
    enum Event {
        Attempt,
        Answer(u64),
        GiveUp,
    }

    proptest! {
        /// Whatever is lost, late or repeated, no deadline lies beyond the first attempt of an
        /// answered renewal plus the holder's span.
        #[test]
        fn no_deadline_outlives_its_first_attempt(
            events in prop::collection::vec(
                (0u64..3000, prop_oneof![
                    3 => Just(Event::Attempt),
                    3 => (0u64..12).prop_map(Event::Answer),
                    1 => Just(Event::GiveUp),
                ]), 1..60),
        ) {
            let mut keeper = keeper();
            let (mut now, mut first) = (0u64, BTreeMap::new());
            let mut gone = false;
            for (step, event) in events {
                now += step * MS;
                match event {
                    Event::Attempt => {
                        let seq = keeper.attempt(now);
                        first.entry(seq).or_insert(now);
                    }
                    Event::Answer(seq) => {
                        keeper.answered(&answer(seq, &[TOKEN]));
                    }
                    Event::GiveUp => gone |= keeper.give_up(&warm()).is_some(),
                }
                prop_assert!(!(gone && keeper.may_act(&warm(), now).is_some()));
                if let Some(held) = keeper.held(&warm()) {
                    let last = first.range(..=keeper.seq).next_back().map(|(_, at)| *at).unwrap();
                    prop_assert!(held.deadline <= last + 9400 * MS);
                }
            }
        }
    }
}
