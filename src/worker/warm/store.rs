//! The warm store: candles as they stand at one position of the batch log, in SQLite.
//!
//! A batch, the position behind it and its rows commit together; that one transaction is what
//! makes applying exactly-once. What a row replaced is kept beside it, so that the store can be
//! taken back when records are cut into a fork. The log is the truth and is synced first: a store
//! that lost its last transactions in a power cut replays them from there.
//!
//! What always holds:
//!  1. the candles are those of the chain up to [`Store::position`], no more and no less;
//!  2. a record is applied only at `position + 1` and only on the hash it names as its
//!     predecessor; the same number with another hash is a divergence and changes nothing.
//!
//! Blocking: callers on the runtime bring a thread. Next: `log.rs` for what is replayed from.

use super::batch::{self, Batch, BatchError};
use crate::candle::Candle;
use crate::ingest::model::Source;
use cryptorun_core::position::{Hash, Position};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Another process (a backup, a person with `sqlite3`) may hold the file this long.
const BUSY_FOR: Duration = Duration::from_secs(5);
/// Batches whose replaced rows are kept for taking back: a day at one in ten seconds. A fork is
/// cut within minutes of the reign that ends it.
const UNDO_KEPT: u64 = 8_640;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS position (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS batch (seq INTEGER PRIMARY KEY, hash BLOB NOT NULL, bytes BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS candle (
  venue INTEGER NOT NULL, symbol TEXT NOT NULL, open_us INTEGER NOT NULL,
  revision INTEGER NOT NULL, state INTEGER NOT NULL, seq INTEGER NOT NULL, row BLOB NOT NULL,
  PRIMARY KEY (venue, symbol, open_us)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS undo (
  seq INTEGER NOT NULL, venue INTEGER NOT NULL, symbol TEXT NOT NULL, open_us INTEGER NOT NULL,
  old_seq INTEGER, old BLOB, PRIMARY KEY (seq, venue, symbol, open_us)) WITHOUT ROWID;
";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("warm store {path} cannot be used: {source}")]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("warm store {path} holds a row it did not write: {source}")]
    Damaged { path: PathBuf, source: BatchError },
    #[error("record {seq} has hash {offered} where the store has {stored}: histories differ")]
    Diverged { seq: u64, stored: String, offered: String },
    #[error("record {offered} does not follow record {at}")]
    Gap { at: u64, offered: u64 },
    #[error("the store cannot go back to record {to}: what record {oldest} replaced is forgotten")]
    TooFarBack { to: u64, oldest: u64 },
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    New,
    Duplicate,
}

pub struct Store {
    db: Connection,
    path: PathBuf,
    position: Position,
}

impl Store {
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let db = Connection::open(path).map_err(|source| at(path, source))?;
        Self::set_up(db, path)
    }

    /// One that is gone with the value; for tests.
    pub fn in_memory() -> Result<Self, StoreError> {
        let path = Path::new(":memory:");
        Self::set_up(Connection::open_in_memory().map_err(|source| at(path, source))?, path)
    }

    fn set_up(db: Connection, path: &Path) -> Result<Self, StoreError> {
        let set_up = || -> rusqlite::Result<Position> {
            db.busy_timeout(BUSY_FOR)?;
            // NORMAL: a power cut may take the last transactions, never the file's soundness.
            db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
            db.execute_batch(SCHEMA)?;
            let read = |row: &rusqlite::Row<'_>| {
                Ok(Position { seq: row.get::<_, i64>(0)?.cast_unsigned(), hash: Hash(row.get(1)?) })
            };
            let found = db.query_row("SELECT seq, hash FROM position", [], read).optional()?;
            Ok(found.unwrap_or_default())
        };
        let position = set_up().map_err(|source| at(path, source))?;
        Ok(Self { db, path: path.to_owned(), position })
    }

    /// For tests that take something away from it.
    #[cfg(test)]
    pub(crate) fn connection(&self) -> &Connection {
        &self.db
    }

    /// The record up to which it is applied.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Applies one record, `bytes` being what `at` was hashed over.
    pub fn apply(&mut self, bytes: &[u8], hash: Hash) -> Result<Applied, StoreError> {
        let batch = Batch::decode(bytes).map_err(|source| self.damaged(source))?;
        let header = batch.header;
        if header.seq() <= self.position.seq {
            let stored = self.hash_at(header.seq())?.unwrap_or_default();
            return match stored == hash {
                true => Ok(Applied::Duplicate),
                false => Err(diverged(header.seq(), stored, hash)),
            };
        }
        if header.seq() != self.position.seq + 1 {
            return Err(StoreError::Gap { at: self.position.seq, offered: header.seq() });
        }
        if header.prev.hash != self.position.hash {
            return Err(diverged(self.position.seq, self.position.hash, header.prev.hash));
        }
        let end = Position { seq: header.seq(), hash };
        let commit = |db: &mut Connection| -> rusqlite::Result<()> {
            let tx = db.transaction()?;
            for row in &batch.rows {
                put_row(&tx, end.seq, row)?;
            }
            tx.prepare_cached("INSERT INTO batch (seq, hash, bytes) VALUES (?1, ?2, ?3)")?
                .execute(params![end.seq.cast_signed(), end.hash.0, bytes])?;
            tx.prepare_cached("DELETE FROM undo WHERE seq <= ?1")?
                .execute([end.seq.saturating_sub(UNDO_KEPT).cast_signed()])?;
            set_position(&tx, end)?;
            tx.commit()
        };
        commit(&mut self.db).map_err(|source| at(&self.path, source))?;
        self.position = end;
        Ok(Applied::New)
    }

    /// Takes the store back to the state behind record `to`.
    pub fn roll_back(&mut self, to: u64) -> Result<(), StoreError> {
        if to >= self.position.seq {
            return Ok(());
        }
        let hash = match to {
            0 => Hash::ZERO,
            _ => self.hash_at(to)?.unwrap_or_default(),
        };
        if self.position.seq - to > UNDO_KEPT {
            let oldest = self.position.seq - UNDO_KEPT + 1;
            return Err(StoreError::TooFarBack { to, oldest });
        }
        let end = Position { seq: to, hash };
        let commit = |db: &mut Connection| -> rusqlite::Result<()> {
            let tx = db.transaction()?;
            undo(&tx, to)?;
            tx.execute("DELETE FROM batch WHERE seq > ?1", [to.cast_signed()])?;
            tx.execute("DELETE FROM undo WHERE seq > ?1", [to.cast_signed()])?;
            set_position(&tx, end)?;
            tx.commit()
        };
        commit(&mut self.db).map_err(|source| at(&self.path, source))?;
        self.position = end;
        Ok(())
    }

    pub fn hash_at(&self, seq: u64) -> Result<Option<Hash>, StoreError> {
        self.db
            .prepare_cached("SELECT hash FROM batch WHERE seq = ?1")
            .and_then(|mut q| q.query_row([seq.cast_signed()], |r| r.get(0)).optional())
            .map(|found| found.map(Hash))
            .map_err(|source| at(&self.path, source))
    }

    /// Records `after+1..`, at most `bytes_max` of them in bytes but always one.
    pub fn batches(
        &self,
        after: u64,
        to: u64,
        bytes_max: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let read = || -> rusqlite::Result<Vec<Vec<u8>>> {
            let mut query = self.db.prepare_cached(
                "SELECT bytes FROM batch WHERE seq > ?1 AND seq <= ?2 ORDER BY seq",
            )?;
            let mut rows = query.query([after.cast_signed(), to.cast_signed()])?;
            let (mut found, mut size) = (Vec::<Vec<u8>>::new(), 0);
            while let Some(row) = rows.next()? {
                let bytes: Vec<u8> = row.get(0)?;
                size += bytes.len();
                if size > bytes_max && !found.is_empty() {
                    break;
                }
                found.push(bytes);
            }
            Ok(found)
        };
        read().map_err(|source| at(&self.path, source))
    }

    /// Candles of one source that open in `from..to`, oldest first, at most `limit`.
    pub fn candles(
        &self,
        source: &Source,
        from_us: u64,
        to_us: u64,
        limit: usize,
    ) -> Result<Vec<Candle>, StoreError> {
        let sql = "SELECT row FROM candle WHERE venue = ?1 AND symbol = ?2 AND open_us >= ?3
                   AND open_us < ?4 ORDER BY open_us LIMIT ?5";
        let clamp = |us: u64| i64::try_from(us).unwrap_or(i64::MAX);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let (venue, symbol) = (source.venue.code(), source.symbol.as_str());
        self.rows(sql, params![venue, symbol, clamp(from_us), clamp(to_us), limit])
    }

    /// As [`Store::candles`], of more than `limit` the latest.
    pub fn candles_latest(
        &self,
        source: &Source,
        from_us: u64,
        to_us: u64,
        limit: usize,
    ) -> Result<Vec<Candle>, StoreError> {
        let sql =
            "SELECT row FROM (SELECT row, open_us FROM candle WHERE venue = ?1 AND symbol = ?2
                   AND open_us >= ?3 AND open_us < ?4 ORDER BY open_us DESC LIMIT ?5)
                   ORDER BY open_us";
        let clamp = |us: u64| i64::try_from(us).unwrap_or(i64::MAX);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let (venue, symbol) = (source.venue.code(), source.symbol.as_str());
        self.rows(sql, params![venue, symbol, clamp(from_us), clamp(to_us), limit])
    }

    /// The newest `keep` candles of each source: what an aggregator is seeded with.
    pub fn newest(&self, keep: usize) -> Result<Vec<Candle>, StoreError> {
        let sql = "SELECT row FROM (SELECT row, row_number() OVER
                   (PARTITION BY venue, symbol ORDER BY open_us DESC) AS age FROM candle)
                   WHERE age <= ?1";
        self.rows(sql, params![i64::try_from(keep).unwrap_or(i64::MAX)])
    }

    /// One hash over all candles in key order, with their number: equal at equal positions in
    /// every region.
    pub fn digest(&self) -> Result<(Hash, u64), StoreError> {
        let read = || -> rusqlite::Result<(Hash, u64)> {
            let mut query =
                self.db.prepare_cached("SELECT row FROM candle ORDER BY venue, symbol, open_us")?;
            let mut rows = query.query([])?;
            let (mut bytes, mut count) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                bytes.extend(Hash::of(row.get_ref(0)?.as_blob()?).0);
                count += 1;
            }
            Ok((Hash::of(&bytes), count))
        };
        read().map_err(|source| at(&self.path, source))
    }

    fn rows(&self, sql: &str, with: impl rusqlite::Params) -> Result<Vec<Candle>, StoreError> {
        let read = || -> rusqlite::Result<Vec<Vec<u8>>> {
            self.db.prepare_cached(sql)?.query_map(with, |row| row.get(0))?.collect()
        };
        let rows = read().map_err(|source| at(&self.path, source))?;
        rows.iter()
            .map(|bytes| batch::decode_row(bytes).map_err(|source| self.damaged(source)))
            .collect()
    }

    fn damaged(&self, source: BatchError) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), source }
    }
}

