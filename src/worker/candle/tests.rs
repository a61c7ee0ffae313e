use super::*;
use crate::ingest::model::Side;
use crate::ingest::tests::{source, trade};
use proptest::prelude::*;

const MINUTE: u64 = 60_000_000;
const LATENESS: u64 = 5_000_000;

fn aggregator() -> Aggregator {
    Aggregator::new(CandleSettings::default())
}

fn fed(trades: impl IntoIterator<Item = Trade>) -> Aggregator {
    let mut aggregator = aggregator();
    for trade in trades {
        aggregator.apply(&trade).expect("small numbers");
    }
    aggregator
}

/// Everything closed, whatever is still to come.
fn closed(mut aggregator: Aggregator) -> Vec<Candle> {
    aggregator.advance(&source(), u64::MAX);
    aggregator.drain(false)
}

/// The slow way: sort, take unique ids, sum.
fn by_hand(trades: &[Trade]) -> Vec<(u64, [i64; 4], i128, i128, u64)> {
    let mut unique: BTreeMap<u64, &Trade> = BTreeMap::new();
    trades.iter().for_each(|trade| {
        unique.insert(trade.id, trade);
    });
    let mut minutes: BTreeMap<u64, Vec<&Trade>> = BTreeMap::new();
    unique.values().for_each(|t| minutes.entry(t.at_us / MINUTE).or_default().push(t));
    minutes
        .into_iter()
        .map(|(minute, trades)| {
            let prices = || trades.iter().map(|t| t.price);
            let ohlc = [
                trades[0].price,
                prices().max().unwrap_or(0),
                prices().min().unwrap_or(0),
                trades[trades.len() - 1].price,
            ];
            let volume = trades.iter().map(|t| i128::from(t.qty)).sum();
            let quote = trades.iter().map(|t| i128::from(t.price) * i128::from(t.qty)).sum();
            (minute * MINUTE, ohlc, volume, quote, trades.len() as u64)
        })
        .collect()
}

fn shown(candles: &[Candle]) -> Vec<(u64, [i64; 4], i128, i128, u64)> {
    let show = |c: &Candle| {
        (c.open_us, [c.open, c.high, c.low, c.close], c.volume, c.quote_volume, c.trades)
    };
    candles.iter().map(show).collect()
}

#[test]
fn a_candle_closes_when_the_watermark_is_past_its_end_by_the_lateness() {
    let mut aggregator = fed((0..90).map(trade));
    aggregator.advance(&source(), MINUTE + LATENESS - 1);
    assert_eq!(aggregator.drain(false), []);
    aggregator.advance(&source(), MINUTE + LATENESS);
    let candles = aggregator.drain(false);
    let [first] = candles.as_slice() else { panic!("one candle, not {candles:?}") };
    assert_eq!((first.open_us, first.trades, first.state), (0, 60, CandleState::Closed));
    assert_eq!((first.first_trade_id, first.last_trade_id, first.revision), (0, 59, 0));
    assert!(first.complete);
    assert_eq!(aggregator.drain(false), [], "it was handed out");
    // A watermark never goes back.
    aggregator.advance(&source(), 1);
    assert_eq!(aggregator.watermark(&source()), Some(MINUTE + LATENESS));
}

#[test]
fn a_late_trade_revises_and_says_so() {
    let mut aggregator = fed((0..60).filter(|id| *id != 30).map(trade));
    aggregator.advance(&source(), 2 * MINUTE);
    let before = aggregator.drain(false);
    assert_eq!((before[0].revision, before[0].complete), (0, false));
    assert_eq!(before[0].holes, [IdRange { first: 30, last: 30 }]);
    assert_eq!(aggregator.missing(&source()), before[0].holes);

    assert_eq!(aggregator.apply(&trade(30)), Ok(Outcome::Revises));
    assert_eq!(aggregator.apply(&trade(30)), Ok(Outcome::Duplicate));
    let after = aggregator.drain(false);
    assert_eq!((after[0].revision, after[0].state), (1, CandleState::Revised));
    assert_eq!((after[0].trades, after[0].complete), (60, true));
    assert_eq!(aggregator.drain(true), []);
}

#[test]
fn a_trade_in_a_minute_that_was_taken_for_empty_is_a_revision_too() {
    let mut aggregator = fed([trade(1)]);
    aggregator.advance(&source(), 5 * MINUTE);
    aggregator.drain(false);
    let late = Trade { at_us: 2 * MINUTE, ..trade(2) };
    assert_eq!(aggregator.apply(&late), Ok(Outcome::Revises));
    let candles = aggregator.drain(false);
    assert_eq!((candles[0].state, candles[0].revision), (CandleState::Revised, 1));
}

#[test]
fn an_open_candle_is_shown_only_when_asked_for_and_closes_without_a_revision() {
    let mut aggregator = fed((0..10).map(trade));
    assert_eq!(aggregator.drain(false), []);
    assert_eq!(aggregator.drain(true)[0].state, CandleState::Open);
    assert_eq!(aggregator.drain(true), [], "nothing changed since");
    aggregator.advance(&source(), 2 * MINUTE);
    let closed = aggregator.drain(false);
    assert_eq!((closed[0].state, closed[0].revision), (CandleState::Closed, 0));
}

