//! The audit: pages of it, and whether its chain holds.

use super::read::READER;
use super::{Api, ReadQuery, check};
use crate::caller::Caller;
use crate::problem::ApiError;
use cryptorun_core::audit::{AuditEntry, Filter, verify};
use cryptorun_core::position::Position;
use cryptorun_core::wire::{AuditPage, AuditVerdict};

/// Which entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// First entry's number; the newest page when absent, the first of all with a filter.
    pub from: Option<u64>,
    /// How many.
    pub limit: Option<usize>,
    /// Only these.
    pub filter: Filter,
}

/// Entries in one answer.
const PAGE_MAX: usize = 1000;
const PAGE_DEFAULT: usize = 100;
/// Entries looked at for one filtered answer: ten pages, some 3 MB read from disk in the worst case.
const SCAN_MAX: usize = 10 * PAGE_MAX;

impl Api {
    /// `GET /v1/audit`.
    pub async fn audit(
        &self,
        caller: &Caller,
        which: AuditQuery,
        query: ReadQuery,
    ) -> Result<AuditPage, ApiError> {
        check(self, caller, READER)?;
        self.ready(query).await?;
        let end = self.look(|machine, _| machine.audit_head().end);
        let limit = which.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
        if !which.filter.is_open() {
            let from = which.from.unwrap_or(1).max(1);
            return self.filtered(from, limit, &which.filter, end).await;
        }
        let newest = (end.seq + 1).saturating_sub(limit as u64).max(1);
        let entries = self.entries(which.from.unwrap_or(newest), limit).await?;
        Ok(AuditPage { entries, end, through: None })
    }

    /// What the filter takes of the next [`SCAN_MAX`] entries. It stops at a gap, so that whoever
    /// asks learns of it.
    async fn filtered(
        &self,
        from: u64,
        limit: usize,
        filter: &Filter,
        end: Position,
    ) -> Result<AuditPage, ApiError> {
        let mut entries = Vec::new();
        let mut through = from - 1;
        let last = end.seq.min(through.saturating_add(SCAN_MAX as u64));
        while through < last {
            let page = self.entries(through + 1, PAGE_MAX).await?;
            let before = through;
            for entry in page {
                if entry.seq != through + 1 || entry.seq > last || entries.len() == limit {
                    break;
                }
                through = entry.seq;
                if filter.takes(&entry) {
                    entries.push(entry);
                }
            }
            if through == before {
                break; // Full, or a gap.
            }
        }
        Ok(AuditPage { entries, end, through: Some(through) })
    }

    /// The newest are in the machine, the older ones in this node's audit files.
    async fn entries(&self, from: u64, max: usize) -> Result<Vec<AuditEntry>, ApiError> {
        let (oldest, mut kept) = self.look(|machine, _| {
            let audit = machine.audit();
            let oldest = audit.keys().next().copied().unwrap_or(u64::MAX);
            let kept: Vec<_> =
                audit.range(from.max(1)..).take(max).map(|(_, e)| e.clone()).collect();
            (oldest, kept)
        });
        if from.max(1) >= oldest || kept.is_empty() {
            return Ok(kept);
        }
        let filed = self.log().audit(from, max).await.map_err(|error| ApiError::Internal {
            why: format!("this node's audit cannot be read: {error}"),
        })?;
        let mut entries: Vec<_> = filed.into_iter().filter(|entry| entry.seq < oldest).collect();
        entries.append(&mut kept);
        entries.truncate(max);
        Ok(entries)
    }

    /// `GET /v1/audit/verify`: follows the chain from the oldest entry there is to its end.
    pub async fn audit_verify(
        &self,
        caller: &Caller,
        query: ReadQuery,
    ) -> Result<AuditVerdict, ApiError> {
        check(self, caller, READER)?;
        self.ready(query).await?;
        let end = self.look(|machine, _| machine.audit_head().end);
        let mut at: Option<Position> = None;
        let mut checked = 0;
        loop {
            let next = at.map_or(1, |at| at.seq + 1);
            if at.is_some_and(|at| at.seq >= end.seq) || end.seq == 0 {
                break;
            }
            let mut page = self.entries(next, PAGE_MAX).await?;
            page.retain(|entry| entry.seq <= end.seq);
            let Some(first) = page.first() else {
                // Entries that should be there are not.
                return Ok(AuditVerdict { checked, end, broken_at: Some(next) });
            };
            let (start, rest) = match at {
                Some(at) => (at, &page[..]),
                None => anchor(first, &page),
            };
            match verify(start, rest) {
                Ok(reached) => {
                    checked += rest.len() as u64;
                    at = Some(reached);
                }
                Err(seq) => return Ok(AuditVerdict { checked, end, broken_at: Some(seq) }),
            }
        }
        let whole = at.is_none_or(|at| at == end);
        Ok(AuditVerdict { checked, end, broken_at: (!whole).then_some(end.seq) })
    }
}

/// Where following starts: before the first entry ever, or, where the oldest are kept elsewhere, at
/// the oldest here, whose own hash everything after it is held against.
fn anchor<'p>(first: &AuditEntry, page: &'p [AuditEntry]) -> (Position, &'p [AuditEntry]) {
    match first.seq {
        1 => (Position::START, page),
        seq => (Position { seq, hash: first.hash }, &page[1..]),
    }
}
