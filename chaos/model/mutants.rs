//! The mistakes that a model must find: the counterexamples of the protocol's paper model, put back
//! one at a time.
//!
//! None is a line in the product. A mutant changes the environment, what wraps a keeper or a sink, or
//! the machine's records after an entry was applied ([`Mutant::edit`]).

use cryptorun_core::command::{Answer, Command, StepFailed};
use cryptorun_core::machine::Machine;
use cryptorun_core::plan::Step;
use cryptorun_core::promotion::StepState;
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
    BarrierIsAFlag = "x5-barrier-is-a-flag", "a barrier stops admission, not the log";
    AbortAfterHandover = "x6-abort-after-handover", "a holder goes on after its hand-over was sent";
    ControllerHandsOver = "x8-controller-hands-over", "the controller hands over, the holder has not stopped";
    SealDuringWrite = "x11-seal-during-write", "a seal does not wait for the write in flight";
    TokenReadAtWrite = "x12-token-read-at-write", "the token is read when writing, not when admitted";
    MaximumInMemory = "x13-maximum-in-memory", "a sink forgets its highest token in a crash";
    SwitchoverUnsealed = "switchover-unsealed", "a switchover goes on without the seal of a holder that fell silent";
    SealNotKept = "seal-not-kept", "a sink answers a seal and goes on as before";
    ForkNotCut = "fork-not-cut", "a former holder keeps what lies beyond its range";
    GrantWithoutExpiry = "grant-without-expiry", "a lease is over as soon as time is noticed to pass";
}

impl Mutant {
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mutant| mutant.id() == name)
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
