//! A sink: the batch log and store of one scope in one region, behind the fence.
//!
//! Whoever writes shows a token. Check and write are one critical section with respect to sealing:
//! a seal waits for the write in flight, raises the highest token on the disk, and only then says
//! where the chain ends. So what a seal answered is final.
//!
//! What always holds:
//!  1. a token below the highest is turned away, counted and noted; the highest is on the disk
//!     before the first write under it, and only seals and committed grants raise it;
//!  2. a record is visible only after its sync, and an own one only if the lease lived then too;
//!     one that came too late leaves the chain at once and is kept as a fork;
//!  3. records of an older token beyond the start of a later reign are never served: they are cut
//!     before anything else is exchanged;
//!  4. no caller that gives up leaves a write half done: each act runs to its end by itself.
//!
//! Deliberately absent: leases (the writer brings the question), the network, candles' meaning.
//! Next: `warm/log.rs` for what is on the disk, `warm/scope.rs` for who calls.

use crate::journal::{Moment, Note};
use crate::warm::batch::{Batch, Header};
use crate::warm::fork::{self, Forks};
use crate::warm::log::{BatchLog, ChainError, Draft, Entry, LogError, Origin};
use crate::warm::store::{Store, StoreError};
use bytes::Bytes;
use cryptorun_core::position::Position;
use cryptorun_core::region::RegionName;
use cryptorun_core::report::{Fork, Sealed};
use cryptorun_core::scope::{Reign, ScopeId};
use cryptorun_core::token::Token;
use cryptorun_core::wire::{Fate, JournalRange};
use cryptorun_platform::Platform;
use cryptorun_platform::segments::{Driver, Log, NoSpace, Owner, Settings};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{oneshot, watch};

/// A day of batches; zeroing one takes milliseconds.
pub const SEGMENT_BYTES: u64 = 8 << 20;

/// What others may know of a sink without waiting for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub end: Position,
    pub last: Option<Header>,
    pub rows: u64,
    /// The highest token stored.
    pub highest: Token,
    /// The last seal's answer, until a grant at or above it is known.
    pub sealed: Option<Sealed>,
    /// Writes turned away since the log began.
    pub fenced: u64,
    pub forks: Vec<Fork>,
    /// Why the data is not to be trusted, while it is not.
    pub degraded: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("token {presented} is below {current}, the highest this sink has seen")]
    Fenced { presented: Token, current: Token },
    #[error("token {presented} was not granted here yet; {current} is the highest known")]
    NotGranted { presented: Token, current: Token },
    #[error("the lease under token {token} was over {} the write: it is kept as a fork", if *.synced { "after" } else { "before" })]
    Late { token: Token, synced: bool },
    #[error("this sink is sealed under {token} and takes nothing until that is granted")]
    Sealed { token: Token },
    #[error("this sink takes nothing more: {0}")]
    Full(NoSpace),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Log(LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot keep a fork: {0}")]
    Fork(io::Error),
    #[error("the chain cannot be cut at record {to}: it is not in memory any more")]
    CutTooDeep { to: u64 },
    #[error("the sink is shutting down")]
    Stopped,
}

impl From<LogError> for SinkError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Chain(chain) => Self::Chain(chain),
            other => Self::Log(other),
        }
    }
}

/// What prevents a sink from opening.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot open the warm log of {scope}: {source}")]
    Log { scope: ScopeId, source: LogError },
    #[error("cannot open the warm store of {scope}: {source}")]
    Store { scope: ScopeId, source: StoreError },
    #[error("cannot open the forks of {scope}: {source}")]
    Forks { scope: ScopeId, source: io::Error },
}

/// Asked just before and just after the write: whether the lease under the token lives.
pub type Lives = Arc<dyn Fn() -> bool + Send + Sync>;

/// A cheap handle; clones are the same sink.
#[derive(Clone)]
pub struct Sink(Arc<Inner>);

struct Inner {
    scope: ScopeId,
    region: RegionName,
    platform: Platform,
    log: BatchLog,
    store: Arc<Mutex<Store>>,
    /// The critical section of invariant 1.
    gate: tokio::sync::Mutex<Guarded>,
    view: watch::Sender<View>,
    /// Why the store lacks the end of the chain, while it does.
    behind: Mutex<Option<String>>,
}

