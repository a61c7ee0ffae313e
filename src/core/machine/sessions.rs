//! Sessions: open, renew, end; and what runs out by itself.

use super::settle::may_settle;
use super::{Machine, Turn};
use crate::command::{Answer, EndSession, Extended, OpenSession, Outcome, Renew, Renewed};
use crate::lease;
use crate::people::{Actor, Role};
use crate::record::RecordKey;
use crate::refusal::Refusal;
use crate::report::ScopeReport;
use crate::scope::{KnownEnd, Mode, Phase, Scope, ScopeId, Withheld};
use crate::session::{Session, SessionKey, Stall};
use crate::time::{LogTime, Timing};
use std::collections::BTreeMap;

/// Renewals in a row without progress after which a lease is not extended (mode `auto`).
pub const STALLED_MAX: u32 = 3;

impl Machine {
    pub(super) fn open_session(&mut self, turn: &mut Turn, open: &OpenSession) -> Answer {
        owner_only(turn, &open.session)?;
        if let Some(session) = self.sessions.get(&open.session) {
            // A retry of the same opening; anything later would hand an old answer a new start.
            return match session.renew_seq == 0 && self.live_session(&open.session).is_some() {
                true => Ok(Outcome::Renewed(self.renewed(&open.session))),
                false => Err(Refusal::Expired { session: open.session.to_string() }),
            };
        }
        let first = SessionKey { worker: open.session.worker.clone(), boot: 0 };
        let siblings: Vec<SessionKey> = self
            .sessions
            .range(first..)
            .map(|(key, _)| key)
            .take_while(|key| key.worker == open.session.worker)
            .cloned()
            .collect();
        for key in siblings {
            if crate::seeded_bug::is("new_boot_frees_lease") {
                for id in self.held_by(&key).map(|(scope, _)| scope.id.clone()).collect::<Vec<_>>()
                {
                    self.vacate(turn, &id);
                }
            }
            if let Some(session) = self.sessions.get_mut(&key) {
                session.barred = true; // Its leases run out in their own time.
                self.index.ended(session);
                turn.touch(RecordKey::Session(key));
            }
        }
        let session = Session {
            key: open.session.clone(),
            region: open.region.clone(),
            addresses: open.addresses.clone(),
            opened_at: turn.now(),
            renew_seq: 0,
            renewed_at: turn.now(),
            barred: false,
            report: Default::default(),
            stalled: BTreeMap::new(),
        };
        turn.touch(RecordKey::Session(open.session.clone()));
        self.index.opened(&session);
        let run_out = self.timing().map(|timing| timing.run_out()).unwrap_or_default();
        self.index.ends(turn.now() + run_out);
        self.sessions.insert(open.session.clone(), session);
        for scope in self.scopes.values() {
            if scope.policy.members.contains(&open.region) {
                turn.direct(&scope.id);
            }
        }
        Ok(Outcome::Renewed(self.renewed(&open.session)))
    }

    /// Each session and scope is looked up as seldom as can be: with many of them that is what a
    /// renewal costs.
    pub(super) fn renew(&mut self, turn: &mut Turn, renew: &Renew) -> Answer {
        owner_only(turn, &renew.session)?;
        let name = || renew.session.to_string();
        let timing = self.timing().copied().ok_or(Refusal::NotFounded)?;
        let mut answer = self.nothing_renewed(&renew.session);
        let Self { sessions, scopes, index, .. } = self;
        let Some(session) = sessions.get_mut(&renew.session) else {
            return Err(Refusal::NoSession { session: name() });
        };
        if session.barred {
            return Err(Refusal::Barred { session: name() });
        }
        if turn.now() >= lease::session_expires(session, &timing)
            && !crate::seeded_bug::is("expired_renewal_revives")
        {
            return Err(Refusal::Expired { session: name() });
        }
        if renew.seq == session.renew_seq {
            return Ok(Outcome::Renewed(self.renewed(&renew.session)));
        }
        if renew.seq != session.renew_seq + 1 {
            return Err(Refusal::WrongSequence { got: renew.seq, want: session.renew_seq + 1 });
        }
        let held: Vec<&ScopeId> = index.held(&renew.session).collect();
        // What it lost starts anew; of a scope that is gone the last count stays.
        session.stalled.retain(|id, _| held.contains(&id) || !scopes.contains_key(id));
        let last = std::mem::replace(&mut session.renewed_at, turn.now());
        for id in held {
            let Some(scope) = scopes.get_mut(id) else { continue };
            judge_progress(turn, session, last, renew, scope);
            if extend(turn, session, last, renew, scope) {
                turn.touch(RecordKey::Scope(id.clone()));
            }
            list(&mut answer, scope, session, &timing);
        }
        for (id, after) in &renew.report.scopes {
            if answers_a_seal(session.report.scopes.get(id), after)
                && scopes.get(id).is_some_and(|s| s.reservation.is_some() || s.moving.is_some())
            {
                turn.direct(id);
            }
        }
        let told = |(id, after): &(&ScopeId, &ScopeReport)| {
            may_settle(session.report.scopes.get(*id), after)
        };
        let told: Vec<ScopeId> =
            renew.report.scopes.iter().filter(told).map(|(id, _)| id.clone()).collect();
        session.renew_seq = renew.seq;
        session.report = renew.report.clone();
        turn.touch(RecordKey::Session(renew.session.clone()));
        for id in told {
            self.settle(turn, &id);
        }
        answer.seq = renew.seq;
        Ok(Outcome::Renewed(answer))
    }

