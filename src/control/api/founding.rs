//! Founding the cluster: asked of any one node, once.
//!
//! It waits until every node that the configuration names answers with an empty disk, starts Raft with
//! them as voters, and makes `Found` the first command. A founding that was cut off in the middle is
//! finished by asking again.

use super::Api;
use crate::caller::Caller;
use crate::forward::{self, Forwarded, Hello, Reply, authorize};
use crate::log::MemberAddress;
use crate::problem::ApiError;
use cryptorun_core::command::{Command, Found, Outcome, SetClusterVersion};
use cryptorun_core::config::{CLUSTER_VERSION_MIN, ClusterConfig, ClusterId};
use cryptorun_core::refusal::Refusal;
use cryptorun_core::restore::Seat;
use cryptorun_core::wire::{Accepted, InitRequest, Versions};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long founding waits for the other nodes to answer.
pub const FOUND_PATIENCE: Duration = Duration::from_secs(60);
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(500);
const HELLO_TTL: Duration = Duration::from_secs(2);
/// The first election and the first commit.
const FIRST_COMMIT: Duration = Duration::from_secs(20);

/// The nodes that will vote, by number.
pub(super) struct Gathered {
    pub voters: BTreeMap<u64, MemberAddress>,
    /// An earlier attempt has started Raft already.
    pub started: bool,
    /// The highest cluster version that all of them take part in.
    pub version: u32,
}

impl Api {
    /// `POST /v1/cluster/init`: once, to any node.
    pub async fn init(&self, caller: &Caller, request: InitRequest) -> Result<Accepted, ApiError> {
        let config = request.config;
        if let Some(id) = self.look(|machine, _| machine.cluster().map(|cluster| cluster.id)) {
            return Err(Refusal::AlreadyFounded { id }.into());
        }
        let command = Command::Found(Found { id: self.draw_id(), config: config.clone() });
        self.look(|machine, _| authorize(machine, &caller.actor, &command))?;
        self.fits(&config, request.expect)?;
        let gathered = self.gather(&seats(&config)).await?;
        self.start(&gathered).await?;
        let (index, outcome) = self.first(caller, command).await?;
        tracing::info!(name = config.name, index, "the cluster is founded");
        if gathered.version > CLUSTER_VERSION_MIN {
            // Nothing is older than it: there is no upgrade to finish.
            let version = SetClusterVersion { version: gathered.version };
            self.first(caller, Command::SetClusterVersion(version)).await?;
        }
        Ok(Accepted { index, outcome })
    }

    pub(super) fn draw_id(&self) -> ClusterId {
        let random = &self.parts().platform.random;
        ClusterId(u128::from(random.next_u64()) << 64 | u128::from(random.next_u64()))
    }

    /// Starts Raft with these voters, unless it has been.
    pub(super) async fn start(&self, gathered: &Gathered) -> Result<(), ApiError> {
        if gathered.started {
            return Ok(());
        }
        let started = self.log().initialize(gathered.voters.clone()).await;
        started.map_err(|error| ApiError::Conflict { why: error.to_string() })
    }

    /// A cluster's first commands wait for its first leader.
    pub(super) async fn first(
        &self,
        caller: &Caller,
        command: Command,
    ) -> Result<(u64, Outcome), ApiError> {
        let first = async {
            loop {
                match self.submit(caller, None, command.clone()).await {
                    Err(ApiError::NoLeader | ApiError::Elsewhere { .. }) => {
                        tokio::time::sleep(ASK_AGAIN).await;
                    }
                    other => return other,
                }
            }
        };
        tokio::time::timeout(FIRST_COMMIT, first).await.map_err(|_| ApiError::NoLeader)?
    }

    /// Whether this node can found what the configuration describes.
    fn fits(&self, config: &ClusterConfig, expect: u32) -> Result<(), ApiError> {
        let named = config.regions.len();
        if usize::try_from(expect) != Ok(named) {
            return Err(ApiError::bad(format!(
                "expect {expect}: the configuration names {named} nodes"
            )));
        }
        let node = self.log().node();
        match config.regions.get(&self.parts().region) {
            Some(region) if region.node == node => Ok(()),
            Some(region) => Err(ApiError::bad(format!(
                "the configuration says that node {} stands in {}, and this is node {node}",
                region.node,
                self.parts().region
            ))),
            None => Err(ApiError::bad(format!(
                "the configuration does not name this node's region, {}",
                self.parts().region
            ))),
        }
    }

    /// Waits for every node's hello.
    pub(super) async fn gather(&self, seats: &[Seat]) -> Result<Gathered, ApiError> {
        let mut gathered = Gathered {
            voters: BTreeMap::new(),
            started: !self.log().is_empty(),
            version: Versions::OWN.max,
        };
        let asking = async {
            for seat in seats {
                let hello = loop {
                    match self.hello_of(seat.node).await {
                        Some(hello) => break hello,
                        None => tokio::time::sleep(ASK_AGAIN).await,
                    }
                };
                if let Some(cluster) = hello.cluster {
                    return Err(Refusal::AlreadyFounded { id: cluster }.into());
                }
                if hello.region != seat.region || hello.node != seat.node {
                    return Err(ApiError::bad(format!(
                        "{} is answered by node {} of {}, not by node {}",
                        seat.region, hello.node, hello.region, seat.node
                    )));
                }
                gathered.started |= !hello.empty;
                gathered.version = gathered.version.min(hello.versions.max);
                gathered.voters.insert(seat.node, address(seat, &hello));
            }
            Ok::<(), ApiError>(())
        };
        match tokio::time::timeout(FOUND_PATIENCE, asking).await {
            Ok(done) => done?,
            Err(_) => {
                let missing: Vec<String> = seats
                    .iter()
                    .filter(|seat| !gathered.voters.contains_key(&seat.node))
                    .map(|seat| format!("node {} in {}", seat.node, seat.region))
                    .collect();
                return Err(ApiError::NotReady {
                    why: format!(
                        "after {} s these did not answer with empty disks: {}; nothing was founded",
                        FOUND_PATIENCE.as_secs(),
                        missing.join(", ")
                    ),
                });
            }
        }
        Ok(gathered)
    }

    pub(super) async fn hello_of(&self, node: u64) -> Option<Hello> {
        if node == self.log().node() {
            return Some(self.hello());
        }
        match forward::ask(self.log(), node, &Forwarded::Hello, HELLO_TTL).await {
            Ok(Reply::Hello(hello)) => Some(hello),
            _ => None,
        }
    }

    /// What this node says of itself.
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            node: self.log().node(),
            region: self.parts().region.clone(),
            name: self.parts().name.clone(),
            empty: self.log().is_empty(),
            cluster: self.look(|machine, _| machine.cluster().map(|cluster| cluster.id)),
            disk: self.log().disk(),
            versions: Versions::OWN,
        }
    }
}

/// Where the configuration has its nodes.
pub(super) fn seats(config: &ClusterConfig) -> Vec<Seat> {
    let regions = config.regions.iter();
    regions
        .map(|(region, at)| Seat {
            region: region.clone(),
            node: at.node,
            raft: at.raft.clone(),
            api: at.api.clone(),
        })
        .collect()
}

pub(super) fn address(seat: &Seat, hello: &Hello) -> MemberAddress {
    MemberAddress { name: hello.name.clone(), disk: hello.disk, ..MemberAddress::said(seat) }
}
