//! The golden bytes of every kind, and bytes that nobody wrote.
//!
//! A line of a golden file is `name <tab> hex <tab> value`. The bytes must decode to that value and
//! encode to themselves again. `CRYPTORUN_GOLDEN=write` adds lines for samples that have none and
//! writes values anew; the bytes of a line that is there never change: disks and peers in the field
//! have them.

#[path = "samples.rs"]
mod samples;

use super::frame::Kind;
use super::log::LogRecord;
use super::rpc::{self, Chunk, ReadFrom, Taken};
use super::snapshot::Standing;
use super::*;
use crate::disk_id::DiskId;
use crate::error::Outdated;
use crate::types::{
    EntryPayload, LeaderId, LogEntry, LogId, Member, Membership, Payload, SnapshotMeta,
    StoredMembership, Vote,
};
use cryptorun_core::command::{Command, ProposeRules};
use cryptorun_core::config::{CLUSTER_VERSION, Cluster};
use cryptorun_core::machine::Machine;
use cryptorun_core::position::Hash;
use cryptorun_core::record::Record;
use cryptorun_core::rules::Change;
use openraft::raft::{StreamAppendError, TransferLeaderError};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Bytes in, value as text and the bytes it encodes to out.
type Check = fn(&[u8]) -> Result<(String, Vec<u8>), CodecError>;

fn golden(file: &str, samples: Vec<(String, Vec<u8>)>, check: Check) -> BTreeSet<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    if std::env::var("CRYPTORUN_GOLDEN").as_deref() == Ok("write") {
        std::fs::write(&path, added(&path, &samples, check)).expect("writes");
    }
    let text = std::fs::read_to_string(&path).expect("the golden file is committed");
    let mut names = BTreeSet::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, '\t');
        let mut part = || parts.next().expect("three parts");
        let (name, bytes, value) = (part(), unhex(part()), part());
        let (decoded, again) = check(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(decoded, value, "{file}: {name} decodes to something else");
        assert_eq!(hex(&again), hex(&bytes), "{file}: {name} encodes otherwise");
        names.insert(name.to_owned());
    }
    for (name, bytes) in samples {
        assert!(names.contains(&name), "{file} has no line for {name}: {}", hex(&bytes));
    }
    names
}

/// The file's lines with their values as they are shown now, then the samples that it lacks.
fn added(path: &std::path::Path, samples: &[(String, Vec<u8>)], check: Check) -> String {
    let old = std::fs::read_to_string(path).unwrap_or_default();
    let mut lines: Vec<(String, Vec<u8>)> = old
        .lines()
        .map(|line| {
            let mut parts = line.splitn(3, '\t');
            let mut part = || parts.next().expect("three parts");
            (part().to_owned(), unhex(part()))
        })
        .collect();
    for (name, bytes) in samples {
        if !lines.iter().any(|(known, _)| known == name) {
            lines.push((name.clone(), bytes.clone()));
        }
    }
    let shown = lines.iter().map(|(name, bytes)| {
        let (value, _) = check(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        format!("{name}\t{}\t{value}\n", hex(bytes))
    });
    shown.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(digits).collect()
}

#[test]
fn commands_keep_their_bytes() {
    let samples: Vec<_> = samples::commands()
        .into_iter()
        .map(|command| {
            let (tag, entry) = (command::tag(&command), samples::entry(command));
            let name = command::TAGS.iter().find(|(known, _)| *known == tag).expect("has a tag").1;
            (name.to_owned(), command::encode(&entry).expect("encodes"))
        })
        .chain(samples::restores().into_iter().map(|(name, command)| {
            (name.to_owned(), command::encode(&samples::entry(command)).expect("encodes"))
        }))
        .collect();
    let names = golden("commands.v1.txt", samples, |bytes| {
        let entry = command::decode(bytes)?;
        Ok((format!("{entry:?}"), command::encode(&entry)?))
    });
    for (_, name) in command::TAGS {
        assert!(names.contains(*name), "no golden bytes for {name}");
    }
}

#[test]
fn records_keep_their_bytes() {
    let mut samples = Vec::new();
    let mut counts = BTreeMap::new();
    for record in samples::records() {
        let bytes = record::encode(&record).expect("encodes");
        let tag = bytes[frame::HEADER];
        let name = record::TAGS.iter().find(|(known, _)| *known == tag).expect("has a tag").1;
        let count = counts.entry(name).or_insert(0);
        *count += 1;
        if *count == 1 {
            samples.push((name.to_owned(), bytes));
        }
    }
    let names = golden("records.v1.txt", samples, |bytes| {
        let record = record::decode(bytes)?;
        Ok((format!("{record:?}"), record::encode(&record)?))
    });
    for (_, name) in record::TAGS {
        assert!(names.contains(*name), "no golden bytes for {name}");
    }
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId { term, node_id: 2 }, index)
}

