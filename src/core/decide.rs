//! Deciding: may this scope move there, in this way, now? Always with every predicate.
//!
//! The controller, `simulate`, `explain` and `apply` itself call [`decide`]. It answers *act*, *ask*
//! or *refuse*. A hard predicate that is inconclusive refuses; a soft one is shown.

use crate::plan::Plan;
use crate::promotion::Kind;
use crate::region::RegionName;
use crate::scope::ScopeId;
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
pub enum PredicateName {
    /// The target keeps a copy and its data may be there.
    Residency,
    /// The region named as holder is the one assigned.
    Holder,
    /// The old holder answers (switchover) or is gone (failover).
    Primary,
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
}

impl PredicateName {
    /// The word in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Residency => "residency",
            Self::Holder => "holder",
            Self::Primary => "primary",
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
