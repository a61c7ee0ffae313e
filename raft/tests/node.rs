//! Three nodes in one process: their peers' calls go straight to each other's service.

use super::*;
use crate::read::Consistency;
use crate::settings::Io;
use crate::state_store::MemoryStore;
use cryptorun_core::command::{Command, Found, OpenSession, Outcome, PauseScope};
use cryptorun_core::config::{ClusterConfig, ClusterId, Limits};
use cryptorun_core::people::Actor;
use cryptorun_core::scope::{ScopeId, Tier};
use cryptorun_core::session::{SessionKey, WorkerAddresses};
use cryptorun_core::time::{LogTime, Millis, Profile, WallTime};
use cryptorun_platform::clock::Clock;
use cryptorun_platform::disk::{Disk, Keep, SimDisk};
use cryptorun_platform::identity::{Class, SpiffeId};
use cryptorun_platform::net::{Duplex, Peer};
use cryptorun_platform::random::SeededRandom;
use cryptorun_platform::spawn::TokioSpawn;
use std::path::PathBuf;

/// Follows tokio's paused time.
struct SimClock(tokio::time::Instant);

impl Clock for SimClock {
    fn boot(&self) -> BootTime {
        BootTime(1_000_000_000) + self.0.elapsed()
    }
    fn raw(&self) -> Duration {
        self.0.elapsed()
    }
    fn wall(&self) -> WallTime {
        WallTime(1_735_689_600_000)
    }
}

type Services = Arc<Mutex<BTreeMap<u64, Arc<dyn Service>>>>;

/// One node's peers: everybody in the map, at once.
struct Direct {
    me: u64,
    services: Services,
}

impl Direct {
    fn target(&self, to: u64) -> Result<(Arc<dyn Service>, Peer), CallError> {
        let services = lock(&self.services);
        // A node that is off neither answers nor asks.
        if !services.contains_key(&self.me) {
            return Err(CallError::Unreachable);
        }
        let service = services.get(&to).cloned().ok_or(CallError::Unreachable)?;
        let member = member(self.me);
        let id = SpiffeId::new("t", "test", Class::Node, &member.region, &member.name);
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        Ok((service, Peer::named(addr, id.expect("is an id"))))
    }
}

#[async_trait]
impl Peers for Direct {
    async fn call(
        &self,
        to: u64,
        kind: u8,
        body: Bytes,
        ttl: Duration,
    ) -> Result<Bytes, CallError> {
        let (service, me) = self.target(to)?;
        let answer = tokio::time::timeout(ttl, service.call(&me, kind, body)).await;
        answer.map_err(|_| CallError::TimedOut)?.map_err(|no| CallError::Refused(no.0))
    }

    async fn stream(&self, to: u64, kind: u8) -> Result<Duplex, CallError> {
        let (service, me) = self.target(to)?;
        let (near, far) = Duplex::pair(64);
        tokio::spawn(async move { service.stream(&me, kind, far).await });
        Ok(near)
    }
}

fn member(id: u64) -> Member {
    Member {
        region: format!("region-{id}"),
        name: format!("n{id}"),
        raft: format!("127.0.0.1:{id}"),
        api: String::new(),
        disk: None,
    }
}

struct Cluster {
    services: Services,
    starts: u64,
    nodes: BTreeMap<u64, (Node, SimDisk)>,
}

impl Cluster {
    async fn of_three() -> Self {
        let mut cluster = Self { services: Services::default(), starts: 0, nodes: BTreeMap::new() };
        for id in 1..=3 {
            cluster.start(id, SimDisk::new(), MemoryStore::default()).await;
        }
        let members = (1..=3).map(|id| (id, cluster.joining(id))).collect();
        cluster.node(1).initialize(members).await.expect("initializes");
        cluster.leader().await;
        cluster
    }

