//! A whole region killed and kept down: the controller asks, two people move the scope, early or
//! late; `explain` names an allowed verb at every second from the detection on, and in the moments
//! that it takes for a report of the loss to be applied says when one opens.
//!
//! With short times the bounds shrink with the detection, so that an approval given late passes the
//! emergency line here as one after six minutes does with real ones.

use crate::Arguments;
use crate::judge;
use crate::verdict::Verdicts;
use crate::world::{LEVEL_WITHIN, Trouble, Wish, World, now, since, until_after};
use cryptorun_core::promotion::{Outcome, State};
use cryptorun_core::time::Millis;
use cryptorun_core::wire::PromotionStatus;
use cryptorun_lab::demo::layout::REGIONS;
use cryptorun_lab::demo::stages::{scope_of, warm};
use cryptorun_lab::protocol::KillSignal;
use cryptorun_platform::clock::BootTime;
use std::cell::Cell;
use std::time::Duration;

const LOST: &str = REGIONS[0];
const MOVE_WITHIN: Millis = Millis::secs(10);
const EVERY: Duration = Duration::from_secs(1);
/// From the moment a loss may be acted on to the moment `explain` must say so: one report and one
/// second's look.
const SAY_WITHIN: Millis = Millis::secs(3);

pub async fn run(arguments: &Arguments, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    let seconds: &[u64] = match (arguments.real_times, arguments.quick) {
        (true, _) => &[0, 120, 180, 360],
        (false, true) => &[0, 10, 40],
        (false, false) => &[0, 20, 40, 90],
    };
    let wish = match arguments.real_times {
        true => Wish::default(),
        false => {
            Wish { limits: &[("emergency_age", "30s"), ("behind_max", "10s")], ..Wish::default() }
        }
    };
    for seconds in seconds {
        let name = match seconds {
            0 => "region-lost approved-at-once".to_owned(),
            late => format!("region-lost approved-after-{late}s"),
        };
        if !arguments.wants(&name) {
            continue;
        }
        verdicts.case(name.clone());
        let world = World::up(arguments, &name, &wish).await?;
        let done = case(&world, Millis::secs(*seconds), verdicts).await;
        verdicts.result("the case comes to its end", done);
        let end = judge::the_end(&world, verdicts).await;
        verdicts.result("the end", end);
        world.down(verdicts).await;
    }
    Ok(())
}

async fn case(world: &World, delay: Millis, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    let before = world.before().await?;
    let lost = now();
    world.lab.supervisor.kill(LOST, KillSignal::Kill, true)?;
    let over = Cell::new(false);
    let (explained, moved) = tokio::join!(explain_all_the_while(world, lost, &over), async {
        let moved = move_it(world, lost, delay, verdicts).await;
        over.set(true);
        moved
    });
    let detection = world.options.detection();
    let text = match explained.first {
        Some(first) => format!(
            "first after {first}, then {} of {} looks; without: {}",
            explained.named,
            explained.looks,
            if explained.gaps.is_empty() { "none".into() } else { explained.gaps.join("; ") },
        ),
        None => format!("moved before it was asked for, after {} looks", explained.looks),
    };
    // Two people may use the verb before the first look after it opened.
    let first = explained.first.or(explained.moving);
    let timely = first.is_some_and(|first| first.0 <= detection.0 + SAY_WITHIN.0);
    let holds = timely && explained.gaps.is_empty();
    verdicts.check("explain names an allowed verb from the detection on", holds, text);
    moved?;

    world.lab.supervisor.start_again(LOST)?;
    let back = crate::world::Before { at: now(), ..before };
    let level = world.level_again(&back, LEVEL_WITHIN).await;
    if let Some(level) = verdicts.result("the lost region is level again within 60 s", level) {
        verdicts.check("the lost region is level again within 60 s", true, level);
    }
    Ok(())
}

