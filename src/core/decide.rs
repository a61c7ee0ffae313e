//! Deciding: may this scope move there, in this way, now? Always with every predicate.
//!
//! The controller, `simulate`, `explain` and `apply` itself call [`decide`]. It answers *act*, *ask*
//! or *refuse*. A hard predicate that is inconclusive refuses; a soft one is shown.

use crate::diagnose::{self, CLOCK_CRITICAL_MS, CLOCK_TARGET_MS, Diagnosis};
use crate::machine::Machine;
use crate::people::{Actor, OperatorId};
use crate::plan::Plan;
use crate::promotion::{Kind, Promotion, PromotionId};
use crate::refusal::Refusal;
use crate::region::{Link, RegionName};
use crate::report::ScopeReport;
use crate::scope::{Mode, Phase, Scope, ScopeId};
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Verdict {
    /// It holds.
    Yes,
    /// It does not.
    No,
    /// It cannot be told.
    Inconclusive,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Inconclusive => "inconclusive",
        })
    }
}

/// The predicates there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum PredicateName {
    /// The target keeps a copy and its data may be there.
    Residency,
    /// The region named as holder is the one assigned.
    Holder,
    /// The old holder answers (switchover) or is gone (failover).
    Primary,
    /// Those who say that its region is gone can be believed.
    Witnesses,
    /// No token above the machine's was seen at a sink.
    Token,
    /// The lease is live (switchover), or has run out or will.
    Lease,
    /// The target's worker has a live session and a fresh report.
    Candidate,
    /// Enough sinks can be sealed.
    Sinks,
    /// How much of what the primary had is missing.
    Behind,
    /// How old the newest applied data is.
    Age,
    /// Checks of the candidate's data.
    Checks,
    /// The target is not draining its queues after a partition.
    Link,
    /// Clocks are right.
    Clock,
    /// No maintenance is on.
    Pause,
    /// What the controller may do here.
    Mode,
    /// The controller's own rest between acts.
    Cooldown,
    /// Enough people.
    People,
    /// A restored cluster that may grant.
    Restore,
}

impl PredicateName {
    /// The word in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Residency => "residency",
            Self::Holder => "holder",
            Self::Primary => "primary",
            Self::Witnesses => "witnesses",
            Self::Token => "token",
            Self::Lease => "lease",
            Self::Candidate => "candidate",
            Self::Sinks => "sinks",
            Self::Behind => "behind",
            Self::Age => "age",
            Self::Checks => "checks",
            Self::Link => "link",
            Self::Clock => "clock",
            Self::Pause => "pause",
            Self::Mode => "mode",
            Self::Cooldown => "cooldown",
            Self::People => "people",
            Self::Restore => "restore",
        }
    }
}

impl fmt::Display for PredicateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One condition, with everything that is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Predicate {
    /// Which.
    pub name: PredicateName,
    /// What it is now.
    pub value: String,
    /// What it must be.
    pub threshold: String,
    /// Who says so.
    pub source: String,
    /// How old that is.
    pub age: Option<Millis>,
    /// What follows.
    pub verdict: Verdict,
    /// Whether it can refuse.
    pub hard: bool,
    /// What would turn it, when it does not hold.
    pub fix: Option<String>,
}

impl Predicate {
    /// Whether it refuses.
    pub fn blocks(&self) -> bool {
        self.hard && self.verdict != Verdict::Yes
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, needs {}", self.name, self.value, self.threshold)
    }
}

/// What is, or could be, lost: the range between what the primary had and what the candidate has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Loss {
    /// Whether it is known at all.
    pub known: bool,
    /// Records missing.
    pub records: u64,
    /// Rows in them.
    pub rows: u64,
    /// Seconds of data.
    pub span: Millis,
    /// First missing record.
    pub from_seq: u64,
    /// Last missing record.
    pub to_seq: u64,
}

impl Loss {
    /// Nothing.
    pub fn none() -> Self {
        Self { known: true, ..Self::default() }
    }

