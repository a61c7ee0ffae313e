//! Promotions and pauses.

use super::Web;
use super::extract::{Asked, At, Body, Key, Read, Who};
use super::reads::global;
use crate::problem::ApiError;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cryptorun_core::command::Outcome;
use cryptorun_core::promotion::PromotionId;
use cryptorun_core::scope::Tier;
use cryptorun_core::wire::{
    Accepted, PauseRequest, PromotionRequest, PromotionStatus, WordRequest,
};
use serde::Deserialize;

type Answer<T> = Result<Json<T>, ApiError>;

/// 200 with what would happen, or 202 with where to look.
pub(super) async fn create(
    State(web): State<Web>,
    Who(caller): Who,
    key: Key,
    Read(read): Read,
    Body(body): Body<PromotionRequest>,
) -> Result<Response, ApiError> {
    if body.dry_run {
        let answer = web.api.promotion_dry_run(&caller, &body, read).await?;
        return Ok(Json(answer).into_response());
    }
    let accepted = web.api.request_promotion(&caller, key.as_deref(), &body).await?;
    let mut response = (StatusCode::ACCEPTED, Json(&accepted)).into_response();
    if let Outcome::Promotion { id, .. } = &accepted.outcome
        && let Ok(location) = format!("/v1/promotions/{id}").parse()
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

pub(super) async fn list(
    State(web): State<Web>,
    Who(caller): Who,
    Read(read): Read,
) -> Answer<Vec<PromotionStatus>> {
    web.api.promotions(&caller, read).await.map(Json)
}

pub(super) async fn one(
    State(web): State<Web>,
    Who(caller): Who,
    At(id): At<PromotionId>,
    Read(read): Read,
) -> Answer<PromotionStatus> {
    web.api.promotion(&caller, id, read).await.map(Json)
}

pub(super) async fn approve(
    State(web): State<Web>,
    Who(caller): Who,
    key: Key,
    At(id): At<PromotionId>,
    Body(word): Body<WordRequest>,
) -> Answer<Accepted> {
    web.api.approve(&caller, key.as_deref(), id, word).await.map(Json)
}

pub(super) async fn deny(
    State(web): State<Web>,
    Who(caller): Who,
    key: Key,
    At(id): At<PromotionId>,
    Body(word): Body<WordRequest>,
) -> Answer<Accepted> {
    web.api.deny(&caller, key.as_deref(), id, word).await.map(Json)
}

pub(super) async fn cancel(
    State(web): State<Web>,
    Who(caller): Who,
    key: Key,
    At(id): At<PromotionId>,
    Body(_): Body<WordRequest>,
) -> Answer<Accepted> {
    web.api.cancel(&caller, key.as_deref(), id).await.map(Json)
}

pub(super) async fn pause(
    State(web): State<Web>,
    Who(caller): Who,
    key: Key,
    Body(body): Body<PauseRequest>,
) -> Answer<Accepted> {
    web.api.pause(&caller, key.as_deref(), body).await.map(Json)
}

#[derive(Deserialize)]
pub(super) struct ScopeQuery {
    tier: Tier,
    #[serde(default = "global")]
    group: String,
}

pub(super) async fn unpause(
    State(web): State<Web>,
    Who(caller): Who,
    key: Key,
    Asked(scope): Asked<ScopeQuery>,
) -> Answer<Accepted> {
    web.api.unpause(&caller, key.as_deref(), (scope.tier, &scope.group)).await.map(Json)
}
