//! Three nodes of cryptorun as the demo lays them out, with a worker's certificate for each client.
//!
//! The committed write is the product's own hot one: a renewal of a worker's session, which carries a
//! report. The read is one scope, confirmed by a quorum.

use crate::BenchError;
use crate::failover::{ATTEMPT, Probe};
use crate::load::{Asked, Client, Reach, Way};
use crate::streams::{Dialect, Shared};
use bytes::Bytes;
use cryptorun_control::settings::read_cluster;
use cryptorun_core::config::ClusterId;
use cryptorun_core::report::WorkerReport;
use cryptorun_core::session::WorkerAddresses;
use cryptorun_core::wire::{
    ClusterStatus, InitRequest, Level, OpenSessionRequest, RenewRequest, ScopeStatus,
    TransferRequest,
};
use cryptorun_lab::demo::{CLUSTER, DemoOptions, Lab, REGIONS, RegionLinks, Site};
use cryptorun_lab::protocol::KillSignal;
use cryptorun_platform::clock::{Clock, SystemClock};
use cryptorun_platform::https::{HttpsClient, Request, Response};
use cryptorun_platform::identity::{Class, SpiffeId};
use cryptorun_platform::pki::{Authority, Validity};
use cryptorun_platform::random::{OsRandom, Random};
use cryptorun_platform::tls::{ClientTls, Expect, Protocol, TlsFiles, TlsStore};
use futures_util::future::select_all;
use hyper::Method;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where the leader stands and the clients are.
const HOME: &str = REGIONS[0];
const LIFE: Duration = Duration::from_secs(24 * 3600);
const READY_WITHIN: Duration = Duration::from_secs(120);
const LOOK_WITHIN: Duration = Duration::from_millis(500);
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// No client of a measurement is to be slowed by its limit.
const REQUESTS_PER_SECOND: u32 = 1_000_000;

/// Three nodes that are founded, led from [`HOME`].
pub struct Ours {
    pub lab: Lab,
    pub pids: Vec<i32>,
    api: SocketAddr,
    id: ClusterId,
    /// One a client.
    workers: Vec<Arc<ClientTls>>,
}

/// What the nodes are run with.
pub struct Settings {
    pub folder: PathBuf,
    pub program: PathBuf,
    pub base_port: u16,
    pub links: RegionLinks,
    pub clients: usize,
}

impl Ours {
    /// Starts and founds them.
    pub async fn start(settings: Settings) -> Result<Self, BenchError> {
        let wide = settings.links.0.iter().any(|rtt| !rtt.is_zero());
        let lab = Lab::prepare(&DemoOptions {
            fast: !wide,
            hold: false,
            setup_only: true,
            data: settings.folder,
            rtt: Some(settings.links),
            json: false,
            live: true, // No venue takes part.
            frames: None,
            base_port: settings.base_port,
            program: settings.program,
            requests_per_second: REQUESTS_PER_SECOND,
            namespaces: None,
        })
        .await?;
        // Raft's times are the nodes' own. These are the sessions': streams repeat their renewal, which
        // moves no deadline, and a session must not run out meanwhile.
        rewrite(&lab, |text| text.replacen("profile: local", "profile: wan", 1))?;
        let workers = certify(&lab, settings.clients)?;
        lab.start("node").await?;
        let api = lab
            .site(HOME)
            .map(|site| site.node_api)
            .ok_or_else(|| BenchError::Cannot(format!("no node in {HOME}")))?;
        let ana = Admin::new(&lab)?;
        let prepared = async {
            ana.found(&lab).await?;
            ana.lead_from_home().await
        };
        let id = tokio::time::timeout(READY_WITHIN, prepared)
            .await
            .map_err(|_| BenchError::answer("the nodes", "not ready within two minutes"))??;
        let pids = lab.supervisor.status().into_iter().filter_map(|child| child.pid).collect();
        Ok(Self { lab, pids, api, id, workers })
    }

    /// Clients that renew a session each, opened anew for this run.
    pub fn writers(&self, count: usize) -> Vec<Client> {
        self.clients(count, |name, cluster| {
            let (first, path) = opening(&name, OsRandom.next_u64());
            let ask = move |n: u64, before: &[u8]| Asked {
                method: Method::POST,
                path: path.clone() + &directed(before),
                body: json(&renewal(cluster, n + 1)),
            };
            (vec![first], Box::new(ask))
        })
    }

