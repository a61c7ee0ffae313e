//! The control path: this node asks every other node once a second.

use crate::api::Api;
use crate::forward::{self, Forwarded, Reply};
use cryptorun_core::offset::{Filter, Offset};
use cryptorun_core::path::{Path, Watch};
use cryptorun_core::region::RegionName;
use cryptorun_platform::clock::BootTime;
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A probe that takes longer has failed; the largest round trip that is meant to work is 300 ms.
const PROBE_WITHIN: Duration = Duration::from_millis(900);

/// What is remembered of the other nodes between probes.
#[derive(Default)]
pub(super) struct Probes(BTreeMap<u64, Probed>);

#[derive(Default)]
struct Probed {
    watch: Watch,
    clock: Filter,
    /// Nodes that it heard when it last answered.
    hears: Vec<u64>,
}

impl Probes {
    /// Asks every other node once.
    pub async fn ask(&mut self, api: &Api) {
        let clock = &api.parts().platform.clock;
        let me = api.log().node();
        let others: Vec<u64> = api.look(|machine, _| {
            let configured = machine.cluster().into_iter().flat_map(|c| c.config.regions.values());
            configured.map(|region| region.node).filter(|node| *node != me).collect()
        });
        self.0.retain(|node, _| others.contains(node));
        let asking = others.iter().map(|node| async move {
            let sent = (clock.boot(), clock.wall());
            let answer = forward::ask(api.log(), *node, &Forwarded::Ping, PROBE_WITHIN).await;
            (*node, sent, answer.ok(), (clock.boot(), clock.wall()))
        });
        for (node, sent, answer, heard) in join_all(asking).await {
            let probed = self.0.entry(node).or_default();
            match answer {
                Some(Reply::Pong { wall, hears }) => {
                    let rtt = u64::try_from((heard.0 - sent.0).as_micros()).unwrap_or(u64::MAX);
                    probed.watch.answered(heard.0.millis(), rtt);
                    probed.hears = hears;
                    probed.clock.take(wall.0, (sent.1.0, heard.1.0), rtt);
                }
                _ => probed.watch.failed(sent.0.millis(), heard.0.millis()),
            }
        }
        for (node, at) in api.heard().iter() {
            if let Some(probed) = self.0.get_mut(node) {
                probed.watch.heard(at.millis());
            }
        }
    }

    /// The nodes that are asked.
    pub fn nodes(&self) -> impl Iterator<Item = u64> {
        self.0.keys().copied()
    }

    /// Whether it answered when it was last asked.
    pub fn answers(&self, node: u64) -> bool {
        self.0.get(&node).is_some_and(|probed| probed.watch.is_up())
    }

    /// This node stood still for so long: it did not look.
    pub fn stood_still(&mut self, span: Duration) {
        self.0.values_mut().for_each(|probed| probed.watch.stood_still(span.into()));
    }

    /// The ways there.
    pub fn ways(
        &self,
        region_of: impl Fn(u64) -> Option<RegionName>,
        now: BootTime,
    ) -> BTreeMap<RegionName, Path> {
        let way = |(node, probed): (&u64, &Probed)| {
            Some((region_of(*node)?, probed.watch.path(now.millis())?))
        };
        self.0.iter().filter_map(way).collect()
    }

    /// Whom those that answer say that they hear.
    pub fn hears(
        &self,
        region_of: impl Fn(u64) -> Option<RegionName>,
    ) -> BTreeMap<RegionName, BTreeSet<RegionName>> {
        let said = |probed: &Probed| probed.hears.iter().filter_map(|of| region_of(*of)).collect();
        let answering = self.0.iter().filter(|(_, probed)| probed.watch.is_up());
        answering.filter_map(|(node, probed)| Some((region_of(*node)?, said(probed)))).collect()
    }

    /// Their wall clocks minus this one's.
    pub fn offsets(
        &self,
        region_of: impl Fn(u64) -> Option<RegionName>,
    ) -> BTreeMap<RegionName, Offset> {
        self.0.iter().filter_map(|(node, p)| Some((region_of(*node)?, p.clock.best()?))).collect()
    }
}
