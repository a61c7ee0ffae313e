//! Nodes killed with SIGKILL while they write: a follower, the leader, all three at once. Whatever was
//! acknowledged before, during or after is there on every node, once, as it was answered.
//!
//! Each request has a key of its own and is repeated under that key until somebody answers, as the
//! command line does; the log keeps what a key did, so each acknowledgement can be looked up.

use crate::Arguments;
use crate::judge;
use crate::verdict::Verdicts;
use crate::world::{LEVEL_WITHIN, Trouble, Wish, World, now, until_after};
use crate::writes::{Pace, all_there, write};
use cryptorun_core::time::Millis;
use cryptorun_lab::demo::layout::REGIONS;
use cryptorun_lab::protocol::KillSignal;
use cryptorun_platform::random::{OsRandom, Random};
use std::cell::Cell;

/// Writing goes on so long after the kill, unless the keys are used up.
const WRITE_AFTER: Millis = Millis::secs(4);

/// Who is killed.
#[derive(Clone, Copy, Debug)]
enum Victims {
    Follower,
    Leader,
    All,
}

pub async fn run(arguments: &Arguments, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    let rounds = if arguments.quick { 2 } else { 6 };
    for victims in [Victims::Follower, Victims::Leader, Victims::All] {
        let name = format!("killed-nodes {victims:?}").to_lowercase();
        if !arguments.wants(&name) {
            continue;
        }
        verdicts.case(name.clone());
        let world = World::up(arguments, &name, &Wish::default()).await?;
        for round in 1..=rounds {
            let done = one(&world, victims, round, verdicts).await;
            if verdicts.result("the round comes to its end", done).is_none() {
                break;
            }
        }
        let end = judge::the_end(&world, verdicts).await;
        verdicts.result("the end", end);
        world.down(verdicts).await;
    }
    Ok(())
}

async fn one(
    world: &World,
    victims: Victims,
    round: usize,
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    let before = world.before().await?;
    let leader = before.status.at.leader.as_ref().map(ToString::to_string).unwrap_or_default();
    let killed: Vec<&str> = match victims {
        Victims::Follower => REGIONS.iter().copied().filter(|r| *r != leader).take(1).collect(),
        Victims::Leader => vec![leader.as_str()],
        Victims::All => REGIONS.to_vec(),
    };
    let over = Cell::new(false);
    let name = format!("r{round}");
    let clients = write(world.ana(), &name, Pace::Flood, &over);
    let kill = async {
        // Anywhere in the stream of writes, so in the middle of some of them.
        until_after(before.at, Millis(500 + OsRandom.below(1500))).await;
        for region in &killed {
            world.lab.supervisor.kill(&format!("node-{region}"), KillSignal::Kill, false)?;
        }
        let at = now();
        until_after(at, WRITE_AFTER).await;
        over.set(true);
        Ok::<_, Trouble>(at)
    };
    let (told, killed_at) = tokio::join!(clients, kill);
    let (told, killed_at) = (told?, killed_at?);
    let level = world.level_again(&before, LEVEL_WITHIN).await?;
    verdicts.note(format!(
        "round {round}: killed {}, {} writes acknowledged, {} of them asked again, level {} after the kill",
        killed.join(", "),
        told.len(),
        told.values().filter(|told| told.repeated).count(),
        Millis(level.0.saturating_sub(u64::try_from((killed_at - before.at).as_millis()).unwrap_or(0))),
    ));
    all_there(world, &told, verdicts).await
}
