//! What the log and the protocol are made of: ids, votes, memberships, entries, log records.

use super::frame::{self, CodecError, Fields, Kind, put_block};
use crate::disk_id::DiskId;
use crate::types::{EntryPayload, LeaderId, LogEntry, LogId, Member, Membership, Payload, Vote};
use std::collections::{BTreeMap, BTreeSet};

const VERSION: u16 = 1;

/// One record of the log's stream.
#[derive(Clone, Debug, PartialEq)]
pub enum LogRecord {
    /// The vote.
    Vote(Vote),
    /// Entries, consecutive.
    Append(Vec<LogEntry>),
    /// Everything after this is gone; everything, where there is none.
    Truncate(Option<LogId>),
    /// Everything up to this lies in a snapshot.
    Purge(LogId),
    /// Committed so far.
    Committed(Option<LogId>),
    /// The disk's id.
    Disk(DiskId),
}

impl LogRecord {
    fn kind(&self) -> Kind {
        match self {
            Self::Vote(_) => Kind::LogVote,
            Self::Append(_) => Kind::LogAppend,
            Self::Truncate(_) => Kind::LogTruncate,
            Self::Purge(_) => Kind::LogPurge,
            Self::Committed(_) => Kind::LogCommitted,
            Self::Disk(_) => Kind::LogDisk,
        }
    }
}

pub(crate) fn put_record(out: &mut Vec<u8>, record: &LogRecord) -> Result<(), CodecError> {
    frame::put_frame(out, record.kind(), VERSION, |out| match record {
        LogRecord::Vote(vote) => {
            put_vote(out, vote);
            Ok(())
        }
        LogRecord::Append(entries) => put_entries(out, entries),
        LogRecord::Truncate(id) | LogRecord::Committed(id) => {
            put_log_id_opt(out, id.as_ref());
            Ok(())
        }
        LogRecord::Purge(id) => {
            put_log_id(out, id);
            Ok(())
        }
        LogRecord::Disk(id) => {
            put_disk(out, Some(*id));
            Ok(())
        }
    })
}

/// # Errors
/// The bytes are no record of the log.
pub fn decode_record(bytes: &[u8]) -> Result<LogRecord, CodecError> {
    let kind = Fields(bytes).u8()?;
    let body = |kind| frame::open(bytes, kind, VERSION).map(Fields);
    let (record, rest) = if kind == Kind::LogVote as u8 {
        let mut fields = body(Kind::LogVote)?;
        (LogRecord::Vote(get_vote(&mut fields)?), fields)
    } else if kind == Kind::LogAppend as u8 {
        let mut fields = body(Kind::LogAppend)?;
        (LogRecord::Append(get_entries(&mut fields)?), fields)
    } else if kind == Kind::LogTruncate as u8 {
        let mut fields = body(Kind::LogTruncate)?;
        (LogRecord::Truncate(get_log_id_opt(&mut fields)?), fields)
    } else if kind == Kind::LogPurge as u8 {
        let mut fields = body(Kind::LogPurge)?;
        (LogRecord::Purge(get_log_id(&mut fields)?), fields)
    } else if kind == Kind::LogCommitted as u8 {
        let mut fields = body(Kind::LogCommitted)?;
        (LogRecord::Committed(get_log_id_opt(&mut fields)?), fields)
    } else if kind == Kind::LogDisk as u8 {
        let mut fields = body(Kind::LogDisk)?;
        let missing = || CodecError::Body { why: "a disk without an id".to_owned() };
        (LogRecord::Disk(get_disk(&mut fields)?.ok_or_else(missing)?), fields)
    } else {
        return Err(CodecError::Tag { what: "log record", tag: kind.into() });
    };
    rest.end()?;
    Ok(record)
}

pub(crate) fn put_log_id(out: &mut Vec<u8>, id: &LogId) {
    for number in [id.leader_id.term, id.leader_id.node_id, id.index] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

pub(crate) fn get_log_id(fields: &mut Fields<'_>) -> Result<LogId, CodecError> {
    let leader = LeaderId { term: fields.u64()?, node_id: fields.u64()? };
    Ok(LogId::new(leader, fields.u64()?))
}

pub(crate) fn put_log_id_opt(out: &mut Vec<u8>, id: Option<&LogId>) {
    out.push(u8::from(id.is_some()));
    if let Some(id) = id {
        put_log_id(out, id);
    }
}

pub(crate) fn get_log_id_opt(fields: &mut Fields<'_>) -> Result<Option<LogId>, CodecError> {
    if fields.flag("log id")? { get_log_id(fields).map(Some) } else { Ok(None) }
}

pub(crate) fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    out.extend_from_slice(&vote.leader_id.term.to_le_bytes());
    out.extend_from_slice(&vote.leader_id.node_id.to_le_bytes());
    out.push(u8::from(vote.committed));
}

