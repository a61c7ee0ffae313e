//! People on call: they approve whatever waits, knowing no more than the cluster tells them. So a
//! request that should not have been made is carried out, and shows.

use super::truth::Truth;
use crate::world::World;
use cryptorun_core::people::Actor;
use cryptorun_core::promotion::{PromotionId, State};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(400);

/// What the controller asked for, and what was true then.
#[derive(Default)]
pub struct Asked(RefCell<BTreeMap<PromotionId, Cause>>);

#[derive(Clone, Debug)]
pub struct Cause {
    pub line: String,
    /// Why the holder was away, in truth; none makes it a false promotion.
    pub away: Option<String>,
}

impl Asked {
    pub fn all(&self) -> BTreeMap<PromotionId, Cause> {
        self.0.borrow().clone()
    }
}

/// Until it is over.
pub async fn on_call(world: &World, truth: &Truth, asked: &Asked, over: &Cell<bool>) {
    while !over.get() {
        tokio::time::sleep(EVERY).await;
        let Ok(all) = world.ana().promotions().await else { continue };
        for status in all {
            let p = &status.promotion;
            if p.requester == Actor::Controller && !asked.0.borrow().contains_key(&p.id) {
                let away = truth.why_away(p.from.as_str());
                let line = format!("{} {} {} {} to {}", p.id, p.kind, p.scope, p.from, p.to);
                asked.0.borrow_mut().insert(p.id, Cause { line, away });
            }
            if p.state != State::Waiting {
                continue;
            }
            for person in [&world.people.ben, &world.people.eve] {
                // What it binds may change meanwhile; then it is asked for again.
                let _ = world.approve(person, p.id).await;
            }
        }
    }
}
