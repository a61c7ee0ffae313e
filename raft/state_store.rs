//! Where the applied machine is kept between runs, so that a start need not replay everything.
//!
//! What always holds: this is never the only copy. Snapshot and log can rebuild it, so it may lose
//! its newest writes, and whatever is odd about it is answered by throwing it away.
//!
//! One batch carries the records of some applies together with where the machine then stands: after a
//! crash the store shows some earlier standing, whole.

use crate::codec::CodecError;
use crate::codec::record;
use crate::codec::snapshot::{Standing, read_standing, standing};
use cryptorun_core::machine::Machine;
use cryptorun_core::record::RecordKey;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Why a store is of no use. It is answered by [`StateStore::reset`].
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// sled said so, or panicked.
    #[error("state store: {0}")]
    Engine(String),
    /// A record does not decode.
    #[error("state store holds what does not decode")]
    Codec(#[from] CodecError),
    /// The directory could not be moved aside.
    #[error("cannot move {path} aside")]
    Aside {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Encoded records by encoded key; none is one to remove.
pub(crate) type Records = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Records to write and to remove, in one step.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub(crate) records: Records,
    pub(crate) standing: Vec<u8>,
}

/// A place for the materialised machine.
pub trait StateStore: Send + Sync + 'static {
    /// Everything in it; nothing where it was never written.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError>;

    /// Applies changes, all or none.
    ///
    /// # Errors
    /// They may be lost; what was there before is not.
    fn write(&self, changes: Changes) -> Result<(), StoreError>;

    /// Starts anew with this content; what was there is moved aside or dropped.
    ///
    /// # Errors
    /// The store cannot be used.
    fn reset(&self, content: Changes) -> Result<(), StoreError>;
}

/// The key of the standing: below every record's.
const STANDING: &[u8] = &[0];

/// The machine a store holds, if it holds a whole one.
pub(crate) fn load(store: &dyn StateStore) -> Result<Option<(Standing, Machine)>, StoreError> {
    let mut content = store.read()?;
    let Some(at) = content.remove(STANDING) else {
        return Ok(None);
    };
    let at = read_standing(&at)?;
    let mut machine = Machine::default();
    for bytes in content.values() {
        machine.load(record::decode(bytes)?);
    }
    Ok(Some((at, machine)))
}

/// Everything of a machine, as [`StateStore::reset`] takes it.
pub(crate) fn whole(machine: &Machine, at: &Standing) -> Result<Changes, CodecError> {
    changes(machine, &machine.keys(), at)
}

/// What a machine has of these records, and what it does not have any more.
pub(crate) fn changes<'a>(
    machine: &Machine,
    keys: impl IntoIterator<Item = &'a RecordKey>,
    at: &Standing,
) -> Result<Changes, CodecError> {
    let mut records = Records::new();
    for key in keys {
        let content = machine.record(key).map(record::encode).transpose()?;
        records.insert(record::key(key)?, content);
    }
    Ok(Changes { records, standing: standing(at)? })
}

/// In memory: for simulations, where a crash keeps as much of it as the test says.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>);

impl MemoryStore {
    /// A copy with nothing shared: what a crash at this moment leaves.
    #[must_use]
    pub fn image(&self) -> Self {
        Self(Arc::new(Mutex::new(self.content().clone())))
    }

    fn content(&self) -> std::sync::MutexGuard<'_, BTreeMap<Vec<u8>, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for MemoryStore {
    fn read(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        Ok(self.content().clone())
    }

    fn write(&self, changes: Changes) -> Result<(), StoreError> {
        let mut content = self.content();
        for (key, value) in changes.records {
            match value {
                Some(value) => content.insert(key, value),
                None => content.remove(&key),
            };
        }
        content.insert(STANDING.to_vec(), changes.standing);
        Ok(())
    }

    fn reset(&self, changes: Changes) -> Result<(), StoreError> {
        self.content().clear();
        self.write(changes)
    }
}

/// sled 0.34.7 in a directory of its own. Its `flush` does not reach the disk, and an unclean end
/// may leave something that it cannot open, or panics on: hence all the throwing away.
pub struct SledStore {
    dir: PathBuf,
    db: Mutex<Option<sled::Db>>,
}

impl SledStore {
    /// Opens the store; one that does not open is moved aside and a fresh one begun.
    ///
    /// # Errors
    /// Not even a fresh one can be made.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let store = Self { dir: dir.to_owned(), db: Mutex::new(None) };
        let db = match guarded(|| open_sled(dir)) {
            Ok(db) => db,
            Err(error) => {
                tracing::warn!(%error, dir = %dir.display(), "state store set aside");
                store.move_aside()?;
                guarded(|| open_sled(dir))?
            }
        };
        *store.slot() = Some(db);
        Ok(store)
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<sled::Db>> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, act: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, StoreError> {
        match self.slot().as_ref() {
            Some(db) => guarded(|| act(db)),
            None => Err(StoreError::Engine("closed".to_owned())),
        }
    }

