//! Clients whose every write is known by a key of its own, repeated under that key until somebody
//! answers, and looked up afterwards on every node.

use crate::verdict::Verdicts;
use crate::world::{Trouble, World, now, since, warm_eu};
use cryptorun_core::record::Request as Remembered;
use cryptorun_core::wire::{Accepted, PauseRequest};
use cryptorun_lab::demo::layout::REGIONS;
use cryptorun_lab::demo::operator::Operator;
use futures_util::future::join_all;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

/// The log remembers this many requests of one person and more; what is older cannot be asked for.
const KEYS_MAX: usize = 900;
const ASK_AGAIN: Duration = Duration::from_millis(50);
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// How fast.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Eight at a time, each as fast as it is answered.
    Flood,
    /// One after the other, with a rest between.
    Every(Duration),
}

impl Pace {
    fn clients(self) -> usize {
        match self {
            Self::Flood => 8,
            Self::Every(_) => 1,
        }
    }
}

/// What a request was told, by its key.
pub type Acknowledged = BTreeMap<String, Told>;

#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub index: u64,
    /// It was asked more than once: an earlier attempt may have been the one that counted.
    pub repeated: bool,
}

/// Writes until it is over, or the keys are used up; what was acknowledged.
pub async fn write(
    ana: &Operator,
    name: &str,
    pace: Pace,
    over: &Cell<bool>,
) -> Result<Acknowledged, Trouble> {
    let clients = pace.clients();
    let each = (0..clients).map(|n| client(ana, format!("{name}-c{n}"), n, pace, over));
    let mut all = Acknowledged::new();
    for told in join_all(each).await {
        all.extend(told?);
    }
    Ok(all)
}

async fn client(
    ana: &Operator,
    name: String,
    first: usize,
    pace: Pace,
    over: &Cell<bool>,
) -> Result<Acknowledged, Trouble> {
    let mut told = Acknowledged::new();
    for n in 0..KEYS_MAX / pace.clients() {
        if over.get() {
            break;
        }
        let key = format!("{name}-{n}");
        let body = serde_json::to_vec(&PauseRequest {
            tier: warm_eu().tier,
            group: warm_eu().group.to_string(),
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
        if let Pace::Every(rest) = pace {
            tokio::time::sleep(rest).await;
        }
    }
    Ok(told)
}

/// That each acknowledged write stands on three nodes as it was answered, and that there were any.
pub async fn all_there(
    world: &World,
    told: &Acknowledged,
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    let lost = look_up(world, told).await?;
    let text = match lost.first() {
        None => format!("{} writes, each on three nodes", told.len()),
        Some(first) => format!("{} of {} are not: {first}", lost.len(), told.len()),
    };
    verdicts.check("every acknowledged write is there", lost.is_empty() && !told.is_empty(), text);
    Ok(())
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
