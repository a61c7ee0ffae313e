//! `cluster transfer-leader`: before maintenance, without an election's pause.

use crate::Ended;
use crate::client::transport::Method;
use crate::context::Context;
use crate::exit::Exit;
use clap::Args;
use cryptorun_core::region::RegionName;
use cryptorun_core::wire::TransferRequest;

#[derive(Clone, Debug, Args)]
pub struct TransferLeader {
    /// The region whose node shall lead
    #[arg(long, value_name = "REGION", value_parser = crate::args::region)]
    to: RegionName,
}

pub async fn run(args: TransferLeader, context: &mut Context) -> Ended {
    let body = TransferRequest { to: args.to.to_string() };
    let accepted =
        context.client.change(Method::Post, "/v1/cluster/transfer-leader", &body).await?;
    context.show(&accepted, |_, _| {
        format!("leadership goes to {}\nlook with: cryptorun cluster status\n", args.to)
    })?;
    Ok(Exit::Done)
}
