//! Durations and sizes as people write them: one whole number, one unit.

use std::time::Duration;

const DURATIONS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZES: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let millis =
        parse(text, &DURATIONS).ok_or("must be a whole number and one of ms, s, m, h, d")?;
    Ok(Duration::from_millis(millis))
}

pub fn parse_size(text: &str) -> Result<u64, String> {
    parse(text, &SIZES)
        .ok_or_else(|| "must be a whole number and one of B, KiB, MiB, GiB, TiB".into())
}

/// As [`parse_duration`] reads it, in the largest unit that loses nothing but parts of a ms.
pub fn show_duration(duration: Duration) -> String {
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATIONS)
}

/// As [`parse_size`] reads it, in the largest unit that loses nothing.
pub fn show_size(bytes: u64) -> String {
    show(bytes, &SIZES)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

fn show(amount: u64, units: &[(&str, u64)]) -> String {
    let (name, scale) = units
        .iter()
        .rev()
        .find(|(_, scale)| amount >= *scale && amount.is_multiple_of(*scale))
        .unwrap_or(&units[0]);
    format!("{}{name}", amount / scale)
}
