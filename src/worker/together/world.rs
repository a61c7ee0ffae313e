//! The regions: disks, queues with trades coming in, links, workers that live and die.

use super::cluster::{Cluster, Line, wall_at, warm};
use crate::candle::CandleSettings;
use crate::control::Caller;
use crate::ingest::feed::FeedEvent;
use crate::ingest::model::{Side, Source, Trade, VenueId};
use crate::keeper::Keeper;
use crate::queue::{Queue, QueueSettings};
use crate::report::Sources;
use crate::sink::{Place, Sink};
use crate::standing::Standing;
use crate::warm::feeder::Feeder;
use crate::warm::regions::Regions;
use crate::warm::scope::{Parts, ScopeWorker, Status};
use crate::warm::serve::DataService;
use async_trait::async_trait;
use bytes::Bytes;
use cryptorun_core::position::Position;
use cryptorun_core::promotion::{Kind, Outcome, PromotionId, State};
use cryptorun_core::region::RegionName;
use cryptorun_core::report::Fork;
use cryptorun_core::scope::{Phase, Role};
use cryptorun_core::session::WorkerAddresses;
use cryptorun_core::time::{Millis, WallTime};
use cryptorun_core::wire::{Fate, JournalRange};
use cryptorun_platform::Platform;
use cryptorun_platform::clock::{BootTime, Clock};
use cryptorun_platform::disk::{Keep, SimDisk};
use cryptorun_platform::identity::{Class, SpiffeId};
use cryptorun_platform::net::{CallError, Duplex, Peer, Peers, Service};
use cryptorun_platform::random::SeededRandom;
use cryptorun_platform::segments::{Driver, Owner};
use cryptorun_platform::spawn::{Spawn, Task, TokioSpawn};
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub const EAST: &str = "us-east-1";
pub const WEST: &str = "us-west-2";
pub const EU: &str = "eu-west-1";
const REGIONS: [&str; 3] = [EAST, WEST, EU];
const STEP: Duration = Duration::from_millis(50);
const ONE_WAY: Duration = Duration::from_millis(5);
const SYNC_TAKES: Duration = Duration::from_millis(2);

/// Tokio's paused time as all three clocks.
struct PausedClock(Instant);

impl Clock for PausedClock {
    fn boot(&self) -> BootTime {
        BootTime(1_000_000_000) + self.0.elapsed()
    }

    fn raw(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> WallTime {
        wall_at(self.boot().0)
    }
}

/// Tasks of one life of one worker: they end with it.
#[derive(Default)]
struct Life(Mutex<Vec<tokio::task::AbortHandle>>);

impl Spawn for Life {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) -> Task {
        let handle = tokio::spawn(task);
        self.0.lock().unwrap().push(handle.abort_handle());
        handle.into()
    }
}

/// What lies between the regions.
#[derive(Default)]
struct Net {
    services: BTreeMap<RegionName, Arc<DataService>>,
    cut: BTreeSet<(RegionName, RegionName)>,
    frozen: BTreeSet<RegionName>,
}

struct Wire {
    net: Arc<Mutex<Net>>,
    own: RegionName,
    numbers: Arc<Mutex<BTreeMap<u64, RegionName>>>,
}

impl Wire {
    fn open(&self, to: &RegionName) -> Option<Arc<DataService>> {
        let net = self.net.lock().unwrap();
        let pair = (self.own.clone().min(to.clone()), self.own.clone().max(to.clone()));
        let closed = net.cut.contains(&pair) || net.frozen.contains(to);
        (!closed).then(|| net.services.get(to).cloned())?
    }
}

#[async_trait]
impl Peers for Wire {
    async fn call(
        &self,
        to: u64,
        kind: u8,
        body: Bytes,
        ttl: Duration,
    ) -> Result<Bytes, CallError> {
        let to = self.numbers.lock().unwrap().get(&to).cloned().ok_or(CallError::Unreachable)?;
        let Some(service) = self.open(&to) else {
            tokio::time::sleep(ttl).await;
            return Err(CallError::TimedOut);
        };
        let id = SpiffeId::new("test", "test", Class::Worker, self.own.as_str(), "w").unwrap();
        let peer = Peer::named(([127, 0, 0, 1], 1).into(), id);
        let call = async {
            tokio::time::sleep(ONE_WAY).await;
            let answer = service.call(&peer, kind, body).await;
            tokio::time::sleep(ONE_WAY).await;
            answer.map_err(|error| CallError::Refused(error.0))
        };
        let answer = tokio::time::timeout(ttl, call).await.unwrap_or(Err(CallError::TimedOut));
        match self.open(&to) {
            Some(_) => answer,
            None => Err(CallError::TimedOut),
        }
    }

