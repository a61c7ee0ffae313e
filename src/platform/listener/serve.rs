//! HTTP/1.1 and HTTP/2 over one of our listeners, bounded, and ended in good order.
//!
//! Which of the two a connection speaks was agreed in its handshake; without one it is HTTP/1.1.
//! `axum::serve` waits for ever, for a request head as well as for the last event stream to end;
//! this does not.
//!
//! What always holds: a connection that asks nothing for [`HEAD_WITHIN`] is closed, whatever it
//! speaks and whether or not it ever said a word of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use axum::serve::Listener;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tracing::debug;

use super::{MtlsIo, PlainIo};

/// How long the next request's head may take. hyper counts the quiet before it too, so this is
/// twice what our client keeps an idle connection for: a request must not meet a closing door.
const HEAD_WITHIN: Duration = Duration::from_secs(120);
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 64;
/// What is under way when we stop gets this long; event streams are then cut.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// Requests under way on one HTTP/2 connection: as many as a busy relay has, and no more than a
/// quarter of the proposals that a node takes in.
const STREAMS_MAX: u32 = 256;
/// Bytes that one request, and all of a connection, may send before they are read: no body of ours
/// is larger than the second.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of answers that wait for a slow reader, on each stream.
const SEND_BYTES_MAX: usize = 256 << 10;
/// A client that asks and takes back in one breath costs us the work: so many at once.
const RESETS_MAX: usize = 32;
/// A peer that is gone without a word is found out by this: asked, and not answered.
const PING_EVERY: Duration = Duration::from_secs(20);
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// Answers requests that came over a connection from `A`.
pub trait Answer<A>: Clone + Send + Sync + 'static {
    fn answer(
        self,
        request: Request<Incoming>,
        from: A,
    ) -> impl Future<Output = Response> + Send + 'static;
}

impl<A: Clone + Send + Sync + 'static> Answer<A> for Router {
    fn answer(
        self,
        mut request: Request<Incoming>,
        from: A,
    ) -> impl Future<Output = Response> + Send + 'static {
        request.extensions_mut().insert(ConnectInfo(from));
        let answer = self.oneshot(request.map(Body::new));
        async { answer.await.unwrap_or_else(|never: Infallible| match never {}) }
    }
}

/// What the two ends of a connection have agreed on.
pub trait Spoken {
    fn is_http2(&self) -> bool;
}

impl Spoken for MtlsIo {
    fn is_http2(&self) -> bool {
        self.protocol() == Some(b"h2")
    }
}

impl Spoken for PlainIo {
    fn is_http2(&self) -> bool {
        false
    }
}

/// Serves until `stop`, then finishes what is under way. A router's handlers may take `ConnectInfo` of
/// the listener's address: [`crate::net::Peer`] on a mutual-TLS port.
pub async fn serve_http<L>(listener: L, by: impl Answer<L::Addr>, stop: CancellationToken)
where
    L: Listener<Io: Spoken>,
    L::Addr: Clone + Send + Sync + 'static,
{
    serve_draining(listener, by, stop, DRAIN_WITHIN).await;
}

/// The same with another time for what is under way when it stops.
pub async fn serve_draining<L>(
    mut listener: L,
    by: impl Answer<L::Addr>,
    stop: CancellationToken,
    drain_within: Duration,
) where
    L: Listener<Io: Spoken>,
    L::Addr: Clone + Send + Sync + 'static,
{
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let (io, from) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (by, stop, cut) = (by.clone(), stop.clone(), cut.clone());
        connections.spawn(async move {
            let serve = async {
                match io.is_http2() {
                    true => serve_http2(io, from, by, stop).await,
                    false => serve_http1(io, from, by, stop).await,
                }
            };
            let ended = tokio::select! {
                ended = serve => ended,
                () = cut.cancelled() => Ok(()),
            };
            if let Err(error) = ended {
                // A connection that breaks is its client's affair.
                debug!(%error, "a connection ended badly");
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

async fn serve_http1<I, A>(
    io: I,
    from: A,
    by: impl Answer<A>,
    stop: CancellationToken,
) -> hyper::Result<()>
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    A: Clone + Send + Sync + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = by.clone().answer(request, from.clone());
        async move { Ok::<Response, Infallible>(answer.await) }
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
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

async fn serve_http2<I, A>(
    io: I,
    from: A,
    by: impl Answer<A>,
    stop: CancellationToken,
) -> hyper::Result<()>
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    A: Clone + Send + Sync + 'static,
{
    let asked = Arc::new(Asked::default());
    let counted = Arc::clone(&asked);
    let service = service_fn(move |request: Request<Incoming>| {
        let under_way = UnderWay::begin(&counted);
        let answer = by.clone().answer(request, from.clone());
        async move {
            let answer = answer.await;
            drop(under_way);
            Ok::<Response, Infallible>(answer)
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BYTES_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        () = asked.nothing_for(HEAD_WITHIN) => {
            connection.as_mut().graceful_shutdown();
            // One that has not even begun to speak has nothing to finish.
            return tokio::time::timeout(DRAIN_WITHIN, connection).await.unwrap_or(Ok(()));
        }
    }
    connection.await
}

/// What one HTTP/2 connection has asked.
#[derive(Default)]
struct Asked {
    ever: AtomicUsize,
    under_way: AtomicUsize,
}

impl Asked {
    /// Returns once a whole `span` passed in which nothing was asked and nothing was under way.
    async fn nothing_for(&self, span: Duration) {
        loop {
            let before = self.ever.load(Ordering::Relaxed);
            tokio::time::sleep(span).await;
            let quiet = self.ever.load(Ordering::Relaxed) == before;
            if quiet && self.under_way.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }
}

/// A request between its head and its answer's head.
struct UnderWay(Arc<Asked>);

impl UnderWay {
    fn begin(asked: &Arc<Asked>) -> Self {
        asked.ever.fetch_add(1, Ordering::Relaxed);
        asked.under_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(asked))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_quiet_once_a_whole_span_brought_nothing() {
        let asked = Arc::new(Asked::default());
        let span = Duration::from_secs(120);
        let began = tokio::time::Instant::now();
        let ask = async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            let long = UnderWay::begin(&asked);
            tokio::time::sleep(Duration::from_secs(400)).await;
            drop(long);
        };
        tokio::join!(asked.nothing_for(span), ask);
        assert_eq!(began.elapsed(), Duration::from_secs(480), "not while one was under way");
    }
}
