//! Interleavings that simulated runs found, told as stories of the machine alone.

use super::world::{World, warm};
use crate::command::{Approve, Command, Deny, EndSession, RequestPromotion};
use crate::people::Actor;
use crate::plan::Step;
use crate::promotion::{Kind, Outcome, PromotionId, State, StepState};
use crate::scope::{Mode, Phase};
use crate::session::SessionKey;
use crate::steps;
use crate::time::Millis;

const P1: PromotionId = PromotionId(1);

/// A switchover that enough people stand behind, and that nobody has driven yet.
fn agreed() -> World {
    let mut world = World::running(Mode::Approve);
    let ask = RequestPromotion {
        kind: Kind::Switchover,
        scope: warm(),
        from: None,
        to: "us-west-2".into(),
        reason: Some("a drill".to_owned()),
        plan: None,
    };
    says(&mut world, "ana", Command::RequestPromotion(ask));
    says(&mut world, "ben", approval());
    world
}

fn approval() -> Command {
    Command::Approve(Approve { promotion: P1, reason: None, certificate: None })
}

/// One entry of one person, and nothing that follows from it yet.
fn says(world: &mut World, person: &str, command: Command) {
    let applied = world.propose(Actor::Person(person.into()), command);
    applied.answer.expect("is in order");
}

/// Drives it, entry by entry, until this step is as wanted.
fn until(world: &mut World, step: Step, wanted: &StepState) {
    for _ in 0..600 {
        for command in steps::advance(&world.machine) {
            let promotion = &world.machine.promotions()[&P1];
            if promotion.current().is_some_and(|r| r.step == step && r.state == *wanted) {
                return;
            }
            drop(world.propose(Actor::Controller, command));
        }
        world.now = world.now + Millis(100);
        world.everybody_works();
    }
    panic!("never at {step}: {:?}", world.machine.promotions()[&P1]);
}

fn end_session(world: &mut World, key: SessionKey) {
    let actor = Actor::Worker(key.worker.to_string());
    world.propose(actor, Command::EndSession(EndSession { session: key })).answer.expect("ends");
}

fn rolled_back(world: &World) -> bool {
    let state = &world.machine.promotions()[&P1].state;
    matches!(state, State::Ended(Outcome::RolledBack { .. }))
}

#[test]
fn a_promotion_denied_while_its_reserve_was_on_the_way_reserves_nothing() {
    let mut world = agreed();
    until(&mut world, Step::Reserve, &StepState::Started);
    let mut commands = steps::advance(&world.machine).into_iter();
    let reserve = commands.find(|c| matches!(c, Command::Reserve(_))).expect("comes next");
    let deny = Deny { promotion: P1, reason: "not now".to_owned() };
    says(&mut world, "eve", Command::Deny(deny));
    assert!(world.propose(Actor::Controller, reserve).answer.is_err());
    assert_eq!(world.scope().reservation, None);
    world.advance(Millis::secs(60));
    assert_eq!(world.scope().phase, Phase::Active);
}

#[test]
fn a_candidate_that_is_gone_before_it_has_the_tail_ends_the_promotion() {
    let mut world = agreed();
    until(&mut world, Step::FetchTail, &StepState::Started);
    let candidate = world.machine.promotions()[&P1].candidate.clone().expect("was named");
    end_session(&mut world, candidate);
    world.advance(Millis::secs(60));
    assert!(rolled_back(&world), "{:?}", world.machine.promotions()[&P1].state);
    assert_eq!(world.scope().phase, Phase::Active);
}

#[test]
fn a_holder_that_is_gone_before_it_is_asked_to_stop_ends_the_switchover() {
    let mut world = agreed();
    until(&mut world, Step::Drain, &StepState::Pending);
    let holder = world.scope().lease.as_ref().map(|lease| lease.holder.clone()).expect("is held");
    end_session(&mut world, holder);
    world.advance(Millis::secs(60));
    assert!(rolled_back(&world), "{:?}", world.machine.promotions()[&P1].state);
    assert_eq!(world.scope().phase, Phase::Active);
}
