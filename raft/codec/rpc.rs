//! Messages between nodes. Each is one frame; the transport says who sent it.

use super::frame::{self, CodecError, Fields, Kind, put_block};
use super::log::{
    get_entries, get_log_id, get_log_id_opt, get_membership, get_vote, put_entries, put_log_id,
    put_log_id_opt, put_membership, put_vote,
};
use super::{MESSAGE_MAX, get, put};
use crate::types::{LogId, SnapshotMeta, StoredMembership, TypeConfig, Vote};
use cryptorun_core::audit::AuditEntry;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

const VERSION: u16 = 1;

pub(crate) type Append = AppendEntriesRequest<TypeConfig>;
pub(crate) type Appended = StreamAppendResult<TypeConfig>;
pub(crate) type AskVote = VoteRequest<TypeConfig>;
pub(crate) type Voted = VoteResponse<TypeConfig>;
pub(crate) type Transfer = TransferLeaderRequest<TypeConfig>;
pub(crate) type Transferred = TransferLeaderResponse<TypeConfig>;

/// A piece of a snapshot: enough with each piece to know what it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    pub vote: Vote,
    pub meta: SnapshotMeta,
    /// Bytes of the whole.
    pub total: u64,
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// What became of a piece.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Taken {
    /// Send what follows this offset.
    Next(u64),
    /// All of it is installed, or there is a better leader: compare the vote.
    Done(Vote),
}

/// Up to where a follower must have applied before it may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadFrom {
    pub index: u64,
    pub term: u64,
}

pub(crate) fn append(request: &Append) -> Result<Vec<u8>, CodecError> {
    let bytes = frame::frame(Kind::Append, VERSION, |out| {
        put_vote(out, &request.vote);
        put_log_id_opt(out, request.prev_log_id.as_ref());
        put_log_id_opt(out, request.leader_commit.as_ref());
        put_entries(out, &request.entries)
    })?;
    if bytes.len() > MESSAGE_MAX {
        return Err(CodecError::TooLarge { bytes: bytes.len(), limit: MESSAGE_MAX });
    }
    Ok(bytes)
}

pub(crate) fn read_append(bytes: &[u8]) -> Result<Append, CodecError> {
    read(bytes, Kind::Append, |fields| {
        Ok(Append {
            vote: get_vote(fields)?,
            prev_log_id: get_log_id_opt(fields)?,
            leader_commit: get_log_id_opt(fields)?,
            entries: get_entries(fields)?,
        })
    })
}

pub(crate) fn appended(answer: &Appended) -> Result<Vec<u8>, CodecError> {
    frame::frame(Kind::Appended, VERSION, |out| {
        match answer {
            Ok(id) => {
                out.push(0);
                put_log_id_opt(out, id.as_ref());
            }
            Err(StreamAppendError::Conflict(id)) => {
                out.push(1);
                put_log_id(out, id);
            }
            Err(StreamAppendError::HigherVote(vote)) => {
                out.push(2);
                put_vote(out, vote);
            }
        }
        Ok(())
    })
}

pub(crate) fn read_appended(bytes: &[u8]) -> Result<Appended, CodecError> {
    read(bytes, Kind::Appended, |fields| {
        Ok(match fields.u8()? {
            0 => Ok(get_log_id_opt(fields)?),
            1 => Err(StreamAppendError::Conflict(get_log_id(fields)?)),
            2 => Err(StreamAppendError::HigherVote(get_vote(fields)?)),
            tag => return Err(CodecError::Tag { what: "append answer", tag: tag.into() }),
        })
    })
}

pub(crate) fn ask_vote(request: &AskVote) -> Result<Vec<u8>, CodecError> {
    frame::frame(Kind::AskVote, VERSION, |out| {
        put_vote(out, &request.vote);
        put_log_id_opt(out, request.last_log_id.as_ref());
        out.push(u8::from(request.leadership_transfer));
        Ok(())
    })
}

pub(crate) fn read_ask_vote(bytes: &[u8]) -> Result<AskVote, CodecError> {
    read(bytes, Kind::AskVote, |fields| {
        let mut request = AskVote::new(get_vote(fields)?, get_log_id_opt(fields)?);
        request.leadership_transfer = fields.flag("transfer")?;
        Ok(request)
    })
}

