//! The primary stopped with SIGSTOP for longer than its lease and woken while the venue's held-back
//! frames burst in; with another region promoted meanwhile, and without.
//!
//! A reader's request waits in the stopped worker's sockets and is answered first thing after it
//! wakes, before any timer of its own: the hardest moment to tell the truth about authority.

use crate::Arguments;
use crate::judge;
use crate::reader::Reader;
use crate::verdict::Verdicts;
use crate::world::{Before, LEVEL_WITHIN, LOOK, Trouble, Wish, World, now, since, until_after};
use cryptorun_core::promotion::{Outcome, State};
use cryptorun_core::time::{Millis, Timing};
use cryptorun_core::token::Token;
use cryptorun_core::wire::{Candles, Fate, Journal};
use cryptorun_lab::demo::stages::warm;
use cryptorun_platform::clock::{BootTime, Clock, SystemClock};
use cryptorun_platform::random::{OsRandom, Random};
use std::collections::BTreeMap;
use std::time::Duration;

/// A signal is on its way for moments; what ran meanwhile ran before the stop.
const STOP_TAKES_NS: u64 = 5_000_000;
/// Read this often and this long after the wake.
const READ_EVERY: Duration = Duration::from_millis(10);
const READ_FOR: Millis = Millis::secs(4);
const PROMOTE_WITHIN: Millis = Millis::secs(120);

pub async fn run(arguments: &Arguments, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    // Many stops in one lab: what guards against a flapping primary must not end the experiment.
    let wish = Wish {
        limits: &[("regrant_max", "1000"), ("cooldown", "1s"), ("daily_budget", "1000")],
        ..Wish::default()
    };
    let rounds = if arguments.quick { 2 } else { 6 };
    for promoted in [false, true] {
        let word = if promoted { "another-promoted" } else { "regrant" };
        let name = format!("stopped-primary {word}");
        if !arguments.wants(&name) {
            continue;
        }
        verdicts.case(name.clone());
        let world = World::up(arguments, &name, &wish).await?;
        for round in 1..=rounds {
            verdicts.note(format!("round {round}"));
            let done = case(&world, promoted, verdicts).await;
            if verdicts.result("the round comes to its end", done).is_none() {
                break;
            }
        }
        let end = judge::the_end(&world, verdicts).await;
        verdicts.result("the end", end);
        world.down(verdicts).await;
    }
    Ok(())
}

/// A stop, by `CLOCK_BOOTTIME`.
struct Stop {
    holder: String,
    token: Token,
    stopped: BootTime,
    woken: BootTime,
}

async fn case(world: &World, promoted: bool, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    let before = world.before().await?;
    let holder = before.holder(&warm()).ok_or_else(|| Trouble::new("nobody holds warm/global"))?;
    let token = before.token(&warm());
    let worker = format!("worker-{holder}");
    let reader = Reader::new(world, &holder)?;
    // At any moment of a batch's life.
    let sealing = world.options.seal_every().0;
    tokio::time::sleep(Millis(OsRandom.below(sealing)).to_duration()).await;
    world.lab.supervisor.freeze(&worker)?;
    let stopped = now();
    let profile = Timing::of(world.options.profile());
    let ran_out = Millis(profile.ttl.0 * 2);
    let moved = match promoted {
        true => Some(promote(world, &holder).await?),
        false => None,
    };
    until_after(stopped, ran_out).await;
    // Already in its sockets when it wakes.
    let (asked, woken) = tokio::join!(reader.candles(), async {
        tokio::time::sleep(LOOK * 3).await;
        let woken = now();
        world.lab.supervisor.thaw(&worker).map(|_| woken)
    });
    let woken = woken?;
    let stop = Stop { holder, token, stopped, woken };
    let lies = read_on(&reader, &stop, asked.ok()).await;
    let text = format!("{} answers in {READ_FOR} after the wake: {}", lies.answers, lies.told());
    verdicts.check("no answer as primary under the old token", lies.lies.is_empty(), text);
    let again = Before { at: woken, ..world.before().await? };
    let level = world.level_again(&again, LEVEL_WITHIN).await;
    if let Some(level) = verdicts.result("level again within 60 s of the wake", level) {
        verdicts.check("level again within 60 s of the wake", true, level);
    }
    match &moved {
        None => judge::by_regrant(world, &before, &warm(), verdicts).await?,
        Some(to) => {
            let after = world.before().await?;
            let stays = after.holder(&warm()).as_ref() == Some(to);
            let text = format!("{} -> {}", before.token(&warm()), after.token(&warm()));
            verdicts.check("the promoted region keeps it", stays, format!("{to}: {text}"));
        }
    }
    judge_journals(&stop, &world.journals(&warm()).await?, verdicts);
    Ok(())
}

