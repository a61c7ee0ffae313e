//! The applied machine: entries in; answers, effects, stored records, audit bodies and snapshots out.
//!
//! What always holds:
//!  1. exactly the records that the core says changed are stored, in batches that end where an
//!     apply did, together with the last applied id and the membership;
//!  2. the state hash covers index, keys and bytes of every change since the beginning, so two nodes
//!     that differ anywhere differ at that index;
//!  3. effects leave only while this node leads, and only those of its own leadership;
//!  4. a snapshot is on the medium before openraft hears of it; on a full disk it waits.
//!
//! Reads are answered from memory. The state store follows a second behind ([`SAVE_EVERY`]): the log
//! is what is durable, and a record that changed ten thousand times meanwhile is written once. A
//! store that fails is left behind with a warning; it is rebuilt at the next start.

use crate::audit_log::AuditLog;
use crate::codec::snapshot::{Standing, decode, encode};
use crate::codec::{CodecError, record};
use crate::disk_id::Disks;
use crate::error::{Outdated, StartError};
use crate::leadership::Anchor;
use crate::log_store::{LogStore, PurgeGate};
use crate::probe::{Probe, Seen};
use crate::snapshot::{Found, Snapshots};
use crate::state_store::{self, StateStore, StoreError};
use crate::types::{
    Answered, EntryPayload, LogEntry, LogId, SnapshotData, SnapshotMeta, SnapshotOf,
    StoredMembership, TypeConfig,
};
use async_trait::async_trait;
use bytes::Bytes;
use cryptorun_core::command::Answer;
use cryptorun_core::machine::{Effect, Machine};
use cryptorun_core::position::Hash;
use cryptorun_core::record::{RecordKey, RecordRef};
use cryptorun_platform::clock::Clock;
use cryptorun_platform::disk::is_full;
use cryptorun_platform::segments::NoSpace;
use futures_util::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::Duration;
use tokio::sync::{Notify, broadcast, watch};

/// Effects that may wait for the controller. One that falls behind by more is told so and looks at
/// the machine instead: effects only say where to look.
pub const EFFECTS_MAX: usize = 1024;

/// How far the state store may lag: what a crash loses of it is applied again from the log.
pub const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Between two tries to write a snapshot on a full disk.
const SPACE_RETRY: Duration = Duration::from_secs(1);

/// State hashes remembered: at a hundred entries a second, those of the last half minute and more.
const HASHES_KEPT: usize = 4096;

/// An effect and the index of the entry it follows from.
pub type EffectAt = (u64, Effect);

/// A handle; clones share the machine.
#[derive(Clone)]
pub struct StateMachine(Arc<Inner>);

pub(crate) struct Inner {
    id: u64,
    clock: Arc<dyn Clock>,
    held: RwLock<Held>,
    /// One writer at a time, so that what the store is given last is newest.
    store: Mutex<Arc<dyn StateStore>>,
    store_failed: AtomicBool,
    snapshots: Snapshots,
    audit: AuditLog,
    /// Index of the newest durable snapshot, plus one; none is zero.
    durable: AtomicU64,
    current: Mutex<Option<(SnapshotMeta, Bytes)>>,
    blocking: Blocking,
    space: watch::Sender<Space>,
    leading: AtomicBool,
    applied: watch::Sender<Option<LogId>>,
    /// Index of the last entry that stirred the machine ([`Machine::stirred`]).
    stirred: watch::Sender<u64>,
    /// State hashes by index, the newest last.
    hashes: Mutex<VecDeque<(u64, Hash)>>,
    anchor: watch::Sender<Option<Anchor>>,
    effects: broadcast::Sender<EffectAt>,
    /// Audit bodies may be missing: somebody should fetch them.
    pub(crate) audit_gap: Notify,
    /// Why this program stopped applying.
    outdated: OnceLock<Outdated>,
    disks: Arc<Disks>,
    probe: Option<Arc<dyn Probe>>,
}

/// Whether a snapshot waits for room.
#[derive(Default)]
struct Space {
    short: Option<NoSpace>,
    /// The node stops: nothing waits any more.
    given_up: bool,
}