fn put_row(tx: &Transaction<'_>, seq: u64, row: &Candle) -> rusqlite::Result<()> {
    let key = (row.source.venue.code(), row.source.symbol.as_str(), row.open_us.cast_signed());
    // Twice in one batch: what stood there before the batch is what counts.
    tx.prepare_cached(
        "INSERT OR IGNORE INTO undo (seq, venue, symbol, open_us, old_seq, old)
         SELECT ?4, ?1, ?2, ?3, c.seq, c.row FROM (SELECT 1) LEFT JOIN candle c
         ON c.venue = ?1 AND c.symbol = ?2 AND c.open_us = ?3",
    )?
    .execute(params![key.0, key.1, key.2, seq.cast_signed()])?;
    tx.prepare_cached(
        "INSERT OR REPLACE INTO candle (venue, symbol, open_us, revision, state, seq, row)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        key.0,
        key.1,
        key.2,
        row.revision,
        batch::state_code(row.state),
        seq.cast_signed(),
        batch::encode_row(row)
    ])?;
    Ok(())
}

/// Newest first, so that each candle ends at what the oldest undone batch found.
fn undo(tx: &Transaction<'_>, to: u64) -> rusqlite::Result<()> {
    let mut query = tx.prepare(
        "SELECT venue, symbol, open_us, old_seq, old FROM undo WHERE seq > ?1 ORDER BY seq DESC",
    )?;
    let mut rows = query.query([to.cast_signed()])?;
    while let Some(row) = rows.next()? {
        let key: (u8, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let old: Option<Vec<u8>> = row.get(4)?;
        let decoded = old.as_deref().map(batch::decode_row).and_then(Result::ok);
        match (old, decoded) {
            (Some(bytes), Some(candle)) => {
                let seq: i64 = row.get(3)?;
                let state = batch::state_code(candle.state);
                tx.prepare_cached(
                    "INSERT OR REPLACE INTO candle (venue, symbol, open_us, revision, state, seq, row)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![key.0, key.1, key.2, candle.revision, state, seq, bytes])?;
            }
            _ => {
                tx.prepare_cached(
                    "DELETE FROM candle WHERE venue = ?1 AND symbol = ?2 AND open_us = ?3",
                )?
                .execute(params![key.0, key.1, key.2])?;
            }
        }
    }
    Ok(())
}

fn set_position(tx: &Transaction<'_>, end: Position) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO position (one, seq, hash) VALUES (1, ?1, ?2)")?
        .execute(params![end.seq.cast_signed(), end.hash.0])?;
    Ok(())
}

fn at(path: &Path, source: rusqlite::Error) -> StoreError {
    StoreError::Sqlite { path: path.to_owned(), source }
}

fn diverged(seq: u64, stored: Hash, offered: Hash) -> StoreError {
    StoreError::Diverged { seq, stored: stored.short(), offered: offered.short() }
}

#[cfg(test)]
mod tests {
    use super::super::batch::Kind;
    use super::super::batch::tests::{batch, row};
    use super::*;
    use cryptorun_core::token::Token;

    fn token() -> Token {
        Token { incarnation: 0, epoch: 1 }
    }

    /// A chain of batches, each with one row for the minute given.
    fn chain(minutes: &[(u64, i64)]) -> Vec<(Vec<u8>, Position)> {
        let mut end = Position::START;
        minutes
            .iter()
            .map(|(minute, close)| {
                let rows = vec![row("BTC/USD", *minute, *close)];
                let bytes = batch(token(), end, Kind::Data, rows).encode();
                end = batch::position_after(end, &bytes);
                (bytes, end)
            })
            .collect()
    }

    fn apply(store: &mut Store, records: &[(Vec<u8>, Position)]) {
        for (bytes, end) in records {
            assert_eq!(store.apply(bytes, end.hash).unwrap(), Applied::New);
        }
    }

    #[test]
    fn a_record_applies_once_in_order_and_on_its_own_predecessor() {
        let records = chain(&[(1, 5), (1, 6), (2, 7)]);
        let mut store = Store::in_memory().unwrap();
        let gap = store.apply(&records[1].0, records[1].1.hash);
        assert!(matches!(gap, Err(StoreError::Gap { at: 0, offered: 2 })));
        apply(&mut store, &records);
        assert_eq!(store.position(), records[2].1);
        assert_eq!(store.apply(&records[1].0, records[1].1.hash).unwrap(), Applied::Duplicate);
        let other = chain(&[(1, 5), (1, 9)]);
        let verdict = store.apply(&other[1].0, other[1].1.hash);
        assert!(matches!(verdict, Err(StoreError::Diverged { seq: 2, .. })));
        assert_eq!(store.digest().unwrap().1, 2);
    }

    #[test]
    fn going_back_gives_the_store_that_never_saw_the_fork() {
        let records = chain(&[(1, 5), (2, 6), (1, 7), (1, 8), (3, 1)]);
        for to in 0..records.len() {
            let (mut store, mut never) = (Store::in_memory().unwrap(), Store::in_memory().unwrap());
            apply(&mut store, &records);
            store.roll_back(to as u64).unwrap();
            apply(&mut never, &records[..to]);
            assert_eq!(store.position(), never.position());
            assert_eq!(store.digest().unwrap(), never.digest().unwrap(), "back to {to}");
            apply(&mut store, &records[to..]);
            assert_eq!(store.position(), records[4].1);
        }
    }

    #[test]
    fn candles_are_found_by_source_and_time() {
        let mut store = Store::in_memory().unwrap();
        apply(&mut store, &chain(&[(1, 5), (2, 6), (3, 7)]));
        let source = row("BTC/USD", 0, 0).source;
        let minute = 60_000_000;
        let found = store.candles(&source, minute, 3 * minute, 10).unwrap();
        assert_eq!(found.iter().map(|c| c.close).collect::<Vec<_>>(), [5, 6]);
        assert_eq!(store.newest(1).unwrap()[0].close, 7);
        assert_eq!(store.batches(1, 3, 1).unwrap().len(), 1, "one always goes");
        assert_eq!(store.batches(0, 2, usize::MAX).unwrap().len(), 2);
    }
}
