//! What the machine gives: its load, its disk, and how much of it a process took.

use cryptorun_platform::clock::{Clock, SystemClock};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

/// `USER_HZ`, which Linux fixes at 100 for every architecture it tells user space about.
const TICK_US: u64 = 10_000;

/// Load average of the last minute.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

/// Processors this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// CPU time the processes took since they started, in microseconds.
pub fn cpu_us(pids: &[i32]) -> u64 {
    pids.iter().filter_map(|pid| cpu_of(*pid)).sum()
}

fn cpu_of(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold spaces; user and system time are the 12th and 13th after it.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) * TICK_US)
}

/// Median of one small write and its sync in `folder`: what no commit can be faster than.
pub fn sync_cost(folder: &Path) -> std::io::Result<Duration> {
    const TIMES: usize = 200;
    const BLOCK: [u8; 4096] = [7; 4096];
    let path = folder.join("sync-cost");
    let mut file = File::create(&path)?;
    file.write_all(&vec![0; BLOCK.len() * TIMES])?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let mut took = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let begun = SystemClock.boot();
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        took.push(SystemClock.boot() - begun);
    }
    std::fs::remove_file(&path)?;
    took.sort_unstable();
    Ok(took[TIMES / 2])
}
