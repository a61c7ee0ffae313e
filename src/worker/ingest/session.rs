//! The session: one venue connection for as long as the process lives.
//!
//! It owns what the intake must not have: the socket, the clock, the waits. It connects within the
//! venue's budget, hands frames in, does what comes out, and begins anew after any end, for ever.
//! Events go to a bounded channel; a consumer that falls behind slows the socket down, and nothing
//! is dropped in between.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cryptorun_platform::Platform;
use cryptorun_platform::clock::Clock;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::sync::CancellationToken;

use super::dial::{Dial, Endpoint, UrlError, Wire};
use super::feed::{FeedEvent, FeedReport};
use super::intake::{Act, EndReason, Fetch, Intake, Now};
use super::kraken::{DEPTHS, Kraken, KrakenSettings};
use super::pace::{ConnectBudget, backoff};
use super::rest::{RestClient, RestError};
use super::sequence::ResumePoints;
use super::venue::Venue;

/// Events between the session and whoever stores them: a second of the busiest market there is.
pub const EVENTS_MAX: usize = 8_192;

/// The list of every pair is the largest message, about 1 MB.
const MESSAGE_MAX: usize = 16 << 20;

/// TCP, TLS and the WebSocket handshake together.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A venue that takes nothing for this long is gone.
const SEND_MAX: Duration = Duration::from_secs(10);

/// How often time is looked at. Deadlines are late by at most this.
const TICK: Duration = Duration::from_millis(250);

/// A connection that lived this long was a good one: the next is made at once.
const LIVED: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("no symbols are configured; an example is BTC/USD")]
    NoSymbols,
    #[error("a book depth of {depth} is not offered; one of 10, 25, 100, 500, 1000 is")]
    Depth { depth: u16 },
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("stopping")]
    Stopped,
    #[error(transparent)]
    Broken(#[from] EndReason),
    #[error("the venue closed the connection")]
    Closed,
    #[error("the venue takes nothing")]
    Blocked,
    #[error("the connection failed")]
    Failed(#[from] Box<tokio_tungstenite::tungstenite::Error>),
    #[error("cannot connect")]
    Unreachable(#[source] std::io::Error),
    #[error("no connection within {} s", CONNECT_MAX.as_secs())]
    TimedOut,
}

/// What a feed's consumer holds.
pub struct Feed {
    pub events: mpsc::Receiver<FeedEvent>,
    /// Renewed a few times a second.
    pub report: watch::Receiver<Arc<FeedReport>>,
}

pub struct Session<V> {
    platform: Platform,
    dial: Arc<dyn Dial>,
    ws_url: String,
    endpoint: Endpoint,
    rest: Arc<RestClient>,
    intake: Intake<V>,
    budget: ConnectBudget,
    events: mpsc::Sender<FeedEvent>,
    report: watch::Sender<Arc<FeedReport>>,
}

impl Session<Kraken> {
    /// `resume` says where each symbol's stored trades end; what was missed since is fetched.
    pub fn kraken(
        platform: Platform,
        dial: Arc<dyn Dial>,
        settings: &KrakenSettings,
        resume: &ResumePoints,
    ) -> Result<(Self, Feed), SettingsError> {
        if settings.symbols.is_empty() {
            return Err(SettingsError::NoSymbols);
        }
        if !DEPTHS.contains(&settings.depth) {
            return Err(SettingsError::Depth { depth: settings.depth });
        }
        let venue = Kraken::new(settings.depth);
        let intake = Intake::new(venue, &settings.symbols, settings.depth.into(), resume);
        Ok(Self::new(platform, dial, &settings.ws_url, &settings.rest_url, intake)?)
    }
}

impl<V: Venue> Session<V> {
    pub fn new(
        platform: Platform,
        dial: Arc<dyn Dial>,
        ws_url: &str,
        rest_url: &str,
        intake: Intake<V>,
    ) -> Result<(Self, Feed), UrlError> {
        let abilities = intake.capabilities();
        let endpoint = Endpoint::of(ws_url)?;
        let clock = platform.clock.clone();
        let rest = RestClient::new(clock, dial.clone(), rest_url, abilities.rest_every)?;
        let (events, events_out) = mpsc::channel(EVENTS_MAX);
        let (report, report_out) = watch::channel(Arc::default());
        let session = Self {
            budget: ConnectBudget::new(abilities.connect_every, abilities.connect_burst),
            platform,
            dial,
            ws_url: ws_url.to_owned(),
            endpoint,
            rest: Arc::new(rest),
            intake,
            events,
            report,
        };
        Ok((session, Feed { events: events_out, report: report_out }))
    }

    /// Runs until told to stop or until nobody listens any more.
    pub async fn run(mut self, stop: CancellationToken) {
        let venue = self.intake.capabilities().venue;
        let mut failures = 0;
        loop {
            let clock = self.platform.clock.clone();
            let wait =
                self.budget.take(clock.boot()).max(backoff(failures, &*self.platform.random));
            tokio::select! {
                () = sleep(wait) => {}
                () = stop.cancelled() => return,
            }
            let begun = clock.boot();
            let end = self.connection(&stop).await;
            self.intake.disconnected(now(&*clock));
            self.publish();
            if let End::Stopped = end {
                return;
            }
            let lived = clock.boot() - begun;
            failures = if lived >= LIVED { 0 } else { failures + 1 };
            tracing::warn!(
                venue = venue.as_str(),
                lived_ms = lived.as_millis() as u64,
                failures,
                error = &end as &dyn std::error::Error,
                "venue connection ended"
            );
        }
    }

    async fn connection(&mut self, stop: &CancellationToken) -> End {
        let connect = timeout(CONNECT_MAX, connect(&*self.dial, &self.endpoint, &self.ws_url));
        let socket = tokio::select! {
            socket = connect => match socket {
                Ok(Ok(socket)) => socket,
                Ok(Err(end)) => return end,
                Err(_) => return End::TimedOut,
            },
            () = stop.cancelled() => return End::Stopped,
        };
        match self.converse(socket, stop).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn converse(
        &mut self,
        mut socket: WebSocketStream<Box<dyn Wire>>,
        stop: &CancellationToken,
    ) -> Result<std::convert::Infallible, End> {
        let clock = self.platform.clock.clone();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fetches: FuturesUnordered<BoxFuture<'static, Fetched>> = FuturesUnordered::new();
        let mut acts = Vec::new();
        self.intake.connected(now(&*clock), &mut acts);
        loop {
            for act in acts.drain(..) {
                match act {
                    Act::Send(text) => send(&mut socket, text).await?,
                    Act::Emit(event) => self.emit(event, stop).await?,
                    Act::Fetch(fetch) => fetches.push(get(self.rest.clone(), fetch).boxed()),
                    Act::Reconnect(reason) => return Err(reason.into()),
                }
            }
            // Ticks and answers are few, so the socket that comes last is never starved by them.
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    let _ = timeout(TICK, socket.close(None)).await; // A courtesy.
                    return Err(End::Stopped);
                }
                _ = ticks.tick() => {
                    self.intake.tick(now(&*clock), &mut acts);
                    self.publish();
                }
                Some((fetch, answer)) = fetches.next() => {
                    self.fetched(&fetch, answer, &mut acts);
                }
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        self.intake.frame(now(&*clock), text.as_bytes(), &mut acts);
                    }
                    Some(Ok(Message::Binary(bytes))) => {
                        self.intake.frame(now(&*clock), &bytes, &mut acts);
                    }
                    Some(Ok(Message::Close(_))) | None => return Err(End::Closed),
                    Some(Ok(Message::Ping(_))) => flush(&mut socket).await?, // Its pong is queued.
                    Some(Ok(Message::Pong(_) | Message::Frame(_))) => {}
                    Some(Err(error)) => return Err(Box::new(error).into()),
                },
            }
        }
    }

    fn fetched(&mut self, fetch: &Fetch, answer: Result<Bytes, RestError>, acts: &mut Vec<Act>) {
        let now = now(&*self.platform.clock);
        match answer {
            Ok(body) => self.intake.fetched(now, fetch, Some(&body), acts),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(symbol = fetch.symbol.as_str(), error, "rest request failed");
                self.intake.fetched(now, fetch, None, acts);
            }
        }
    }

    async fn emit(&self, event: FeedEvent, stop: &CancellationToken) -> Result<(), End> {
        match &event {
            FeedEvent::GapOpened { source, gap } => {
                tracing::warn!(%source, ?gap, "gap opened");
            }
            FeedEvent::GapClosed { source, gap } => tracing::info!(%source, ?gap, "gap closed"),
            FeedEvent::GapLost { source, ids } => {
                tracing::error!(%source, %ids, "the venue no longer gives these trades");
            }
            FeedEvent::Trade(_) | FeedEvent::Watermark { .. } => {}
        }
        tokio::select! {
            sent = self.events.send(event) => sent.map_err(|_| End::Stopped),
            () = stop.cancelled() => Err(End::Stopped),
        }
    }

    fn publish(&self) {
        let report = self.intake.report(now(&*self.platform.clock));
        self.report.send_replace(Arc::new(report));
    }
}

