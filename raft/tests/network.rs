use super::*;
use crate::types::{LeaderId, LogEntry};
use async_trait::async_trait;
use openraft::EntryPayload;
use std::sync::Mutex;
use tokio::sync::mpsc;

/// One peer, whose end of the stream a test holds.
#[derive(Clone)]
struct OnePeer(Arc<Mutex<Option<Duplex>>>);

#[async_trait]
impl Peers for OnePeer {
    async fn call(&self, _: u64, _: u8, _: Bytes, _: Duration) -> Result<Bytes, CallError> {
        Err(CallError::Unreachable)
    }

    async fn stream(&self, _: u64, _: u8) -> Result<Duplex, CallError> {
        self.0.lock().expect("nobody panicked").take().ok_or(CallError::Unreachable)
    }
}

fn at(index: u64) -> LogId {
    LogId::new(LeaderId { term: 1, node_id: 1 }, index)
}

/// Entries after `prev` up to `last`, and what is committed.
fn append(prev: u64, last: u64, committed: u64) -> Append {
    let vote = Vote::new_committed(1, 1);
    let entry = |index| LogEntry { log_id: at(index), payload: EntryPayload::Blank };
    let entries = (prev + 1..=last).map(entry).collect();
    Append { vote, prev_log_id: Some(at(prev)), entries, leader_commit: Some(at(committed)) }
}

/// A pipe that is fed by hand, the peer's end, and the answers.
struct Fed {
    input: mpsc::UnboundedSender<Append>,
    peer: Duplex,
    answers: BoxStream<'static, Rpc<StreamAppendResult<TypeConfig>>>,
}

async fn fed() -> Fed {
    let (ours, peer) = Duplex::pair(8);
    let peers = OnePeer(Arc::new(Mutex::new(Some(ours))));
    let next = crate::next_index::tests::empty();
    let connection = Box::leak(Box::new(Connection { peers: Arc::new(peers), next, to: 2 }));
    let (input, requests) = mpsc::unbounded_channel();
    let requests = Box::pin(futures_util::stream::unfold(requests, |mut requests| async move {
        requests.recv().await.map(|request| (request, requests))
    }));
    let option = RPCOption::new(Duration::from_secs(1));
    let answers = connection.stream_append(requests, option).await.expect("it opens later");
    Fed { input, peer, answers }
}

impl Fed {
    /// What has left so far, as (entries, committed), when nothing moves any more for `within`.
    async fn left(&mut self, within: Duration) -> Vec<(usize, u64)> {
        let mut left = Vec::new();
        let read = async {
            loop {
                tokio::select! {
                    biased;
                    answer = self.answers.next() => panic!("answered {answer:?}"),
                    message = self.peer.rx.recv() => {
                        let message = message.expect("the pipe lives");
                        let request = rpc::read_append(&message).expect("an append");
                        let committed = request.leader_commit.expect("always given");
                        left.push((request.entries.len(), committed.index));
                    }
                }
            }
        };
        let ended: Result<(), _> = tokio::time::timeout(within, read).await;
        assert!(ended.is_err());
        left
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_leaves_with_the_entries_that_follow_it() {
    let mut fed = fed().await;
    fed.input.send(append(4, 5, 4)).expect("taken");
    fed.input.send(append(5, 5, 5)).expect("taken");
    assert_eq!(fed.left(Duration::ZERO).await, [(1, 4)]);
    fed.input.send(append(5, 7, 5)).expect("taken");
    assert_eq!(fed.left(COMMIT_WAITS * 3).await, [(2, 5)]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_nothing_follows_leaves_in_time() {
    let mut fed = fed().await;
    fed.input.send(append(5, 5, 5)).expect("taken");
    assert_eq!(fed.left(Duration::ZERO).await, []);
    tokio::time::advance(COMMIT_WAITS / 2).await;
    // A later one does not put it off.
    fed.input.send(append(5, 5, 6)).expect("taken");
    assert_eq!(fed.left(COMMIT_WAITS).await, [(0, 6)]);
}

#[tokio::test(start_paused = true)]
async fn the_last_request_of_a_stream_waits_for_nothing() {
    let Fed { input, mut peer, mut answers } = fed().await;
    input.send(append(5, 5, 5)).expect("taken");
    drop(input);
    let begun = Instant::now();
    let answer = async {
        peer.rx.recv().await.expect("it left");
        let matched: StreamAppendResult<TypeConfig> = Ok(Some(at(5)));
        let bytes = rpc::appended(&matched).expect("it encodes");
        peer.tx.send(bytes.into()).await.expect("taken");
    };
    let (answered, ()) = tokio::join!(answers.next(), answer);
    assert!(matches!(answered, Some(Ok(Ok(Some(id)))) if id == at(5)));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(answers.next().await.is_none());
}
