//! Raft's messages to peers, over whatever [`Peers`] carries them.
//!
//! Appends are pipelined: the next leaves before the answer to the one before has come. Without
//! that, openraft's append that only carries a new commit index holds the one slot for a round
//! trip, and every write over a WAN takes two. Answers keep the order of the requests, as the stream
//! underneath does.
//!
//! Deliberately absent: connections and retries. `Peers` has the first, openraft the second.

use crate::codec::log::entry_size;
use crate::codec::rpc::{self, Append, AskVote, Chunk, Taken, Transfer, Transferred, Voted};
use crate::codec::{CodecError, MESSAGE_MAX};
use crate::next_index::NextIndex;
use crate::types::{LogId, Member, SnapshotData, SnapshotOf, TypeConfig, Vote};
use bytes::Bytes;
use cryptorun_platform::net::{CallError, Duplex, Peers};
use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, v2::RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Kinds of calls and streams between nodes.
pub mod lane {
    /// A stream of appends.
    pub const APPEND: u8 = 1;
    /// A vote.
    pub const VOTE: u8 = 2;
    /// The prospect of one.
    pub const PRE_VOTE: u8 = 3;
    /// A piece of a snapshot.
    pub const SNAPSHOT: u8 = 4;
    /// Take the lead.
    pub const TRANSFER: u8 = 5;
    /// Where to read from.
    pub const READ_INDEX: u8 = 6;
    /// Audit bodies.
    pub const AUDIT: u8 = 7;
    /// For the leader's control part.
    pub const FORWARD: u8 = 8;
}

/// Appends sent and not answered yet. At 4 000 writes a second and 100 ms that is six a message.
const IN_FLIGHT: usize = 64;
/// How long a commit index without entries waits for a request that takes it along: a message, its
/// answer and four wake-ups less for each write. Followers apply so much later, when nothing follows.
const COMMIT_WAITS: Duration = Duration::from_millis(1);
/// Bytes of a snapshot in one message: small enough that appends pass in between.
const CHUNK_BYTES: usize = 256 << 10;
/// How long one piece of a snapshot may take before it is sent again.
const CHUNK_TTL: Duration = Duration::from_secs(5);
/// How often in a row a piece is tried.
const CHUNK_TRIES: usize = 3;

/// Makes a connection to each peer.
#[derive(Clone)]
pub(crate) struct Network {
    pub peers: Arc<dyn Peers>,
    pub next: NextIndex,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, _: &Member) -> Connection {
        let Self { peers, next } = self.clone();
        Connection { peers, next, to: target }
    }
}

/// One peer.
#[derive(Clone)]
pub(crate) struct Connection {
    peers: Arc<dyn Peers>,
    next: NextIndex,
    to: u64,
}

type Rpc<T> = Result<T, RPCError<TypeConfig>>;

impl Connection {
    async fn call(&self, lane: u8, body: Vec<u8>, ttl: Duration) -> Rpc<Bytes> {
        self.peers.call(self.to, lane, body.into(), ttl).await.map_err(failed)
    }

