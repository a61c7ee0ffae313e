//! One life of one worker: keeper, standing, queue, sink, scope: everything of `cryptorun worker`
//! but sockets, with a venue that trades once a second.

use crate::clock::SimClock;
use crate::cluster::{NAME, REGIONS, region, warm};
use crate::invariants::Event;
use crate::line::{Line, caller};
use crate::net::{SimPeers, spawn};
use crate::network::{WORKER, place};
use crate::spawn::{Life, SimSpawn};
use crate::world::World;
use cryptorun_core::position::Hash;
use cryptorun_core::region::RegionName;
use cryptorun_core::session::WorkerAddresses;
use cryptorun_core::wire::Fate;
use cryptorun_platform::Platform;
use cryptorun_platform::clock::BootTime;
use cryptorun_platform::disk::SimDisk;
use cryptorun_platform::metrics::Metrics;
use cryptorun_platform::random::SeededRandom;
use cryptorun_platform::segments::{Driver, Owner};
use cryptorun_platform::spawn::{Spawn, Task};
use cryptorun_worker::candle::CandleSettings;
use cryptorun_worker::control::Caller;
use cryptorun_worker::ingest::feed::{FeedEvent, FeedReport, Phase, SymbolReport, SymbolState};
use cryptorun_worker::ingest::model::{Side, Source, Symbol, Trade, VenueId};
use cryptorun_worker::keeper::Keeper;
use cryptorun_worker::queue::{Queue, QueueSettings};
use cryptorun_worker::report::Sources;
use cryptorun_worker::sink::{Place, Sink};
use cryptorun_worker::standing::Standing;
use cryptorun_worker::warm::feeder::Feeder;
use cryptorun_worker::warm::regions::Regions;
use cryptorun_worker::warm::scope::{Parts, ScopeWorker, Status};
use cryptorun_worker::warm::serve::DataService;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// A batch is sealed so often: often enough that a run of a minute has many.
const SEAL_EVERY: Duration = Duration::from_millis(1500);
/// The venue is never silent for longer.
const VENUE_SILENCE_MAX: Duration = Duration::from_secs(5);
/// One trade so often.
const TRADE_EVERY: Duration = Duration::from_secs(1);

/// A worker that runs.
#[derive(Clone)]
pub(crate) struct WorkerHandle {
    pub end: u64,
    pub life: u64,
    pub tasks: Arc<Life>,
    pub disk: SimDisk,
    pub sink: Sink,
    pub queue: Queue,
    pub standing: Arc<Standing>,
    pub keeper: Arc<Keeper>,
    pub status: watch::Receiver<Status>,
    pub clock: Arc<SimClock>,
    pub work: CancellationToken,
    pub session: CancellationToken,
    scope: Arc<Mutex<Option<Task>>>,
    failed: Arc<Mutex<mpsc::Receiver<String>>>,
}

/// What is left of a worker between two lives.
pub(crate) struct Remains {
    pub disk: SimDisk,
    pub clock: Arc<SimClock>,
    /// The newest trade the queue said that it had, in any life.
    pub acknowledged: Arc<Mutex<u64>>,
}

/// A worker's id.
pub(crate) fn name(end: u64) -> String {
    format!("w-{}", region(place(end)))
}

fn source() -> Option<Source> {
    let symbol: Symbol = "BTC/USD".parse().ok()?;
    Some(Source { venue: VenueId::Kraken, symbol })
}

fn owner(end: u64) -> Owner {
    let hash = Hash::of(format!("worker {NAME}/{end}").as_bytes()).0;
    let mut tag = [0; 16];
    tag.copy_from_slice(&hash[..16]);
    Owner(tag)
}

