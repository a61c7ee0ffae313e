//! Where everything of the demo is: folder, certificates, ports, links, processes and their files.

use super::DemoError;
use crate::netns::Namespaces;
use crate::ports::PortBlock;
use crate::protocol::Addresses;
use crate::supervisor::{ChildSettings, Supervisor, SupervisorSettings};
use crate::wan::{HOLD_BYTES, Links, PathSettings, RouteSettings, Wan, WanSettings};
use cryptorun_core::time::{Millis, Profile, Timing};
use cryptorun_platform::clock::{Clock, SystemClock};
use cryptorun_platform::identity::{Class, SpiffeId};
use cryptorun_platform::pki::{Authority, Validity};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The regions, in the order of their node ids.
pub const REGIONS: [&str; 3] = ["us-east-1", "us-west-2", "eu-west-1"];
/// The demo's operators.
pub const PEOPLE: [&str; 3] = ["ana", "ben", "eve"];
/// Name of the cluster in every certificate.
pub const CLUSTER: &str = "demo";
/// Trust domain of every certificate.
pub const TRUST_DOMAIN: &str = "demo.cryptorun";
/// A folder with this file was made by an earlier demo and may be emptied.
const MARK: &str = "cryptorun-demo";
/// The first of the demo's ports, unless told otherwise.
pub const BASE_PORT: u16 = 17_400;
const PORTS: u16 = 64;
const LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
const LOG_BYTES_MAX: u64 = 16 << 20;
const GRACE: Duration = Duration::from_secs(10);

/// Round trips between the regions, in the order east–west, east–Europe, west–Europe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionLinks(pub [Duration; 3]);

impl RegionLinks {
    /// No link at all: everybody reaches everybody directly.
    fn is_none(&self) -> bool {
        self.0.iter().all(Duration::is_zero)
    }
}

impl std::str::FromStr for RegionLinks {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not three round trips in ms like 70/130/140");
        let parts: Vec<u64> =
            text.split('/').map(|ms| ms.parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
        let [a, b, c] = parts[..] else { return Err(wrong()) };
        Ok(Self([a, b, c].map(Duration::from_millis)))
    }
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Short times: profile `local`, short detection, small round trips.
    pub fast: bool,
    /// Leave everything running at the end, until stopped.
    pub hold: bool,
    /// Stop after replication is up; with `hold` this gives a demo to act on.
    pub setup_only: bool,
    /// The folder.
    pub data: PathBuf,
    /// Round trips; by default 70/130/140 ms, or 5/9/10 with `fast`. All zero: no relays between.
    pub rtt: Option<RegionLinks>,
    /// Print JSON instead of lines.
    pub json: bool,
    /// Kraken's public endpoint instead of the simulator.
    pub live: bool,
    /// Recorded book frames for the simulator.
    pub frames: Option<PathBuf>,
    /// First of a block of 64 ports.
    pub base_port: u16,
    /// The program to run: this one.
    pub program: PathBuf,
    /// Requests a second that a node takes from one identity.
    pub requests_per_second: u32,
    /// A namespace for each region; none puts everything on loopback.
    pub namespaces: Option<Namespaces>,
}

/// What the demo's own identities never reach.
pub const REQUESTS_PER_SECOND: u32 = 2000;

impl DemoOptions {
    /// The lease and election profile.
    pub fn profile(&self) -> Profile {
        if self.fast { Profile::Local } else { Profile::Near }
    }

    /// As files name it.
    pub fn profile_word(&self) -> &'static str {
        if self.fast { "local" } else { "near" }
    }

    /// Round trips in force.
    pub fn links(&self) -> RegionLinks {
        let ms = if self.fast { [5, 9, 10] } else { [70, 130, 140] };
        self.rtt.unwrap_or(RegionLinks(ms.map(Duration::from_millis)))
    }

    /// How long a region must be gone before it counts as lost.
    pub fn detection(&self) -> Millis {
        if self.fast { Millis::secs(5) } else { Millis::secs(60) }
    }

    /// How often a primary seals a batch.
    pub fn seal_every(&self) -> Millis {
        if self.fast { Millis::secs(2) } else { Millis::secs(20) }
    }

    /// A profile that cannot carry the round trips is refused with the arithmetic.
    fn check(&self) -> Result<(), DemoError> {
        let timing = Timing::of(self.profile());
        let longest = self.links().0.into_iter().max().unwrap_or_default();
        let rtt = Millis::from(longest);
        timing.check(rtt, Millis(5)).map_err(|wrong| DemoError::Options(wrong.join("\n")))
    }
}

