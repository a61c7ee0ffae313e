//! `worker.yaml`: who this worker is, where its files are, what it listens on, whom it reaches.
//!
//! What the cluster must agree on (scopes' members, timings, people) is not here: it lives in Raft
//! and arrives with the session. A scope named here gets a sink on this host's disk and a feed.

use crate::ingest::kraken::KrakenSettings;
use crate::ingest::model::{Source, Symbol, VenueId};
use crate::queue;
use cryptorun_core::region::RegionName;
use cryptorun_core::scope::{ScopeId, Tier};
use cryptorun_platform::settings::{Reader, SettingsError, read_file};
use cryptorun_platform::tls::TlsFiles;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Three cuts fit the warm tier's target of a minute.
const SEAL_EVERY: Duration = Duration::from_secs(20);
/// Past a minute the tier would miss its own target by design.
const SEAL_EVERY_MAX: Duration = Duration::from_secs(60);
/// Faster than this is a sync storm, not freshness.
const SEAL_EVERY_MIN: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    /// Must be the one in the certificate.
    pub region: RegionName,
    /// What is logged: `info`, or `info,cryptorun_worker=debug`.
    pub log: String,
    pub log_json: bool,
    pub tls: TlsFiles,
    pub data: PathBuf,
    pub listen: Listen,
    /// Where others reach this worker, as it tells the cluster.
    pub advertise: Advertise,
    /// Control nodes' admin APIs as seen from here, own region's first.
    pub control: Vec<String>,
    /// Where a region's worker is reached from here, if not where it says.
    pub peers: BTreeMap<RegionName, PeerAddresses>,
    pub kraken: Option<KrakenSettings>,
    pub scopes: BTreeMap<ScopeId, ScopeSettings>,
    pub seal_every: Duration,
    pub queue_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub api: SocketAddr,
    pub data: SocketAddr,
    pub health: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    pub api: String,
    pub data: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddresses {
    pub api: Option<String>,
    pub data: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeSettings {
    /// What its candles are made of.
    pub sources: BTreeSet<Source>,
    /// The region its data may not leave.
    pub residency: Option<RegionName>,
}

/// Reads and checks a file; every problem at once.
pub fn read_worker(path: &Path) -> Result<WorkerSettings, SettingsError> {
    let base = path.parent().unwrap_or(Path::new("")).to_owned();
    read_file(path, |r| check(r, &base))
}

/// As [`read_worker`], from text; relative paths stay as written.
pub fn read_worker_text(
    file: &str,
    text: &str,
) -> Result<WorkerSettings, cryptorun_platform::settings::Problems> {
    Reader::parse(file, text)?.build(|r| check(r, Path::new("")))
}

/// `base`: the file's folder, which relative paths start from.
fn check(r: &Reader, base: &Path) -> Option<WorkerSettings> {
    let from_base = |path: Option<PathBuf>| path.map(|path| base.join(path));
    let region = r.string("region").example("us-east-1").required().map(RegionName::from);
    let tls = r.map("tls");
    let cert = from_base(tls.path("cert").example("worker.pem").required());
    let key = from_base(tls.path("key").example("worker-key.pem").required());
    let ca = from_base(tls.path("ca").example("ca.pem").required());
    let crl = from_base(tls.path("crl").example("revoked.pem").optional());
    let data = from_base(r.path("data").example("/var/lib/cryptorun/worker").required());
    let log = r.string("log").example("info").default("info".to_owned());
    let log_json = r.bool("log_json").example("true").default(false);

    let listen = r.map("listen");
    let address = |key: &str, port: u16| {
        let default = SocketAddr::from(([127, 0, 0, 1], port));
        listen.parsed::<SocketAddr>(key).example(&default.to_string()).default(default)
    };
    let listen_at = Listen {
        api: address("api", 7410),
        data: address("data", 7411),
        health: address("health", 7412),
    };
    let advertise = r.map("advertise");
    let told = |key: &str, default: SocketAddr| {
        advertise.string(key).example("worker.us-east-1:7410").default(default.to_string())
    };
    let advertised =
        Advertise { api: told("api", listen_at.api), data: told("data", listen_at.data) };

    let control = r.strings("control");
    if control.is_empty() {
        r.problem("control", "names no control node", "[127.0.0.1:7400]");
    }
    let peers = r
        .entries("peers")
        .into_iter()
        .filter_map(|(region, peer)| {
            let data = peer.string("data").example("127.0.0.1:7511").required();
            let api = peer.string("api").example("127.0.0.1:7510").optional();
            Some((RegionName::from(region), PeerAddresses { api, data: data? }))
        })
        .collect();

    let scopes = scopes(r);
    let kraken = kraken(r, &scopes);
    let seal_every = r
        .duration("seal_every")
        .example("20s")
        .check(|every| {
            let fits = (SEAL_EVERY_MIN..=SEAL_EVERY_MAX).contains(every);
            (!fits).then(|| "must lie between 50ms and 60s".to_owned())
        })
        .default(SEAL_EVERY);
    let queue_bytes = r.map("queue").size("bytes").example("8GiB").default(queue::BYTES_MAX);

    Some(WorkerSettings {
        region: region?,
        log,
        log_json,
        tls: TlsFiles { cert: cert?, key: key?, ca: ca?, crl },
        data: data?,
        listen: listen_at,
        advertise: advertised,
        control,
        peers,
        kraken,
        scopes,
        seal_every,
        queue_bytes,
    })
}

fn scopes(r: &Reader) -> BTreeMap<ScopeId, ScopeSettings> {
    let mut scopes = BTreeMap::new();
    for (name, scope) in r.entries("scopes") {
        let symbols: Vec<Symbol> = scope.parsed_list("symbols");
        let residency =
            scope.string("residency").example("eu-west-1").optional().map(RegionName::from);
        if symbols.is_empty() {
            scope.problem("symbols", "names no symbol", "[BTC/USD, ETH/USD]");
        }
        let sources =
            symbols.into_iter().map(|symbol| Source { venue: VenueId::Kraken, symbol }).collect();
        match name.parse::<ScopeId>() {
            Ok(id) if id.tier == Tier::Warm => {
                scopes.insert(id, ScopeSettings { sources, residency });
            }
            Ok(_) => r.problem("scopes", format!("'{name}': only warm scopes yet"), "warm/global"),
            Err(reason) => r.problem("scopes", reason, "warm/global"),
        }
    }
    if scopes.is_empty() {
        r.problem("scopes", "names no scope", "warm/global: {symbols: [BTC/USD]}");
    }
    scopes
}

/// The venue follows every symbol that some scope needs.
fn kraken(r: &Reader, scopes: &BTreeMap<ScopeId, ScopeSettings>) -> Option<KrakenSettings> {
    let venues = r.map("venues");
    let kraken = venues.map("kraken");
    let default = KrakenSettings::default();
    let symbols: BTreeSet<Symbol> = scopes
        .values()
        .flat_map(|scope| scope.sources.iter().map(|source| source.symbol.clone()))
        .collect();
    let ws_url = kraken.string("ws").example(&default.ws_url).default(default.ws_url.clone());
    let rest_url =
        kraken.string("rest").example(&default.rest_url).default(default.rest_url.clone());
    let depth = kraken.integer("depth").example("10").default(u64::from(default.depth));
    let enabled = kraken.bool("enabled").example("true").default(true);
    enabled.then(|| KrakenSettings {
        ws_url,
        rest_url,
        symbols: symbols.into_iter().collect(),
        depth: u16::try_from(depth).unwrap_or(u16::MAX),
    })
}

impl WorkerSettings {
    /// What the cluster is told of where we are.
    pub fn addresses(&self) -> cryptorun_core::session::WorkerAddresses {
        cryptorun_core::session::WorkerAddresses {
            api: self.advertise.api.clone(),
            data: self.advertise.data.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
region: us-east-1
tls: {cert: cert.pem, key: key.pem, ca: ca.pem}
data: /data
listen: {api: 127.0.0.1:9410}
control: [127.0.0.1:7400, 127.0.0.1:7500]
peers:
  us-west-2: {data: 127.0.0.1:7521, api: 127.0.0.1:7520}
venues:
  kraken: {ws: ws://127.0.0.1:9000/v2, rest: http://127.0.0.1:9000}
scopes:
  warm/global: {symbols: [BTC/USD, ETH/USD]}
  warm/eu: {symbols: [BTC/EUR], residency: eu-west-1}
seal_every: 500ms
";

    #[test]
    fn a_file_reads_and_what_it_leaves_out_has_a_default() {
        let read = read_worker_text("worker.yaml", GOOD).unwrap();
        assert_eq!(read.listen.api.port(), 9410);
        assert_eq!(read.listen.data.port(), 7411);
        assert_eq!(read.advertise.api, "127.0.0.1:9410");
        assert_eq!(read.kraken.unwrap().symbols.len(), 3);
        assert_eq!(read.seal_every, Duration::from_millis(500));
        assert_eq!(read.scopes.len(), 2);
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let text = "data: /d\ntls: {cert: c}\nscopes:\n  cold/global: {symbols: [BTC]}\n\
                    seal_every: 2m\nseel: 1\n";
        let problems = read_worker_text("worker.yaml", text).unwrap_err().to_string();
        for part in
            ["region", "tls.key", "tls.ca", "control", "cold/global", "BTC", "seal_every", "seel"]
        {
            assert!(problems.contains(part), "{part} is not in {problems}");
        }
    }
}
