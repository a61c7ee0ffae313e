//! What this worker says of itself with each renewal.

use crate::ingest::feed::FeedReport;
use crate::keeper::Reporter;
use crate::queue::Queue;
use crate::sink::Sink;
use crate::standing::Standing;
use crate::warm::regions::Regions;
use crate::warm::scope::Status;
use cryptorun_core::decide::Verdict;
use cryptorun_core::report::{ScopeReport, WorkerReport};
use cryptorun_core::scope::ScopeId;
use cryptorun_platform::clock::Clock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A disk that takes longer than this for one small record does not hold up the renewal; the
/// count of syncs then shows that it stands.
const PROVE_WITHIN: Duration = Duration::from_millis(250);

/// Where reports come from.
pub struct Sources {
    pub clock: Arc<dyn Clock>,
    pub standing: Arc<Standing>,
    pub regions: Arc<Regions>,
    pub queue: Queue,
    pub scopes: BTreeMap<ScopeId, (Sink, watch::Receiver<Status>)>,
    pub feeds: BTreeMap<String, watch::Receiver<Arc<FeedReport>>>,
}

#[async_trait::async_trait]
impl Reporter for Sources {
    async fn report(&self) -> WorkerReport {
        // A failed disk stops the process elsewhere; here it only shows.
        let _ = tokio::time::timeout(PROVE_WITHIN, self.queue.prove()).await;
        let now = self.clock.boot();
        let queue = self.queue.status();
        let feeds =
            self.feeds.iter().map(|(name, feed)| (name.clone(), feed.borrow().summary(now)));
        let scopes = || self.scopes.iter();
        WorkerReport {
            scopes: scopes().map(|(id, (sink, status))| (id.clone(), of(sink, status))).collect(),
            disk: queue.disk,
            clock_offset_ms: self.standing.clock_offset_ms(),
            queue_bytes: queue.waiting_bytes,
            queue_syncs: queue.syncs,
            feeds: feeds.collect(),
            arrived_ago: self.regions.arrived_ago(),
            reach: self.regions.reach(),
            fenced: scopes().map(|(id, (sink, _))| (id.clone(), sink.view().fenced)).collect(),
        }
    }
}

fn of(sink: &Sink, status: &watch::Receiver<Status>) -> ScopeReport {
    let (view, status) = (sink.view(), status.borrow().clone());
    let visible = sink.visible(status.token);
    let watermark = view.last.map(|last| last.watermark).unwrap_or_default();
    let sound = if view.degraded.is_none() { Verdict::Yes } else { Verdict::No };
    ScopeReport {
        role: status.role,
        rev: status.rev,
        token: status.token,
        highest: view.highest,
        end: view.end,
        rows: view.rows,
        sealed_at: view.last.map(|last| last.sealed_at).unwrap_or_default(),
        watermark,
        input: status.input.max(watermark),
        sealed: view.sealed,
        barrier: status.barrier,
        forks: view.forks,
        checks: BTreeMap::from([("chain".to_owned(), sound)]),
        first_visible: visible.map(|(first, _)| first),
        // A holder that stopped reports its last write after it follows another's token.
        last_visible: sink.last_visible(),
    }
}
