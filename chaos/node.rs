//! One life of one node: the Raft node, its log as the control plane sees it, the API's operations,
//! the detector and the controller: everything of `cryptorun node` but HTTP and TLS.

use crate::clock::SimClock;
use crate::cluster::{NAME, NODES, region, timing};
use crate::invariants::Event;
use crate::log::SimLog;
use crate::net::{SimPeers, spawn};
use crate::spawn::{Life, SimSpawn};
use crate::world::World;
use cryptorun_control::api::{Api, Parts, PeerAddress};
use cryptorun_control::forward::Answerer;
use cryptorun_control::history::History;
use cryptorun_control::log::Log;
use cryptorun_control::raft_log::RaftLog;
use cryptorun_control::watch::LeaseWatch;
use cryptorun_control::{controller, detector, door};
use cryptorun_core::position::Hash;
use cryptorun_core::time::Profile;
use cryptorun_platform::Platform;
use cryptorun_platform::disk::SimDisk;
use cryptorun_platform::metrics::Metrics;
use cryptorun_platform::random::SeededRandom;
use cryptorun_platform::spawn::Spawn;
use cryptorun_raft::probe::{Probe, Seen};
use cryptorun_raft::{Io, Member, MemoryStore, Node, NodeSettings};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A node that runs.
#[derive(Clone)]
pub(crate) struct NodeHandle {
    pub id: u64,
    pub life: u64,
    pub node: Arc<Node>,
    pub api: Api,
    pub disk: SimDisk,
    /// What its HTTP front would count in.
    pub metrics: Metrics,
    pub tasks: Arc<Life>,
}

/// What is left of a node between two lives.
pub(crate) struct Remains {
    pub disk: SimDisk,
    /// Reports and decisions, which nothing depends on: a disk of its own, or every crash would be
    /// aimed at it.
    pub history: SimDisk,
    pub store: MemoryStore,
    pub clock: Arc<SimClock>,
}

pub(crate) fn member(id: u64) -> Member {
    Member {
        region: region(id).to_owned(),
        name: format!("node-{id}"),
        raft: format!("{id}:7401"),
        api: format!("{id}:7400"),
        disk: None,
    }
}

pub(crate) fn settings(id: u64) -> NodeSettings {
    let known = NODES.iter().map(|id| (*id, member(*id))).collect();
    NodeSettings::new(id, NAME, PathBuf::from("n"), timing(), known)
}

/// Shows a node's inside to the invariants.
struct Window {
    world: Arc<World>,
    node: u64,
    life: u64,
}

impl Probe for Window {
    fn applied(&self, seen: Seen<'_>) {
        if !self.world.is_alive(self.node, self.life) {
            return; // A dead node's tasks run on into nothing.
        }
        let Seen { log_id, hash, .. } = seen;
        self.world.event(format_args!(
            "n{} applies {log_id} {} {}",
            self.node,
            hash.short(),
            crate::explain::entry(seen)
        ));
        self.world.show(&Event::Applied { node: self.node, seen });
    }

    fn installed(&self, index: u64, hash: Hash) {
        self.world.event(format_args!("n{} installs {index} {}", self.node, hash.short()));
        self.world.tally("snapshot_installed");
        self.world.show(&Event::Installed { node: self.node, index, hash });
    }
}

/// Starts a node on what is left of it; says why it does not start.
pub(crate) async fn start(
    world: &Arc<World>,
    id: u64,
    remains: &mut Remains,
) -> Result<(), String> {
    let life = world.next_life();
    remains.disk = remains.disk.restarted();
    remains.history = remains.history.restarted();
    let mut settings = settings(id);
    let sync = world.clone();
    settings.io = Io::Tasks(Arc::new(move || sync.sync_takes(id)));
    settings.segment_bytes = Some(256 << 10);
    (settings.snapshot_every, settings.keep_entries) = (120, 40);
    settings.probe = Some(Arc::new(Window { world: world.clone(), node: id, life }));
    let tasks = Arc::new(Life::default());
    let platform = Platform {
        clock: remains.clock.clone(),
        random: Arc::new(SeededRandom::new(world.draw())),
        spawn: Arc::new(SimSpawn(tasks.clone())),
        disk: crate::mutants::disk(Arc::new(remains.disk.clone()), crate::mutants::Whose::Node),
    };
    world.event(format_args!("n{id} starts, life {life}"));
    world.state().alive.insert(id, life);
    let peers = Arc::new(SimPeers { me: id, life, world: world.clone(), ends: None });
    let store = crate::mutants::store(remains.store.clone());
    let node = match Node::start(settings, platform.clone(), peers, store).await {
        Ok(node) => Arc::new(node),
        Err(error) => {
            world.state().alive.remove(&id);
            let mut text = error.to_string();
            let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
            while let Some(next) = cause {
                text = format!("{text}: {next}");
                cause = next.source();
            }
            return Err(text);
        }
    };
    let log = SimLog::wrap(RaftLog::new(node.clone(), platform.clone()), world.clone(), life);
    let metrics = Metrics::new();
    let api = api(id, &log, &platform, &remains.history, &metrics).ok_or("no history")?;
    log.set_forward_handler(Arc::new(Answerer(api.clone())));
    let spawner = SimSpawn(tasks.clone());
    spawner.spawn("detector", Box::pin(detector::detect(api.clone())));
    spawner.spawn("door", Box::pin(door::tell(api.clone())));
    spawner.spawn("controller", Box::pin(controller::control(log.clone(), platform.clone())));
    let disk = remains.disk.clone();
    let handle = NodeHandle { id, life, node: node.clone(), api, disk, metrics, tasks };
    {
        let mut state = world.state();
        state.services.insert(id, node.service());
        state.nodes.insert(id, handle);
    }
    spawn(world, watch_leader(world.clone(), node, life));
    Ok(())
}

fn api(
    id: u64,
    log: &Arc<SimLog>,
    platform: &Platform,
    history: &SimDisk,
    metrics: &Metrics,
) -> Option<Api> {
    let history = History::open(Arc::new(history.clone()), 1 << 20).ok()?;
    let others = NODES.into_iter().filter(|other| *other != id);
    Some(Api::new(Parts {
        log: log.clone(),
        platform: platform.clone(),
        region: region(id).into(),
        name: format!("node-{id}"),
        neighbours: Arc::new(()),
        tls: None,
        profile: Profile::Near,
        peers: others
            .map(|n| (n, PeerAddress { region: region(n).into(), api: format!("{n}:7400") }))
            .collect::<BTreeMap<_, _>>(),
        leases: LeaseWatch::default(),
        history: Arc::new(history),
        metrics: metrics.clone(),
    }))
}

/// Shows each leadership this node takes.
async fn watch_leader(world: Arc<World>, node: Arc<Node>, life: u64) {
    let mut leadership = node.leadership();
    while world.is_alive(node.id(), life) {
        let now = *leadership.borrow_and_update();
        if now.anchored {
            world.event(format_args!("n{} leads term {}", node.id(), now.term));
            world.tally("leaderships");
            world.show(&Event::Leads { node: node.id(), term: now.term });
        }
        if leadership.changed().await.is_err() {
            return;
        }
    }
}
