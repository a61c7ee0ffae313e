//! The audit's routes.

use super::Web;
use super::extract::{Asked, Read, Who, time};
use crate::api::AuditQuery;
use crate::problem::ApiError;
use axum::Json;
use axum::extract::State;
use cryptorun_core::audit::Filter;
use cryptorun_core::wire::{AuditPage, AuditVerdict};
use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct PageQuery {
    from: Option<u64>,
    limit: Option<usize>,
    by: Option<String>,
    about: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

impl PageQuery {
    fn filter(&mut self) -> Result<Filter, String> {
        Ok(Filter {
            by: self.by.take().map(|by| by.parse()).transpose()?,
            about: self.about.take(),
            since: time(self.since.as_deref())?,
            until: time(self.until.as_deref())?,
        })
    }
}

pub(super) async fn page(
    State(web): State<Web>,
    Who(caller): Who,
    Asked(mut asked): Asked<PageQuery>,
    Read(read): Read,
) -> Result<Json<AuditPage>, ApiError> {
    let filter = asked.filter().map_err(ApiError::bad)?;
    let which = AuditQuery { from: asked.from, limit: asked.limit, filter };
    web.api.audit(&caller, which, read).await.map(Json)
}

pub(super) async fn verify(
    State(web): State<Web>,
    Who(caller): Who,
    Read(read): Read,
) -> Result<Json<AuditVerdict>, ApiError> {
    web.api.audit_verify(&caller, read).await.map(Json)
}
