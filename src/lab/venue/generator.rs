//! A book that moves: levels around a wandering mid price, changed a few at a time.
//!
//! Integers only; the same seed and the same instants give the same book. Every step changes at
//! least one of the ten best levels, so that each step is a frame at every depth.

use super::book::{Book, Side};
use super::schedule::{Walk, mix};

/// Levels kept a side: enough for the deepest window Kraken offers, 1000.
const LEVELS: usize = 1_100;
/// Where a side is cut back; the room between spares a refill at each step.
const LEVELS_MAX: usize = 1_200;

#[derive(Debug)]
pub struct Generator {
    walk: Walk,
    seed: u64,
    drawn: u64,
}

impl Generator {
    /// Draws from `seed` start anew at each start of the venue: a book has no history to keep.
    pub fn new(seed: u64, walk: Walk) -> Self {
        Self { walk, seed, drawn: 0 }
    }

    /// Moves `book` to the instant `ms`; an empty book is filled.
    pub fn step(&mut self, book: &mut Book, ms: u64) {
        let mid = self.walk.mid(ms);
        while let Some(price) = book.best(Side::Ask).filter(|price| *price <= mid) {
            book.set(Side::Ask, (price, 0));
        }
        while let Some(price) = book.best(Side::Bid).filter(|price| *price > mid) {
            book.set(Side::Bid, (price, 0));
        }
        for side in [Side::Bid, Side::Ask] {
            self.close_spread(book, side, mid);
            self.fill(book, side, mid);
        }
        let changes = 1 + self.draw() % 3;
        for _ in 0..changes {
            self.change(book);
        }
    }

    /// Puts a level next to the mid price when it has moved away from the best one.
    fn close_spread(&mut self, book: &mut Book, side: Side, mid: i64) {
        let near = self.draw() as i64 & 3;
        let price = match side {
            Side::Bid => mid - near,
            Side::Ask => mid + 1 + near,
        };
        let far = book.best(side).is_none_or(|best| (best - mid).abs() > 6);
        if far {
            let qty = self.qty();
            book.set(side, (price, qty));
        }
    }

    fn fill(&mut self, book: &mut Book, side: Side, mid: i64) {
        while book.len(side) < LEVELS {
            let gap = 1 + (self.draw() % 5) as i64;
            let edge = book.worst(side).unwrap_or(mid);
            let price = match side {
                Side::Bid => edge - gap,
                Side::Ask => edge + gap,
            };
            let qty = self.qty();
            book.set(side, (price, qty));
        }
        if book.len(side) > LEVELS_MAX {
            while let Some(price) = book.worst(side).filter(|_| book.len(side) > LEVELS) {
                book.set(side, (price, 0));
            }
        }
    }

    /// Changes, removes or adds one of the ten best levels of a side.
    fn change(&mut self, book: &mut Book) {
        let draw = self.draw();
        let side = if draw & 1 == 0 { Side::Bid } else { Side::Ask };
        // Nearer levels move more: the smaller of two draws.
        let index = ((draw >> 8) % 10).min((draw >> 16) % 10) as usize;
        let Some((price, qty)) = book.nth(side, index) else { return };
        let behind = match side {
            Side::Bid => price - 1,
            Side::Ask => price + 1,
        };
        match (draw >> 32) % 10 {
            0 | 1 => book.set(side, (price, 0)),
            2..=4 if index < 9 && book.get(side, behind).is_none() => {
                let qty = self.qty();
                book.set(side, (behind, qty));
            }
            _ => {
                let fresh = self.qty();
                book.set(side, (price, if fresh == qty { qty + 1 } else { fresh }));
            }
        }
    }

    /// Between 0.00001 and about 10 units, small ones more often.
    fn qty(&mut self) -> i64 {
        let draw = self.draw();
        let size = 1i64 << (10 + draw % 20);
        size + ((draw >> 8) as i64 & (size - 1))
    }

    pub fn draw(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.seed, 9, self.drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::super::book::{checksum, difference};
    use super::*;

    #[test]
    fn a_follower_at_any_depth_stays_level_and_the_book_never_crosses() {
        let mut generator = Generator::new(11, Walk::new(11, 600_000));
        let mut book = Book::default();
        generator.step(&mut book, 1_800_000_000_000);
        for depth in [10, 25, 100, 1_000] {
            let mut follower = Book::default();
            follower.apply(&book.window(depth));
            let mut quiet = 0;
            for step in 0..3_000 {
                let before = book.window(depth);
                generator.step(&mut book, 1_800_000_000_000 + depth as u64 * 100_000 + step * 20);
                let after = book.window(depth);
                let told = difference(&before, &after, &book);
                quiet += usize::from(told == Default::default());
                follower.apply(&told);
                follower.cut(depth);
                assert_eq!(follower.window(depth), after);
                assert_eq!(checksum(&follower.window(10)), checksum(&after));
                assert!(book.best(Side::Bid) < book.best(Side::Ask));
                assert_eq!(after.bids.len(), depth);
            }
            // Changes may cancel out within a step; nearly all are visible.
            assert!(quiet < 30, "{quiet} of 3000 steps changed nothing at depth {depth}");
        }
    }
}
