//! `audit who`: everything an identity did or was refused.

use super::source::{Found, Gap, find, find_in};
use super::tell_gaps;
use crate::Ended;
use crate::args::Format;
use crate::context::{Context, show};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::audit as render;
use crate::screen::Screen;
use clap::Args;
use cryptorun_core::audit::{AuditEntry, Filter};
use cryptorun_core::people::Actor;
use cryptorun_core::position::Position;
use cryptorun_core::time::WallTime;
use serde::Serialize;
use std::path::PathBuf;
use std::str::FromStr;

#[derive(Clone, Debug, Args)]
pub struct Who {
    /// Whose acts, as ana; also 'service NAME', 'worker NAME', 'node 1', controller, time
    #[arg(value_name = "OPERATOR", value_parser = Actor::from_str)]
    who: Actor,
    /// From this moment on
    #[arg(long, value_name = "TIME", value_parser = WallTime::parse)]
    since: Option<WallTime>,
    /// Up to this moment
    #[arg(long, value_name = "TIME", value_parser = WallTime::parse)]
    until: Option<WallTime>,
    /// Read an export instead of asking the cluster; it is verified first
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// What somebody did. Plain data.
#[derive(Clone, Debug, Serialize)]
pub struct Acts {
    pub who: Actor,
    pub since: Option<WallTime>,
    pub until: Option<WallTime>,
    /// So many of them were refused.
    pub refused: usize,
    /// Oldest first.
    pub entries: Vec<AuditEntry>,
    /// Number of the first entry that was looked at.
    pub first: u64,
    /// The last one.
    pub end: Position,
    /// What was not to be had.
    pub gaps: Vec<Gap>,
}

impl Who {
    fn filter(&self) -> Result<Filter, Failure> {
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since > until
        {
            return Err(Failure::usage(format!("--until {until} is before --since {since}")));
        }
        let by = Some(self.who.clone());
        Ok(Filter { by, about: None, since: self.since, until: self.until })
    }

    fn acts(self, found: Found) -> Acts {
        let Found { entries, first, end, gaps } = found;
        let refused = entries.iter().filter(|entry| entry.action == "refused").count();
        let Self { who, since, until, .. } = self;
        Acts { who, since, until, refused, entries, first, end, gaps }
    }
}

pub async fn run(args: Who, context: &mut Context) -> Ended {
    let found = find(&args.filter()?, 1, None, context).await?;
    let acts = args.acts(found);
    tell(&acts, context.format, &mut context.screen)
}

/// From an export.
pub fn offline(args: Who, format: Format, screen: &mut Screen) -> Ended {
    let (filter, file) = (args.filter()?, args.file.clone().unwrap_or_default());
    let acts = args.acts(find_in(&file, |entry| filter.takes(entry))?);
    tell(&acts, format, screen)
}

fn tell(acts: &Acts, format: Format, screen: &mut Screen) -> Ended {
    show(format, screen, acts, |acts, screen| render::acts(acts, &screen.facts))?;
    Ok(if tell_gaps(&acts.gaps, screen) { Exit::CheckFailed } else { Exit::Done })
}
