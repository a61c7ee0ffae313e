//! Each process killed with SIGKILL before, during and after a switchover; the supervisor starts it
//! again and nobody helps.

use crate::Arguments;
use crate::judge;
use crate::verdict::Verdicts;
use crate::world::{Before, LEVEL_WITHIN, Trouble, Wish, World, since, warm_eu};
use cryptorun_core::plan::Step;
use cryptorun_core::promotion::{Outcome, PromotionId, State};
use cryptorun_core::time::Millis;
use cryptorun_core::wire::PromotionStatus;
use cryptorun_lab::demo::layout::REGIONS;
use cryptorun_lab::demo::stages::warm;
use cryptorun_lab::protocol::{KillSignal, ProcessState};
use std::time::Duration;

const FROM: &str = REGIONS[0];
const TO: &str = REGIONS[1];
/// A switchover takes tenths of a second: looked at this often, its steps are seen.
const GLANCE: Duration = Duration::from_millis(5);
const END_WITHIN: Millis = Millis::secs(90);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Before,
    /// As soon as this step, or a later one, is seen.
    During(Step),
    After,
}

impl When {
    /// A switchover drains, reserves and seals, and is past its point of no return after that.
    const EACH: [Self; 5] = [
        Self::Before,
        Self::During(Step::Preflight),
        Self::During(Step::Drain),
        Self::During(Step::Seal),
        Self::After,
    ];

    fn word(self) -> String {
        match self {
            Self::Before => "before".to_owned(),
            Self::During(step) => format!("during {step}"),
            Self::After => "after".to_owned(),
        }
    }
}

pub async fn run(arguments: &Arguments, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    let nodes = REGIONS.map(|region| format!("node-{region}"));
    let workers = REGIONS.map(|region| format!("worker-{region}"));
    let venue = ["venue-kraken".to_owned()];
    for victim in nodes.iter().chain(&workers).chain(&venue) {
        for when in When::EACH {
            let name = format!("kill-matrix {victim} {}", when.word());
            if !arguments.wants(&name) {
                continue;
            }
            verdicts.case(name.clone());
            let world = World::up(arguments, &name, &Wish::default()).await?;
            let done = case(&world, victim, when, verdicts).await;
            verdicts.result("the case comes to its end", done);
            let end = judge::the_end(&world, verdicts).await;
            verdicts.result("the end", end);
            world.down(verdicts).await;
        }
    }
    Ok(())
}

async fn case(
    world: &World,
    victim: &str,
    when: When,
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    match when {
        When::Before => {
            let before = world.before().await?;
            kill(world, victim)?;
            comes_back(world, victim, &before, verdicts).await?;
            regranted(world, victim, FROM, &before, verdicts).await?;
            let id = world.ask_switchover(TO).await?;
            world.approve(&world.people.ben, id).await?;
            let ended = world.ended(id, END_WITHIN).await?;
            let done = ended.promotion.state == State::Ended(Outcome::Done);
            verdicts.check("a switchover goes afterwards", done, told(&ended));
        }
        When::During(step) => {
            let id = world.ask_switchover(TO).await?;
            let before = world.before().await?;
            let strike = async {
                let at = running(world, id, step).await?;
                kill(world, victim)?;
                Ok::<_, Trouble>(at)
            };
            let (struck, agreed) = tokio::join!(strike, agree(world, id));
            verdicts.note(format!("killed at {}", struck?));
            agreed?;
            comes_back(world, victim, &before, verdicts).await?;
            let ended = world.ended(id, END_WITHIN).await?;
            let fine = matches!(
                ended.promotion.state,
                State::Ended(Outcome::Done | Outcome::RolledBack { .. })
            );
            verdicts.check("the switchover ends done or rolled back", fine, told(&ended));
        }
        When::After => {
            let id = world.ask_switchover(TO).await?;
            agree(world, id).await?;
            let ended = world.ended(id, END_WITHIN).await?;
            let done = ended.promotion.state == State::Ended(Outcome::Done);
            verdicts.check("the switchover ends done", done, told(&ended));
            let before = world.before().await?;
            kill(world, victim)?;
            comes_back(world, victim, &before, verdicts).await?;
            regranted(world, victim, TO, &before, verdicts).await?;
        }
    }
    Ok(())
}

