//! Recorded history, read back: the machine as it stood, one state after another.
//!
//! A window begins with the newest whole records before it; what changed since is put on top. Lines that
//! nobody asks for are told by their first bytes and not parsed: a day has a hundred thousand.

use crate::history::{Head, History, Kind, OwnReport, Records, What};
use cryptorun_core::config::Cluster;
use cryptorun_core::machine::Machine;
use cryptorun_core::promotion::{Promotion, PromotionId};
use cryptorun_core::record::{Clock, Record};
use cryptorun_core::region::RegionName;
use cryptorun_core::report::RegionRecord;
use cryptorun_core::scope::{Scope, ScopeId};
use cryptorun_core::session::{Session, SessionKey};
use cryptorun_core::time::{Millis, WallTime};
use std::collections::BTreeMap;
use std::io;

/// Whole records are written each day.
const LOOK_BACK: Millis = Millis::mins(24 * 60);
/// What a region saw without a quorum is told by the others' histories once there is one again.
const TOLD_WITHIN: Millis = Millis::mins(24 * 60);

/// What history shows, in order.
pub(crate) enum Seen<'a> {
    /// The machine changed in what bears on decisions; so many reports of regions and workers came.
    State { at: WallTime, machine: &'a Machine, reports: usize },
    /// This node's own report.
    Report { at: WallTime, own: &'a OwnReport },
    /// Another's report that no quorum took, told within a day after the window's end.
    Late(&'a OwnReport),
}

/// Shows a window.
///
/// # Errors
/// The files cannot be read.
pub(crate) fn replay(
    history: &History,
    (start, end): (WallTime, WallTime),
    mut each: impl FnMut(Seen<'_>),
) -> io::Result<()> {
    let first = history.last_whole(start - LOOK_BACK, start)?.unwrap_or(start - LOOK_BACK);
    let mut rebuilt = Rebuilt::default();
    let wanted = |head: Head| match head.kind {
        Kind::Records | Kind::Whole => head.at >= first && head.at <= end,
        Kind::Report => head.at >= start && head.at <= end,
        Kind::Late => head.at >= start,
    };
    history.read((first, end + TOLD_WITHIN), wanted, |line| match line.what {
        What::Records(records) => {
            let reports = records.regions.len() + records.sessions.len();
            rebuilt.take(*records);
            if line.at >= start {
                each(Seen::State { at: line.at, machine: &rebuilt.machine(), reports });
            }
        }
        What::Report(own) => each(Seen::Report { at: line.at, own: &own }),
        What::Late(told) => each(Seen::Late(&told)),
    })
}

/// Rebuilds machines from lines, one after the other.
#[derive(Default)]
struct Rebuilt {
    clock: Clock,
    cluster: Option<Cluster>,
    regions: BTreeMap<RegionName, RegionRecord>,
    sessions: BTreeMap<SessionKey, Session>,
    scopes: BTreeMap<ScopeId, Scope>,
    promotions: BTreeMap<PromotionId, Promotion>,
}

impl Rebuilt {
    /// Takes the next line's records.
    fn take(&mut self, records: Records) {
        if records.whole {
            *self = Self::default();
        }
        self.clock = records.clock;
        self.cluster = records.cluster.or(self.cluster.take());
        for key in &records.ended {
            self.sessions.remove(key);
        }
        self.regions.extend(records.regions.into_iter().map(|r| (r.name.clone(), r)));
        self.sessions.extend(records.sessions.into_iter().map(|s| (s.key.clone(), s)));
        self.scopes.extend(records.scopes.into_iter().map(|s| (s.id.clone(), s)));
        self.promotions.extend(records.promotions.into_iter().map(|p| (p.id, p)));
    }

    /// The machine as it stood, as far as decisions need it.
    fn machine(&self) -> Machine {
        let mut machine = Machine::default();
        machine.load(Record::Clock(self.clock));
        if let Some(cluster) = &self.cluster {
            machine.load(Record::Cluster(cluster.clone()));
        }
        for record in self.regions.values() {
            machine.load(Record::Region(record.clone()));
        }
        for record in self.sessions.values() {
            machine.load(Record::Session(record.clone()));
        }
        for record in self.scopes.values() {
            machine.load(Record::Scope(record.clone()));
        }
        for record in self.promotions.values() {
            machine.load(Record::Promotion(record.clone()));
        }
        machine
    }
}
