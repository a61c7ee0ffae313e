//! The keeper: opens a session, renews it, and gives back what must be given back.
//!
//! One renewal covers every lease. `t_send` is read before the first attempt at a renewal and kept
//! for all its retries, wherever they go; only an answer for the outstanding (cluster, session,
//! number) counts. An attempt that is not answered in time stays under way beside the next: while a
//! leader is replaced, requests wait in the nodes, and whichever is committed first extends the
//! leases. When a deadline passes, or the clock turns out not to keep time, everything stops
//! at once, the old session is ended and a new one opened (as soon as the clock is right): the old one's leases are then free without waiting for them to run out.
//!
//! What always holds:
//!  1. at most one renewal is outstanding, with as many attempts under way as there are endpoints;
//!  2. a session is ended only after nothing can be held under it any more.
//!
//! Deliberately absent: what to write. Next: `standing.rs` for what others see of this.

use crate::control::{Answer, Call, Caller, delete, post};
use crate::standing::Standing;
use cryptorun_core::command::{Outcome, Renewed};
use cryptorun_core::config::ClusterId;
use cryptorun_core::directive::Directive;
use cryptorun_core::position::Position;
use cryptorun_core::promotion::PromotionId;
use cryptorun_core::report::WorkerReport;
use cryptorun_core::scope::ScopeId;
use cryptorun_core::session::{SessionKey, WorkerAddresses};
use cryptorun_core::time::{Millis, Profile, Timing};
use cryptorun_core::token::Token;
use cryptorun_core::wire::{
    Accepted, HandoverRequest, OpenSessionRequest, ReleaseRequest, RenewAnswer, RenewRequest,
    SessionOpened,
};
use cryptorun_platform::Platform;
use cryptorun_platform::clock::BootTime;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::value::RawValue;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between attempts to open a session while nobody answers.
const OPEN_AGAIN: Duration = Duration::from_millis(500);
/// After a failed attempt at a renewal, before the next endpoint.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// Directive streams are opened again after this.
const STREAM_AGAIN: Duration = Duration::from_millis(300);
/// Renewals away from our own region's node before it is tried first again.
const HOME_EVERY: u64 = 15;
/// An answer to giving something back is asked for this long; then the log will tell by itself.
const GIVE_BACK_FOR: Duration = Duration::from_secs(10);

/// Composes what a renewal carries; it may take a sync of the queue, so it is asked for one.
#[async_trait::async_trait]
pub trait Reporter: Send + Sync {
    async fn report(&self) -> WorkerReport;
}

pub struct Keeper {
    platform: Platform,
    caller: Caller,
    standing: Arc<Standing>,
    reporter: Arc<dyn Reporter>,
    addresses: WorkerAddresses,
    session: Mutex<Option<Session>>,
    /// The log index of the directives that this session has been told.
    directed: Mutex<Option<u64>>,
    session_changed: tokio::sync::watch::Sender<Option<SessionKey>>,
}

#[derive(Clone, Debug)]
struct Session {
    cluster: ClusterId,
    key: SessionKey,
    timing: Timing,
}

/// Why a session has to be replaced.
enum Lost {
    RunOut,
    /// This machine's clock does not keep time: leases counted on it would not stand.
    Barred(String),
    Refused(String),
}

/// What became of giving a lease away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    Committed,
    /// The log shows that it was refused.
    Refused(String),
    /// Nobody said; the token is never used again all the same.
    Unknown,
}

impl Keeper {
    pub fn new(
        platform: Platform,
        caller: Caller,
        standing: Arc<Standing>,
        reporter: Arc<dyn Reporter>,
        addresses: WorkerAddresses,
    ) -> Arc<Self> {
        Arc::new(Self {
            platform,
            caller,
            standing,
            reporter,
            addresses,
            session: Mutex::default(),
            directed: Mutex::default(),
            session_changed: tokio::sync::watch::Sender::new(None),
        })
    }

