//! One order book: levels by price on either side, no deeper than what was subscribed.
//!
//! A book belongs to one subscription. After a proven gap it is thrown away and begun again from
//! a snapshot; a snapshot is never merged into levels from before it.

use std::collections::BTreeMap;

use super::model::Level;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Book {
    depth: usize,
    /// price → quantity, never zero.
    asks: BTreeMap<i64, i64>,
    bids: BTreeMap<i64, i64>,
}

impl Book {
    pub fn new(depth: usize) -> Self {
        Self { depth, asks: BTreeMap::new(), bids: BTreeMap::new() }
    }

    /// Replaces what was there.
    pub fn restart(&mut self, bids: &[Level], asks: &[Level]) {
        self.asks.clear();
        self.bids.clear();
        self.apply(bids, asks);
    }

    /// Applies one message. The same level may occur twice in it, and the later one counts; levels
    /// that leave the window are cut after the whole message, because no venue deletes them.
    pub fn apply(&mut self, bids: &[Level], asks: &[Level]) {
        set_levels(&mut self.bids, bids);
        set_levels(&mut self.asks, asks);
        while self.bids.len() > self.depth {
            self.bids.pop_first();
        }
        while self.asks.len() > self.depth {
            self.asks.pop_last();
        }
    }

    /// Lowest price first.
    pub fn asks(&self) -> impl Iterator<Item = Level> + '_ {
        self.asks.iter().map(|(&price, &qty)| Level { price, qty })
    }

    /// Highest price first.
    pub fn bids(&self) -> impl Iterator<Item = Level> + '_ {
        self.bids.iter().rev().map(|(&price, &qty)| Level { price, qty })
    }

    pub fn best_ask(&self) -> Option<Level> {
        self.asks().next()
    }

    pub fn best_bid(&self) -> Option<Level> {
        self.bids().next()
    }

    /// A book whose best bid is not below its best ask cannot be true for longer than a message.
    pub fn is_crossed(&self) -> bool {
        matches!((self.best_bid(), self.best_ask()), (Some(bid), Some(ask)) if bid.price >= ask.price)
    }

    pub fn level_count(&self) -> (usize, usize) {
        (self.bids.len(), self.asks.len())
    }
}

fn set_levels(side: &mut BTreeMap<i64, i64>, levels: &[Level]) {
    for level in levels {
        if level.qty == 0 {
            side.remove(&level.price);
        } else {
            side.insert(level.price, level.qty);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(price: i64, qty: i64) -> Level {
        Level { price, qty }
    }

    #[test]
    fn levels_beyond_the_depth_are_cut_after_the_whole_message() {
        let mut book = Book::new(2);
        book.restart(&[level(9, 1), level(8, 1)], &[level(11, 1), level(12, 1)]);
        // 10 comes in and 9 goes in one message: 8 stays, it never left the window.
        book.apply(&[level(10, 1), level(9, 0)], &[]);
        assert_eq!(book.bids().map(|l| l.price).collect::<Vec<_>>(), [10, 8]);
        book.apply(&[], &[level(10, 3)]);
        assert_eq!(book.asks().map(|l| l.price).collect::<Vec<_>>(), [10, 11]);
        assert!(book.is_crossed());
    }

    #[test]
    fn the_later_of_two_equal_levels_counts() {
        let mut book = Book::new(10);
        book.apply(&[level(9, 1), level(9, 5)], &[level(11, 2), level(11, 0)]);
        assert_eq!((book.best_bid(), book.best_ask()), (Some(level(9, 5)), None));
    }

    #[test]
    fn a_restart_keeps_no_level_from_before() {
        let mut book = Book::new(10);
        book.restart(&[level(9, 1)], &[level(11, 1)]);
        book.restart(&[level(7, 1)], &[]);
        assert_eq!(book.level_count(), (1, 0));
        assert_eq!(book.best_bid(), Some(level(7, 1)));
    }
}