fn membership() -> Membership {
    let member = |name: &str| Member {
        region: "us-east-1".to_owned(),
        name: name.to_owned(),
        raft: "10.0.0.1:7401".to_owned(),
        api: "10.0.0.1:7400".to_owned(),
        disk: None,
    };
    let nodes = BTreeMap::from([(1, member("n1")), (2, member("n2")), (3, member("n3"))]);
    let configs = vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])];
    Membership::new(configs, nodes).expect("is valid")
}

fn entries() -> Vec<LogEntry> {
    let command = samples::commands().pop().expect("there are some");
    let payload = Payload::new(samples::entry(command)).expect("encodes");
    vec![
        LogEntry { log_id: id(3, 7), payload: EntryPayload::Blank },
        LogEntry { log_id: id(3, 8), payload: EntryPayload::Normal(payload) },
        LogEntry { log_id: id(3, 9), payload: EntryPayload::Membership(membership()) },
    ]
}

fn disk(number: u64) -> DiskId {
    DiskId::new(number).expect("is not zero")
}

fn joined_with_disks() -> LogEntry {
    let nodes: BTreeMap<u64, Member> = membership()
        .nodes()
        .map(|(id, member)| (*id, Member { disk: Some(disk(*id)), ..member.clone() }))
        .collect();
    let members = Membership::new(vec![BTreeSet::from([1, 2, 3])], nodes).expect("is valid");
    LogEntry { log_id: id(3, 10), payload: EntryPayload::Membership(members) }
}

fn meta() -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: Some(id(3, 9)),
        last_membership: StoredMembership::new(Some(id(3, 9)), membership()),
    }
}

#[test]
fn log_records_keep_their_bytes() {
    let records = [
        ("vote", LogRecord::Vote(Vote::new_committed(4, 2))),
        ("append", LogRecord::Append(entries())),
        ("truncate", LogRecord::Truncate(None)),
        ("purge", LogRecord::Purge(id(3, 9))),
        ("committed", LogRecord::Committed(Some(id(3, 9)))),
        ("append_with_disks", LogRecord::Append(vec![joined_with_disks()])),
        ("disk", LogRecord::Disk(disk(0x0D15_C001))),
    ];
    let encode = |record: &LogRecord| {
        let mut out = Vec::new();
        log::put_record(&mut out, record).map(|()| out)
    };
    let samples =
        records.map(|(name, record)| (name.to_owned(), encode(&record).expect("encodes")));
    golden("log.v1.txt", samples.into(), |bytes| {
        let record = log::decode_record(bytes)?;
        let mut out = Vec::new();
        log::put_record(&mut out, &record)?;
        Ok((format!("{record:?}"), out))
    });
}

