//! Routes for operating the cluster.

use super::Web;
use super::extract::{Body, Read, Who};
use crate::problem::ApiError;
use axum::Json;
use axum::extract::State;
use cryptorun_core::wire::{
    Accepted, AddMemberRequest, ClusterStatus, InitRequest, TransferRequest,
};

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

pub(super) async fn add_member(
    State(web): State<Web>,
    Who(caller): Who,
    Body(body): Body<AddMemberRequest>,
) -> Answer<Accepted> {
    web.api.add_member(&caller, body).await.map(Json)
}
