//! Files that people carry away: a line of JSON each, and a last one that says that this was all.
//!
//! What always holds: a file under its final name is whole and on the disk, and took nobody's place;
//! what was begun and not ended is gone again; a changed byte or a missing line shows in the hash at
//! the end.

use crate::failure::Failure;
use cryptorun_core::position::Hash;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Follows the lines: `hash(n) = BLAKE3( hash(n−1) | line )`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// So many.
    pub lines: u64,
    /// Over them.
    pub hash: Hash,
}

impl Chain {
    /// Takes the next line, without its end.
    pub fn add(&mut self, line: &[u8]) {
        let mut bytes = Vec::with_capacity(32 + line.len());
        bytes.extend_from_slice(&self.hash.0);
        bytes.extend_from_slice(line);
        self.hash = Hash::of(&bytes);
        self.lines += 1;
    }
}

/// The last line.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Last {
    End { lines: u64, hash: Hash },
}

/// A file being written, under a name that says so.
pub struct Writer {
    out: Option<BufWriter<File>>,
    part: PathBuf,
    path: PathBuf,
    chain: Chain,
}

impl Writer {
    /// Begins a file that is not there yet.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        is_free(path)?;
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&part);
        let out = BufWriter::new(file.map_err(|e| cannot("write", &part, &e))?);
        Ok(Self { out: Some(out), part, path: path.to_owned(), chain: Chain::default() })
    }

    /// Writes a line.
    pub fn line(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        let written =
            serde_json::to_vec(line).map_err(std::io::Error::other).and_then(|mut bytes| {
                self.chain.add(&bytes);
                bytes.push(b'\n');
                self.out.as_mut().map_or(Ok(()), |out| out.write_all(&bytes))
            });
        written.map_err(|e| cannot("write", &self.part, &e))
    }

    /// Ends the file and gives it its name; the hash that names what is in it.
    pub fn finish(mut self) -> Result<Hash, Failure> {
        let Chain { lines, hash } = self.chain;
        self.line(&Last::End { lines, hash })?;
        is_free(&self.path)?; // Somebody may have been faster.
        let named = match self.out.take() {
            None => Ok(()),
            Some(out) => out
                .into_inner()
                .map_err(std::io::IntoInnerError::into_error)
                .and_then(|file| file.sync_all())
                .and_then(|()| std::fs::rename(&self.part, &self.path))
                .and_then(|()| File::open(parent(&self.path))?.sync_all()),
        };
        named.map_err(|e| {
            let _ = std::fs::remove_file(&self.part);
            cannot("write", &self.path, &e)
        })?;
        Ok(hash)
    }
}

impl Drop for Writer {
    /// What was not ended is of no use to anybody.
    fn drop(&mut self) {
        if let Some(out) = self.out.take() {
            drop(out.into_parts()); // Without writing what is still to be written.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

fn is_free(path: &Path) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Err(_) => Ok(()), // Whatever else is wrong with it shows when it is opened.
        Ok(_) => Err(Failure::usage_hint(
            format!("{} is there already", path.display()),
            "a file never takes another's place: choose another name",
        )),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file that cannot be read or written.
pub fn cannot(action: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage_hint(
        format!("cannot {action} {}: {error}", path.display()),
        "nothing was changed in the cluster",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_not_ended_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let mut writer = Writer::create(&path).unwrap();
        writer.line(&"one").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        drop(writer);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_came_in_between_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let writer = Writer::create(&path).unwrap();
        std::fs::write(&path, "theirs").unwrap();
        assert!(writer.finish().is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "theirs");
        assert!(Writer::create(&path).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "only theirs");
    }
}
