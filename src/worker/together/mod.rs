//! Three whole workers around one real machine, in memory and on paused time.

mod cluster;
mod world;

use self::world::{EAST, EU, WEST, World};
use cryptorun_core::promotion::Kind;
use cryptorun_core::wire::Fate;
use std::time::Duration;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[tokio::test(start_paused = true)]
async fn a_fresh_cluster_finds_its_writer_and_all_regions_get_level() {
    let world = World::new().await;
    world.until("a primary", |w| w.authority(EAST) == Some(1)).await;
    world.run(secs(10)).await;
    world.until("level", World::is_level).await;
    assert!(world.rows(WEST).await > 0, "candles arrived");
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_switchover_loses_nothing_and_pauses_writes_for_a_moment() {
    let world = World::running().await;
    let promotion = world.promote(Kind::Switchover, WEST, &["ana", "ben"]);
    world.until("west writes", |w| w.authority(WEST) == Some(2)).await;
    world.until("done", |w| w.is_done(promotion)).await;
    world.run(secs(5)).await;
    world.until("level", World::is_level).await;
    assert!(world.forks().is_empty(), "nothing was cut: {:?}", world.forks());
    let pause = world.write_pause(EAST, WEST);
    assert!(pause < Duration::from_millis(100), "writes paused for {pause:?}");
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_lost_region_is_replaced_and_comes_back_with_its_fork_cut() {
    let world = World::running().await;
    world.freeze(EAST, true);
    world.run(secs(61)).await;
    let promotion = world.promote(Kind::Failover, WEST, &["ana", "ben"]);
    world.until("west writes", |w| w.authority(WEST) == Some(2)).await;
    world.until("done", |w| w.is_done(promotion)).await;
    world.freeze(EAST, false);
    world.run(secs(5)).await;
    world.until("level", World::is_level).await;
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_killed_is_granted_again_and_counts_nothing_twice() {
    let mut world = World::running().await;
    for epoch in 2..4 {
        world.kill(EAST).await;
        world.run(secs(1)).await;
        world.start(EAST).await;
        world.until("granted again", |w| w.authority(EAST) == Some(epoch)).await;
        world.run(secs(3)).await;
    }
    world.until("level", World::is_level).await;
    world.check();
    world.check_candles().await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_link_moves_nothing_and_costs_a_detour() {
    let world = World::running().await;
    let before = world.authority(EAST);
    world.cut(EAST, EU, true);
    world.run(secs(20)).await;
    world.until("level", World::is_level).await;
    assert_eq!(world.authority(EAST), before);
    world.cut(EAST, EU, false);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn without_the_cluster_a_primary_stops_at_its_deadline_and_goes_on_after() {
    let world = World::running().await;
    world.isolate(EAST, true);
    world.until("stopped", |w| w.authority(EAST).is_none()).await;
    let end = world.end(EAST);
    world.run(secs(10)).await;
    assert_eq!(world.end(EAST), end, "nothing was written without a lease");
    world.isolate(EAST, false);
    world.until("granted again", |w| w.authority(EAST) == Some(2)).await;
    world.run(secs(3)).await;
    world.until("level", World::is_level).await;
    world.check();
    let visible_after = world.journal(EAST).into_iter().filter(|range| range.fate == Fate::Visible);
    assert_eq!(visible_after.count(), 2, "one range a reign");
}

#[tokio::test(start_paused = true)]
async fn a_planned_stop_gives_the_lease_back_at_once() {
    let mut world = World::running().await;
    let end = world.stop(EAST).await;
    assert!(world.is_vacant(), "released, not run out");
    world.start(EAST).await;
    world.until("granted again", |w| w.authority(EAST).is_some()).await;
    assert!(world.end(EAST).seq > end.seq);
    world.check();
}
