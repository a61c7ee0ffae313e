//! At most one holder: no worker believes that it may write at the true moment when another is
//! granted the scope, and the machine never replaces a lease that lives in LogTime.
//!
//! Beliefs are the workers' own deadlines, translated into true time; their clocks have offsets and
//! rates of their own.

use super::{Event, Invariant};
use cryptorun_core::command::Command;
use cryptorun_core::scope::{Lease, ScopeId};
use cryptorun_core::session::SessionKey;
use cryptorun_core::time::LogTime;
use cryptorun_core::token::Token;
use openraft::EntryPayload;
use std::collections::BTreeMap;
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub struct OneHolder {
    last: u64,
    beliefs: BTreeMap<String, (Token, Duration)>,
    /// Lease and when it would run out, as of the entry before.
    leases: BTreeMap<ScopeId, (Token, SessionKey, LogTime)>,
}

impl Invariant for OneHolder {
    fn name(&self) -> &'static str {
        "one_holder"
    }

    fn see(&mut self, now: Duration, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Holds { worker, token, until } => {
                self.beliefs.insert((*worker).to_owned(), (*token, *until));
                let other = (self.beliefs.iter()).find(|(who, (theirs, end))| {
                    who.as_str() != *worker && theirs != token && *end > now && *until > now
                });
                match other {
                    Some((who, (theirs, end))) => Err(format!(
                        "{worker} holds {token} until {until:?}, {who} holds {theirs} until {end:?}"
                    )),
                    None => Ok(()),
                }
            }
            Event::Stopped { worker } => {
                self.beliefs.remove(*worker);
                Ok(())
            }
            Event::Applied { seen, .. } if seen.log_id.index > self.last => {
                self.last = seen.log_id.index;
                let EntryPayload::Normal(payload) = &seen.entry.payload else { return Ok(()) };
                let command = &payload.entry().command;
                let at = seen.machine.now().log;
                let mut wrong = Ok(());
                for scope in seen.machine.scopes().values() {
                    let lease = scope.lease.as_ref();
                    if let Err(why) = self.replaced(&scope.id, lease, at, command) {
                        wrong = Err(why);
                    }
                    match (lease, seen.machine.lease_expires(scope)) {
                        (Some(lease), Some(end)) => {
                            let held = (lease.token, lease.holder.clone(), end);
                            self.leases.insert(scope.id.clone(), held);
                        }
                        _ => drop(self.leases.remove(&scope.id)),
                    }
                }
                wrong
            }
            _ => Ok(()),
        }
    }
}

impl OneHolder {
    /// A lease that lives is replaced by nobody but its holder.
    fn replaced(
        &self,
        scope: &ScopeId,
        lease: Option<&Lease>,
        at: LogTime,
        command: &Command,
    ) -> Result<(), String> {
        let Some((token, holder, end)) = self.leases.get(scope) else { return Ok(()) };
        let same = lease.is_some_and(|lease| lease.token == *token && lease.holder == *holder);
        let own = match command {
            Command::Handover(it) => it.session == *holder,
            Command::Release(it) => it.session == *holder,
            Command::EndSession(it) => it.session == *holder,
            _ => false,
        };
        if same || own || at >= *end {
            return Ok(());
        }
        Err(format!("{scope}: {holder} lost {token} at {at}, before {end}, by {command:?}"))
    }
}
