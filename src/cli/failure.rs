//! Why a command did not get its result, by who must act, and what they should do.
//!
//! Mapped to an exit code and to text in this one place. The server's own sentence is shown as it
//! came; hints are data beside it.

use crate::exit::Exit;
use cryptorun_core::wire::Problem;
use std::fmt;

/// An endpoint that gave no usable answer, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// `host:port`.
    pub endpoint: String,
    /// In words.
    pub cause: String,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The caller must say it differently.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What would be right.
        hint: Option<String>,
    },
    /// The cluster said no.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// Nobody answered; nothing was changed.
    #[error("no endpoint answered")]
    Unreachable {
        /// Each, in the order they were tried.
        tried: Vec<Tried>,
        /// What to look at.
        hint: Option<String>,
    },
    /// It was sent, and whether it took effect could not be learnt.
    #[error("outcome unknown: request {key} was sent and no answer came back")]
    Unknown {
        /// The idempotency key it carried.
        key: String,
        /// What was tried since.
        tried: Vec<Tried>,
    },
    /// What was checked is not as it should be.
    #[error("{message}")]
    Check {
        /// What was found.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// Whoever read the output has stopped reading.
    #[error("nobody reads the output any more")]
    BrokenPipe,
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[source] std::io::Error),
}

impl Failure {
    /// Arguments that do not make a request.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::Usage { message: message.to_string(), hint: None }
    }

    /// The same with what would be right.
    pub fn usage_hint(message: impl fmt::Display, hint: impl fmt::Display) -> Self {
        Self::Usage { message: message.to_string(), hint: Some(hint.to_string()) }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage { .. } => Exit::Usage,
            Self::Refused(problem) if is_mistake(problem) => Exit::Usage,
            Self::Refused(_) => Exit::Refused,
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Unknown { .. } => Exit::Unknown,
            Self::Check { .. } | Self::Output(_) => Exit::CheckFailed,
            // `… | head` got what it wanted.
            Self::BrokenPipe => Exit::Done,
        }
    }

    /// What stands on stderr: the word, the sentence, what belongs to it, the hint.
    pub fn text(&self) -> String {
        let word = if self.exit() == Exit::Refused { "refused" } else { "error" };
        let mut text = format!("{word}: {self}\n");
        let mut hint = None;
        match self {
            Self::Usage { hint: h, .. } | Self::Check { hint: h, .. } => hint = h.clone(),
            Self::Refused(problem) => {
                if problem.predicates.iter().any(|p| p.blocks()) {
                    text.push_str(&crate::render::decision::predicates(&problem.predicates));
                }
                for d in &problem.differences {
                    text.push_str(&format!("  {} was {}, is {}\n", d.field, d.bound, d.now));
                }
                hint = problem.hint.clone();
            }
            Self::Unreachable { tried, hint: h } => {
                list(&mut text, tried);
                hint = h.clone();
            }
            Self::Unknown { key, tried } => {
                list(&mut text, tried);
                hint = Some(format!(
                    "it may have taken effect; look with: cryptorun replication history\n\
                     \x20     the same line with --request {key} takes effect at most once"
                ));
            }
            Self::Output(cause) => text.push_str(&format!("  {cause}\n")),
            Self::BrokenPipe => return String::new(),
        }
        if let Some(hint) = hint {
            text.push_str(&format!("hint: {hint}\n"));
        }
        text
    }
}

fn list(text: &mut String, tried: &[Tried]) {
    for one in tried {
        text.push_str(&format!("  {}: {}\n", one.endpoint, one.cause));
    }
}

/// Problems that say the request itself makes no sense, whoever asks and whenever.
const MISTAKES: [&str; 6] =
    ["unknown_region", "no_scope", "invalid", "malformed", "usage", "reason_missing"];

fn is_mistake(problem: &Problem) -> bool {
    problem.status == 400 || MISTAKES.contains(&problem_kind(problem))
}

/// The last part of a problem's `type`: `not_the_holder`.
pub fn problem_kind(problem: &Problem) -> &str {
    problem.kind.rsplit('/').next().unwrap_or_default()
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Output(error),
        }
    }
}
