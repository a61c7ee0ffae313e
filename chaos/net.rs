//! The network: calls and streams that take their time, get lost, and end where a node dies.

use crate::world::World;
use async_trait::async_trait;
use bytes::Bytes;
use cryptorun_platform::disk::{Disk, Keep};
use cryptorun_platform::identity::{Class, SpiffeId};
use cryptorun_platform::net::{CallError, Duplex, Peer, Peers};
use cryptorun_platform::segments::Driver;
use cryptorun_platform::spawn::TokioSpawn;
use cryptorun_raft::network::lane;
use cryptorun_raft::probe::{self, Promise};
use cryptorun_raft::runtime::seeded;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Messages a stream holds in each direction, on each side of the link.
const STREAM_BOUND: usize = 64;

/// One life of one node, as a caller.
pub(crate) struct SimPeers {
    pub me: u64,
    pub life: u64,
    pub world: Arc<World>,
}

/// Who a node is to its peers.
pub(crate) fn peer(id: u64) -> Peer {
    let member = crate::cluster::member(id);
    let identity = SpiffeId {
        trust_domain: "sim".to_owned(),
        cluster: crate::cluster::NAME.to_owned(),
        class: Class::Node,
        region: member.region,
        id: member.name,
    };
    Peer::named(([127, 0, 0, 1], 1).into(), identity)
}

/// A task with randomness of its own, from the world's seed.
pub(crate) fn spawn(
    world: &Arc<World>,
    task: impl Future<Output = ()> + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(seeded(world.draw(), task))
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
        let (tell, told) = oneshot::channel();
        let (world, me, life) = (self.world.clone(), self.me, self.life);
        // In a task: a caller that gives up does not take the message back.
        let way = async move {
            if !world.is_alive(me, life) || !world.hop(me, to).await {
                return;
            }
            let found = {
                let state = world.state();
                state.services.get(&to).cloned().zip(state.alive.get(&to).copied())
            };
            let Some((service, target_life)) = found else { return };
            world.event(format_args!("call {me}>{to} kind {kind} {} bytes", body.len()));
            let answer = service.call(&peer(me), kind, body).await;
            if !world.is_alive(to, target_life) {
                return;
            }
            if let (lane::VOTE, Ok(bytes)) = (kind, &answer)
                && let Some(promise) = probe::promised_by_vote(bytes)
                && world.below(3) == 0
            {
                check_promise(&world, to, promise).await;
            }
            if world.hop(to, me).await && world.is_alive(me, life) {
                world.event(format_args!("answer {to}>{me} kind {kind}"));
                drop(tell.send(answer));
            }
        };
        spawn(&self.world, way);
        let answer = async {
            match told.await {
                Ok(answer) => answer,
                Err(_) => std::future::pending().await,
            }
        };
        match tokio::time::timeout(ttl, answer).await {
            Ok(answer) => answer.map_err(|no| CallError::Refused(no.0)),
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
                if !sender.is_alive(from.0, from.1) {
                    return;
                }
                if answers
                    && sender.below(150) == 0
                    && let Some(promise) = probe::promised_by_append(&bytes)
                {
                    check_promise(&sender, from.0, promise).await;
                }
                let Some(delay) = sender.delay(from.0, to.0) else { return };
                last = last.max(tokio::time::Instant::now() + delay);
                if on_the_way.send((last, bytes)).await.is_err() {
                    return;
                }
            }
        });
        while let Some((at, bytes)) = arriving.recv().await {
            tokio::time::sleep_until(at).await;
            if world.state().cut.contains(&(from.0, to.0)) || !world.is_alive(to.0, to.1) {
                return;
            }
            world.event(format_args!("stream {}>{} {} bytes", from.0, to.0, bytes.len()));
            if tx.send(bytes).await.is_err() {
                return;
            }
        }
    }
}

/// Acknowledged votes and appends are on the medium when the answer is sent: pulls the plug of a
/// copy of the disk and looks.
async fn check_promise(world: &Arc<World>, node: u64, promise: Promise) {
    let Some(image) = world.state().disks.get(&node).map(|disk| disk.copy()) else { return };
    image.crash(Keep::Nothing);
    let image: Arc<dyn Disk> = Arc::new(image.restarted());
    let driver = Driver::Task {
        spawn: Arc::new(TokioSpawn),
        sync_delay: Arc::new(|| Duration::from_millis(1)),
    };
    let owner = crate::cluster::owner(node);
    match probe::is_kept(promise, image, Path::new("n"), owner, driver).await {
        Ok(true) => {}
        Ok(false) => world.violation(format!(
            "durable_at_send: node {node} promised {promise:?} before its disk had it"
        )),
        Err(error) => {
            world.violation(format!("durable_at_send: node {node} could not start: {error}"));
        }
    }
}
