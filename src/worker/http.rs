//! The worker's API: candles with where they stand, forks, the journal, digests; and the health
//! port for load balancers and Prometheus.
//!
//! Every answer about data carries the token, the position, the watermark, how old it is and with
//! what authority it speaks: `primary` only if the lease lives at the moment of answering. A reader
//! that asks for more than there is gets 409 with what there is, never older data in silence.

use crate::beliefs::Belief;
use crate::ingest::model::{Source, Symbol, VenueId};
use crate::sink::{Sink, View};
use crate::standing::Standing;
use crate::warm::batch::state_word;
use crate::warm::regions::Regions;
use crate::warm::scope::Status;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use cryptorun_core::region::RegionName;
use cryptorun_core::scope::{Role, ScopeId, Tier};
use cryptorun_core::time::{Millis, WallTime};
use cryptorun_core::wire::{
    CandleRow, Candles, Credentials, ForkStatus, Journal, PartitionState, Problem,
};
use cryptorun_platform::clock::Clock;
use cryptorun_platform::metrics::{CONTENT_TYPE, Metrics};
use cryptorun_platform::net::Peer;
use cryptorun_platform::tls::TlsStore;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

/// Rows in one answer; a week of minutes fits.
const ROWS_MAX: usize = 10_000;
const ROWS: usize = 500;
/// The longest a reader may wait for `min_position`.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// One scope as the API knows it.
#[derive(Clone)]
pub struct Shelf {
    pub sink: Sink,
    pub status: watch::Receiver<Status>,
    /// The region its data may not leave.
    pub residency: Option<RegionName>,
}

#[derive(Clone)]
pub struct Api {
    pub region: RegionName,
    pub clock: Arc<dyn Clock>,
    pub standing: Arc<Standing>,
    pub regions: Arc<Regions>,
    pub shelves: Arc<BTreeMap<ScopeId, Shelf>>,
    pub metrics: Metrics,
    pub tls: Arc<TlsStore>,
}

/// Routes under mutual TLS.
pub fn api(api: Api) -> Router {
    Router::new()
        .route("/v1/warm/candles", get(candles))
        .route("/v1/warm/forks", get(forks))
        .route("/v1/warm/digest", get(digest))
        .route("/v1/journal", get(journal))
        .route("/v1/beliefs", get(beliefs))
        .route("/v1/certs", get(certs))
        .merge(health_routes())
        .fallback(|| async { problem(404, "no_such_route", "no such route") })
        .with_state(api)
}

/// Routes in plain HTTP, loopback by default.
pub fn health(api: Api) -> Router {
    health_routes()
        .fallback(|| async { problem(404, "no_such_route", "no such route") })
        .with_state(api)
}

