//! What may be asked of a held demo and of the parts it runs: requests and answers as JSON.
//!
//! These shapes are what `cryptorun lab …` prints with `-o json`; fields are added, never renamed.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A fault for one venue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case", deny_unknown_fields)]
pub enum VenueFault {
    /// Each matching connection loses its next `frames` data frames of `channel`.
    Drop { channel: VenueChannel, frames: u32, client: Option<String> },
    /// The next `frames` book frames of each matching connection carry a wrong checksum.
    CorruptChecksum { frames: u32, client: Option<String> },
    /// Sockets stay open and requests are acknowledged, but nothing else is sent for this long.
    /// What would have been sent is lost. Connections made meanwhile are silent too.
    Stall { ms: u64, client: Option<String> },
    /// Matching connections are closed without a closing handshake.
    Disconnect { client: Option<String> },
}

impl VenueFault {
    /// The `?client=` name a connection must have; none means every connection.
    pub fn client(&self) -> Option<&str> {
        match self {
            Self::Drop { client, .. }
            | Self::CorruptChecksum { client, .. }
            | Self::Stall { client, .. }
            | Self::Disconnect { client } => client.as_deref(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VenueChannel {
    Book,
    Trade,
}

/// What a venue has done since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VenueStatus {
    pub name: String,
    pub seed: u64,
    pub uptime_ms: u64,
    pub connections: usize,
    pub connections_total: u64,
    pub pairs: BTreeMap<String, VenuePair>,
    pub sent: VenueSent,
    pub faults: VenueFaultCounts,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VenuePair {
    pub last_trade_id: u64,
    pub book_steps: u64,
    /// `generated` or `recorded`.
    pub book: String,
}

/// Frames handed to sockets, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VenueSent {
    pub book: u64,
    pub trade: u64,
    pub heartbeat: u64,
    pub answer: u64,
}

/// What faults did, summed over connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VenueFaultCounts {
    pub commands: u64,
    pub book_frames_dropped: u64,
    pub trade_frames_dropped: u64,
    pub trades_dropped: u64,
    pub checksums_corrupted: u64,
    pub frames_stalled: u64,
    pub disconnected: u64,
    /// Readers that fell too far behind and were closed.
    pub slow_readers: u64,
}

/// Answer to a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VenueFaultAnswer {
    /// Connections open when the fault was given.
    pub connections: usize,
}

/// Addresses a process listens on, by purpose.
pub type Addresses = BTreeMap<String, SocketAddr>;

/// Which bytes a cut stops, seen from `a`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    #[default]
    Both,
    AToB,
    BToA,
}

/// What may be done to the links. A region left out means every other one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case", deny_unknown_fields)]
pub enum LinkAct {
    Cut {
        a: String,
        b: Option<String>,
        #[serde(default)]
        direction: Direction,
    },
    Heal {
        a: Option<String>,
        b: Option<String>,
        #[serde(default)]
        direction: Direction,
    },
    /// Half of the round trip each way.
    Delay { a: String, b: Option<String>, rtt_us: u64 },
}

/// Ids of the links that an act changed; none when they were so already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinksChanged {
    pub changed: Vec<String>,
}

/// One direction between two regions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// `us-east-1>eu-west-1`
    pub id: String,
    pub from: String,
    pub to: String,
    pub delay_us: u64,
    pub bandwidth_bytes_per_second: Option<u64>,
    pub cut: bool,
    pub cuts: u64,
    /// Time cut in all, the present cut included.
    pub cut_ms: u64,
    /// Bytes that arrived.
    pub bytes: u64,
    /// Bytes under way or held by a cut.
    pub held_bytes: u64,
    /// Open connections made in this direction.
    pub connections: u64,
    pub routes: Vec<RouteStatus>,
}

/// Where `from` connects to reach a service in `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteStatus {
    pub purpose: String,
    pub listen: SocketAddr,
    pub target: SocketAddr,
}

/// What may be asked of a held demo: `POST /v1/lab`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum LabRequest {
    Status,
    Link(LinkAct),
    /// `target` is a process, or a region for all of its processes.
    Kill {
        target: String,
        #[serde(default)]
        signal: KillSignal,
        /// Not started again until `start`.
        #[serde(default)]
        keep_down: bool,
    },
    Start {
        target: String,
    },
    Freeze {
        target: String,
    },
    Thaw {
        target: String,
    },
    Fault {
        venue: String,
        order: VenueFault,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KillSignal {
    #[default]
    Kill,
    Term,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum LabAnswer {
    Status(LabStatus),
    Links(LinksChanged),
    /// The processes acted on, as they stood right after.
    Processes {
        processes: Vec<ProcessStatus>,
    },
    Fault(VenueFaultAnswer),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabStatus {
    pub processes: Vec<ProcessStatus>,
    pub links: Vec<LinkStatus>,
    /// By name; a venue that does not answer has none.
    pub venues: BTreeMap<String, Option<VenueStatus>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStatus {
    pub name: String,
    pub role: String,
    pub region: Option<String>,
    pub state: ProcessState,
    pub pid: Option<i32>,
    /// Since the present start.
    pub up_ms: Option<u64>,
    pub starts: u64,
    /// How it last ended: `exit 8`, `signal 9`, or why it could not be started.
    pub last_end: Option<String>,
    pub addresses: Addresses,
    pub log: std::path::PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessState {
    Running,
    /// Stopped by SIGSTOP; everything it holds stays held.
    Frozen,
    /// Ended, and about to be started again.
    Restarting,
    /// Ended, and kept so.
    Down,
}
