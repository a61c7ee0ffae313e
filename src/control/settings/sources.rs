//! `data_sources.yaml`: tiers, venues, datasets, and how the cold stream is replicated.
//!
//! The `cold.streaming.replication` part is the schema this product was asked for, key by key. Of
//! all this the control plane uses what bears on authority: who is primary, how long a loss takes
//! to be believed, and which datasets may not leave a region.

use super::node::{is_name, region_field};
use cryptorun_core::config::ClusterConfig;
use cryptorun_core::region::RegionName;
use cryptorun_core::scope::Tier;
use cryptorun_core::time::Millis;
use cryptorun_platform::settings::{Problems, Reader, SettingsError, read_file};
use std::path::Path;

/// A checked `data_sources.yaml`. Plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataSources {
    /// Whether the cold stream is replicated at all.
    pub enabled: bool,
    /// Its first primary.
    pub primary: Option<RegionName>,
    /// Who follows.
    pub secondaries: Vec<RegionName>,
    /// How long a region must be gone before it counts as lost.
    pub unhealthy_timeout: Option<Millis>,
    /// Errors, in permille of requests, beyond which a service counts as degraded.
    pub error_permille: Option<u32>,
    /// Tiers that are in use.
    pub tiers: Vec<Tier>,
    /// Venues, in the order of the fallback cascade.
    pub venues: Vec<String>,
    /// Datasets with their residency.
    pub datasets: Vec<Dataset>,
}

/// A dataset or symbol set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// Its tier.
    pub tier: Tier,
    /// The group whose scope covers it.
    pub group: String,
    /// The region it may not leave.
    pub residency: Option<RegionName>,
}

/// Reads and checks `data_sources.yaml`.
///
/// # Errors
/// The file cannot be read, or every problem in it.
pub fn read_sources(path: &Path) -> Result<DataSources, SettingsError> {
    read_file(path, sources)
}

/// The same from text.
///
/// # Errors
/// Every problem in it.
pub fn read_sources_text(file: &str, text: &str) -> Result<DataSources, Problems> {
    Reader::parse(file, text)?.build(sources)
}

/// Rules between values of one key that both are legitimately local (DESIGN §19).
const RESOLUTIONS: [&str; 3] = ["timestamp_wins", "primary_region_wins", "manual_review"];

fn sources(r: &Reader) -> Option<DataSources> {
    let replication = r.map("cold").map("streaming").map("replication");
    let enabled = replication.bool("enable").example("true").default(false);
    let primary = region_field(&replication, "primary_region").optional();
    let secondaries: Vec<RegionName> =
        replication.strings("secondary_regions").into_iter().map(RegionName::from).collect();
    if enabled && primary.is_none() && !replication.has("primary_region") {
        replication.problem("primary_region", "is missing", "us-east-1");
    }
    if primary.as_ref().is_some_and(|primary| secondaries.contains(primary)) {
        replication.problem("secondary_regions", "must not list the primary region", "");
    }
    replication
        .string("conflict_resolution")
        .example("timestamp_wins")
        .check(|text| {
            (!RESOLUTIONS.contains(&text.as_str()))
                .then(|| format!("must be one of {}", RESOLUTIONS.join(", ")))
        })
        .optional();
    let policies = replication.map("policies");
    for policy in ["active_active", "active_passive"] {
        policies.map(policy).integer("lag_threshold_ms").example("500").optional();
    }
    let failover = replication.map("failover");
    let unhealthy_timeout = failover.duration("unhealthy_timeout").optional().map(Millis::from);
    let error_permille = failover
        .number("error_rate_threshold")
        .example("0.05")
        .check(is_rate)
        .optional()
        .map(permille);

    let mut tiers = Vec::new();
    for (name, entry) in r.entries("tiers") {
        match name.parse::<Tier>() {
            Ok(tier) => tiers.push(tier),
            Err(why) => entry.problem("", why, "warm"),
        }
        let slo = entry.map("slo");
        for key in ["target", "warning", "critical", "recovery"] {
            slo.duration(key).optional();
        }
    }
    let venues = r
        .entries("venues")
        .into_iter()
        .map(|(name, entry)| {
            entry.string("url").example("wss://ws.kraken.com/v2").optional();
            entry.strings("symbols");
            name
        })
        .collect();
    let datasets: Vec<Option<Dataset>> = r
        .maps("datasets")
        .iter()
        .map(|entry| {
            let name = entry.string("name").example("candles").required();
            let tier = entry.parsed::<Tier>("tier").example("warm").required();
            let group = entry.string("group").example("global").check(|group| {
                (!is_name(group)).then(|| "may hold only A-Z a-z 0-9 . _ -".to_owned())
            });
            let group = group.default("global".to_owned());
            let residency = region_field(entry, "residency").optional();
            Some(Dataset { name: name?, tier: tier?, group, residency })
        })
        .collect();
    Some(DataSources {
        enabled,
        primary,
        secondaries,
        unhealthy_timeout,
        error_permille,
        tiers,
        venues,
        datasets: datasets.into_iter().collect::<Option<_>>()?,
    })
}

pub(super) fn is_rate(rate: &f64) -> Option<String> {
    (!(0.0..=1.0).contains(rate)).then(|| "must be from 0 to 1".to_owned())
}

pub(super) fn permille(rate: f64) -> u32 {
    // From 0 to 1000 by the check above.
    (rate * 1000.0).round() as u32
}

impl DataSources {
    /// Where this file and the cluster's contradict each other, in words.
    pub fn disagreements(&self, cluster: &ClusterConfig) -> Vec<String> {
        let mut found = Vec::new();
        for region in self.primary.iter().chain(&self.secondaries) {
            if !cluster.regions.contains_key(region) {
                found.push(format!("data_sources.yaml names region {region}, which is not here"));
            }
        }
        for dataset in &self.datasets {
            let scope = cluster
                .scopes
                .iter()
                .find(|(id, _)| id.tier == dataset.tier && id.group == dataset.group);
            let Some((id, policy)) = scope else { continue };
            if let Some(home) = &dataset.residency
                && policy.residency.as_ref() != Some(home)
            {
                found.push(format!(
                    "{id} covers dataset {}, which may not leave {home}: set residency: {home}",
                    dataset.name
                ));
            }
        }
        found
    }
}