pub(crate) fn voted(answer: &Voted) -> Result<Vec<u8>, CodecError> {
    frame::frame(Kind::Voted, VERSION, |out| {
        put_vote(out, &answer.vote);
        out.push(u8::from(answer.vote_granted));
        put_log_id_opt(out, answer.last_log_id.as_ref());
        Ok(())
    })
}

pub(crate) fn read_voted(bytes: &[u8]) -> Result<Voted, CodecError> {
    read(bytes, Kind::Voted, |fields| {
        Ok(Voted {
            vote: get_vote(fields)?,
            vote_granted: fields.flag("granted")?,
            last_log_id: get_log_id_opt(fields)?,
        })
    })
}

pub(crate) fn chunk(chunk: &Chunk) -> Result<Vec<u8>, CodecError> {
    frame::frame(Kind::SnapshotChunk, VERSION, |out| {
        put_vote(out, &chunk.vote);
        put_meta(out, &chunk.meta)?;
        out.extend_from_slice(&chunk.total.to_le_bytes());
        out.extend_from_slice(&chunk.offset.to_le_bytes());
        put_block(out, &chunk.bytes)
    })
}

pub(crate) fn read_chunk(bytes: &[u8]) -> Result<Chunk, CodecError> {
    read(bytes, Kind::SnapshotChunk, |fields| {
        Ok(Chunk {
            vote: get_vote(fields)?,
            meta: get_meta(fields)?,
            total: fields.u64()?,
            offset: fields.u64()?,
            bytes: fields.block()?.to_vec(),
        })
    })
}

pub(crate) fn taken(answer: &Taken) -> Result<Vec<u8>, CodecError> {
    frame::frame(Kind::SnapshotTaken, VERSION, |out| {
        match answer {
            Taken::Next(offset) => {
                out.push(0);
                out.extend_from_slice(&offset.to_le_bytes());
            }
            Taken::Done(vote) => {
                out.push(1);
                put_vote(out, vote);
            }
        }
        Ok(())
    })
}

pub(crate) fn read_taken(bytes: &[u8]) -> Result<Taken, CodecError> {
    read(bytes, Kind::SnapshotTaken, |fields| {
        Ok(match fields.u8()? {
            0 => Taken::Next(fields.u64()?),
            1 => Taken::Done(get_vote(fields)?),
            tag => return Err(CodecError::Tag { what: "snapshot answer", tag: tag.into() }),
        })
    })
}

pub(crate) fn transfer(request: &Transfer) -> Result<Vec<u8>, CodecError> {
    frame::frame(Kind::TransferLeader, VERSION, |out| {
        put_vote(out, request.from_leader());
        out.extend_from_slice(&request.to_node_id().to_le_bytes());
        put_log_id_opt(out, request.last_log_id());
        Ok(())
    })
}

pub(crate) fn read_transfer(bytes: &[u8]) -> Result<Transfer, CodecError> {
    read(bytes, Kind::TransferLeader, |fields| {
        Ok(Transfer::new(get_vote(fields)?, fields.u64()?, get_log_id_opt(fields)?))
    })
}

pub(crate) fn transferred(answer: &Transferred) -> Result<Vec<u8>, CodecError> {
    frame::frame(Kind::TransferAnswer, VERSION, |out| {
        match answer {
            Ok(()) => out.push(0),
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                out.push(1);
                put_vote(out, expected);
                put_vote(out, actual);
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                out.push(2);
                put_log_id_opt(out, expected.as_ref());
                put_log_id_opt(out, actual.as_ref());
            }
        }
        Ok(())
    })
}

pub(crate) fn read_transferred(bytes: &[u8]) -> Result<Transferred, CodecError> {
    read(bytes, Kind::TransferAnswer, |fields| {
        Ok(match fields.u8()? {
            0 => Ok(()),
            1 => Err(TransferLeaderError::VoteChanged {
                expected: get_vote(fields)?,
                actual: get_vote(fields)?,
            }),
            2 => Err(TransferLeaderError::LogNotFlushed {
                expected: get_log_id_opt(fields)?,
                actual: get_log_id_opt(fields)?,
            }),
            tag => return Err(CodecError::Tag { what: "transfer answer", tag: tag.into() }),
        })
    })
}

/// `lease`: the leader may answer from its lease.
pub(crate) fn read_index(lease: bool) -> Result<Vec<u8>, CodecError> {
    frame::frame(Kind::ReadIndex, VERSION, |out| {
        out.push(u8::from(lease));
        Ok(())
    })
}

