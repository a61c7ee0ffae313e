//! `watch`: changes of leases, as the log has them.

use crate::Ended;
use crate::args::Format;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, Tried};
use clap::Args;
use futures_util::StreamExt;

#[derive(Clone, Debug, Args)]
pub struct Watch {
    /// Start at this log index instead of now
    #[arg(long, value_name = "INDEX")]
    from_index: Option<u64>,
}

pub async fn run(args: Watch, context: &mut Context) -> Ended {
    let from = args.from_index.map(|i| format!("?watch_from={i}")).unwrap_or_default();
    let mut events = context.client.events(&format!("/v1/leases{from}")).await?;
    while let Some(event) = events.next().await {
        let event = event.map_err(|cause| Failure::Unreachable {
            tried: vec![Tried { endpoint: "stream".to_owned(), cause }],
            hint: Some("go on with the last index: --from-index N".to_owned()),
        })?;
        match context.format {
            Format::Json => context.screen.line(&event.data)?,
            Format::Yaml => context.screen.line(format_args!("---\n{}", event.data))?,
            Format::Table => {
                context.screen.line(format_args!("{:<9} {}", event.name, event.data))?
            }
        }
    }
    context.screen.say("the node ended the stream");
    Ok(Exit::Done)
}
