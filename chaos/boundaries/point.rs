//! Which boundaries there are: for each kind, where each step of its plan starts and ends in the log.

use crate::cluster::{REGIONS, warm};
use cryptorun_core::command::Command;
use cryptorun_core::machine::Machine;
use cryptorun_core::plan::{Plan, Step};
use cryptorun_core::promotion::{Kind, PromotionId};
use cryptorun_core::region::RegionName;
use cryptorun_core::scope::{Mode, PartitionWrites, ScopePolicy};
use std::fmt;
use std::str::FromStr;

/// An entry of a promotion at which somebody may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// The last person's approval: from here on it runs.
    Agreed,
    /// A step begins.
    Start(Step),
    /// A step is over: done or skipped.
    End(Step),
    /// The holder gives its lease away, in a switchover and at any moment of its seals.
    Handover,
    /// A step failed, or all of it is rolled back.
    Undo,
}

impl Point {
    /// What a command is to a promotion of this kind.
    pub(super) fn of(command: &Command, machine: &Machine, kind: Kind) -> Option<Self> {
        let is_of_it = |id: PromotionId| {
            let found = machine.promotions().get(&id);
            found.filter(|p| p.kind == kind && p.scope == warm())
        };
        let (id, point) = match command {
            Command::Approve(approve) => {
                let last = is_of_it(approve.promotion)?.people_missing() == 1;
                return last.then_some(Self::Agreed);
            }
            Command::StepStarted(it) => (it.promotion, Self::Start(it.step)),
            Command::StepDone(it) => (it.promotion, Self::End(it.step)),
            Command::StepFailed(it) => (it.promotion, Self::Undo),
            Command::Rollback(it) => (it.promotion?, Self::Undo),
            Command::Reserve(it) => (it.promotion?, Self::End(Step::Reserve)),
            Command::Handover(it) => (it.promotion, Self::Handover),
            Command::Grant(it) => {
                let scope = machine.scopes().get(&it.scope)?;
                (scope.reservation.as_ref()?.promotion?, Self::End(Step::Grant))
            }
            _ => return None,
        };
        is_of_it(id).map(|_| point)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agreed => f.pad("agreed"),
            Self::Start(step) => f.pad(&format!("{step}.start")),
            Self::End(step) => f.pad(&format!("{step}.end")),
            Self::Handover => f.pad("handover"),
            Self::Undo => f.pad("undo"),
        }
    }
}

/// What dies, and how far its log had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// The leader, as soon as the entry is in its own log and committed nowhere.
    Appended,
    /// The leader, as it has applied the entry: whatever it would have proposed next is not in any log.
    Applied,
    /// So, and its successor when it has appended the promotion's next entry.
    Twice,
    /// So, and the candidate's worker with it; where that undoes the promotion, its undoer as well.
    WithCandidate,
}

impl How {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Appended, Self::Applied, Self::Twice, Self::WithCandidate];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Appended => "appended",
            Self::Applied => "applied",
            Self::Twice => "twice",
            Self::WithCandidate => "with_candidate",
        }
    }

    /// Leaders that must die for it to count.
    pub fn leaders(self) -> u32 {
        if self == Self::Twice { 2 } else { 1 }
    }

    pub(super) fn first(self) -> super::When {
        match self {
            Self::Appended => super::When::Appended,
            Self::Applied | Self::Twice | Self::WithCandidate => super::When::Applied,
        }
    }
}

/// Where the leader dies in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boundary {
    /// Of a promotion of this kind.
    pub kind: Kind,
    /// At this entry.
    pub point: Point,
    /// In this way.
    pub how: How,
}

/// Every boundary of every kind, in the order of the plans.
pub fn all() -> Vec<Boundary> {
    let kinds = [Kind::Switchover, Kind::Failover, Kind::Emergency];
    kinds.into_iter().flat_map(of_kind).collect()
}

fn of_kind(kind: Kind) -> impl Iterator<Item = Boundary> {
    let mut points = vec![Point::Agreed];
    for step in steps(kind) {
        points.extend([Point::Start(step), Point::End(step)]);
        if kind == Kind::Switchover && step == Step::Seal {
            points.push(Point::Handover);
        }
    }
    points.into_iter().flat_map(move |point| {
        let over = point == Point::End(Step::Report);
        // Behind its last entry there is nothing left to go wrong.
        let ways = How::ALL.into_iter().filter(move |how| !over || *how <= How::Applied);
        ways.map(move |how| Boundary { kind, point, how })
    })
}

/// The steps of a plan, as the product makes it.
fn steps(kind: Kind) -> Vec<Step> {
    let members: Vec<RegionName> = REGIONS.iter().map(|name| (*name).into()).collect();
    let policy = ScopePolicy {
        primary: members[0].clone(),
        members: members.clone(),
        mode: Mode::Approve,
        people: 2,
        partition_writes: PartitionWrites::Stop,
        residency: None,
    };
    Plan::new(&warm(), kind, (&members[0], &members[1]), &policy, 1).steps
}

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.point, self.how.as_str())
    }
}

impl FromStr for Boundary {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = all().into_iter().find(|boundary| boundary.to_string() == text);
        found.ok_or_else(|| format!("no boundary '{text}'; one is switchover/seal.start/applied"))
    }
}
