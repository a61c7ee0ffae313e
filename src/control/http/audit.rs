//! The audit's routes.

use super::Web;
use super::extract::{Asked, Read, Who};
use crate::api::AuditQuery;
use crate::problem::ApiError;
use axum::Json;
use axum::extract::State;
use cryptorun_core::wire::{AuditPage, AuditVerdict};
use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct PageQuery {
    from: Option<u64>,
    limit: Option<usize>,
}

pub(super) async fn page(
    State(web): State<Web>,
    Who(caller): Who,
    Asked(asked): Asked<PageQuery>,
    Read(read): Read,
) -> Result<Json<AuditPage>, ApiError> {
    let which = AuditQuery { from: asked.from, limit: asked.limit };
    web.api.audit(&caller, which, read).await.map(Json)
}

pub(super) async fn verify(
    State(web): State<Web>,
    Who(caller): Who,
    Read(read): Read,
) -> Result<Json<AuditVerdict>, ApiError> {
    web.api.audit_verify(&caller, read).await.map(Json)
}
