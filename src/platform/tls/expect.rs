//! Whom a port or a client is willing to talk to.

use crate::identity::{Class, SpiffeId};

use super::Reason;

/// An identity must match every part that is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    pub cluster: String,
    /// Any one of these.
    pub classes: Vec<Class>,
    pub region: Option<String>,
    pub id: Option<String>,
}

impl Expect {
    pub fn any_of(cluster: &str, classes: &[Class]) -> Self {
        Self { cluster: cluster.to_owned(), classes: classes.to_vec(), region: None, id: None }
    }

    pub fn nodes(cluster: &str) -> Self {
        Self::any_of(cluster, &[Class::Node])
    }

    pub fn workers(cluster: &str) -> Self {
        Self::any_of(cluster, &[Class::Worker])
    }

    /// Everybody of the cluster: each route decides what they may do.
    pub fn anyone(cluster: &str) -> Self {
        Self::any_of(cluster, &Class::ALL)
    }

    pub fn in_region(mut self, region: &str) -> Self {
        self.region = Some(region.to_owned());
        self
    }

    pub fn with_id(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    /// `trust_domain` is our own: one certificate authority may serve several.
    pub fn check(&self, trust_domain: &str, found: &SpiffeId) -> Result<(), Mismatch> {
        let expected = if found.trust_domain != trust_domain || found.cluster != self.cluster {
            (Reason::OtherCluster, format!("cluster {} of {trust_domain}", self.cluster))
        } else if !self.classes.contains(&found.class) {
            let classes: Vec<_> = self.classes.iter().map(|class| class.as_str()).collect();
            (Reason::WrongClass, format!("class {}", classes.join(" or ")))
        } else if self.region.as_ref().is_some_and(|region| *region != found.region) {
            let region = self.region.as_deref().unwrap_or_default();
            (Reason::WrongId, format!("region {region}"))
        } else if self.id.as_ref().is_some_and(|id| *id != found.id) {
            (Reason::WrongId, format!("id {}", self.id.as_deref().unwrap_or_default()))
        } else {
            return Ok(());
        };
        let (reason, expected) = expected;
        Err(Mismatch { reason, text: format!("peer is {found}, expected {expected}") })
    }
}

/// A valid certificate of somebody who has no business here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Mismatch {
    pub reason: Reason,
    pub text: String,
}
