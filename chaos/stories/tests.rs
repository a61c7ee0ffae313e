//! A seed or two of each story, where `stories` tells ten.

use super::*;
use crate::{Options, Outcome, mutants, run as run_seed};

fn tell(seed: u64, story: Story) -> Outcome {
    run_seed(seed, Options { story: Some(story), ..Options::default() })
}

fn holds(seed: u64, story: Story) -> Told {
    let outcome = tell(seed, story);
    assert!(outcome.violations.is_empty(), "{story} {seed}: {:?}", outcome.violations);
    outcome.told.expect("it was told")
}

#[test]
fn a_cut_of_43_seconds_moves_nothing_while_nobody_agrees() {
    let told = [1, 2].map(|seed| holds(seed, Story::Cut));
    assert!(told.iter().any(|told| told.came_about), "{told:?}");
}

#[test]
fn what_only_the_old_holder_had_is_kept_where_two_people_move_the_scope_meanwhile() {
    let told = [1, 2].map(|seed| holds(seed, Story::CutForced));
    assert!(told.iter().any(|told| told.came_about), "{told:?}");
}

#[test]
fn a_link_that_comes_and_goes_moves_nothing() {
    assert!(holds(1, Story::Flapping).came_about);
}

#[test]
fn whoever_is_awake_alone_is_told_the_way_and_moves_nothing() {
    assert!(holds(1, Story::OneAwake).came_about);
}

#[test]
fn a_seal_waits_for_the_record_that_comes_in() {
    let told = [1, 2, 3].map(|seed| holds(seed, Story::SealedWhileBehind));
    assert!(told.iter().any(|told| told.came_about), "{told:?}");
}

#[test]
fn a_story_repeats_bit_for_bit() {
    assert_eq!(tell(7, Story::CutForced), tell(7, Story::CutForced));
}

#[test]
fn a_story_that_never_came_about_is_missing() {
    let told = |came_about| Told { story: Story::Cut, came_about, figures: BTreeMap::new() };
    let mut table = Table::default();
    table.add(&told(false));
    assert_eq!(table.missing(&[Story::Cut]).collect::<Vec<_>>(), [Story::Cut]);
    table.add(&told(true));
    assert_eq!(table.missing(&[Story::Cut]).count(), 0);
    assert!(table.to_string().contains("| `cut_43s` | 2 | 1 |"), "{table}");
}

#[test]
fn every_story_is_found_by_its_name() {
    for story in Story::ALL {
        assert_eq!(story.to_string().parse(), Ok(story));
    }
    let own = mutants::named("tail_before_seal").and_then(|mutant| mutant.story);
    assert_eq!(own, Some(Story::SealedWhileBehind));
}
