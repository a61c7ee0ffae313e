//! Keepers that make the classic mistakes are caught, a careful one is not.

use super::part::{Part, Wrong};
use super::{Extent, Report, count_panics, every};
use cryptorun_platform::disk::{Disk as _, Open, SimDisk, replace};
use std::io;
use std::path::Path;

#[derive(Clone, Copy)]
enum Keeper {
    Careful,
    /// Says that it is kept before it is.
    NeverSyncs,
    /// Reads whatever is there.
    TrustsBytes,
    /// Starts only from an intact file.
    Fussy,
    Panics,
}

const FILE: &str = "one/kept";
/// What is kept: a number and its complement.
const NUMBERS: u8 = 4;

impl Keeper {
    fn keep(self, disk: &SimDisk, number: u8) -> io::Result<()> {
        let (path, bytes) = (Path::new(FILE), [number, !number]);
        if !matches!(self, Self::NeverSyncs | Self::TrustsBytes | Self::Fussy) {
            return replace(disk, path, &bytes);
        }
        let mut file = match disk.open(path, Open::Create) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                disk.open(path, Open::Write)?
            }
            other => other?,
        };
        file.write_at(&bytes, 0)?;
        if matches!(self, Self::NeverSyncs) {
            return Ok(());
        }
        file.sync_data()?;
        disk.sync_dir(Path::new("one"))
    }
}

impl Part for Keeper {
    type Knows = Option<u8>;

    fn name(&self) -> &'static str {
        "one"
    }

    fn tell(&self, disk: &SimDisk) -> Option<u8> {
        disk.create_dir_all(Path::new("one")).ok()?;
        let mut knows = None;
        for number in 1..=NUMBERS {
            if self.keep(disk, number).is_err() {
                break;
            }
            knows = Some(number);
        }
        knows
    }

    fn check(&self, disk: &SimDisk, knows: &Option<u8>) -> Result<(), Wrong> {
        let bytes = disk.read(Path::new(FILE));
        let found = match (self, bytes.as_deref()) {
            (_, Err(_)) => None,
            (Self::TrustsBytes, Ok(bytes)) => bytes.first().copied(),
            (_, Ok([number, check])) if *check == !number => Some(*number),
            (Self::Panics, _) => panic!("this cannot be"),
            _ => return Err(Wrong::Refused(format!("{FILE} is damaged"))),
        };
        match found >= *knows {
            true => Ok(()),
            false => Err(Wrong::Lost(format!("{found:?} is there, {knows:?} was kept"))),
        }
    }
}

fn report(keeper: Keeper) -> Report {
    count_panics();
    every(&keeper, Extent { jobs: 1, step: 1, every: 1 })
}

#[test]
fn a_careful_keeper_loses_nothing_and_refuses_damage_by_its_name() {
    let report = report(Keeper::Careful);
    assert_eq!((report.wrong, report.shown), (0, vec![]));
    assert!(report.refused > 0);
    assert!(report.points.values().sum::<u64>() > 100);
}

#[test]
fn careless_keepers_are_caught() {
    for (keeper, what) in [
        (Keeper::NeverSyncs, "was kept"),
        (Keeper::TrustsBytes, "was kept"),
        (Keeper::Fussy, "start refused"),
        (Keeper::Panics, "panic"),
    ] {
        let report = report(keeper);
        assert!(report.wrong > 0, "{what} was not seen");
        assert!(report.shown.iter().any(|shown| shown.contains(what)), "{:?}", report.shown);
    }
}
