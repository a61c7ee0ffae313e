//! The admin API over HTTP and mutual TLS: routes, bounds, and errors as RFC 9457.
//!
//! Handlers only translate: the operations are [`crate::api`]'s. Every request has an identity from
//! its connection's certificate; headers, bodies, rates and waits are bounded here.

mod answer;
mod audit;
mod cluster;
mod extract;
mod front;
mod leases;
mod past;
mod promotions;
mod reads;
mod rules;
mod sessions;

pub use answer::Limiter;
pub use front::Front;

use crate::api::Api;
use crate::caller::Need;
use crate::health::{self, Health};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{delete, get, post};
use cryptorun_core::people::Role;
use std::ops::Deref;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The largest body any request needs, with room.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// What handlers work with. Cheap to clone: each layer of a request has one.
#[derive(Clone)]
pub(crate) struct Web(Arc<Parts>);

pub(crate) struct Parts {
    pub api: Api,
    pub limiter: Limiter,
    /// Ends streams when the node goes down.
    pub stop: CancellationToken,
    pub rendered: reads::Rendered,
}

impl Deref for Web {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// One route as the documents, the tests and the router know it.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `get`, `post` or `delete`.
    pub method: &'static str,
    /// With `{parameters}`.
    pub path: &'static str,
    /// Who may call it; operations on one scope look closer.
    pub need: Need,
    /// One line.
    pub what: &'static str,
}

const READER: Need = Need::Role(Role::Reader);
const OPERATOR: Need = Need::Role(Role::Operator);
const APPROVER: Need = Need::Role(Role::Approver);
const ADMIN: Need = Need::Role(Role::Admin);

/// Every route of version 1.
pub const ROUTES: &[Route] = &[
    route("get", "/v1/status", READER, "Where everything stands, and what you must do"),
    route("get", "/v1/scopes", Need::RoleOrWorker(Role::Reader), "All scopes"),
    route("get", "/v1/scopes/{tier}/{group}", Need::RoleOrWorker(Role::Reader), "One scope"),
    route("get", "/v1/regions", READER, "All regions with links and health"),
    route("get", "/v1/sessions", READER, "Workers' sessions"),
    route("post", "/v1/sessions", Need::Worker, "A worker starts"),
    route("post", "/v1/sessions/{id}/renew", Need::Worker, "A worker goes on"),
    route("post", "/v1/sessions/{id}/release", Need::Worker, "The holder gives one lease back"),
    route("post", "/v1/sessions/{id}/handover", Need::Worker, "The holder passes its lease on"),
    route("delete", "/v1/sessions/{id}", Need::Worker, "A stopped worker gives everything back"),
    route("get", "/v1/sessions/{id}/directives", Need::Worker, "What to be, as events"),
    route("get", "/v1/leases", Need::RoleOrWorker(Role::Reader), "Changes of leases, as events"),
    route(
        "post",
        "/v1/promotions",
        READER,
        "Ask for a promotion, or try it (dry_run, the default)",
    ),
    route("get", "/v1/promotions", READER, "All promotions, newest first"),
    route("get", "/v1/promotions/{id}", READER, "One promotion"),
    route("post", "/v1/promotions/{id}/approve", APPROVER, "Stand behind it; at the leader"),
    route("post", "/v1/promotions/{id}/deny", APPROVER, "Say no to it; at the leader"),
    route("post", "/v1/promotions/{id}/cancel", OPERATOR, "Withdraw it"),
    route("post", "/v1/pauses", OPERATOR, "Keep the controller's hands off a scope"),
    route("delete", "/v1/pauses", OPERATOR, "End a pause"),
    route("post", "/v1/simulations", READER, "Replay recorded reports through the deciding code"),
    route("get", "/v1/requests/{key}", Need::Any, "What became of one's own request"),
    route("get", "/v1/refusals", READER, "Why a scope that was not well did not move, as recorded"),
    route("get", "/v1/explain", READER, "Which verb is open for a target, and what it lacks"),
    route("get", "/v1/audit", READER, "The audit"),
    route("get", "/v1/audit/verify", READER, "Whether the audit's chain holds"),
    route("get", "/v1/journal", READER, "What a sink accepted and turned away; at its worker"),
    route("get", "/v1/cluster", READER, "Members, timings, state hash"),
    route("post", "/v1/cluster/init", Need::Any, "Found the cluster, once"),
    route("post", "/v1/cluster/transfer-leader", ADMIN, "Hand leadership over; at the leader"),
    route("post", "/v1/cluster/members", ADMIN, "Add or replace a member; at the leader"),
    route("delete", "/v1/cluster/members/{node}", ADMIN, "Take a member out; at the leader"),
    route("get", "/v1/cluster/node", READER, "This node alone, with or without a quorum"),
    route("get", "/v1/cluster/nodes", READER, "What each node says of itself; states compared"),
    route("get", "/v1/cluster/certs", READER, "What each node presents and trusts"),
    route("get", "/v1/certs", READER, "The same of this process; at workers too"),
    route("post", "/v1/cluster/snapshot", ADMIN, "Write a snapshot on this node"),
    route("post", "/v1/cluster/preference", ADMIN, "Which regions' nodes shall lead"),
    route("get", "/v1/cluster/backup", ADMIN, "One moment of the cluster, to restore from"),
    route("post", "/v1/cluster/restore", Need::Any, "Make a cluster from a backup, once"),
    route("post", "/v1/cluster/restore/parts", Need::Any, "Its next part"),
    route("post", "/v1/cluster/restore/finish", Need::Any, "That was all of it"),
    route("get", "/v1/rules", READER, "All rule changes, newest first"),
    route("get", "/v1/rules/{id}", READER, "One rule change"),
    route("post", "/v1/rules", ADMIN, "Ask for a rule change; at the leader"),
    route("post", "/v1/rules/{id}/approve", APPROVER, "Stand behind it; at the leader"),
    route("post", "/v1/rules/{id}/deny", APPROVER, "Say no to it; at the leader"),
    route("post", "/v1/rules/{id}/cancel", OPERATOR, "Withdraw it"),
    route("get", "/v1/whoami", Need::Any, "Who the certificate says you are"),
    route("get", "/v1/openapi.json", Need::Any, "This API, described"),
];

