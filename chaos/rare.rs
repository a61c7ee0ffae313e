//! Sees which rare states a run reached, from the log's entries and the sinks. Judges nothing.

use crate::cluster::warm;
use crate::invariants::{Event, Invariant, Once, entry_of};
use crate::tally::Tally;
use cryptorun_core::command::{Command, Done, Entry};
use cryptorun_core::machine::Machine;
use cryptorun_core::people::Actor;
use cryptorun_core::plan::Step;
use cryptorun_core::promotion::{Outcome, Promotion, PromotionId, State};
use cryptorun_core::record::RequestKey;
use cryptorun_core::region::Link;
use cryptorun_core::scope::{Lease, Withheld};
use cryptorun_core::token::Token;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub struct RareStates {
    once: Once,
    seen: Vec<&'static str>,
    lease: Option<Lease>,
    ran_out: bool,
    granted: Token,
    paused: bool,
    regrants_under_way: bool,
    ended: BTreeSet<PromotionId>,
    known: BTreeSet<PromotionId>,
    drivers: BTreeMap<PromotionId, BTreeSet<(u64, u64)>>,
    keys: BTreeSet<RequestKey>,
    leader: (u64, u64),
    forks: BTreeMap<u64, usize>,
}

impl Invariant for RareStates {
    fn name(&self) -> &'static str {
        "rare_states"
    }

    fn see(&mut self, _now: Duration, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Applied { seen, .. } if self.once.is_new(seen) => {
                let id = seen.log_id.leader_id;
                self.led_by((id.term, id.node_id));
                if let Some(entry) = entry_of(seen) {
                    self.command(entry, seen.machine, (id.term, id.node_id));
                    self.scope(entry, seen.machine);
                    self.promotions(seen.machine);
                }
            }
            Event::Sink { worker, view, .. } => {
                let known = self.forks.insert(*worker, view.forks.len()).unwrap_or(0);
                if view.forks.len() > known {
                    self.seen.push("fork_kept");
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn reached(&mut self, tally: &mut Tally) {
        for what in self.seen.drain(..) {
            tally.add(what, 1);
        }
    }
}

impl RareStates {
    fn led_by(&mut self, by: (u64, u64)) {
        if self.leader != by {
            if self.leader.0 > 0 {
                self.seen.push("leader_change");
                if by.0 > self.leader.0 + 1 {
                    self.seen.push("same_term_other_leader");
                }
            }
            self.leader = by;
        }
    }

    fn command(&mut self, entry: &Entry, machine: &Machine, by: (u64, u64)) {
        if let Some(key) = &entry.request
            && !self.keys.insert(key.clone())
        {
            self.seen.push("key_answered_again");
        }
        match &entry.command {
            Command::Renew(renew) if machine.live_session(&renew.session).is_none() => {
                let barred = machine.sessions().get(&renew.session).is_some_and(|s| s.barred);
                self.seen.push(if barred { "barred_session" } else { "renewal_too_late" });
            }
            Command::OpenSession(open) => {
                let mut siblings = machine.sessions().values();
                if siblings.any(|s| s.barred && s.key.worker == open.session.worker) {
                    self.seen.push("barred_session");
                }
            }
            Command::StepStarted(it) => self.driven(it.promotion, by),
            Command::StepDone(it) => {
                self.driven(it.promotion, by);
                if let (Step::FetchTail, Done::Note(note)) = (it.step, &it.done)
                    && !note.starts_with("0 ")
                {
                    self.seen.push("tail_fetched");
                }
            }
            Command::SetLink(set) => match set.link {
                Link::Isolated { .. } => self.seen.push("region_isolated"),
                Link::Reconciling { .. } => self.seen.push("region_reconciling"),
                Link::Connected => {}
            },
            _ => {}
        }
    }

    fn driven(&mut self, promotion: PromotionId, by: (u64, u64)) {
        let drivers = self.drivers.entry(promotion).or_default();
        if drivers.insert(by) && drivers.len() == 2 {
            self.seen.push("promotion_across_leaders");
        }
    }

    fn scope(&mut self, entry: &Entry, machine: &Machine) {
        let Some(scope) = machine.scopes().get(&warm()) else { return };
        let before = self.lease.take();
        let gone = before.as_ref().is_some_and(|before| {
            scope.lease.as_ref().is_none_or(|lease| lease.token != before.token)
        });
        let given = matches!(
            entry.command,
            Command::Release(_) | Command::EndSession(_) | Command::Handover(_)
        );
        if gone && !given {
            self.ran_out = true;
        }
        match entry.command {
            Command::Release(_) if gone => self.seen.push("released"),
            Command::Handover(_) if gone => self.seen.push("handover"),
            _ => {}
        }
        let why = |lease: &Option<Lease>| lease.as_ref().and_then(|lease| lease.withheld_why);
        if why(&scope.lease) != why(&before) {
            match why(&scope.lease) {
                Some(Withheld::Reserved) => self.seen.push("withheld_reserved"),
                Some(Withheld::NoProgress) => self.seen.push("withheld_stalled"),
                Some(Withheld::Expired) | None => {}
            }
        }
        self.lease = scope.lease.clone();
        if let Some(reign) = scope.reign().filter(|reign| reign.token > self.granted) {
            self.granted = reign.token;
            self.seen.push("grants");
            if std::mem::take(&mut self.ran_out) {
                self.seen.push("grant_after_run_out");
            }
            self.seen.push(match (reign.promotion, scope.history.len()) {
                (None, 1) => "grant_first",
                (None, _) => "regrant",
                (Some(_), _) => "granted_to_promotion",
            });
        }
        let regrant = scope.reservation.as_ref().is_some_and(|r| r.promotion.is_none());
        if std::mem::replace(&mut self.regrants_under_way, regrant)
            && !regrant
            && matches!(entry.command, Command::Rollback(_))
        {
            self.seen.push("regrant_undone");
        }
        let paused = scope.pause.is_some();
        if !std::mem::replace(&mut self.paused, paused) && paused {
            self.seen.push("paused");
        }
    }

    fn promotions(&mut self, machine: &Machine) {
        for (id, promotion) in machine.promotions().iter().rev() {
            if self.known.insert(*id) {
                self.seen.push("promotions");
            }
            if let State::Ended(outcome) = &promotion.state
                && self.ended.insert(*id)
            {
                self.ended_as(promotion, outcome);
            }
        }
    }

    fn ended_as(&mut self, promotion: &Promotion, outcome: &Outcome) {
        if !promotion.unsealed.is_empty() {
            self.seen.push("unsealed_sink");
        }
        match outcome {
            Outcome::Done => {
                self.seen.push("promotion_done");
                self.seen.push(match promotion.kind.as_str() {
                    "switchover" => "done_switchover",
                    "failover" => "done_failover",
                    _ => "done_emergency",
                });
                if promotion.requester == Actor::Controller {
                    self.seen.push("by_controller");
                }
            }
            Outcome::RolledBack { .. } => {
                self.seen.push("promotion_rolled_back");
                if promotion.token.is_some() {
                    self.seen.push("rolled_back_past_reserve");
                }
            }
            Outcome::Superseded { .. } => self.seen.push("promotion_superseded"),
            Outcome::Denied { .. } => self.seen.push("promotion_denied"),
            Outcome::Cancelled { .. } => self.seen.push("promotion_cancelled"),
            Outcome::Expired => self.seen.push("promotion_expired"),
            Outcome::Void { .. } => self.seen.push("promotion_void"),
        }
    }
}
