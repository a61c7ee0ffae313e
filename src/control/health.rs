//! Health for load balancers, and metrics: plain HTTP on its own port, the same under mutual TLS.
//!
//! Everything here is this node's own view, at once and without a quorum: a load balancer must get an
//! answer from a node that is cut off, above all then. 200 is yes, 503 is no; the body says why.
//!
//! Deliberately absent: names of people, reasons, positions: this port knows no identities.

use crate::api::Api;
use crate::views;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use cryptorun_core::machine::Machine;
use cryptorun_core::scope::{ScopeId, Tier};
use cryptorun_core::time::Millis;
use cryptorun_core::wire::PartitionState;
use cryptorun_platform::metrics::{CONTENT_TYPE, Metrics};
use cryptorun_platform::settings::parse_duration;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the health routes work with.
#[derive(Clone)]
pub struct Health {
    /// The operations, for what they know.
    pub api: Api,
    /// The page.
    pub metrics: Metrics,
}

/// The health routes.
pub fn routes(health: Health) -> Router {
    Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/leader", get(leader))
        .route("/holder", get(holder))
        .route("/lag", get(lag))
        .route("/partition", get(partition))
        .route("/health", get(whole))
        .route("/metrics", get(metrics))
        .with_state(health)
}

/// `GET /health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// Whether this node can do its work.
    pub ready: bool,
    /// Whether it leads.
    pub leader: bool,
    /// Whether the cluster was founded.
    pub founded: bool,
    /// Its region and quorum.
    #[serde(flatten)]
    pub partition: PartitionState,
    /// Applied index.
    pub index: u64,
    /// Phase and holder of each scope, as this node knows it.
    pub scopes: BTreeMap<String, String>,
    /// What is diagnosed.
    pub diagnoses: Vec<String>,
    /// Where this host's file and the cluster disagree.
    pub config_drift: Vec<String>,
}

async fn live() -> &'static str {
    "live\n"
}

fn verdict(yes: bool, text: String) -> Response {
    let status = if yes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{text}\n")).into_response()
}

async fn ready(State(health): State<Health>) -> Response {
    let (ready, why) = health.api.readiness();
    verdict(ready, why.to_owned())
}

async fn leader(State(health): State<Health>) -> Response {
    let now = *health.api.log().leadership().borrow();
    let text = match now.leader {
        _ if now.here => "this node leads".to_owned(),
        Some(leader) => format!("node {leader} leads"),
        None => "no leader is known".to_owned(),
    };
    verdict(now.here, text)
}

#[derive(Deserialize)]
struct HolderQuery {
    scope: String,
}

async fn holder(State(health): State<Health>, Query(query): Query<HolderQuery>) -> Response {
    let Ok(id) = query.scope.parse::<ScopeId>() else {
        return (StatusCode::BAD_REQUEST, "scope must be like warm/global\n").into_response();
    };
    let region = health.api.region().clone();
    // Without a quorum a lease that was live may have been given to somebody else.
    let partitioned = health.api.partition().partition_mode;
    let holder = health.api.look(|machine, _| {
        let scope = machine.scopes().get(&id)?;
        Some(views::live_holder(machine, scope).map(|session| session.region.clone()))
    });
    match holder {
        None => (StatusCode::NOT_FOUND, format!("no scope {id}\n")).into_response(),
        Some(None) => verdict(false, format!("nobody holds {id}")),
        Some(Some(holder)) => {
            verdict(holder == region && !partitioned, format!("{holder} holds {id}"))
        }
    }
}

#[derive(Deserialize)]
struct LagQuery {
    tier: Tier,
    max: String,
}

async fn lag(State(health): State<Health>, Query(query): Query<LagQuery>) -> Response {
    let max = match parse_duration(&query.max) {
        Ok(max) => Millis::from(max),
        Err(why) => {
            return (StatusCode::BAD_REQUEST, format!("max {why}, for example 90s\n"))
                .into_response();
        }
    };
    let wall = health.api.parts().platform.clock.wall();
    let region = health.api.region().clone();
    let worst = health.api.look(|machine, _| {
        machine
            .scopes()
            .values()
            .filter(|s| s.id.tier == query.tier && s.policy.members.contains(&region))
            .map(|scope| {
                let sinks = views::sinks(machine, scope, wall);
                sinks.get(&region).and_then(|sink| sink.reported.and(sink.age))
            })
            // A sink that reports nothing is worse than any age.
            .map(|age| age.unwrap_or(Millis(u64::MAX)))
            .max()
    });
    match worst {
        None => (StatusCode::NOT_FOUND, format!("no {} scope here\n", query.tier)).into_response(),
        Some(Millis(u64::MAX)) => verdict(false, "no data is reported here".to_owned()),
        Some(age) => verdict(age <= max, format!("{age}")),
    }
}

async fn partition(State(health): State<Health>) -> Json<PartitionState> {
    Json(health.api.partition())
}

async fn whole(State(health): State<Health>) -> Response {
    let api = &health.api;
    let (ready, _) = api.readiness();
    let lost = api.log().quorum_lost_for();
    let report = api.look(|machine, index| HealthReport {
        ready,
        leader: api.log().leadership().borrow().here,
        founded: machine.cluster().is_some(),
        partition: api.partition_of(machine, lost),
        index,
        scopes: machine
            .scopes()
            .values()
            .map(|scope| {
                let holder = views::live_holder(machine, scope);
                let holder = holder.map_or("nobody".to_owned(), |s| s.region.to_string());
                (scope.id.to_string(), format!("{}, held by {holder}", scope.phase))
            })
            .collect(),
        diagnoses: views::diagnoses(machine, lost).iter().map(|d| d.class.to_string()).collect(),
        config_drift: Vec::new(),
    });
    let report = HealthReport { config_drift: api.drift(), ..report };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

async fn metrics(State(health): State<Health>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], health.metrics.render()).into_response()
}

/// A leader that lost its followers needs no longer than two elections to be sure.
fn partition_after(machine: &Machine) -> Millis {
    machine.timing().map_or(Millis::secs(5), |timing| Millis(timing.election_max.0 * 2))
}

impl Api {
    /// Whether this region has a quorum.
    pub fn partition(&self) -> PartitionState {
        // Asked before looking: the log may hold its machine while it is looked at.
        let lost = self.log().quorum_lost_for();
        self.look(|machine, _| self.partition_of(machine, lost))
    }

    fn partition_of(&self, machine: &Machine, lost: Option<Millis>) -> PartitionState {
        let lost = lost.filter(|_| machine.cluster().is_some());
        let partition_mode = lost.is_some_and(|lost| lost >= partition_after(machine));
        PartitionState {
            partition_mode,
            since: lost.filter(|_| partition_mode),
            region: self.region().clone(),
        }
    }

    /// Whether this node can do its work, and why not.
    fn readiness(&self) -> (bool, &'static str) {
        let full = self.log().no_space().is_some();
        let leader = self.log().leadership().borrow().leader.is_some();
        match self.look(|machine, _| machine.cluster().is_some()) {
            false => (false, "waiting to be founded or joined"),
            true if self.partition().partition_mode => (false, "partition mode: no quorum"),
            true if !leader => (false, "no leader is known"),
            true if full => (false, "no space left on its disk"),
            true => (true, "ready"),
        }
    }
}
