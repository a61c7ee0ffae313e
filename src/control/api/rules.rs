//! Rule changes: asked for, approved, denied, withdrawn.

use super::promotions::reason_fits;
use super::read::READER;
use super::{Api, ReadQuery, check, region_named};
use crate::caller::{Caller, Need};
use crate::problem::ApiError;
use cryptorun_core::command::{
    ApproveRules, CancelRules, Command, DenyRules, PreferLeader, ProposeRules,
};
use cryptorun_core::machine::Machine;
use cryptorun_core::people::Role;
use cryptorun_core::refusal::Refusal;
use cryptorun_core::rules::{Change, RuleChange, RuleId};
use cryptorun_core::wire::{
    Accepted, PreferenceRequest, RuleAsked, RuleRequest, RuleStatus, WordRequest,
};

impl Api {
    /// `GET /v1/rules`, newest first.
    pub async fn rules(
        &self,
        caller: &Caller,
        query: ReadQuery,
    ) -> Result<Vec<RuleStatus>, ApiError> {
        check(self, caller, READER)?;
        self.ready(query).await?;
        Ok(self.look(|machine, _| {
            machine.rules().values().rev().map(|rule| shown(machine, rule, caller)).collect()
        }))
    }

    /// `GET /v1/rules/{id}`.
    pub async fn rule(
        &self,
        caller: &Caller,
        id: RuleId,
        query: ReadQuery,
    ) -> Result<RuleStatus, ApiError> {
        check(self, caller, READER)?;
        self.ready(query).await?;
        self.look(|machine, _| {
            let rule = machine.rules().get(&id).ok_or(Refusal::NoRule { rule: id })?;
            Ok(shown(machine, rule, caller))
        })
    }

    /// `POST /v1/rules`: at the leader, which asks the others what they can do.
    pub async fn propose_rule(
        &self,
        caller: &Caller,
        key: Option<&str>,
        request: RuleRequest,
    ) -> Result<Accepted, ApiError> {
        check(self, caller, Need::Role(Role::Admin))?;
        self.leader_only()?;
        reason_fits(request.reason.as_deref())?;
        let change = match request.change {
            RuleAsked::ClusterVersion { to } => {
                self.everybody_speaks(to).await?;
                let from = self.look(|machine, _| machine.cluster().map_or(0, |c| c.version));
                Change::ClusterVersion { from, to }
            }
            RuleAsked::Restore => self.look(|machine, _| {
                let refused = || ApiError::Conflict {
                    why: "this cluster does not wait for people to agree to a restore".to_owned(),
                };
                let restored = machine.restored().filter(|r| r.waits_for().is_some());
                let restored = restored.ok_or_else(refused)?;
                let earlier = restored.waits_for().and_then(|id| machine.rules().get(&id));
                earlier.map(|rule| rule.change.clone()).ok_or_else(refused)
            })?,
        };
        let command = Command::ProposeRules(ProposeRules { change, reason: request.reason });
        self.submit_accepted(caller, key, command).await
    }

    /// `POST /v1/rules/{id}/approve`: at the leader only.
    pub async fn approve_rule(
        &self,
        caller: &Caller,
        key: Option<&str>,
        rule: RuleId,
        word: WordRequest,
    ) -> Result<Accepted, ApiError> {
        self.leader_only()?;
        reason_fits(word.reason.as_deref())?;
        let change = self.look(|machine, _| machine.rules().get(&rule).map(|r| r.change.clone()));
        if let Some(Change::ClusterVersion { to, .. }) = change {
            // An older program that joined, or came back, since it was asked for.
            self.everybody_speaks(to).await?;
        }
        let certificate = caller.certificate.as_deref().map(str::to_owned);
        let approve = ApproveRules { rule, reason: word.reason, certificate };
        self.submit_accepted(caller, key, Command::ApproveRules(approve)).await
    }

    /// `POST /v1/rules/{id}/deny`: at the leader only.
    pub async fn deny_rule(
        &self,
        caller: &Caller,
        key: Option<&str>,
        rule: RuleId,
        word: WordRequest,
    ) -> Result<Accepted, ApiError> {
        self.leader_only()?;
        reason_fits(word.reason.as_deref())?;
        let missing = || Refusal::ReasonMissing { what: format!("denying {rule}") };
        let reason = word.reason.filter(|r| !r.trim().is_empty()).ok_or_else(missing)?;
        self.submit_accepted(caller, key, Command::DenyRules(DenyRules { rule, reason })).await
    }

    /// `POST /v1/rules/{id}/cancel`.
    pub async fn cancel_rule(
        &self,
        caller: &Caller,
        key: Option<&str>,
        rule: RuleId,
    ) -> Result<Accepted, ApiError> {
        self.submit_accepted(caller, key, Command::CancelRules(CancelRules { rule })).await
    }

    /// `POST /v1/cluster/preference`.
    pub async fn prefer_leader(
        &self,
        caller: &Caller,
        key: Option<&str>,
        request: PreferenceRequest,
    ) -> Result<Accepted, ApiError> {
        check(self, caller, Need::Role(Role::Admin))?;
        let regions = self.look(|machine, _| {
            let named = request.regions.iter().map(|typed| region_named(machine, typed));
            named.collect::<Result<Vec<_>, _>>()
        })?;
        let command = Command::PreferLeader(PreferLeader { regions });
        self.submit_accepted(caller, key, command).await
    }

    /// Whether every member's program takes part in that version; one that cannot be asked may not.
    async fn everybody_speaks(&self, version: u32) -> Result<(), ApiError> {
        let lacking = self.lacking(version).await;
        if lacking.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = lacking
            .into_iter()
            .map(|(node, region, versions)| match versions {
                Some(v) => format!("node {node} in {region} takes part in {} to {}", v.min, v.max),
                None => format!("node {node} in {region} does not answer"),
            })
            .collect();
        Err(ApiError::Conflict {
            why: format!("not every node is ready for version {version}: {}", lines.join("; ")),
        })
    }
}

fn shown(machine: &Machine, rule: &RuleChange, caller: &Caller) -> RuleStatus {
    RuleStatus {
        what: rule.change.to_string(),
        people_missing: rule.people_missing(),
        can_approve: can_approve(machine, rule, caller),
        rule: rule.clone(),
    }
}

/// Whether this caller's word would count for it now.
pub(crate) fn can_approve(machine: &Machine, rule: &RuleChange, caller: &Caller) -> bool {
    let Some(operator) = caller.operator() else { return false };
    let person = machine.cluster().and_then(|c| c.config.people.get(operator));
    rule.is_open()
        && !rule.approvals.contains_key(operator)
        && person.is_some_and(|person| person.has_everywhere(Role::Approver))
}