#[test]
fn the_first_candle_of_a_feed_that_joined_in_the_middle_is_not_complete() {
    let candles = closed(fed((1_000..1_200).map(trade)));
    let complete: Vec<bool> = candles.iter().map(|candle| candle.complete).collect();
    assert_eq!(complete, [false, true, true, true]);
}

#[test]
fn a_gap_between_two_candles_leaves_neither_complete() {
    let candles = closed(fed((0..120).filter(|id| !(59..61).contains(id)).map(trade)));
    assert!(candles.iter().all(|candle| candle.holes.is_empty() && !candle.complete));
}

#[test]
fn a_successor_counts_nothing_twice() {
    let whole = closed(fed((0..200).map(trade)));

    // The first holder stored three minutes, the last of them open and with a gap.
    let mut first = fed((0..150).filter(|id| *id != 140).map(trade));
    first.advance(&source(), 2 * MINUTE + LATENESS);
    let stored = first.drain(true);
    assert_eq!(stored.len(), 3);

    let mut successor = aggregator();
    successor.seed(stored.clone()).expect("what was stored is sound");
    assert_eq!(successor.last_id(&source()), Some(149));
    assert_eq!(successor.missing(&source()), [IdRange { first: 140, last: 140 }]);
    let missing = Missing { ids: IdRange { first: 140, last: 140 }, since_us: 2 * MINUTE };
    let last = Seen { id: 149, at_us: 2 * MINUTE };
    assert_eq!(successor.resume(&source()), Some(Resume { last, missing: vec![missing] }));
    assert_eq!(successor.drain(true), [], "what was stored is not news");
    let mut added = 0;
    for id in 0..200 {
        let outcome = successor.apply(&trade(id)).expect("small numbers");
        added += usize::from(outcome == Outcome::Added);
    }
    assert_eq!(added, 51, "id 140 and the fifty after 149");
    successor.advance(&source(), u64::MAX);
    let mut all: BTreeMap<u64, Candle> = stored.into_iter().map(|c| (c.open_us, c)).collect();
    successor.drain(false).into_iter().for_each(|c| {
        all.insert(c.open_us, c);
    });
    assert_eq!(all.into_values().collect::<Vec<_>>(), whole);
}

#[test]
fn a_trade_older_than_what_was_seeded_begins_no_second_candle() {
    let stored = closed(fed((120..240).map(trade)));
    let mut successor = aggregator();
    successor.seed(stored).expect("sound");
    assert_eq!(successor.apply(&trade(119)), Ok(Outcome::Forgotten { open_us: MINUTE }));
    assert_eq!(successor.drain(true), []);
}

#[test]
fn a_forgotten_candle_is_called_back_from_the_store() {
    let settings = CandleSettings { keep: 1, ..CandleSettings::default() };
    let mut aggregator = Aggregator::new(settings);
    for id in (0..180).filter(|id| *id != 7) {
        aggregator.apply(&trade(id)).expect("small numbers");
    }
    aggregator.advance(&source(), u64::MAX);
    let stored = aggregator.drain(false);
    assert_eq!(aggregator.apply(&trade(8)), Ok(Outcome::Duplicate));
    assert_eq!(aggregator.apply(&trade(7)), Ok(Outcome::Forgotten { open_us: 0 }));
    aggregator.seed(vec![stored[0].clone()]).expect("sound");
    assert_eq!(aggregator.apply(&trade(7)), Ok(Outcome::Revises));
    let revised = aggregator.drain(false);
    assert_eq!((revised[0].open_us, revised[0].trades, revised[0].revision), (0, 60, 1));
}

#[test]
fn a_stored_candle_that_contradicts_itself_is_refused() {
    let sound = closed(fed((0..60).map(trade))).remove(0);
    let refuse = |change: fn(&mut Candle)| {
        let mut candle = sound.clone();
        change(&mut candle);
        aggregator().seed(vec![candle]).expect_err("it contradicts itself").to_string()
    };
    assert!(refuse(|c| c.trades += 1).contains("61 trades"));
    assert!(refuse(|c| c.low = c.high + 1).contains("low and high"));
    assert!(refuse(|c| c.interval_us += 1).contains("interval"));
    assert!(refuse(|c| c.first_trade_id = c.last_trade_id + 1).contains("above its last"));
    assert!(refuse(|c| c.holes = vec![IdRange { first: 0, last: 3 }]).contains("hole"));

    let shifted = Candle { open_us: MINUTE, ..sound.clone() };
    let both = aggregator().seed(vec![sound.clone(), shifted]);
    assert!(matches!(both, Err(SeedError::Overlap { .. })));
    let mut twice = aggregator();
    twice.seed(vec![sound.clone()]).expect("sound");
    assert!(matches!(twice.seed(vec![sound]), Err(SeedError::Known { .. })));
}

