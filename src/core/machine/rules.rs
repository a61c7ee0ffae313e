//! Rule changes: asked for, stood behind, applied with the last name, ended.

use super::{Machine, Turn};
use crate::command::{Answer, ApproveRules, CancelRules, DenyRules, Outcome, ProposeRules};
use crate::config::CLUSTER_VERSION;
use crate::people::{Actor, OperatorId, Role};
use crate::promotion::Approval;
use crate::record::RecordKey;
use crate::refusal::Refusal;
use crate::restore::Progress;
use crate::rules::{self, Change, RuleChange, RuleId, State};
use std::collections::BTreeMap;

/// Ended rule changes kept in the machine; older ones stand in the audit.
const RULES_KEPT: usize = 1000;

impl Machine {
    /// Rule changes by number.
    pub fn rules(&self) -> &BTreeMap<RuleId, RuleChange> {
        &self.rules
    }

    pub(super) fn propose_rules(&mut self, turn: &mut Turn, ask: &ProposeRules) -> Answer {
        let who = turn.person(Role::Admin)?;
        self.allowed_everywhere(&who, Role::Admin)?;
        self.makes_sense(&ask.change)?;
        let same = |rule: &&RuleChange| {
            rule.is_open()
                && std::mem::discriminant(&rule.change) == std::mem::discriminant(&ask.change)
        };
        if let Some(waiting) = self.rules.values().find(same) {
            return Err(Refusal::RuleWaits { rule: waiting.id });
        }
        let id = self.open_rule(turn, &who, ask.change.clone(), ask.reason.clone());
        self.joined(turn, id)
    }

    /// Opens a request with its requester's name on it.
    pub(super) fn open_rule(
        &mut self,
        turn: &mut Turn,
        who: &OperatorId,
        change: Change,
        reason: Option<String>,
    ) -> RuleId {
        let id = RuleId(self.rules.last_key_value().map_or(1, |(last, _)| last.0 + 1));
        let limits = self.limits();
        // A restored cluster waits for as long as it takes: its cause stands.
        let expires = match change {
            Change::Restore { .. } => None,
            Change::ClusterVersion { .. } => {
                Some((turn.now() + limits.approval, turn.at.wall + limits.approval))
            }
        };
        let reason = reason.filter(|reason| !reason.trim().is_empty());
        let approval = Approval { at: turn.at, reason: reason.clone(), certificate: None };
        let rule = RuleChange {
            id,
            change,
            requester: turn.actor.clone(),
            reason,
            opened: turn.at,
            expires,
            people_needed: self.people_for_rules(),
            approvals: BTreeMap::from([(who.clone(), approval)]),
            state: State::Waiting,
            ended: None,
        };
        let detail = format!(
            "{}: {}; needs {} more",
            rule.change,
            rule.reason.as_deref().unwrap_or("none given"),
            rule.people_missing()
        );
        turn.touch(RecordKey::Rule(id));
        self.rules.insert(id, rule);
        self.note(turn, "request", &id.to_string(), &detail);
        id
    }

    /// As many as the most cautious scope asks for.
    fn people_for_rules(&self) -> u32 {
        const DEFAULT: u32 = 2;
        self.scopes.values().map(|scope| scope.policy.people).max().unwrap_or(DEFAULT)
    }

    pub(super) fn approve_rules(&mut self, turn: &mut Turn, approve: &ApproveRules) -> Answer {
        let operator = turn.person(Role::Approver)?;
        self.allowed_everywhere(&operator, Role::Approver)?;
        let rule = self.open(turn, approve.rule)?.clone();
        if rule.approvals.contains_key(&operator) {
            return Err(Refusal::SamePersonRule { operator, rule: rule.id });
        }
        let blank = |reason: &Option<String>| reason.as_deref().is_none_or(|r| r.trim().is_empty());
        if rule.approvals.values().all(|a| blank(&a.reason)) && blank(&approve.reason) {
            return Err(Refusal::ReasonMissing { what: format!("approving {}", rule.id) });
        }
        if let Err(refusal) = self.makes_sense(&rule.change) {
            let why = refusal.to_string();
            self.end_rule(turn, rule.id, rules::Outcome::Void { why });
            return Err(refusal);
        }
        let approval = Approval {
            at: turn.at,
            reason: approve.reason.clone(),
            certificate: approve.certificate.clone(),
        };
        let mut missing = 0;
        self.change_rule(turn, rule.id, |rule| {
            rule.approvals.insert(operator, approval);
            missing = rule.people_missing();
        });
        let reason = approve.reason.as_deref().unwrap_or("none given");
        let detail = format!("{}: {reason}; {missing} more needed", rule.change);
        self.note(turn, "approve", &rule.id.to_string(), &detail);
        self.joined(turn, rule.id)
    }

    /// What somebody who put their name to it learns; with the last name it applies.
    fn joined(&mut self, turn: &mut Turn, id: RuleId) -> Answer {
        let rule = self.rules.get(&id).ok_or(Refusal::NoRule { rule: id })?.clone();
        let people_missing = rule.people_missing();
        if people_missing == 0 {
            self.carry_out(turn, &rule);
            self.end_rule(turn, id, rules::Outcome::Applied);
        }
        Ok(Outcome::Rule { id, people_missing })
    }

    fn carry_out(&mut self, turn: &mut Turn, rule: &RuleChange) {
        match &rule.change {
            Change::ClusterVersion { to, .. } => self.raise_version(turn, *to),
            Change::Restore { .. } => self.agree_to_restore(turn),
        }
    }

