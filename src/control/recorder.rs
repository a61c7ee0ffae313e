//! Writes the machine's changes into [`crate::history`]: at once when authority changed, else every
//! five seconds, because positions and reports change with every renewal and nobody replays those
//! one by one.

use crate::history::{History, Line, Records, What};
use crate::log::{Log, look};
use cryptorun_core::machine::Machine;
use cryptorun_core::promotion::PromotionId;
use cryptorun_core::region::RegionName;
use cryptorun_core::scope::ScopeId;
use cryptorun_core::session::SessionKey;
use cryptorun_platform::Platform;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often figures that only grow are written.
const EVERY: Duration = Duration::from_secs(5);

const AT_MOST_EVERY: Duration = Duration::from_millis(50);

/// What was last written, as hashes of each record.
#[derive(Default)]
struct Written {
    config: Option<u64>,
    regions: BTreeMap<RegionName, blake3::Hash>,
    sessions: BTreeMap<SessionKey, blake3::Hash>,
    scopes: BTreeMap<ScopeId, blake3::Hash>,
    promotions: BTreeMap<PromotionId, blake3::Hash>,
}

/// Records until the log stops.
pub async fn record(log: Arc<dyn Log>, platform: Platform, history: Arc<History>) {
    let mut stirred = log.stirred();
    let mut written = Written::default();
    let mut authority = None;
    let mut next = platform.clock.boot();
    let mut full = false;
    loop {
        let now = look(&*log, |machine, _| fingerprint(machine));
        if authority != Some(now) || platform.clock.boot() >= next {
            authority = Some(now);
            next = platform.clock.boot() + EVERY;
            let wall = platform.clock.wall();
            let whole = history.wants_whole(wall);
            let records = look(&*log, |machine, index| written.changes(machine, index, whole));
            if let Some(records) = records {
                match history.append(&Line { at: wall, what: What::Records(Box::new(records)) }) {
                    Ok(()) => full = false,
                    Err(error) if !full => {
                        full = true;
                        written = Written::default();
                        tracing::warn!(%error, "history is not recorded");
                    }
                    Err(_) => written = Written::default(),
                }
            }
        }
        // Under load the machine changes with every breath: look at most so often.
        tokio::time::sleep(AT_MOST_EVERY).await;
        tokio::select! {
            changed = stirred.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// What may not wait: phases, leases, promotions.
fn fingerprint(machine: &Machine) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for scope in machine.scopes().values() {
        let line =
            format!("{:?} {:?} {:?} {:?}", scope.phase, scope.lease, scope.moving, scope.pause);
        hasher.update(line.as_bytes());
    }
    for promotion in machine.promotions().values().filter(|promotion| promotion.is_open()) {
        hasher.update(
            format!("{} {:?} {:?}", promotion.id, promotion.state, promotion.steps).as_bytes(),
        );
    }
    for region in machine.regions().values() {
        hasher.update(format!("{:?}", region.link).as_bytes());
    }
    hasher.finalize()
}

impl Written {
    /// What differs from what was written; everything when a file begins.
    fn changes(&mut self, machine: &Machine, index: u64, whole: bool) -> Option<Records> {
        let cluster = machine.cluster()?;
        if whole {
            *self = Self::default();
        }
        let config = (self.config != Some(cluster.config.version)).then(|| cluster.clone());
        self.config = Some(cluster.config.version);
        let ended = self
            .sessions
            .keys()
            .filter(|key| !machine.sessions().contains_key(*key))
            .cloned()
            .collect::<Vec<_>>();
        self.sessions.retain(|key, _| !ended.contains(key));
        let records = Records {
            index,
            whole,
            clock: machine.clock(),
            cluster: config,
            regions: differing(&mut self.regions, machine.regions()),
            sessions: differing(&mut self.sessions, machine.sessions()),
            ended,
            scopes: differing(&mut self.scopes, machine.scopes()),
            promotions: differing(&mut self.promotions, machine.promotions()),
        };
        Some(records)
    }
}

fn differing<K: Ord + Clone, V: Clone + std::fmt::Debug>(
    written: &mut BTreeMap<K, blake3::Hash>,
    now: &BTreeMap<K, V>,
) -> Vec<V> {
    now.iter()
        .filter(|(key, value)| {
            let hash = blake3::hash(format!("{value:?}").as_bytes());
            written.insert((*key).clone(), hash) != Some(hash)
        })
        .map(|(_, value)| value.clone())
        .collect()
}
