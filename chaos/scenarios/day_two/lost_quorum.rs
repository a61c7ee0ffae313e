//! Two of three nodes gone for good: what the third knows becomes a new cluster.

use super::restore_backup::tokens_are_higher;
use super::{Book, PACE, case};
use crate::Arguments;
use crate::verdict::Verdicts;
use crate::world::{Trouble, now, until_after};
use crate::writes::write;
use cryptorun_core::time::Millis;
use cryptorun_core::wire::{ClusterStatus, Consistency};
use cryptorun_lab::demo::layout::REGIONS;
use std::cell::Cell;

const NAME: &str = "lost-quorum";
const TEXT: &str = include_str!("../../../docs/runbooks/lost-quorum.md");
const LEFT: &str = REGIONS[2];
const WRITE_FOR: Millis = Millis::secs(3);

pub async fn run(arguments: &Arguments, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    case(&format!("day-two {NAME}"), arguments, verdicts, async |world, verdicts| {
        let over = Cell::new(false);
        let stop = async {
            until_after(now(), WRITE_FOR).await;
            over.set(true);
        };
        let (told, ()) = tokio::join!(write(world.ana(), NAME, PACE, &over), stop);
        let told = told?;
        let last = told.values().map(|told| told.index).max().unwrap_or(0);
        let left = world.site(LEFT)?.node_api.to_string();
        world
            .until("the last write on the node that stays", Millis::secs(10), async |world| {
                let seen: ClusterStatus = world.ana().cluster_at(&left, Consistency::Stale).await?;
                Ok((seen.at.index >= last).then_some(()))
            })
            .await?;
        let before = world.before().await?;
        for region in REGIONS.iter().filter(|region| **region != LEFT) {
            let node = world.site(region)?.node_process();
            world.lose_disk(&node).await?;
        }
        let book = Book::new(NAME, TEXT).with_path("BACKUP", &world.lab.folder.join("recovered"));
        book.follow("Do it", world, verdicts).await?;
        book.follow("How to know it worked", world, verdicts).await?;
        tokens_are_higher(world, &before, verdicts).await?;
        // The audit comes along; what a key did is forgotten with the log that it stood in.
        let audit = world.audited(0).await?;
        let there = |key: &str| audit.iter().any(|entry| entry.detail.contains(key));
        let lost: Vec<&str> = told.keys().map(String::as_str).filter(|key| !there(key)).collect();
        let text = match lost.first() {
            None => format!("{} writes in the audit of the new cluster", told.len()),
            Some(first) => format!("{} of {} are not, {first} first", lost.len(), told.len()),
        };
        let none = lost.is_empty() && !told.is_empty();
        verdicts.check("every acknowledged write that the node had is there", none, text);
        Ok(())
    })
    .await
}
