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
use cryptorun_core::time::{Millis, WallTime};
use cryptorun_platform::clock::{BootTime, Clock};
use cryptorun_platform::spawn::Spawn;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// A disk that takes longer than this for one small record does not hold up the renewal; the queue
/// times the record to its end, and says when it does not come.
const PROVE_WITHIN: Duration = Duration::from_millis(250);

/// Where reports come from.
pub struct Sources {
    pub clock: Arc<dyn Clock>,
    pub spawn: Arc<dyn Spawn>,
    pub standing: Arc<Standing>,
    pub regions: Arc<Regions>,
    pub queue: Queue,
    pub scopes: BTreeMap<ScopeId, (Sink, watch::Receiver<Status>)>,
    pub feeds: BTreeMap<String, watch::Receiver<Arc<FeedReport>>>,
    /// A proof that the disk takes writes is under way.
    pub proving: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl Reporter for Sources {
    async fn report(&self) -> WorkerReport {
        self.prove().await;
        let now = self.clock.boot();
        let queue = self.queue.status();
        let clock = self.standing.clock_offset();
        let feeds =
            self.feeds.iter().map(|(name, feed)| (name.clone(), feed.borrow().summary(now)));
        let scopes = || self.scopes.iter();
        WorkerReport {
            scopes: scopes()
                .map(|(id, (sink, status))| (id.clone(), of(sink, status, now)))
                .collect(),
            disk: queue.disk,
            clock_offset_ms: clock.ms,
            clock_within_ms: clock.within_ms,
            queue_bytes: queue.waiting_bytes,
            queue_syncs: queue.syncs,
            feeds: feeds.collect(),
            arrived_ago: self.regions.arrived_ago(),
            reach: self.regions.ways(),
            fenced: scopes().map(|(id, (sink, _))| (id.clone(), sink.view().fenced)).collect(),
        }
    }
}

impl Sources {
    /// One proof at a time: it is timed to its end, whoever has stopped waiting for it.
    async fn prove(&self) {
        if self.proving.swap(true, Ordering::Relaxed) {
            return;
        }
        let (queue, proving) = (self.queue.clone(), Arc::clone(&self.proving));
        let (tell, told) = oneshot::channel();
        let proof = Box::pin(async move {
            // A failed disk stops the process elsewhere; here it only shows.
            let _ = queue.prove().await;
            proving.store(false, Ordering::Relaxed);
            let _ = tell.send(());
        });
        drop(self.spawn.spawn("proof", proof));
        let _ = tokio::time::timeout(PROVE_WITHIN, told).await;
    }
}

fn of(sink: &Sink, status: &watch::Receiver<Status>, now: BootTime) -> ScopeReport {
    let (view, status) = (sink.view(), status.borrow().clone());
    let visible = sink.visible(status.token);
    let watermark = view.last.map(|last| last.watermark).unwrap_or_default();
    // A batch that is not written when it is due is work undone, whoever should tell hangs himself.
    let late = status.due.map_or(0, |due| Millis::from(now - due).0);
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
        input: status.input.max(WallTime(watermark.0.saturating_add(late))),
        sealed: view.sealed,
        barrier: status.barrier,
        forks: view.forks,
        checks: BTreeMap::from([("chain".to_owned(), sound)]),
        first_visible: visible.map(|(first, _)| first),
        // A holder that stopped reports its last write after it follows another's token.
        last_visible: sink.last_visible(),
    }
}
