//! Where control nodes stand, and which of them shall lead.

use super::{Machine, Turn};
use crate::command::{Answer, LeaveSeat, Outcome, PreferLeader};
use crate::people::Role;
use crate::record::RecordKey;
use crate::refusal::Refusal;
use crate::region::RegionName;
use crate::restore::Seat;
use std::collections::BTreeSet;

impl Machine {
    /// Which regions' nodes shall lead, the most wanted first; empty without a preference.
    pub fn leader_preference(&self) -> &[RegionName] {
        &self.preference
    }

    pub(super) fn set_seat(&mut self, turn: &mut Turn, seat: &Seat) -> Answer {
        let who = turn.person(Role::Admin)?;
        self.allowed_everywhere(&who, Role::Admin)?;
        let taken = self.cluster.as_ref().and_then(|c| c.config.region_of(seat.node));
        if let Some(other) = taken.filter(|other| **other != seat.region) {
            return Err(Refusal::Invalid {
                what: format!("node {}", seat.node),
                why: format!("is {other}'s"),
            });
        }
        let known = self.cluster.as_mut().and_then(|c| c.config.regions.get_mut(&seat.region));
        let Some(region) = known else {
            return Err(Refusal::Invalid {
                what: format!("region {}", seat.region),
                why: "is not configured".to_owned(),
            });
        };
        let before = region.node;
        (region.node, region.raft, region.api) = (seat.node, seat.raft.clone(), seat.api.clone());
        if let Some(cluster) = &mut self.cluster {
            cluster.config.version += 1;
        }
        turn.touch(RecordKey::Cluster);
        let detail = format!("node {before} -> node {} at {}", seat.node, seat.raft);
        self.note(turn, "seat", seat.region.as_str(), &detail);
        Ok(Outcome::Done)
    }

    /// Raft took it out; its region's seat stays named until another node takes it.
    pub(super) fn leave_seat(&mut self, turn: &mut Turn, leave: &LeaveSeat) -> Answer {
        let who = turn.person(Role::Admin)?;
        self.allowed_everywhere(&who, Role::Admin)?;
        let detail = format!("node {} was taken out", leave.node);
        self.note(turn, "seat", leave.region.as_str(), &detail);
        Ok(Outcome::Done)
    }

    pub(super) fn prefer_leader(&mut self, turn: &mut Turn, prefer: &PreferLeader) -> Answer {
        let who = turn.person(Role::Admin)?;
        self.allowed_everywhere(&who, Role::Admin)?;
        let distinct: BTreeSet<&RegionName> = prefer.regions.iter().collect();
        let unknown = prefer.regions.iter().find(|region| !self.regions.contains_key(*region));
        if let Some(region) = unknown {
            return Err(Refusal::Invalid {
                what: format!("region {region}"),
                why: "is not configured".to_owned(),
            });
        }
        if distinct.len() != prefer.regions.len() {
            return Err(Refusal::Invalid {
                what: "regions".to_owned(),
                why: "one is named twice".to_owned(),
            });
        }
        self.preference.clone_from(&prefer.regions);
        turn.touch(RecordKey::Preference);
        let shown: Vec<&str> = prefer.regions.iter().map(RegionName::as_str).collect();
        let shown = if shown.is_empty() { "none".to_owned() } else { shown.join(", ") };
        self.note(turn, "leader_preference", "cluster", &shown);
        Ok(Outcome::Done)
    }
}
