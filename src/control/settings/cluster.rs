//! `cluster.yaml`: what the cluster starts from and agrees on ever after.

use super::node::{host_port, is_name, region_field};
use super::sources::{DataSources, is_rate, permille, read_sources};
use cryptorun_core::config::{ClusterConfig, Limits, RegionConfig};
use cryptorun_core::people::{Actor, Grant, OperatorId, Person, Role};
use cryptorun_core::region::{RegionName, SHIPPED_ALIASES};
use cryptorun_core::scope::{Mode, PartitionWrites, ScopeId, ScopePolicy, Tier};
use cryptorun_core::time::{Millis, Profile, Timing};
use cryptorun_platform::settings::{Problems, Reader, SettingsError, read_file};
use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

/// A sync of the log that the timings must leave room for.
const FSYNC: Millis = Millis(5);
/// Shorter would mistake an election for a loss (DESIGN §15).
const DETECTION_MIN: Millis = Millis::secs(5);
/// Two reports must fit, or every fact would be stale half of the time.
const REPORT_FRESH_MIN: Millis = Millis::secs(2);

/// The file beside `cluster.yaml` that says where data comes from.
const SOURCES: &str = "data_sources.yaml";

/// Reads and checks `cluster.yaml`, with the `data_sources.yaml` beside it where there is one.
///
/// # Errors
/// A file cannot be read, or every problem in it.
pub fn read_cluster(path: &Path) -> Result<ClusterConfig, SettingsError> {
    let beside = path.with_file_name(SOURCES);
    let sources = beside.exists().then(|| read_sources(&beside)).transpose()?;
    read_file(path, |r| cluster(r, sources.as_ref()))
}

/// The same from text.
///
/// # Errors
/// Every problem in it.
pub fn read_cluster_text(
    file: &str,
    text: &str,
    sources: Option<&DataSources>,
) -> Result<ClusterConfig, Problems> {
    Reader::parse(file, text)?.build(|r| cluster(r, sources))
}

fn cluster(r: &Reader, sources: Option<&DataSources>) -> Option<ClusterConfig> {
    let name = r
        .string("cluster")
        .example("prod")
        .check(|text| (!is_name(text)).then(|| "may hold only A-Z a-z 0-9 . _ -".to_owned()));
    let name = name.required();
    let timing = timing(r);
    let regions = regions(r);
    let people = people(r, &regions);
    let scopes = scopes(r, &regions);
    let limits = limits(r, sources);
    enough_people(r, &scopes, &people);
    let config =
        ClusterConfig { version: 1, name: name?, timing: timing?, regions, people, scopes, limits };
    if let Some(sources) = sources {
        for line in sources.disagreements(&config) {
            r.problem("scopes", line, "");
        }
    }
    Some(config)
}

fn timing(r: &Reader) -> Option<Timing> {
    let profile = r.parsed::<Profile>("profile").example("wan").default(Profile::Wan);
    let rtt = r.duration("rtt").example("140ms").optional().map(Millis::from);
    let timing = Timing::of(profile);
    match timing.check(rtt.unwrap_or(timing.rtt_max), FSYNC) {
        Ok(()) => Some(timing),
        Err(wrong) => {
            let key = if rtt.is_some() { "rtt" } else { "profile" };
            for line in wrong {
                r.problem(key, line, "profile: wan carries round trips up to 300ms");
            }
            None
        }
    }
}

