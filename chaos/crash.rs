//! Every crash that a disk can have, for everything the product keeps: at each change made to it,
//! with whatever the medium had of what was not synced, and with the last write torn at each of its
//! bytes. Then every damage: each byte of what matters changed, each file cut short.
//!
//! What counts as red: something acknowledged is not there after the restart; a start that is refused
//! though nothing but a crash happened; a start that is refused without saying which file; a panic.
//!
//! Deliberately absent: sockets, other nodes, real file systems but in [`power`], which cuts one.
//! Next: [`part`] for what a part has to show, one file each for the parts.

mod damage;
mod endings;
mod machine;
mod node;
pub mod part;
pub mod power;
mod queue;
mod sink;

use part::Part;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};

/// Wrongs that are printed; more are counted.
const SHOWN_MAX: usize = 20;

/// What was tried and what was wrong.
#[derive(Debug, Default)]
pub struct Report {
    /// Points by part and kind: `log crash`, `queue damage`.
    pub points: BTreeMap<(String, &'static str), u64>,
    /// Damages that were refused with a reason.
    pub refused: u64,
    pub wrong: u64,
    /// The first of them.
    pub shown: Vec<String>,
}

impl Report {
    pub fn total(&self) -> u64 {
        self.points.values().sum()
    }

    fn absorb(&mut self, other: Self) {
        for (point, count) in other.points {
            *self.points.entry(point).or_default() += count;
        }
        self.refused += other.refused;
        self.wrong += other.wrong;
        self.shown.extend(other.shown);
        self.shown.truncate(SHOWN_MAX);
    }

    fn count(&mut self, part: &str, kind: &'static str) {
        *self.points.entry((part.to_owned(), kind)).or_default() += 1;
    }

    fn wrong(&mut self, what: String) {
        self.wrong += 1;
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(what);
        }
    }
}

/// How much is tried. Plain data.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Threads.
    pub jobs: usize,
    /// The last write is torn at every so many bytes.
    pub step: usize,
    /// Crashes at every so many changes, damages so many apart.
    pub every: u64,
}

/// Tries everything. `only`: parts whose names contain it.
pub fn run(extent: Extent, only: Option<&str>) -> Report {
    count_panics();
    let mut report = Report::default();
    let wanted = |name: &str| only.is_none_or(|only| name.contains(only));
    if wanted("node") {
        report.absorb(every(&node::ControlNode, extent));
    }
    if wanted("queue") {
        report.absorb(every(&queue::WorkerQueue, extent));
    }
    if wanted("sink") {
        report.absorb(every(&sink::ScopeSink, extent));
    }
    if wanted("machine") {
        report.absorb(machine::every_ruin());
    }
    report
}

fn every<P: Part>(part: &P, extent: Extent) -> Report {
    let mut report = endings::every_crash(part, extent);
    report.absorb(damage::every_damage(part, extent));
    report
}

/// Calls `work` with numbers below `count`, on so many threads.
fn spread(count: u64, extent: Extent, work: impl Fn(u64, &mut Report) + Sync) -> Report {
    let next = AtomicU64::new(0);
    let all = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for _ in 0..extent.jobs.max(1) {
            scope.spawn(|| {
                let mut own = Report::default();
                loop {
                    let at = next.fetch_add(extent.every.max(1), Ordering::Relaxed);
                    if at >= count {
                        break;
                    }
                    work(at, &mut own);
                }
                all.lock().unwrap_or_else(PoisonError::into_inner).absorb(own);
            });
        }
    });
    all.into_inner().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// A task that panics is swallowed by its runtime: the hook sees it. Panics of others are told as ever.
pub(crate) fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                return tell(info);
            }
            PANICS.set(PANICS.get() + 1);
            LAST.with_borrow_mut(|last| *last = info.to_string());
        }));
    });
}

/// Runs something on this thread; a panic in it or in any of its tasks is an error.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let before = PANICS.get();
    GUARDED.set(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    if PANICS.get() > before {
        return Err(LAST.with_borrow(|last| format!("panic: {last}")));
    }
    done.unwrap_or_else(|_| Err("panic".to_owned()))
}

#[cfg(test)]
mod tests;
