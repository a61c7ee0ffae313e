//! Deciding: may this scope move there, in this way, now? Always with every predicate.
//!
//! The controller, `simulate`, `explain` and `apply` itself call [`decide`]. It answers *act*, *ask*
//! or *refuse*. A hard predicate that is inconclusive refuses; a soft one is shown. A refusal comes with
//! the smallest set of changes after which it would be a go.
//!
//! Next: `decide/view.rs` for the predicates, `loss.rs` for the two lags, `change.rs` for what would
//! turn a refusal.

mod change;
mod loss;
mod view;

pub use change::{Change, Ways};
pub use loss::{Loss, age, behind};

use crate::machine::Machine;
use crate::people::{Actor, OperatorId};
use crate::plan::Plan;
use crate::promotion::{Kind, Promotion, PromotionId};
use crate::refusal::Refusal;
use crate::region::RegionName;
use crate::scope::{Scope, ScopeId};
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::fmt;
use view::View;

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
    /// What would turn it, when it does not hold: sets of changes, any of which is enough.
    pub turned_by: Ways,
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
    /// The smallest set of changes after which it would go; empty where it goes, or where nothing
    /// would make it go.
    pub changes: Vec<Change>,
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
    let mut decision = judge(machine, scope, ask);
    decision.changes = changes(machine, scope, ask, &decision);
    Ok(decision)
}

/// The decision without what would turn it.
fn judge(machine: &Machine, scope: &Scope, ask: &Ask) -> Decision {
    let view = View::new(machine, scope, ask);
    let loss = match ask.kind {
        Kind::Switchover => Loss::none(),
        Kind::Failover | Kind::Emergency => loss::risked(machine, scope, &ask.to),
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
    Decision {
        choice,
        kind: ask.kind,
        scope: scope.id.clone(),
        from: scope.assigned.clone(),
        to: ask.to.clone(),
        predicates,
        loss,
        plan,
        people: (needed, missing),
        changes: Vec::new(),
    }
}

/// The smallest set of changes after which it would go: another kind that is open, where there is
/// one, or what the predicates need together. With the people that it takes then.
fn changes(machine: &Machine, scope: &Scope, ask: &Ask, decision: &Decision) -> Vec<Change> {
    let people = |missing| (missing > 0).then_some(Change::MorePeople { missing });
    if decision.choice == Choice::Refuse && ask.promotion.is_none() {
        let others = Kind::ALL.into_iter().filter(|kind| *kind != ask.kind);
        let open = others
            .map(|kind| judge(machine, scope, &Ask { kind, ..ask.clone() }))
            .find(|other| other.choice != Choice::Refuse);
        if let Some(other) = open {
            let ask_for = Change::AskFor { kind: other.kind };
            return [ask_for].into_iter().chain(people(other.people.1)).collect();
        }
    }
    let wanted = decision.blocking().map(|predicate| &predicate.turned_by);
    let Some(mut changes) = change::smallest(wanted) else { return Vec::new() };
    let missing = match changes.contains(&Change::PersonAsks) {
        // Who asks is one of them; a mode that acts alone does so for the controller only.
        true => scope.policy.people.saturating_sub(1),
        false => decision.people.1,
    };
    changes.extend(people(missing));
    changes
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
