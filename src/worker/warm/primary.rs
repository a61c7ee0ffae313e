//! A reign: writing under a lease, until something takes it away.
//!
//! The first record opens the reign at once, so that the pause a switchover costs ends with it and
//! not with the first full batch. Then a batch is sealed every interval, a heartbeat when nothing
//! came. Drained, it stops admission and seals a barrier as its token's last record; it resumes by
//! its own clock if nothing further came and no hand-over was sent.
//!
//! What always holds:
//!  1. every write carries the token the reign began with, and asks about its lease just before
//!     and just after;
//!  2. once a hand-over or release was sent, nothing is written any more unless the log refused.
//!
//! Next: `scope.rs` for how a reign begins.

use super::batch::{Batch, Header, Kind};
use super::feeder::{Feeder, FeederError, Ready};
use super::scope::{Parts, Status};
use crate::keeper::Given;
use crate::sink::SinkError;
use cryptorun_core::directive::{Directive, HandOver, Want};
use cryptorun_core::position::Position;
use cryptorun_core::promotion::PromotionId;
use cryptorun_core::scope::Role;
use cryptorun_core::time::{Millis, WallTime};
use cryptorun_core::token::Token;
use cryptorun_platform::clock::BootTime;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Given back at a planned stop; the scope waits this long for our return.
const KEEP_FOR: Millis = Millis::secs(60);
/// Behind a barrier that an earlier turn sealed.
const RESUME_AFTER: Duration = Duration::from_secs(30);
/// Looked at even if nobody says that something changed: a deadline may have passed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why a reign ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The lease ran out, or was taken away.
    RunOut,
    /// Somebody else is meant to write, or nobody.
    Directed,
    /// A higher token was shown to the sink.
    Fenced,
    HandedOver,
    Released,
    /// The disk or the data failed.
    Failed(String),
}

pub struct Reign<'a> {
    parts: &'a Parts,
    feeder: &'a mut Feeder,
    token: Token,
    opened_at: WallTime,
    drained: Option<Drained>,
    /// Resumed by the own clock: this promotion's drain is not begun again.
    given_up: Option<PromotionId>,
}

struct Drained {
    barrier: Position,
    resume_at: BootTime,
    promotion: Option<PromotionId>,
}

impl<'a> Reign<'a> {
    pub fn new(parts: &'a Parts, feeder: &'a mut Feeder, token: Token) -> Self {
        let opened_at = parts.platform.clock.wall();
        Self { parts, feeder, token, opened_at, drained: None, given_up: None }
    }

    pub async fn run(mut self, stop: &CancellationToken) -> End {
        let end = match self.go(stop).await {
            Ok(end) => end,
            Err(error) => ended_by(error),
        };
        if matches!(end, End::RunOut | End::Fenced) {
            self.keep_in_flight().await;
        }
        self.feeder.end();
        self.parts.status.send_modify(|status| status.due = None);
        let scope = self.parts.sink.scope();
        tracing::warn!(%scope, token = %self.token, ?end, "reign over");
        end
    }

