//! That labels are told from each other, and that a wrong word is counted as one.

use super::*;
use crate::{Options, run as run_seed};

/// A few of each, where the list of every run has hundreds.
#[test]
fn each_label_is_called_by_its_name() {
    let mut confusion = Confusion::default();
    for seed in 2000..2000 + Label::ALL.len() as u64 {
        let label = Label::of(seed);
        let outcome = run_seed(seed, Options { label: Some(label), ..Options::default() });
        assert!(outcome.violations.is_empty(), "{label} {seed}: {:?}", outcome.violations);
        confusion.add(&outcome.called.expect("it was judged"));
    }
    assert_eq!(confusion.right, confusion.runs, "\n{confusion}");
}

#[test]
fn the_held_out_list_has_each_label_as_often() {
    let mut counts: BTreeMap<Label, u64> = BTreeMap::new();
    let mut seeds = std::collections::BTreeSet::new();
    for (seed, label) in held_out().unwrap() {
        *counts.entry(label).or_default() += 1;
        assert!(seeds.insert(seed), "{seed} stands there twice");
    }
    assert_eq!(counts.len(), Label::ALL.len());
    assert!(counts.values().all(|count| *count == 50), "{counts:?}");
}

#[test]
fn a_right_class_of_the_wrong_region_is_wrong() {
    let called = |class, right| Called { label: Label::SlowDisk, class, right, after: None };
    let mut confusion = Confusion::default();
    confusion.add(&called("slow_disk", true));
    confusion.add(&called("slow_disk", false));
    confusion.add(&called("overloaded", false));
    assert_eq!((confusion.right, confusion.runs, confusion.right_permille()), (1, 3, 333));
    let row = confusion.to_string();
    assert!(row.contains("| `slow_disk` | 3 | 1 | overloaded 1, slow_disk* 1 |"), "{row}");
}