fn health_routes() -> Router<Api> {
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/holder", get(holder))
        .route("/lag", get(lag))
        .route("/partition", get(partition))
        .route("/health", get(health_page))
        .route("/metrics", get(metrics))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CandlesQuery {
    scope: Option<String>,
    group: Option<String>,
    venue: Option<String>,
    symbol: String,
    #[serde(alias = "since")]
    from: Option<String>,
    #[serde(alias = "until")]
    to: Option<String>,
    limit: Option<usize>,
    min_position: Option<u64>,
    wait_ms: Option<u64>,
    max_staleness_ms: Option<u64>,
}

async fn candles(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    query: Result<Query<CandlesQuery>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let answer = async {
        let Query(q) = query.map_err(|e| problem(400, "malformed_query", &e.body_text()))?;
        let shelf = api.shelf(q.scope.as_deref(), q.group.as_deref())?;
        api.may_leave(shelf, &peer)?;
        let source = source(q.venue.as_deref(), &q.symbol)?;
        let at = |text: &Option<String>, default: u64| match text {
            None => Ok(default),
            Some(text) => WallTime::parse(text)
                .map(|at| at.0)
                .or_else(|why| text.parse::<u64>().map_err(|_| why))
                .map(|ms| ms.saturating_mul(1000))
                .map_err(|why| problem(400, "malformed_time", &why)),
        };
        let (from, to) = (at(&q.from, 0)?, at(&q.to, i64::MAX.cast_unsigned())?);
        if let Some(min) = q.min_position {
            let wait = Duration::from_millis(q.wait_ms.unwrap_or(0)).min(WAIT_MAX);
            reached(&shelf.sink, min, wait).await?;
        }
        let limit = q.limit.unwrap_or(ROWS).min(ROWS_MAX);
        let found = shelf
            .sink
            .with_store(move |store| {
                let rows = store.candles_latest(&source, from, to, limit)?;
                Ok((rows, store.position()))
            })
            .await;
        let (rows, position) = found.map_err(|e| problem(500, "store", &e.to_string()))?;
        let facts = api.facts(shelf);
        if let Some(max) = q.max_staleness_ms
            && facts.staleness.0 > max
        {
            let text =
                format!("the data is {} old, asked for at most {}", facts.staleness, Millis(max));
            return Err(problem(409, "too_stale", &text));
        }
        let candles = Candles {
            authority: facts.authority.to_owned(),
            token: facts.token,
            position,
            staleness: facts.staleness,
            watermark: facts.watermark,
            rows: rows.iter().map(shown).collect(),
        };
        let headers = [
            ("x-cryptorun-authority", facts.authority.to_owned()),
            ("x-cryptorun-token", facts.token.to_string()),
            ("x-cryptorun-position", position.to_string()),
            ("x-cryptorun-staleness-ms", facts.staleness.0.to_string()),
            ("x-cryptorun-watermark", facts.watermark.to_string()),
        ];
        let mut response = Json(candles).into_response();
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        Ok(response)
    };
    answer.await.unwrap_or_else(Refusal::into_response)
}

async fn reached(sink: &Sink, min: u64, wait: Duration) -> Result<(), Refusal> {
    let mut changes = sink.watch();
    let ready = changes.wait_for(|view| view.end.seq >= min);
    if tokio::time::timeout(wait, ready).await.is_ok() {
        return Ok(());
    }
    let text = format!("this sink is at record {}, asked for {min}", sink.view().end);
    Err(problem(409, "not_there_yet", &text))
}

#[derive(Deserialize)]
struct ScopeQuery {
    scope: Option<String>,
    group: Option<String>,
}

async fn forks(State(api): State<Api>) -> Json<Vec<ForkStatus>> {
    let all = api.shelves.iter().flat_map(|(scope, shelf)| {
        let region = api.region.clone();
        let scope = scope.clone();
        shelf.sink.view().forks.into_iter().map(move |fork| ForkStatus {
            region: region.clone(),
            scope: scope.clone(),
            fork,
        })
    });
    Json(all.collect())
}

async fn journal(State(api): State<Api>, Query(q): Query<ScopeQuery>) -> Response {
    let shelf = match api.shelf(q.scope.as_deref(), q.group.as_deref()) {
        Ok(shelf) => shelf,
        Err(refusal) => return refusal.into_response(),
    };
    Json(Journal {
        scope: shelf.sink.scope().clone(),
        region: api.region.clone(),
        ranges: shelf.sink.journal(),
        forks: shelf.sink.view().forks,
    })
    .into_response()
}

/// When this process believed that it might write which scope.
async fn beliefs(State(api): State<Api>) -> Json<Vec<Belief>> {
    Json(api.standing.beliefs())
}

/// Equal in every region at equal positions.
#[derive(Serialize)]
struct Digest {
    scope: ScopeId,
    region: RegionName,
    position: cryptorun_core::position::Position,
    digest: cryptorun_core::position::Hash,
    rows: u64,
}

async fn certs(State(api): State<Api>) -> Json<Credentials> {
    Json(api.tls.credentials())
}

async fn digest(State(api): State<Api>, Query(q): Query<ScopeQuery>) -> Response {
    let shelf = match api.shelf(q.scope.as_deref(), q.group.as_deref()) {
        Ok(shelf) => shelf,
        Err(refusal) => return refusal.into_response(),
    };
    let asked = shelf.sink.with_store(|store| Ok((store.position(), store.digest()?))).await;
    match asked {
        Ok((position, (digest, rows))) => Json(Digest {
            scope: shelf.sink.scope().clone(),
            region: api.region.clone(),
            position,
            digest,
            rows,
        })
        .into_response(),
        Err(error) => problem(500, "store", &error.to_string()).into_response(),
    }
}

async fn ready(State(api): State<Api>) -> Response {
    match api.standing.answered_ago() {
        Some(_) => "ready\n".into_response(),
        None => {
            (StatusCode::SERVICE_UNAVAILABLE, "no session with the cluster yet\n").into_response()
        }
    }
}

async fn holder(State(api): State<Api>, Query(q): Query<ScopeQuery>) -> Response {
    match api.shelf(q.scope.as_deref(), q.group.as_deref()) {
        Ok(shelf) if api.facts(shelf).authority == "primary" => "holder\n".into_response(),
        Ok(_) => (StatusCode::SERVICE_UNAVAILABLE, "not the holder\n").into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

#[derive(Deserialize)]
struct LagQuery {
    tier: Option<String>,
    scope: Option<String>,
    group: Option<String>,
    max: Option<u64>,
}

async fn lag(State(api): State<Api>, Query(q): Query<LagQuery>) -> Response {
    if q.tier.as_deref().is_some_and(|tier| tier != Tier::Warm.as_str()) {
        return problem(404, "no_such_scope", "this worker keeps the warm tier only")
            .into_response();
    }
    let shelf = match api.shelf(q.scope.as_deref(), q.group.as_deref()) {
        Ok(shelf) => shelf,
        Err(refusal) => return refusal.into_response(),
    };
    let staleness = api.facts(shelf).staleness;
    let status = match q.max.is_some_and(|max| staleness.0 > max.saturating_mul(1000)) {
        true => StatusCode::SERVICE_UNAVAILABLE,
        false => StatusCode::OK,
    };
    (status, format!("{}.{:03}\n", staleness.0 / 1000, staleness.0 % 1000)).into_response()
}

async fn partition(State(api): State<Api>) -> Json<PartitionState> {
    Json(api.partition())
}

#[derive(Serialize)]
struct Health {
    region: RegionName,
    partition: PartitionState,
    scopes: BTreeMap<ScopeId, ScopeHealth>,
}

#[derive(Serialize)]
struct ScopeHealth {
    role: Role,
    authority: &'static str,
    token: cryptorun_core::token::Token,
    position: u64,
    staleness: Millis,
    degraded: Option<String>,
}

async fn health_page(State(api): State<Api>) -> Json<Health> {
    let scopes = api.shelves.iter().map(|(scope, shelf)| {
        let (facts, view) = (api.facts(shelf), shelf.sink.view());
        let health = ScopeHealth {
            role: shelf.status.borrow().role,
            authority: facts.authority,
            token: facts.token,
            position: view.end.seq,
            staleness: facts.staleness,
            degraded: view.degraded,
        };
        (scope.clone(), health)
    });
    Json(Health {
        region: api.region.clone(),
        partition: api.partition(),
        scopes: scopes.collect(),
    })
}

async fn metrics(State(api): State<Api>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], api.metrics.render()).into_response()
}

/// What an answer says of the data in it.
pub struct Facts {
    pub authority: &'static str,
    pub token: cryptorun_core::token::Token,
    pub staleness: Millis,
    pub watermark: WallTime,
}

impl Api {
    fn shelf(&self, scope: Option<&str>, group: Option<&str>) -> Result<&Shelf, Refusal> {
        let scope = match (scope, group) {
            (Some(scope), _) => {
                scope.parse().map_err(|why: String| problem(400, "malformed_scope", &why))?
            }
            (None, group) => ScopeId::new(Tier::Warm, group.unwrap_or("global")),
        };
        self.shelves.get(&scope).ok_or_else(|| {
            let known: Vec<String> = self.shelves.keys().map(ToString::to_string).collect();
            let text = format!("{} keeps no {scope}; it keeps {}", self.region, known.join(", "));
            problem(421, "not_kept_here", &text)
        })
    }

    /// Data that may not leave a region is not read from another.
    fn may_leave(&self, shelf: &Shelf, peer: &Peer) -> Result<(), Refusal> {
        match &shelf.residency {
            Some(home) if home.as_str() != peer.id.region => {
                let text = format!(
                    "{} stays in {home}; you are in {}",
                    shelf.sink.scope(),
                    peer.id.region
                );
                Err(problem(403, "residency", &text))
            }
            _ => Ok(()),
        }
    }

    pub fn facts(&self, shelf: &Shelf) -> Facts {
        let view: View = shelf.sink.view();
        let last = view.last;
        let token = last.map(|last| last.token).unwrap_or_default();
        let held = self
            .standing
            .holds(shelf.sink.scope())
            .is_some_and(|held| held.token == token && shelf.status.borrow().role == Role::Primary);
        let authority = match (held, view.degraded.is_some() || self.is_cut_off()) {
            (true, _) => "primary",
            (false, true) => "degraded",
            (false, false) => "replica",
        };
        // The sealer's wall clock against the cluster's, and ours against the cluster's: only ours
        // is known; it is taken out.
        let offset = self.standing.clock_offset().ms;
        let now = i64::try_from(self.clock.wall().0).unwrap_or(i64::MAX).saturating_sub(offset);
        let sealed = last.map(|last| last.sealed_at).unwrap_or_default();
        Facts {
            authority,
            token,
            staleness: WallTime(now.max(0).cast_unsigned()).since(sealed),
            watermark: last.map(|last| last.watermark).unwrap_or_default(),
        }
    }

    /// No committed renewal for as long as a lease would have lived.
    fn is_cut_off(&self) -> bool {
        let span = self.standing.timing().map(|timing| timing.holder_span().to_duration());
        match (self.standing.answered_ago(), span) {
            (Some(ago), Some(span)) => ago > span,
            _ => true,
        }
    }

    fn partition(&self) -> PartitionState {
        let cut_off = self.is_cut_off();
        let since = self.standing.answered_ago().filter(|_| cut_off);
        PartitionState {
            partition_mode: cut_off,
            since: since.map(Into::into),
            region: self.region.clone(),
        }
    }
}

fn source(venue: Option<&str>, symbol: &str) -> Result<Source, Refusal> {
    let symbol: Symbol =
        symbol.parse().map_err(|e| problem(400, "malformed_symbol", &format!("{e}")))?;
    let venue = venue.unwrap_or(VenueId::Kraken.as_str());
    if venue != VenueId::Kraken.as_str() {
        return Err(problem(400, "unknown_venue", &format!("no venue '{venue}'; known: kraken")));
    }
    Ok(Source { venue: VenueId::Kraken, symbol })
}

fn shown(candle: &crate::candle::Candle) -> CandleRow {
    use crate::ingest::decimal::render;
    let price = |mantissa: i64| render(i128::from(mantissa), candle.price_scale);
    CandleRow {
        venue: candle.source.venue.to_string(),
        symbol: candle.source.symbol.to_string(),
        open_time: WallTime(candle.open_us / 1000),
        open: price(candle.open),
        high: price(candle.high),
        low: price(candle.low),
        close: price(candle.close),
        volume: render(candle.volume, candle.qty_scale),
        trades: candle.trades,
        state: state_word(candle.state).to_owned(),
        revision: candle.revision,
    }
}

/// An answer that says no; boxed, because it is rare and large.
struct Refusal(Box<Response>);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        *self.0
    }
}

