//! Seeds that must hold, seeds that must repeat, and bugs that must be found.

use super::*;

/// Simulated seconds in tests: shorter than `run`'s, so that more seeds fit.
const SECONDS: u64 = 20;

fn options() -> Options {
    Options { seconds: SECONDS, ..Options::default() }
}

fn hold(seeds: std::ops::Range<u64>, options: Options) {
    let batch = run_seeds(seeds, 1, options, false, |_| {});
    let wrong: Vec<String> =
        batch.bad.iter().map(|(seed, why)| format!("seed {seed}: {}", why.join("\n  "))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Two tests, so that both cores work.
#[test]
fn invariants_hold_in_the_first_seeds() {
    hold(1..17, options());
}

#[test]
fn invariants_hold_in_the_next_seeds() {
    hold(17..33, options());
}

/// Seeds beyond those of every run that broke something once.
#[test]
fn invariants_hold_in_seeds_that_broke_one() {
    // A fork that could not be kept left its sink degraded after it was.
    hold(200_062..200_063, Options::default());
    // A leader that was back at once stood for election too; two won, and a lease ran out meanwhile.
    hold(200_363..200_364, Options::default());
}

#[test]
fn a_seed_repeats_bit_for_bit() {
    for seed in 1000..1003 {
        assert_eq!(run(seed, options()), run(seed, options()));
    }
}

fn found(name: &str, by: &str) {
    let mutant = mutants::named(name).expect("is listed");
    let options = Options { mutant: Some(mutant), ..options() };
    let wrong: Vec<String> =
        (1..=12).flat_map(|seed| run(seed, options).violations).take(3).collect();
    let wrong = wrong.join("\n");
    assert!(wrong.contains(by), "{name} was not found by {by}: {wrong}");
}

#[test]
fn an_entry_acknowledged_before_its_sync_is_found() {
    found("append_before_sync", "durable_at_send");
}

#[test]
fn a_vote_granted_before_its_sync_is_found() {
    found("vote_before_sync", "durable_at_send");
}

#[test]
fn a_stale_read_is_found() {
    found("stale_read", "reads_fresh");
}
