//! Words, moments and spans as an operator would say them.

use cryptorun_core::time::{Millis, WallTime};

/// Nothing to show.
pub const NONE: &str = "–";

/// A moment to the second; the full figure stands in `-o json`.
pub fn moment(at: WallTime) -> String {
    WallTime(at.0 / 1000 * 1000).to_string()
}

/// A value, or the sign for none.
pub fn or_none(value: Option<impl ToString>) -> String {
    value.map_or_else(|| NONE.to_owned(), |v| v.to_string())
}

/// `1 more person`, `2 more people`.
pub fn more_people(missing: u32) -> String {
    format!("{missing} more {}", if missing == 1 { "person" } else { "people" })
}

/// `0.39 s`, `840 ms`: for what was measured, finer than [`Millis`] says it.
pub fn measured(ms: u64) -> String {
    match ms {
        0..10 => format!("{ms} ms"),
        10..10_000 => format!("{}.{:02} s", ms / 1000, ms % 1000 / 10),
        _ => Millis(ms).to_string(),
    }
}

/// Words in a sentence: `a, b and c`.
pub fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    match items.as_slice() {
        [] => NONE.to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
