//! No vote answer and no acknowledgement of an append leaves a node before the bytes are on its
//! medium: the plug of a copy of its disk is pulled the moment the answer is sent.

use crate::world::World;
use cryptorun_platform::disk::{Disk, Keep};
use cryptorun_platform::segments::Driver;
use cryptorun_platform::spawn::TokioSpawn;
use cryptorun_raft::probe::{self, Promise};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Looks whether a node started from what is on its medium now would keep this promise.
pub(crate) async fn check(world: &Arc<World>, node: u64, promise: Promise) {
    match kept(world, node, promise).await {
        Some(Ok(true)) => world.tally("promises_checked"),
        Some(Ok(false)) => world.violation(format!(
            "durable_at_send: node {node} promised {promise:?} before its disk had it"
        )),
        Some(Err(error)) => {
            world.violation(format!("durable_at_send: node {node} could not start: {error}"));
        }
        None => {}
    }
}

/// See [`check`]; none where the node has no disk.
pub(crate) async fn kept(
    world: &Arc<World>,
    node: u64,
    promise: Promise,
) -> Option<Result<bool, String>> {
    let image = world.state().nodes.get(&node).map(|node| node.disk.copy())?;
    image.crash(Keep::Nothing);
    let image: Arc<dyn Disk> = Arc::new(image.restarted());
    let driver = Driver::Task {
        spawn: Arc::new(TokioSpawn),
        sync_delay: Arc::new(|| Duration::from_millis(1)),
    };
    let owner = crate::node::settings(node).owner();
    let kept = probe::is_kept(promise, image, Path::new("n"), owner, driver).await;
    Some(kept.map_err(|error| error.to_string()))
}
