//! Sessions: open, renew, end; and what runs out by itself.

use super::{Machine, Turn};
use crate::command::{Answer, EndSession, Extended, OpenSession, Outcome, Renew, Renewed};
use crate::lease;
use crate::people::{Actor, Role};
use crate::record::RecordKey;
use crate::refusal::Refusal;
use crate::report::ScopeReport;
use crate::scope::{KnownEnd, Mode, Phase, Scope, ScopeId, Withheld};
use crate::session::{Session, SessionKey};
use std::collections::BTreeMap;

/// Renewals in a row without progress after which a lease is not extended (mode `auto`).
pub const STALLED_MAX: u32 = 3;

impl Machine {
    pub(super) fn open_session(&mut self, turn: &mut Turn, open: &OpenSession) -> Answer {
        owner_only(turn, &open.session)?;
        if let Some(session) = self.sessions.get(&open.session) {
            // A retry of the same opening; anything later would hand an old answer a new start.
            return match session.renew_seq == 0 && self.live_session(&open.session).is_some() {
                true => Ok(Outcome::Renewed(self.renewed(&open.session, Vec::new()))),
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
        Ok(Outcome::Renewed(self.renewed(&open.session, Vec::new())))
    }

    pub(super) fn renew(&mut self, turn: &mut Turn, renew: &Renew) -> Answer {
        owner_only(turn, &renew.session)?;
        let name = || renew.session.to_string();
        let Some(session) = self.sessions.get(&renew.session) else {
            return Err(Refusal::NoSession { session: name() });
        };
        if session.barred {
            return Err(Refusal::Barred { session: name() });
        }
        if self.live_session(&renew.session).is_none()
            && !crate::seeded_bug::is("expired_renewal_revives")
        {
            return Err(Refusal::Expired { session: name() });
        }
        if renew.seq == session.renew_seq {
            let withheld = self.withheld_of(&renew.session);
            return Ok(Outcome::Renewed(self.renewed(&renew.session, withheld)));
        }
        if renew.seq != session.renew_seq + 1 {
            return Err(Refusal::WrongSequence { got: renew.seq, want: session.renew_seq + 1 });
        }
        let held: Vec<ScopeId> = self.index.held(&renew.session).cloned().collect();
        self.judge_progress(turn, renew, &held);
        for id in &held {
            self.extend(turn, renew, id);
        }
        let fresh_seal = self.answers_a_seal(renew);
        if let Some(session) = self.sessions.get_mut(&renew.session) {
            session.renew_seq = renew.seq;
            session.renewed_at = turn.now();
            session.report = renew.report.clone();
            turn.touch(RecordKey::Session(renew.session.clone()));
        }
        for id in fresh_seal {
            turn.direct(&id);
        }
        let withheld = self.withheld_of(&renew.session);
        Ok(Outcome::Renewed(self.renewed(&renew.session, withheld)))
    }

    /// Extends one lease with this renewal, or withholds it.
    fn extend(&mut self, turn: &mut Turn, renew: &Renew, id: &ScopeId) {
        let Some(session) = self.sessions.get(&renew.session) else { return };
        let (last, stalled) = (session.renewed_at, session.stalled.get(id).copied().unwrap_or(0));
        let region = session.region.clone();
        let Some(scope) = self.scopes.get_mut(id) else { return };
        let doomed = scope.lease_is_doomed();
        let stuck = stalled >= STALLED_MAX && scope.mode == Mode::Auto;
        let report = renew.report.scopes.get(id);
        let before = scope.clone();
        if let Some(lease) = &mut scope.lease {
            let why = match (doomed, stuck) {
                (true, _) => Some(Withheld::Reserved),
                (false, true) => Some(Withheld::NoProgress),
                (false, false) => None,
            };
            lease.withheld_from = why.map(|_| lease.withheld_from.unwrap_or(last));
            lease.withheld_why = why;
            if let Some(report) = report.filter(|r| r.token == lease.token) {
                scope.last_known = Some(KnownEnd {
                    region,
                    token: lease.token,
                    end: report.end,
                    rows: report.rows,
                    sealed_at: report.sealed_at,
                    at: turn.now(),
                });
            }
        }
        if *scope != before {
            turn.touch(RecordKey::Scope(id.clone()));
        }
    }

    /// Counts renewals in which a holder had input and did nothing with it.
    fn judge_progress(&mut self, turn: &Turn, renew: &Renew, held: &[ScopeId]) {
        let exempt = |scope: &Scope| {
            matches!(scope.phase, Phase::Draining | Phase::Sealing)
                || scope.pause.as_ref().is_some_and(|pause| !pause.is_over(turn.at))
        };
        let Some(session) = self.sessions.get_mut(&renew.session) else { return };
        // What it lost starts anew; of a scope that is gone the last count stays.
        session.stalled.retain(|id, _| held.contains(id) || !self.scopes.contains_key(id));
        for id in held {
            let Some(scope) = self.scopes.get(id) else { continue };
            let still = !exempt(scope)
                && match (session.report.scopes.get(id), renew.report.scopes.get(id)) {
                    (Some(before), Some(after)) => stands_still(before, after),
                    _ => false,
                };
            match still {
                true => *session.stalled.entry(id.clone()).or_default() += 1,
                false => drop(session.stalled.remove(id)),
            }
        }
    }

    /// Scopes for which this renewal brings the answer to a seal, a barrier or a tail: the
    /// controller should look at once.
    fn answers_a_seal(&self, renew: &Renew) -> Vec<ScopeId> {
        let before = self.sessions.get(&renew.session).map(|s| &s.report.scopes);
        renew
            .report
            .scopes
            .iter()
            .filter(|(id, after)| {
                let moving = self
                    .scopes
                    .get(*id)
                    .is_some_and(|s| s.reservation.is_some() || s.moving.is_some());
                let old = before.and_then(|scopes| scopes.get(*id));
                moving && old.is_none_or(|old| old.sealed != after.sealed || old.role != after.role)
            })
            .map(|(id, _)| id.clone())
            .collect()
    }

    fn withheld_of(&self, key: &SessionKey) -> Vec<(ScopeId, Withheld)> {
        self.index
            .held(key)
            .filter_map(|id| {
                let lease = self.scopes.get(id)?.lease.as_ref()?;
                Some((id.clone(), lease.withheld_why?))
            })
            .collect()
    }

    /// The answer to a renewal: only leases that the session's last renewal extended are listed.
    fn renewed(&self, key: &SessionKey, withheld: Vec<(ScopeId, Withheld)>) -> Renewed {
        let extended = self
            .held_by(key)
            .filter(|(_, lease)| {
                lease.withheld_from.is_none() || crate::seeded_bug::is("withheld_listed")
            })
            .map(|(scope, lease)| Extended {
                scope: scope.id.clone(),
                token: lease.token,
                start: scope.reign().map(|reign| reign.start).unwrap_or_default(),
            })
            .collect();
        Renewed {
            cluster: self.cluster.as_ref().map(|cluster| cluster.id).unwrap_or_default(),
            session: key.clone(),
            seq: self.sessions.get(key).map_or(0, |session| session.renew_seq),
            now: self.clock.now.log,
            extended,
            withheld,
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
