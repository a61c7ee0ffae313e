//! All trades of a pair, past and future, as a pure function of a seed.
//!
//! Trade `k` happens at a fixed instant on a grid that started at [`EPOCH_US`], at a price that is
//! a function of that instant. So a venue that was killed and started again knows every trade it
//! ever published without a byte on disk, never uses an id twice, and every subscriber and every
//! REST page agree.
//!
//! What always holds, for a given (seed, rate):
//!  1. ids are 1, 2, 3, … in order of time, and two trades never share a microsecond;
//!  2. a trade's instant, price, quantity and side depend on its id alone;
//!  3. the mid price at an instant is the same for the book and for the trades.
//!
//! Another seed or another rate is another history: a venue must be restarted with both unchanged.

/// 2025-01-01T00:00:00Z. Before it, nothing was ever traded.
pub const EPOCH_US: u64 = 1_735_689_600_000_000;

/// Trades come in blocks of four; one block in eight is a sweep, one taker through four levels.
const BLOCK: u64 = 4;
const SWEEP_ONE_IN: u64 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade {
    pub id: u64,
    pub at_us: u64,
    /// In ticks.
    pub price: i64,
    /// In units of the last quantity decimal.
    pub qty: i64,
    /// The taker's side.
    pub buy: bool,
    pub market: bool,
}

/// The trades of one pair.
#[derive(Clone, Debug)]
pub struct Schedule {
    seed: u64,
    block_us: u64,
    walk: Walk,
}

impl Schedule {
    /// `per_second` is kept within what a block of microseconds can carry.
    pub fn new(seed: u64, per_second: u32, walk: Walk) -> Self {
        let per_second = u64::from(per_second.clamp(1, 10_000));
        Self { seed, block_us: BLOCK * 1_000_000 / per_second, walk }
    }

    /// When trade `id` happens. Ids start at 1.
    pub fn at_us(&self, id: u64) -> u64 {
        let (block, place) = split(id);
        let start = EPOCH_US + block * self.block_us;
        if self.is_sweep(block) {
            return start + mix(self.seed, 2, block) % (self.block_us - BLOCK) + place;
        }
        let quarter = self.block_us / BLOCK;
        start + place * quarter + mix(self.seed, 3, id) % quarter
    }

    pub fn trade(&self, id: u64) -> Trade {
        let (block, place) = split(id);
        let sweep = self.is_sweep(block);
        let at_us = self.at_us(id);
        let leader = if sweep { mix(self.seed, 4, block) } else { mix(self.seed, 5, id) };
        let buy = leader & 1 == 1;
        let reach = if sweep { place as i64 } else { 0 };
        let mid = self.walk.mid(at_us / 1_000);
        let draw = mix(self.seed, 6, id);
        // Many small trades and few large ones: the number of digits is drawn, then the digits.
        let size = 1i64 << (12 + draw % 16);
        Trade {
            id,
            at_us,
            price: if buy { mid + 1 + reach } else { mid - reach },
            qty: size + ((draw >> 8) as i64 & (size - 1)),
            buy,
            market: sweep || leader & 6 == 0,
        }
    }

    /// The highest id whose instant is not after `us`; 0 when there is none.
    pub fn last_at(&self, us: u64) -> u64 {
        let Some(since) = us.checked_sub(EPOCH_US) else { return 0 };
        let block = since / self.block_us;
        let first = block * BLOCK + 1;
        (first..first + BLOCK).take_while(|id| self.at_us(*id) <= us).last().unwrap_or(first - 1)
    }

    fn is_sweep(&self, block: u64) -> bool {
        mix(self.seed, 1, block).is_multiple_of(SWEEP_ONE_IN)
    }
}

/// The mid price as a function of time: noise on lattices of growing period, each about √2 larger
/// than the one below, which looks like a random walk near by and stays bounded for ever.
#[derive(Clone, Debug)]
pub struct Walk {
    seed: u64,
    anchor: i64,
}

