//! The worker as a process: opens what is on the disk, listens, keeps its session, works its
//! scopes, and stops in good order.
//!
//! Order of stopping: scopes seal and release, the session ends, listeners close, files close.

use crate::candle::CandleSettings;
use crate::control::{Caller, HttpsControl};
use crate::http::{self, Api, Shelf};
use crate::ingest::dial::TcpDial;
use crate::ingest::feed::FeedReport;
use crate::ingest::model::VenueId;
use crate::ingest::session::Session;
use crate::keeper::Keeper;
use crate::probe;
use crate::queue::{self, Queue, QueueError, QueueSettings};
use crate::report::Sources;
use crate::settings::WorkerSettings;
use crate::sink::{self, Place, Sink};
use crate::standing::Standing;
use crate::warm::feeder::Feeder;
use crate::warm::regions::Regions;
use crate::warm::scope::{Parts, ScopeWorker, Status};
use crate::warm::serve::DataService;
use cryptorun_core::position::Hash;
use cryptorun_core::region::RegionName;
use cryptorun_core::scope::ScopeId;
use cryptorun_platform::Platform;
use cryptorun_platform::clock::RateMeter;
use cryptorun_platform::disk::DiskLock;
use cryptorun_platform::framed::{self, FramedPeers, Target, serve_framed};
use cryptorun_platform::https::HttpsClient;
use cryptorun_platform::identity::Class;
use cryptorun_platform::listener::{Limits, ListenError, MtlsListener, PlainListener};
use cryptorun_platform::metrics::Metrics;
use cryptorun_platform::net::Peer;
use cryptorun_platform::segments::{Driver, Owner};
use cryptorun_platform::shutdown::Shutdown;
use cryptorun_platform::tls::{Expect, Protocol, TlsError, TlsStore};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Sealing, releasing and the last answers get this long.
const STOP_WITHIN: Duration = Duration::from_secs(5);
const CLOCKS_EVERY: Duration = Duration::from_secs(1);

