//! What was seen and decided, kept on this node's disk for replaying: `history/2025-01-01.jsonl`.
//!
//! One file a day, one JSON object a line: this node's own reports, committed or not, those of others
//! that came late, and the records of the machine that bear on decisions, whenever they changed. From
//! these `simulate` rebuilds the machine as it stood and asks the deciding code again.
//!
//! What always holds:
//!  1. a line is written whole or, after a crash, cut off at the end of a file; readers skip it;
//!  2. the first records of a file are whole: no day needs the one before it;
//!  3. nothing here is needed for a decision: a full disk loses history, says so, and stops nothing;
//!  4. files older than [`DAYS_MAX`], and the oldest beyond the byte bound, are removed.

use cryptorun_core::config::Cluster;
use cryptorun_core::promotion::Promotion;
use cryptorun_core::record::Clock as MachineClock;
use cryptorun_core::region::RegionName;
use cryptorun_core::report::{RegionRecord, RegionReport};
use cryptorun_core::scope::Scope;
use cryptorun_core::session::{Session, SessionKey};
use cryptorun_core::time::WallTime;
use cryptorun_platform::disk::{Disk, DiskFile, Open};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How long history is kept.
pub const DAYS_MAX: usize = 90;
const DIR: &str = "history";
const DAY_MS: u64 = 86_400_000;
const READ_AT_ONCE: usize = 1 << 20;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When, by this node's wall clock.
    pub at: WallTime,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// This node's own report.
    Report(Box<OwnReport>),
    /// A report of another node that no quorum took, as it told when there was one again.
    Late(Box<OwnReport>),
    /// Records as they stand now; others are as they were. The first of a file has all.
    Records(Box<Records>),
}

/// What a line is, told by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// When.
    pub at: WallTime,
    /// What it says.
    pub kind: Kind,
}

/// See [`What`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`What::Report`].
    Report,
    /// [`What::Late`].
    Late,
    /// [`What::Records`] that say what changed.
    Records,
    /// [`What::Records`] that say everything.
    Whole,
}

impl Head {
    /// None of a line that was cut off, or that this version does not write.
    fn of(line: &[u8]) -> Option<Self> {
        let rest = line.strip_prefix(b"{\"at\":")?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (at, rest) = rest.split_at(digits);
        let at = WallTime(std::str::from_utf8(at).ok()?.parse().ok()?);
        let kinds: [(&[u8], Kind); 3] = [
            (b",\"report\":", Kind::Report),
            (b",\"late\":", Kind::Late),
            (b",\"records\":{\"index\":", Kind::Records),
        ];
        let (rest, kind) =
            kinds.into_iter().find_map(|(word, kind)| Some((rest.strip_prefix(word)?, kind)))?;
        let index = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let whole = kind == Kind::Records && rest[index..].starts_with(b",\"whole\":true");
        Some(Self { at, kind: if whole { Kind::Whole } else { kind } })
    }
}

/// This node's own report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnReport {
    /// Whose.
    pub region: RegionName,
    /// What it saw.
    pub report: RegionReport,
    /// The log index that carries it; none when no quorum took it.
    pub committed: Option<u64>,
}

/// Records of the machine at an index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// The applied index.
    pub index: u64,
    /// Whether what is not listed is gone, rather than unchanged.
    pub whole: bool,
    /// The machine's time and counters.
    pub clock: MachineClock,
    /// The cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// Regions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionRecord>,
    /// Sessions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<Session>,
    /// Sessions that are no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<SessionKey>,
    /// Scopes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Scope>,
    /// Promotions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub promotions: Vec<Promotion>,
}

/// The files.
pub struct History {
    disk: Arc<dyn Disk>,
    bytes_max: u64,
    current: Mutex<Option<Current>>,
}

struct Current {
    day: String,
    file: Box<dyn DiskFile>,
    end: u64,
    /// Whether whole records stand in it since it was opened.
    whole: bool,
}

