//! The answering side: accepts connections and hands what comes to a service.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::listener::{MtlsIo, MtlsListener};
use crate::net::{Peer, Service};
use crate::spawn::{Spawn, TokioSpawn};

use super::Timing;
use super::mux::{Mux, Role};
use super::wire::{Frame, FrameReader, Type};

/// When draining, answers under way get this long.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Serves until `shutdown`, then asks clients to go, answers what is under way and closes.
pub async fn serve_framed(
    mut listener: MtlsListener,
    service: Arc<dyn Service>,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    loop {
        let (io, peer) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.next() => accepted,
        };
        let serve = serve_one(io, peer, Arc::clone(&service), shutdown.clone());
        connections.spawn(serve);
    }
    // Frees the port for a successor while the last answers leave.
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn serve_one(io: MtlsIo, peer: Peer, service: Arc<dyn Service>, shutdown: CancellationToken) {
    debug!(peer = %peer.id, addr = %peer.addr, "framed connection accepted");
    let (read, write) = tokio::io::split(io);
    let running = TaskTracker::new();
    let role = Role::Server { peer: peer.clone(), service, running: running.clone() };
    let spawn: Arc<dyn Spawn> = Arc::new(TokioSpawn);
    let mux = Mux::start(FrameReader::new(read), write, role, Timing::default(), &spawn);
    let hello = Frame::new(Type::Hello, 0, 0, Bytes::new());
    // A connection that fails here shows as closed below.
    let _ = mux.writer().send(hello).await;
    tokio::select! {
        () = mux.closed.cancelled() => {}
        () = shutdown.cancelled() => drain(&mux, &running).await,
    }
    debug!(peer = %peer.id, why = mux.why(), "framed connection closed");
}

async fn drain(mux: &Mux, running: &TaskTracker) {
    let finish = async {
        let _ = mux.writer().send(Frame::bare(Type::Bye, 0)).await;
        running.close();
        running.wait().await;
        let _ = mux.writer().flushed().await;
    };
    // A stream has no end of its own; it is cut when the time is over.
    let _ = tokio::time::timeout(DRAIN_WITHIN, finish).await;
    mux.close("draining".to_owned());
}
