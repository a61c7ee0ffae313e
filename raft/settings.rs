//! What a node is told at its start, and what openraft makes of it.

use crate::error::StartError;
use crate::log_store::PAYLOAD_MAX;
use crate::probe::Probe;
use crate::state_machine::Blocking;
use crate::types::Member;
use cryptorun_core::position::Hash;
use cryptorun_core::time::Timing;
use cryptorun_platform::Platform;
use cryptorun_platform::segments::{Driver, Owner};
use openraft::{Config, SnapshotPolicy};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything about one node that is not handed in as a trait. Plain data.
#[derive(Clone)]
pub struct NodeSettings {
    /// Its number: of one life of one disk. A wiped node comes back under a new one.
    pub id: u64,
    /// Name of the cluster, as in certificates.
    pub cluster: String,
    /// Where it keeps its log, snapshots and audit bodies; relative to the platform's disk.
    pub dir: PathBuf,
    /// Timings of elections and leases.
    pub timing: Timing,
    /// Nodes known from configuration, this one too: who may speak before there is a membership.
    pub known: BTreeMap<u64, Member>,
    /// Entries between two snapshots.
    pub snapshot_every: u64,
    /// Entries kept behind a snapshot, so that a peer which was away briefly needs no snapshot.
    pub keep_entries: u64,
    /// Size of a log segment; `segments` chooses where none is given.
    pub segment_bytes: Option<u64>,
    /// Where file work runs.
    pub io: Io,
    /// Somebody who checks this node from outside.
    pub probe: Option<Arc<dyn Probe>>,
}

/// Where file work runs.
#[derive(Clone)]
pub enum Io {
    /// On threads of its own.
    Threads,
    /// On the runtime, each sync taking as long as this says: for simulations.
    Tasks(Arc<dyn Fn() -> Duration + Send + Sync>),
}

impl NodeSettings {
    /// With the defaults of production.
    pub fn new(
        id: u64,
        cluster: &str,
        dir: PathBuf,
        timing: Timing,
        known: BTreeMap<u64, Member>,
    ) -> Self {
        Self {
            id,
            cluster: cluster.to_owned(),
            dir,
            timing,
            known,
            snapshot_every: 10_000,
            keep_entries: 5_000,
            segment_bytes: None,
            io: Io::Threads,
            probe: None,
        }
    }

    pub(crate) fn driver(&self, platform: &Platform) -> Driver {
        match &self.io {
            Io::Threads => Driver::Thread,
            Io::Tasks(sync_delay) => {
                Driver::Task { spawn: platform.spawn.clone(), sync_delay: sync_delay.clone() }
            }
        }
    }

    pub(crate) fn blocking(&self) -> Blocking {
        match self.io {
            Io::Threads => Blocking::Threads,
            Io::Tasks(_) => Blocking::Inline,
        }
    }

    /// Whose disk it is. The name stands for the cluster: its id is not known to an empty disk.
    pub fn owner(&self) -> Owner {
        let hash = Hash::of(self.cluster.as_bytes()).0;
        let mut cluster = [0; 8];
        cluster.copy_from_slice(&hash[..8]);
        Owner::new(u64::from_be_bytes(cluster), self.id)
    }

    /// `research/openraft.md` §1.6 with this profile's timings.
    pub(crate) fn openraft(&self) -> Result<Arc<Config>, StartError> {
        let timing = &self.timing;
        let (heartbeat, max) = (timing.heartbeat.0, timing.election_max.0);
        Config {
            cluster_name: self.cluster.clone(),
            heartbeat_interval: heartbeat,
            election_timeout_min: timing.election_min.0,
            election_timeout_max: max,
            // A returning node must not depose a leader that works.
            enable_pre_vote: Some(true),
            // A restarted leader asks for votes like everybody: LogTime needs a new anchor.
            enable_leader_restore: Some(false),
            // Not at once: `tasks::stand_for_election` turns it on.
            enable_elect: false,
            // A one-way link must not keep voters loyal to a leader without a quorum.
            quorum_loss_probe_interval: Some(2 * max),
            // openraft's 200 ms would never let a snapshot through at 150 ms of round trip.
            install_snapshot_timeout: timing.snapshot_within().0,
            max_payload_entries: PAYLOAD_MAX,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            max_in_snapshot_log_to_keep: self.keep_entries,
            replication_lag_threshold: 2 * self.snapshot_every,
            purge_batch_size: (self.snapshot_every / 8).clamp(1, 256),
            backoff: backoff(heartbeat),
            ..Config::default()
        }
        .validate()
        .map(Arc::new)
        .map_err(|error| StartError::Timing(error.to_string()))
    }
}

/// How long replication to a peer that cannot be reached pauses: 200 ms to 2 s for `wan`, scaled by
/// the heartbeat so that a healed link is used within about four of them.
fn backoff(heartbeat_ms: u64) -> String {
    [4, 8, 16, 40].map(|tenths| format!("{}ms", (heartbeat_ms * tenths / 10).max(10))).join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptorun_core::time::Profile;

    #[test]
    fn every_profile_gives_a_configuration_that_openraft_takes() {
        for profile in [Profile::Wan, Profile::Near, Profile::Local] {
            let timing = Timing::of(profile);
            let settings = NodeSettings::new(1, "c", PathBuf::from("n"), timing, BTreeMap::new());
            let config = settings.openraft().expect("is valid");
            assert_eq!(config.heartbeat_interval, timing.heartbeat.0);
            assert!(config.install_snapshot_timeout >= 100 * timing.rtt_max.0);
            assert_eq!(config.enable_pre_vote, Some(true));
            assert_eq!(config.enable_leader_restore, Some(false));
        }
    }
}
