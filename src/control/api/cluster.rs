//! Operating the cluster: founding it, looking at it, moving its leader, adding members.
//!
//! Founding is asked of any one node, once. It waits until every node that the configuration names
//! answers with an empty disk, starts Raft with them as voters, and makes `Found` the first command.
//! A founding that was cut off in the middle is finished by asking again.

use super::read::READER;
use super::{Api, ReadQuery, check, region_named};
use crate::caller::{Caller, Need};
use crate::forward::{self, Forwarded, Hello, Reply, authorize};
use crate::log::{MemberAddress, MemberView};
use crate::problem::ApiError;
use crate::views;
use cryptorun_core::command::{Command, Found, Outcome};
use cryptorun_core::config::{ClusterConfig, ClusterId};
use cryptorun_core::people::Role;
use cryptorun_core::refusal::Refusal;
use cryptorun_core::region::RegionName;
use cryptorun_core::wire::{
    Accepted, AddMemberRequest, ClusterStatus, InitRequest, Member, TransferRequest,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long founding waits for the other nodes to answer.
pub const FOUND_PATIENCE: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_millis(500);
const HELLO_TTL: Duration = Duration::from_secs(2);
/// The first election and the first commit.
const FIRST_COMMIT: Duration = Duration::from_secs(20);
/// How long a new member may take to catch up before it votes.
const CATCH_UP: Duration = Duration::from_secs(30);

impl Api {
    /// `GET /v1/cluster`.
    pub async fn cluster(
        &self,
        caller: &Caller,
        query: ReadQuery,
    ) -> Result<ClusterStatus, ApiError> {
        check(self, caller, READER)?;
        let seen = match self.seen(query).await {
            // Before founding there is no quorum to ask, and nothing that could be stale.
            Err(_) if self.look(|machine, _| machine.cluster().is_none()) => {
                let stale = cryptorun_core::wire::Consistency::Stale;
                self.seen(ReadQuery { consistency: stale, wait_index: None }).await?
            }
            other => other?,
        };
        let members = self.log().members();
        let leader = self.log().leadership().borrow().leader;
        let (hash_index, state_hash) = self.log().state_hash();
        Ok(self.look(|machine, index| {
            let cluster = machine.cluster();
            let mut at = views::read_at(machine, index, &seen);
            at.index = hash_index;
            ClusterStatus {
                at,
                id: cluster.map(|c| c.id),
                version: cluster.map_or(0, |c| c.version),
                incarnation: cluster.map_or(0, |c| c.incarnation),
                members: members
                    .iter()
                    .map(|m| member(m, leader, cluster.map(|c| &c.config)))
                    .collect(),
                timing: cluster.map(|c| c.config.timing),
                config_version: cluster.map_or(0, |c| c.config.version),
                state_hash,
            }
        }))
    }

    /// `POST /v1/cluster/init`: once, to any node.
    pub async fn init(&self, caller: &Caller, request: InitRequest) -> Result<Accepted, ApiError> {
        let config = request.config;
        if let Some(id) = self.look(|machine, _| machine.cluster().map(|cluster| cluster.id)) {
            return Err(Refusal::AlreadyFounded { id }.into());
        }
        let id = ClusterId(
            u128::from(self.parts().platform.random.next_u64()) << 64
                | u128::from(self.parts().platform.random.next_u64()),
        );
        let command = Command::Found(Found { id, config: config.clone() });
        self.look(|machine, _| authorize(machine, &caller.actor, &command))?;
        self.fits(&config, request.expect)?;
        let voters = self.gather(&config).await?;
        if let Some(voters) = voters {
            let started = self.log().initialize(voters).await;
            started.map_err(|error| ApiError::Conflict { why: error.to_string() })?;
        }
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
        let (index, outcome): (u64, Outcome) =
            tokio::time::timeout(FIRST_COMMIT, first).await.map_err(|_| ApiError::NoLeader)??;
        tracing::info!(cluster = %id, name = config.name, index, "the cluster is founded");
        Ok(Accepted { index, outcome })
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

    /// Waits for every node's hello. None when an earlier founding has started Raft already.
    async fn gather(
        &self,
        config: &ClusterConfig,
    ) -> Result<Option<BTreeMap<u64, MemberAddress>>, ApiError> {
        let mut voters = BTreeMap::new();
        let mut started = !self.log().is_empty();
        let asking = async {
            for (region, at) in &config.regions {
                let hello = loop {
                    match self.hello_of(at.node).await {
                        Some(hello) => break hello,
                        None => tokio::time::sleep(ASK_AGAIN).await,
                    }
                };
                if let Some(cluster) = hello.cluster {
                    return Err(Refusal::AlreadyFounded { id: cluster }.into());
                }
                if hello.region != *region || hello.node != at.node {
                    return Err(ApiError::bad(format!(
                        "{region} is answered by node {} of {}, not by node {}",
                        hello.node, hello.region, at.node
                    )));
                }
                started |= !hello.empty;
                voters.insert(at.node, address(region, &hello.name, &at.raft, &at.api));
            }
            Ok::<(), ApiError>(())
        };
        let answered = tokio::time::timeout(FOUND_PATIENCE, asking).await;
        match answered {
            Ok(done) => done?,
            Err(_) => {
                let missing: Vec<String> = config
                    .regions
                    .iter()
                    .filter(|(_, region)| !voters.contains_key(&region.node))
                    .map(|(name, region)| format!("node {} in {name}", region.node))
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
        Ok((!started).then_some(voters))
    }

    async fn hello_of(&self, node: u64) -> Option<Hello> {
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
        }
    }

    /// `POST /v1/cluster/transfer-leader`: at the leader only.
    pub async fn transfer_leader(
        &self,
        caller: &Caller,
        request: TransferRequest,
    ) -> Result<Accepted, ApiError> {
        check(self, caller, Need::Role(Role::Admin))?;
        self.leader_only()?;
        let (region, node) = self.look(|machine, _| {
            let region = region_named(machine, &request.to)?;
            let node =
                machine.cluster().and_then(|c| c.config.regions.get(&region)).map(|r| r.node);
            Ok::<_, ApiError>((region, node.ok_or(Refusal::NotFounded)?))
        })?;
        let moved = self.log().transfer_leader(node).await;
        moved.map_err(|error| ApiError::Conflict { why: error.to_string() })?;
        tracing::info!(actor = %caller.actor, to = %region, "leadership was handed over");
        Ok(Accepted { index: *self.log().applied().borrow(), outcome: Outcome::Done })
    }

    /// `POST /v1/cluster/members`: at the leader only. Follows first, votes once it has caught up.
    pub async fn add_member(
        &self,
        caller: &Caller,
        request: AddMemberRequest,
    ) -> Result<Accepted, ApiError> {
        check(self, caller, Need::Role(Role::Admin))?;
        self.leader_only()?;
        let region = self.look(|machine, _| region_named(machine, &request.region))?;
        let hello = self.hello_of(request.node).await.ok_or_else(|| ApiError::NotReady {
            why: format!("node {} does not answer; is it in this node's peers?", request.node),
        })?;
        if !hello.empty || hello.region != region {
            return Err(ApiError::Conflict {
                why: format!(
                    "node {} of {} has {} disk; a new member comes with an empty one, in {region}",
                    hello.node,
                    hello.region,
                    if hello.empty { "an empty" } else { "a used" }
                ),
            });
        }
        let conflict =
            |error: crate::log::ChangeError| ApiError::Conflict { why: error.to_string() };
        let at = address(&region, &hello.name, &request.raft, &request.api);
        self.log().add_learner(request.node, at).await.map_err(conflict)?;
        let target = *self.log().applied().borrow();
        let caught_up = async {
            while self.matched(request.node).is_none_or(|at| at < target) {
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        if tokio::time::timeout(CATCH_UP, caught_up).await.is_err() {
            return Err(ApiError::NotReady {
                why: format!(
                    "node {} follows and has not caught up; ask again to give it its vote",
                    request.node
                ),
            });
        }
        self.log().promote(request.node).await.map_err(conflict)?;
        tracing::info!(actor = %caller.actor, node = request.node, %region, "a member was added");
        Ok(Accepted { index: *self.log().applied().borrow(), outcome: Outcome::Done })
    }

    fn matched(&self, node: u64) -> Option<u64> {
        self.log().members().iter().find(|m| m.node == node).and_then(|m| m.matched)
    }

    /// Where this host's file and the replicated configuration disagree.
    pub fn drift(&self) -> Vec<String> {
        let (node, region) = (self.log().node(), &self.parts().region);
        self.look(|machine, _| {
            let Some(cluster) = machine.cluster() else { return Vec::new() };
            let config = &cluster.config;
            let mut lines = Vec::new();
            if config.region_of(node) != Some(region) {
                lines.push(format!(
                    "this file says node {node} in {region}; the cluster has node {node} in {}",
                    config.region_of(node).map_or("no region", |r| r.as_str())
                ));
            }
            let (own, agreed) = (self.parts().profile, config.timing.profile);
            if own != agreed {
                lines.push(format!(
                    "this file says profile {own:?}, the cluster has {agreed:?}: elections here do \
                     not fit its leases"
                ));
            }
            for (peer, at) in &self.parts().peers {
                if config.region_of(*peer) != Some(&at.region) {
                    lines.push(format!("this file says node {peer} in {}", at.region));
                }
            }
            for (name, known) in &config.regions {
                if known.node != node && !self.parts().peers.contains_key(&known.node) {
                    lines.push(format!("this file has no peer for node {} in {name}", known.node));
                }
            }
            lines
        })
    }
}

fn address(region: &RegionName, name: &str, raft: &str, api: &str) -> MemberAddress {
    MemberAddress {
        region: region.clone(),
        name: name.to_owned(),
        raft: raft.to_owned(),
        api: api.to_owned(),
    }
}

fn member(view: &MemberView, leader: Option<u64>, config: Option<&ClusterConfig>) -> Member {
    Member {
        node: view.node,
        region: config
            .and_then(|config| config.region_of(view.node))
            .cloned()
            .unwrap_or_else(|| RegionName::from("unknown")),
        voter: view.voter,
        leader: leader == Some(view.node),
        matched: view.matched,
        answered: view.answered,
    }
}