fn regions(r: &Reader) -> BTreeMap<RegionName, RegionConfig> {
    let mut regions = BTreeMap::new();
    let mut nodes: BTreeMap<u64, String> = BTreeMap::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for (name, entry) in r.entries("regions") {
        let node = entry.integer("node").example("1").required();
        let raft = host_port(&entry, "raft", "10.0.1.1:7401").required();
        let api = host_port(&entry, "api", "10.0.1.1:7400").required();
        let aliases = match entry.has("aliases") {
            true => entry.strings("aliases"),
            false => shipped_aliases(&name),
        };
        if !is_name(&name) {
            entry.problem("", "a region's name may hold only A-Z a-z 0-9 . _ -", "us-east-1");
        }
        for text in aliases.iter().chain([&name]) {
            if let Some(other) = names.insert(text.clone(), name.clone()) {
                entry.problem("aliases", format!("'{text}' also names {other}"), "");
            }
        }
        let (Some(node), Some(raft), Some(api)) = (node, raft, api) else { continue };
        if let Some(other) = nodes.insert(node, name.clone()) {
            entry.problem("node", format!("is also the node of {other}"), "");
        }
        regions.insert(RegionName::from(name), RegionConfig { aliases, node, raft, api });
    }
    if regions.is_empty() && !r.has("regions") {
        r.problem("regions", "is missing", "regions: {us-east-1: {node: 1, raft: …, api: …}}");
    } else if regions.len() % 2 == 0 {
        r.problem(
            "regions",
            format!(
                "names {} nodes; an odd number keeps a majority when one is lost",
                regions.len()
            ),
            "three regions",
        );
    }
    regions
}

fn shipped_aliases(name: &str) -> Vec<String> {
    SHIPPED_ALIASES
        .iter()
        .find(|(region, _)| *region == name)
        .map(|(_, aliases)| aliases.iter().map(|alias| (*alias).to_owned()).collect())
        .unwrap_or_default()
}

fn people(
    r: &Reader,
    regions: &BTreeMap<RegionName, RegionConfig>,
) -> BTreeMap<OperatorId, Person> {
    let mut people = BTreeMap::new();
    for (id, entry) in r.entries("people") {
        if !is_name(id.strip_prefix("service:").unwrap_or(&id)) {
            entry.problem("", "an operator's id may hold only A-Z a-z 0-9 . _ -", "ana");
        }
        if id.parse() != Ok(Actor::Person(id.as_str().into())) {
            entry.problem("", format!("{id} is what the audit calls something else"), "ana");
        }
        let mut grants: Vec<Grant> = entry
            .parsed_list::<RoleText>("roles")
            .into_iter()
            .map(|role| Grant { role: role.0, tier: None, region: None })
            .collect();
        for grant in entry.maps("grants") {
            let role = grant.parsed::<RoleText>("role").example("approver").required();
            let tier = grant.parsed::<Tier>("tier").example("warm").optional();
            let region = region_field(&grant, "region").optional();
            if let Some(region) = &region
                && !regions.contains_key(region)
            {
                grant.problem("region", format!("no region {region} in this file"), "");
            }
            grants.extend(role.map(|role| Grant { role: role.0, tier, region }));
        }
        if grants.is_empty() {
            entry.problem(
                "roles",
                "is missing: without a role a person may do nothing",
                "[approver]",
            );
        }
        people.insert(OperatorId(id), Person { grants });
    }
    people
}

/// A role as written in the file.
struct RoleText(Role);

impl FromStr for RoleText {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "reader" => Ok(Self(Role::Reader)),
            "operator" => Ok(Self(Role::Operator)),
            "approver" => Ok(Self(Role::Approver)),
            "admin" => Ok(Self(Role::Admin)),
            _ => Err("must be one of reader, operator, approver, admin".to_owned()),
        }
    }
}

