//! A day of three regions, recorded second by second, and replayed.

use super::story::{EU, Story, warm};
use super::world::{EAST, WEST, World, person};
use crate::history::{Line, OwnReport, What};
use cryptorun_core::path::Path;
use cryptorun_core::promotion::PromotionId;
use cryptorun_core::report::RegionReport;
use cryptorun_core::time::Millis;
use cryptorun_core::wire::{PromotionStatus, SimulationRequest};
use cryptorun_platform::clock::Clock;
use cryptorun_platform::disk::RealDisk;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const DAY_S: u64 = 24 * 60 * 60;
/// The holder's region dies then, and is found again so much later.
const DIES_AT_S: u64 = 6 * 60 * 60;
const BACK_AFTER_S: u64 = 20 * 60;
/// What an engineer waits for.
const REPLAYED_WITHIN: Duration = Duration::from_secs(10);

/// A node's own report, as large as one is.
fn own_report(story: &Story) -> Line {
    let wall = story.world.clock.wall();
    let ways = || BTreeMap::from([(WEST.into(), Path::up(70_000)), (EU.into(), Path::up(80_000))]);
    let report = RegionReport { wall, control: ways(), data: ways(), ..RegionReport::default() };
    let own = OwnReport { region: EAST.into(), report, committed: Some(1) };
    Line { at: wall, what: What::Report(Box::new(own)) }
}

#[tokio::test(start_paused = true)]
#[ignore = "seconds where optimised, minutes where not (docs/testing.md)"]
async fn a_day_of_history_is_replayed_while_one_waits() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::new(dir.path().to_owned()));
    let mut story = Story::on(World::empty_on(disk)).await;
    let start = story.world.clock.wall();
    for second in 0..DAY_S {
        if second == DIES_AT_S {
            story.silent = Some(EAST);
        }
        if second == DIES_AT_S + BACK_AFTER_S {
            story.starts_again(EAST).await;
        }
        if second == DIES_AT_S + 90 {
            story.two_agree(PromotionId(1)).await;
        }
        if second % 2 == 0 {
            story.world.api.parts().history.append(&own_report(&story)).unwrap();
        }
        story.second().await;
    }
    let end = story.world.clock.wall();
    assert!(end >= start + Millis::secs(DAY_S));

    let bytes: u64 = std::fs::read_dir(dir.path().join("history"))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    let path = "/v1/promotions/P-1";
    let (_, done): (u16, PromotionStatus) = story.world.json(&person("ana"), "GET", path, "").await;
    let request = SimulationRequest {
        tier: warm().tier,
        group: "global".into(),
        from: EAST.into(),
        to: done.promotion.to.to_string(),
        start,
        end,
        policy: None,
    };
    let begun = Instant::now();
    let found = story.world.api.simulate(&person("ana"), &request).await.unwrap();
    let took = begun.elapsed();
    println!(
        "{} MB of 24 h: {} reports, {} moments, replayed in {:.2} s",
        bytes >> 20,
        found.reports,
        found.moments.len(),
        took.as_secs_f64()
    );
    assert!(found.moments.iter().any(|moment| moment.opened == Some(done.promotion.id)));
    assert!(found.reports > 40_000, "{}", found.reports);
    assert!(took < REPLAYED_WITHIN, "{took:?}");
}
