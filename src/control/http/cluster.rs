//! Routes for operating the cluster.

use super::Web;
use super::extract::{Asked, At, Body, Key, Read, Who};
use crate::problem::ApiError;
use axum::Json;
use axum::extract::State;
use cryptorun_core::wire::{
    Accepted, AddMemberRequest, Backup, ClusterStatus, Credentials, InitRequest, NodeCredentials,
    NodeSeen, NodeStanding, PreferenceRequest, RestoreFinishRequest, RestorePartRequest,
    RestoreRequest, TransferRequest,
};
use serde::Deserialize;
use std::str::FromStr;

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) async fn status(
    State(web): State<Web>,
    Who(caller): Who,
    Read(read): Read,
) -> Answer<ClusterStatus> {
    web.api.cluster(&caller, read).await.map(Json)
}

pub(super) async fn init(
    State(web): State<Web>,
    Who(caller): Who,
    Body(body): Body<InitRequest>,
) -> Answer<Accepted> {
    web.api.init(&caller, body).await.map(Json)
}

pub(super) async fn transfer_leader(
    State(web): State<Web>,
    Who(caller): Who,
    Body(body): Body<TransferRequest>,
) -> Answer<Accepted> {
    web.api.transfer_leader(&caller, body).await.map(Json)
}

pub(super) async fn node(State(web): State<Web>, Who(caller): Who) -> Answer<NodeStanding> {
    web.api.node_standing(&caller).await.map(Json)
}

pub(super) async fn nodes(State(web): State<Web>, Who(caller): Who) -> Answer<Vec<NodeSeen>> {
    web.api.nodes(&caller).await.map(Json)
}

pub(super) async fn certs(
    State(web): State<Web>,
    Who(caller): Who,
) -> Answer<Vec<NodeCredentials>> {
    web.api.certs(&caller).await.map(Json)
}

pub(super) async fn own_certs(State(web): State<Web>, Who(caller): Who) -> Answer<Credentials> {
    web.api.node_certs(&caller).map(Json)
}

pub(super) async fn snapshot(State(web): State<Web>, Who(caller): Who) -> Answer<Accepted> {
    web.api.snapshot(&caller).await.map(Json)
}

pub(super) async fn prefer(
    State(web): State<Web>,
    Who(caller): Who,
    key: Key,
    Body(body): Body<PreferenceRequest>,
) -> Answer<Accepted> {
    web.api.prefer_leader(&caller, key.as_deref(), body).await.map(Json)
}

#[derive(Deserialize)]
pub(super) struct BackupQuery {
    #[serde(default)]
    alone: bool,
}

pub(super) async fn backup(
    State(web): State<Web>,
    Who(caller): Who,
    Asked(query): Asked<BackupQuery>,
) -> Answer<Backup> {
    web.api.backup(&caller, query.alone).await.map(Json)
}

pub(super) async fn restore(
    State(web): State<Web>,
    Who(caller): Who,
    Body(body): Body<RestoreRequest>,
) -> Answer<Accepted> {
    web.api.restore(&caller, body).await.map(Json)
}

pub(super) async fn restore_part(
    State(web): State<Web>,
    Who(caller): Who,
    Body(body): Body<RestorePartRequest>,
) -> Answer<Accepted> {
    web.api.restore_part(&caller, body).await.map(Json)
}

pub(super) async fn restore_finish(
    State(web): State<Web>,
    Who(caller): Who,
    Body(body): Body<RestoreFinishRequest>,
) -> Answer<Accepted> {
    web.api.restore_finish(&caller, body).await.map(Json)
}

pub(super) async fn remove_member(
    State(web): State<Web>,
    Who(caller): Who,
    At(NodeNumber(node)): At<NodeNumber>,
) -> Answer<Accepted> {
    web.api.remove_member(&caller, node).await.map(Json)
}

/// A node's number in a path.
pub(super) struct NodeNumber(u64);

impl FromStr for NodeNumber {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("'{text}' is not a node's number"))
    }
}

pub(super) async fn add_member(
    State(web): State<Web>,
    Who(caller): Who,
    Body(body): Body<AddMemberRequest>,
) -> Answer<Accepted> {
    web.api.add_member(&caller, body).await.map(Json)
}
