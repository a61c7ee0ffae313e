//! What recorded history tells.

use super::Web;
use super::extract::{Asked, Body, Who, time};
use super::reads::global;
use crate::problem::ApiError;
use axum::Json;
use axum::extract::State;
use cryptorun_core::scope::Tier;
use cryptorun_core::wire::{Refusals, Simulation, SimulationRequest};
use serde::Deserialize;

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) async fn simulate(
    State(web): State<Web>,
    Who(caller): Who,
    Body(body): Body<SimulationRequest>,
) -> Answer<Simulation> {
    web.api.simulate(&caller, &body).await.map(Json)
}

#[derive(Deserialize)]
pub(super) struct RefusalsQuery {
    tier: Tier,
    #[serde(default = "global")]
    group: String,
    since: Option<String>,
    until: Option<String>,
}

pub(super) async fn refusals(
    State(web): State<Web>,
    Who(caller): Who,
    Asked(asked): Asked<RefusalsQuery>,
) -> Answer<Refusals> {
    let since = time(asked.since.as_deref()).map_err(ApiError::bad)?;
    let until = time(asked.until.as_deref()).map_err(ApiError::bad)?;
    let scope = (asked.tier, asked.group.as_str());
    web.api.refusals(&caller, scope, (since, until)).await.map(Json)
}