/// Decodes by what the frame says it is.
fn any_message(bytes: &[u8]) -> Result<(String, Vec<u8>), CodecError> {
    fn both<T: std::fmt::Debug>(
        value: T,
        again: impl FnOnce(&T) -> Result<Vec<u8>, CodecError>,
    ) -> Result<(String, Vec<u8>), CodecError> {
        let bytes = again(&value)?;
        Ok((format!("{value:?}"), bytes))
    }
    let kind = bytes.first().copied().unwrap_or(0);
    let is = |one: Kind| kind == one as u8;
    if is(Kind::Append) {
        both(rpc::read_append(bytes)?, rpc::append)
    } else if is(Kind::Appended) {
        both(rpc::read_appended(bytes)?, rpc::appended)
    } else if is(Kind::AskVote) {
        both(rpc::read_ask_vote(bytes)?, rpc::ask_vote)
    } else if is(Kind::Voted) {
        both(rpc::read_voted(bytes)?, rpc::voted)
    } else if is(Kind::SnapshotChunk) {
        both(rpc::read_chunk(bytes)?, rpc::chunk)
    } else if is(Kind::SnapshotTaken) {
        both(rpc::read_taken(bytes)?, rpc::taken)
    } else if is(Kind::TransferLeader) {
        both(rpc::read_transfer(bytes)?, rpc::transfer)
    } else if is(Kind::TransferAnswer) {
        both(rpc::read_transferred(bytes)?, rpc::transferred)
    } else if is(Kind::ReadIndex) {
        both(rpc::read_read_index(bytes)?, |lease| rpc::read_index(*lease))
    } else if is(Kind::ReadIndexAnswer) {
        both(rpc::read_read_from(bytes)?, |from| rpc::read_from(*from))
    } else if is(Kind::AuditFetch) {
        both(rpc::read_audit_fetch(bytes)?, |(from, max)| rpc::audit_fetch(*from, *max))
    } else if is(Kind::AuditBodies) {
        both(rpc::read_audit_bodies(bytes)?, |bodies| rpc::audit_bodies(bodies))
    } else if is(Kind::StoreMeta) {
        both(snapshot::read_standing(bytes)?, snapshot::standing)
    } else if is(Kind::Snapshot) {
        both(snapshot::decode(bytes)?, |(at, machine)| snapshot::encode(machine, at))
    } else {
        both(rpc::read_opaque(bytes, Kind::Forward)?.to_vec(), |body| {
            rpc::opaque(Kind::Forward, body)
        })
    }
}

#[test]
fn messages_and_snapshots_keep_their_bytes() {
    let vote = Vote::new_committed(4, 2);
    let standing = Standing { meta: meta(), hash: Hash([9; 32]) };
    let mut machine = Machine::default();
    samples::records().into_iter().for_each(|record| machine.load(record));
    let append =
        rpc::Append { vote, prev_log_id: Some(id(2, 6)), leader_commit: None, entries: entries() };
    let mut ask = rpc::AskVote::new(Vote::new(5, 2), Some(id(3, 9)));
    ask.leadership_transfer = true;
    let voted = rpc::Voted { vote, vote_granted: true, last_log_id: Some(id(3, 9)) };
    let chunk = Chunk { vote, meta: meta(), total: 10, offset: 4, bytes: b"piece".to_vec() };
    let changed = TransferLeaderError::VoteChanged { expected: vote, actual: Vote::new(5, 1) };
    let unflushed = TransferLeaderError::LogNotFlushed { expected: Some(id(3, 9)), actual: None };
    let audited: Vec<_> = machine.audit().values().take(2).cloned().collect();
    let samples = [
        ("append", rpc::append(&append)),
        ("appended", rpc::appended(&Ok(Some(id(3, 9))))),
        ("appended conflict", rpc::appended(&Err(StreamAppendError::Conflict(id(3, 9))))),
        ("appended higher", rpc::appended(&Err(StreamAppendError::HigherVote(vote)))),
        ("ask vote", rpc::ask_vote(&ask)),
        ("voted", rpc::voted(&voted)),
        ("chunk", rpc::chunk(&chunk)),
        ("taken next", rpc::taken(&Taken::Next(9))),
        ("taken done", rpc::taken(&Taken::Done(vote))),
        ("transfer", rpc::transfer(&rpc::Transfer::new(vote, 3, Some(id(3, 9))))),
        ("transferred", rpc::transferred(&Ok(()))),
        ("transferred changed", rpc::transferred(&Err(changed))),
        ("transferred unflushed", rpc::transferred(&Err(unflushed))),
        ("read index", rpc::read_index(true)),
        ("read from", rpc::read_from(ReadFrom { index: 9, term: 4 })),
        ("audit fetch", rpc::audit_fetch(5, 100)),
        ("audit bodies", rpc::audit_bodies(&audited)),
        ("forward", rpc::opaque(Kind::Forward, b"opaque")),
        ("standing", snapshot::standing(&standing)),
        ("snapshot", snapshot::encode(&machine, &standing)),
    ];
    let samples = samples.map(|(name, bytes)| (name.to_owned(), bytes.expect("encodes")));
    golden("messages.v1.txt", samples.into(), any_message);
}

