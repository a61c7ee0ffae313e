//! What runs that tell something on purpose begin with: a cluster at rest, a node that leads, and who
//! holds the scope.

use crate::cluster::{Cluster, NODES, region, warm};
use crate::line;
use crate::network::PERSON;
use crate::world::World;
use cryptorun_core::wire::TransferRequest;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Waits for a holder, and for every region to have reported it; false, and a violation, where that does
/// not come about in peace.
pub(crate) async fn rest(world: &World, cluster: &Cluster) -> bool {
    for _ in 0..60 {
        tokio::time::sleep(LOOK_EVERY).await;
        let held = cluster.leader().is_some_and(|leader| {
            leader.node.with_machine(|machine| {
                machine.live_lease(&warm()).is_some()
                    && machine.regions().values().all(|record| record.reported_at.is_some())
            })
        });
        if held {
            tokio::time::sleep(world.span_ms(6000, 10_000)).await;
            return true;
        }
    }
    world.violation("rests: no holder after a minute of peace".to_owned());
    false
}

/// Whoever founds the cluster leads it, in the holder's region: a drawn node does instead.
pub(crate) async fn lead_from_anywhere(world: &World, cluster: &Cluster) {
    let node = 1 + world.below(3);
    let (Some(leader), Some(root)) = (cluster.leader(), line::caller(PERSON + 1, "root")) else {
        return;
    };
    if leader.id != node {
        let to = TransferRequest { to: region(node).to_owned() };
        let asked = leader.api.transfer_leader(&root, to).await;
        world.event(format_args!("{node} is to lead: {:?}", asked.is_ok()));
        tokio::time::sleep(world.span_ms(1000, 3000)).await;
    }
}

/// Who holds the scope.
pub(crate) fn holder(cluster: &Cluster) -> Option<u64> {
    let leader = cluster.leader()?;
    let assigned = leader.node.with_machine(|machine| {
        machine.live_lease(&warm()).and(machine.scopes().get(&warm())).map(|s| s.assigned.clone())
    })?;
    NODES.into_iter().find(|place| assigned.as_str() == region(*place))
}

/// The two other regions.
pub(crate) fn others(place: u64) -> [u64; 2] {
    let mut rest = NODES.into_iter().filter(|n| *n != place);
    [rest.next().unwrap_or(1), rest.next().unwrap_or(1)]
}
