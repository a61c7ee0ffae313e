use super::*;
use crate::log_store::PAYLOAD_MAX;
use crate::log_store::tests::open;
use crate::types::{EntryPayload, LogEntry, Vote};
use cryptorun_platform::disk::SimDisk;
use openraft::storage::RaftLogStorageExt;

const FOLLOWER: u64 = 2;

fn id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId { term, node_id: 1 }, index)
}

fn entry(log_id: LogId) -> LogEntry {
    LogEntry { log_id, payload: EntryPayload::Blank }
}

fn log() -> LogStore {
    open(&SimDisk::new()).expect("opens")
}

/// Of a node with an empty log.
pub(crate) fn empty() -> NextIndex {
    NextIndex::new(log())
}

/// Of a leader of term 9, whose log has entries of term 1 below `own` and its own first one there.
async fn leading(own: u64) -> NextIndex {
    let mut log = log();
    let entries: Vec<_> = (0..own).map(|index| entry(id(1, index))).collect();
    log.blocking_append(entries).await.expect("appends");
    log.blocking_append([entry(id(9, own)), entry(id(9, own + 1))]).await.expect("appends");
    NextIndex::new(log)
}

/// The follower says with its vote, or without one, where its log ends.
fn voted(next: &NextIndex, term: u64, granted: bool, end: LogId) {
    let asked = AskVote::new(Vote::new(term, 1), Some(id(1, 99)));
    let answer = Voted::new(Vote::new(term, 1), Some(end), granted);
    next.voted(FOLLOWER, &asked, &answer);
}

/// What openraft would ask first: from the middle on.
fn search(middle: u64) -> Append {
    let entries = vec![entry(id(1, middle + 1))];
    let prev_log_id = Some(id(1, middle));
    Append { vote: Vote::new_committed(9, 1), prev_log_id, entries, leader_commit: None }
}

/// Where the search from there on is put, and which entries go along.
fn aimed(next: &NextIndex, middle: u64) -> Option<(Option<LogId>, Vec<LogId>)> {
    let append = next.aim(FOLLOWER, &search(middle))?;
    Some((append.prev_log_id, append.entries.iter().map(|entry| entry.log_id).collect()))
}

#[tokio::test(start_paused = true)]
async fn the_first_append_begins_where_the_voter_said_that_its_log_ends() {
    let next = leading(100).await;
    voted(&next, 9, true, id(1, 97));
    let missing = vec![id(1, 98), id(1, 99), id(9, 100)];
    for _ in 0..2 {
        // A lost one is asked again.
        assert_eq!(aimed(&next, 50), Some((Some(id(1, 97)), missing.clone())));
    }
    assert_eq!(aimed(&next, 98), None);
}

#[tokio::test(start_paused = true)]
async fn a_follower_far_behind_is_searched_for_and_gets_no_more_at_once_than_any() {
    let next = leading(1000).await;
    let end = id(1, 10);
    voted(&next, 9, true, end);
    // It would answer with less than openraft asked about.
    assert_eq!(aimed(&next, 500), None);
    next.conflicted(FOLLOWER, id(1, 500));
    let (prev, entries) = aimed(&next, 8).expect("is below its end");
    assert_eq!((prev, entries.len() as u64), (Some(end), PAYLOAD_MAX));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_certain_is_left_to_the_search() {
    let next = leading(100).await;
    assert_eq!(aimed(&next, 50), None, "it has said nothing");
    for (why, term, granted, end) in [
        ("another leader's", 8, true, id(1, 97)),
        ("no vote", 9, false, id(1, 97)),
        ("an entry that the leader does not hold", 9, true, id(2, 97)),
        ("one beyond its log", 9, true, id(1, 200)),
    ] {
        voted(&next, term, granted, end);
        assert_eq!(aimed(&next, 50), None, "{why}");
    }
    voted(&next, 9, true, id(1, 97));
    next.conflicted(FOLLOWER, id(1, 97));
    assert_eq!(aimed(&next, 50), None, "it did not know the entry");
}
