//! `watch`: changes of leases, as the log has them, without a gap.
//!
//! A stream that breaks is opened again, at the next endpoint if need be, after the last index that
//! was shown; where that is no longer kept, the whole state comes instead and says so.

use crate::Ended;
use crate::args::Format;
use crate::client::transport::Event;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::text::or_none;
use clap::Args;
use cryptorun_core::scope::Tier;
use cryptorun_core::wire::{LeaseEvent, LeaseState};
use futures_util::StreamExt;
use std::str::FromStr;
use std::time::Duration;

/// Between two tries to open the stream again.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Args)]
pub struct Watch {
    /// Only this tier
    #[arg(long, value_parser = Tier::from_str)]
    tier: Option<Tier>,
    /// Go on after this log index instead of from now
    #[arg(long, value_name = "INDEX")]
    from_index: Option<u64>,
    /// End after so many changes
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

pub async fn run(args: Watch, context: &mut Context) -> Ended {
    let mut from = args.from_index;
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut opened = false;
    loop {
        let query = from.map(|index| format!("?watch_from={index}")).unwrap_or_default();
        let mut events = match context.client.events(&format!("/v1/leases{query}")).await {
            Ok(events) => events,
            // Once it has followed, it stays through an outage and says so.
            Err(failure @ Failure::Unreachable { .. }) if opened => {
                context.screen.fail(&failure);
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        opened = true;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    let shown = show(&event, &mut from, args.tier, context)?;
                    left = left.saturating_sub(shown);
                    if left == 0 {
                        return Ok(Exit::Done);
                    }
                }
                Err(cause) => context.screen.say(format_args!("stream broke: {cause}")),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Shows an event and returns how many changes were in it.
fn show(
    event: &Event,
    from: &mut Option<u64>,
    tier: Option<Tier>,
    context: &mut Context,
) -> Result<u64, Failure> {
    let Ok(mut read) = serde_json::from_str::<LeaseEvent>(&event.data) else {
        context
            .screen
            .say(format_args!("an event that this version does not read: {}", event.data));
        return Ok(0);
    };
    *from = Some(read.index);
    read.leases.retain(|lease| tier.is_none_or(|tier| lease.scope.tier == tier));
    if read.leases.is_empty() {
        return Ok(0);
    }
    match context.format {
        Format::Table => {
            for lease in &read.leases {
                context.screen.line(line(read.index, &event.name, lease))?;
            }
        }
        // One event a line or document, so that a reader need not wait for the end.
        Format::Json => {
            let text = serde_json::to_string(&read).map_err(std::io::Error::other)?;
            context.screen.line(text)?;
        }
        Format::Yaml => {
            let text = crate::render::data(Format::Yaml, &read)?;
            context.screen.result(&format!("---\n{text}"))?;
        }
    }
    Ok(if event.name == "change" { 1 } else { 0 })
}

fn line(index: u64, name: &str, lease: &LeaseState) -> String {
    format!(
        "{index:<8}  {name:<6}  {:<12}  {:<8}  {:<10}  token {:<6}  assigned {}",
        lease.scope,
        lease.phase,
        or_none(lease.holder.as_ref()),
        lease.token,
        lease.assigned
    )
}
