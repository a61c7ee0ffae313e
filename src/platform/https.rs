//! The HTTPS client: HTTP/1.1 over mutual TLS, with kept-alive connections.
//!
//! What always holds:
//!  1. `HttpError::NotSent` means that the server cannot have acted on the request: it is safe to
//!     try again, here or elsewhere. Anything doubtful is `NoAnswer`;
//!  2. a request is sent twice by us only if the first time nothing left the process;
//!  3. time, body size and idle connections are bounded.
//!
//! Deliberately absent: redirects, cookies, retries and choosing among endpoints. Those need to
//! know what a request means.
//!
//! Next: `https/sse.rs` for event streams.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::tls::{ClientTls, DialError, Expect, Protocol, TlsStore, error_chain, refused_by_peer};

pub use sse::{Event, Events};

mod sse;
#[cfg(test)]
mod tests;

/// A dead machine is told from a slow one by this; three round trips across an ocean fit twice.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// The largest answer there is: a page of audit entries or a state dump.
const BODY_BYTES_MAX: usize = 16 << 20;
/// Idle connections kept, all endpoints together.
const IDLE_MAX: usize = 64;
/// Middleboxes forget quiet connections after minutes; we forget them first.
const IDLE_FOR_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    /// With query: `/v1/status?consistency=stale`.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Request {
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), headers: Vec::new(), body: Bytes::new() }
    }

    /// A request with a JSON body.
    pub fn json(method: Method, path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let headers = vec![(CONTENT_TYPE.to_string(), "application/json".to_owned())];
        Self { method, path: path.into(), headers, body: body.into() }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Response {
    /// A header's value, where it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The server has not seen the request: safe to retry.
    #[error("{endpoint} was not asked: {cause}")]
    NotSent { endpoint: String, cause: Cause },
    /// The request left and no whole answer came: what it asked for may have happened.
    #[error("{endpoint} gave no answer: {cause}")]
    NoAnswer { endpoint: String, cause: Cause },
    /// An event stream was asked for and something else came.
    #[error("{endpoint} answered {} instead of events", response.status)]
    NotEvents { endpoint: String, response: Box<Response> },
}

#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error("{}", error_chain(&**_0))]
    Dial(Box<DialError>),
    /// The server turned our certificate away.
    #[error("{0}")]
    Refused(String),
    #[error("nothing within {} ms", _0.as_millis())]
    Timeout(Duration),
    #[error("{}", error_chain(_0))]
    Http(hyper::Error),
    #[error("the answer is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the request cannot be written: {0}")]
    Request(String),
    #[error("the event stream cannot be read: {0}")]
    Events(&'static str),
}

impl HttpError {
    pub fn is_safe_to_retry(&self) -> bool {
        match self {
            Self::NotSent { .. } => true,
            Self::NoAnswer { .. } | Self::NotEvents { .. } => false,
        }
    }

    pub fn endpoint(&self) -> &str {
        match self {
            Self::NotSent { endpoint, .. }
            | Self::NoAnswer { endpoint, .. }
            | Self::NotEvents { endpoint, .. } => endpoint,
        }
    }

    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::NotSent { cause, .. } | Self::NoAnswer { cause, .. } => Some(cause),
            Self::NotEvents { .. } => None,
        }
    }
}

type Sender = SendRequest<Full<Bytes>>;
type Outgoing = hyper::Request<Full<Bytes>>;

/// Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct HttpsClient {
    inner: Arc<Inner>,
}

struct Inner {
    tls: ClientTls,
    idle: Mutex<BTreeMap<String, Vec<Idle>>>,
}

struct Idle {
    sender: Sender,
    /// What ended the connection, once it has.
    ended: oneshot::Receiver<Option<hyper::Error>>,
    since: Instant,
    /// The credentials it was opened with.
    generation: u64,
}

/// What became of one try on one connection.
enum Tried {
    Answered(hyper::Response<Incoming>),
    /// Nothing left the process; here is the request again.
    Unsent(Outgoing, hyper::Error),
    Failed(HttpError),
}

