//! What was seen: workers' reports inside renewals, regions' reports through the log.
//!
//! Facts only, no verdicts. [`crate::diagnose`] makes sense of them.

use crate::offset::Offset;
use crate::path::Path;
use crate::position::Position;
use crate::region::{Link, RegionName};
use crate::scope::{Role, ScopeId};
use crate::time::{LogTime, Millis, WallTime};
use crate::token::Token;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a worker says of itself with each renewal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerReport {
    /// Each scope it has a sink of.
    pub scopes: BTreeMap<ScopeId, ScopeReport>,
    /// Its disk.
    pub disk: DiskState,
    /// Offset of its wall clock against the node it renews with, in milliseconds; positive is ahead.
    pub clock_offset_ms: i64,
    /// How exactly that is known, in milliseconds.
    pub clock_within_ms: u64,
    /// Bytes waiting in its durable queue.
    pub queue_bytes: u64,
    /// Fsyncs of that queue since start; a worker that makes progress counts on.
    pub queue_syncs: u64,
    /// Its venue feeds.
    pub feeds: BTreeMap<String, FeedState>,
    /// When data of each region's primary last arrived, as milliseconds before this report.
    pub arrived_ago: BTreeMap<RegionName, Millis>,
    /// How other regions' workers answer, over the data path.
    pub reach: BTreeMap<RegionName, Path>,
    /// Writes turned away by its sinks since start, by scope.
    pub fenced: BTreeMap<ScopeId, u64>,
}

/// One sink of one scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScopeReport {
    /// What the worker is for it.
    pub role: Role,
    /// The directive it obeys: the log index that set it.
    pub rev: u64,
    /// The token it writes or follows under.
    pub token: Token,
    /// The highest token its sink has stored.
    pub highest: Token,
    /// The end of its chain.
    pub end: Position,
    /// Rows in the chain up to there.
    pub rows: u64,
    /// Seal time of the last record, by the wall clock of who sealed it.
    pub sealed_at: WallTime,
    /// Everything at or below it has been taken in.
    pub watermark: WallTime,
    /// Newest input it knows of; ahead of `watermark` means work undone.
    pub input: WallTime,
    /// Answer to a seal: the sink refuses below `token`.
    pub sealed: Option<Sealed>,
    /// The barrier it stopped behind, once it has.
    pub barrier: Option<Position>,
    /// Records cut off and kept.
    pub forks: Vec<Fork>,
    /// Checks of its data, by name.
    pub checks: BTreeMap<String, crate::decide::Verdict>,
    /// First visible write under `token`, by its wall clock, once there was one.
    pub first_visible: Option<WallTime>,
    /// Last visible write, by its wall clock.
    pub last_visible: Option<WallTime>,
}

/// A sealed sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Sealed {
    /// It refuses below this.
    pub token: Token,
    /// Its last record.
    pub end: Position,
}

/// Records of an earlier token beyond where the next reign starts: kept, counted, never served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Fork {
    /// Its name: `warm-global-0.3-us-west-2`.
    pub name: String,
    /// The token they were written under.
    pub token: Token,
    /// First record's number.
    pub from_seq: u64,
    /// Last record's number.
    pub to_seq: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes kept.
    pub bytes: u64,
}

/// A disk's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DiskState {
    /// Taking writes.
    #[default]
    Ok,
    /// Slow: syncs take longer than a second.
    Slow,
    /// Full: refusing, keeping what it has.
    Full,
    /// Failed: the process is about to stop.
    Failed,
}

/// One venue feed at one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FeedState {
    /// Data frames arrive and verify.
    pub live: bool,
    /// Frames since start.
    pub frames: u64,
    /// Trades since start.
    pub trades: u64,
    /// Gaps seen since start.
    pub gaps: u64,
    /// Gaps open now.
    pub gaps_open: u32,
    /// Checksums that failed since start.
    pub bad_checksums: u64,
    /// Frames that did not decode since start.
    pub quarantined: u64,
    /// How long ago the last data frame came.
    pub silent: Millis,
}

/// What a region's node sees, through the log, at most one a second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegionReport {
    /// Its wall clock when it wrote this.
    pub wall: WallTime,
    /// Control path: its node to the other regions' nodes.
    pub control: BTreeMap<RegionName, Path>,
    /// Data path: its workers to the other regions' workers.
    pub data: BTreeMap<RegionName, Path>,
    /// How long ago data of a region last arrived at its workers.
    pub arrived_ago: BTreeMap<RegionName, Millis>,
    /// Its venue feeds, the best of its workers.
    pub feeds: BTreeMap<String, FeedState>,
    /// What its API answered over the last 60 s.
    pub answers: Answers,
    /// Its disk.
    pub disk: DiskState,
    /// Whom each other region's node hears, as it said with its last answer: what the far end of a link
    /// knows and cannot report itself.
    pub hears: BTreeMap<RegionName, BTreeSet<RegionName>>,
    /// The wall clocks of the other regions' nodes minus its own.
    pub offsets: BTreeMap<RegionName, Offset>,
    /// The longest time of the last 60 s in which its node stood still: what it then says of others
    /// it did not see.
    pub stood_still: Millis,
    /// How much of the last 60 s its node stood still in all.
    pub held_up: Millis,
}

/// Requests answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Answers {
    /// All of them.
    pub all: u64,
    /// Those that were an error of the server's.
    pub errors: u64,
}

impl Answers {
    /// Errors among them, in permille.
    pub fn errors_permille(self) -> u32 {
        u32::try_from(self.errors.saturating_mul(1000) / self.all.max(1)).unwrap_or(1000)
    }
}

/// A region as the machine keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionRecord {
    /// Its name.
    pub name: RegionName,
    /// How it stands toward its peers.
    pub link: Link,
    /// Its last committed report.
    pub report: RegionReport,
    /// When that was committed; none before the first.
    pub reported_at: Option<LogTime>,
    /// What has been wrong in it, and since when, in every report since.
    pub troubles: BTreeMap<Trouble, LogTime>,
}

/// What is wrong in a region, as its reports and its neighbours' have it. [`crate::diagnose`] says
/// when each is so, and names a class after it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// Its disk is slow, full or failed.
    Disk,
    /// Too many of its answers are errors.
    Errors,
    /// Its wall clock is off.
    Clock,
    /// It answers everybody late, or stands still.
    Load,
    /// It hears nothing that counts from a venue.
    Venue(String),
}
