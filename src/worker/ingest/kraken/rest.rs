//! Kraken's REST answers, as far as repair needs them: trades after a time, a pair's precision.
//!
//! REST has names of its own: `BTC/USD` is asked for as `XBTUSD` and answered under `XXBTZUSD`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::ingest::decimal::{SCALE_MAX, parse_fixed};
use crate::ingest::model::{Instrument, Side, Source, Symbol, Trade, VenueId};
use crate::ingest::venue::{Channel, DecodeError, TradePage};
use crate::ingest::venue_time::unix_seconds_us;

/// The most the venue gives in one answer.
const PAGE: u32 = 1000;

pub(super) fn trades_path(symbol: &Symbol, since_us: u64) -> String {
    // The venue's cursor counts nanoseconds and excludes its own moment; ours were cut to
    // microseconds, so start one earlier and let ids sort out what was seen.
    let since_ns = since_us.saturating_sub(1).saturating_mul(1_000);
    format!("/0/public/Trades?pair={}&since={since_ns}&count={PAGE}", rest_name(symbol))
}

pub(super) fn instrument_path(symbol: &Symbol) -> String {
    format!("/0/public/AssetPairs?pair={}", rest_name(symbol))
}

/// Two assets kept the names they had before the rest of the world agreed on others.
fn rest_name(symbol: &Symbol) -> String {
    let old = |asset: &str| match asset {
        "BTC" => "XBT".to_owned(),
        "DOGE" => "XDG".to_owned(),
        other => other.to_owned(),
    };
    format!("{}{}", old(symbol.base()), old(symbol.quote()))
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default)]
    error: Vec<String>,
    #[serde(borrow)]
    result: Option<BTreeMap<String, &'a RawValue>>,
}

/// `[price, volume, time, b|s, m|l, misc, trade_id]`
#[derive(Deserialize)]
struct Row<'a>(
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] &'a RawValue,
    #[serde(borrow)] Cow<'a, str>,
    IgnoredAny,
    IgnoredAny,
    u64,
);

#[derive(Deserialize)]
struct PairRow<'a> {
    pair_decimals: u8,
    lot_decimals: u8,
    #[serde(borrow)]
    status: Option<Cow<'a, str>>,
}

pub(super) fn decode_trades(
    instrument: &Instrument,
    body: &[u8],
) -> Result<TradePage, DecodeError> {
    let channel = Channel::Trade;
    let shape = |source| DecodeError::Shape { channel, source };
    let field =
        |what| DecodeError::Field { channel, symbol: Some(instrument.symbol.clone()), what };

    let result = result_of(channel, body)?;
    let rows = result.iter().find(|(key, _)| *key != "last").ok_or_else(|| field("trades"))?.1;
    let rows: Vec<Row<'_>> = serde_json::from_str(rows.get()).map_err(shape)?;
    let mut trades =
        rows.iter().map(|row| trade(instrument, row)).collect::<Result<Vec<_>, _>>()?;
    trades.sort_by_key(|trade| trade.id);

    let cursor = match result.get("last") {
        // Written as a string today and as a number in some answers.
        Some(raw) => raw.get().trim_matches('"').parse::<u64>().map_err(|_| field("last"))? / 1_000,
        None => 0,
    };
    // A full page may be followed by another; a short one is the end of what there is.
    let full = trades.len() >= PAGE as usize;
    Ok(TradePage { trades, next_us: full.then_some(cursor) })
}

fn trade(instrument: &Instrument, row: &Row<'_>) -> Result<Trade, DecodeError> {
    let Row(price, qty, time, side, _, _, id) = row;
    let channel = Channel::Trade;
    let symbol = &instrument.symbol;
    let field = |what| DecodeError::Field { channel, symbol: Some(symbol.clone()), what };
    let number = |what, text: &str, scale| {
        parse_fixed(text, scale).map_err(|source| DecodeError::Number {
            channel,
            symbol: symbol.clone(),
            what,
            source,
        })
    };
    let price = number("price", price, instrument.price_scale)?;
    let qty = number("qty", qty, instrument.qty_scale)?;
    if price <= 0 || qty <= 0 {
        return Err(field(if price <= 0 { "price" } else { "qty" }));
    }
    Ok(Trade {
        source: Source { venue: VenueId::Kraken, symbol: symbol.clone() },
        id: *id,
        price,
        qty,
        price_scale: instrument.price_scale,
        qty_scale: instrument.qty_scale,
        taker: match side.as_ref() {
            "b" => Side::Buy,
            "s" => Side::Sell,
            _ => return Err(field("side")),
        },
        at_us: unix_seconds_us(time.get()).ok_or_else(|| field("time"))?,
    })
}

