//! Reading: linearizable unless somebody asks for this node's own view.

use super::{Api, check, region_named, scope_named};
use crate::caller::{Caller, Need};
use crate::log::{ReadInfo, wait_applied};
use crate::problem::ApiError;
use crate::views::{self, Seen};
use cryptorun_core::explain::explain;
use cryptorun_core::people::{OperatorId, Role};
use cryptorun_core::record::{Request, RequestKey};
use cryptorun_core::scope::{ScopeId, Tier};
use cryptorun_core::time::WallTime;
use cryptorun_core::wire::{
    Consistency, Explanation, RegionStatus, ScopeStatus, SessionStatus, Status, WhoAmI,
};
use std::time::Duration;

/// How a read is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadQuery {
    /// Confirmed by a quorum, or this node's own view.
    pub consistency: Consistency,
    /// Not before this index is applied here.
    pub wait_index: Option<u64>,
}

impl Default for ReadQuery {
    fn default() -> Self {
        Self { consistency: Consistency::Linearizable, wait_index: None }
    }
}

/// What a scope's status depends on. Plain data.
pub(crate) struct Sight {
    /// The index and the wall clock: the age of what sinks have grows with it.
    pub moment: (u64, WallTime),
    /// The scope, and who asks: a rest of the controller binds no person.
    pub of: (ScopeId, Option<OperatorId>),
}

/// How long `wait_index` waits.
const WAIT_INDEX: Duration = Duration::from_secs(5);

/// Who may look.
pub(super) const READER: Need = Need::Role(Role::Reader);
const READER_OR_WORKER: Need = Need::RoleOrWorker(Role::Reader);

impl Api {
    /// Makes the local machine good for this read.
    pub(crate) async fn ready(&self, query: ReadQuery) -> Result<ReadInfo, ApiError> {
        if let Some(index) = query.wait_index
            && !wait_applied(self.log(), index, WAIT_INDEX).await
        {
            return Err(ApiError::NotReady {
                why: format!(
                    "index {index} was not applied here within {} s",
                    WAIT_INDEX.as_secs()
                ),
            });
        }
        Ok(self.log().read(query.consistency).await?)
    }

    /// The same, with what the answer says of itself.
    pub(crate) async fn seen(&self, query: ReadQuery) -> Result<Seen, ApiError> {
        let info = self.ready(query).await?;
        let parts = self.parts();
        Ok(Seen {
            info,
            voters: self.log().voters(),
            via: parts.region.clone(),
            wall: parts.platform.clock.wall(),
            consistency: query.consistency,
            quorum_lost: self.log().quorum_lost_for(),
        })
    }

    /// `GET /v1/status`.
    pub async fn status(&self, caller: &Caller, query: ReadQuery) -> Result<Status, ApiError> {
        check(self, caller, READER)?;
        let seen = self.seen(query).await?;
        let drift = self.drift();
        Ok(self.look(|machine, index| {
            let mut status = views::status(machine, index, &seen, caller, self.decided());
            status.todo.extend(drift.into_iter().map(|line| format!("config drift: {line}")));
            status
        }))
    }

    /// `GET /v1/scopes`.
    pub async fn scopes(
        &self,
        caller: &Caller,
        query: ReadQuery,
    ) -> Result<Vec<ScopeStatus>, ApiError> {
        check(self, caller, READER_OR_WORKER)?;
        self.ready(query).await?;
        let wall = self.parts().platform.clock.wall();
        Ok(self.look(|machine, index| {
            let scopes = machine.scopes().values();
            let by = caller.operator();
            let status =
                |scope| views::scope_status((machine, index), scope, wall, by, self.decided());
            scopes.map(status).collect()
        }))
    }

    /// `GET /v1/scopes/{tier}/{group}`.
    pub async fn scope(
        &self,
        caller: &Caller,
        tier: Tier,
        group: &str,
        query: ReadQuery,
    ) -> Result<ScopeStatus, ApiError> {
        self.scope_shown(caller, tier, group, query, |_, status| status()).await
    }

