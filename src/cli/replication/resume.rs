//! `resume`: a pause ends early.

use crate::Ended;
use crate::args::ScopeArgs;
use crate::client::transport::Method;
use crate::context::Context;
use crate::exit::Exit;
use clap::Args;

#[derive(Clone, Debug, Args)]
pub struct Resume {
    #[command(flatten)]
    scope: ScopeArgs,
}

pub async fn run(args: Resume, context: &mut Context) -> Ended {
    let path = format!("/v1/pauses?{}", args.scope.query());
    let accepted = context.client.change(Method::Delete, &path, &()).await?;
    let scope = args.scope.id();
    context.show(&accepted, |_, _| format!("{scope} is no longer paused\n"))?;
    Ok(Exit::Done)
}
