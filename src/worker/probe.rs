//! Is the data path to the other regions open? One small call a second to each.

use crate::warm::regions::Regions;
use crate::warm::wire::PING;
use bytes::Bytes;
use cryptorun_core::region::RegionName;
use cryptorun_platform::Platform;
use cryptorun_platform::metrics::Metrics;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(1);
/// A timer that is late by more did not run, and neither did anything else here.
const LATE: Duration = Duration::from_millis(100);
/// Three round trips across an ocean.
const ANSWER_WITHIN: Duration = Duration::from_millis(900);

pub async fn run(
    platform: Platform,
    regions: Arc<Regions>,
    own: RegionName,
    metrics: Metrics,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        for (region, number) in regions.all() {
            if region == own {
                continue;
            }
            let (regions, clock) = (Arc::clone(&regions), Arc::clone(&platform.clock));
            let (metrics, own) = (metrics.clone(), own.clone());
            let ping = Box::pin(async move {
                let sent = clock.boot();
                let peers = Arc::clone(&regions.peers);
                let answer =
                    peers.call(number, PING, Bytes::from_static(b"?"), ANSWER_WITHIN).await;
                regions.probed(&region, sent, answer.is_ok());
                if answer.is_ok() {
                    let labels = [own.as_str(), region.as_str()];
                    let rtt = (clock.boot() - sent).as_secs_f64();
                    metrics.cross_region_rtt_seconds.set(labels, rtt);
                }
            });
            drop(platform.spawn.spawn("probe", ping));
        }
        let rests = platform.clock.boot();
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => {}
        }
        let over = (platform.clock.boot() - rests).saturating_sub(EVERY);
        if over > LATE {
            regions.stood_still(over);
        }
    }
}
