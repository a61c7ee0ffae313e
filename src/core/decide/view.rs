//! The predicates, each with what is known of it and what would turn it.

use super::change::{Change, Ways};
use super::loss::{Loss, age, behind};
use super::{Ask, Predicate, PredicateName, Verdict, holder_answers};
use crate::diagnose::{self, CLOCK_CRITICAL_MS, CLOCK_TARGET_MS, Diagnosis};
use crate::machine::Machine;
use crate::people::Actor;
use crate::promotion::Kind;
use crate::refusal::Refusal;
use crate::region::{Link, RegionName};
use crate::report::ScopeReport;
use crate::scope::{Mode, Scope};
use crate::time::Millis;

/// The leader proposes a tick so often at least: time that has passed is noticed by then.
const TICK: Millis = Millis::secs(1);

/// What the predicates are computed from.
pub(super) struct View<'a> {
    machine: &'a Machine,
    scope: &'a Scope,
    ask: &'a Ask,
    /// The target's sink.
    target: Option<(&'a crate::session::Session, &'a ScopeReport)>,
    /// That the holder is gone, for how long, and who says so.
    gone: Option<Diagnosis>,
    /// Of an emergency: that the holder is there and does nothing, instead.
    unwell: Option<Diagnosis>,
}

impl<'a> View<'a> {
    pub(super) fn new(machine: &'a Machine, scope: &'a Scope, ask: &'a Ask) -> Self {
        let gone = diagnose::gone(machine, scope);
        let unwell = match (&gone, ask.kind) {
            (None, Kind::Emergency) => diagnose::unwell(machine, scope),
            _ => None,
        };
        Self { machine, scope, ask, target: machine.sink_of(&ask.to, &scope.id), gone, unwell }
    }

    fn held_up_by_person(&self) -> bool {
        self.ask.by.is_some()
    }

    fn predicate(&self, name: PredicateName, holds: bool) -> Predicate {
        Predicate {
            name,
            value: String::new(),
            threshold: String::new(),
            source: "the log".to_owned(),
            age: None,
            verdict: if holds { Verdict::Yes } else { Verdict::No },
            hard: true,
            turned_by: Vec::new(),
        }
    }

    /// How long the lease lives without a renewal; none where it does not live.
    fn lease_left(&self) -> Option<Millis> {
        self.machine.live_lease(&self.scope.id)?;
        Some(self.machine.lease_expires(self.scope)?.since(self.machine.now().log))
    }

    fn silence(&self, span: Millis) -> Change {
        Change::Silence { region: self.scope.assigned.clone(), span }
    }

    fn holder_back(&self) -> Change {
        Change::HolderBack { region: self.scope.assigned.clone() }
    }

    fn worker_up(&self, region: &RegionName) -> Change {
        match *region == self.scope.assigned {
            true => self.holder_back(),
            false => Change::WorkerUp { region: region.clone() },
        }
    }

    fn report_age(&self) -> Option<Millis> {
        self.target.map(|(session, _)| self.machine.now().log.since(session.renewed_at))
    }

    pub(super) fn holder(&self) -> Predicate {
        let ok = self.scope.assigned != self.ask.to;
        Predicate {
            value: self.scope.assigned.to_string(),
            threshold: format!("not {}", self.ask.to),
            ..self.predicate(PredicateName::Holder, ok)
        }
    }

