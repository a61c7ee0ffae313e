//! The people model for the command line.

use super::explore::Action;
use super::*;
use crate::report::Checked;

impl Checked for People {
    fn bounds(&self) -> String {
        let b = &self.bounds;
        format!(
            "3 regions, 3 people of whom 2 must agree, {} requests, {} approvals, {} noes, {} spans of \
             {WAIT} in the log, on the wall or both, {} workers that leave",
            b.asks, b.approvals, b.noes, b.waits, b.leaves,
        )
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn required(&self) -> Vec<Fact> {
        let mut facts = vec![Fact::SwitchoverGranted, Fact::SwitchoverDone, Fact::ApprovalRefused];
        facts.extend((self.bounds.waits > 1).then_some(Fact::ApprovalExpired));
        facts
    }

    fn applied(&self) -> usize {
        self.applier.applied()
    }

    fn tell(&self, _: &State, action: &Action, after: &State) -> String {
        let who = |handle: &usize| HANDLES[*handle].0;
        let region = |at: &usize| setup::regions()[*at].0.clone();
        let what = match action {
            Action::Work => "workers obey and report, the controller proposes".to_owned(),
            Action::Ask { handle, to } => {
                format!("{} asks for a switchover to {}", who(handle), region(to))
            }
            Action::Approve { handle, id } => format!("{} approves P-{id}", who(handle)),
            Action::Deny { handle, id } => format!("{} denies P-{id}", who(handle)),
            Action::Cancel { handle, id } => format!("{} withdraws P-{id}", who(handle)),
            Action::Wait { log, wall } => match (log, wall) {
                (true, true) => format!("{WAIT} pass"),
                (true, false) => format!("{WAIT} pass in the log, the wall clock stands"),
                _ => format!("the wall clock jumps {WAIT}"),
            },
            Action::Leave(at) => format!("the worker of {} leaves", region(at)),
        };
        let scope = self.scope(&after.cluster);
        let open: Vec<String> = after
            .cluster
            .machine()
            .promotions()
            .values()
            .map(|p| {
                let state = match &p.state {
                    Stage::Waiting => "waits".to_owned(),
                    Stage::Running => "runs".to_owned(),
                    Stage::Ended(outcome) => outcome.as_str().to_owned(),
                };
                format!("{} to {} {state}", p.id, p.to)
            })
            .collect();
        format!(
            "{what} [{} {} in {}, version {}; {}]",
            scope.phase,
            scope.highest,
            scope.assigned,
            scope.assignment_version,
            open.join(", ")
        )
    }
}