/// What the gate guards beyond the log.
struct Guarded {
    forks: Forks,
    /// A record that was synced when its lease was over, until it is out of the chain: nothing may
    /// follow where it stands.
    unseen: Option<Entry>,
}

/// Where a sink's parts are.
pub struct Place<'a> {
    /// Relative to the platform's disk.
    pub dir: &'a Path,
    /// The store's file, for SQLite; none keeps it in memory (tests).
    pub store: Option<PathBuf>,
    pub owner: Owner,
    pub segment_bytes: u64,
}

/// Notes that a crash took while their forks stayed: a fork is on the disk before its note.
fn note_forks_again(log: &BatchLog, forks: &Forks, at: Moment) {
    for Fork { token, from_seq, to_seq, rows, .. } in forks.list() {
        if !log.with_journal(|journal| journal.has_forked(token, from_seq, to_seq)) {
            log.note(Note { token, fate: Fate::Forked, from_seq, to_seq, rows, at });
        }
    }
}

impl Sink {
    /// Opens or founds a sink; replays what the store lacks.
    pub fn open(
        platform: &Platform,
        place: Place<'_>,
        scope: &ScopeId,
        region: &RegionName,
        driver: Driver,
    ) -> Result<Self, OpenError> {
        let settings =
            Settings { segment_bytes: place.segment_bytes, ..Settings::new(place.owner) };
        let disk = Arc::clone(&platform.disk);
        let dir = place.dir.join("log");
        let log = BatchLog::open(|visit| Log::open_with(disk, dir, settings, driver, visit))
            .map_err(|source| OpenError::Log { scope: scope.clone(), source })?;
        let forks = Forks::open(platform.disk.as_ref(), &place.dir.join("forks"), scope, region)
            .map_err(|source| OpenError::Forks { scope: scope.clone(), source })?;
        let at = Moment { wall: platform.clock.wall(), boot_ns: platform.clock.boot().0 };
        note_forks_again(&log, &forks, at);
        let store = (|| {
            let mut store = match &place.store {
                Some(path) => Store::open(path)?,
                None => Store::in_memory()?,
            };
            catch_up(&mut store, &log)?;
            Ok(store)
        })()
        .map_err(|source| OpenError::Store { scope: scope.clone(), source })?;
        let fenced = log.with_journal(|journal| {
            journal.ranges().iter().filter(|r| r.fate == Fate::Fenced).count() as u64
        });
        let view = View {
            end: log.end(),
            last: log.last(),
            rows: log.rows(),
            highest: log.fence(),
            fenced,
            forks: forks.list(),
            ..View::default()
        };
        Ok(Self(Arc::new(Inner {
            scope: scope.clone(),
            region: region.clone(),
            platform: platform.clone(),
            log,
            store: Arc::new(Mutex::new(store)),
            gate: tokio::sync::Mutex::new(Guarded { forks, unseen: None }),
            view: watch::Sender::new(view),
            behind: Mutex::default(),
        })))
    }

    pub fn scope(&self) -> &ScopeId {
        &self.0.scope
    }

    pub fn region(&self) -> &RegionName {
        &self.0.region
    }

    pub fn view(&self) -> View {
        self.0.view.borrow().clone()
    }

    /// Told of every change of the view.
    pub fn watch(&self) -> watch::Receiver<View> {
        self.0.view.subscribe()
    }

    pub fn journal(&self) -> Vec<JournalRange> {
        self.0.log.with_journal(|journal| journal.ranges().to_vec())
    }

    /// First and last visible write under a token, by the wall clock.
    pub fn visible(
        &self,
        token: Token,
    ) -> Option<(cryptorun_core::time::WallTime, cryptorun_core::time::WallTime)> {
        self.0.log.with_journal(|journal| journal.visible(token))
    }

    /// The last moment at which anything written here was visible, whatever its token.
    pub fn last_visible(&self) -> Option<cryptorun_core::time::WallTime> {
        self.0.log.with_journal(|journal| journal.last_visible())
    }

    /// Writes a record as holder. `make` gets the position it will follow.
    pub async fn write(
        &self,
        token: Token,
        make: impl FnOnce(Position) -> Batch + Send + 'static,
        lives: Lives,
    ) -> Result<Entry, SinkError> {
        self.run(|inner| async move { inner.write(token, make, &lives).await }).await
    }

