//! `node.yaml`: one host's identity, paths, listeners and the way to its peers.

use cryptorun_core::region::RegionName;
use cryptorun_core::time::Profile;
use cryptorun_platform::settings::{Problems, Reader, SettingsError, read_file};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A checked `node.yaml`. Plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// This node's number in the Raft cluster; a wiped node returns under a new one.
    pub node: u64,
    /// Its region; must be the one in its certificate.
    pub region: RegionName,
    /// Timings of elections, the cluster's own: needed before the cluster can be asked.
    pub profile: Profile,
    /// Where everything it keeps stands.
    pub data: PathBuf,
    /// Its certificate and whom it trusts.
    pub tls: Tls,
    /// What it listens on.
    pub listen: Listen,
    /// The other nodes, as seen from here: behind a relay the address differs from `cluster.yaml`.
    pub peers: Vec<Peer>,
    /// What is logged: `info`, or `info,cryptorun_raft=debug`.
    pub log: String,
    /// `text` or `json`.
    pub log_json: bool,
    /// The most that recorded history may take.
    pub history_bytes_max: u64,
    /// Requests a second that one identity may make.
    pub requests_per_second: u32,
}

/// Certificate files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Its chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Roots of the others.
    pub ca: PathBuf,
    /// Revoked certificates.
    pub crl: Option<PathBuf>,
}

/// Listening addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Admin API, mutual TLS.
    pub api: SocketAddr,
    /// Raft and calls between nodes, mutual TLS.
    pub raft: SocketAddr,
    /// Health and metrics, plain HTTP.
    pub health: SocketAddr,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its number.
    pub node: u64,
    /// Its region.
    pub region: RegionName,
    /// Its Raft address, `host:port`, from here.
    pub raft: String,
    /// Its admin API, `host:port`, as clients reach it; sent in redirects.
    pub api: String,
}

const API_DEFAULT: &str = "127.0.0.1:7400";
const RAFT_DEFAULT: &str = "127.0.0.1:7401";
/// Loopback: the health port is plain HTTP, opening it wider is a decision.
const HEALTH_DEFAULT: &str = "127.0.0.1:7402";
/// Three regions record about 40 MB a day; 90 days of them.
const HISTORY_BYTES_MAX: u64 = 4 << 30;
/// A worker renews twice a second at most and a person clicks; a script may be lively.
const REQUESTS_PER_SECOND: u64 = 200;

/// Reads and checks `node.yaml`.
///
/// # Errors
/// The file cannot be read, or every problem in it.
pub fn read_node(path: &Path) -> Result<NodeSettings, SettingsError> {
    let base = path.parent().unwrap_or(Path::new("")).to_owned();
    read_file(path, |r| node(r, &base))
}

/// The same from text; relative paths stay as written.
///
/// # Errors
/// Every problem in it.
pub fn read_node_text(file: &str, text: &str) -> Result<NodeSettings, Problems> {
    Reader::parse(file, text)?.build(|r| node(r, Path::new("")))
}

/// `base`: the file's folder, which relative paths start from.
fn node(r: &Reader, base: &Path) -> Option<NodeSettings> {
    let from_base = |path: Option<PathBuf>| path.map(|path| base.join(path));
    let node = r
        .integer("node")
        .example("1")
        .check(|id| (*id == 0).then(|| "must be at least 1".to_owned()));
    let node = node.required();
    let region = region_field(r, "region").required();
    let profile = r.parsed::<Profile>("profile").example("wan").default(Profile::Wan);
    let data = from_base(r.path("data").example("/var/lib/cryptorun").required());

    let tls = r.map("tls");
    let tls_read = (
        from_base(tls.path("cert").example("node.pem").required()),
        from_base(tls.path("key").example("node-key.pem").required()),
        from_base(tls.path("ca").example("ca.pem").required()),
        from_base(tls.path("crl").example("revoked.pem").optional()),
    );

    let listen = r.map("listen");
    let address = |key: &'static str, default: &'static str| {
        listen.parsed::<SocketAddr>(key).example(default).default(fixed(default))
    };
    let listen_read = Listen {
        api: address("api", API_DEFAULT),
        raft: address("raft", RAFT_DEFAULT),
        health: address("health", HEALTH_DEFAULT),
    };
    let mut seen = vec![("api", listen_read.api)];
    for (key, address) in [("raft", listen_read.raft), ("health", listen_read.health)] {
        match seen.iter().find(|(_, other)| *other == address && address.port() != 0) {
            Some((other, _)) => {
                listen.problem(key, format!("is the same address as listen.{other}"), "");
            }
            None => seen.push((key, address)),
        }
    }

    let peers: Vec<Option<Peer>> = r
        .maps("peers")
        .iter()
        .map(|p| {
            let id = p.integer("node").example("2").required();
            let region = region_field(p, "region").required();
            let raft = host_port(p, "raft", "10.0.2.1:7401").required();
            let api = host_port(p, "api", "10.0.2.1:7400").required();
            if id.is_some() && id == node {
                p.problem("node", "is this node's own number", "");
            }
            Some(Peer { node: id?, region: region?, raft: raft?, api: api? })
        })
        .collect();
    let numbers: Vec<u64> = peers.iter().flatten().map(|p| p.node).collect();
    if let Some(twice) = numbers.iter().enumerate().find(|(at, n)| numbers[..*at].contains(n)) {
        r.problem("peers", format!("node {} stands here twice", twice.1), "");
    }

    let log = r.map("log");
    let level = log.string("level").example("info").default("info".to_owned());
    let format = log.string("format").example("text").check(|format| {
        (!matches!(format.as_str(), "text" | "json")).then(|| "must be text or json".to_owned())
    });
    let format = format.default("text".to_owned());
    let history = r.map("history");
    let history_bytes_max = history.size("max").example("4GiB").default(HISTORY_BYTES_MAX);
    let limits = r.map("limits");
    let requests = limits
        .integer("requests_per_second")
        .example("200")
        .check(|n| (!(1..=1_000_000).contains(n)).then(|| "must be from 1 to 1000000".to_owned()));
    let requests = u32::try_from(requests.default(REQUESTS_PER_SECOND)).unwrap_or(u32::MAX);

    Some(NodeSettings {
        node: node?,
        region: region?,
        profile,
        data: data?,
        tls: Tls { cert: tls_read.0?, key: tls_read.1?, ca: tls_read.2?, crl: tls_read.3 },
        listen: listen_read,
        peers: peers.into_iter().collect::<Option<_>>()?,
        log: level,
        log_json: format == "json",
        history_bytes_max,
        requests_per_second: requests,
    })
}

/// A constant of this file, written as people read it.
fn fixed(address: &str) -> SocketAddr {
    address.parse().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// A region's name as certificates may carry it.
pub(super) fn region_field<'r>(
    r: &'r Reader,
    key: &str,
) -> cryptorun_platform::settings::Field<'r, RegionName> {
    r.string(key).example("us-east-1").map(|text| {
        is_name(&text)
            .then_some(RegionName::from(text))
            .ok_or_else(|| "may hold only A-Z a-z 0-9 . _ - and at most 64 of them".to_owned())
    })
}

/// Names that also stand in certificates, paths and metric labels.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !matches!(text, "" | "." | "..") && text.len() <= 64 && text.bytes().all(plain)
}

/// `host:port`, where the host may be a name.
pub(super) fn host_port<'r>(
    r: &'r Reader,
    key: &str,
    example: &str,
) -> cryptorun_platform::settings::Field<'r, String> {
    r.string(key).example(example).check(|text| {
        let fits = text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0)
        });
        (!fits).then(|| "must be host:port".to_owned())
    })
}
