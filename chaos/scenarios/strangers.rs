//! Those who may not come in: each is turned away, counted and logged, at every port where they
//! could knock, and stands in the audit where a node turned it away.

use crate::Arguments;
use crate::stranger;
use crate::verdict::Verdicts;
use crate::world::{Trouble, Wish, World, now, page, since};
use bytes::Bytes;
use cryptorun_control::forward::{Failed, Forwarded, Propose, Reply};
use cryptorun_core::command::{Approve, Command, Unpause};
use cryptorun_core::people::Actor;
use cryptorun_core::promotion::PromotionId;
use cryptorun_core::time::Millis;
use cryptorun_core::wire::{AuditPage, NodeSeen};
use cryptorun_lab::demo::layout::{CLUSTER, REGIONS, Site};
use cryptorun_lab::demo::stages::warm;
use cryptorun_platform::framed::{FramedPeers, Target, Timing};
use cryptorun_platform::https::{HttpsClient, Request};
use cryptorun_platform::identity::{Class, SpiffeId};
use cryptorun_platform::net::Peers;
use cryptorun_platform::pki::{Authority, Validity};
use cryptorun_platform::random::OsRandom;
use cryptorun_platform::spawn::TokioSpawn;
use cryptorun_platform::tls::{Expect, TlsFiles, TlsStore};
use cryptorun_raft::codec::Kind;
use cryptorun_raft::codec::rpc;
use cryptorun_raft::network::lane;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const HTTP: &[u8] = b"http/1.1";
const FRAMED: &[u8] = b"cryptorun-framed/1";
const WITHIN: Duration = Duration::from_secs(5);
/// A refusal is counted when its handshake is over, a moment after the stranger knows.
const COUNTED_WITHIN: Millis = Millis::secs(3);
const REFUSED: &str = "cryptorun_tls_refused_total";
const FORWARDS: &str = "cryptorun_forwards_refused_total";

/// A door and who counts there.
struct Door {
    name: String,
    address: SocketAddr,
    protocol: &'static [u8],
    health: SocketAddr,
    process: String,
}

fn doors(site: &Site) -> Vec<Door> {
    let door = |what: &str, address, protocol, health, process: String| Door {
        name: format!("{what} of {}", site.name),
        address,
        protocol,
        health,
        process,
    };
    let (node, worker) = (site.node_process(), site.worker_process());
    vec![
        door("node api", site.node_api, HTTP, site.node_health, node.clone()),
        door("raft port", site.node_raft, FRAMED, site.node_health, node),
        door("worker api", site.worker_api, HTTP, site.worker_health, worker.clone()),
        door("data port", site.worker_data, FRAMED, site.worker_health, worker),
    ]
}

pub async fn run(arguments: &Arguments, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    if !arguments.wants("strangers") {
        return Ok(());
    }
    verdicts.case("strangers");
    let world = World::up(arguments, "strangers", &Wish::default()).await?;
    let done = knock(&world, verdicts).await;
    verdicts.result("the case comes to its end", done);
    verdicts.case("strangers forwarding");
    let done = forge(&world, verdicts).await;
    verdicts.result("the case comes to its end", done);
    world.down(verdicts).await;
    Ok(())
}

