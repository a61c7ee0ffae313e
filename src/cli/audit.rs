//! `cryptorun audit`: who changed what, and the proof that nobody edited it since.

mod export;
pub mod file;
mod list;
mod prove;
mod report;
mod source;
mod verify;
mod who;

pub use prove::Proof;
pub use report::{Phase, Report};
pub use verify::FileVerdict;
pub use who::Acts;

use crate::Ended;
use crate::args::Format;
use crate::context::Context;
use crate::screen::Screen;
use clap::Subcommand;
use source::Gap;

/// Entries that a node hands out at once.
const PAGE_MAX: u64 = 1000;

/// The verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// List entries, oldest first
    List(list::List),
    /// Follow the hash chain, the cluster's or an export's; exits 1 where it breaks
    Verify(verify::Verify),
    /// Tell one promotion from request to outcome
    Report(report::Of),
    /// Show everything an identity did or was refused
    Who(who::Who),
    /// Write a range of the audit into a file that proves itself
    Export(export::Export),
    /// Prove from an export that an entry stands under a head you trust
    Prove(prove::Prove),
}

impl Verb {
    /// Whether it speaks to no cluster.
    pub fn is_offline(&self) -> bool {
        match self {
            Self::List(_) | Self::Export(_) => false,
            Self::Verify(args) => args.file.is_some(),
            Self::Report(args) => args.file.is_some(),
            Self::Who(args) => args.file.is_some(),
            Self::Prove(_) => true,
        }
    }
}

pub async fn run(verb: Verb, context: &mut Context) -> Ended {
    match verb {
        Verb::List(args) => list::run(args, context).await,
        Verb::Verify(_) => verify::run(context).await,
        Verb::Report(args) => report::run(args, context).await,
        Verb::Who(args) => who::run(args, context).await,
        Verb::Export(args) => export::run(args, context).await,
        Verb::Prove(args) => prove::run(args, context.format, &mut context.screen),
    }
}

/// Verbs that read an export.
pub fn offline(verb: Verb, format: Format, screen: &mut Screen) -> Ended {
    match verb {
        Verb::Verify(args) => verify::offline(args, format, screen),
        Verb::Report(args) => report::offline(&args, format, screen),
        Verb::Who(args) => who::offline(args, format, screen),
        Verb::Prove(args) => prove::run(args, format, screen),
        Verb::List(_) | Verb::Export(_) => unreachable!("these ask the cluster"),
    }
}

/// Says what is missing from an answer that should be everything; whether something is.
fn tell_gaps(gaps: &[Gap], screen: &mut Screen) -> bool {
    for gap in gaps {
        screen.say(format_args!(
            "gap: {gap} not to be had from the node that was asked; this is not everything"
        ));
    }
    if !gaps.is_empty() {
        screen.say("hint: ask another node: --endpoints HOST:PORT");
    }
    !gaps.is_empty()
}
