//! Connections of the admin API and of the health port: accepted, bounded, and ended in good order.

use super::extract::Identity;
use axum::Router;
use axum::body::Body;
use axum::serve::Listener;
use cryptorun_platform::listener::{MtlsListener, PlainListener};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// A head that takes longer is no request.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 64;
/// What is under way when the node goes down may take so long.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Serves the API until told to stop; requests under way are finished.
pub async fn api(mut listener: MtlsListener, router: Router, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    loop {
        let (io, peer) = tokio::select! {
            accepted = listener.next() => accepted,
            () = stop.cancelled() => break,
        };
        let identity = Identity { peer, certificate: None };
        tasks.spawn(connection(io, router.clone(), Some(identity), stop.clone()));
    }
    drop(listener);
    drain(tasks).await;
}

/// Serves the health port until told to stop.
pub async fn health(mut listener: PlainListener, router: Router, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    loop {
        let (io, _) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        tasks.spawn(connection(io, router.clone(), None, stop.clone()));
    }
    drop(listener);
    drain(tasks).await;
}

async fn drain(tasks: TaskTracker) {
    tasks.close();
    if tokio::time::timeout(DRAIN_WITHIN, tasks.wait()).await.is_err() {
        tracing::warn!("requests were still under way when the node stopped");
    }
}

/// A connection that breaks is its client's affair.
fn connection<I>(
    io: I,
    router: Router,
    identity: Option<Identity>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        if let Some(identity) = &identity {
            request.extensions_mut().insert(identity.clone());
        }
        router.clone().oneshot(request)
    });
    async move {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .pipeline_flush(true)
            .serve_connection(TokioIo::new(io), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended badly");
        }
    }
}

/// What a connection of this caller would put on its requests.
#[cfg(test)]
pub(crate) fn identity_for_tests(caller: &crate::caller::Caller) -> Identity {
    use cryptorun_platform::net::Peer;
    let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let peer = Peer { addr, id: caller.spiffe.clone() };
    Identity { peer, certificate: caller.certificate.clone() }
}