/// Starts a worker on what is left of it; says why it does not start.
pub(crate) fn start(world: &Arc<World>, place: u64, remains: &mut Remains) -> Result<(), String> {
    let (end, life) = (WORKER + place, world.next_life());
    remains.disk = remains.disk.restarted();
    let own = RegionName::from(region(place));
    let tasks = Arc::new(Life::default());
    let platform = Platform {
        clock: remains.clock.clone(),
        random: Arc::new(SeededRandom::new(world.draw())),
        spawn: Arc::new(SimSpawn(tasks.clone())),
        disk: crate::mutants::disk(Arc::new(remains.disk.clone()), crate::mutants::Whose::Worker),
    };
    let driver = {
        let (spawn, world) = (platform.spawn.clone(), world.clone());
        move || {
            let world = world.clone();
            let sync_delay = Arc::new(move || world.sync_takes(end));
            Driver::Task { spawn: spawn.clone(), sync_delay }
        }
    };
    world.event(format_args!("w{place} starts, life {life}"));
    let mut settings = QueueSettings::new("queue", owner(end));
    settings.segment_bytes = 64 << 10;
    let queue = Queue::open(
        platform.clock.clone(),
        platform.disk.clone(),
        settings,
        Arc::new(driver.clone()),
    )
    .map_err(|error| format!("queue: {error}: {:?}", std::error::Error::source(&error)))?;
    platform.disk.create_dir_all(Path::new("warm")).map_err(|error| error.to_string())?;
    let at =
        Place { dir: Path::new("warm"), store: None, owner: owner(end), segment_bytes: 64 << 10 };
    let sink = Sink::open(&platform, at, &warm(), &own, driver())
        .map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error)))?;
    let standing = Standing::new(platform.clock.clone());
    let ends: Arc<Mutex<BTreeMap<u64, u64>>> = Arc::default();
    let peers =
        Arc::new(SimPeers { me: end, life, world: world.clone(), ends: Some(ends.clone()) });
    let locate = Box::new(move |number: u64, region: &RegionName, _: &str, _: &str| {
        let at = REGIONS.iter().position(|name| *name == region.as_str()).unwrap_or(0);
        let end = WORKER + 1 + u64::try_from(at).unwrap_or(0);
        ends.lock().unwrap_or_else(PoisonError::into_inner).insert(number, end);
    });
    let regions = Regions::new(peers, platform.clock.clone(), BTreeMap::new(), locate);
    let status = watch::Sender::new(Status::default());
    let watched = status.subscribe();
    let heard = watch::Sender::new(Arc::new(FeedReport::default()));
    let reporter = Arc::new(Sources {
        clock: platform.clock.clone(),
        spawn: platform.spawn.clone(),
        standing: standing.clone(),
        regions: regions.clone(),
        queue: queue.clone(),
        scopes: BTreeMap::from([(warm(), (sink.clone(), status.subscribe()))]),
        feeds: BTreeMap::from([(VenueId::Kraken.to_string(), heard.subscribe())]),
        proving: Arc::default(),
    });
    let line = Arc::new(Line { world: world.clone(), end, life });
    let keeper = Keeper::new(
        platform.clone(),
        Caller::new(line),
        standing.clone(),
        reporter,
        WorkerAddresses::default(),
    );
    let consumer = queue.consumer("warm/global").map_err(|error| error.to_string())?;
    let sources: BTreeSet<Source> = source().into_iter().collect();
    let feeder = Feeder::new(consumer, sources, CandleSettings::default());
    let parts = Parts {
        platform: platform.clone(),
        sink: sink.clone(),
        standing: standing.clone(),
        keeper: keeper.clone(),
        regions: regions.clone(),
        status,
        seal_every: SEAL_EVERY,
    };
    let service = DataService::new(
        BTreeMap::from([(warm(), sink.clone())]),
        standing.clone(),
        platform.clock.clone(),
    );
    let (work, session) = (CancellationToken::new(), CancellationToken::new());
    let spawner = SimSpawn(tasks.clone());
    let scope = ScopeWorker::new(parts, feeder);
    let scope = spawner.spawn("scope", Box::pin(scope.run(work.clone())));
    spawner.spawn("keeper", Box::pin(keeper.clone().run(session.clone())));
    let (told, failed) = mpsc::channel(4);
    spawner.spawn(
        "probe",
        Box::pin(cryptorun_worker::probe::run(
            platform.clone(),
            regions,
            own,
            Metrics::new(),
            session.clone(),
        )),
    );
    spawner.spawn(
        "clocks",
        Box::pin(cryptorun_worker::run::watch_clocks(
            platform.clone(),
            standing.clone(),
            session.clone(),
        )),
    );
    let handle = WorkerHandle {
        end,
        life,
        tasks,
        disk: remains.disk.clone(),
        sink,
        queue,
        standing,
        keeper,
        status: watched,
        clock: remains.clock.clone(),
        work,
        session,
        scope: Arc::new(Mutex::new(Some(scope))),
        failed: Arc::new(Mutex::new(failed)),
    };
    resumes_where_it_was(world, &handle, &remains.acknowledged);
    {
        let mut state = world.state();
        state.alive.insert(end, life);
        state.services.insert(end, Arc::new(service));
        state.workers.insert(end, handle.clone());
    }
    handle.feed(world, &spawner, told.clone(), heard, remains.acknowledged.clone());
    let sink = handle.sink.clone();
    spawner.spawn("failed", Box::pin(async move { drop(told.send(sink.failed().await).await) }));
    spawn(world, watch_sink(world.clone(), handle.clone()));
    spawn(world, watch_leases(world.clone(), handle.clone()));
    spawn(world, push(world.clone(), handle));
    Ok(())
}

