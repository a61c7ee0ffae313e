//! Operating the cluster: looking at it, moving its leader, writing its state down.
//!
//! Next: `founding.rs`, `members.rs`, `backup.rs`, `nodes.rs`, `rules.rs`.

use super::nodes::STANDING_TTL;
use super::read::READER;
use super::{Api, ReadQuery, check, region_named};
use crate::caller::{Caller, Need};
use crate::forward::{self, Forwarded, Reply};
use crate::log::MemberView;
use crate::problem::ApiError;
use crate::views::{self, Seen};
use cryptorun_core::command::Outcome;
use cryptorun_core::config::ClusterConfig;
use cryptorun_core::people::Role;
use cryptorun_core::refusal::Refusal;
use cryptorun_core::region::RegionName;
use cryptorun_core::wire::{Accepted, ClusterStatus, Consistency, Member, TransferRequest};

impl Api {
    /// `GET /v1/cluster`.
    pub async fn cluster(
        &self,
        caller: &Caller,
        query: ReadQuery,
    ) -> Result<ClusterStatus, ApiError> {
        check(self, caller, READER)?;
        let mut seen = match self.seen(query).await {
            // Before founding there is no quorum to ask, and nothing that could be stale.
            Err(_) if self.look(|machine, _| machine.cluster().is_none()) => {
                self.seen(ReadQuery { consistency: Consistency::Stale, wait_index: None }).await?
            }
            other => other?,
        };
        let members = self.members_seen(&mut seen).await;
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

    /// The members with what only the leader knows of them: it is asked for it, unless the answer may
    /// be stale. Where it does not say, this node's own view stays.
    async fn members_seen(&self, seen: &mut Seen) -> Vec<MemberView> {
        let mut members = self.log().members();
        let leadership = *self.log().leadership().borrow();
        let Some(leader) = leadership.leader.filter(|_| !leadership.here) else { return members };
        if seen.consistency == Consistency::Stale {
            return members;
        }
        let asked = forward::ask(self.log(), leader, &Forwarded::Members, STANDING_TTL).await;
        let Ok(Reply::Members(progress)) = asked else { return members };
        for member in &mut members {
            if let Some(known) = progress.iter().find(|known| known.node == member.node) {
                (member.matched, member.answered) = (known.matched, known.answered);
            }
        }
        let answer = members.iter().filter(|m| m.voter && m.answered.is_some()).count();
        if answer > 0 {
            seen.voters.up = u32::try_from(answer).unwrap_or(u32::MAX);
        }
        members
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

    /// `POST /v1/cluster/snapshot`: on this node.
    pub async fn snapshot(&self, caller: &Caller) -> Result<Accepted, ApiError> {
        check(self, caller, Need::Role(Role::Admin))?;
        let written = self.log().snapshot().await;
        written.map_err(|error| ApiError::Conflict { why: error.to_string() })?;
        Ok(Accepted { index: *self.log().applied().borrow(), outcome: Outcome::Done })
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