    /// Who leads, and who renews a session at each of the other nodes until it is acknowledged.
    pub async fn before_the_loss(&self) -> Result<(String, Vec<Probe>), BenchError> {
        let broken = |e: &dyn std::fmt::Display| BenchError::answer("a session", e);
        let tls = self.workers.first().ok_or_else(|| broken(&"there is no worker"))?;
        let client = HttpsClient::new(tls.store(), tls.expect().clone());
        let (open, path) = opening(&worker(0), OsRandom.next_u64());
        let open = Request::json(open.method, open.path, open.body);
        let opened = client.send(&self.api.to_string(), open, READY_WITHIN).await;
        let opened = opened.map_err(|e| broken(&e))?;
        if !opened.status.is_success() {
            return Err(broken(&String::from_utf8_lossy(&opened.body)));
        }
        let renew = Request::json(Method::POST, path, json(&renewal(self.id, 1)));
        let others = self.lab.sites.iter().filter(|site| site.name != HOME);
        let probes = others.map(|site| {
            let (client, renew, node) = (client.clone(), renew.clone(), site.node_api.to_string());
            Box::pin(async move {
                loop {
                    let answer = client.send(&node, renew.clone(), ATTEMPT).await;
                    if answer.is_ok_and(|answer| answer.status.is_success()) {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }) as Probe
        });
        let leading = self.lab.site(HOME).map(Site::node_process).unwrap_or_default();
        Ok((leading, probes.collect()))
    }

    /// Waits until the leader stands at home again.
    pub async fn lead_again(&self) -> Result<(), BenchError> {
        let ana = Admin::new(&self.lab)?;
        let led = tokio::time::timeout(READY_WITHIN, ana.lead_from_home()).await;
        led.map_err(|_| BenchError::answer("the nodes", "no leader at home"))?.map(drop)
    }

    /// Clients that share connections, `each` to one, and send its session's last renewal again: a
    /// session's renewals follow one another, so that those of several clients at once are repeats.
    /// Each is committed and applied like the first.
    pub fn stream_writers(&self, count: usize, each: usize) -> Vec<Client> {
        let mut clients = Vec::new();
        for (n, way) in self.connections(count, each).into_iter().enumerate() {
            let (boot, cluster) = (OsRandom.next_u64(), self.id);
            let (open, path) = opening(&worker(n), boot);
            let renew = move |_: u64, before: &[u8]| Asked {
                method: Method::POST,
                path: path.clone() + &directed(before),
                body: json(&renewal(cluster, 1)),
            };
            for client in 0..each.min(count - n * each) {
                // Only one opens the session; the others have waited for it on their connection.
                let first =
                    if client == 0 { vec![open.clone(), renew(0, &[])] } else { Vec::new() };
                clients.push(Client { way: way.clone(), first, ask: Box::new(renew.clone()) });
            }
        }
        clients
    }

    /// Clients that share connections and read one scope.
    pub fn stream_readers(
        &self,
        count: usize,
        each: usize,
        consistency: &'static str,
    ) -> Vec<Client> {
        let ways = self.connections(count, each);
        (0..count)
            .map(|n| Client {
                way: ways[n / each].clone(),
                first: Vec::new(),
                ask: Box::new(move |_, _| reading(consistency)),
            })
            .collect()
    }

    /// HTTP/2 connections for so many clients.
    fn connections(&self, count: usize, each: usize) -> Vec<Way> {
        let stores = self.workers.iter().take(count.div_ceil(each));
        stores
            .map(|tls| {
                let expect = tls.expect().clone();
                let tls = Arc::new(tls.store().client(expect, Protocol::Http2));
                Way::Shared(Shared::new(Reach::Mutual(self.api, tls), Dialect::Json))
            })
            .collect()
    }

    /// Clients that read one scope.
    pub fn readers(&self, count: usize, consistency: &'static str) -> Vec<Client> {
        self.clients(count, |_, _| (Vec::new(), Box::new(move |_, _| reading(consistency))))
    }

    fn clients(
        &self,
        count: usize,
        each: impl Fn(String, ClusterId) -> (Vec<Asked>, crate::load::Ask),
    ) -> Vec<Client> {
        let workers = self.workers.iter().take(count).enumerate();
        workers
            .map(|(n, tls)| {
                let (first, ask) = each(worker(n), self.id);
                let way = Way::Own(Reach::Mutual(self.api, Arc::clone(tls)));
                Client { way, first, ask }
            })
            .collect()
    }
}

/// Bytes of a renewal's body, for a peer's write of the same size.
pub fn write_bytes() -> usize {
    json(&renewal(ClusterId::default(), 1)).len()
}

fn renewal(cluster: ClusterId, seq: u64) -> RenewRequest {
    let report = WorkerReport { queue_syncs: seq, ..WorkerReport::default() };
    RenewRequest { cluster, seq, report }
}

/// How long after a region was lost, with the leader in it, another one has the right to write:
/// wide links, workers and a venue as in the demo, profile `near`, mode `auto`, detection at its
/// minimum.
pub async fn region_lost(
    folder: PathBuf,
    program: PathBuf,
    base_port: u16,
) -> Result<Duration, BenchError> {
    let lab = Lab::prepare(&DemoOptions {
        fast: false,
        hold: false,
        setup_only: true,
        data: folder,
        rtt: None,
        json: false,
        live: false,
        frames: None,
        base_port,
        program,
        requests_per_second: REQUESTS_PER_SECOND,
        namespaces: None,
    })
    .await?;
    let took = lose_home(&lab).await;
    lab.stop().await;
    took
}

async fn lose_home(lab: &Lab) -> Result<Duration, BenchError> {
    rewrite(lab, |text| {
        let text = text.replacen("mode: approve", "mode: auto", 1);
        text.replace("detection: 60000ms", "detection: 5000ms")
    })?;
    lab.start("venue").await?;
    lab.start("node").await?;
    let ana = Admin::new(lab)?;
    ana.found(lab).await?;
    ana.lead_from_home().await?;
    lab.start("worker").await?;
    let ready = tokio::time::timeout(READY_WITHIN, ana.until_level());
    ready.await.map_err(|_| BenchError::answer("the workers", "not level within two minutes"))?;
    let lost = SystemClock.boot();
    lab.supervisor
        .kill(HOME, KillSignal::Kill, true)
        .map_err(|e| BenchError::cannot("losing a region", e))?;
    let moved = tokio::time::timeout(READY_WITHIN, ana.until_moved());
    moved.await.map_err(|_| BenchError::answer("the controller", "nobody took the scope over"))?;
    Ok(SystemClock.boot() - lost)
}

/// Changes what the cluster is founded with.
fn rewrite(lab: &Lab, change: impl FnOnce(String) -> String) -> Result<(), BenchError> {
    let file = lab.folder.join("cluster.yaml");
    let text = std::fs::read_to_string(&file);
    let written = text.and_then(|text| std::fs::write(&file, change(text)));
    written.map_err(|error| BenchError::cannot("cluster.yaml", error))
}

/// What opens a session, and where it is renewed.
fn opening(worker: &str, boot: u64) -> (Asked, String) {
    let addresses = WorkerAddresses { api: "127.0.0.1:1".into(), data: "127.0.0.1:2".into() };
    let open = OpenSessionRequest { boot: format!("{boot:016x}"), addresses };
    let path = "/v1/sessions".to_owned();
    let asked = Asked { method: Method::POST, path, body: json(&open) };
    (asked, format!("/v1/sessions/{worker}.{boot:016x}/renew"))
}

/// What a worker gives back of the answer before: up to where it has been told what to be.
fn directed(before: &[u8]) -> String {
    const FIELD: &[u8] = b"\"directed\":";
    let at = before.windows(FIELD.len()).position(|part| part == FIELD);
    let rest = at.map(|at| &before[at + FIELD.len()..]).unwrap_or_default();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match String::from_utf8_lossy(&rest[..digits]) {
        index if index.is_empty() => String::new(),
        index => format!("?directed={index}"),
    }
}

fn reading(consistency: &str) -> Asked {
    let path = format!("/v1/scopes/warm/global?consistency={consistency}");
    Asked { method: Method::GET, path, body: Bytes::new() }
}

fn worker(n: usize) -> String {
    format!("bench-{n}")
}

/// What is serialised here are structs with text keys.
fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// A certificate for each client, by the demo's own authority.
fn certify(lab: &Lab, clients: usize) -> Result<Vec<Arc<ClientTls>>, BenchError> {
    let broken = |e: &dyn std::fmt::Display| BenchError::cannot("certificates", e);
    let pki = lab.folder.join("pki");
    let authority = Authority::load(&pki.join("authority")).map_err(|e| broken(&e))?;
    (0..clients)
        .map(|n| {
            let name = worker(n);
            let id = SpiffeId::new(authority.trust_domain(), CLUSTER, Class::Worker, HOME, &name)
                .map_err(|e| broken(&e))?;
            let folder = pki.join(&name);
            let leaf = authority.issue(&id, Validity::lasting(LIFE)).map_err(|e| broken(&e))?;
            leaf.write(&authority, &folder).map_err(|e| broken(&e))?;
            let store = TlsStore::load(TlsFiles::in_folder(&folder)).map_err(|e| broken(&e))?;
            Ok(Arc::new(store.client(Expect::nodes(CLUSTER), Protocol::Http)))
        })
        .collect()
}

/// Whoever founds the cluster and moves its leader.
struct Admin {
    client: HttpsClient,
    nodes: Vec<String>,
}

impl Admin {
    fn new(lab: &Lab) -> Result<Self, BenchError> {
        let store = TlsStore::load(TlsFiles::in_folder(&lab.identity("ana")))
            .map_err(|e| BenchError::cannot("ana's certificate", e))?;
        let client = HttpsClient::new(&store, Expect::nodes(CLUSTER));
        let nodes = lab.sites.iter().map(|site| site.node_api.to_string()).collect();
        Ok(Self { client, nodes })
    }

    async fn send(&self, node: &str, request: Request) -> Result<Response, String> {
        let path = request.path.clone();
        let answer =
            self.client.send(node, request, READY_WITHIN).await.map_err(|e| e.to_string())?;
        match answer.status.is_success() {
            true => Ok(answer),
            false => {
                Err(format!("{path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body)))
            }
        }
    }

    async fn found(&self, lab: &Lab) -> Result<(), BenchError> {
        let config = read_cluster(&lab.folder.join("cluster.yaml"))
            .map_err(|e| BenchError::cannot("cluster.yaml", e))?;
        let request = InitRequest { expect: 3, config };
        loop {
            let init = Request::json(Method::POST, "/v1/cluster/init", json(&request));
            match self.send(&self.nodes[0], init).await {
                Ok(_) => return Ok(()),
                // The process has not opened its port yet.
                Err(error) if error.contains("was not asked") => {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                Err(error) => return Err(BenchError::answer("founding", error)),
            }
        }
    }

    /// The scope as any node but the first sees it.
    async fn scope(&self) -> Option<ScopeStatus> {
        const SCOPE: &str = "/v1/scopes/warm/global";
        let ask = |node| {
            let asked = self.client.send(node, Request::get(SCOPE), LOOK_WITHIN);
            Box::pin(async move { serde_json::from_slice(&asked.await.ok()?.body).ok() })
        };
        let (first, _, _) = select_all(self.nodes[1..].iter().map(|node| ask(node))).await;
        first
    }

    /// Waits until home writes, and every region has a sink that could take over.
    async fn until_level(&self) {
        loop {
            if let Some(scope) = self.scope().await
                && scope.holder.as_ref().is_some_and(|holder| holder.0 == HOME)
                && scope.regions.values().all(|sink| sink.level == Level::Ok && sink.end.seq > 0)
            {
                return;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Waits until another region than home has the lease.
    async fn until_moved(&self) {
        loop {
            if let Some(scope) = self.scope().await
                && scope.holder.is_some_and(|holder| holder.0 != HOME)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Moves leadership until [`HOME`] has it; the cluster's id.
    async fn lead_from_home(&self) -> Result<ClusterId, BenchError> {
        loop {
            for node in &self.nodes {
                let asked = self.send(node, Request::get("/v1/cluster")).await;
                let Some(status) = asked
                    .ok()
                    .and_then(|answer| serde_json::from_slice::<ClusterStatus>(&answer.body).ok())
                else {
                    continue;
                };
                match (status.at.leader, status.id) {
                    (Some(leader), Some(id)) if leader.0 == HOME => return Ok(id),
                    _ => {
                        let to = TransferRequest { to: HOME.into() };
                        let path = "/v1/cluster/transfer-leader";
                        // Whoever does not lead says so; the next one is asked.
                        drop(self.send(node, Request::json(Method::POST, path, json(&to))).await);
                    }
                }
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
}
