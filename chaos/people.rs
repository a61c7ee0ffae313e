//! Whoever uses the cluster through its API: operators who ask, approve, deny, cancel and pause, and
//! clients who write and read registers for the linearizability checks.
//!
//! An operation without an answer is asked again under its key, or stays unknown for good.

use crate::cluster::{APPROVERS, REGIONS, REGISTERS, warm};
use crate::invariants::Event;
use crate::line::{self, Failed, ask};
use crate::net::spawn;
use crate::network::{PERSON, place};
use crate::world::{Theme, World};
use cryptorun_control::api::{Api, ReadQuery};
use cryptorun_control::caller::Caller;
use cryptorun_control::problem::ApiError;
use cryptorun_core::command::Outcome;
use cryptorun_core::promotion::{Kind, Promotion, PromotionId, State};
use cryptorun_core::scope::Tier;
use cryptorun_core::wire::{Accepted, PauseRequest, PromotionRequest, WordRequest};
use cryptorun_histories::history::{Operation, What};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long a person waits for one answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// A register's value stands so long.
const LONG_MS: u64 = 3_600_000;

/// Starts everybody.
pub(crate) fn start(world: &Arc<World>) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for n in 1..=3 {
        tasks.push(spawn(world, registers(world.clone(), PERSON + n)));
    }
    let quiet = matches!(world.theme, Theme::OneLink | Theme::ControlOnly);
    if !quiet {
        tasks.push(spawn(world, operators(world.clone(), PERSON + 1)));
        tasks.push(spawn(world, operators(world.clone(), PERSON + 2)));
    }
    tasks
}

/// What became of an operation.
enum Said<T> {
    Done(T),
    No(ApiError),
    Unknown,
}

/// Asks here and there, under one key, until somebody says what became of it.
async fn until_said<T, A, F>(world: &Arc<World>, from: u64, tries: u32, what: A) -> Said<T>
where
    T: Send + 'static,
    A: Fn(Api) -> F + Clone + Send + 'static,
    F: Future<Output = Result<T, ApiError>> + Send + 'static,
{
    let mut target = place(from);
    let (mut unknown, mut last) = (false, ApiError::NoLeader);
    for attempt in 0..tries {
        if attempt > 0 && unknown {
            world.tally("asked_twice");
        }
        match ask(world, from, target, PATIENCE, what.clone()).await {
            Ok(Ok(done)) => return Said::Done(done),
            Ok(Err(ApiError::Elsewhere { node, .. })) => {
                target = node;
                continue;
            }
            Ok(Err(ApiError::OutcomeUnknown)) | Err(Failed::Unknown) => unknown = true,
            Ok(Err(
                error @ (ApiError::NoLeader
                | ApiError::Overloaded
                | ApiError::NoSpace { .. }
                | ApiError::Stopping
                | ApiError::NotReady { .. }),
            )) => last = error,
            // An answer from the log, or of no use to ask again. It may come from a node that lags, and
            // says nothing of an attempt whose outcome is unknown.
            Ok(Err(error)) => {
                last = error;
                break;
            }
            Err(Failed::Refused) => {}
        }
        target = 1 + world.below(3);
        tokio::time::sleep(world.span_ms(20, 400)).await;
    }
    if unknown {
        world.tally("unknown_outcome");
        return Said::Unknown;
    }
    Said::No(last)
}

/// Writes and reads three registers.
async fn registers(world: Arc<World>, me: u64) {
    let name = APPROVERS[usize::try_from(place(me) - 1).unwrap_or(0) % 3];
    let Some(caller) = line::caller(me, name) else { return };
    let (mut client, mut count) = (me * 1000, 0);
    while !world.stopping() {
        tokio::time::sleep(world.span_ms(200, 1500)).await;
        count += 1;
        let register = usize::try_from(world.below(3)).unwrap_or(0);
        let called = world.now();
        world.tally("api_operations");
        let (what, index) = if world.below(2) == 0 {
            let value = format!("v{me}-{count}");
            match write(&world, me, &caller, register, &value, count).await {
                Said::Done(done) => (What::Write { value }, Some(done.index)),
                Said::Unknown => {
                    let what = What::Write { value };
                    let operation =
                        Operation { client, register, called, returned: None, what, index: None };
                    world.show(&Event::Operation { operation: &operation });
                    client += 1; // A client whose outcome is unknown is not heard of again.
                    continue;
                }
                Said::No(_) => {
                    world.show(&Event::Denied { value: &value });
                    continue;
                }
            }
        } else {
            match read(&world, me, &caller, register).await {
                Some((value, index)) => (What::Read { value }, Some(index)),
                None => continue,
            }
        };
        let returned = Some(world.now());
        let operation = Operation { client, register, called, returned, what, index };
        world.show(&Event::Operation { operation: &operation });
    }
}

