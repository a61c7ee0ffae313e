//! Clocks that run wrong, clocks that show wrong, syncs that take long: in real processes, by a small
//! library that is preloaded and reads a page which the run writes.
//!
//! A bent clock stays bent: when its rate is right again it keeps what it gained or lost, as a real
//! one would. Stamps of such a process are brought back to true time before they are compared.

use crate::world::{Trouble, now};
use cryptorun_lab::demo::layout::Lab;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

const SOURCE: &str = include_str!("bend.c");
/// Names a process's page to the library.
const VARIABLE: &str = "CRYPTORUN_BEND";
const PAGE_BYTES: u64 = 4096;

/// Where the library's `struct page` has what.
const SETTINGS: u64 = 8;
const SETTING_BYTES: u64 = 32;
const SYNC_US: u64 = 72;
const READS: u64 = 80;
const SYNCS: u64 = 88;

/// From a moment of true time on: how far a clock is ahead then, and how fast it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setting {
    anchor_ns: i64,
    shift_ns: i64,
    ppm: i64,
    wall_ns: i64,
}

impl Setting {
    fn shift_at(&self, true_ns: i64) -> i64 {
        let since = i128::from(true_ns - self.anchor_ns);
        let gained = since * i128::from(self.ppm) / 1_000_000;
        self.shift_ns + i64::try_from(gained).unwrap_or(0)
    }

    /// The moment of true time at which the clock showed this.
    fn true_time(&self, shown_ns: i64) -> i64 {
        let since = i128::from(shown_ns - self.anchor_ns - self.shift_ns);
        let since = since * 1_000_000 / (1_000_000 + i128::from(self.ppm));
        self.anchor_ns + i64::try_from(since).unwrap_or(0)
    }
}

/// The pages of one lab's processes.
pub struct Bends {
    library: PathBuf,
    folder: PathBuf,
    settings: RefCell<BTreeMap<String, Vec<Setting>>>,
}

impl Bends {
    /// Those of this run; none, which is said, where there is no C compiler.
    pub fn of_this_run() -> Option<Rc<Self>> {
        let folder = std::env::temp_dir().join(format!("cryptorun-bends-{}", std::process::id()));
        match Self::build(&folder) {
            Ok(bends) => Some(Rc::new(bends)),
            Err(why) => {
                println!("SKIPPED: what needs a C compiler: {why}");
                None
            }
        }
    }

    /// Builds the library; why not, where there is no C compiler.
    fn build(folder: &Path) -> Result<Self, String> {
        let cannot = |error: std::io::Error| error.to_string();
        std::fs::create_dir_all(folder).map_err(cannot)?;
        let (source, library) = (folder.join("bend.c"), folder.join("bend.so"));
        std::fs::write(&source, SOURCE).map_err(cannot)?;
        let words = ["-O2", "-shared", "-fPIC", "-o"];
        let built = Command::new("cc").args(words).arg(&library).arg(&source).arg("-ldl").output();
        let built = built.map_err(|error| format!("no C compiler: {error}"))?;
        if !built.status.success() {
            return Err(String::from_utf8_lossy(&built.stderr).into_owned());
        }
        let library = library.canonicalize().map_err(cannot)?;
        let folder = folder.canonicalize().map_err(cannot)?;
        Ok(Self { library, folder, settings: RefCell::default() })
    }

