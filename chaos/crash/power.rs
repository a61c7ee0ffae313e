//! Power cuts of a real file system: ext4 on a loop device, shut down without its journal, so that
//! everything that no sync covers is gone; then mounted again.
//!
//! A child appends to a log (threads, real disk, both ways of syncing) and replaces a file, and says
//! what was acknowledged. The cut comes at a moment nobody chose. Needs root, loop devices, mkfs.ext4
//! and python3 for the ioctl (this workspace has no unsafe code); what is missing is said, and the
//! test is skipped.

use cryptorun_platform::disk::{self, Disk, RealDisk, SyncMode};
use cryptorun_platform::random::{Random, SeededRandom};
use cryptorun_platform::segments::{Driver, Log, Owner, Record, Settings};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Room for some segments and the file system's own.
const IMAGE_BYTES: u64 = 96 << 20;
const SEGMENT_BYTES: u64 = 1 << 20;
/// Appends that are acknowledged together, at most.
const TOGETHER: u64 = 8;
/// Acknowledged before the cut, at most.
const ACKED_MAX: u64 = 2_000;

/// FS_IOC_SHUTDOWN with NOLOGFLUSH: nothing more reaches the device, not even the journal.
const CUT: &str = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

/// What came of it.
pub enum Outcome {
    Skipped(String),
    Done { cuts: u64, acked: u64, wrong: Vec<String> },
}

/// Cuts the power so many times. `program` is this one: its `power-child` is what gets cut.
pub fn run(cuts: u64, seed: u64, program: &Path, scratch: &Path) -> io::Result<Outcome> {
    if let Err(why) = Mounted::make(scratch, "probe").and_then(|probe| probe.cut()) {
        return Ok(Outcome::Skipped(why.to_string()));
    }
    let random = SeededRandom::new(seed);
    let (mut all, mut wrong) = (0, Vec::new());
    for cut in 0..cuts {
        let mode = if cut % 2 == 0 { SyncMode::Direct } else { SyncMode::FdataSync };
        let disk = Mounted::make(scratch, &format!("cut-{cut}"))?;
        let acked = work_until_cut(&disk, mode, program, 1 + random.below(ACKED_MAX))?;
        let found = disk.again(|dir| found(dir, mode))?;
        all += acked.records;
        match found {
            Err(why) => wrong.push(format!("cut {cut}, {mode:?}: {why}")),
            Ok(found) if found.records < acked.records || found.file < acked.file => {
                wrong.push(format!("cut {cut}, {mode:?}: {found:?} found, {acked:?} acknowledged"));
            }
            Ok(_) => {}
        }
    }
    Ok(Outcome::Done { cuts, acked: all, wrong })
}

#[derive(Debug, Default)]
struct Kept {
    /// Records 0, 1, 2 and so on.
    records: u64,
    /// The number in the file that is replaced.
    file: u64,
}

fn work_until_cut(disk: &Mounted, mode: SyncMode, program: &Path, until: u64) -> io::Result<Kept> {
    let mut child = Command::new(program)
        .arg("power-child")
        .arg(&disk.dir)
        .args((mode == SyncMode::Direct).then_some("--direct"))
        .stdout(Stdio::piped())
        .spawn()?;
    let mut acked = Kept::default();
    let output = child.stdout.take().ok_or_else(|| io::Error::other("the child has no output"))?;
    let mut cut = false;
    for line in BufReader::new(output).lines() {
        let line = line?;
        let Some((what, number)) = line.split_once(' ') else { continue };
        let Ok(number) = number.parse() else { continue };
        match what {
            "records" => acked.records = number,
            _ => acked.file = number,
        }
        if acked.records >= until && !cut {
            // What is acknowledged up to the cut itself still comes through the pipe.
            disk.cut()?;
            cut = true;
        }
    }
    child.wait()?; // Ended by the error that the cut gave it.
    Ok(acked)
}