fn scopes(
    r: &Reader,
    regions: &BTreeMap<RegionName, RegionConfig>,
) -> BTreeMap<ScopeId, ScopePolicy> {
    let mut scopes = BTreeMap::new();
    for (name, entry) in r.entries("scopes") {
        let id = match name.parse::<ScopeId>() {
            Ok(id) => Some(id),
            Err(why) => {
                entry.problem("", why, "warm/global");
                None
            }
        };
        let primary = region_field(&entry, "primary").required();
        let members: Vec<RegionName> = match entry.has("members") {
            true => entry.strings("members").into_iter().map(RegionName::from).collect(),
            false => regions.keys().cloned().collect(),
        };
        let tier = id.as_ref().map(|id| id.tier);
        let default_mode = if tier == Some(Tier::Hot) { Mode::Auto } else { Mode::Approve };
        let mode = entry.string("mode").example("approve").map(|text| match text.as_str() {
            "observe" => Ok(Mode::Observe),
            "approve" => Ok(Mode::Approve),
            "auto" => Ok(Mode::Auto),
            _ => Err("must be one of observe, approve, auto".to_owned()),
        });
        let mode = mode.default(default_mode);
        let people = entry
            .integer("people")
            .example("2")
            .check(|count| (!(1..=16).contains(count)).then(|| "must be from 1 to 16".to_owned()));
        let people = u32::try_from(people.default(2)).unwrap_or(2);
        let writes =
            entry.string("partition_writes").example("stop").map(|text| match text.as_str() {
                "stop" => Ok(PartitionWrites::Stop),
                "fork" => Ok(PartitionWrites::Fork),
                _ => Err("must be stop or fork".to_owned()),
            });
        let partition_writes = writes.default(PartitionWrites::Stop);
        let residency = region_field(&entry, "residency").optional();

        for (key, region) in members
            .iter()
            .map(|member| ("members", member))
            .chain(primary.iter().map(|region| ("primary", region)))
            .chain(residency.iter().map(|region| ("residency", region)))
        {
            if !regions.contains_key(region) {
                entry.problem(key, format!("no region {region} in this file"), "us-east-1");
            }
        }
        let Some(primary) = primary else { continue };
        if !members.contains(&primary) {
            entry.problem("members", format!("must list the primary, {primary}"), "");
        }
        if let Some(home) = &residency
            && members.iter().any(|member| member != home)
        {
            let reason = format!("data of this scope may not leave {home}: list only {home}");
            entry.problem("members", reason, "");
        }
        let Some(id) = id else { continue };
        let policy = ScopePolicy { primary, members, mode, people, partition_writes, residency };
        scopes.insert(id, policy);
    }
    if scopes.is_empty() && !r.has("scopes") {
        r.problem("scopes", "is missing", "scopes: {warm/global: {primary: us-east-1}}");
    }
    scopes
}

/// A scope that needs more approvers than there are can never be moved.
fn enough_people(
    r: &Reader,
    scopes: &BTreeMap<ScopeId, ScopePolicy>,
    people: &BTreeMap<OperatorId, Person>,
) {
    for (id, policy) in scopes.iter().filter(|(_, policy)| policy.members.len() > 1) {
        let able = people
            .iter()
            .filter(|(name, person)| {
                !name.0.starts_with("service:") && person.has(Role::Approver, Some(id), None)
            })
            .count();
        if able < policy.people as usize {
            let reason = format!(
                "{able} may approve for {id}, which needs {} people: it could never be moved",
                policy.people
            );
            r.problem("people", reason, "ben: {roles: [approver]}");
        }
    }
}

fn limits(r: &Reader, sources: Option<&DataSources>) -> Limits {
    let known = Limits::default();
    let limits = r.map("limits");
    let span =
        |key: &str, default: Millis| limits.duration(key).optional().map_or(default, Millis::from);
    let count = |key: &str, default: u32| {
        let field = limits.integer(key).example("3");
        u32::try_from(field.default(u64::from(default))).unwrap_or(default)
    };
    let detection_default = sources.and_then(|s| s.unhealthy_timeout).unwrap_or(known.detection);
    let errors_default =
        sources.and_then(|s| s.error_permille).unwrap_or(known.errors_max_permille);
    let limits_read = Limits {
        report_fresh: span("report_fresh", known.report_fresh),
        detection: span("detection", detection_default),
        approval: span("approval", known.approval),
        cooldown: span("cooldown", known.cooldown),
        daily_budget: count("daily_budget", known.daily_budget),
        behind_max: span("behind_max", known.behind_max),
        emergency_age: span("emergency_age", known.emergency_age),
        regrant_max: count("regrant_max", known.regrant_max),
        regrant_window: span("regrant_window", known.regrant_window),
        errors_max_permille: limits
            .number("error_rate_max")
            .example("0.05")
            .check(is_rate)
            .optional()
            .map_or(errors_default, permille),
    };
    if limits_read.detection < DETECTION_MIN {
        let reason = format!("must be at least {DETECTION_MIN}: an election is not a loss");
        limits.problem("detection", reason, "60s");
    }
    if limits_read.report_fresh < REPORT_FRESH_MIN {
        let reason =
            format!("must be at least {REPORT_FRESH_MIN}: reports come once a second at most");
        limits.problem("report_fresh", reason, "10s");
    }
    limits_read
}