/// One region's addresses.
#[derive(Clone, Debug)]
pub struct Site {
    pub name: &'static str,
    pub node: u64,
    pub node_api: SocketAddr,
    pub node_raft: SocketAddr,
    pub node_health: SocketAddr,
    pub worker_api: SocketAddr,
    pub worker_data: SocketAddr,
    pub worker_health: SocketAddr,
}

impl Site {
    /// Name of its node's process.
    pub fn node_process(&self) -> String {
        format!("node-{}", self.name)
    }

    /// Name of its worker's process.
    pub fn worker_process(&self) -> String {
        format!("worker-{}", self.name)
    }
}

/// Everything that runs.
pub struct Lab {
    pub folder: PathBuf,
    pub program: PathBuf,
    pub sites: Vec<Site>,
    pub supervisor: Supervisor,
    pub links: Links,
    pub routes: Vec<RouteSettings>,
    pub certificates: usize,
    pub control: SocketAddr,
    pub venue_control: Option<SocketAddr>,
    pub namespaces: Option<Namespaces>,
    /// Processes that are there, by the order they are started in.
    plan: Vec<ChildSettings>,
    stop: CancellationToken,
    /// The links' task; its ports are free again when it has ended.
    carried: Mutex<Option<JoinHandle<()>>>,
}

/// Addresses of the venue simulator.
#[derive(Clone, Copy)]
struct VenuePorts {
    websocket: SocketAddr,
    rest: SocketAddr,
    control: SocketAddr,
}

impl Lab {
    /// Makes the folder, the certificates and the links; starts nothing yet.
    pub async fn prepare(options: &DemoOptions) -> Result<Self, DemoError> {
        options.check()?;
        // Ports first: a demo that is still held has them, and its folder stays as it is.
        let mut ports = PortBlock::take(options.base_port, PORTS)?;
        let folder = empty_folder(&options.data)?;
        let spaces = options.namespaces.as_ref();
        let mut next = |region: Option<&str>| -> Result<SocketAddr, DemoError> {
            let mut address = ports.next_address()?;
            match (spaces, region) {
                (Some(spaces), Some(region)) => address.set_ip(spaces.address(region)),
                (Some(spaces), None) => address.set_ip(spaces.hub()),
                (None, _) => {}
            }
            Ok(address)
        };
        let control = next(None)?;
        let venue = VenuePorts { websocket: next(None)?, rest: next(None)?, control: next(None)? };
        let mut sites = Vec::new();
        for (name, node) in REGIONS.iter().zip(1..) {
            sites.push(Site {
                name,
                node,
                node_api: next(Some(name))?,
                node_raft: next(Some(name))?,
                node_health: next(Some(name))?,
                worker_api: next(Some(name))?,
                worker_data: next(Some(name))?,
                worker_health: next(Some(name))?,
            });
        }
        let mut routes = Vec::new();
        for from in &sites {
            for to in sites.iter().filter(|to| to.name != from.name && !options.links().is_none()) {
                for (purpose, target) in [
                    ("api", to.node_api),
                    ("raft", to.node_raft),
                    ("worker", to.worker_api),
                    ("data", to.worker_data),
                ] {
                    routes.push(RouteSettings {
                        from: from.name.to_owned(),
                        to: to.name.to_owned(),
                        purpose: purpose.to_owned(),
                        listen: next(None)?,
                        target,
                    });
                }
            }
        }
        let certificates = certify(&folder, &sites)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let stop = CancellationToken::new();
        let (links, carried) = carry(options, routes.clone(), clock.clone(), stop.clone()).await?;
        let supervisor = Supervisor::new(SupervisorSettings {
            logs: folder.join("logs"),
            log_bytes_max: LOG_BYTES_MAX,
            clock,
        })?;
        let mut lab = Self {
            program: options.program.clone(),
            sites,
            supervisor,
            links,
            routes,
            certificates,
            control,
            venue_control: (!options.live).then_some(venue.control),
            namespaces: options.namespaces.clone(),
            plan: Vec::new(),
            stop,
            carried: Mutex::new(Some(carried)),
            folder,
        };
        lab.write_files(options, venue)?;
        lab.plan(options, venue);
        Ok(lab)
    }

    /// The site of a region.
    pub fn site(&self, region: &str) -> Option<&Site> {
        self.sites.iter().find(|site| site.name == region)
    }

