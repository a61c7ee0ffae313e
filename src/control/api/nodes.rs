//! What nodes say of themselves, and whether their states agree.

use super::read::READER;
use super::{Api, check};
use crate::caller::Caller;
use crate::forward::{self, Forwarded, Reply};
use crate::problem::ApiError;
use cryptorun_core::position::Hash;
use cryptorun_core::region::RegionName;
use cryptorun_core::wire::{NodeSeen, NodeStanding, Versions};
use futures_util::future::join_all;
use std::time::Duration;

/// Three round trips across an ocean.
pub(super) const STANDING_TTL: Duration = Duration::from_millis(1500);

impl Api {
    /// `GET /v1/cluster/node`: this node alone, with or without a quorum.
    pub async fn node_standing(&self, caller: &Caller) -> Result<NodeStanding, ApiError> {
        check(self, caller, READER)?;
        Ok(self.standing())
    }

    pub(crate) fn standing(&self) -> NodeStanding {
        let (log, parts) = (self.log(), self.parts());
        let extent = log.extent();
        NodeStanding {
            node: log.node(),
            region: parts.region.clone(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            versions: Versions::OWN,
            disk: log.disk().map(|disk| format!("{disk:016x}")),
            cluster: self.look(|machine, _| machine.cluster().map(|cluster| cluster.id)),
            empty: log.is_empty(),
            leads: log.leadership().borrow().here,
            term: extent.term,
            applied: extent.applied,
            committed: extent.committed,
            last: extent.last.1,
            last_term: extent.last.0,
            quorum_lost: log.quorum_lost_for(),
            no_space: log.no_space(),
            wall: parts.platform.clock.wall(),
        }
    }

    /// `GET /v1/cluster/nodes`: every member asked, and their states compared.
    pub async fn nodes(&self, caller: &Caller) -> Result<Vec<NodeSeen>, ApiError> {
        check(self, caller, READER)?;
        let members = self.log().members();
        let asked = members.iter().map(|member| self.standing_of(member.node, None));
        let answers = join_all(asked).await;
        let level = answers.iter().flatten().map(|(standing, _)| standing.applied).min();
        let compared = level.and_then(|index| Some((index, self.log().state_hash_at(index)?)));
        let mut seen = Vec::new();
        for (member, answer) in members.iter().zip(answers) {
            let (standing, cause) = match answer {
                Ok((standing, _)) => (Some(standing), None),
                Err(why) => (None, Some(why)),
            };
            let agrees = match (&standing, compared) {
                (Some(_), Some((index, own))) => self.agrees(member.node, index, own).await,
                _ => None,
            };
            seen.push(NodeSeen {
                node: member.node,
                region: member.at.region.clone(),
                standing,
                cause,
                agrees,
                compared: compared.map(|(index, _)| index),
            });
        }
        Ok(seen)
    }

    /// Whether a node's state at an index is this one; none where it does not remember.
    pub(crate) async fn agrees(&self, node: u64, index: u64, own: Hash) -> Option<bool> {
        let (_, hash) = self.standing_of(node, Some(index)).await.ok()?;
        hash.map(|hash| hash == own)
    }

    async fn standing_of(
        &self,
        node: u64,
        hash_at: Option<u64>,
    ) -> Result<(NodeStanding, Option<Hash>), String> {
        if node == self.log().node() {
            let hash = hash_at.and_then(|index| self.log().state_hash_at(index));
            return Ok((self.standing(), hash));
        }
        match forward::ask(self.log(), node, &Forwarded::Standing { hash_at }, STANDING_TTL).await {
            Ok(Reply::Standing { standing, hash }) => Ok((*standing, hash)),
            Ok(Reply::Failed(failed)) => Err(format!("{failed:?}")),
            Ok(_) => Err("it does not say".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Members whose program does not take part in a cluster version, with what it does take part in.
    pub(crate) async fn lacking(&self, version: u32) -> Vec<(u64, RegionName, Option<Versions>)> {
        let members = self.log().members();
        let asked = members.iter().map(|member| self.hello_of(member.node));
        let hellos = join_all(asked).await;
        let versions = hellos.into_iter().map(|hello| hello.map(|hello| hello.versions));
        members
            .into_iter()
            .zip(versions)
            .filter(|(_, versions)| versions.is_none_or(|v| !(v.min..=v.max).contains(&version)))
            .map(|(member, versions)| (member.node, member.at.region, versions))
            .collect()
    }
}