#[test]
fn a_finer_precision_in_the_middle_of_a_minute_is_the_same_money() {
    let coarse = trade(1);
    let fine = Trade { price: coarse.price * 10 + 5, price_scale: 2, qty: 30, ..trade(2) };
    for order in [[&coarse, &fine], [&fine, &coarse]] {
        let candle = closed(fed(order.into_iter().cloned())).remove(0);
        assert_eq!((candle.price_scale, candle.qty_scale), (2, 8));
        assert_eq!((candle.open, candle.close), (coarse.price * 10, fine.price));
        let quote = i128::from(coarse.price * 10) * i128::from(coarse.qty)
            + i128::from(fine.price) * i128::from(fine.qty);
        assert_eq!(candle.quote_volume, quote);
    }
}

#[test]
fn numbers_too_large_are_refused_and_change_nothing() {
    let mut aggregator = fed([trade(1)]);
    let huge = Trade { price: i64::MAX, price_scale: 0, ..trade(2) };
    assert!(aggregator.apply(&huge).is_err());
    let candle = closed(aggregator).remove(0);
    assert_eq!((candle.trades, candle.last_trade_id), (1, 1));
}

#[test]
fn sums_survive_json_as_text() {
    let candle = closed(fed((0..3).map(trade))).remove(0);
    let candle = Candle { quote_volume: i128::MAX, ..candle };
    let text = serde_json::to_string(&candle).expect("it serialises");
    assert!(text.contains(&format!("\"{}\"", i128::MAX)));
    assert_eq!(serde_json::from_str::<Candle>(&text).expect("it reads back"), candle);
}

/// Trades with ids from 0 on: times rise with ids but for small steps back, as engines produce.
fn market() -> impl Strategy<Value = Vec<Trade>> {
    prop::collection::vec((0u64..9_000_000, 1i64..1_000, 1i64..1_000), 1..120).prop_map(|rows| {
        let mut clock = 10 * MINUTE;
        let mut trades = Vec::new();
        for (id, (step, price, qty)) in rows.into_iter().enumerate() {
            clock += step;
            let at_us = clock - (step * 7919) % 1_000_000;
            let taker = if qty % 2 == 0 { Side::Buy } else { Side::Sell };
            trades.push(Trade { price, qty, taker, at_us, ..trade(id as u64) });
        }
        trades
    })
}

/// The market with repetitions, shuffled.
fn delivered() -> impl Strategy<Value = (Vec<Trade>, Vec<Trade>)> {
    market().prop_flat_map(|trades| {
        let again = prop::sample::subsequence(trades.clone(), 0..=trades.len());
        let shuffled = again
            .prop_map({
                let trades = trades.clone();
                move |again| [trades.clone(), again].concat()
            })
            .prop_shuffle();
        (Just(trades), shuffled)
    })
}

proptest! {
    #[test]
    fn order_and_repetition_change_nothing((trades, delivered) in delivered()) {
        let in_order = closed(fed(trades.clone()));
        prop_assert_eq!(shown(&in_order), by_hand(&trades));
        prop_assert_eq!(closed(fed(delivered)), in_order);
    }

    /// Closing in between costs revisions, never values.
    #[test]
    fn late_trades_end_at_the_same_values((trades, delivered) in delivered(), at in 0usize..200) {
        let mut aggregator = aggregator();
        let mut last: BTreeMap<u64, Candle> = BTreeMap::new();
        for (n, trade) in delivered.iter().enumerate() {
            aggregator.apply(trade).expect("small numbers");
            if n == at {
                aggregator.advance(&source(), u64::MAX);
            }
            for candle in aggregator.drain(true) {
                let before = last.insert(candle.open_us, candle.clone());
                prop_assert!(before.is_none_or(|b| b.state == CandleState::Open || b.revision < candle.revision));
            }
        }
        aggregator.advance(&source(), u64::MAX);
        last.extend(aggregator.drain(true).into_iter().map(|candle| (candle.open_us, candle)));
        prop_assert_eq!(shown(&last.into_values().collect::<Vec<_>>()), by_hand(&trades));
    }

    /// Wherever a takeover happens and however much is fetched again, nothing counts twice.
    #[test]
    fn a_takeover_anywhere_changes_nothing((trades, delivered) in delivered(), at in any::<prop::sample::Index>()) {
        let at = at.index(delivered.len());
        let mut first = fed(delivered[..at].iter().cloned());
        let stored = first.drain(true);
        let mut second = aggregator();
        second.seed(stored.clone()).expect("what was stored is sound");
        let mut last: BTreeMap<u64, Candle> = stored.into_iter().map(|c| (c.open_us, c)).collect();
        let mut forgotten = 0;
        for trade in &delivered {
            let outcome = second.apply(trade).expect("small numbers");
            forgotten += usize::from(matches!(outcome, Outcome::Forgotten { .. }));
        }
        second.advance(&source(), u64::MAX);
        last.extend(second.drain(false).into_iter().map(|candle| (candle.open_us, candle)));
        let result = shown(&last.into_values().collect::<Vec<_>>());
        let wanted = by_hand(&trades);
        if forgotten == 0 {
            prop_assert_eq!(result, wanted);
        } else {
            // Minutes before the oldest stored one were refused, not begun a second time.
            prop_assert!(result.iter().all(|candle| wanted.contains(candle)));
        }
    }
}