/// Everything at once, with a frame whose checksum is right.
fn decode_everything(bytes: &[u8]) {
    drop(command::decode(bytes));
    drop(record::decode(bytes));
    drop(log::decode_record(bytes));
    drop(any_message(bytes));
    drop(snapshot::decode(bytes));
    drop(snapshot::read_standing(bytes));
}

const KINDS: [Kind; 21] = [
    Kind::Command,
    Kind::Record,
    Kind::Snapshot,
    Kind::StoreMeta,
    Kind::LogVote,
    Kind::LogAppend,
    Kind::LogTruncate,
    Kind::LogPurge,
    Kind::LogCommitted,
    Kind::LogDisk,
    Kind::Append,
    Kind::Appended,
    Kind::AskVote,
    Kind::Voted,
    Kind::SnapshotChunk,
    Kind::SnapshotTaken,
    Kind::TransferLeader,
    Kind::TransferAnswer,
    Kind::ReadIndex,
    Kind::AuditFetch,
    Kind::AuditBodies,
];

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_everything(&bytes);
    }

    #[test]
    fn arbitrary_bodies_in_good_frames_never_panic(
        kind in 0..KINDS.len(), body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = frame::frame(KINDS[kind], 1, |out| {
            out.extend_from_slice(&body);
            Ok(())
        }).expect("encodes");
        decode_everything(&bytes);
    }

    /// One bent byte inside a frame whose checksum was made good again.
    #[test]
    fn bent_commands_never_panic(which in 0usize..24, at in any::<prop::sample::Index>(), byte: u8) {
        let entry = samples::entry(samples::commands().swap_remove(which));
        let good = command::encode(&entry).expect("encodes");
        let mut body = good[frame::HEADER..].to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        let bytes = frame::frame(Kind::Command, 1, |out| {
            out.extend_from_slice(&body);
            Ok(())
        }).expect("encodes");
        decode_everything(&bytes);
    }
}

#[test]
fn a_command_too_large_for_the_log_is_refused() {
    use cryptorun_core::command::{Command, Deny};
    let reason = "x".repeat(ENTRY_MAX);
    let deny = Deny { promotion: cryptorun_core::promotion::PromotionId(1), reason };
    let said = Payload::new(samples::entry(Command::Deny(deny)));
    assert!(matches!(said, Err(CodecError::TooLarge { .. })));
}

#[test]
fn record_keys_are_unique_and_numbers_sort_as_numbers() {
    use cryptorun_core::record::RecordKey;
    let key = |number| record::key(&RecordKey::Audit(number)).expect("encodes");
    assert!(key(9) < key(10) && key(255) < key(256));
    assert_ne!(key(9), record::key(&RecordKey::Review(9)).expect("encodes"));
}

#[test]
fn a_program_that_the_cluster_has_left_behind_says_what_to_install() {
    let at = |version| {
        let mut machine = Machine::default();
        for record in samples::records() {
            match record {
                Record::Cluster(cluster) => {
                    machine.load(Record::Cluster(Cluster { version, ..cluster }));
                }
                other => machine.load(other),
            }
        }
        Outdated::check(&machine)
    };
    assert_eq!(at(CLUSTER_VERSION), Ok(()));
    let left = at(CLUSTER_VERSION + 1).unwrap_err();
    assert_eq!((left.cluster, left.program), (CLUSTER_VERSION + 1, CLUSTER_VERSION));
    assert!(left.to_string().contains("install the newer one"));
    assert_eq!(Outdated::check(&Machine::default()), Ok(()), "not founded yet");
}

#[test]
fn an_entry_that_raises_the_version_beyond_this_program_is_foreseen() {
    let raise = |to| {
        let change = Change::ClusterVersion { from: to - 1, to };
        Outdated::foresee(&Command::ProposeRules(ProposeRules { change, reason: None }))
    };
    assert_eq!(raise(CLUSTER_VERSION), Ok(()));
    assert_eq!(raise(CLUSTER_VERSION + 1).unwrap_err().cluster, CLUSTER_VERSION + 1);
    assert_eq!(Outdated::foresee(&Command::Tick), Ok(()));
}
