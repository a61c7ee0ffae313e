//! A node whose disk is gone: it cannot come back as who it was, and another takes its place.

use super::{Book, case, no_lease_moved, nothing_is_lost, under_load};
use crate::Arguments;
use crate::verdict::Verdicts;
use crate::world::{Trouble, World};
use cryptorun_core::time::Millis;
use cryptorun_lab::demo::layout::{CLUSTER, REGIONS, TRUST_DOMAIN};

const NAME: &str = "replace-node";
const TEXT: &str = include_str!("../../../docs/runbooks/replace-node.md");
const LOST: &str = REGIONS[1];
const REFUSED_WITHIN: Millis = Millis::secs(15);

pub async fn run(arguments: &Arguments, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    case(&format!("day-two {NAME}"), arguments, verdicts, async |world, verdicts| {
        let before = world.before().await?;
        let told = under_load(world, NAME, replace(world, verdicts)).await?;
        nothing_is_lost(world, &before, &told, verdicts).await?;
        no_lease_moved(world, &before, verdicts).await
    })
    .await
}

async fn replace(world: &World, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    let site = world.site(LOST)?;
    let node = site.node_process();
    world.lose_disk(&node).await?;
    world.lab.supervisor.start_again(&node)?;
    comes_back_wiped(world, &node, verdicts).await?;

    let book = Book::new(NAME, TEXT)
        .with_path("AUTHORITY", &world.lab.folder.join("pki/authority"))
        .with("OLD", site.node.to_string())
        .with("NEW", "4")
        .with("RAFT", site.node_raft.to_string())
        .with("API", site.node_api.to_string())
        .with("NEW_ID", format!("spiffe://{TRUST_DOMAIN}/cryptorun/{CLUSTER}/node/{LOST}/4"));
    book.follow("Do it", world, verdicts).await?;
    book.follow("How to know it worked", world, verdicts).await
}

/// Its vote is not counted: it could undo what it acknowledged and forgot.
async fn comes_back_wiped(
    world: &World,
    node: &str,
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    let seen = world
        .until("the wiped node's refusal", REFUSED_WITHIN, async |world| {
            let log = world.log_of(node);
            Ok(log.lines().find(|line| line.contains("is gone from here")).map(str::to_owned))
        })
        .await;
    let voters = world
        .until("two voters", REFUSED_WITHIN, async |world| {
            let voters = world.ana().status().await?.at.voters_up;
            (voters == 2).then_some(Some(voters)).ok_or_else(|| format!("{voters} voters up"))
        })
        .await;
    if let (Some(line), Some(voters)) = (
        verdicts.result("a wiped node is turned away", seen),
        verdicts.result("it has no voice", voters),
    ) {
        let text = format!("{voters} of 3 voters up; {}", line.trim());
        verdicts.check("a wiped node is turned away", true, text);
    }
    Ok(())
}
