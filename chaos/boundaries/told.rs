//! The audit tells what became of each promotion and why, and agrees with its record.

use cryptorun_core::audit::AuditEntry;
use cryptorun_core::machine::Machine;
use cryptorun_core::promotion::{Outcome, Promotion, State, StepState};

/// # Errors
/// What the audit does not tell, or tells otherwise.
pub(super) fn check(machine: &Machine) -> Result<(), String> {
    machine.promotions().values().try_for_each(|promotion| {
        let told = Told::of(machine, promotion);
        told.agrees(promotion).map_err(|why| {
            let entries: Vec<String> = told.0.iter().map(|entry| brief(entry)).collect();
            format!("{}: {why}: {promotion:?}: {entries:?}", promotion.id)
        })
    })
}

fn brief(entry: &AuditEntry) -> String {
    format!("{} {} by {}: {}", entry.seq, entry.action, entry.actor, entry.detail)
}

/// All entries about one promotion, oldest first; refusals changed nothing.
struct Told<'a>(Vec<&'a AuditEntry>);

impl<'a> Told<'a> {
    fn of(machine: &'a Machine, promotion: &Promotion) -> Self {
        let id = promotion.id.to_string();
        let entries = machine.audit().values().filter(|entry| entry.is_about(&id));
        Self(entries.filter(|entry| entry.action != "refused").collect())
    }

    fn all(&self, action: &str) -> Vec<&'a AuditEntry> {
        self.0.iter().filter(|entry| entry.action == action).copied().collect()
    }

    /// At most one.
    fn one(&self, action: &str) -> Result<Option<&'a AuditEntry>, String> {
        match self.all(action)[..] {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            _ => Err(format!("'{action}' stands there more than once")),
        }
    }

    fn agrees(&self, promotion: &Promotion) -> Result<(), String> {
        if self.one("request")?.is_none_or(|asked| asked.actor != promotion.requester) {
            return Err("who asked is not told".to_owned());
        }
        self.names_everybody(promotion)?;
        let reserved = self.one("reserve")?.map(|entry| &entry.detail);
        let granted = self.one("grant")?.map(|entry| &entry.detail);
        let names = |detail: &String| {
            promotion.token.is_some_and(|token| detail.contains(&format!("token={token}")))
        };
        if reserved.map(names) != promotion.token.map(|_| true) {
            return Err("the reserved token is not told".to_owned());
        }
        if granted.map(names) != promotion.start.map(|_| true) {
            return Err("the grant is not told".to_owned());
        }
        self.tells_the_end(promotion)
    }

    fn names_everybody(&self, promotion: &Promotion) -> Result<(), String> {
        let approved = self.all("approve");
        for (person, approval) in &promotion.approvals {
            let person = cryptorun_core::people::Actor::Person(person.clone());
            let told = approved.iter().any(|e| e.actor == person && e.at == approval.at);
            if !told && person != promotion.requester {
                return Err(format!("{person}'s approval is not told"));
            }
        }
        let own = promotion.approvals.keys().filter(|person| {
            promotion.requester == cryptorun_core::people::Actor::Person((*person).clone())
        });
        match approved.len() + own.count() == promotion.approvals.len() {
            true => Ok(()),
            false => Err("more approvals are told than there are".to_owned()),
        }
    }

    fn tells_the_end(&self, promotion: &Promotion) -> Result<(), String> {
        let ends: Vec<_> =
            self.0.iter().filter(|entry| Outcome::WORDS.contains(&entry.action.as_str())).collect();
        let State::Ended(outcome) = &promotion.state else {
            return if ends.is_empty() { Ok(()) } else { Err("it ended only in the audit".into()) };
        };
        let [end] = ends[..] else { return Err(format!("{} ends are told", ends.len())) };
        if end.action != outcome.as_str() || Some(end.at) != promotion.ended {
            return Err("another end is told".to_owned());
        }
        // What it cost in truth is told once everybody is back.
        if self.0.iter().rfind(|entry| entry.action != "settled") != Some(end) {
            return Err("something is told after the end".to_owned());
        }
        self.one("settled")?;
        let why = match outcome {
            Outcome::RolledBack { why } => why.clone(),
            Outcome::Superseded { by } => format!("by {by}"),
            _ => end.detail.clone(),
        };
        if why.trim().is_empty() || end.detail != why {
            return Err(format!("the reason is '{why}' and '{}' is told", end.detail));
        }
        let over =
            |state: &StepState| matches!(state, StepState::Done { .. } | StepState::Skipped { .. });
        match *outcome == Outcome::Done && !promotion.steps.iter().all(|s| over(&s.state)) {
            true => Err("it is done and a step is not".to_owned()),
            false => Ok(()),
        }
    }
}
