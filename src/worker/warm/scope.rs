//! One scope at one worker: does what the directive says, and writes only while the lease lives.
//!
//! The directive is where to go, the lease is what allows it. Before anything else each new
//! directive's reigns are acknowledged: the fence goes up and what lies beyond a later reign's
//! start is cut. Then: follow, seal, fetch a tail, reign, hand over, or wait.
//!
//! What always holds:
//!  1. nothing is applied, served as a tail or written before the reigns known are acknowledged;
//!  2. a restrictive directive interrupts whatever waits; `Primary` alone allows nothing.

use super::batch::Kind;
use super::feeder::Feeder;
use super::primary::{End, Reign};
use super::regions::Regions;
use super::replicate::{Follower, Step};
use crate::keeper::{Given, Keeper};
use crate::sink::Sink;
use crate::standing::Standing;
use cryptorun_core::directive::{Directive, HandOver, Want};
use cryptorun_core::position::Position;
use cryptorun_core::region::RegionName;
use cryptorun_core::scope::Role;
use cryptorun_core::time::WallTime;
use cryptorun_core::token::Token;
use cryptorun_platform::Platform;
use cryptorun_platform::clock::BootTime;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// While there is nothing to do but wait for news.
const WAIT: Duration = Duration::from_millis(500);
/// After something failed that will be tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// Records behind a source that count as level.
const LEVEL_WITHIN: u64 = 1;

/// What reports say of a scope beyond what its sink knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub role: Role,
    /// The directive it obeys.
    pub rev: u64,
    /// Written or followed under.
    pub token: Token,
    pub barrier: Option<Position>,
    pub input: WallTime,
    /// When a holder that works has written its next batch; none where none is due.
    pub due: Option<BootTime>,
    /// Behind the source that last answered, in records.
    pub records_behind: u64,
}

/// What the acts of one scope share.
pub struct Parts {
    pub platform: Platform,
    pub sink: Sink,
    pub standing: Arc<Standing>,
    pub keeper: Arc<Keeper>,
    pub regions: Arc<Regions>,
    pub status: watch::Sender<Status>,
    pub seal_every: Duration,
}

impl Parts {
    pub fn set_rev(&self, rev: u64) {
        set_rev(&self.status, rev);
    }

    /// Seals the own sink and passes the lease on behind a barrier; none when it is not held, or the
    /// chain does not end with that barrier.
    pub async fn hand_over(&self, over: &HandOver) -> Option<Given> {
        let HandOver { promotion, token, end, seal } = *over;
        let sealed = match seal {
            Some(above) => self.seal(above).await,
            None => false,
        };
        let report = async {
            if sealed {
                self.standing.renew_now();
            }
        };
        let view = self.sink.view();
        let behind =
            view.last.is_some_and(|last| last.kind == Kind::Barrier && last.token == token);
        let holds = self.standing.holds(self.sink.scope()).is_some_and(|held| held.token == token);
        if view.end != end || !behind || !holds {
            report.await;
            return None;
        }
        // First the hand-over: when the leader hears of the last seal, the lease is to be gone.
        let given = self.keeper.hand_over(self.sink.scope(), promotion, token, end);
        Some(tokio::join!(given, report).0)
    }

    /// Whether the sink was sealed for this token now.
    async fn seal(&self, token: Token) -> bool {
        if self.sink.view().sealed.is_some_and(|sealed| sealed.token == token) {
            return false;
        }
        match self.sink.seal(token).await {
            Ok(sealed) => {
                let (scope, end) = (self.sink.scope(), sealed.end.seq);
                tracing::info!(%scope, %token, end, "sealed");
                true
            }
            Err(error) => {
                tracing::warn!(scope = %self.sink.scope(), %error, "not sealed");
                false
            }
        }
    }
}

pub struct ScopeWorker {
    parts: Parts,
    feeder: Feeder,
    follower: Follower,
    /// Records were cut: on the way back until level again.
    rejoining: bool,
    /// Why the reigns were not acknowledged, and the data is said to be degraded.
    unacknowledged: Option<String>,
}

