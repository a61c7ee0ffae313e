//! The mistakes that a model must find: the counterexamples of the protocol's paper model, put back
//! one at a time.
//!
//! None is a line in the product. A mutant changes the environment, what wraps a keeper or a sink, or
//! the machine's records after an entry was applied ([`Mutant::edit`]).

use crate::facts::Fact;
use cryptorun_core::command::{Answer, Command, StepDone, StepFailed};
use cryptorun_core::decide::{Ask, decide};
use cryptorun_core::machine::Machine;
use cryptorun_core::plan::Step;
use cryptorun_core::promotion::{Outcome as Ended, Promotion, State, StepState};
use cryptorun_core::record::Record;
use cryptorun_core::scope::{Phase, Scope};

macro_rules! mutants {
    ($($name:ident = $id:literal, $text:literal;)*) => {
        /// One mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant { $(#[doc = $text] $name,)* }

        impl Mutant {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name on the command line; the number is the counterexample's.
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

mutants! {
    ActWithoutDeadline = "x2-act-without-deadline", "readers and writers do not ask for the deadline";
    LateAnswerRevives = "x7-late-answer-revives", "an answer revives a lease that was given back";
    OthersRelease = "x8-others-release", "somebody other than the holder gives its lease back";
    OpenFrees = "x9-open-frees", "a second start of the identity frees the lease of the first";
    OpenInherits = "x9-open-inherits", "a second start of the identity inherits the lease of the first";
    RestoreGrantsAtOnce = "x10-restore-grants-at-once", "a restored cluster grants without waiting";
    RateBeyondRho = "x14-rate-beyond-rho", "a holder's clock is off by twice rho";
    NoRateAllowance = "x15-no-rate-allowance", "neither span allows for rho";
    ClockBeforeBase = "x16-clock-before-base", "a leader's span counts from before its base";
    OldAnchorKept = "x17-old-anchor-kept", "a node that leads again keeps its old anchor";
    StampBeforeReceipt = "x18-stamp-before-receipt", "a renewal is stamped with a clock read before it was sent";
    DeadlineFromAnswer = "x19-deadline-from-answer", "the deadline counts from the answer";
    RetryResetsTime = "x20-retry-resets-time", "a retry counts from itself";
    AnswerBySeqAlone = "x21-answer-by-seq-alone", "an answer is matched by its number alone";
    TailBeforeSeal = "x3-tail-before-seal", "a sink answers its end before it refuses";
    EverySinkRequired = "x4-every-sink-required", "a plan does not go on without a sink that cannot be reached";
    BarrierIsAFlag = "x5-barrier-is-a-flag", "a barrier stops admission, not the log";
    AbortAfterHandover = "x6-abort-after-handover", "a holder goes on after its hand-over was sent";
    ControllerHandsOver = "x8-controller-hands-over", "the controller hands over, the holder has not stopped";
    SealDuringWrite = "x11-seal-during-write", "a seal does not wait for the write in flight";
    TokenReadAtWrite = "x12-token-read-at-write", "the token is read when writing, not when admitted";
    MaximumInMemory = "x13-maximum-in-memory", "a sink forgets its highest token in a crash";
    SwitchoverUnsealed = "switchover-unsealed", "a switchover goes on without the seal of a holder that fell silent";
    SealNotKept = "seal-not-kept", "a sink answers a seal and goes on as before";
    ForkNotCut = "fork-not-cut", "a former holder keeps what lies beyond its range";
    ApprovalNotBound = "approval-not-bound", "an approval does not bind the assignment it was given for";
    ApprovalNotUsedUp = "approval-not-used-up", "a promotion that is done runs again when the scope moved on";
    ApprovalOutlivesLog = "approval-outlives-log-time", "LogTime does not end an approval";
    ApprovalOutlivesWall = "approval-outlives-wall", "the wall clock does not end an approval";
    OneHumanTwice = "one-human-twice", "one human counts twice, by certificate";
    DenialIgnored = "denial-ignored", "a denied promotion goes on waiting";
    GrantWithoutExpiry = "grant-without-expiry", "a lease is over as soon as time is noticed to pass";
}

impl Mutant {
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mutant| mutant.id() == name)
    }

    /// What a mistake that only holds things up keeps a run from reaching.
    pub fn hides(self) -> Option<Fact> {
        (self == Self::EverySinkRequired).then_some(Fact::GrantWithUnsealedSink)
    }

    /// Changes the machine after an entry, as the mistake would have.
    pub fn edit(self, before: &Machine, command: &Command, answer: &Answer, after: &mut Machine) {
        let accepted = answer.is_ok();
        match (self, command) {
            (Self::OpenFrees, Command::OpenSession(open)) if accepted => {
                let sibling = |scope: &Scope| {
                    scope.lease.as_ref().is_some_and(|l| l.holder.worker == open.session.worker)
                };
                change_scopes(after, |scope| {
                    if sibling(scope) {
                        (scope.lease, scope.phase) = (None, Phase::Vacant);
                    }
                });
            }
            (Self::OpenInherits, Command::OpenSession(open)) if accepted => {
                change_scopes(after, |scope| {
                    if let Some(lease) = &mut scope.lease
                        && lease.holder.worker == open.session.worker
                    {
                        lease.holder = open.session.clone();
                    }
                });
            }
            (Self::GrantWithoutExpiry, Command::Tick) if before.now() != after.now() => {
                change_scopes(after, |scope| {
                    (scope.lease, scope.phase) = (None, Phase::Vacant);
                });
            }
            (Self::EverySinkRequired, Command::StepDone(done)) if done.step == Step::Seal => {
                let unsealed = |scope: &Scope| {
                    scope.reservation.as_ref().is_some_and(|r| !r.unsealed.is_empty())
                };
                if after.scopes().values().any(unsealed) {
                    after.clone_from(before);
                }
            }
            (Self::ApprovalNotBound, _) => bind_anew(after),
            (Self::ApprovalNotUsedUp, Command::StepDone(done)) if accepted => {
                run_again(done, after);
            }
            (Self::ApprovalOutlivesLog, Command::RequestPromotion(_)) => {
                change_promotions(after, |promotion| promotion.expires_log.0 += 1 << 32);
            }
            (Self::ApprovalOutlivesWall, Command::RequestPromotion(_)) => {
                change_promotions(after, |promotion| promotion.expires_wall.0 += 1 << 32);
            }
            (Self::DenialIgnored, Command::Deny(_)) if accepted => {
                change_promotions(after, |promotion| {
                    if let State::Ended(Ended::Denied { .. }) = promotion.state {
                        promotion.state = State::Waiting;
                        promotion.ended = None;
                    }
                });
            }
            (Self::SwitchoverUnsealed, Command::StepFailed(failed)) if accepted => {
                seal_without_holder(before, failed, after);
            }
            _ => {}
        }
    }
}

/// As if the sinks that did answer had been enough.
fn seal_without_holder(before: &Machine, failed: &StepFailed, after: &mut Machine) {
    let Some(mut promotion) = before.promotions().get(&failed.promotion).cloned() else { return };
    let Some(mut scope) = before.scopes().get(&promotion.scope).cloned() else { return };
    let Some(mut reservation) = scope.reservation.clone() else { return };
    let ends = before.seals(&scope, &reservation);
    if failed.step != Step::Seal || ends.len() < scope.policy.sinks_needed() {
        return;
    }
    reservation.required = ends.keys().cloned().collect();
    reservation.sealed = ends;
    scope.reservation = Some(reservation);
    for record in promotion.steps.iter_mut().filter(|record| record.step == Step::Seal) {
        record.state = StepState::Done { note: String::new() };
    }
    after.load(Record::Scope(scope));
    after.load(Record::Promotion(promotion));
}

fn change_scopes(machine: &mut Machine, change: impl Fn(&mut Scope)) {
    for mut scope in machine.scopes().values().cloned().collect::<Vec<_>>() {
        change(&mut scope);
        machine.load(Record::Scope(scope));
    }
}

fn change_promotions(machine: &mut Machine, change: impl Fn(&mut Promotion)) {
    for mut promotion in machine.promotions().values().cloned().collect::<Vec<_>>() {
        change(&mut promotion);
        machine.load(Record::Promotion(promotion));
    }
}

/// What is bound becomes what is, for promotions that are open.
fn bind_anew(machine: &mut Machine) {
    for mut promotion in machine.promotions().values().cloned().collect::<Vec<_>>() {
        if promotion.is_open() {
            bind(machine, &mut promotion);
            machine.load(Record::Promotion(promotion));
        }
    }
}

fn bind(machine: &Machine, promotion: &mut Promotion) {
    let Ok(decision) = decide(machine, &Ask::of(promotion)) else { return };
    let version = machine.scopes().get(&promotion.scope).map(|scope| scope.assignment_version);
    promotion.bound.assignment_version = version.unwrap_or_default();
    promotion.bound.plan = decision.plan.hash();
    promotion.from = decision.from.clone();
    promotion.bound.from = decision.from;
    promotion.plan = decision.plan;
}

/// The end of one promotion sets those that were done before it going again.
fn run_again(done: &StepDone, machine: &mut Machine) {
    if done.step != Step::Report {
        return;
    }
    for mut promotion in machine.promotions().values().cloned().collect::<Vec<_>>() {
        if promotion.state != State::Ended(Ended::Done) || promotion.id == done.promotion {
            continue;
        }
        bind(machine, &mut promotion);
        promotion.state = State::Running;
        (promotion.token, promotion.start, promotion.barrier) = (None, None, None);
        for record in &mut promotion.steps {
            (record.state, record.started) = (StepState::Pending, None);
        }
        machine.load(Record::Promotion(promotion));
    }
}
