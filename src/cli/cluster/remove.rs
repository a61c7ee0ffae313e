//! `cluster remove`: a member leaves for good.

use crate::Ended;
use crate::client::transport::Method;
use crate::context::Context;
use crate::exit::Exit;
use clap::Args;
use std::time::Duration;

/// Two commits, and a leader that may have to be found.
const ATTEMPT: Duration = Duration::from_secs(40);

#[derive(Clone, Debug, Args)]
pub struct Remove {
    /// The member; its number is not used again
    #[arg(long, value_name = "N")]
    node: u64,
}

pub async fn run(args: Remove, context: &mut Context) -> Ended {
    let node = args.node;
    let client = context.client.clone().with_attempt(ATTEMPT);
    let path = format!("/v1/cluster/members/{node}");
    let accepted = client.change(Method::Delete, &path, &()).await?;
    context.show(&accepted, |_, _| {
        format!("node {node} is out\nlook with: cryptorun cluster nodes\n")
    })?;
    Ok(Exit::Done)
}