/// DESIGN §20, 20: acknowledged queue records survive.
fn resumes_where_it_was(world: &World, worker: &WorkerHandle, acknowledged: &Mutex<u64>) {
    let known = *acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
    let has = worker.last_trade();
    if has < known {
        world.violation(format!(
            "queue_kept: worker {} had acknowledged trade {known} and starts from {has}",
            worker.end
        ));
    }
}

impl WorkerHandle {
    fn last_trade(&self) -> u64 {
        let resume = self.queue.resume(VenueId::Kraken);
        resume.values().map(|resume| resume.last.id).max().unwrap_or(0)
    }

    /// Why it had to stop, if its disk failed.
    pub fn failure(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).try_recv().ok()
    }

    /// A planned stop: scopes stop first, then the session ends.
    pub async fn stop(&self) {
        self.work.cancel();
        let scope = self.scope.lock().unwrap_or_else(PoisonError::into_inner).take();
        let in_order = async {
            if let Some(scope) = scope {
                scope.join().await;
            }
            self.keeper.end().await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(10), in_order).await;
        self.session.cancel();
    }

    /// The venue: a feed that comes late fetches what it missed.
    fn feed(
        &self,
        world: &Arc<World>,
        spawner: &SimSpawn,
        failed: mpsc::Sender<String>,
        heard: watch::Sender<Arc<FeedReport>>,
        acknowledged: Arc<Mutex<u64>>,
    ) {
        let (queue, world, end) = (self.queue.clone(), world.clone(), self.end);
        let clock = self.clock.clone();
        let mut last = None;
        let mut sent = self.last_trade();
        let task = async move {
            let Some(source) = source() else { return };
            loop {
                tokio::time::sleep(TRADE_EVERY).await;
                let (new, deaf, newest): (Vec<(u64, u64)>, bool, u64) = {
                    let mut state = world.state();
                    let at_us = venue_now_us(&world);
                    if state.trades.last().is_none_or(|last| at_us >= last + 900_000) {
                        state.trades.push(at_us);
                    }
                    let skip = usize::try_from(sent).unwrap_or(0);
                    let new = (sent + 1..).zip(state.trades.iter().skip(skip).copied());
                    (new.collect(), state.deaf.contains(&place(end)), at_us)
                };
                let now = cryptorun_platform::clock::Clock::boot(&*clock);
                last = if deaf { last } else { Some(now) };
                heard.send_replace(Arc::new(feed_report(&source, now, last)));
                if deaf {
                    if !new.is_empty() {
                        world.tally("venue_silent");
                    }
                    continue;
                }
                let mut events: Vec<FeedEvent> = new
                    .iter()
                    .map(|(id, at_us)| FeedEvent::Trade(trade(&source, *id, *at_us)))
                    .collect();
                sent = new.last().map_or(sent, |(id, _)| *id);
                events.push(FeedEvent::Watermark { source: source.clone(), at_us: newest - 1 });
                if let Err(error) = queue.append(&events).await {
                    drop(failed.send(error.to_string()).await);
                    return;
                }
                *acknowledged.lock().unwrap_or_else(PoisonError::into_inner) = sent;
            }
        };
        spawner.spawn("feed", Box::pin(task));
    }
}

/// As a session has it: silent for longer than its venue ever is, it connects anew.
fn feed_report(source: &Source, now: BootTime, last: Option<BootTime>) -> FeedReport {
    let lives = last.is_some_and(|at| now - at < VENUE_SILENCE_MAX);
    let state = if lives { SymbolState::Live } else { SymbolState::Waiting };
    let symbol = SymbolReport { state, ..SymbolReport::default() };
    FeedReport {
        venue: Some(source.venue),
        phase: if lives { Phase::Live } else { Phase::Disconnected },
        last_data: last,
        symbols: BTreeMap::from([(source.symbol.clone(), symbol)]),
        ..FeedReport::default()
    }
}

