//! Calls and streams that take their time, get lost, and end where a process dies.
//!
//! A message is a task of its own: a caller that gives up does not take it back. Cuts count at both
//! ends of the way; a frozen process takes and sends nothing until it goes on.

use crate::invariants::durable_at_send;
use crate::network::{PERSON, WORKER, place};
use crate::world::World;
use async_trait::async_trait;
use bytes::Bytes;
use cryptorun_platform::identity::{Class, SpiffeId};
use cryptorun_platform::net::{CallError, Duplex, Peer, Peers};
use cryptorun_raft::network::lane;
use cryptorun_raft::probe;
use cryptorun_raft::runtime::seeded;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Messages a stream holds in each direction, on each side of the link.
const STREAM_BOUND: usize = 64;

/// One life of one process, as a caller.
pub(crate) struct SimPeers {
    pub me: u64,
    pub life: u64,
    pub world: Arc<World>,
    /// A worker's numbers for regions; a node's numbers are ends.
    pub ends: Option<Arc<Mutex<BTreeMap<u64, u64>>>>,
}

/// The identity in an end's certificate.
pub(crate) fn identity(end: u64, name: &str) -> SpiffeId {
    let class = match end {
        0..WORKER => Class::Node,
        WORKER..PERSON => Class::Worker,
        _ => Class::Person,
    };
    SpiffeId {
        trust_domain: "sim".to_owned(),
        cluster: crate::cluster::NAME.to_owned(),
        class,
        region: crate::cluster::region(place(end)).to_owned(),
        id: name.to_owned(),
    }
}

fn peer(end: u64) -> Peer {
    let name = match end {
        0..WORKER => format!("node-{end}"),
        _ => crate::worker::name(end),
    };
    Peer::named(([127, 0, 0, 1], 1).into(), identity(end, &name))
}

/// A task with randomness of its own, from the world's seed.
pub(crate) fn spawn(
    world: &Arc<World>,
    task: impl Future<Output = ()> + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(seeded(world.draw(), task))
}

impl World {
    /// Waits while a process stands still.
    pub async fn moving(&self, end: u64) {
        loop {
            let until = self.state().frozen.get(&end).copied();
            let now = self.now();
            match until {
                Some(until) if until > now => {
                    if end < WORKER {
                        self.tally("node_frozen");
                    }
                    tokio::time::sleep(until - now + Duration::from_micros(end)).await;
                }
                _ => return,
            }
        }
    }

    /// A message's way over a link: true when it arrives.
    pub async fn hop(&self, from: u64, to: u64, answer: bool) -> bool {
        self.moving(from).await;
        let Some(delay) = self.sent(from, to, answer) else { return false };
        tokio::time::sleep(delay).await;
        self.moving(to).await;
        self.arrives(from, to)
    }

    /// How long a message takes that is sent now; none where it is lost.
    pub fn sent(&self, from: u64, to: u64, answer: bool) -> Option<Duration> {
        let now = self.now();
        let mut state = self.state();
        if let Some(why) = state.network.cut_by(from, to) {
            state.outcome.tally.add(why, 1);
            return None;
        }
        let mut network = std::mem::take(&mut state.network);
        let way = network.way((from, to), answer, now, |bound| state.below(bound));
        state.network = network;
        for effect in way.effects {
            state.outcome.tally.add(effect, 1);
        }
        way.delay
    }

    fn arrives(&self, from: u64, to: u64) -> bool {
        let mut state = self.state();
        match state.network.cut_by(from, to) {
            Some(why) => {
                state.outcome.tally.add(why, 1);
                false
            }
            None => true,
        }
    }
}

impl SimPeers {
    fn end_of(&self, number: u64) -> Option<u64> {
        match &self.ends {
            None => Some(number),
            Some(ends) => ends.lock().unwrap_or_else(PoisonError::into_inner).get(&number).copied(),
        }
    }
}

/// Carries one call there and its answer back.
struct Errand {
    world: Arc<World>,
    from: (u64, u64),
    to: u64,
    kind: u8,
    body: Bytes,
}

