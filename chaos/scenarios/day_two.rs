//! Day two: what is done to a cluster that lives, each by its runbook and under load.

mod lost_quorum;
mod replace_node;
mod restore_backup;
mod rolling_upgrade;
mod rotate_certificates;

use crate::Arguments;
use crate::judge;
use crate::runbook::Runbook;
use crate::verdict::Verdicts;
use crate::world::{Before, LEVEL_WITHIN, Trouble, Wish, World};
use crate::writes::{Acknowledged, Pace, all_there, write};
use cryptorun_lab::demo::stages::{scope_of, warm};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Between two writes: what a person's remembered requests last for minutes with.
const PACE: Pace = Pace::Every(Duration::from_millis(300));

pub async fn run(arguments: &Arguments, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    replace_node::run(arguments, verdicts).await?;
    rotate_certificates::run(arguments, verdicts).await?;
    restore_backup::run(arguments, verdicts).await?;
    lost_quorum::run(arguments, verdicts).await?;
    rolling_upgrade::run(arguments, verdicts).await
}

/// A section of a runbook that is being followed in a lab.
struct Book<'a> {
    name: &'static str,
    text: &'static str,
    variables: BTreeMap<&'a str, String>,
}

impl<'a> Book<'a> {
    fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, variables: BTreeMap::new() }
    }

    fn with(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.variables.insert(name, value.into());
        self
    }

    fn with_path(self, name: &'a str, path: &Path) -> Self {
        self.with(name, path.display().to_string())
    }

    async fn follow(
        &self,
        heading: &str,
        world: &World,
        verdicts: &mut Verdicts,
    ) -> Result<(), Trouble> {
        let section = Runbook::section(self.name, self.text, heading)?;
        section.follow(world, &self.variables, verdicts).await
    }
}

/// One lab for one case: up, the case, the end's judgement, down.
async fn case(
    name: &str,
    arguments: &Arguments,
    verdicts: &mut Verdicts,
    act: impl AsyncFnOnce(&World, &mut Verdicts) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    if !arguments.wants(name) {
        return Ok(());
    }
    verdicts.case(name);
    let world = World::up(arguments, name, &Wish::default()).await?;
    let done = act(&world, verdicts).await;
    verdicts.result("the case comes to its end", done);
    let end = judge::the_end(&world, verdicts).await;
    verdicts.result("the end", end);
    world.down(verdicts).await;
    Ok(())
}

/// Writes all the while that something is done; what was acknowledged.
async fn under_load(
    world: &World,
    name: &str,
    act: impl Future<Output = Result<(), Trouble>>,
) -> Result<Acknowledged, Trouble> {
    let over = Cell::new(false);
    let act = async {
        let done = act.await;
        over.set(true);
        done
    };
    let (told, done) = tokio::join!(write(world.ana(), name, PACE, &over), act);
    done?;
    told
}

/// Everything is level again, and each acknowledged write is on three nodes.
async fn nothing_is_lost(
    world: &World,
    before: &Before,
    told: &Acknowledged,
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    let level = world.level_again(before, LEVEL_WITHIN).await?;
    verdicts.note(format!("level after {level}"));
    all_there(world, told, verdicts).await
}

/// No lease ended and no promotion was made.
async fn no_lease_moved(
    world: &World,
    before: &Before,
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    let ended = world.audited(before.audit).await?;
    let ended = ended.iter().filter(|entry| entry.action == "vacant").count();
    let status = world.status().await?;
    let token = scope_of(&status, &warm()).map(|scope| scope.token).unwrap_or_default();
    let promotions = world.promotions().await?.len() - before.promotions.len();
    let text =
        format!("warm/global at {token} as before, {ended} leases ended, {promotions} promotions");
    let same = token == before.token(&warm()) && ended == 0 && promotions == 0;
    verdicts.check("no lease moved", same, text);
    Ok(())
}