#[derive(Default)]
struct Held {
    machine: Machine,
    standing: Standing,
    /// What the state store does not have yet.
    unsaved: BTreeSet<RecordKey>,
    /// What the last entry's hash was taken of; kept for its space.
    hashed: Vec<u8>,
}

/// Where blocking file work runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocking {
    /// On tokio's blocking threads.
    Threads,
    /// Where it is called: simulated disks do not block.
    Inline,
}

impl Blocking {
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        match self {
            Self::Inline => work(),
            Self::Threads => tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?,
        }
    }
}

/// What a state machine is made of.
pub(crate) struct Parts {
    pub id: u64,
    pub clock: Arc<dyn Clock>,
    pub store: Arc<dyn StateStore>,
    pub snapshots: Snapshots,
    pub audit: AuditLog,
    pub blocking: Blocking,
    pub disks: Arc<Disks>,
    pub probe: Option<Arc<dyn Probe>>,
}

impl StateMachine {
    /// Finds the newest standing that the log can go on from: the store's, else a snapshot's, else
    /// the beginning.
    pub(crate) fn open(parts: Parts) -> Result<Self, StartError> {
        let Parts { id, clock, store, snapshots, audit, blocking, disks, probe } = parts;
        let found = snapshots.newest()?;
        let current = found.map(|Found { standing, machine, bytes }| {
            ((standing.meta.clone(), bytes), Held { machine, standing, ..Held::default() })
        });
        let (current, held) = current.unzip();
        let last = held.as_ref().and_then(|held| held.standing.meta.last_log_id);
        Ok(Self(Arc::new(Inner {
            id,
            clock,
            held: RwLock::new(held.unwrap_or_default()),
            store: Mutex::new(store),
            store_failed: AtomicBool::new(false),
            snapshots,
            audit,
            durable: AtomicU64::new(last.map_or(0, |id| id.index + 1)),
            current: Mutex::new(current),
            blocking,
            space: watch::Sender::new(Space::default()),
            leading: AtomicBool::new(false),
            applied: watch::Sender::new(last),
            stirred: watch::Sender::new(0),
            hashes: Mutex::default(),
            anchor: watch::Sender::new(None),
            effects: broadcast::Sender::new(EFFECTS_MAX),
            audit_gap: Notify::new(),
            outdated: OnceLock::new(),
            disks,
            probe,
        })))
    }

    /// Takes the store's standing where it is newer than the snapshot's and the log bears it out,
    /// else puts the snapshot's content in the store.
    pub(crate) fn settle(&self, log: &LogStore) -> Result<(), StartError> {
        let inner = &*self.0;
        let snapshot = self.last_applied();
        let (log_last, purged) = log.ends();
        let stored = state_store::load(inner.store().as_ref()).unwrap_or_else(|error| {
            tracing::warn!(%error, "state store is rebuilt");
            None
        });
        let usable = stored.filter(|(at, _)| {
            let last = at.meta.last_log_id;
            last >= snapshot
                && last <= log_last
                && last.is_none_or(|id| Some(id) == snapshot || log.log_id(id.index) == Some(id))
        });
        match usable {
            Some((standing, machine)) => {
                inner.applied.send_replace(standing.meta.last_log_id);
                *inner.write() = Held { machine, standing, ..Held::default() };
            }
            None => inner.reset_store(),
        }
        let last = self.last_applied();
        match purged {
            Some(purged) if last < Some(purged) => {
                Err(StartError::NoSnapshot { path: inner.snapshots.shown(), needed: purged.index })
            }
            _ => {
                let held = inner.read();
                Outdated::check(&held.machine)?;
                inner.audit.put(held.machine.audit().values().cloned());
                inner.disks.learn(held.standing.meta.last_membership.membership());
                Ok(())
            }
        }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    pub(crate) fn last_applied(&self) -> Option<LogId> {
        *self.0.applied.borrow()
    }

    /// The gate that the log asks before it gives entries up.
    pub(crate) fn gate(&self) -> Arc<dyn PurgeGate> {
        self.0.clone()
    }
}

impl Inner {
    pub fn with_machine<T>(&self, read: impl FnOnce(&Machine) -> T) -> T {
        read(&self.read().machine)
    }