async fn knock(world: &World, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    let strangers = Strangers::make(world)?;
    for door in doors(world.site(REGIONS[0])?) {
        let no = |answer: Result<usize, String>| match answer {
            Ok(bytes) => Err(format!("answered {bytes} bytes")),
            Err(why) => Ok(why),
        };
        let none = counted(&door, "no_certificate", verdicts, "no certificate", async || {
            no(stranger::without_certificate(door.address, door.protocol).await)
        });
        none.await;
        let old =
            counted(&door, "tls_version", verdicts, "TLS 1.2", async || {
                match stranger::tls12(door.address).await {
                    Ok((2, 70)) => Ok("alert protocol_version".to_owned()),
                    Ok((level, alert)) => Err(format!("alert {alert} of level {level}")),
                    Err(why) => Err(why),
                }
            });
        old.await;
        for (who, store, reason) in [
            ("another CA", &strangers.other_ca, "unknown_ca"),
            ("another cluster's name", &strangers.other_cluster, "other_cluster"),
        ] {
            let tried =
                counted(&door, reason, verdicts, who, async || try_with(&door, store).await);
            tried.await;
        }
        if door.protocol == FRAMED && door.name.starts_with("raft") {
            let text = "a worker's certificate";
            let tried = counted(&door, "wrong_class", verdicts, text, async || {
                try_with(&door, &strangers.worker).await
            });
            tried.await;
            let tried =
                counted(&door, "wrong_class", verdicts, "a person's certificate", async || {
                    try_with(&door, &strangers.person).await
                });
            tried.await;
        }
    }
    told(world, "login", &["unknown_ca: ", "other_cluster: ", "wrong_class: "], verdicts).await;
    // Those who belong still come in.
    let status = world.ana().status().await;
    verdicts.check("those who belong still come in", status.is_ok(), "GET /v1/status");
    Ok(())
}

/// Knocks, and judges that it was turned away, counted once under its reason, and logged.
async fn counted(
    door: &Door,
    reason: &str,
    verdicts: &mut Verdicts,
    who: &str,
    knock: impl AsyncFnOnce() -> Result<String, String>,
) {
    let label = format!("reason=\"{reason}\"");
    let before = metric(door.health, REFUSED, &label).await.unwrap_or(0);
    let answer = knock().await;
    let begun = now();
    let mut after = before;
    while after == before && since(begun) < COUNTED_WITHIN {
        tokio::time::sleep(Duration::from_millis(50)).await;
        after = metric(door.health, REFUSED, &label).await.unwrap_or(before);
    }
    let text = match &answer {
        Ok(how) => format!("{how}; {REFUSED}{{{label}}} {before} -> {after}"),
        Err(why) => format!("NOT TURNED AWAY: {why}; {REFUSED}{{{label}}} {before} -> {after}"),
    };
    let name = format!("{who} at the {}", door.name);
    verdicts.check(&name, answer.is_ok() && after > before, text);
}

/// The audit tells of refusals about `subject`, one that begins with each of these words at least.
async fn told(world: &World, subject: &str, words: &[&str], verdicts: &mut Verdicts) {
    let path = format!("/v1/audit?about={subject}&limit=1000");
    let begun = now();
    let mut missing = words.to_vec();
    let mut last = String::new();
    while !missing.is_empty() && since(begun) < COUNTED_WITHIN {
        tokio::time::sleep(Duration::from_millis(50)).await;
        match world.ana().get_at::<AuditPage>(0, &path).await {
            Ok(page) => {
                let refused = page.entries.iter().filter(|entry| entry.action == "refused");
                let details: Vec<&str> = refused.map(|entry| entry.detail.as_str()).collect();
                missing.retain(|word| !details.iter().any(|text| text.starts_with(word)));
                last = details.last().copied().unwrap_or_default().to_owned();
            }
            Err(error) => last = error.to_string(),
        }
    }
    let text = match missing.is_empty() {
        true => format!("the last: {last}"),
        false => format!("no entry with {}; the last: {last}", missing.join(", ")),
    };
    verdicts.check(
        &format!("the audit tells of refusals about {subject}"),
        missing.is_empty(),
        text,
    );
}

/// The value of a sample on a health port's page.
async fn metric(health: SocketAddr, name: &str, label: &str) -> Result<u64, String> {
    let page = page(health, "/metrics").await?;
    let line = page.lines().find(|line| line.starts_with(name) && line.contains(label));
    Ok(line
        .and_then(|line| line.rsplit(' ').next())
        .and_then(|value| value.parse().ok())
        .unwrap_or(0))
}

/// Credentials that must not open any door.
struct Strangers {
    other_ca: Arc<TlsStore>,
    other_cluster: Arc<TlsStore>,
    worker: Arc<TlsStore>,
    person: Arc<TlsStore>,
}