    /// Folder with somebody's certificate, key and root.
    pub fn identity(&self, who: &str) -> PathBuf {
        self.folder.join("pki").join(who)
    }

    /// Starts every process of a role.
    pub async fn start(&self, role: &str) -> Result<(), DemoError> {
        for child in self.plan.iter().filter(|child| child.role == role) {
            self.supervisor.start(self.placed(child.clone())).await?;
        }
        Ok(())
    }

    /// Environment for a process that is not started yet.
    pub fn equip(&mut self, process: &str, env: impl IntoIterator<Item = (String, String)>) {
        if let Some(child) = self.plan.iter_mut().find(|child| child.name == process) {
            child.env.extend(env);
        }
    }

    /// In its region's namespace, where there is one.
    fn placed(&self, mut child: ChildSettings) -> ChildSettings {
        if let (Some(spaces), Some(region)) = (&self.namespaces, &child.region) {
            (child.program, child.args) = spaces.enter(region, child.program, child.args);
        }
        child
    }

    /// Stops everything and waits for it.
    pub async fn stop(&self) {
        self.supervisor.shutdown().await;
        self.stop.cancel();
        if let Some(carried) = self.carried.lock().await.take() {
            let _ = carried.await;
        }
    }

    /// Where `from` reaches a service of `to`: over the link, or at home directly.
    fn seen(&self, from: &str, to: &Site, purpose: &str, direct: SocketAddr) -> SocketAddr {
        self.routes
            .iter()
            .find(|r| r.from == from && r.to == to.name && r.purpose == purpose)
            .map_or(direct, |route| route.listen)
    }

