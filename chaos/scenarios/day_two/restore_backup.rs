//! The whole cluster gone, and another made from its last backup.

use super::{Book, case};
use crate::Arguments;
use crate::verdict::Verdicts;
use crate::world::{Before, LEVEL_WITHIN, Trouble, World};
use cryptorun_lab::demo::stages::warm;

const NAME: &str = "restore-backup";
const TEXT: &str = include_str!("../../../docs/runbooks/restore-backup.md");

pub async fn run(arguments: &Arguments, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    case(&format!("day-two {NAME}"), arguments, verdicts, async |world, verdicts| {
        let book = Book::new(NAME, TEXT).with_path("BACKUP", &world.lab.folder.join("backup"));
        book.follow("Take a backup", world, verdicts).await?;
        // What comes after it is lost with the cluster; it must not be able to contradict.
        let id = world.ask_switchover("us-west-2").await?;
        world.approve(&world.people.ben, id).await?;
        world.ended(id, LEVEL_WITHIN).await?;
        let before = world.before().await?;
        book.follow("Do it", world, verdicts).await?;
        book.follow("How to know it worked", world, verdicts).await?;
        tokens_are_higher(world, &before, verdicts).await
    })
    .await
}

/// Everything is level, under tokens above all of the cluster that is gone, those included that the
/// backup does not know of.
pub async fn tokens_are_higher(
    world: &World,
    before: &Before,
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    world.level_again(before, LEVEL_WITHIN).await?;
    let after = world.before().await?;
    let (was, is) = (before.token(&warm()), after.token(&warm()));
    verdicts.check("every token is above those of before", is > was, format!("{was} -> {is}"));
    Ok(())
}
