//! Pipelined calls and ordered streams over mutually authenticated TLS: what Raft peers and bulk
//! data between workers speak.
//!
//! One connection a peer carries everything: calls are numbered and answered in any order, streams
//! keep their order, and whatever waits to be sent leaves in one write. [`FramedPeers`] keeps the
//! connections and is a [`Peers`]; [`serve_framed`] hands what arrives to a [`Service`].
//!
//! What always holds:
//!  1. a peer is used only after its server said hello, so a certificate it refuses shows as
//!     unreachable, never as a call without an answer;
//!  2. a slow reader of one stream holds up that stream only: data is sent within a window that
//!     its reader opens, and the task that reads the connection never waits;
//!  3. payloads are copied out of the receive buffer, so keeping one keeps nothing else alive;
//!  4. a connection that is silent although it is pinged, or on which call after call goes
//!     unanswered, is dropped and made anew;
//!  5. queues, windows, calls under way and streams are bounded.
//!
//! Deliberately absent: checksums (TLS authenticates every record), compression, retries.
//!
//! Next: `framed/wire.rs` for the bytes, `framed/mux.rs` for one connection.

use std::time::Duration;

pub use peers::{FramedPeers, PeerStatus, Target};
pub use server::serve_framed;

#[cfg(doc)]
use crate::net::{Peers, Service};

mod mux;
mod peers;
mod server;
mod streams;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

/// The largest message; a snapshot travels in pieces of a stream.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// When a quiet connection is given up.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// TCP, TLS and hello together.
    pub dial: Duration,
    /// The client pings this often, which also measures the round trip.
    pub ping: Duration,
    /// A client that heard nothing for this long drops the connection; a server waits three
    /// times as long, because only the client can make a new one.
    pub silent: Duration,
    /// First and longest wait between attempts to connect.
    pub retry: (Duration, Duration),
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            dial: Duration::from_secs(3),
            ping: Duration::from_secs(1),
            silent: Duration::from_secs(5),
            // A peer that restarts is back within one heartbeat of the profile `wan`.
            retry: (Duration::from_millis(50), Duration::from_millis(1000)),
        }
    }
}