    pub fn with_machine_at<T>(&self, read: impl FnOnce(&Machine, u64) -> T) -> T {
        let held = self.read();
        read(&held.machine, held.standing.meta.last_log_id.map_or(0, |id| id.index))
    }

    /// State hash and the index it is of.
    pub fn state_hash(&self) -> (Option<u64>, Hash) {
        let held = self.read();
        (held.standing.meta.last_log_id.map(|id| id.index), held.standing.hash)
    }

    /// The state hash as it was at an index, while that is remembered.
    pub fn hash_at(&self, index: u64) -> Option<Hash> {
        let hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        let at = hashes.binary_search_by_key(&index, |(at, _)| *at).ok()?;
        hashes.get(at).map(|(_, hash)| *hash)
    }

    fn remember_hash(&self, index: u64, hash: Hash) {
        let mut hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        if hashes.back().is_some_and(|(last, _)| *last >= index) {
            hashes.clear(); // A snapshot took the machine's place.
        }
        if hashes.len() == HASHES_KEPT {
            hashes.pop_front();
        }
        hashes.push_back((index, hash));
    }

    pub fn applied(&self) -> watch::Receiver<Option<LogId>> {
        self.applied.subscribe()
    }

    pub fn stirred(&self) -> watch::Receiver<u64> {
        self.stirred.subscribe()
    }

    pub fn anchor(&self) -> watch::Receiver<Option<Anchor>> {
        self.anchor.subscribe()
    }

    pub fn effects(&self) -> broadcast::Receiver<EffectAt> {
        self.effects.subscribe()
    }

    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// Why this program applies nothing more.
    pub fn outdated(&self) -> Option<Outdated> {
        self.outdated.get().copied()
    }

    pub fn blocking(&self) -> Blocking {
        self.blocking
    }

    pub fn set_leading(&self, leading: bool) {
        self.leading.store(leading, Ordering::Release);
    }

    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> MutexGuard<'_, Arc<dyn StateStore>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this program speaks what the cluster speaks before and with this entry. Asked before
    /// anything is changed: a newer program goes on from here.
    fn takes_part(&self, machine: &Machine, entry: &LogEntry) -> io::Result<()> {
        let checked = Outdated::check(machine).and_then(|()| match &entry.payload {
            EntryPayload::Normal(payload) => Outdated::foresee(&payload.entry().command),
            EntryPayload::Blank | EntryPayload::Membership(_) => Ok(()),
        });
        checked.map_err(|outdated| {
            let _ = self.outdated.set(outdated);
            io::Error::other(outdated)
        })
    }

    fn apply(&self, entry: &LogEntry) -> io::Result<Option<Answer>> {
        let log_id = entry.log_id;
        let mut held = self.write();
        let Held { machine, standing, unsaved, hashed } = &mut *held;
        self.takes_part(machine, entry)?;
        standing.meta.last_log_id = Some(log_id);
        let mut answer = None;
        let mut chain = Chain::after(standing.hash, log_id.index, hashed);
        match &entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(members) => {
                self.disks.learn(members);
                standing.meta.last_membership =
                    StoredMembership::new(Some(log_id), members.clone());
            }
            EntryPayload::Normal(payload) => {
                let applied = machine.apply(log_id.index, payload.entry());
                for key in applied.changed {
                    if let Some(RecordRef::Audit(entry)) = machine.record(&key) {
                        self.audit.put([entry.clone()]);
                    }
                    chain.take(machine, &key).map_err(io::Error::other)?;
                    unsaved.insert(key);
                }
                if self.leading.load(Ordering::Acquire) && self.leads(entry) {
                    for effect in applied.effects {
                        // Nobody listening is no loss: see `EFFECTS_MAX`.
                        drop(self.effects.send((log_id.index, effect)));
                    }
                }
                answer = Some(applied.answer);
            }
        }
        standing.hash = chain.end();
        self.remember_hash(log_id.index, standing.hash);
        if let Some(probe) = &self.probe {
            probe.applied(Seen { log_id: &log_id, entry, hash: standing.hash, machine });
        }
        if log_id.leader_id.node_id == self.id && (!self.leads(entry) || jumped(machine, entry)) {
            let base = if cryptorun_core::seeded_bug::is("logtime_goes_back") {
                cryptorun_core::time::LogTime::default()
            } else {
                machine.now().log
            };
            // Read after the base was taken: LogTime may only fall behind true time.
            let at = self.clock.boot();
            self.anchor.send_replace(Some(Anchor { leader: log_id.leader_id, base, at }));
        }
        let stirred = held.machine.stirred() == log_id.index;
        drop(held);
        self.applied.send_replace(Some(log_id));
        if stirred {
            self.stirred.send_replace(log_id.index);
        }
        Ok(answer)
    }

