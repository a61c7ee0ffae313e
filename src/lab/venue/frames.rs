//! Kraken WebSocket v2 messages as text, in the field order the venue uses.

use super::book::{Window, push_levels};
use super::pair::{PAIRS, Pair, push_fixed};
use super::schedule::Trade;
use super::stamp::rfc3339;
use serde_json::{Map, Value, json};

pub const HEARTBEAT: &str = r#"{"channel":"heartbeat"}"#;

pub fn banner(connection: u64) -> String {
    format!(
        r#"{{"channel":"status","type":"update","data":[{{"version":"2.0.10","system":"online","api_version":"v2","connection_id":{connection}}}]}}"#
    )
}

pub fn book(pair: &Pair, kind: &str, window: &Window, checksum: u32, at_us: u64) -> String {
    let mut out = String::with_capacity(160 + 48 * (window.bids.len() + window.asks.len()));
    out.push_str(r#"{"channel":"book","type":""#);
    out.push_str(kind);
    out.push_str(r#"","data":[{"symbol":""#);
    out.push_str(pair.symbol);
    out.push_str(r#"","bids":"#);
    push_levels(&mut out, pair, &window.bids);
    out.push_str(r#","asks":"#);
    push_levels(&mut out, pair, &window.asks);
    out.push_str(&checksum_field(checksum));
    out.push_str(r#","timestamp":""#);
    out.push_str(&rfc3339(at_us));
    out.push_str("\"}]}");
    out
}

fn checksum_field(checksum: u32) -> String {
    format!(r#","checksum":{checksum}"#)
}

/// The same frame with a checksum that no book has.
pub fn with_wrong_checksum(frame: &str, checksum: u32) -> String {
    frame.replacen(&checksum_field(checksum), &checksum_field(checksum ^ 1), 1)
}

pub fn trades(pair: &Pair, kind: &str, trades: &[Trade]) -> String {
    let mut out = String::with_capacity(64 + 160 * trades.len());
    out.push_str(r#"{"channel":"trade","type":""#);
    out.push_str(kind);
    out.push_str(r#"","data":["#);
    for (index, trade) in trades.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(r#"{"symbol":""#);
        out.push_str(pair.symbol);
        out.push_str(if trade.buy {
            r#"","side":"buy","price":"#
        } else {
            r#"","side":"sell","price":"#
        });
        push_fixed(&mut out, trade.price, pair.price_decimals);
        out.push_str(r#","qty":"#);
        push_fixed(&mut out, trade.qty, pair.qty_decimals);
        out.push_str(if trade.market {
            r#","ord_type":"market""#
        } else {
            r#","ord_type":"limit""#
        });
        out.push_str(r#","trade_id":"#);
        out.push_str(&trade.id.to_string());
        out.push_str(r#","timestamp":""#);
        out.push_str(&rfc3339(trade.at_us));
        out.push_str("\"}");
    }
    out.push_str("]}");
    out
}

pub fn instruments() -> String {
    let unit = |decimals: u8| {
        let mut text = String::new();
        push_fixed(&mut text, 1, decimals);
        text
    };
    let mut assets: Vec<String> = Vec::new();
    let mut pairs: Vec<String> = Vec::new();
    for (name, precision, display) in [("USD", 4, 2), ("BTC", 10, 5), ("ETH", 10, 5)] {
        assets.push(format!(
            r#"{{"id":"{name}","status":"enabled","precision":{precision},"precision_display":{display},"borrowable":true,"collateral_value":1.00,"margin_rate":0.020000}}"#
        ));
    }
    for pair in &PAIRS {
        pairs.push(format!(
            r#"{{"symbol":"{}","base":"{}","quote":"{}","status":"online","qty_precision":{},"qty_increment":{},"price_precision":{},"cost_precision":5,"marginable":false,"has_index":true,"cost_min":0.5,"tick_size":{},"price_increment":{},"qty_min":{}}}"#,
            pair.symbol,
            pair.base,
            pair.quote,
            pair.qty_decimals,
            unit(pair.qty_decimals),
            pair.price_decimals,
            unit(pair.price_decimals),
            unit(pair.price_decimals),
            pair.qty_min,
        ));
    }
    format!(
        r#"{{"channel":"instrument","type":"snapshot","data":{{"assets":[{}],"pairs":[{}]}}}}"#,
        assets.join(","),
        pairs.join(",")
    )
}

/// What every answer to a request carries besides its own content.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub req_id: Option<u64>,
    pub in_us: u64,
    pub out_us: u64,
}

impl Envelope {
    pub fn accepted(&self, method: &str, result: Value) -> String {
        self.close(json!({ "method": method, "result": result, "success": true }))
    }

    pub fn refused(&self, method: &str, symbol: Option<&str>, error: &str) -> String {
        let mut answer = json!({ "error": error, "method": method, "success": false });
        if let Some(symbol) = symbol {
            answer["symbol"] = symbol.into();
        }
        self.close(answer)
    }

    pub fn pong(&self) -> String {
        self.close(json!({ "method": "pong" }))
    }

    fn close(&self, answer: Value) -> String {
        let mut answer = match answer {
            Value::Object(answer) => answer,
            other => Map::from_iter([("result".to_string(), other)]),
        };
        answer.insert("time_in".into(), rfc3339(self.in_us).into());
        answer.insert("time_out".into(), rfc3339(self.out_us).into());
        if let Some(req_id) = self.req_id {
            answer.insert("req_id".into(), req_id.into());
        }
        Value::Object(answer).to_string()
    }
}
