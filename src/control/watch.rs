//! Changes of leases, for whoever routes traffic by them.
//!
//! A [`LeaseWatch`] compares what the machine says after each applied run of entries with what it said
//! before, and keeps the last [`EVENTS_MAX`] changes with the index they were seen at. A watcher that
//! comes back after longer than that is told the whole state anew instead of being left with a gap.
//!
//! What always holds: an event's index is one at which the machine was exactly so; indexes only grow;
//! a change that was undone within one run of entries may be left out, the state after it never is.
//!
//! Renewals are no events: a lease that goes on has not changed.

use crate::log::{Log, look};
use crate::views::live_holder;
use cryptorun_core::machine::Machine;
use cryptorun_core::scope::ScopeId;
use cryptorun_core::wire::LeaseState;
use cryptorun_platform::spawn::Spawn;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Changes kept for watchers that come back.
pub const EVENTS_MAX: usize = 4096;

/// The index that watchers are told of grows at least so often.
const SEEN_EVERY: Duration = Duration::from_secs(1);

/// Changes of leases at this node. Clones share.
#[derive(Clone)]
pub struct LeaseWatch(Arc<Shared>);

struct Shared {
    kept: Mutex<Kept>,
    /// The index that has been looked at.
    seen: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    now: BTreeMap<ScopeId, LeaseState>,
    events: VecDeque<(u64, LeaseState)>,
    /// Every change after this index is in `events`.
    complete_from: u64,
}

/// What a watcher gets on coming.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Every change after the index it named.
    Changes(Vec<(u64, LeaseState)>),
    /// The whole state: it named no index.
    Fresh(u64, Vec<LeaseState>),
    /// The whole state: the index it named is no longer covered.
    Gone(u64, Vec<LeaseState>),
}

impl Default for LeaseWatch {
    fn default() -> Self {
        Self(Arc::new(Shared { kept: Mutex::default(), seen: watch::Sender::new(0) }))
    }
}

impl LeaseWatch {
    /// Follows the log until it stops.
    pub fn follow(&self, log: Arc<dyn Log>, spawn: &dyn Spawn) {
        let this = self.clone();
        let first = look(&*log, |machine, index| (index, states(machine)));
        {
            let mut kept = this.kept();
            kept.now = first.1;
            kept.complete_from = first.0;
            this.0.seen.send_replace(first.0);
        }
        let mut stirred = log.stirred();
        let task = async move {
            loop {
                tokio::select! {
                    changed = stirred.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(SEEN_EVERY) => {}
                }
                let (index, now) = look(&*log, |machine, index| (index, states(machine)));
                this.note(index, now);
            }
        };
        spawn.spawn("lease watch", Box::pin(task));
    }

    /// Takes the state at an index and keeps what changed.
    pub fn note(&self, index: u64, now: BTreeMap<ScopeId, LeaseState>) {
        let mut kept = self.kept();
        let changed: Vec<LeaseState> = now
            .values()
            .filter(|state| kept.now.get(&state.scope) != Some(*state))
            .cloned()
            .collect();
        for state in changed {
            if kept.events.len() == EVENTS_MAX
                && let Some((dropped, _)) = kept.events.pop_front()
            {
                kept.complete_from = dropped;
            }
            kept.events.push_back((index, state));
        }
        kept.now = now;
        drop(kept);
        self.0.seen.send_replace(index);
    }

    /// What to tell a watcher that has seen everything up to `from`.
    pub fn start(&self, from: Option<u64>) -> Start {
        let kept = self.kept();
        let index = *self.0.seen.borrow();
        let state = || kept.now.values().cloned().collect();
        match from {
            None => Start::Fresh(index, state()),
            Some(from) if from < kept.complete_from => Start::Gone(index, state()),
            Some(from) => {
                Start::Changes(kept.events.iter().filter(|(at, _)| *at > from).cloned().collect())
            }
        }
    }

    /// The index up to which changes are known, as it grows.
    pub fn seen(&self) -> watch::Receiver<u64> {
        self.0.seen.subscribe()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each scope's lease as a watcher cares about it.
pub fn states(machine: &Machine) -> BTreeMap<ScopeId, LeaseState> {
    machine
        .scopes()
        .values()
        .map(|scope| {
            let holder = live_holder(machine, scope);
            let state = LeaseState {
                scope: scope.id.clone(),
                phase: scope.phase.clone(),
                holder: holder.map(|session| session.region.clone()),
                session: holder.map(|session| session.key.clone()),
                token: scope.reign().map(|reign| reign.token).unwrap_or_default(),
                assigned: scope.assigned.clone(),
            };
            (scope.id.clone(), state)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptorun_core::scope::{Phase, Tier};
    use cryptorun_core::token::Token;

    fn at(epoch: u64) -> BTreeMap<ScopeId, LeaseState> {
        let scope = ScopeId::new(Tier::Warm, "global");
        let state = LeaseState {
            scope: scope.clone(),
            phase: Phase::Active,
            holder: None,
            session: None,
            token: Token { incarnation: 0, epoch },
            assigned: "us-east-1".into(),
        };
        BTreeMap::from([(scope, state)])
    }

    #[test]
    fn a_watcher_misses_nothing_or_is_told_so() {
        let watch = LeaseWatch::default();
        for epoch in 1..=EVENTS_MAX as u64 + 10 {
            watch.note(epoch * 2, at(epoch));
        }
        let last = EVENTS_MAX as u64 + 10;
        match watch.start(Some(last * 2 - 4)) {
            Start::Changes(events) => {
                assert_eq!(
                    events.iter().map(|(i, _)| *i).collect::<Vec<_>>(),
                    [last * 2 - 2, last * 2]
                );
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(watch.start(Some(19)), Start::Gone(index, _) if index == last * 2));
        assert!(matches!(watch.start(Some(20)), Start::Changes(_)));
        assert!(matches!(watch.start(None), Start::Fresh(_, state) if state.len() == 1));
    }

    #[test]
    fn the_same_state_again_is_no_event() {
        let watch = LeaseWatch::default();
        watch.note(1, at(1));
        watch.note(2, at(1));
        assert_eq!(
            watch.start(Some(0)),
            Start::Changes(vec![(1, at(1).into_values().next().unwrap())])
        );
    }
}