    async fn start(&mut self, id: u64, disk: SimDisk, store: MemoryStore) {
        self.starts += 1;
        let known = (1..=4).map(|id| (id, member(id))).collect();
        let timing = Timing::of(Profile::Local);
        let mut settings = NodeSettings::new(id, "test", PathBuf::from("n"), timing, known);
        settings.io = Io::Tasks(Arc::new(|| Duration::from_millis(1)));
        settings.segment_bytes = Some(256 << 10);
        (settings.snapshot_every, settings.keep_entries) = (50, 10);
        let on: Arc<dyn Disk> = Arc::new(disk.clone());
        let platform = Platform {
            clock: Arc::new(SimClock(tokio::time::Instant::now())),
            random: Arc::new(SeededRandom::new(self.starts)),
            spawn: Arc::new(TokioSpawn),
            disk: on,
        };
        let peers = Arc::new(Direct { me: id, services: self.services.clone() });
        let node = Node::start(settings, platform, peers, Arc::new(store)).await.expect("starts");
        lock(&self.services).insert(id, node.service());
        self.nodes.insert(id, (node, disk));
    }

    /// As a node joins: with its disk.
    fn joining(&self, id: u64) -> Member {
        Member { disk: Some(self.node(id).disk()), ..member(id) }
    }

    /// Pulls the plug; the disk is what is left.
    fn crash(&mut self, id: u64) -> SimDisk {
        lock(&self.services).remove(&id);
        let (node, disk) = self.nodes.remove(&id).expect("is on");
        disk.crash(Keep::Nothing);
        tokio::spawn(async move { node.0.raft.shutdown().await });
        disk.restarted()
    }

    fn node(&self, id: u64) -> &Node {
        &self.nodes[&id].0
    }

