//! `audit list`: each change of authority or rules, each refusal.

use super::PAGE_MAX;
use crate::Ended;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::table::Table;
use crate::render::text::moment;
use crate::screen::Facts;
use clap::Args;
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
    let page = match &args.subject {
        None => {
            let from = args.from.map(|seq| format!("&from={seq}")).unwrap_or_default();
            context.client.get(&format!("/v1/audit?limit={}{from}", args.limit)).await?
        }
        Some(subject) => about(subject, &args, context).await?,
    };
    context.show(&page, |page, screen| table(page, &screen.facts))?;
    Ok(Exit::Done)
}

/// The latest entries about one thing, however far back they lie.
async fn about(subject: &str, args: &List, context: &Context) -> Result<AuditPage, Failure> {
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    let mut next = args.from.unwrap_or(1);
    loop {
        let path = format!("/v1/audit?from={next}&limit={PAGE_MAX}");
        let page: AuditPage = context.client.get(&path).await?;
        let last = page.entries.last().map(|entry| entry.seq);
        found.extend(page.entries.into_iter().filter(|entry| entry.subject == subject));
        match last {
            Some(seq) if seq < page.end.seq => next = seq + 1,
            _ => {
                found.drain(..found.len().saturating_sub(limit));
                return Ok(AuditPage { entries: found, end: page.end });
            }
        }
    }
}

fn table(page: &AuditPage, facts: &Facts) -> String {
    if page.entries.is_empty() {
        return format!("no entries here; the chain holds {}\n", page.end.seq);
    }
    let mut table = Table::default();
    for title in ["SEQ", "AT", "WHO", "ACTION", "SUBJECT"] {
        table = table.column(title);
    }
    table = table.sentences("DETAIL");
    for entry in &page.entries {
        table.row(vec![
            entry.seq.into(),
            moment(entry.at.wall).into(),
            entry.actor.to_string().into(),
            (&entry.action).into(),
            (&entry.subject).into(),
            (&entry.detail).into(),
        ]);
    }
    let mut text = table.draw(facts);
    text.push_str(&format!("chain ends at {}, {}\n", page.end.seq, page.end.hash.short()));
    text
}
