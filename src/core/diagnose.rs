//! Diagnosing: what the reports mean. Names a class with its evidence; decides nothing.

use crate::region::RegionName;
use crate::scope::ScopeId;
use crate::time::Millis;
use serde::{Deserialize, Serialize};

/// What is wrong, by the table of DESIGN §7.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// No other region reaches any of its services, no data of it arrives, no report of it commits.
    RegionLost {
        /// Which.
        region: RegionName,
    },
    /// One link fails both ways while another still sees the region. Moves nothing.
    LinkCut {
        /// One end.
        a: RegionName,
        /// The other.
        b: RegionName,
        /// A region that both still talk to.
        relayed_via: Option<RegionName>,
    },
    /// One link fails in one direction. Moves nothing.
    OneWayLink {
        /// Who does not get through.
        from: RegionName,
        /// To whom.
        to: RegionName,
    },
    /// This node has no quorum.
    IsolatedSelf,
    /// A scope's lease ran out and no regrant came, while its region's node still reports.
    HolderLost {
        /// The scope.
        scope: ScopeId,
        /// Its region.
        region: RegionName,
    },
}

/// A class with its evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// What is wrong.
    pub class: Class,
    /// For how long.
    pub lasting: Millis,
    /// Whether that is long enough to act on.
    pub confirmed: bool,
    /// Who says so, and what they see.
    pub evidence: Vec<String>,
}