    /// Not known.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// Whether it is more than was agreed to.
    pub fn exceeds(&self, ceiling: &Self) -> bool {
        match (self.known, ceiling.known) {
            (_, false) => false, // Agreed to an unknown loss: that was the most.
            (false, true) => true,
            (true, true) => self.records > ceiling.records || self.rows > ceiling.rows,
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.known, self.records) {
            (false, _) => f.write_str("unknown"),
            (true, 0) => f.write_str("0"),
            (true, records) => write!(
                f,
                "at most {} rows, {} (records {}–{}, {records})",
                self.rows, self.span, self.from_seq, self.to_seq
            ),
        }
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Choice {
    /// Go.
    Act,
    /// Open a request: it goes with more people.
    Ask,
    /// No.
    Refuse,
}

/// An answer with its reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Decision {
    /// What to do.
    pub choice: Choice,
    /// Kind.
    pub kind: Kind,
    /// The scope.
    pub scope: ScopeId,
    /// From.
    pub from: RegionName,
    /// To.
    pub to: RegionName,
    /// Every predicate.
    pub predicates: Vec<Predicate>,
    /// What it may cost.
    pub loss: Loss,
    /// The plan that would run.
    pub plan: Plan,
    /// People it takes, and how many are missing.
    pub people: (u32, u32),
    /// The smallest set of changes that would turn a refusal into a go.
    pub changes: Vec<String>,
}

impl Decision {
    /// Predicates that refuse, people aside.
    pub fn blocking(&self) -> impl Iterator<Item = &Predicate> {
        self.predicates.iter().filter(|p| p.blocks() && p.name != PredicateName::People)
    }
}

/// What is being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Kind.
    pub kind: Kind,
    /// The scope.
    pub scope: ScopeId,
    /// The target.
    pub to: RegionName,
    /// The person who asks and counts as one; none when the controller does.
    pub by: Option<OperatorId>,
    /// The promotion this is about, once there is one: its people count.
    pub promotion: Option<PromotionId>,
}

impl Ask {
    /// The question a promotion put.
    pub fn of(promotion: &Promotion) -> Self {
        Self {
            kind: promotion.kind,
            scope: promotion.scope.clone(),
            to: promotion.to.clone(),
            by: match &promotion.requester {
                Actor::Person(id) => Some(id.clone()),
                _ => None,
            },
            promotion: Some(promotion.id),
        }
    }
}

/// Decides. Pure: the same machine and question give the same answer on every node, today or replayed.
///
/// # Errors
/// Questions that make no sense: an unknown scope, a region that keeps no copy, data that may not
/// leave its region, a target that holds the scope already.
pub fn decide(machine: &Machine, ask: &Ask) -> Result<Decision, Refusal> {
    let scope = machine.scopes().get(&ask.scope).ok_or_else(|| Refusal::NoScope {
        scope: ask.scope.clone(),
        known: machine.scopes().keys().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    })?;
    makes_sense(scope, ask)?;
    let view = View::new(machine, scope, ask);
    let loss = match ask.kind {
        Kind::Switchover => Loss::none(),
        Kind::Failover | Kind::Emergency => behind(machine, scope, &ask.to),
    };
    let mut predicates = vec![view.holder(), view.primary()];
    predicates.extend(view.witnesses());
    predicates.extend([
        view.token(),
        view.lease(),
        view.candidate(),
        view.sinks(),
        view.behind(&loss),
        view.age(&loss),
        view.checks(),
        view.link(),
        view.clock(),
        view.pause(),
        view.mode(),
        view.cooldown(),
        view.people(),
    ]);
    predicates.extend(view.restore());
    let version = machine.cluster().map_or(0, |cluster| cluster.config.version);
    let plan = Plan::new(&scope.id, ask.kind, (&scope.assigned, &ask.to), &scope.policy, version);
    let (needed, missing) = view.people_counts();
    let blocked = predicates.iter().any(|p| p.blocks() && p.name != PredicateName::People);
    let choice = match (blocked, missing) {
        (true, _) => Choice::Refuse,
        (false, 0) => Choice::Act,
        (false, _) => Choice::Ask,
    };
    let changes = predicates.iter().filter(|p| p.blocks()).filter_map(|p| p.fix.clone()).collect();
    Ok(Decision {
        choice,
        kind: ask.kind,
        scope: scope.id.clone(),
        from: scope.assigned.clone(),
        to: ask.to.clone(),
        predicates,
        loss,
        plan,
        people: (needed, missing),
        changes,
    })
}

