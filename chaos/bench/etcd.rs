//! Three members of etcd on loopback, as it comes: defaults, plain HTTP, its JSON gateway.

use crate::BenchError;
use crate::failover::{ATTEMPT, Probe};
use crate::load::{Asked, Client, Reach, Way};
use crate::streams::{Dialect, Shared, grpc};
use bytes::Bytes;
use cryptorun_lab::demo::layout::Lab;
use cryptorun_lab::ports::PortBlock;
use cryptorun_lab::protocol::Addresses;
use cryptorun_lab::supervisor::{ChildSettings, Supervisor};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::handshake;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// Keys that are written in turn, as the leases of a large installation would be.
const KEYS: u64 = 10_000;
const ELECTED_WITHIN: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// The members, found by who leads.
pub struct Etcd {
    pub pids: Vec<i32>,
    leader: SocketAddr,
    /// Processes by their clients' addresses.
    members: Vec<(String, SocketAddr)>,
}

/// The version that is installed, or none.
pub fn installed() -> Option<String> {
    let output = Command::new("etcd").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next()?.strip_prefix("etcd Version: ").map(str::to_owned)
}

/// The lab's block of 64, then the peer's.
const PORTS_BEHIND: u16 = 64;

impl Etcd {
    /// Three members in a lab, on ports behind its own; none where etcd is not installed.
    pub async fn beside(lab: &Lab, base_port: u16) -> Result<Option<Self>, BenchError> {
        if installed().is_none() {
            return Ok(None);
        }
        let mut ports = PortBlock::take(base_port + PORTS_BEHIND, 8)
            .map_err(|e| BenchError::cannot("ports for etcd", e))?;
        Self::start(&lab.supervisor, &lab.folder.join("etcd"), &mut ports).await.map(Some)
    }

    /// Starts three members under `supervisor` and waits until they have elected.
    async fn start(
        supervisor: &Supervisor,
        folder: &Path,
        ports: &mut PortBlock,
    ) -> Result<Self, BenchError> {
        let mut next = || ports.next_address().map_err(|e| BenchError::cannot("etcd", e));
        let mut members = Vec::new();
        for n in 1..=3 {
            members.push((format!("etcd-{n}"), next()?, next()?));
        }
        let cluster: Vec<String> =
            members.iter().map(|(name, _, peer)| format!("{name}=http://{peer}")).collect();
        let cluster = cluster.join(",");
        let by_address: Vec<(String, SocketAddr)> =
            members.iter().map(|(name, client, _)| (name.clone(), *client)).collect();
        for (name, client, peer) in members {
            let child = member(&folder.join(&name), name, client, peer, &cluster);
            supervisor.start(child).await.map_err(|e| BenchError::cannot("etcd", e))?;
        }
        let leader = elected(&by_address).await?;
        let running = supervisor.status().into_iter().filter(|child| child.role == "etcd");
        Ok(Self {
            pids: running.filter_map(|child| child.pid).collect(),
            leader,
            members: by_address,
        })
    }

    /// Who leads, and who puts something at each of the others until it is acknowledged.
    pub fn before_the_loss(&self) -> (String, Vec<Probe>) {
        let is_leader = |addr: &SocketAddr| *addr == self.leader;
        let leading = self.members.iter().find(|(_, addr)| is_leader(addr));
        let others = self.members.iter().filter(|(_, addr)| !is_leader(addr));
        let probes = others.map(|(_, addr)| Box::pin(put_until_done(*addr)) as Probe).collect();
        (leading.map(|(name, _)| name.clone()).unwrap_or_default(), probes)
    }

