//! Bytes that changed on the medium, and files that are shorter than they were.

use super::part::{Part, Wrong};
use super::{Extent, Report, guarded, spread};
use cryptorun_platform::disk::{Disk as _, Keep, SimDisk};
use std::path::{Path, PathBuf};

/// From the start of each file: any header, and the first records.
const HEAD: usize = 160;
/// Up to the last byte in use: the newest records.
const TAIL: usize = 400;
/// Between them, every so many bytes.
const BETWEEN: usize = 61;

pub fn every_damage<P: Part>(part: &P, extent: Extent) -> Report {
    let disk = SimDisk::new();
    let knows = match guarded(|| Ok(part.tell(&disk))) {
        Ok(knows) => knows,
        Err(_) => return Report::default(), // Counted by the crashes.
    };
    disk.crash(Keep::Nothing);
    let disk = disk.restarted();
    let damages = damages(&disk);
    spread(damages.len() as u64, extent, |n, report| {
        let (path, damage) = &damages[n as usize];
        let disk = disk.copy();
        let changed = disk.corrupt(path, |bytes| damage.apply(bytes));
        if changed.is_err() {
            return;
        }
        let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        report.count(&format!("{}/{}", part.name(), folder.unwrap_or("")), "damage");
        let shown = format!("{}: {path:?}, {damage:?}", part.name());
        match guarded(|| Ok(part.check(&disk, &knows))) {
            Ok(Ok(())) => {}
            // The message has to lead a person to the file or its folder.
            Ok(Err(Wrong::Refused(why))) if names(&why, path) => report.refused += 1,
            Ok(Err(Wrong::Refused(why))) => report.wrong(format!("{shown}: refused, but: {why}")),
            Ok(Err(Wrong::Lost(why))) => report.wrong(format!("{shown}: {why}")),
            Err(why) => report.wrong(format!("{shown}: {why}")),
        }
    })
}

fn names(why: &str, path: &Path) -> bool {
    let named =
        |path: Option<&Path>| path.is_some_and(|path| why.contains(&*path.to_string_lossy()));
    named(Some(path)) || named(path.parent())
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    /// This byte has another value.
    Flip { at: usize, mask: u8 },
    /// The file ends here.
    Cut { at: usize },
}

impl Damage {
    fn apply(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Flip { at, mask } => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= mask;
                }
            }
            Self::Cut { at } => bytes.truncate(at),
        }
    }
}

fn damages(disk: &SimDisk) -> Vec<(PathBuf, Damage)> {
    let mut all = Vec::new();
    for path in disk.files() {
        let Ok(bytes) = disk.read(&path) else { continue };
        if bytes.is_empty() {
            continue; // A lock.
        }
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        let head = 0..HEAD.min(used);
        let tail = used.saturating_sub(TAIL).max(head.end)..used;
        let between = (head.end..tail.start).step_by(BETWEEN);
        for at in head.chain(between).chain(tail) {
            all.push((path.clone(), Damage::Flip { at, mask: 0x10 }));
        }
        for at in [0, 1, 63, used / 2, used.saturating_sub(1), bytes.len() - 1] {
            all.push((path.clone(), Damage::Cut { at }));
        }
    }
    all
}
