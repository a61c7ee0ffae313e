//! The calling side: a connection to each peer, made again whenever it is lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::net::{CallError, Duplex, Peers};
use crate::random::Random;
use crate::spawn::Spawn;
use crate::tls::{ClientTls, Expect, Protocol, TlsStore, error_chain, refused_by_peer};

use super::Timing;
use super::mux::{Mux, Role};
use super::wire::{FrameReader, Type};

/// Calls under way on a connection that is being replaced get this long.
const RETIRE_WITHIN: Duration = Duration::from_secs(5);

/// Where a peer is, and which identity must answer there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `host:port`, each tried in turn: a peer may be reached another way than it is known by.
    pub addrs: Vec<String>,
    pub region: Option<String>,
    pub id: Option<String>,
}

impl Target {
    /// Whoever fits the expectation that all peers share.
    pub fn at(addr: impl Into<String>) -> Self {
        Self { addrs: vec![addr.into()], region: None, id: None }
    }

    /// Exactly this one.
    pub fn named(addr: impl Into<String>, region: &str, id: &str) -> Self {
        Self { region: Some(region.into()), id: Some(id.into()), ..Self::at(addr) }
    }

    /// Whoever fits in that region.
    pub fn in_region(addr: impl Into<String>, region: &str) -> Self {
        Self { region: Some(region.into()), ..Self::at(addr) }
    }

    /// Also there, where it is somewhere else.
    pub fn or_at(mut self, addr: impl Into<String>) -> Self {
        let addr = addr.into();
        if !self.addrs.contains(&addr) {
            self.addrs.push(addr);
        }
        self
    }
}

/// How a peer's connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    pub addr: String,
    pub connected: bool,
    /// The last ping's; `None` while not connected.
    pub rtt: Option<Duration>,
    /// Why there is no connection.
    pub cause: Option<String>,
}

/// The peers we call. Dropping it closes the connections.
pub struct FramedPeers {
    tls: Arc<TlsStore>,
    expect: Expect,
    timing: Timing,
    spawn: Arc<dyn Spawn>,
    random: Arc<dyn Random>,
    slots: Mutex<BTreeMap<u64, Slot>>,
}

struct Slot {
    target: Target,
    state: watch::Receiver<State>,
    stop: CancellationToken,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Clone)]
enum State {
    /// For the first time, or after losing a connection that was good: worth waiting for.
    Connecting,
    Connected(Arc<Mux>),
    /// The last attempt failed; the next is being made or waited for. Calls fail at once.
    Down(String),
}

impl FramedPeers {
    pub fn new(
        tls: &Arc<TlsStore>,
        expect: Expect,
        peers: BTreeMap<u64, Target>,
        timing: Timing,
        spawn: Arc<dyn Spawn>,
        random: Arc<dyn Random>,
    ) -> Arc<Self> {
        let made = Arc::new(Self {
            tls: Arc::clone(tls),
            expect,
            timing,
            spawn,
            random,
            slots: Mutex::default(),
        });
        for (number, target) in peers {
            made.set_peer(number, Some(target));
        }
        made
    }

    /// Adds, moves or (with `None`) forgets a peer. A peer that stays where it was keeps its
    /// connection.
    pub fn set_peer(&self, number: u64, target: Option<Target>) {
        let mut slots = self.slots();
        let Some(target) = target else {
            slots.remove(&number);
            return;
        };
        if slots.get(&number).is_some_and(|slot| slot.target == target) {
            return;
        }
        let mut expect = self.expect.clone();
        expect.region = target.region.clone().or(expect.region);
        expect.id = target.id.clone().or(expect.id);
        let (state_tx, state) = watch::channel(State::Connecting);
        let stop = CancellationToken::new();
        let connector = Connector {
            number,
            addrs: target.addrs.clone(),
            tls: self.tls.client(expect, Protocol::Framed),
            timing: self.timing,
            spawn: Arc::clone(&self.spawn),
            state: state_tx,
            stop: stop.clone(),
        };
        let (first, most) = self.timing.retry;
        let backoff = Backoff::new(first, most, Arc::clone(&self.random));
        self.spawn.spawn("framed-connect", Box::pin(connector.run(backoff)));
        slots.insert(number, Slot { target, state, stop });
    }

    pub fn status(&self) -> BTreeMap<u64, PeerStatus> {
        let slots = self.slots();
        slots
            .iter()
            .map(|(number, slot)| {
                let (connected, rtt, cause) = match &*slot.state.borrow() {
                    State::Connected(mux) => (true, mux.rtt(), None),
                    State::Connecting => (false, None, Some("connecting".to_owned())),
                    State::Down(cause) => (false, None, Some(cause.clone())),
                };
                let addr = slot.target.addrs.join(" or ");
                (*number, PeerStatus { addr, connected, rtt, cause })
            })
            .collect()
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<u64, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connected(&self, to: u64, deadline: Instant) -> Result<Arc<Mux>, CallError> {
        let state = self.slots().get(&to).map(|slot| slot.state.clone());
        let mut state = state.ok_or(CallError::Unreachable)?;
        let settled = state.wait_for(|state| !matches!(state, State::Connecting));
        match timeout_at(deadline, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Connected(mux) => Ok(Arc::clone(mux)),
                State::Connecting | State::Down(_) => Err(CallError::Unreachable),
            },
            // Not in time, or the peer was forgotten meanwhile.
            Ok(Err(_)) | Err(_) => Err(CallError::Unreachable),
        }
    }
}

