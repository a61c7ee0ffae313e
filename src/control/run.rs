//! `cryptorun node`: one control-plane node, from its settings to its clean end.

use crate::api::{Api, Parts, PeerAddress};
use crate::caller::node_number;
use crate::forward::Answerer;
use crate::health::{self, Health};
use crate::history::History;
use crate::http::{self, Limiter};
use crate::log::Log;
use crate::log::MemberAddress;
use crate::neighbours::Book;
use crate::raft_log::{RaftLog, address};
use crate::settings::NodeSettings;
use crate::watch::LeaseWatch;
use crate::{controller, detector, door, figures, recorder, upkeep};
use cryptorun_core::region::RegionName;
use cryptorun_core::time::Timing;
use cryptorun_platform::Platform;
use cryptorun_platform::disk::DiskLock;
use cryptorun_platform::framed::{self, FramedPeers, serve_framed};
use cryptorun_platform::identity::Class;
use cryptorun_platform::listener::{Limits, ListenError, MtlsListener, PlainListener, serve_http};
use cryptorun_platform::metrics::Metrics;
use cryptorun_platform::shutdown::Shutdown;
use cryptorun_platform::tls::{Expect, Protocol, TlsError, TlsFiles, TlsStore};
use cryptorun_raft::{Member, Node, SledStore};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Why a node does not start, or stopped by itself. The program ends with exit code 8.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its certificate, key or roots.
    #[error("the node's certificate cannot be used")]
    Tls(#[from] TlsError),
    /// A certificate that is not this node's.
    #[error("{found} is not node {node} of {region}: the certificate and the settings disagree")]
    Identity {
        /// As certified.
        found: String,
        /// As configured.
        node: u64,
        /// As configured.
        region: RegionName,
    },
    /// Its data folder.
    #[error("cannot use the data folder {}", path.display())]
    Data {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("the data folder {} is in use by another process", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// The materialised machine's store.
    #[error("the state store in {} cannot be opened", path.display())]
    Store {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: cryptorun_raft::state_store::StoreError,
    },
    /// Its log.
    #[error("the log cannot be opened")]
    Raft(#[from] cryptorun_raft::StartError),
    /// A port.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The disk failed while it ran.
    #[error("stopped: {0}")]
    Disk(String),
}

/// Runs until told to stop, or until the disk fails.
///
/// # Errors
/// What prevents a start, naming the thing.
pub async fn run(settings: NodeSettings, shutdown: Shutdown) -> Result<(), StartError> {
    let platform = Platform::real(settings.data.clone());
    let tls = TlsStore::load(TlsFiles {
        cert: settings.tls.cert.clone(),
        key: settings.tls.key.clone(),
        ca: settings.tls.ca.clone(),
        crl: settings.tls.crl.clone(),
    })?;
    let id = tls.id();
    let own = node_number(&id.id) == Some(settings.node);
    if id.class != Class::Node || !own || id.region != settings.region.as_str() {
        return Err(StartError::Identity {
            found: id.to_string(),
            node: settings.node,
            region: settings.region,
        });
    }
    let _lock = claim(&platform, &settings.data)?;
    let limits = Limits::default();
    let nodes = Expect::nodes(&id.cluster);
    let anyone = tls.server(Expect::anyone(&id.cluster), Protocol::Http);
    let api_port = MtlsListener::bind(settings.listen.api, anyone, limits).await?;
    let peers_tls = tls.server(nodes.clone(), Protocol::Framed);
    let raft_port = MtlsListener::bind(settings.listen.raft, peers_tls, limits).await?;
    let health_port = PlainListener::bind(settings.listen.health, limits).await?;

    let metrics = Metrics::new();
    tls.export(&metrics);
    let known = known(&settings, &id.id);
    let file: BTreeMap<u64, MemberAddress> =
        known.iter().map(|(node, at)| (*node, address(at))).collect();
    let peers = FramedPeers::new(
        &tls,
        nodes,
        BTreeMap::new(), // The book meets them.
        framed::Timing::default(),
        platform.spawn.clone(),
        platform.random.clone(),
    );
    let book = Book::new(peers.clone(), settings.node, file);
    let node = open(&settings, &platform, &id.cluster, known, peers).await?;
    platform.spawn.spawn("neighbours", Box::pin(book.clone().follow(node.clone())));
    let log = RaftLog::new(node.clone(), platform.clone());
    let history = History::open(platform.disk.clone(), settings.history_bytes_max)
        .map_err(|source| StartError::Data { path: settings.data.join("history"), source })?;
    let api = Api::new(Parts {
        log: log.clone(),
        platform: platform.clone(),
        region: settings.region.clone(),
        name: id.id.clone(),
        profile: settings.profile,
        neighbours: book,
        tls: Some(tls.clone()),
        peers: settings
            .peers
            .iter()
            .map(|p| (p.node, PeerAddress { region: p.region.clone(), api: p.api.clone() }))
            .collect(),
        leases: LeaseWatch::default(),
        history: Arc::new(history),
        metrics: metrics.clone(),
    });
    let service = Service { api, log, node, metrics, platform, tls };
    service.serve(api_port, raft_port, health_port, &settings, shutdown).await
}

impl StartError {
    /// What a script may branch on (`docs/cli.md`).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Identity { .. } => 2,
            Self::Raft(error) => error.exit_code(),
            Self::Tls(_)
            | Self::Listen(_)
            | Self::Data { .. }
            | Self::InUse { .. }
            | Self::Store { .. }
            | Self::Disk(_) => 8,
        }
    }
}

/// Makes the data folder ours.
fn claim(platform: &Platform, path: &Path) -> Result<Box<dyn DiskLock>, StartError> {
    let failed = |source| StartError::Data { path: path.to_owned(), source };
    platform.disk.create_dir_all(Path::new("")).map_err(failed)?;
    platform.disk.lock(Path::new("lock")).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => StartError::InUse { path: path.to_owned() },
        _ => failed(source),
    })
}