impl HttpsClient {
    pub fn new(tls: &Arc<TlsStore>, expect: Expect) -> Self {
        let tls = tls.client(expect, Protocol::Http);
        Self { inner: Arc::new(Inner { tls, idle: Mutex::default() }) }
    }

    /// Sends `request` to `host:port` and waits for the whole answer, `timeout` at most.
    pub async fn send(
        &self,
        endpoint: &str,
        request: Request,
        timeout: Duration,
    ) -> Result<Response, HttpError> {
        let deadline = Deadline { at: Instant::now() + timeout, of: timeout };
        let (answer, connection) = self.ask(endpoint, request, deadline).await?;
        let response = read_whole(endpoint, answer, deadline).await?;
        self.keep(endpoint, connection);
        Ok(response)
    }

    /// Opens an event stream at `path`, resuming after `last_event_id`. The stream fails when
    /// nothing, not even a comment, comes for `idle`.
    pub async fn events(
        &self,
        endpoint: &str,
        path: &str,
        last_event_id: Option<&str>,
        idle: Duration,
    ) -> Result<Events, HttpError> {
        let deadline = Deadline { at: Instant::now() + idle, of: idle };
        let mut request = Request::get(path).header(ACCEPT.as_str(), "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let (answer, connection) = self.ask(endpoint, request, deadline).await?;
        let is_events = answer
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if answer.status() == StatusCode::OK && is_events {
            return Ok(Events::new(endpoint, answer.into_body(), connection.sender, idle));
        }
        let response = read_whole(endpoint, answer, deadline).await?;
        self.keep(endpoint, connection);
        Err(HttpError::NotEvents { endpoint: endpoint.to_owned(), response: Box::new(response) })
    }

    async fn ask(
        &self,
        endpoint: &str,
        request: Request,
        deadline: Deadline,
    ) -> Result<(hyper::Response<Incoming>, Idle), HttpError> {
        let mut outgoing = outgoing(endpoint, request)?;
        while let Some(mut kept) = self.kept(endpoint) {
            // It may have been closed since: then nothing was sent and another will do.
            match timeout_at(deadline.at, kept.sender.ready()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => continue,
                Err(_) => return Err(not_sent(endpoint, Cause::Timeout(deadline.of))),
            }
            match exchange(endpoint, &mut kept.sender, outgoing, deadline).await {
                Tried::Answered(answer) => return Ok((answer, kept)),
                Tried::Unsent(again, _) => outgoing = again,
                Tried::Failed(error) => return Err(error),
            }
        }
        let mut fresh = self.connect(endpoint, deadline).await?;
        match exchange(endpoint, &mut fresh.sender, outgoing, deadline).await {
            Tried::Answered(answer) => Ok((answer, fresh)),
            Tried::Unsent(_, error) => {
                // The connection ended before it took the request, and knows why better.
                let why = match timeout_at(deadline.at, fresh.ended).await {
                    Ok(Ok(Some(end))) => end,
                    _ => error,
                };
                Err(not_sent(endpoint, cause_of(why)))
            }
            Tried::Failed(error) => Err(error),
        }
    }

    async fn connect(&self, endpoint: &str, deadline: Deadline) -> Result<Idle, HttpError> {
        let tls = &self.inner.tls;
        // Read first: a reload while we connect only makes us drop the connection early.
        let generation = *tls.store().changes().borrow();
        let within = CONNECT_WITHIN.min(deadline.at.saturating_duration_since(Instant::now()));
        let stream = tls
            .dial(endpoint, within)
            .await
            .map_err(|error| not_sent(endpoint, Cause::Dial(Box::new(error))))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| not_sent(endpoint, Cause::Http(error)))?;
        let (end, ended) = oneshot::channel();
        tokio::spawn(async move {
            // Nobody may be left to be told.
            let _ = end.send(connection.await.err());
        });
        Ok(Idle { sender, ended, since: Instant::now(), generation })
    }