impl Walk {
    /// Shortest and longest lattice: 256 ms and about three days.
    const LEVELS: std::ops::RangeInclusive<u32> = 8..=28;

    /// Stays within about ±6 % of `anchor`.
    pub fn new(seed: u64, anchor: i64) -> Self {
        Self { seed, anchor: anchor.max(10_000) }
    }

    /// The price in ticks at which a sell would trade; a buy trades one tick above.
    pub fn mid(&self, ms: u64) -> i64 {
        let top = self.anchor / 60;
        let mut sum = 0i64;
        for level in Self::LEVELS {
            let below = Self::LEVELS.end() - level;
            let half_step = if below % 2 == 1 { 181 } else { 256 }; // 181/256 ≈ 1/√2
            let reach = (top * half_step / 256) >> (below / 2);
            let cell = ms >> level;
            let within = (ms & ((1 << level) - 1)) as i64;
            let (from, to) = (self.noise(level, cell), self.noise(level, cell + 1));
            let value = (from * ((1i64 << level) - within) + to * within) >> level;
            sum += value * reach;
        }
        self.anchor + (sum >> 10)
    }

    /// Within ±1024.
    fn noise(&self, level: u32, cell: u64) -> i64 {
        (mix(self.seed, 64 + u64::from(level), cell) % 2_049) as i64 - 1_024
    }
}

fn split(id: u64) -> (u64, u64) {
    let index = id.saturating_sub(1);
    (index / BLOCK, index % BLOCK)
}

/// A hash of (seed, stream, number): SplitMix64's finalizer over their combination.
pub fn mix(seed: u64, stream: u64, number: u64) -> u64 {
    let mut z = seed
        .wrapping_add(stream.wrapping_mul(0xd6e8_feb8_6659_fd93))
        .wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: u32) -> Schedule {
        Schedule::new(7, rate, Walk::new(7, 600_000))
    }

    #[test]
    fn instants_grow_strictly_and_the_last_at_an_instant_is_found() {
        for rate in [1, 5, 333, 10_000] {
            let schedule = schedule(rate);
            let first = schedule.last_at(EPOCH_US + 40_000_000_000_000);
            for id in first..first + 2_000 {
                let at = schedule.at_us(id);
                assert!(at < schedule.at_us(id + 1), "rate {rate}, id {id}");
                assert_eq!(schedule.last_at(at), id, "rate {rate}");
                assert_eq!(schedule.last_at(at - 1), id - 1, "rate {rate}");
            }
        }
        assert_eq!(schedule(5).last_at(EPOCH_US - 1), 0);
    }

    #[test]
    fn rate_is_kept_over_a_day() {
        let schedule = schedule(5);
        let day = 86_400 * 1_000_000;
        assert_eq!(
            schedule.last_at(EPOCH_US + 2 * day) - schedule.last_at(EPOCH_US + day),
            432_000
        );
    }

    #[test]
    fn price_wanders_but_neither_jumps_nor_leaves_its_band() {
        let walk = Walk::new(3, 600_000);
        let start = EPOCH_US / 1_000;
        let (mut low, mut high) = (i64::MAX, i64::MIN);
        for second in 0..200_000u64 {
            let mid = walk.mid(start + second * 1_000);
            low = low.min(mid);
            high = high.max(mid);
            assert!((mid - walk.mid(start + second * 1_000 + 20)).abs() < 60);
        }
        assert!(low > 560_000 && high < 640_000, "{low}..{high}");
        assert!(high - low > 2_000, "hardly moves: {low}..{high}");
    }

    #[test]
    fn a_sweep_is_one_taker_through_neighbouring_prices() {
        let schedule = schedule(5);
        let block = (1_000..).find(|block| schedule.is_sweep(*block)).unwrap_or_default();
        let trades: Vec<_> = (block * 4 + 1..=block * 4 + 4).map(|id| schedule.trade(id)).collect();
        assert!(trades.iter().all(|trade| trade.buy == trades[0].buy && trade.market));
        assert_eq!(trades[3].at_us - trades[0].at_us, 3);
    }
}
