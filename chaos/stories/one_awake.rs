//! The holder's region is gone for good, two people must agree, and one of them sleeps for ten minutes.
//!
//! Meanwhile nothing moves, and whoever asks is told the way: which verb is open and that another person
//! is lacking. What was asked for expires, and is asked for again while its cause lasts.

use super::{Run, waiting};
use crate::cluster::{region, warm};
use crate::directed::others;
use crate::line;
use crate::network::PERSON;
use cryptorun_control::api::ReadQuery;
use cryptorun_core::decide::{Change, Choice};
use cryptorun_core::promotion::{Outcome, State};
use cryptorun_core::scope::Tier;
use cryptorun_platform::disk::Keep;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const MINUTES: u64 = 10;
/// Detection as shipped, and what it takes to notice.
const NOTICED_AFTER: u64 = 2;
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Between the end of a request and the next.
const ASKED_AGAIN_WITHIN: Duration = Duration::from_secs(10);
/// From ben's approval until it is done.
const DONE_WITHIN: Duration = Duration::from_secs(120);

pub(super) async fn tell(run: &mut Run<'_>) {
    let holder = run.holder;
    run.cluster.crash_node(holder, Keep::Everything);
    run.cluster.crash_worker(holder, Keep::Everything);
    for minute in 1..=MINUTES {
        ana_agrees_for(run, MINUTE, minute > NOTICED_AFTER).await;
        if minute >= NOTICED_AFTER {
            for place in others(holder) {
                names_the_way(run, place).await;
            }
        }
        if run.world.is_bad() {
            return;
        }
    }
    let expired =
        |p: &&cryptorun_core::promotion::Promotion| p.state == State::Ended(Outcome::Expired);
    let expired = run.promotions().iter().filter(expired).count() as u64;
    run.count("requests that expired", expired);
    run.told.came_about = expired >= 2;
    ben_wakes(run).await;
}

/// Ana puts her name to whatever waits; that alone moves nothing. Once noticed, something always waits.
async fn ana_agrees_for(run: &mut Run<'_>, span: Duration, noticed: bool) {
    let end = run.world.now() + span;
    let mut idle = Duration::ZERO;
    while run.world.now() < end && !run.world.is_bad() {
        tokio::time::sleep(LOOK_EVERY.min(end - run.world.now())).await;
        run.nothing_moved();
        let promotions = run.promotions();
        let Some(waits) = waiting(&promotions).next() else {
            idle += LOOK_EVERY;
            if noticed && idle > ASKED_AGAIN_WITHIN {
                run.broken(format_args!("nothing waits for people for {idle:?}"));
            }
            continue;
        };
        idle = Duration::ZERO;
        if waits.approvals.is_empty() {
            run.agrees(others(run.holder)[0], "ana", waits).await;
            run.count("approvals of one person", 1);
        }
    }
}

/// What `GET /v1/explain` answers ana about that target: a verb is open, and lacks a person.
async fn names_the_way(run: &mut Run<'_>, place: u64) {
    let (Some(ana), Some(leader)) = (line::caller(PERSON + place, "ana"), run.cluster.leader())
    else {
        return;
    };
    let scope = (Tier::Warm, warm().group);
    let asked = leader.api.explain(&ana, (scope.0, &scope.1), region(place), ReadQuery::default());
    let said = match asked.await {
        Ok(said) => said,
        Err(error) => return run.broken(format_args!("explain {}: {error}", region(place))),
    };
    let lacks_people = said
        .decision
        .changes
        .iter()
        .any(|change| matches!(change, Change::MorePeople { missing: 1.. }));
    if said.decision.choice != Choice::Ask || !lacks_people || said.command.is_none() {
        run.broken(format_args!("explain {} names no way: {said:?}", region(place)));
    }
    run.count("answers that name the way", 1);
}

/// The second person agrees, and it is done.
async fn ben_wakes(run: &mut Run<'_>) {
    let end = run.world.now() + DONE_WITHIN;
    while run.world.now() < end && !run.world.is_bad() {
        tokio::time::sleep(run.world.span_ms(300, 900)).await;
        let promotions = run.promotions();
        if promotions.iter().any(|p| p.state == State::Ended(Outcome::Done)) {
            return;
        }
        let Some(waits) = waiting(&promotions).next() else { continue };
        run.both_agree(others(run.holder)[0], waits).await;
    }
    run.broken(format_args!("it is not done though two agreed: {:?}", run.promotions()));
}
