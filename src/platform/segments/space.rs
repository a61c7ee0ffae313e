//! Whether there is room for the next segment: noted by whoever makes it, read by everybody.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::NoSpace;
use super::error::Failed;
use crate::disk::Disk;

/// Between two looks at a full disk.
pub const RETRY: Duration = Duration::from_secs(1);

pub struct Space {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Size of a segment.
    needed: u64,
    state: watch::Sender<Option<NoSpace>>,
}

impl Space {
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf, needed: u64) -> Self {
        Self { disk, dir, needed, state: watch::Sender::new(None) }
    }

    pub fn watch(&self) -> watch::Receiver<Option<NoSpace>> {
        self.state.subscribe()
    }

    /// Something failed for want of room.
    pub fn short(&self, failed: &Failed) {
        let path = self.disk.show(&self.dir);
        let now = NoSpace { path, needed: self.needed, free: self.disk.free(&self.dir).ok() };
        let first = self.state.send_replace(Some(now)).is_none();
        if first {
            let (path, cause) = (failed.path.display(), &failed.source);
            tracing::error!(%path, action = failed.action, %cause, "no space: the log waits");
        }
    }

    /// What was short is there.
    pub fn found(&self) {
        if self.state.send_if_modified(|state| state.take().is_some()) {
            let path = self.disk.show(&self.dir);
            tracing::info!(path = %path.display(), "there is space again: the log goes on");
        }
    }
}
