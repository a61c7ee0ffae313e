//! Requests, approvals, pauses.

use super::read::READER;
use super::{Api, ReadQuery, check, region_named, scope_named};
use crate::caller::Caller;
use crate::problem::ApiError;
use crate::views;
use cryptorun_core::command::{
    Approve, Cancel, Command, Deny, PauseScope, RequestPromotion, Unpause,
};
use cryptorun_core::decide::{Ask, decide, fitting_kind};
use cryptorun_core::machine::Machine;
use cryptorun_core::position::Hash;
use cryptorun_core::promotion::PromotionId;
use cryptorun_core::refusal::Refusal;
use cryptorun_core::region::RegionName;
use cryptorun_core::scope::{PAUSE_MAX, ScopeId, Tier};
use cryptorun_core::time::Millis;
use cryptorun_core::wire::{
    Accepted, DryRun, PauseRequest, PromotionRequest, PromotionStatus, WordRequest,
};

/// A reason is a sentence, not an attachment.
const REASON_BYTES_MAX: usize = 500;

/// A request with its names resolved.
struct Asked {
    ask: Ask,
    from: Option<RegionName>,
}

impl Api {
    /// `POST /v1/promotions` with `dry_run`, the default: changes nothing.
    pub async fn promotion_dry_run(
        &self,
        caller: &Caller,
        request: &PromotionRequest,
        query: ReadQuery,
    ) -> Result<DryRun, ApiError> {
        check(self, caller, READER)?;
        self.ready(query).await?;
        self.look(|machine, _| {
            let Asked { ask, from } = asked(machine, caller, request)?;
            let decision = decide(machine, &ask)?;
            if let Some(plan) = &request.plan {
                same_plan(plan, decision.plan.hash())?;
            }
            Ok(views::dry_run(machine, decision, from.as_ref()))
        })
    }

    /// `POST /v1/promotions` for real.
    pub async fn request_promotion(
        &self,
        caller: &Caller,
        key: Option<&str>,
        request: &PromotionRequest,
    ) -> Result<Accepted, ApiError> {
        reason_fits(request.reason.as_deref())?;
        // What the request names must be looked up where it is true.
        self.ready(ReadQuery::default()).await?;
        let command = self.look(|machine, _| {
            let Asked { ask, from } = asked(machine, caller, request)?;
            let plan = match &request.plan {
                Some(named) => Some(same_plan(named, decide(machine, &ask)?.plan.hash())?),
                None => None,
            };
            Ok::<_, ApiError>(Command::RequestPromotion(RequestPromotion {
                kind: ask.kind,
                scope: ask.scope,
                from,
                to: ask.to,
                reason: request.reason.clone(),
                plan,
            }))
        })?;
        self.submit_accepted(caller, key, command).await
    }

    /// `GET /v1/promotions`, newest first.
    pub async fn promotions(
        &self,
        caller: &Caller,
        query: ReadQuery,
    ) -> Result<Vec<PromotionStatus>, ApiError> {
        check(self, caller, READER)?;
        self.ready(query).await?;
        Ok(self.look(|machine, _| {
            let newest_first = machine.promotions().values().rev();
            newest_first.map(|p| views::promotion_status(machine, p, caller)).collect()
        }))
    }

    /// `GET /v1/promotions/{id}`.
    pub async fn promotion(
        &self,
        caller: &Caller,
        id: PromotionId,
        query: ReadQuery,
    ) -> Result<PromotionStatus, ApiError> {
        check(self, caller, READER)?;
        self.ready(query).await?;
        self.look(|machine, _| {
            let promotion =
                machine.promotions().get(&id).ok_or(Refusal::NoPromotion { promotion: id })?;
            Ok(views::promotion_status(machine, promotion, caller))
        })
    }

    /// `POST /v1/promotions/{id}/approve`: at the leader only.
    pub async fn approve(
        &self,
        caller: &Caller,
        key: Option<&str>,
        promotion: PromotionId,
        word: WordRequest,
    ) -> Result<Accepted, ApiError> {
        self.leader_only()?;
        reason_fits(word.reason.as_deref())?;
        let certificate = caller.certificate.as_deref().map(str::to_owned);
        let command = Command::Approve(Approve { promotion, reason: word.reason, certificate });
        self.submit_accepted(caller, key, command).await
    }