pub(super) fn decode_instrument(symbol: &Symbol, body: &[u8]) -> Result<Instrument, DecodeError> {
    let channel = Channel::Instrument;
    let field = |what| DecodeError::Field { channel, symbol: Some(symbol.clone()), what };
    let result = result_of(channel, body)?;
    let raw = result.values().next().ok_or_else(|| field("pair"))?;
    let row: PairRow<'_> =
        serde_json::from_str(raw.get()).map_err(|source| DecodeError::Shape { channel, source })?;
    if row.pair_decimals > SCALE_MAX || row.lot_decimals > SCALE_MAX {
        return Err(field("decimals"));
    }
    Ok(Instrument {
        symbol: symbol.clone(),
        price_scale: row.pair_decimals,
        qty_scale: row.lot_decimals,
        online: row.status.as_deref().is_none_or(|status| status == "online"),
    })
}

fn result_of(channel: Channel, body: &[u8]) -> Result<BTreeMap<String, &RawValue>, DecodeError> {
    let answer: Answer<'_> =
        serde_json::from_slice(body).map_err(|source| DecodeError::NotJson { source })?;
    if let Some(reason) = answer.error.first() {
        return Err(DecodeError::Answered { reason: reason.chars().take(200).collect() });
    }
    answer.result.ok_or(DecodeError::Field { channel, symbol: None, what: "result" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn btc() -> Instrument {
        Instrument {
            symbol: "BTC/USD".parse().expect("a pair"),
            price_scale: 1,
            qty_scale: 8,
            online: true,
        }
    }

    #[test]
    fn a_page_of_trades_is_read_exactly() {
        let body = br#"{"error":[],"result":{"XXBTZUSD":[
            ["30243.40000","0.34507674",1688669597.8277369,"b","m","",61044952],
            ["30243.30000","0.00376960",1688669598.2804112,"s","l","",61044953]],
            "last":"1688669598280411233"}}"#;
        let page = decode_trades(&btc(), body).expect("a page");
        let [first, second] = page.trades.as_slice() else { panic!("two trades") };
        assert_eq!((first.id, first.price, first.qty), (61_044_952, 302_434, 34_507_674));
        assert_eq!((first.taker, first.at_us), (Side::Buy, 1_688_669_597_827_736));
        assert_eq!((second.id, second.taker), (61_044_953, Side::Sell));
        assert_eq!(page.next_us, None, "a short page is the last one");
    }

    #[test]
    fn a_pair_is_asked_for_by_its_old_name() {
        let path = trades_path(&btc().symbol, 1_688_669_597_827_736);
        assert_eq!(path, "/0/public/Trades?pair=XBTUSD&since=1688669597827735000&count=1000");
    }

    #[test]
    fn precision_and_errors_are_read() {
        let body = br#"{"error":[],"result":{"XXBTZUSD":
            {"altname":"XBTUSD","pair_decimals":1,"lot_decimals":8,"status":"online"}}}"#;
        assert_eq!(decode_instrument(&btc().symbol, body).expect("a pair"), btc());
        let refused = decode_trades(&btc(), br#"{"error":["EGeneral:Too many requests"]}"#);
        assert!(
            matches!(refused, Err(DecodeError::Answered { reason }) if reason.contains("many"))
        );
        assert!(decode_trades(&btc(), br#"{"error":[],"result":{"last":"1"}}"#).is_err());
        assert!(decode_trades(&btc(), b"<html>").is_err());
    }
}
