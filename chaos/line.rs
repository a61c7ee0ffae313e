//! Asking a node's API over the simulated network: what HTTP and TLS would carry.

use crate::invariants::Event;
use crate::net::{identity, spawn};
use crate::network::place;
use crate::node::NodeHandle;
use crate::world::World;
use async_trait::async_trait;
use bytes::Bytes;
use cryptorun_control::api::Api;
use cryptorun_control::caller::Caller;
use cryptorun_control::problem::ApiError;
use cryptorun_core::session::SessionKey;
use cryptorun_core::wire::RenewRequest;
use cryptorun_platform::https::Events;
use cryptorun_worker::control::{Call, CallFailed, Control};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Nobody listens there: nothing was sent.
    Refused,
    /// It may have been carried out.
    Unknown,
}

/// Asks one node and waits for so long. What is asked is carried out even if nobody waits any more.
pub(crate) async fn ask<T, A, F>(
    world: &Arc<World>,
    from: u64,
    to: u64,
    patience: Duration,
    what: A,
) -> Result<T, Failed>
where
    T: Send + 'static,
    A: FnOnce(Api) -> F + Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (tell, told) = oneshot::channel();
    let carrier = world.clone();
    spawn(world, async move {
        if !carrier.hop(from, to, false).await {
            return;
        }
        let Some(NodeHandle { api, life, .. }) = carrier.state().nodes.get(&to).cloned() else {
            if carrier.hop(to, from, true).await {
                drop(tell.send(Err(Failed::Refused)));
            }
            return;
        };
        let answer = what(api).await;
        if carrier.is_alive(to, life) && carrier.hop(to, from, true).await {
            drop(tell.send(Ok(answer)));
        }
    });
    let answer = async {
        match told.await {
            Ok(answer) => answer,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::time::timeout(patience, answer).await.unwrap_or(Err(Failed::Unknown))
}

/// Who calls, as the certificate says.
pub(crate) fn caller(end: u64, name: &str) -> Option<Caller> {
    Caller::new(Arc::new(identity(end, name)), Some("01".into())).ok()
}

/// A worker's way to the nodes, its own region's first.
pub(crate) struct Line {
    pub world: Arc<World>,
    pub end: u64,
    pub life: u64,
}

impl Line {
    fn show_renewal(&self, call: &Call) {
        let session = call.path.strip_prefix("/v1/sessions/");
        let session = session.and_then(|rest| rest.split('?').next()?.strip_suffix("/renew"));
        let Some(session) = session else { return };
        if let Ok(request) = serde_json::from_slice::<RenewRequest>(&call.body) {
            let (worker, seq) = (self.end, request.seq);
            self.world.show(&Event::RenewalSent { worker, session, seq });
        }
    }

    /// The node behind an endpoint.
    pub fn node(end: u64, endpoint: usize) -> u64 {
        let endpoint = u64::try_from(endpoint).unwrap_or(0);
        1 + (place(end) - 1 + endpoint) % 3
    }
}

#[async_trait]
impl Control for Line {
    fn endpoints(&self) -> usize {
        3
    }

    async fn send(
        &self,
        endpoint: usize,
        call: Call,
        timeout: Duration,
    ) -> Result<(u16, Bytes), CallFailed> {
        if !self.world.is_alive(self.end, self.life) {
            std::future::pending::<()>().await;
        }
        let (from, to) = (self.end, Self::node(self.end, endpoint));
        self.show_renewal(&call);
        let sender = crate::worker::name(from);
        let handle = move |api: Api| async move { handle(&api, from, &sender, &call).await };
        match ask(&self.world, from, to, timeout, handle).await {
            Ok(answer) => Ok(answer),
            Err(Failed::Refused) => {
                Err(CallFailed { sent: false, what: format!("node {to} does not listen") })
            }
            Err(Failed::Unknown) => {
                Err(CallFailed { sent: true, what: format!("no answer of node {to}") })
            }
        }
    }

    async fn directives(&self, _endpoint: usize, _session: &str) -> Option<Events> {
        None // `worker::push` brings them.
    }
}

async fn handle(api: &Api, end: u64, name: &str, call: &Call) -> (u16, Bytes) {
    match route(api, end, name, call).await {
        Ok(body) => (200, body),
        Err(error) => (error.status(), written(&error.problem())),
    }
}

async fn route(api: &Api, end: u64, name: &str, call: &Call) -> Result<Bytes, ApiError> {
    let caller = caller(end, name).ok_or(ApiError::NoLeader)?;
    let (path, query) = call.path.split_once('?').unwrap_or((&call.path, ""));
    let directed = query.strip_prefix("directed=").and_then(|index| index.parse().ok());
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let session = |key: &str| key.parse::<SessionKey>().map_err(ApiError::bad);
    Ok(match (call.method.as_str(), parts.as_slice()) {
        ("POST", ["v1", "sessions"]) => written(&api.open_session(&caller, read(call)?).await?),
        ("POST", ["v1", "sessions", key, "renew"]) => {
            written(&api.renew(&caller, session(key)?, read(call)?, directed).await?)
        }
        ("POST", ["v1", "sessions", key, "handover"]) => {
            written(&api.handover(&caller, session(key)?, read(call)?).await?)
        }
        ("POST", ["v1", "sessions", key, "release"]) => {
            written(&api.release(&caller, session(key)?, read(call)?).await?)
        }
        ("DELETE", ["v1", "sessions", key]) => {
            written(&api.end_session(&caller, session(key)?).await?)
        }
        _ => return Err(ApiError::not_found(call.path.clone())),
    })
}

fn read<T: DeserializeOwned>(call: &Call) -> Result<T, ApiError> {
    serde_json::from_slice(&call.body).map_err(|error| ApiError::bad(error.to_string()))
}

fn written(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).map(Bytes::from).unwrap_or_default()
}
