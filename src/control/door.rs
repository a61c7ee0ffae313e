//! Whom this node turned away before anything came to the log, on their way into the audit: a role that
//! is missing, a certificate that is not let in, a command in somebody else's name.
//!
//! What always holds:
//!  1. nobody waits for it: a refusal is answered at once, and told to the log by a task of its own;
//!  2. each identity is told of [`MOST`] times in [`WINDOW`], the same refusal once: whoever knocks all
//!     day fills neither the log nor the audit; how many were left out stands with the next;
//!  3. without a leader the newest wait, [`WAITING_MAX`] of them.
//!
//! The machine itself audits what it refuses (`core/machine/notes.rs`).

use crate::api::Api;
use cryptorun_core::command::{Command, TurnedAway};
use cryptorun_core::people::Actor;
use cryptorun_platform::clock::BootTime;
use cryptorun_platform::tls::Login;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

const WINDOW: Duration = Duration::from_secs(60);
const MOST: usize = 10;
const WAITING_MAX: usize = 256;
/// Identities are remembered for a window; a cluster has fewer.
const IDENTITIES_MAX: usize = 1024;
/// Between attempts while nobody takes it.
const RETRY: Duration = Duration::from_secs(1);

/// What was turned away and is not in the log yet. Plain data behind one lock.
#[derive(Default)]
pub(crate) struct Door {
    state: Mutex<State>,
    told: Notify,
}

#[derive(Default)]
struct State {
    lately: BTreeMap<Actor, Lately>,
    waiting: VecDeque<TurnedAway>,
}

/// Of one identity, since its window began.
struct Lately {
    since: BootTime,
    said: BTreeSet<(String, String)>,
    left_out: u64,
}

impl Door {
    pub fn note(&self, now: BootTime, who: Actor, subject: &str, why: &str) {
        let mut state = self.state();
        let over = |lately: &Lately| now - lately.since >= WINDOW;
        if state.lately.len() >= IDENTITIES_MAX {
            state.lately.retain(|_, lately| !over(lately));
        }
        let begun = || Lately { since: now, said: BTreeSet::new(), left_out: 0 };
        let lately = state.lately.entry(who.clone()).or_insert_with(begun);
        let mut why = why.to_owned();
        if over(lately) {
            if lately.left_out > 0 {
                why = format!("{why}; {} before it were not written down", lately.left_out);
            }
            *lately = begun();
        }
        let said = (subject.to_owned(), why.clone());
        if lately.said.contains(&said) {
            return;
        }
        if lately.said.len() == MOST {
            lately.left_out += 1;
            return;
        }
        lately.said.insert(said);
        if state.waiting.len() == WAITING_MAX {
            state.waiting.pop_front();
        }
        state.waiting.push_back(TurnedAway::new(who, subject, &why));
        drop(state);
        self.told.notify_one();
    }

    async fn next(&self) -> TurnedAway {
        loop {
            if let Some(next) = self.state().waiting.pop_front() {
                return next;
            }
            self.told.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Api {
    /// Somebody was turned away here, for the audit.
    pub(crate) fn turn_away(&self, who: Actor, subject: &str, why: &str) {
        self.door().note(self.parts().platform.clock.boot(), who, subject, why);
    }
}

/// Tells the log of everybody who is turned away, until it is aborted.
pub async fn tell(api: Api) {
    let me = Actor::Node(api.log().node());
    loop {
        let command = Command::TurnedAway(api.door().next().await);
        // Said twice where the outcome was unknown, it is audited once.
        while let Err(error) = api.propose(me.clone(), None, command.clone()).await {
            if !error.may_pass() {
                tracing::warn!(%error, "a refusal could not be told to the log");
                break;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Certificates that were not let in at any of this process's ports, until their channel ends.
pub async fn watch_logins(api: Api, mut logins: mpsc::Receiver<Login>) {
    let me = Actor::Node(api.log().node());
    while let Some(login) = logins.recv().await {
        api.turn_away(me.clone(), "login", &login.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptorun_core::time::WallTime;
    use cryptorun_platform::clock::{Clock, ManualClock};

    fn eve() -> Actor {
        Actor::Person("eve".into())
    }

    fn waiting(door: &Door) -> Vec<(String, String)> {
        let state = door.state();
        state.waiting.iter().map(|away| (away.subject.clone(), away.why.clone())).collect()
    }

    #[test]
    fn the_same_refusal_is_told_once_a_minute_and_another_identity_has_its_own() {
        let (door, clock) = (Door::default(), ManualClock::new(WallTime(1)));
        for _ in 0..3 {
            door.note(clock.boot(), eve(), "P-1", "not_allowed: no approver");
        }
        door.note(clock.boot(), Actor::Person("ben".into()), "P-1", "not_allowed: no approver");
        assert_eq!(waiting(&door).len(), 2);
        clock.advance(WINDOW);
        door.note(clock.boot(), eve(), "P-1", "not_allowed: no approver");
        assert_eq!(waiting(&door).len(), 3);
    }

    #[test]
    fn who_knocks_all_day_is_told_of_within_bounds_and_counted_beyond() {
        let (door, clock) = (Door::default(), ManualClock::new(WallTime(1)));
        for n in 0..100 {
            door.note(clock.boot(), eve(), &format!("/v1/{n}"), "no");
        }
        assert_eq!(waiting(&door).len(), MOST);
        clock.advance(WINDOW);
        door.note(clock.boot(), eve(), "P-1", "no");
        let last = waiting(&door).pop();
        let text = "no; 90 before it were not written down";
        assert_eq!(last, Some(("P-1".to_owned(), text.to_owned())));
    }

    #[test]
    fn without_a_leader_the_newest_wait() {
        let (door, clock) = (Door::default(), ManualClock::new(WallTime(1)));
        for n in 0..=WAITING_MAX {
            door.note(clock.boot(), Actor::Worker(format!("w-{n}")), "login", "no");
        }
        let waiting = waiting(&door);
        assert_eq!(waiting.len(), WAITING_MAX);
        assert_eq!(
            door.state().waiting.front().map(|a| a.who.clone()),
            Some(Actor::Worker("w-1".into()))
        );
    }
}