    async fn leader(&self) -> u64 {
        for _ in 0..10_000 {
            let leads = |(_, (node, _)): &(&u64, &(Node, _))| node.leadership().borrow().anchored;
            if let Some((id, _)) = self.nodes.iter().find(leads) {
                return *id;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("nobody leads");
    }

    async fn propose(&self, actor: Actor, command: Command) -> Committed {
        for _ in 0..100 {
            let leader = self.leader().await;
            let node = self.node(leader);
            if let Ok(done) = node.propose(actor.clone(), None, None, command.clone()).await {
                return done;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nobody takes a proposal");
    }

    async fn found(&self) -> Committed {
        let config = ClusterConfig {
            version: 1,
            name: "test".to_owned(),
            timing: Timing::of(Profile::Local),
            regions: BTreeMap::new(),
            people: BTreeMap::new(),
            scopes: BTreeMap::new(),
            limits: Limits::default(),
        };
        let found = Command::Found(Found { id: ClusterId(7), config });
        self.propose(Actor::Node(1), found).await
    }

    async fn level(&self) {
        let last = self.leader().await;
        let index = self.node(last).read(Consistency::Linearizable).await.expect("reads").index;
        for (node, _) in self.nodes.values() {
            node.wait_applied(index, Duration::from_secs(30)).await.expect("catches up");
        }
    }
}

use crate::propose::Committed;

fn session(number: u64) -> Command {
    let session = SessionKey { worker: "w".into(), boot: number };
    let addresses = WorkerAddresses::default();
    Command::OpenSession(OpenSession { session, region: "region-1".into(), addresses })
}

fn worker() -> Actor {
    Actor::Worker("w".to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_command_is_answered_and_read_on_every_node() {
    let cluster = Cluster::of_three().await;
    let done = cluster.found().await;
    assert_eq!(done.answer, Ok(Outcome::Done));
    for (node, _) in cluster.nodes.values() {
        let read = node.read(Consistency::Linearizable).await.expect("reads");
        assert!(read.index >= done.index);
        let id = node.with_machine(|machine| machine.cluster().map(|cluster| cluster.id));
        assert_eq!(id, Some(ClusterId(7)));
    }
    cluster.level().await;
    let hashes: BTreeSet<_> = cluster.nodes.values().map(|(node, _)| node.state_hash()).collect();
    assert_eq!(hashes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_appended_is_in_flight_until_it_is_applied_or_nobody_asks_any_more() {
    let cluster = Cluster::of_three().await;
    cluster.found().await;
    let leader = cluster.node(cluster.leader().await);
    let mut appended = leader.appended();
    let shown = || leader.in_flight().into_values().map(|entry| entry.command.clone());
    for awaited in [true, false] {
        let command = session(u64::from(awaited));
        let mut answer = Box::pin(leader.propose(worker(), None, None, command.clone()));
        tokio::select! {
            biased;
            answer = &mut answer => panic!("committed at once: {answer:?}"),
            changed = appended.changed() => changed.expect("it lives"),
        }
        assert_eq!(shown().collect::<Vec<_>>(), [command]);
        if awaited {
            assert_eq!(answer.await.map(|done| done.answer.is_ok()), Ok(true));
        } else {
            drop(answer);
        }
        assert_eq!(shown().next(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn followers_say_who_leads_and_append_nothing() {
    let cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    for (id, (node, _)) in cluster.nodes.iter().filter(|(id, _)| **id != leader) {
        let said = node.propose(worker(), None, None, Command::Tick).await;
        let expected = crate::ProposeError::NotLeader { leader: Some(leader) };
        assert_eq!(said, Err(expected), "node {id}");
    }
}

#[tokio::test(start_paused = true)]
async fn log_time_grows_across_leaders_and_stands_without_one() {
    let mut cluster = Cluster::of_three().await;
    cluster.found().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = cluster.propose(worker(), session(1)).await.stamp.log;
    assert!(before >= LogTime(5_000), "{before}");
    let dead = cluster.leader().await;
    let disk = cluster.crash(dead);
    let after = cluster.propose(worker(), session(2)).await.stamp.log;
    assert!(after >= before);
    // What passed without a leader is not counted: at least the followers' lease for the old one.
    assert!(after.since(before).0 < 300, "{before} {after}");
    cluster.start(dead, disk, MemoryStore::default()).await;
    cluster.level().await;
}

#[tokio::test(start_paused = true)]
async fn leadership_moves_on_request_and_before_a_shutdown() {
    let cluster = Cluster::of_three().await;
    cluster.found().await;
    let first = cluster.leader().await;
    let second = cluster.nodes.keys().copied().find(|id| *id != first).expect("three nodes");
    cluster.node(first).transfer_leader(second).await.expect("hands over");
    assert_eq!(cluster.leader().await, second);
    cluster.propose(worker(), session(1)).await;
    lock(&cluster.services).contains_key(&second);
    cluster.node(second).shutdown().await;
    lock(&cluster.services).remove(&second);
    let third = cluster.node(first).leadership().borrow().leader;
    assert!(third.is_some_and(|id| id != second), "{third:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_away_gets_a_snapshot_and_its_audit_bodies() {
    let mut cluster = Cluster::of_three().await;
    cluster.found().await;
    let away = cluster.nodes.keys().copied().find(|id| *id != 1).expect("three nodes");
    let away = if cluster.leader().await == away { 1 } else { away };
    let disk = cluster.crash(away);
    for number in 1..200 {
        cluster.propose(worker(), session(number)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let leader = cluster.leader().await;
    assert!(cluster.node(leader).metrics().purged > Some(100), "the log was not cut");
    cluster.start(away, disk, MemoryStore::default()).await;
    cluster.level().await;
    assert_eq!(cluster.node(away).state_hash(), cluster.node(leader).state_hash());
    tokio::time::sleep(Duration::from_secs(30)).await;
    let theirs = cluster.node(leader).audit(1, 1000).await.expect("reads");
    let ours = cluster.node(away).audit(1, 1000).await.expect("reads");
    assert!(!theirs.is_empty());
    assert_eq!(ours, theirs);
}

#[tokio::test(start_paused = true)]
async fn all_three_come_back_from_a_power_cut_with_everything_acknowledged() {
    let mut cluster = Cluster::of_three().await;
    cluster.found().await;
    let mut last = 0;
    for number in 1..90 {
        last = cluster.propose(worker(), session(number)).await.index;
    }
    let disks: Vec<(u64, SimDisk)> = (1..=3).map(|id| (id, cluster.crash(id))).collect();
    for (id, disk) in disks {
        cluster.start(id, disk, MemoryStore::default()).await;
    }
    cluster.level().await;
    for (node, _) in cluster.nodes.values() {
        assert!(node.applied_index() >= last);
        let open = node.with_machine(|machine| machine.sessions().len());
        assert!(open > 0);
    }
}

/// A leader without room hands over before anything stops; it takes part as soon as there is some.
/// Those who heard the last leader go first; where nobody did, one of the started ones does.
#[tokio::test(start_paused = true)]
async fn a_node_that_has_just_started_lets_others_stand_for_election_first() {
    let mut cluster = Cluster::of_three().await;
    cluster.found().await;
    let old = cluster.leader().await;
    let disk = cluster.crash(old);
    cluster.start(old, disk, MemoryStore::default()).await;
    assert_ne!(cluster.leader().await, old);
    let all: Vec<u64> = cluster.nodes.keys().copied().collect();
    let disks: Vec<_> = all.iter().map(|id| (*id, cluster.crash(*id))).collect();
    let started = tokio::time::Instant::now();
    for (id, disk) in disks {
        cluster.start(id, disk, MemoryStore::default()).await;
    }
    cluster.leader().await;
    let (took, longest) =
        (started.elapsed(), Timing::of(Profile::Local).election_max.to_duration());
    assert!((2 * longest..4 * longest).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_gives_the_lead_away_and_comes_back_alone() {
    let mut cluster = Cluster::of_three().await;
    cluster.found().await;
    cluster.level().await;
    let full = cluster.leader().await;
    let disk = cluster.nodes[&full].1.clone();
    disk.set_capacity(Some(0));
    let mut refused = None;
    let mut last = 0;
    for number in 1..20_000 {
        if cluster.node(full).no_space().is_some() {
            let pause = Command::Pause(PauseScope {
                scope: ScopeId::new(Tier::Warm, "global"),
                reason: "to see".to_owned(),
                span: Millis::mins(1),
            });
            refused = Some(cluster.node(full).propose(Actor::Node(1), None, None, pause).await);
            break;
        }
        last = cluster.propose(worker(), session(number)).await.index;
    }
    match refused.expect("the log never wanted another segment") {
        Err(crate::ProposeError::NoSpace(short)) => {
            assert!(short.path.starts_with("n"), "{short}");
            assert_eq!(short.free, Some(0));
        }
        other => panic!("{other:?}"),
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let leader = cluster.leader().await;
    assert_ne!(leader, full, "it still leads");
    for number in 20_000..22_000 {
        last = cluster.propose(worker(), session(number)).await.index;
    }
    let fatal = tokio::time::timeout(Duration::from_secs(60), cluster.node(full).failed()).await;
    assert!(fatal.is_err(), "{fatal:?}");

    disk.set_capacity(None);
    cluster.node(full).wait_applied(last, Duration::from_secs(60)).await.expect("catches up");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(cluster.node(full).no_space(), None);
    let disk = cluster.crash(full);
    cluster.start(full, disk, MemoryStore::default()).await;
    cluster.level().await;
    assert!(cluster.node(full).applied_index() >= last);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_and_an_impostor_are_refused() {
    let cluster = Cluster::of_three().await;
    let service = cluster.node(1).service();
    let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let peer = |class, region: &str, name: &str| {
        let id = SpiffeId::new("t", "test", class, region, name);
        Peer::named(addr, id.expect("is an id"))
    };
    let vote = crate::types::Vote::new(99, 2);
    let ask = crate::codec::rpc::AskVote::new(vote, None);
    let ask = crate::codec::rpc::ask_vote(&ask).expect("encodes");
    let body = cluster.node(2).0.disks.seal(1, &ask);
    for stranger in [
        peer(Class::Worker, "region-2", "n2"),
        peer(Class::Node, "region-9", "n9"),
        peer(Class::Node, "region-3", "n3"),
    ] {
        let said = service.call(&stranger, lane::VOTE, body.clone()).await;
        assert!(said.is_err(), "{stranger:?}");
    }
    let itself = peer(Class::Node, "region-2", "n2");
    assert!(service.call(&itself, lane::VOTE, body).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_wiped_node_has_no_voice_until_it_joins_under_another_number() {
    let mut cluster = Cluster::of_three().await;
    cluster.found().await;
    cluster.level().await;
    let leader = cluster.leader().await;
    let wiped = (1..=3).find(|id| *id != leader).expect("a follower");
    let other = (1..=3).find(|id| *id != leader && *id != wiped).expect("another");

    cluster.crash(wiped);
    cluster.start(wiped, SimDisk::new(), MemoryStore::default()).await;
    let done = cluster.propose(worker(), session(1)).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(cluster.node(wiped).applied_index(), 0, "it took appends meant for its past");

    // With another member gone there is no quorum: the wiped node's vote is nobody's.
    let disk = cluster.crash(other);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let read = cluster.node(leader).read(Consistency::Linearizable).await;
    assert!(read.is_err(), "{read:?}");
    cluster.start(other, disk, MemoryStore::default()).await;
    cluster.propose(worker(), session(2)).await;

    lock(&cluster.services).remove(&wiped);
    cluster.nodes.remove(&wiped);
    cluster.start(4, SimDisk::new(), MemoryStore::default()).await;
    let joining = cluster.joining(4);
    let leader = cluster.leader().await;
    cluster.node(leader).add_learner(4, joining).await.expect("follows");
    cluster.node(leader).replace(wiped, 4).await.expect("votes in its place");
    cluster.level().await;
    assert!(cluster.node(4).applied_index() >= done.index);
    let members = cluster.node(leader).members();
    assert_eq!(members.voters, BTreeSet::from([leader, other, 4]));
    assert!(!members.nodes.contains_key(&wiped));
}

/// The same on real files, threads and sled, in real time: nothing here waits by sleeping.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_disks_threads_and_sled_come_back_with_everything() {
    let root = tempfile::tempdir().expect("a directory");
    let services = Services::default();
    let start = async |id: u64| {
        let known = (1..=3).map(|id| (id, member(id))).collect();
        let timing = Timing::of(Profile::Near);
        let mut settings = NodeSettings::new(id, "test", PathBuf::from("n"), timing, known);
        settings.segment_bytes = Some(1 << 20);
        (settings.snapshot_every, settings.keep_entries) = (100, 10);
        let platform = Platform::real(root.path().join(id.to_string()));
        platform.disk.create_dir_all(std::path::Path::new("n")).expect("makes");
        let at = platform.disk.show(std::path::Path::new("n/state"));
        let store = Arc::new(crate::SledStore::open(&at).expect("opens"));
        let peers = Arc::new(Direct { me: id, services: services.clone() });
        let node = Node::start(settings, platform, peers, store).await.expect("starts");
        lock(&services).insert(id, node.service());
        node
    };
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(start(id).await);
    }
    let members = (1..=3).map(|id| (id, member(id))).collect();
    nodes[0].initialize(members).await.expect("initializes");
    let mut leadership = nodes[0].leadership();
    leadership.wait_for(|now| now.anchored).await.expect("leads");
    let config = ClusterConfig {
        version: 1,
        name: "test".to_owned(),
        timing: Timing::of(Profile::Near),
        regions: BTreeMap::new(),
        people: BTreeMap::new(),
        scopes: BTreeMap::new(),
        limits: Limits::default(),
    };
    let found = Command::Found(Found { id: ClusterId(7), config });
    let done = nodes[0].propose(Actor::Node(1), None, None, found).await.expect("commits");
    assert_eq!(done.answer, Ok(Outcome::Done));
    let mut last = done.index;
    for number in 1..=300 {
        let done = nodes[0].propose(worker(), None, None, session(number)).await;
        last = done.expect("commits").index;
    }
    for node in &nodes {
        node.wait_applied(last, Duration::from_secs(20)).await.expect("applies");
    }
    let before = nodes[0].with_machine(|machine| machine.sessions().clone());
    for (node, id) in nodes.iter().zip(1..) {
        lock(&services).remove(&id);
        node.shutdown().await;
    }
    drop(nodes);
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(start(id).await);
    }
    for node in &nodes {
        node.wait_applied(last, Duration::from_secs(20)).await.expect("applies again");
        let after = node.with_machine(|machine| machine.sessions().clone());
        assert_eq!(after, before);
        assert!(!node.audit(1, 10).await.expect("reads").is_empty());
    }
}
