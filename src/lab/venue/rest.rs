//! Kraken's public REST answers over the same market, and the control routes of the simulator.

use super::Shared;
use super::book::Level;
use super::pair::{PAIRS, Pair, REST_PRICE_DECIMALS, by_rest_name, fixed, push_fixed};
use super::schedule::Schedule;
use super::stamp::{rfc1123, rfc3339};
use crate::protocol::{VenueFault, VenueFaultAnswer, VenueStatus};
use axum::Json;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::collections::BTreeMap;
use std::sync::Arc;

const TRADES_MAX: u64 = 1_000;
const DEPTH_MAX: usize = 500;
const UNKNOWN_PAIR: &str = "EQuery:Unknown asset pair";

type Params = Query<BTreeMap<String, String>>;

pub fn public(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/0/public/Time", get(time))
        .route("/0/public/SystemStatus", get(system_status))
        .route("/0/public/AssetPairs", get(asset_pairs))
        .route("/0/public/Depth", get(depth))
        .route("/0/public/Trades", get(trades))
        .fallback(|| async { refused("EGeneral:Unknown method") })
        .with_state(shared)
}

/// `GET /status`, and `POST /fault` with a [`VenueFault`]. Loopback only, never a region's business.
pub fn control(shared: Arc<Shared>) -> Router {
    Router::new().route("/status", get(status)).route("/fault", post(fault)).with_state(shared)
}

async fn status(State(shared): State<Arc<Shared>>) -> Json<VenueStatus> {
    Json(shared.status())
}

async fn fault(
    State(shared): State<Arc<Shared>>,
    Json(fault): Json<VenueFault>,
) -> Json<VenueFaultAnswer> {
    Json(shared.fault(fault))
}

