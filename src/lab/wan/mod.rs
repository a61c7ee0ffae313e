//! The wide-area network between the regions of one machine: delay, bandwidth, and cuts.
//!
//! For each directed pair of regions and each purpose there is a loopback listener: whoever stands
//! in region `a` reaches a service of region `b` only through it. Bytes there obey the path `a>b`,
//! bytes back the path `b>a`.
//!
//! A cut behaves as a cut, not as a closed socket: nothing arrives, nobody is told, new connections
//! hang. Bytes under way are held, bounded, and arrive in order after the heal, as retransmissions
//! would. Opening a connection costs a round trip, as it does over an ocean.
//!
//! Deliberately absent: loss and reordering below TCP, UDP.
//! Next: `path.rs` for one direction, `relay.rs` for one connection.

mod path;
mod relay;
#[cfg(test)]
mod tests;
mod timer;

use relay::Way;

use crate::protocol::{Direction, LinkAct, LinkStatus, LinksChanged, RouteStatus};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use cryptorun_platform::clock::Clock;
use path::Path;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections carried at once over one route.
const CONNECTIONS_MAX: usize = 512;
/// Bytes held for one direction of one connection, unless told otherwise.
pub const HOLD_BYTES: usize = 8 * 1024 * 1024;

/// One direction between two regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathSettings {
    pub from: String,
    pub to: String,
    /// One way.
    pub delay: Duration,
    /// Bytes a second.
    pub bandwidth: Option<u64>,
}

impl PathSettings {
    /// Both directions of a link with this round trip.
    pub fn both(a: &str, b: &str, rtt: Duration, bandwidth: Option<u64>) -> [Self; 2] {
        let one = |from: &str, to: &str| Self {
            from: from.into(),
            to: to.into(),
            delay: rtt / 2,
            bandwidth,
        };
        [one(a, b), one(b, a)]
    }
}

/// Where region `from` connects to reach a service of region `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    pub from: String,
    pub to: String,
    /// `raft`, `api`, `data`, …
    pub purpose: String,
    pub listen: SocketAddr,
    pub target: SocketAddr,
}

#[derive(Clone)]
pub struct WanSettings {
    pub paths: Vec<PathSettings>,
    pub routes: Vec<RouteSettings>,
    /// A control port of its own, for a WAN that runs as a process of its own.
    pub control: Option<SocketAddr>,
    pub hold_bytes: usize,
    pub clock: Arc<dyn Clock>,
}

#[derive(Debug, thiserror::Error)]
pub enum WanError {
    #[error("cannot listen on {address} for {purpose}")]
    Listen { purpose: String, address: SocketAddr, source: std::io::Error },
    #[error("a route needs both {from}>{to} and {to}>{from}, and one of these paths is not there")]
    NoPath { from: String, to: String },
    #[error("no region '{region}' on this network; known: {known}")]
    UnknownRegion { region: String, known: String },
    #[error("no link between {a} and {b}")]
    NoLink { a: String, b: String },
    #[error("the control listener of the network stopped")]
    Stopped { source: std::io::Error },
}

/// Carries bytes between regions until `shutdown`.
pub async fn run_wan(settings: WanSettings, shutdown: CancellationToken) -> Result<(), WanError> {
    Wan::bind(settings).await?.run(shutdown).await
}

/// A network that listens and does not carry yet.
pub struct Wan {
    links: Links,
    routes: Vec<(TcpListener, SocketAddr, Way)>,
    control: Option<TcpListener>,
    hold_bytes: usize,
}

impl Wan {
    pub async fn bind(settings: WanSettings) -> Result<Self, WanError> {
        let mut paths = BTreeMap::new();
        for path in settings.paths {
            let PathSettings { from, to, delay, bandwidth } = path;
            let key = (from.clone(), to.clone());
            paths.insert(
                key,
                Arc::new(Path::new(from, to, delay, bandwidth, settings.clock.clone())),
            );
        }
        let mut routes = Vec::new();
        let mut shown: BTreeMap<_, Vec<RouteStatus>> = BTreeMap::new();
        for route in settings.routes {
            let RouteSettings { from, to, purpose, listen: address, target } = route;
            let there = paths.get(&(from.clone(), to.clone()));
            let back = paths.get(&(to.clone(), from.clone()));
            let (Some(there), Some(back)) = (there, back) else {
                return Err(WanError::NoPath { from, to });
            };
            let way = Way { there: there.clone(), back: back.clone() };
            let named = format!("{from}>{to} {purpose}");
            let listener = listen(named.clone(), address).await?;
            let bound = listener.local_addr();
            let bound =
                bound.map_err(|source| WanError::Listen { purpose: named, address, source })?;
            let route = RouteStatus { purpose, listen: bound, target };
            shown.entry((from, to)).or_default().push(route);
            routes.push((listener, target, way));
        }
        let control = match settings.control {
            Some(address) => Some(listen("control".into(), address).await?),
            None => None,
        };
        let links = Links(Arc::new(Table { paths, routes: shown }));
        Ok(Self { links, routes, control, hold_bytes: settings.hold_bytes })
    }

