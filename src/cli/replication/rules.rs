//! Rule changes under the verbs that promotions have: one looks at them, agrees, refuses and withdraws
//! in the same way.

use crate::Ended;
use crate::client::transport::Method;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::table::Table;
use crate::render::text::{NONE, moment};
use crate::screen::Facts;
use cryptorun_core::rules::{Outcome, RuleId, State};
use cryptorun_core::wire::{RuleStatus, WordRequest};

/// Reads one, at a log index or later.
pub async fn fetch(
    id: RuleId,
    index: Option<u64>,
    context: &Context,
) -> Result<RuleStatus, Failure> {
    let wait = index.map(|i| format!("?wait_index={i}")).unwrap_or_default();
    context.client.get(&format!("/v1/rules/{id}{wait}")).await
}

/// One whole.
pub async fn show(id: RuleId, context: &mut Context) -> Ended {
    let status = fetch(id, None, context).await?;
    context.show(&status, |status, _| whole(status))?;
    Ok(Exit::Done)
}

/// Agrees to it, after it was shown.
pub async fn approve(
    id: RuleId,
    yes: bool,
    reason: Option<String>,
    context: &mut Context,
) -> Ended {
    if !yes && !context.screen.facts.interactive {
        return Err(Failure::usage_hint(
            format!("approving {id} in a script needs --yes"),
            format!("look at it first: cryptorun replication history {id}"),
        ));
    }
    let before = fetch(id, None, context).await?;
    context.screen.say(whole(&before).trim_end());
    if !yes && !context.screen.confirm(&format!("approve {id}?")) {
        context.screen.say("nothing was changed");
        return Ok(Exit::Pending);
    }
    word(id, "approve", reason, context).await
}

/// Says no.
pub async fn deny(id: RuleId, reason: Option<String>, context: &mut Context) -> Ended {
    let reason = super::reason_needed(reason, &format!("denying {id}"), context)?;
    word(id, "deny", Some(reason), context).await.map(|_| Exit::Done)
}

/// Takes it back.
pub async fn cancel(id: RuleId, reason: Option<String>, context: &mut Context) -> Ended {
    word(id, "cancel", reason, context).await.map(|_| Exit::Done)
}

async fn word(id: RuleId, verb: &str, reason: Option<String>, context: &mut Context) -> Ended {
    let path = format!("/v1/rules/{id}/{verb}");
    let accepted = context.client.change(Method::Post, &path, &WordRequest { reason }).await?;
    let status = fetch(id, Some(accepted.index), context).await?;
    context.show(&status, |status, _| format!("{}\n", state(status)))?;
    Ok(match &status.rule.state {
        State::Waiting => Exit::Pending,
        State::Ended(Outcome::Applied) => Exit::Done,
        State::Ended(_) => Exit::Refused,
    })
}

/// Those that wait for me, and how to agree.
pub fn waiting(rules: &[RuleStatus], facts: &Facts) -> String {
    let mut table = Table::default();
    for title in ["ID", "BY", "MISSING", "EXPIRES"] {
        table = table.column(title);
    }
    table = table.sentences("CHANGE");
    for RuleStatus { rule, what, people_missing, .. } in rules {
        table.row(vec![
            rule.id.into(),
            rule.requester.to_string().into(),
            people_missing.into(),
            expires(rule.expires.map(|(_, wall)| wall)).into(),
            what.clone().into(),
        ]);
    }
    let mut text = table.draw(facts);
    for status in rules {
        let id = status.rule.id;
        text.push_str(&format!("approve with: cryptorun replication approve {id}\n"));
    }
    text
}

fn expires(wall: Option<cryptorun_core::time::WallTime>) -> String {
    wall.map_or(NONE.to_owned(), moment)
}

fn whole(status: &RuleStatus) -> String {
    let rule = &status.rule;
    let mut text = format!("{} {}\n", rule.id, status.what);
    let mut field = |name: &str, value: String| text.push_str(&format!("  {name:<10}{value}\n"));
    let reason = rule.reason.as_deref().unwrap_or("no reason given");
    field("asked by", format!("{}, {}: {reason}", rule.requester, moment(rule.opened.wall)));
    field("expires", expires(rule.expires.map(|(_, wall)| wall)));
    let people: Vec<String> = rule.approvals.keys().map(ToString::to_string).collect();
    let people = if people.is_empty() { "nobody yet".to_owned() } else { people.join(", ") };
    field("people", format!("{} of {}: {people}", rule.approvals.len(), rule.people_needed));
    field("state", state(status));
    text
}

fn state(status: &RuleStatus) -> String {
    let id = status.rule.id;
    match &status.rule.state {
        State::Waiting => format!("{id} waits for {} more people", status.people_missing),
        State::Ended(outcome) => format!("{id} {outcome}"),
    }
}
