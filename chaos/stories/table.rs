//! What many runs came to: how often each story came about, and what was counted in all of them.

use super::{Story, Told};
use std::collections::BTreeMap;
use std::fmt;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Table(BTreeMap<Story, Row>);

#[derive(Clone, Debug, Default)]
struct Row {
    runs: u64,
    came_about: u64,
    figures: BTreeMap<&'static str, u64>,
}

impl Table {
    /// Counts one.
    pub fn add(&mut self, told: &Told) {
        let row = self.0.entry(told.story).or_default();
        row.runs += 1;
        row.came_about += u64::from(told.came_about);
        for (what, n) in &told.figures {
            *row.figures.entry(what).or_default() += n;
        }
    }

    /// Stories that came about in no run.
    pub fn missing<'a>(&'a self, wanted: &'a [Story]) -> impl Iterator<Item = Story> + 'a {
        let came_about = |story: &Story| self.0.get(story).is_some_and(|row| row.came_about > 0);
        wanted.iter().copied().filter(move |story| !came_about(story))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| story | runs | came about | counted |\n| --- | --- | --- | --- |")?;
        for (story, row) in &self.0 {
            let figures = row.figures.iter().map(|(what, n)| format!("{what} {n}"));
            let figures = figures.collect::<Vec<_>>().join("; ");
            writeln!(f, "| `{story}` | {} | {} | {figures} |", row.runs, row.came_about)?;
        }
        Ok(())
    }
}
