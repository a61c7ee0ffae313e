//! Three regions and the story of a run: found, disturb, heal, converge.

use crate::clock::SimClock;
use crate::invariants::Event;
use crate::labelled::{self, Label};
use crate::nemesis::Nemesis;
use crate::net::spawn;
use crate::network::{PERSON, WORKER};
use crate::stories::{self, Story};
use crate::world::{Theme, World};
use crate::{boundaries, line, node, people, worker};
use cryptorun_control::api::ReadQuery;
use cryptorun_core::config::{ClusterConfig, Limits, RegionConfig};
use cryptorun_core::machine::Machine;
use cryptorun_core::people::{Grant, OperatorId, Person, Role};
use cryptorun_core::region::RegionName;
use cryptorun_core::scope::{Mode, PartitionWrites, Phase, ScopeId, ScopePolicy, Tier};
use cryptorun_core::time::{Millis, Profile, Timing};
use cryptorun_core::wire::InitRequest;
use cryptorun_platform::disk::{Keep, SimDisk};
use cryptorun_raft::MemoryStore;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Cluster name in certificates.
pub(crate) const NAME: &str = "sim";
/// The three nodes; regions in the order of [`REGIONS`].
pub(crate) const NODES: [u64; 3] = [1, 2, 3];
pub(crate) const REGIONS: [&str; 3] = ["us-east-1", "us-west-2", "eu-west-1"];
/// Whoever may approve.
pub(crate) const APPROVERS: [&str; 3] = ["ana", "ben", "eve"];
/// The scopes that serve as registers for the linearizability checks: nobody holds them.
pub(crate) const REGISTERS: [&str; 3] = ["r1", "r2", "r3"];

/// Short leases, so that much happens in little time.
pub(crate) fn timing() -> Timing {
    Timing::of(Profile::Near)
}

pub(crate) fn region(place: u64) -> &'static str {
    REGIONS[usize::try_from(place.saturating_sub(1)).unwrap_or(0) % 3]
}

/// The scope that everybody fights for.
pub(crate) fn warm() -> ScopeId {
    ScopeId::new(Tier::Warm, "global")
}

fn config(world: &World) -> ClusterConfig {
    let regions = NODES.iter().zip(REGIONS).map(|(node, name)| {
        let (raft, api) = (format!("{node}:7401"), format!("{node}:7400"));
        (RegionName::from(name), RegionConfig { aliases: Vec::new(), node: *node, raft, api })
    });
    let line = |role| Person { grants: vec![Grant { role, tier: None, region: None }] };
    let mut people: BTreeMap<OperatorId, Person> =
        APPROVERS.iter().map(|id| (OperatorId::from(*id), line(Role::Approver))).collect();
    people.insert("root".into(), line(Role::Admin));
    let policy = |members: &[&str], mode, people| ScopePolicy {
        primary: members[0].into(),
        members: members.iter().map(|name| (*name).into()).collect(),
        mode,
        people,
        partition_writes: PartitionWrites::Stop,
        residency: None,
    };
    // There people agree to what is asked; a seed draws neither how many nor how fast.
    let directed = matches!(world.theme, Theme::Boundary | Theme::Story);
    let story = world.options.story;
    // A promotion that goes through would end what is to be named, or begin before its time.
    let asks = world.theme.is_directed() || world.below(2) > 0;
    let mode = if asks { Mode::Approve } else { Mode::Auto };
    let quiet = matches!(world.theme, Theme::OneLink | Theme::ControlOnly);
    let people_needed = if world.below(4) == 0 && !directed { 1 } else { 2 };
    let mut scopes = BTreeMap::from([(warm(), policy(&REGIONS, mode, people_needed))]);
    for (group, home) in REGISTERS.iter().zip(REGIONS) {
        let id = ScopeId::new(Tier::Cold, group);
        scopes.insert(id, policy(&[home], Mode::Observe, 2));
    }
    let hasty = world.below(3) == 0 && !directed;
    let approval = match story {
        Some(Story::OneAwake) => Millis::mins(2), // Ten minutes are to see some expire.
        _ if hasty => Millis::secs(4),
        _ => Millis::mins(30),
    };
    // In 43 s nobody can be called lost who must be watched for a minute.
    let may_wait = !matches!(story, Some(Story::CutForced | Story::SealedWhileBehind));
    // Where a gap of three seconds is too much for a failover, an emergency is what fits.
    let small_gap = directed && story != Some(Story::CutForced);
    let detection = match quiet {
        true => Millis::secs(5),
        // As shipped: a step's deadline is shorter than that, and not longer as with the others.
        false if directed && world.below(3) == 0 && may_wait => Limits::default().detection,
        false => Millis::secs(5 + world.below(4)),
    };
    ClusterConfig {
        version: 1,
        name: NAME.to_owned(),
        timing: timing(),
        regions: regions.collect(),
        people,
        scopes,
        // Short, so that a run of a minute sees whole failovers.
        limits: Limits {
            detection,
            cooldown: Millis::secs(2),
            daily_budget: 1000,
            regrant_max: 1000,
            emergency_age: Millis::secs(15),
            behind_max: Millis::secs(if world.below(2) == 0 || small_gap { 90 } else { 3 }),
            approval,
            ..Limits::default()
        },
    }
}

