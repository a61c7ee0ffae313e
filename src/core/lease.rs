//! Leases: which session may write a scope, and until when.
//!
//! A grant names one holder under a token reserved for it. The holder renews its session; when it
//! stops, the lease runs out and another may be granted the scope. A takeover never waits for the
//! old holder to answer: its late writes are turned away by their token.
//!
//! What always holds:
//!  1. a scope has at most one lease;
//!  2. a later grant carries a higher token;
//!  3. a lease runs out by `LogTime` alone, whether or not a `Tick` came, so every node agrees on
//!     the moment; run out never turns back.
//!
//! Deliberately absent: wall clocks, and any expiry kept per lease, so that a renewal costs the
//! same whatever its session holds.

use crate::machine::Machine;
use crate::scope::{Lease, Scope, ScopeId};
use crate::session::{Session, SessionKey};
use crate::time::{LogTime, Timing};

/// When the session has run out: its last renewal and `TTL·(1+ρ)`.
pub fn session_expires(session: &Session, timing: &Timing) -> LogTime {
    session.renewed_at + timing.run_out()
}

/// When the lease has run out: with its session, or earlier where a renewal was withheld.
pub fn expires(lease: &Lease, session: &Session, timing: &Timing) -> LogTime {
    lease.withheld_from.unwrap_or(session.renewed_at) + timing.run_out()
}

impl Machine {
    /// When a scope's lease runs out unless it is renewed; none when nobody holds it.
    pub fn lease_expires(&self, scope: &Scope) -> Option<LogTime> {
        let lease = scope.lease.as_ref()?;
        let session = self.sessions.get(&lease.holder)?;
        Some(expires(lease, session, self.timing()?))
    }

    /// The scope's lease, if it has not run out at the machine's time.
    pub fn live_lease(&self, id: &ScopeId) -> Option<&Lease> {
        let scope = self.scopes.get(id)?;
        let now = self.clock.now.log;
        self.lease_expires(scope).filter(|end| now < *end).and(scope.lease.as_ref())
    }

    /// The session, if it may still renew.
    pub fn live_session(&self, key: &SessionKey) -> Option<&Session> {
        self.sessions.get(key).filter(|session| self.is_live(session))
    }

    /// Every session that may still renew.
    pub fn live_sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values().filter(|session| self.is_live(session))
    }

    fn is_live(&self, session: &Session) -> bool {
        let now = self.clock.now.log;
        let in_time = |timing| now < session_expires(session, timing);
        !session.barred && self.timing().is_some_and(in_time)
    }

    /// Leases that a session holds, live ones.
    pub fn held_by<'a>(
        &'a self,
        key: &'a SessionKey,
    ) -> impl Iterator<Item = (&'a Scope, &'a Lease)> {
        let (now, timing) = (self.clock.now.log, self.timing());
        let session = self.sessions.get(key);
        self.index.held(key).filter_map(move |id| {
            let scope = self.scopes.get(id)?;
            let lease = scope.lease.as_ref()?;
            (now < expires(lease, session?, timing?)).then_some((scope, lease))
        })
    }

    /// Lease times in force, once founded.
    pub fn timing(&self) -> Option<&Timing> {
        self.cluster.as_ref().map(|cluster| &cluster.config.timing)
    }
}
