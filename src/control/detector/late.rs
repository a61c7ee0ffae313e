//! Reports that no quorum took, for the others' histories: sent once there is a quorum again, so that
//! `simulate` can show on every node what the side that was cut off saw. Nothing is decided by them.
//!
//! Bounded: of a long cut the newest [`KEPT`] reports are sent. A node that is started anew has them in
//! its own history only.

use crate::api::Api;
use crate::forward::{self, Forwarded, Reply};
use crate::history::OwnReport;
use futures_util::future::join_all;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Two hours of a report a second.
const KEPT: usize = 7200;
/// Sent at once; each has about a kilobyte.
const AT_ONCE: usize = 100;
/// Probes wait meanwhile.
const SEND_WITHIN: Duration = Duration::from_millis(900);

/// What each other node has still to be told, oldest first.
#[derive(Default)]
pub(super) struct Late(BTreeMap<u64, VecDeque<OwnReport>>);

impl Late {
    /// No quorum took this one.
    pub fn keep(&mut self, others: impl Iterator<Item = u64>, report: &OwnReport) {
        for node in others {
            let waiting = self.0.entry(node).or_default();
            if waiting.len() == KEPT {
                waiting.pop_front();
            }
            waiting.push_back(report.clone());
        }
    }

    /// A quorum is there: tells each node that answers the next few. What is not acknowledged is told
    /// again.
    pub async fn tell(&mut self, api: &Api, answers: impl Fn(u64) -> bool) {
        let reached = self.0.iter_mut().filter(|(node, _)| answers(**node));
        join_all(reached.map(async |(node, waiting)| {
            let next: Vec<OwnReport> = waiting.iter().take(AT_ONCE).cloned().collect();
            let count = next.len();
            let answer = forward::ask(api.log(), *node, &Forwarded::Late(next), SEND_WITHIN).await;
            if matches!(answer, Ok(Reply::Kept)) {
                waiting.drain(..count);
            }
        }))
        .await;
        self.0.retain(|_, waiting| !waiting.is_empty());
    }
}