    /// Whether this entry was appended by this node under the anchor it has.
    fn leads(&self, entry: &LogEntry) -> bool {
        self.anchor.borrow().is_some_and(|anchor| anchor.leader == entry.log_id.leader_id)
    }

    /// Brings the state store up to the machine.
    pub async fn save_state(self: &Arc<Self>) {
        let inner = self.clone();
        let saved = self.blocking.run(move || {
            inner.write_store();
            Ok(())
        });
        if let Err(error) = saved.await {
            tracing::warn!(%error, "state store was not written");
        }
    }

    fn write_store(&self) {
        let store = self.store();
        let changes = {
            let mut held = self.write();
            let unsaved = std::mem::take(&mut held.unsaved);
            if unsaved.is_empty() || self.store_failed.load(Ordering::Relaxed) {
                return;
            }
            state_store::changes(&held.machine, &unsaved, &held.standing)
        };
        self.stored(changes.map_err(StoreError::from).and_then(|changes| store.write(changes)));
    }

    /// Puts the whole machine in the state store, whatever was there.
    fn reset_store(&self) {
        let store = self.store();
        let whole = {
            let mut held = self.write();
            held.unsaved.clear();
            state_store::whole(&held.machine, &held.standing)
        };
        self.stored(whole.map_err(StoreError::from).and_then(|whole| store.reset(whole)));
    }

    fn stored(&self, result: Result<(), StoreError>) {
        self.store_failed.store(result.is_err(), Ordering::Relaxed);
        if let Err(error) = result {
            tracing::warn!(%error, "state store fails; it is rebuilt at the next start");
        }
    }
}

/// One entry's link in the chained hash of the state: the link before, the entry's index, and each
/// record that it changed, as it is now.
pub struct Chain<'a>(&'a mut Vec<u8>);

impl<'a> Chain<'a> {
    /// The link after `hash`. What is in `space` is dropped; its allocation is used.
    pub fn after(hash: Hash, index: u64, space: &'a mut Vec<u8>) -> Self {
        space.clear();
        space.extend_from_slice(&hash.0);
        space.extend_from_slice(&index.to_le_bytes());
        Self(space)
    }

    /// Takes a changed record in.
    ///
    /// # Errors
    /// It does not encode.
    pub fn take(&mut self, machine: &Machine, key: &RecordKey) -> Result<(), CodecError> {
        put_sized(self.0, |out| record::put_key(out, key))?;
        let content = machine.record(key);
        self.0.push(u8::from(content.is_some()));
        match content {
            Some(content) => put_sized(self.0, |out| record::put_record(out, content)),
            None => Ok(()),
        }
    }

    /// The state's hash with this link.
    pub fn end(self) -> Hash {
        Hash::of(self.0)
    }
}

/// Appends something behind its length.
fn put_sized(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), CodecError>,
) -> Result<(), CodecError> {
    let at = out.len();
    out.extend_from_slice(&[0; 8]);
    write(out)?;
    let len = (out.len() - at - 8) as u64;
    out[at..at + 8].copy_from_slice(&len.to_le_bytes());
    Ok(())
}

/// Whether the machine's time is ahead of its leader's own stamp: a restored cluster goes on from its
/// backup's LogTime, and the leader has to count from there.
fn jumped(machine: &Machine, entry: &LogEntry) -> bool {
    match &entry.payload {
        EntryPayload::Normal(payload) => machine.now().log > payload.entry().stamp.log,
        EntryPayload::Blank | EntryPayload::Membership(_) => false,
    }
}