    /// After the last process has ended.
    pub fn remove(&self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    /// Has every process of a lab that is not started yet load the library.
    pub fn equip(&self, lab: &mut Lab) -> Result<(), Trouble> {
        for site in lab.sites.clone() {
            for name in [site.node_process(), site.worker_process()] {
                let page = self.page(&name);
                File::create(&page)?.set_len(PAGE_BYTES)?;
                let preload = ("LD_PRELOAD".to_owned(), self.library.display().to_string());
                let variable = (VARIABLE.to_owned(), page.display().to_string());
                lab.equip(&name, [preload, variable]);
            }
        }
        Ok(())
    }

    fn page(&self, process: &str) -> PathBuf {
        self.folder.join(format!("{process}.page"))
    }

    fn open(&self, process: &str) -> Result<File, Trouble> {
        Ok(OpenOptions::new().read(true).write(true).open(self.page(process))?)
    }

    /// From now on a process's clocks run fast by `ppm` and its wall clock is ahead by `wall_ms`.
    pub fn clock(&self, process: &str, ppm: i64, wall_ms: i64) -> Result<(), Trouble> {
        let mut all = self.settings.borrow_mut();
        let settings = all.entry(process.to_owned()).or_default();
        let anchor_ns = i64::try_from(now().0).unwrap_or(i64::MAX);
        let shift_ns = settings.last().map_or(0, |setting| setting.shift_at(anchor_ns));
        let setting = Setting { anchor_ns, shift_ns, ppm, wall_ns: wall_ms * 1_000_000 };
        let page = self.open(process)?;
        // Written beside the one in use, which is then turned to at once.
        let next = settings.len() as u64 + 1;
        let at = SETTINGS + next % 2 * SETTING_BYTES;
        let numbers = [setting.anchor_ns, setting.shift_ns, setting.ppm, setting.wall_ns];
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        page.write_all_at(&bytes, at)?;
        page.write_all_at(&next.to_ne_bytes(), 0)?;
        settings.push(setting);
        Ok(())
    }

    /// How far a process's clock is ahead now, in milliseconds.
    pub fn ahead_ms(&self, process: &str) -> i64 {
        let at = i64::try_from(now().0).unwrap_or(i64::MAX);
        let all = self.settings.borrow();
        let last = all.get(process).and_then(|settings| settings.last());
        last.map_or(0, |setting| setting.shift_at(at) / 1_000_000)
    }

    /// Each sync of a process takes this much longer.
    pub fn slow_syncs(&self, process: &str, by_ms: u64) -> Result<(), Trouble> {
        Ok(self.open(process)?.write_all_at(&(by_ms * 1000).to_ne_bytes(), SYNC_US)?)
    }

    /// Syncs that took longer so far.
    pub fn slowed(&self, process: &str) -> Result<u64, Trouble> {
        self.counter(process, SYNCS)
    }

    /// How often a process has read a clock of ours so far.
    pub fn reads(&self, process: &str) -> Result<u64, Trouble> {
        self.counter(process, READS)
    }

    fn counter(&self, process: &str, at: u64) -> Result<u64, Trouble> {
        let mut bytes = [0; 8];
        self.open(process)?.read_exact_at(&mut bytes, at)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// The moment of true time at which a process's clock showed this.
    pub fn true_time(&self, process: &str, shown_ns: u64) -> u64 {
        let all = self.settings.borrow();
        let Some(settings) = all.get(process) else { return shown_ns };
        let shown = i64::try_from(shown_ns).unwrap_or(i64::MAX);
        let then = settings.iter().rev().find(|s| shown >= s.anchor_ns + s.shift_ns);
        then.map_or(shown_ns, |s| u64::try_from(s.true_time(shown)).unwrap_or(shown_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bent_clock_showed_is_brought_back_to_true_time() {
        let second = 1_000_000_000;
        let fast = Setting { anchor_ns: 100 * second, shift_ns: 0, ppm: 9000, wall_ns: 0 };
        let at = 120 * second;
        let right = Setting { anchor_ns: at, shift_ns: fast.shift_at(at), ppm: 0, wall_ns: 0 };
        assert_eq!(right.shift_ns, 180_000_000, "20 s at 0.9 %");
        let bends = Bends {
            library: PathBuf::new(),
            folder: PathBuf::new(),
            settings: RefCell::new([("w".to_owned(), vec![fast, right])].into()),
        };
        let shown = |s: &Setting, at: i64| u64::try_from(at + s.shift_at(at)).unwrap();
        for moment in [100 * second, 110 * second] {
            assert_eq!(bends.true_time("w", shown(&fast, moment)), moment as u64);
        }
        for moment in [at, 500 * second] {
            assert_eq!(bends.true_time("w", shown(&right, moment)), moment as u64);
        }
        assert_eq!(bends.true_time("w", 50), 50, "before it was bent");
        assert_eq!(bends.true_time("other", 50), 50);
    }
}
