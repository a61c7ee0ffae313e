//! The sentences of a promotion's entries: written by the machine and read back by whoever reports.
//!
//! An entry is kept for years after the machine has let go of what it was about, so what it says must
//! be readable without it. Writing and reading stand side by side, that they cannot drift apart.

use crate::promotion::{Kind, Promotion};
use crate::region::RegionName;
use crate::scope::ScopeId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What was asked for, as the entry `request` of a promotion says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Kind.
    pub kind: Kind,
    /// Which scope.
    pub scope: ScopeId,
    /// From.
    pub from: RegionName,
    /// To.
    pub to: RegionName,
    /// Why; `none given` when a script gave none.
    pub reason: String,
    /// First digits of the plan's hash.
    pub plan: String,
    /// The most that could be lost, as then computed.
    pub loss: String,
    /// First digits of the hash over every predicate with its value.
    pub evidence: String,
    /// People still missing at that moment.
    pub missing: u32,
}

impl Asked {
    /// What is said of a promotion as it is opened.
    pub fn of(p: &Promotion) -> Self {
        Self {
            kind: p.kind,
            scope: p.scope.clone(),
            from: p.from.clone(),
            to: p.to.clone(),
            reason: p.reason.clone().unwrap_or_else(|| "none given".to_owned()),
            plan: p.bound.plan.short(),
            loss: p.loss.to_string(),
            evidence: p.evidence.short(),
            missing: p.people_missing(),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, scope, from, to, reason, plan, loss, evidence, missing } = self;
        write!(
            f,
            "{kind} {scope} {from} -> {to}: {reason}; plan {plan}, loss {loss}, evidence \
             {evidence}, needs {missing} more"
        )
    }
}

impl FromStr for Asked {
    type Err = String;

    /// From both ends inwards: the reason in the middle is anybody's text.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = || {
            let (what, rest) = text.split_once(": ")?;
            let mut words = what.split(' ');
            let (kind, scope) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let (from, arrow, to) = (words.next()?, words.next()?, words.next()?);
            if arrow != "->" || words.next().is_some() {
                return None;
            }
            let (rest, missing) = rest.strip_suffix(" more")?.rsplit_once(", needs ")?;
            let (rest, evidence) = rest.rsplit_once(", evidence ")?;
            let (reason, rest) = rest.rsplit_once("; plan ")?;
            let (plan, loss) = rest.split_once(", loss ")?;
            Some(Self {
                kind,
                scope,
                from: from.into(),
                to: to.into(),
                reason: reason.to_owned(),
                plan: plan.to_owned(),
                loss: loss.to_owned(),
                evidence: evidence.to_owned(),
                missing: missing.parse().ok()?,
            })
        };
        parts().ok_or_else(|| format!("'{text}' is not what the entry of a request says"))
    }
}

/// What the entry `approve` of a promotion says.
pub fn approval(p: &Promotion, reason: Option<&str>) -> String {
    let (reason, missing) = (reason.unwrap_or("none given"), p.people_missing());
    format!("{} {} -> {}: {reason}; {missing} more needed", p.scope, p.from, p.to)
}

/// How many people were missing after an approval, by its entry.
pub fn more_needed(detail: &str) -> Option<u32> {
    detail.rsplit_once("; ")?.1.strip_suffix(" more needed")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever a person gives as a reason, even another entry's sentence.
        #[test]
        fn what_was_asked_reads_back(
            reason in prop_oneof![
                ".*",
                Just("x; plan 00000000, loss 0, evidence 1, needs 0 more".to_owned()),
                Just("a: b -> c".to_owned()),
            ],
            loss in prop_oneof![Just("0"), Just("at most 14 rows, 9.0 s (records 813–814, 2)"), Just("0, and what was written in the 10 s after its last report")],
            missing in 0u32..4,
        ) {
            let asked = Asked {
                kind: Kind::Failover,
                scope: "warm/global".parse().unwrap(),
                from: "us-east-1".into(),
                to: "us-west-2".into(),
                reason,
                plan: "b7993dee".to_owned(),
                loss: loss.to_owned(),
                evidence: "b26fcc30".to_owned(),
                missing,
            };
            prop_assert_eq!(asked.to_string().parse::<Asked>(), Ok(asked));
        }
    }

    #[test]
    fn other_sentences_are_not_taken_for_a_request() {
        for text in ["", "R-1 something: x", "failover warm/global a -> b: why; plan 1"] {
            assert!(text.parse::<Asked>().is_err(), "{text}");
        }
        assert_eq!(more_needed("warm/global a -> b: 7 more needed; 1 more needed"), Some(1));
        assert_eq!(more_needed("by ana: no"), None);
    }
}