/// The controller's request, approved by two; the region that holds it then.
async fn promote(world: &World, holder: &str) -> Result<String, Trouble> {
    let asked = world
        .until("a request of the controller", PROMOTE_WITHIN, async |world| {
            let all = world.ana().promotions().await?;
            let mut waits = all
                .into_iter()
                .filter(|p| p.promotion.state == State::Waiting && p.promotion.scope == warm());
            Ok(waits.next())
        })
        .await?;
    let id = asked.promotion.id;
    world.approve(&world.people.ben, id).await?;
    world.approve(&world.people.eve, id).await?;
    let ended = world.ended(id, PROMOTE_WITHIN).await?;
    match ended.promotion.state {
        State::Ended(Outcome::Done) if ended.promotion.to.as_str() != holder => {
            Ok(ended.promotion.to.to_string())
        }
        other => Err(Trouble::new(format!("{id} ended as {other:?}"))),
    }
}

fn judge_journals(stop: &Stop, journals: &BTreeMap<String, Journal>, verdicts: &mut Verdicts) {
    let Some(own) = journals.get(&stop.holder) else { return };
    let of = |journal: &Journal, fate: Fate| -> Vec<_> {
        let ranges = journal.ranges.iter().filter(|r| r.token == stop.token && r.fate == fate);
        ranges.cloned().collect()
    };
    let visible = of(own, Fate::Visible);
    let last = visible.iter().map(|range| range.last_boot_ns).max().unwrap_or(0);
    let end = visible.iter().map(|range| range.to_seq).max().unwrap_or(0);
    let before_stop = Millis(stop.stopped.0.saturating_sub(last) / 1_000_000);
    verdicts.check(
        "nothing visible under the old token after the stop",
        last > 0 && last <= stop.stopped.0 + STOP_TAKES_NS,
        format!(
            "{} up to record {end}, last {before_stop} before the stop, stopped for {}",
            stop.token,
            Millis(stop.woken.0.saturating_sub(stop.stopped.0) / 1_000_000),
        ),
    );

    let forked = of(own, Fate::Forked);
    let first_forked = forked.iter().map(|range| range.from_seq).min();
    let mut elsewhere = Vec::new();
    for (region, journal) in journals.iter().filter(|(region, _)| **region != stop.holder) {
        let taken = [of(journal, Fate::Visible), of(journal, Fate::Replicated)].concat();
        for range in taken {
            if range.to_seq > end || first_forked.is_some_and(|from| range.to_seq >= from) {
                elsewhere.push(format!("{region} took {}–{}", range.from_seq, range.to_seq));
            }
        }
    }
    let text = match elsewhere.is_empty() {
        true => format!("no other sink took a record of {} beyond {end}", stop.token),
        false => elsewhere.join("; "),
    };
    verdicts.check("nothing accepted at any other sink", elsewhere.is_empty(), text);

    let fenced: u64 = of(own, Fate::Fenced).iter().map(|range| range.rows).sum();
    let rows: u64 = forked.iter().map(|range| range.rows).sum();
    let kept: Vec<_> = own.forks.iter().filter(|fork| fork.token == stop.token).collect();
    let kept_rows: u64 = kept.iter().map(|fork| fork.rows).sum();
    let names: Vec<String> = kept
        .iter()
        .map(|fork| format!("{} {} rows {} bytes", fork.name, fork.rows, fork.bytes))
        .collect();
    let text = match kept.is_empty() {
        true => format!("it had written none; {fenced} rows fenced"),
        false => format!("{rows} rows forked, {fenced} fenced; {}", names.join(", ")),
    };
    verdicts.check("its own bytes are in a named fork with their count", rows == kept_rows, text);
}

#[derive(Default)]
struct Lies {
    answers: u32,
    lies: Vec<String>,
    authorities: BTreeMap<String, u32>,
}

impl Lies {
    fn told(&self) -> String {
        let seen: Vec<String> =
            self.authorities.iter().map(|(word, count)| format!("{count} {word}")).collect();
        match self.lies.is_empty() {
            true => seen.join(", "),
            false => format!("{}; LIES: {}", seen.join(", "), self.lies.join("; ")),
        }
    }
}

/// Reads for a while after the wake and believes what the worker says of itself.
async fn read_on(reader: &Reader, stop: &Stop, first: Option<Candles>) -> Lies {
    let mut lies = Lies::default();
    let mut next = first;
    loop {
        if let Some(candles) = next.take() {
            lies.answers += 1;
            *lies.authorities.entry(candles.authority.clone()).or_default() += 1;
            if candles.authority == "primary" && candles.token <= stop.token {
                let after = SystemClock.boot() - stop.woken;
                lies.lies.push(format!("{} {after:?} after the wake", candles.token));
            }
        }
        if since(stop.woken) > READ_FOR {
            return lies;
        }
        tokio::time::sleep(READ_EVERY).await;
        next = reader.candles().await.ok();
    }
}