/// What is left of processes, and how to start and end them.
pub(crate) struct Cluster {
    pub world: Arc<World>,
    pub nodes: BTreeMap<u64, node::Remains>,
    pub workers: BTreeMap<u64, worker::Remains>,
    /// Ends whose disks are at fault: a start may fail for that.
    pub hurt: BTreeSet<u64>,
}

impl Cluster {
    fn new(world: Arc<World>) -> Self {
        let nodes = NODES.map(|id| {
            let remains = node::Remains {
                disk: SimDisk::new(),
                history: SimDisk::new(),
                store: MemoryStore::default(),
                clock: Arc::new(SimClock::draw(&world)),
            };
            (id, remains)
        });
        let workers = NODES.map(|place| {
            let remains = worker::Remains {
                disk: SimDisk::new(),
                clock: Arc::new(SimClock::draw(&world)),
                acknowledged: Arc::default(),
            };
            (place, remains)
        });
        Self { nodes: nodes.into(), workers: workers.into(), hurt: BTreeSet::new(), world }
    }

    /// Starts a node that is down; false where its disk does not let it.
    pub async fn start_node(&mut self, id: u64) -> bool {
        if self.world.state().alive.contains_key(&id) {
            return true;
        }
        let Some(remains) = self.nodes.get_mut(&id) else { return true };
        match node::start(&self.world, id, remains).await {
            Ok(()) => true,
            Err(why) => self.did_not_start(id, &why),
        }
    }

    /// As [`Self::start_node`].
    pub fn start_worker(&mut self, place: u64) -> bool {
        if self.world.state().alive.contains_key(&(WORKER + place)) {
            return true;
        }
        let Some(remains) = self.workers.get_mut(&place) else { return true };
        match worker::start(&self.world, place, remains) {
            Ok(()) => true,
            Err(why) => self.did_not_start(WORKER + place, &why),
        }
    }

    /// A disk at fault is a reason; anything else is not.
    fn did_not_start(&mut self, end: u64, why: &str) -> bool {
        self.world.event(format_args!("{end} does not start: {why}"));
        if !self.hurt.contains(&end) {
            self.world.violation(format!("starts: {end}: {why}"));
        }
        self.world.tally("disk_broken");
        false
    }

    /// Cuts the node's outlets; its tasks run on into nothing.
    pub fn crash_node(&mut self, id: u64, keep: Keep) {
        let world = self.world.clone();
        let handle = {
            let mut state = world.state();
            state.alive.remove(&id);
            state.services.remove(&id);
            state.frozen.remove(&id);
            state.nodes.remove(&id)
        };
        let (Some(handle), Some(remains)) = (handle, self.nodes.get_mut(&id)) else { return };
        world.tally("crashes");
        let pending = remains.disk.pending();
        world.event(format_args!("n{id} CRASH {keep:?}, {pending} changes pending"));
        if pending > 0 {
            world.tally(match keep {
                Keep::Nothing => "crash_unsynced_lost",
                Keep::Everything => "crash_kept",
                Keep::Torn { .. } => "crash_torn",
                Keep::Sectors { .. } => "crash_sectors",
            });
        }
        if handle.node.leadership().borrow().leading {
            world.tally("crash_leader");
        }
        remains.disk.crash(keep);
        crate::mutants::after_crash(&remains.disk);
        remains.history.crash(Keep::Everything);
        // The store may be gone, or be as it was.
        remains.store = if world.below(3) == 0 {
            world.tally("store_lost");
            MemoryStore::default()
        } else {
            world.tally("store_old");
            remains.store.image()
        };
        handle.tasks.thaw();
        spawn(&world, async move { handle.node.abandon().await });
    }

