//! The ways to the other nodes: those that the host's file names, and those that the membership has.
//!
//! A host's file says how a region is reached from here, which behind a relay or a load balancer is
//! not where the membership has it. A member is tried on both ways; its certificate says whether it is
//! the one. Whoever is in neither is forgotten.

use crate::log::MemberAddress;
use crate::raft_log::address;
use cryptorun_platform::framed::{FramedPeers, Target};
use cryptorun_raft::{Members, Node};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Whoever keeps connections to the other nodes.
pub trait Neighbours: Send + Sync + 'static {
    /// Finds a node that is no member yet.
    fn meet(&self, node: u64, at: &MemberAddress);
}

/// For those who reach everybody without being told where.
impl Neighbours for () {
    fn meet(&self, _node: u64, _at: &MemberAddress) {}
}

/// The connections of a node in production.
pub struct Book {
    peers: Arc<FramedPeers>,
    own: u64,
    /// As the host's file has them.
    file: BTreeMap<u64, MemberAddress>,
    /// Met on somebody's word, until they are members.
    met: Mutex<BTreeMap<u64, MemberAddress>>,
}

impl Book {
    pub fn new(peers: Arc<FramedPeers>, own: u64, file: BTreeMap<u64, MemberAddress>) -> Arc<Self> {
        Arc::new(Self { peers, own, file, met: Mutex::default() })
    }

    /// Follows the membership until the node is gone.
    pub async fn follow(self: Arc<Self>, node: Arc<Node>) {
        let mut members = node.watch_members();
        loop {
            let now = members.borrow_and_update().clone();
            self.settle(&now);
            if members.changed().await.is_err() {
                return;
            }
        }
    }

    fn settle(&self, members: &Members) {
        let met = {
            let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
            met.retain(|node, _| !members.nodes.contains_key(node));
            met.clone()
        };
        let known: BTreeSet<u64> =
            self.file.keys().chain(members.nodes.keys()).chain(met.keys()).copied().collect();
        for node in self.peers.status().into_keys().filter(|node| !known.contains(node)) {
            self.peers.set_peer(node, None);
        }
        for node in known.into_iter().filter(|node| *node != self.own) {
            let member = members.nodes.get(&node).map(address);
            if let Some(at) = member.as_ref().or(met.get(&node)).or(self.file.get(&node)) {
                self.peers.set_peer(node, Some(self.target(node, at)));
            }
        }
    }

    /// By its own way first, then by its region's, then where the membership has it.
    fn target(&self, node: u64, at: &MemberAddress) -> Target {
        let own_way = self.file.get(&node).map(|way| &way.raft);
        let region_way =
            self.file.values().find(|way| way.region == at.region).map(|way| &way.raft);
        let mut ways = own_way.into_iter().chain(region_way).chain([&at.raft]);
        let first = ways.next().cloned().unwrap_or_default();
        let target = match at.name.is_empty() {
            true => Target::in_region(first, at.region.as_str()),
            false => Target::named(first, at.region.as_str(), &at.name),
        };
        ways.fold(target, |target, way| target.or_at(way))
    }
}

impl Neighbours for Book {
    fn meet(&self, node: u64, at: &MemberAddress) {
        if node == self.own {
            return;
        }
        self.met.lock().unwrap_or_else(PoisonError::into_inner).insert(node, at.clone());
        self.peers.set_peer(node, Some(self.target(node, at)));
    }
}