impl Strangers {
    fn make(world: &World) -> Result<Self, Trouble> {
        let folder = world.lab.folder.join("strangers");
        let ours = Authority::load(&world.lab.folder.join("pki").join("authority"))?;
        let domain = ours.trust_domain().to_owned();
        let other = Authority::new(&domain, CLUSTER)?;
        let life = Validity::lasting(Duration::from_secs(3600));
        let node = |cluster: &str| SpiffeId::new(&domain, cluster, Class::Node, REGIONS[1], "2");
        let leaf = other.issue(&node(CLUSTER)?, life)?;
        leaf.write(&other, &folder.join("other-ca"))?;
        let leaf = ours.issue(&node("another")?, life)?;
        leaf.write(&ours, &folder.join("other-cluster"))?;
        // It believes the demo's authority too, so that it is the server who turns it away.
        let roots = format!("{}{}", other.cert_pem(), ours.cert_pem());
        std::fs::write(folder.join("other-ca").join("ca.pem"), roots)?;
        let store = |path: &Path| TlsStore::load(TlsFiles::in_folder(path));
        Ok(Self {
            other_ca: store(&folder.join("other-ca"))?,
            other_cluster: store(&folder.join("other-cluster"))?,
            worker: store(&world.lab.identity(&format!("worker-{}", REGIONS[1])))?,
            person: store(&world.lab.identity("ana"))?,
        })
    }
}

/// Knocks with a certificate; how it was turned away.
async fn try_with(door: &Door, store: &Arc<TlsStore>) -> Result<String, String> {
    let expect = Expect::any_of(CLUSTER, &Class::ALL);
    if door.protocol == HTTP {
        let client = HttpsClient::new(store, expect);
        let request = Request::get("/v1/status");
        return match client.send(&door.address.to_string(), request, WITHIN).await {
            Ok(answer) => Err(format!("answered {}", answer.status)),
            Err(error) => Ok(chain(&error)),
        };
    }
    let peers = framed(store, expect, door.address);
    let called = peers.call(1, lane::READ_INDEX, Bytes::new(), WITHIN).await;
    let cause = peers.status().remove(&1).and_then(|status| status.cause).unwrap_or_default();
    match called {
        Err(cryptorun_platform::net::CallError::Unreachable) => Ok(cause),
        other => Err(format!("{other:?}")),
    }
}