    /// Ends every task of a worker where it stands.
    pub fn crash_worker(&mut self, place: u64, keep: Keep) {
        let (world, end) = (self.world.clone(), WORKER + place);
        let handle = {
            let mut state = world.state();
            state.alive.remove(&end);
            state.services.remove(&end);
            state.frozen.remove(&end);
            state.workers.remove(&end)
        };
        let (Some(handle), Some(remains)) = (handle, self.workers.get_mut(&place)) else { return };
        let pending = remains.disk.pending();
        world.event(format_args!("w{place} CRASH {keep:?}, {pending} changes pending"));
        if pending > 0 {
            world.tally(if keep == Keep::Everything { "worker_killed" } else { "worker_crash" });
        }
        handle.tasks.end();
        remains.disk.crash(keep);
        world.show(&Event::Died { worker: end });
    }

    pub fn nodes_up(&self) -> Vec<u64> {
        self.world.state().nodes.keys().copied().collect()
    }

    pub fn workers_up(&self) -> Vec<u64> {
        self.world.state().workers.keys().map(|end| end - WORKER).collect()
    }

    pub fn leader(&self) -> Option<node::NodeHandle> {
        let state = self.world.state();
        let lead = state.nodes.values().filter(|n| n.node.leadership().borrow().anchored);
        // One that is cut off learns late of the next.
        lead.max_by_key(|n| n.node.leadership().borrow().term).cloned()
    }

    /// Processes whose disks failed stop by themselves, as a supervisor sees it.
    pub fn reap(&mut self) -> Vec<u64> {
        let workers: Vec<_> = self.world.state().workers.values().cloned().collect();
        let mut gone = Vec::new();
        for worker in workers {
            if let Some(why) = worker.failure() {
                self.world.tally("disk_broken");
                self.world.event(format_args!("w{} stops: {why}", worker.end - WORKER));
                self.crash_worker(worker.end - WORKER, Keep::Nothing);
                gone.push(worker.end);
            }
        }
        let nodes: Vec<_> = self.world.state().nodes.values().cloned().collect();
        for handle in nodes {
            let failed = futures_util::FutureExt::now_or_never(handle.node.failed());
            if let Some(why) = failed {
                self.world.tally("disk_broken");
                self.world.event(format_args!("n{} stops: {why}", handle.id));
                self.crash_node(handle.id, Keep::Nothing);
                gone.push(handle.id);
            }
        }
        gone
    }