async fn move_it(
    world: &World,
    lost: BootTime,
    delay: Millis,
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    let patience = Millis(world.options.detection().0 + 60_000);
    let asked = world
        .until("a request of the controller", patience, async |world| {
            Ok(waiting(world).await?.into_iter().next())
        })
        .await;
    let Some(asked) = verdicts.result("the controller asks", asked) else {
        return Err(Trouble::new("nothing to approve"));
    };
    let (mut id, mut to) = (asked.promotion.id, asked.promotion.to.to_string());
    let text = format!("{id} {} to {to} after {}", asked.promotion.kind, since(lost));
    verdicts.check("the controller asks", true, text);
    world.approve(&world.people.ben, id).await?;
    until_after(lost, delay).await;
    // If the world changed, another request takes its place, approvals not carried over.
    if let Some(other) = waiting_now(world).await?
        && other.promotion.id != id
    {
        (id, to) = (other.promotion.id, other.promotion.to.to_string());
        verdicts.note(format!("now {id} {} to {to}", other.promotion.kind));
    }
    if !world.promotion(id).await?.promotion.approvals.contains_key(&"ben".into()) {
        verdicts.note("the first approval has to be given again");
        world.approve(&world.people.ben, id).await?;
    }
    let second = now();
    let said = world.approve(&world.people.eve, id).await?;
    verdicts.note(format!("second approval {} after the loss: exit {}", since(lost), said.code));
    let holder = world
        .until("a new holder", Millis::secs(60), async |world| {
            let status = world.ana().status().await?;
            let scope = scope_of(&status, &warm()).ok_or("no scope")?;
            match &scope.holder {
                Some(holder) if holder.as_str() != LOST => Ok(Some(holder.to_string())),
                _ => Err(format!("{} {}: {}{}", scope.scope, scope.phase, said.out, said.err)),
            }
        })
        .await;
    if let Some(holder) = verdicts.result("two people move it within 10 s", holder) {
        let took = since(second);
        let holds = took <= MOVE_WITHIN && holder == to;
        let text = format!("{holder} holds it {took} after the second approval was typed");
        verdicts.check("two people move it within 10 s", holds, text);
    }
    let ended = world.ended(id, Millis::secs(120)).await?;
    let p = &ended.promotion;
    let done = p.state == State::Ended(Outcome::Done);
    let text = format!("{id} {} {:?}, loss {}", p.kind, p.state, p.loss);
    verdicts.check("the promotion ends done", done, text);
    Ok(())
}

async fn waiting(world: &World) -> Result<Vec<PromotionStatus>, String> {
    let all = world.ana().promotions().await?;
    let is =
        |p: &PromotionStatus| p.promotion.state == State::Waiting && p.promotion.scope == warm();
    Ok(all.into_iter().filter(is).collect())
}

async fn waiting_now(world: &World) -> Result<Option<PromotionStatus>, Trouble> {
    let all = world
        .until("the requests", Millis::secs(20), async |world| waiting(world).await.map(Some))
        .await?;
    Ok(all.into_iter().max_by_key(|p| p.promotion.id))
}

#[derive(Default)]
struct Explained {
    /// When a verb was named first, after the loss.
    first: Option<Millis>,
    /// When the scope was first seen on its way.
    moving: Option<Millis>,
    looks: u32,
    named: u32,
    gaps: Vec<String>,
}

/// Each second, for both regions that are left, until it is over.
async fn explain_all_the_while(world: &World, lost: BootTime, over: &Cell<bool>) -> Explained {
    let mut found = Explained::default();
    let mut look = 0;
    loop {
        look += 1;
        until_after(lost, Millis(look * u64::try_from(EVERY.as_millis()).unwrap_or(1000))).await;
        // Asked before looking: what was running when the look began may end during it.
        if over.get() || moving(world).await {
            if over.get() {
                return found;
            }
            found.moving = found.moving.or(Some(since(lost)));
            continue; // Two people agreed: the verb has been used.
        }
        let at = since(lost);
        if at < world.options.detection() {
            continue; // Until its lease runs out the lost holder may still be switched over from.
        }
        let mut why = Vec::new();
        let (mut named, mut opens) = (false, false);
        for to in &REGIONS[1..] {
            match world.ana().explain("warm", to).await {
                Ok(explained) => match (explained.command, explained.opens_in) {
                    (Some(_), _) => named = true,
                    (None, Some(_)) => opens = true,
                    (None, None) => why.push(format!("{to}: {:?}", explained.decision.choice)),
                },
                Err(error) => why.push(format!("{to}: {error}")),
            }
        }
        if !named && (moving(world).await || over.get()) {
            continue;
        }
        found.looks += 1;
        if named {
            found.first = found.first.or(Some(at));
            found.named += 1;
        } else if found.first.is_some() || !opens {
            found.gaps.push(format!("at {at} {}", why.join(", ")));
        }
    }
}

async fn moving(world: &World) -> bool {
    let all = world.ana().promotions().await.unwrap_or_default();
    all.iter().any(|p| p.promotion.scope == warm() && p.promotion.state == State::Running)
}
