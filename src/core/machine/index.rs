//! What nearly every entry asks, kept beside the records it follows from: who holds what, who keeps a
//! region's sinks, and until when nothing runs out.
//!
//! What always holds:
//!  1. an index made anew from the records gives the same answers;
//!  2. it is no part of the state: neither stored, nor hashed, nor compared. A node that came by a
//!     snapshot and one that replayed the log may look at different times, and find the same.

use super::Machine;
use crate::lease;
use crate::region::RegionName;
use crate::scope::{Scope, ScopeId};
use crate::session::{Session, SessionKey};
use crate::time::LogTime;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// Scopes by the session that their lease names.
    held: BTreeMap<SessionKey, BTreeSet<ScopeId>>,
    /// Sessions that are not barred, by region; who keeps its sinks comes last.
    keepers: BTreeMap<RegionName, BTreeSet<(LogTime, u64, SessionKey)>>,
    /// No lease and no session runs out before this: renewals only move that further away.
    quiet_until: LogTime,
    /// When it was last looked whether something has.
    looked_at: LogTime,
    /// See [`Machine::stirred`].
    stirred: u64,
}

/// Records were loaded: which entry changed them is not known.
const UNKNOWN: u64 = u64::MAX;

/// Two machines with the same records are the same machine.
impl PartialEq for Index {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Index {}

impl Index {
    pub fn holds(&self, key: &SessionKey) -> bool {
        self.held.contains_key(key)
    }

    /// Scopes whose lease names this session, run out or not.
    pub fn held(&self, key: &SessionKey) -> impl Iterator<Item = &ScopeId> {
        self.held.get(key).into_iter().flatten()
    }

    /// A scope's lease names somebody else.
    pub fn passed(&mut self, id: &ScopeId, from: Option<&SessionKey>, to: Option<&SessionKey>) {
        if from == to {
            return;
        }
        if let Some(from) = from
            && let Some(ids) = self.held.get_mut(from)
        {
            ids.remove(id);
            if ids.is_empty() {
                self.held.remove(from);
            }
        }
        if let Some(to) = to {
            self.held.entry(to.clone()).or_default().insert(id.clone());
        }
    }

    pub fn opened(&mut self, session: &Session) {
        self.keepers.entry(session.region.clone()).or_default().insert(place(session));
    }

    /// It was barred, or is gone.
    pub fn ended(&mut self, session: &Session) {
        if let Some(keepers) = self.keepers.get_mut(&session.region) {
            keepers.remove(&place(session));
        }
    }

    /// Something may run out as early as this.
    pub fn ends(&mut self, at: LogTime) {
        self.quiet_until = self.quiet_until.min(at);
    }

    /// Something may run out at any time.
    pub fn look_again(&mut self) {
        self.ends(LogTime::default());
    }

    pub fn is_quiet(&self, now: LogTime) -> bool {
        now < self.quiet_until
    }

    pub fn looked(&mut self, now: LogTime, quiet_until: LogTime) {
        (self.looked_at, self.quiet_until) = (now, quiet_until);
    }

    pub fn looked_at(&self) -> LogTime {
        self.looked_at
    }

    pub fn stirred(&self) -> u64 {
        self.stirred
    }

    pub fn stir(&mut self, index: u64) {
        self.stirred = index;
    }

    /// From here on by the entry that comes next.
    pub fn loaded(&mut self) {
        self.stirred = UNKNOWN;
        self.look_again();
    }

    pub fn is_unknown(&self) -> bool {
        self.stirred == UNKNOWN
    }
}

fn place(session: &Session) -> (LogTime, u64, SessionKey) {
    (session.opened_at, session.key.boot, session.key.clone())
}

impl Machine {
    /// Index of the last entry that changed more than the time and what sessions report of
    /// themselves; beyond every index until one was applied on top of what was loaded. As long as it
    /// stays, directives, leases and who lives stay too.
    pub fn stirred(&self) -> u64 {
        self.index.stirred()
    }

    /// Live sessions of a region, who keeps its sinks first: the one opened last, and the last of
    /// equals.
    pub fn keepers<'a>(&'a self, region: &RegionName) -> impl Iterator<Item = &'a Session> {
        let places = self.index.keepers.get(region).into_iter().flatten().rev();
        places.filter_map(|(_, _, key)| self.live_session(key))
    }

    /// Who keeps each region's sinks.
    pub fn keeper_of_each(&self) -> BTreeMap<&RegionName, &Session> {
        let regions = self.index.keepers.keys();
        regions.filter_map(|region| Some((region, self.keepers(region).next()?))).collect()
    }

    /// When the next lease or session runs out, unless it is renewed.
    pub(super) fn next_end(&self) -> LogTime {
        let never = LogTime(u64::MAX);
        let Some(timing) = self.timing() else { return never };
        let leases = self.scopes.values().filter_map(|scope| self.lease_expires(scope));
        let sessions = self.live_sessions().map(|session| lease::session_expires(session, timing));
        leases.chain(sessions).min().unwrap_or(never)
    }

    pub(super) fn index_scope(&mut self, before: Option<&Scope>, after: &Scope) {
        let from = before.and_then(|scope| scope.lease.as_ref()).map(|lease| &lease.holder);
        let to = after.lease.as_ref().map(|lease| &lease.holder);
        self.index.passed(&after.id, from, to);
    }

    pub(super) fn index_session(&mut self, before: Option<&Session>, after: &Session) {
        if let Some(before) = before {
            self.index.ended(before);
        }
        if !after.barred {
            self.index.opened(after);
        }
    }
}