    /// `POST /v1/promotions/{id}/deny`: at the leader only.
    pub async fn deny(
        &self,
        caller: &Caller,
        key: Option<&str>,
        promotion: PromotionId,
        word: WordRequest,
    ) -> Result<Accepted, ApiError> {
        self.leader_only()?;
        reason_fits(word.reason.as_deref())?;
        let missing = || Refusal::ReasonMissing { what: format!("denying {promotion}") };
        let reason = word.reason.filter(|r| !r.trim().is_empty()).ok_or_else(missing)?;
        self.submit_accepted(caller, key, Command::Deny(Deny { promotion, reason })).await
    }

    /// `POST /v1/promotions/{id}/cancel`.
    pub async fn cancel(
        &self,
        caller: &Caller,
        key: Option<&str>,
        promotion: PromotionId,
    ) -> Result<Accepted, ApiError> {
        self.submit_accepted(caller, key, Command::Cancel(Cancel { promotion })).await
    }

    /// `POST /v1/pauses`.
    pub async fn pause(
        &self,
        caller: &Caller,
        key: Option<&str>,
        request: PauseRequest,
    ) -> Result<Accepted, ApiError> {
        reason_fits(Some(&request.reason))?;
        if request.reason.trim().is_empty() {
            return Err(Refusal::ReasonMissing { what: "a pause".to_owned() }.into());
        }
        let span = Millis(request.for_ms);
        if span == Millis::ZERO || span > PAUSE_MAX {
            return Err(ApiError::bad(format!("for_ms must be from 1 to {}", PAUSE_MAX.0)));
        }
        let scope = self.scope_id(request.tier, &request.group)?;
        let command = Command::Pause(PauseScope { scope, reason: request.reason, span });
        self.submit_accepted(caller, key, command).await
    }

    /// `DELETE /v1/pauses?tier=&group=`.
    pub async fn unpause(
        &self,
        caller: &Caller,
        key: Option<&str>,
        (tier, group): (Tier, &str),
    ) -> Result<Accepted, ApiError> {
        let scope = self.scope_id(tier, group)?;
        self.submit_accepted(caller, key, Command::Unpause(Unpause { scope })).await
    }

    pub(super) fn scope_id(&self, tier: Tier, group: &str) -> Result<ScopeId, ApiError> {
        self.look(|machine, _| scope_named(machine, tier, group))
    }
}

fn asked(
    machine: &Machine,
    caller: &Caller,
    request: &PromotionRequest,
) -> Result<Asked, ApiError> {
    let scope = scope_named(machine, request.tier, &request.group)?;
    let to = region_named(machine, &request.to)?;
    let from = request.from.as_deref().map(|from| region_named(machine, from)).transpose()?;
    let kind = request.kind.unwrap_or_else(|| fitting_kind(machine, &scope, &to));
    let by = caller.operator().cloned();
    Ok(Asked { ask: Ask { kind, scope, to, by, promotion: None }, from })
}

/// A plan named in full or by its first digits.
fn same_plan(named: &str, current: Hash) -> Result<Hash, ApiError> {
    const DIGITS_MIN: usize = 4;
    if named.len() < DIGITS_MIN {
        return Err(ApiError::bad(format!("plan '{named}' needs at least {DIGITS_MIN} digits")));
    }
    if current.to_string().starts_with(&named.to_ascii_lowercase()) {
        return Ok(current);
    }
    Err(Refusal::PlanChanged { named: named.to_owned(), current: current.short() }.into())
}

pub(super) fn reason_fits(reason: Option<&str>) -> Result<(), ApiError> {
    match reason {
        Some(text) if text.len() > REASON_BYTES_MAX => {
            Err(ApiError::bad(format!("a reason may have at most {REASON_BYTES_MAX} bytes")))
        }
        _ => Ok(()),
    }
}
