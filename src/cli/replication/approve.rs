//! `approve`: what waits for me, or my name under one of them.

use super::{follow, rules};
use crate::Ended;
use crate::args::{Proposal, WaitArgs};
use crate::client::transport::Method;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::promotion as render;
use clap::Args;
use cryptorun_core::promotion::{PromotionId, State};
use cryptorun_core::wire::{PromotionStatus, RuleStatus, WhoAmI, WordRequest};
use serde::Serialize;
use std::str::FromStr;

#[derive(Clone, Debug, Args)]
pub struct Approve {
    /// Which, as P-7 or R-7; without it, what waits for me is listed
    #[arg(value_parser = Proposal::from_str)]
    id: Option<Proposal>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Why; needed where the requester gave no reason
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    wait: WaitArgs,
}

/// One of the things that wait, as a program reads it.
#[derive(Serialize)]
#[serde(untagged)]
enum Waiting<'a> {
    Promotion(&'a PromotionStatus),
    Rule(&'a RuleStatus),
}

pub async fn run(args: Approve, context: &mut Context) -> Ended {
    match args.id {
        None => waiting(context).await,
        Some(Proposal::Promotion(id)) => approve(id, args, context).await,
        Some(Proposal::Rule(id)) => rules::approve(id, args.yes, args.reason, context).await,
    }
}

async fn waiting(context: &mut Context) -> Ended {
    let me: WhoAmI = context.client.get("/v1/whoami").await?;
    let (mut promotions, mut changes) = (Vec::new(), Vec::new());
    for id in me.waiting {
        promotions.push(follow::fetch(id, None, context).await?);
    }
    for id in me.rules {
        changes.push(rules::fetch(id, None, context).await?);
    }
    let all: Vec<Waiting<'_>> = promotions
        .iter()
        .map(Waiting::Promotion)
        .chain(changes.iter().map(Waiting::Rule))
        .collect();
    context.show(&all, |all, screen| {
        let mut parts = Vec::new();
        if !promotions.is_empty() {
            parts.push(render::waiting(&promotions, &screen.facts));
        }
        if !changes.is_empty() {
            parts.push(rules::waiting(&changes, &screen.facts));
        }
        match all.is_empty() {
            true => "nothing waits for you\n".to_owned(),
            false => parts.join("\n"),
        }
    })?;
    Ok(Exit::Done)
}

async fn approve(id: PromotionId, args: Approve, context: &mut Context) -> Ended {
    let interactive = context.screen.facts.interactive;
    if !args.yes && !interactive {
        return Err(Failure::usage_hint(
            format!("approving {id} in a script needs --yes"),
            format!("look at it first: cryptorun replication history {id}"),
        ));
    }
    let before = follow::fetch(id, None, context).await?;
    context.screen.say(render::bound(&before).trim_end());
    let mut reason = args.reason.filter(|r| !r.trim().is_empty());
    if reason.is_none() && before.promotion.reason.is_none() {
        reason =
            Some(super::reason_needed(None, "approve what was asked for without one", context)?);
    }
    if !args.yes && !context.screen.confirm(&format!("approve {id}?")) {
        context.screen.say("nothing was changed");
        return Ok(Exit::Pending);
    }
    let path = format!("/v1/promotions/{id}/approve");
    let accepted = context.client.change(Method::Post, &path, &WordRequest { reason }).await?;
    let Some(status) = follow::after(id, accepted.index, context).await? else {
        return Ok(Exit::Pending);
    };
    if args.wait.waits(interactive) {
        return follow::until_over(id, status, args.wait.timeout, context).await;
    }
    context.show(&status, |status, _| match status.promotion.state {
        State::Running => format!("{id} goes: enough people stand behind it\n"),
        State::Waiting | State::Ended(_) => follow::headline(status) + "\n",
    })?;
    Ok(match status.promotion.state {
        State::Running => Exit::Done,
        State::Waiting | State::Ended(_) => Exit::of(&status.promotion.state),
    })
}