    /// Keeps a session until `stop`. Does not end it: see [`Keeper::end`].
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let stream = {
            let keeper = Arc::clone(&self);
            let stop = stop.clone();
            let task = Box::pin(async move {
                stop.run_until_cancelled(keeper.follow_directives()).await;
            });
            self.platform.spawn.spawn("directives", task)
        };
        stop.run_until_cancelled(self.keep()).await;
        stream.abort();
    }

    async fn keep(&self) {
        loop {
            self.standing.unbarred().await;
            let session = self.open().await;
            tracing::info!(session = %session.key, cluster = %session.cluster, "session opened");
            let lost = self.renew(session.clone()).await;
            match &lost {
                Lost::RunOut => tracing::warn!(session = %session.key, "a lease ran out"),
                Lost::Barred(why) => {
                    tracing::warn!(session = %session.key, why, "the session is given up");
                }
                Lost::Refused(why) => {
                    tracing::warn!(session = %session.key, why, "the session is over");
                }
            }
            self.standing.closed();
            self.set_session(None);
            // Nothing acts under it any more: its leases are free as soon as this arrives.
            if matches!(lost, Lost::RunOut | Lost::Barred(_)) {
                let call = delete(format!("/v1/sessions/{}", session.key));
                let timeout = session.timing.renew_timeout.to_duration();
                let _: Answer<Box<RawValue>> = self.caller.ask(call, timeout).await;
            }
        }
    }

    async fn open(&self) -> Session {
        // A timeout for someone who does not know the profile yet.
        let timeout = Timing::of(Profile::Wan).renew_timeout.to_duration();
        loop {
            let boot = self.platform.random.next_u64();
            let request = OpenSessionRequest {
                boot: format!("{boot:016x}"),
                addresses: self.addresses.clone(),
            };
            match self.caller.ask::<SessionOpened>(post("/v1/sessions", &request), timeout).await {
                Answer::Done(opened) if opened.renewed.session.boot == boot => {
                    self.standing.opened(&opened.renewed, opened.timing, opened.limits);
                    self.standing.direct(opened.directives);
                    self.set_directed(None);
                    let Renewed { cluster, session: key, .. } = opened.renewed;
                    let session = Session { cluster, key, timing: opened.timing };
                    self.set_session(Some(session.clone()));
                    return session;
                }
                Answer::Done(other) => {
                    tracing::warn!(session = %other.renewed.session, "answer for another session");
                }
                Answer::Refused(problem) => tracing::warn!(%problem.detail, "session refused"),
                Answer::NoAnswer(failed) => tracing::debug!(error = %failed, "no session yet"),
            }
            let jitter = Duration::from_millis(self.platform.random.below(200));
            tokio::time::sleep(OPEN_AGAIN + jitter).await;
        }
    }

    async fn renew(&self, session: Session) -> Lost {
        let every = session.timing.renew_every.to_duration();
        loop {
            let begun = self.platform.clock.boot();
            match self.renew_once(&session).await {
                Err(lost) => {
                    self.standing.renewals().lost.fetch_add(1, Ordering::Relaxed);
                    return lost;
                }
                Ok(seq) if seq.is_multiple_of(HOME_EVERY) => self.caller.go_home(),
                Ok(_) => {}
            }
            // From start to start: what the answer took would be missing when a leader is lost.
            let rest = every.saturating_sub(self.platform.clock.boot() - begun);
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = self.standing.renewal_wanted() => {}
            }
        }
    }

    /// One renewal with all its attempts; its number.
    async fn renew_once(&self, session: &Session) -> Result<u64, Lost> {
        let report = self.reporter.report().await;
        // The clock is read before the first attempt; retries keep its time, since the first may
        // have been committed.
        let seq = self.standing.attempt();
        let request = RenewRequest { cluster: session.cluster, seq, report };
        let known = self.directed();
        let known = known.map_or_else(String::new, |index| format!("?directed={index}"));
        let call = post(format!("/v1/sessions/{}/renew{known}", session.key), &request);
        let timeout = session.timing.renew_timeout.to_duration();
        let (count, first) = (self.caller.control().endpoints().max(1), self.caller.preferred());
        let mut under_way = FuturesUnordered::new();
        for attempt in 0.. {
            if let Some(why) = self.standing.barred() {
                return Err(Lost::Barred(why));
            }
            if self.standing.has_run_out() {
                return Err(Lost::RunOut);
            }
            if under_way.len() < count {
                self.standing.attempt();
                let endpoint = (first + attempt) % count;
                let patience = timeout * u32::try_from(count).unwrap_or(u32::MAX);
                let asked = self.platform.clock.boot();
                let answer = self.caller.once::<RenewAnswer>(endpoint, call.clone(), patience);
                under_way.push(async move { (asked, answer.await) });
            }
            // In time or not, the oldest attempts may be answered first.
            let answer = tokio::time::timeout(timeout, under_way.next()).await;
            if let Ok(Some((asked, answer))) = answer
                && self.heard(asked, answer, timeout)?
            {
                let renewals = self.standing.renewals();
                let count = if attempt == 0 { &renewals.answered } else { &renewals.retried };
                count.fetch_add(1, Ordering::Relaxed);
                return Ok(seq);
            }
            tokio::time::sleep(RETRY_AFTER).await;
            // Nothing held and nobody there: the same renewal goes on being tried.
            self.wait_between(attempt, count).await;
        }
        Err(Lost::RunOut)
    }

    /// Takes an attempt's answer in; whether it was the one that counts.
    fn heard(
        &self,
        asked: BootTime,
        answer: Answer<RenewAnswer>,
        timeout: Duration,
    ) -> Result<bool, Lost> {
        match answer {
            Answer::Done(answer) if self.standing.answered(&answer.renewed) => {
                let round_trip = self.platform.clock.boot() - asked;
                if round_trip <= timeout {
                    // What waited for a leader tells nothing of the clocks.
                    self.standing.set_clock_offset(answer.wall, round_trip);
                }
                self.standing.direct(answer.directives);
                self.set_directed(answer.directed);
                for (scope, why) in &answer.renewed.withheld {
                    tracing::warn!(%scope, ?why, "lease not extended");
                }
                Ok(true)
            }
            Answer::Done(answer) => {
                tracing::warn!(seq = answer.renewed.seq, "answer for another renewal ignored");
                Ok(false)
            }
            Answer::Refused(problem) => Err(Lost::Refused(problem.detail)),
            Answer::NoAnswer(failed) => {
                tracing::debug!(error = %failed, "renewal not answered");
                Ok(false)
            }
        }
    }

    fn directed(&self) -> Option<u64> {
        *self.directed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_directed(&self, index: Option<u64>) {
        *self.directed.lock().unwrap_or_else(PoisonError::into_inner) = index;
    }

    /// After a whole round without an answer, a breath.
    async fn wait_between(&self, attempt: usize, count: usize) {
        if (attempt + 1).is_multiple_of(count) {
            tokio::time::sleep(RETRY_AFTER * 5).await;
        }
    }

    /// Passes a lease on. From here on this token is not used again unless the log refused.
    pub async fn hand_over(
        &self,
        scope: &ScopeId,
        promotion: PromotionId,
        token: Token,
        end: Position,
    ) -> Given {
        self.standing.give_up(scope);
        let request = HandoverRequest { promotion, token, end };
        self.give_back("handover", scope, token, &request).await
    }

    /// Gives a lease back, perhaps asking for it to be kept for this worker's return.
    pub async fn release(
        &self,
        scope: &ScopeId,
        token: Token,
        end: Position,
        keep_for: Option<Millis>,
    ) -> Given {
        self.standing.give_up(scope);
        let keep_for_ms = keep_for.map(|span| span.0);
        let request = ReleaseRequest { scope: scope.clone(), token, end, keep_for_ms };
        self.give_back("release", scope, token, &request).await
    }

    async fn give_back(
        &self,
        verb: &str,
        scope: &ScopeId,
        token: Token,
        request: &impl serde::Serialize,
    ) -> Given {
        let Some(session) = self.current() else { return Given::Unknown };
        let key = format!("{verb}-{}-{}-{token}-{}", scope.tier, scope.group, session.key);
        let path = format!("/v1/sessions/{}/{verb}", session.key);
        let call = Call { idempotency: Some(key), ..post(path, request) };
        let timeout = session.timing.renew_timeout.to_duration();
        let until = self.platform.clock.boot() + GIVE_BACK_FOR;
        while self.platform.clock.boot() < until {
            match self.caller.ask::<Accepted>(call.clone(), timeout).await {
                Answer::Done(Accepted { outcome, index }) => {
                    let granted = matches!(outcome, Outcome::Granted { .. } | Outcome::Done);
                    tracing::info!(%scope, %token, verb, index, granted, "lease given away");
                    self.standing.renew_now();
                    return Given::Committed;
                }
                Answer::Refused(problem) => {
                    tracing::warn!(%scope, %token, verb, why = %problem.detail, "refused");
                    self.standing.refused(scope, token);
                    return Given::Refused(problem.detail);
                }
                Answer::NoAnswer(failed) => {
                    tracing::warn!(%scope, %token, verb, error = %failed, "no answer");
                    tokio::time::sleep(RETRY_AFTER * 5).await;
                }
            }
        }
        Given::Unknown
    }

    /// Ends the session after everything has stopped.
    pub async fn end(&self) {
        let Some(session) = self.current() else { return };
        self.standing.closed();
        let timeout = session.timing.renew_timeout.to_duration();
        let call = delete(format!("/v1/sessions/{}", session.key));
        if let Answer::NoAnswer(failed) = self.caller.ask::<Box<RawValue>>(call, timeout).await {
            tracing::warn!(error = %failed, "session not ended; it runs out by itself");
        }
    }

    pub fn session(&self) -> Option<SessionKey> {
        self.current().map(|session| session.key)
    }

    async fn follow_directives(&self) {
        let mut sessions = self.session_changed.subscribe();
        loop {
            let session = sessions.borrow_and_update().clone();
            let Some(key) = session else {
                if sessions.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let endpoint = self.caller.preferred();
            let control = Arc::clone(self.caller.control());
            if let Some(mut events) = control.directives(endpoint, &key.to_string()).await {
                loop {
                    let event = tokio::select! {
                        event = events.next() => event,
                        _ = sessions.changed() => break,
                    };
                    match event {
                        Some(Ok(event)) => self.standing.direct(directives_in(&event.data)),
                        Some(Err(_)) | None => break,
                    }
                }
            }
            tokio::time::sleep(STREAM_AGAIN).await;
        }
    }

    fn current(&self) -> Option<Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_session(&self, session: Option<Session>) {
        let mut current = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        self.session_changed.send_replace(session.as_ref().map(|session| session.key.clone()));
        *current = session;
    }
}

/// An event carries one directive or a list of them.
fn directives_in(data: &str) -> Vec<Directive> {
    serde_json::from_str::<Vec<Directive>>(data)
        .or_else(|_| serde_json::from_str::<Directive>(data).map(|one| vec![one]))
        .unwrap_or_else(|error| {
            if data.trim_start().starts_with(['{', '[']) {
                tracing::warn!(%error, "a directive cannot be read");
            }
            Vec::new()
        })
}

#[cfg(test)]
mod tests;
