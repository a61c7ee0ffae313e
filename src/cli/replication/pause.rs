//! `pause`: maintenance, with an owner, a reason and an end.

use crate::Ended;
use crate::args::{ScopeArgs, span};
use crate::client::transport::Method;
use crate::context::Context;
use crate::exit::Exit;
use clap::Args;
use cryptorun_core::time::Millis;
use cryptorun_core::wire::PauseRequest;
use std::time::Duration;

#[derive(Clone, Debug, Args)]
pub struct Pause {
    #[command(flatten)]
    scope: ScopeArgs,
    /// For how long, as 90s, 10m or 2h
    #[arg(long = "for", value_name = "SPAN", value_parser = span)]
    span: Duration,
    /// Why; asked for on a terminal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub async fn run(args: Pause, context: &mut Context) -> Ended {
    let scope = args.scope.id();
    let reason = super::reason_needed(args.reason, &format!("pausing {scope}"), context)?;
    let span = Millis::from(args.span);
    let body =
        PauseRequest { tier: scope.tier, group: scope.group.to_string(), reason, for_ms: span.0 };
    let accepted = context.client.change(Method::Post, "/v1/pauses", &body).await?;
    context.show(&accepted, |_, _| {
        let group = match scope.group.as_str() {
            "global" => String::new(),
            group => format!(" --group {group}"),
        };
        format!(
            "{scope} is paused for {span}: the controller keeps its hands off, people do not have \
             to\nend it with: cryptorun replication resume --tier {}{group}\n",
            scope.tier
        )
    })?;
    Ok(Exit::Done)
}
