//! Real processes under faults for a given time: every injection counted only if it showed, a verdict
//! for every invariant at the end, from journals, the audit, histories and the nodes' own state.
//!
//! Kinds come in a shuffled order, each once before any comes again. After each the links are
//! healed and everything must be level again before the next.
//!
//! Next: `chaos/kind.rs` for what may happen, `act.rs` for how and by what evidence, `clients.rs` and
//! `duty.rs` for who is at work meanwhile, `holders.rs` and `end.rs` for the verdicts.

mod act;
pub mod bend;
mod clients;
mod disks;
mod duty;
mod end;
mod holders;
mod kind;
mod truth;

use crate::Arguments;
use crate::judge;
use crate::verdict::Verdicts;
use crate::world::{Before, Equip, LEVEL_WITHIN, Trouble, Wish, World, now, since};
use act::{Actor, Done};
use bend::Bends;
use clients::Told;
use cryptorun_core::time::Millis;
use cryptorun_lab::demo::layout::{Lab, REGIONS};
use cryptorun_lab::netns::{self, Namespaces};
use cryptorun_platform::random::{Random, SeededRandom};
use disks::Disks;
use duty::Asked;
use futures_util::future::join_all;
use holders::Holders;
use kind::{Kind, Needs};
use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use truth::Truth;

/// Batches often, so that each injection meets some.
const SEAL_EVERY: &str = "2000ms";

/// How often a kind was carried out, and showed.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    tried: u32,
    effective: u32,
}

type Counts = BTreeMap<Kind, Count>;

pub async fn run(arguments: &Arguments, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    let ground = match netns::step_inside() {
        Ok(()) => Some(Namespaces::make(&REGIONS)?),
        Err(why) => {
            println!("SKIPPED: what needs network namespaces: {why}; regions share the loopback");
            None
        }
    };
    let bends = Bends::of_this_run();
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| arguments.wants(kind.name()))
        .filter(|kind| match kind.needs() {
            Needs::Nothing => true,
            Needs::Namespaces => ground.is_some(),
            Needs::Compiler => bends.is_some(),
        })
        .collect();
    if kinds.is_empty() {
        return Err(Trouble::new("no kind of that name"));
    }
    verdicts.case("chaos");
    let random = SeededRandom::new(arguments.seed);
    let disks = Rc::new(OnceCell::new());
    let wish = Wish {
        // Holders are hurt in turn: what guards against a flapping primary must not end that.
        limits: &[("regrant_max", "1000"), ("cooldown", "10s"), ("daily_budget", "1000")],
        namespaces: ground.clone(),
        seal_every: Some(SEAL_EVERY),
        equip: Some(equip(ground.is_some(), bends.clone(), disks.clone(), random.below(3))),
        ..Wish::default()
    };
    let world = World::up(arguments, "chaos", &wish).await?;
    println!(
        "seed {}, {} for {}, {} kinds, regions in {}",
        arguments.seed,
        world.options.profile_word(),
        arguments.span,
        kinds.len(),
        if ground.is_some() { "namespaces" } else { "one namespace" },
    );
    let (truth, told, asked, over) =
        (Truth::default(), Told::default(), Asked::default(), Cell::new(false));
    let holders = Holders::default();
    let actor = Actor {
        world: &world,
        truth: &truth,
        holders: &holders,
        random: &random,
        namespaces: ground.as_ref(),
        bends: bends.as_deref(),
        disks: disks.get(),
    };
    let acting = async {
        let counts = inject(&actor, &kinds, arguments.span, &told, verdicts).await;
        over.set(true);
        counts
    };
    let clients = join_all((0..clients::CLIENTS).map(|n| clients::client(&world, n, &told, &over)));
    let (counts, _, (), ()) = tokio::join!(
        acting,
        clients,
        duty::on_call(&world, &truth, &asked, &over),
        holders.watch(&world, &over)
    );
    tell(&counts);
    let looked_up = clients::look_up(&world, &told).await;
    verdicts.result("the last look-up", looked_up);
    end::effective(&counts, verdicts);
    end::answers(&told, verdicts);
    end::linearizable(&told, verdicts);
    let promotions = end::promotions(&world, &asked, verdicts).await;
    verdicts.result("promotions are judged", promotions);
    if let Some(bends) = &bends {
        holders.right(bends);
    }
    let gaps = holders.judge(&world, verdicts).await;
    verdicts.result("gaps are measured", gaps);
    let one_chain = end::one_chain(&world, verdicts).await;
    verdicts.result("one chain in all regions", one_chain);
    let right = |region: &str, shown: u64| match &bends {
        Some(bends) => bends.true_time(&format!("worker-{region}"), shown),
        None => shown,
    };
    let end = judge::the_end_with(&world, &right, verdicts).await;
    verdicts.result("the end", end);
    if let Some(disks) = disks.get() {
        disks.unmount()?;
    }
    world.down(verdicts).await;
    if let Some(bends) = &bends {
        bends.remove();
    }
    Ok(())
}