    fn write_files(&self, options: &DemoOptions, venue: VenuePorts) -> Result<(), DemoError> {
        self.write("cluster.yaml", &self.cluster_yaml(options))?;
        for site in &self.sites {
            self.write(&format!("{}.yaml", site.node_process()), &self.node_yaml(site, options))?;
            let text = self.worker_yaml(site, options, venue);
            self.write(&format!("{}.yaml", site.worker_process()), &text)?;
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<(), DemoError> {
        let path = self.folder.join(name);
        std::fs::write(&path, text)
            .map_err(|e| DemoError::cannot(format!("cannot write {}", path.display()), e))
    }

    fn cluster_yaml(&self, options: &DemoOptions) -> String {
        let profile = options.profile_word();
        let rtt = options.links().0.into_iter().max().unwrap_or_default().as_millis();
        let regions: String = self
            .sites
            .iter()
            .map(|site| {
                let aliases = cryptorun_core::region::SHIPPED_ALIASES
                    .iter()
                    .find(|(name, _)| *name == site.name)
                    .map_or(String::new(), |(_, aliases)| aliases.join(", "));
                format!(
                    "  {}: {{ node: {}, raft: \"{}\", api: \"{}\", aliases: [{aliases}] }}\n",
                    site.name, site.node, site.node_raft, site.node_api
                )
            })
            .collect();
        let fresh = if options.fast { "3s" } else { "10s" };
        format!(
            "cluster: {CLUSTER}\nprofile: {profile}\nrtt: {rtt}ms\nregions:\n{regions}people:\n  \
             ana: {{ roles: [admin] }}\n  ben: {{ roles: [approver] }}\n  eve: {{ roles: [approver] }}\n\
             scopes:\n  warm/global:\n    primary: us-east-1\n    mode: approve\n    people: 2\n  \
             warm/eu:\n    primary: eu-west-1\n    members: [eu-west-1]\n    residency: eu-west-1\n    \
             mode: approve\n    people: 2\nlimits:\n  report_fresh: {fresh}\n  detection: {}ms\n",
            options.detection().0
        )
    }

    fn node_yaml(&self, site: &Site, options: &DemoOptions) -> String {
        let profile = options.profile_word();
        let peers: String = self
            .sites
            .iter()
            .filter(|peer| peer.name != site.name)
            .map(|peer| {
                format!(
                    "  - {{ node: {}, region: {}, raft: \"{}\", api: \"{}\" }}\n",
                    peer.node,
                    peer.name,
                    self.seen(site.name, peer, "raft", peer.node_raft),
                    // Redirects are for clients, which stand in no region.
                    peer.node_api,
                )
            })
            .collect();
        let tls = self.identity(&site.node_process());
        format!(
            "node: {}\nregion: {}\nprofile: {profile}\ndata: {}\n{}listen:\n  api: {}\n  raft: {}\n  health: {}\n\
             peers:\n{peers}log:\n  level: info\n  format: text\nlimits:\n  requests_per_second: {}\n",
            site.node,
            site.name,
            self.folder.join(site.node_process()).display(),
            tls_yaml(&tls),
            site.node_api,
            site.node_raft,
            site.node_health,
            options.requests_per_second,
        )
    }

    fn worker_yaml(&self, site: &Site, options: &DemoOptions, venue: VenuePorts) -> String {
        let mut control: Vec<&Site> = self.sites.iter().collect();
        control.sort_by_key(|other| other.name != site.name);
        let control: String = control
            .iter()
            .map(|node| format!("  - \"{}\"\n", self.seen(site.name, node, "api", node.node_api)))
            .collect();
        let peers: String = self
            .sites
            .iter()
            .filter(|peer| peer.name != site.name)
            .map(|peer| {
                format!(
                    "  {}: {{ api: \"{}\", data: \"{}\" }}\n",
                    peer.name,
                    self.seen(site.name, peer, "worker", peer.worker_api),
                    self.seen(site.name, peer, "data", peer.worker_data),
                )
            })
            .collect();
        let venues = match options.live {
            true => String::new(), // The adapter's default is the public endpoint.
            false => format!(
                "venues:\n  kraken:\n    ws: \"ws://{}/v2?client={}\"\n    rest: \"http://{}\"\n",
                venue.websocket, site.name, venue.rest
            ),
        };
        // The European group's data resides there: no other worker has a sink of it.
        let eu = match site.name {
            "eu-west-1" => "  warm/eu: { symbols: [ETH/USD], residency: eu-west-1 }\n",
            _ => "",
        };
        format!(
            "region: {}\ndata: {}\n{}listen:\n  api: {}\n  data: {}\n  health: {}\n\
             control:\n{control}peers:\n{peers}{venues}scopes:\n  \
             warm/global: {{ symbols: [BTC/USD, ETH/USD] }}\n{eu}seal_every: {}ms\nlog: info\n",
            site.name,
            self.folder.join(site.worker_process()).display(),
            tls_yaml(&self.identity(&site.worker_process())),
            site.worker_api,
            site.worker_data,
            site.worker_health,
            options.seal_every().0,
        )
    }

    /// The processes, started role by role, stopped in reverse.
    fn plan(&mut self, options: &DemoOptions, venue: VenuePorts) {
        let file = |name: String| self.folder.join(format!("{name}.yaml")).display().to_string();
        let addresses = |pairs: &[(&str, SocketAddr)]| -> Addresses {
            pairs.iter().map(|(purpose, addr)| ((*purpose).to_owned(), *addr)).collect()
        };
        let child =
            |name: String, role: &str, region: Option<&str>, args: Vec<String>| ChildSettings {
                name,
                role: role.to_owned(),
                region: region.map(str::to_owned),
                program: self.program.clone(),
                args,
                env: Vec::new(),
                addresses: Addresses::new(),
                restart: true,
                stop_order: 0,
                grace: GRACE,
            };
        let mut plan = Vec::new();
        for site in &self.sites {
            let node = site.node_process();
            plan.push(ChildSettings {
                addresses: addresses(&[
                    ("api", site.node_api),
                    ("raft", site.node_raft),
                    ("health", site.node_health),
                ]),
                stop_order: 1,
                ..child(
                    node.clone(),
                    "node",
                    Some(site.name),
                    vec!["node".into(), "--config".into(), file(node)],
                )
            });
            let worker = site.worker_process();
            plan.push(ChildSettings {
                addresses: addresses(&[
                    ("api", site.worker_api),
                    ("data", site.worker_data),
                    ("health", site.worker_health),
                ]),
                ..child(
                    worker.clone(),
                    "worker",
                    Some(site.name),
                    vec!["worker".into(), "--config".into(), file(worker)],
                )
            });
        }
        if !options.live {
            let mut args: Vec<String> = ["lab", "venue", "--websocket"].map(str::to_owned).to_vec();
            args.extend([venue.websocket.to_string(), "--rest".into(), venue.rest.to_string()]);
            args.extend(["--control".into(), venue.control.to_string()]);
            if let Some(frames) = &options.frames {
                args.extend(["--frames".into(), frames.display().to_string()]);
            }
            plan.push(ChildSettings {
                addresses: addresses(&[
                    ("websocket", venue.websocket),
                    ("rest", venue.rest),
                    ("control", venue.control),
                ]),
                stop_order: 2,
                ..child("venue-kraken".into(), "venue", None, args)
            });
        }
        self.plan = plan;
    }
}

fn tls_yaml(folder: &Path) -> String {
    format!(
        "tls:\n  cert: {0}/cert.pem\n  key: {0}/key.pem\n  ca: {0}/ca.pem\n  crl: {0}/crl.pem\n",
        folder.display()
    )
}

/// The folder, emptied if an earlier demo made it.
fn empty_folder(path: &Path) -> Result<PathBuf, DemoError> {
    let cannot = |what: &str, e| DemoError::cannot(format!("cannot {what} {}", path.display()), e);
    match std::fs::read_dir(path) {
        Ok(mut entries) => {
            let marked = path.join(MARK).exists();
            if !marked && entries.next().is_some() {
                return Err(DemoError::Options(format!(
                    "{} is not empty and no earlier demo made it; name another folder with --data",
                    path.display()
                )));
            }
            std::fs::remove_dir_all(path).map_err(|e| cannot("empty", e))?;
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(cannot("read", e)),
    }
    std::fs::create_dir_all(path).map_err(|e| cannot("make", e))?;
    std::fs::write(path.join(MARK), "made by cryptorun demo; emptied by the next one\n")
        .map_err(|e| cannot("write in", e))?;
    path.canonicalize().map_err(|e| cannot("find", e))
}

/// A throw-away authority and a certificate for everyone.
fn certify(folder: &Path, sites: &[Site]) -> Result<usize, DemoError> {
    let pki = folder.join("pki");
    let broken = |e| DemoError::cannot("the demo's certificates cannot be made", e);
    let authority = Authority::new(TRUST_DOMAIN, CLUSTER).map_err(broken)?;
    authority.write(&pki.join("authority")).map_err(broken)?;
    let mut issued = 0;
    let mut issue = |class, region: &str, id: &str, name: &str| -> Result<(), DemoError> {
        let id = SpiffeId::new(TRUST_DOMAIN, CLUSTER, class, region, id)
            .map_err(|e| DemoError::cannot("a name in the demo is not allowed", e))?;
        let leaf = authority.issue(&id, Validity::lasting(LIFE)).map_err(broken)?;
        issued += 1;
        leaf.write(&authority, &pki.join(name)).map_err(broken)?;
        let list = pki.join(name).join("crl.pem");
        std::fs::copy(pki.join("authority").join("crl.pem"), &list)
            .map_err(|e| DemoError::cannot(format!("cannot write {}", list.display()), e))?;
        Ok(())
    };
    for site in sites {
        issue(Class::Node, site.name, &site.node.to_string(), &site.node_process())?;
        issue(Class::Worker, site.name, &format!("w-{}", site.name), &site.worker_process())?;
    }
    for person in PEOPLE {
        issue(Class::Person, "us-east-1", person, person)?;
    }
    Ok(issued)
}

async fn carry(
    options: &DemoOptions,
    routes: Vec<RouteSettings>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> Result<(Links, JoinHandle<()>), DemoError> {
    let [east_west, east_eu, west_eu] = options.links().0;
    let pairs = [
        (REGIONS[0], REGIONS[1], east_west),
        (REGIONS[0], REGIONS[2], east_eu),
        (REGIONS[1], REGIONS[2], west_eu),
    ];
    let paths = pairs.into_iter().flat_map(|(a, b, rtt)| PathSettings::both(a, b, rtt, None));
    let wan = Wan::bind(WanSettings {
        paths: paths.collect(),
        routes,
        control: None,
        hold_bytes: HOLD_BYTES,
        clock,
    })
    .await?;
    let links = wan.links();
    let carried = tokio::spawn(async move {
        if let Err(error) = wan.run(stop).await {
            tracing::error!(%error, "the links between regions stopped");
        }
    });
    Ok((links, carried))
}

/// Name → folder of every certificate, for `demo.json`.
pub fn certificates(lab: &Lab) -> BTreeMap<String, PathBuf> {
    let sites = lab.sites.iter().flat_map(|site| [site.node_process(), site.worker_process()]);
    let people = PEOPLE.iter().map(|person| (*person).to_owned());
    sites.chain(people).map(|name| (name.clone(), lab.identity(&name))).collect()
}
