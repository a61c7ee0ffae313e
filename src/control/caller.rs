//! Who calls, and whether they may: one table of what each operation needs, deny by default.
//!
//! The certificate says who; the people table in the machine says what they may do. Before the
//! cluster is founded there is no table: people may look, and an admin of the table that is being
//! founded may found it.

use crate::problem::ApiError;
use cryptorun_core::machine::Machine;
use cryptorun_core::people::{Actor, OperatorId, Person, Role};
use cryptorun_core::region::RegionName;
use cryptorun_core::scope::ScopeId;
use cryptorun_platform::identity::{Class, SpiffeId};
use std::sync::Arc;

/// Whoever stands behind a request, verified by certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// As the log names them.
    pub actor: Actor,
    /// As their certificate names them.
    pub spiffe: Arc<SpiffeId>,
    /// The certificate's serial in hex, for the audit.
    pub certificate: Option<Arc<str>>,
}

/// What an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Any certificate of this cluster.
    Any,
    /// At least this role; workers may not.
    Role(Role),
    /// At least this role, or a worker.
    RoleOrWorker(Role),
    /// A worker, and only about its own session.
    Worker,
}

impl Caller {
    /// From a verified certificate.
    ///
    /// # Errors
    /// A node whose certificate does not carry its number.
    pub fn new(spiffe: Arc<SpiffeId>, certificate: Option<Arc<str>>) -> Result<Self, ApiError> {
        let actor = match spiffe.class {
            Class::Person => Actor::Person(OperatorId(spiffe.id.clone())),
            Class::Service => Actor::Service(spiffe.id.clone()),
            Class::Worker => Actor::Worker(spiffe.id.clone()),
            Class::Node => Actor::Node(node_number(&spiffe.id).ok_or_else(|| {
                ApiError::forbidden(format!("{spiffe} does not carry a node's number"))
            })?),
        };
        Ok(Self { actor, spiffe, certificate })
    }

    /// Its line in the people table.
    pub fn person<'m>(&self, machine: &'m Machine) -> Option<&'m Person> {
        person(&self.actor, machine)
    }

    /// The person behind it, if it is one.
    pub fn operator(&self) -> Option<&OperatorId> {
        match &self.actor {
            Actor::Person(id) => Some(id),
            Actor::Service(_)
            | Actor::Worker(_)
            | Actor::Node(_)
            | Actor::Controller
            | Actor::Time => None,
        }
    }

    /// Whether it may do what needs `need`.
    ///
    /// # Errors
    /// What it lacks.
    pub fn check(
        &self,
        machine: &Machine,
        need: Need,
        scope: Option<&ScopeId>,
        region: Option<&RegionName>,
    ) -> Result<(), ApiError> {
        check(&self.actor, machine, need, scope, region)
    }
}

/// A node's number as its certificate carries it: `3` or `n3`.
pub fn node_number(id: &str) -> Option<u64> {
    let digits = id.strip_prefix("node-").or_else(|| id.strip_prefix('n')).unwrap_or(id);
    digits.parse().ok().filter(|number| *number > 0)
}

/// An actor's line in the people table. Services stand there as `service:<id>`, so that a service
/// named like a person has none of that person's roles.
fn person<'m>(actor: &Actor, machine: &'m Machine) -> Option<&'m Person> {
    let people = &machine.cluster()?.config.people;
    match actor {
        Actor::Person(id) => people.get(id),
        Actor::Service(name) => people.get(&OperatorId(format!("service:{name}"))),
        Actor::Worker(_) | Actor::Node(_) | Actor::Controller | Actor::Time => None,
    }
}

/// See [`Caller::check`]; the leader checks again what another node forwards.
///
/// # Errors
/// What the actor lacks.
pub fn check(
    actor: &Actor,
    machine: &Machine,
    need: Need,
    scope: Option<&ScopeId>,
    region: Option<&RegionName>,
) -> Result<(), ApiError> {
    let worker = matches!(actor, Actor::Worker(_));
    let role = match need {
        Need::Any => return Ok(()),
        Need::Worker if worker => return Ok(()),
        Need::Worker => return Err(ApiError::forbidden(format!("{actor} is not a worker"))),
        Need::RoleOrWorker(_) if worker => return Ok(()),
        Need::RoleOrWorker(role) | Need::Role(role) => role,
    };
    let unfounded = machine.cluster().is_none();
    let looks = unfounded && role == Role::Reader && matches!(actor, Actor::Person(_));
    if looks || person(actor, machine).is_some_and(|line| line.has(role, scope, region)) {
        return Ok(());
    }
    match unfounded {
        true => Err(ApiError::knows_of_none()),
        false => Err(ApiError::not_allowed(actor, role)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_numbers_read_from_certificates() {
        assert_eq!(["3", "n3", "node-3"].map(node_number), [Some(3); 3]);
        assert_eq!(["", "0", "n", "n-3", "three"].map(node_number), [None; 5]);
    }
}
