//! Asking the control plane: own region's node first, then the others.
//!
//! Each call names what became of it: answered, refused, surely not sent, or unknown. Which of
//! these may be tried again is the caller's to know.

use async_trait::async_trait;
use bytes::Bytes;
use cryptorun_core::wire::Problem;
use cryptorun_platform::https::{Events, HttpError, HttpsClient, Request};
use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// One attempt at one endpoint.
#[async_trait]
pub trait Control: Send + Sync {
    /// How many endpoints there are; the first is our own region's.
    fn endpoints(&self) -> usize;

    async fn send(
        &self,
        endpoint: usize,
        call: Call,
        timeout: Duration,
    ) -> Result<(u16, Bytes), CallFailed>;

    /// A stream of directive lists; none where there is no such thing.
    async fn directives(&self, endpoint: usize, session: &str) -> Option<Events>;
}

#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub body: Bytes,
    pub idempotency: Option<String>,
}

/// No answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}")]
pub struct CallFailed {
    /// It may have been carried out.
    pub sent: bool,
    pub what: String,
}

/// What became of a call that all endpoints were asked for.
#[derive(Debug)]
pub enum Answer<T> {
    Done(T),
    /// The machine said no: an answer from the log.
    Refused(Problem),
    /// Nobody could be asked, or nobody answered.
    NoAnswer(CallFailed),
}

pub struct HttpsControl {
    client: HttpsClient,
    endpoints: Vec<String>,
}

impl HttpsControl {
    pub fn new(client: HttpsClient, endpoints: Vec<String>) -> Self {
        Self { client, endpoints }
    }
}

/// A stream without even a comment for this long is dead; nodes send one every few seconds.
const EVENTS_IDLE: Duration = Duration::from_secs(20);

#[async_trait]
impl Control for HttpsControl {
    fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    async fn send(
        &self,
        endpoint: usize,
        call: Call,
        timeout: Duration,
    ) -> Result<(u16, Bytes), CallFailed> {
        let mut request = match call.body.is_empty() {
            true => Request { method: call.method, ..Request::get(call.path) },
            false => Request::json(call.method, call.path, call.body),
        };
        if let Some(key) = call.idempotency {
            request = request.header("idempotency-key", key);
        }
        let answer = self.client.send(&self.endpoints[endpoint], request, timeout).await;
        answer.map(|r| (r.status.as_u16(), r.body)).map_err(|error: HttpError| CallFailed {
            sent: !error.is_safe_to_retry(),
            what: error.to_string(),
        })
    }

    async fn directives(&self, endpoint: usize, session: &str) -> Option<Events> {
        let path = format!("/v1/sessions/{session}/directives");
        match self.client.events(&self.endpoints[endpoint], &path, None, EVENTS_IDLE).await {
            Ok(events) => Some(events),
            Err(error) => {
                tracing::debug!(%error, "no directive stream");
                None
            }
        }
    }
}

/// Asks one endpoint after the other, starting with the one that answered last.
pub struct Caller {
    control: Arc<dyn Control>,
    preferred: AtomicUsize,
}

impl Caller {
    pub fn new(control: Arc<dyn Control>) -> Self {
        Self { control, preferred: AtomicUsize::new(0) }
    }

    pub fn control(&self) -> &Arc<dyn Control> {
        &self.control
    }

    pub fn preferred(&self) -> usize {
        self.preferred.load(Ordering::Relaxed)
    }

    /// Our own region's node is tried first again: after a while away from it.
    pub fn go_home(&self) {
        self.preferred.store(0, Ordering::Relaxed);
    }

    /// One attempt at one endpoint.
    pub async fn once<T: DeserializeOwned>(
        &self,
        endpoint: usize,
        call: Call,
        timeout: Duration,
    ) -> Answer<T> {
        match self.control.send(endpoint, call, timeout).await {
            Err(failed) => Answer::NoAnswer(failed),
            Ok((200..=299, body)) => match serde_json::from_slice(&body) {
                Ok(answer) => {
                    self.preferred.store(endpoint, Ordering::Relaxed);
                    Answer::Done(answer)
                }
                Err(error) => {
                    let what = format!("an answer cannot be read: {error}");
                    Answer::NoAnswer(CallFailed { sent: true, what })
                }
            },
            Ok((status, body)) => {
                let problem: Problem = serde_json::from_slice(&body).unwrap_or_else(|_| Problem {
                    status,
                    detail: String::from_utf8_lossy(&body).chars().take(200).collect(),
                    ..Problem::default()
                });
                // Only these speak for the log; the rest says that this node could not ask it.
                match status {
                    404 | 409 | 410 | 412 | 422 => Answer::Refused(problem),
                    _ => {
                        let what = format!("{status}: {}", problem.detail);
                        Answer::NoAnswer(CallFailed { sent: status >= 500, what })
                    }
                }
            }
        }
    }

    /// All endpoints, once each.
    pub async fn ask<T: DeserializeOwned>(&self, call: Call, timeout: Duration) -> Answer<T> {
        let (count, first) = (self.control.endpoints(), self.preferred());
        let mut last = CallFailed { sent: false, what: "no control endpoint is configured".into() };
        for step in 0..count {
            match self.once((first + step) % count, call.clone(), timeout).await {
                Answer::NoAnswer(failed) => {
                    last = CallFailed { sent: last.sent || failed.sent, what: failed.what };
                }
                answered => return answered,
            }
        }
        Answer::NoAnswer(last)
    }
}

/// A JSON call. A value that cannot be written is a mistake of ours, and an empty body says so.
pub fn post(path: impl Into<String>, body: &impl Serialize) -> Call {
    let body = serde_json::to_vec(body).map(Bytes::from).unwrap_or_default();
    Call { method: Method::POST, path: path.into(), body, idempotency: None }
}

pub fn delete(path: impl Into<String>) -> Call {
    Call { method: Method::DELETE, path: path.into(), body: Bytes::new(), idempotency: None }
}
