//! Files, relative to one root: only what crash-safe code needs, with its promises spelled out.
//!
//! What always holds, on the real disk and on the simulated one (one test runs on both):
//!  1. a write is on the medium once [`DiskFile::sync_data`] has returned, and not surely before;
//!  2. a created, renamed or removed name is on the medium once [`Disk::sync_dir`] of its
//!     directory has returned; directories themselves are on return;
//!  3. an error says what failed; which file is added by the caller through [`Disk::show`].
//!
//! Everything blocks. Callers on an async runtime keep it short or bring a thread.
//! Deliberately absent: appending handles, permissions, links, memory maps.
//! Next: `disk/sim.rs` for what a crash may do to unsynced writes.

mod real;
mod sim;

use std::io;
use std::path::{Path, PathBuf};

pub use real::RealDisk;
pub use sim::{Fault, Keep, SimDisk};

/// How what was written reaches the medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// Through the page cache, then `fdatasync`.
    #[default]
    FdataSync,
    /// Past the page cache, each write on the medium when it returns (`O_DIRECT | O_DSYNC`).
    /// Offsets and lengths are multiples of [`BLOCK`].
    Direct,
}

/// What a direct write is aligned to, and what pads it. No common device has larger sectors.
pub const BLOCK: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// Reading only; the file must exist.
    Read,
    /// Reading and writing; the file must exist.
    Write,
    /// Reading and writing a file that must not exist yet. Readable by the owner only.
    Create,
    /// As `Write`, in `Direct` mode where the file system can ([`DiskFile::mode`] says).
    Direct,
}

pub trait Disk: Send + Sync + 'static {
    /// Makes a directory and those above it. They are on the medium on return.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Names of the files in a directory, sorted; directories are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    fn open(&self, path: &Path, open: Open) -> io::Result<Box<dyn DiskFile>>;
    /// Replaces `to` in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Takes a file as a lock, made if missing, until the answer is dropped or the process ends.
    /// `WouldBlock` when somebody has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
    /// Bytes that may still be written where `path` is.
    fn free(&self, path: &Path) -> io::Result<u64>;
    /// The path as a person would type it: for messages.
    fn show(&self, path: &Path) -> PathBuf;
}

/// Held until dropped.
pub trait DiskLock: Send + Sync {}

pub trait DiskFile: Send {
    /// Fills the buffer, or as much of it as there is before the end; says how much.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of it. After an error any part may have been written.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Puts all that was written, and the length, on the medium. After an error nothing is known
    /// about any write since the last success: do not try again, stop.
    fn sync_data(&mut self) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    fn mode(&self) -> SyncMode;
}

/// Writes a whole file so that a crash leaves the old one or the new one: a temporary file beside
/// it, sync, rename, sync of the directory.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = name.to_os_string();
    temporary.push(".new");
    let temporary = path.with_file_name(temporary);
    if disk.exists(&temporary)? {
        disk.remove(&temporary)?; // Left by a crash.
    }
    let mut file = disk.open(&temporary, Open::Create)?;
    let written = file.write_at(bytes, 0).and_then(|()| file.sync_data());
    if let Err(error) = written.and_then(|()| disk.rename(&temporary, path)) {
        let _ = disk.remove(&temporary); // Gives the space back; the next call would too.
        return Err(error);
    }
    disk.sync_dir(path.parent().unwrap_or(Path::new("")))
}

/// Whether an error says that there is no room: something that passes, unlike the others.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
#[path = "disk/contract.rs"]
mod contract;