async fn write(
    world: &Arc<World>,
    me: u64,
    caller: &Caller,
    register: usize,
    value: &str,
    count: u64,
) -> Said<Accepted> {
    let request = PauseRequest {
        tier: Tier::Cold,
        group: REGISTERS[register].to_owned(),
        reason: value.to_owned(),
        for_ms: LONG_MS,
    };
    let (caller, key) = (caller.clone(), format!("w-{me}-{count}"));
    let tries = 1 + u32::try_from(world.below(3)).unwrap_or(0);
    until_said(world, me, tries, move |api| {
        let (caller, key, request) = (caller.clone(), key.clone(), request.clone());
        async move { api.pause(&caller, Some(&key), request).await }
    })
    .await
}

async fn read(
    world: &Arc<World>,
    me: u64,
    caller: &Caller,
    register: usize,
) -> Option<(Option<String>, u64)> {
    let (caller, to) = (caller.clone(), 1 + world.below(3));
    let status = ask(world, me, to, PATIENCE, move |api| async move {
        api.status(&caller, ReadQuery::default()).await
    });
    let status = status.await.ok()?.ok()?;
    let id = crate::nemesis::register(REGISTERS[register]);
    let scope = status.scopes.into_iter().find(|scope| scope.scope == id)?;
    Some((scope.pause.map(|pause| pause.reason), status.at.index))
}

/// Asks for promotions, approves them, denies some, pauses and resumes.
async fn operators(world: Arc<World>, me: u64) {
    let mut count = 0;
    while !world.stopping() {
        tokio::time::sleep(world.span_ms(300, 2200)).await;
        count += 1;
        act(&world, me, count).await;
    }
}

async fn act(world: &Arc<World>, me: u64, count: u64) {
    let who = *world.pick(&APPROVERS);
    let Some(caller) = line::caller(me, who) else { return };
    let open = open_promotion(world, me, &caller).await;
    world.tally("api_operations");
    let key = format!("o-{me}-{count}");
    match (world.below(16), open) {
        (0..10, Some(id)) => approve(world, me, id, "a").await,
        (10, Some(id)) => {
            let word = WordRequest { reason: Some("not now".to_owned()) };
            until_said(world, me, 4, move |api| {
                let (caller, key, word) = (caller.clone(), key.clone(), word.clone());
                async move { api.deny(&caller, Some(&key), id, word).await }
            })
            .await;
        }
        (11, Some(id)) => {
            until_said(world, me, 4, move |api| {
                let (caller, key) = (caller.clone(), key.clone());
                async move { api.cancel(&caller, Some(&key), id).await }
            })
            .await;
        }
        (12, _) => {
            let request = PauseRequest {
                tier: Tier::Warm,
                group: "global".to_owned(),
                reason: "a look".to_owned(),
                for_ms: 500 + world.below(4000),
            };
            until_said(world, me, 3, move |api| {
                let (caller, key, request) = (caller.clone(), key.clone(), request.clone());
                async move { api.pause(&caller, Some(&key), request).await }
            })
            .await;
        }
        (13, _) => unpause(world, me, &caller).await,
        (14 | 15, Some(_)) => {}
        _ => request(world, me, caller, key).await,
    }
}

async fn request(world: &Arc<World>, me: u64, caller: Caller, key: String) {
    let kind = match world.below(8) {
        0..3 => Some(Kind::Switchover),
        3 => Some(Kind::Failover),
        4 | 5 => Some(Kind::Emergency),
        _ => None,
    };
    let to: &&str = world.pick(&REGIONS);
    let request = request_for(kind, to);
    if let Some(Outcome::Promotion { id, people_missing }) =
        ask_for(world, me, &caller, key, request).await
        && people_missing > 0
        && world.below(4) > 0
    {
        tokio::time::sleep(world.span_ms(50, 1500)).await;
        approve(world, me, id, "a").await;
    }
}

