//! Five seconds on, five seconds off, for ten minutes: one link, or all links of the holder's region.
//!
//! One link moves nothing and is no reason to ask for anything. A region that comes and goes as a whole
//! loses its lease when a gap takes longer than one lives; it is granted anew within the region, and
//! nobody else gets it.

use super::Run;
use crate::cluster::{NODES, warm};
use crate::directed::others;
use crate::network::ends_of;
use cryptorun_core::machine::Machine;
use std::time::Duration;

const ON: Duration = Duration::from_secs(5);
const OFF: Duration = Duration::from_secs(5);
const TIMES: u64 = 60;
const WHY: &str = "story_flapping";

pub(super) async fn tell(run: &mut Run<'_>) {
    let world = run.world;
    let whole = world.below(2) == 0;
    let a = if whole { run.holder } else { *world.pick(&NODES) };
    let far = if whole { others(a).to_vec() } else { vec![*world.pick(&others(a))] };
    world.event(format_args!("{a} and {far:?} flap"));
    let far: Vec<u64> = far.into_iter().flat_map(ends_of).collect();
    let reigns = |run: &Run<'_>| {
        let scope = |m: &Machine| m.scopes().get(&warm()).map(|s| s.history.len());
        run.ask(scope).flatten().unwrap_or(0) as u64
    };
    let before = reigns(run);
    for _ in 0..TIMES {
        world.state().network.cut_both(&ends_of(a), &far, WHY);
        run.nothing_moves_for(OFF).await;
        world.state().network.mend(WHY);
        run.nothing_moves_for(ON).await;
    }
    if !run.held_again().await {
        return;
    }
    run.nothing_moved();
    let (asked, granted) = (run.promotions().len() as u64, reigns(run).saturating_sub(before));
    run.told.came_about = true;
    if whole {
        run.count("runs with a whole region", 1);
        run.count("asked for, whole region", asked);
        run.count("regrants, whole region", granted);
        return;
    }
    run.count("runs with one link", 1);
    run.count("regrants, one link", granted);
    if asked > 0 {
        run.broken(format_args!("one link flaps, and {:?}", run.promotions()));
    }
}