    async fn stream(&self, _to: u64, _kind: u8) -> Result<Duplex, CallError> {
        Err(CallError::Unreachable)
    }
}

struct Region {
    disk: SimDisk,
    running: Option<Running>,
    lives: u64,
}

struct Running {
    life: Arc<Life>,
    sink: Sink,
    queue: Queue,
    standing: Arc<Standing>,
    keeper: Arc<Keeper>,
    status: watch::Receiver<Status>,
    work: CancellationToken,
    session: CancellationToken,
    scope: Task,
}

pub struct World {
    clock: Arc<PausedClock>,
    cluster: Arc<Cluster>,
    net: Arc<Mutex<Net>>,
    regions: BTreeMap<RegionName, Region>,
    lost: Mutex<BTreeMap<RegionName, BootTime>>,
    /// Every trade that there was, in order.
    trades: Arc<Mutex<Vec<Trade>>>,
}

fn source() -> Source {
    Source { venue: VenueId::Kraken, symbol: "BTC/USD".parse().unwrap() }
}

impl World {
    pub async fn new() -> Self {
        let clock = Arc::new(PausedClock(Instant::now()));
        let mut world = Self {
            cluster: Cluster::new(clock.clone()),
            clock,
            net: Arc::default(),
            regions: BTreeMap::new(),
            lost: Mutex::default(),
            trades: Arc::default(),
        };
        for region in REGIONS {
            let fresh = Region { disk: SimDisk::new(), running: None, lives: 0 };
            world.regions.insert(region.into(), fresh);
            world.start(region).await;
        }
        world
    }

    pub async fn running() -> Self {
        let world = Self::new().await;
        world.until("a primary", |w| w.authority(EAST) == Some(1)).await;
        world.run(Duration::from_secs(15)).await;
        world
    }

    pub async fn start(&mut self, name: &str) {
        let own = RegionName::from(name);
        let region = self.regions.get_mut(&own).unwrap();
        region.lives += 1;
        let (lives, disk) = (region.lives, region.disk.clone());
        let life = Arc::new(Life::default());
        let platform = Platform {
            clock: self.clock.clone(),
            random: Arc::new(SeededRandom::new(lives)),
            spawn: life.clone(),
            disk: Arc::new(disk),
        };
        let driver =
            || Driver::Task { spawn: Arc::new(TokioSpawn), sync_delay: Arc::new(|| SYNC_TAKES) };
        let owner = Owner([1; 16]);
        let mut queue = QueueSettings::new("queue", owner);
        queue.segment_bytes = 256 << 10;
        let queue =
            Queue::open(platform.clock.clone(), platform.disk.clone(), queue, Arc::new(driver))
                .unwrap();
        let place = Place { dir: Path::new("warm"), store: None, owner, segment_bytes: 256 << 10 };
        let sink = Sink::open(&platform, place, &warm(), &own, driver()).unwrap();
        let standing = Standing::new(platform.clock.clone());
        self.cluster.listen(&own, standing.clone());
        let numbers: Arc<Mutex<BTreeMap<u64, RegionName>>> = Arc::default();
        let wire = Wire { net: self.net.clone(), own: own.clone(), numbers: numbers.clone() };
        let locate = Box::new(move |number: u64, region: &RegionName, _: &str, _: &str| {
            numbers.lock().unwrap().insert(number, region.clone());
        });
        let regions = Regions::new(Arc::new(wire), platform.clock.clone(), BTreeMap::new(), locate);
        let status = watch::Sender::new(Status::default());
        let reporter = Arc::new(Sources {
            clock: platform.clock.clone(),
            spawn: platform.spawn.clone(),
            standing: standing.clone(),
            regions: regions.clone(),
            queue: queue.clone(),
            scopes: BTreeMap::from([(warm(), (sink.clone(), status.subscribe()))]),
            feeds: BTreeMap::new(),
            proving: Arc::default(),
        });
        let line = Arc::new(Line { cluster: self.cluster.clone(), region: own.clone() });
        let keeper = Keeper::new(
            platform.clone(),
            Caller::new(line),
            standing.clone(),
            reporter,
            WorkerAddresses::default(),
        );
        let consumer = queue.consumer("warm/global").unwrap();
        let feeder = Feeder::new(consumer, BTreeSet::from([source()]), CandleSettings::default());
        let watched = status.subscribe();
        let parts = Parts {
            platform: platform.clone(),
            sink: sink.clone(),
            standing: standing.clone(),
            keeper: keeper.clone(),
            regions: regions.clone(),
            status,
            seal_every: Duration::from_millis(500),
        };
        let service = DataService::new(
            BTreeMap::from([(warm(), sink.clone())]),
            standing.clone(),
            platform.clock.clone(),
        );
        self.net.lock().unwrap().services.insert(own.clone(), Arc::new(service));
        let (work, session) = (CancellationToken::new(), CancellationToken::new());
        let scope = ScopeWorker::new(parts, feeder);
        let scope = life.spawn("scope", Box::pin(scope.run(work.clone())));
        life.spawn("keeper", Box::pin(keeper.clone().run(session.clone())));
        let probe = crate::probe::run(
            platform.clone(),
            regions.clone(),
            own.clone(),
            cryptorun_platform::metrics::Metrics::new(),
            session.clone(),
        );
        life.spawn("probe", Box::pin(probe));
        self.feed(&life, &queue);
        let running =
            Running { life, sink, queue, standing, keeper, status: watched, work, session, scope };
        self.regions.get_mut(&own).unwrap().running = Some(running);
    }

