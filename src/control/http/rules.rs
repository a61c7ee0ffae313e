//! Routes for rule changes.

use super::Web;
use super::extract::{At, Body, Key, Read, Who};
use crate::problem::ApiError;
use axum::Json;
use axum::extract::State;
use cryptorun_core::rules::RuleId;
use cryptorun_core::wire::{Accepted, RuleRequest, RuleStatus, WordRequest};

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) async fn list(
    State(web): State<Web>,
    Who(caller): Who,
    Read(read): Read,
) -> Answer<Vec<RuleStatus>> {
    web.api.rules(&caller, read).await.map(Json)
}

pub(super) async fn one(
    State(web): State<Web>,
    Who(caller): Who,
    At(id): At<RuleId>,
    Read(read): Read,
) -> Answer<RuleStatus> {
    web.api.rule(&caller, id, read).await.map(Json)
}

pub(super) async fn create(
    State(web): State<Web>,
    Who(caller): Who,
    key: Key,
    Body(body): Body<RuleRequest>,
) -> Answer<Accepted> {
    web.api.propose_rule(&caller, key.as_deref(), body).await.map(Json)
}

pub(super) async fn approve(
    State(web): State<Web>,
    Who(caller): Who,
    key: Key,
    At(id): At<RuleId>,
    Body(word): Body<WordRequest>,
) -> Answer<Accepted> {
    web.api.approve_rule(&caller, key.as_deref(), id, word).await.map(Json)
}

pub(super) async fn deny(
    State(web): State<Web>,
    Who(caller): Who,
    key: Key,
    At(id): At<RuleId>,
    Body(word): Body<WordRequest>,
) -> Answer<Accepted> {
    web.api.deny_rule(&caller, key.as_deref(), id, word).await.map(Json)
}

pub(super) async fn cancel(
    State(web): State<Web>,
    Who(caller): Who,
    key: Key,
    At(id): At<RuleId>,
    Body(_): Body<WordRequest>,
) -> Answer<Accepted> {
    web.api.cancel_rule(&caller, key.as_deref(), id).await.map(Json)
}
