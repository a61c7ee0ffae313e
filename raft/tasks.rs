//! What a node does by itself: stands for election, says who leads, lets LogTime pass, watches its quorum and its
//! clock's rate, fetches audit bodies it missed.

use crate::codec::rpc;
use crate::leadership::Leadership;
use crate::network::lane;
use crate::node::Inner;
use crate::state_machine::SAVE_EVERY;
use cryptorun_core::audit::{self, AuditEntry};
use cryptorun_core::command::Command;
use cryptorun_core::machine::Machine;
use cryptorun_core::people::Actor;
use cryptorun_core::position::Position;
use cryptorun_platform::clock::RateMeter;
use openraft_rt::{Instant, WatchReceiver};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How often LogTime is moved while something waits for it.
const TICK_EVERY: Duration = Duration::from_secs(1);
/// How often missing audit bodies are asked for again.
const AUDIT_EVERY: Duration = Duration::from_secs(10);
const AUDIT_BATCH: u32 = 1000;
const AUDIT_TTL: Duration = Duration::from_secs(5);

/// Starts them all; they end with the node.
pub(crate) fn start(node: &Arc<Inner>) {
    let spawn = |name, task| node.keep_task(node.platform.spawn.spawn(name, task));
    spawn("raft leadership", Box::pin(follow_leadership(node.clone())));
    spawn("raft members", Box::pin(crate::members::follow_members(node.clone())));
    spawn("raft tick", Box::pin(tick(node.clone())));
    spawn("raft quorum", Box::pin(watch_quorum(node.clone())));
    spawn("raft audit", Box::pin(fetch_audit(node.clone())));
    spawn("raft state", Box::pin(save_state(node.clone())));
    spawn("raft elections", Box::pin(stand_for_election(node.clone())));
}

/// A node that has just started leaves an election that is under way to those who heard the last
/// leader: they keep to it for one longest election timeout and draw their turn within the next. Two
/// who win in one term cost half a second more than one, in which leases run on. It votes meanwhile,
/// and is elected where it is asked to be: when a cluster is founded, or handed over.
async fn stand_for_election(node: Arc<Inner>) {
    tokio::time::sleep(2 * node.timing.election_max.to_duration()).await;
    node.raft.runtime_config().elect(true);
}

/// Joins what openraft says about the leader with whether there is an anchor for it.
async fn follow_leadership(node: Arc<Inner>) {
    let mut metrics = node.raft.server_metrics();
    let mut anchors = node.anchor.clone();
    loop {
        let now = {
            let seen = metrics.borrow_watched();
            let vote = &seen.vote;
            let leading = vote.committed
                && vote.leader_id.node_id == node.id
                && seen.current_leader == Some(node.id);
            let anchor = *anchors.borrow_and_update();
            let anchored = leading && anchor.is_some_and(|anchor| anchor.leader == vote.leader_id);
            Leadership { leader: seen.current_leader, term: vote.leader_id.term, leading, anchored }
        };
        node.machine.inner().set_leading(now.leading);
        let before = *node.leadership.borrow();
        if now.anchored && !(before.anchored && before.term == now.term) {
            // The second entry of a leadership, before anybody else may append: LogTime goes on.
            node.append_tick().await;
        }
        node.leadership.send_if_modified(|known| {
            *known != now && {
                *known = now;
                true
            }
        });
        if before.leader != now.leader || before.term != now.term {
            tracing::info!(leader = now.leader, term = now.term, leading = now.leading, "leader");
        }
        tokio::select! {
            biased;
            changed = metrics.changed() => if changed.is_err() { return },
            changed = anchors.changed() => if changed.is_err() { return },
        }
    }
}

/// Lets LogTime pass while something waits for it, and gives the lead away when this machine's
/// clock cannot be trusted to count it or its disk is full.
async fn tick(node: Arc<Inner>) {
    let mut meter = RateMeter::default();
    // Half of what the protocol tolerates, in parts per million.
    let tolerated = i64::from(node.timing.rate_error_permille) * 1000 / 2;
    loop {
        tokio::time::sleep(TICK_EVERY).await;
        let rate = meter.observe(node.platform.clock.as_ref());
        if !node.leadership.borrow().anchored {
            continue;
        }
        if rate.is_some_and(|rate| rate.abs() > tolerated)
            && let Some(to) = node.best_successor()
        {
            tracing::error!(rate_ppm = rate, "this clock's rate is off; handing leadership over");
            drop(node.raft.trigger().transfer_leader(to).await);
            continue;
        }
        if let Some(short) = node.no_space()
            && let Some(to) = node.best_successor()
        {
            tracing::error!(%short, to, "this node's disk is full; handing leadership over");
            drop(node.raft.trigger().transfer_leader(to).await);
        }
        if node.machine.inner().with_machine(waits_for_time) {
            let actor = Actor::Node(node.id);
            if let Err(error) = node.propose(actor, None, None, Command::Tick).await {
                tracing::debug!(%error, "tick");
            }
        }
    }
}

