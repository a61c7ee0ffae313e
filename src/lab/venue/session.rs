//! One WebSocket connection: requests in, acknowledgements and market frames out.
//!
//! Faults act here, on what this connection would have been sent, so that one client can be made to
//! lose what another receives.

use super::frames::{self, Envelope};
use super::market::{Event, Market, Watch};
use super::pair::{PAIRS, by_symbol};
use super::{Counters, Shared};
use crate::protocol::{VenueChannel, VenueFault};
use cryptorun_platform::clock::BootTime;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// A connection without a subscription is closed after this long without a request.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// A reader that takes nothing for this long is closed.
const SEND_MAX: Duration = Duration::from_secs(10);
const REQUEST_BYTES_MAX: usize = 64 * 1024;
const SYMBOLS_MAX: usize = 64;

/// Why a connection ended.
enum End {
    /// By the peer, by an error, or by a fault: nothing more can be said to it.
    Gone,
    Shutdown,
}

pub async fn serve(stream: TcpStream, number: u64, shared: Arc<Shared>, stop: CancellationToken) {
    let Some((socket, client)) = accept(stream).await else { return };
    let session = Session {
        events: shared.market.listen(),
        stalled_until: shared.stalled_until(client.as_deref()),
        market: shared.market.clone(),
        heartbeat_at: Instant::now() + HEARTBEAT_EVERY,
        idle_at: Instant::now() + IDLE_MAX,
        shared,
        socket,
        client,
        books: BTreeMap::new(),
        trades: BTreeMap::new(),
        instruments: false,
        drop_book: 0,
        drop_trade: 0,
        corrupt: 0,
    };
    session.run(number, stop).await;
}

/// The WebSocket handshake, and the client's name if its URL has `?client=NAME`.
async fn accept(stream: TcpStream) -> Option<(WebSocketStream<TcpStream>, Option<String>)> {
    use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
    let _ = stream.set_nodelay(true);
    let config = WebSocketConfig::default()
        .max_message_size(Some(REQUEST_BYTES_MAX))
        .max_frame_size(Some(REQUEST_BYTES_MAX));
    let mut client = None;
    #[allow(clippy::result_large_err)] // The signature is tungstenite's.
    let read_name = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let query = request.uri().query().unwrap_or_default();
        client = query.split('&').find_map(|part| part.strip_prefix("client=")).map(str::to_owned);
        Ok(response)
    };
    let handshake =
        tokio_tungstenite::accept_hdr_async_with_config(stream, read_name, Some(config));
    match tokio::time::timeout(HANDSHAKE_MAX, handshake).await {
        Ok(Ok(socket)) => Some((socket, client)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "handshake failed");
            None
        }
        Err(_) => None,
    }
}

struct Session {
    shared: Arc<Shared>,
    market: Arc<Market>,
    events: broadcast::Receiver<Event>,
    socket: WebSocketStream<TcpStream>,
    client: Option<String>,
    /// By pair: depth, the step of the snapshot, and what keeps the frames coming.
    books: BTreeMap<usize, (usize, u64, Watch)>,
    /// By pair: the highest id told.
    trades: BTreeMap<usize, u64>,
    instruments: bool,
    heartbeat_at: Instant,
    idle_at: Instant,
    stalled_until: BootTime,
    drop_book: u32,
    drop_trade: u32,
    corrupt: u32,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    #[serde(default)]
    params: Params,
    req_id: Option<u64>,
}

#[derive(Deserialize, Default)]
struct Params {
    channel: Option<String>,
    #[serde(default)]
    symbol: Vec<String>,
    depth: Option<usize>,
    snapshot: Option<bool>,
}