    /// All pieces in order; the peer says from where to go on.
    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: &SnapshotOf,
    ) -> Result<SnapshotResponse<TypeConfig>, CallError> {
        let (whole, meta) = (&snapshot.snapshot, &snapshot.meta);
        let (mut at, mut failures) = (0, 0);
        loop {
            let end = whole.len().min(at + CHUNK_BYTES);
            let piece = Chunk {
                vote,
                meta: meta.clone(),
                total: whole.len() as u64,
                offset: at as u64,
                bytes: whole[at..end].to_vec(),
            };
            let body = rpc::chunk(&piece).map_err(|error| CallError::Refused(error.to_string()))?;
            // The last answer comes after the install: give it openraft's whole time.
            let ttl = if end == whole.len() { CHUNK_TTL * 4 } else { CHUNK_TTL };
            let answer = self.peers.call(self.to, lane::SNAPSHOT, body.into(), ttl).await;
            match answer.and_then(|bytes| {
                rpc::read_taken(&bytes).map_err(|error| CallError::Refused(error.to_string()))
            }) {
                Ok(Taken::Done(vote)) => return Ok(SnapshotResponse { vote }),
                Ok(Taken::Next(offset)) => {
                    at = usize::try_from(offset).unwrap_or(usize::MAX).min(whole.len());
                    failures = 0;
                }
                Err(error) if failures + 1 >= CHUNK_TRIES => return Err(error),
                Err(_) => failures += 1,
            }
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Connection {
    type SnapshotData = SnapshotData;

    /// openraft streams; this one is for its own fallback paths.
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        let last = last_of(&request);
        let one = futures_util::stream::iter([request]);
        let mut answers = self.stream_append(one, option).await?;
        match answers.next().await {
            Some(Ok(Ok(matched))) if matched >= last => Ok(AppendEntriesResponse::Success),
            Some(Ok(Ok(matched))) => Ok(AppendEntriesResponse::PartialSuccess(matched)),
            Some(Ok(Err(StreamAppendError::Conflict(_)))) => Ok(AppendEntriesResponse::Conflict),
            Some(Ok(Err(StreamAppendError::HigherVote(vote)))) => {
                Ok(AppendEntriesResponse::HigherVote(vote))
            }
            Some(Err(error)) => Err(error),
            None => Err(failed(CallError::TimedOut)),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let connection = self.clone();
        Box::pin(async move {
            let pipe = Pipe {
                input,
                connection,
                duplex: None,
                waiting: VecDeque::new(),
                held: None,
                alarm: Box::pin(tokio::time::sleep(Duration::ZERO)),
                is_armed: false,
                asked: None,
                input_ended: false,
                patience: option.soft_ttl(),
            };
            let answers = futures_util::stream::unfold(Some(pipe), |pipe| async move {
                let mut pipe = pipe?;
                let answer = pipe.next().await?;
                let go_on = matches!(answer, Ok(Ok(_)));
                Some((answer, go_on.then_some(pipe)))
            });
            let answers: BoxStream<'s, _> = Box::pin(answers);
            Ok(answers)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let answer = self.ask_vote(lane::VOTE, &request, option).await?;
        self.next.voted(self.to, &request, &answer);
        Ok(answer)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        self.ask_vote(lane::PRE_VOTE, &request, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, &snapshot) => sent.map_err(|error| {
                StreamingError::Unreachable(Unreachable::new(&error))
            }),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        self.transfer(&request, option).await
    }
}

impl Connection {
    async fn ask_vote(&self, lane: u8, request: &AskVote, option: RPCOption) -> Rpc<Voted> {
        let body = rpc::ask_vote(request).map_err(undecodable)?;
        rpc::read_voted(&self.call(lane, body, option.soft_ttl()).await?).map_err(undecodable)
    }

    async fn transfer(&self, request: &Transfer, option: RPCOption) -> Rpc<Transferred> {
        let body = rpc::transfer(request).map_err(undecodable)?;
        let answer = self.call(lane::TRANSFER, body, option.soft_ttl()).await?;
        rpc::read_transferred(&answer).map_err(undecodable)
    }
}

/// A pipelined append stream.
///
/// It is opened with the first request and not before: openraft pauses between tries inside the
/// input, so an error before the first poll of it would be retried at once, for ever.
struct Pipe<S> {
    input: S,
    connection: Connection,
    duplex: Option<Duplex>,
    /// Sent and not answered: how many messages it went out as, and what all of it ends with.
    waiting: VecDeque<Sent>,
    /// A request without entries that has not left, and when it must. One that follows it says all
    /// that it says, and openraft takes an answer for that of everything before.
    held: Option<(Append, Instant)>,
    /// Rings for what is held. It is not disarmed when that leaves sooner: an alarm set anew for each
    /// request would wake the runtime each time.
    alarm: Pin<Box<Sleep>>,
    is_armed: bool,
    /// What openraft asked about when it was asked further along: its debug builds insist that an
    /// answer stays within.
    asked: Option<LogId>,
    input_ended: bool,
    /// Longest silence while answers are due.
    patience: Duration,
}

/// A request may leave as several messages where its entries are large: then only the last
/// answer counts, unless an earlier one is a no.
struct Sent {
    messages: usize,
}

impl<S: Stream<Item = Append> + Unpin> Pipe<S> {
    async fn next(&mut self) -> Option<Rpc<StreamAppendResult<TypeConfig>>> {
        loop {
            if self.input_ended
                && let Err(error) = self.let_go().await
            {
                return Some(Err(error));
            }
            if self.input_ended && self.waiting.is_empty() {
                return None;
            }
            let more = !self.input_ended && self.waiting.len() < IN_FLIGHT;
            tokio::select! {
                biased;
                answer = receive(&mut self.duplex), if !self.waiting.is_empty() => {
                    let Some(bytes) = answer else { return Some(Err(failed(CallError::TimedOut))) };
                    match rpc::read_appended(&bytes) {
                        Ok(answer) => if let Some(answer) = self.answered(answer) {
                            return Some(Ok(answer));
                        },
                        Err(error) => return Some(Err(undecodable(error))),
                    }
                }
                request = self.input.next(), if more => match request.map(|request| self.aim(request)) {
                    None => self.input_ended = true,
                    Some(request) if request.entries.is_empty() => self.hold(request),
                    Some(request) => {
                        self.held = None;
                        if let Err(error) = self.send(request).await {
                            return Some(Err(error));
                        }
                    }
                },
                () = self.alarm.as_mut(), if self.is_armed => {
                    if let Err(error) = self.rung().await {
                        return Some(Err(error));
                    }
                }
                () = tokio::time::sleep(self.patience), if !self.waiting.is_empty() => {
                    return Some(Err(failed(CallError::TimedOut)));
                }
            }
        }
    }

    fn answered(
        &mut self,
        answer: StreamAppendResult<TypeConfig>,
    ) -> Option<StreamAppendResult<TypeConfig>> {
        if let Err(StreamAppendError::Conflict(at)) = &answer {
            self.connection.next.conflicted(self.connection.to, *at);
        }
        let sent = self.waiting.front_mut()?;
        sent.messages -= 1;
        if sent.messages == 0 || answer.is_err() {
            self.waiting.pop_front();
            let asked = self.asked.take().filter(|_| cfg!(debug_assertions));
            return Some(answer.map(|matched| match asked {
                Some(asked) => matched.min(Some(asked)),
                None => matched,
            }));
        }
        None
    }

    fn aim(&mut self, request: Append) -> Append {
        let Some(aimed) = self.connection.next.aim(self.connection.to, &request) else {
            return request;
        };
        self.asked = last_of(&request);
        aimed
    }

    /// Keeps a request without entries back; one that it replaces said less.
    fn hold(&mut self, request: Append) {
        let leaves = match &self.held {
            Some((_, leaves)) => *leaves,
            None => Instant::now() + COMMIT_WAITS,
        };
        self.held = Some((request, leaves));
        self.arm(leaves);
    }

    fn arm(&mut self, at: Instant) {
        if !self.is_armed {
            self.alarm.as_mut().reset(at);
            self.is_armed = true;
        }
    }

    async fn rung(&mut self) -> Rpc<()> {
        self.is_armed = false;
        match &self.held {
            Some((_, leaves)) if *leaves > Instant::now() => {
                let leaves = *leaves;
                self.arm(leaves);
                Ok(())
            }
            _ => self.let_go().await,
        }
    }

    /// Sends what was held back.
    async fn let_go(&mut self) -> Rpc<()> {
        match self.held.take() {
            Some((request, _)) => self.send(request).await,
            None => Ok(()),
        }
    }

    async fn send(&mut self, request: Append) -> Rpc<()> {
        let duplex = match &mut self.duplex {
            Some(duplex) => duplex,
            empty => {
                let Connection { peers, to, .. } = &self.connection;
                empty.insert(peers.stream(*to, lane::APPEND).await.map_err(failed)?)
            }
        };
        let mut messages = 0;
        for part in parts(request) {
            let bytes = rpc::append(&part).map_err(undecodable)?;
            messages += 1;
            if duplex.tx.send(bytes.into()).await.is_err() {
                return Err(failed(CallError::TimedOut));
            }
        }
        self.waiting.push_back(Sent { messages });
        Ok(())
    }
}

/// The last entry that both have once a request is taken.
fn last_of(request: &Append) -> Option<LogId> {
    request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id)
}

async fn receive(duplex: &mut Option<Duplex>) -> Option<Bytes> {
    duplex.as_mut()?.rx.recv().await
}

/// Cuts a request so that each message stays below the transport's limit.
fn parts(request: Append) -> Vec<Append> {
    const FULL: usize = MESSAGE_MAX / 2;
    let Append { vote, mut prev_log_id, entries, leader_commit } = request;
    let mut parts = Vec::with_capacity(1);
    let (mut part, mut size) = (Vec::new(), 0);
    for entry in entries {
        let bytes = entry_size(&entry);
        if size + bytes > FULL && !part.is_empty() {
            let last: Option<LogId> =
                part.last().map(|entry: &crate::types::LogEntry| entry.log_id);
            let entries = std::mem::take(&mut part);
            parts.push(Append { vote, prev_log_id, entries, leader_commit });
            (prev_log_id, size) = (last, 0);
        }
        size += bytes;
        part.push(entry);
    }
    parts.push(Append { vote, prev_log_id, entries: part, leader_commit });
    parts
}

fn failed(error: CallError) -> RPCError<TypeConfig> {
    match error {
        CallError::Unreachable => RPCError::Unreachable(Unreachable::new(&error)),
        CallError::TimedOut | CallError::Refused(_) => RPCError::Network(NetworkError::new(&error)),
    }
}

fn undecodable(error: CodecError) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(&error))
}

#[cfg(test)]
#[path = "tests/network.rs"]
mod tests;
