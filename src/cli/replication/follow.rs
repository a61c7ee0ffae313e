//! Following a promotion until it is over, somebody's patience ends, or Ctrl-C.
//!
//! What always holds: leaving never touches the promotion, and says how to come back or cancel it.

use crate::Ended;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::promotion as render;
use cryptorun_core::promotion::{Promotion, PromotionId, State, StepState};
use cryptorun_core::wire::PromotionStatus;
use indicatif::ProgressBar;
use std::time::Duration;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Reads one promotion, at a log index or later.
pub async fn fetch(
    id: PromotionId,
    index: Option<u64>,
    context: &Context,
) -> Result<PromotionStatus, Failure> {
    let wait = index.filter(|i| *i > 0).map(|i| format!("?wait_index={i}")).unwrap_or_default();
    context.client.get(&format!("/v1/promotions/{id}{wait}")).await
}

/// Reads a promotion back after a change that stands, whatever becomes of the reading.
pub async fn after(
    id: PromotionId,
    index: u64,
    context: &mut Context,
) -> Result<Option<PromotionStatus>, Failure> {
    match fetch(id, Some(index), context).await {
        Ok(status) => Ok(Some(status)),
        Err(Failure::Unreachable { tried, .. }) => {
            context.screen.say(format_args!(
                "{id}: it stands, at index {index}, and could not be read back\n\
                 \x20  look:    cryptorun replication history {id}"
            ));
            for one in tried {
                context.screen.say(format_args!("  {}: {}", one.endpoint, one.cause));
            }
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// What a new or approved request says of itself.
pub fn headline(status: &PromotionStatus) -> String {
    let p = &status.promotion;
    let mut text = format!("{} {} {} → {}\n{}", p.kind, p.scope, p.from, p.to, render::state(p));
    if p.state == State::Waiting {
        text.push_str(&format!("\n   approve with:  {}", render::approve_line(status)));
    }
    text
}

/// How the waiting ended.
enum Left {
    Over(Box<PromotionStatus>),
    TimedOut,
    Interrupted,
}

/// Stays until the promotion is over; first says where it stands.
pub async fn until_over(
    id: PromotionId,
    first: PromotionStatus,
    timeout: Option<Duration>,
    context: &mut Context,
) -> Ended {
    if first.promotion.is_open() {
        context.screen.say(headline(&first));
    }
    let bar = bar(context);
    let patience = async {
        match timeout {
            Some(span) => tokio::time::sleep(span).await,
            None => std::future::pending().await,
        }
    };
    let left = tokio::select! {
        over = watch(id, first, context, bar.as_ref()) => Left::Over(Box::new(over?)),
        () = patience => Left::TimedOut,
        _ = tokio::signal::ctrl_c() => Left::Interrupted,
    };
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    match left {
        Left::Over(status) => {
            let exit = Exit::of(&status.promotion.state);
            context.show(&*status, |status, _| outcome(&status.promotion))?;
            Ok(exit)
        }
        Left::TimedOut | Left::Interrupted => {
            context.screen.say(format_args!(
                "{id} goes on without this terminal\n\
                 \x20  look:    cryptorun replication history {id}\n\
                 \x20  cancel:  cryptorun replication cancel {id}"
            ));
            Ok(Exit::Pending)
        }
    }
}

fn bar(context: &Context) -> Option<ProgressBar> {
    context.screen.facts.stderr_terminal.then(|| {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    })
}

async fn watch(
    id: PromotionId,
    first: PromotionStatus,
    context: &mut Context,
    bar: Option<&ProgressBar>,
) -> Result<PromotionStatus, Failure> {
    let mut seen = Seen::default();
    let mut status = first;
    loop {
        for line in seen.news(&status.promotion) {
            match bar {
                Some(bar) => bar.suspend(|| context.screen.say(&line)),
                None => context.screen.say(&line),
            }
        }
        if let Some(bar) = bar {
            bar.set_message(render::state(&status.promotion));
        }
        if !status.promotion.is_open() {
            return Ok(status);
        }
        tokio::time::sleep(LOOK).await;
        status = match fetch(id, None, context).await {
            Ok(status) => status,
            // The promotion does not depend on who watches; a change of leader is waited out.
            Err(Failure::Unreachable { .. }) => status,
            Err(failure) => return Err(failure),
        };
    }
}

/// What has been told already.
#[derive(Default)]
struct Seen {
    approvals: Vec<String>,
    steps: usize,
}

impl Seen {
    fn news(&mut self, p: &Promotion) -> Vec<String> {
        let mut news = Vec::new();
        for (who, approval) in &p.approvals {
            let who = who.to_string();
            if !self.approvals.contains(&who) {
                news.push(format!("…  {who} {}", approval.at.wall));
                self.approvals.push(who);
            }
        }
        let over = |state: &StepState| !matches!(state, StepState::Pending | StepState::Started);
        while let Some(record) = p.steps.get(self.steps).filter(|r| over(&r.state)) {
            news.push(render::step(record));
            self.steps += 1;
        }
        news
    }
}

/// How it ended, for stdout.
fn outcome(p: &Promotion) -> String {
    format!("{}\n", render::state(p))
}
