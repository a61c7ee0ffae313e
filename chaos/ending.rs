//! What can only be judged at the end: one chain in all regions, every visible write on it or in a
//! fork, no trade counted twice.

use crate::cluster::warm;
use crate::node::NodeHandle;
use crate::worker::WorkerHandle;
use crate::world::World;
use cryptorun_core::position::Position;
use cryptorun_core::scope::Reign;
use cryptorun_core::token::Token;
use cryptorun_core::wire::Fate;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) async fn check(world: &Arc<World>, node: &NodeHandle) {
    let workers: Vec<WorkerHandle> = world.state().workers.values().cloned().collect();
    let reigns: Vec<Reign> = node.node.with_machine(|machine| {
        machine.scopes().get(&warm()).map(|scope| scope.history.clone()).unwrap_or_default()
    });
    one_chain(world, &workers).await;
    forks_kept(world, &workers, &reigns);
    for worker in &workers {
        counted_once(world, worker).await;
    }
}

/// Each sink's end, or what of it the others have, lies on the others' chains.
async fn one_chain(world: &World, workers: &[WorkerHandle]) {
    for (a, b) in workers.iter().flat_map(|a| workers.iter().map(move |b| (a, b))) {
        let end = b.sink.view().end;
        if a.end != b.end
            && end.seq <= a.sink.view().end.seq
            && let Err(error) = a.sink.read(end, 1).await
        {
            world.violation(format!("one_chain: {} and {} differ: {error}", a.end, b.end));
        }
    }
}

/// Where a token's committed range ends: where the next reign starts.
fn committed_end(reigns: &[Reign], token: Token) -> Option<Position> {
    let at = reigns.iter().position(|reign| reign.token == token)?;
    reigns.get(at + 1).map(|next| next.start)
}

/// What was visible beyond the start of the next reign is kept as a fork, record by record.
fn forks_kept(world: &World, workers: &[WorkerHandle], reigns: &[Reign]) {
    for worker in workers {
        let view = worker.sink.view();
        let mut beyond: BTreeMap<(Token, u64), u64> = BTreeMap::new();
        for range in worker.sink.journal().iter().filter(|range| range.fate == Fate::Visible) {
            let Some(end) = committed_end(reigns, range.token) else { continue };
            if range.to_seq > end.seq {
                beyond.insert((range.token, range.from_seq.max(end.seq + 1)), range.to_seq);
            }
        }
        for ((token, from), to) in beyond {
            let kept = |seq: u64| {
                view.forks
                    .iter()
                    .any(|fork| fork.token == token && (fork.from_seq..=fork.to_seq).contains(&seq))
            };
            if let Some(lost) = (from..=to).find(|seq| !kept(*seq)) {
                world.violation(format!(
                    "forks_kept: {} showed record {lost} under {token}; it is beyond the next \
                     reign's start and in no fork of {:?}",
                    worker.end, view.forks
                ));
            }
        }
    }
}

/// No minute counts more trades than there were.
async fn counted_once(world: &World, worker: &WorkerHandle) {
    let mut wanted: BTreeMap<u64, u64> = BTreeMap::new();
    for at in &world.state().trades {
        *wanted.entry(at - at % 60_000_000).or_default() += 1;
    }
    let Ok(stored) = worker.sink.with_store(|store| store.newest(1000)).await else {
        world.violation(format!("counted_once: {} has no store", worker.end));
        return;
    };
    for candle in stored.iter().filter(|candle| candle.interval_us == 60_000_000) {
        let there_were = wanted.get(&candle.open_us).copied().unwrap_or(0);
        if candle.trades > there_were {
            world.violation(format!(
                "counted_once: {} counts {} trades in a minute that had {there_were}",
                worker.end, candle.trades
            ));
        }
    }
}