/// The kind that fits what is: a switchover while the holder answers, a failover while its gap is
/// known and small, else an emergency.
pub fn fitting_kind(machine: &Machine, id: &ScopeId, to: &RegionName) -> Kind {
    let Some(scope) = machine.scopes().get(id) else { return Kind::Switchover };
    if holder_answers(machine, scope) {
        return Kind::Switchover;
    }
    let loss = behind(machine, scope, to);
    match loss.known && loss.span < machine.limits().behind_max {
        true => Kind::Failover,
        false => Kind::Emergency,
    }
}

fn makes_sense(scope: &Scope, ask: &Ask) -> Result<(), Refusal> {
    if let Some(home) = scope.policy.residency.as_ref().filter(|home| **home != ask.to) {
        return Err(Refusal::Residency {
            scope: scope.id.clone(),
            to: ask.to.clone(),
            home: home.clone(),
        });
    }
    if !scope.policy.members.contains(&ask.to) {
        let members: Vec<String> = scope.policy.members.iter().map(ToString::to_string).collect();
        return Err(Refusal::NotAMember {
            region: ask.to.clone(),
            scope: scope.id.clone(),
            members: members.join(", "),
        });
    }
    if scope.assigned == ask.to && ask.promotion.is_none() {
        return Err(Refusal::AlreadyThere { to: ask.to.clone(), scope: scope.id.clone() });
    }
    Ok(())
}

/// The holder has a live lease and its last report is fresh.
fn holder_answers(machine: &Machine, scope: &Scope) -> bool {
    machine.live_lease(&scope.id).is_some() && machine.sink_of(&scope.assigned, &scope.id).is_some()
}

/// How much of what the old primary is known to have had a region is missing.
///
/// It freezes when the primary dies and shrinks as the tail is fetched.
pub fn behind(machine: &Machine, scope: &Scope, region: &RegionName) -> Loss {
    if scope.history.is_empty() {
        return Loss::none();
    }
    let Some((_, has)) = machine.sink_of(region, &scope.id) else { return Loss::unknown() };
    // The last committed report of the holder, or any sink's copy that goes further.
    let known = scope.last_known.as_ref().map(|k| (k.end.seq, k.rows, k.sealed_at));
    let copies = scope
        .policy
        .members
        .iter()
        .filter(|member| *member != region)
        .filter_map(|member| machine.sink_of(member, &scope.id))
        .map(|(_, report)| (report.end.seq, report.rows, report.sealed_at));
    let Some((end, rows, sealed_at)) = known.into_iter().chain(copies).max() else {
        return Loss::unknown();
    };
    if end <= has.end.seq {
        return Loss::none();
    }
    Loss {
        known: true,
        records: end - has.end.seq,
        rows: rows.saturating_sub(has.rows),
        span: sealed_at.since(has.sealed_at),
        from_seq: has.end.seq + 1,
        to_seq: end,
    }
}

/// Age of a region's newest applied data, corrected by the measured offset of its clock.
pub fn age(machine: &Machine, scope: &ScopeId, region: &RegionName) -> Option<Millis> {
    let (session, report) = machine.sink_of(region, scope)?;
    if report.sealed_at.0 == 0 {
        return None;
    }
    let offset = session.report.clock_offset_ms;
    let now = i128::from(machine.now().wall.0) + i128::from(offset);
    let age = now - i128::from(report.sealed_at.0);
    Some(Millis(u64::try_from(age.max(0)).unwrap_or(u64::MAX)))
}

