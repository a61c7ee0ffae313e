//! What can be wrong with a log, by what the reader of the message can do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, is_full};

/// Why a log cannot be opened. Nothing has been changed when it is one of the first five.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "segment {segment} is damaged at offset {offset} of {path}: {why}; \
         restore this disk from a peer, do not delete the file"
    )]
    Corrupt { path: PathBuf, segment: u64, offset: u64, why: &'static str },
    #[error("{path} belongs to another owner ({found}, this is {expected}); check the data path")]
    Foreign { path: PathBuf, found: String, expected: String },
    #[error("{path} has format {found}, this version reads up to {supported}; use a newer one")]
    Newer { path: PathBuf, found: u32, supported: u32 },
    #[error("segment {segment} is missing in {dir}; restore this disk from a peer")]
    Missing { dir: PathBuf, segment: u64 },
    #[error("{path} is held by another process; stop it, or give this one its own data path")]
    InUse { path: PathBuf },
    #[error("no permission to {action} {path}; check its owner and mode")]
    Denied { action: &'static str, path: PathBuf, source: io::Error },
    #[error("no space left to {action} {path}; free some and start again")]
    Full { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

/// Why records cannot be read back. Appending is not affected.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("segment {segment} was removed, the oldest is {oldest}")]
    Removed { segment: u64, oldest: u64 },
    #[error("segment {segment} cannot be read at offset {offset} of {path}: {why}")]
    Corrupt { path: PathBuf, segment: u64, offset: u64, why: &'static str },
    #[error("cannot read {path}")]
    Io { path: PathBuf, source: io::Error },
}

/// The I/O error that stopped a log, for everybody who asks.
#[derive(Clone, Debug, thiserror::Error)]
#[error("log stopped: cannot {action} {path}")]
pub struct Failure {
    pub action: &'static str,
    pub path: PathBuf,
    pub source: Arc<io::Error>,
}

impl Failure {
    /// As an `io::Error` of the same kind, with this as its inside.
    pub fn to_io(&self) -> io::Error {
        io::Error::new(self.source.kind(), self.clone())
    }
}

/// There is no room for a log's next segment. It keeps what it has, goes on in what is left of the
/// current one, then waits; it goes on by itself once there is room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no space for the next {needed} bytes in {path}{}", free.map(|free| format!(" ({free} are free)")).unwrap_or_default())]
pub struct NoSpace {
    pub path: PathBuf,
    pub needed: u64,
    /// Bytes, where the disk could say.
    pub free: Option<u64>,
}

impl NoSpace {
    /// As an `io::Error` of its kind.
    pub fn to_io(&self) -> io::Error {
        io::Error::new(io::ErrorKind::StorageFull, self.clone())
    }
}

/// An error of the disk together with what was tried, on which file.
#[derive(Debug)]
pub(super) struct Failed {
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl Failed {
    /// Whether what was tried may be tried again once there is room. Not a sync: after its error
    /// nothing is known about what was written before.
    pub fn can_wait(&self) -> bool {
        is_full(&self.source) && self.action != SYNC
    }
}

/// What a failed sync is told from the others by.
pub(super) const SYNC: &str = "sync";

/// `disk.remove(path).doing(disk, "remove", path)?`
pub(super) trait Doing<T> {
    fn doing(self, disk: &dyn Disk, action: &'static str, path: &Path) -> Result<T, Failed>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, disk: &dyn Disk, action: &'static str, path: &Path) -> Result<T, Failed> {
        self.map_err(|source| Failed { action, path: disk.show(path), source })
    }
}

impl From<Failed> for Failure {
    fn from(Failed { action, path, source }: Failed) -> Self {
        Self { action, path, source: Arc::new(source) }
    }
}

impl From<Failed> for OpenError {
    fn from(Failed { action, path, source }: Failed) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { action, path, source }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { action, path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }
}
