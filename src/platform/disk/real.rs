//! The disk of this machine.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{BLOCK, Disk, DiskFile, DiskLock, Open, SyncMode};

/// Files under a root that need not exist yet.
#[derive(Clone, Debug)]
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }
}

impl Disk for RealDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let dir = self.at(dir);
        let missing: Vec<&Path> =
            dir.ancestors().take_while(|d| !d.as_os_str().is_empty() && !d.exists()).collect();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        for made in missing {
            let parent = match made.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.at(dir))? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(self.at(path))
    }

    fn open(&self, path: &Path, open: Open) -> io::Result<Box<dyn DiskFile>> {
        let path = self.at(path);
        let mut options = OpenOptions::new();
        options.read(true);
        let (file, mode) = match open {
            Open::Read => (options.open(&path)?, SyncMode::FdataSync),
            Open::Write => (options.write(true).open(&path)?, SyncMode::FdataSync),
            Open::Create => {
                options.write(true).create_new(true).mode(0o600);
                (options.open(&path)?, SyncMode::FdataSync)
            }
            Open::Direct => open_direct(&path)?,
        };
        Ok(Box::new(RealFile { file, mode, aligned: Vec::new() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(self.at(from), self.at(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(self.at(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(self.at(dir))?.sync_all()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.at(path).try_exists()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.at(path))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(self.at(path))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn show(&self, path: &Path) -> PathBuf {
        self.at(path)
    }
}

/// Past the page cache, or through it where the file system refuses (EINVAL).
fn open_direct(path: &Path) -> io::Result<(File, SyncMode)> {
    let flags = (OFlags::DIRECT | OFlags::DSYNC).bits().cast_signed();
    match OpenOptions::new().read(true).write(true).custom_flags(flags).open(path) {
        Ok(file) => Ok((file, SyncMode::Direct)),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            let file = OpenOptions::new().read(true).write(true).open(path)?;
            Ok((file, SyncMode::FdataSync))
        }
        Err(error) => Err(error),
    }
}

struct RealLock {
    _file: File,
}
impl DiskLock for RealLock {}

struct RealFile {
    file: File,
    mode: SyncMode,
    /// Where direct writes are copied to, since the kernel wants them aligned in memory too.
    aligned: Vec<u8>,
}

/// What a direct writer keeps between writes; a larger write gives its buffer back.
const ALIGNED_KEPT: usize = 8 << 20;

impl DiskFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        debug_assert_eq!(self.mode, SyncMode::FdataSync, "read through another handle");
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.mode == SyncMode::FdataSync {
            return self.file.write_all_at(bytes, offset);
        }
        let block = BLOCK as usize;
        if !bytes.len().is_multiple_of(block) || !offset.is_multiple_of(BLOCK) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.aligned.len() < bytes.len() + block {
            self.aligned = vec![0; bytes.len() + block];
        }
        let start = self.aligned.as_ptr().align_offset(block);
        let aligned = &mut self.aligned[start..start + bytes.len()];
        aligned.copy_from_slice(bytes);
        let result = self.file.write_all_at(aligned, offset);
        if self.aligned.len() > ALIGNED_KEPT {
            self.aligned = Vec::new();
        }
        result
    }

    fn sync_data(&mut self) -> io::Result<()> {
        match self.mode {
            SyncMode::FdataSync => self.file.sync_data(),
            SyncMode::Direct => Ok(()), // Each write was.
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn mode(&self) -> SyncMode {
        self.mode
    }
}
