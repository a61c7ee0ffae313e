//! Where this worker stands with the cluster: what it may act on, and what it should be.
//!
//! The keeper writes here; scopes, the API and reports read. The one question that matters is
//! [`Standing::holds`]: it compares the deadline with `CLOCK_BOOTTIME` at the moment of asking, so
//! a process that slept, was stopped or was slow gets the right answer from its first instruction
//! on, whoever else has not noticed yet.
//!
//! What always holds:
//!  1. authority comes only from the worker's own committed renewal, counted from before it was
//!     first sent, and only for the leases that the answer lists;
//!  2. a token given away (release, hand-over sent) is never held again;
//!  3. an older directive never replaces a newer one.

use crate::beliefs::{Belief, Beliefs};
use cryptorun_core::command::Renewed;
use cryptorun_core::config::Limits;
use cryptorun_core::directive::{Directive, Want};
use cryptorun_core::keeper::{Held, Keeper};
use cryptorun_core::offset::{Filter, Offset};
use cryptorun_core::scope::ScopeId;
use cryptorun_core::time::{Timing, WallTime};
use cryptorun_core::token::Token;
use cryptorun_platform::clock::{BootTime, Clock};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

use crate::sink::Lives;

pub struct Standing {
    clock: Arc<dyn Clock>,
    book: Mutex<Book>,
    directives: watch::Sender<Arc<BTreeMap<ScopeId, Directive>>>,
    /// Counts changes of what is held.
    changes: watch::Sender<u64>,
    renew: Notify,
    renewals: Renewals,
}

/// Renewals by how they ended, since the start.
#[derive(Default)]
pub(crate) struct Renewals {
    /// At the first attempt.
    pub answered: AtomicU64,
    /// At a later attempt.
    pub retried: AtomicU64,
    /// Refused, or a lease ran out first.
    pub lost: AtomicU64,
}

#[derive(Default)]
struct Book {
    /// Of the session that is open.
    keeper: Option<Keeper>,
    /// Clocks cannot be trusted: nothing is held meanwhile.
    barred: Option<String>,
    timing: Option<Timing>,
    limits: Option<Limits>,
    /// The clock of the nodes it renews with, against its own.
    clock: Filter,
    answered_at: Option<BootTime>,
    beliefs: Beliefs,
}