    pub(super) fn primary(&self) -> Predicate {
        let limits = self.machine.limits();
        if self.ask.kind == Kind::Switchover {
            let answers = holder_answers(self.machine, self.scope);
            return Predicate {
                value: if answers { "answers" } else { "does not answer" }.to_owned(),
                threshold: "answers".to_owned(),
                source: format!("renewals of {}", self.scope.assigned),
                turned_by: either(!answers, [self.holder_back()]),
                ..self.predicate(PredicateName::Primary, answers)
            };
        }
        let word = if self.gone.is_some() { "gone" } else { "idle" };
        let cause = self.gone.as_ref().or(self.unwell.as_ref());
        let (value, source, ok) = match cause {
            Some(found) => {
                (format!("{word} {}", found.lasting), found.evidence.join("; "), found.confirmed)
            }
            None => ("not lost".to_owned(), "the regions' reports".to_owned(), false),
        };
        let wait = match cause {
            Some(found) => (limits.detection.0 + 1).saturating_sub(found.lasting.0),
            // Where its node goes on, it counts from the entry that finds the lease run out.
            None => limits.detection.0 + 1 + self.lease_left().unwrap_or_default().0 + TICK.0,
        };
        let turned = match self.unwell {
            Some(_) => Change::Wait { span: Millis(wait) },
            None => self.silence(Millis(wait)),
        };
        Predicate {
            value,
            source,
            threshold: match self.ask.kind {
                Kind::Emergency => format!("gone or idle > {}", limits.detection),
                Kind::Failover | Kind::Switchover => format!("gone > {}", limits.detection),
            },
            turned_by: either(!ok, [turned]),
            ..self.predicate(PredicateName::Primary, ok)
        }
    }

    /// Whether those who saw the region go can be believed. It keeps the controller from opening a
    /// request; a person is shown it, and what was opened does not fall with a witness's bad minute.
    pub(super) fn witnesses(&self) -> Option<Predicate> {
        let found = self.gone.as_ref()?;
        let doubt = found.doubt.clone();
        Some(Predicate {
            value: doubt.clone().unwrap_or_else(|| "all count".to_owned()),
            threshold: "clocks right, nobody stood still".to_owned(),
            source: "their own reports and each other's".to_owned(),
            hard: !self.held_up_by_person() && self.ask.promotion.is_none(),
            turned_by: either(doubt.is_some(), [Change::PersonAsks]),
            ..self.predicate(PredicateName::Witnesses, doubt.is_none())
        })
        .filter(|_| self.ask.kind != Kind::Switchover)
    }

    pub(super) fn token(&self) -> Predicate {
        let seen = self
            .scope
            .policy
            .members
            .iter()
            .filter_map(|region| self.machine.sink_of(region, &self.scope.id))
            .map(|(_, report)| report.highest)
            .max()
            .unwrap_or_default();
        let ok = seen <= self.scope.highest;
        Predicate {
            value: seen.to_string(),
            threshold: format!("at most {}", self.scope.highest),
            source: "the sinks' reports".to_owned(),
            turned_by: either(!ok, [Change::HigherIncarnation]),
            ..self.predicate(PredicateName::Token, ok)
        }
    }

    pub(super) fn lease(&self) -> Predicate {
        let live = self.machine.live_lease(&self.scope.id);
        let left = self.lease_left();
        let ok = match self.ask.kind {
            Kind::Switchover => live.is_some(),
            Kind::Failover | Kind::Emergency => {
                live.is_none() || crate::seeded_bug::is("holder_back_unnoticed")
            }
        };
        Predicate {
            value: left.map_or("over".to_owned(), |left| format!("live, {left} left")),
            threshold: match self.ask.kind {
                Kind::Switchover => "live",
                Kind::Failover | Kind::Emergency => "over",
            }
            .to_owned(),
            turned_by: either(
                !ok,
                [left.map_or_else(|| self.holder_back(), |left| self.silence(left))],
            ),
            // One that is there and does nothing renews; the grant itself waits for its lease to end.
            ..self.predicate(PredicateName::Lease, ok || self.unwell.is_some())
        }
    }

    pub(super) fn candidate(&self) -> Predicate {
        let fresh = self.machine.limits().report_fresh;
        Predicate {
            value: self.target.map_or("no live worker".to_owned(), |(session, _)| {
                format!("{} renews", session.key.worker)
            }),
            threshold: format!("a worker renewed within {fresh}"),
            source: format!("renewals of {}", self.ask.to),
            age: self.report_age(),
            turned_by: either(self.target.is_none(), [self.worker_up(&self.ask.to)]),
            ..self.predicate(PredicateName::Candidate, self.target.is_some())
        }
    }

