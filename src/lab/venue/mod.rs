//! A simulated Kraken: WebSocket v2 and public REST over a market made from a seed.
//!
//! One process, three loopback listeners: the WebSocket, REST, and a control port that is not
//! Kraken's, through which faults are ordered and counts are read. It speaks the venue's true
//! protocol in plain text, so the worker's adapter cannot tell it from the real one but for TLS.
//!
//! What always holds:
//!  1. every book frame's checksum is that of the book a correct client then has, unless a fault
//!     was ordered, and then it is counted;
//!  2. all clients see the same trades under the same ids, also across a restart with the same seed
//!     and rates (`schedule.rs`);
//!  3. a client that does not read is closed, never waited for.
//!
//! Deliberately absent: accounts, orders, other channels, TLS.
//! Next: `market.rs` for who is told what, `session.rs` for the protocol, `tape.rs` for recordings.

mod book;
mod frames;
mod generator;
mod market;
mod pair;
mod rest;
mod schedule;
mod session;
mod stamp;
mod tape;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod worker_tests;

pub use pair::PAIRS;

use crate::protocol::{VenueFault, VenueFaultAnswer, VenueFaultCounts, VenueSent, VenueStatus};
use cryptorun_platform::clock::{BootTime, Clock};
use market::Market;
use schedule::{EPOCH_US, mix};
use std::future::{Future, IntoFuture};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// WebSocket connections served at once.
const CONNECTIONS_MAX: usize = 256;
const DRAIN_MAX: Duration = Duration::from_secs(1);
/// Stalls remembered at once, ended ones not counted.
const STALLS_MAX: usize = 64;

/// How often things happen at a pair. Both must stay the same when a venue is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    pub book_per_second: u32,
    pub trades_per_second: u32,
}

#[derive(Clone)]
pub struct VenueSettings {
    pub name: String,
    pub websocket: SocketAddr,
    pub rest: SocketAddr,
    pub control: SocketAddr,
    pub seed: u64,
    /// In the order of [`PAIRS`]: BTC/USD, ETH/USD.
    pub rates: [Rates; PAIRS.len()],
    /// A recording whose book frames replace the generated ones.
    pub frames: Option<PathBuf>,
    pub clock: Arc<dyn Clock>,
}

impl VenueSettings {
    /// What one of Kraken's busier pairs does, and a calmer one.
    pub const RATES: [Rates; PAIRS.len()] = [
        Rates { book_per_second: 52, trades_per_second: 5 },
        Rates { book_per_second: 26, trades_per_second: 3 },
    ];
}

