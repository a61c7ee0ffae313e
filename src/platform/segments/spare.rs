//! Segments made ahead: zeroed and synced under a name that recovery throws away.
//!
//! Writing into zeroed space needs no new metadata, so that a sync is one trip to the medium.
//! Zeroing 64 MiB takes 90 to 320 ms, which the writer must not spend between two batches.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use super::error::{Doing, Failed};
use crate::disk::{Disk, DiskFile, Open};

/// A zeroed file that has no number yet.
pub struct Spare {
    pub path: PathBuf,
    pub file: Box<dyn DiskFile>,
    pub size: u64,
}

/// Where spares come from.
pub struct Spares {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    size: u64,
    ahead: Option<Ahead>,
}

struct Ahead {
    ready: Receiver<Result<Spare, Failed>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Spares {
    /// Makes each one when it is asked for.
    pub fn inline(disk: Arc<dyn Disk>, dir: PathBuf, size: u64) -> Self {
        Self { disk, dir, size, ahead: None }
    }

    /// Keeps one ready, made by a thread.
    pub fn ahead(disk: Arc<dyn Disk>, dir: PathBuf, size: u64) -> io::Result<Self> {
        let (give, ready) = sync_channel(0);
        let stop = Arc::new(AtomicBool::new(false));
        let maker = (disk.clone(), dir.clone(), stop.clone());
        let thread =
            std::thread::Builder::new().name("segments-ahead".into()).spawn(move || {
                let (disk, dir, stop) = maker;
                for n in 0_u64.. {
                    let path = dir.join(format!("ahead-{n}.new"));
                    let made = make(disk.as_ref(), path, size, &stop);
                    if stop.load(Ordering::Relaxed) || give.send(made).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self { disk, dir, size, ahead: Some(Ahead { ready, stop, thread }) })
    }

    /// A spare of at least `size` bytes.
    pub fn take(&mut self, size: u64) -> Result<Spare, Failed> {
        // What failed ahead of time is tried once more: space may have been freed since.
        if let Some(Ok(Ok(mut spare))) = self.ahead.as_ref().map(|ahead| ahead.ready.recv()) {
            if spare.size < size {
                let path = &spare.path;
                zero(spare.file.as_mut(), spare.size, size, &AtomicBool::new(false)).doing(
                    self.disk.as_ref(),
                    "extend",
                    path,
                )?;
                spare.size = size;
            }
            return Ok(spare);
        }
        let path = self.dir.join("now.new");
        make(self.disk.as_ref(), path, self.size.max(size), &AtomicBool::new(false))
    }
}

impl Drop for Spares {
    /// Waits for the thread: whoever opens the directory next must not meet it.
    fn drop(&mut self) {
        if let Some(Ahead { ready, stop, thread }) = self.ahead.take() {
            stop.store(true, Ordering::Relaxed);
            drop(ready);
            if thread.join().is_err() {
                tracing::error!("the thread that makes segments ahead has panicked");
            }
        }
    }
}

fn make(disk: &dyn Disk, path: PathBuf, size: u64, stop: &AtomicBool) -> Result<Spare, Failed> {
    let made = try_make(disk, &path, size, stop);
    match made {
        Ok(file) => Ok(Spare { path, file, size }),
        Err(failed) => {
            // Gives the space back; recovery would too.
            let _ = disk.remove(&path);
            Err(failed)
        }
    }
}

fn try_make(
    disk: &dyn Disk,
    path: &Path,
    size: u64,
    stop: &AtomicBool,
) -> Result<Box<dyn DiskFile>, Failed> {
    let mut file = disk.open(path, Open::Create).doing(disk, "make", path)?;
    zero(file.as_mut(), 0, size, stop).doing(disk, "allocate", path)?;
    Ok(file)
}

/// In pieces, synced now and then, so that the device is not handed 64 MiB at once while the
/// writer waits for its own 4 KiB.
fn zero(file: &mut dyn DiskFile, from: u64, to: u64, stop: &AtomicBool) -> io::Result<()> {
    const PIECE: u64 = 1 << 20;
    let zeros = vec![0; PIECE.min(to - from) as usize];
    let mut at = from;
    while at < to && !stop.load(Ordering::Relaxed) {
        let n = PIECE.min(to - at);
        file.write_at(&zeros[..n as usize], at)?;
        at += n;
        if at == to || (at / PIECE).is_multiple_of(8) {
            file.sync_data()?;
        }
    }
    Ok(())
}