/// The one that is cut: works until the disk fails.
pub fn child(dir: &Path, direct: bool) -> io::Result<()> {
    let mode = if direct { SyncMode::Direct } else { SyncMode::FdataSync };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (log, records) = open(dir, mode)?;
        let mut sent = records.len() as u64;
        let mut said = io::stdout();
        for round in 1.. {
            for _ in 0..round % TOGETHER {
                let number = sent;
                log.append(1, |body| put(body, number), None);
                sent += 1;
            }
            let mut body = Vec::new();
            put(&mut body, sent);
            log.append_durable(1, &body).await?;
            sent += 1;
            writeln!(said, "records {sent}")?;
            if round % 16 == 0 {
                let disk = RealDisk::new(dir);
                disk::replace(&disk, Path::new("file"), round.to_string().as_bytes())?;
                writeln!(said, "file {round}")?;
            }
        }
        Ok(())
    })
}

fn put(body: &mut Vec<u8>, number: u64) {
    body.extend(number.to_le_bytes());
    body.extend(std::iter::repeat_n(number as u8 | 1, (number % 900) as usize));
}

fn open(dir: &Path, sync: SyncMode) -> io::Result<(Log, Vec<Record>)> {
    let settings =
        Settings { sync, segment_bytes: SEGMENT_BYTES, ..Settings::new(Owner::new(1, 1)) };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir));
    Log::open(disk, "log", settings, Driver::Thread).map_err(io::Error::other)
}

fn found(dir: &Path, mode: SyncMode) -> Result<Kept, String> {
    let (log, records) = open(dir, mode).map_err(|error| format!("start refused: {error}"))?;
    let wrong = (0..).zip(&records).find(|(number, record)| {
        let mut body = Vec::new();
        put(&mut body, *number);
        record.body != body
    });
    // Its threads hold the file system until they have ended.
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let closed = runtime.map_err(|error| error.to_string())?.block_on(log.close());
    closed.map_err(|error| format!("it does not close: {error}"))?;
    if let Some((number, _)) = wrong {
        return Err(format!("record {number} has other bytes"));
    }
    let file = std::fs::read_to_string(dir.join("file")).unwrap_or_default();
    let file = match file.as_str() {
        "" => 0,
        text => text.parse().map_err(|_| format!("the file holds {text:?}"))?,
    };
    Ok(Kept { records: records.len() as u64, file })
}

/// A file system in a file; unmounted and removed with the value.
struct Mounted {
    image: PathBuf,
    dir: PathBuf,
}

impl Mounted {
    fn make(scratch: &Path, name: &str) -> io::Result<Self> {
        let (image, dir) = (scratch.join(format!("{name}.img")), scratch.join(name));
        std::fs::create_dir_all(&dir)?;
        std::fs::File::create(&image)?.set_len(IMAGE_BYTES)?;
        let made = Self { image, dir };
        call(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&made.image))?;
        made.mount()?;
        Ok(made)
    }

    fn mount(&self) -> io::Result<()> {
        call(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.dir))
    }

    fn cut(&self) -> io::Result<()> {
        call(Command::new("python3").args(["-c", CUT]).arg(&self.dir))
    }

    /// Mounts what the cut left and looks at it.
    fn again<T>(&self, look: impl FnOnce(&Path) -> T) -> io::Result<T> {
        call(Command::new("umount").arg(&self.dir))?;
        self.mount()?;
        Ok(look(&self.dir))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(call(Command::new("umount").arg(&self.dir)));
        drop(std::fs::remove_file(&self.image));
        drop(std::fs::remove_dir(&self.dir));
    }
}

fn call(command: &mut Command) -> io::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |why: String| io::Error::other(format!("{program}: {why}"));
    let done = command.stdin(Stdio::null()).output().map_err(|error| failed(error.to_string()))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(failed(String::from_utf8_lossy(&done.stderr).trim().to_owned())),
    }
}