    /// Keeps what a holder had admitted and could not write in time: a fork of the end of its
    /// chain that was never part of it.
    pub async fn keep_late(
        &self,
        token: Token,
        make: impl FnOnce(Position) -> Batch + Send + 'static,
    ) -> Result<(), SinkError> {
        self.run(|inner| async move {
            let mut gate = inner.enter().await?;
            inner.keep_late(&mut gate.forks, token, make(inner.log.end()))
        })
        .await
    }

    /// Applies records of another sink that follow the chain, as far as the known reigns allow;
    /// the newest reign is the last. Says how many were new.
    pub async fn follow(
        &self,
        records: Vec<Bytes>,
        reigns: Vec<Reign>,
    ) -> Result<usize, SinkError> {
        self.run(|inner| async move { inner.follow(records, &reigns).await }).await
    }

    /// Takes records of a sealed sink under the token that was reserved, up to `to`.
    pub async fn adopt(
        &self,
        token: Token,
        to: Position,
        records: Vec<Bytes>,
    ) -> Result<usize, SinkError> {
        self.run(|inner| async move { inner.adopt(token, to, records).await }).await
    }

    /// Refuses everything below `token` from now on and says where the chain ends.
    pub async fn seal(&self, token: Token) -> Result<Sealed, SinkError> {
        self.run(|inner| async move {
            let before = inner.log.end();
            if cryptorun_core::seeded_bug::is("tail_before_seal") {
                tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
            }
            let _gate = inner.enter().await?;
            if !cryptorun_core::seeded_bug::is("seal_skipped") {
                inner.raise(token).await?;
            }
            let late = cryptorun_core::seeded_bug::is("tail_before_seal");
            let end = if late { before } else { inner.log.end() };
            let sealed = Sealed { token, end };
            inner.view.send_modify(|view| view.sealed = Some(sealed));
            Ok(sealed)
        })
        .await
    }

    /// Takes over the reigns as the cluster committed them: raises the highest token to the last
    /// one's and cuts what lies beyond a later reign's start. Says whether anything was cut.
    pub async fn acknowledge(&self, reigns: Vec<Reign>) -> Result<bool, SinkError> {
        let Some(last) = reigns.last().map(|reign| reign.token) else { return Ok(false) };
        self.run(|inner| async move {
            let mut gate = inner.enter().await?;
            if last > inner.log.fence() {
                inner.raise(last).await?;
            }
            inner.view.send_modify(|view| {
                view.sealed = view.sealed.filter(|sealed| sealed.token > last);
            });
            let Some(to) = fork::cut_behind(&reigns, inner.log.tokens().into_iter()) else {
                return Ok(false);
            };
            inner.cut(&mut gate.forks, to).await?;
            Ok(true)
        })
        .await
    }

    /// Records behind `after`, at most `bytes_max` of them in bytes but one if there is one. None
    /// when `after` is ahead of this chain; an error when it is not on it.
    pub async fn read(
        &self,
        after: Position,
        bytes_max: usize,
    ) -> Result<Option<Vec<Bytes>>, SinkError> {
        let end = self.0.log.end();
        if after.seq > end.seq {
            return Ok(None);
        }
        let known = match self.0.log.position_at(after.seq) {
            Some(position) => position.hash,
            None => {
                let seq = after.seq;
                self.with_store(move |store| store.hash_at(seq)).await?.unwrap_or_default()
            }
        };
        if known != after.hash {
            return Err(ChainError::Diverged { seq: after.seq }.into());
        }
        if let Some(entries) = self.0.log.since(after.seq) {
            let mut size = 0;
            let fits = |entry: &Entry| {
                size += entry.bytes.len();
                size <= bytes_max || size == entry.bytes.len()
            };
            return Ok(Some(
                entries
                    .into_iter()
                    .take_while({
                        let mut fits = fits;
                        move |entry| fits(entry)
                    })
                    .map(|entry| entry.bytes)
                    .collect(),
            ));
        }
        let old =
            self.with_store(move |store| store.batches(after.seq, end.seq, bytes_max)).await?;
        Ok(Some(old.into_iter().map(Bytes::from).collect()))
    }

    /// Runs a question to the store on a thread of its own.
    pub async fn with_store<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, SinkError> {
        Ok(self.0.with_store(ask).await??)
    }

    /// Marks the data as not to be trusted, or as good again.
    pub fn set_degraded(&self, why: Option<String>) {
        self.0.view.send_if_modified(|view| {
            let changed = view.degraded != why;
            view.degraded = why;
            changed
        });
    }

