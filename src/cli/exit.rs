//! What a script may branch on. The numbers are a promise, listed in `docs/cli.md`.

use cryptorun_core::promotion::{Outcome, State};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; a dry run would go.
    Done = 0,
    /// A check failed: what was looked at is not as it should be.
    CheckFailed = 1,
    /// The arguments do not make a request.
    Usage = 2,
    /// Answered: no. Retrying changes nothing.
    Refused = 3,
    /// Nobody answered, and nothing was changed. Safe to retry.
    Unreachable = 4,
    /// It may have taken effect. Ask before retrying.
    Unknown = 5,
    /// Accepted, not over: it waits for people or for its steps.
    Pending = 6,
    /// It was undone; the scope is as it was or vacant.
    RolledBack = 7,
    /// `node`, `worker`, `demo`: something prevents the start.
    CannotStart = 8,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What a promotion in this state means to whoever waited for it.
    pub fn of(state: &State) -> Self {
        match state {
            State::Waiting | State::Running => Self::Pending,
            State::Ended(Outcome::Done) => Self::Done,
            State::Ended(Outcome::RolledBack { .. }) => Self::RolledBack,
            State::Ended(
                Outcome::Superseded { .. }
                | Outcome::Denied { .. }
                | Outcome::Cancelled { .. }
                | Outcome::Expired
                | Outcome::Void { .. },
            ) => Self::Refused,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