    /// Only for a cluster that came from a backup.
    pub(super) fn restore(&self) -> Option<Predicate> {
        self.machine.restored()?;
        let refused = self.machine.may_grant().err();
        let turned_by = match &refused {
            Some(Refusal::Restoring { rule, missing }) => {
                vec![vec![Change::RestoreAgreed { rule: *rule, missing: *missing }]]
            }
            Some(Refusal::Quiet { until }) => {
                vec![vec![Change::Wait { span: until.since(self.machine.now().log) }]]
            }
            _ => Vec::new(),
        };
        let value = refused.as_ref().map_or("agreed to".to_owned(), ToString::to_string);
        Some(Predicate {
            value,
            threshold: "agreed to, and old leases over".to_owned(),
            turned_by,
            ..self.predicate(PredicateName::Restore, refused.is_none())
        })
    }

    /// Whom a seal reaches: of a failover, not who is gone.
    pub(super) fn sinks(&self) -> Predicate {
        let counts = |region: &&RegionName| !self.leaves_behind(region);
        let members = || self.scope.policy.members.iter().filter(counts);
        let (reachable, lacking): (Vec<&RegionName>, Vec<&RegionName>) =
            members().partition(|region| self.machine.sink_of(region, &self.scope.id).is_some());
        let needed = self.scope.policy.sinks_needed();
        let ok = reachable.len() >= needed;
        let names: Vec<String> = reachable.iter().map(ToString::to_string).collect();
        Predicate {
            value: format!("{} ({})", reachable.len(), names.join(", ")),
            threshold: format!("at least {needed}"),
            source: "renewals".to_owned(),
            turned_by: some_of(&lacking, needed.saturating_sub(reachable.len()))
                .into_iter()
                .filter(|_| !ok)
                .map(|regions| regions.into_iter().map(|region| self.worker_up(region)).collect())
                .collect(),
            ..self.predicate(PredicateName::Sinks, ok)
        }
    }

    /// A failover leaves its holder's region behind: nothing waits for who may not answer.
    fn leaves_behind(&self, region: &RegionName) -> bool {
        self.ask.kind != Kind::Switchover && *region == self.scope.assigned
    }

    pub(super) fn behind(&self, loss: &Loss) -> Predicate {
        let max = self.machine.limits().behind_max;
        let shown = behind(self.machine, self.scope, &self.ask.to);
        let hard = self.ask.kind == Kind::Failover;
        let verdict = match (hard, loss.known) {
            (true, false) => Verdict::Inconclusive,
            (true, true) if loss.span >= max => Verdict::No,
            _ => Verdict::Yes,
        };
        Predicate {
            value: match shown.known {
                true => format!("{}, {} rows", shown.span, shown.rows),
                false => "unknown".to_owned(),
            },
            threshold: match hard {
                true => format!("< {max} and known"),
                false => "nothing: shown only".to_owned(),
            },
            source: format!("last reports of {} and its peers", self.scope.assigned),
            age: self.scope.last_known.as_ref().map(|k| self.machine.now().log.since(k.at)),
            verdict,
            hard,
            turned_by: either(
                verdict != Verdict::Yes,
                [match self.target {
                    Some(_) => {
                        Change::CatchUp { region: self.ask.to.clone(), records: shown.records }
                    }
                    None => self.worker_up(&self.ask.to),
                }],
            ),
            ..self.predicate(PredicateName::Behind, true)
        }
    }

    /// Shown always; for an emergency the gate that failover's own gate leaves open.
    pub(super) fn age(&self, loss: &Loss) -> Predicate {
        let limits = self.machine.limits();
        let age = age(self.machine, &self.scope.id, &self.ask.to);
        let emergency = self.ask.kind == Kind::Emergency;
        let opened = age.is_none_or(|age| age > limits.emergency_age)
            || !loss.known
            || loss.span >= limits.behind_max;
        let ok = !emergency || opened;
        // A clock that has to be set right first takes its error out of the age.
        let off = self.clock_off_ms().filter(|off| *off > CLOCK_CRITICAL_MS).unwrap_or(0);
        let wanted = limits.emergency_age.0 + 1 + off;
        let silence = Millis(wanted.saturating_sub(age.unwrap_or_default().0));
        Predicate {
            value: age.map_or("unknown".to_owned(), |age| age.to_string()),
            threshold: match emergency {
                true => format!(
                    "> {}, or behind ≥ {} or unknown",
                    limits.emergency_age, limits.behind_max
                ),
                false => "nothing: shown only".to_owned(),
            },
            source: format!("seal time of the last batch in {}", self.ask.to),
            age: self.report_age(),
            hard: emergency,
            turned_by: either(!ok, [self.silence(silence)]),
            ..self.predicate(PredicateName::Age, ok)
        }
    }

