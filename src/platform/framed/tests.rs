//! Real sockets on loopback, except where time must be held still.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::mux::{Mux, Role};
use super::wire::{Frame, FrameReader, Type};
use super::*;
use crate::identity::Class;
use crate::listener::{Limits, MtlsListener};
use crate::net::{CallError, Duplex, Peer, Peers, Service, ServiceError};
use crate::random::SeededRandom;
use crate::spawn::{Spawn, TokioSpawn};
use crate::testkit::{CLUSTER, PATIENCE, World, until};
use crate::tls::{Expect, Protocol, TlsStore};

const ECHO: u8 = 1;
const WAIT: u8 = 2;
const REFUSE: u8 = 3;
const POUR: u8 = 4;
const LARGE: usize = 1 << 20;

#[derive(Default)]
struct Desk {
    go: Notify,
    waiting: AtomicUsize,
    poured: AtomicUsize,
    callers: Mutex<Vec<Peer>>,
}

#[async_trait]
impl Service for Desk {
    async fn call(&self, from: &Peer, kind: u8, body: Bytes) -> Result<Bytes, ServiceError> {
        self.callers.lock().unwrap().push(from.clone());
        match kind {
            ECHO => Ok(body),
            WAIT => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                self.go.notified().await;
                Ok(body)
            }
            REFUSE => Err("not today".into()),
            _ => Err("unknown".into()),
        }
    }

    async fn stream(&self, _from: &Peer, kind: u8, mut duplex: Duplex) {
        match kind {
            ECHO => {
                while let Some(body) = duplex.rx.recv().await {
                    if duplex.tx.send(body).await.is_err() {
                        return;
                    }
                }
            }
            POUR => {
                while duplex.tx.send(Bytes::from(vec![1; LARGE])).await.is_ok() {
                    self.poured.fetch_add(1, Ordering::SeqCst);
                }
            }
            _ => {}
        }
    }
}