    /// What the session's last renewal was answered.
    fn renewed(&self, key: &SessionKey) -> Renewed {
        let mut answer = self.nothing_renewed(key);
        let (Some(session), Some(timing)) = (self.sessions.get(key), self.timing()) else {
            return answer;
        };
        answer.seq = session.renew_seq;
        for scope in self.index.held(key).filter_map(|id| self.scopes.get(id)) {
            list(&mut answer, scope, session, timing);
        }
        answer
    }

    fn nothing_renewed(&self, key: &SessionKey) -> Renewed {
        Renewed {
            cluster: self.cluster.as_ref().map(|cluster| cluster.id).unwrap_or_default(),
            session: key.clone(),
            seq: 0,
            now: self.clock.now.log,
            extended: Vec::new(),
            withheld: Vec::new(),
        }
    }

    /// The same boot that has stopped gives everything back at once.
    pub(super) fn end_session(&mut self, turn: &mut Turn, end: &EndSession) -> Answer {
        owner_only(turn, &end.session)?;
        if !self.sessions.contains_key(&end.session) {
            return Err(Refusal::NoSession { session: end.session.to_string() });
        }
        let held: Vec<ScopeId> = self.index.held(&end.session).cloned().collect();
        for id in held {
            let detail = self.vacate(turn, &id);
            let detail = format!("session ended by its worker: {detail}");
            self.note(turn, "vacant", &id.to_string(), &detail);
        }
        self.remove_session(turn, &end.session);
        Ok(Outcome::Done)
    }

    /// Takes away what has run out by now. Before every command, so that *run out* is final.
    pub(super) fn run_out(&mut self, turn: &mut Turn) {
        let Some(timing) = self.timing().copied() else { return };
        let now = turn.now();
        if self.index.is_quiet(now) {
            return;
        }
        let since = self.index.looked_at();
        let ended = self.sessions.values().filter(|session| !session.barred).any(|session| {
            let end = lease::session_expires(session, &timing);
            since < end && end <= now
        });
        if ended {
            self.index.stir(turn.index);
        }
        let over: Vec<ScopeId> = self
            .scopes
            .values()
            .filter(|scope| {
                scope.lease.as_ref().is_some_and(|l| {
                    self.sessions
                        .get(&l.holder)
                        .is_none_or(|session| now >= lease::expires(l, session, &timing))
                        && !crate::seeded_bug::is("expired_renewal_revives")
                })
            })
            .map(|scope| scope.id.clone())
            .collect();
        let next = self.next_end();
        self.index.looked(now, next);
        for id in over {
            let detail = format!("lease ran out: {}", self.vacate(turn, &id));
            self.note_time(turn, "vacant", &id.to_string(), &detail);
        }
    }

    pub(super) fn remove_session(&mut self, turn: &mut Turn, key: &SessionKey) {
        if let Some(session) = self.sessions.remove(key) {
            self.index.ended(&session);
            turn.touch(RecordKey::Session(key.clone()));
        }
    }

