//! An order book, the window of it a subscriber sees, and Kraken's checksum over that window.
//!
//! What always holds: a subscriber that starts from [`Book::window`], applies every
//! [`difference`] in order and cuts to its depth after each has exactly the next window. Levels
//! pushed out of the window by better ones are therefore not deleted by message, and a level that
//! comes back into it is sent again.

use super::pair::Pair;
use std::collections::BTreeMap;

/// Price and quantity, both integers in the pair's units.
pub type Level = (i64, i64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Bid,
    Ask,
}

#[derive(Clone, Debug, Default)]
pub struct Book {
    bids: BTreeMap<i64, i64>,
    asks: BTreeMap<i64, i64>,
}

/// The best levels of both sides, best first. Also used for a list of changes, quantity 0 deleting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    pub bids: Vec<Level>,
    pub asks: Vec<Level>,
}

impl Book {
    pub fn window(&self, depth: usize) -> Window {
        Window {
            bids: self.bids.iter().rev().take(depth).map(|(p, q)| (*p, *q)).collect(),
            asks: self.asks.iter().take(depth).map(|(p, q)| (*p, *q)).collect(),
        }
    }

    /// Quantity 0 deletes.
    pub fn set(&mut self, side: Side, (price, qty): Level) {
        let levels = match side {
            Side::Bid => &mut self.bids,
            Side::Ask => &mut self.asks,
        };
        if qty == 0 {
            levels.remove(&price);
        } else {
            levels.insert(price, qty);
        }
    }

    pub fn apply(&mut self, changes: &Window) {
        changes.bids.iter().for_each(|level| self.set(Side::Bid, *level));
        changes.asks.iter().for_each(|level| self.set(Side::Ask, *level));
    }

    /// Forgets all but the best `depth` levels of each side.
    pub fn cut(&mut self, depth: usize) {
        while self.bids.len() > depth {
            self.bids.pop_first();
        }
        while self.asks.len() > depth {
            self.asks.pop_last();
        }
    }

    pub fn get(&self, side: Side, price: i64) -> Option<i64> {
        self.levels(side).get(&price).copied()
    }

    pub fn len(&self, side: Side) -> usize {
        self.levels(side).len()
    }

    pub fn best(&self, side: Side) -> Option<i64> {
        match side {
            Side::Bid => self.bids.last_key_value(),
            Side::Ask => self.asks.first_key_value(),
        }
        .map(|(price, _)| *price)
    }

    pub fn worst(&self, side: Side) -> Option<i64> {
        match side {
            Side::Bid => self.bids.first_key_value(),
            Side::Ask => self.asks.last_key_value(),
        }
        .map(|(price, _)| *price)
    }

    /// The `index`-th best level.
    pub fn nth(&self, side: Side, index: usize) -> Option<Level> {
        match side {
            Side::Bid => self.bids.iter().nth_back(index),
            Side::Ask => self.asks.iter().nth(index),
        }
        .map(|(price, qty)| (*price, *qty))
    }

    fn levels(&self, side: Side) -> &BTreeMap<i64, i64> {
        match side {
            Side::Bid => &self.bids,
            Side::Ask => &self.asks,
        }
    }
}

/// What must be told to a subscriber at `before` so that it arrives at `after`, a window of `book`.
pub fn difference(before: &Window, after: &Window, book: &Book) -> Window {
    Window {
        bids: side_difference(&before.bids, &after.bids, |price| book.get(Side::Bid, price)),
        asks: side_difference(&before.asks, &after.asks, |price| book.get(Side::Ask, price)),
    }
}

fn side_difference(
    before: &[Level],
    after: &[Level],
    in_book: impl Fn(i64) -> Option<i64>,
) -> Vec<Level> {
    let gone = before.iter().filter(|(price, _)| in_book(*price).is_none()).map(|(p, _)| (*p, 0));
    let old: BTreeMap<i64, i64> = before.iter().copied().collect();
    let set = after.iter().filter(|(price, qty)| old.get(price) != Some(qty)).copied();
    gone.chain(set).collect()
}

/// CRC-32 over the ten best asks then the ten best bids, each as price then quantity, written at
/// the pair's precision without the point and without leading zeros: that is, the integers.
pub fn checksum(window: &Window) -> u32 {
    use std::fmt::Write;
    let mut text = String::with_capacity(400);
    for (price, qty) in window.asks.iter().take(10).chain(window.bids.iter().take(10)) {
        let _ = write!(text, "{price}{qty}");
    }
    crc32fast::hash(text.as_bytes())
}

/// Writes `[{"price":…,"qty":…},…]` at the pair's precision.
pub fn push_levels(out: &mut String, pair: &Pair, levels: &[Level]) {
    out.push('[');
    for (index, (price, qty)) in levels.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str("{\"price\":");
        super::pair::push_fixed(out, *price, pair.price_decimals);
        out.push_str(",\"qty\":");
        super::pair::push_fixed(out, *qty, pair.qty_decimals);
        out.push('}');
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_pushed_out_is_not_deleted_and_one_that_returns_is_sent_again() {
        let mut book = Book::default();
        (1..=4).for_each(|price| book.set(Side::Ask, (price * 10, 5)));
        let start = book.window(3);
        book.set(Side::Ask, (5, 7));
        let pushed = book.window(3);
        assert_eq!(difference(&start, &pushed, &book).asks, [(5, 7)]);
        book.set(Side::Ask, (5, 0));
        assert_eq!(difference(&pushed, &book.window(3), &book).asks, [(5, 0), (30, 5)]);
    }
}
