//! Clients who write and read one register through the API all the while: the reason of a pause.
//!
//! Each request has a key of its own and is repeated under it until somebody answers. What was
//! acknowledged is looked up afterwards on every node; what was asked and answered when is kept.

use crate::world::{Trouble, World, now, since, warm_eu};
use cryptorun_core::record::Request as Remembered;
use cryptorun_core::time::Millis;
use cryptorun_core::wire::{Accepted, PauseRequest, Status};
use cryptorun_histories::history::{Operation, What};
use cryptorun_lab::demo::layout::REGIONS;
use cryptorun_lab::demo::stages::scope_of;
use cryptorun_platform::clock::BootTime;
use futures_util::StreamExt;
use futures_util::stream;
use std::cell::{Cell, RefCell};
use std::time::Duration;

pub const CLIENTS: usize = 4;
const EVERY: Duration = Duration::from_millis(300);
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// Then its outcome stays unknown.
const ANSWERS_WITHIN: Millis = Millis::secs(40);
/// A register's value stands so long.
const LONG: Millis = Millis::mins(600);
/// Looked up at once.
const LOOK_UPS: usize = 12;

/// What clients did and were told.
#[derive(Default)]
pub struct Told {
    /// Writes acknowledged since they were last looked up.
    fresh: RefCell<Vec<Acknowledged>>,
    history: RefCell<Vec<Operation>>,
    pub writes: Cell<u64>,
    pub reads: Cell<u64>,
    pub asked_again: Cell<u64>,
    pub unknown: Cell<u64>,
    refused: RefCell<Vec<String>>,
    lost: RefCell<Vec<String>>,
    looked_up: Cell<u64>,
}

#[derive(Clone, Debug)]
struct Acknowledged {
    key: String,
    index: u64,
    /// It was asked more than once: an earlier attempt may have been the one that counted.
    repeated: bool,
}

impl Told {
    pub fn lost(&self) -> Vec<String> {
        self.lost.borrow().clone()
    }

    pub fn refused(&self) -> Vec<String> {
        self.refused.borrow().clone()
    }

    pub fn looked_up(&self) -> u64 {
        self.looked_up.get()
    }

    /// Every operation, those without an answer too.
    pub fn history(&self) -> Vec<Operation> {
        self.history.borrow().clone()
    }

    fn operation(&self, client: usize, begun: BootTime, what: What, index: Option<u64>) {
        let at = |moment: BootTime| moment - BootTime::default();
        self.history.borrow_mut().push(Operation {
            client: client as u64,
            register: 0,
            called: at(begun),
            returned: index.map(|_| at(now())),
            what,
            index,
        });
    }
}

fn count(what: &Cell<u64>) {
    what.set(what.get() + 1);
}

/// Writes and reads by turns until it is over.
pub async fn client(world: &World, n: usize, told: &Told, over: &Cell<bool>) {
    for turn in 0_usize.. {
        tokio::time::sleep(EVERY).await;
        if over.get() {
            return;
        }
        match (turn + n).is_multiple_of(2) {
            true => write(world, n, turn, told).await,
            false => read(world, n, turn, told).await,
        }
    }
}

async fn write(world: &World, n: usize, turn: usize, told: &Told) {
    let key = format!("chaos-{n}-{turn}");
    let request = PauseRequest {
        tier: warm_eu().tier,
        group: warm_eu().group.to_string(),
        reason: key.clone(),
        for_ms: LONG.0,
    };
    let Ok(body) = serde_json::to_vec(&request) else { return };
    let begun = now();
    for attempt in 0.. {
        let endpoint = (n + attempt) % REGIONS.len();
        match world.ana().post(endpoint, "/v1/pauses", &key, body.clone()).await {
            Ok((200, answer)) => {
                let Ok(Accepted { index, .. }) = serde_json::from_slice(&answer) else {
                    told.refused.borrow_mut().push(format!("{key}: an answer without an index"));
                    return;
                };
                count(&told.writes);
                told.operation(n, begun, What::Write { value: key.clone() }, Some(index));
                let repeated = attempt > 0;
                told.fresh.borrow_mut().push(Acknowledged { key, index, repeated });
                return;
            }
            Ok((status, answer)) if (400..500).contains(&status) && status != 429 => {
                let why = String::from_utf8_lossy(&answer).into_owned();
                told.refused.borrow_mut().push(format!("{key}: {status} {why}"));
                return;
            }
            Ok(_) | Err(_) if since(begun) > ANSWERS_WITHIN => {
                count(&told.unknown);
                told.operation(n, begun, What::Write { value: key }, None);
                return;
            }
            // On its way out, electing, or gone: ask the next.
            Ok(_) | Err(_) => {
                count(&told.asked_again);
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }
}

async fn read(world: &World, n: usize, turn: usize, told: &Told) {
    let (begun, endpoint) = (now(), (n + turn) % REGIONS.len());
    let answer: Result<Status, String> = world.ana().get_at(endpoint, "/v1/status").await;
    // A read that was not answered says nothing.
    let Ok(status) = answer else { return };
    let Some(scope) = scope_of(&status, &warm_eu()) else { return };
    let value = scope.pause.as_ref().map(|pause| pause.reason.clone());
    count(&told.reads);
    told.operation(n, begun, What::Read { value }, Some(status.at.index));
}

/// Looks up on every node what was acknowledged since the last time. Everybody must be level.
pub async fn look_up(world: &World, told: &Told) -> Result<(), Trouble> {
    let fresh: Vec<Acknowledged> = told.fresh.borrow_mut().drain(..).collect();
    let last = fresh.iter().map(|told| told.index).max().unwrap_or(0);
    let found = stream::iter(&fresh).map(|one| look_up_one(world, one, last));
    let lost: Vec<Option<String>> = found.buffer_unordered(LOOK_UPS).collect().await;
    told.lost.borrow_mut().extend(lost.into_iter().flatten());
    told.looked_up.set(told.looked_up.get() + fresh.len() as u64);
    Ok(())
}

/// What is wrong with one acknowledgement on some node.
async fn look_up_one(world: &World, told: &Acknowledged, last: u64) -> Option<String> {
    for (endpoint, region) in REGIONS.iter().enumerate() {
        let path = format!("/v1/requests/{}?consistency=stale&wait_index={last}", told.key);
        let found: Result<Remembered, String> = world.ana().get_at(endpoint, &path).await;
        match found {
            Ok(found) if found.index == told.index => {}
            Ok(found) if told.repeated && found.index < told.index => {}
            Ok(found) => {
                let (key, index, at) = (&told.key, told.index, found.index);
                return Some(format!("{key} was told index {index}, {region} has it at {at}"));
            }
            Err(why) => {
                return Some(format!("{} of index {}: {region}: {why}", told.key, told.index));
            }
        }
    }
    None
}
