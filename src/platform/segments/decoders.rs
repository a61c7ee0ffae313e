//! Recovery for whoever feeds it arbitrary bytes. See [`crate::decoders`].

use std::path::Path;
use std::sync::Arc;

use super::format::{BEGIN, Begin, END, FORMAT, HEADER, Header, MARK, file_name, push_record};
use super::recover::recover;
use super::{OpenError, Owner, Record, Settings};
use crate::disk::{BLOCK, Disk, Open, SimDisk};

const OWNER: Owner = Owner([7; 16]);

/// A whole segment file.
pub fn segment(bytes: &[u8]) {
    open(bytes);
}

/// As [`segment`], with a true header, and with true checksums around what stands where records do.
pub fn segment_batches(bytes: &[u8]) {
    open(&with_checksums(bytes));
}

fn open(file: &[u8]) {
    let disk = SimDisk::new();
    let made = disk.create_dir_all(Path::new("log")).and_then(|()| {
        let path = Path::new("log").join(file_name(0));
        disk.open(&path, Open::Create)?.write_at(file, 0)
    });
    assert!(made.is_ok(), "a simulated disk fails nothing by itself");
    if let Ok(first) = records(&disk) {
        // What recovery mended it hands out again.
        assert_eq!(records(&disk).ok(), Some(first));
    }
}

fn records(disk: &SimDisk) -> Result<Vec<Record>, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut records = Vec::new();
    let settings = Settings::new(OWNER);
    recover(disk, "log".into(), &settings, |record| records.push(record))?;
    Ok(records)
}

/// Reads bytes as orders: begin a batch, end one, put a record, leave a hole.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let size = (bytes.len() as u64 * 4 + 256).next_multiple_of(BLOCK);
    let (format, start, segment) = (FORMAT, HEADER as u32, 0);
    let header = Header { format, start, owner: OWNER, segment, size, first_batch: 3 };
    let mut file = header.encode().to_vec();
    let mut rest = bytes;
    while let Some((&[order, a, b], after)) = rest.split_first_chunk() {
        rest = after;
        let at = file.len();
        match order {
            0..64 => {
                let begin = Begin {
                    number: 3 + u64::from(order % 4),
                    bytes: u32::from(a) | u32::from(b & 0x7F) << 8,
                    padded: b & 0x80 != 0,
                };
                push_record(&mut file, BEGIN, 1, &begin.body());
            }
            64..96 => push_record(&mut file, END, 1, &[MARK]),
            96..128 => {
                file.extend(std::iter::repeat_n(a, usize::from(b)));
                continue;
            }
            128.. => {
                let (body, after) = rest.split_at(usize::from(b).min(rest.len()));
                rest = after;
                push_record(&mut file, a, 1, body);
            }
        }
        header.salt().close(&mut file[at..], at as u64);
    }
    file.resize(size as usize, 0);
    file
}