impl Standing {
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            book: Mutex::default(),
            directives: watch::Sender::default(),
            changes: watch::Sender::new(0),
            renew: Notify::new(),
            renewals: Renewals::default(),
        })
    }

    /// The lease on a scope, if it lives at this very moment.
    pub fn holds(&self, scope: &ScopeId) -> Option<Held> {
        let book = self.book();
        let keeper = book.keeper.as_ref().filter(|_| book.barred.is_none())?;
        let token = keeper.may_act(scope, self.clock.boot().0)?;
        keeper.held(scope).filter(|held| held.token == token)
    }

    /// The question a write brings along: does the lease under this very token still live?
    pub fn lives(self: &Arc<Self>, scope: &ScopeId, token: Token) -> Lives {
        let (standing, scope) = (Arc::clone(self), scope.clone());
        Arc::new(move || standing.holds(&scope).is_some_and(|held| held.token == token))
    }

    /// Never acts under the token it holds again, from before the message that says so is sent.
    pub fn give_up(&self, scope: &ScopeId) {
        let mut book = self.book();
        if let Some(keeper) = &mut book.keeper {
            keeper.give_up(scope);
        }
        // Read behind it: nothing was held any more by then.
        book.beliefs.lets_go(self.clock.boot().0, Some(scope));
        drop(book);
        self.changed();
    }

    /// The log shows that giving it away was refused: a later renewal may list it again.
    pub fn refused(&self, scope: &ScopeId, token: Token) {
        if let Some(keeper) = &mut self.book().keeper {
            keeper.refused(scope, token);
        }
        self.changed();
        self.renew_now();
    }

    /// While a reason stands, nothing is held, and what was held is gone.
    pub fn bar(&self, why: Option<String>) {
        let mut book = self.book();
        if book.barred == why {
            return;
        }
        if let Some(why) = &why {
            tracing::error!(why, "leases dropped");
            if let Some(keeper) = &mut book.keeper {
                keeper.drop_all();
            }
            book.beliefs.lets_go(self.clock.boot().0, None);
        }
        book.barred = why;
        drop(book);
        self.changed();
        self.renew_now(); // The keeper ends the session: its leases are free for others at once.
    }

    /// Why nothing may be held now.
    pub fn barred(&self) -> Option<String> {
        self.book().barred.clone()
    }

    /// Returns once leases may be held.
    pub(crate) async fn unbarred(&self) {
        let mut changes = self.watch_changes();
        while self.barred().is_some() {
            // The sender is `self`: it cannot be gone.
            drop(changes.changed().await);
        }
    }

    /// Whether some lease was held and its deadline has passed.
    pub fn has_run_out(&self) -> bool {
        let (now, book) = (self.clock.boot().0, self.book());
        book.keeper.as_ref().is_some_and(|k| k.all().any(|(_, held)| now >= held.deadline))
    }

    /// A session was opened; nothing is held yet.
    pub(crate) fn opened(&self, renewed: &Renewed, timing: Timing, limits: Limits) {
        let mut book = self.book();
        let before = book.keeper.as_ref().map(Keeper::cluster);
        book.keeper = Some(Keeper::new(timing, renewed));
        (book.timing, book.limits) = (Some(timing), Some(limits));
        book.answered_at = Some(self.clock.boot());
        drop(book);
        if before.is_some_and(|cluster| cluster != renewed.cluster) {
            self.directives.send_replace(Arc::default()); // Another cluster's mean nothing here.
        }
        self.changed();
    }

    /// The session is over: nothing is held, and no answer to it counts any more.
    pub(crate) fn closed(&self) {
        let mut book = self.book();
        if let Some(keeper) = &mut book.keeper {
            keeper.drop_all();
        }
        book.beliefs.lets_go(self.clock.boot().0, None);
        drop(book);
        self.changed();
    }

    /// Before each attempt at a renewal: reads the clock and answers the number to send.
    pub(crate) fn attempt(&self) -> u64 {
        let mut now = self.clock.boot().0;
        if cryptorun_core::seeded_bug::is("t_send_late") {
            now += 900_000_000;
        }
        self.book().keeper.as_mut().map_or(0, |keeper| keeper.attempt(now))
    }

    /// A renewal was answered; whether it was the outstanding one.
    pub(crate) fn answered(&self, renewed: &Renewed) -> bool {
        let mut book = self.book();
        let counts = book.keeper.as_mut().is_some_and(|keeper| keeper.answered(renewed));
        if counts {
            let now = self.clock.boot();
            book.answered_at = Some(now);
            let Book { keeper, beliefs, .. } = &mut *book;
            for (scope, held) in keeper.iter().flat_map(Keeper::all) {
                beliefs.holds(now.0, scope, held);
            }
        }
        drop(book);
        self.changed();
        counts
    }

    pub(crate) fn set_clock_offset(&self, node: WallTime, round_trip: Duration) {
        let answered = self.clock.wall().0;
        let took = u64::try_from(round_trip.as_millis()).unwrap_or(u64::MAX);
        let rtt_us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        let asked = answered.saturating_sub(took);
        self.book().clock.take(node.0, (asked, answered), rtt_us);
    }

    /// When this process believed that it might write.
    pub fn beliefs(&self) -> Vec<Belief> {
        self.book().beliefs.all()
    }

    /// Our wall clock against the node we renew with; positive is ahead.
    pub fn clock_offset(&self) -> Offset {
        self.book().clock.best().unwrap_or_default().reversed()
    }

    pub fn limits(&self) -> Option<Limits> {
        self.book().limits
    }

    pub fn timing(&self) -> Option<Timing> {
        self.book().timing
    }

    /// How long ago the cluster last answered; none before the first time.
    pub fn answered_ago(&self) -> Option<Duration> {
        self.book().answered_at.map(|at| self.clock.boot() - at)
    }

    /// Takes over directives; older ones are ignored. `Primary` only asks for a renewal, since
    /// authority comes from that answer alone.
    pub fn direct(&self, directives: Vec<Directive>) {
        let mut renew = false;
        self.directives.send_if_modified(|current| {
            let mut next = BTreeMap::clone(current);
            for directive in directives {
                let known = next.get(&directive.scope);
                let old = known.is_some_and(|known| known.rev > directive.rev)
                    && !cryptorun_core::seeded_bug::is("stale_directive_obeyed");
                if old || known.is_some_and(|known| *known == directive) {
                    continue;
                }
                renew |= matches!(directive.want, Want::Primary { token, .. }
                    if self.holds(&directive.scope).is_none_or(|held| held.token != token));
                next.insert(directive.scope.clone(), directive);
            }
            let changed = next != **current;
            *current = Arc::new(next);
            changed
        });
        if renew {
            self.renew_now();
        }
    }

    pub fn directive(&self, scope: &ScopeId) -> Option<Directive> {
        self.directives.borrow().get(scope).cloned()
    }

    pub fn watch_directives(&self) -> watch::Receiver<Arc<BTreeMap<ScopeId, Directive>>> {
        self.directives.subscribe()
    }

    /// Told of every change of what is held, and of every committed renewal.
    pub fn watch_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn renewals(&self) -> &Renewals {
        &self.renewals
    }

    /// Asks for a renewal at once: something changed that the cluster should know.
    pub fn renew_now(&self) {
        self.renew.notify_one();
    }

    pub(crate) async fn renewal_wanted(&self) {
        self.renew.notified().await;
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
