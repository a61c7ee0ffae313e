//! The control port of a held demo: one place from which processes, links and venues are acted on.
//!
//! Plain HTTP on loopback, for the person at this machine; nothing of it exists in production.

use crate::http::{self, CallError};
use crate::protocol::{LabAnswer, LabRequest, LabStatus, VenueStatus};
use crate::supervisor::{Supervisor, SupervisorError};
use crate::wan::{Links, WanError};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Where requests go.
pub const PATH: &str = "/v1/lab";

const VENUE_WITHIN: Duration = Duration::from_secs(1);
const LAB_WITHIN: Duration = Duration::from_secs(10);

/// What can be acted on.
pub struct Control {
    pub supervisor: Supervisor,
    pub links: Links,
    /// Control ports of the venues, by name.
    pub venues: BTreeMap<String, SocketAddr>,
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    #[error(transparent)]
    Wan(#[from] WanError),
    #[error("no venue '{venue}'; known: {known}")]
    UnknownVenue { venue: String, known: String },
    #[error("venue {venue}: {source}")]
    Venue { venue: String, source: CallError },
}

impl Control {
    /// Answers until `shutdown`.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> std::io::Result<()> {
        let status = |State(control): State<Arc<Self>>| async move {
            answer(&control, LabRequest::Status).await
        };
        let act = |State(control): State<Arc<Self>>, Json(request): Json<LabRequest>| async move {
            answer(&control, request).await
        };
        let router = Router::new().route(PATH, get(status).post(act)).with_state(Arc::new(self));
        axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
    }

    async fn act(&self, request: LabRequest) -> Result<LabAnswer, Refused> {
        Ok(match request {
            LabRequest::Status => LabAnswer::Status(self.status().await),
            LabRequest::Link(act) => LabAnswer::Links(self.links.act(&act)?),
            LabRequest::Kill { target, signal, keep_down } => {
                let processes = self.supervisor.kill(&target, signal, keep_down)?;
                LabAnswer::Processes { processes }
            }
            LabRequest::Start { target } => {
                LabAnswer::Processes { processes: self.supervisor.start_again(&target)? }
            }
            LabRequest::Freeze { target } => {
                LabAnswer::Processes { processes: self.supervisor.freeze(&target)? }
            }
            LabRequest::Thaw { target } => {
                LabAnswer::Processes { processes: self.supervisor.thaw(&target)? }
            }
            LabRequest::Fault { venue, order } => {
                let Some(control) = self.venues.get(&venue) else {
                    let known: Vec<_> = self.venues.keys().map(String::as_str).collect();
                    return Err(Refused::UnknownVenue { venue, known: known.join(", ") });
                };
                let ordered = http::post(*control, "/fault", &order, VENUE_WITHIN).await;
                LabAnswer::Fault(ordered.map_err(|source| Refused::Venue { venue, source })?)
            }
        })
    }

    async fn status(&self) -> LabStatus {
        let mut venues = BTreeMap::new();
        for (name, control) in &self.venues {
            let status = http::get::<VenueStatus>(*control, "/status", VENUE_WITHIN).await.ok();
            venues.insert(name.clone(), status);
        }
        LabStatus { processes: self.supervisor.status(), links: self.links.status(), venues }
    }
}

async fn answer(
    control: &Control,
    request: LabRequest,
) -> Result<Json<LabAnswer>, (StatusCode, String)> {
    let refused = |refused: Refused| (StatusCode::UNPROCESSABLE_ENTITY, refused.to_string());
    control.act(request).await.map(Json).map_err(refused)
}

/// Asks the demo whose control port this is.
pub async fn ask(control: SocketAddr, request: &LabRequest) -> Result<LabAnswer, CallError> {
    http::post(control, PATH, request, LAB_WITHIN).await
}
