//! Talking to peers, as the rest of the program sees it: calls, ordered streams, and the service
//! that answers them. `framed` is the real thing; the simulator has its own `Peers` that hands
//! each call to the target's `Service` after a delay it chooses.
//!
//! What always holds:
//!  1. `CallError::Unreachable` means that nothing was sent: trying again is harmless;
//!  2. `CallError::TimedOut` means that no answer came: the call may have been carried out;
//!  3. a stream delivers in order, each way, and ends (`None`) when the other side is gone.
//!
//! Deliberately absent: retries (the caller knows whether a call may be repeated) and meaning
//! (`kind` and `body` belong to the two ends).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::identity::SpiffeId;

/// Who is at the other end, as its certificate says.
///
/// Cheap to clone: each request of a connection carries one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub addr: SocketAddr,
    pub id: Arc<SpiffeId>,
    /// The certificate's serial number in hex, for the audit; none where there is no certificate.
    pub serial: Option<Arc<str>>,
}

impl Peer {
    /// Somebody without a certificate: in tests and simulations.
    pub fn named(addr: SocketAddr, id: SpiffeId) -> Self {
        Self { addr, id: Arc::new(id), serial: None }
    }
}

/// Both ends of an ordered stream of messages. Dropping `tx` ends our direction only.
#[derive(Debug)]
pub struct Duplex {
    pub tx: mpsc::Sender<Bytes>,
    pub rx: mpsc::Receiver<Bytes>,
}

impl Duplex {
    /// Two connected ends holding at most `bound` messages a direction: for tests and simulations.
    pub fn pair(bound: usize) -> (Duplex, Duplex) {
        let (left_tx, right_rx) = mpsc::channel(bound);
        let (right_tx, left_rx) = mpsc::channel(bound);
        (Duplex { tx: left_tx, rx: left_rx }, Duplex { tx: right_tx, rx: right_rx })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent.
    #[error("peer is unreachable")]
    Unreachable,
    /// Sent, and no answer came within the time given or before the connection was lost.
    #[error("no answer from peer: the call may have been carried out")]
    TimedOut,
    /// The peer's service said no.
    #[error("refused by peer: {0}")]
    Refused(String),
}

/// A service's no. The text travels to the caller as [`CallError::Refused`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ServiceError(pub String);

impl From<String> for ServiceError {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for ServiceError {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// The peers this process may call, by number.
#[async_trait]
pub trait Peers: Send + Sync {
    /// Sends `body` and waits at most `ttl` for the answer. Calls may overtake each other.
    async fn call(&self, to: u64, kind: u8, body: Bytes, ttl: Duration)
    -> Result<Bytes, CallError>;

    /// Opens a stream. Succeeds once the peer can be sent to; the peer may still end it at once.
    async fn stream(&self, to: u64, kind: u8) -> Result<Duplex, CallError>;
}

/// What this process answers to its peers.
#[async_trait]
pub trait Service: Send + Sync {
    async fn call(&self, from: &Peer, kind: u8, body: Bytes) -> Result<Bytes, ServiceError>;

    /// Serves one stream until it returns. A kind it does not know it ends by returning.
    async fn stream(&self, from: &Peer, kind: u8, duplex: Duplex);
}
