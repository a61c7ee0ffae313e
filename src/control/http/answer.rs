//! What surrounds every handler: identity, rate, time, and how a no is written.

use super::Web;
use super::extract::peer_of;
use crate::caller::Caller;
use crate::problem::ApiError;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cryptorun_core::wire::Problem;
use cryptorun_platform::identity::SpiffeId;
use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// Longer than any operation but founding and catching up takes.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const LONG_ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// Requests of one identity. Identities come from certificates, so there are only so many.
pub struct Limiter {
    per_second: NonZeroU32,
    of: RateLimiter<Arc<SpiffeId>, HashMapStateStore<Arc<SpiffeId>>, DefaultClock>,
}

impl Limiter {
    /// So many requests a second, and as many at once.
    pub fn new(per_second: u32) -> Self {
        let per_second = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
        Self { per_second, of: RateLimiter::hashmap(Quota::per_second(per_second)) }
    }

    fn check(&self, identity: &Arc<SpiffeId>) -> Result<(), ApiError> {
        let too_many = |_| ApiError::TooMany { per_second: self.per_second.get() };
        self.of.check_key(identity).map_err(too_many)
    }
}

/// Where a 307 points; the request's path is put to it.
#[derive(Clone)]
struct PointsTo {
    authority: String,
    path: Option<String>,
}

/// The caller was turned away before anything came to the log; why.
#[derive(Clone)]
struct TurnedAway(String);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = self.problem();
        let status =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if matches!(problem.status, 429 | 503) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if matches!(self, Self::NotAllowed { .. } | Self::Forbidden { .. }) {
            let text = format!("{}: {self}", self.kind());
            response.extensions_mut().insert(TurnedAway(text));
        }
        let points_to = match self {
            Self::Elsewhere { api, .. } => api.map(|authority| PointsTo { authority, path: None }),
            Self::Moved { at, path } => Some(PointsTo { authority: at, path: Some(path) }),
            _ => None,
        };
        if let Some(points_to) = points_to {
            response.extensions_mut().insert(points_to);
        }
        response
    }
}

/// Every request that finds its way by the router passes here.
pub(super) async fn around(State(web): State<Web>, request: Request, next: Next) -> Response {
    let asked = request.uri().clone();
    let identity = peer_of(request.extensions()).map(|peer| Arc::clone(&peer.id));
    guarded(&web, &asked, identity.as_ref(), next.run(request)).await
}

/// What every request passes, whichever way it takes: the rate of its identity, the time it may take,
/// and what is told and counted of its answer.
pub(super) async fn guarded(
    web: &Web,
    asked: &Uri,
    identity: Option<&Arc<SpiffeId>>,
    answer: impl Future<Output = Response>,
) -> Response {
    let refused = identity.and_then(|identity| web.limiter.check(identity).err());
    let long = ["/v1/cluster/", "/v1/simulations", "/v1/refusals"]
        .iter()
        .any(|of| asked.path().starts_with(of));
    let within = if long { LONG_ANSWER_WITHIN } else { ANSWER_WITHIN };
    let mut response = match refused {
        Some(error) => error.into_response(),
        // Streams answer at once and then go on: only the head is awaited here.
        None => match tokio::time::timeout(within, answer).await {
            Ok(response) => response,
            Err(_) => ApiError::OutcomeUnknown.into_response(),
        },
    };
    if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
        response = ApiError::TooLarge { max: super::BODY_BYTES_MAX }.into_response();
    }
    let away = response.extensions_mut().remove::<TurnedAway>();
    if let (Some(TurnedAway(why)), Some(identity)) = (away, identity) {
        // Whose certificate names nobody was told so in `why`; there is nobody to audit.
        if let Ok(Caller { actor, .. }) = Caller::new(Arc::clone(identity), None) {
            web.api.turn_away(actor, about(asked.path()), &why);
        }
    }
    if let Some(points_to) = response.extensions_mut().remove::<PointsTo>() {
        let same = || asked.path_and_query().map(ToString::to_string).unwrap_or_default();
        let path = points_to.path.unwrap_or_else(same);
        let target = format!("https://{}{path}", points_to.authority);
        if let Ok(location) = HeaderValue::from_str(&target) {
            response.headers_mut().insert(header::LOCATION, location);
        }
    }
    let class = match response.status().as_u16() {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    };
    web.api.parts().metrics.api_answers_total.inc([class]);
    response
}

/// What a path is about, as the audit names it: the promotion or rule change in it, or the path.
fn about(path: &str) -> &str {
    let id = ["/v1/promotions/", "/v1/rules/"].iter().find_map(|of| path.strip_prefix(of));
    id.and_then(|rest| rest.split('/').next()).filter(|id| !id.is_empty()).unwrap_or(path)
}

pub(super) async fn no_route(request: Request) -> ApiError {
    ApiError::not_found(format!("no route {}; see GET /v1/openapi.json", request.uri().path()))
}

pub(super) async fn no_method(request: Request) -> Response {
    let problem = Problem {
        kind: format!("{}method_not_allowed", crate::problem::PROBLEM_BASE),
        title: "Method not allowed".to_owned(),
        status: 405,
        detail: format!("{} has no {}", request.uri().path(), request.method()),
        ..Problem::default()
    };
    let mut response = (StatusCode::METHOD_NOT_ALLOWED, Json(problem)).into_response();
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