    pub(super) fn checks(&self) -> Predicate {
        let checks = self.target.map(|(_, report)| &report.checks);
        let with = |wanted: Verdict| -> Vec<String> {
            let all = checks.into_iter().flatten();
            all.filter(|(_, verdict)| **verdict == wanted).map(|(name, _)| name.clone()).collect()
        };
        let (failing, unsure) = (with(Verdict::No), with(Verdict::Inconclusive));
        let passing = with(Verdict::Yes).len();
        let mut value = match failing.is_empty() {
            true => format!("{passing} pass"),
            false => format!("{} fail", failing.join(", ")),
        };
        if !unsure.is_empty() {
            value.push_str(&format!(" ({} inconclusive)", unsure.join(", ")));
        }
        Predicate {
            value,
            threshold: "none fails".to_owned(),
            source: format!("checks in {}", self.ask.to),
            age: self.report_age(),
            turned_by: either(
                !failing.is_empty(),
                [Change::ChecksPass { region: self.ask.to.clone(), checks: failing.clone() }],
            ),
            ..self.predicate(PredicateName::Checks, failing.is_empty())
        }
        .of_the_target(self)
    }

    pub(super) fn link(&self) -> Predicate {
        let link = self.machine.regions().get(&self.ask.to).map(|r| r.link).unwrap_or_default();
        let (value, ok) = match link {
            Link::Connected => ("connected".to_owned(), true),
            Link::Isolated { .. } => ("isolated".to_owned(), false),
            Link::Reconciling { queued, .. } => (format!("reconciling, {queued} queued"), false),
        };
        Predicate {
            value,
            threshold: "connected".to_owned(),
            turned_by: either(!ok, [Change::Level { region: self.ask.to.clone() }]),
            ..self.predicate(PredicateName::Link, ok)
        }
    }

    /// How far the target's clock is off.
    fn clock_off_ms(&self) -> Option<u64> {
        self.target.map(|(session, _)| session.report.clock_offset_ms.unsigned_abs())
    }

    pub(super) fn clock(&self) -> Predicate {
        let offset = self.target.map_or(0, |(session, _)| session.report.clock_offset_ms);
        let off = self.clock_off_ms().unwrap_or(0);
        let ok = off <= CLOCK_CRITICAL_MS;
        let warn = if off > CLOCK_TARGET_MS { " (past its target of 100 ms)" } else { "" };
        Predicate {
            value: format!("{offset} ms{warn}"),
            threshold: format!("within {CLOCK_CRITICAL_MS} ms"),
            source: format!("renewals of {}", self.ask.to),
            age: self.report_age(),
            turned_by: either(!ok, [Change::ClockRight { region: self.ask.to.clone() }]),
            ..self.predicate(PredicateName::Clock, ok)
        }
        .of_the_target(self)
    }

    /// Maintenance keeps the controller's hands off; a person is told and may go on.
    pub(super) fn pause(&self) -> Predicate {
        let pause = self.scope.pause.as_ref().filter(|p| !p.is_over(self.machine.now()));
        let pause = pause.filter(|_| !crate::seeded_bug::is("pause_ignored"));
        Predicate {
            value: pause.map_or("none".to_owned(), |p| {
                format!("by {} until {}: {}", p.owner, p.until_wall, p.reason)
            }),
            threshold: "none".to_owned(),
            hard: !self.held_up_by_person(),
            turned_by: pause.map_or_else(Vec::new, |p| {
                vec![vec![Change::PersonAsks], vec![Change::PauseEnds { owner: p.owner.clone() }]]
            }),
            ..self.predicate(PredicateName::Pause, pause.is_none())
        }
    }

