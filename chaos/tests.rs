//! Seeds that must hold, seeds that must repeat, and bugs that must be found.

use super::*;

/// Seeds of every test run. Nightly runs take other ones.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=200;

fn bad(seeds: impl IntoIterator<Item = u64>, options: Options) -> Vec<String> {
    let outcomes = seeds.into_iter().map(|seed| run(seed, options));
    let bad = outcomes.filter(|outcome| !outcome.violations.is_empty());
    bad.map(|outcome| format!("seed {}: {}", outcome.seed, outcome.violations.join("\n  ")))
        .collect()
}

/// One half of the seeds; two tests, so that both cores work.
fn half(odd: u64) {
    let options = Options { seconds: 12, ..Options::default() };
    let wrong = bad(SEEDS.filter(|seed| seed % 2 == odd), options);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn invariants_hold_in_odd_seeds() {
    half(1);
}

#[test]
fn invariants_hold_in_even_seeds() {
    half(0);
}

#[test]
fn a_seed_repeats_bit_for_bit() {
    for seed in 1000..1006 {
        let options = Options::default();
        assert_eq!(run(seed, options), run(seed, options));
    }
}

/// A run in which nothing happens proves nothing.
#[test]
fn the_rare_is_reached() {
    let outcomes: Vec<Outcome> = (1..=12).map(|seed| run(seed, Options::default())).collect();
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    assert!(sum(|outcome| outcome.crashes) > 20);
    assert!(sum(|outcome| outcome.leaderships) > 20);
    assert!(sum(|outcome| outcome.grants) > 10);
    assert!(sum(|outcome| outcome.installs) > 2);
    assert!(sum(|outcome| outcome.reads) > 500);
}

fn found(mutant: Mutant, by: &str) {
    let options = Options { mutant: Some(mutant), ..Options::default() };
    let wrong = bad(1..=6, options).join("\n");
    assert!(wrong.contains(by), "{mutant:?} was not found by {by}: {wrong}");
}

#[test]
fn an_entry_acknowledged_before_its_sync_is_found() {
    found(Mutant::AckEarly, "durable_at_send");
}

#[test]
fn a_vote_granted_before_its_sync_is_found() {
    found(Mutant::VoteEarly, "durable_at_send");
}

#[test]
fn a_stale_read_is_found() {
    found(Mutant::StaleRead, "reads_fresh");
}