fn kill(world: &World, victim: &str) -> Result<(), Trouble> {
    world.lab.supervisor.kill(victim, KillSignal::Kill, false)?;
    Ok(())
}

/// The second person's word. One that did not arrive is given again, as a person would.
async fn agree(world: &World, id: PromotionId) -> Result<(), Trouble> {
    for _ in 0..5 {
        world.approve(&world.people.ben, id).await?;
        if world.promotion(id).await?.promotion.state != State::Waiting {
            return Ok(());
        }
    }
    Err(Trouble::new(format!("{id} still waits after five approvals")))
}

/// Waits until this step runs, or a later one; the step seen.
async fn running(world: &World, id: PromotionId, from: Step) -> Result<String, Trouble> {
    let begun = crate::world::now();
    loop {
        let seen = world.ana().promotions().await.unwrap_or_default();
        let found = seen.into_iter().find(|p| p.promotion.id == id);
        match found.map(|p| p.promotion) {
            Some(promotion) if promotion.state == State::Running => match promotion.current() {
                Some(record) if record.step < from => {}
                Some(record) => return Ok(record.step.to_string()),
                None => return Ok("its end".to_owned()),
            },
            Some(promotion) if !promotion.is_open() => return Ok("its end".to_owned()),
            _ => {}
        }
        if since(begun) > Millis::secs(30) {
            return Err(Trouble::new(format!("{id} was never seen running")));
        }
        tokio::time::sleep(GLANCE).await;
    }
}

async fn comes_back(
    world: &World,
    victim: &str,
    before: &Before,
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    let again = world
        .lab
        .supervisor
        .until(victim, |status| status.starts > 1 && status.state == ProcessState::Running);
    let again = tokio::time::timeout(LEVEL_WITHIN.to_duration(), again).await;
    if again.is_err() {
        return Err(Trouble::new(format!("{victim} was not started again")));
    }
    let level = world.level_again(before, LEVEL_WITHIN).await;
    if let Some(level) = verdicts.result("all within target again within 60 s", level) {
        verdicts.check("all within target again within 60 s", true, format!("after {level}"));
    }
    Ok(())
}

/// If the victim held a lease, it holds it again by regrant; else no lease moved.
async fn regranted(
    world: &World,
    victim: &str,
    primary: &str,
    before: &Before,
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    for (scope, holder) in [(warm(), primary), (warm_eu(), REGIONS[2])] {
        if victim == format!("worker-{holder}") {
            judge::by_regrant(world, before, &scope, verdicts).await?;
            continue;
        }
        let grants = judge::grants(world, before, &scope).await?;
        let text = match grants.is_empty() {
            true => format!("{} all the while", before.token(&scope)),
            false => format!("{grants:?}"),
        };
        verdicts.check(&format!("{scope} keeps its lease"), grants.is_empty(), text);
    }
    Ok(())
}

/// How a promotion went, for the verdict's line.
fn told(status: &PromotionStatus) -> String {
    let p = &status.promotion;
    let pause = p.measured.write_pause_ms.map_or("?".to_owned(), |ms| Millis(ms).to_string());
    match &p.state {
        State::Ended(Outcome::RolledBack { why }) => format!("{} rolled_back: {why}", p.id),
        State::Ended(outcome) => format!(
            "{} {} {} -> {}, write pause {pause}, lost {}",
            p.id,
            outcome.as_str(),
            p.from,
            p.to,
            p.loss.rows
        ),
        other => format!("{} {other:?}", p.id),
    }
}
