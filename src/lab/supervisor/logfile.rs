//! What a child prints, kept in a file of bounded size: the present one and the one before it.
//!
//! A child must never wait for its log, so what cannot be written is dropped and said once.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

pub struct LogFile {
    path: PathBuf,
    bytes_max: u64,
    open: Option<(File, u64)>,
    failed: bool,
}

impl LogFile {
    pub fn new(path: PathBuf, bytes_max: u64) -> Self {
        Self { path, bytes_max, open: None, failed: false }
    }

    pub fn write(&mut self, text: &[u8]) {
        match self.try_write(text) {
            Ok(()) => self.failed = false,
            Err(error) if !self.failed => {
                self.failed = true;
                self.open = None;
                tracing::warn!(path = %self.path.display(), %error, "cannot keep a log");
            }
            Err(_) => self.open = None,
        }
    }

    fn try_write(&mut self, text: &[u8]) -> io::Result<()> {
        let (file, bytes) = match &mut self.open {
            Some(open) => open,
            closed => {
                let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
                let bytes = file.metadata()?.len();
                closed.insert((file, bytes))
            }
        };
        file.write_all(text)?;
        *bytes += text.len() as u64;
        if *bytes >= self.bytes_max / 2 {
            self.open = None;
            let mut before = self.path.clone().into_os_string();
            before.push(".1");
            std::fs::rename(&self.path, before)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_never_outgrows_its_bound_and_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("child.log");
        let mut log = LogFile::new(path.clone(), 1_000);
        (0..500).for_each(|line| log.write(format!("line {line}\n").as_bytes()));
        let kept: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().collect();
        let bytes: u64 = kept.iter().map(|entry| entry.metadata().unwrap().len()).sum();
        assert!(kept.len() == 2 && bytes <= 1_020, "{bytes} bytes in {} files", kept.len());
        log.write(b"last\n");
        assert!(std::fs::read_to_string(path).unwrap().ends_with("last\n"));
    }
}
