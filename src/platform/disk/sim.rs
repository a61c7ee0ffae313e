//! A disk in memory that keeps its promises and not a bit more.
//!
//! Every write and every name change is seen by readers at once and is *pending* until the sync
//! that covers it. A crash drops pending ones as [`Keep`] says, then old handles answer only
//! errors: tasks of the crashed process may still run, but can no longer reach the medium.
//! Take the handle of the next process from [`SimDisk::restarted`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::{BLOCK, Disk, DiskFile, DiskLock, Open, SyncMode};
use crate::random::{Random, SeededRandom};

/// What a crash keeps of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: the power went.
    Nothing,
    /// All of it: only the process died.
    Everything,
    /// All but the last write, and that many bytes of it.
    Torn { bytes: usize },
    /// A seeded choice, each 512-byte sector of each write and each name change by itself.
    Sectors { seed: u64 },
}

/// What goes wrong on command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `ENOSPC`.
    Full,
    /// `EIO`.
    Broken,
    /// `EIO`, and a sync that fails with it forgets what it was to write: readers still see it, a
    /// later sync succeeds, and the medium never gets it unless it is written again. Linux does so.
    BrokenSync,
    /// `EACCES`.
    Denied,
}

/// A handle to a simulated disk, as one process holds it. Clones are the same process.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    generation: u64,
}

#[derive(Default)]
struct State {
    generation: u64,
    files: BTreeMap<u64, Inode>,
    next_inode: u64,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending: Vec<Pending>,
    locks: BTreeSet<PathBuf>,
    fault: Option<(u64, Fault)>,
    capacity: Option<u64>,
    changes: u64,
}

#[derive(Clone, Default)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
}