fn venue_now_us(world: &World) -> u64 {
    let epoch = u64::try_from(crate::clock::EPOCH_MS).unwrap_or(0) * 1000;
    epoch + u64::try_from(world.now().as_micros()).unwrap_or(0)
}

fn trade(source: &Source, id: u64, at_us: u64) -> Trade {
    Trade {
        source: source.clone(),
        id,
        price: 1_000 + i64::try_from(id % 17).unwrap_or(0),
        qty: 5,
        price_scale: 1,
        qty_scale: 8,
        taker: Side::Buy,
        at_us,
    }
}

/// Shows what the sink says of itself, and each write that became visible, as they come.
async fn watch_sink(world: Arc<World>, worker: WorkerHandle) {
    let mut views = worker.sink.watch();
    let mut seen = visible(&worker.sink);
    let mut fenced = views.borrow().fenced;
    loop {
        let view = views.borrow_and_update().clone();
        if !world.is_alive(worker.end, worker.life) {
            return;
        }
        world.show(&Event::Sink { worker: worker.end, life: worker.life, view: &view });
        if view.fenced > fenced {
            fenced = view.fenced;
            world.tally("late_write");
        }
        let now = visible(&worker.sink);
        if now != seen
            && let Some((token, seq)) = now
        {
            seen = now;
            if view.end.seq == seq {
                let at = view.end;
                world.event(format_args!("w{} wrote {at} under {token}", place(worker.end)));
                world.tally("visible_writes");
                world.show(&Event::Visible { worker: worker.end, token, at });
            }
        }
        if views.changed().await.is_err() {
            return;
        }
    }
}

/// The newest own write that became visible.
fn visible(sink: &Sink) -> Option<(cryptorun_core::token::Token, u64)> {
    let journal = sink.journal();
    let newest = journal.iter().rev().find(|range| range.fate == Fate::Visible)?;
    Some((newest.token, newest.to_seq))
}

/// Shows what the worker believes that it holds, in true time.
async fn watch_leases(world: Arc<World>, worker: WorkerHandle) {
    let mut changes = worker.standing.watch_changes();
    let mut held = false;
    let mut barred = false;
    loop {
        changes.borrow_and_update();
        if !world.is_alive(worker.end, worker.life) {
            return;
        }
        match worker.standing.holds(&warm()) {
            Some(lease) => {
                held = true;
                let until = worker.clock.true_time(lease.deadline);
                world.show(&Event::Holds { worker: worker.end, token: lease.token, until });
            }
            None if held => {
                held = false;
                world.show(&Event::Stopped { worker: worker.end });
            }
            None => {}
        }
        let now_barred = worker.standing.barred().is_some();
        if now_barred && !barred {
            world.tally("lease_dropped_by_clock");
        }
        barred = now_barred;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Brings directives as the event stream would, from the own region's node or another.
async fn push(world: Arc<World>, worker: WorkerHandle) {
    let mut turn = 0;
    while world.is_alive(worker.end, worker.life) {
        tokio::time::sleep(Duration::from_millis(300)).await;
        turn += 1;
        let Some(session) = worker.keeper.session() else { continue };
        let node = Line::node(worker.end, if turn % 4 == 0 { 1 } else { 0 });
        let Some(handle) = world.state().nodes.get(&node).cloned() else { continue };
        let Some(caller) = caller(worker.end, &name(worker.end)) else { return };
        if !world.hop(worker.end, node, false).await {
            continue;
        }
        let Ok(mut sets) = handle.api.directives(&caller, session.clone()) else { continue };
        loop {
            let set = tokio::time::timeout(Duration::from_secs(5), sets.recv()).await;
            if worker.keeper.session().as_ref() != Some(&session)
                || !world.is_alive(node, handle.life)
            {
                break;
            }
            match set {
                Ok(Some(set)) => {
                    if !world.hop(node, worker.end, true).await {
                        break;
                    }
                    if world.is_alive(worker.end, worker.life) {
                        worker.standing.direct(set);
                    }
                }
                Ok(None) => break,
                Err(_) => {}
            }
        }
    }
}
