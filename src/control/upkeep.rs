//! What a leader sees to by itself, beside deciding: changes of members that nobody finished, who
//! should lead, and whether all nodes are in the same state.

use crate::api::Api;
use cryptorun_core::preference::Watch;
use cryptorun_core::region::RegionName;
use cryptorun_core::time::Millis;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A change of members has that long before its leader's successor ends it: a change takes two
/// commits, and a client may still be waiting for the second.
const JOINT_AT_MOST: Millis = Millis::secs(30);
/// States are compared this often.
const COMPARE_EVERY: Millis = Millis::secs(30);
/// Entries that a node may lack and still take over without a pause.
const NEARLY_ALL: u64 = 64;

/// What is remembered of one leadership.
struct Lead {
    watch: Watch,
    joint_since: Option<Millis>,
    compared: Millis,
}

/// Sees to it while this node leads, for ever.
pub async fn keep_up(api: Api) {
    let mut lead: Option<Lead> = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !api.log().leadership().borrow().here {
            lead = None;
            continue;
        }
        let now = boot(&api);
        let lead = lead.get_or_insert_with(|| Lead {
            watch: Watch::new(now),
            joint_since: None,
            compared: now,
        });
        lead.settle_members(&api, now).await;
        if now.0.saturating_sub(lead.compared.0) >= COMPARE_EVERY.0 {
            lead.compared = now;
            compare(&api).await;
        }
        lead.hand_over(&api, now).await;
    }
}

fn boot(api: &Api) -> Millis {
    Millis(api.parts().platform.clock.boot().0 / 1_000_000)
}

impl Lead {
    async fn settle_members(&mut self, api: &Api, now: Millis) {
        if !api.log().members_joint() {
            self.joint_since = None;
            return;
        }
        let since = *self.joint_since.get_or_insert(now);
        if now.0.saturating_sub(since.0) < JOINT_AT_MOST.0 {
            return;
        }
        match api.log().settle_members().await {
            Ok(true) => tracing::warn!("a change of members was left half done and is finished"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "a change of members stays half done"),
        }
    }

    async fn hand_over(&mut self, api: &Api, now: Millis) {
        let preferred: Vec<RegionName> =
            api.look(|machine, _| machine.leader_preference().to_vec());
        let members = api.log().members();
        let target = *api.log().applied().borrow();
        let well = |region: &RegionName| {
            members.iter().any(|member| {
                member.at.region == *region
                    && member.voter
                    && member.answered.is_some()
                    && member.matched.is_some_and(|at| at + NEARLY_ALL >= target)
            })
        };
        let Some(to) = self.watch.look(now, api.region(), &preferred, well) else { return };
        let voter = members.iter().find(|member| member.at.region == to && member.voter);
        let Some(node) = voter.map(|member| member.node) else { return };
        tracing::info!(%to, node, "leadership goes where it is preferred");
        if let Err(error) = api.log().transfer_leader(node).await {
            tracing::warn!(%error, %to, "leadership was not handed over");
        }
        self.watch = Watch::new(now);
    }
}

/// A node in another state than this one applied something else, or remembers it wrongly: nothing it
/// says may be trusted until it has been replaced.
async fn compare(api: &Api) {
    let members = api.log().members();
    let level = members.iter().filter(|m| m.answered.is_some()).filter_map(|m| m.matched).min();
    let applied = *api.log().applied().borrow();
    let index = level.unwrap_or(applied).min(applied);
    let Some(own) = api.log().state_hash_at(index) else { return };
    for member in members.iter().filter(|member| member.node != api.log().node()) {
        if api.agrees(member.node, index, own).await == Some(false) {
            api.parts().metrics.state_divergence_total.inc([]);
            tracing::error!(
                node = member.node,
                region = %member.at.region,
                index,
                "its state differs from the leader's: replace it"
            );
        }
    }
}
