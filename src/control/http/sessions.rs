//! Workers' routes. Directives are events named `directives`, each a whole list that replaces the last.

use super::Web;
use super::extract::{Asked, At, Body, Read, Who};
use crate::problem::ApiError;
use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use cryptorun_core::session::SessionKey;
use cryptorun_core::wire::{
    Accepted, HandoverRequest, OpenSessionRequest, ReleaseRequest, RenewAnswer, RenewRequest,
    SessionOpened, SessionStatus,
};
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use std::convert::Infallible;
use std::time::Duration;
use tokio_stream::wrappers::ReceiverStream;

/// Keeps relays and clients from taking a quiet stream for a dead one.
pub(super) const SSE_ALIVE: Duration = Duration::from_secs(5);

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) async fn list(
    State(web): State<Web>,
    Who(caller): Who,
    Read(read): Read,
) -> Answer<Vec<SessionStatus>> {
    web.api.sessions(&caller, read).await.map(Json)
}

pub(super) async fn open(
    State(web): State<Web>,
    Who(caller): Who,
    Body(body): Body<OpenSessionRequest>,
) -> Answer<SessionOpened> {
    web.api.open_session(&caller, body).await.map(Json)
}

pub(super) async fn renew(
    State(web): State<Web>,
    Who(caller): Who,
    At(session): At<SessionKey>,
    Asked(asked): Asked<RenewQuery>,
    Body(body): Body<RenewRequest>,
) -> Answer<RenewAnswer> {
    web.api.renew(&caller, session, body, asked.directed).await.map(Json)
}

#[derive(Deserialize)]
pub(super) struct RenewQuery {
    /// The index of the directives that the worker has.
    pub directed: Option<u64>,
}

pub(super) async fn release(
    State(web): State<Web>,
    Who(caller): Who,
    At(session): At<SessionKey>,
    Body(body): Body<ReleaseRequest>,
) -> Answer<Accepted> {
    web.api.release(&caller, session, body).await.map(Json)
}

pub(super) async fn handover(
    State(web): State<Web>,
    Who(caller): Who,
    At(session): At<SessionKey>,
    Body(body): Body<HandoverRequest>,
) -> Answer<Accepted> {
    web.api.handover(&caller, session, body).await.map(Json)
}

pub(super) async fn end(
    State(web): State<Web>,
    Who(caller): Who,
    At(session): At<SessionKey>,
) -> Answer<Accepted> {
    web.api.end_session(&caller, session).await.map(Json)
}

pub(super) async fn directives(
    State(web): State<Web>,
    Who(caller): Who,
    At(session): At<SessionKey>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let sets = web.api.directives(&caller, session)?;
    let events = ReceiverStream::new(sets)
        .filter_map(|set| async move { Event::default().event("directives").json_data(set).ok() })
        .map(Ok)
        .take_until(web.stop.clone().cancelled_owned());
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(SSE_ALIVE)))
}
