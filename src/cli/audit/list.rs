//! `audit list`: each change of authority or rules, each refusal.

use super::source::{Gap, find};
use super::tell_gaps;
use crate::Ended;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::audit as render;
use clap::Args;
use cryptorun_core::audit::Filter;
use cryptorun_core::wire::AuditPage;

#[derive(Clone, Debug, Args)]
pub struct List {
    /// Only entries from this number on
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// At most so many; the latest, unless --from is given
    #[arg(long, default_value_t = 50)]
    limit: u64,
    /// Only entries about this, as warm/global or P-7
    #[arg(long)]
    subject: Option<String>,
}

pub async fn run(args: List, context: &mut Context) -> Ended {
    let (page, gaps) = match &args.subject {
        None => {
            let from = args.from.map(|seq| format!("&from={seq}")).unwrap_or_default();
            let path = format!("/v1/audit?limit={}{from}", args.limit);
            (context.client.get(&path).await?, Vec::new())
        }
        Some(subject) => about(subject, &args, context).await?,
    };
    context.show(&page, |page, screen| render::page(page, &screen.facts))?;
    Ok(if tell_gaps(&gaps, &mut context.screen) { Exit::CheckFailed } else { Exit::Done })
}

/// The latest entries about one thing, however far back they lie.
async fn about(
    subject: &str,
    args: &List,
    context: &Context,
) -> Result<(AuditPage, Vec<Gap>), Failure> {
    let filter = Filter { about: Some(subject.to_owned()), ..Filter::default() };
    let mut found = find(&filter, args.from.unwrap_or(1).max(1), None, context).await?;
    found.entries.retain(|entry| entry.subject == subject);
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    found.entries.drain(..found.entries.len().saturating_sub(limit));
    Ok((AuditPage { entries: found.entries, end: found.end, through: None }, found.gaps))
}
