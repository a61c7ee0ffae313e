//! `cryptorun config`: files, before a process reads them.

mod check;

use crate::Ended;
use crate::args::Format;
use crate::context::Host;
use crate::failure::Failure;
use crate::screen::Screen;
use clap::Subcommand;
use cryptorun_platform::settings::SettingsError;
use std::error::Error;

/// The verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Check node.yaml, worker.yaml, cluster.yaml or data_sources.yaml; names every problem
    Check(check::Check),
}

pub fn run(verb: Verb, format: Format, host: &Host, screen: &mut Screen) -> Ended {
    match verb {
        Verb::Check(args) => check::run(args, format, host, screen),
    }
}

/// A file that cannot be used, for verbs that need it.
pub fn problem(error: SettingsError) -> Failure {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    Failure::usage(format!("{error}{cause}"))
}
