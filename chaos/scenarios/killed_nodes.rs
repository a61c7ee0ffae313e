//! Nodes killed with SIGKILL while they write: a follower, the leader, all three at once. Whatever was
//! acknowledged before, during or after is there on every node, once, as it was answered.
//!
//! Each request has a key of its own and is repeated under that key until somebody answers, as the
//! command line does; the log keeps what a key did, so each acknowledgement can be looked up.

use crate::Arguments;
use crate::judge;
use crate::verdict::Verdicts;
use crate::world::{LEVEL_WITHIN, Trouble, Wish, World, now, since, until_after, warm_eu};
use cryptorun_core::record::Request as Remembered;
use cryptorun_core::time::Millis;
use cryptorun_core::wire::{Accepted, PauseRequest};
use cryptorun_lab::demo::layout::REGIONS;
use cryptorun_lab::demo::operator::Operator;
use cryptorun_lab::protocol::KillSignal;
use cryptorun_platform::random::{OsRandom, Random};
use futures_util::future::join_all;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

const CLIENTS: usize = 8;
/// The log remembers this many requests of one person and more; what is older cannot be asked for.
const KEYS_A_ROUND: usize = 900;
/// Writing goes on so long after the kill, unless the keys are used up.
const WRITE_AFTER: Millis = Millis::secs(4);
const ASK_AGAIN: Duration = Duration::from_millis(50);
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

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
        let world = World::up(arguments, &name, Wish::default()).await?;
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

/// What a request was told, by its key.
type Acknowledged = BTreeMap<String, Told>;

#[derive(Clone, Copy, Debug)]
struct Told {
    index: u64,
    /// It was asked more than once: an earlier attempt may have been the one that counted.
    repeated: bool,
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
    let clients = async {
        let each = (0..CLIENTS).map(|n| write(world.ana(), format!("r{round}-c{n}"), n, &over));
        let mut all = Acknowledged::new();
        for told in join_all(each).await {
            all.extend(told?);
        }
        Ok::<_, Trouble>(all)
    };
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
    let lost = look_up(world, &told).await?;
    let text = match lost.first() {
        None => format!("{} writes, each on three nodes", told.len()),
        Some(first) => format!("{} of {} are not: {first}", lost.len(), told.len()),
    };
    verdicts.check("every acknowledged write is there", lost.is_empty() && !told.is_empty(), text);
    Ok(())
}

/// Writes until it is over; what was acknowledged.
async fn write(
    ana: &Operator,
    name: String,
    first: usize,
    over: &Cell<bool>,
) -> Result<Acknowledged, Trouble> {
    let mut told = Acknowledged::new();
    for n in 0..KEYS_A_ROUND / CLIENTS {
        if over.get() {
            break;
        }
        let key = format!("{name}-{n}");
        let body = serde_json::to_vec(&PauseRequest {
            tier: warm_eu().tier,
            group: warm_eu().group,
            reason: key.clone(),
            for_ms: 60_000,
        })?;
        let begun = now();
        for attempt in 0.. {
            let endpoint = (first + attempt) % REGIONS.len();
            match ana.post(endpoint, "/v1/pauses", &key, body.clone()).await {
                Ok((200, answer)) => {
                    let Accepted { index, .. } = serde_json::from_slice(&answer)?;
                    told.insert(key, Told { index, repeated: attempt > 0 });
                    break;
                }
                Ok((status, answer)) if (400..500).contains(&status) && status != 429 => {
                    let why = String::from_utf8_lossy(&answer).into_owned();
                    return Err(Trouble::new(format!("{key} was refused: {status} {why}")));
                }
                Ok(_) | Err(_) if now() - begun > ANSWERS_WITHIN => {
                    return Err(Trouble::new(format!(
                        "{key} was not answered in {}",
                        since(begun)
                    )));
                }
                // On its way out, electing, or gone: ask the next.
                Ok(_) | Err(_) => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
    }
    Ok(told)
}

/// Those which some node does not have as they were answered.
async fn look_up(world: &World, told: &Acknowledged) -> Result<Vec<String>, Trouble> {
    let last = told.values().map(|told| told.index).max().unwrap_or(0);
    let mut lost = Vec::new();
    for (key, told) in told {
        for (endpoint, region) in REGIONS.iter().enumerate() {
            let path = format!("/v1/requests/{key}?consistency=stale&wait_index={last}");
            let found: Result<Remembered, String> = world.ana().get_at(endpoint, &path).await;
            match found {
                Ok(found) if found.index == told.index => {}
                Ok(found) if told.repeated && found.index < told.index => {}
                Ok(found) => lost.push(format!(
                    "{key} was told index {}, {region} has it at {}",
                    told.index, found.index
                )),
                Err(why) => lost.push(format!("{key} of index {}: {region}: {why}", told.index)),
            }
        }
    }
    Ok(lost)
}
