//! HTTP/1.1 over one of our listeners, bounded, and ended in good order.
//!
//! `axum::serve` waits for ever, for a request head as well as for the last event stream to end;
//! this does not.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use axum::serve::Listener;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

/// How long the next request's head may take. hyper counts the quiet before it too, so this is
/// twice what our client keeps an idle connection for: a request must not meet a closing door.
const HEAD_WITHIN: Duration = Duration::from_secs(120);
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 64;
/// What is under way when we stop gets this long; event streams are then cut.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Serves until `stop`, then finishes what is under way. Handlers may take `ConnectInfo` of the
/// listener's address: [`crate::net::Peer`] on a mutual-TLS port.
pub async fn serve_http<L>(listener: L, router: Router, stop: CancellationToken)
where
    L: Listener,
    L::Addr: Clone + Send + Sync + 'static,
{
    serve_draining(listener, router, stop, DRAIN_WITHIN).await;
}

/// The same with another time for what is under way when it stops.
pub async fn serve_draining<L>(
    mut listener: L,
    router: Router,
    stop: CancellationToken,
    drain_within: Duration,
) where
    L: Listener,
    L::Addr: Clone + Send + Sync + 'static,
{
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let (io, from) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let serve = serve_one(io, from, router.clone(), stop.clone());
        let cut = cut.clone();
        connections.spawn(async move {
            tokio::select! {
                () = serve => {}
                () = cut.cancelled() => {}
            }
        });
    }
    // Frees the port for a successor while the last answers leave.
    drop(listener);
    connections.close();
    if tokio::time::timeout(drain_within, connections.wait()).await.is_err() {
        debug!(left = connections.len(), "connections cut while stopping");
        cut.cancel();
        connections.wait().await;
    }
}

async fn serve_one<I, A>(io: I, from: A, router: Router, stop: CancellationToken)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    A: Clone + Send + Sync + 'static,
{
    let inner = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(from.clone()));
        let answer = inner.call(request);
        async move { Ok::<Response, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        // Answers to pipelined requests leave together.
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // A connection that breaks is its client's affair.
        debug!(%error, "a connection ended badly");
    }
}
