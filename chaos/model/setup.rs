//! The clusters that models start from, and what is read off a machine in several of them.

use crate::cluster::{Cluster, NOW, entry};
use cryptorun_core::command::{Command, Found};
use cryptorun_core::config::{ClusterConfig, ClusterId, Limits, RegionConfig};
use cryptorun_core::machine::Machine;
use cryptorun_core::people::{Actor, Grant, OperatorId, Person, Role};
use cryptorun_core::record::Record;
use cryptorun_core::region::RegionName;
use cryptorun_core::scope::{Mode, PartitionWrites, ScopeId, ScopePolicy, Tier};
use cryptorun_core::time::{Millis, Timing};

pub fn warm() -> ScopeId {
    ScopeId::new(Tier::Warm, "global")
}

/// The regions, in the order in which models number them.
pub fn regions() -> [RegionName; 3] {
    ["a", "b", "c"].map(RegionName::from)
}

/// One scope in one region.
pub fn one_region(timing: Timing) -> ClusterConfig {
    let limits = Limits {
        report_fresh: timing.run_out(),
        regrant_window: Millis::ZERO, // Regrants are not limited: the model bounds them.
        ..Limits::default()
    };
    config(timing, limits, 1, Mode::Approve)
}

/// One scope over as many of the regions.
pub fn config(timing: Timing, limits: Limits, count: usize, mode: Mode) -> ClusterConfig {
    let members: Vec<RegionName> = regions().into_iter().take(count).collect();
    let region = |node: u64| RegionConfig {
        aliases: Vec::new(),
        node,
        raft: String::new(),
        api: String::new(),
    };
    let approver =
        Person { grants: vec![Grant { role: Role::Approver, tier: None, region: None }] };
    let policy = ScopePolicy {
        primary: members[0].clone(),
        members: members.clone(),
        mode,
        people: 2,
        partition_writes: PartitionWrites::Stop,
        residency: None,
    };
    ClusterConfig {
        version: 1,
        name: "model".to_owned(),
        timing,
        regions: members.iter().cloned().zip((1..).map(region)).collect(),
        people: ["ana", "ben"].map(|id| (OperatorId::from(id), approver.clone())).into(),
        scopes: [(warm(), policy)].into(),
        limits,
    }
}

pub fn founded(config: ClusterConfig) -> Cluster {
    let mut machine = Machine::default();
    let found = Command::Found(Found { id: ClusterId(1), config });
    machine.apply(1, &entry(NOW, &Actor::Node(1), &found));
    Cluster::new(&machine)
}

/// A restore as DESIGN §5 has it, over the records of a snapshot: a new cluster id and incarnation,
/// no sessions, no leases. Core has no such command; the quarantine is the model's.
pub fn restored(snapshot: &Cluster) -> Cluster {
    let mut machine = Machine::default();
    for key in snapshot.machine().keys() {
        let Some(record) = snapshot.machine().record(&key) else { continue };
        match record.to_record() {
            Record::Cluster(mut cluster) => {
                cluster.id = ClusterId(cluster.id.0 + 1);
                cluster.incarnation += 1;
                machine.load(Record::Cluster(cluster));
            }
            Record::Session(_) => {}
            other => machine.load(other),
        }
    }
    Cluster::new(&machine)
}

/// Each reign's token is above the one before, and none is above the highest reserved.
pub fn tokens_grow(machine: &Machine, scope: &ScopeId) -> bool {
    let scope = &machine.scopes()[scope];
    let grows = scope.history.windows(2).all(|pair| pair[0].token < pair[1].token);
    let below = scope.history.iter().all(|reign| reign.token <= scope.highest);
    grows && below
}
