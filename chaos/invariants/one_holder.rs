//! At most one holder: the machine never replaces a lease that lives in LogTime; and in true time the
//! holder's own deadline lies at least the guard before the next grant, unless it gave up first.
//!
//! Beliefs are the workers' deadlines, translated into true time; their clocks have offsets and rates
//! of their own. Beyond tolerated rates beliefs may overlap, and only writes count ([`super::visible_once`]).

use super::{Event, Invariant, Once, entry_of};
use crate::cluster::{timing, warm};
use crate::tally::Tally;
use cryptorun_core::command::Command;
use cryptorun_core::scope::{Lease, ScopeId};
use cryptorun_core::session::SessionKey;
use cryptorun_core::time::LogTime;
use cryptorun_core::token::Token;
use std::collections::BTreeMap;
use std::time::Duration;

/// Clocks are read a moment before and after; rates may change while a lease runs.
const SLACK: Duration = Duration::from_millis(45);

/// See the module.
pub struct OneHolder {
    in_time: bool,
    once: Once,
    beliefs: BTreeMap<u64, (Token, Duration)>,
    granted: Token,
    /// Lease and when it would run out, as of the entry before.
    leases: BTreeMap<ScopeId, (Token, SessionKey, LogTime)>,
    gap: Option<Duration>,
    /// The last lease was given back by its holder, which had stopped: no gap is owed.
    given_back: bool,
    /// By token: when the cluster may at the earliest take it for run out, as renewals went.
    runs_out: BTreeMap<Token, Duration>,
}

impl OneHolder {
    pub fn new(in_time: bool) -> Self {
        Self {
            in_time,
            once: Once::default(),
            beliefs: BTreeMap::new(),
            granted: Token::NONE,
            leases: BTreeMap::new(),
            gap: None,
            given_back: false,
            runs_out: BTreeMap::new(),
        }
    }

    /// A lease that lives is replaced by nobody but its holder.
    fn replaced(
        &mut self,
        scope: &ScopeId,
        lease: Option<&Lease>,
        at: LogTime,
        command: &Command,
    ) -> Result<(), String> {
        let Some((token, holder, end)) = &self.leases.get(scope).cloned() else { return Ok(()) };
        let same = lease.is_some_and(|lease| lease.token == *token && lease.holder == *holder);
        if same {
            return Ok(());
        }
        let own = match command {
            Command::Handover(it) => it.session == *holder,
            Command::Release(it) => it.session == *holder,
            Command::EndSession(it) => it.session == *holder,
            _ => false,
        };
        self.given_back = own;
        if own || at >= *end {
            return Ok(());
        }
        Err(format!("{scope}: {holder} lost {token} at {at}, before {end}, by {command:?}"))
    }

    /// A new reign begins: everybody else has stopped for long enough.
    fn granted(&mut self, now: Duration, token: Token) -> Result<(), String> {
        let guard = timing().guard.to_duration();
        for (worker, (theirs, until)) in &self.beliefs {
            if *theirs >= token {
                continue;
            }
            let gap = now.checked_sub(*until);
            if self.given_back && gap.is_some() {
                continue;
            }
            if gap.is_none_or(|gap| gap + SLACK < guard) {
                return Err(format!(
                    "{token} is granted at {now:?}; {worker} may act under {theirs} until {until:?}"
                ));
            }
            self.gap = self.gap.min(gap).or(gap);
        }
        Ok(())
    }
}

impl Invariant for OneHolder {
    fn name(&self) -> &'static str {
        "one_holder"
    }

    fn see(&mut self, now: Duration, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Holds { worker, token, until } => {
                self.beliefs.insert(*worker, (*token, *until));
                if !self.in_time {
                    return Ok(());
                }
                if let Some(end) = self.runs_out.get(token).filter(|end| *until > **end + SLACK) {
                    return Err(format!(
                        "{worker} holds {token} until {until:?}; to the cluster it is over at {end:?}"
                    ));
                }
                let other = (self.beliefs.iter()).find(|(who, (theirs, end))| {
                    *who != worker && theirs != token && *end > now && *until > now
                });
                match other {
                    Some((who, (theirs, end))) => Err(format!(
                        "{worker} holds {token} until {until:?}, {who} holds {theirs} until {end:?}"
                    )),
                    None => Ok(()),
                }
            }
            Event::Stopped { worker } | Event::Died { worker } => {
                // One that ran out stays known: the gap to the next grant counts from there.
                self.beliefs.retain(|who, (_, until)| who != worker || *until < now);
                Ok(())
            }
            Event::Applied { seen, .. } if self.once.is_new(seen) => {
                let Some(entry) = entry_of(seen) else { return Ok(()) };
                let at = seen.machine.now().log;
                let mut wrong = Ok(());
                for scope in seen.machine.scopes().values() {
                    let lease = scope.lease.as_ref();
                    if let Err(why) = self.replaced(&scope.id, lease, at, &entry.command) {
                        wrong = Err(why);
                    }
                    match (lease, seen.machine.lease_expires(scope)) {
                        (Some(lease), Some(end)) => {
                            let left = end.since(at).to_duration();
                            let known = self.runs_out.entry(lease.token).or_default();
                            *known = (*known).max(now + left + left / 100);
                            let held = (lease.token, lease.holder.clone(), end);
                            self.leases.insert(scope.id.clone(), held);
                        }
                        _ => drop(self.leases.remove(&scope.id)),
                    }
                }
                let reign = seen.machine.scopes().get(&warm()).and_then(|s| s.reign());
                if let Some(token) = reign.map(|reign| reign.token).filter(|t| *t > self.granted) {
                    self.granted = token;
                    if self.in_time {
                        wrong = wrong.and(self.granted(now, token));
                    }
                }
                wrong
            }
            _ => Ok(()),
        }
    }

    fn reached(&mut self, tally: &mut Tally) {
        if let Some(gap) = self.gap.take() {
            tally.least("gap_ms", u64::try_from(gap.as_millis()).unwrap_or(u64::MAX));
        }
    }
}