enum Pending {
    Write { inode: u64, offset: usize, bytes: Vec<u8> },
    Names { dirs: Vec<PathBuf>, unlink: Option<PathBuf>, link: Option<(PathBuf, u64)> },
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    pub fn new() -> Self {
        let state = State { dirs: BTreeSet::from([PathBuf::new()]), ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), generation: 0 }
    }

    /// Ends every process on this disk; `keep` says what is left of pending changes.
    pub fn crash(&self, keep: Keep) {
        self.state().crash(keep);
    }

    /// The handle for a process started now.
    pub fn restarted(&self) -> Self {
        let generation = self.state().generation;
        Self { state: self.state.clone(), generation }
    }

    /// Another disk with the same files, pending changes and all, and no faults: for trying many
    /// endings of one story.
    pub fn copy(&self) -> Self {
        let state = self.state().copy();
        Self { generation: state.generation, state: Arc::new(Mutex::new(state)) }
    }

    /// Lets `after` more changes (writes, syncs, name changes) pass, then fails every one.
    pub fn fail_after(&self, after: u64, fault: Fault) {
        self.state().fault = Some((after, fault));
    }

    pub fn heal(&self) {
        self.state().fault = None;
    }

    /// The process that held this disk was killed, and the machine goes on: what was written is
    /// still seen, and still pending.
    pub fn kill(&self) {
        let mut state = self.state();
        state.locks.clear();
        state.generation += 1;
    }

    /// Room for file contents in total; writes that would need more fail with `ENOSPC`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Changes made or tried so far: writes, syncs, name changes.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// How many changes a crash could lose now: for aiming crashes.
    pub fn pending(&self) -> usize {
        self.state().pending.len()
    }

    /// How long the write is that [`Keep::Torn`] would tear.
    pub fn last_pending_write(&self) -> usize {
        self.last_pending().map_or(0, |(_, bytes)| bytes.len())
    }

    /// The file and the bytes of that write.
    pub fn last_pending(&self) -> Option<(PathBuf, Vec<u8>)> {
        let state = self.state();
        let write = |p: &Pending| match p {
            Pending::Write { inode, bytes, .. } => Some((*inode, bytes.clone())),
            Pending::Names { .. } => None,
        };
        let (inode, bytes) = state.pending.iter().rev().find_map(write)?;
        let named = state.names.iter().find(|(_, named)| **named == inode);
        Some((named.map(|(path, _)| path.clone()).unwrap_or_default(), bytes))
    }

    /// Every file by its path, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// Changes bytes behind everybody's back, on the medium too: a rotten sector.
    pub fn corrupt(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.find(path)?;
        let file = state.files.entry(inode).or_default();
        change(&mut file.seen);
        file.durable = file.seen.clone();
        Ok(())
    }

    /// The state on behalf of this handle's process, unless that has crashed.
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.generation == self.generation {
            Ok(state)
        } else {
            Err(io::Error::other("the process that held this disk has crashed"))
        }
    }

    /// As `alive`, for something that changes the disk and may be told to fail.
    fn changing(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.alive()?;
        state.changes += 1;
        match &mut state.fault {
            Some((0, fault)) => Err(fault.error()),
            Some((left, _)) => {
                *left -= 1;
                Ok(state)
            }
            None => Ok(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault {
    pub fn kind(self) -> io::ErrorKind {
        self.error().kind()
    }

    fn error(self) -> io::Error {
        match self {
            Self::Full => Errno::NOSPC.into(),
            Self::Broken | Self::BrokenSync => Errno::IO.into(),
            Self::Denied => Errno::ACCESS.into(),
        }
    }
}

impl State {
    fn find(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or(io::ErrorKind::NotFound.into())
    }

    fn name(&mut self, unlink: Option<PathBuf>, link: Option<(PathBuf, u64)>) {
        let touched = unlink.iter().chain(link.iter().map(|(path, _)| path));
        let dirs = touched.map(|path| parent(path).to_path_buf()).collect();
        apply_names(&mut self.names, unlink.as_ref(), link.as_ref());
        self.pending.push(Pending::Names { dirs, unlink, link });
    }

    fn used(&self) -> usize {
        self.names.values().map(|inode| self.files[inode].seen.len()).sum()
    }

    fn write(&mut self, inode: u64, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let used = self.used();
        let file = self.files.entry(inode).or_default();
        let grown = (offset + bytes.len()).saturating_sub(file.seen.len());
        let lacks_room = self.capacity.is_some_and(|room| (used + grown) as u64 > room);
        if grown > 0 && lacks_room {
            return Err(Fault::Full.error());
        }
        put(&mut file.seen, offset, bytes);
        self.pending.push(Pending::Write { inode, offset, bytes: bytes.to_vec() });
        Ok(())
    }

    /// Takes a file's pending writes out of the queue, for the medium or for nothing.
    fn settle(&mut self, inode: u64, reach_the_medium: bool) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Pending::Write { inode: of, offset, bytes } if of == inode => {
                    if reach_the_medium && let Some(file) = self.files.get_mut(&inode) {
                        put(&mut file.durable, offset, &bytes);
                    }
                }
                other => self.pending.push(other),
            }
        }
    }

    fn sync_dir(&mut self, dir: &Path) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Pending::Names { dirs, unlink, link } if dirs.iter().any(|d| d == dir) => {
                    apply_names(&mut self.durable_names, unlink.as_ref(), link.as_ref());
                }
                other => self.pending.push(other),
            }
        }
    }

    fn crash(&mut self, keep: Keep) {
        let random = SeededRandom::new(if let Keep::Sectors { seed } = keep { seed } else { 0 });
        let pending = std::mem::take(&mut self.pending);
        let last = pending.iter().rposition(|p| matches!(p, Pending::Write { .. }));
        for (i, change) in pending.into_iter().enumerate() {
            match change {
                Pending::Names { unlink, link, .. } => {
                    let kept = match keep {
                        Keep::Nothing => false,
                        Keep::Everything | Keep::Torn { .. } => true,
                        Keep::Sectors { .. } => random.below(2) == 1,
                    };
                    if kept {
                        apply_names(&mut self.durable_names, unlink.as_ref(), link.as_ref());
                    }
                }
                Pending::Write { inode, offset, bytes } => {
                    let file = self.files.entry(inode).or_default();
                    match keep {
                        Keep::Nothing => {}
                        Keep::Torn { bytes: n } if last == Some(i) => {
                            put(&mut file.durable, offset, &bytes[..n.min(bytes.len())]);
                        }
                        Keep::Everything | Keep::Torn { .. } => {
                            put(&mut file.durable, offset, &bytes);
                        }
                        Keep::Sectors { .. } => {
                            for (offset, sector) in sectors(offset, &bytes) {
                                if random.below(2) == 1 {
                                    put(&mut file.durable, offset, sector);
                                }
                            }
                        }
                    }
                }
            }
        }
        let named: BTreeSet<u64> = self.durable_names.values().copied().collect();
        self.files.retain(|inode, _| named.contains(inode));
        for file in self.files.values_mut() {
            file.seen.clone_from(&file.durable);
        }
        self.names.clone_from(&self.durable_names);
        self.locks.clear();
        self.fault = None;
        self.generation += 1;
    }

    fn copy(&self) -> Self {
        let pending = self.pending.iter().map(|p| match p {
            Pending::Write { inode, offset, bytes } => {
                Pending::Write { inode: *inode, offset: *offset, bytes: bytes.clone() }
            }
            Pending::Names { dirs, unlink, link } => {
                Pending::Names { dirs: dirs.clone(), unlink: unlink.clone(), link: link.clone() }
            }
        });
        Self {
            generation: self.generation,
            files: self.files.clone(),
            next_inode: self.next_inode,
            dirs: self.dirs.clone(),
            names: self.names.clone(),
            durable_names: self.durable_names.clone(),
            pending: pending.collect(),
            ..Self::default()
        }
    }
}

