//! Where a story can end, and what is left of it then.

use super::part::{Part, Wrong};
use super::{Extent, Report, guarded, spread};
use cryptorun_platform::disk::{Fault, Keep, SimDisk};

/// Endings in which each sector and each name is kept or lost by itself.
const SECTORS: u64 = 12;
/// Zeroed space looks the same wherever it is torn.
const ZEROS_STEP: usize = 4096;

pub fn every_crash<P: Part>(part: &P, extent: Extent) -> Report {
    let whole = SimDisk::new();
    let told = guarded(|| Ok(part.tell(&whole)));
    if let Err(why) = told {
        let mut report = Report::default();
        report.wrong(format!("{}: the story itself: {why}", part.name()));
        return report;
    }
    spread(whole.changes() + 1, extent, |after, report| {
        let disk = SimDisk::new();
        disk.fail_after(after, Fault::Broken);
        let knows = match guarded(|| Ok(part.tell(&disk))) {
            Ok(knows) => knows,
            Err(why) => {
                report
                    .wrong(format!("{}: a disk that breaks at change {after}: {why}", part.name()));
                return;
            }
        };
        let place = place(part.name(), &disk);
        for keep in endings(&disk, extent.step) {
            let left = disk.copy();
            left.crash(keep);
            report.count(&place, "crash");
            let checked = guarded(|| Ok(part.check(&left.restarted(), &knows)));
            let wrong = match checked {
                Ok(Ok(())) => continue,
                Ok(Err(Wrong::Refused(why))) => format!("start refused: {why}"),
                Ok(Err(Wrong::Lost(why))) => why,
                Err(why) => why,
            };
            report.wrong(format!("{place}: change {after}, {keep:?}: {wrong}"));
        }
    })
}

/// Which of a part's folders the crash hits.
fn place(part: &str, disk: &SimDisk) -> String {
    let path = disk.last_pending().map(|(path, _)| path).unwrap_or_default();
    let folder = path.parent().and_then(|dir| dir.file_name()).and_then(|name| name.to_str());
    match folder {
        Some(folder) if folder != part => format!("{part}/{folder}"),
        _ => part.to_owned(),
    }
}

fn endings(disk: &SimDisk, step: usize) -> Vec<Keep> {
    let mut keeps = vec![Keep::Nothing, Keep::Everything];
    if disk.pending() == 0 {
        return keeps;
    }
    keeps.extend((0..SECTORS).map(|seed| Keep::Sectors { seed }));
    if let Some((_, bytes)) = disk.last_pending() {
        // Behind the content a direct write is padding.
        let content = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        keeps.extend((0..=content).step_by(step.max(1)).map(|bytes| Keep::Torn { bytes }));
        let zeros = (content..bytes.len()).step_by(ZEROS_STEP).skip(1);
        keeps.extend(zeros.take(4).map(|bytes| Keep::Torn { bytes }));
    }
    keeps
}
