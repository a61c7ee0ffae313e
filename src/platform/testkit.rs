//! What the crate's own tests share: a throw-away authority and identities of its making.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::identity::{Class, SpiffeId};
use crate::pki::{Authority, Leaf, Validity};
use crate::tls::{TlsFiles, TlsStore};

pub const CLUSTER: &str = "trial";
pub const DOMAIN: &str = "test.example";

/// For waits that only end late when something is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn id(class: Class, id: &str) -> SpiffeId {
    SpiffeId::new(DOMAIN, CLUSTER, class, "us-east-1", id).unwrap()
}

pub fn an_hour() -> Validity {
    Validity::lasting(Duration::from_secs(3600))
}

pub struct World {
    pub dir: TempDir,
    pub authority: Authority,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, authority: Authority::new(DOMAIN, CLUSTER).unwrap() }
    }

    pub fn leaf(&self, id: &SpiffeId) -> Leaf {
        self.authority.issue_for(id, &["localhost"], an_hour()).unwrap()
    }

    /// Writes the leaf's files where `name` keeps its credentials.
    pub fn write(&self, name: &str, leaf: &Leaf) -> PathBuf {
        let folder = self.dir.path().join(name);
        leaf.write(&self.authority, &folder).unwrap();
        folder
    }

    pub fn store_of(&self, name: &str, leaf: &Leaf) -> Arc<TlsStore> {
        TlsStore::load(TlsFiles::in_folder(&self.write(name, leaf))).unwrap()
    }

    pub fn store(&self, class: Class, name: &str) -> Arc<TlsStore> {
        self.store_of(name, &self.leaf(&id(class, name)))
    }
}

/// Yields until `holds`; panics when it never does.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}