    /// A venue that trades ten times a second; a feed that comes late fetches what it missed.
    fn feed(&self, life: &Arc<Life>, queue: &Queue) {
        let (queue, trades, clock) = (queue.clone(), self.trades.clone(), self.clock.clone());
        life.spawn(
            "feed",
            Box::pin(async move {
                let mut sent = queue
                    .resume(VenueId::Kraken)
                    .get(&source().symbol)
                    .map_or(0, |resume| usize::try_from(resume.last.id).unwrap());
                loop {
                    let now_us = clock.wall().0 * 1000;
                    let mut events = Vec::new();
                    {
                        let mut all = trades.lock().unwrap();
                        let last = all.last().map_or(now_us - 1, |trade| trade.at_us);
                        if now_us >= last + 100_000 || all.is_empty() {
                            let id = all.len() as u64 + 1;
                            all.push(trade(id, now_us));
                        }
                        for trade in all.iter().skip(sent) {
                            events.push(FeedEvent::Trade(trade.clone()));
                        }
                        sent = all.len();
                        events.push(FeedEvent::Watermark { source: source(), at_us: now_us - 1 });
                    }
                    if queue.append(&events).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }),
        );
    }

    /// `kill -9`: what was synced stays, nothing else happens any more.
    pub async fn kill(&mut self, name: &str) {
        let region = self.regions.get_mut(name).unwrap();
        if let Some(running) = region.running.take() {
            running.life.0.lock().unwrap().iter().for_each(tokio::task::AbortHandle::abort);
        }
        self.net.lock().unwrap().services.remove(name);
        region.disk.crash(Keep::Everything);
        region.disk = region.disk.restarted();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// SIGTERM.
    pub async fn stop(&mut self, name: &str) -> Position {
        let region = self.regions.get_mut(name).unwrap();
        let running = region.running.take().unwrap();
        running.work.cancel();
        running.scope.join().await;
        running.keeper.end().await;
        running.session.cancel();
        let end = running.sink.view().end;
        running.sink.close().await.unwrap();
        running.queue.close().await.unwrap();
        running.life.0.lock().unwrap().iter().for_each(tokio::task::AbortHandle::abort);
        self.net.lock().unwrap().services.remove(name);
        region.disk.crash(Keep::Everything);
        region.disk = region.disk.restarted();
        end
    }

    /// The region's processes stand still as far as others can see.
    pub fn freeze(&self, name: &str, frozen: bool) {
        self.isolate(name, frozen);
        let (region, now) = (RegionName::from(name), self.clock.boot());
        let mut lost = self.lost.lock().unwrap();
        match frozen {
            true => drop(lost.insert(region, now)),
            false => drop(lost.remove(&region)),
        }
    }

    /// Cut off from the cluster and from both other regions.
    pub fn isolate(&self, name: &str, away: bool) {
        self.cluster.set_away(name, away);
        for other in REGIONS.iter().filter(|other| **other != name) {
            self.cut(name, other, away);
        }
    }

    pub fn cut(&self, a: &str, b: &str, cut: bool) {
        let (a, b) = (RegionName::from(a), RegionName::from(b));
        let pair = (a.clone().min(b.clone()), a.max(b));
        let mut net = self.net.lock().unwrap();
        match cut {
            true => net.cut.insert(pair),
            false => net.cut.remove(&pair),
        };
    }

    pub async fn run(&self, span: Duration) {
        let end = Instant::now() + span;
        while Instant::now() < end {
            self.step().await;
        }
    }

    async fn step(&self) {
        tokio::time::sleep(STEP).await;
        let now = self.clock.boot();
        let lost = self.lost.lock().unwrap();
        let lost = lost.iter().map(|(region, since)| (region.clone(), Millis::from(now - *since)));
        self.cluster.tick(&lost.collect());
    }

    pub async fn until(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        for _ in 0..1200 {
            if reached(self) {
                return;
            }
            self.step().await;
        }
        for (region, r) in &self.regions {
            let Some(running) = &r.running else { continue };
            let (view, status) = (running.sink.view(), running.status.borrow().clone());
            println!(
                "{region}: {status:?}\n  {view:?}\n  {:?}",
                running.standing.directive(&warm())
            );
        }
        let state = self.cluster.with(|m| format!("{:#?}\n{:#?}", m.scopes(), m.promotions()));
        panic!("never: {what}\n{state}");
    }

    pub fn promote(&self, kind: Kind, to: &str, people: &[&str]) -> PromotionId {
        self.cluster.promote(kind, to, people)
    }

    pub fn is_done(&self, id: PromotionId) -> bool {
        let state = self.cluster.with(|m| m.promotions().get(&id).map(|p| p.state.clone()));
        match state {
            Some(State::Waiting | State::Running) => false,
            Some(State::Ended(Outcome::Done)) => true,
            other => panic!("{id} ended as {other:?}"),
        }
    }

    pub fn is_vacant(&self) -> bool {
        self.cluster.with(|m| m.scopes()[&warm()].phase == Phase::Vacant)
    }

    fn up(&self) -> impl Iterator<Item = &Running> {
        self.regions.values().filter_map(|region| region.running.as_ref())
    }

    fn at(&self, region: &str) -> &Running {
        self.regions[region].running.as_ref().unwrap()
    }

    /// The epoch under which a region writes, if it does.
    pub fn authority(&self, region: &str) -> Option<u64> {
        let running = self.regions[region].running.as_ref()?;
        let held = running.standing.holds(&warm())?;
        let writes = running.status.borrow().role == Role::Primary
            && running.sink.view().last.is_some_and(|last| last.token == held.token);
        writes.then_some(held.token.epoch)
    }

    pub fn end(&self, region: &str) -> Position {
        self.at(region).sink.view().end
    }

    /// All regions within two records of each other, and on one chain.
    pub fn is_level(&self) -> bool {
        let ends: Vec<u64> = self.up().map(|running| running.sink.view().end.seq).collect();
        let (low, high) = (ends.iter().min(), ends.iter().max());
        low.zip(high).is_some_and(|(low, high)| *low > 0 && high - low <= 2)
            && self.up().all(|running| running.sink.view().degraded.is_none())
    }

    pub async fn rows(&self, region: &str) -> u64 {
        self.at(region).sink.with_store(|store| Ok(store.digest()?.1)).await.unwrap()
    }

    pub fn forks(&self) -> Vec<Fork> {
        self.up().flat_map(|running| running.sink.view().forks).collect()
    }

    pub fn journal(&self, region: &str) -> Vec<JournalRange> {
        self.at(region).sink.journal()
    }

    /// From the last visible record of the old reign to the first of the new.
    pub fn write_pause(&self, old: &str, new: &str) -> Duration {
        let visible = |region: &str| {
            let ranges = self.journal(region);
            ranges.into_iter().filter(|r| r.fate == Fate::Visible).collect::<Vec<_>>()
        };
        let last = visible(old).last().unwrap().last_boot_ns;
        let first = visible(new).first().unwrap().first_boot_ns;
        Duration::from_nanos(first.saturating_sub(last))
    }

    /// What every journal together must show: no two reigns visible at once, one chain for all.
    pub fn check(&self) {
        let mut visible: Vec<JournalRange> =
            self.up().flat_map(|r| r.sink.journal()).filter(|r| r.fate == Fate::Visible).collect();
        visible.sort_by_key(|range| range.token);
        for pair in visible.windows(2) {
            assert!(pair[0].last_boot_ns < pair[1].first_boot_ns, "{pair:#?} overlap in time");
        }
        for running in self.up() {
            assert_eq!(running.sink.view().degraded, None);
        }
    }

    /// Each closed minute of the primary holds each of its trades once.
    pub async fn check_candles(&self) {
        let all = self.trades.lock().unwrap().clone();
        let mut wanted: BTreeMap<u64, u64> = BTreeMap::new();
        for trade in &all {
            *wanted.entry(trade.at_us - trade.at_us % 60_000_000).or_default() += 1;
        }
        let stored = self.at(EAST).sink.with_store(|s| s.newest(1000)).await.unwrap();
        assert!(!stored.is_empty());
        let now = stored.last().map(|candle| candle.open_us).unwrap();
        for candle in stored {
            let wanted = wanted[&candle.open_us];
            let open = candle.open_us == now;
            assert!(
                candle.trades == wanted || (open && candle.trades < wanted),
                "{candle:?} where there were {wanted} trades"
            );
        }
    }
}

fn trade(id: u64, at_us: u64) -> Trade {
    Trade {
        source: source(),
        id,
        price: 1_000 + i64::try_from(id % 17).unwrap(),
        qty: 5,
        price_scale: 1,
        qty_scale: 8,
        taker: Side::Buy,
        at_us,
    }
}