    async fn go(&mut self, stop: &CancellationToken) -> Result<End, FeederError> {
        let (scope, token) = (self.parts.sink.scope().clone(), self.token);
        let mut directives = self.parts.standing.watch_directives();
        let mut changes = self.parts.standing.watch_changes();
        let due = self.next_due();
        self.parts.status.send_modify(|status| status.due = Some(due));
        if self.parts.sink.view().last.is_none_or(|last| last.token != token) {
            self.write(Kind::EpochStart, empty()).await?;
        } else if self.last_kind() == Some(Kind::Barrier) {
            // The directive decides below whether it goes on or is handed over.
            self.parts.status.send_modify(|status| status.due = None);
            self.drained = Some(Drained {
                barrier: self.parts.sink.view().end,
                resume_at: self.parts.platform.clock.boot() + RESUME_AFTER,
                promotion: None,
            });
        }
        tracing::info!(%scope, %token, "reign begins");
        self.say(Role::Primary);
        self.feeder.begin(&self.parts.sink).await?;
        self.feeder.take_all(&self.parts.sink).await?;
        let mut tick =
            tokio::time::interval_at(Instant::now() + self.parts.seal_every, self.parts.seal_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(end) = self.look().await? {
                return Ok(end);
            }
            tokio::select! {
                () = stop.cancelled() => return self.release().await,
                events = self.feeder.next(), if self.drained.is_none() => {
                    self.feeder.apply(&self.parts.sink, events?).await?;
                }
                _ = tick.tick() => self.seal_batch().await?,
                _ = directives.changed() => {}
                _ = changes.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// What the lease, the directive and the own clock say now.
    async fn look(&mut self) -> Result<Option<End>, FeederError> {
        let parts = self.parts;
        if parts.standing.holds(parts.sink.scope()).is_none_or(|held| held.token != self.token) {
            return Ok(Some(End::RunOut));
        }
        let Some(directive) = parts.standing.directive(parts.sink.scope()) else {
            return Ok(None);
        };
        let newer = directive.reigns.last().is_some_and(|reign| reign.token > self.token);
        parts.set_rev(directive.rev);
        match self.wanted(&directive) {
            _ if newer => return Ok(Some(End::Directed)),
            Wanted::Write => self.resume_if_due(true).await?,
            Wanted::Drain { promotion, deadline } => {
                if self.drained.is_none() && self.given_up != Some(promotion) {
                    self.drain(Some(promotion), deadline).await?;
                }
                self.resume_if_due(false).await?;
            }
            Wanted::HandOver(over) => return Ok(Some(self.hand_over(&over).await)),
            Wanted::Stop => return Ok(Some(End::Directed)),
        }
        Ok(None)
    }

    fn wanted(&self, directive: &Directive) -> Wanted {
        match &directive.want {
            Want::Primary { token, .. } if *token == self.token => Wanted::Write,
            // Not told of this grant yet: the lease speaks for itself.
            Want::Primary { token, .. } | Want::Replica { token, .. } if *token < self.token => {
                Wanted::Write
            }
            Want::Drain { token, deadline, promotion } if *token == self.token => {
                Wanted::Drain { promotion: *promotion, deadline: *deadline }
            }
            Want::HandOver(over) if over.token == self.token => Wanted::HandOver(*over),
            Want::Seal { token } if *token <= self.token => Wanted::Write,
            _ => Wanted::Stop,
        }
    }

    async fn seal_batch(&mut self) -> Result<(), FeederError> {
        if self.drained.is_some() {
            return Ok(());
        }
        self.feeder.take_all(&self.parts.sink).await?;
        let ready = self.feeder.drain(self.watermark());
        let kind = if ready.rows.is_empty() { Kind::Heartbeat } else { Kind::Data };
        self.write(kind, ready).await
    }

    /// Stops admission, seals what is there as the barrier, and says so at once. One record: of two,
    /// the second would reach the others a round trip later.
    async fn drain(
        &mut self,
        promotion: Option<PromotionId>,
        deadline: Millis,
    ) -> Result<(), FeederError> {
        self.feeder.take_all(&self.parts.sink).await?;
        let ready = self.feeder.drain(self.watermark());
        self.write(Kind::Barrier, ready).await?;
        let barrier = self.parts.sink.view().end;
        let resume_at = self.parts.platform.clock.boot() + deadline.to_duration();
        self.drained = Some(Drained { barrier, resume_at, promotion });
        tracing::info!(scope = %self.parts.sink.scope(), seq = barrier.seq, "barrier sealed");
        self.say(Role::Primary);
        Ok(())
    }

    /// Goes on behind a barrier: told to, or because nothing further came.
    async fn resume_if_due(&mut self, told: bool) -> Result<(), FeederError> {
        let now = self.parts.platform.clock.boot();
        if self.drained.as_ref().is_some_and(|drained| told || now >= drained.resume_at) {
            self.write(Kind::Reopen, empty()).await?;
            self.given_up = self.drained.take().and_then(|drained| drained.promotion);
            self.say(Role::Primary);
        }
        Ok(())
    }

    async fn hand_over(&self, over: &HandOver) -> End {
        match self.parts.hand_over(over).await {
            Some(Given::Committed | Given::Unknown) => End::HandedOver,
            // For a barrier that is not the end any more; or the lease is listed again by the next
            // renewal, if it lives, and a new reign resumes.
            None | Some(Given::Refused(_)) => End::Directed,
        }
    }

    /// A planned stop: everything sealed, given back, kept for our return.
    async fn release(&mut self) -> Result<End, FeederError> {
        if self.drained.is_none() {
            self.drain(None, KEEP_FOR).await?;
        }
        let parts = self.parts;
        let end = parts.sink.view().end;
        parts.keeper.release(parts.sink.scope(), self.token, end, Some(KEEP_FOR)).await;
        Ok(End::Released)
    }

    /// What was admitted under a lease that is over goes into a fork: counted, never visible. The
    /// queue still has its trades.
    async fn keep_in_flight(&mut self) {
        let ready = self.feeder.drain(self.watermark());
        if ready.rows.is_empty() || self.drained.is_some() {
            return;
        }
        let (token, make) = (self.token, self.maker(Kind::Data, &ready));
        let rows = ready.rows;
        let kept = self.parts.sink.keep_late(token, move |prev| make(prev, rows)).await;
        if let Err(error) = kept {
            tracing::warn!(%error, "what was in flight is not kept");
        }
    }

    async fn write(&mut self, kind: Kind, ready: Ready) -> Result<(), FeederError> {
        let parts = self.parts;
        let lives = parts.standing.lives(parts.sink.scope(), self.token);
        let (make, upto, rows) = (self.maker(kind, &ready), ready.upto, ready.rows);
        let has_rows = !rows.is_empty();
        parts.sink.write(self.token, move |prev| make(prev, rows), lives).await?;
        if has_rows {
            self.feeder.sealed(upto);
        }
        self.opened_at = parts.platform.clock.wall();
        let due = (kind != Kind::Barrier).then(|| self.next_due());
        parts.status.send_modify(|status| {
            status.input = self.feeder.input();
            status.due = due;
        });
        Ok(())
    }

    fn maker(
        &self,
        kind: Kind,
        ready: &Ready,
    ) -> impl FnOnce(Position, Vec<crate::candle::Candle>) -> Batch + Send + 'static {
        let (token, opened_at) = (self.token, self.opened_at);
        let (sealed_at, watermark) =
            (self.parts.platform.clock.wall(), ready.watermark.max(self.watermark()));
        move |prev, rows| {
            let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
            let header = Header { token, prev, kind, opened_at, sealed_at, watermark, rows: count };
            Batch { header, rows }
        }
    }

    fn watermark(&self) -> WallTime {
        self.parts.sink.view().last.map(|last| last.watermark).unwrap_or_default()
    }

    fn last_kind(&self) -> Option<Kind> {
        self.parts.sink.view().last.map(|last| last.kind)
    }

    /// Twice the time between two batches from now: whoever has not written by then hangs.
    fn next_due(&self) -> BootTime {
        self.parts.platform.clock.boot() + self.parts.seal_every * 2
    }

    /// Changes what reports say, and asks for one at once.
    fn say(&self, role: Role) {
        let barrier = self.drained.as_ref().map(|drained| drained.barrier);
        let (token, input) = (self.token, self.feeder.input());
        self.parts.status.send_modify(|status| {
            *status = Status { role, token, barrier, input, ..status.clone() };
        });
        self.parts.standing.renew_now();
    }
}

enum Wanted {
    Write,
    Drain { promotion: PromotionId, deadline: Millis },
    HandOver(HandOver),
    Stop,
}

fn empty() -> Ready {
    Ready { rows: Vec::new(), watermark: WallTime::default(), upto: Default::default() }
}

fn ended_by(error: FeederError) -> End {
    match error {
        FeederError::Sink(SinkError::Late { .. }) => End::RunOut,
        FeederError::Sink(SinkError::Fenced { .. } | SinkError::Sealed { .. }) => End::Fenced,
        other => End::Failed(other.to_string()),
    }
}
