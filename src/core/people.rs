//! People: who may ask, who may approve, and how many it takes.

use crate::region::RegionName;
use crate::scope::{ScopeId, Tier};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A short handle such as `ana`. One a human, whatever certificates they hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OperatorId(pub String);

impl From<&str> for OperatorId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for OperatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a person or service may do. Each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Role {
    /// Reads everything but secrets.
    Reader,
    /// Asks for promotions, pauses.
    Operator,
    /// Approves and denies.
    Approver,
    /// Changes membership and rules (with the people those need).
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reader => "reader",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        })
    }
}

/// A role, for all tiers and regions or for some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// Only for this tier.
    pub tier: Option<Tier>,
    /// Only for promotions whose target is this region.
    pub region: Option<RegionName>,
}

/// A line of the people table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Person {
    /// What they may do; deny by default.
    pub grants: Vec<Grant>,
}

impl Person {
    /// Whether this person has at least `role` for a scope moving to `region`.
    pub fn has(&self, role: Role, scope: Option<&ScopeId>, region: Option<&RegionName>) -> bool {
        self.grants.iter().any(|grant| {
            grant.role >= role
                && grant.tier.is_none_or(|tier| scope.is_none_or(|s| s.tier == tier))
                && grant.region.as_ref().is_none_or(|only| region.is_none_or(|r| r == only))
        })
    }

    /// Whether this person has at least `role` whatever it is about.
    pub fn has_everywhere(&self, role: Role) -> bool {
        self.grants
            .iter()
            .any(|grant| grant.role >= role && grant.tier.is_none() && grant.region.is_none())
    }
}

/// Who stands behind a command, as the node that took it verified by certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Actor {
    /// A person, by the id in their certificate.
    Person(OperatorId),
    /// A service with a certificate.
    Service(String),
    /// A worker.
    Worker(String),
    /// A control-plane node.
    Node(u64),
    /// The failover controller on the leader.
    Controller,
    /// Nobody: something ran out.
    Time,
}

impl FromStr for Actor {
    type Err = String;

    /// As the audit writes it; `controller` goes without its article.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{text}' is no identity like ana, 'service NAME', 'worker NAME', 'node 1', \
                 controller or time"
            )
        };
        match (text, text.split_once(' ')) {
            ("", _) => Err(wrong()),
            ("the controller" | "controller", _) => Ok(Self::Controller),
            ("time", _) => Ok(Self::Time),
            (id, None) => Ok(Self::Person(id.into())),
            (_, Some(("service", name))) => Ok(Self::Service(name.to_owned())),
            (_, Some(("worker", name))) => Ok(Self::Worker(name.to_owned())),
            (_, Some(("node", id))) => id.parse().map(Self::Node).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(id) => id.fmt(f),
            Self::Service(name) => write!(f, "service {name}"),
            Self::Worker(name) => write!(f, "worker {name}"),
            Self::Node(id) => write!(f, "node {id}"),
            Self::Controller => f.pad("the controller"),
            Self::Time => f.pad("time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_reads_as_the_audit_writes_it() {
        for actor in [
            Actor::Person("ana".into()),
            Actor::Service("grafana".to_owned()),
            Actor::Worker("w1".to_owned()),
            Actor::Node(2),
            Actor::Controller,
            Actor::Time,
        ] {
            assert_eq!(actor.to_string().parse(), Ok(actor));
        }
        assert_eq!("controller".parse(), Ok(Actor::Controller));
        for text in ["", "node two", "ana and ben"] {
            assert!(text.parse::<Actor>().unwrap_err().contains("is no identity like ana"));
        }
    }

    #[test]
    fn a_role_is_held_only_where_it_was_given() {
        let warm_west = Person {
            grants: vec![Grant {
                role: Role::Approver,
                tier: Some(Tier::Warm),
                region: Some("us-west-2".into()),
            }],
        };
        let warm = ScopeId::new(Tier::Warm, "global");
        let cold = ScopeId::new(Tier::Cold, "global");
        let (west, east) = ("us-west-2".into(), "us-east-1".into());
        assert!(warm_west.has(Role::Operator, Some(&warm), Some(&west)));
        assert!(!warm_west.has(Role::Admin, Some(&warm), Some(&west)));
        assert!(!warm_west.has(Role::Approver, Some(&cold), Some(&west)));
        assert!(!warm_west.has(Role::Approver, Some(&warm), Some(&east)));
        assert!(!Person::default().has(Role::Reader, None, None));
    }
}