/// What is done to the lab before it starts: everything preloads, two processes get small disks.
fn equip(
    small_disks: bool,
    bends: Option<Rc<Bends>>,
    disks: Rc<OnceCell<Disks>>,
    first: u64,
) -> Equip {
    Rc::new(move |lab: &mut Lab| {
        if let Some(bends) = &bends {
            bends.equip(lab)?;
        }
        if small_disks {
            let first = usize::try_from(first).unwrap_or(0);
            let (node, worker) = (lab.sites[first].clone(), lab.sites[(first + 1) % 3].clone());
            let _ = disks.set(Disks::mount(lab, &node, &worker)?);
        }
        Ok(())
    })
}

/// One injection after the other until the time is over.
async fn inject(
    actor: &Actor<'_>,
    kinds: &[Kind],
    span: Millis,
    told: &Told,
    verdicts: &mut Verdicts,
) -> Counts {
    let mut counts = Counts::new();
    let (begun, mut bag) = (now(), Vec::new());
    for number in 1.. {
        if since(begun) >= span {
            break;
        }
        if bag.is_empty() {
            bag = shuffled(kinds, actor.random);
        }
        let Some(kind) = bag.pop() else { break };
        let at = since(begun);
        let done = one(actor, kind, told).await;
        let count = counts.entry(kind).or_default();
        count.tried += 1;
        match done {
            Ok((Done { target, effect }, level)) => {
                count.effective += u32::from(effect.is_ok());
                let (word, evidence) = match &effect {
                    Ok(evidence) => ("effective", evidence),
                    Err(evidence) => ("NOT EFFECTIVE", evidence),
                };
                println!(
                    "{number:>4} {:>7} {:<34} {target:<22} {word}: {evidence}; level {level} after",
                    at.to_string(),
                    kind.name(),
                );
            }
            Err(trouble) => {
                let name = format!("injection {number}, {}, ends level", kind.name());
                verdicts.check(&name, false, trouble);
            }
        }
    }
    counts
}

/// One injection, with everything level before and after.
async fn one(actor: &Actor<'_>, kind: Kind, told: &Told) -> Result<(Done, Millis), Trouble> {
    let world = actor.world;
    let status = world.status().await?;
    let done = actor.carry_out(kind).await;
    let before = Before { at: now(), status, promotions: Vec::new(), audit: 0 };
    let level = world.level_again(&before, LEVEL_WITHIN).await;
    actor.truth.all_back();
    let (done, level) = (done?, level?);
    clients::look_up(world, told).await?;
    Ok((done, level))
}

fn shuffled(kinds: &[Kind], random: &SeededRandom) -> Vec<Kind> {
    let mut bag = kinds.to_vec();
    for at in (1..bag.len()).rev() {
        let other = usize::try_from(random.below(at as u64 + 1)).unwrap_or(0);
        bag.swap(at, other);
    }
    bag
}

fn tell(counts: &Counts) {
    println!("\n{:<34} {:>9} {:>9}", "kind", "injected", "effective");
    for (kind, count) in counts {
        println!("{:<34} {:>9} {:>9}", kind.name(), count.tried, count.effective);
    }
    let sum = |of: fn(&Count) -> u32| counts.values().map(of).sum::<u32>();
    println!("{:<34} {:>9} {:>9}\n", "all", sum(|c| c.tried), sum(|c| c.effective));
}
