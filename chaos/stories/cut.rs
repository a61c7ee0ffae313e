//! The cut of 2018-10-21: for 43 s the region that holds the scope reaches no other, while its worker goes
//! on taking input in. What it wrote until its deadline the others lack.
//!
//! Told twice. Where nobody agrees, nothing moves, the same region holds again, and its tail comes to
//! everybody. Where two people move the scope meanwhile, that tail is no part of the chain any more: it
//! is kept as a fork, counted, and served by nobody.

use super::tail::{Tail, counts_all, is_on_chain, minute_ends};
use super::{Run, SETTLED_MAX, waiting};
use crate::cluster::{NODES, region, warm};
use crate::directed::others;
use crate::network::{WORKER, ends_of};
use cryptorun_core::decide::fitting_kind;
use cryptorun_core::machine::Machine;
use cryptorun_core::position::Position;
use cryptorun_core::promotion::{Kind, Outcome, Promotion, State};
use cryptorun_core::region::RegionName;
use cryptorun_core::time::Millis;
use std::time::Duration;

const LASTS: Duration = Duration::from_secs(43);
/// In half of the runs data stops so much earlier: then the nodes know of records that others lack.
const DATA_FIRST_MS: (u64, u64) = (2000, 7000);
const WHY: &str = "story_cut";

pub(super) async fn nobody_agrees(run: &mut Run<'_>) {
    begin(run).await;
    run.nothing_moves_for(LASTS).await;
    let Some(tail) = end(run, None).await else { return };
    if !run.held_again().await {
        return;
    }
    run.nothing_moved();
    asked_in_vain(run);
    if level(run).await {
        minute_ends().await;
        for place in NODES {
            keeps_all_on_chain(run, place, tail.end).await;
        }
    }
}

pub(super) async fn two_agree(run: &mut Run<'_>) {
    begin(run).await;
    let to = *run.world.pick(&others(run.holder));
    // Half of the time they wait for the controller to ask.
    let by_themselves = run.world.below(2) == 0;
    let until = run.world.now() + LASTS;
    let mut done = None;
    while run.world.now() < until && !run.world.is_bad() {
        tokio::time::sleep(run.world.span_ms(200, 600)).await;
        done = forced(run);
        if done.is_none() {
            push(run, to, by_themselves).await;
        }
    }
    let Some(done) = done else {
        return run
            .broken(format_args!("it was not done within {LASTS:?}: {:?}", run.promotions()));
    };
    let start = done.start.unwrap_or_default();
    let Some(tail) = end(run, Some(start)).await else { return };
    if run.held_again().await && level(run).await {
        minute_ends().await;
        judge_loss(run, &done, &tail).await;
    }
}

/// Cuts the holder's region off.
async fn begin(run: &mut Run<'_>) {
    let (world, holder) = (run.world, run.holder);
    if world.below(2) == 0 {
        let data = others(holder).map(|place| WORKER + place);
        world.state().network.cut_both(&[WORKER + holder], &data, WHY);
        world.event(format_args!("{holder} loses its data path"));
        tokio::time::sleep(world.span_ms(DATA_FIRST_MS.0, DATA_FIRST_MS.1)).await;
    }
    let far: Vec<u64> = others(holder).into_iter().flat_map(ends_of).collect();
    world.state().network.cut_both(&ends_of(holder), &far, WHY);
    world.event(format_args!("{holder} is cut off"));
}

/// Ends the cut. What the old holder has behind `start`, or behind everything that others have.
async fn end(run: &mut Run<'_>, start: Option<Position>) -> Option<Tail> {
    if run.world.is_bad() {
        return None;
    }
    let Some(old) = run.worker(run.holder) else {
        run.broken("the old holder's worker is gone");
        return None;
    };
    let ends = others(run.holder).map(|place| run.worker(place).map(|w| w.sink.view().end));
    let after = start.or_else(|| ends.into_iter().flatten().max_by_key(|end| end.seq))?;
    let tail = match Tail::of(&old, after).await {
        Ok(tail) => tail,
        Err(why) => {
            run.broken(format_args!("the old holder's chain forked before it was cut: {why}"));
            return None;
        }
    };
    run.told.came_about = tail.count() > 0;
    run.count("records only the old holder has", tail.count());
    run.count("rows in them", tail.rows);
    run.world.state().network.mend(WHY);
    run.world
        .event(format_args!("{} is back with {}..={}", run.holder, tail.from_seq, tail.to_seq));
    Some(tail)
}

/// Whatever the controller asked for ended without having done anything.
fn asked_in_vain(run: &mut Run<'_>) {
    for promotion in run.promotions() {
        run.count("asked for by the controller", 1);
        match promotion.state {
            State::Ended(Outcome::Void { .. } | Outcome::Expired) => {}
            other => run.broken(format_args!("{} ended as {other:?}", promotion.id)),
        }
    }
}

