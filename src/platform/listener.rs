//! Listening: a mutual-TLS port whose connections come with who they are, and a plain one for
//! load balancers and Prometheus. Both plug into `axum::serve`.
//!
//! What always holds:
//!  1. each handshake runs in its own task with a deadline, so that a slow client delays nobody;
//!  2. connections and handshakes are bounded; beyond the bound clients wait in the backlog;
//!  3. a connection whose peer would no longer be let in (its certificate ended or was revoked,
//!     the roots changed) is cut without waiting for it to close.
//!
//! Next: `tls.rs` for whom a port lets in, `listener/holder.rs` for naming who holds a port.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use futures_util::task::AtomicWaker;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tracing::warn;

pub use serve::{Answer, Spoken, serve_draining, serve_http};

use crate::net::Peer;
use crate::tls::{ServerStream, ServerTls};

mod holder;
mod serve;
#[cfg(test)]
mod tests;

/// After `accept` fails (out of file descriptors, most likely): time for some to close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How often connections are checked for certificates that have ended.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections: usize,
    pub handshakes: usize,
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // A connection costs some 100 KiB of buffers; a handshake about a millisecond of CPU and
        // two round trips, so even across an ocean 5 s is generous.
        Self { connections: 1024, handshakes: 128, handshake: Duration::from_secs(5) }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen on {addr}: the port is taken by {by}")]
    Taken { addr: SocketAddr, by: String },
    #[error("cannot listen on {addr}: not permitted")]
    Denied { addr: SocketAddr, source: io::Error },
    #[error("cannot listen on {addr}")]
    Failed { addr: SocketAddr, source: io::Error },
}

async fn bind(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => {
            let by = holder::of_port(addr.port());
            ListenError::Taken { addr, by: by.unwrap_or_else(|| "another process".to_owned()) }
        }
        io::ErrorKind::PermissionDenied => ListenError::Denied { addr, source },
        _ => ListenError::Failed { addr, source },
    };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Accepts peers that show a certificate this port expects.
pub struct MtlsListener {
    incoming: mpsc::Receiver<(MtlsIo, Peer)>,
    own: Peer,
    accepting: JoinHandle<()>,
}

impl MtlsListener {
    pub async fn bind(
        addr: SocketAddr,
        tls: ServerTls,
        limits: Limits,
    ) -> Result<Self, ListenError> {
        let (listener, bound) = bind(addr).await?;
        let own = Peer::named(bound, tls.store().id());
        let (ready, incoming) = mpsc::channel(limits.handshakes);
        let door = Door {
            listener,
            tls: Arc::new(tls),
            limits,
            ready,
            slots: Arc::new(Semaphore::new(limits.connections)),
            shaking: Arc::new(Semaphore::new(limits.handshakes)),
            live: Arc::default(),
        };
        Ok(Self { incoming, own, accepting: tokio::spawn(door.run()) })
    }

    /// The address that was bound, with the port the system chose if 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.own.addr
    }

    /// The next peer that was let in.
    pub async fn next(&mut self) -> (MtlsIo, Peer) {
        match self.incoming.recv().await {
            Some(accepted) => accepted,
            // The accepting task ends only with the runtime.
            None => std::future::pending().await,
        }
    }
}

impl Drop for MtlsListener {
    fn drop(&mut self) {
        // Frees the port at once; connections already handed on live by themselves.
        self.accepting.abort();
    }
}

impl axum::serve::Listener for MtlsListener {
    type Io = MtlsIo;
    type Addr = Peer;

    async fn accept(&mut self) -> (MtlsIo, Peer) {
        self.next().await
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(self.own.clone())
    }
}

/// Lets handlers take `ConnectInfo<Peer>`.
impl Connected<IncomingStream<'_, MtlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, MtlsListener>) -> Self {
        stream.remote_addr().clone()
    }
}

/// Connections that were let in, by arrival.
#[derive(Default)]
struct Live {
    next: u64,
    connections: BTreeMap<u64, Known>,
}

struct Known {
    peer: Peer,
    chain: Vec<CertificateDer<'static>>,
    not_after_unix_s: u64,
    cut: Arc<Cut>,
}

/// Tells a connection that its peer is not welcome any more: asked with every read and write.
#[derive(Default)]
struct Cut {
    is_cut: AtomicBool,
    reader: AtomicWaker,
}

impl Cut {
    fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.reader.wake();
    }

    fn check(&self) -> io::Result<()> {
        if self.is_cut.load(Ordering::Acquire) { Err(unwelcome()) } else { Ok(()) }
    }
}