#[async_trait]
impl Peers for FramedPeers {
    async fn call(
        &self,
        to: u64,
        kind: u8,
        body: Bytes,
        ttl: Duration,
    ) -> Result<Bytes, CallError> {
        let deadline = Instant::now() + ttl;
        let mux = self.connected(to, deadline).await?;
        match mux.call(kind, body.clone(), deadline).await {
            // The connection was replaced just as we took it; nothing was sent.
            Err(CallError::Unreachable) if mux.closed.is_cancelled() => {
                self.connected(to, deadline).await?.call(kind, body, deadline).await
            }
            done => done,
        }
    }

    async fn stream(&self, to: u64, kind: u8) -> Result<Duplex, CallError> {
        let deadline = Instant::now() + self.timing.dial;
        self.connected(to, deadline).await?.open(kind).await
    }
}

/// Keeps one peer connected.
struct Connector {
    number: u64,
    addrs: Vec<String>,
    tls: ClientTls,
    timing: Timing,
    spawn: Arc<dyn Spawn>,
    state: watch::Sender<State>,
    stop: CancellationToken,
}

impl Connector {
    async fn run(self, mut backoff: Backoff) {
        let stop = self.stop.clone();
        tokio::select! {
            () = self.keep_connected(&mut backoff) => {}
            () = stop.cancelled() => {
                if let State::Connected(mux) = &*self.state.borrow() {
                    mux.close("no longer a peer".to_owned());
                }
            }
        }
    }

    async fn keep_connected(&self, backoff: &mut Backoff) {
        let number = self.number;
        let mut reloads = self.tls.store().changes();
        let mut at = 0;
        loop {
            reloads.mark_unchanged();
            let Some(addr) = self.addrs.get(at % self.addrs.len().max(1)) else { return };
            match self.connect(addr).await {
                Ok(mux) => {
                    let since = Instant::now();
                    self.replace_by(addr, Arc::clone(&mux));
                    tokio::select! {
                        () = mux.closed.cancelled() => {
                            warn!(peer = number, addr, why = mux.why(), "peer lost");
                            self.state.send_replace(State::Connecting);
                        }
                        // What is under way there is still answered.
                        () = mux.retired.cancelled() => {
                            info!(peer = number, addr, "peer drains");
                            self.state.send_replace(State::Connecting);
                        }
                        // Shows our new certificate, and checks theirs by the new roots. The old
                        // connection serves until there is another.
                        Ok(()) = reloads.changed() => continue,
                    }
                    // One that dies young is no success: do not spin.
                    if since.elapsed() > self.timing.retry.1 {
                        backoff.reset();
                    } else {
                        tokio::time::sleep(backoff.next_wait()).await;
                    }
                }
                Err(cause) => {
                    at += 1;
                    let old = self.state.send_replace(State::Down(cause.clone()));
                    match old {
                        State::Down(known) if known == cause => {}
                        State::Connected(mux) => mux.close(cause),
                        _ => warn!(peer = number, addr, cause, "peer unreachable"),
                    }
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    fn replace_by(&self, addr: &str, mux: Arc<Mux>) {
        info!(peer = self.number, addr, "peer connected");
        if let State::Connected(old) = self.state.send_replace(State::Connected(mux)) {
            self.spawn.spawn(
                "framed-retire",
                Box::pin(async move {
                    old.finish(RETIRE_WITHIN).await;
                }),
            );
        }
    }

    async fn connect(&self, addr: &str) -> Result<Arc<Mux>, String> {
        let within = self.timing.dial;
        let deadline = Instant::now() + within;
        let io = self.tls.dial(addr, within).await.map_err(|e| error_chain(&e))?;
        let (read, write) = tokio::io::split(io);
        let mut reader = FrameReader::new(read);
        match timeout_at(deadline, reader.next()).await {
            Ok(Ok(Some(frame))) if frame.typ == Type::Hello => {}
            Ok(Ok(Some(_))) => return Err(format!("{addr} does not say hello")),
            Ok(Ok(None)) => return Err(format!("{addr} closed without a word")),
            Ok(Err(error)) => {
                return Err(refused_by_peer(&error).unwrap_or_else(|| error.to_string()));
            }
            Err(_) => {
                return Err(format!("no hello from {addr} within {} ms", within.as_millis()));
            }
        }
        Ok(Mux::start(reader, write, Role::Client, self.timing, &self.spawn))
    }
}