    /// A handle to look at the links and to act on them; any number of them.
    pub fn links(&self) -> Links {
        self.links.clone()
    }

    pub async fn run(self, shutdown: CancellationToken) -> Result<(), WanError> {
        let mut routes = JoinSet::new();
        for (listener, target, way) in self.routes {
            routes.spawn(serve_route(listener, target, way, self.hold_bytes, shutdown.clone()));
        }
        let served = match self.control {
            Some(listener) => axum::serve(listener, self.links.router())
                .with_graceful_shutdown(shutdown.clone().cancelled_owned())
                .await
                .map_err(|source| WanError::Stopped { source }),
            None => Ok(()),
        };
        while routes.join_next().await.is_some() {}
        served
    }
}

async fn listen(purpose: String, address: SocketAddr) -> Result<TcpListener, WanError> {
    TcpListener::bind(address).await.map_err(|source| WanError::Listen { purpose, address, source })
}

async fn serve_route(
    listener: TcpListener,
    target: SocketAddr,
    way: Way,
    hold_bytes: usize,
    shutdown: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            // At the limit the backlog fills and further clients hang, as at a full firewall.
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
        };
        match accepted {
            Ok((near, _)) => {
                connections.spawn(relay::carry(
                    near,
                    target,
                    way.clone(),
                    hold_bytes,
                    shutdown.clone(),
                ));
            }
            Err(error) => {
                tracing::warn!(link = way.there.id(), %error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

/// The links of a network, to be read and acted on while it runs.
#[derive(Clone)]
pub struct Links(Arc<Table>);

struct Table {
    paths: BTreeMap<(String, String), Arc<Path>>,
    routes: BTreeMap<(String, String), Vec<RouteStatus>>,
}

impl Links {
    pub fn status(&self) -> Vec<LinkStatus> {
        let with_routes = |(key, path): (&(String, String), &Arc<Path>)| {
            let routes = self.0.routes.get(key).cloned().unwrap_or_default();
            LinkStatus { routes, ..path.status() }
        };
        self.0.paths.iter().map(with_routes).collect()
    }

    pub fn act(&self, act: &LinkAct) -> Result<LinksChanged, WanError> {
        let mut changed = Vec::new();
        match act {
            LinkAct::Cut { a, b, direction } => {
                for path in self.chosen(Some(a), b.as_deref(), *direction)? {
                    if path.cut() {
                        changed.push(path.id());
                    }
                }
            }
            LinkAct::Heal { a, b, direction } => {
                for path in self.chosen(a.as_deref(), b.as_deref(), *direction)? {
                    if path.heal() {
                        changed.push(path.id());
                    }
                }
            }
            LinkAct::Delay { a, b, rtt_us } => {
                for path in self.chosen(Some(a), b.as_deref(), Direction::Both)? {
                    path.set_delay(Duration::from_micros(rtt_us / 2));
                    changed.push(path.id());
                }
            }
        }
        tracing::info!(?act, ?changed, "links acted on");
        Ok(LinksChanged { changed })
    }

    /// `GET` and `POST /links`: status, and a [`LinkAct`].
    pub fn router(&self) -> Router {
        let status = |State(links): State<Links>| async move { Json(links.status()) };
        let act = |State(links): State<Links>, Json(act): Json<LinkAct>| async move {
            let refused = |error: WanError| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string());
            links.act(&act).map(Json).map_err(refused)
        };
        Router::new().route("/links", get(status).post(act)).with_state(self.clone())
    }

    /// The paths between `a` and `b`, each of them every region when left out.
    fn chosen(
        &self,
        a: Option<&str>,
        b: Option<&str>,
        direction: Direction,
    ) -> Result<Vec<&Arc<Path>>, WanError> {
        let known: BTreeSet<&str> = self.0.paths.keys().map(|(from, _)| from.as_str()).collect();
        for region in [a, b].into_iter().flatten() {
            if !known.contains(region) {
                let known = known.into_iter().collect::<Vec<_>>().join(", ");
                return Err(WanError::UnknownRegion { region: region.into(), known });
            }
        }
        let is = |wanted: Option<&str>, region: &str| wanted.is_none_or(|name| name == region);
        let forward = |from: &str, to: &str| is(a, from) && is(b, to);
        let chosen: Vec<_> = self
            .0
            .paths
            .iter()
            .filter(|((from, to), _)| match direction {
                Direction::Both => forward(from, to) || forward(to, from),
                Direction::AToB => forward(from, to),
                Direction::BToA => forward(to, from),
            })
            .map(|(_, path)| path)
            .collect();
        if chosen.is_empty() {
            let name = |region: Option<&str>| region.unwrap_or("any region").to_owned();
            return Err(WanError::NoLink { a: name(a), b: name(b) });
        }
        Ok(chosen)
    }
}
