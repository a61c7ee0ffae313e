//! Kraken v2 frames into events.
//!
//! Prices and quantities are JSON numbers whose digits matter, so they are taken as raw text and
//! read at the pair's declared precision; serde never sees them as numbers. Unknown channels,
//! methods and fields pass: the venue adds some at any time.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::ingest::decimal::{SCALE_MAX, parse_fixed};
use crate::ingest::model::{Instrument, Level, Side, Source, Symbol, Trade, VenueId};
use crate::ingest::venue::{BookMessage, Channel, DecodeError, VenueEvent};
use crate::ingest::venue_time::rfc3339_us;

use super::{Kraken, channel_of_request};

/// Every v2 message is one of two: data of a channel, or the answer to a method.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    success: Option<bool>,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
    #[serde(borrow)]
    symbol: Option<Cow<'a, str>>,
    req_id: Option<u64>,
    #[serde(borrow)]
    time_out: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct StatusData<'a> {
    #[serde(borrow)]
    system: Cow<'a, str>,
}

#[derive(Deserialize)]
struct AckResult<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    symbol: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct InstrumentData<'a> {
    #[serde(borrow, default)]
    pairs: Vec<PairData<'a>>,
}

#[derive(Deserialize)]
struct PairData<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    status: Option<Cow<'a, str>>,
    price_precision: Option<u8>,
    qty_precision: Option<u8>,
}

#[derive(Deserialize)]
struct TradeData<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    side: Cow<'a, str>,
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    qty: &'a RawValue,
    trade_id: u64,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
}

#[derive(Deserialize)]
struct BookData<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow, default)]
    bids: Vec<LevelData<'a>>,
    #[serde(borrow, default)]
    asks: Vec<LevelData<'a>>,
    checksum: Option<u32>,
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct LevelData<'a> {
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    qty: &'a RawValue,
}

impl Kraken {
    pub(super) fn decode_frame(
        &mut self,
        frame: &[u8],
        out: &mut Vec<VenueEvent>,
    ) -> Result<(), DecodeError> {
        let envelope: Envelope<'_> =
            serde_json::from_slice(frame).map_err(|source| DecodeError::NotJson { source })?;
        if let Some(method) = &envelope.method {
            return answer(method, &envelope, out);
        }
        match envelope.channel.as_deref() {
            Some("heartbeat") => out.push(VenueEvent::Heartbeat),
            Some("status") => status(&envelope, out)?,
            Some("instrument") => self.instruments_frame(&envelope, out)?,
            Some("trade") => self.trade_frame(&envelope, out)?,
            Some("book") => self.book_frame(&envelope, out)?,
            Some("ticker" | "ohlc" | "level3") => out.push(VenueEvent::Ignored),
            Some(_) | None => out.push(VenueEvent::Unknown),
        }
        Ok(())
    }

    /// The snapshot lists every pair of the venue, a thousand and more; those that lack a
    /// precision or carry an odd name are passed over, since ours may still be among the rest.
    fn instruments_frame(
        &mut self,
        envelope: &Envelope<'_>,
        out: &mut Vec<VenueEvent>,
    ) -> Result<(), DecodeError> {
        let data: InstrumentData<'_> = data_of(Channel::Instrument, envelope)?;
        for pair in data.pairs {
            let (Some(price_scale), Some(qty_scale)) = (pair.price_precision, pair.qty_precision)
            else {
                continue;
            };
            let Ok(symbol) = pair.symbol.parse::<Symbol>() else { continue };
            if price_scale > SCALE_MAX || qty_scale > SCALE_MAX {
                continue;
            }
            let online = pair.status.as_deref().is_none_or(|status| status == "online");
            let instrument = Instrument { symbol, price_scale, qty_scale, online };
            self.instruments.insert(instrument.symbol.clone(), instrument.clone());
            out.push(VenueEvent::Instrument(instrument));
        }
        Ok(())
    }

    fn trade_frame(
        &self,
        envelope: &Envelope<'_>,
        out: &mut Vec<VenueEvent>,
    ) -> Result<(), DecodeError> {
        let data: Vec<TradeData<'_>> = data_of(Channel::Trade, envelope)?;
        let mut trades = data.iter().map(|item| self.trade(item)).collect::<Result<Vec<_>, _>>()?;
        // The order inside a snapshot is not documented; ids settle it.
        trades.sort_by(|a, b| (&a.source.symbol, a.id).cmp(&(&b.source.symbol, b.id)));
        out.push(VenueEvent::Trades { snapshot: is_snapshot(envelope), trades });
        Ok(())
    }

    fn trade(&self, item: &TradeData<'_>) -> Result<Trade, DecodeError> {
        let channel = Channel::Trade;
        let symbol = symbol_of(channel, &item.symbol)?;
        let instrument = self.instrument(channel, &symbol)?;
        let field = |what| DecodeError::Field { channel, symbol: Some(symbol.clone()), what };
        let number = |what, raw: &RawValue, scale| {
            parse_fixed(raw.get(), scale).map_err(|source| DecodeError::Number {
                channel,
                symbol: symbol.clone(),
                what,
                source,
            })
        };
        let price = number("price", item.price, instrument.price_scale)?;
        let qty = number("qty", item.qty, instrument.qty_scale)?;
        let taker = match item.side.as_ref() {
            "buy" => Side::Buy,
            "sell" => Side::Sell,
            _ => return Err(field("side")),
        };
        let at_us = rfc3339_us(&item.timestamp).filter(|at| *at > 0);
        let at_us = at_us.ok_or_else(|| field("timestamp"))?;
        if price <= 0 || qty <= 0 {
            return Err(field(if price <= 0 { "price" } else { "qty" }));
        }
        Ok(Trade {
            id: item.trade_id,
            price,
            qty,
            price_scale: instrument.price_scale,
            qty_scale: instrument.qty_scale,
            taker,
            at_us,
            source: Source { venue: VenueId::Kraken, symbol },
        })
    }

