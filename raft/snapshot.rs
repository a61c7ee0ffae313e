//! Snapshots as files: made beside, synced, renamed, the directory synced.
//!
//! What always holds: a file under its final name was whole when it got it; reading one checks it
//! again, so what is handed out is whole now. The two newest are kept, so that rot in the newest
//! is survived where the log still reaches back to the older.

use crate::codec::snapshot::{Standing, decode};
use crate::error::StartError;
use crate::types::{LogId, SnapshotData};
use bytes::Bytes;
use cryptorun_core::machine::Machine;
use cryptorun_platform::disk::{self, Disk};
use cryptorun_platform::segments::NoSpace;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many files stay.
const KEPT: usize = 2;
const SUFFIX: &str = ".snapshot";

/// A directory of snapshots.
#[derive(Clone)]
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

/// A snapshot read back and checked.
pub(crate) struct Found {
    pub standing: Standing,
    pub machine: Machine,
    pub bytes: SnapshotData,
}

impl Snapshots {
    /// # Errors
    /// The directory cannot be made.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, StartError> {
        let failed = |source| StartError::Disk { action: "make", path: disk.show(dir), source };
        disk.create_dir_all(dir).map_err(failed)?;
        Ok(Self { dir: dir.to_owned(), disk })
    }

    /// Where it is, for messages.
    pub fn shown(&self) -> PathBuf {
        self.disk.show(&self.dir)
    }

    /// The newest file that is whole.
    pub(crate) fn newest(&self) -> Result<Option<Found>, StartError> {
        let names = self.names().map_err(|source| StartError::Disk {
            action: "list",
            path: self.shown(),
            source,
        })?;
        for name in names.iter().rev() {
            let path = self.dir.join(name);
            let bytes = self.disk.read(&path).map_err(|source| StartError::Disk {
                action: "read",
                path: self.disk.show(&path),
                source,
            })?;
            match decode(&bytes) {
                Ok((standing, machine)) => {
                    return Ok(Some(Found { standing, machine, bytes: Bytes::from(bytes) }));
                }
                Err(error) => {
                    let path = self.disk.show(&path);
                    tracing::error!(path = %path.display(), %error, "snapshot is damaged");
                }
            }
        }
        Ok(None)
    }

    /// Keeps a snapshot; on return it is on the medium. Older ones beyond two are removed.
    pub(crate) fn keep(&self, last: Option<LogId>, bytes: &[u8]) -> io::Result<()> {
        disk::replace(self.disk.as_ref(), &self.dir.join(file_name(last)), bytes)?;
        let names = self.names()?;
        let old = names.len().saturating_sub(KEPT);
        for name in &names[..old] {
            self.disk.remove(&self.dir.join(name))?;
        }
        if old > 0 { self.disk.sync_dir(&self.dir) } else { Ok(()) }
    }

    /// What a full disk leaves undone: a snapshot of so many bytes.
    pub(crate) fn no_space(&self, bytes: usize) -> NoSpace {
        let free = self.disk.free(&self.dir).ok();
        NoSpace { path: self.shown(), needed: bytes as u64, free }
    }

    /// In the order of what they hold: names are zero-padded.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = self.disk.list(&self.dir)?;
        names.retain(|name| name.ends_with(SUFFIX));
        names.sort();
        Ok(names)
    }
}

fn file_name(last: Option<LogId>) -> String {
    let (index, term) = last.map_or((0, 0), |id| (id.index, id.leader_id.term));
    format!("{index:020}-{term:010}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::snapshot::encode;
    use crate::types::{LeaderId, SnapshotMeta};
    use cryptorun_platform::disk::{Keep, SimDisk};

    fn bytes(index: u64) -> (Option<LogId>, Vec<u8>) {
        let last = Some(LogId::new(LeaderId { term: 1, node_id: 1 }, index));
        let meta = SnapshotMeta { last_log_id: last, ..SnapshotMeta::default() };
        let standing = Standing { meta, ..Standing::default() };
        (last, encode(&Machine::default(), &standing).expect("encodes"))
    }

    fn newest(disk: &SimDisk) -> Option<u64> {
        let kept = Snapshots::open(Arc::new(disk.clone()), Path::new("s")).expect("opens");
        let found = kept.newest().expect("lists");
        found.and_then(|found| found.standing.meta.last_log_id).map(|id| id.index)
    }

    #[test]
    fn what_was_kept_survives_a_power_cut_and_rot_falls_back_to_the_one_before() {
        let disk = SimDisk::new();
        let kept = Snapshots::open(Arc::new(disk.clone()), Path::new("s")).expect("opens");
        for index in [5, 90, 700] {
            let (last, bytes) = bytes(index);
            kept.keep(last, &bytes).expect("keeps");
        }
        disk.crash(Keep::Nothing);
        let disk = disk.restarted();
        assert_eq!(newest(&disk), Some(700));
        let name = Path::new("s").join(file_name(bytes(700).0));
        disk.corrupt(&name, |bytes| bytes[20] ^= 1).expect("is there");
        assert_eq!(newest(&disk), Some(90));
        let name = Path::new("s").join(file_name(bytes(90).0));
        disk.corrupt(&name, |bytes| bytes.truncate(30)).expect("is there");
        assert_eq!(newest(&disk), None);
    }
}