    /// Ends a lease; who held it. A scope that is being sealed stays so: its next holder is coming.
    pub(super) fn vacate(&mut self, turn: &mut Turn, id: &ScopeId) -> String {
        let mut held = String::new();
        self.change_scope(turn, id, |scope| {
            if let Some(lease) = scope.lease.take() {
                held = format!("{} token={}", lease.holder, lease.token);
            }
            if scope.phase != Phase::Sealing {
                scope.phase = Phase::Vacant;
            }
        });
        held
    }
}

/// Puts a lease into the answer to a renewal: extended by it, or withheld and why.
fn list(answer: &mut Renewed, scope: &Scope, session: &Session, timing: &Timing) {
    let Some(lease) = &scope.lease else { return };
    if let Some(why) = lease.withheld_why {
        answer.withheld.push((scope.id.clone(), why));
    }
    let extended = lease.withheld_from.is_none() || crate::seeded_bug::is("withheld_listed");
    if extended && answer.now < lease::expires(lease, session, timing) {
        answer.extended.push(Extended {
            scope: scope.id.clone(),
            token: lease.token,
            start: scope.reign().map(|reign| reign.start).unwrap_or_default(),
        });
    }
}

/// Extends one lease with this renewal, or withholds it from the session's `last` one on; whether its
/// scope is another now.
fn extend(turn: &Turn, session: &Session, last: LogTime, renew: &Renew, scope: &mut Scope) -> bool {
    let stalled = session.stalled.get(&scope.id).map_or(0, |stall| stall.renewals);
    let why = if scope.lease_is_doomed() {
        Some(Withheld::Reserved)
    } else if stalled >= STALLED_MAX && scope.mode == Mode::Auto {
        Some(Withheld::NoProgress)
    } else {
        None
    };
    let Some(lease) = &mut scope.lease else { return false };
    let before = (lease.withheld_from, lease.withheld_why);
    lease.withheld_from = why.map(|_| lease.withheld_from.unwrap_or(last));
    lease.withheld_why = why;
    let mut changed = before != (lease.withheld_from, lease.withheld_why);
    let report = renew.report.scopes.get(&scope.id).filter(|r| r.token == lease.token);
    if let Some(report) = report {
        let known = KnownEnd {
            region: session.region.clone(),
            token: lease.token,
            end: report.end,
            rows: report.rows,
            sealed_at: report.sealed_at,
            at: turn.now(),
        };
        changed |= scope.last_known.as_ref() != Some(&known);
        scope.last_known = Some(known);
    }
    changed
}

/// Counts renewals in which a holder had input and did nothing with it since the `last` one.
fn judge_progress(turn: &Turn, session: &mut Session, last: LogTime, renew: &Renew, scope: &Scope) {
    let exempt = matches!(scope.phase, Phase::Draining | Phase::Sealing)
        || scope.pause.as_ref().is_some_and(|pause| !pause.is_over(turn.at));
    let reports = (session.report.scopes.get(&scope.id), renew.report.scopes.get(&scope.id));
    match reports {
        (Some(before), Some(after)) if !exempt && stands_still(before, after) => {
            let begun = Stall { renewals: 0, since: last };
            session.stalled.entry(scope.id.clone()).or_insert(begun).renewals += 1;
        }
        _ => drop(session.stalled.remove(&scope.id)),
    }
}

/// Whether a report brings the answer to a seal, a barrier or a tail.
fn answers_a_seal(before: Option<&ScopeReport>, after: &ScopeReport) -> bool {
    before.is_none_or(|old| old.sealed != after.sealed || old.role != after.role)
}

/// A holder stands still when it has newer input than it has taken in, and took nothing in.
fn stands_still(before: &ScopeReport, after: &ScopeReport) -> bool {
    after.token == before.token
        && after.input > after.watermark
        && after.watermark <= before.watermark
        && after.end == before.end
}

/// A worker speaks for its own sessions alone.
fn owner_only(turn: &Turn, session: &SessionKey) -> Result<(), Refusal> {
    match turn.actor {
        Actor::Worker(id) if *id == session.worker => Ok(()),
        other => Err(Refusal::NotAllowed { who: other.to_string(), role: Role::Admin }),
    }
}
