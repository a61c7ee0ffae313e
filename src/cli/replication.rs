//! `cryptorun replication`: who may write, and changing that.

mod approve;
mod cancel;
mod deny;
mod emergency;
mod explain;
mod failover;
mod follow;
mod forks;
mod history;
mod pause;
mod refusals;
mod request;
mod resume;
mod rules;
mod simulate;
mod status;
mod switchover;
mod watch;

use crate::Ended;
use crate::context::{Context, Host};
use clap::Subcommand;

/// The verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Show who writes what, how old each copy is, and what I must do
    Status(status::Status),
    /// Replay recorded reports: what would have been decided in a window of the past
    Simulate(simulate::Simulate),
    /// Move a scope in the way its state calls for; says which kind that is
    Failover(failover::Failover),
    /// Move a scope whose primary answers, losing nothing
    Switchover(switchover::Switchover),
    /// Move a scope whose primary is gone and whose gap is large, old or unknown
    Emergency(emergency::Emergency),
    /// Stand behind a promotion or a rule change; without an id, list what waits for me
    Approve(approve::Approve),
    /// Say no to a promotion or a rule change
    Deny(deny::Deny),
    /// Withdraw a promotion or a rule change that I asked for or approved
    Cancel(cancel::Cancel),
    /// List promotions, or show one or a rule change whole
    History(history::History),
    /// Say why a scope can or cannot move, and what would change that
    Explain(explain::Explain),
    /// Say why a scope that was not well did not move, from what was recorded
    Refusals(refusals::Refusals),
    /// Keep the controller's hands off a scope for a while
    Pause(pause::Pause),
    /// End a pause
    Resume(resume::Resume),
    /// Follow changes of leases as they happen
    Watch(watch::Watch),
    /// Look at records that were cut off and kept
    #[command(subcommand)]
    Forks(forks::Forks),
}

pub async fn run(verb: Verb, host: &Host, context: &mut Context) -> Ended {
    match verb {
        Verb::Status(args) => status::run(args, context).await,
        Verb::Simulate(args) => simulate::run(args, host, context).await,
        Verb::Failover(args) => failover::run(args, context).await,
        Verb::Switchover(args) => switchover::run(args, context).await,
        Verb::Emergency(args) => emergency::run(args, context).await,
        Verb::Approve(args) => approve::run(args, context).await,
        Verb::Deny(args) => deny::run(args, context).await,
        Verb::Cancel(args) => cancel::run(args, context).await,
        Verb::History(args) => history::run(args, context).await,
        Verb::Explain(args) => explain::run(args, context).await,
        Verb::Refusals(args) => refusals::run(args, context).await,
        Verb::Pause(args) => pause::run(args, context).await,
        Verb::Resume(args) => resume::run(args, context).await,
        Verb::Watch(args) => watch::run(args, context).await,
        Verb::Forks(args) => forks::run(args, context).await,
    }
}

/// The reason that a verb needs: given, asked for on a terminal, or else a mistake.
fn reason_needed(
    given: Option<String>,
    what: &str,
    context: &mut Context,
) -> Result<String, crate::failure::Failure> {
    given
        .filter(|reason| !reason.trim().is_empty())
        .or_else(|| context.screen.ask(&format!("why {what}?")))
        .ok_or_else(|| {
            crate::failure::Failure::usage_hint(
                format!("{what} needs a reason"),
                "say why with --reason \"…\"",
            )
        })
}