/// The bytes of a write, cut where the medium's sectors end.
fn sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    const SECTOR: usize = 512;
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        at = (start + SECTOR - (offset + start) % SECTOR).min(bytes.len());
        (start < at).then(|| (offset + start, &bytes[start..at]))
    })
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if file.len() < offset + bytes.len() {
        file.resize(offset + bytes.len(), 0);
    }
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn apply_names(
    names: &mut BTreeMap<PathBuf, u64>,
    unlink: Option<&PathBuf>,
    link: Option<&(PathBuf, u64)>,
) {
    if let Some(path) = unlink {
        names.remove(path);
    }
    if let Some((path, inode)) = link {
        names.insert(path.clone(), *inode);
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

impl Disk for SimDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.changing()?;
        state.dirs.extend(dir.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.alive()?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let names = state.names.keys().filter(|path| parent(path) == dir);
        Ok(names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.alive()?;
        Ok(state.files[&state.find(path)?].seen.clone())
    }

    fn open(&self, path: &Path, open: Open) -> io::Result<Box<dyn DiskFile>> {
        let inode = if open == Open::Create {
            let mut state = self.changing()?;
            if state.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if !state.dirs.contains(parent(path)) {
                return Err(io::ErrorKind::NotFound.into());
            }
            state.next_inode += 1;
            let inode = state.next_inode;
            state.files.insert(inode, Inode::default());
            state.name(None, Some((path.to_path_buf(), inode)));
            inode
        } else {
            self.alive()?.find(path)?
        };
        Ok(Box::new(SimFile { disk: self.clone(), inode, open }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.changing()?;
        let inode = state.find(from)?;
        state.name(Some(from.to_path_buf()), Some((to.to_path_buf(), inode)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.changing()?;
        state.find(path)?;
        state.name(Some(path.to_path_buf()), None);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.changing()?.sync_dir(dir);
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.alive()?;
        Ok(state.names.contains_key(path) || state.dirs.contains(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        if !self.alive()?.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_path_buf() }))
    }

    fn free(&self, _path: &Path) -> io::Result<u64> {
        let state = self.alive()?;
        let used = state.used() as u64;
        Ok(state.capacity.map_or(u64::MAX, |room| room.saturating_sub(used)))
    }

    fn show(&self, path: &Path) -> PathBuf {
        path.to_path_buf()
    }
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}
impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        if let Ok(mut state) = self.disk.alive() {
            state.locks.remove(&self.path);
        }
    }
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
    open: Open,
}

impl DiskFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.alive()?;
        let Some(file) = state.files.get(&self.inode) else { return Ok(0) };
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(file.seen.len());
        let n = buf.len().min(file.seen.len() - from);
        buf[..n].copy_from_slice(&file.seen[from..from + n]);
        Ok(n)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let misaligned =
            !(bytes.len() as u64).is_multiple_of(BLOCK) || !offset.is_multiple_of(BLOCK);
        if self.open == Open::Read || self.open == Open::Direct && misaligned {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.disk.changing()?.write(self.inode, offset, bytes)
    }

    /// In direct mode too, where the real one has nothing left to do: a write can be caught
    /// half-way between the two calls in both.
    fn sync_data(&mut self) -> io::Result<()> {
        let result = self.disk.changing().map(|mut state| state.settle(self.inode, true));
        if result.is_err()
            && let Ok(mut state) = self.disk.alive()
            && matches!(state.fault, Some((0, Fault::BrokenSync)))
        {
            state.settle(self.inode, false);
        }
        result
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.alive()?.files.get(&self.inode).map_or(0, |file| file.seen.len() as u64))
    }

    fn mode(&self) -> SyncMode {
        if self.open == Open::Direct { SyncMode::Direct } else { SyncMode::FdataSync }
    }
}
