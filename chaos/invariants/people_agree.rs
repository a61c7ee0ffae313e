//! No change of region without the people that its policy demands: distinct ones, each of whom put
//! their name to this very thing: this promotion, at this version of the assignment, in time, once.
//!
//! Counted here from the log's entries, not from the product's own sums.

use super::{Event, Invariant, Once, entry_of};
use cryptorun_core::command::Command;
use cryptorun_core::machine::Machine;
use cryptorun_core::people::{Actor, OperatorId};
use cryptorun_core::promotion::PromotionId;
use cryptorun_core::scope::{Mode, Scope, ScopeId};
use cryptorun_core::time::LogTime;
use cryptorun_core::token::Token;
use std::collections::BTreeMap;
use std::time::Duration;

/// A name under a promotion.
struct Name {
    version: u64,
    to: String,
}

/// See the module.
#[derive(Default)]
pub struct PeopleAgree {
    once: Once,
    names: BTreeMap<PromotionId, BTreeMap<OperatorId, Name>>,
    opened: BTreeMap<PromotionId, (Actor, LogTime)>,
    used: BTreeMap<PromotionId, Token>,
    /// As of the entry before.
    versions: BTreeMap<ScopeId, u64>,
    granted: BTreeMap<ScopeId, Token>,
    reserved: BTreeMap<ScopeId, Token>,
}

impl PeopleAgree {
    fn signed(&mut self, machine: &Machine, id: PromotionId, who: &OperatorId) {
        let Some(promotion) = machine.promotions().get(&id) else { return };
        if !promotion.approvals.contains_key(who) {
            return; // Refused.
        }
        let version = self.versions.get(&promotion.scope).copied().unwrap_or(0);
        let name = Name { version, to: promotion.to.to_string() };
        self.names.entry(id).or_default().entry(who.clone()).or_insert(name);
    }

    fn agreed(&self, scope: &Scope, id: PromotionId, now: LogTime) -> Result<(), String> {
        let version = self.versions.get(&scope.id).copied().unwrap_or(0);
        let requester = self.opened.get(&id).map(|(actor, _)| actor);
        if requester == Some(&Actor::Controller) && scope.mode == Mode::Auto {
            return Ok(());
        }
        let names = self.names.get(&id);
        let stand = |name: &&Name| name.version == version;
        let count = names.map_or(0, |names| names.values().filter(stand).count());
        if count < scope.policy.people as usize {
            let all: Vec<_> =
                names.into_iter().flatten().map(|(who, n)| (who, n.version)).collect();
            return Err(format!(
                "{id} goes at {now} with {count} of {} people at version {version}: {all:?}",
                scope.policy.people
            ));
        }
        Ok(())
    }
}

impl Invariant for PeopleAgree {
    fn name(&self) -> &'static str {
        "people_agree"
    }

    fn see(&mut self, _now: Duration, event: &Event<'_>) -> Result<(), String> {
        let Event::Applied { seen, .. } = event else { return Ok(()) };
        if !self.once.is_new(seen) {
            return Ok(());
        }
        let (machine, mut wrong) = (seen.machine, Ok(()));
        let Some(entry) = entry_of(seen) else { return Ok(()) };
        match (&entry.command, &entry.actor) {
            (Command::RequestPromotion(_), actor) => {
                let newest = machine.promotions().last_key_value();
                if let Some((id, promotion)) = newest
                    && !self.opened.contains_key(id)
                {
                    self.opened.insert(*id, (actor.clone(), entry.stamp.log));
                    if promotion.requester != *actor {
                        wrong = Err(format!("{id} was asked by {actor}, not by the one it names"));
                    }
                    if let Actor::Person(who) = actor {
                        self.signed(machine, *id, who);
                    }
                }
            }
            (Command::Approve(it), Actor::Person(who)) => {
                let before = self.names.get(&it.promotion).map_or(0, BTreeMap::len);
                self.signed(machine, it.promotion, who);
                let late = self.opened.get(&it.promotion).is_some_and(|(_, at)| {
                    let limit = machine.limits().approval;
                    machine.now().log.since(*at) >= limit
                });
                let after = self.names.get(&it.promotion).map_or(0, BTreeMap::len);
                if after > before && late {
                    wrong = Err(format!("{} took {who}'s name after its time", it.promotion));
                }
            }
            _ => {}
        }
        for scope in machine.scopes().values() {
            let reserved = scope.reservation.as_ref().map_or(Token::NONE, |r| r.token);
            let last = self.reserved.insert(scope.id.clone(), reserved);
            if let Some(r) = &scope.reservation
                && last != Some(r.token)
                && let Some(id) = r.promotion
            {
                wrong = wrong.and(self.agreed(scope, id, entry.stamp.log));
            }
            let token = scope.reign().map_or(Token::NONE, |reign| reign.token);
            let before = self.granted.insert(scope.id.clone(), token);
            if before.is_some_and(|before| before != token)
                && let Some(id) = scope.reign().and_then(|reign| reign.promotion)
            {
                wrong = wrong.and(self.agreed(scope, id, entry.stamp.log));
                let to = scope.reign().map(|reign| reign.region.to_string()).unwrap_or_default();
                let names = self.names.get(&id).into_iter().flatten();
                if let Some((who, name)) = names.into_iter().find(|(_, name)| name.to != to) {
                    wrong = Err(format!("{id} went to {to}; {who} agreed to {}", name.to));
                }
                if let Some(first) = self.used.insert(id, token) {
                    wrong = Err(format!("{id} was used for {first} and for {token}"));
                }
            }
            let moved = self.versions.insert(scope.id.clone(), scope.assignment_version);
            let by_promotion = scope.reign().is_some_and(|reign| reign.promotion.is_some());
            if moved.is_some_and(|v| v != scope.assignment_version) && !by_promotion {
                wrong = Err(format!("{} was assigned anew without a promotion", scope.id));
            }
        }
        wrong
    }
}
