//! `cluster prefer-leader`: which regions' nodes shall lead.

use crate::Ended;
use crate::client::transport::Method;
use crate::context::Context;
use crate::exit::Exit;
use clap::Args;
use cryptorun_core::region::RegionName;
use cryptorun_core::wire::PreferenceRequest;

#[derive(Clone, Debug, Args)]
pub struct PreferLeader {
    /// The regions, the most wanted first; a node that has been well for a minute gets the lead, and
    /// none is handed over within ten minutes of the last change
    #[arg(value_name = "REGION", value_parser = crate::args::region, required_unless_present = "none")]
    regions: Vec<RegionName>,
    /// No preference: whoever leads stays
    #[arg(long, conflicts_with = "regions")]
    none: bool,
}

pub async fn run(args: PreferLeader, context: &mut Context) -> Ended {
    let body =
        PreferenceRequest { regions: args.regions.iter().map(ToString::to_string).collect() };
    let accepted = context.client.change(Method::Post, "/v1/cluster/preference", &body).await?;
    context.show(&accepted, |_, _| match body.regions.is_empty() {
        true => "no region is preferred\n".to_owned(),
        false => format!("preferred: {}\n", body.regions.join(", ")),
    })?;
    Ok(Exit::Done)
}
