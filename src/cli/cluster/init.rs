//! `cluster init`: sent once, to any node; it waits for the others and founds.

use crate::Ended;
use crate::client::transport::Method;
use crate::config::problem;
use crate::context::{Context, Host};
use crate::exit::Exit;
use clap::Args;
use cryptorun_core::wire::InitRequest;
use std::path::PathBuf;
use std::time::Duration;

/// The nodes may still be starting; the server waits for them within one request.
const ATTEMPT: Duration = Duration::from_secs(90);

#[derive(Clone, Debug, Args)]
pub struct Init {
    /// How many nodes must answer with empty disks
    #[arg(long, value_name = "N")]
    expect: u32,
    /// What the cluster starts from
    #[arg(long, value_name = "cluster.yaml")]
    config: PathBuf,
}

pub async fn run(args: Init, host: &Host, context: &mut Context) -> Ended {
    let config = host.checker.cluster(&args.config).map_err(problem)?;
    let name = config.name.clone();
    let body = InitRequest { expect: args.expect, config };
    let client = context.client.clone().with_attempt(ATTEMPT);
    let accepted = client.change(Method::Post, "/v1/cluster/init", &body).await?;
    context.show(&accepted, |accepted, _| {
        format!(
            "cluster {name} is founded at index {}\nlook with: cryptorun cluster status\n",
            accepted.index
        )
    })?;
    Ok(Exit::Done)
}