    pub(super) fn mode(&self) -> Predicate {
        let by_controller = !self.held_up_by_person();
        let ok = !by_controller || self.scope.mode != Mode::Observe;
        Predicate {
            value: self.scope.mode.to_string(),
            threshold: match by_controller {
                true => "approve or auto",
                false => "any: a person asks",
            }
            .to_owned(),
            source: "policy".to_owned(),
            turned_by: either(!ok, [Change::PersonAsks]),
            ..self.predicate(PredicateName::Mode, ok)
        }
    }

    /// The controller's own acts: its rest after the last one, and its budget for the day.
    pub(super) fn cooldown(&self) -> Predicate {
        let limits = self.machine.limits();
        let now = self.machine.now().log;
        let own = self.machine.promotions().values().filter(|p| {
            p.scope == self.scope.id
                && p.requester == Actor::Controller
                && Some(p.id) != self.ask.promotion
        });
        let acted = own
            .clone()
            .filter(|p| p.is_past_grant() && now.since(p.opened.log) < Millis::mins(24 * 60));
        let acted = u32::try_from(acted.count()).unwrap_or(u32::MAX);
        let rest = own
            .filter(|p| p.is_past_grant() || p.ended_by_a_person())
            .filter_map(|p| p.ended)
            .map(|ended| limits.cooldown.0.saturating_sub(now.since(ended.log).0))
            .max()
            .unwrap_or(0);
        let ok = rest == 0 && acted < limits.daily_budget;
        Predicate {
            value: format!("{acted} acts in 24 h, {} of rest left", Millis(rest)),
            threshold: format!(
                "fewer than {} acts, rested {}",
                limits.daily_budget, limits.cooldown
            ),
            hard: !self.held_up_by_person(),
            turned_by: either(!ok, [Change::PersonAsks]),
            ..self.predicate(PredicateName::Cooldown, ok)
        }
    }

    /// People needed, and how many are missing.
    pub(super) fn people_counts(&self) -> (u32, u32) {
        if let Some(promotion) =
            self.ask.promotion.and_then(|id| self.machine.promotions().get(&id))
        {
            return (promotion.people_needed, promotion.people_missing());
        }
        let alone = !self.held_up_by_person() && self.scope.mode == Mode::Auto;
        let needed = if alone { 0 } else { self.scope.policy.people };
        (needed, needed.saturating_sub(u32::from(self.held_up_by_person())))
    }

    pub(super) fn people(&self) -> Predicate {
        let (needed, missing) = self.people_counts();
        let names: Vec<String> =
            match self.ask.promotion.and_then(|id| self.machine.promotions().get(&id)) {
                Some(promotion) => promotion.approvals.keys().map(ToString::to_string).collect(),
                None => self.ask.by.iter().map(ToString::to_string).collect(),
            };
        let who = match names.is_empty() {
            true => "nobody yet".to_owned(),
            false => names.join(", "),
        };
        Predicate {
            value: format!("{} of {needed} ({who})", needed - missing),
            threshold: needed.to_string(),
            source: "approvals".to_owned(),
            turned_by: either(missing > 0, [Change::MorePeople { missing }]),
            ..self.predicate(PredicateName::People, missing == 0)
        }
    }
}

impl Predicate {
    /// What the target's worker alone can tell is not known where there is none.
    fn of_the_target(self, view: &View<'_>) -> Self {
        if view.target.is_some() {
            return self;
        }
        Self {
            value: "unknown".to_owned(),
            verdict: Verdict::Inconclusive,
            turned_by: vec![vec![view.worker_up(&view.ask.to)]],
            ..self
        }
    }
}

/// One set of changes, where something has to change.
fn either<const N: usize>(wanted: bool, changes: [Change; N]) -> Ways {
    if wanted { vec![changes.into()] } else { Vec::new() }
}

/// Every choice of so many.
fn some_of<'a>(from: &[&'a RegionName], count: usize) -> Vec<Vec<&'a RegionName>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let Some((first, rest)) = from.split_first() else { return Vec::new() };
    let with = some_of(rest, count - 1).into_iter().map(|mut more| {
        more.insert(0, first);
        more
    });
    with.chain(some_of(rest, count)).collect()
}