pub(crate) fn read_read_index(bytes: &[u8]) -> Result<bool, CodecError> {
    read(bytes, Kind::ReadIndex, |fields| fields.flag("lease"))
}

pub(crate) fn read_from(answer: ReadFrom) -> Result<Vec<u8>, CodecError> {
    frame::frame(Kind::ReadIndexAnswer, VERSION, |out| {
        out.extend_from_slice(&answer.index.to_le_bytes());
        out.extend_from_slice(&answer.term.to_le_bytes());
        Ok(())
    })
}

pub(crate) fn read_read_from(bytes: &[u8]) -> Result<ReadFrom, CodecError> {
    read(bytes, Kind::ReadIndexAnswer, |fields| {
        Ok(ReadFrom { index: fields.u64()?, term: fields.u64()? })
    })
}

pub(crate) fn audit_fetch(from: u64, max: u32) -> Result<Vec<u8>, CodecError> {
    frame::frame(Kind::AuditFetch, VERSION, |out| {
        out.extend_from_slice(&from.to_le_bytes());
        out.extend_from_slice(&max.to_le_bytes());
        Ok(())
    })
}

pub(crate) fn read_audit_fetch(bytes: &[u8]) -> Result<(u64, u32), CodecError> {
    read(bytes, Kind::AuditFetch, |fields| Ok((fields.u64()?, fields.u32()?)))
}

/// As many of the entries as fit a message.
pub(crate) fn audit_bodies(entries: &[AuditEntry]) -> Result<Vec<u8>, CodecError> {
    frame::frame(Kind::AuditBodies, VERSION, |out| {
        for entry in entries {
            let mut body = Vec::with_capacity(256);
            put(&mut body, entry)?;
            if out.len() + body.len() + 64 > MESSAGE_MAX {
                break;
            }
            put_block(out, &body)?;
        }
        Ok(())
    })
}

pub(crate) fn read_audit_bodies(bytes: &[u8]) -> Result<Vec<AuditEntry>, CodecError> {
    read(bytes, Kind::AuditBodies, |fields| {
        let mut entries = Vec::new();
        while !fields.0.is_empty() {
            entries.push(get(fields.block()?)?);
        }
        Ok(entries)
    })
}

/// A request or an answer that belongs to others.
pub fn opaque(kind: Kind, bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
    if bytes.len() > MESSAGE_MAX - 64 {
        return Err(CodecError::TooLarge { bytes: bytes.len(), limit: MESSAGE_MAX - 64 });
    }
    frame::frame(kind, VERSION, |out| {
        out.extend_from_slice(bytes);
        Ok(())
    })
}

pub fn read_opaque(bytes: &[u8], kind: Kind) -> Result<&[u8], CodecError> {
    frame::open(bytes, kind, VERSION)
}

pub(crate) fn put_meta(out: &mut Vec<u8>, meta: &SnapshotMeta) -> Result<(), CodecError> {
    put_log_id_opt(out, meta.last_log_id.as_ref());
    put_stored(out, &meta.last_membership)
}

pub(crate) fn get_meta(fields: &mut Fields<'_>) -> Result<SnapshotMeta, CodecError> {
    Ok(SnapshotMeta { last_log_id: get_log_id_opt(fields)?, last_membership: get_stored(fields)? })
}

pub(crate) fn put_stored(out: &mut Vec<u8>, stored: &StoredMembership) -> Result<(), CodecError> {
    let id: &Option<LogId> = stored.log_id();
    put_log_id_opt(out, id.as_ref());
    put_membership(out, stored.membership())
}

pub(crate) fn get_stored(fields: &mut Fields<'_>) -> Result<StoredMembership, CodecError> {
    let id = get_log_id_opt(fields)?;
    Ok(StoredMembership::new(id, get_membership(fields)?))
}

fn read<T>(
    bytes: &[u8],
    kind: Kind,
    body: impl FnOnce(&mut Fields<'_>) -> Result<T, CodecError>,
) -> Result<T, CodecError> {
    if bytes.len() > MESSAGE_MAX {
        return Err(CodecError::TooLarge { bytes: bytes.len(), limit: MESSAGE_MAX });
    }
    let mut fields = Fields(frame::open(bytes, kind, VERSION)?);
    let value = body(&mut fields)?;
    fields.end()?;
    Ok(value)
}