/// What a person writes who wants the scope there.
pub(crate) fn request_for(kind: Option<Kind>, to: &str) -> PromotionRequest {
    PromotionRequest {
        kind,
        tier: Tier::Warm,
        group: "global".to_owned(),
        from: None,
        to: to.to_owned(),
        reason: Some("a drill".to_owned()),
        plan: None,
        dry_run: false,
    }
}

/// Asks for a promotion; what was said, where it was taken.
pub(crate) async fn ask_for(
    world: &Arc<World>,
    me: u64,
    caller: &Caller,
    key: String,
    request: PromotionRequest,
) -> Option<Outcome> {
    let caller = caller.clone();
    let said = until_said(world, me, 3, move |api| {
        let (caller, key, request) = (caller.clone(), key.clone(), request.clone());
        async move { api.request_promotion(&caller, Some(&key), &request).await }
    });
    let Said::Done(Accepted { outcome, .. }) = said.await else { return None };
    world.event(format_args!("asked for: {outcome:?}"));
    Some(outcome)
}

/// Another person puts a name to it. Under one word the same person gets the first answer again.
pub(crate) async fn approve(world: &Arc<World>, me: u64, id: PromotionId, word: &str) {
    let who = *world.pick(&APPROVERS);
    approve_as(world, me, id, who, word).await;
}

/// A person of that name does.
pub(crate) async fn approve_as(
    world: &Arc<World>,
    me: u64,
    id: PromotionId,
    who: &str,
    word: &str,
) {
    let Some(caller) = line::caller(me, who) else { return };
    let key = format!("{word}-{id}-{who}");
    let said = until_said(world, me, 4, move |api| {
        let (caller, key) = (caller.clone(), key.clone());
        let word = WordRequest { reason: Some("agreed".to_owned()) };
        async move { api.approve(&caller, Some(&key), id, word).await }
    });
    if let Said::No(error) = said.await {
        world.event(format_args!("{who} could not approve {id}: {error}"));
    }
}

async fn unpause(world: &Arc<World>, me: u64, caller: &Caller) {
    let caller = caller.clone();
    until_said(world, me, 3, move |api| {
        let caller = caller.clone();
        async move { api.unpause(&caller, None, (Tier::Warm, "global")).await }
    })
    .await;
}

async fn open_promotion(world: &Arc<World>, me: u64, caller: &Caller) -> Option<PromotionId> {
    let all = promotions(world, me, caller).await?;
    all.into_iter().find(|p| !matches!(p.state, State::Ended(_))).map(|p| p.id)
}

/// All there are, newest first, by some node.
pub(crate) async fn promotions(
    world: &Arc<World>,
    me: u64,
    caller: &Caller,
) -> Option<Vec<Promotion>> {
    let (caller, to) = (caller.clone(), 1 + world.below(3));
    let all = ask(world, me, to, PATIENCE, move |api| async move {
        api.promotions(&caller, ReadQuery::default()).await
    });
    let all = all.await.ok()?.ok()?;
    Some(all.into_iter().map(|status| status.promotion).collect())
}

/// After the healing: whatever waits for people gets its answer, pauses end, and the rest is the
/// product's to finish.
pub(crate) async fn settle(world: &Arc<World>) {
    let me = PERSON + 1;
    let Some(ana) = line::caller(me, "ana") else { return };
    let mut quiet = 0;
    for round in 0..60 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let paused = {
            let state = world.state();
            let first = state.nodes.values().next();
            first.is_some_and(|handle| {
                handle.node.with_machine(|m| {
                    m.scopes().get(&warm()).is_some_and(|scope| scope.pause.is_some())
                })
            })
        };
        if paused {
            unpause(world, me, &ana).await;
        }
        match open_promotion(world, me, &ana).await {
            Some(id) if round < 16 => {
                quiet = 0;
                approve(world, me, id, "a").await;
            }
            // It cannot go any more: its cause is over.
            Some(id) => {
                quiet = 0;
                let ana = ana.clone();
                until_said(world, me, 4, move |api| {
                    let ana = ana.clone();
                    let word = WordRequest { reason: Some("over".to_owned()) };
                    async move { api.deny(&ana, None, id, word).await }
                })
                .await;
            }
            None if quiet > 6 && !paused => return,
            None => quiet += 1,
        }
    }
}
