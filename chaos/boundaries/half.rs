//! Nothing is left half: what a scope and its sinks may look like once a promotion is over.

use crate::cluster::{Cluster, region, warm};
use crate::network::WORKER;
use crate::world::World;
use cryptorun_core::machine::Machine;
use cryptorun_core::promotion::{Kind, Outcome, State};
use cryptorun_core::region::RegionName;
use cryptorun_core::scope::{Phase, Role, Scope};
use cryptorun_core::token::Token;
use std::time::Duration;

/// Workers have heard of the last grant so long after the nodes agree.
const HEARD_MAX: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The scope in the log: held under the newest token, or vacant since whoever may hold it is away.
pub(super) fn standing(machine: &Machine) -> Result<(), String> {
    let Some(scope) = machine.scopes().get(&warm()) else { return Err("no scope".to_owned()) };
    if let Some(reservation) = &scope.reservation {
        return Err(format!("{} is still reserved: {reservation:?}", reservation.token));
    }
    if let Some(id) = scope.moving {
        return Err(format!("{id} still moves it"));
    }
    let running = machine.promotions().values().find(|p| p.is_open() && p.agreed.is_some());
    if let Some(promotion) = running {
        return Err(format!("{} still runs", promotion.id));
    }
    lost_nothing(machine)?;
    match (&scope.phase, machine.live_lease(&warm())) {
        (Phase::Active, Some(lease)) if lease.token == scope.highest => is_granted(scope),
        (Phase::Vacant, None) if machine.sink_of(&scope.assigned, &warm()).is_none() => {
            why_vacant(machine)
        }
        (phase, lease) => Err(format!("it is {phase} with {lease:?}, highest {}", scope.highest)),
    }
}

/// A switchover that is done goes on where the old holder stopped, to the record.
fn lost_nothing(machine: &Machine) -> Result<(), String> {
    let mut done = machine.promotions().values().filter(|promotion| {
        promotion.kind == Kind::Switchover && promotion.state == State::Ended(Outcome::Done)
    });
    match done.find(|promotion| promotion.start != promotion.barrier) {
        Some(p) => Err(format!("{} stopped at {:?}, goes on at {:?}", p.id, p.barrier, p.start)),
        None => Ok(()),
    }
}

/// Whoever holds it does so by the last reign, where it is assigned.
fn is_granted(scope: &Scope) -> Result<(), String> {
    let reign = scope.reign().filter(|reign| reign.token == scope.highest);
    match reign {
        Some(reign) if reign.region == scope.assigned => Ok(()),
        other => Err(format!("held under {} by {other:?}", scope.highest)),
    }
}

/// The audit says why nobody holds it: the last that it says of a lease is that one ended, or that
/// the promotion which was to bring the next was rolled back.
fn why_vacant(machine: &Machine) -> Result<(), String> {
    let name = warm().to_string();
    let about = machine.audit().values().rev();
    let last = about
        .filter(|entry| entry.is_about(&name))
        .find(|entry| matches!(entry.action.as_str(), "vacant" | "grant"));
    match last {
        Some(entry) if entry.action == "vacant" && !entry.detail.is_empty() => Ok(()),
        other => Err(format!("it is vacant and the audit's last word is {other:?}")),
    }
}

/// At rest: one worker writes under the granted token, the others follow it, and no sink knows of a
/// token above it or is closed for one.
pub(super) async fn check_sinks(world: &World, cluster: &Cluster) {
    let mut found = Ok(());
    let mut waited = Duration::ZERO;
    while waited < HEARD_MAX {
        found = sinks(world, cluster);
        if found.is_ok() {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
    }
    if let Err(why) = found {
        world.violation(format!("nothing_half: {why}"));
    }
}

fn sinks(world: &World, cluster: &Cluster) -> Result<(), String> {
    let leader = cluster.leader().ok_or("nobody leads")?;
    let (assigned, token) = leader.node.with_machine(|machine| {
        standing(machine)?;
        let scope = machine.scopes().get(&warm()).ok_or("no scope")?;
        Ok::<(RegionName, Token), String>((scope.assigned.clone(), scope.highest))
    })?;
    for worker in world.state().workers.values() {
        let (view, status) = (worker.sink.view(), worker.status.borrow().clone());
        let own = assigned.as_str() == region(worker.end - WORKER);
        let end = worker.end;
        if view.highest != token || view.sealed.is_some() {
            let (highest, sealed) = (view.highest, view.sealed);
            return Err(format!("{end}'s sink is at {highest}, {sealed:?}; {token} is granted"));
        }
        let wanted = if own { Role::Primary } else { Role::Replica };
        if status.role != wanted || status.barrier.is_some() {
            return Err(format!("{end} should be {wanted} and is {status:?}"));
        }
        if own != worker.standing.holds(&warm()).is_some() {
            return Err(format!(
                "{end} holds {:?}",
                worker.standing.holds(&warm()).map(|l| l.token)
            ));
        }
    }
    Ok(())
}
