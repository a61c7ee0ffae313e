//! Three nodes of cryptorun as the demo lays them out, with a worker's certificate for each client.
//!
//! The committed write is the product's own hot one: a renewal of a worker's session, which carries a
//! report. The read is one scope, confirmed by a quorum.

use crate::BenchError;
use crate::load::{Asked, Client, Reach};
use bytes::Bytes;
use cryptorun_control::settings::read_cluster;
use cryptorun_core::config::ClusterId;
use cryptorun_core::report::WorkerReport;
use cryptorun_core::session::WorkerAddresses;
use cryptorun_core::wire::{
    ClusterStatus, InitRequest, OpenSessionRequest, RenewRequest, TransferRequest,
};
use cryptorun_lab::demo::{CLUSTER, DemoOptions, Lab, REGIONS, RegionLinks};
use cryptorun_platform::https::{HttpsClient, Request, Response};
use cryptorun_platform::identity::{Class, SpiffeId};
use cryptorun_platform::pki::{Authority, Validity};
use cryptorun_platform::random::{OsRandom, Random};
use cryptorun_platform::tls::{ClientTls, Expect, Protocol, TlsFiles, TlsStore};
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
            let boot = OsRandom.next_u64();
            let addresses =
                WorkerAddresses { api: "127.0.0.1:1".into(), data: "127.0.0.1:2".into() };
            let open = OpenSessionRequest { boot: format!("{boot:016x}"), addresses };
            let path = format!("/v1/sessions/{name}.{boot:016x}/renew");
            let first =
                Asked { method: Method::POST, path: "/v1/sessions".into(), body: json(&open) };
            let ask = move |n: u64| Asked {
                method: Method::POST,
                path: path.clone(),
                body: json(&renewal(cluster, n + 1)),
            };
            (Some(first), Box::new(ask))
        })
    }

    /// Clients that read one scope.
    pub fn readers(&self, count: usize, consistency: &'static str) -> Vec<Client> {
        self.clients(count, |_, _| {
            let ask = move |_| Asked {
                method: Method::GET,
                path: format!("/v1/scopes/warm/global?consistency={consistency}"),
                body: Bytes::new(),
            };
            (None, Box::new(ask))
        })
    }

    fn clients(
        &self,
        count: usize,
        each: impl Fn(String, ClusterId) -> (Option<Asked>, crate::load::Ask),
    ) -> Vec<Client> {
        let workers = self.workers.iter().take(count).enumerate();
        workers
            .map(|(n, tls)| {
                let (first, ask) = each(worker(n), self.id);
                Client { reach: Reach::Mutual(self.api, Arc::clone(tls)), first, ask }
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
