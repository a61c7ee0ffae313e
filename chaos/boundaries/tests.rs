//! A few boundaries of each kind, where `boundaries` goes through all of them; and that a boundary which
//! nobody reached is said to be missing.

use super::*;
use crate::{Options, run as run_seed};

/// Those whose names contain one of these; the reservation and the grant are where half a promotion
/// would hurt.
fn hold(seed: u64, names: &[&str]) {
    let mut table = Table::default();
    let few: Vec<Boundary> = all()
        .into_iter()
        .filter(|boundary| names.iter().any(|name| boundary.to_string().contains(name)))
        .collect();
    for boundary in &few {
        let outcome = run_seed(seed, Options { boundary: Some(*boundary), ..Options::default() });
        assert!(outcome.violations.is_empty(), "{boundary} {seed}: {:?}", outcome.violations);
        table.add(&outcome.reached.expect("the run was about it"));
    }
    assert!(!few.is_empty());
    assert_eq!(table.missing(&few).count(), 0, "\n{table}");
}

#[test]
fn a_switchover_ends_whole_where_its_token_is_reserved_and_granted() {
    hold(
        1,
        &["switchover/reserve.end", "switchover/handover/applied", "switchover/grant.end/twice"],
    );
}

#[test]
fn a_failover_ends_whole_where_its_token_is_reserved_and_granted() {
    hold(
        2,
        &["failover/reserve.end", "failover/fetch_tail.start/applied", "failover/grant.end/twice"],
    );
}

#[test]
fn an_emergency_ends_whole_where_its_token_is_reserved_and_granted() {
    hold(
        3,
        &["emergency/reserve.end", "emergency/seal.start/applied", "emergency/grant.end/twice"],
    );
}

#[test]
fn a_boundary_repeats_bit_for_bit() {
    let boundary = "failover/seal.end/with_candidate".parse().expect("there is such a one");
    let options = Options { boundary: Some(boundary), ..Options::default() };
    assert_eq!(run_seed(7, options), run_seed(7, options));
}

#[test]
fn every_step_of_every_plan_has_its_boundaries() {
    let all = all();
    for (kind, steps) in [(Kind::Switchover, 11), (Kind::Failover, 10), (Kind::Emergency, 10)] {
        let of_kind = |how: How, is: fn(Point) -> bool| {
            all.iter().filter(|b| b.kind == kind && b.how == how && is(b.point)).count()
        };
        for how in [How::Appended, How::Applied] {
            assert_eq!(of_kind(how, |point| matches!(point, Point::Start(_))), steps);
            assert_eq!(of_kind(how, |point| matches!(point, Point::End(_))), steps);
        }
    }
    for boundary in &all {
        assert_eq!(boundary.to_string().parse(), Ok(*boundary));
    }
}

#[test]
fn a_run_in_which_too_few_died_leaves_its_boundary_missing() {
    let boundary: Boundary = "switchover/drain.start/twice".parse().expect("there is such a one");
    let ended = Ended { how: "done", why: String::new(), after: Duration::ZERO };
    let mut table = Table::default();
    table.add(&Reached { boundary, killed: 1, ended: Some(ended.clone()) });
    assert_eq!((table.missing(&[boundary]).count(), table.missed), (1, 1));
    table.add(&Reached { boundary, killed: 2, ended: Some(ended) });
    assert_eq!(table.missing(&[boundary]).count(), 0);
    assert!(table.to_string().contains("| switchover | `drain.start` | never | never | done 1 |"));
}
