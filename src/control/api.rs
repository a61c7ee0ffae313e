//! The operations of the admin API, free of transport: HTTP calls them, and so does the simulator.
//!
//! Each takes a [`Caller`] whose certificate was verified, looks up what the operation needs, and
//! either answers from the machine or puts a command into the log. What it answers has been applied
//! by a quorum; an unknown outcome is said to be unknown.
//!
//! Deliberately absent: HTTP, TLS, JSON, and any state that a restart could lose.

mod audit;
mod backup;
mod certs;
mod cluster;
mod founding;
mod members;
mod nodes;
mod past;
mod promotions;
mod read;
mod rules;
mod sessions;
mod submit;

pub use audit::AuditQuery;
pub use founding::FOUND_PATIENCE;
pub use read::ReadQuery;
pub(crate) use read::Sight;
pub(crate) use rules::can_approve as can_approve_rule;
pub use submit::Submitted;

use crate::caller::Caller;
use crate::door::Door;
use crate::history::History;
use crate::log::{Log, look};
use crate::neighbours::Neighbours;
use crate::problem::ApiError;
use crate::views::Decided;
use crate::watch::LeaseWatch;
use cryptorun_core::machine::Machine;
use cryptorun_core::path::HEARD_WITHIN;
use cryptorun_core::region::{RegionName, resolve};
use cryptorun_core::scope::{ScopeId, Tier};
use cryptorun_core::time::Profile;
use cryptorun_platform::Platform;
use cryptorun_platform::clock::BootTime;
use cryptorun_platform::metrics::Metrics;
use cryptorun_platform::tls::TlsStore;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the operations work with. Cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    parts: Parts,
    decided: Decided,
    /// When other nodes' probes last came in, by number.
    heard: Mutex<BTreeMap<u64, BootTime>>,
    door: Door,
}

/// See [`Api::new`]. Plain data.
pub struct Parts {
    /// The replicated log.
    pub log: Arc<dyn Log>,
    /// Clock, randomness, tasks, disk.
    pub platform: Platform,
    /// This node's region.
    pub region: RegionName,
    /// The id in this node's certificate.
    pub name: String,
    /// The timings its Raft runs on.
    pub profile: Profile,
    /// The ways to the other nodes.
    pub neighbours: Arc<dyn Neighbours>,
    /// What this node presents and trusts; none where nothing is encrypted.
    pub tls: Option<Arc<TlsStore>>,
    /// The other nodes' admin APIs as clients reach them, by number.
    pub peers: BTreeMap<u64, PeerAddress>,
    /// Changes of leases, for watchers.
    pub leases: LeaseWatch,
    /// Recorded reports, for simulations.
    pub history: Arc<History>,
    /// Counters.
    pub metrics: Metrics,
}

/// How another node is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Its region.
    pub region: RegionName,
    /// Its admin API, `host:port`.
    pub api: String,
}

impl Api {
    /// Builds the operations.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            decided: Decided::default(),
            heard: Mutex::default(),
            door: Door::default(),
        }))
    }

    /// The log underneath.
    pub fn log(&self) -> &dyn Log {
        &*self.0.parts.log
    }

    /// This node's region.
    pub fn region(&self) -> &RegionName {
        &self.0.parts.region
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    pub(crate) fn decided(&self) -> &Decided {
        &self.0.decided
    }

    pub(crate) fn door(&self) -> &Door {
        &self.0.door
    }

    /// Another node's probe came in.
    pub(crate) fn hear(&self, node: u64) {
        let now = self.0.parts.platform.clock.boot();
        self.heard().insert(node, now);
    }

    /// Nodes whose probes came in lately.
    pub(crate) fn hears(&self) -> Vec<u64> {
        let now = self.0.parts.platform.clock.boot();
        let within = HEARD_WITHIN.to_duration();
        self.heard().iter().filter(|(_, at)| now - **at <= within).map(|(node, _)| *node).collect()
    }

    /// When other nodes' probes last came in, by number.
    pub(crate) fn heard(&self) -> MutexGuard<'_, BTreeMap<u64, BootTime>> {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the machine and its index.
    pub(crate) fn look<R>(&self, with: impl FnOnce(&Machine, u64) -> R) -> R {
        look(&*self.0.parts.log, with)
    }

    /// Where a node's admin API is, as far as this node knows.
    pub(crate) fn api_of(&self, node: u64) -> Option<String> {
        self.0.parts.peers.get(&node).map(|peer| peer.api.clone()).or_else(|| {
            self.look(|machine, _| {
                let config = &machine.cluster()?.config;
                config.regions.values().find(|r| r.node == node).map(|r| r.api.clone())
            })
        })
    }

    /// Completes "elsewhere" with the leader's address.
    pub(crate) fn elsewhere(&self, node: u64) -> ApiError {
        ApiError::Elsewhere { node, api: self.api_of(node) }
    }

    /// For operations whose right is verified where it counts (DESIGN §8).
    pub(crate) fn leader_only(&self) -> Result<(), ApiError> {
        let leadership = *self.0.parts.log.leadership().borrow();
        match leadership.leader {
            _ if leadership.here => Ok(()),
            Some(leader) if leader != self.0.parts.log.node() => Err(self.elsewhere(leader)),
            _ => Err(ApiError::NoLeader),
        }
    }
}

/// A region by name or alias, or the error that lists the known ones.
pub(crate) fn region_named(machine: &Machine, typed: &str) -> Result<RegionName, ApiError> {
    let cluster = machine.cluster().ok_or_else(ApiError::knows_of_none)?;
    resolve(typed, &cluster.config.names()).map_err(ApiError::bad)
}

/// A scope by tier and group, or the error that lists the known ones.
pub(crate) fn scope_named(machine: &Machine, tier: Tier, group: &str) -> Result<ScopeId, ApiError> {
    let id = ScopeId::new(tier, group);
    if machine.scopes().contains_key(&id) {
        return Ok(id);
    }
    machine.cluster().ok_or_else(ApiError::knows_of_none)?;
    let known: Vec<String> = machine.scopes().keys().map(ToString::to_string).collect();
    Err(cryptorun_core::refusal::Refusal::NoScope { scope: id, known: known.join(", ") }.into())
}

/// Checks a caller against the local machine.
pub(crate) fn check(api: &Api, caller: &Caller, need: crate::caller::Need) -> Result<(), ApiError> {
    api.look(|machine, _| caller.check(machine, need, None, None))
}
