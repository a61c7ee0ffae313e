//! Asking for a promotion: the part that `failover`, `switchover` and `emergency` share.
//!
//! A dry run unless told otherwise: it prints the plan's hash and the line that does it.

use super::follow;
use crate::Ended;
use crate::args::{ScopeArgs, WaitArgs};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::{decision, promotion as render};
use clap::{ArgAction, Args};
use cryptorun_core::command::Outcome;
use cryptorun_core::promotion::{Kind, PromotionId};
use cryptorun_core::region::RegionName;
use cryptorun_core::wire::{DryRun, PromotionRequest};

#[derive(Clone, Debug, Args)]
pub struct Request {
    #[command(flatten)]
    scope: ScopeArgs,
    /// The region that shall write it
    #[arg(long = "to", visible_alias = "promote", value_name = "REGION", value_parser = crate::args::region)]
    to: RegionName,
    /// The region that writes it now; refused when another one does
    #[arg(long = "from", visible_alias = "demote", value_name = "REGION", value_parser = crate::args::region)]
    from: Option<RegionName>,
    /// Look and change nothing; the default, --dry-run=false does it
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = ArgAction::Set
    )]
    dry_run: Option<bool>,
    /// Do it: another spelling of --dry-run=false
    #[arg(long)]
    execute: bool,
    /// Go only if the plan is this one, as a dry run printed it
    #[arg(long, value_name = "HASH")]
    plan: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    wait: WaitArgs,
}

/// Asks under the verb's own name; `kind` pins what would otherwise be chosen.
pub async fn run(verb: &str, kind: Option<Kind>, args: Request, context: &mut Context) -> Ended {
    let dry_run = match (args.dry_run, args.execute) {
        (Some(true), true) => {
            return Err(Failure::usage("--execute and --dry-run=true say opposite things"));
        }
        (Some(given), false) => given,
        (_, true) => false,
        (None, false) => true,
    };
    let mut body = PromotionRequest {
        kind,
        tier: args.scope.tier,
        group: args.scope.group.clone(),
        from: args.from.as_ref().map(ToString::to_string),
        to: args.to.to_string(),
        reason: args.reason.clone().filter(|r| !r.trim().is_empty()),
        plan: args.plan.clone(),
        dry_run,
    };
    if dry_run {
        return look(verb, kind, &args, &body, context).await;
    }
    if body.reason.is_none() {
        body.reason = match kind {
            Some(Kind::Emergency) => Some(super::reason_needed(None, "an emergency", context)?),
            _ => context.screen.ask("why? (none: marked as none given)"),
        };
    }
    let accepted = context
        .client
        .change(crate::client::transport::Method::Post, "/v1/promotions", &body)
        .await?;
    match accepted.outcome {
        Outcome::Promotion { id, .. } => opened(id, accepted.index, kind, &args, context).await,
        other => Err(Failure::Check {
            message: format!("the request was accepted as {other:?}, which is no promotion"),
            hint: Some("look with: cryptorun replication history".to_owned()),
        }),
    }
}

async fn look(
    verb: &str,
    kind: Option<Kind>,
    args: &Request,
    body: &PromotionRequest,
    context: &mut Context,
) -> Ended {
    let run: DryRun = context.client.ask("/v1/promotions", body).await?;
    let again = line(verb, kind, args, &run);
    if kind.is_none() {
        context.screen.say(render::chosen(run.kind));
    }
    context.show(&run, |run, _| decision::dry_run(run, &again))?;
    Ok(if run.refusal.is_some() { Exit::Refused } else { Exit::Done })
}

/// The line that does what the dry run showed, and nothing else.
fn line(verb: &str, kind: Option<Kind>, args: &Request, run: &DryRun) -> String {
    let mut line = format!("cryptorun replication {verb} --tier {}", args.scope.tier);
    if args.scope.group != "global" {
        line.push_str(&format!(" --group {}", args.scope.group));
    }
    if let (Some(kind), "failover") = (kind, verb) {
        line.push_str(&format!(" --kind {kind}"));
    }
    line.push_str(&format!(" --to {} --plan {} --execute", args.to, run.plan_hash.short()));
    if run.kind == Kind::Emergency {
        line.push_str(" --reason \"…\"");
    }
    line
}

async fn opened(
    id: PromotionId,
    index: u64,
    kind: Option<Kind>,
    args: &Request,
    context: &mut Context,
) -> Ended {
    let Some(status) = follow::after(id, index, context).await? else {
        return Ok(Exit::Pending);
    };
    if kind.is_none() {
        context.screen.say(render::chosen(status.promotion.kind));
    }
    if args.wait.waits(context.screen.facts.interactive) {
        return follow::until_over(id, status, args.wait.timeout, context).await;
    }
    context.show(&status, |status, _| follow::headline(status) + "\n")?;
    Ok(Exit::of(&status.promotion.state))
}