    pub(super) fn deny_rules(&mut self, turn: &mut Turn, deny: &DenyRules) -> Answer {
        let by = turn.person(Role::Approver)?;
        self.allowed_everywhere(&by, Role::Approver)?;
        let id = self.open(turn, deny.rule)?.id;
        if deny.reason.trim().is_empty() {
            return Err(Refusal::ReasonMissing { what: format!("denying {id}") });
        }
        self.end_rule(turn, id, rules::Outcome::Denied { by, why: deny.reason.clone() });
        Ok(Outcome::Done)
    }

    pub(super) fn cancel_rules(&mut self, turn: &mut Turn, cancel: &CancelRules) -> Answer {
        let by = turn.person(Role::Operator)?;
        let rule = self.open(turn, cancel.rule)?;
        let (id, own) = (rule.id, rule.requester == *turn.actor);
        if !own {
            self.allowed_everywhere(&by, Role::Approver)?;
        }
        self.end_rule(turn, id, rules::Outcome::Cancelled { by });
        Ok(Outcome::Done)
    }

    /// What nobody agreed to in time.
    pub(super) fn expire_rules(&mut self, turn: &mut Turn) {
        let now = turn.at;
        let over = |rule: &&RuleChange| {
            rule.is_open()
                && rule.expires.is_some_and(|(log, wall)| now.log >= log || now.wall >= wall)
        };
        let expired: Vec<RuleId> = self.rules.values().filter(over).map(|rule| rule.id).collect();
        for id in expired {
            self.end_rule(turn, id, rules::Outcome::Expired);
        }
        while self.rules.len() > RULES_KEPT {
            // The newest stays: the next number follows from it.
            let Some((&id, _)) = self.rules.iter().find(|(_, rule)| !rule.is_open()) else { break };
            self.rules.remove(&id);
            turn.touch(RecordKey::Rule(id));
        }
    }

    fn end_rule(&mut self, turn: &mut Turn, id: RuleId, outcome: rules::Outcome) {
        let at = turn.at;
        let (word, detail) = (outcome.as_str(), outcome.to_string());
        self.change_rule(turn, id, |rule| {
            rule.state = State::Ended(outcome);
            rule.ended = Some(at);
        });
        match turn.actor {
            Actor::Node(_) => self.note_time(turn, word, &id.to_string(), &detail), // A tick.
            _ => self.note(turn, word, &id.to_string(), &detail),
        }
    }

    pub(super) fn void_rule(&mut self, turn: &mut Turn, id: RuleId, why: &str) {
        self.end_rule(turn, id, rules::Outcome::Void { why: why.to_owned() });
    }

    fn change_rule(&mut self, turn: &mut Turn, id: RuleId, change: impl FnOnce(&mut RuleChange)) {
        if let Some(rule) = self.rules.get_mut(&id) {
            change(rule);
            turn.touch(RecordKey::Rule(id));
        }
    }

    /// A rule change that waits. Its time may have passed without a tick.
    fn open(&self, turn: &Turn, id: RuleId) -> Result<&RuleChange, Refusal> {
        let rule = self.rules.get(&id).ok_or(Refusal::NoRule { rule: id })?;
        let ended = |outcome: String| Refusal::RuleEnded { rule: id, outcome };
        match &rule.state {
            State::Ended(outcome) => Err(ended(outcome.to_string())),
            State::Waiting => match rule.expires {
                Some((log, wall)) if turn.now() >= log || turn.at.wall >= wall => {
                    Err(ended(rules::Outcome::Expired.to_string()))
                }
                _ => Ok(rule),
            },
        }
    }

    /// Whether a change fits what is.
    fn makes_sense(&self, change: &Change) -> Result<(), Refusal> {
        let invalid =
            |what: &str, why: String| Err(Refusal::Invalid { what: what.to_owned(), why });
        match change {
            Change::ClusterVersion { from, to } => {
                let has = self.cluster.as_ref().map_or(0, |cluster| cluster.version);
                match (*from == has, *to) {
                    (false, _) => invalid("from", format!("the cluster's version is {has}")),
                    (true, to) if to > CLUSTER_VERSION => {
                        Err(Refusal::Version { needs: to, has: CLUSTER_VERSION })
                    }
                    // One step at a time: each is what its program was tried with.
                    (true, to) if to != has + 1 => {
                        invalid("to", format!("{to} does not follow {has}"))
                    }
                    (true, _) => Ok(()),
                }
            }
            Change::Restore { backup, .. } => match &self.restored {
                Some(restored)
                    if restored.backup == *backup
                        && matches!(restored.progress, Progress::Waiting { .. }) =>
                {
                    Ok(())
                }
                _ => invalid("backup", "this cluster does not wait for it".to_owned()),
            },
        }
    }

    pub(super) fn raise_version(&mut self, turn: &mut Turn, version: u32) {
        let Some(cluster) = &mut self.cluster else { return };
        let before = std::mem::replace(&mut cluster.version, version);
        turn.touch(RecordKey::Cluster);
        self.note(turn, "cluster_version", &version.to_string(), &format!("was {before}"));
    }

    /// Roles for what concerns the whole cluster are held without limits.
    pub(super) fn allowed_everywhere(&self, who: &OperatorId, role: Role) -> Result<(), Refusal> {
        let person = self.cluster.as_ref().and_then(|c| c.config.people.get(who));
        if person.is_some_and(|person| person.has_everywhere(role)) {
            return Ok(());
        }
        Err(Refusal::NotAllowed { who: who.to_string(), role })
    }
}
