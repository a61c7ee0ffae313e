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
                let round_trip = answer.is_ok().then(|| clock.boot() - sent);
                regions.probed(&region, round_trip);
                if let Some(rtt) = round_trip {
                    let labels = [own.as_str(), region.as_str()];
                    metrics.cross_region_rtt_seconds.set(labels, rtt.as_secs_f64());
                }
            });
            drop(platform.spawn.spawn("probe", ping));
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
}
