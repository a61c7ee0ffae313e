//! Which disk a node has: a node that lost its disk is another node, whatever its number says.
//!
//! A disk gets a random id with the first segment of its log, and a member joins with that id. The
//! id stands in the log because that is what must not be lost: votes and entries. Every call and
//! stream between nodes says from which disk to which it goes. A member that comes with another
//! disk than it joined with is turned away, and so is whoever takes this node for one with another
//! disk. So a wiped node cannot vote twice in the name of the one it was, and nodes of a cluster
//! that was restored elsewhere cannot speak to its successors.
//!
//! Deliberately absent: what to do about it. A wiped node joins anew under another number.

use crate::types::Membership;
use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use cryptorun_platform::net::{CallError, Duplex, Peers};
use cryptorun_platform::random::Random;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// From and to, before every call's body and as a stream's first message.
const ENVELOPE: usize = 16;

/// Drawn at random, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId(u64);

impl DiskId {
    /// From its number; zero stands for an unknown one.
    pub fn new(number: u64) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }

    /// A new one.
    pub fn draw(random: &dyn Random) -> Self {
        Self(random.next_u64().max(1))
    }

    /// Its number.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// This node's disk, and those that the members joined with.
#[derive(Debug)]
pub(crate) struct Disks {
    own: DiskId,
    members: RwLock<BTreeMap<u64, DiskId>>,
}

/// Why a message is turned away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WrongDisk {
    #[error("the message does not say between which disks it goes")]
    NoEnvelope,
    #[error(
        "node {node} comes with disk {shown} and joined with {joined}: a node that lost its disk \
         joins again under another number"
    )]
    Sender { node: u64, shown: DiskId, joined: DiskId },
    #[error("this is disk {own}, not {meant}: whoever was meant is gone from here")]
    Receiver { own: DiskId, meant: DiskId },
}

impl Disks {
    pub fn new(own: DiskId) -> Self {
        Self { own, members: RwLock::default() }
    }

    pub fn own(&self) -> DiskId {
        self.own
    }

    /// Takes over what a membership says.
    pub fn learn(&self, membership: &Membership) {
        let disks = membership.nodes().filter_map(|(id, member)| Some((*id, member.disk?)));
        *self.members.write().unwrap_or_else(PoisonError::into_inner) = disks.collect();
    }

    /// The disk a member joined with.
    pub fn of(&self, node: u64) -> Option<DiskId> {
        self.members.read().unwrap_or_else(PoisonError::into_inner).get(&node).copied()
    }

    /// A message for a member, in its envelope.
    pub fn seal(&self, to: u64, body: &[u8]) -> Bytes {
        let mut message = BytesMut::with_capacity(ENVELOPE + body.len());
        message.put_slice(&self.envelope(to));
        message.put_slice(body);
        message.freeze()
    }

    fn envelope(&self, to: u64) -> [u8; ENVELOPE] {
        let mut bytes = [0; ENVELOPE];
        bytes[..8].copy_from_slice(&self.own.0.to_be_bytes());
        let meant = self.of(to).map_or(0, DiskId::number);
        bytes[8..].copy_from_slice(&meant.to_be_bytes());
        bytes
    }

    /// Opens a message of `node`: what is behind its envelope.
    pub fn open(&self, node: u64, mut message: Bytes) -> Result<Bytes, WrongDisk> {
        if message.len() < ENVELOPE {
            return Err(WrongDisk::NoEnvelope);
        }
        let body = message.split_off(ENVELOPE);
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&message[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        let shown = DiskId::new(number(0)).ok_or(WrongDisk::NoEnvelope)?;
        if let Some(joined) = self.of(node).filter(|joined| *joined != shown) {
            return Err(WrongDisk::Sender { node, shown, joined });
        }
        match DiskId::new(number(8)) {
            Some(meant) if meant != self.own => Err(WrongDisk::Receiver { own: self.own, meant }),
            _ => Ok(body),
        }
    }
}

/// Peers, with every message in its envelope.
pub(crate) struct DiskPeers {
    pub peers: Arc<dyn Peers>,
    pub disks: Arc<Disks>,
}

#[async_trait]
impl Peers for DiskPeers {
    async fn call(
        &self,
        to: u64,
        kind: u8,
        body: Bytes,
        ttl: Duration,
    ) -> Result<Bytes, CallError> {
        self.peers.call(to, kind, self.disks.seal(to, &body), ttl).await
    }

    async fn stream(&self, to: u64, kind: u8) -> Result<Duplex, CallError> {
        let duplex = self.peers.stream(to, kind).await?;
        duplex.tx.send(self.disks.seal(to, &[])).await.map_err(|_| CallError::Unreachable)?;
        Ok(duplex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Member;
    use std::collections::BTreeSet;

    const OWN: DiskId = DiskId(7);
    const OTHER: DiskId = DiskId(9);

    fn disks(own: DiskId, members: &[(u64, DiskId)]) -> Disks {
        let disks = Disks::new(own);
        let member = |disk| Member { disk: Some(disk), ..Member::default() };
        let nodes: BTreeMap<u64, Member> =
            members.iter().map(|(id, disk)| (*id, member(*disk))).collect();
        let voters: BTreeSet<u64> = nodes.keys().copied().collect();
        disks.learn(&Membership::new(vec![voters], nodes).expect("is a membership"));
        disks
    }

    #[test]
    fn members_with_the_disks_they_joined_with_are_heard() {
        let (a, b) = (disks(OWN, &[(1, OWN), (2, OTHER)]), disks(OTHER, &[(1, OWN), (2, OTHER)]));
        assert_eq!(b.open(1, a.seal(2, b"hello")), Ok(Bytes::from_static(b"hello")));
    }

    #[test]
    fn who_does_not_know_the_members_yet_is_heard() {
        let (empty, member) = (Disks::new(OTHER), disks(OWN, &[(1, OWN), (2, OTHER)]));
        assert!(empty.open(1, member.seal(2, b"append")).is_ok());
        assert!(member.open(2, empty.seal(1, b"hello")).is_ok());
    }

    #[test]
    fn a_wiped_member_is_not_heard_and_does_not_listen_in_the_name_of_the_old_one() {
        let (member, wiped) = (disks(OWN, &[(1, OWN), (2, OTHER)]), Disks::new(DiskId(99)));
        let vote = member.open(2, wiped.seal(1, b"vote"));
        assert_eq!(vote, Err(WrongDisk::Sender { node: 2, shown: DiskId(99), joined: OTHER }));
        let append = wiped.open(1, member.seal(2, b"append"));
        assert_eq!(append, Err(WrongDisk::Receiver { own: DiskId(99), meant: OTHER }));
        assert_eq!(wiped.open(1, Bytes::from_static(b"short")), Err(WrongDisk::NoEnvelope));
    }
}