impl ScopeWorker {
    pub fn new(parts: Parts, feeder: Feeder) -> Self {
        let follower = Follower::new(parts.sink.clone(), Arc::clone(&parts.regions));
        Self { parts, feeder, follower, rejoining: false, unacknowledged: None }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let standing = Arc::clone(&self.parts.standing);
            let scope = self.parts.sink.scope().clone();
            match standing.directive(&scope) {
                Some(directive) => {
                    let status = self.parts.status.clone();
                    let news = news(&standing, &status, &directive, &stop);
                    self.act(directive.clone(), &stop, news).await;
                }
                None => {
                    let mut directives = standing.watch_directives();
                    tokio::select! {
                        _ = directives.changed() => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        }
    }

    async fn act(
        &mut self,
        directive: Directive,
        stop: &CancellationToken,
        news: impl Future<Output = ()>,
    ) {
        self.parts.regions.learn(&directive);
        self.parts.set_rev(directive.rev);
        match self.parts.sink.acknowledge(directive.reigns.clone()).await {
            Ok(cut) => {
                if let Some(why) = self.unacknowledged.take() {
                    self.parts.sink.take_back(&why);
                }
                if cut {
                    self.rejoining = true;
                    let token = self.parts.status.borrow().token; // Not borrowed while it is set.
                    self.set_role(Role::Rejoining, token);
                    self.parts.standing.renew_now();
                }
            }
            // A seal above the last grant is on: the directive says what to do about it.
            Err(crate::sink::SinkError::Fenced { .. }) => {}
            Err(error) => {
                tracing::error!(scope = %directive.scope, %error, "reigns not acknowledged");
                self.unacknowledged = Some(error.to_string());
                self.parts.sink.set_degraded(self.unacknowledged.clone());
                return wait(news).await;
            }
        }
        let held = self.parts.standing.holds(&directive.scope);
        match &directive.want {
            Want::Idle => {
                self.set_role(Role::CatchingUp, Token::NONE);
                wait(news).await;
            }
            Want::Primary { token, start } => match held {
                Some(held) if held.token == *token => {
                    self.reign(&directive, *token, *start, stop, news).await;
                }
                _ => {
                    self.parts.standing.renew_now();
                    wait(news).await;
                }
            },
            Want::Drain { token, .. } => match held {
                Some(held) if held.token == *token => {
                    self.reign(&directive, *token, held.start, stop, news).await;
                }
                _ => wait(news).await,
            },
            Want::HandOver(over) => {
                self.parts.hand_over(over).await;
                wait(news).await;
            }
            Want::Replica { upstream, token } => {
                if let Some(held) = held.filter(|held| held.token <= *token) {
                    // It stopped to get here; the next holder need not wait for the lease to end.
                    let end = self.parts.sink.view().end;
                    self.parts.keeper.release(&directive.scope, held.token, end, None).await;
                }
                self.follow(&directive, upstream.as_ref(), *token, news).await;
            }
            Want::Seal { token } => {
                self.seal(*token).await;
                wait(news).await;
            }
            Want::FetchTail { token, to, from } => {
                self.fetch_tail(*token, *to, from, news).await;
            }
        }
    }

    async fn reign(
        &mut self,
        directive: &Directive,
        token: Token,
        start: Position,
        stop: &CancellationToken,
        news: impl Future<Output = ()>,
    ) {
        let view = self.parts.sink.view();
        let goes_on = view.last.is_some_and(|last| last.token == token);
        if !goes_on && view.end != start {
            // The grant says that we have it all; what is missing comes from the others.
            return self.follow(directive, None, token, news).await;
        }
        let reign = Reign::new(&self.parts, &mut self.feeder, token);
        let end = reign.run(stop).await;
        let role = match end {
            End::Fenced => Role::Fenced,
            _ => Role::CatchingUp,
        };
        if let End::Failed(why) = &end {
            tracing::error!(scope = %directive.scope, why, "reign failed");
            tokio::time::sleep(PAUSE).await;
        }
        self.parts.status.send_modify(|status| status.role = role);
        // Directed: what it does next is told with it, a seal above all. A renewal on its way already
        // would hold that back by a round trip and a commit.
        if end != End::Directed {
            self.parts.standing.renew_now();
        }
    }

    async fn seal(&mut self, token: Token) {
        if self.parts.seal(token).await {
            self.parts.standing.renew_now();
        }
    }

    async fn fetch_tail(
        &mut self,
        token: Token,
        to: Position,
        from: &[RegionName],
        news: impl Future<Output = ()>,
    ) {
        self.seal(token).await;
        if self.parts.sink.view().end == to {
            return wait(news).await;
        }
        tokio::select! {
            fetched = self.follower.tail(token, to, from) => match fetched {
                Ok(()) => {
                    tracing::info!(scope = %self.parts.sink.scope(), %token, end = to.seq, "tail fetched");
                    self.parts.standing.renew_now();
                }
                Err(why) => {
                    tracing::warn!(scope = %self.parts.sink.scope(), why, "tail not fetched");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            () = news => {}
        }
    }

    /// Follows until there is news.
    async fn follow(
        &mut self,
        directive: &Directive,
        upstream: Option<&RegionName>,
        token: Token,
        news: impl Future<Output = ()>,
    ) {
        let own = self.parts.sink.region().clone();
        let upstream = upstream.filter(|region| **region != own);
        if self.parts.status.borrow().token != token {
            let role = if self.rejoining { Role::Rejoining } else { Role::CatchingUp };
            self.set_role(role, token);
        }
        tokio::pin!(news);
        loop {
            let step = {
                // Asked once, whatever comes from the venue meanwhile.
                let step = self.follower.step(directive, upstream);
                tokio::pin!(step);
                loop {
                    tokio::select! {
                        step = &mut step => break step,
                        events = self.feeder.next(), if self.feeder.has_room() => {
                            if let Ok(events) = events {
                                let _ = self.feeder.apply(&self.parts.sink, events).await;
                            }
                        }
                        () = &mut news => return,
                    }
                }
            };
            self.stepped(step, token).await;
        }
    }

    async fn stepped(&mut self, step: Step, token: Token) {
        let view = self.parts.sink.view();
        let behind = self.follower.source_end.seq.saturating_sub(view.end.seq);
        self.parts.status.send_if_modified(|status| {
            std::mem::replace(&mut status.records_behind, behind) != behind
        });
        match step {
            Step::Applied { turning, .. } => {
                self.feeder.followed(view.last.map(|last| last.watermark).unwrap_or_default());
                let was = self.parts.status.borrow().role;
                self.level(behind, token);
                if turning || was != self.parts.status.borrow().role {
                    self.parts.standing.renew_now();
                }
            }
            Step::Level => self.level(behind, token),
            Step::NotGranted => {
                self.parts.standing.renew_now();
                tokio::time::sleep(PAUSE).await;
            }
            Step::Sealed => tokio::time::sleep(PAUSE).await,
            Step::Failed(why) => {
                tracing::debug!(scope = %self.parts.sink.scope(), why, "source left");
                tokio::time::sleep(PAUSE / 5).await;
            }
            Step::Diverged(seq) => {
                let why = format!("histories differ at record {seq}");
                tracing::error!(scope = %self.parts.sink.scope(), why, "divergence");
                self.parts.sink.set_degraded(Some(why));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn level(&mut self, behind: u64, token: Token) {
        if behind <= LEVEL_WITHIN {
            self.rejoining = false;
            self.parts.sink.set_degraded(None);
            self.set_role(Role::Replica, token);
        } else if self.parts.status.borrow().role == Role::Replica {
            self.set_role(Role::CatchingUp, token);
        }
    }

    fn set_role(&self, role: Role, token: Token) {
        self.parts.status.send_if_modified(|status| {
            let changed = status.role != role || status.token != token;
            (status.role, status.token) = (role, token);
            if role != Role::Primary && changed {
                status.barrier = None;
            }
            changed
        });
    }
}

/// Returns when what the scope's directive says, or what is held of it, is no longer as it was. A
/// later number on the same words is obeyed as it stands: a question under way is not asked anew.
async fn news(
    standing: &Standing,
    status: &watch::Sender<Status>,
    acted_on: &Directive,
    stop: &CancellationToken,
) {
    let scope = &acted_on.scope;
    let mut directives = standing.watch_directives();
    let mut changes = standing.watch_changes();
    let held = standing.holds(scope).map(|held| held.token);
    loop {
        directives.borrow_and_update();
        changes.borrow_and_update();
        let said = standing.directive(scope).filter(|said| said.says_what(acted_on));
        let Some(said) = said.filter(|_| standing.holds(scope).map(|h| h.token) == held) else {
            return;
        };
        set_rev(status, said.rev);
        tokio::select! {
            _ = directives.changed() => {}
            _ = changes.changed() => {}
            () = stop.cancelled() => return,
        }
    }
}

fn set_rev(status: &watch::Sender<Status>, rev: u64) {
    status.send_if_modified(|status| std::mem::replace(&mut status.rev, rev) != rev);
}

/// Waits for news, and no longer than is good for trying again.
async fn wait(news: impl Future<Output = ()>) {
    let _ = tokio::time::timeout(WAIT, news).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptorun_core::scope::{ScopeId, Tier};
    use cryptorun_platform::clock::ManualClock;
    use futures_util::FutureExt;

    fn replica(rev: u64, token: Token) -> Directive {
        let scope = ScopeId::new(Tier::Warm, "global");
        let want = Want::Replica { upstream: None, token };
        Directive { scope, rev, want, reigns: Vec::new(), peers: Vec::new() }
    }

    #[test]
    fn the_same_words_under_a_later_number_interrupt_nothing_and_are_reported() {
        let standing = Standing::new(Arc::new(ManualClock::new(WallTime(0))));
        let (status, stop) = (watch::Sender::new(Status::default()), CancellationToken::new());
        let first = replica(1, Token::NONE);
        standing.direct(vec![first.clone()]);
        let mut news = Box::pin(news(&standing, &status, &first, &stop));
        assert_eq!(news.as_mut().now_or_never(), None);
        standing.direct(vec![replica(2, Token::NONE)]);
        assert_eq!(news.as_mut().now_or_never(), None);
        assert_eq!(status.borrow().rev, 2);
        standing.direct(vec![replica(3, Token { incarnation: 0, epoch: 1 })]);
        assert_eq!(news.as_mut().now_or_never(), Some(()));
        assert_eq!(status.borrow().rev, 2, "whoever acts on it says so");
    }
}
