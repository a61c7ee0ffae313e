//! A sink is sealed while records still come in.
//!
//! A worker obeys a seal between two records: before each directive it passes the gate of its sink, so
//! that whatever was on its way is on the chain by then, and nobody else writes there. That is how
//! workers are written today, and not what a seal may rely on. So a replica loses its data path, and as
//! soon as a promotion runs, what it lacks is given to its sink one record after the other, as answers
//! that come late: a seal must wait for the one under way, have it in the end that it tells, and refuse
//! the next.

use super::Run;
use super::tail::Tail;
use crate::cluster::{region, warm};
use crate::directed::others;
use crate::network::WORKER;
use crate::worker::WorkerHandle;
use bytes::Bytes;
use cryptorun_core::machine::Machine;
use cryptorun_core::promotion::{Kind, Outcome, Promotion, PromotionId, State};
use cryptorun_core::scope::Reign;
use cryptorun_core::token::Token;
use cryptorun_platform::disk::Keep;
use std::time::Duration;

/// A replica lacks what came in so long: a batch every second and a half.
const BEHIND_MS: (u64, u64) = (14_000, 20_000);
/// A sync there takes so much longer: people and directives are quicker, and meet a record under way.
const SYNC_MS: (u64, u64) = (600, 1200);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// From the first request to the end.
const ENDS_WITHIN: Duration = Duration::from_secs(120);
const WHY: &str = "story_behind";

/// Which move, and who is behind.
struct Cast {
    kind: Kind,
    to: u64,
    late: u64,
    third: u64,
    /// Records that were on the late sink's chain only after the token was reserved.
    came_in: u64,
}

pub(super) async fn tell(run: &mut Run<'_>) {
    let world = run.world;
    let kind = *world.pick(&[Kind::Switchover, Kind::Failover]);
    let to = *world.pick(&others(run.holder));
    // A switchover's target has the barrier, whatever it takes: there the third region is late.
    let third = others(run.holder).into_iter().find(|place| *place != to).unwrap_or(to);
    let late = if kind == Kind::Switchover { third } else { *world.pick(&[to, third]) };
    world.event(format_args!("{kind} to {to}, {late} falls behind"));
    let mut cast = Cast { kind, to, late, third, came_in: 0 };
    world.state().network.cut_both(&[WORKER + late], &others(late).map(|n| WORKER + n), WHY);
    tokio::time::sleep(world.span_ms(BEHIND_MS.0, BEHIND_MS.1)).await;
    if kind == Kind::Failover {
        run.cluster.crash_worker(run.holder, Keep::Everything);
    }
    let slow = (world.span_ms(SYNC_MS.0, SYNC_MS.1), Duration::MAX);
    world.state().slow_disks.insert(WORKER + late, slow);
    let Some(own) = agreed(run, &mut cast).await else { return };
    sealed(run, &mut cast, own).await;
    world.state().slow_disks.remove(&(WORKER + late));
    world.state().network.mend(WHY);
    run.told.came_about = cast.came_in > 0;
    run.count("records that came in on the way to the seal", cast.came_in);
    run.count(kind.as_str(), 1);
    let ended = run.until("it ended", ENDS_WITHIN, |machine| {
        machine.promotions().get(&own).is_some_and(|p| !p.is_open())
    });
    if ended.await {
        let end = run.promotions().into_iter().find(|p| p.id == own).map(|p| p.state);
        if end != Some(State::Ended(Outcome::Done)) {
            run.broken(format_args!("{own} ended as {end:?}"));
        }
    }
}

/// Ana asks until it is taken, and both agree; meanwhile a late answer comes in.
async fn agreed(run: &mut Run<'_>, cast: &mut Cast) -> Option<PromotionId> {
    let (world, end) = (run.world, run.world.now() + ENDS_WITHIN);
    while world.now() < end && !world.is_bad() {
        let promotions = run.promotions();
        let is_own = |p: &&Promotion| p.kind == cast.kind && p.to.as_str() == region(cast.to);
        let Some(own) = promotions.iter().filter(is_own).rev().find(|p| p.is_open()) else {
            tokio::time::sleep(world.span_ms(100, 300)).await;
            run.asks(cast.to, "ana", cast.kind, cast.to).await;
            continue;
        };
        if own.state == State::Waiting {
            let ((), taken) = tokio::join!(run.both_agree(cast.to, own), late_answer(run, cast));
            cast.came_in += taken.filter(|_| token(run, own.id).is_some()).unwrap_or(0);
        }
        return Some(own.id);
    }
    run.broken("nobody could ask");
    None
}

/// Late answers come to the late sink, one after the other, until it is sealed, and once after.
async fn sealed(run: &mut Run<'_>, cast: &mut Cast, own: PromotionId) {
    let (world, end) = (run.world, run.world.now() + ENDS_WITHIN);
    while world.now() < end && !world.is_bad() {
        tokio::time::sleep(LOOK_EVERY).await;
        let over = |m: &Machine| {
            m.promotions().get(&own).is_none_or(|p| !p.is_open() || p.is_past_grant())
        };
        let Some(late) = run.worker(cast.late).filter(|_| run.ask(over) != Some(true)) else {
            return;
        };
        let was = token(run, own).filter(|token| is_sealed(&late, *token));
        let taken = late_answer(run, cast).await;
        if let Some(why) = beyond_its_seal(&late) {
            return run.broken(why);
        }
        match (was, taken) {
            (None, taken) => {
                cast.came_in += taken.filter(|_| token(run, own).is_some()).unwrap_or(0);
            }
            (Some(token), Some(taken @ 1..)) => {
                return run.broken(format_args!("{taken} taken after the seal under {token}"));
            }
            (Some(_), _) => return run.count("sinks that took nothing after their seal", 1),
        }
    }
}

/// That a sink ends behind what it told when it was sealed.
fn beyond_its_seal(worker: &WorkerHandle) -> Option<String> {
    let view = worker.sink.view();
    let sealed = view.sealed.filter(|sealed| view.end.seq > sealed.end.seq)?;
    Some(format!("{} ends at {} and was sealed at {}", worker.end, view.end, sealed.end))
}

/// What is reserved for it.
fn token(run: &Run<'_>, own: PromotionId) -> Option<Token> {
    run.ask(|machine| machine.promotions().get(&own).and_then(|p| p.token)).flatten()
}

/// Gives the late sink the next record that it lacks; how many it took.
async fn late_answer(run: &Run<'_>, cast: &Cast) -> Option<u64> {
    let late = run.worker(cast.late)?;
    let (record, reigns) = lacking(run, cast, &late).await?;
    late.sink.follow(vec![record], reigns).await.ok().map(|taken| taken as u64)
}

/// The next record that the late sink lacks, by the chain of the sink that has most, and what the cluster
/// granted so far.
async fn lacking(run: &Run<'_>, cast: &Cast, late: &WorkerHandle) -> Option<(Bytes, Vec<Reign>)> {
    let others = [run.holder, cast.to, cast.third].into_iter().filter(|n| *n != cast.late);
    let has_most = others.filter_map(|n| run.worker(n)).max_by_key(|w| w.sink.view().end.seq)?;
    let tail = Tail::of(&has_most, late.sink.view().end).await.ok()?;
    let reigns = run.ask(|machine| machine.scopes().get(&warm()).map(|s| s.history.clone()));
    Some((tail.records.into_iter().next()?, reigns.flatten()?))
}

fn is_sealed(worker: &WorkerHandle, token: Token) -> bool {
    worker.sink.view().sealed.is_some_and(|sealed| sealed.token == token)
}
