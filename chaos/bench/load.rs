//! The generator: closed loops over HTTP/1.1 keep-alive, one connection a client, or over HTTP/2 with
//! several clients a connection; the same code for both systems.
//!
//! It has a thread and a runtime of its own, so that relays and supervisors do not wait for it. Each
//! client asks, waits for the whole answer, and asks again; an answer other than 200 ends the run.
//! What it costs itself is taken from the servers, who share its cores: hence `wire.rs`.

use crate::BenchError;
use crate::machine::cpu_us;
use crate::streams::{Shared, Streams};
use crate::wire::Wire;
use bytes::Bytes;
use cryptorun_platform::clock::{BootTime, Clock, SystemClock};
use cryptorun_platform::tls::ClientTls;
use hyper::Method;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Connections settle and caches fill before anything counts.
const WARM: Duration = Duration::from_millis(700);

/// How a client reaches its server.
#[derive(Clone)]
pub enum Reach {
    Plain(SocketAddr),
    Mutual(SocketAddr, Arc<ClientTls>),
}

/// The way of one client.
#[derive(Clone)]
pub enum Way {
    Own(Reach),
    Shared(Arc<Shared>),
}

/// Builds the nth request of a client, from the body of the answer before.
pub type Ask = Box<dyn FnMut(u64, &[u8]) -> Asked + Send>;

/// One request.
#[derive(Clone)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub body: Bytes,
}

/// One closed loop.
pub struct Client {
    pub way: Way,
    /// Sent once before the loop, one after the other.
    pub first: Vec<Asked>,
    pub ask: Ask,
}

/// What one run measured.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub p50: Duration,
    pub p99: Duration,
    pub per_second: f64,
    /// CPU of the servers for each answer.
    pub cpu_us: f64,
}

/// Runs the loops for `lasting` and says what came of it. `pids`: the servers.
///
/// # Errors
/// A connection that could not be made, an answer that is not 200.
pub async fn run(
    clients: Vec<Client>,
    lasting: Duration,
    pids: Vec<i32>,
) -> Result<Measured, BenchError> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let measured = match runtime {
            Ok(runtime) => runtime.block_on(measure(clients, lasting, &pids)),
            Err(error) => Err(BenchError::cannot("the generator has no runtime", error)),
        };
        drop(tell.send(measured));
    };
    std::thread::Builder::new()
        .name("generator".into())
        .spawn(work)
        .map_err(|error| BenchError::cannot("the generator has no thread", error))?;
    told.await.map_err(|_| BenchError::Cannot("the generator ended without a word".into()))?
}

async fn measure(
    clients: Vec<Client>,
    lasting: Duration,
    pids: &[i32],
) -> Result<Measured, BenchError> {
    // All at once: over wide links a session would run out before the last one is opened.
    let mut preparing = JoinSet::new();
    for client in clients {
        preparing.spawn(Loop::prepare(client));
    }
    let mut ready = Vec::with_capacity(preparing.len());
    while let Some(prepared) = preparing.join_next().await {
        ready.push(prepared.map_err(|error| BenchError::cannot("a client broke off", error))??);
    }
    let start = SystemClock.boot() + WARM;
    let end = start + lasting;
    let mut loops = JoinSet::new();
    for one in ready {
        loops.spawn(one.go(start, end));
    }
    tokio::time::sleep(start - SystemClock.boot()).await;
    let before = cpu_us(pids);
    tokio::time::sleep(end - SystemClock.boot()).await;
    let spent = cpu_us(pids).saturating_sub(before);
    let mut took = Vec::new();
    while let Some(ended) = loops.join_next().await {
        let one = ended.map_err(|error| BenchError::cannot("a client broke off", error))?;
        took.append(&mut one?);
    }
    took.sort_unstable();
    let at = |share: f64| {
        let place = (took.len() as f64 * share) as usize;
        took.get(place.min(took.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    Ok(Measured {
        p50: at(0.5),
        p99: at(0.99),
        per_second: took.len() as f64 / lasting.as_secs_f64(),
        cpu_us: spent as f64 / took.len().max(1) as f64,
    })
}

struct Loop {
    link: Link,
    ask: Ask,
}

enum Link {
    Own(Wire),
    Shared(Streams),
}

impl Link {
    async fn ask(&mut self, asked: Asked) -> Result<(), BenchError> {
        match self {
            Self::Own(wire) => wire.ask(asked).await,
            Self::Shared(streams) => streams.ask(asked).await,
        }
    }

    /// The body of the last answer.
    fn answer(&self) -> &[u8] {
        match self {
            Self::Own(wire) => wire.answer(),
            Self::Shared(streams) => streams.answer(),
        }
    }
}

impl Loop {
    async fn prepare(client: Client) -> Result<Self, BenchError> {
        let mut link = match client.way {
            Way::Own(reach) => Link::Own(Wire::connect(&reach).await?),
            Way::Shared(shared) => Link::Shared(shared.open().await?),
        };
        for first in client.first {
            link.ask(first).await?;
        }
        Ok(Self { link, ask: client.ask })
    }

    /// Latencies of what was asked from `start` on and before `end`.
    async fn go(mut self, start: BootTime, end: BootTime) -> Result<Vec<Duration>, BenchError> {
        let mut took = Vec::new();
        for n in 0.. {
            let asked = SystemClock.boot();
            if asked >= end {
                break;
            }
            let next = (self.ask)(n, self.link.answer());
            self.link.ask(next).await?;
            if asked >= start {
                took.push(SystemClock.boot() - asked);
            }
        }
        Ok(took)
    }
}