impl Errand {
    async fn run(self) -> Option<Result<Bytes, String>> {
        let Self { world, from: (me, life), to, kind, body } = self;
        if !world.is_alive(me, life) || !world.hop(me, to, false).await {
            return None;
        }
        let (service, target_life) = {
            let state = world.state();
            state.services.get(&to).cloned().zip(state.alive.get(&to).copied())?
        };
        world.event(format_args!("call {me}>{to} kind {kind} {} bytes", body.len()));
        let answer = service.call(&peer(me), kind, body).await;
        if !world.is_alive(to, target_life) {
            return None;
        }
        if let (0..WORKER, lane::VOTE, Ok(bytes)) = (to, kind, &answer)
            && let Some(promise) = probe::promised_by_vote(bytes)
            && world.below(3) == 0
        {
            durable_at_send::check(&world, to, promise).await;
        }
        let back = world.hop(to, me, true).await && world.is_alive(me, life);
        back.then(|| answer.map_err(|no| no.0))
    }
}

#[async_trait]
impl Peers for SimPeers {
    async fn call(
        &self,
        to: u64,
        kind: u8,
        body: Bytes,
        ttl: Duration,
    ) -> Result<Bytes, CallError> {
        let Some(to) = self.end_of(to) else { return Err(CallError::Unreachable) };
        let (tell, told) = oneshot::channel();
        let errand =
            |body| Errand { world: self.world.clone(), from: (self.me, self.life), to, kind, body };
        // What a transport of connections may double are calls tried again, and these are harmless.
        let doubles = kind == lane::VOTE || self.me > WORKER;
        let percent = self.world.state().network.double_percent;
        if doubles && self.world.below(100) < percent {
            self.world.tally("doubled");
            let twin = errand(body.clone());
            spawn(&self.world, async move { drop(twin.run().await) });
        }
        let errand = errand(body);
        spawn(&self.world, async move {
            if let Some(answer) = errand.run().await {
                drop(tell.send(answer));
            }
        });
        let answer = async {
            match told.await {
                Ok(answer) => answer,
                Err(_) => std::future::pending().await,
            }
        };
        match tokio::time::timeout(ttl, answer).await {
            Ok(answer) => answer.map_err(CallError::Refused),
            Err(_) => Err(CallError::TimedOut),
        }
    }

    async fn stream(&self, to: u64, kind: u8) -> Result<Duplex, CallError> {
        let found = {
            let state = self.world.state();
            state.services.get(&to).cloned().zip(state.alive.get(&to).copied())
        };
        let Some((service, target_life)) = found else { return Err(CallError::Unreachable) };
        if !self.world.is_alive(self.me, self.life) {
            return Err(CallError::Unreachable);
        }
        let (near, near_far) = Duplex::pair(STREAM_BOUND);
        let (far_near, far) = Duplex::pair(STREAM_BOUND);
        let (me, mine) = (self.me, self.life);
        let there = Link { world: self.world.clone(), from: (me, mine), to: (to, target_life) };
        let back = Link { world: self.world.clone(), from: (to, target_life), to: (me, mine) };
        spawn(&self.world, there.carry(near_far.rx, far_near.tx, false));
        spawn(&self.world, back.carry(far_near.rx, near_far.tx, true));
        spawn(&self.world, async move { service.stream(&peer(me), kind, far).await });
        Ok(near)
    }
}

/// One direction of a stream between two lives.
struct Link {
    world: Arc<World>,
    from: (u64, u64),
    to: (u64, u64),
}

impl Link {
    /// Messages overlap on the way and keep their order; a lost one ends the stream.
    async fn carry(self, mut rx: mpsc::Receiver<Bytes>, tx: mpsc::Sender<Bytes>, answers: bool) {
        let (on_the_way, mut arriving) = mpsc::channel::<(tokio::time::Instant, Bytes)>(1024);
        let Self { world, from, to } = self;
        let sender = world.clone();
        spawn(&world, async move {
            let mut last = tokio::time::Instant::now();
            while let Some(bytes) = rx.recv().await {
                sender.moving(from.0).await;
                if !sender.is_alive(from.0, from.1) {
                    return;
                }
                if answers
                    && sender.below(150) == 0
                    && let Some(promise) = probe::promised_by_append(&bytes)
                {
                    durable_at_send::check(&sender, from.0, promise).await;
                }
                let Some(delay) = sender.sent(from.0, to.0, answers) else { return };
                last = last.max(tokio::time::Instant::now() + delay);
                if on_the_way.send((last, bytes)).await.is_err() {
                    return;
                }
            }
        });
        while let Some((at, bytes)) = arriving.recv().await {
            tokio::time::sleep_until(at).await;
            world.moving(to.0).await;
            if !world.arrives(from.0, to.0) || !world.is_alive(to.0, to.1) {
                return;
            }
            world.event(format_args!("stream {}>{} {} bytes", from.0, to.0, bytes.len()));
            if tx.send(bytes).await.is_err() {
                return;
            }
        }
    }
}
