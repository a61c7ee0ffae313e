//! Each link between two regions cut, in both directions and in one: no lease moves. Each region cut
//! off from both others: it says so, serves degraded and read-only from its deadline on, and is
//! level again after the heal.

use crate::Arguments;
use crate::judge;
use crate::reader::Reader;
use crate::verdict::Verdicts;
use crate::world::{Before, LEVEL_WITHIN, LOOK, Trouble, Wish, World, now, since, warm_eu};
use cryptorun_core::scope::{Phase, ScopeId};
use cryptorun_core::time::{Millis, Timing};
use cryptorun_core::token::Token;
use cryptorun_core::wire::Fate;
use cryptorun_lab::demo::layout::REGIONS;
use cryptorun_lab::demo::stages::warm;
use cryptorun_lab::protocol::{Direction, LinkAct};
use cryptorun_platform::clock::BootTime;
use std::collections::BTreeSet;

const LINKS: [(&str, &str); 3] =
    [(REGIONS[0], REGIONS[1]), (REGIONS[0], REGIONS[2]), (REGIONS[1], REGIONS[2])];
const SAY_WITHIN: Millis = Millis::secs(10);
/// A clock is read, a socket answers.
const MARGIN: Millis = Millis(300);

pub async fn run(arguments: &Arguments, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    let span = if arguments.quick { Millis::secs(10) } else { Millis::secs(60) };
    // Each region is cut off in turn: what guards against a flapping primary must not end that.
    let wish = Wish { limits: &[("regrant_max", "1000")], ..Wish::default() };
    let mut world = None;
    for (a, b) in LINKS {
        for direction in [Direction::Both, Direction::AToB, Direction::BToA] {
            let arrow = match direction {
                Direction::Both => "both",
                Direction::AToB => "there",
                Direction::BToA => "back",
            };
            let name = format!("cut-links {a} {b} {arrow}");
            if !arguments.wants(&name) {
                continue;
            }
            verdicts.case(name);
            let world = match &mut world {
                Some(world) => world,
                none => none.insert(World::up(arguments, "cut-links", &wish).await?),
            };
            let done = cut_one(world, a, b, direction, span, verdicts).await;
            verdicts.result("the case comes to its end", done);
        }
    }
    for region in REGIONS {
        let name = format!("cut-links isolated {region}");
        if !arguments.wants(&name) {
            continue;
        }
        verdicts.case(name);
        let world = match &mut world {
            Some(world) => world,
            none => none.insert(World::up(arguments, "cut-links", &wish).await?),
        };
        let done = isolate(world, region, span, verdicts).await;
        verdicts.result("the case comes to its end", done);
    }
    if let Some(world) = world {
        verdicts.case("cut-links the end");
        let end = judge::the_end(&world, verdicts).await;
        verdicts.result("the end", end);
        world.down(verdicts).await;
    }
    Ok(())
}

async fn cut_one(
    world: &World,
    a: &str,
    b: &str,
    direction: Direction,
    span: Millis,
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    let before = world.before().await?;
    world.lab.links.act(&LinkAct::Cut { a: a.into(), b: Some(b.into()), direction })?;
    let begun = now();
    let mut seen = Seen::default();
    while since(begun) < span {
        seen.look(world).await;
        tokio::time::sleep(LOOK * 2).await;
    }
    heal(world)?;
    let healed = now();
    let audited = world.audited(before.audit).await?;
    let moved: Vec<String> = audited
        .iter()
        .filter(|entry| matches!(entry.action.as_str(), "grant" | "vacant" | "reserve"))
        .map(|entry| format!("{} {} {}", entry.action, entry.subject, entry.detail))
        .collect();
    let held = seen.reigns.iter().all(|(_, _, phase)| *phase == Phase::Active);
    let holds = moved.is_empty() && held && seen.reigns.len() == 2;
    let text = format!(
        "{span}, {} looks: {}{}; diagnosed: {}",
        seen.looks,
        seen.told(),
        if moved.is_empty() { String::new() } else { format!("; AUDIT: {}", moved.join("; ")) },
        seen.diagnosed(),
    );
    verdicts.check("no lease moves", holds, text);
    let level = world.level_again(&Before { at: healed, ..before }, LEVEL_WITHIN).await;
    if let Some(level) = verdicts.result("level within 60 s of healing", level) {
        verdicts.check("level within 60 s of healing", true, level);
    }
    Ok(())
}

fn heal(world: &World) -> Result<(), Trouble> {
    world.lab.links.act(&LinkAct::Heal { a: None, b: None, direction: Direction::Both })?;
    Ok(())
}

/// What the cluster said while a link was cut.
#[derive(Default)]
struct Seen {
    looks: u32,
    reigns: Vec<(ScopeId, Token, Phase)>,
    classes: BTreeSet<String>,
    failed: u32,
}

impl Seen {
    async fn look(&mut self, world: &World) {
        match world.ana().status().await {
            Ok(status) => {
                self.looks += 1;
                for scope in &status.scopes {
                    let reign = (scope.scope.clone(), scope.token, scope.phase.clone());
                    if !self.reigns.contains(&reign) {
                        self.reigns.push(reign);
                    }
                }
                self.classes.extend(status.diagnoses.iter().map(|d| d.class.to_string()));
            }
            Err(_) => self.failed += 1,
        }
    }