    fn book_frame(
        &self,
        envelope: &Envelope<'_>,
        out: &mut Vec<VenueEvent>,
    ) -> Result<(), DecodeError> {
        let channel = Channel::Book;
        let data: Vec<BookData<'_>> = data_of(channel, envelope)?;
        for item in data {
            let symbol = symbol_of(channel, &item.symbol)?;
            let instrument = self.instrument(channel, &symbol)?;
            let bids = levels(instrument, &item.bids)?;
            let asks = levels(instrument, &item.asks)?;
            let at_us = match &item.timestamp {
                Some(text) => Some(rfc3339_us(text).ok_or_else(|| DecodeError::Field {
                    channel,
                    symbol: Some(symbol.clone()),
                    what: "timestamp",
                })?),
                None => None,
            };
            out.push(VenueEvent::Book(BookMessage {
                symbol,
                snapshot: is_snapshot(envelope),
                bids,
                asks,
                checksum: item.checksum,
                at_us,
            }));
        }
        Ok(())
    }
}

fn levels(instrument: &Instrument, data: &[LevelData<'_>]) -> Result<Vec<Level>, DecodeError> {
    let number = |what, raw: &RawValue, scale| {
        parse_fixed(raw.get(), scale).map_err(|source| DecodeError::Number {
            channel: Channel::Book,
            symbol: instrument.symbol.clone(),
            what,
            source,
        })
    };
    let level = |item: &LevelData<'_>| {
        let price = number("price", item.price, instrument.price_scale)?;
        let qty = number("qty", item.qty, instrument.qty_scale)?;
        if price < 0 || qty < 0 {
            let symbol = Some(instrument.symbol.clone());
            return Err(DecodeError::Field { channel: Channel::Book, symbol, what: "level" });
        }
        Ok(Level { price, qty })
    };
    data.iter().map(level).collect()
}

fn answer(
    method: &str,
    envelope: &Envelope<'_>,
    out: &mut Vec<VenueEvent>,
) -> Result<(), DecodeError> {
    if let Some(at_us) = envelope.time_out.as_deref().and_then(rfc3339_us) {
        out.push(VenueEvent::Time { at_us });
    }
    if method == "pong" {
        out.push(VenueEvent::Heartbeat);
        return Ok(());
    }
    if envelope.success == Some(false) || envelope.error.is_some() {
        out.push(VenueEvent::Refused {
            channel: envelope.req_id.and_then(channel_of_request),
            symbol: envelope.symbol.as_deref().and_then(|text| text.parse().ok()),
            reason: envelope
                .error
                .as_deref()
                .unwrap_or("no reason given")
                .chars()
                .take(200)
                .collect(),
        });
        return Ok(());
    }
    let Some(raw) = envelope.result else {
        out.push(VenueEvent::Unknown);
        return Ok(());
    };
    let Ok(result) = serde_json::from_str::<AckResult<'_>>(raw.get()) else {
        out.push(VenueEvent::Unknown);
        return Ok(());
    };
    let channel = match result.channel.as_ref() {
        "instrument" => Channel::Instrument,
        "trade" => Channel::Trade,
        "book" => Channel::Book,
        _ => {
            out.push(VenueEvent::Unknown);
            return Ok(());
        }
    };
    let symbol = match result.symbol.as_deref() {
        Some(text) => Some(symbol_of(channel, text)?),
        None => None,
    };
    out.push(match method {
        "subscribe" => VenueEvent::Subscribed { channel, symbol },
        "unsubscribe" => VenueEvent::Unsubscribed { channel, symbol },
        _ => VenueEvent::Unknown,
    });
    Ok(())
}

fn status(envelope: &Envelope<'_>, out: &mut Vec<VenueEvent>) -> Result<(), DecodeError> {
    let raw = envelope.data.map(RawValue::get).unwrap_or("[]");
    let data: Vec<StatusData<'_>> =
        serde_json::from_str(raw).map_err(|source| DecodeError::NotJson { source })?;
    out.extend(data.iter().map(|item| VenueEvent::Status { online: item.system == "online" }));
    Ok(())
}

fn data_of<'a, T: Deserialize<'a>>(
    channel: Channel,
    envelope: &Envelope<'a>,
) -> Result<T, DecodeError> {
    let Some(raw) = envelope.data else {
        return Err(DecodeError::Field { channel, symbol: None, what: "data" });
    };
    if !matches!(envelope.kind.as_deref(), Some("snapshot" | "update")) {
        return Err(DecodeError::Field { channel, symbol: None, what: "type" });
    }
    serde_json::from_str(raw.get()).map_err(|source| DecodeError::Shape { channel, source })
}

fn is_snapshot(envelope: &Envelope<'_>) -> bool {
    envelope.kind.as_deref() == Some("snapshot")
}

fn symbol_of(channel: Channel, text: &str) -> Result<Symbol, DecodeError> {
    text.parse().map_err(|_| DecodeError::Field { channel, symbol: None, what: "symbol" })
}
