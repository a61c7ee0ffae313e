//! `cryptorun warm`: reading the warm tier, with where it came from.

mod get;

use crate::Ended;
use crate::context::Context;
use clap::Subcommand;

/// The verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Read candles from a region, with position, staleness and authority
    Get(get::Get),
}

pub async fn run(verb: Verb, context: &mut Context) -> Ended {
    match verb {
        Verb::Get(args) => get::run(args, context).await,
    }
}
