//! `cryptorun cluster`: founding the control plane and looking after it.

mod add;
mod init;
mod status;
mod transfer_leader;

use crate::Ended;
use crate::context::{Context, Host};
use clap::Subcommand;

/// The verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Found the cluster, once, through any node
    Init(init::Init),
    /// Show members, who leads and how far each has come
    Status(status::Status),
    /// Hand leadership to another region's node
    TransferLeader(transfer_leader::TransferLeader),
    /// Let a node with an empty disk join: it learns first and votes once it is level
    Add(add::Add),
}

pub async fn run(verb: Verb, host: &Host, context: &mut Context) -> Ended {
    match verb {
        Verb::Init(args) => init::run(args, host, context).await,
        Verb::Status(args) => status::run(args, context).await,
        Verb::TransferLeader(args) => transfer_leader::run(args, context).await,
        Verb::Add(args) => add::run(args, context).await,
    }
}