/// What the predicates are computed from.
struct View<'a> {
    machine: &'a Machine,
    scope: &'a Scope,
    ask: &'a Ask,
    /// The target's sink.
    target: Option<(&'a crate::session::Session, &'a ScopeReport)>,
    /// That the holder is gone, for how long, and who says so.
    gone: Option<Diagnosis>,
}

impl<'a> View<'a> {
    fn new(machine: &'a Machine, scope: &'a Scope, ask: &'a Ask) -> Self {
        let gone = diagnose::gone(machine, scope);
        Self { machine, scope, ask, target: machine.sink_of(&ask.to, &scope.id), gone }
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
            fix: None,
        }
    }

    fn report_age(&self) -> Option<Millis> {
        self.target.map(|(session, _)| self.machine.now().log.since(session.renewed_at))
    }

    fn holder(&self) -> Predicate {
        let ok = self.scope.assigned != self.ask.to;
        Predicate {
            value: self.scope.assigned.to_string(),
            threshold: format!("not {}", self.ask.to),
            fix: (!ok).then(|| format!("nothing: {} has it", self.ask.to)),
            ..self.predicate(PredicateName::Holder, ok)
        }
    }

    fn primary(&self) -> Predicate {
        let limits = self.machine.limits();
        if self.ask.kind == Kind::Switchover {
            let answers = holder_answers(self.machine, self.scope);
            return Predicate {
                value: if answers { "answers" } else { "does not answer" }.to_owned(),
                threshold: "answers".to_owned(),
                source: format!("renewals of {}", self.scope.assigned),
                fix: (!answers).then(|| {
                    format!(
                        "{} back, or a failover once it is gone {}",
                        self.scope.assigned, limits.detection
                    )
                }),
                ..self.predicate(PredicateName::Primary, answers)
            };
        }
        let degraded = self.ask.kind == Kind::Emergency
            && matches!(self.scope.phase, Phase::Degraded { .. })
            && self.machine.now().log.since(self.scope.phase_since) > limits.detection;
        let (value, source, ok) = match &self.gone {
            Some(found) => {
                (format!("gone {}", found.lasting), found.evidence.join("; "), found.confirmed)
            }
            None if degraded => ("degraded".to_owned(), "its own report".to_owned(), true),
            None => ("not lost".to_owned(), "the regions' reports".to_owned(), false),
        };
        let wait = self
            .gone
            .as_ref()
            .map(|found| Millis((limits.detection.0 + 1).saturating_sub(found.lasting.0)));
        Predicate {
            value,
            source,
            threshold: format!("gone > {}", limits.detection),
            fix: (!ok).then(|| match wait {
                Some(wait) => format!("{wait} more without {}", self.scope.assigned),
                None => format!("a switchover: {} answers", self.scope.assigned),
            }),
            ..self.predicate(PredicateName::Primary, ok)
        }
    }

    /// Whether those who saw the region go can be believed. It keeps the controller from opening a
    /// request; a person is shown it, and what was opened does not fall with a witness's bad minute.
    fn witnesses(&self) -> Option<Predicate> {
        let found = self.gone.as_ref()?;
        let doubt = found.doubt.clone();
        Some(Predicate {
            value: doubt.clone().unwrap_or_else(|| "all count".to_owned()),
            threshold: "clocks right, nobody stood still".to_owned(),
            source: "their own reports and each other's".to_owned(),
            hard: !self.held_up_by_person() && self.ask.promotion.is_none(),
            fix: doubt.is_some().then(|| "a person asking".to_owned()),
            ..self.predicate(PredicateName::Witnesses, doubt.is_none())
        })
        .filter(|_| self.ask.kind != Kind::Switchover)
    }

    fn token(&self) -> Predicate {
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
            fix: (!ok).then(|| "a restore that raises the incarnation".to_owned()),
            ..self.predicate(PredicateName::Token, ok)
        }
    }

    fn lease(&self) -> Predicate {
        let live = self.machine.live_lease(&self.scope.id);
        let left = self
            .machine
            .lease_expires(self.scope)
            .map(|end| end.since(self.machine.now().log))
            .filter(|_| live.is_some());
        let ok = match self.ask.kind {
            Kind::Switchover => live.is_some(),
            Kind::Failover | Kind::Emergency => {
                live.is_none() || crate::seeded_bug::is("holder_back_unnoticed")
            }
        };
        let degraded = matches!(self.scope.phase, Phase::Degraded { .. });
        Predicate {
            value: left.map_or("over".to_owned(), |left| format!("live, {left} left")),
            threshold: match self.ask.kind {
                Kind::Switchover => "live",
                Kind::Failover | Kind::Emergency => "over",
            }
            .to_owned(),
            fix: (!ok).then(|| match left {
                Some(left) => format!("{left} without a renewal"),
                None => "a holder that renews".to_owned(),
            }),
            // A degraded holder still renews; the grant itself waits for its lease to end.
            ..self.predicate(
                PredicateName::Lease,
                ok || (degraded && self.ask.kind == Kind::Emergency),
            )
        }
    }

    fn candidate(&self) -> Predicate {
        let fresh = self.machine.limits().report_fresh;
        Predicate {
            value: self.target.map_or("no live worker".to_owned(), |(session, _)| {
                format!("{} renews", session.key.worker)
            }),
            threshold: format!("a worker renewed within {fresh}"),
            source: format!("renewals of {}", self.ask.to),
            age: self.report_age(),
            fix: self.target.is_none().then(|| format!("a worker up in {}", self.ask.to)),
            ..self.predicate(PredicateName::Candidate, self.target.is_some())
        }
    }

    /// Only for a cluster that came from a backup.
    fn restore(&self) -> Option<Predicate> {
        self.machine.restored()?;
        let refused = self.machine.may_grant().err();
        let fix = match &refused {
            Some(Refusal::Restoring { rule, missing }) => Some(format!(
                "{missing} more people agreeing: cryptorun replication approve {rule}"
            )),
            Some(Refusal::Quiet { until }) => {
                Some(format!("{} more", until.since(self.machine.now().log)))
            }
            _ => None,
        };
        let value = refused.as_ref().map_or("agreed to".to_owned(), ToString::to_string);
        Some(Predicate {
            value,
            threshold: "agreed to, and old leases over".to_owned(),
            fix,
            ..self.predicate(PredicateName::Restore, refused.is_none())
        })
    }

    fn sinks(&self) -> Predicate {
        let reachable: Vec<String> = self
            .scope
            .policy
            .members
            .iter()
            .filter(|region| self.machine.sink_of(region, &self.scope.id).is_some())
            .map(ToString::to_string)
            .collect();
        let needed = self.scope.policy.sinks_needed();
        let ok = reachable.len() >= needed;
        Predicate {
            value: format!("{} ({})", reachable.len(), reachable.join(", ")),
            threshold: format!("at least {needed}"),
            source: "renewals".to_owned(),
            fix: (!ok).then(|| "one more region's worker up".to_owned()),
            ..self.predicate(PredicateName::Sinks, ok)
        }
    }

    fn behind(&self, loss: &Loss) -> Predicate {
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
            fix: (verdict != Verdict::Yes).then(|| "an emergency, or the missing data".to_owned()),
            ..self.predicate(PredicateName::Behind, true)
        }
    }

    /// Shown always; for an emergency the gate that failover's own gate leaves open.
    fn age(&self, loss: &Loss) -> Predicate {
        let limits = self.machine.limits();
        let age = age(self.machine, &self.scope.id, &self.ask.to);
        let emergency = self.ask.kind == Kind::Emergency;
        let opened = age.is_none_or(|age| age > limits.emergency_age)
            || !loss.known
            || loss.span >= limits.behind_max;
        let ok = !emergency || opened;
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
            fix: (!ok).then(|| "a failover: its gate is open".to_owned()),
            ..self.predicate(PredicateName::Age, ok)
        }
    }

    fn checks(&self) -> Predicate {
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
            fix: (!failing.is_empty()).then(|| format!("{} passing", failing.join(", "))),
            ..self.predicate(PredicateName::Checks, failing.is_empty())
        }
    }

    fn link(&self) -> Predicate {
        let link = self.machine.regions().get(&self.ask.to).map(|r| r.link).unwrap_or_default();
        let (value, ok) = match link {
            Link::Connected => ("connected".to_owned(), true),
            Link::Isolated { .. } => ("isolated".to_owned(), false),
            Link::Reconciling { queued, .. } => (format!("reconciling, {queued} queued"), false),
        };
        Predicate {
            value,
            threshold: "connected".to_owned(),
            fix: (!ok).then(|| format!("{} level again", self.ask.to)),
            ..self.predicate(PredicateName::Link, ok)
        }
    }

    fn clock(&self) -> Predicate {
        let offset = self.target.map_or(0, |(session, _)| session.report.clock_offset_ms);
        let off = offset.unsigned_abs();
        let ok = off <= CLOCK_CRITICAL_MS;
        let warn = if off > CLOCK_TARGET_MS { " (past its target of 100 ms)" } else { "" };
        Predicate {
            value: format!("{offset} ms{warn}"),
            threshold: format!("within {CLOCK_CRITICAL_MS} ms"),
            source: format!("renewals of {}", self.ask.to),
            age: self.report_age(),
            fix: (!ok).then(|| format!("the clock of {} set right", self.ask.to)),
            ..self.predicate(PredicateName::Clock, ok)
        }
    }

    /// Maintenance keeps the controller's hands off; a person is told and may go on.
    fn pause(&self) -> Predicate {
        let pause = self.scope.pause.as_ref().filter(|p| !p.is_over(self.machine.now()));
        let pause = pause.filter(|_| !crate::seeded_bug::is("pause_ignored"));
        Predicate {
            value: pause.map_or("none".to_owned(), |p| {
                format!("by {} until {}: {}", p.owner, p.until_wall, p.reason)
            }),
            threshold: "none".to_owned(),
            hard: !self.held_up_by_person(),
            fix: pause.map(|p| format!("{} ending the pause", p.owner)),
            ..self.predicate(PredicateName::Pause, pause.is_none())
        }
    }

    fn mode(&self) -> Predicate {
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
            fix: (!ok).then(|| "a person asking".to_owned()),
            ..self.predicate(PredicateName::Mode, ok)
        }
    }

    /// The controller's own acts: its rest after the last one, and its budget for the day.
    fn cooldown(&self) -> Predicate {
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
            fix: (!ok).then(|| "a person asking".to_owned()),
            ..self.predicate(PredicateName::Cooldown, ok)
        }
    }

    /// People needed, and how many are missing.
    fn people_counts(&self) -> (u32, u32) {
        if let Some(promotion) =
            self.ask.promotion.and_then(|id| self.machine.promotions().get(&id))
        {
            return (promotion.people_needed, promotion.people_missing());
        }
        let alone = !self.held_up_by_person() && self.scope.mode == Mode::Auto;
        let needed = if alone { 0 } else { self.scope.policy.people };
        (needed, needed.saturating_sub(u32::from(self.held_up_by_person())))
    }

    fn people(&self) -> Predicate {
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
            fix: (missing > 0).then(|| match missing {
                1 => "1 more person".to_owned(),
                more => format!("{more} more people"),
            }),
            ..self.predicate(PredicateName::People, missing == 0)
        }
    }
}