async fn time(State(shared): State<Arc<Shared>>) -> Response {
    let now = shared.market.now_us();
    answer(format!(r#"{{"unixtime":{},"rfc1123":"{}"}}"#, now / 1_000_000, rfc1123(now)))
}

async fn system_status(State(shared): State<Arc<Shared>>) -> Response {
    let now = rfc3339(shared.market.now_us());
    answer(format!(r#"{{"status":"online","timestamp":"{now}"}}"#))
}

async fn asset_pairs(Query(params): Params) -> Response {
    let mut wanted: Vec<&Pair> = PAIRS.iter().collect();
    if let Some(names) = params.get("pair") {
        wanted.clear();
        for name in names.split(',') {
            let Some(pair) = by_rest_name(name) else { return refused(UNKNOWN_PAIR) };
            wanted.push(&PAIRS[pair]);
        }
    }
    let entries: Vec<String> = wanted
        .into_iter()
        .map(|pair| {
            format!(
                r#""{}":{{"altname":"{}","wsname":"{}","aclass_base":"currency","base":"{}","aclass_quote":"currency","quote":"{}","lot":"unit","cost_decimals":5,"pair_decimals":{},"lot_decimals":{},"lot_multiplier":1,"ordermin":"{}","costmin":"0.5","tick_size":"{}","status":"online"}}"#,
                pair.rest_key,
                pair.altname,
                pair.wsname,
                pair.rest_base,
                pair.rest_quote,
                pair.price_decimals,
                pair.qty_decimals,
                pair.qty_min,
                fixed(1, pair.price_decimals),
            )
        })
        .collect();
    answer(format!("{{{}}}", entries.join(",")))
}

async fn depth(State(shared): State<Arc<Shared>>, Query(params): Params) -> Response {
    let index = match pair_of(&params) {
        Ok(index) => index,
        Err(refusal) => return refused(&refusal),
    };
    let count = match number_of(&params, "count", 100) {
        Ok(count) => (count as usize).clamp(1, DEPTH_MAX),
        Err(refusal) => return refused(&refusal),
    };
    let pair = &PAIRS[index];
    let window = shared.market.window(index, count);
    let second = shared.market.now_us() / 1_000_000;
    answer(format!(
        r#"{{"{}":{{"asks":{},"bids":{}}}}}"#,
        pair.rest_key,
        levels(pair, &window.asks, second),
        levels(pair, &window.bids, second)
    ))
}

async fn trades(State(shared): State<Arc<Shared>>, Query(params): Params) -> Response {
    let index = match pair_of(&params) {
        Ok(index) => index,
        Err(refusal) => return refused(&refusal),
    };
    let count = match number_of(&params, "count", TRADES_MAX) {
        Ok(count) => count.clamp(1, TRADES_MAX),
        Err(refusal) => return refused(&refusal),
    };
    let schedule = shared.market.schedule(index);
    // Never ahead of what the socket told: a trade is not history before it is news.
    let newest = shared.market.told(index);
    let first = match params.get("since").map(|since| since_us(since)) {
        Some(None) => return refused("EGeneral:Invalid arguments:since"),
        Some(Some(since)) => schedule.last_at(since) + 1,
        None => (newest + 1).saturating_sub(count).max(1),
    };
    let last = newest.min(first.saturating_add(count - 1));
    answer(trade_page(&PAIRS[index], schedule, first, last, params.get("since")))
}

/// Trades `first..=last`, and as cursor the instant of the last in nanoseconds. Trades after a
/// cursor are those later than it, so a page never repeats a row of the one before.
fn trade_page(
    pair: &Pair,
    schedule: &Schedule,
    first: u64,
    last: u64,
    since: Option<&String>,
) -> String {
    let mut rows = String::with_capacity(96 * (last + 1).saturating_sub(first) as usize);
    let mut cursor = since.cloned().unwrap_or_else(|| "0".into());
    for id in first..=last {
        let trade = schedule.trade(id);
        if !rows.is_empty() {
            rows.push(',');
        }
        rows.push_str("[\"");
        push_rest_price(&mut rows, pair, trade.price);
        rows.push_str("\",\"");
        push_fixed(&mut rows, trade.qty, pair.qty_decimals);
        let (side, kind) =
            (if trade.buy { 'b' } else { 's' }, if trade.market { 'm' } else { 'l' });
        let (second, micro) = (trade.at_us / 1_000_000, trade.at_us % 1_000_000);
        rows.push_str(&format!(r#"",{second}.{micro:06}0,"{side}","{kind}","",{id}]"#));
        cursor = format!("{}000", trade.at_us);
    }
    format!(r#"{{"{}":[{rows}],"last":"{cursor}"}}"#, pair.rest_key)
}

/// `since` in microseconds: Kraken takes nanoseconds, and seconds with or without a fraction.
fn since_us(text: &str) -> Option<u64> {
    const LONGEST_SECONDS: usize = 11;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let number: u64 = whole.parse().ok()?;
    if whole.len() > LONGEST_SECONDS {
        return Some(number / 1_000);
    }
    let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
    number.checked_mul(1_000_000)?.checked_add(digits.parse().ok()?)
}

fn levels(pair: &Pair, levels: &[Level], second: u64) -> String {
    let mut out = String::from("[");
    for (price, qty) in levels {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str("[\"");
        push_rest_price(&mut out, pair, *price);
        out.push_str("\",\"");
        push_fixed(&mut out, *qty, pair.qty_decimals);
        out.push_str(&format!("\",{second}]"));
    }
    out.push(']');
    out
}

fn push_rest_price(out: &mut String, pair: &Pair, price: i64) {
    let more = u32::from(REST_PRICE_DECIMALS.saturating_sub(pair.price_decimals));
    push_fixed(out, price * 10i64.pow(more), REST_PRICE_DECIMALS.max(pair.price_decimals));
}

fn pair_of(params: &BTreeMap<String, String>) -> Result<usize, String> {
    let name = params.get("pair").ok_or("EGeneral:Invalid arguments")?;
    by_rest_name(name).ok_or_else(|| UNKNOWN_PAIR.to_owned())
}

fn number_of(params: &BTreeMap<String, String>, key: &str, default: u64) -> Result<u64, String> {
    match params.get(key) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| format!("EGeneral:Invalid arguments:{key}")),
    }
}

/// Kraken answers 200 to everything and puts what is wrong into `error`.
fn refused(error: &str) -> Response {
    json(format!(r#"{{"error":["{error}"]}}"#))
}

fn answer(result: String) -> Response {
    json(format!(r#"{{"error":[],"result":{result}}}"#))
}

fn json(body: String) -> Response {
    ([(CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_nanoseconds_or_seconds() {
        assert_eq!(since_us("1688671969993150842"), Some(1_688_671_969_993_150));
        assert_eq!(since_us("1688671969"), Some(1_688_671_969_000_000));
        assert_eq!(since_us("1688671969.9931"), Some(1_688_671_969_993_100));
        assert_eq!(since_us("0"), Some(0));
        assert_eq!(since_us("soon"), None);
    }
}