struct Server {
    addr: SocketAddr,
    desk: Arc<Desk>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Server {
    async fn start(store: &Arc<TlsStore>, addr: SocketAddr) -> Self {
        let tls = store.server(Expect::nodes(CLUSTER), Protocol::Framed);
        let listener = MtlsListener::bind(addr, tls, Limits::default()).await.unwrap();
        let (addr, desk, stop) = (listener.addr(), Arc::default(), CancellationToken::new());
        let service: Arc<Desk> = Arc::clone(&desk);
        let serving = tokio::spawn(serve_framed(listener, service, stop.clone()));
        Self { addr, desk, stop, serving }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn spawner() -> Arc<dyn Spawn> {
    Arc::new(TokioSpawn)
}

fn peers(store: &Arc<TlsStore>, targets: &[(u64, Target)]) -> Arc<FramedPeers> {
    let targets: BTreeMap<u64, Target> = targets.iter().cloned().collect();
    let (expect, random) = (Expect::nodes(CLUSTER), Arc::new(SeededRandom::new(1)));
    FramedPeers::new(store, expect, targets, Timing::default(), spawner(), random)
}

async fn one_pair() -> (World, Server, Arc<FramedPeers>) {
    let world = World::new();
    let server = Server::start(&world.store(Class::Node, "n2"), any_port()).await;
    let target = Target::named(server.addr.to_string(), "us-east-1", "n2");
    let peers = peers(&world.store(Class::Node, "n1"), &[(2, target)]);
    (world, server, peers)
}

#[tokio::test]
async fn calls_are_answered_in_any_order_over_one_connection() {
    let (_world, server, peers) = one_pair().await;
    let slow = peers.call(2, WAIT, Bytes::from_static(b"slow"), PATIENCE);
    let fast = async {
        until("the slow call has arrived", || server.desk.waiting.load(Ordering::SeqCst) == 1)
            .await;
        let calls = (0..500u32).map(|n| {
            let body = Bytes::from(n.to_le_bytes().to_vec());
            let peers = &peers;
            async move { (peers.call(2, ECHO, body.clone(), PATIENCE).await, body) }
        });
        for (answer, body) in futures_util::future::join_all(calls).await {
            assert_eq!(answer, Ok(body));
        }
        server.desk.go.notify_one();
    };
    let (slow, ()) = tokio::join!(slow, fast);
    assert_eq!(slow, Ok(Bytes::from_static(b"slow")));

    let refused = peers.call(2, REFUSE, Bytes::new(), PATIENCE).await;
    assert_eq!(refused, Err(CallError::Refused("not today".into())));
    let callers = server.desk.callers.lock().unwrap();
    assert!(callers.iter().all(|peer| peer.id.id == "n1"));
    let addrs: std::collections::BTreeSet<_> = callers.iter().map(|peer| peer.addr).collect();
    assert_eq!(addrs.len(), 1, "one connection carried everything");
}

#[tokio::test]
async fn a_stream_keeps_its_order_whatever_the_sizes() {
    let (_world, _server, peers) = one_pair().await;
    let Duplex { tx, mut rx } = peers.stream(2, ECHO).await.unwrap();
    let body = |n: u32| {
        let size = match n % 100 {
            0 => 300_000,
            k => k as usize,
        };
        let mut body = n.to_le_bytes().to_vec();
        body.resize(4 + size, n as u8);
        Bytes::from(body)
    };
    const MESSAGES: u32 = 5_000;
    let send = async move {
        for n in 0..MESSAGES {
            tx.send(body(n)).await.unwrap();
        }
        // Dropped here: our direction is over, and the echo ends in turn.
    };
    let receive = async {
        for n in 0..MESSAGES {
            assert_eq!(rx.recv().await.unwrap(), body(n), "message {n}");
        }
        assert_eq!(rx.recv().await, None);
    };
    tokio::join!(send, receive);
}

#[tokio::test]
async fn a_stream_nobody_reads_is_bounded_and_holds_up_nobody_else() {
    let (_world, server, peers) = one_pair().await;
    let idle = peers.stream(2, POUR).await.unwrap();
    // The window and the queues at both ends, in messages of a megabyte.
    let most = (8 << 20) / LARGE + 64 + 64 + 2;
    let poured = || server.desk.poured.load(Ordering::SeqCst);
    let mut before = usize::MAX;
    while before != poured() {
        before = poured();
        for _ in 0..50 {
            let answer = peers.call(2, ECHO, Bytes::from_static(b"x"), PATIENCE).await;
            assert_eq!(answer, Ok(Bytes::from_static(b"x")));
        }
    }
    assert!(poured() > 8 && poured() <= most, "{} messages were sent", poured());
    // Dropping our end stops the sender.
    drop(idle);
    let ended = async {
        let mut echo = peers.stream(2, ECHO).await.unwrap();
        echo.tx.send(Bytes::from_static(b"still here")).await.unwrap();
        echo.rx.recv().await.unwrap()
    };
    assert_eq!(ended.await, Bytes::from_static(b"still here"));
}

#[tokio::test]
async fn a_peer_that_restarts_is_called_again() {
    let (world, server, peers) = one_pair().await;
    assert!(peers.call(2, ECHO, Bytes::new(), PATIENCE).await.is_ok());
    let mut stream = peers.stream(2, ECHO).await.unwrap();
    let addr = server.addr;
    server.stop().await;
    assert_eq!(stream.rx.recv().await, None, "streams end with the connection");
    until("the peer is known to be down", || {
        peers.status()[&2].cause.as_ref().is_some_and(|cause| cause.contains("cannot connect"))
    })
    .await;
    let down = peers.call(2, ECHO, Bytes::new(), PATIENCE).await;
    assert_eq!(down, Err(CallError::Unreachable), "at once, not after the time given");

    let _again = Server::start(&world.store(Class::Node, "n2"), addr).await;
    until("connected again", || peers.status()[&2].connected).await;
    assert!(peers.call(2, ECHO, Bytes::new(), PATIENCE).await.is_ok());
    until("the round trip was measured", || peers.status()[&2].rtt.is_some()).await;
}

#[tokio::test]
async fn new_credentials_replace_the_connection_under_a_call() {
    let world = World::new();
    let server = Server::start(&world.store(Class::Node, "n2"), any_port()).await;
    let store = world.store(Class::Node, "n1");
    let peers = peers(&store, &[(2, Target::at(server.addr.to_string()))]);
    let addrs = || {
        let callers = server.desk.callers.lock().unwrap();
        callers.iter().map(|peer| peer.addr).collect::<std::collections::BTreeSet<_>>().len()
    };
    let slow = peers.call(2, WAIT, Bytes::from_static(b"slow"), PATIENCE);
    let reload = async {
        until("the call has arrived", || server.desk.waiting.load(Ordering::SeqCst) == 1).await;
        world.write("n1", &world.leaf(&store.id()));
        assert!(store.reload_if_changed().unwrap());
        let moved = async {
            while addrs() < 2 {
                let answer = peers.call(2, ECHO, Bytes::new(), PATIENCE).await;
                assert!(answer.is_ok(), "no call fails meanwhile: {answer:?}");
            }
        };
        tokio::time::timeout(PATIENCE, moved).await.expect("a new connection is made");
        server.desk.go.notify_one();
    };
    let (slow, ()) = tokio::join!(slow, reload);
    assert_eq!(slow, Ok(Bytes::from_static(b"slow")), "answered on the old connection");
}

#[tokio::test]
async fn a_call_under_way_is_answered_while_the_server_drains() {
    let (_world, server, peers) = one_pair().await;
    let desk = Arc::clone(&server.desk);
    let call = peers.call(2, WAIT, Bytes::from_static(b"last"), PATIENCE);
    let stop = async {
        until("the call has arrived", || desk.waiting.load(Ordering::SeqCst) == 1).await;
        let stopping = tokio::spawn(server.stop());
        until("the client was told", || !peers.status()[&2].connected).await;
        desk.go.notify_one();
        stopping.await.unwrap();
    };
    let (answer, ()) = tokio::join!(call, stop);
    assert_eq!(answer, Ok(Bytes::from_static(b"last")));
}

#[tokio::test]
async fn what_was_sent_and_not_answered_is_told_from_what_was_never_sent() {
    let (world, server, peers) = one_pair().await;
    let nobody = peers.call(9, ECHO, Bytes::new(), PATIENCE).await;
    assert_eq!(nobody, Err(CallError::Unreachable));

    // Its time runs out there.
    let late = peers.call(2, WAIT, Bytes::new(), Duration::from_millis(50)).await;
    assert_eq!(late, Err(CallError::TimedOut));
    // The connection is lost under it.
    let lost = peers.call(2, WAIT, Bytes::new(), PATIENCE);
    let cut = async {
        until("the call has arrived", || server.desk.waiting.load(Ordering::SeqCst) == 2).await;
        peers.set_peer(2, None);
    };
    let (lost, ()) = tokio::join!(lost, cut);
    assert_eq!(lost, Err(CallError::TimedOut));

    // A worker may not speak here: that it was refused is known before anything is sent.
    let target = Target::at(server.addr.to_string());
    let stranger = super::tests::peers(&world.store(Class::Worker, "w1"), &[(2, target)]);
    let refused = stranger.call(2, ECHO, Bytes::new(), PATIENCE).await;
    assert_eq!(refused, Err(CallError::Unreachable));
    let cause = stranger.status()[&2].cause.clone().unwrap_or_default();
    assert!(cause.contains("the peer refused us"), "{cause}");

    // And a node that is not the one we want to talk to.
    let other = Target::named(server.addr.to_string(), "us-east-1", "n3");
    let wrong = super::tests::peers(&world.store(Class::Node, "n1"), &[(3, other)]);
    assert_eq!(wrong.call(3, ECHO, Bytes::new(), PATIENCE).await, Err(CallError::Unreachable));
    let cause = wrong.status()[&3].cause.clone().unwrap_or_default();
    assert!(cause.contains("wrong_id"), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_given_up() {
    let (near, far) = tokio::io::duplex(1 << 20);
    let (read, write) = tokio::io::split(near);
    let started = Instant::now();
    let mux =
        Mux::start(FrameReader::new(read), write, Role::Client, Timing::default(), &spawner());
    let deadline = started + Duration::from_secs(60);
    let call = mux.call(ECHO, Bytes::new(), deadline).await;
    assert_eq!(call, Err(CallError::TimedOut));
    assert!(mux.closed.is_cancelled());
    let given_up = started.elapsed();
    let silent = Timing::default().silent;
    assert!(given_up >= silent && given_up <= silent * 2, "after {given_up:?}");
    drop(far);
}

#[tokio::test(start_paused = true)]
async fn calls_that_go_unanswered_in_a_row_give_up_a_dead_path_sooner() {
    let (near, _far) = tokio::io::duplex(1 << 20);
    let (read, write) = tokio::io::split(near);
    let timing = Timing { silent: Duration::from_secs(600), ..Timing::default() };
    let started = Instant::now();
    let mux = Mux::start(FrameReader::new(read), write, Role::Client, timing, &spawner());
    while !mux.closed.is_cancelled() {
        let call = mux.call(ECHO, Bytes::new(), Instant::now() + Duration::from_millis(500)).await;
        assert_eq!(call, Err(CallError::TimedOut));
        assert!(started.elapsed() < Duration::from_secs(10), "never given up");
    }
    assert!(mux.why().contains("went unanswered"), "{}", mux.why());
}

#[tokio::test]
async fn frames_that_have_no_place_end_the_connection() {
    let hostile = [
        Frame::new(Type::Call, ECHO, 1, Bytes::new()),
        Frame::new(Type::Credit, 0, 1, Bytes::from_static(b"abc")),
        Frame::bare(Type::Hello, 0),
    ];
    for frame in hostile {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let (read, write) = tokio::io::split(near);
        let mux =
            Mux::start(FrameReader::new(read), write, Role::Client, Timing::default(), &spawner());
        let mut bytes = bytes::BytesMut::new();
        frame.put(&mut bytes);
        far.write_all(&bytes).await.unwrap();
        tokio::time::timeout(PATIENCE, mux.closed.cancelled()).await.unwrap();
        assert!(mux.why().contains("has no place here"), "{}", mux.why());
    }
}

/// Counts writes and keeps what was written.
#[derive(Clone, Default)]
struct Counted {
    writes: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

impl tokio::io::AsyncWrite for Counted {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(buf.len(), Ordering::SeqCst);
        std::task::Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn what_waits_leaves_in_few_writes() {
    let (quiet, _hold) = tokio::io::duplex(64);
    let counted = Counted::default();
    let timing = Timing { ping: Duration::from_secs(3600), ..Timing::default() };
    let mux =
        Mux::start(FrameReader::new(quiet), counted.clone(), Role::Client, timing, &spawner());
    // The first ping is out of the way.
    mux.writer().flushed().await.unwrap();
    let before = counted.writes.load(Ordering::SeqCst);
    let sends = (0..200).map(|n| mux.writer().send(Frame::bare(Type::Pong, n)));
    for sent in futures_util::future::join_all(sends).await {
        sent.unwrap();
    }
    mux.writer().flushed().await.unwrap();
    let writes = counted.writes.load(Ordering::SeqCst) - before;
    // tokio makes a busy sender yield every 128 steps, and then the writer has its turn.
    assert!(writes <= 8, "200 frames took {writes} writes");
    assert!(counted.bytes.load(Ordering::SeqCst) >= 200 * super::wire::HEADER_BYTES);
}
