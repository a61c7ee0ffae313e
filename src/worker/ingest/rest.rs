//! A venue's REST endpoint: one `GET` at a time, no faster than the venue allows.
//!
//! Requests are rare (a gap, an unknown pair), so each has a connection of its own and no pool can
//! hold a dead one.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use cryptorun_platform::clock::{BootTime, Clock};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;

use super::dial::{Dial, Endpoint, UrlError};

/// A thousand trades are about 100 kB; a list of every pair is 1 MB.
const BODY_MAX: usize = 8 << 20;

/// From dialling to the last byte.
const REQUEST_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum RestError {
    #[error("cannot reach {to}")]
    Unreachable { to: String, source: io::Error },
    #[error("no answer from {to} within {} s", REQUEST_MAX.as_secs())]
    TimedOut { to: String },
    #[error("the exchange with {to} broke off")]
    Broken { to: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{to} answered {status}")]
    Status { to: String, status: u16 },
}

pub struct RestClient {
    dial: Arc<dyn Dial>,
    clock: Arc<dyn Clock>,
    endpoint: Endpoint,
    every: Duration,
    /// When the next request may leave.
    next: Mutex<BootTime>,
}

impl RestClient {
    pub fn new(
        clock: Arc<dyn Clock>,
        dial: Arc<dyn Dial>,
        url: &str,
        every: Duration,
    ) -> Result<Self, UrlError> {
        let endpoint = Endpoint::of(url)?;
        Ok(Self { dial, clock, endpoint, every, next: Mutex::new(BootTime::default()) })
    }

    /// Waits for its turn first.
    pub async fn get(&self, path: &str) -> Result<Bytes, RestError> {
        let to = self.endpoint.authority();
        tokio::time::sleep(self.turn()).await;
        match tokio::time::timeout(REQUEST_MAX, self.exchange(path)).await {
            Ok(answer) => answer,
            Err(_) => Err(RestError::TimedOut { to }),
        }
    }

    /// How long to wait; takes the place in the line.
    fn turn(&self) -> Duration {
        let now = self.clock.boot();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (*next).max(now);
        *next = at + self.every;
        at - now
    }

    async fn exchange(&self, path: &str) -> Result<Bytes, RestError> {
        let to = || self.endpoint.authority();
        let broken = |source: Box<dyn std::error::Error + Send + Sync>| RestError::Broken {
            to: to(),
            source,
        };
        let wire = self.dial.dial(&self.endpoint).await;
        let wire = wire.map_err(|source| RestError::Unreachable { to: to(), source })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(wire))
                .await
                .map_err(|error| broken(error.into()))?;
        let request = Request::get(path)
            .header(HOST, to())
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("cryptorun/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| broken(error.into()))?;
        let answer = async {
            let response =
                sender.send_request(request).await.map_err(|error| broken(error.into()))?;
            let status = response.status();
            if !status.is_success() {
                return Err(RestError::Status { to: to(), status: status.as_u16() });
            }
            let body = Limited::new(response.into_body(), BODY_MAX).collect().await;
            Ok(body.map_err(broken)?.to_bytes())
        };
        // The connection is driven beside the request and ends with it.
        tokio::pin!(answer, connection);
        let mut open = true;
        loop {
            tokio::select! {
                answer = &mut answer => return answer,
                _ = &mut connection, if open => open = false,
            }
        }
    }
}