fn lock(live: &Mutex<Live>) -> MutexGuard<'_, Live> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the accepting task works with.
struct Door {
    listener: TcpListener,
    tls: Arc<ServerTls>,
    limits: Limits,
    ready: mpsc::Sender<(MtlsIo, Peer)>,
    slots: Arc<Semaphore>,
    shaking: Arc<Semaphore>,
    live: Arc<Mutex<Live>>,
}

impl Door {
    async fn run(self) {
        let mut handshakes = JoinSet::new();
        let mut changes = self.tls.store().changes();
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                (stream, addr, permits) = self.accept() => {
                    handshakes.spawn(self.shake_hands(stream, addr, permits));
                }
                Ok(()) = changes.changed() => self.cut_unwelcome(|_| true),
                _ = sweep.tick() => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    self.cut_unwelcome(|known| known.not_after_unix_s < now.as_secs());
                }
                Some(_) = handshakes.join_next() => {}
            }
        }
    }

    async fn accept(&self) -> (TcpStream, SocketAddr, [OwnedSemaphorePermit; 2]) {
        let permits = [permit(&self.slots).await, permit(&self.shaking).await];
        let (stream, addr) = accept(&self.listener).await;
        (stream, addr, permits)
    }

    fn shake_hands(
        &self,
        stream: TcpStream,
        addr: SocketAddr,
        [slot, shaking]: [OwnedSemaphorePermit; 2],
    ) -> impl Future<Output = ()> + Send + 'static {
        let (tls, live) = (Arc::clone(&self.tls), Arc::clone(&self.live));
        let (ready, within) = (self.ready.clone(), self.limits.handshake);
        async move {
            let Some(accepted) = tls.accept(stream, addr, within).await else { return };
            drop(shaking);
            let cut = Arc::<Cut>::default();
            let known = Known {
                peer: accepted.peer.clone(),
                not_after_unix_s: accepted.not_after_unix_s,
                chain: accepted.chain,
                cut: Arc::clone(&cut),
            };
            let entry = Entry::new(live, known);
            let io = MtlsIo { stream: accepted.stream, cut, _entry: entry, _slot: slot };
            // The listener may have been dropped meanwhile: then nobody wants the connection.
            let _ = ready.send((io, accepted.peer)).await;
        }
    }

    fn cut_unwelcome(&self, suspect: impl Fn(&Known) -> bool) {
        for known in lock(&self.live).connections.values().filter(|known| suspect(known)) {
            if !self.tls.still_welcome(&known.peer, &known.chain) {
                known.cut.cut();
            }
        }
    }
}

async fn permit(of: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    match Arc::clone(of).acquire_owned().await {
        Ok(permit) => permit,
        // Our semaphores are never closed.
        Err(_) => std::future::pending().await,
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The client gave up while it waited.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Takes its connection off the list when it goes.
struct Entry {
    live: Arc<Mutex<Live>>,
    number: u64,
}

impl Entry {
    fn new(live: Arc<Mutex<Live>>, known: Known) -> Self {
        let mut list = lock(&live);
        let number = list.next;
        list.next += 1;
        list.connections.insert(number, known);
        drop(list);
        Self { live, number }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.live).connections.remove(&self.number);
    }
}

/// A connection of a [`MtlsListener`]; fails once its peer is no longer welcome.
pub struct MtlsIo {
    stream: ServerStream,
    cut: Arc<Cut>,
    _entry: Entry,
    _slot: OwnedSemaphorePermit,
}

impl MtlsIo {
    /// What both sides agreed to speak, if the client said anything.
    pub fn protocol(&self) -> Option<&[u8]> {
        self.stream.get_ref().1.alpn_protocol()
    }
}

fn unwelcome() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "peer is no longer welcome")
}

impl AsyncRead for MtlsIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Registered before it is looked at: a cut in between wakes us.
        self.cut.reader.register(cx.waker());
        self.cut.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for MtlsIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.cut.check()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cut.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.cut.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Accepts anybody who can reach it: for health and metrics, on loopback by default.
pub struct PlainListener {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    addr: SocketAddr,
}

impl PlainListener {
    pub async fn bind(addr: SocketAddr, limits: Limits) -> Result<Self, ListenError> {
        let (listener, addr) = bind(addr).await?;
        Ok(Self { listener, slots: Arc::new(Semaphore::new(limits.connections)), addr })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl axum::serve::Listener for PlainListener {
    type Io = PlainIo;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (PlainIo, SocketAddr) {
        let slot = permit(&self.slots).await;
        let (stream, addr) = accept(&self.listener).await;
        (PlainIo { stream, _slot: slot }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}

/// A connection of a [`PlainListener`].
pub struct PlainIo {
    stream: TcpStream,
    _slot: OwnedSemaphorePermit,
}

impl AsyncRead for PlainIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for PlainIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
