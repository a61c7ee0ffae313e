//! Answers to peers.
//!
//! What always holds: a caller is a control node of this cluster by its certificate, and is the
//! member it speaks for. A vote or an append in another node's name is refused before openraft sees
//! it. What passes is copied out of the receive buffer by decoding.

use crate::codec::frame::Kind;
use crate::codec::rpc::{self, Chunk, ReadFrom, Taken};
use crate::network::lane;
use crate::node::Inner;
use crate::types::{SnapshotOf, Vote};
use async_trait::async_trait;
use bytes::Bytes;
use cryptorun_platform::identity::Class;
use cryptorun_platform::net::{Duplex, Peer, Service, ServiceError};
use futures_util::StreamExt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A snapshot larger than this is not one of ours: the machine is megabytes.
const SNAPSHOT_MAX: u64 = 1 << 30;
/// Bodies in one answer.
const AUDIT_MAX: usize = 1000;
/// Appends handed to openraft and not answered yet, a stream.
const APPENDS_MAX: usize = 64;

/// The node's side of every conversation with a peer.
pub(crate) struct PeerService {
    pub node: Arc<Inner>,
    /// Snapshots on their way in, by sender.
    pub arriving: Mutex<BTreeMap<u64, Arriving>>,
}

/// Pieces so far.
pub(crate) struct Arriving {
    vote: Vote,
    last: Option<crate::types::LogId>,
    bytes: Vec<u8>,
}

impl PeerService {
    pub fn new(node: Arc<Inner>) -> Self {
        Self { node, arriving: Mutex::new(BTreeMap::new()) }
    }

    /// Which member the certificate belongs to.
    fn bind(&self, peer: &Peer) -> Result<u64, ServiceError> {
        let id = &peer.id;
        if id.class != Class::Node || id.cluster != self.node.cluster {
            return Err(ServiceError(format!("{id} is no node of {}", self.node.cluster)));
        }
        self.node
            .member_named(&id.region, &id.id)
            .ok_or_else(|| ServiceError(format!("{id} is no member")))
    }

    /// What a member sent, if it comes from the disk that joined and was meant for this one.
    fn open(&self, from: u64, message: Bytes) -> Result<Bytes, ServiceError> {
        self.node.disks.open(from, message).map_err(|error| {
            tracing::warn!(from, %error, "a message was turned away");
            to_service(error)
        })
    }

    /// Whether the sender is the node whose vote it carries.
    fn speaks_for_itself(from: u64, vote: &Vote) -> Result<(), ServiceError> {
        if vote.leader_id.node_id == from {
            return Ok(());
        }
        Err(ServiceError(format!("node {from} speaks for node {}", vote.leader_id.node_id)))
    }

    async fn take_chunk(&self, from: u64, piece: Chunk) -> Result<Taken, ServiceError> {
        if piece.total > SNAPSHOT_MAX {
            return Err(ServiceError(format!("a snapshot of {} bytes is refused", piece.total)));
        }
        let last = piece.meta.last_log_id;
        let whole = {
            let mut arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
            let so_far = arriving.entry(from).or_insert_with(|| Arriving {
                vote: piece.vote,
                last,
                bytes: Vec::new(),
            });
            if piece.offset == 0 || (so_far.vote, so_far.last) != (piece.vote, last) {
                *so_far = Arriving { vote: piece.vote, last, bytes: Vec::new() };
            }
            if piece.offset != so_far.bytes.len() as u64 {
                return Ok(Taken::Next(so_far.bytes.len() as u64));
            }
            so_far.bytes.extend_from_slice(&piece.bytes);
            let have = so_far.bytes.len() as u64;
            if have > piece.total {
                arriving.remove(&from);
                return Err(ServiceError("a snapshot is longer than announced".to_owned()));
            }
            if have < piece.total {
                return Ok(Taken::Next(have));
            }
            arriving.remove(&from).map(|done| done.bytes).unwrap_or_default()
        };
        // Checked before openraft acts on it: its own records would be gone by then.
        crate::codec::snapshot::decode(&whole).map_err(|error| {
            self.node.heard_newer(from, &error);
            to_service(error)
        })?;
        let snapshot = SnapshotOf { meta: piece.meta, snapshot: Bytes::from(whole) };
        let raft = self.node.raft();
        let answer = raft.install_full_snapshot(piece.vote, snapshot).await.map_err(to_service)?;
        Ok(Taken::Done(answer.vote))
    }
}

