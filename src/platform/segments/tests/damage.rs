//! Damage: found, named and refused, never handed out and never taken for a torn tail.

use super::*;
use crate::disk::{Fault, Keep};
use format::{FORMAT, Header, file_name};

/// A log of some segments that died without a farewell, and where its last batch begins.
fn log_of(settings: &Settings, sealed: bool) -> (SimDisk, Vec<Record>, Position) {
    let disk = SimDisk::new();
    let last = block(async {
        let (log, _) = open(&disk, settings).unwrap();
        let mut before_last = Position::default();
        for (id, len) in
            [40, 700, 1100, 90, 1600, 1900, 30, 800, 1200, 20, 900, 700].into_iter().enumerate()
        {
            before_last = log.end();
            log.append_durable(1, &vec![id as u8 + 1; len]).await.unwrap();
        }
        assert!(log.current_segment() >= 2 && log.end().segment == before_last.segment);
        if sealed {
            log.close().await.unwrap();
        }
        before_last
    });
    disk.crash(Keep::Nothing);
    let disk = disk.restarted();
    let records = block(async { open(&disk.copy().restarted(), settings).unwrap().1 });
    (disk, records, last)
}

/// Changes each byte in turn and says what opening makes of it.
fn each_byte(
    settings: &Settings,
    sealed: bool,
    change: fn(&mut u8, usize),
    mut verdict: impl FnMut(Position, Position, &[Record], Result<Vec<Record>, OpenError>),
) {
    let (disk, records, last) = log_of(settings, sealed);
    for segment in 0..=last.segment {
        let path = Path::new(DIR).join(file_name(segment));
        let bytes = disk.read(&path).unwrap();
        for at in 0..bytes.len() {
            // Long stretches of zeros are all alike: here and there will do.
            let around = &bytes[at.saturating_sub(40)..bytes.len().min(at + 40)];
            if format::all_zero(around) && !at.is_multiple_of(61) {
                continue;
            }
            let disk = disk.copy();
            let mut changed = false;
            let alter = |bytes: &mut Vec<u8>| {
                let old = bytes[at];
                change(&mut bytes[at], at);
                changed = old != bytes[at];
            };
            disk.corrupt(&path, alter).unwrap();
            if changed {
                let opened = block(async { open(&disk, settings).map(|(_, records)| records) });
                let here = Position { segment, offset: at as u64 };
                verdict(here, last, &records, opened);
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_named_and_refused_wherever_a_record_is() {
    for (sync, segment) in [(SyncMode::FdataSync, 4096), (SyncMode::Direct, 16 << 10)] {
        let settings = settings(sync, segment);
        each_byte(
            &settings,
            false,
            |byte, at| *byte ^= 1 << (at % 8),
            |here, _, records, opened| {
                let used = records.last().map(|last| last.next.offset + 11);
                let tail = here.segment == records.last().unwrap().at.segment
                    && here.offset >= used.unwrap();
                match opened {
                    Err(OpenError::Corrupt { segment, offset, .. }) => {
                        assert!(!tail, "{here:?}");
                        assert_eq!(segment, here.segment, "{here:?}");
                        assert!(offset <= here.offset, "{here:?} named as {offset}");
                        // Nothing is longer than a record of 1900 bytes, except a header.
                        assert!(offset + 2000 > here.offset || offset == 0, "{here:?} as {offset}");
                    }
                    Ok(found) => assert!(
                        tail && found == records,
                        "{here:?} was not noticed: {} of {} records",
                        found.len(),
                        records.len()
                    ),
                    Err(other) => panic!("{here:?}: {other}"),
                }
            },
        );
    }
}

#[test]
fn a_byte_that_became_zero_is_damage_before_the_last_batch() {
    let settings = settings(SyncMode::FdataSync, 4096);
    let mut cut = 0;
    each_byte(
        &settings,
        false,
        |byte, _| *byte = 0,
        |here, last, records, opened| match opened {
            Err(OpenError::Corrupt { segment, .. }) => assert_eq!(segment, here.segment),
            Ok(found) => {
                // The three bytes of the last batch that say how far its write got.
                assert!(here >= last, "{here:?}");
                assert_eq!(found, records[..records.len() - 1]);
                cut += 1;
            }
            Err(other) => panic!("{here:?}: {other}"),
        },
    );
    assert_eq!(cut, 3);
}

#[test]
fn a_lost_sector_is_damage_in_a_log_that_was_closed() {
    let settings = settings(SyncMode::FdataSync, 4096);
    let (disk, records, _) = log_of(&settings, true);
    let last = records.last().unwrap().at;
    let path = Path::new(DIR).join(file_name(last.segment));
    let sector = (last.offset as usize).next_multiple_of(512);
    disk.corrupt(&path, |bytes| bytes[sector..sector + 512].fill(0)).unwrap();
    let error = block(async { open(&disk, &settings).err().unwrap() });
    let OpenError::Corrupt { segment, offset, .. } = error else { panic!("{error}") };
    assert_eq!(Position { segment, offset }, last);
}

#[test]
fn bytes_of_a_torn_batch_never_count_later() {
    // Two batches with the same number and place: the first torn, the second shorter.
    let settings = settings(SyncMode::FdataSync, 16 << 10);
    let disk = SimDisk::new();
    block(async {
        let (log, _) = open(&disk, &settings).unwrap();
        for id in 0..6 {
            log.append(1, |buf| buf.extend(body(id, 500)), None);
        }
        log.append(1, |_| (), Some(Box::new(drop)));
        while disk.pending() == 0 {
            tokio::task::yield_now().await;
        }
    });
    // All but its first sectors.
    let path = Path::new(DIR).join(file_name(0));
    disk.crash(Keep::Everything);
    disk.corrupt(&path, |bytes| bytes[64..600].fill(0)).unwrap();
    let disk = disk.restarted();
    block(async {
        let (log, records) = open(&disk, &settings).unwrap();
        assert_eq!(records, []);
        log.append_durable(1, &body(100, 5)).await.unwrap();
    });
    disk.crash(Keep::Nothing);
    let disk = disk.restarted();
    let records = block(async { open(&disk, &settings).unwrap().1 });
    assert_eq!(ids(&records), [100]);
}

#[test]
fn each_thing_that_is_wrong_has_its_name() {
    let mine = settings(SyncMode::FdataSync, 4096);
    let (good, _, last) = log_of(&mine, false);
    let open_as = |disk: &SimDisk, settings: &Settings| {
        block(async { open(disk, settings).err().expect("it opened") })
    };
    let path = |segment| Path::new(DIR).join(file_name(segment));

    let other = Settings { owner: Owner::new(7, 2), ..mine.clone() };
    let error = open_as(&good.copy(), &other);
    assert!(matches!(&error, OpenError::Foreign { path: p, .. } if *p == path(0)), "{error}");

    let disk = good.copy();
    let newer = |bytes: &mut Vec<u8>| {
        let header = Header { format: FORMAT + 1, ..Header::decode(bytes).unwrap() };
        bytes[..format::HEADER].copy_from_slice(&header.encode());
    };
    disk.corrupt(&path(last.segment), newer).unwrap();
    let error = open_as(&disk, &mine);
    assert!(
        matches!(&error, OpenError::Newer { path: p, found: 2, .. } if *p == path(last.segment))
    );

    let disk = good.copy();
    disk.remove(&path(1)).unwrap();
    let error = open_as(&disk, &mine);
    assert!(matches!(error, OpenError::Missing { segment: 1, .. }));

    let disk = good.copy();
    disk.rename(&path(0), &path(1)).unwrap();
    let error = open_as(&disk, &mine);
    assert!(matches!(error, OpenError::Corrupt { segment: 1, offset: 0, .. }));

    let disk = good.copy();
    disk.corrupt(&path(last.segment), |bytes| bytes.truncate(4000)).unwrap();
    let error = open_as(&disk, &mine);
    assert!(
        matches!(error, OpenError::Corrupt { segment, offset: 4000, .. } if segment == last.segment)
    );

    let disk = good.copy();
    disk.fail_after(1, Fault::Denied);
    let error = open_as(&disk, &mine);
    assert!(
        matches!(&error, OpenError::Denied { path: p, .. } if *p == path(last.segment)),
        "{error}"
    );
}

#[tokio::test]
async fn damage_under_a_running_log_is_not_handed_out() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, &settings(SyncMode::FdataSync, 16 << 10)).unwrap();
    let mut places = Vec::new();
    for id in 0..5 {
        places.push(log.append_durable(1, &body(id, 1000)).await.unwrap());
    }
    let hole = places[2].offset as usize;
    let path = Path::new(DIR).join(file_name(0));
    for change in [hole..hole + 1, hole + 500..hole + 501, hole - 25..hole + 1021] {
        let copy = disk.read(&path).unwrap();
        disk.corrupt(&path, |bytes| bytes[change].fill(0)).unwrap();
        let error = log.read(Position::default(), usize::MAX).unwrap_err();
        assert!(matches!(error, ReadError::Corrupt { segment: 0, .. }), "{error}");
        disk.corrupt(&path, |bytes| *bytes = copy).unwrap();
    }
    let error = log.read(Position { segment: 0, offset: places[1].offset + 1 }, 1).unwrap_err();
    assert!(matches!(error, ReadError::Corrupt { .. }), "{error}");
    assert_eq!(ids(&log.read(places[3], usize::MAX).unwrap()), [3, 4]);
}

/// What cannot be a log is refused by what is wrong with it, whatever its checksums say.
#[test]
fn what_cannot_be_a_log_is_refused_with_its_reason() {
    let settings = settings(SyncMode::FdataSync, 4096);
    let whole = SimDisk::new();
    block(async {
        let (log, _) = open(&whole, &settings).unwrap();
        log.append_durable(1, &body(0, 100)).await.unwrap();
        log.append_durable(1, &body(1, 100)).await.unwrap();
        log.close().await.unwrap();
    });
    whole.crash(Keep::Nothing);
    let header = |change: fn(&mut format::Header)| {
        move |bytes: &mut Vec<u8>| {
            let mut header = format::Header::decode(bytes).unwrap();
            change(&mut header);
            bytes[..format::HEADER].copy_from_slice(&header.encode());
        }
    };
    let begin = |bytes: u32| {
        move |file: &mut Vec<u8>| {
            let header = format::Header::decode(file).unwrap();
            let mut record = Vec::new();
            let begin = format::Begin { number: 0, bytes, padded: false };
            format::push_record(&mut record, format::BEGIN, 1, &begin.body());
            header.salt().close(&mut record, 64);
            file[64..64 + record.len()].copy_from_slice(&record);
        }
    };
    type Change = Box<dyn Fn(&mut Vec<u8>)>;
    let wrongs: [(Change, &str); 9] = [
        (Box::new(|bytes| bytes.truncate(0)), "shorter than a segment's header"),
        (Box::new(|bytes| bytes.truncate(63)), "shorter than a segment's header"),
        (Box::new(|bytes| bytes[0] = b'x'), "does not begin like a segment"),
        (Box::new(|bytes| bytes[20] ^= 1), "the header's checksum is wrong"),
        (Box::new(header(|h| h.start = 65)), "batches begin where none can"),
        (Box::new(header(|h| h.start = u32::MAX)), "batches begin where none can"),
        (Box::new(header(|h| h.size = 1 << 40)), "not as long as it was made"),
        (Box::new(begin(u32::MAX)), "does not fit its segment"),
        (Box::new(begin(3)), "does not fit its segment"),
    ];
    for (change, reason) in wrongs {
        let disk = whole.copy();
        let path = Path::new(DIR).join(format::file_name(0));
        disk.corrupt(&path, change).unwrap();
        let refused = block(async { open(&disk.restarted(), &settings).err() });
        let text = refused.map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains(reason), "{reason}: {text:?}");
        assert!(text.contains("log/00000000000000000000.seg"), "{text}");
    }
}