    /// The same, by `show`, which may know already how the scope looks at that moment.
    pub(crate) async fn scope_shown<R>(
        &self,
        caller: &Caller,
        tier: Tier,
        group: &str,
        query: ReadQuery,
        show: impl FnOnce(Sight, &dyn Fn() -> ScopeStatus) -> R,
    ) -> Result<R, ApiError> {
        check(self, caller, READER_OR_WORKER)?;
        self.ready(query).await?;
        let wall = self.parts().platform.clock.wall();
        self.look(|machine, index| {
            let id = scope_named(machine, tier, group)?;
            let scope = machine.scopes().get(&id).ok_or_else(|| ApiError::not_found("no scope"))?;
            let by = caller.operator();
            let status = || views::scope_status((machine, index), scope, wall, by, self.decided());
            Ok(show(Sight { moment: (index, wall), of: (id, by.cloned()) }, &status))
        })
    }

    /// `GET /v1/regions`.
    pub async fn regions(
        &self,
        caller: &Caller,
        query: ReadQuery,
    ) -> Result<Vec<RegionStatus>, ApiError> {
        check(self, caller, READER)?;
        self.ready(query).await?;
        Ok(self.look(|machine, _| views::regions(machine)))
    }

    /// `GET /v1/sessions`.
    pub async fn sessions(
        &self,
        caller: &Caller,
        query: ReadQuery,
    ) -> Result<Vec<SessionStatus>, ApiError> {
        check(self, caller, READER)?;
        self.ready(query).await?;
        Ok(self.look(|machine, _| views::sessions(machine)))
    }

    /// `GET /v1/requests/{key}`: only one's own.
    pub async fn request(
        &self,
        caller: &Caller,
        key: &str,
        query: ReadQuery,
    ) -> Result<Request, ApiError> {
        self.ready(query).await?;
        let key = RequestKey { identity: caller.spiffe.to_string(), key: key.to_owned() };
        self.look(|machine, _| machine.request(&key).cloned()).ok_or_else(|| {
            ApiError::not_found(format!("no request with key {} of {}", key.key, key.identity))
        })
    }

    /// `GET /v1/explain`.
    pub async fn explain(
        &self,
        caller: &Caller,
        (tier, group): (Tier, &str),
        target: &str,
        query: ReadQuery,
    ) -> Result<Explanation, ApiError> {
        check(self, caller, READER)?;
        let seen = self.seen(query).await?;
        self.look(|machine, index| {
            let scope = scope_named(machine, tier, group)?;
            let to = region_named(machine, target)?;
            let explained = explain(machine, &scope, &to, caller.operator().cloned())?;
            Ok(Explanation {
                at: views::read_at(machine, index, &seen),
                decision: explained.decision,
                waiting: explained.waiting,
                command: explained.command,
                opens_in: explained.opens_in,
            })
        })
    }

    /// `GET /v1/whoami`.
    pub async fn whoami(&self, caller: &Caller) -> Result<WhoAmI, ApiError> {
        Ok(self.look(|machine, _| WhoAmI {
            spiffe: caller.spiffe.to_string(),
            grants: caller.person(machine).map(|line| line.grants.clone()).unwrap_or_default(),
            waiting: machine
                .promotions()
                .values()
                .filter(|promotion| views::can_approve(machine, promotion, caller))
                .map(|promotion| promotion.id)
                .collect(),
            rules: machine
                .rules()
                .values()
                .filter(|rule| super::can_approve_rule(machine, rule, caller))
                .map(|rule| rule.id)
                .collect(),
        }))
    }

    /// `GET /v1/journal`: a worker's, so the answer is where that worker is.
    pub async fn journal(
        &self,
        caller: &Caller,
        (tier, group): (Tier, &str),
        region: Option<&str>,
    ) -> Result<std::convert::Infallible, ApiError> {
        check(self, caller, READER)?;
        self.look(|machine, _| {
            let scope = scope_named(machine, tier, group)?;
            let region = match region {
                Some(typed) => region_named(machine, typed)?,
                None => self.parts().region.clone(),
            };
            let sinks = views::sinks_of(machine, &scope);
            let (session, _) = sinks.get(&region).ok_or_else(|| {
                ApiError::not_found(format!("no worker of {region} reports a sink of {scope}"))
            })?;
            Err(ApiError::Moved {
                at: session.addresses.api.clone(),
                path: format!("/v1/journal?scope={scope}"),
            })
        })
    }
}