impl History {
    /// Opens the folder, making it if missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(disk: Arc<dyn Disk>, bytes_max: u64) -> io::Result<Self> {
        disk.create_dir_all(&PathBuf::from(DIR))?;
        Ok(Self { disk, bytes_max, current: Mutex::new(None) })
    }

    /// Whether the next records must carry everything: none stand in the day's file yet, whatever else
    /// does.
    pub fn wants_whole(&self, at: WallTime) -> bool {
        let day = day_of(at);
        self.current().as_ref().is_none_or(|current| current.day != day || !current.whole)
    }

    /// Appends a line.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn append(&self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line).map_err(io::Error::other)?;
        bytes.push(b'\n');
        let day = day_of(line.at);
        let mut current = self.current();
        if current.as_ref().is_none_or(|current| current.day != day) {
            *current = Some(self.open_day(&day)?);
            self.prune(&day)?;
        }
        let Some(open) = current.as_mut() else { return Ok(()) };
        match open.file.write_at(&bytes, open.end) {
            Ok(()) => {
                open.end += bytes.len() as u64;
                open.whole |= matches!(&line.what, What::Records(records) if records.whole);
                Ok(())
            }
            Err(error) => {
                // Part of it may be there: begin anew after it, on a line of its own.
                *current = None;
                Err(error)
            }
        }
    }

    fn open_day(&self, day: &str) -> io::Result<Current> {
        let path = path_of(day);
        let exists = self.disk.exists(&path)?;
        let mut file = self.disk.open(&path, if exists { Open::Write } else { Open::Create })?;
        let mut end = file.len()?;
        if end > 0 {
            // A line cut off by a crash must not swallow the next one.
            file.write_at(b"\n", end)?;
            end += 1;
        }
        Ok(Current { day: day.to_owned(), file, end, whole: false })
    }

    fn prune(&self, today: &str) -> io::Result<()> {
        let mut days = self.days()?;
        days.retain(|day| day != today);
        let mut sizes = Vec::new();
        for day in &days {
            sizes.push(self.disk.open(&path_of(day), Open::Read)?.len()?);
        }
        let mut total: u64 = sizes.iter().sum();
        let mut count = days.len() + 1;
        for (day, size) in days.iter().zip(sizes) {
            if count <= DAYS_MAX && total <= self.bytes_max {
                break;
            }
            self.disk.remove(&path_of(day))?;
            total -= size;
            count -= 1;
        }
        Ok(())
    }

    fn days(&self) -> io::Result<Vec<String>> {
        let names = self.disk.list(&PathBuf::from(DIR))?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".jsonl").map(str::to_owned)).collect())
    }

    /// Hands every readable line of the days from `start` to `end` that is wanted to `each`, oldest
    /// first.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read(
        &self,
        (start, end): (WallTime, WallTime),
        wanted: impl Fn(Head) -> bool,
        mut each: impl FnMut(Line),
    ) -> io::Result<()> {
        let (first, last) = (day_of(start), day_of(end));
        let days = self.days()?;
        for day in days.iter().filter(|day| **day >= first && **day <= last) {
            self.lines(day, |line| {
                if Head::of(line).is_some_and(&wanted)
                    && let Ok(line) = serde_json::from_slice::<Line>(line)
                {
                    each(line);
                }
            })?;
        }
        Ok(())
    }

    /// When the newest whole records up to `at` were written, if that was after `since`.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn last_whole(&self, since: WallTime, at: WallTime) -> io::Result<Option<WallTime>> {
        let (first, last) = (day_of(since), day_of(at));
        let days = self.days()?;
        for day in days.iter().rev().filter(|day| **day >= first && **day <= last) {
            let mut found = None;
            self.lines(day, |line| {
                let whole = Head::of(line).filter(|h| h.kind == Kind::Whole && h.at <= at);
                found = whole.map(|head| head.at).or(found);
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// A day's lines. A busy day has hundreds of megabytes: they pass through one buffer.
    fn lines(&self, day: &str, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let file = self.disk.open(&path_of(day), Open::Read)?;
        let mut buffer = vec![0; READ_AT_ONCE];
        let (mut offset, mut filled) = (0, 0);
        loop {
            if filled == buffer.len() {
                buffer.resize(2 * filled, 0); // A line that is longer.
            }
            let read = file.read_at(&mut buffer[filled..], offset)?;
            if read == 0 {
                each(&buffer[..filled]);
                return Ok(());
            }
            offset += read as u64;
            let unread = filled;
            filled += read;
            let mut begun = 0;
            for at in unread..filled {
                if buffer[at] == b'\n' {
                    each(&buffer[begun..at]);
                    begun = at + 1;
                }
            }
            buffer.copy_within(begun..filled, 0);
            filled -= begun;
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn path_of(day: &str) -> PathBuf {
    PathBuf::from(DIR).join(format!("{day}.jsonl"))
}

/// `2025-01-01`, in UTC.
fn day_of(at: WallTime) -> String {
    WallTime(at.0 - at.0 % DAY_MS).to_string()[..10].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptorun_platform::disk::RealDisk;

    fn report(at: u64) -> Line {
        let own = OwnReport {
            region: "us-east-1".into(),
            report: RegionReport::default(),
            committed: None,
        };
        Line { at: WallTime(at), what: What::Report(Box::new(own)) }
    }

    fn all(history: &History, start: u64, end: u64) -> Vec<Line> {
        let mut lines = Vec::new();
        history.read((WallTime(start), WallTime(end)), |_| true, |line| lines.push(line)).unwrap();
        lines
    }

    #[test]
    fn lines_are_read_back_by_day_and_a_torn_one_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::new(dir.path().to_owned()));
        let history = History::open(disk.clone(), u64::MAX).unwrap();
        for at in [1, DAY_MS - 1, DAY_MS, 3 * DAY_MS] {
            history.append(&report(at)).unwrap();
        }
        let path = dir.path().join("history/1970-01-04.jsonl");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b"{\"at\":2592"].concat()).unwrap();
        let again = History::open(disk, u64::MAX).unwrap();
        again.append(&report(3 * DAY_MS + 5)).unwrap();
        assert_eq!(all(&again, 0, 4 * DAY_MS).len(), 5);
        assert_eq!(all(&again, 2 * DAY_MS, 4 * DAY_MS).len(), 2);
        assert_eq!(all(&again, 5 * DAY_MS, 6 * DAY_MS), vec![]);
    }

    fn records(at: u64, whole: bool) -> Line {
        let records = Records { index: 7, whole, ..Records::default() };
        Line { at: WallTime(at), what: What::Records(Box::new(records)) }
    }

    fn in_folder() -> (tempfile::TempDir, History) {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::new(dir.path().to_owned()));
        (dir, History::open(disk, u64::MAX).unwrap())
    }

    #[test]
    fn a_new_day_wants_everything_also_where_a_report_came_first() {
        let (_dir, history) = in_folder();
        assert!(history.wants_whole(WallTime(1)));
        history.append(&records(1, true)).unwrap();
        assert!(!history.wants_whole(WallTime(2)));
        history.append(&report(DAY_MS)).unwrap();
        assert!(history.wants_whole(WallTime(DAY_MS + 1)), "a report is in the file, no records");
        history.append(&records(DAY_MS + 1, false)).unwrap();
        assert!(history.wants_whole(WallTime(DAY_MS + 2)), "only what changed");
        history.append(&records(DAY_MS + 2, true)).unwrap();
        assert!(!history.wants_whole(WallTime(DAY_MS + 3)));
        let last = |at: u64| history.last_whole(WallTime(0), WallTime(at)).unwrap();
        assert_eq!(last(DAY_MS + 2), Some(WallTime(DAY_MS + 2)));
        assert_eq!(last(DAY_MS + 1), Some(WallTime(1)), "from the day before");
        assert_eq!(history.last_whole(WallTime(DAY_MS), WallTime(DAY_MS + 1)).unwrap(), None);
    }

    #[test]
    fn a_line_is_told_by_its_first_bytes() {
        let own = OwnReport {
            region: "us-east-1".into(),
            report: RegionReport::default(),
            committed: Some(1),
        };
        let late = Line { at: WallTime(9), what: What::Late(Box::new(own)) };
        for (line, kind) in [
            (report(9), Kind::Report),
            (late, Kind::Late),
            (records(9, false), Kind::Records),
            (records(9, true), Kind::Whole),
        ] {
            let bytes = serde_json::to_vec(&line).unwrap();
            assert_eq!(Head::of(&bytes), Some(Head { at: WallTime(9), kind }));
            assert_eq!(Head::of(&bytes[..12]), None, "cut off");
        }
        assert_eq!(Head::of(b""), None);
        assert_eq!(Head::of(br#"{"at":9,"another":{}}"#), None);
    }

    #[test]
    fn lines_longer_than_the_buffer_are_whole() {
        let (_dir, history) = in_folder();
        let mut own = OwnReport {
            region: "r".repeat(3 * READ_AT_ONCE).into(),
            report: RegionReport::default(),
            committed: None,
        };
        let long = Line { at: WallTime(1), what: What::Report(Box::new(own.clone())) };
        own.region = "us-east-1".into();
        let short = Line { at: WallTime(2), what: What::Report(Box::new(own)) };
        for line in [&short, &long, &short] {
            history.append(line).unwrap();
        }
        assert_eq!(all(&history, 0, 5), [short.clone(), long, short]);
    }

    #[test]
    fn the_oldest_days_go_first_when_the_bound_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let history =
            History::open(Arc::new(RealDisk::new(dir.path().to_owned())), u64::MAX).unwrap();
        for day in 0..DAYS_MAX as u64 + 5 {
            history.append(&report(day * DAY_MS)).unwrap();
        }
        let lines = all(&history, 0, DAY_MS * 1000);
        assert_eq!(lines.len(), DAYS_MAX);
        assert_eq!(lines[0].at, WallTime(5 * DAY_MS));
    }
}
