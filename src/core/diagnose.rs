//! Diagnosing: what the reports mean. Names a class with its evidence; decides nothing.
//!
//! Two witnesses that no probe replaces take part: venues (who still hears what they send) and data
//! that still arrives. Only [`Class::RegionLost`] and [`Class::HolderLost`] ever move anything.
//!
//! Next: `diagnose/lost.rs` for who is gone, `links.rs` for what is only cut, `troubles.rs` for what
//! is wrong inside a region or a venue, `health.rs` for the one number.

mod clocks;
mod health;
mod links;
mod lost;
mod troubles;

pub use clocks::{CLOCK_CRITICAL_MS, CLOCK_TARGET_MS, CLOCK_WARN_MS, offset};
pub use health::health;
pub use lost::{gone, region_lost};
pub use troubles::{cause, troubles, unwell};

use crate::machine::Machine;
use crate::region::RegionName;
use crate::report::RegionRecord;
use crate::scope::ScopeId;
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is wrong, by the table of DESIGN §7.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Class {
    /// This node has no quorum.
    IsolatedSelf,
    /// No other region reaches any of its services, no data of it arrives, no report of it commits.
    RegionLost {
        /// Which.
        region: RegionName,
    },
    /// A scope's lease ran out and no regrant came, while its region's node still reports.
    HolderLost {
        /// The scope.
        scope: ScopeId,
        /// Its region.
        region: RegionName,
    },
    /// A holder renews and has had input for a while without doing anything with it.
    StalledWorker {
        /// The scope.
        scope: ScopeId,
        /// Its region.
        region: RegionName,
    },
    /// A region's disk is slow, full or failed.
    SlowDisk {
        /// Which.
        region: RegionName,
    },
    /// More of a region's answers are errors than configuration allows. Degraded, never lost.
    ErrorsHigh {
        /// Which.
        region: RegionName,
    },
    /// A region's wall clock is off.
    ClockBad {
        /// Which.
        region: RegionName,
    },
    /// A region answers both others late while they answer each other as usual, or it stood still.
    Overloaded {
        /// Which.
        region: RegionName,
    },
    /// A venue fails in two regions or more: it is the venue.
    ProviderOutage {
        /// The venue.
        venue: String,
    },
    /// A venue fails in one region only: it is the way there.
    ProviderDegradedLocal {
        /// The venue.
        venue: String,
        /// The region.
        region: RegionName,
    },
    /// A link goes and comes. Moves nothing.
    Flapping {
        /// One end.
        a: RegionName,
        /// The other.
        b: RegionName,
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
}

impl Class {
    /// The class's one word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::IsolatedSelf => "isolated_self",
            Self::RegionLost { .. } => "region_lost",
            Self::HolderLost { .. } => "holder_lost",
            Self::StalledWorker { .. } => "stalled_worker",
            Self::SlowDisk { .. } => "slow_disk",
            Self::ErrorsHigh { .. } => "errors_high",
            Self::ClockBad { .. } => "clock_bad",
            Self::Overloaded { .. } => "overloaded",
            Self::ProviderOutage { .. } => "provider_outage",
            Self::ProviderDegradedLocal { .. } => "provider_degraded_local",
            Self::Flapping { .. } => "flapping",
            Self::LinkCut { .. } => "link_cut",
            Self::OneWayLink { .. } => "one_way_link",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        match self {
            Self::IsolatedSelf => Ok(()),
            Self::RegionLost { region }
            | Self::SlowDisk { region }
            | Self::ErrorsHigh { region }
            | Self::ClockBad { region }
            | Self::Overloaded { region } => write!(f, " {region}"),
            Self::HolderLost { scope, region } | Self::StalledWorker { scope, region } => {
                write!(f, " {scope} in {region}")
            }
            Self::ProviderOutage { venue } => write!(f, " {venue}"),
            Self::ProviderDegradedLocal { venue, region } => write!(f, " {venue} in {region}"),
            Self::Flapping { a, b } | Self::LinkCut { a, b, relayed_via: None } => {
                write!(f, " {a} ⇹ {b}")
            }
            Self::LinkCut { a, b, relayed_via: Some(via) } => {
                write!(f, " {a} ⇹ {b}, relayed via {via}")
            }
            Self::OneWayLink { from, to } => write!(f, " {from} ↛ {to}"),
        }
    }
}

/// Whom it should wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Severity {
    /// Somebody, now.
    Page,
    /// Somebody, in the morning.
    Ticket,
    /// Nobody: it is handled, or moves nothing.
    Info,
}

impl Severity {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Ticket => "ticket",
            Self::Info => "info",
        }
    }
}

/// A class with its evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Diagnosis {
    /// What is wrong.
    pub class: Class,
    /// Whom it should wake.
    pub severity: Severity,
    /// For how long.
    pub lasting: Millis,
    /// Whether that is long enough to act on.
    pub confirmed: bool,
    /// Why the controller does not act on it by itself though it is confirmed: a witness whose word
    /// does not count now. People may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
    /// Who says so, and what they see.
    pub evidence: Vec<String>,
}

impl Diagnosis {
    /// In one sentence: what, and by what.
    pub fn sentence(&self) -> String {
        format!("{}: {}", self.class, self.evidence.join("; "))
    }
}

/// What is wrong, most serious first. Pure; any node computes the same from the same machine.
pub fn diagnose(machine: &Machine) -> Vec<Diagnosis> {
    let mut found: Vec<Diagnosis> =
        machine.regions().keys().filter_map(|region| lost::region_lost(machine, region)).collect();
    let lost: Vec<RegionName> = found
        .iter()
        .filter_map(|d| match &d.class {
            Class::RegionLost { region } => Some(region.clone()),
            _ => None,
        })
        .collect();
    let scopes = machine.scopes().values().filter(|scope| !lost.contains(&scope.assigned));
    found.extend(scopes.filter_map(|scope| lost::holder_lost(machine, scope)));
    found.extend(troubles::stalled(machine));
    found.extend(troubles::inside(machine));
    found.extend(troubles::venues(machine));
    found.extend(links::links(machine, &lost));
    found.sort_by(|a, b| (a.severity, &a.class).cmp(&(b.severity, &b.class)));
    found
}

/// How stale a committed report is; none when there never was one.
fn silence(machine: &Machine, record: &RegionRecord) -> Option<Millis> {
    record.reported_at.map(|at| machine.now().log.since(at))
}

/// Reports younger than `report_fresh`.
fn fresh(machine: &Machine) -> impl Iterator<Item = &RegionRecord> {
    let limit = machine.limits().report_fresh;
    machine
        .regions()
        .values()
        .filter(move |record| silence(machine, record).is_some_and(|age| age < limit))
}

/// The other regions whose reports are fresh.
fn neighbours<'a>(
    machine: &'a Machine,
    region: &'a RegionName,
) -> impl Iterator<Item = &'a RegionRecord> {
    fresh(machine).filter(move |record| record.name != *region)
}
