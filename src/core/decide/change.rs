//! What would turn a refusal into a go: the smallest set of changes.
//!
//! Each predicate that refuses names the ways in which it would be turned. One way of each, put
//! together so that the fewest things have to change, is what `explain` prints. Applying all of them
//! gives a go, leaving any one out does not (`machine/changes.rs` holds it to that).

use crate::promotion::Kind;
use crate::region::RegionName;
use crate::rules::RuleId;
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One thing that would have to become so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Change {
    /// Another kind of the same move is open.
    AskFor {
        /// Which.
        kind: Kind,
    },
    /// A person asks, not the controller.
    PersonAsks,
    /// So many more people stand behind it.
    MorePeople {
        /// How many.
        missing: u32,
    },
    /// The region that holds the scope is silent for so long more.
    Silence {
        /// The region.
        region: RegionName,
        /// For how long.
        span: Millis,
    },
    /// Time passes.
    Wait {
        /// How much.
        span: Millis,
    },
    /// The holder renews again.
    HolderBack {
        /// Its region.
        region: RegionName,
    },
    /// A worker with a sink of the scope is up there.
    WorkerUp {
        /// The region.
        region: RegionName,
    },
    /// It has fetched what it lacks, or enough of it.
    CatchUp {
        /// The region.
        region: RegionName,
        /// Records it lacks.
        records: u64,
    },
    /// Checks of its data pass.
    ChecksPass {
        /// The region.
        region: RegionName,
        /// Which.
        checks: Vec<String>,
    },
    /// Its queues have drained since it was cut off.
    Level {
        /// The region.
        region: RegionName,
    },
    /// Its clock is set right.
    ClockRight {
        /// The region.
        region: RegionName,
    },
    /// Maintenance ends.
    PauseEnds {
        /// Whose it is.
        owner: String,
    },
    /// The cluster is restored under an incarnation above what the sinks have seen.
    HigherIncarnation,
    /// So many more people agree to a restore.
    RestoreAgreed {
        /// What waits for them.
        rule: RuleId,
        /// How many.
        missing: u32,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AskFor { kind } => write!(f, "ask for {} {kind}", kind.article()),
            Self::PersonAsks => f.write_str("a person asking"),
            Self::MorePeople { missing: 1 } => f.write_str("1 more person"),
            Self::MorePeople { missing } => write!(f, "{missing} more people"),
            Self::Silence { region, span } => write!(f, "{span} more without {region}"),
            Self::Wait { span } => write!(f, "{span} more"),
            Self::HolderBack { region } => write!(f, "{region} renewing again"),
            Self::WorkerUp { region } => write!(f, "a worker up in {region}"),
            Self::CatchUp { region, records } => {
                write!(f, "{region} having the {records} records that it lacks")
            }
            Self::ChecksPass { region, checks } => {
                write!(f, "{} passing in {region}", checks.join(", "))
            }
            Self::Level { region } => write!(f, "{region} level again"),
            Self::ClockRight { region } => write!(f, "the clock of {region} set right"),
            Self::PauseEnds { owner } => write!(f, "{owner} ending the pause"),
            Self::HigherIncarnation => f.write_str("a restore that raises the incarnation"),
            Self::RestoreAgreed { rule, missing } => {
                write!(f, "{missing} more people agreeing: cryptorun replication approve {rule}")
            }
        }
    }
}

/// Sets of changes, any one of which is enough.
pub type Ways = Vec<Vec<Change>>;

/// One way of each, so that the fewest things change; of equal ones the first. Waiting comes last. None
/// where something cannot be turned.
pub(super) fn smallest<'a>(wanted: impl IntoIterator<Item = &'a Ways>) -> Option<Vec<Change>> {
    let mut found: Vec<Vec<Change>> = vec![Vec::new()];
    for ways in wanted {
        let mut next = Vec::new();
        for so_far in &found {
            for way in ways {
                let mut both = so_far.clone();
                way.iter().for_each(|change| add(&mut both, change));
                if !next.contains(&both) {
                    next.push(both);
                }
            }
        }
        found = next;
    }
    let mut least = found.into_iter().min_by_key(Vec::len)?;
    // In the order in which it is done: what is gone gives nothing to catch up with.
    least.sort_by_key(|change| matches!(change, Change::Silence { .. } | Change::Wait { .. }));
    Some(least)
}

/// Spans of the same silence are one: the longest.
fn add(into: &mut Vec<Change>, change: &Change) {
    for known in into.iter_mut() {
        match (known, change) {
            (Change::Silence { region: a, span }, Change::Silence { region: b, span: more })
                if a == b =>
            {
                *span = (*span).max(*more);
                return;
            }
            (Change::Wait { span }, Change::Wait { span: more }) => {
                *span = (*span).max(*more);
                return;
            }
            (known, change) if known == change => return,
            _ => {}
        }
    }
    into.push(change.clone());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_several_is_preferred_and_silences_are_one() {
        let (ask, pause) = (Change::PersonAsks, Change::PauseEnds { owner: "ana".to_owned() });
        let silence = |secs| Change::Silence { region: "r".into(), span: Millis::secs(secs) };
        let wanted: [Ways; 4] = [
            vec![vec![pause.clone()], vec![ask.clone()]],
            vec![vec![ask.clone()]],
            vec![vec![silence(3)]],
            vec![vec![silence(9)]],
        ];
        assert_eq!(smallest(&wanted), Some(vec![ask, silence(9)]));
        assert_eq!(smallest(&wanted[..1]), Some(vec![pause]), "the first of equal ones");
        assert_eq!(smallest(&[Vec::new(), wanted[0].clone()]), None);
        assert_eq!(smallest(&[]), Some(Vec::new()));
    }
}