/// Everybody that the host's file names, this node too. Until there is a membership, these may speak.
fn known(settings: &NodeSettings, own: &str) -> BTreeMap<u64, Member> {
    // Certificates of a cluster are named alike: `1, 2, 3` or `n1, n2, n3`.
    let prefix = own.trim_end_matches(|c: char| c.is_ascii_digit());
    let mut known: BTreeMap<u64, Member> = settings
        .peers
        .iter()
        .map(|peer| {
            let member = Member {
                region: peer.region.to_string(),
                name: format!("{prefix}{}", peer.node),
                raft: peer.raft.clone(),
                api: peer.api.clone(),
                disk: None,
            };
            (peer.node, member)
        })
        .collect();
    let me = Member {
        region: settings.region.to_string(),
        name: own.to_owned(),
        raft: settings.listen.raft.to_string(),
        api: settings.listen.api.to_string(),
        disk: None,
    };
    known.insert(settings.node, me);
    known
}

async fn open(
    settings: &NodeSettings,
    platform: &Platform,
    cluster: &str,
    known: BTreeMap<u64, Member>,
    peers: Arc<FramedPeers>,
) -> Result<Arc<Node>, StartError> {
    let data = |source| StartError::Data { path: settings.data.clone(), source };
    platform.disk.create_dir_all(Path::new("")).map_err(data)?;
    let place = settings.data.join("machine");
    let store = SledStore::open(&place)
        .map_err(|source| StartError::Store { path: place.clone(), source })?;
    let raft = cryptorun_raft::NodeSettings::new(
        settings.node,
        cluster,
        PathBuf::from("raft"),
        Timing::of(settings.profile),
        known,
    );
    Ok(Arc::new(Node::start(raft, platform.clone(), peers, Arc::new(store)).await?))
}

/// Everything of one node, put together.
struct Service {
    api: Api,
    log: Arc<RaftLog>,
    node: Arc<Node>,
    metrics: Metrics,
    platform: Platform,
    tls: Arc<TlsStore>,
}

impl Service {
    async fn serve(
        self,
        api_port: MtlsListener,
        raft_port: MtlsListener,
        health_port: PlainListener,
        settings: &NodeSettings,
        shutdown: Shutdown,
    ) -> Result<(), StartError> {
        let stop = CancellationToken::new();
        let spawn = self.platform.spawn.clone();
        self.log.set_forward_handler(Arc::new(Answerer(self.api.clone())));
        figures::export(&self.api, &self.metrics);
        self.api.parts().leases.follow(self.log.clone(), &*spawn);
        let health = Health { api: self.api.clone(), metrics: self.metrics.clone() };
        let plain = health::routes(health.clone());
        let limiter = Limiter::new(settings.requests_per_second);
        let front = http::front(self.api.clone(), health, limiter, stop.clone());

        let logins = self.tls.refusals().logins();
        let peers = serve_framed(raft_port, self.node.service(), stop.clone());
        let tasks = [
            spawn.spawn("peers", Box::pin(peers)),
            spawn.spawn("health", Box::pin(serve_http(health_port, plain, stop.clone()))),
            spawn.spawn("credentials", Box::pin(self.tls.clone().watch(stop.clone()))),
            spawn.spawn("detector", Box::pin(detector::detect(self.api.clone()))),
            spawn.spawn("upkeep", Box::pin(upkeep::keep_up(self.api.clone()))),
            spawn.spawn("door", Box::pin(door::tell(self.api.clone()))),
            spawn.spawn("logins", Box::pin(door::watch_logins(self.api.clone(), logins))),
            spawn.spawn(
                "controller",
                Box::pin(controller::control(self.log.clone(), self.platform.clone())),
            ),
            spawn.spawn(
                "recorder",
                Box::pin(recorder::record(
                    self.log.clone(),
                    self.platform.clone(),
                    self.api.parts().history.clone(),
                )),
            ),
        ];
        let answers = CancellationToken::new();
        let serving = spawn.spawn("api", Box::pin(serve_http(api_port, front, answers.clone())));
        tracing::info!(node = settings.node, region = %settings.region, "node runs");

        let failure = tokio::select! {
            () = shutdown.draining() => None,
            failure = self.node.failed() => Some(failure),
        };
        if let Some(failure) = failure {
            // Without its log it can promise nothing: the supervisor starts it again.
            return Err(StartError::Disk(failure));
        }
        tracing::info!("handing leadership over");
        tokio::select! {
            () = self.node.shutdown() => {}
            () = shutdown.stopping_now() => {}
        }
        answers.cancel();
        stop.cancel();
        tokio::select! {
            _ = serving.join() => {}
            () = shutdown.stopping_now() => {}
        }
        tasks.iter().for_each(|task| task.abort());
        tracing::info!("node stopped");
        Ok(())
    }
}