    /// Marks the data as good again where `why` is all that was said against it.
    pub fn take_back(&self, why: &str) {
        self.0.view.send_if_modified(|view| view.degraded.take_if(|said| *said == why).is_some());
    }

    /// Counts a foreign write that was refused before it reached the log.
    pub fn count_fenced(&self, token: Token, seq: u64, rows: u64) {
        self.0.turned_away(token, seq, rows, Fate::Fenced);
        self.0.show(None);
    }

    /// Returns when the disk has failed the log.
    pub async fn failed(&self) -> String {
        self.0.log.failed().await.to_string()
    }

    pub async fn close(&self) -> io::Result<()> {
        let _gate = self.0.gate.lock().await;
        self.0.log.close().await
    }

    /// Runs an act to its end even if the caller stops waiting.
    async fn run<T, F, A>(&self, act: A) -> Result<T, SinkError>
    where
        T: Send + 'static,
        A: FnOnce(Arc<Inner>) -> F,
        F: Future<Output = Result<T, SinkError>> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let act = act(Arc::clone(&self.0));
        let task = Box::pin(async move { drop(tell.send(act.await)) });
        drop(self.0.platform.spawn.spawn("sink", task));
        told.await.unwrap_or(Err(SinkError::Stopped))
    }
}

impl Inner {
    async fn write(
        &self,
        token: Token,
        make: impl FnOnce(Position) -> Batch,
        lives: &Lives,
    ) -> Result<Entry, SinkError> {
        let mut gate = self.enter().await?;
        let current = self.log.fence();
        let batch = make(self.log.end());
        if token < current && !cryptorun_core::seeded_bug::is("fence_check_removed") {
            self.keep_late(&mut gate.forks, token, batch)?;
            return Err(SinkError::Fenced { presented: token, current });
        }
        if token > current {
            return Err(SinkError::NotGranted { presented: token, current });
        }
        let sealed = self.view.borrow().sealed.map(|sealed| sealed.token);
        if let Some(sealed) = sealed.filter(|sealed| *sealed >= token) {
            return Err(SinkError::Sealed { token: sealed });
        }
        let at = self.moment();
        if !lives() {
            self.keep_late(&mut gate.forks, token, batch)?;
            return Err(SinkError::Late { token, synced: false });
        }
        self.has_space()?;
        let bytes = Bytes::from(batch.encode());
        let draft = Draft { bytes, origin: Origin::Own, shown: token, at };
        let entries = self.log.append(vec![draft]).await?;
        if !lives() && !cryptorun_core::seeded_bug::is("late_write_published") {
            // Synced and seen by nobody: it leaves the chain before anything else gets in.
            gate.unseen = entries.into_iter().next();
            self.withdraw(&mut gate).await?;
            return Err(SinkError::Late { token, synced: true });
        }
        self.publish(&entries).await?;
        entries.into_iter().next().ok_or(SinkError::Stopped)
    }

