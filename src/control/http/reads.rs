//! `GET` routes that answer from the machine.

use super::Web;
use super::extract::{Asked, Read, Who};
use crate::api::{ReadQuery, Sight};
use crate::caller::Caller;
use crate::problem::ApiError;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use cryptorun_core::people::OperatorId;
use cryptorun_core::record::Request;
use cryptorun_core::scope::{ScopeId, Tier};
use cryptorun_core::time::WallTime;
use cryptorun_core::wire::{Explanation, RegionStatus, ScopeStatus, Status, WhoAmI};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) async fn status(
    State(web): State<Web>,
    Who(caller): Who,
    Read(read): Read,
) -> Answer<Status> {
    web.api.status(&caller, read).await.map(Json)
}

pub(super) async fn scopes(
    State(web): State<Web>,
    Who(caller): Who,
    Read(read): Read,
) -> Answer<Vec<ScopeStatus>> {
    web.api.scopes(&caller, read).await.map(Json)
}

pub(super) async fn scope(
    State(web): State<Web>,
    Who(caller): Who,
    Path((tier, group)): Path<(String, String)>,
    Read(read): Read,
) -> Result<Response, ApiError> {
    one_scope(&web, &caller, &tier, &group, read).await
}

/// One scope, by whichever way it was asked for.
pub(super) async fn one_scope(
    web: &Web,
    caller: &Caller,
    tier: &str,
    group: &str,
    read: ReadQuery,
) -> Result<Response, ApiError> {
    let tier: Tier = tier.parse().map_err(ApiError::bad)?;
    let show = |sight, status: &dyn Fn() -> ScopeStatus| web.rendered.json(sight, status);
    let json = web.api.scope_shown(caller, tier, group, read, show).await??;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// Scopes as they were written out for the moment that was asked about last: at tens of thousands of
/// reads a second many fall into one.
#[derive(Default)]
pub(crate) struct Rendered(Mutex<Moment>);

/// Scopes of one moment, each for whoever asked.
#[derive(Default)]
struct Moment {
    at: (u64, WallTime),
    texts: BTreeMap<(ScopeId, Option<OperatorId>), Bytes>,
}

/// Texts kept for one moment.
const RENDERED_MAX: usize = 256;

impl Rendered {
    fn json(&self, sight: Sight, status: &dyn Fn() -> ScopeStatus) -> Result<Bytes, ApiError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.at != sight.moment || kept.texts.len() >= RENDERED_MAX {
            kept.at = sight.moment;
            kept.texts.clear();
        }
        if let Some(text) = kept.texts.get(&sight.of) {
            return Ok(text.clone());
        }
        let text = serde_json::to_vec(&status());
        let text = Bytes::from(text.map_err(|e| ApiError::Internal { why: e.to_string() })?);
        kept.texts.insert(sight.of, text.clone());
        Ok(text)
    }
}

pub(super) async fn regions(
    State(web): State<Web>,
    Who(caller): Who,
    Read(read): Read,
) -> Answer<Vec<RegionStatus>> {
    web.api.regions(&caller, read).await.map(Json)
}

pub(super) async fn request(
    State(web): State<Web>,
    Who(caller): Who,
    Path(key): Path<String>,
    Read(read): Read,
) -> Answer<Request> {
    web.api.request(&caller, &key, read).await.map(Json)
}

#[derive(Deserialize)]
pub(super) struct ExplainQuery {
    tier: Tier,
    #[serde(default = "global")]
    group: String,
    target: String,
}

pub(super) fn global() -> String {
    "global".to_owned()
}

pub(super) async fn explain(
    State(web): State<Web>,
    Who(caller): Who,
    Asked(asked): Asked<ExplainQuery>,
    Read(read): Read,
) -> Answer<Explanation> {
    let scope = (asked.tier, asked.group.as_str());
    web.api.explain(&caller, scope, &asked.target, read).await.map(Json)
}

#[derive(Deserialize)]
pub(super) struct JournalQuery {
    scope: String,
    region: Option<String>,
}

/// Never answers itself: the journal is at the worker.
pub(super) async fn journal(
    State(web): State<Web>,
    Who(caller): Who,
    Asked(asked): Asked<JournalQuery>,
) -> ApiError {
    let scope: ScopeId = match asked.scope.parse() {
        Ok(scope) => scope,
        Err(why) => return ApiError::bad(why),
    };
    let at = (scope.tier, scope.group.as_str());
    match web.api.journal(&caller, at, asked.region.as_deref()).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

pub(super) async fn whoami(State(web): State<Web>, Who(caller): Who) -> Answer<WhoAmI> {
    web.api.whoami(&caller).await.map(Json)
}

pub(super) async fn openapi(Who(_): Who) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], crate::openapi::document()).into_response()
}