#[derive(Debug, thiserror::Error)]
pub enum VenueError {
    #[error("cannot listen on {address} for {purpose}")]
    Listen { purpose: &'static str, address: SocketAddr, source: std::io::Error },
    #[error("cannot read the recorded frames in {}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} line {line}: {reason}", path.display())]
    Recording { path: PathBuf, line: usize, reason: String },
    #[error("the clock says {now}, before 2025-01-01: set it, the trade schedule starts there")]
    Clock { now: String },
    #[error("the {purpose} listener of the venue stopped")]
    Stopped { purpose: &'static str, source: std::io::Error },
}

/// Runs a venue until `shutdown`.
pub async fn run_venue(
    settings: VenueSettings,
    shutdown: CancellationToken,
) -> Result<(), VenueError> {
    Venue::bind(settings).await?.run(shutdown).await
}

/// A venue that listens and does not serve yet.
pub struct Venue {
    websocket: TcpListener,
    rest: TcpListener,
    control: TcpListener,
    shared: Arc<Shared>,
    rates: [Rates; PAIRS.len()],
}

impl Venue {
    pub async fn bind(settings: VenueSettings) -> Result<Self, VenueError> {
        let now_us = settings.clock.wall().0 * 1_000;
        if now_us < EPOCH_US {
            return Err(VenueError::Clock { now: stamp::rfc3339(now_us) });
        }
        let tapes = match &settings.frames {
            None => Vec::new(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| VenueError::Unreadable { path: path.clone(), source })?;
                tape::load(&text).map_err(|(line, reason)| VenueError::Recording {
                    path: path.clone(),
                    line,
                    reason,
                })?
            }
        };
        let websocket = listen("the WebSocket", settings.websocket).await?;
        let rest = listen("REST", settings.rest).await?;
        let control = listen("control", settings.control).await?;
        let trades = settings.rates.map(|rates| rates.trades_per_second);
        let market = Arc::new(Market::new(settings.clock.clone(), settings.seed, trades, tapes));
        let shared = Arc::new(Shared {
            started: settings.clock.boot(),
            name: settings.name,
            seed: settings.seed,
            clock: settings.clock,
            market,
            connections: AtomicUsize::new(0),
            connections_total: AtomicU64::new(0),
            stalls: Mutex::new(Vec::new()),
            counters: Counters::default(),
        });
        Ok(Self { websocket, rest, control, shared, rates: settings.rates })
    }

    /// Where it listens: WebSocket, REST, control.
    pub fn addresses(&self) -> std::io::Result<[SocketAddr; 3]> {
        Ok([self.websocket.local_addr()?, self.rest.local_addr()?, self.control.local_addr()?])
    }

    pub async fn run(self, shutdown: CancellationToken) -> Result<(), VenueError> {
        let Self { websocket, rest, control, shared, rates } = self;
        let public = axum::serve(rest, rest::public(shared.clone()))
            .with_graceful_shutdown(shutdown.clone().cancelled_owned());
        let private = axum::serve(control, rest::control(shared.clone()))
            .with_graceful_shutdown(shutdown.clone().cancelled_owned());
        tracing::info!(venue = shared.name, seed = shared.seed, "venue open");
        let (_, public, private) = tokio::join!(
            serve_websocket(websocket, shared.clone(), rates, shutdown.clone()),
            until_drained(public.into_future(), &shutdown),
            until_drained(private.into_future(), &shutdown),
        );
        public.map_err(|source| VenueError::Stopped { purpose: "REST", source })?;
        private.map_err(|source| VenueError::Stopped { purpose: "control", source })
    }
}

async fn listen(purpose: &'static str, address: SocketAddr) -> Result<TcpListener, VenueError> {
    TcpListener::bind(address).await.map_err(|source| VenueError::Listen {
        purpose,
        address,
        source,
    })
}

/// Drains on shutdown, but a client that holds its connection open does not hold the process.
async fn until_drained(
    server: impl Future<Output = std::io::Result<()>>,
    shutdown: &CancellationToken,
) -> std::io::Result<()> {
    let given_up = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    tokio::select! {
        ended = server => ended,
        () = given_up => Ok(()),
    }
}

/// Accepts connections and moves the market until `shutdown`; then closes them all.
async fn serve_websocket(
    listener: TcpListener,
    shared: Arc<Shared>,
    rates: [Rates; PAIRS.len()],
    shutdown: CancellationToken,
) {
    let mut movers = JoinSet::new();
    for (pair, rates) in rates.into_iter().enumerate() {
        let market = shared.market.clone();
        movers.spawn(async move { market.run_book(pair, rates.book_per_second).await });
    }
    let market = shared.market.clone();
    movers.spawn(async move { market.run_trades().await });
    let mut sessions = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = sessions.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if sessions.len() < CONNECTIONS_MAX => {
                let shared = shared.clone();
                let stop = shutdown.clone();
                sessions.spawn(async move {
                    let open = Open::new(&shared);
                    session::serve(stream, open.number, shared.clone(), stop).await;
                });
            }
            Ok(_) => tracing::warn!(limit = CONNECTIONS_MAX, "connection refused: too many"),
            Err(error) => {
                // Out of descriptors, most likely: the next accept would fail at once again.
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    while sessions.join_next().await.is_some() {}
}

/// What listeners, sessions and control routes share.
struct Shared {
    name: String,
    seed: u64,
    started: BootTime,
    clock: Arc<dyn Clock>,
    market: Arc<Market>,
    connections: AtomicUsize,
    connections_total: AtomicU64,
    stalls: Mutex<Vec<(Option<String>, BootTime)>>,
    counters: Counters,
}

/// Counts a connection while it lives.
struct Open<'a> {
    shared: &'a Shared,
    /// What the status banner shows.
    number: u64,
}

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        let nth = shared.connections_total.fetch_add(1, Ordering::Relaxed);
        // Kraken's connection ids are large and not in order; 53 bits fit every JSON reader.
        Self { shared, number: mix(shared.seed, 10, nth) >> 11 }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counted since the start; read together by `GET /status`.
#[derive(Default)]
struct Counters {
    book: AtomicU64,
    trade: AtomicU64,
    heartbeat: AtomicU64,
    answer: AtomicU64,
    commands: AtomicU64,
    book_dropped: AtomicU64,
    trade_dropped: AtomicU64,
    trades_dropped: AtomicU64,
    corrupted: AtomicU64,
    frames_stalled: AtomicU64,
    disconnected: AtomicU64,
    slow_readers: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

impl Shared {
    /// Until when a client of this name is told nothing.
    fn stalled_until(&self, client: Option<&str>) -> BootTime {
        let stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        stalls
            .iter()
            .filter(|(of, _)| of.is_none() || of.as_deref() == client)
            .map(|(_, until)| *until)
            .max()
            .unwrap_or_default()
    }

    fn fault(&self, fault: VenueFault) -> VenueFaultAnswer {
        Counters::add(&self.counters.commands, 1);
        tracing::info!(venue = self.name, ?fault, "fault ordered");
        if let VenueFault::Stall { ms, client } = &fault {
            let now = self.clock.boot();
            let mut stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
            stalls.retain(|(_, until)| *until > now);
            if stalls.len() == STALLS_MAX {
                stalls.remove(0);
            }
            stalls.push((client.clone(), now + Duration::from_millis(*ms)));
        }
        self.market.fault(fault);
        VenueFaultAnswer { connections: self.connections.load(Ordering::Relaxed) }
    }

    fn status(&self) -> VenueStatus {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        VenueStatus {
            name: self.name.clone(),
            seed: self.seed,
            uptime_ms: (self.clock.boot() - self.started).as_millis() as u64,
            connections: self.connections.load(Ordering::Relaxed),
            connections_total: read(&self.connections_total),
            pairs: (0..PAIRS.len())
                .map(|pair| (PAIRS[pair].symbol.to_owned(), self.market.status(pair)))
                .collect(),
            sent: VenueSent {
                book: read(&counters.book),
                trade: read(&counters.trade),
                heartbeat: read(&counters.heartbeat),
                answer: read(&counters.answer),
            },
            faults: VenueFaultCounts {
                commands: read(&counters.commands),
                book_frames_dropped: read(&counters.book_dropped),
                trade_frames_dropped: read(&counters.trade_dropped),
                trades_dropped: read(&counters.trades_dropped),
                checksums_corrupted: read(&counters.corrupted),
                frames_stalled: read(&counters.frames_stalled),
                disconnected: read(&counters.disconnected),
                slow_readers: read(&counters.slow_readers),
            },
        }
    }
}
