//! A restore, part by part, and what a restored cluster must not do yet.

use super::{Machine, Turn};
use crate::audit;
use crate::command::{Answer, Outcome};
use crate::config::ClusterId;
use crate::people::Role;
use crate::position::{Hash, Position};
use crate::promotion::{self, Difference, PromotionId, State};
use crate::record::{Record, RecordKey};
use crate::refusal::Refusal;
use crate::restore::{Act, Begin, Finish, Progress, Restore, Restored};
use crate::rules::Change;
use crate::scope::{Phase, Scope, ScopeId};
use crate::session::Session;
use std::collections::BTreeSet;

impl Machine {
    /// How far a restore has come, if this cluster came from one.
    pub fn restored(&self) -> Option<&Restored> {
        self.restored.as_ref()
    }

    pub(super) fn restore(&mut self, turn: &mut Turn, restore: &Restore) -> Answer {
        if let Some(cluster) = &self.cluster {
            return Err(Refusal::AlreadyFounded { id: cluster.id });
        }
        match &restore.act {
            Act::Begin(begin) => self.begin_restore(turn, restore.backup, begin),
            Act::Part { part, records } => {
                let (_, next) = self.arriving(turn, restore.backup)?;
                if *part < next {
                    return Ok(Outcome::Restoring { next }); // Sent again.
                }
                if *part > next {
                    return Err(invalid("part", format!("{part} is not the next one, {next}")));
                }
                self.fits(records)?;
                records.iter().for_each(|record| self.take(turn, record));
                self.arrived(turn, next + 1)
            }
            Act::Finish(finish) => {
                let (begin, next) = self.arriving(turn, restore.backup)?;
                if finish.parts != next {
                    return Err(invalid("parts", format!("{next} came, not {}", finish.parts)));
                }
                if self.audit_head != begin.audit {
                    let (has, needs) = (self.audit_head.end.seq, begin.audit.end.seq);
                    return Err(invalid("audit", format!("ends at {has}, not at {needs}")));
                }
                self.finish_restore(turn, restore.backup, begin, finish)
            }
        }
    }

    fn begin_restore(&mut self, turn: &mut Turn, backup: Hash, begin: &Begin) -> Answer {
        let by = turn.person(Role::Admin)?;
        let people = &begin.cluster.config.people;
        if !people.get(&by).is_some_and(|person| person.has_everywhere(Role::Admin)) {
            return Err(Refusal::NotAllowed { who: by.to_string(), role: Role::Admin });
        }
        // Whatever came of another attempt goes.
        let known: BTreeSet<RecordKey> = self.keys().into_iter().collect();
        let clock = self.clock;
        *self = Self { clock, ..Self::default() };
        turn.changed.extend(known);
        self.restored = Some(Restored {
            backup,
            by,
            from: begin.cluster.id,
            progress: Progress::Arriving { begin: begin.clone(), next: 0 },
        });
        turn.touch(RecordKey::Restored);
        Ok(Outcome::Restoring { next: 0 })
    }

    /// What the backup under way began with, and its next part.
    fn arriving(&self, turn: &Turn, backup: Hash) -> Result<(Begin, u32), Refusal> {
        let by = turn.person(Role::Admin)?;
        match &self.restored {
            Some(Restored {
                backup: known,
                by: who,
                progress: Progress::Arriving { begin, next },
                ..
            }) if *known == backup && *who == by => Ok((begin.clone(), *next)),
            _ => Err(invalid("backup", format!("{} was not begun by {by}", backup.short()))),
        }
    }

    fn arrived(&mut self, turn: &mut Turn, came: u32) -> Answer {
        if let Some(Restored { progress: Progress::Arriving { next, .. }, .. }) = &mut self.restored
        {
            *next = came;
            turn.touch(RecordKey::Restored);
        }
        Ok(Outcome::Restoring { next: came })
    }

