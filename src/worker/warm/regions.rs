//! The other regions as this worker reaches them: numbers for `Peers`, where data of each last
//! arrived from, and who answers.
//!
//! Addresses come from directives; a host's own file may say that a region is reached elsewhere
//! from here (a tunnel, the lab's links), and that wins.

use cryptorun_core::directive::Directive;
use cryptorun_core::path::{Path, Watch};
use cryptorun_core::region::RegionName;
use cryptorun_core::time::Millis;
use cryptorun_platform::clock::{BootTime, Clock};
use cryptorun_platform::net::Peers;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Tells the network where a region's worker is.
pub type Locate = Box<dyn Fn(u64, &RegionName, &str, &str) + Send + Sync>;

pub struct Regions {
    pub peers: Arc<dyn Peers>,
    clock: Arc<dyn Clock>,
    /// Region → data address as seen from here.
    overrides: BTreeMap<RegionName, String>,
    locate: Locate,
    book: Mutex<BTreeMap<RegionName, Known>>,
}

struct Known {
    number: u64,
    /// Data of its primary last arrived.
    arrived: Option<BootTime>,
    watch: Watch,
}

impl Regions {
    pub fn new(
        peers: Arc<dyn Peers>,
        clock: Arc<dyn Clock>,
        overrides: BTreeMap<RegionName, String>,
        locate: Locate,
    ) -> Arc<Self> {
        Arc::new(Self { peers, clock, overrides, locate, book: Mutex::default() })
    }

    pub fn now(&self) -> BootTime {
        self.clock.boot()
    }

    /// Learns of the peers that a directive names.
    pub fn learn(&self, directive: &Directive) {
        for peer in &directive.peers {
            let number = self.number(&peer.region);
            let here = self.overrides.get(&peer.region).unwrap_or(&peer.addresses.data);
            (self.locate)(number, &peer.region, here, &peer.worker);
        }
    }

    /// A region's number, given at first mention.
    pub fn number(&self, region: &RegionName) -> u64 {
        let mut book = self.book();
        if let Some(known) = book.get(region) {
            return known.number;
        }
        let number = book.len() as u64 + 1;
        let known = Known { number, arrived: None, watch: Watch::default() };
        book.insert(region.clone(), known);
        number
    }

    pub fn all(&self) -> Vec<(RegionName, u64)> {
        self.book().iter().map(|(region, known)| (region.clone(), known.number)).collect()
    }

    /// Data that this region's primary wrote has arrived, by whatever way.
    pub fn arrived(&self, region: &RegionName) {
        let now = self.clock.boot();
        self.number(region);
        if let Some(known) = self.book().get_mut(region) {
            known.arrived = Some(now);
        }
    }

    /// A probe sent at `sent` has come back, or has not.
    pub fn probed(&self, region: &RegionName, sent: BootTime, answered: bool) {
        let now = self.clock.boot();
        if let Some(known) = self.book().get_mut(region) {
            match answered {
                true => known.watch.answered(now.millis(), micros(now - sent)),
                false => known.watch.failed(sent.millis(), now.millis()),
            }
        }
    }

    /// This process stood still for so long: nobody looked, and nothing could arrive.
    pub fn stood_still(&self, span: Duration) {
        for known in self.book().values_mut() {
            known.watch.stood_still(span.into());
            known.arrived = known.arrived.map(|at| at + span);
        }
    }

    pub fn is_up(&self, region: &RegionName) -> bool {
        self.book().get(region).is_none_or(|known| known.watch.is_up())
    }

    pub fn arrived_ago(&self) -> BTreeMap<RegionName, Millis> {
        let now = self.clock.boot();
        self.book()
            .iter()
            .filter_map(|(region, known)| Some((region.clone(), (now - known.arrived?).into())))
            .collect()
    }

    pub fn ways(&self) -> BTreeMap<RegionName, Path> {
        let now = self.clock.boot().millis();
        let book = self.book();
        let way =
            |(region, known): (&RegionName, &Known)| Some((region.clone(), known.watch.path(now)?));
        book.iter().filter_map(way).collect()
    }

    fn book(&self) -> MutexGuard<'_, BTreeMap<RegionName, Known>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