    /// Waits until all are there again and have a leader.
    pub async fn lead_again(&mut self) -> Result<(), BenchError> {
        for (_, addr) in &self.members {
            let there = async {
                while post(*addr, "/v3/maintenance/status", "{}").await.is_err() {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            };
            tokio::time::timeout(ELECTED_WITHIN, there)
                .await
                .map_err(|_| BenchError::answer("etcd", "a member does not come back"))?;
        }
        self.leader = elected(&self.members).await?;
        Ok(())
    }

    /// Clients that put `value` bytes under one key after the other.
    pub fn writers(&self, count: usize, value: usize) -> Vec<Client> {
        let value = base64(&vec![b'v'; value]);
        self.clients(count, "/v3/kv/put", move |key| json!({"key": key, "value": value}))
    }

    /// Clients that read one key after the other, linearizably.
    pub fn readers(&self, count: usize) -> Vec<Client> {
        self.clients(count, "/v3/kv/range", |key| json!({"key": key}))
    }

    fn clients(
        &self,
        count: usize,
        path: &'static str,
        body: impl Fn(String) -> Value + Clone + Send + 'static,
    ) -> Vec<Client> {
        (0..count as u64)
            .map(|client| {
                let body = body.clone();
                let ask = move |n: u64, _: &[u8]| Asked {
                    method: Method::POST,
                    path: path.to_owned(),
                    body: body(key(client * 7919 + n)).to_string().into(),
                };
                let way = Way::Own(Reach::Plain(self.leader));
                Client { way, first: Vec::new(), ask: Box::new(ask) }
            })
            .collect()
    }

    /// The same writers over gRPC, so many a connection.
    pub fn grpc_writers(&self, count: usize, value: usize, each: usize) -> Vec<Client> {
        let value = vec![b'v'; value];
        self.grpc(count, each, "/etcdserverpb.KV/Put", move |key| grpc(&[key, &value]))
    }

    /// The same readers over gRPC.
    pub fn grpc_readers(&self, count: usize, each: usize) -> Vec<Client> {
        self.grpc(count, each, "/etcdserverpb.KV/Range", |key| grpc(&[key]))
    }

    fn grpc(
        &self,
        count: usize,
        each: usize,
        path: &'static str,
        body: impl Fn(&[u8]) -> Bytes + Clone + Send + 'static,
    ) -> Vec<Client> {
        let connection = || Shared::new(Reach::Plain(self.leader), Dialect::Grpc);
        let shared: Vec<_> = (0..count.div_ceil(each)).map(|_| connection()).collect();
        (0..count)
            .map(|client| {
                let body = body.clone();
                let ask = move |n: u64, _: &[u8]| Asked {
                    method: Method::POST,
                    path: path.to_owned(),
                    body: body(plain_key(client as u64 * 7919 + n).as_bytes()),
                };
                let way = Way::Shared(Arc::clone(&shared[client / each]));
                Client { way, first: Vec::new(), ask: Box::new(ask) }
            })
            .collect()
    }
}

fn plain_key(n: u64) -> String {
    format!("key-{:06}", n % KEYS)
}

fn key(n: u64) -> String {
    base64(plain_key(n).as_bytes())
}

fn member(
    data: &Path,
    name: String,
    client: SocketAddr,
    peer: SocketAddr,
    cluster: &str,
) -> ChildSettings {
    let pairs = [
        ("--name", name.clone()),
        ("--data-dir", data.display().to_string()),
        ("--listen-client-urls", format!("http://{client}")),
        ("--advertise-client-urls", format!("http://{client}")),
        ("--listen-peer-urls", format!("http://{peer}")),
        ("--initial-advertise-peer-urls", format!("http://{peer}")),
        ("--initial-cluster", cluster.to_owned()),
        ("--log-level", "warn".to_owned()),
    ];
    let args = pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
    ChildSettings {
        name,
        role: "etcd".into(),
        region: None,
        program: PathBuf::from("etcd"),
        args,
        env: Vec::new(),
        addresses: Addresses::new(),
        restart: false,
        stop_order: 0,
        grace: Duration::from_secs(10),
    }
}

/// Who leads, once they have agreed.
async fn elected(members: &[(String, SocketAddr)]) -> Result<SocketAddr, BenchError> {
    let search = async {
        loop {
            for (_, addr) in members {
                let asked = post(*addr, "/v3/maintenance/status", "{}").await;
                let Ok(status) = asked else { continue };
                let own = status.pointer("/header/member_id");
                if own.is_some() && own == status.get("leader") {
                    return *addr;
                }
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    tokio::time::timeout(ELECTED_WITHIN, search)
        .await
        .map_err(|_| BenchError::answer("etcd", "no leader within 30 s"))
}

async fn put_until_done(addr: SocketAddr) {
    let put = json!({"key": key(1), "value": base64(b"v")}).to_string();
    loop {
        let put = post(addr, "/v3/kv/put", &put);
        if let Ok(Ok(done)) = tokio::time::timeout(ATTEMPT, put).await
            && done.get("header").is_some()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn post(
    addr: SocketAddr,
    path: &str,
    body: &str,
) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
    let tcp = TcpStream::connect(addr).await?;
    let (mut sender, connection) = handshake(TokioIo::new(tcp)).await?;
    tokio::spawn(connection);
    let request = Request::post(path)
        .header("host", "localhost")
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
    let body = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice(&body)?)
}

/// What etcd's JSON carries keys and values in.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { digit as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_of_each_length() {
        let texts = ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes()));
        assert_eq!(texts, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }
}