pub(crate) fn get_vote(fields: &mut Fields<'_>) -> Result<Vote, CodecError> {
    let (term, node) = (fields.u64()?, fields.u64()?);
    Ok(if fields.flag("vote")? { Vote::new_committed(term, node) } else { Vote::new(term, node) })
}

/// Beside the number of nodes: each is followed by the id of its disk.
const WITH_DISKS: u32 = 1 << 31;

pub(crate) fn put_membership(out: &mut Vec<u8>, members: &Membership) -> Result<(), CodecError> {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let configs = members.get_joint_config();
    out.extend_from_slice(&count(configs.len()));
    for config in configs {
        out.extend_from_slice(&count(config.len()));
        config.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
    }
    let with_disks = members.nodes().any(|(_, member)| member.disk.is_some());
    let nodes = u32::try_from(members.nodes().count()).unwrap_or(u32::MAX);
    let mark = if with_disks { WITH_DISKS } else { 0 };
    out.extend_from_slice(&(nodes | mark).to_le_bytes());
    for (id, member) in members.nodes() {
        out.extend_from_slice(&id.to_le_bytes());
        for text in [&member.region, &member.name, &member.raft, &member.api] {
            put_block(out, text.as_bytes())?;
        }
        if with_disks {
            put_disk(out, member.disk);
        }
    }
    Ok(())
}

pub(crate) fn get_membership(fields: &mut Fields<'_>) -> Result<Membership, CodecError> {
    let mut configs = Vec::new();
    for _ in 0..fields.u32()? {
        let mut config = BTreeSet::new();
        for _ in 0..fields.u32()? {
            config.insert(fields.u64()?);
        }
        configs.push(config);
    }
    let mut nodes = BTreeMap::new();
    let nodes_and_mark = fields.u32()?;
    for _ in 0..nodes_and_mark & !WITH_DISKS {
        let id = fields.u64()?;
        let member = Member {
            region: fields.text()?,
            name: fields.text()?,
            raft: fields.text()?,
            api: fields.text()?,
            disk: if nodes_and_mark & WITH_DISKS == 0 { None } else { get_disk(fields)? },
        };
        nodes.insert(id, member);
    }
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|error| CodecError::Body { why: error.to_string() })
}

/// Zero where it is not known.
fn put_disk(out: &mut Vec<u8>, disk: Option<DiskId>) {
    out.extend_from_slice(&disk.map_or(0, DiskId::number).to_le_bytes());
}

fn get_disk(fields: &mut Fields<'_>) -> Result<Option<DiskId>, CodecError> {
    fields.u64().map(DiskId::new)
}

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

fn put_entry(out: &mut Vec<u8>, entry: &LogEntry) -> Result<(), CodecError> {
    put_log_id(out, &entry.log_id);
    match &entry.payload {
        EntryPayload::Blank => out.push(BLANK),
        EntryPayload::Normal(payload) => {
            out.push(NORMAL);
            put_block(out, payload.bytes())?;
        }
        EntryPayload::Membership(members) => {
            out.push(MEMBERSHIP);
            put_membership(out, members)?;
        }
    }
    Ok(())
}

fn get_entry(fields: &mut Fields<'_>) -> Result<LogEntry, CodecError> {
    let log_id = get_log_id(fields)?;
    let payload = match fields.u8()? {
        BLANK => EntryPayload::Blank,
        NORMAL => EntryPayload::Normal(Payload::decode(fields.block()?)?),
        MEMBERSHIP => EntryPayload::Membership(get_membership(fields)?),
        tag => return Err(CodecError::Tag { what: "entry", tag: tag.into() }),
    };
    Ok(LogEntry { log_id, payload })
}

pub(crate) fn put_entries(out: &mut Vec<u8>, entries: &[LogEntry]) -> Result<(), CodecError> {
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    entries.iter().try_for_each(|entry| put_entry(out, entry))
}

pub(crate) fn get_entries(fields: &mut Fields<'_>) -> Result<Vec<LogEntry>, CodecError> {
    // No capacity from the wire: a lying count fails on its first missing entry.
    let mut entries = Vec::new();
    for _ in 0..fields.u32()? {
        entries.push(get_entry(fields)?);
    }
    Ok(entries)
}

/// About how many bytes an entry takes, for bounding a message.
pub(crate) fn entry_size(entry: &LogEntry) -> usize {
    32 + match &entry.payload {
        EntryPayload::Blank => 0,
        EntryPayload::Normal(payload) => payload.bytes().len(),
        EntryPayload::Membership(_) => 4096,
    }
}
