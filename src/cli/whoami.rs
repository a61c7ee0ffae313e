//! `whoami`: what my certificate says, what the people table grants, what waits for me.

use crate::Ended;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::text::list;
use cryptorun_core::wire::WhoAmI;

pub async fn run(context: &mut Context) -> Ended {
    let me: WhoAmI = context.client.get("/v1/whoami").await?;
    context.show(&me, |me, _| text(me))?;
    Ok(Exit::Done)
}

fn text(me: &WhoAmI) -> String {
    let mut text = format!("{}\n", me.spiffe);
    if me.grants.is_empty() {
        text.push_str("  no role: an admin of the cluster can grant one\n");
    }
    for grant in &me.grants {
        let tier = grant.tier.map_or("every tier".to_owned(), |t| t.to_string());
        let region =
            grant.region.as_ref().map_or("every region".to_owned(), |region| region.to_string());
        text.push_str(&format!("  {} for {tier}, {region}\n", grant.role));
    }
    let mut waiting: Vec<String> = me.waiting.iter().map(ToString::to_string).collect();
    waiting.extend(me.rules.iter().map(ToString::to_string));
    match waiting.is_empty() {
        true => text.push_str("nothing waits for you\n"),
        false => text.push_str(&format!(
            "waiting for you: {} · cryptorun replication approve\n",
            list(&waiting)
        )),
    }
    text
}
