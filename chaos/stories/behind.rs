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
use cryptorun_core::promotion::{Kind, Outcome, Promotion, State};
use cryptorun_core::scope::Reign;
use cryptorun_core::token::Token;
use cryptorun_platform::disk::Keep;
use std::time::Duration;

/// A replica lacks what came in so long: a batch every second and a half.
const BEHIND_MS: (u64, u64) = (9000, 15_000);
/// A sync there takes so much longer: a directive is quicker, and meets a record under way.
const SYNC_MS: (u64, u64) = (100, 400);
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
}

pub(super) async fn tell(run: &mut Run<'_>) {
    let world = run.world;
    let kind = *world.pick(&[Kind::Switchover, Kind::Failover]);
    let to = *world.pick(&others(run.holder));
    // A switchover's target has the barrier, whatever it takes: there the third region is late.
    let third = others(run.holder).into_iter().find(|place| *place != to).unwrap_or(to);
    let late = if kind == Kind::Switchover { third } else { *world.pick(&[to, third]) };
    world.event(format_args!("{kind} to {to}, {late} falls behind"));
    let cast = Cast { kind, to, late, third };
    world.state().network.cut_both(&[WORKER + late], &others(late).map(|n| WORKER + n), WHY);
    tokio::time::sleep(world.span_ms(BEHIND_MS.0, BEHIND_MS.1)).await;
    if kind == Kind::Failover {
        run.cluster.crash_worker(run.holder, Keep::Everything);
    }
    let Some(own) = agreed(run, &cast).await else { return };
    sealed(run, &cast, &own).await;
    world.state().network.mend(WHY);
    let ended = run.until("it ended", ENDS_WITHIN, |machine| {
        machine.promotions().get(&own.id).is_some_and(|p| !p.is_open())
    });
    if ended.await {
        let end = run.promotions().into_iter().find(|p| p.id == own.id).map(|p| p.state);
        if end != Some(State::Ended(Outcome::Done)) {
            run.broken(format_args!("{} ended as {end:?}", own.id));
        }
    }
}

/// Ana asks until it is taken, and both agree.
async fn agreed(run: &mut Run<'_>, cast: &Cast) -> Option<Promotion> {
    let (world, end) = (run.world, run.world.now() + ENDS_WITHIN);
    while world.now() < end && !world.is_bad() {
        tokio::time::sleep(world.span_ms(100, 300)).await;
        let promotions = run.promotions();
        let is_own = |p: &&Promotion| p.kind == cast.kind && p.to.as_str() == region(cast.to);
        match promotions.iter().filter(is_own).rev().find(|p| p.is_open()) {
            Some(own) if own.state == State::Running => return Some(own.clone()),
            Some(own) => run.both_agree(cast.to, own).await,
            None => run.asks(cast.to, "ana", cast.kind, cast.to).await,
        }
    }
    run.broken("nobody could agree");
    None
}

/// Late answers come to the late sink, one after the other and each with a sync that takes its time, from
/// the moment that a token is reserved until the sink is sealed for it, and once after.
async fn sealed(run: &mut Run<'_>, cast: &Cast, own: &Promotion) {
    let (world, end) = (run.world, run.world.now() + ENDS_WITHIN);
    let slow = (world.span_ms(SYNC_MS.0, SYNC_MS.1), end);
    world.state().slow_disks.insert(WORKER + cast.late, slow);
    let mut came_in = 0;
    while world.now() < end && !world.is_bad() {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = run.ask(|machine| machine.promotions().get(&own.id).cloned()).flatten();
        let Some((late, now)) = run.worker(cast.late).zip(now) else { break };
        if !now.is_open() || now.is_past_grant() {
            break;
        }
        let Some(token) = now.token else { continue };
        let was = is_sealed(&late, token);
        let Some((record, reigns)) = lacking(run, cast, &late).await else {
            if was { break } else { continue }
        };
        let taken = late.sink.follow(vec![record], reigns).await;
        if was {
            run.count("late answers refused after the seal", u64::from(taken.is_err()));
            if let Ok(taken @ 1..) = taken {
                run.broken(format_args!("{taken} records taken after the seal under {token}"));
            }
            break;
        }
        came_in += taken.unwrap_or(0) as u64;
    }
    world.state().slow_disks.remove(&(WORKER + cast.late));
    run.told.came_about = came_in > 0;
    run.count("records that came in on the way to the seal", came_in);
    run.count(cast.kind.as_str(), 1);
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
