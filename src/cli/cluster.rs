//! `cryptorun cluster`: founding the control plane and looking after it.

mod add;
pub(crate) mod backup;
mod certs;
mod init;
mod nodes;
mod prefer_leader;
mod recover;
mod remove;
mod replace;
mod restore;
mod status;
mod transfer_leader;
mod upgrade;

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
    /// Put another node, with an empty disk, in the place of one that is gone or wiped
    Replace(replace::Replace),
    /// Take a member out for good
    Remove(remove::Remove),
    /// Show what each node says of itself, and whether their states agree
    Nodes(nodes::Nodes),
    /// Show which certificates and authorities are in use, and who does not trust whom
    Certs(certs::Certs),
    /// Say which regions' nodes shall lead
    PreferLeader(prefer_leader::PreferLeader),
    /// Write the state down: a backup in a file, or a snapshot on the node's own disk
    Snapshot(backup::Snapshot),
    /// Make a cluster from a backup, once, through any of its new nodes
    Restore(restore::Restore),
    /// Two of three nodes are gone for good: write down what is left, to restore from
    Recover(recover::Recover),
    /// Show how far an upgrade has come, or finish it
    Upgrade(upgrade::Upgrade),
}

pub async fn run(verb: Verb, host: &Host, context: &mut Context) -> Ended {
    match verb {
        Verb::Init(args) => init::run(args, host, context).await,
        Verb::Status(args) => status::run(args, context).await,
        Verb::TransferLeader(args) => transfer_leader::run(args, context).await,
        Verb::Add(args) => add::run(args, context).await,
        Verb::Replace(args) => replace::run(args, context).await,
        Verb::Remove(args) => remove::run(args, context).await,
        Verb::Nodes(args) => nodes::run(args, context).await,
        Verb::Certs(args) => certs::run(args, context).await,
        Verb::PreferLeader(args) => prefer_leader::run(args, context).await,
        Verb::Snapshot(args) => backup::run(args, context).await,
        Verb::Restore(args) => restore::run(args, context).await,
        Verb::Recover(args) => recover::run(args, context).await,
        Verb::Upgrade(args) => upgrade::run(args, context).await,
    }
}