fn problem(status: u16, kind: &str, detail: &str) -> Refusal {
    let body = Problem {
        kind: format!("https://cryptorun.dev/problems/{kind}"),
        title: kind.replace('_', " "),
        status,
        detail: detail.to_owned(),
        ..Problem::default()
    };
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (code, Json(body)).into_response();
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Refusal(Box::new(response))
}

/// Keeps the figures of the metrics page current.
pub fn export(api: &Api) {
    let known = api.clone();
    let metrics = api.metrics.clone();
    metrics.on_render(move |page| {
        let own = known.region.as_str();
        for (scope, shelf) in known.shelves.iter() {
            let (tier, group) = (scope.tier.as_str(), scope.group.as_str());
            let (facts, view) = (known.facts(shelf), shelf.sink.view());
            let source = known.primary_region(scope);
            page.replication_lag_seconds.set([tier, own, &source], seconds(facts.staleness));
            page.fenced_writes_total.record([tier, own], view.fenced);
            #[expect(clippy::cast_precision_loss, reason = "an epoch is a small number")]
            page.authority_epoch.set([tier, group], facts.token.epoch as f64);
            match known.standing.holds(scope) {
                Some(held) => {
                    let left = held.deadline.saturating_sub(known.clock.boot().0);
                    let left = Duration::from_nanos(left).as_secs_f64();
                    page.lease_remaining_seconds.set([tier, group], left);
                }
                None => page.lease_remaining_seconds.remove([tier, group]),
            }
            if view.degraded.is_some() {
                page.data_consistency_errors_total.record(["chain"], 1);
            }
        }
        let renewals = known.standing.renewals();
        for (outcome, count) in [
            ("answered", &renewals.answered),
            ("retried", &renewals.retried),
            ("lost", &renewals.lost),
        ] {
            page.renewals_total.record([outcome], count.load(Ordering::Relaxed));
        }
        let cut_off = if known.is_cut_off() { 1.0 } else { 0.0 };
        page.partition_mode.set([own], cut_off);
    });
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of any real age fit a double")]
fn seconds(millis: Millis) -> f64 {
    millis.0 as f64 / 1000.0
}

impl Api {
    /// The region whose reign is the last known one.
    fn primary_region(&self, scope: &ScopeId) -> String {
        self.standing
            .directive(scope)
            .and_then(|directive| Some(directive.reigns.last()?.region.to_string()))
            .unwrap_or_else(|| self.region.to_string())
    }
}