/// Whether anything ends by LogTime: a lease, an approval, a pause.
fn waits_for_time(machine: &Machine) -> bool {
    !machine.sessions().is_empty()
        || machine.scopes().values().any(|scope| scope.lease.is_some() || scope.pause.is_some())
        || machine.promotions().values().rev().any(|promotion| promotion.is_open())
        || machine.rules().values().rev().any(|rule| rule.is_open())
}

/// Lets the state store follow the machine.
async fn save_state(node: Arc<Inner>) {
    loop {
        tokio::time::sleep(SAVE_EVERY).await;
        node.machine.inner().save_state().await;
    }
}

/// Notes since when there has been no quorum: the leader by acknowledgements, the others by its
/// appends.
async fn watch_quorum(node: Arc<Inner>) {
    let patience = node.timing.election_max.to_duration();
    loop {
        tokio::time::sleep(node.timing.heartbeat.to_duration()).await;
        let now = node.platform.clock.boot();
        let leader = node.leadership.borrow().leader;
        let age = match leader {
            Some(leader) if leader == node.id => node.quorum_age(),
            Some(leader) => node.last_heard(leader).map(|at| now - at),
            None => None,
        };
        let has = age.is_some_and(|age| age < patience * 2);
        let mut lost = node.quorum_lost.lock().unwrap_or_else(PoisonError::into_inner);
        *lost = match (has, *lost) {
            (true, _) => None,
            (false, since) => since.or(Some(now)),
        };
    }
}

impl Inner {
    /// As leader: how long ago a quorum last answered.
    pub fn quorum_age(&self) -> Option<Duration> {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        if now.membership_config.voter_ids().eq([self.id]) {
            return Some(Duration::ZERO);
        }
        now.last_quorum_acked.as_ref().map(|at| at.elapsed())
    }

    fn other_members(&self) -> Vec<u64> {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        now.membership_config.nodes().map(|(id, _)| *id).filter(|id| *id != self.id).collect()
    }
}

/// Asks the peers for audit bodies that came with a snapshot only as a hash.
async fn fetch_audit(node: Arc<Inner>) {
    loop {
        let gap = node.machine.inner().audit_gap.notified();
        drop(tokio::time::timeout(AUDIT_EVERY, gap).await);
        for peer in node.other_members() {
            while let Some(missing) = missing(&node) {
                let before = missing.start;
                if let Err(why) = fetch_from(&node, peer, missing.start, missing.end).await {
                    tracing::debug!(peer, why, "audit bodies not fetched");
                    break;
                }
                if node.machine.inner().audit().last() < before {
                    break;
                }
            }
        }
    }
}

fn missing(node: &Inner) -> Option<std::ops::Range<u64>> {
    let machine = node.machine.inner();
    machine.audit().missing(machine.with_machine(|machine| machine.audit_head().end.seq))
}

async fn fetch_from(node: &Inner, peer: u64, from: u64, to: u64) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let count = u32::try_from(to - from).unwrap_or(u32::MAX).min(AUDIT_BATCH);
    let body = rpc::audit_fetch(from, count).map_err(|error| text(&error))?;
    let answer = node.peers.call(peer, lane::AUDIT, body.into(), AUDIT_TTL).await;
    let bodies = answer.map_err(|error| text(&error))?;
    let mut bodies = rpc::read_audit_bodies(&bodies).map_err(|error| text(&error))?;
    bodies.retain(|entry| entry.seq >= from && entry.seq < to);
    if bodies.is_empty() {
        return Err("it has none".to_owned());
    }
    let start = match from.checked_sub(1) {
        None | Some(0) => Position::START,
        Some(last) => match node.read_audit(last, 1).await.map_err(|error| text(&error))?.pop() {
            Some(AuditEntry { seq, hash, .. }) => Position { seq, hash },
            None => return Err(format!("entry {last} is not here")),
        },
    };
    audit::verify(start, &bodies).map_err(|seq| format!("entry {seq} does not fit the chain"))?;
    node.machine.inner().audit().put(bodies);
    Ok(())
}
