//! What sinks of one scope say to each other over the data port.
//!
//! Four calls: *ping* (is the data path open), *position* (where do you stand), *fetch* (what
//! follows this position; waits a while for it), *tail* (the same from a sink that is sealed).
//! Questions and the heads of answers are JSON, records follow as they are hashed.

use bytes::Bytes;
use cryptorun_core::position::Position;
use cryptorun_core::region::RegionName;
use cryptorun_core::scope::ScopeId;
use cryptorun_core::time::WallTime;
use cryptorun_core::token::Token;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub const PING: u8 = 1;
pub const POSITION: u8 = 2;
pub const FETCH: u8 = 3;
pub const TAIL: u8 = 4;

/// Records in one answer; the frame is 16 MiB.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;
/// The longest a fetch waits for something new.
pub const WAIT_MS_MAX: u64 = 5_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PositionRequest {
    pub scope: ScopeId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchRequest {
    pub scope: ScopeId,
    /// Where the asker's chain ends.
    pub after: Position,
    /// Answer empty after this long.
    pub wait_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TailRequest {
    pub scope: ScopeId,
    /// The sink must be sealed under it: only then is a tail final.
    pub token: Token,
    pub after: Position,
}

/// The head of every answer about a scope: where the answering sink stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub region: RegionName,
    pub end: Position,
    pub rows: u64,
    /// Seal time of its last record.
    pub sealed_at: WallTime,
    pub highest: Token,
    /// Its wall clock.
    pub wall: WallTime,
}

pub fn ask(request: &impl Serialize) -> Bytes {
    serde_json::to_vec(request).map(Bytes::from).unwrap_or_default()
}

pub fn asked<T: DeserializeOwned>(body: &Bytes) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("the question cannot be read: {error}"))
}

pub fn answer(head: &Standing, records: &[Bytes]) -> Bytes {
    let head = serde_json::to_vec(head).unwrap_or_default();
    let size = 4 + head.len() + records.iter().map(|r| 4 + r.len()).sum::<usize>();
    let mut out = Vec::with_capacity(size);
    for part in std::iter::once(head.as_slice()).chain(records.iter().map(|r| r.as_ref())) {
        out.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(part);
    }
    out.into()
}

pub fn answered(body: &Bytes) -> Result<(Standing, Vec<Bytes>), String> {
    let mut parts = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let broken = || format!("an answer of {} bytes breaks off at {at}", body.len());
        let len = body.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        let len = len.ok_or_else(broken)? as usize;
        let end = at.checked_add(4 + len).filter(|end| *end <= body.len()).ok_or_else(broken)?;
        parts.push(body.slice(at + 4..end));
        at = end;
    }
    let (head, records) = parts.split_first().ok_or("an answer without a head")?;
    let head =
        serde_json::from_slice(head).map_err(|error| format!("an answer's head: {error}"))?;
    Ok((head, records.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads_back_and_a_broken_one_is_refused() {
        let head = Standing {
            region: RegionName::from("us-east-1"),
            end: Position::START,
            rows: 3,
            sealed_at: WallTime(5),
            highest: Token::NONE,
            wall: WallTime(6),
        };
        let records = vec![Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"three")];
        let body = answer(&head, &records);
        assert_eq!(answered(&body), Ok((head, records)));
        assert!(answered(&body.slice(..body.len() - 1)).is_err());
        assert!(answered(&Bytes::new()).is_err());
    }
}