fn framed(store: &Arc<TlsStore>, expect: Expect, to: SocketAddr) -> Arc<FramedPeers> {
    // One attempt: each is counted.
    let patience = Duration::from_secs(600);
    let timing = Timing { retry: (patience, patience), ..Timing::default() };
    let peers = BTreeMap::from([(1, Target::at(to.to_string()))]);
    FramedPeers::new(store, expect, peers, timing, Arc::new(TokioSpawn), Arc::new(OsRandom))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

/// A node that belongs here forwards what it may not, in names that are not its own.
async fn forge(world: &World, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    let id = world.ask_switchover(REGIONS[1]).await?;
    let status = world.status().await?;
    let leader = status.at.leader.ok_or_else(|| Trouble::new("no leader"))?;
    let leader = world.site(leader.as_str())?;
    let liar = REGIONS.iter().find(|region| **region != leader.name).copied().unwrap_or(REGIONS[1]);
    let store = TlsStore::load(TlsFiles::in_folder(&world.lab.identity(&format!("node-{liar}"))))?;
    let peers = framed(&store, Expect::nodes(CLUSTER), leader.node_raft);
    let disk = disk_of(world, world.site(liar)?.node).await?;
    let approve = |id: PromotionId| {
        Command::Approve(Approve {
            promotion: id,
            reason: Some("forged".to_owned()),
            certificate: None,
        })
    };
    let resume = || Command::Unpause(Unpause { scope: warm() });
    let other = world
        .lab
        .sites
        .iter()
        .map(|site| site.node)
        .find(|node| Some(*node) != world.site(liar).ok().map(|site| site.node));
    let cases = [
        ("an approval in ben's name", Actor::Person("ben".into()), approve(id), "leader_only"),
        ("an approval in the controller's", Actor::Controller, approve(id), "leader_only"),
        ("a resume in another node's", Actor::Node(other.unwrap_or(0)), resume(), "other_node"),
        ("a resume in the controller's", Actor::Controller, resume(), "controller"),
    ];
    for (what, actor, command, reason) in cases {
        let reasons = [reason];
        let before = forwards(leader, &reasons).await;
        let message = Forwarded::Propose(Box::new(Propose { actor, request: None, command }));
        let reply = send(&peers, disk, &message).await;
        let after = forwards(leader, &reasons).await;
        let refused = matches!(&reply, Ok(Reply::Failed(Failed::Refused { .. })));
        let text = format!("{reply:?}; {FORWARDS} {before} -> {after}");
        verdicts.check(&format!("{what} from {liar}"), refused && after == before + 1, text);
    }
    let logged = world.log_of(&leader.node_process());
    let lines = logged.lines().filter(|line| line.contains("a forwarded command was turned away"));
    let lines = lines.count();
    verdicts.check("each is logged by the leader", lines >= 4, format!("{lines} lines"));
    told(world, &id.to_string(), &["leader_only: approve in the name of ben"], verdicts).await;
    let after = world.promotion(id).await?.promotion;
    let by: Vec<String> = after.approvals.keys().map(ToString::to_string).collect();
    let text = format!("{id} has the approval of {}", by.join(", "));
    verdicts.check("no forged approval counts", by == ["ana"], text);
    let reasons = ["no_certificate", "tls_version", "unknown_ca", "other_cluster", "wrong_class"];
    let logs = doors(world.site(REGIONS[0])?);
    for process in logs.iter().map(|door| &door.process).collect::<std::collections::BTreeSet<_>>()
    {
        let log = world.log_of(process);
        let lines: Vec<&str> = log.lines().filter(|l| l.contains("connection refused")).collect();
        let missing: Vec<&str> = reasons
            .into_iter()
            .filter(|reason| *reason != "wrong_class" || process.starts_with("node"))
            .filter(|reason| !lines.iter().any(|line| line.contains(reason)))
            .collect();
        let text = match missing.is_empty() {
            true => format!("{} lines of refusals in {process}.log", lines.len()),
            false => format!("not in {process}.log: {}", missing.join(", ")),
        };
        verdicts.check("refusals are logged with their reasons", missing.is_empty(), text);
    }
    Ok(())
}

async fn forwards(leader: &Site, reasons: &[&str]) -> u64 {
    let mut sum = 0;
    let reasons: std::collections::BTreeSet<_> = reasons.iter().collect();
    for reason in reasons {
        let label = format!("reason=\"{reason}\"");
        sum += metric(leader.node_health, FORWARDS, &label).await.unwrap_or(0);
    }
    sum
}

/// As a node's own forwarding would write it: a version byte, JSON, the peers' frame.
/// Which disk a node is on, as it says; whoever has taken a node over knows it.
async fn disk_of(world: &World, node: u64) -> Result<u64, Trouble> {
    let nodes: Vec<NodeSeen> =
        world.ana().get_at(0, "/v1/cluster/nodes").await.map_err(Trouble::new)?;
    let disk = nodes.into_iter().find(|seen| seen.node == node).and_then(|n| n.standing?.disk);
    let disk = disk.and_then(|disk| u64::from_str_radix(&disk, 16).ok());
    disk.ok_or_else(|| Trouble::new(format!("node {node} does not say its disk")))
}

async fn send(peers: &FramedPeers, disk: u64, message: &Forwarded) -> Result<Reply, String> {
    let mut body = vec![1];
    serde_json::to_writer(&mut body, message).map_err(|error| error.to_string())?;
    let framed = rpc::opaque(Kind::Forward, &body).map_err(|error| error.to_string())?;
    // From which disk, to whichever (docs/formats.md).
    let message = [&disk.to_be_bytes()[..], &[0; 8], &framed].concat();
    let answer = peers
        .call(1, lane::FORWARD, Bytes::from(message), WITHIN)
        .await
        .map_err(|error| format!("{error:?}"))?;
    let answer = rpc::read_opaque(&answer, Kind::Forwarded).map_err(|error| error.to_string())?;
    match answer.split_first() {
        Some((1, json)) => serde_json::from_slice(json).map_err(|error| error.to_string()),
        _ => Err("an answer of another version".to_owned()),
    }
}
