//! `GET /v1/leases?watch_from=`: changes of leases as events.
//!
//! `state` carries all leases and comes first when no index is named; `change` carries one; `progress`
//! says every ten seconds up to which index nothing was missed. An index that is no longer covered is
//! answered 410, with one `state` event as its body, so that the client goes on from there.

use super::Web;
use super::extract::{Asked, Who};
use super::sessions::SSE_ALIVE;
use crate::caller::Need;
use crate::problem::ApiError;
use crate::watch::{LeaseWatch, Start};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use cryptorun_core::people::Role;
use cryptorun_core::wire::{LeaseEvent, LeaseState};
use futures_util::StreamExt;
use serde::Deserialize;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// Events that wait for a slow reader before following pauses; the watch itself keeps 4096.
const READER_BOUND: usize = 64;

#[derive(Deserialize)]
pub(super) struct WatchQuery {
    watch_from: Option<u64>,
}

pub(super) async fn watch(
    axum::extract::State(web): axum::extract::State<Web>,
    Who(caller): Who,
    Asked(asked): Asked<WatchQuery>,
) -> Result<Response, ApiError> {
    crate::api::check(&web.api, &caller, Need::RoleOrWorker(Role::Reader))?;
    let leases = web.api.parts().leases.clone();
    let (first, from) = match leases.start(asked.watch_from) {
        Start::Gone(index, state) => return gone(index, state),
        Start::Fresh(index, state) => (vec![event("state", index, state)], index),
        Start::Changes(changes) => {
            let from = changes.last().map_or(asked.watch_from.unwrap_or(0), |(index, _)| *index);
            (changes.into_iter().map(|(i, state)| event("change", i, vec![state])).collect(), from)
        }
    };
    let (tx, rx) = mpsc::channel(READER_BOUND);
    let follow = async move {
        for event in first {
            if tx.send(event).await.is_err() {
                return;
            }
        }
        follow(leases, from, tx).await;
    };
    web.api.parts().platform.spawn.spawn("lease watcher", Box::pin(follow));
    let events = ReceiverStream::new(rx)
        .map(Ok::<_, Infallible>)
        .take_until(web.stop.clone().cancelled_owned());
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(SSE_ALIVE)).into_response())
}

/// Sends what comes after `from` until nobody listens.
async fn follow(leases: LeaseWatch, mut from: u64, tx: mpsc::Sender<Event>) {
    let mut seen = leases.seen();
    let mut progress = tokio::time::interval(PROGRESS_EVERY);
    progress.tick().await; // The first comes at once.
    loop {
        tokio::select! {
            changed = seen.changed() => if changed.is_err() { return },
            _ = progress.tick() => {
                // Read before the changes: what is named here has been sent by then or is below.
                let index = *seen.borrow_and_update();
                if !send_changes(&leases, &mut from, &tx).await { return }
                if tx.send(event("progress", index.max(from), vec![])).await.is_err() { return }
                continue;
            }
            () = tx.closed() => return,
        }
        if !send_changes(&leases, &mut from, &tx).await {
            return;
        }
    }
}

/// False when nobody listens, or when the reader fell too far behind to go on without a gap.
async fn send_changes(leases: &LeaseWatch, from: &mut u64, tx: &mpsc::Sender<Event>) -> bool {
    match leases.start(Some(*from)) {
        Start::Changes(changes) => {
            for (index, state) in changes {
                *from = index;
                if tx.send(event("change", index, vec![state])).await.is_err() {
                    return false;
                }
            }
            true
        }
        Start::Fresh(index, state) | Start::Gone(index, state) => {
            *from = index;
            tx.send(event("state", index, state)).await.is_ok()
        }
    }
}

fn event(name: &str, index: u64, leases: Vec<LeaseState>) -> Event {
    Event::default()
        .event(name)
        .id(index.to_string())
        .json_data(LeaseEvent { index, leases })
        .unwrap_or_default()
}

fn gone(index: u64, leases: Vec<LeaseState>) -> Result<Response, ApiError> {
    let data = serde_json::to_string(&LeaseEvent { index, leases })
        .map_err(|e| ApiError::Internal { why: e.to_string() })?;
    let body = format!("event: state\nid: {index}\ndata: {data}\n\n");
    Ok((StatusCode::GONE, [(header::CONTENT_TYPE, "text/event-stream")], body).into_response())
}
