//! Regions and the names people use for them.

use crate::name::Name;
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;

/// A region by its one true name, `us-east-1`. What an operator types goes through [`resolve`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct RegionName(pub Name);

impl RegionName {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RegionName {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for RegionName {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Borrow<str> for RegionName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RegionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The aliases that ship, unless configuration says otherwise.
pub const SHIPPED_ALIASES: [(&str, &[&str]); 3] = [
    ("us-east-1", &["us-east"]),
    ("us-west-2", &["us-west"]),
    ("eu-west-1", &["eu-west", "eu-central"]),
];

/// Finds the region somebody meant, by name or declared alias.
///
/// # Errors
/// A sentence that lists the known regions and the nearest spelling.
pub fn resolve(
    typed: &str,
    known: &BTreeMap<RegionName, Vec<String>>,
) -> Result<RegionName, String> {
    if known.contains_key(typed) {
        return Ok(RegionName::from(typed));
    }
    if let Some((name, _)) = known.iter().find(|(_, aliases)| aliases.iter().any(|a| a == typed)) {
        return Ok(name.clone());
    }
    let list: Vec<String> = known
        .iter()
        .map(|(name, aliases)| match aliases.is_empty() {
            true => name.to_string(),
            false => format!("{name} ({})", aliases.join(", ")),
        })
        .collect();
    let near = known
        .iter()
        .flat_map(|(name, aliases)| aliases.iter().map(String::as_str).chain([name.as_str()]))
        .map(|candidate| (edits(typed, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    let hint = near.map(|(_, name)| format!(". Did you mean {name}?")).unwrap_or_default();
    Err(format!("no region '{typed}'; known: {}{hint}", list.join(", ")))
}

/// Levenshtein distance, for "did you mean".
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[row.len() - 1]
}

/// How a region stands toward its peers: three states, not two booleans and a timestamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Link {
    /// In touch with a quorum.
    #[default]
    Connected,
    /// Cut off: local ingestion goes on, and what it writes is marked for review.
    Isolated {
        /// When the cluster noticed.
        since: crate::time::LogTime,
    },
    /// Talking again: promotion to it stays shut until its queues have drained.
    Reconciling {
        /// Records it still has to hand over.
        queued: u64,
        /// When `queued` last fell; ten minutes without progress make it isolated again.
        progress: crate::time::LogTime,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> BTreeMap<RegionName, Vec<String>> {
        SHIPPED_ALIASES
            .iter()
            .map(|(name, aliases)| {
                ((*name).into(), aliases.iter().map(|a| a.to_string()).collect())
            })
            .collect()
    }

    #[test]
    fn aliases_resolve_and_mistakes_list_what_is_known() {
        assert_eq!(resolve("eu-central", &shipped()).unwrap().as_str(), "eu-west-1");
        assert_eq!(
            resolve("us-est", &shipped()).unwrap_err(),
            "no region 'us-est'; known: eu-west-1 (eu-west, eu-central), us-east-1 (us-east), \
             us-west-2 (us-west). Did you mean us-east?"
        );
    }
}
