//! The materialised machine in sled: gone, cut short, overwritten, of another time. It is derived, so
//! a start has to come up with everything whatever became of it. On real files: sled has no others.

use super::node::{Knows, check, start, use_for_a_while};
use super::part::{Wrong, block};
use super::{Report, guarded};
use cryptorun_platform::disk::{Keep, SimDisk};
use cryptorun_raft::{MemoryStore, SledStore};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub fn every_ruin() -> Report {
    let mut report = Report::default();
    if let Err(error) = try_every_ruin(&mut report) {
        report.wrong(format!("machine: the story itself: {error}"));
    }
    report
}

fn try_every_ruin(report: &mut Report) -> io::Result<()> {
    let root = Scratch::new()?;
    let good = root.0.join("good");
    let (disk, mut knows) = (SimDisk::new(), Knows::default());
    block(async {
        let store = SledStore::open(&good).map_err(io::Error::other)?;
        let node = start(&disk, Arc::new(store)).await.map_err(io::Error::other)?;
        use_for_a_while(&node, &mut knows).await;
        io::Result::Ok(())
    })?;
    disk.crash(Keep::Nothing);
    let disk = disk.restarted();
    for (n, ruin) in ruins(&good)?.into_iter().enumerate() {
        let dir = root.0.join(format!("ruin-{n}"));
        copy(&good, &dir)?;
        ruin.apply(&dir)?;
        report.count("machine", "damage");
        let disk = disk.copy();
        let checked = guarded(|| {
            let store = SledStore::open(&dir).map_err(|error| error.to_string())?;
            match block(check(&disk, Arc::new(store), &knows)) {
                Ok(()) => Ok(()),
                Err(Wrong::Refused(why)) => Err(format!("start refused: {why}")),
                Err(Wrong::Lost(why)) => Err(why),
            }
        });
        // sled's own panics are caught by the store and answered by a fresh start.
        match checked {
            Err(why) if !why.starts_with("panic") => {
                report.wrong(format!("machine: {ruin:?}: {why}"));
            }
            _ => {}
        }
        drop(std::fs::remove_dir_all(&dir));
    }
    // A store that fell behind, or never was: the log goes on from there.
    report.count("machine", "crash");
    let empty = guarded(|| Ok(block(check(&disk, Arc::new(MemoryStore::default()), &knows))));
    if empty != Ok(Ok(())) {
        report.wrong(format!("machine: without a store: {empty:?}"));
    }
    Ok(())
}

#[derive(Debug)]
enum Ruin {
    Gone,
    Removed(PathBuf),
    Cut(PathBuf, u64),
    Flipped(PathBuf, usize),
    Garbage(PathBuf),
}

impl Ruin {
    fn apply(&self, dir: &Path) -> io::Result<()> {
        match self {
            Self::Gone => std::fs::remove_dir_all(dir),
            Self::Removed(file) => std::fs::remove_file(dir.join(file)),
            Self::Cut(file, to) => {
                std::fs::OpenOptions::new().write(true).open(dir.join(file))?.set_len(*to)
            }
            Self::Flipped(file, at) => {
                let mut bytes = std::fs::read(dir.join(file))?;
                bytes[*at] ^= 0x10;
                std::fs::write(dir.join(file), bytes)
            }
            Self::Garbage(file) => std::fs::write(dir.join(file), vec![0xAB; 70_000]),
        }
    }
}

fn ruins(dir: &Path) -> io::Result<Vec<Ruin>> {
    let mut ruins = vec![Ruin::Gone];
    for file in files(dir, Path::new(""))? {
        let len = std::fs::metadata(dir.join(&file))?.len();
        ruins.push(Ruin::Removed(file.clone()));
        ruins.push(Ruin::Garbage(file.clone()));
        for to in [0, 1, len / 2, len.saturating_sub(1)] {
            ruins.push(Ruin::Cut(file.clone(), to));
        }
        let used = std::fs::read(dir.join(&file))?;
        let used = used.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        let step = (used / 24).max(1);
        ruins.extend((0..used).step_by(step).map(|at| Ruin::Flipped(file.clone(), at)));
    }
    Ok(ruins)
}

fn files(root: &Path, below: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => found.extend(files(root, &path)?),
            false => found.push(path),
        }
    }
    found.sort();
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for file in files(from, Path::new(""))? {
        let target = to.join(&file);
        std::fs::create_dir_all(target.parent().unwrap_or(to))?;
        std::fs::copy(from.join(&file), target)?;
    }
    Ok(())
}

/// A folder that goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let dir = std::env::temp_dir().join(format!("cryptorun-crash-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
