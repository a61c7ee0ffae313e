//! What this node's recorded history tells: simulations and the refusal ledger.

use super::{Api, check, region_named, scope_named};
use crate::caller::{Caller, Need};
use crate::history::History;
use crate::problem::ApiError;
use crate::refusals::refusals;
use crate::simulate;
use cryptorun_core::people::Role;
use cryptorun_core::scope::Tier;
use cryptorun_core::time::{Millis, WallTime};
use cryptorun_core::wire::{Refusals, Simulation, SimulationRequest};
use std::io;
use std::sync::Arc;

impl Api {
    /// `POST /v1/simulations`: what would have been decided, from what this node recorded.
    pub async fn simulate(
        &self,
        caller: &Caller,
        request: &SimulationRequest,
    ) -> Result<Simulation, ApiError> {
        check(self, caller, Need::Role(Role::Reader))?;
        let (scope, from, to) = self.look(|machine, _| {
            Ok::<_, ApiError>((
                scope_named(machine, request.tier, &request.group)?,
                region_named(machine, &request.from)?,
                region_named(machine, &request.to)?,
            ))
        })?;
        check_window(request.start, request.end)?;
        let policy = request.policy.clone();
        if policy.as_ref().is_some_and(|policy| !policy.scopes.contains_key(&scope)) {
            return Err(ApiError::bad(format!("the policy to compare with has no scope {scope}")));
        }
        let (start, end) = (request.start, request.end);
        let window = simulate::Window { scope, from, to, start, end, policy };
        self.read_history(move |history| simulate::replay(history, &window)).await
    }

    /// `GET /v1/refusals`: why a scope that was not well did not move, from what this node recorded.
    pub async fn refusals(
        &self,
        caller: &Caller,
        (tier, group): (Tier, &str),
        (start, end): (Option<WallTime>, Option<WallTime>),
    ) -> Result<Refusals, ApiError> {
        const A_DAY: Millis = Millis::mins(24 * 60);
        check(self, caller, Need::Role(Role::Reader))?;
        let scope = self.scope_id(tier, group)?;
        let end = end.unwrap_or_else(|| self.parts().platform.clock.wall());
        let start = start.unwrap_or(end - A_DAY);
        check_window(start, end)?;
        self.read_history(move |history| refusals(history, &scope, (start, end))).await
    }

    /// Reading and replaying a day takes seconds: off the threads that answer everybody else.
    async fn read_history<T: Send + 'static>(
        &self,
        read: impl FnOnce(&History) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        let history = Arc::clone(&self.parts().history);
        match tokio::task::spawn_blocking(move || read(&history)).await {
            Ok(found) => found.map_err(|e| ApiError::Internal {
                why: format!("cannot read the recorded history: {e}"),
            }),
            Err(_) => Err(ApiError::Internal { why: "reading the history was stopped".to_owned() }),
        }
    }
}

fn check_window(start: WallTime, end: WallTime) -> Result<(), ApiError> {
    match start < end {
        true => Ok(()),
        false => Err(ApiError::bad(format!(
            "the window ends at {end}, which is not after its start {start}"
        ))),
    }
}