const fn route(method: &'static str, path: &'static str, need: Need, what: &'static str) -> Route {
    Route { method, path, need, what }
}

/// The API, with the health routes beside it.
pub fn router(api: Api, health: Health, limiter: Limiter, stop: CancellationToken) -> Router {
    front(api, health, limiter, stop).into_router()
}

/// The same behind the front.
pub fn front(api: Api, health: Health, limiter: Limiter, stop: CancellationToken) -> Front {
    let rendered = reads::Rendered::default();
    let web = Web(Arc::new(Parts { api, limiter, stop, rendered }));
    Front::new(web.clone(), routes(web, health))
}

fn routes(web: Web, health: Health) -> Router {
    let v1 = Router::new()
        .route("/v1/status", get(reads::status))
        .route("/v1/scopes", get(reads::scopes))
        .route("/v1/scopes/{tier}/{group}", get(reads::scope))
        .route("/v1/regions", get(reads::regions))
        .route("/v1/sessions", get(sessions::list).post(sessions::open))
        .route("/v1/sessions/{id}", delete(sessions::end))
        .route("/v1/sessions/{id}/renew", post(sessions::renew))
        .route("/v1/sessions/{id}/release", post(sessions::release))
        .route("/v1/sessions/{id}/handover", post(sessions::handover))
        .route("/v1/sessions/{id}/directives", get(sessions::directives))
        .route("/v1/leases", get(leases::watch))
        .route("/v1/promotions", get(promotions::list).post(promotions::create))
        .route("/v1/promotions/{id}", get(promotions::one))
        .route("/v1/promotions/{id}/approve", post(promotions::approve))
        .route("/v1/promotions/{id}/deny", post(promotions::deny))
        .route("/v1/promotions/{id}/cancel", post(promotions::cancel))
        .route("/v1/pauses", post(promotions::pause).delete(promotions::unpause))
        .route("/v1/simulations", post(past::simulate))
        .route("/v1/requests/{key}", get(reads::request))
        .route("/v1/refusals", get(past::refusals))
        .route("/v1/explain", get(reads::explain))
        .route("/v1/audit", get(audit::page))
        .route("/v1/audit/verify", get(audit::verify))
        .route("/v1/journal", get(reads::journal))
        .route("/v1/cluster", get(cluster::status))
        .route("/v1/cluster/init", post(cluster::init))
        .route("/v1/cluster/transfer-leader", post(cluster::transfer_leader))
        .route("/v1/cluster/members", post(cluster::add_member))
        .route("/v1/cluster/members/{node}", delete(cluster::remove_member))
        .route("/v1/cluster/node", get(cluster::node))
        .route("/v1/cluster/nodes", get(cluster::nodes))
        .route("/v1/cluster/certs", get(cluster::certs))
        .route("/v1/certs", get(cluster::own_certs))
        .route("/v1/cluster/snapshot", post(cluster::snapshot))
        .route("/v1/cluster/preference", post(cluster::prefer))
        .route("/v1/cluster/backup", get(cluster::backup))
        .route("/v1/cluster/restore", post(cluster::restore))
        .route("/v1/cluster/restore/parts", post(cluster::restore_part))
        .route("/v1/cluster/restore/finish", post(cluster::restore_finish))
        .route("/v1/rules", get(rules::list).post(rules::create))
        .route("/v1/rules/{id}", get(rules::one))
        .route("/v1/rules/{id}/approve", post(rules::approve))
        .route("/v1/rules/{id}/deny", post(rules::deny))
        .route("/v1/rules/{id}/cancel", post(rules::cancel))
        .route("/v1/whoami", get(reads::whoami))
        .route("/v1/openapi.json", get(reads::openapi))
        .fallback(answer::no_route)
        .method_not_allowed_fallback(answer::no_method)
        .with_state(web.clone());
    health::routes(health)
        .merge(v1)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(web, answer::around))
}