    /// Founds the cluster through the API, as an operator would.
    async fn found(&mut self) -> bool {
        let config = config(&self.world);
        let Some(root) = line::caller(PERSON + 1, "root") else { return false };
        for _ in 0..10 {
            let (caller, request) =
                (root.clone(), InitRequest { expect: 3, config: config.clone() });
            let asked = line::ask(
                &self.world,
                PERSON + 1,
                1,
                Duration::from_secs(30),
                move |api| async move { api.init(&caller, request).await },
            );
            match asked.await {
                Ok(Ok(_)) => return true,
                other => self.world.event(format_args!("founding: {other:?}")),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        false
    }

    /// All links up, all processes up, and a minute for it: one leader, equal machines, a holder.
    async fn heal_and_converge(&mut self, nemesis: &mut Nemesis, clients: Vec<JoinHandle<()>>) {
        let world = self.world.clone();
        nemesis.heal(self).await;
        world.event(format_args!("healed"));
        world.state().stopping = true;
        let last_words = futures_util::future::join_all(clients);
        if tokio::time::timeout(Duration::from_secs(60), last_words).await.is_err() {
            world.violation("converges: a client is still waiting for an answer".to_owned());
        }
        people::settle(&world).await;
        let mut stopped = 0;
        for round in 0..450 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            // One that noticed late what its disk did before may still stop, once.
            for end in self.reap() {
                stopped += 1;
                if stopped > NODES.len() {
                    world.violation(format!("converges: {end} stops though its disk is healthy"));
                }
                match end {
                    0..WORKER => drop(self.start_node(end).await),
                    _ => drop(self.start_worker(end - WORKER)),
                }
            }
            if round % 5 == 0 && self.is_level() {
                world.event(format_args!("level"));
                return;
            }
        }
        world.violation(format!("converges: {}", self.standing()));
    }

    fn is_level(&self) -> bool {
        let state = self.world.state();
        let mut nodes = state.nodes.values().map(|handle| &handle.node);
        let Some(first) = nodes.next() else { return false };
        let leader = first.leadership().borrow().leader;
        let index = first.applied_index();
        let agreed = leader.is_some()
            && state.nodes.len() == NODES.len()
            && nodes.all(|node| {
                node.leadership().borrow().leader == leader
                    && node.applied_index().abs_diff(index) < 10
            });
        let held = first.with_machine(is_settled);
        let ends: Vec<u64> =
            state.workers.values().map(|worker| worker.sink.view().end.seq).collect();
        let near = ends.iter().max().zip(ends.iter().min()).is_some_and(|(a, b)| a - b <= 2);
        let sound = state.workers.values().all(|w| w.sink.view().degraded.is_none());
        agreed && held && near && sound && state.workers.len() == NODES.len()
    }

    fn standing(&self) -> String {
        let state = self.world.state();
        let nodes: Vec<_> = state
            .nodes
            .values()
            .map(|n| (n.id, *n.node.leadership().borrow(), n.node.applied_index()))
            .collect();
        let workers: Vec<_> = state
            .workers
            .values()
            .map(|w| {
                let (view, status) = (w.sink.view(), w.status.borrow().clone());
                (w.end, status.role, view.end.seq, view.highest, view.sealed, view.degraded)
            })
            .collect();
        let scope = state.nodes.values().next().map(|n| {
            n.node.with_machine(|m| {
                let scope = m.scopes().get(&warm());
                let open: Vec<_> = (m.promotions().values())
                    .filter(|p| p.is_open())
                    .map(|p| (p.id, p.kind, p.state.clone(), p.current().map(|c| c.step)))
                    .collect();
                format!("{:?} {:?} {open:?}", scope.map(|s| &s.phase), scope.map(|s| &s.lease))
            })
        });
        format!("not level 90 s after healing: {nodes:?} {workers:?} {scope:?}")
    }
}

/// The scope is held by a live session, and nothing is under way.
fn is_settled(machine: &Machine) -> bool {
    let Some(scope) = machine.scopes().get(&warm()) else { return false };
    scope.phase == Phase::Active
        && machine.live_lease(&warm()).is_some()
        && machine.promotions().values().all(|promotion| !promotion.is_open())
}

/// The whole run.
pub(crate) async fn story(world: Arc<World>) {
    let mut cluster = Cluster::new(world.clone());
    for id in NODES {
        cluster.start_node(id).await;
    }
    if !cluster.found().await {
        world.violation("founds: the cluster could not be founded in peace".to_owned());
        return;
    }
    for place in NODES {
        cluster.start_worker(place);
    }
    let mut nemesis = Nemesis::new(world.clone());
    let options = &world.options;
    let clients = match (options.label, options.boundary, options.story) {
        (Some(label), ..) => {
            labelled::run(&world, &mut cluster, label).await;
            Vec::new()
        }
        (None, Some(boundary), _) => {
            boundaries::run(&world, &mut cluster, boundary).await;
            Vec::new()
        }
        (None, None, Some(story)) => {
            stories::run(&world, &mut cluster, story).await;
            Vec::new()
        }
        (None, None, None) => {
            let clients = people::start(&world);
            let end = world.now() + Duration::from_secs(world.options.seconds);
            while world.now() < end && !world.is_bad() {
                nemesis.next(&mut cluster).await;
            }
            clients
        }
    };
    if world.is_bad() {
        clients.iter().for_each(JoinHandle::abort);
    } else {
        cluster.heal_and_converge(&mut nemesis, clients).await;
    }
    if !world.is_bad() && (options.boundary.is_some() || options.story.is_some()) {
        boundaries::at_the_end(&world, &cluster).await;
    }
    if !world.is_bad() {
        finish(&world).await;
    }
    if world.options.label == Some(Label::IsolatedSelf) && !world.is_bad() {
        labelled::told_late(&world, &cluster);
    }
    for worker in std::mem::take(&mut world.state().workers).into_values() {
        worker.tasks.end();
    }
    let nodes = std::mem::take(&mut world.state().nodes);
    for handle in nodes.into_values() {
        handle.tasks.end();
        handle.node.abandon().await;
    }
}

/// What can be judged once everybody agrees.
async fn finish(world: &Arc<World>) {
    let Some(handle) = world.state().nodes.values().next().cloned() else { return };
    crate::ending::check(world, &handle).await;
    handle.node.with_machine(|machine| world.show(&Event::End { machine }));
    let Some(root) = line::caller(PERSON + 1, "root") else { return };
    match handle.api.audit_verify(&root, ReadQuery::default()).await {
        Ok(verdict) if verdict.broken_at.is_none() => {}
        other => world.violation(format!("audit_chain: {other:?}")),
    }
}
