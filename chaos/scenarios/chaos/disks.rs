//! Small disks: memory file systems under one node's and one worker's data, to be filled up.
//!
//! They belong to the hub's mount namespace and go with it.

use crate::world::Trouble;
use cryptorun_lab::demo::layout::{Lab, Site};
use rustix::fs::statvfs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Some minutes of everything, segments made in advance included.
const SIZE: &str = "size=512m";
const PIECE: usize = 1 << 20;
const FILLER: &str = "filler";

pub struct Disks {
    pub node: Disk,
    pub worker: Disk,
}

pub struct Disk {
    pub site: Site,
    pub process: String,
    at: PathBuf,
}

impl Disks {
    /// Under a lab that is not started yet.
    pub fn mount(lab: &Lab, node: &Site, worker: &Site) -> Result<Self, Trouble> {
        let mount = |site: &Site, process: String| -> Result<Disk, Trouble> {
            let at = lab.folder.join(&process);
            std::fs::create_dir_all(&at)?;
            run("mount", &["-t", "tmpfs", "-o", SIZE, "none"], &at)?;
            Ok(Disk { site: site.clone(), process, at })
        };
        Ok(Self {
            node: mount(node, node.node_process())?,
            worker: mount(worker, worker.worker_process())?,
        })
    }

    /// So that the folder can go; who still writes there goes on.
    pub fn unmount(&self) -> Result<(), Trouble> {
        run("umount", &["-l"], &self.node.at)?;
        run("umount", &["-l"], &self.worker.at)
    }
}

impl Disk {
    /// Until nothing more fits.
    pub fn fill(&self) -> Result<(), Trouble> {
        let mut filler = std::fs::File::create(self.at.join(FILLER))?;
        let piece = vec![0; PIECE];
        let mut piece = &piece[..];
        while !piece.is_empty() {
            match filler.write(piece) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                    piece = &piece[..piece.len() / 2];
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub fn clear(&self) -> Result<(), Trouble> {
        Ok(std::fs::remove_file(self.at.join(FILLER))?)
    }

    pub fn free_bytes(&self) -> Result<u64, Trouble> {
        let disk = statvfs(&self.at)?;
        Ok(disk.f_bavail * disk.f_frsize)
    }
}

fn run(program: &str, words: &[&str], at: &Path) -> Result<(), Trouble> {
    let output = Command::new(program).args(words).arg(at).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Trouble::new(format!("{program} {}: {}", at.display(), said.trim())))
}