/// Waits until all sinks end together, at a record behind the fault.
async fn level(run: &Run<'_>) -> bool {
    let ends = || NODES.map(|place| run.worker(place).map_or(0, |w| w.sink.view().end.seq));
    let goal = ends().into_iter().max().unwrap_or(0);
    let until = run.world.now() + SETTLED_MAX;
    while !run.world.is_bad() {
        if ends().into_iter().all(|end| end > goal) {
            return true;
        }
        if run.world.now() >= until {
            run.broken(format_args!("sinks are not level after {SETTLED_MAX:?}: {:?}", ends()));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    false
}

/// Everything up to there is on the chain of that region, and no trade is missing.
async fn keeps_all_on_chain(run: &Run<'_>, place: u64, end: Position) {
    let Some(worker) = run.worker(place) else { return };
    if !is_on_chain(&worker, end).await {
        run.broken(format_args!("{place} lacks {end}, which the holder had accepted"));
    }
    if let Err(why) = counts_all(run.world, &worker).await {
        run.broken(why);
    }
}

/// The move that people wanted, once it is done.
fn forced(run: &Run<'_>) -> Option<Promotion> {
    run.promotions().into_iter().find(|p| p.state == State::Ended(Outcome::Done))
}

/// Ana asks where nobody did, and both agree to what waits.
async fn push(run: &mut Run<'_>, to: u64, by_themselves: bool) {
    let promotions = run.promotions();
    if promotions.iter().any(|p| p.state == State::Running) {
        return;
    }
    let place = others(run.holder)[0];
    let Some(waiting) = waiting(&promotions).next() else {
        let target = RegionName::from(region(to));
        let kind = run.ask(|machine| fitting_kind(machine, &warm(), &target));
        if let Some(kind) = kind.filter(|kind| by_themselves && *kind != Kind::Switchover) {
            run.asks(place, "ana", kind, to).await;
        }
        return;
    };
    run.both_agree(place, waiting).await;
}

/// What the old holder alone had is kept in its fork, told to the nodes, and on nobody's chain; and how
/// the loss that was told beforehand compares with it.
async fn judge_loss(run: &mut Run<'_>, done: &Promotion, tail: &Tail) {
    run.count(done.kind.as_str(), 1);
    let Some(old) = run.worker(run.holder) else { return };
    if let Err(why) = tail.is_kept_by(&old) {
        run.broken(why);
    }
    for place in NODES {
        let Some(worker) = run.worker(place) else { continue };
        if tail.count() > 0 && is_on_chain(&worker, tail.end).await {
            run.broken(format_args!("{place} serves {}, which is in a fork", tail.end));
        }
        if let Err(why) = counts_all(run.world, &worker).await {
            run.broken(why);
        }
    }
    let region = RegionName::from(region(run.holder));
    let forks = old.sink.view().forks;
    let told = |machine: &Machine| {
        machine.sink_of(&region, &warm()).is_some_and(|(_, report)| report.forks == forks)
    };
    run.until("the nodes know of the fork", SETTLED_MAX, told).await;
    settled(run, done, tail).await;
}

/// What was lost is told as it was, in the record and in the audit; and what had been told before it was
/// agreed to covers it: what the holder had reported by name, what it wrote afterwards by time.
async fn settled(run: &mut Run<'_>, done: &Promotion, tail: &Tail) {
    let id = done.id;
    let measured = |machine: &Machine| machine.promotions().get(&id).map(|p| p.measured.clone());
    let is_settled = |machine: &Machine| measured(machine).is_some_and(|m| m.lost_rows.is_some());
    if !run.until("the loss is settled", SETTLED_MAX, is_settled).await {
        return;
    }
    let Some(Some(measured)) = run.ask(measured) else { return };
    let told = (measured.lost_records.unwrap_or(0), measured.lost_rows.unwrap_or(0));
    // One more where a record was in flight when the lease ended: kept as well, and never visible.
    let (records, rows) = (tail.count(), tail.rows);
    let in_flight = told.0.saturating_sub(records);
    if told.0 < records || in_flight > 1 || told.1 < rows || (in_flight == 0 && told.1 != rows) {
        run.broken(format_args!("{records} records, {rows} rows were lost, and {told:?} are told"));
    }
    run.count("records in flight that were kept", in_flight);
    let entries = run.ask(|machine| {
        let entries = machine.audit().values();
        entries.filter(|e| e.is_about(&id.to_string()) && e.action == "settled").count()
    });
    if entries != Some(1) {
        run.broken(format_args!("the audit tells of it {entries:?} times"));
    }
    let named = |seq: u64| (done.loss.from_seq..=done.loss.to_seq).contains(&seq);
    let unnamed = (tail.from_seq..=tail.to_seq).filter(|seq| !named(*seq)).count();
    run.count("records lost", tail.count());
    run.count("of them written after the last report", unnamed as u64);
    if unnamed > 0 && done.loss.known && done.loss.unreported == Millis::ZERO {
        run.broken(format_args!("{unnamed} records were lost that nobody told of before"));
    }
}
