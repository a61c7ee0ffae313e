//! One test for both disks, so that what the simulator proves holds on the real one.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use super::*;

fn keeps_the_contract(disk: &dyn Disk) -> io::Result<()> {
    let (dir, a, b) = (Path::new("x/y"), Path::new("x/y/a"), Path::new("x/y/b"));
    let kind = |r: io::Result<Box<dyn DiskFile>>| r.err().map(|error| error.kind());

    assert_eq!(disk.list(dir).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(kind(disk.open(a, Open::Create)), Some(ErrorKind::NotFound));
    disk.create_dir_all(dir)?;
    disk.create_dir_all(dir)?;
    assert!(disk.list(dir)?.is_empty() && !disk.exists(a)?);
    assert_eq!(kind(disk.open(a, Open::Read)), Some(ErrorKind::NotFound));
    assert_eq!(kind(disk.open(a, Open::Write)), Some(ErrorKind::NotFound));
    assert_eq!(disk.read(a).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.remove(a).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.rename(a, b).unwrap_err().kind(), ErrorKind::NotFound);

    let mut file = disk.open(a, Open::Create)?;
    assert!(file.is_empty()?);
    file.write_at(b"hello", 3)?;
    file.write_at(b"J", 3)?;
    file.sync_data()?;
    assert_eq!(file.len()?, 8);
    assert_eq!(disk.read(a)?, b"\0\0\0Jello");
    assert_eq!(kind(disk.open(a, Open::Create)), Some(ErrorKind::AlreadyExists));
    let mut buf = [9; 4];
    assert_eq!(disk.open(a, Open::Read)?.read_at(&mut buf, 6)?, 2);
    assert_eq!(buf, [b'l', b'o', 9, 9]);
    assert_eq!(disk.open(a, Open::Read)?.read_at(&mut buf, 60)?, 0);
    assert!(disk.open(a, Open::Read)?.write_at(b"no", 0).is_err());
    disk.sync_dir(dir)?;

    replace(disk, b, b"old")?;
    disk.rename(a, b)?;
    assert_eq!(disk.list(dir)?, ["b"]);
    replace(disk, b, b"new")?;
    assert_eq!(disk.read(b)?, b"new");
    assert!(disk.exists(b)? && disk.exists(dir)? && !disk.exists(a)?);

    let lock = disk.lock(Path::new("x/y/LOCK"))?;
    assert_eq!(disk.lock(Path::new("x/y/LOCK")).err().unwrap().kind(), ErrorKind::WouldBlock);
    drop(lock);
    disk.lock(Path::new("x/y/LOCK"))?;

    let mut direct = disk.open(b, Open::Direct)?;
    if direct.mode() == SyncMode::Direct {
        assert!(direct.write_at(b"short", 0).is_err());
        assert!(direct.write_at(&[1; 4096], 512).is_err());
    }
    direct.write_at(&[1; 4096], 4096)?;
    direct.write_at(&[2; 8192], 0)?;
    direct.sync_data()?;
    assert_eq!(disk.read(b)?, [2; 8192]);
    disk.remove(b)?;
    assert!(!disk.exists(b)?);
    Ok(())
}

#[test]
fn the_real_disk_keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    keeps_the_contract(&RealDisk::new(root.path())).unwrap();
}

#[test]
fn the_simulated_disk_keeps_the_contract() {
    keeps_the_contract(&SimDisk::new()).unwrap();
}

fn one_file(disk: &SimDisk) -> Box<dyn DiskFile> {
    disk.create_dir_all(Path::new("d")).unwrap();
    let mut file = disk.open(Path::new("d/f"), Open::Create).unwrap();
    file.write_at(&[1; 1024], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("d")).unwrap();
    file
}

#[test]
fn a_crash_loses_what_was_not_synced_and_cuts_the_old_process_off() {
    let disk = SimDisk::new();
    let mut file = one_file(&disk);
    file.write_at(&[2; 1024], 0).unwrap();
    disk.rename(Path::new("d/f"), Path::new("d/g")).unwrap();
    assert_eq!(disk.pending(), 2);
    disk.crash(Keep::Nothing);
    assert!(file.write_at(&[3], 0).is_err());
    assert!(disk.read(Path::new("d/f")).is_err());
    assert_eq!(disk.restarted().read(Path::new("d/f")).unwrap(), [1; 1024]);
}

#[test]
fn a_crash_tears_the_last_write() {
    let disk = SimDisk::new();
    let mut file = one_file(&disk);
    file.write_at(&[2; 1024], 0).unwrap();
    file.write_at(&[3; 8], 100).unwrap();
    disk.crash(Keep::Torn { bytes: 3 });
    let read = disk.restarted().read(Path::new("d/f")).unwrap();
    assert_eq!(&read[98..106], [2, 2, 3, 3, 3, 2, 2, 2]);
}

#[test]
fn a_crash_may_keep_a_later_sector_and_lose_an_earlier_one() {
    let outcome = |seed| {
        let disk = SimDisk::new();
        one_file(&disk).write_at(&[2; 1024], 0).unwrap();
        disk.crash(Keep::Sectors { seed });
        let read = disk.restarted().read(Path::new("d/f")).unwrap();
        (read[0], read[511], read[512], read[1023])
    };
    let seen: BTreeSet<_> = (0..64).map(outcome).collect();
    assert_eq!(seen, BTreeSet::from([(1, 1, 1, 1), (1, 1, 2, 2), (2, 2, 1, 1), (2, 2, 2, 2)]));
}

#[test]
fn faults_come_when_ordered() {
    let disk = SimDisk::new();
    let mut file = one_file(&disk);
    disk.fail_after(1, Fault::Full);
    file.write_at(&[2], 0).unwrap();
    assert_eq!(file.sync_data().unwrap_err().kind(), ErrorKind::StorageFull);
    disk.fail_after(0, Fault::Broken);
    assert_eq!(file.write_at(&[2], 0).unwrap_err().raw_os_error(), Some(5));
    disk.heal();
    disk.set_capacity(Some(1030));
    file.write_at(&[2; 6], 1024).unwrap();
    assert_eq!(file.write_at(&[2], 1030).unwrap_err().kind(), ErrorKind::StorageFull);
}

#[test]
fn a_failed_sync_forgets_what_it_was_to_write() {
    let disk = SimDisk::new();
    let mut file = one_file(&disk);
    file.write_at(&[2; 1024], 0).unwrap();
    disk.fail_after(0, Fault::BrokenSync);
    assert!(file.sync_data().is_err());
    disk.heal();
    file.write_at(&[3; 512], 512).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.read(Path::new("d/f")).unwrap()[..512], [2; 512]);
    disk.crash(Keep::Everything);
    let read = disk.restarted().read(Path::new("d/f")).unwrap();
    assert_eq!((read[0], read[511], read[512], read[1023]), (1, 1, 3, 3));
}