    fn told(&self) -> String {
        let reigns: Vec<String> = self
            .reigns
            .iter()
            .map(|(scope, token, phase)| format!("{scope} {phase} {token}"))
            .collect();
        match self.failed {
            0 => reigns.join(", "),
            failed => format!("{} ({failed} looks unanswered)", reigns.join(", ")),
        }
    }

    fn diagnosed(&self) -> String {
        match self.classes.is_empty() {
            true => "nothing".to_owned(),
            false => self.classes.iter().cloned().collect::<Vec<_>>().join(", "),
        }
    }
}

async fn isolate(
    world: &World,
    region: &str,
    span: Millis,
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    let before = world.before().await?;
    let site = world.site(region)?;
    let mine: Vec<ScopeId> = [warm(), warm_eu()]
        .into_iter()
        .filter(|scope| before.holder(scope).as_deref() == Some(region))
        .collect();
    let reader = Reader::new(world, region)?;
    let was = reader.authority().await;
    world.lab.links.act(&LinkAct::Cut { a: region.into(), b: None, direction: Direction::Both })?;
    let cut = now();
    let deadline = Timing::of(world.options.profile()).ttl;

    let (mut said, mut seen) = (None, Vec::<(Millis, String)>::new());
    while since(cut) < span.max(SAY_WITHIN) {
        if said.is_none() && world.partition(site.node_health).await.is_ok_and(|p| p.partition_mode)
        {
            said = Some(since(cut));
        }
        let authority = reader.authority().await;
        let at = since(cut);
        if seen.last().is_none_or(|(_, last)| *last != authority) {
            seen.push((at, authority));
        }
        tokio::time::sleep(LOOK / 2).await;
    }
    let text = said.map_or("never".to_owned(), |after| format!("after {after}"));
    let timely = said.is_some_and(|after| after <= SAY_WITHIN);
    verdicts.check("its node says partition_mode within 10 s", timely, text);
    let worker = world.partition(site.worker_health).await;
    let holds = worker.as_ref().is_ok_and(|state| state.partition_mode);
    verdicts.check("its worker says so too", holds, format!("{worker:?}"));

    let told: Vec<String> = seen.iter().map(|(at, word)| format!("{word} from {at}")).collect();
    let degraded = seen.iter().position(|(_, word)| word == "degraded");
    let in_time = degraded.is_some_and(|i| seen[i].0.0 <= deadline.0 + MARGIN.0);
    let stays = degraded.is_some_and(|i| i + 1 == seen.len());
    let text = format!("was {was}, deadline {deadline}: {}", told.join(", "));
    verdicts.check("its warm tier is degraded at the deadline", in_time && stays, text);
    let others: Vec<String> = world
        .status()
        .await?
        .scopes
        .iter()
        .map(|scope| format!("{} {}", scope.scope, scope.phase))
        .collect();
    verdicts.note(format!("the others see: {}", others.join(", ")));

    heal(world)?;
    let healed = now();
    let level = world.level_again(&Before { at: healed, ..before.clone() }, LEVEL_WITHIN).await;
    if let Some(level) = verdicts.result("level within 60 s of healing", level) {
        verdicts.check("level within 60 s of healing", true, level);
    }
    wrote_nothing(world, region, &before, &mine, (cut, healed), verdicts).await?;
    for scope in mine {
        judge_regrant(world, &before, &scope, verdicts).await?;
    }
    Ok(())
}

/// Read-only from the deadline to the heal, by its journal.
async fn wrote_nothing(
    world: &World,
    region: &str,
    before: &Before,
    mine: &[ScopeId],
    (cut, healed): (BootTime, BootTime),
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    let deadline = cut.0 + Timing::of(world.options.profile()).ttl.0 * 1_000_000;
    for scope in mine {
        let journals = world.journals(scope).await?;
        let Some(own) = journals.get(region) else { continue };
        let old = before.token(scope);
        let ranges = own.ranges.iter().filter(|range| range.fate == Fate::Visible);
        let late = ranges
            .clone()
            .filter(|r| r.token == old && r.last_boot_ns > deadline && r.last_boot_ns < healed.0)
            .count();
        let last = ranges.filter(|r| r.token == old).map(|r| r.last_boot_ns).max().unwrap_or(0);
        let after = Millis(last.saturating_sub(cut.0) / 1_000_000);
        let text =
            format!("{old}: last visible write {after} after the cut, none after its deadline");
        verdicts.check(&format!("{scope} is read-only"), late == 0, text);
    }
    Ok(())
}

/// Nobody approved anything: back home it goes on by regrant. A request may have been opened.
async fn judge_regrant(
    world: &World,
    before: &Before,
    scope: &ScopeId,
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    let grants = judge::grants(world, before, scope).await?;
    let name = scope.to_string();
    let plain = grants.iter().all(|(subject, _)| *subject == name);
    let after = world.before().await?;
    let same = after.holder(scope) == before.holder(scope);
    let text = format!(
        "{} -> {} at {}, {} grants",
        before.token(scope),
        after.token(scope),
        after.holder(scope).unwrap_or_else(|| "nobody".to_owned()),
        grants.len()
    );
    verdicts.check(
        &format!("{scope} goes on by regrant"),
        plain && same && !grants.is_empty(),
        text,
    );
    Ok(())
}
