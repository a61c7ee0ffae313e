//! `refusals`: why a scope that was not well did not move.

use crate::Ended;
use crate::args::{ScopeArgs, Window};
use crate::client::query;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::decision;
use clap::Args;
use cryptorun_core::wire;
use std::str::FromStr;

#[derive(Clone, Debug, Args)]
pub struct Refusals {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Which part of the past, as 2025-01-01T00:00:00Z/2025-01-01T06:00:00Z; else the last day
    #[arg(long, value_name = "START/END", value_parser = Window::from_str)]
    window: Option<Window>,
}

pub async fn run(args: Refusals, context: &mut Context) -> Ended {
    let window = match args.window {
        Some(window) => format!(
            "&since={}&until={}",
            query(&window.start.to_string()),
            query(&window.end.to_string())
        ),
        None => String::new(),
    };
    let path = format!("/v1/refusals?{}{window}", args.scope.query());
    let found: wire::Refusals = context.client.get(&path).await?;
    context.show(&found, |found, _| decision::refusals(found))?;
    Ok(if found.covered.is_none() { Exit::CheckFailed } else { Exit::Done })
}
