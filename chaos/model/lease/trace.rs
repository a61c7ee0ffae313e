//! The lease model for the command line: its bounds in words, its traces as sentences.

use super::{Action, Lease, PROCESSES, Request, State};
use crate::clock::boot_ns;
use crate::facts::{Fact, Facts};
use crate::report::Checked;
use cryptorun_core::command::{Command, Renewed};

impl Checked for Lease {
    fn bounds(&self) -> String {
        let bounds = &self.bounds;
        let rates: Vec<String> =
            bounds.leader_rates.iter().map(|rate| format!("{rate:?}").to_lowercase()).collect();
        format!(
            "{} ticks (a lease is 4), renewals {:?} of holder, its second start{} and another worker, \
             {} changes of leader ({} clocks), {} uncommitted entries, {} repeats, {} given back, \
             {} restores; holders' clocks slow, rho 1/4",
            bounds.ticks,
            bounds.renewals,
            if bounds.reopens { "" } else { " (none)" },
            bounds.leaders,
            rates.join(" or "),
            bounds.uncommitted,
            bounds.repeats,
            bounds.given,
            bounds.restores,
        )
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn required(&self) -> Vec<Fact> {
        let bounds = &self.bounds;
        let mut facts = vec![Fact::GrantAfterRunOut];
        facts.extend((bounds.given > 0).then_some(Fact::GrantAfterGivingBack));
        facts.extend((bounds.leaders > 0).then_some(Fact::StampedEntryLost));
        facts.extend((bounds.restores > 0).then_some(Fact::Restore));
        facts
    }

    fn applied(&self) -> usize {
        self.applier.applied()
    }

    fn tell(&self, before: &State, action: &Action, after: &State) -> String {
        let what = self.act(before, action);
        let grant = after.grants.last().filter(|_| after.grants.len() > before.grants.len());
        let grant = grant.map(|(token, _)| format!("; {token} is granted"));
        let holds: Vec<String> = (0..PROCESSES.len())
            .filter_map(|at| {
                let process = &after.processes[at];
                let held = process.keeper.as_ref()?.held(&self.scope)?;
                let now = boot_ns(process.rate, after.tick);
                let left = held.deadline.saturating_sub(now) / 1_000_000;
                Some(format!("{} holds {} for {left} ms of its clock", name(at), held.token))
            })
            .collect();
        let holds = if holds.is_empty() { "nobody holds".to_owned() } else { holds.join(", ") };
        format!("tick {}: {what}{} [{holds}]", after.tick, grant.unwrap_or_default())
    }
}

impl Lease {
    fn act(&self, before: &State, action: &Action) -> String {
        match action {
            Action::Pass => "a tick passes".to_owned(),
            Action::Open(at) => format!("{} opens a session", name(*at)),
            Action::Renew(at) => format!("{} starts a renewal", name(*at)),
            Action::Retry(at) => format!("{} tries its renewal again", name(*at)),
            Action::Release(at) => format!("a release of {}'s lease is sent", name(*at)),
            Action::End(at) => format!("{} drops everything and ends its session", name(*at)),
            Action::Receive { request, .. } => format!("the leader stamps {}", told(request)),
            Action::ProposeTick => "the leader stamps a tick".to_owned(),
            Action::Propose(command) => format!("the controller proposes {}", short(command)),
            Action::Commit => match before.pending.first() {
                Some(entry) => format!("committed: {}", proposal(&entry.what)),
                None => "nothing to commit".to_owned(),
            },
            Action::Answer { reply, to } => {
                format!("{} gets the answer to {}", name(*to), answer(&reply.renewed))
            }
            Action::LoseLeader { keep } => format!(
                "the leader is gone, {} of {} uncommitted entries survive",
                keep,
                before.pending.len()
            ),
            Action::Lead { rate, again } => format!(
                "{} leads, its clock {}",
                if *again { "the first leader" } else { "another node" },
                format!("{rate:?}").to_lowercase()
            ),
            Action::Restore => "the cluster is restored from before the first grant".to_owned(),
        }
    }
}

fn name(process: usize) -> String {
    let (worker, boot) = PROCESSES[process];
    format!("{worker}/{boot}")
}

fn told(request: &Request) -> String {
    match request {
        Request::Open(from) => format!("{}'s opening", name(*from)),
        Request::Renew { from, seq, sealed: None } => format!("{}'s renewal {seq}", name(*from)),
        Request::Renew { from, seq, sealed: Some(token) } => {
            format!("{}'s renewal {seq}, sealed at {token}", name(*from))
        }
        Request::Release { from, token } => format!("the release of {token} by {}", name(*from)),
        Request::End(from) => format!("the end of {}'s session", name(*from)),
    }
}

fn proposal(what: &super::Proposal) -> String {
    match what {
        super::Proposal::Request(request) => told(request),
        super::Proposal::Controller(command) => short(command),
        super::Proposal::Tick => "a tick".to_owned(),
    }
}

fn answer(renewed: &Renewed) -> String {
    let listed: Vec<String> =
        renewed.extended.iter().map(|lease| lease.token.to_string()).collect();
    format!(
        "{}/{}'s renewal {}, {}",
        renewed.session.worker,
        renewed.session.boot,
        renewed.seq,
        if listed.is_empty() {
            "no lease".to_owned()
        } else {
            format!("lease {}", listed.join(" "))
        }
    )
}

/// A controller's command in a few words.
pub fn short(command: &Command) -> String {
    match command {
        Command::Reserve(reserve) => {
            format!("reserve for {}/{}", reserve.candidate.worker, reserve.candidate.boot)
        }
        Command::Grant(grant) => format!("grant {}", grant.token),
        Command::Rollback(rollback) => format!("roll back: {}", rollback.why),
        Command::StepStarted(step) => format!("{} starts", step.step),
        Command::StepDone(step) => format!("{} is done", step.step),
        Command::StepFailed(step) => format!("{} failed: {}", step.step, step.why),
        Command::RequestPromotion(ask) => format!("ask for a {} to {}", ask.kind, ask.to),
        other => format!("{other:?}"),
    }
}
