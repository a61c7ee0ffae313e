//! From the program of one cluster version to that of the next, host after host, under load.

use super::{Book, case, nothing_is_lost, under_load};
use crate::Arguments;
use crate::verdict::Verdicts;
use crate::world::{Trouble, World};
use cryptorun_core::time::Millis;
use cryptorun_core::wire::ClusterStatus;
use cryptorun_lab::demo::layout::REGIONS;
use cryptorun_lab::protocol::KillSignal;
use std::path::Path;

const NAME: &str = "rolling-upgrade";
const TEXT: &str = include_str!("../../../docs/runbooks/rolling-upgrade.md");
const REFUSED_WITHIN: Millis = Millis::secs(15);

pub async fn run(arguments: &Arguments, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    let name = format!("day-two {NAME}");
    if !arguments.wants(&name) {
        return Ok(());
    }
    let Some(older) = &arguments.older else {
        verdicts.note(format!("SKIPPED {name}: --older FILE names the program to begin with"));
        return Ok(());
    };
    let new = arguments.program.canonicalize()?;
    let bin = tempdir(&name)?;
    let program = bin.join("cryptorun");
    install(older, &program)?;
    let with_older = Arguments { program: program.clone(), ..arguments.clone() };
    let ran = case(&name, &with_older, verdicts, async |world, verdicts| {
        let before = world.before().await?;
        let told = under_load(world, NAME, upgrade(world, &new, verdicts)).await?;
        nothing_is_lost(world, &before, &told, verdicts).await?;
        older_is_refused(world, older, &new, verdicts).await
    })
    .await;
    std::fs::remove_dir_all(&bin)?;
    ran
}

async fn upgrade(world: &World, new: &Path, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    let book = Book::new(NAME, TEXT)
        .with_path("NEW", new)
        .with_path("BACKUP", &world.lab.folder.join("before-upgrade"));
    book.follow("Before", world, verdicts).await?;
    book.follow("Host after host", world, verdicts).await?;
    let status: ClusterStatus = world.ana().get_at(0, "/v1/cluster").await.map_err(Trouble::new)?;
    let text = format!("cluster version {} before it is finished", status.version);
    verdicts.check("new programs speak the old version", status.version == 1, text);
    book.follow("Finish", world, verdicts).await
}

/// From then on a node with the older program does not start.
async fn older_is_refused(
    world: &World,
    older: &Path,
    new: &Path,
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    let node = world.site(REGIONS[1])?.node_process();
    install(older, &world.lab.program)?;
    let before = world.log_of(&node).len();
    world.lab.supervisor.kill(&node, KillSignal::Term, false)?;
    let seen = world
        .until("the older program's refusal", REFUSED_WITHIN, async |world| {
            let log = world.log_of(&node);
            let new = log.get(before..).unwrap_or(&log);
            Ok(new.lines().find(|line| line.contains("cluster version")).map(str::to_owned))
        })
        .await;
    install(new, &world.lab.program)?;
    if let Some(line) = verdicts.result("the older program does not take part", seen) {
        verdicts.check("the older program does not take part", true, line.trim());
    }
    let before = world.before().await?;
    world.level_again(&before, crate::world::LEVEL_WITHIN).await.map(drop)
}

/// As `install` does it: whoever runs the old file goes on with it.
fn install(from: &Path, to: &Path) -> Result<(), Trouble> {
    let next = to.with_extension("next");
    std::fs::copy(from, &next)?;
    Ok(std::fs::rename(&next, to)?)
}

fn tempdir(name: &str) -> Result<std::path::PathBuf, Trouble> {
    let name = name.replace(' ', "-");
    let folder = std::env::temp_dir().join(format!("cryptorun-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