    /// A kept connection that looks usable.
    fn kept(&self, endpoint: &str) -> Option<Idle> {
        let generation = *self.inner.tls.store().changes().borrow();
        let mut idle = self.idle();
        let kept = idle.get_mut(endpoint)?;
        kept.retain(|idle| {
            !idle.sender.is_closed()
                && idle.generation == generation
                && idle.since.elapsed() < IDLE_FOR_MAX
        });
        let newest = kept.pop();
        if kept.is_empty() {
            idle.remove(endpoint);
        }
        newest
    }

    fn keep(&self, endpoint: &str, mut connection: Idle) {
        let mut idle = self.idle();
        if idle.values().map(Vec::len).sum::<usize>() >= IDLE_MAX || connection.sender.is_closed() {
            return;
        }
        connection.since = Instant::now();
        idle.entry(endpoint.to_owned()).or_default().push(connection);
    }

    fn idle(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Idle>>> {
        self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    /// As it was given, for messages.
    of: Duration,
}

fn not_sent(endpoint: &str, cause: Cause) -> HttpError {
    HttpError::NotSent { endpoint: endpoint.to_owned(), cause }
}

fn no_answer(endpoint: &str, cause: Cause) -> HttpError {
    HttpError::NoAnswer { endpoint: endpoint.to_owned(), cause }
}

fn cause_of(error: hyper::Error) -> Cause {
    match refused_by_peer(&error) {
        Some(why) => Cause::Refused(why),
        None => Cause::Http(error),
    }
}

fn outgoing(endpoint: &str, request: Request) -> Result<Outgoing, HttpError> {
    let cannot = |reason: String| not_sent(endpoint, Cause::Request(reason));
    let mut made = hyper::Request::builder()
        .method(request.method)
        .uri(&request.path)
        .header(HOST, endpoint)
        .body(Full::new(request.body))
        .map_err(|error| cannot(error.to_string()))?;
    for (name, value) in &request.headers {
        let header = HeaderName::try_from(name).map_err(|e| cannot(format!("{name}: {e}")))?;
        let value = HeaderValue::try_from(value).map_err(|e| cannot(format!("{name}: {e}")))?;
        made.headers_mut().append(header, value);
    }
    Ok(made)
}

async fn exchange(
    endpoint: &str,
    sender: &mut Sender,
    request: Outgoing,
    deadline: Deadline,
) -> Tried {
    let mut failed = match timeout_at(deadline.at, sender.try_send_request(request)).await {
        Ok(Ok(answer)) => return Tried::Answered(answer),
        Ok(Err(failed)) => failed,
        Err(_) => return Tried::Failed(no_answer(endpoint, Cause::Timeout(deadline.of))),
    };
    let unsent = failed.take_message();
    let error = failed.into_error();
    match (unsent, cause_of(error)) {
        // The server ends a handshake with such an alert before it reads any request.
        (_, cause @ Cause::Refused(_)) => Tried::Failed(not_sent(endpoint, cause)),
        (Some(request), Cause::Http(error)) => Tried::Unsent(request, error),
        (_, cause) => Tried::Failed(no_answer(endpoint, cause)),
    }
}

async fn read_whole(
    endpoint: &str,
    answer: hyper::Response<Incoming>,
    deadline: Deadline,
) -> Result<Response, HttpError> {
    let (head, body) = answer.into_parts();
    let collect = Limited::new(body, BODY_BYTES_MAX).collect();
    let body = match timeout_at(deadline.at, collect).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => {
            let cause = match error.downcast::<hyper::Error>() {
                Ok(error) => Cause::Http(*error),
                Err(error) if error.is::<LengthLimitError>() => Cause::TooLarge,
                Err(error) => Cause::Request(error.to_string()),
            };
            return Err(no_answer(endpoint, cause));
        }
        Err(_) => return Err(no_answer(endpoint, Cause::Timeout(deadline.of))),
    };
    Ok(Response { status: head.status, headers: head.headers, body })
}