/// What prevents a start, or ended the process.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("credentials: {0}")]
    Tls(#[from] TlsError),
    #[error(
        "the certificate is for {found}, not for a worker in {region}: use that region's, or correct `region`"
    )]
    Identity { found: String, region: RegionName },
    #[error("cannot use the data folder {path}: {source}")]
    Data { path: PathBuf, source: io::Error },
    #[error(
        "the data folder {path} is in use by another process: stop that one, or choose another `data`"
    )]
    InUse { path: PathBuf },
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Sink(#[from] sink::OpenError),
    #[error("queue: {}", with_cause(_0))]
    Queue(#[from] QueueError),
    #[error("venue: {0}")]
    Venue(String),
    /// Ran, and had to stop.
    #[error("{what} failed: {why}")]
    Failed { what: &'static str, why: String },
}

impl StartError {
    /// What a script may branch on (`docs/cli.md`).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Identity { .. } => 2,
            _ => 8,
        }
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

/// Runs until told to stop, or until the disk fails.
///
/// `platform`'s disk has the data folder as its root, as `settings.data` names it.
pub async fn run(
    settings: WorkerSettings,
    platform: Platform,
    shutdown: Shutdown,
) -> Result<(), StartError> {
    let tls = TlsStore::load(settings.tls.clone())?;
    let id = tls.id();
    if id.class != Class::Worker || id.region != settings.region.as_str() {
        let region = settings.region.clone();
        return Err(StartError::Identity { found: id.to_string(), region });
    }
    let metrics = Metrics::new();
    tls.export(&metrics);
    let _lock = claim(&platform, &settings.data)?;
    let open = Opened::open(&settings, &platform, &id.cluster, &id.id)?;

    let limits = Limits::default();
    let anyone = tls.server(Expect::anyone(&id.cluster), Protocol::Http);
    let workers = tls.server(Expect::workers(&id.cluster), Protocol::Framed);
    let api_port = MtlsListener::bind(settings.listen.api, anyone, limits).await?;
    let data_port = MtlsListener::bind(settings.listen.data, workers, limits).await?;
    let health_port = PlainListener::bind(settings.listen.health, limits).await?;

    let worker = Worker::assemble(&settings, &platform, &tls, open, metrics)?;
    worker.serve(api_port, data_port, health_port, &tls, shutdown).await
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

/// What is on the disk.
struct Opened {
    queue: Queue,
    sinks: BTreeMap<ScopeId, Sink>,
}

impl Opened {
    fn open(
        settings: &WorkerSettings,
        platform: &Platform,
        cluster: &str,
        id: &str,
    ) -> Result<Self, StartError> {
        let owner = owner(cluster, id);
        let queue = Queue::open(
            Arc::clone(&platform.clock),
            Arc::clone(&platform.disk),
            QueueSettings { bytes_max: settings.queue_bytes, ..QueueSettings::new("queue", owner) },
            Arc::new(|| Driver::Thread),
        )?;
        let mut sinks = BTreeMap::new();
        for scope in settings.scopes.keys() {
            let dir = PathBuf::from(format!("{}-{}", scope.tier, scope.group));
            let failed = |source| StartError::Data { path: settings.data.join(&dir), source };
            platform.disk.create_dir_all(&dir).map_err(failed)?;
            let store = Some(settings.data.join(&dir).join("candles.sqlite"));
            let place = Place { dir: &dir, store, owner, segment_bytes: sink::SEGMENT_BYTES };
            let sink = Sink::open(platform, place, scope, &settings.region, Driver::Thread)?;
            sinks.insert(scope.clone(), sink);
        }
        Ok(Self { queue, sinks })
    }
}

/// A disk of another cluster or worker is not ours.
fn owner(cluster: &str, id: &str) -> Owner {
    let Hash(hash) = Hash::of(format!("worker {cluster}/{id}").as_bytes());
    let mut tag = [0; 16];
    tag.copy_from_slice(&hash[..16]);
    Owner(tag)
}

/// Everything of one worker, put together and not yet running.
struct Worker {
    settings: WorkerSettings,
    platform: Platform,
    standing: Arc<Standing>,
    keeper: Arc<Keeper>,
    regions: Arc<Regions>,
    queue: Queue,
    sinks: BTreeMap<ScopeId, Sink>,
    scopes: Vec<ScopeWorker>,
    feed: Option<(Session<crate::ingest::kraken::Kraken>, crate::ingest::session::Feed)>,
    api: Api,
}

impl Worker {
    fn assemble(
        settings: &WorkerSettings,
        platform: &Platform,
        tls: &Arc<TlsStore>,
        opened: Opened,
        metrics: Metrics,
    ) -> Result<Self, StartError> {
        let Opened { queue, sinks } = opened;
        let cluster = tls.id().cluster;
        let standing = Standing::new(Arc::clone(&platform.clock));
        let framed = FramedPeers::new(
            tls,
            Expect::workers(&cluster),
            BTreeMap::new(),
            framed::Timing::default(),
            Arc::clone(&platform.spawn),
            Arc::clone(&platform.random),
        );
        let overrides =
            settings.peers.iter().map(|(region, at)| (region.clone(), at.data.clone())).collect();
        let locate = {
            let framed = Arc::clone(&framed);
            Box::new(move |number: u64, region: &RegionName, at: &str, worker: &str| {
                framed.set_peer(number, Some(Target::named(at, region.as_str(), worker)));
            })
        };
        let regions = Regions::new(framed, Arc::clone(&platform.clock), overrides, locate);

        let feed = feed(settings, platform, &queue)?;
        let mut feeds: BTreeMap<String, watch::Receiver<Arc<FeedReport>>> = BTreeMap::new();
        if let Some((_, feed)) = &feed {
            feeds.insert(VenueId::Kraken.to_string(), feed.report.clone());
        }
        let statuses: BTreeMap<ScopeId, watch::Sender<Status>> =
            sinks.keys().map(|scope| (scope.clone(), watch::Sender::default())).collect();
        let watched = |scope: &ScopeId| match statuses.get(scope) {
            Some(status) => status.subscribe(),
            None => watch::channel(Status::default()).1,
        };
        let reporter = Arc::new(Sources {
            clock: Arc::clone(&platform.clock),
            spawn: Arc::clone(&platform.spawn),
            standing: Arc::clone(&standing),
            regions: Arc::clone(&regions),
            queue: queue.clone(),
            scopes: sinks.iter().map(|(id, s)| (id.clone(), (s.clone(), watched(id)))).collect(),
            feeds,
            proving: Arc::default(),
        });
        let client = HttpsClient::new(tls, Expect::nodes(&cluster));
        let caller = Caller::new(Arc::new(HttpsControl::new(client, settings.control.clone())));
        let keeper = Keeper::new(
            platform.clone(),
            caller,
            Arc::clone(&standing),
            reporter,
            settings.addresses(),
        );
        let shelves: BTreeMap<ScopeId, Shelf> = sinks
            .iter()
            .map(|(id, sink)| {
                let residency = settings.scopes.get(id).and_then(|scope| scope.residency.clone());
                (id.clone(), Shelf { sink: sink.clone(), status: watched(id), residency })
            })
            .collect();
        let mut scopes = Vec::new();
        for (id, status) in statuses {
            let (Some(sink), Some(own)) = (sinks.get(&id), settings.scopes.get(&id)) else {
                continue;
            };
            let consumer = queue.consumer(&id.to_string())?;
            let feeder = Feeder::new(consumer, own.sources.clone(), CandleSettings::default());
            let parts = Parts {
                platform: platform.clone(),
                sink: sink.clone(),
                standing: Arc::clone(&standing),
                keeper: Arc::clone(&keeper),
                regions: Arc::clone(&regions),
                status,
                seal_every: settings.seal_every,
            };
            scopes.push(ScopeWorker::new(parts, feeder));
        }
        let api = Api {
            region: settings.region.clone(),
            clock: Arc::clone(&platform.clock),
            standing: Arc::clone(&standing),
            regions: Arc::clone(&regions),
            shelves: Arc::new(shelves),
            metrics,
            tls: Arc::clone(tls),
        };
        http::export(&api);
        Ok(Self {
            settings: settings.clone(),
            platform: platform.clone(),
            standing,
            keeper,
            regions,
            queue,
            sinks,
            scopes,
            feed,
            api,
        })
    }

    async fn serve(
        self,
        api_port: MtlsListener,
        data_port: MtlsListener,
        health_port: PlainListener,
        tls: &Arc<TlsStore>,
        shutdown: Shutdown,
    ) -> Result<(), StartError> {
        let spawn = Arc::clone(&self.platform.spawn);
        // Scopes stop first; what they need to stop goes on until they have.
        let (work, session, ports) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        spawn.spawn("tls", Box::pin(Arc::clone(tls).watch(ports.clone())));
        let service = Arc::new(DataService::new(
            self.sinks.clone(),
            Arc::clone(&self.standing),
            Arc::clone(&self.platform.clock),
        ));
        let data = spawn.spawn("data", Box::pin(serve_framed(data_port, service, ports.clone())));
        let api = http::api(self.api.clone()).into_make_service_with_connect_info::<Peer>();
        let stop = ports.clone();
        let api = spawn.spawn(
            "api",
            Box::pin(async move {
                let served =
                    axum::serve(api_port, api).with_graceful_shutdown(stop.cancelled_owned());
                log_end("api", served.await);
            }),
        );
        let health = http::health(self.api.clone());
        let stop = ports.clone();
        let health = spawn.spawn(
            "health",
            Box::pin(async move {
                let served =
                    axum::serve(health_port, health).with_graceful_shutdown(stop.cancelled_owned());
                log_end("health", served.await);
            }),
        );
        spawn.spawn(
            "clocks",
            Box::pin(watch_clocks(
                self.platform.clone(),
                Arc::clone(&self.standing),
                session.clone(),
            )),
        );
        let keeper = spawn.spawn("keeper", Box::pin(Arc::clone(&self.keeper).run(session.clone())));
        spawn.spawn(
            "probe",
            Box::pin(probe::run(
                self.platform.clone(),
                Arc::clone(&self.regions),
                self.settings.region.clone(),
                self.api.metrics.clone(),
                session.clone(),
            )),
        );
        let (failed_tx, mut failed) = tokio::sync::mpsc::channel::<StartError>(4);
        for sink in self.sinks.values() {
            let (sink, failed) = (sink.clone(), failed_tx.clone());
            spawn.spawn(
                "log-failed",
                Box::pin(async move {
                    let why = sink.failed().await;
                    let _ = failed.send(StartError::Failed { what: "the warm log", why }).await;
                }),
            );
        }
        if let Some((session, mut feed)) = self.feed {
            spawn.spawn("venue", Box::pin(session.run(work.clone())));
            let (queue, failed) = (self.queue.clone(), failed_tx.clone());
            spawn.spawn(
                "queue",
                Box::pin(async move {
                    if let Err(error) = queue::fill(&queue, &mut feed.events).await {
                        let why = with_cause(&error);
                        let _ = failed.send(StartError::Failed { what: "the queue", why }).await;
                    }
                }),
            );
        }
        let scopes: Vec<_> = self
            .scopes
            .into_iter()
            .map(|scope| spawn.spawn("scope", Box::pin(scope.run(work.clone()))))
            .collect();
        tracing::info!(region = %self.settings.region, "worker is up");

        let ended = tokio::select! {
            () = shutdown.draining() => Ok(()),
            failure = failed.recv() => failure.map_or(Ok(()), Err),
        };
        work.cancel();
        let in_order = async {
            for scope in scopes {
                scope.join().await;
            }
            self.keeper.end().await;
            session.cancel();
            keeper.join().await;
            ports.cancel();
            for task in [api, data, health] {
                task.join().await;
            }
            for sink in self.sinks.values() {
                log_end("warm log", sink.close().await);
            }
            log_end("queue", self.queue.close().await);
        };
        if tokio::time::timeout(STOP_WITHIN, in_order).await.is_err() {
            tracing::warn!("something was still under way when the worker stopped");
        }
        ended
    }
}

fn feed(
    settings: &WorkerSettings,
    platform: &Platform,
    queue: &Queue,
) -> Result<
    Option<(Session<crate::ingest::kraken::Kraken>, crate::ingest::session::Feed)>,
    StartError,
> {
    let Some(kraken) = &settings.kraken else { return Ok(None) };
    let dial = TcpDial::new().map_err(|error| StartError::Venue(error.to_string()))?;
    let last = queue.resume(VenueId::Kraken);
    Session::kraken(platform.clone(), Arc::new(dial), kraken, &last)
        .map(Some)
        .map_err(|error| StartError::Venue(with_cause(&error)))
}

/// Compares the clock that leases count by with the oscillator; too far apart, nothing is held.
pub async fn watch_clocks(platform: Platform, standing: Arc<Standing>, stop: CancellationToken) {
    let mut meter = RateMeter::default();
    while !stop.is_cancelled() {
        let allowed = standing
            .timing()
            .map_or(i64::MAX, |timing| i64::from(timing.rate_error_permille) * 1000 / 2);
        let off = meter.observe(platform.clock.as_ref()).filter(|ppm| ppm.abs() > allowed);
        standing.bar(off.map(|_| format!("the boot clock runs off by more than {allowed} ppm")));
        tokio::select! {
            () = tokio::time::sleep(CLOCKS_EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
}

fn log_end(what: &str, ended: io::Result<()>) {
    if let Err(error) = ended {
        tracing::warn!(what, %error, "ended badly");
    }
}