impl Session {
    async fn run(mut self, number: u64, stop: CancellationToken) {
        if self.answer(frames::banner(number).into()).await.is_err() {
            return;
        }
        let end = loop {
            let step = tokio::select! {
                biased;
                () = stop.cancelled() => Err(End::Shutdown),
                message = self.socket.next() => self.receive(message).await,
                event = self.events.recv() => self.publish(event).await,
                () = tokio::time::sleep_until(self.heartbeat_at) => self.tick().await,
            };
            if let Err(end) = step {
                break end;
            }
        };
        if matches!(end, End::Shutdown) {
            let _ = tokio::time::timeout(Duration::from_millis(200), self.socket.close(None)).await;
        }
    }

    async fn receive(
        &mut self,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> Result<(), End> {
        self.idle_at = Instant::now() + IDLE_MAX;
        match message {
            Some(Ok(Message::Text(text))) => self.request(&text).await,
            Some(Ok(Message::Binary(_))) => {
                let at_us = self.catch_up().await?;
                self.malformed(at_us).await
            }
            Some(Ok(Message::Close(_))) | Some(Err(_)) | None => Err(End::Gone),
            Some(Ok(_)) => self.flush().await, // A ping: the library has queued the pong.
        }
    }

    async fn request(&mut self, text: &str) -> Result<(), End> {
        let in_us = self.market.now_us();
        let out_us = self.catch_up().await?;
        let Ok(request) = serde_json::from_str::<Request>(text) else {
            return self.malformed(out_us).await;
        };
        let envelope = Envelope { req_id: request.req_id, in_us, out_us };
        let subscribe = match request.method.as_str() {
            "ping" => return self.answer(envelope.pong().into()).await,
            "subscribe" => true,
            "unsubscribe" => false,
            other => {
                let refusal = envelope.refused(other, None, "Event(s) not found");
                return self.answer(refusal.into()).await;
            }
        };
        let params = request.params;
        match params.channel.as_deref() {
            Some("instrument") => {
                self.instrument(subscribe, params.snapshot != Some(false), envelope).await
            }
            Some(channel @ ("book" | "trade")) => {
                if params.symbol.is_empty() || params.symbol.len() > SYMBOLS_MAX {
                    let error = if params.symbol.is_empty() {
                        "Symbol(s) not found"
                    } else {
                        "Too many symbols"
                    };
                    let refusal = envelope.refused(&request.method, None, error);
                    return self.answer(refusal.into()).await;
                }
                for symbol in &params.symbol {
                    match (by_symbol(symbol), subscribe) {
                        (None, _) => {
                            let error = format!("Currency pair not supported {symbol}");
                            let refusal = envelope.refused(&request.method, Some(symbol), &error);
                            self.answer(refusal.into()).await?;
                        }
                        (Some(pair), true) => {
                            self.subscribe(channel, pair, &params, &envelope).await?;
                        }
                        (Some(pair), false) => self.unsubscribe(channel, pair, &envelope).await?,
                    }
                }
                Ok(())
            }
            other => {
                let error = format!("Channel not supported {}", other.unwrap_or_default());
                let refusal = envelope.refused(&request.method, None, error.trim_end());
                self.answer(refusal.into()).await
            }
        }
    }

    async fn malformed(&mut self, at_us: u64) -> Result<(), End> {
        let envelope = Envelope { req_id: None, in_us: at_us, out_us: at_us };
        self.answer(envelope.refused("error", None, "Malformed request").into()).await
    }

    /// Sends every trade up to the instant it returns, which an answer may then tell as the time.
    async fn catch_up(&mut self) -> Result<u64, End> {
        let at_us = self.market.tell_trades();
        loop {
            match self.events.try_recv() {
                Ok(event) => self.publish(Ok(event)).await?,
                Err(TryRecvError::Lagged(frames)) => {
                    self.publish(Err(RecvError::Lagged(frames))).await?;
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(at_us),
            }
        }
    }

    async fn subscribe(
        &mut self,
        channel: &str,
        pair: usize,
        params: &Params,
        envelope: &Envelope,
    ) -> Result<(), End> {
        let symbol = PAIRS[pair].symbol;
        let book = channel == "book";
        let taken =
            if book { self.books.contains_key(&pair) } else { self.trades.contains_key(&pair) };
        let depth = params.depth.unwrap_or(10);
        let error = match (taken, book && !self.market.serves_depth(pair, depth)) {
            (true, _) => Some("Already subscribed"),
            (false, true) => Some("Subscription depth not supported"),
            (false, false) => None,
        };
        if let Some(error) = error {
            return self.answer(envelope.refused("subscribe", Some(symbol), error).into()).await;
        }
        if book {
            let wanted = params.snapshot != Some(false);
            let result =
                json!({"channel": "book", "depth": depth, "snapshot": wanted, "symbol": symbol});
            self.answer(envelope.accepted("subscribe", result).into()).await?;
            let (snapshot, step, watch) = self.market.watch_book(pair, depth);
            self.books.insert(pair, (depth, step, watch));
            if wanted {
                self.data(VenueChannel::Book, 0, snapshot, None).await?;
            }
        } else {
            let wanted = params.snapshot.unwrap_or(false); // The documented default, unlike the book.
            let result = json!({"channel": "trade", "snapshot": wanted, "symbol": symbol});
            self.answer(envelope.accepted("subscribe", result).into()).await?;
            let (snapshot, last) = self.market.recent_trades(pair);
            self.trades.insert(pair, last);
            if wanted {
                self.data(VenueChannel::Trade, super::market::SNAPSHOT_TRADES, snapshot, None)
                    .await?;
            }
        }
        Ok(())
    }

    async fn unsubscribe(
        &mut self,
        channel: &str,
        pair: usize,
        envelope: &Envelope,
    ) -> Result<(), End> {
        let symbol = PAIRS[pair].symbol;
        let result = if channel == "book" {
            let removed = self.books.remove(&pair);
            removed.map(|(depth, ..)| json!({"channel": "book", "depth": depth, "symbol": symbol}))
        } else {
            let removed = self.trades.remove(&pair);
            removed.map(|_| json!({"channel": "trade", "symbol": symbol}))
        };
        let answer = match result {
            Some(result) => envelope.accepted("unsubscribe", result),
            None => envelope.refused("unsubscribe", Some(symbol), "Subscription Not Found"),
        };
        self.answer(answer.into()).await
    }

    async fn instrument(
        &mut self,
        subscribe: bool,
        snapshot: bool,
        envelope: Envelope,
    ) -> Result<(), End> {
        let method = if subscribe { "subscribe" } else { "unsubscribe" };
        if self.instruments == subscribe {
            let error = if subscribe { "Already subscribed" } else { "Subscription Not Found" };
            return self.answer(envelope.refused(method, None, error).into()).await;
        }
        self.instruments = subscribe;
        let result = if subscribe {
            json!({"channel": "instrument", "snapshot": snapshot})
        } else {
            json!({"channel": "instrument"})
        };
        self.answer(envelope.accepted(method, result).into()).await?;
        if subscribe && snapshot {
            self.answer(frames::instruments().into()).await?;
        }
        Ok(())
    }

    async fn publish(&mut self, event: Result<Event, RecvError>) -> Result<(), End> {
        match event {
            Ok(Event::Book(frame)) => {
                match self.books.get(&frame.pair) {
                    Some((depth, step, _)) if *depth == frame.depth && frame.step > *step => {}
                    _ => return Ok(()),
                }
                self.data(VenueChannel::Book, 0, frame.text.clone(), Some(frame.checksum)).await
            }
            Ok(Event::Trades(frame)) => {
                match self.trades.get_mut(&frame.pair) {
                    Some(last) if frame.last > *last => *last = frame.last,
                    _ => return Ok(()),
                }
                self.data(VenueChannel::Trade, frame.count, frame.text.clone(), None).await
            }
            Ok(Event::Fault(fault)) => self.fault(&fault),
            Err(RecvError::Lagged(frames)) => {
                tracing::warn!(frames, client = self.client.as_deref(), "slow reader closed");
                Counters::add(&self.shared.counters.slow_readers, 1);
                Err(End::Gone)
            }
            Err(RecvError::Closed) => Err(End::Shutdown),
        }
    }

    fn fault(&mut self, fault: &VenueFault) -> Result<(), End> {
        if fault.client().is_some_and(|client| self.client.as_deref() != Some(client)) {
            return Ok(());
        }
        match fault {
            VenueFault::Drop { channel: VenueChannel::Book, frames, .. } => {
                self.drop_book = self.drop_book.saturating_add(*frames);
            }
            VenueFault::Drop { channel: VenueChannel::Trade, frames, .. } => {
                self.drop_trade = self.drop_trade.saturating_add(*frames);
            }
            VenueFault::CorruptChecksum { frames, .. } => {
                self.corrupt = self.corrupt.saturating_add(*frames);
            }
            VenueFault::Stall { .. } => {
                self.stalled_until = self.shared.stalled_until(self.client.as_deref());
            }
            VenueFault::Disconnect { .. } => {
                Counters::add(&self.shared.counters.disconnected, 1);
                return Err(End::Gone);
            }
        }
        Ok(())
    }

    /// Sends a market frame unless a fault takes it.
    async fn data(
        &mut self,
        channel: VenueChannel,
        trades: u64,
        mut text: Utf8Bytes,
        checksum: Option<u32>,
    ) -> Result<(), End> {
        let counters = &self.shared.counters;
        if self.stalled() {
            Counters::add(&counters.frames_stalled, 1);
            return Ok(());
        }
        let (left, dropped, sent) = match channel {
            VenueChannel::Book => (&mut self.drop_book, &counters.book_dropped, &counters.book),
            VenueChannel::Trade => (&mut self.drop_trade, &counters.trade_dropped, &counters.trade),
        };
        if *left > 0 {
            *left -= 1;
            Counters::add(dropped, 1);
            Counters::add(&counters.trades_dropped, trades);
            return Ok(());
        }
        if let Some(checksum) = checksum.filter(|_| self.corrupt > 0) {
            self.corrupt -= 1;
            Counters::add(&counters.corrupted, 1);
            text = frames::with_wrong_checksum(&text, checksum).into();
        }
        Counters::add(sent, 1);
        self.send(text).await
    }

    async fn answer(&mut self, text: Utf8Bytes) -> Result<(), End> {
        Counters::add(&self.shared.counters.answer, 1);
        self.send(text).await
    }

    async fn tick(&mut self) -> Result<(), End> {
        let subscribed = self.instruments || !self.books.is_empty() || !self.trades.is_empty();
        if !subscribed {
            self.heartbeat_at = Instant::now() + HEARTBEAT_EVERY;
            return if Instant::now() > self.idle_at { Err(End::Shutdown) } else { Ok(()) };
        }
        if self.stalled() {
            self.heartbeat_at = Instant::now() + HEARTBEAT_EVERY;
            return Ok(());
        }
        Counters::add(&self.shared.counters.heartbeat, 1);
        self.send(Utf8Bytes::from_static(frames::HEARTBEAT)).await
    }

    async fn send(&mut self, text: Utf8Bytes) -> Result<(), End> {
        self.heartbeat_at = Instant::now() + HEARTBEAT_EVERY;
        let sending = self.socket.send(Message::Text(text));
        match tokio::time::timeout(SEND_MAX, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => {
                self.shared.counters.slow_readers.fetch_add(1, Ordering::Relaxed);
                Err(End::Gone)
            }
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        match tokio::time::timeout(SEND_MAX, self.socket.flush()).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Gone),
        }
    }

    fn stalled(&self) -> bool {
        self.shared.clock.boot() < self.stalled_until
    }
}
