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
use super::space::{RETRY, Space};
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
    space: Arc<Space>,
    source: Source,
}

enum Source {
    Thread(Ahead),
    /// Made by the writer itself when it has nothing else to do.
    Inline(Option<Spare>),
}

struct Ahead {
    ready: Receiver<Result<Spare, Failed>>,
    stop: Arc<AtomicBool>,
    /// None once it was waited for.
    thread: Option<JoinHandle<()>>,
}

impl Spares {
    /// Made by whoever asks.
    pub fn inline(disk: Arc<dyn Disk>, dir: PathBuf, size: u64, space: Arc<Space>) -> Self {
        Self { disk, dir, size, space, source: Source::Inline(None) }
    }

    /// Keeps one ready, made by a thread.
    pub fn ahead(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        size: u64,
        space: Arc<Space>,
    ) -> io::Result<Self> {
        let (give, ready) = sync_channel(0);
        let stop = Arc::new(AtomicBool::new(false));
        let maker = (disk.clone(), dir.clone(), space.clone(), stop.clone());
        let thread =
            std::thread::Builder::new().name("segments-ahead".into()).spawn(move || {
                let (disk, dir, space, stop) = maker;
                let mut n = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let path = dir.join(format!("ahead-{n}.new"));
                    let made = make(disk.as_ref(), path, size, &stop, &space);
                    match made {
                        Err(failed) if failed.can_wait() => {
                            // A writer that waits is told, and asks again.
                            drop(give.try_send(Err(failed)));
                            std::thread::park_timeout(RETRY);
                        }
                        _ if stop.load(Ordering::Relaxed) => break,
                        made => match give.send(made) {
                            Ok(()) => n += 1,
                            Err(_) => break,
                        },
                    }
                }
            })?;
        let source = Source::Thread(Ahead { ready, stop, thread: Some(thread) });
        Ok(Self { disk, dir, size, space, source })
    }

    /// Makes one ahead where nobody else does. False when there is no room.
    pub fn prepare(&mut self) -> bool {
        if let Source::Inline(ready @ None) = &mut self.source {
            let path = self.dir.join("ahead.new");
            let made =
                make(self.disk.as_ref(), path, self.size, &AtomicBool::new(false), &self.space);
            match made {
                Ok(spare) => *ready = Some(spare),
                Err(failed) => return !failed.can_wait(), // Others show when it is needed.
            }
        }
        true
    }

    /// A batch that had waited has found its room.
    pub fn found_space(&self) {
        self.space.found();
    }

    /// A spare of at least `size` bytes.
    pub fn take(&mut self, size: u64) -> Result<Spare, Failed> {
        let ready = match &mut self.source {
            Source::Inline(ready) => ready.take(),
            Source::Thread(ahead) => match ahead.ready.recv() {
                Ok(Ok(spare)) => Some(spare),
                Ok(Err(failed)) if failed.can_wait() => return Err(failed),
                // What failed ahead of time is tried once more.
                Ok(Err(_)) | Err(_) => None,
            },
        };
        let Some(mut spare) = ready else {
            let path = self.dir.join("now.new");
            let size = self.size.max(size);
            return make(self.disk.as_ref(), path, size, &AtomicBool::new(false), &self.space);
        };
        if spare.size < size {
            let path = &spare.path;
            let extended = zero(spare.file.as_mut(), spare.size, size, &AtomicBool::new(false))
                .doing(self.disk.as_ref(), "extend", path);
            if let Err(failed) = extended {
                let _ = self.disk.remove(path);
                return Err(failed);
            }
            spare.size = size;
        }
        Ok(spare)
    }
}

impl Drop for Spares {
    /// Waits for the thread: whoever opens the directory next must not meet it.
    fn drop(&mut self) {
        let Source::Thread(Ahead { ready, stop, thread }) = &mut self.source else { return };
        stop.store(true, Ordering::Relaxed);
        drop(std::mem::replace(ready, sync_channel(0).1));
        if let Some(thread) = thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the thread that makes segments ahead has panicked");
            }
        }
    }
}

fn make(
    disk: &dyn Disk,
    path: PathBuf,
    size: u64,
    stop: &AtomicBool,
    space: &Space,
) -> Result<Spare, Failed> {
    let made = try_make(disk, &path, size, stop);
    match made {
        Ok(file) => {
            space.found();
            Ok(Spare { path, file, size })
        }
        Err(failed) => {
            // Gives the space back; recovery would too.
            let _ = disk.remove(&path);
            if failed.can_wait() {
                space.short(&failed);
            }
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
