//! A founded cluster on one node, with people, workers and a clock that moves when told to.

use crate::api::{Api, Parts, PeerAddress};
use crate::caller::Caller;
use crate::forward::Answerer;
use crate::health::Health;
use crate::history::History;
use crate::http::{Limiter, router};
use crate::log::{Log, Proposal};
use crate::settings::read_cluster_text;
use crate::solo::SoloLog;
use crate::watch::LeaseWatch;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use cryptorun_core::command::{Command, Found, SetClusterVersion};
use cryptorun_core::config::{CLUSTER_VERSION, ClusterConfig, ClusterId};
use cryptorun_core::time::{Profile, WallTime};
use cryptorun_core::wire::InitRequest;
use cryptorun_platform::Platform;
use cryptorun_platform::clock::ManualClock;
use cryptorun_platform::disk::{Disk, SimDisk};
use cryptorun_platform::identity::SpiffeId;
use cryptorun_platform::metrics::Metrics;
use cryptorun_platform::net::Peer;
use cryptorun_platform::random::SeededRandom;
use cryptorun_platform::spawn::TokioSpawn;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(crate) const EAST: &str = "us-east-1";
pub(crate) const WEST: &str = "us-west-2";

pub(crate) fn config() -> ClusterConfig {
    let text = include_str!("../../../config/cluster.yaml");
    let mut config = read_cluster_text("cluster.yaml", text, None).unwrap();
    config.name = "test".to_owned();
    config
}

pub(crate) struct World {
    pub api: Api,
    pub log: Arc<SoloLog>,
    pub clock: Arc<ManualClock>,
    pub router: Router,
    pub metrics: Metrics,
    pub stop: CancellationToken,
}

impl World {
    /// Node 1 in us-east-1, not founded.
    pub fn empty() -> Self {
        Self::empty_on(Arc::new(SimDisk::new()))
    }

    /// The same, whose history is kept there.
    pub fn empty_on(disk: Arc<dyn Disk>) -> Self {
        Self::on(disk, 1, EAST, Arc::new(ManualClock::new(WallTime(1_735_689_600_000))), 10_000)
    }

    pub fn node(node: u64, region: &str, clock: Arc<ManualClock>, per_second: u32) -> Self {
        Self::on(Arc::new(SimDisk::new()), node, region, clock, per_second)
    }

    pub fn on(
        disk: Arc<dyn Disk>,
        node: u64,
        region: &str,
        clock: Arc<ManualClock>,
        per_second: u32,
    ) -> Self {
        let log = SoloLog::new(node, clock.clone());
        let platform = Platform {
            clock: clock.clone(),
            random: Arc::new(SeededRandom::new(node)),
            spawn: Arc::new(TokioSpawn),
            disk,
        };
        let peers = [(1, EAST), (2, WEST), (3, "eu-west-1")]
            .into_iter()
            .filter(|(id, _)| *id != node)
            .map(|(id, at)| {
                (id, PeerAddress { region: at.into(), api: format!("api-{id}.example:7400") })
            })
            .collect::<BTreeMap<_, _>>();
        let metrics = Metrics::new();
        let history = Arc::new(History::open(platform.disk.clone(), u64::MAX).unwrap());
        let api = Api::new(Parts {
            log: log.clone(),
            platform: platform.clone(),
            region: region.into(),
            name: format!("n{node}"),
            neighbours: Arc::new(()),
            tls: None,
            profile: Profile::Wan,
            peers,
            leases: LeaseWatch::default(),
            history,
            metrics: metrics.clone(),
        });
        log.set_forward_handler(Arc::new(Answerer(api.clone())));
        let stop = CancellationToken::new();
        let health = Health { api: api.clone(), metrics: metrics.clone() };
        let router = router(api.clone(), health, Limiter::new(per_second), stop.clone());
        Self { api, log, clock, router, metrics, stop }
    }

    /// The same, founded by eve, alone in its cluster of three.
    pub async fn founded() -> Self {
        let world = Self::empty();
        world.found().await;
        world
    }

    pub async fn found(&self) {
        self.log.initialize(BTreeMap::new()).await.unwrap();
        self.as_eve(Command::Found(Found { id: ClusterId(7), config: config() })).await;
        self.api.parts().leases.follow(self.log.clone(), &TokioSpawn);
    }

    /// To what this program speaks, as who founds may do at once.
    pub async fn raise_version(&self) {
        let version = SetClusterVersion { version: CLUSTER_VERSION };
        self.as_eve(Command::SetClusterVersion(version)).await;
    }

    async fn as_eve(&self, command: Command) {
        let actor = person("eve").actor;
        let proposal = Proposal { actor, via: None, request: None, command };
        self.log.propose(proposal).await.unwrap().answer.unwrap();
    }

    pub fn init_request() -> InitRequest {
        InitRequest { expect: 3, config: config() }
    }

    /// Sends a request as whoever the SPIFFE id names.
    pub async fn send(&self, who: &Caller, method: &str, path: &str, body: &str) -> Response<Body> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(Body::from(body.to_owned()))
            .unwrap();
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let peer = Peer {
            serial: who.certificate.clone(),
            ..Peer::named(addr, SpiffeId::clone(&who.spiffe))
        };
        request.extensions_mut().insert(ConnectInfo(peer));
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub async fn json<T: DeserializeOwned>(
        &self,
        who: &Caller,
        method: &str,
        path: &str,
        body: &str,
    ) -> (u16, T) {
        let response = self.send(who, method, path, body).await;
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 4 << 20).await.unwrap();
        match serde_json::from_slice(&bytes) {
            Ok(value) => (status, value),
            Err(error) => panic!("{status} {error}: {}", String::from_utf8_lossy(&bytes)),
        }
    }
}

pub(crate) fn caller(class: &str, region: &str, id: &str) -> Caller {
    let spiffe = format!("spiffe://test.example/cryptorun/test/{class}/{region}/{id}");
    let spiffe: SpiffeId = spiffe.parse().unwrap();
    Caller::new(spiffe.into(), Some("0a".into())).unwrap()
}

pub(crate) fn person(id: &str) -> Caller {
    caller("person", EAST, id)
}

pub(crate) fn worker(region: &str) -> Caller {
    caller("worker", region, &format!("w-{region}"))
}
