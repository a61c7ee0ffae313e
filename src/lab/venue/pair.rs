//! The pairs this venue trades, by every name Kraken gives them, and how their numbers are written.
//!
//! Prices and quantities are integers in units of the pair's last decimal. Only text leaves this
//! module: a number is always written with all its decimals, because a Kraken checksum is over
//! exactly those digits.

/// One tradable pair.
#[derive(Debug)]
pub struct Pair {
    /// WebSocket v2 name.
    pub symbol: &'static str,
    pub base: &'static str,
    pub quote: &'static str,
    /// REST result key, alternative name and v1 name.
    pub rest_key: &'static str,
    pub altname: &'static str,
    pub wsname: &'static str,
    pub rest_base: &'static str,
    pub rest_quote: &'static str,
    pub price_decimals: u8,
    pub qty_decimals: u8,
    /// Around which the generated price wanders, in ticks.
    pub anchor: i64,
    pub qty_min: &'static str,
}

/// REST writes prices with five decimals whatever the pair's precision is, as Kraken does.
pub const REST_PRICE_DECIMALS: u8 = 5;

pub static PAIRS: [Pair; 2] = [
    Pair {
        symbol: "BTC/USD",
        base: "BTC",
        quote: "USD",
        rest_key: "XXBTZUSD",
        altname: "XBTUSD",
        wsname: "XBT/USD",
        rest_base: "XXBT",
        rest_quote: "ZUSD",
        price_decimals: 1,
        qty_decimals: 8,
        anchor: 600_000,
        qty_min: "0.00005",
    },
    Pair {
        symbol: "ETH/USD",
        base: "ETH",
        quote: "USD",
        rest_key: "XETHZUSD",
        altname: "ETHUSD",
        wsname: "ETH/USD",
        rest_base: "XETH",
        rest_quote: "ZUSD",
        price_decimals: 2,
        qty_decimals: 8,
        anchor: 300_000,
        qty_min: "0.001",
    },
];

/// Position in [`PAIRS`] of a WebSocket v2 symbol.
pub fn by_symbol(symbol: &str) -> Option<usize> {
    PAIRS.iter().position(|pair| pair.symbol == symbol)
}

/// Position in [`PAIRS`] of any of the names REST understands.
pub fn by_rest_name(name: &str) -> Option<usize> {
    PAIRS.iter().position(|pair| {
        [pair.rest_key, pair.altname, pair.wsname, pair.symbol].contains(&name)
            || (name.len() == pair.base.len() + pair.quote.len()
                && name.starts_with(pair.base)
                && name.ends_with(pair.quote))
    })
}

/// Writes `value` with exactly `decimals` decimals.
pub fn push_fixed(out: &mut String, value: i64, decimals: u8) {
    use std::fmt::Write;
    if value < 0 {
        out.push('-');
    }
    let unit = 10u64.pow(u32::from(decimals));
    let magnitude = value.unsigned_abs();
    let _ = match decimals {
        0 => write!(out, "{magnitude}"),
        _ => write!(
            out,
            "{}.{:0width$}",
            magnitude / unit,
            magnitude % unit,
            width = usize::from(decimals)
        ),
    };
}

/// [`push_fixed`] as a new string.
pub fn fixed(value: i64, decimals: u8) -> String {
    let mut out = String::new();
    push_fixed(&mut out, value, decimals);
    out
}

/// Reads a JSON number's text into units of the last of `decimals`; never rounds.
///
/// Exponents are read because recordings that went through a float printer contain them.
pub fn parse_fixed(text: &str, decimals: u8) -> Option<i64> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || !(whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut value: i128 = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        value = value.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
    }
    let shift = i32::from(decimals) + exponent - i32::try_from(fraction.len()).ok()?;
    let scale = 10i128.checked_pow(shift.unsigned_abs())?;
    value = match shift {
        0.. => value.checked_mul(scale)?,
        _ if value % scale == 0 => value / scale,
        _ => return None,
    };
    i64::try_from(if negative { -value } else { value }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_all_their_decimals() {
        assert_eq!(fixed(452_835, 1), "45283.5");
        assert_eq!(fixed(10_000_000, 8), "0.10000000");
        assert_eq!(fixed(-5, 2), "-0.05");
    }

    #[test]
    fn parsing_never_rounds() {
        assert_eq!(parse_fixed("29430.2", 1), Some(294_302));
        assert_eq!(parse_fixed("4.0", 8), Some(400_000_000));
        assert_eq!(parse_fixed("5e-05", 8), Some(5_000));
        assert_eq!(parse_fixed("30243.40000", 1), Some(302_434));
        assert_eq!(parse_fixed("30243.45", 1), None);
        assert_eq!(parse_fixed("x", 1), None);
        assert_eq!(parse_fixed("1e99", 1), None);
    }

    #[test]
    fn rest_knows_a_pair_by_all_its_names() {
        for name in ["XBTUSD", "XXBTZUSD", "XBT/USD", "BTC/USD", "BTCUSD"] {
            assert_eq!(by_rest_name(name), Some(0), "{name}");
        }
        assert_eq!(by_rest_name("XBTEUR"), None);
    }
}