type Fetched = (Fetch, Result<Bytes, RestError>);

async fn get(rest: Arc<RestClient>, fetch: Fetch) -> Fetched {
    let answer = rest.get(&fetch.path).await;
    (fetch, answer)
}

fn now(clock: &dyn Clock) -> Now {
    Now { boot: clock.boot(), wall: clock.wall() }
}

async fn connect(
    dial: &dyn Dial,
    endpoint: &Endpoint,
    url: &str,
) -> Result<WebSocketStream<Box<dyn Wire>>, End> {
    let wire = dial.dial(endpoint).await.map_err(End::Unreachable)?;
    let request = url.into_client_request().map_err(Box::new)?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX));
    let connected = tokio_tungstenite::client_async_with_config(request, wire, Some(config)).await;
    let (socket, _response) = connected.map_err(Box::new)?;
    Ok(socket)
}

async fn send(socket: &mut WebSocketStream<Box<dyn Wire>>, text: String) -> Result<(), End> {
    match timeout(SEND_MAX, socket.send(Message::text(text))).await {
        Ok(sent) => Ok(sent.map_err(Box::new)?),
        Err(_) => Err(End::Blocked),
    }
}

async fn flush(socket: &mut WebSocketStream<Box<dyn Wire>>) -> Result<(), End> {
    match timeout(SEND_MAX, socket.flush()).await {
        Ok(flushed) => Ok(flushed.map_err(Box::new)?),
        Err(_) => Err(End::Blocked),
    }
}