    /// One old copy is kept for whoever wants to look.
    fn move_aside(&self) -> Result<(), StoreError> {
        let aside = self.dir.with_extension("bad");
        let failed = |source| StoreError::Aside { path: self.dir.clone(), source };
        if !self.dir.exists() {
            return Ok(());
        }
        if aside.exists() {
            std::fs::remove_dir_all(&aside).map_err(failed)?;
        }
        std::fs::rename(&self.dir, &aside).map_err(failed)
    }
}

fn open_sled(dir: &Path) -> sled::Result<sled::Db> {
    // The default cache is 1 GiB; the machine is megabytes.
    sled::Config::new().path(dir).cache_capacity(64 << 20).open()
}

/// sled panics on some damaged files.
fn guarded<T>(act: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(StoreError::Engine(error.to_string())),
        Err(_) => Err(StoreError::Engine("panicked".to_owned())),
    }
}

impl StateStore for SledStore {
    fn read(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        self.with(|db| {
            db.iter().map(|pair| pair.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
        })
    }

    fn write(&self, changes: Changes) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes.records {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        batch.insert(STANDING, changes.standing);
        self.with(|db| db.apply_batch(batch))
    }

    fn reset(&self, content: Changes) -> Result<(), StoreError> {
        if !self.with(|db| Ok(db.is_empty())).unwrap_or(false) {
            // Dropped first: two handles on one directory fight over its lock.
            drop(self.slot().take());
            self.move_aside()?;
            let db = guarded(|| open_sled(&self.dir))?;
            *self.slot() = Some(db);
        }
        self.write(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptorun_core::position::Hash;

    fn at(byte: u8) -> Standing {
        Standing { hash: Hash([byte; 32]), ..Standing::default() }
    }

    fn stores(dir: &Path) -> Vec<Box<dyn StateStore>> {
        let sled = SledStore::open(&dir.join("state")).expect("opens");
        vec![Box::new(MemoryStore::default()), Box::new(sled)]
    }

    #[test]
    fn a_machine_reads_back_with_its_standing() {
        let dir = tempfile::tempdir().expect("a directory");
        for store in stores(dir.path()) {
            assert!(load(store.as_ref()).expect("reads").is_none());
            let machine = Machine::default();
            store.reset(whole(&machine, &at(1)).expect("encodes")).expect("resets");
            let standing = standing(&at(2)).expect("encodes");
            store.write(Changes { standing, ..Changes::default() }).expect("writes");
            let (standing, read) = load(store.as_ref()).expect("reads").expect("is there");
            assert_eq!((standing, read), (at(2), machine));
        }
    }

    #[test]
    fn a_ruined_sled_is_set_aside_and_begun_anew() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = root.path().join("state");
        let store = SledStore::open(&dir).expect("opens");
        store.reset(whole(&Machine::default(), &at(1)).expect("encodes")).expect("resets");
        drop(store);
        std::fs::write(dir.join("db"), vec![0xAB; 70_000]).expect("writes");
        std::fs::write(dir.join("conf"), b"not what any sled would have written").expect("writes");
        let store = SledStore::open(&dir).expect("opens afresh");
        assert!(load(&store).expect("reads").is_none());
        assert!(root.path().join("state.bad").exists());
    }

    #[test]
    fn nothing_is_set_aside_where_nothing_was() {
        let root = tempfile::tempdir().expect("a directory");
        let store = SledStore::open(&root.path().join("state")).expect("opens");
        store.reset(whole(&Machine::default(), &at(1)).expect("encodes")).expect("resets");
        assert!(!root.path().join("state.bad").exists());
        store.reset(whole(&Machine::default(), &at(2)).expect("encodes")).expect("resets");
        assert!(root.path().join("state.bad").exists());
        let (standing, _) = load(&store).expect("reads").expect("is there");
        assert_eq!(standing, at(2));
    }

    #[test]
    fn a_record_that_does_not_decode_spoils_the_store() {
        let store = MemoryStore::default();
        store.reset(whole(&Machine::default(), &at(1)).expect("encodes")).expect("resets");
        if let Some(value) = store.content().values_mut().last() {
            value.truncate(crate::codec::frame::HEADER);
        }
        assert!(matches!(load(&store), Err(StoreError::Codec(_))));
    }
}