#[async_trait]
impl PurgeGate for Inner {
    async fn open_for(&self, id: LogId) -> io::Result<()> {
        if self.durable.load(Ordering::Acquire) <= id.index {
            return Err(io::Error::other(format!("no durable snapshot holds entry {}", id.index)));
        }
        self.audit.settle().await
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let meta = self.0.read().standing.meta.clone();
        Ok((meta.last_log_id, meta.last_membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let answer = self.0.apply(&entry)?;
            if let Some(responder) = responder {
                responder.send(Answered(answer));
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        bytes: SnapshotData,
    ) -> Result<(), io::Error> {
        let (standing, machine) = decode(&bytes).map_err(io::Error::other)?;
        if standing.meta != *meta {
            return Err(io::Error::other("a snapshot is not the one it was announced as"));
        }
        Outdated::check(&machine).map_err(io::Error::other)?;
        let inner = self.0.clone();
        inner.save(meta.clone(), bytes).await?;
        let (last, hash) = (meta.last_log_id, standing.hash);
        inner.audit.put(machine.audit().values().cloned());
        inner.disks.learn(standing.meta.last_membership.membership());
        *inner.write() = Held { machine, standing, ..Held::default() };
        inner.reset_store();
        if let Some(probe) = &inner.probe {
            probe.installed(last.map_or(0, |id| id.index), hash);
        }
        inner.applied.send_replace(last);
        inner.stirred.send_replace(last.map_or(0, |id| id.index));
        inner.audit_gap.notify_one();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf>, io::Error> {
        let current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(current
            .as_ref()
            .map(|(meta, bytes)| SnapshotOf { meta: meta.clone(), snapshot: bytes.clone() }))
    }
}

impl Inner {
    /// As [`Log::no_space`](cryptorun_platform::segments::Log::no_space), for a snapshot.
    pub fn no_space(&self) -> Option<NoSpace> {
        self.space.borrow().short.clone()
    }

    /// Nothing waits for room any more: the node stops.
    pub fn give_up_waiting(&self) {
        self.space.send_modify(|space| space.given_up = true);
    }

    /// openraft would end over a snapshot that cannot be written; the log holds what it stands for.
    async fn keep_when_there_is_space(&self, last: Option<LogId>, bytes: &Bytes) -> io::Result<()> {
        let mut space = self.space.subscribe();
        loop {
            let (files, written) = (self.snapshots.clone(), bytes.clone());
            let kept = self.blocking.run(move || files.keep(last, &written)).await;
            match kept {
                Err(error) if is_full(&error) && !space.borrow().given_up => {
                    let short = self.snapshots.no_space(bytes.len());
                    self.space.send_modify(|space| {
                        if space.short.replace(short).is_none() {
                            tracing::error!(%error, "no space for a snapshot: it waits");
                        }
                    });
                    drop(tokio::time::timeout(SPACE_RETRY, space.wait_for(|s| s.given_up)).await);
                }
                other => {
                    self.space.send_modify(|space| space.short = None);
                    return other;
                }
            }
        }
    }

    /// Puts a snapshot on the medium, then makes it the current one.
    async fn save(self: &Arc<Self>, meta: SnapshotMeta, bytes: Bytes) -> io::Result<()> {
        let last = meta.last_log_id;
        self.keep_when_there_is_space(last, &bytes).await?;
        self.durable.fetch_max(last.map_or(0, |id| id.index + 1), Ordering::AcqRel);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // A build that ends after an install must not bring the older one back.
        if current.as_ref().is_none_or(|(held, _)| held.last_log_id <= meta.last_log_id) {
            *current = Some((meta, bytes));
        }
        Ok(())
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf, io::Error> {
        let (bytes, meta) = {
            let held = self.0.read();
            let bytes = encode(&held.machine, &held.standing).map_err(io::Error::other)?;
            (Bytes::from(bytes), held.standing.meta.clone())
        };
        self.0.save(meta.clone(), bytes.clone()).await?;
        Ok(SnapshotOf { meta, snapshot: bytes })
    }
}
