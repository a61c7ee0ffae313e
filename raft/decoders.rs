//! Every decoder of this crate by name, for whoever feeds them arbitrary bytes (`chaos/fuzz`).
//!
//! Each gets the bytes as they come, and again inside a frame whose checksum is right.

use crate::codec::frame::{self, CodecError, Kind};
use crate::codec::{self, command, log, record, rpc, snapshot};
use crate::disk_id::{DiskId, Disks};
use bytes::Bytes;
use cryptorun_core::audit::AuditEntry;
use cryptorun_platform::decoders::Decoder;
use cryptorun_platform::random::SeededRandom;

pub const ALL: &[(&str, Decoder)] = &[
    ("raft_command", |bytes| both(Kind::Command, bytes, read_command)),
    ("raft_record", |bytes| both(Kind::Record, bytes, read_record)),
    ("raft_snapshot", |bytes| both(Kind::Snapshot, bytes, |b| done(snapshot::decode(b)))),
    ("raft_standing", |bytes| both(Kind::StoreMeta, bytes, |b| done(snapshot::read_standing(b)))),
    ("raft_audit", |bytes| both(Kind::Audit, bytes, read_audit)),
    ("raft_log", raft_log),
    ("raft_append", |bytes| both(Kind::Append, bytes, |b| done(rpc::read_append(b)))),
    ("raft_messages", raft_messages),
    ("raft_envelope", raft_envelope),
];

/// As they come, and as the body of a good frame.
fn both(kind: Kind, bytes: &[u8], read: fn(&[u8])) {
    read(bytes);
    let framed = frame::frame(kind, 1, |out| {
        out.extend_from_slice(bytes);
        Ok(())
    });
    if let Ok(framed) = framed {
        read(&framed);
    }
}

fn done<T>(_read: Result<T, CodecError>) {}

fn read_command(bytes: &[u8]) {
    if let Ok(entry) = command::decode(bytes) {
        let again = command::encode(&entry).and_then(|bytes| command::decode(&bytes));
        assert_eq!(again, Ok(entry));
    }
}

fn read_record(bytes: &[u8]) {
    if let Ok(record) = record::decode(bytes) {
        let again = record::encode(&record).and_then(|bytes| record::decode(&bytes));
        assert_eq!(again, Ok(record));
    }
}

fn read_audit(bytes: &[u8]) {
    let body = frame::open(bytes, Kind::Audit, 1);
    done(body.and_then(codec::get::<AuditEntry>));
}

fn raft_log(bytes: &[u8]) {
    let read: fn(&[u8]) = |bytes| {
        if let Ok(record) = log::decode_record(bytes) {
            let mut out = Vec::new();
            assert_eq!(log::put_record(&mut out, &record), Ok(()));
            assert!(log::decode_record(&out).is_ok(), "{record:?} does not read back");
        }
    };
    read(bytes);
    let Some((first, body)) = bytes.split_first() else { return };
    let kinds = [
        Kind::LogVote,
        Kind::LogAppend,
        Kind::LogTruncate,
        Kind::LogPurge,
        Kind::LogCommitted,
        Kind::LogDisk,
    ];
    both(kinds[usize::from(*first) % kinds.len()], body, read);
}

/// The first byte says which message the rest is.
fn raft_messages(bytes: &[u8]) {
    let Some((first, body)) = bytes.split_first() else { return };
    match first % 12 {
        0 => both(Kind::Appended, body, |b| done(rpc::read_appended(b))),
        1 => both(Kind::AskVote, body, |b| done(rpc::read_ask_vote(b))),
        2 => both(Kind::Voted, body, |b| done(rpc::read_voted(b))),
        3 => both(Kind::SnapshotChunk, body, |b| done(rpc::read_chunk(b))),
        4 => both(Kind::SnapshotTaken, body, |b| done(rpc::read_taken(b))),
        5 => both(Kind::TransferLeader, body, |b| done(rpc::read_transfer(b))),
        6 => both(Kind::TransferAnswer, body, |b| done(rpc::read_transferred(b))),
        7 => both(Kind::ReadIndex, body, |b| done(rpc::read_read_index(b))),
        8 => both(Kind::ReadIndexAnswer, body, |b| done(rpc::read_read_from(b))),
        9 => both(Kind::AuditFetch, body, |b| done(rpc::read_audit_fetch(b))),
        10 => both(Kind::AuditBodies, body, |b| done(rpc::read_audit_bodies(b))),
        _ => both(Kind::Forward, body, |b| done(rpc::read_opaque(b, Kind::Forward).map(drop))),
    }
}

fn raft_envelope(bytes: &[u8]) {
    let disks = Disks::new(DiskId::draw(&SeededRandom::new(1)));
    let _ = disks.open(1, Bytes::copy_from_slice(bytes));
}