    /// Through the gate, once what must not be followed is out of the way.
    async fn enter(&self) -> Result<tokio::sync::MutexGuard<'_, Guarded>, SinkError> {
        let mut gate = self.gate.lock().await;
        self.withdraw(&mut gate).await?;
        Ok(gate)
    }

    /// Keeps a record that came too late as a fork and cuts it off. Where the disk is full it stays
    /// where it is, and the gate shut, until it is not.
    async fn withdraw(&self, gate: &mut Guarded) -> Result<(), SinkError> {
        let Guarded { forks, unseen } = gate;
        let Some(entry) = unseen else { return Ok(()) };
        let (token, seq) = (entry.header.token, entry.position.seq);
        let rows = u64::from(entry.header.rows);
        let disk = self.platform.disk.as_ref();
        forks.keep(disk, token, std::slice::from_ref(&entry.bytes)).map_err(SinkError::Fork)?;
        self.log.cut(seq - 1).await?;
        *unseen = None;
        self.turned_away(token, seq, rows, Fate::Fenced);
        self.turned_away(token, seq, rows, Fate::Forked);
        self.show(Some(forks));
        Ok(())
    }

    async fn follow(&self, records: Vec<Bytes>, reigns: &[Reign]) -> Result<usize, SinkError> {
        let _gate = self.enter().await?;
        let newest = reigns.last().map_or(Token::NONE, |reign| reign.token);
        let current = self.log.fence();
        if newest < current {
            return Err(SinkError::Sealed { token: current });
        }
        let mut stopped = None;
        let mut taken = Vec::new();
        for bytes in records {
            let header = match crate::warm::batch::decode_header(&bytes) {
                Ok(header) => header,
                Err(error) => {
                    stopped = Some(ChainError::Unreadable(error).into());
                    break;
                }
            };
            let (seq, token) = (header.seq(), header.token);
            let beyond = fork::committed_end(reigns, token).is_some_and(|end| seq > end);
            if beyond && !cryptorun_core::seeded_bug::is("beyond_end_followed") {
                self.turned_away(token, seq, u64::from(header.rows), Fate::Fenced);
                stopped = Some(SinkError::Fenced { presented: token, current });
                break;
            }
            if token > newest {
                stopped = Some(SinkError::NotGranted { presented: token, current: newest });
                break;
            }
            taken.push((bytes, token));
        }
        let done = self.append_foreign(taken, Origin::Followed, None).await;
        self.show(None);
        match (done, stopped) {
            (Err(error), _) | (Ok(0), Some(error)) => Err(error),
            (Ok(count), _) => Ok(count),
        }
    }

    async fn adopt(
        &self,
        token: Token,
        to: Position,
        records: Vec<Bytes>,
    ) -> Result<usize, SinkError> {
        let _gate = self.enter().await?;
        let current = self.log.fence();
        match token.cmp(&current) {
            std::cmp::Ordering::Less => {
                return Err(SinkError::Fenced { presented: token, current });
            }
            std::cmp::Ordering::Greater => {
                return Err(SinkError::NotGranted { presented: token, current });
            }
            std::cmp::Ordering::Equal => {}
        }
        let fits = |bytes: &Bytes| {
            crate::warm::batch::decode_header(bytes).is_ok_and(|h| h.seq() <= to.seq)
        };
        let taken: Vec<_> =
            records.into_iter().take_while(fits).map(|bytes| (bytes, token)).collect();
        let done = self.append_foreign(taken, Origin::Adopted, Some(to)).await?;
        self.show(None);
        Ok(done)
    }

    /// Skips what is there already; appends and publishes the rest as one run.
    async fn append_foreign(
        &self,
        records: Vec<(Bytes, Token)>,
        origin: Origin,
        to: Option<Position>,
    ) -> Result<usize, SinkError> {
        self.has_space()?;
        let (at, end) = (self.moment(), self.log.end());
        let mut drafts = Vec::new();
        let mut last = end;
        for (bytes, shown) in records {
            let Ok(header) = crate::warm::batch::decode_header(&bytes) else { break };
            if header.seq() <= end.seq {
                continue;
            }
            last = crate::warm::batch::position_after(last, &bytes);
            drafts.push(Draft { bytes, origin, shown, at });
        }
        if drafts.is_empty() {
            return Ok(0);
        }
        if let Some(to) = to
            && last.seq == to.seq
            && last.hash != to.hash
        {
            return Err(ChainError::Diverged { seq: to.seq }.into());
        }
        let entries = self.log.append(drafts).await?;
        self.publish(&entries).await?;
        Ok(entries.len())
    }

    /// A full disk takes fences, cuts and notes in what is left of the segment, and no records: a
    /// seal must not wait behind one that finds no room.
    fn has_space(&self) -> Result<(), SinkError> {
        self.log.no_space().map_or(Ok(()), |short| Err(SinkError::Full(short)))
    }

    async fn publish(&self, entries: &[Entry]) -> Result<(), SinkError> {
        self.log.publish(entries, self.moment());
        let behind = self.behind();
        let missed = match behind {
            // The store did not take what came before: a full disk, perhaps. The chain has it.
            Some(_) => {
                let at = self.with_store(|store| store.position().seq).await?;
                self.log.since(at)
            }
            None => None,
        };
        let entries = missed.as_deref().unwrap_or(entries);
        let records: Vec<_> = entries.iter().map(|e| (e.bytes.clone(), e.position.hash)).collect();
        let applied = self
            .with_store(move |store| {
                records.iter().try_for_each(|(bytes, hash)| store.apply(bytes, *hash).map(drop))
            })
            .await?;
        self.show(None);
        // Readers are told; the next record tries again, and a restart replays the log.
        let now = applied.err().map(|error| error.to_string());
        self.view.send_if_modified(|view| {
            if now.is_some() || view.degraded == behind {
                let changed = view.degraded != now;
                view.degraded.clone_from(&now);
                return changed;
            }
            false
        });
        *self.behind.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(())
    }

    fn behind(&self) -> Option<String> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn cut(&self, forks: &mut Forks, to: u64) -> Result<(), SinkError> {
        self.log.position_at(to).ok_or(SinkError::CutTooDeep { to })?;
        let gone = self.log.since(to).ok_or(SinkError::CutTooDeep { to })?;
        let mut by_token: std::collections::BTreeMap<Token, Vec<&Entry>> = Default::default();
        gone.iter().for_each(|entry| by_token.entry(entry.header.token).or_default().push(entry));
        let at = self.moment();
        for (token, entries) in by_token {
            let records: Vec<Bytes> = entries.iter().map(|entry| entry.bytes.clone()).collect();
            let disk = self.platform.disk.as_ref();
            if cryptorun_core::seeded_bug::is("fork_discarded") {
                continue;
            }
            let fork = forks.keep(disk, token, &records).map_err(SinkError::Fork)?;
            tracing::warn!(scope = %self.scope, fork = %fork.name, rows = fork.rows, "fork cut");
            self.log.note(Note {
                token,
                fate: Fate::Forked,
                from_seq: entries.first().map_or(0, |entry| entry.position.seq),
                to_seq: entries.last().map_or(0, |entry| entry.position.seq),
                rows: entries.iter().map(|entry| u64::from(entry.header.rows)).sum(),
                at,
            });
        }
        self.log.cut(to).await?;
        self.with_store(move |store| store.roll_back(to)).await??;
        self.show(Some(forks));
        Ok(())
    }

    /// Counts a write that came too late, and keeps its rows as a fork.
    fn keep_late(&self, forks: &mut Forks, token: Token, batch: Batch) -> Result<(), SinkError> {
        let (seq, rows) = (batch.header.seq(), u64::from(batch.header.rows));
        self.turned_away(token, seq, rows, Fate::Fenced);
        if rows > 0 {
            let disk = self.platform.disk.as_ref();
            let record = Bytes::from(batch.encode());
            forks.keep(disk, token, &[record]).map_err(SinkError::Fork)?;
            self.turned_away(token, seq, rows, Fate::Forked);
        }
        self.show(Some(forks));
        Ok(())
    }

    async fn raise(&self, token: Token) -> Result<(), SinkError> {
        let current = self.log.fence();
        if token < current {
            return Err(SinkError::Fenced { presented: token, current });
        }
        self.log.raise_fence(token).await?;
        self.view.send_modify(|view| view.highest = self.log.fence());
        Ok(())
    }

    fn turned_away(&self, token: Token, seq: u64, rows: u64, fate: Fate) {
        self.log.note(Note { token, fate, from_seq: seq, to_seq: seq, rows, at: self.moment() });
        if fate == Fate::Fenced {
            self.view.send_modify(|view| view.fenced += 1);
            tracing::warn!(scope = %self.scope, %token, seq, rows, "write turned away");
        }
    }

    fn show(&self, forks: Option<&Forks>) {
        self.view.send_modify(|view| {
            view.end = self.log.end();
            view.last = self.log.last();
            view.rows = self.log.rows();
            view.highest = self.log.fence();
            if let Some(forks) = forks {
                view.forks = forks.list();
            }
        });
    }

    fn moment(&self) -> Moment {
        Moment { wall: self.platform.clock.wall(), boot_ns: self.platform.clock.boot().0 }
    }

    async fn with_store<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Result<T, SinkError> {
        let store = Arc::clone(&self.store);
        let (tell, told) = oneshot::channel();
        let work = Box::new(move || drop(tell.send(ask(&mut lock(&store)))));
        self.platform.spawn.blocking(work).await;
        told.await.map_err(|_| SinkError::Stopped)
    }
}

/// Brings a store to the end of the log: back to where they agree, then forward.
fn catch_up(store: &mut Store, log: &BatchLog) -> Result<(), StoreError> {
    let mut at = store.position().seq.min(log.end().seq);
    while at > 0
        && let Some(position) = log.position_at(at)
        && store.hash_at(at)? != Some(position.hash)
    {
        at -= 1;
    }
    store.roll_back(at)?;
    for entry in log.since(at).unwrap_or_default() {
        store.apply(&entry.bytes, entry.position.hash)?;
    }
    Ok(())
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests;