#[async_trait]
impl Service for PeerService {
    async fn call(&self, peer: &Peer, kind: u8, message: Bytes) -> Result<Bytes, ServiceError> {
        let from = self.bind(peer)?;
        let body = self.open(from, message)?;
        let raft = self.node.raft();
        let answer = match kind {
            lane::VOTE | lane::PRE_VOTE => {
                let request = rpc::read_ask_vote(&body).map_err(to_service)?;
                Self::speaks_for_itself(from, &request.vote)?;
                let voted = if kind == lane::VOTE {
                    raft.vote(request).await.map_err(to_service)?
                } else {
                    raft.pre_vote(request).await.map_err(to_service)?
                };
                rpc::voted(&voted)
            }
            lane::SNAPSHOT => {
                let piece = rpc::read_chunk(&body).map_err(to_service)?;
                Self::speaks_for_itself(from, &piece.vote)?;
                rpc::taken(&self.take_chunk(from, piece).await?)
            }
            lane::TRANSFER => {
                let request = rpc::read_transfer(&body).map_err(to_service)?;
                if let Some(short) = self.node.no_space() {
                    return Err(ServiceError(format!("it does not take the lead: {short}")));
                }
                Self::speaks_for_itself(from, request.from_leader())?;
                let answer = raft.handle_transfer_leader(request).await.map_err(to_service)?;
                rpc::transferred(&answer)
            }
            lane::READ_INDEX => {
                let lease = rpc::read_read_index(&body).map_err(to_service)?;
                let (index, term) = self.node.confirm(lease).await.map_err(to_service)?;
                rpc::read_from(ReadFrom { index, term })
            }
            lane::AUDIT => {
                let (first, max) = rpc::read_audit_fetch(&body).map_err(to_service)?;
                let max = (max as usize).min(AUDIT_MAX);
                let bodies = self.node.read_audit(first, max).await.map_err(to_service)?;
                rpc::audit_bodies(&bodies)
            }
            lane::FORWARD => {
                let request = rpc::read_opaque(&body, Kind::Forward).map_err(to_service)?;
                let handler = self.node.forward_handler();
                let Some(handler) = handler else {
                    return Err(ServiceError("nothing answers forwarded requests yet".to_owned()));
                };
                let answer = handler.handle(from, Bytes::copy_from_slice(request)).await;
                rpc::opaque(Kind::Forwarded, &answer)
            }
            other => return Err(ServiceError(format!("call kind {other} is unknown"))),
        };
        answer.map(Bytes::from).map_err(to_service)
    }

    async fn stream(&self, peer: &Peer, kind: u8, duplex: Duplex) {
        let Ok(from) = self.bind(peer) else { return };
        if kind != lane::APPEND {
            return;
        }
        let Duplex { tx, mut rx } = duplex;
        let Some(envelope) = rx.recv().await else { return };
        if self.open(from, envelope).is_err() {
            return;
        }
        let node = self.node.clone();
        let (hand_on, requests) = tokio::sync::mpsc::channel(APPENDS_MAX);
        let requests = futures_util::stream::unfold(requests, |mut requests| async move {
            requests.recv().await.map(|request| (request, requests))
        });
        let feed = async move {
            while let Some(bytes) = rx.recv().await {
                let request = match rpc::read_append(&bytes) {
                    Ok(request) => request,
                    Err(error) => return node.heard_newer(from, &error),
                };
                if Self::speaks_for_itself(from, &request.vote).is_err() {
                    return;
                }
                node.heard_from(from);
                if hand_on.send(request).await.is_err() {
                    return;
                }
            }
        };
        let answers = self.node.raft().stream_append(requests);
        let answer = async move {
            let mut answers = std::pin::pin!(answers);
            while let Some(Ok(answer)) = answers.next().await {
                let Ok(bytes) = rpc::appended(&answer) else { return };
                if tx.send(bytes.into()).await.is_err() {
                    return;
                }
            }
        };
        // Either end closes both: a sender that is gone wants no answers, and openraft ends its
        // answers at the first no.
        let mut feed = std::pin::pin!(feed);
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            () = &mut answer => {}
            () = &mut feed => answer.await,
        }
    }
}

fn to_service(error: impl std::fmt::Display) -> ServiceError {
    ServiceError(error.to_string())
}
