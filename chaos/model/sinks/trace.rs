//! The sinks model for the command line.

use super::explore::Action;
use super::*;
use crate::lease::short;
use crate::report::Checked;

impl Checked for Sinks {
    fn bounds(&self) -> String {
        let b = &self.bounds;
        let who: Vec<String> =
            b.may_be_silent.iter().map(|at| setup::regions()[*at].to_string()).collect();
        format!(
            "3 regions, mode {}, {} records beside opening ones, {} turns (a lease runs out in 2), \
             {} silences ({}), {} returns, {} crashes, {} switchovers asked for, {} resumptions, {} \
             answers held up; workers' clocks stand still",
            b.mode,
            b.writes,
            b.turns,
            b.silences,
            who.join(" or "),
            b.returns,
            b.crashes,
            b.switchovers,
            b.resumes,
            b.late,
        )
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn required(&self) -> Vec<Fact> {
        let b = &self.bounds;
        let mut facts = Vec::new();
        if b.switchovers > 0 {
            facts.extend([Fact::SwitchoverGranted, Fact::RenewalWithheld]);
            facts.extend((b.resumes > 0).then_some(Fact::HolderWentOn));
        }
        if b.mode == Mode::Auto && b.silences > 0 {
            facts.extend([Fact::FailoverGranted, Fact::GrantWithUnsealedSink]);
            facts.push(Fact::WriteTurnedAway);
        }
        facts.extend((b.crashes > 0 && b.turns > 1).then_some(Fact::Regrant));
        facts
    }

    fn applied(&self) -> usize {
        self.applier.applied()
    }

    fn tell(&self, before: &State, action: &Action, after: &State) -> String {
        let what = self.act(before, action);
        let chains: Vec<String> = setup::regions()
            .iter()
            .zip(&after.sites)
            .map(|(region, site)| {
                let records: Vec<String> = site.sink.chain.iter().map(told).collect();
                let may = self.believes(site).map(|token| format!(" as {token}"));
                format!("{region}{}: {}", may.unwrap_or_default(), records.join(" "))
            })
            .collect();
        let scope = self.scope(&after.cluster);
        format!("{what} [{} {}; {}]", scope.phase, scope.highest, chains.join(" | "))
    }
}

fn told(record: &Record) -> String {
    let epoch = record.token.epoch;
    match record.kind {
        RecordKind::Opening => format!("{epoch}("),
        RecordKind::Data(id) => format!("{epoch}.{id}"),
        RecordKind::Barrier => format!("{epoch})"),
        RecordKind::Reopen => format!("{epoch}+("),
    }
}

impl Sinks {
    fn act(&self, before: &State, action: &Action) -> String {
        let name = |at: &usize| setup::regions()[*at].to_string();
        match action {
            Action::Turn => "half a run-out passes, workers renew, nodes report".to_owned(),
            Action::Renew(at) => format!("{} renews", name(at)),
            Action::RenewLate(at) => format!("{} renews, the answer is held up", name(at)),
            Action::Answer(at) => format!("{} gets the held up answer", name(at)),
            Action::Open(at) => format!("{} opens a new session", name(at)),
            Action::Obey(at) => match self.want(before, *at) {
                Some(want) => format!("{} obeys {}", name(at), word(&want)),
                None => format!("{} has nothing to obey", name(at)),
            },
            Action::Admit(at) => format!("{} admits a record", name(at)),
            Action::Stream(at) => format!("{} gets the next record of its stream", name(at)),
            Action::Check(at) => format!("the sink of {} checks", name(at)),
            Action::Put(at) => format!("the write in {} lands", name(at)),
            Action::Silence(at) => format!("{} falls silent", name(at)),
            Action::Return(at) => format!("{} is heard again", name(at)),
            Action::Crash(at) => format!("the worker of {} dies", name(at)),
            Action::Propose(command) => format!("controller: {}", short(command)),
            Action::Switchover => "ana asks for a switchover to b".to_owned(),
            Action::Resume(at) => format!("{} goes on by its own clock", name(at)),
            Action::HandOver(at) => format!("the hand-over of {} reaches the log", name(at)),
            Action::HandOverForHolder(at) => format!("the controller hands over for {}", name(at)),
        }
    }
}

fn word(want: &cryptorun_core::directive::Want) -> String {
    use cryptorun_core::directive::Want;
    match want {
        Want::Idle => "idle".to_owned(),
        Want::Primary { token, .. } => format!("primary {token}"),
        Want::Replica { upstream, token } => match upstream {
            Some(upstream) => format!("follow {upstream} under {token}"),
            None => format!("follow nobody under {token}"),
        },
        Want::Drain { .. } => "drain".to_owned(),
        Want::HandOver(_) => "hand over".to_owned(),
        Want::Seal { token } => format!("seal {token}"),
        Want::FetchTail { to, .. } => format!("fetch up to {to}"),
    }
}
