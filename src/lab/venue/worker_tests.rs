//! The worker's own session against this venue: what each proves, both must agree on.

use super::tests::{Running, start};
use crate::protocol::{VenueChannel, VenueFault};
use cryptorun_platform::Platform;
use cryptorun_worker::ingest::dial::TcpDial;
use cryptorun_worker::ingest::feed::{BookGap, FeedEvent, FeedReport, Gap};
use cryptorun_worker::ingest::kraken::KrakenSettings;
use cryptorun_worker::ingest::model::Symbol;
use cryptorun_worker::ingest::sequence::ResumePoints;
use cryptorun_worker::ingest::session::{Feed, Session};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

struct Worker {
    feed: Feed,
    btc: Symbol,
    ids: BTreeSet<u64>,
    gaps: Vec<FeedEvent>,
    stop: CancellationToken,
    _disk: tempfile::TempDir,
}

fn follow(venue: &Running) -> Worker {
    let disk = tempfile::tempdir().unwrap();
    let settings = KrakenSettings {
        ws_url: format!("ws://{}/v2?client=us-east-1", venue.websocket),
        rest_url: format!("http://{}", venue.rest),
        ..KrakenSettings::default()
    };
    let (session, feed) = Session::kraken(
        Platform::real(disk.path().into()),
        Arc::new(TcpDial::new().unwrap()),
        &settings,
        &ResumePoints::new(),
    )
    .unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(session.run(stop.clone()));
    Worker {
        feed,
        btc: "BTC/USD".parse().unwrap(),
        ids: BTreeSet::new(),
        gaps: Vec::new(),
        stop,
        _disk: disk,
    }
}

impl Worker {
    /// Takes events until `holds`. A trade that comes twice fails.
    async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        let taking = async {
            while !holds(self) {
                match self.feed.events.recv().await.unwrap() {
                    FeedEvent::Trade(trade) if trade.source.symbol == self.btc => {
                        assert!(self.ids.insert(trade.id), "trade {} came twice", trade.id);
                    }
                    FeedEvent::Trade(_) | FeedEvent::Watermark { .. } => {}
                    gap => self.gaps.push(gap),
                }
            }
        };
        let taken = tokio::time::timeout(PATIENCE, taking).await;
        taken.unwrap_or_else(|_| panic!("gaps {:?}, {:#?}", self.gaps, self.feed.report.borrow()));
    }

    fn report(&self) -> Arc<FeedReport> {
        self.feed.report.borrow().clone()
    }

    fn has_every_id(&self) -> bool {
        let (Some(first), Some(last)) = (self.ids.first(), self.ids.last()) else { return false };
        self.ids.len() as u64 == last - first + 1
    }
}

#[tokio::test]
async fn the_worker_proves_every_frame_and_repairs_what_is_taken_from_it() {
    let venue = start(None).await;
    let mut worker = follow(&venue);
    worker.until(|worker| worker.report().summary_of_btc().0 > 200).await;
    assert_eq!(worker.report().summary_of_btc().1, 0, "{:#?}", worker.report());
    assert!(worker.has_every_id() && worker.gaps.is_empty(), "{:?}", worker.gaps);

    venue.fault(VenueFault::Drop { channel: VenueChannel::Trade, frames: 4, client: None }).await;
    worker
        .until(|worker| {
            // Of either pair: which one the four frames were of is chance.
            let closed =
                |gap: &FeedEvent| matches!(gap, FeedEvent::GapClosed { gap: Gap::Trades(_), .. });
            worker.gaps.iter().any(closed) && worker.has_every_id()
        })
        .await;
    let lost = worker.gaps.iter().any(|gap| matches!(gap, FeedEvent::GapLost { .. }));
    assert!(!lost, "REST has what the socket lost: {:?}", worker.gaps);

    worker.gaps.clear();
    venue.fault(VenueFault::CorruptChecksum { frames: 1, client: Some("us-east-1".into()) }).await;
    worker
        .until(|worker| {
            let closed = |gap: &FeedEvent| {
                matches!(gap, FeedEvent::GapClosed { gap: Gap::Book(BookGap::Checksum), .. })
            };
            worker.gaps.iter().any(closed)
        })
        .await;
    worker.stop.cancel();
    venue.stop().await;
}

/// Checksums that passed and failed at BTC/USD.
trait BtcSummary {
    fn summary_of_btc(&self) -> (u64, u64);
}

impl BtcSummary for FeedReport {
    fn summary_of_btc(&self) -> (u64, u64) {
        let mut symbols = self.symbols.iter();
        let btc = symbols.find(|(symbol, _)| symbol.as_str() == "BTC/USD");
        btc.map_or((0, 0), |(_, report)| (report.checksums_passed, report.checksums_failed))
    }
}

#[tokio::test]
async fn a_worker_goes_on_over_a_venue_that_is_killed_and_started_again() {
    let venue = start(None).await;
    let mut worker = follow(&venue);
    worker.until(|worker| worker.ids.len() > 80).await;
    let addresses = (venue.websocket, venue.rest);
    venue.stop().await;
    let again = super::tests::start_at(addresses).await;
    let before = worker.ids.last().copied();
    worker
        .until(|worker| {
            let reconnected = worker.report().connections >= 2;
            reconnected && worker.ids.last() > before.as_ref() && worker.has_every_id()
        })
        .await;
    worker.stop.cancel();
    again.stop().await;
}