    /// Whether a part can be taken whole: the audit goes on where it ended, and an edited one is not
    /// taken.
    fn fits(&self, records: &[Record]) -> Result<(), Refusal> {
        let mut end = self.audit_head.end;
        for record in records {
            match record {
                Record::Audit(entry) => {
                    end = audit::verify(end, std::slice::from_ref(entry))
                        .map_err(|seq| invalid("audit", format!("entry {seq} does not follow")))?;
                }
                Record::Clock(_)
                | Record::Cluster(_)
                | Record::AuditHead(_)
                | Record::Restored(_) => {
                    return Err(invalid("record", "stands at the backup's beginning".to_owned()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes one record in. What a restored cluster has none of is passed over.
    fn take(&mut self, turn: &mut Turn, record: &Record) {
        let key = match record {
            Record::Audit(entry) => {
                self.audit_head.end = Position { seq: entry.seq, hash: entry.hash };
                turn.touch(RecordKey::AuditHead);
                return self.keep_audit(turn, entry.clone());
            }
            Record::Region(it) => RecordKey::Region(it.name.clone()),
            Record::Scope(it) => RecordKey::Scope(it.id.clone()),
            Record::Promotion(it) => RecordKey::Promotion(it.id),
            Record::Review(it) => RecordKey::Review(it.id),
            Record::Rule(it) => RecordKey::Rule(it.id),
            Record::Preference(_) => RecordKey::Preference,
            // Nobody of the old cluster is in a session with this one, or asked it anything; the
            // rest stands at the beginning.
            Record::Session(_)
            | Record::Request(_)
            | Record::Clock(_)
            | Record::Cluster(_)
            | Record::AuditHead(_)
            | Record::Restored(_) => return,
        };
        turn.touch(key);
        self.load(record.clone());
    }

    fn finish_restore(
        &mut self,
        turn: &mut Turn,
        backup: Hash,
        begin: Begin,
        finish: &Finish,
    ) -> Answer {
        let by = turn.person(Role::Admin)?;
        let from = begin.cluster.id;
        let taken = begin.clock.now;
        let mut cluster = begin.cluster;
        cluster.id = finish.id;
        cluster.incarnation = finish.incarnation.max(cluster.incarnation.saturating_add(1));
        for seat in &finish.seats {
            let Some(region) = cluster.config.regions.get_mut(&seat.region) else {
                return Err(invalid("region", format!("{} is not configured", seat.region)));
            };
            (region.node, region.raft, region.api) =
                (seat.node, seat.raft.clone(), seat.api.clone());
        }
        let incarnation = cluster.incarnation;
        let run_out = cluster.config.timing.run_out();
        self.cluster = Some(cluster);
        turn.touch(RecordKey::Cluster);
        // LogTime goes on from where it was: what ends by it was counted by it.
        let log = self.clock.now.log.max(taken.log);
        let (next_promotion, next_review) = (begin.clock.next_promotion, begin.clock.next_review);
        self.clock.now.log = log;
        (self.clock.next_promotion, self.clock.next_review) = (next_promotion, next_review);
        turn.at.log = log;
        self.end_what_was_open(turn, from, finish.id);
        self.let_go(turn);
        self.raise_tokens(turn, incarnation);
        let detail = format!(
            "from backup {} of {from}, taken at {}; incarnation {incarnation}",
            backup.short(),
            taken.wall
        );
        self.note(turn, "restore", &finish.id.to_string(), &detail);
        let change = Change::Restore { from, backup, taken };
        let rule = self.open_rule(turn, &by, change, Some("restored from a backup".to_owned()));
        let quiet_until = log + run_out;
        let progress = Progress::Waiting { rule, quiet_until };
        self.restored = Some(Restored { backup, by, from, progress });
        turn.touch(RecordKey::Restored);
        let people_missing = self.rules.get(&rule).map_or(0, |rule| rule.people_missing());
        if people_missing == 0 {
            self.agree_to_restore(turn);
        }
        Ok(Outcome::Rule { id: rule, people_missing })
    }

    /// Approvals were given to another cluster. What had been granted stays where it went.
    fn end_what_was_open(&mut self, turn: &mut Turn, from: ClusterId, to: ClusterId) {
        let open: Vec<(PromotionId, promotion::Outcome)> = self
            .promotions
            .values()
            .filter(|p| p.is_open())
            .map(|p| {
                let outcome = match (&p.state, p.is_past_grant()) {
                    (_, true) => promotion::Outcome::Done,
                    (State::Waiting, false) => promotion::Outcome::Void {
                        differences: vec![Difference {
                            field: "cluster".to_owned(),
                            bound: from.to_string(),
                            now: to.to_string(),
                        }],
                    },
                    (_, false) => promotion::Outcome::RolledBack {
                        why: "the cluster was restored from a backup".to_owned(),
                    },
                };
                (p.id, outcome)
            })
            .collect();
        for (id, outcome) in open {
            self.end_promotion(turn, id, outcome);
        }
        let rules: Vec<_> =
            self.rules.values().filter(|rule| rule.is_open()).map(|rule| rule.id).collect();
        for id in rules {
            self.void_rule(turn, id, "the cluster was restored from a backup");
        }
    }

    /// No lease, no reservation: nobody holds anything of this cluster.
    fn let_go(&mut self, turn: &mut Turn) {
        let ids: Vec<ScopeId> = self.scopes.keys().cloned().collect();
        for id in ids {
            self.change_scope(turn, &id, |scope| {
                scope.lease = None;
                scope.reservation = None;
                scope.moving = None;
                scope.kept_until = None;
                scope.regrants.clear();
                scope.phase = Phase::Vacant;
            });
        }
        for region in self.regions.values_mut() {
            region.link = Default::default();
            region.report = Default::default();
            region.reported_at = None;
            turn.touch(RecordKey::Region(region.name.clone()));
        }
    }

    fn raise_tokens(&mut self, turn: &mut Turn, incarnation: u32) {
        let ids: Vec<ScopeId> = self.scopes.keys().cloned().collect();
        for id in ids {
            self.change_scope(turn, &id, |scope| {
                scope.highest.incarnation = scope.highest.incarnation.max(incarnation);
            });
        }
    }

    /// People agree that this is the backup. By now the sinks have told what they saw.
    pub(super) fn agree_to_restore(&mut self, turn: &mut Turn) {
        let seen = self
            .sessions
            .values()
            .flat_map(|session| session.report.scopes.values())
            .map(|report| report.highest.incarnation)
            .max()
            .unwrap_or(0);
        let has = self.incarnation();
        if seen >= has
            && let Some(cluster) = &mut self.cluster
        {
            cluster.incarnation = seen.saturating_add(1);
            turn.touch(RecordKey::Cluster);
            let detail = format!("was {has}; a sink has seen {seen}");
            self.note(turn, "incarnation", &(seen + 1).to_string(), &detail);
            self.raise_tokens(turn, seen.saturating_add(1));
        }
        let at = turn.at;
        if let Some(restored) = &mut self.restored {
            let quiet_until = restored.quiet_until();
            restored.progress = Progress::Agreed { at, quiet_until };
            turn.touch(RecordKey::Restored);
        }
    }

    /// Whether this cluster may grant anything yet.
    ///
    /// # Errors
    /// What it waits for.
    pub fn may_grant(&self) -> Result<(), Refusal> {
        let Some(restored) = &self.restored else { return Ok(()) };
        if let Some(rule) = restored.waits_for() {
            let missing = self.rules.get(&rule).map_or(0, |rule| rule.people_missing());
            return Err(Refusal::Restoring { rule, missing });
        }
        let until = restored.quiet_until();
        if self.clock.now.log < until { Err(Refusal::Quiet { until }) } else { Ok(()) }
    }

    /// The first grant after a restore goes to whoever has most: the backup may not know of the
    /// reigns that came after it, and what was written under them is data all the same.
    ///
    /// # Errors
    /// Who has more, or that too few sinks are heard to tell.
    pub fn furthest_after_restore(&self, scope: &Scope, session: &Session) -> Result<(), Refusal> {
        let reigned = scope.reign().is_some_and(|r| r.token.incarnation == self.incarnation());
        if self.restored.is_none() || reigned {
            return Ok(());
        }
        let ends: Vec<_> = scope
            .policy
            .members
            .iter()
            .filter_map(|region| {
                let (_, report) = self.sink_of(region, &scope.id)?;
                Some((region.clone(), report.end))
            })
            .collect();
        if ends.len() < scope.policy.sinks_needed() {
            let heard = |region| ends.iter().any(|(heard, _)| heard == region);
            let silent: Vec<String> = (scope.policy.members.iter())
                .filter(|region| !heard(*region))
                .map(ToString::to_string)
                .collect();
            return Err(Refusal::NotSealed { scope: scope.id.clone(), missing: silent.join(", ") });
        }
        let own = session.report.scopes.get(&scope.id).map(|r| r.end).unwrap_or(Position::START);
        match ends.into_iter().max_by_key(|(_, end)| end.seq) {
            Some((region, end)) if end.seq > own.seq => Err(Refusal::NotFurthest {
                scope: scope.id.clone(),
                candidate: session.region.clone(),
                region,
                records: end.seq - own.seq,
            }),
            _ => Ok(()),
        }
    }
}

fn invalid(what: &str, why: String) -> Refusal {
    Refusal::Invalid { what: what.to_owned(), why }
}
