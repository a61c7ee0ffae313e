//! The frame around everything, and a reader for fixed-width fields.

/// What a frame holds. Numbers are promises: never reused, never reordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A log entry's command with its stamp and sender.
    Command = 1,
    /// A record of the machine.
    Record = 2,
    /// A snapshot, whole.
    Snapshot = 3,
    /// What the state store keeps beside the records.
    StoreMeta = 4,
    /// An audit entry's body in the audit log.
    Audit = 5,
    /// Log: a vote.
    LogVote = 16,
    /// Log: entries appended.
    LogAppend = 17,
    /// Log: everything after a position is gone.
    LogTruncate = 18,
    /// Log: everything up to a position lies in a snapshot.
    LogPurge = 19,
    /// Log: committed up to here, as far as this node knew.
    LogCommitted = 20,
    /// Log: the id of the disk.
    LogDisk = 21,
    /// Peers: append entries.
    Append = 32,
    /// Peers: the answer to one.
    Appended = 33,
    /// Peers: a request for a vote, or for the prospect of one.
    AskVote = 34,
    /// Peers: the answer.
    Voted = 35,
    /// Peers: a piece of a snapshot.
    SnapshotChunk = 36,
    /// Peers: the answer.
    SnapshotTaken = 37,
    /// Peers: take the lead.
    TransferLeader = 38,
    /// Peers: the answer.
    TransferAnswer = 39,
    /// Peers: up to where must I have applied, to read linearizably?
    ReadIndex = 40,
    /// Peers: the answer.
    ReadIndexAnswer = 41,
    /// Peers: audit bodies by number.
    AuditFetch = 42,
    /// Peers: the answer.
    AuditBodies = 43,
    /// Peers: an opaque request to the leader's control part.
    Forward = 44,
    /// Peers: the answer.
    Forwarded = 45,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("frame is cut short: {have} of {need} bytes")]
    Short { need: usize, have: usize },
    #[error("{bytes} bytes after the end")]
    Trailing { bytes: usize },
    #[error("frame of kind {got} where {want:?} was expected")]
    WrongKind { want: Kind, got: u8 },
    #[error("{kind:?} has version {version}, newer than this program knows")]
    Version { kind: Kind, version: u16 },
    #[error("checksum does not match")]
    Checksum,
    #[error("{what}: tag {tag} is unknown")]
    Tag { what: &'static str, tag: u16 },
    /// It passed its checksum: somebody newer wrote it.
    #[error("{what} {tag} is not known to this program; it was written by a newer one")]
    Newer { what: &'static str, tag: u16 },
    #[error("{bytes} bytes are more than the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("body does not decode: {why}")]
    Body { why: String },
    #[error("value does not encode: {why}")]
    Encode { why: String },
}

impl CodecError {
    /// Whether the bytes are whole and a newer program wrote them.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::Newer { .. } | Self::Version { .. })
    }
}

/// Bytes before the body.
pub const HEADER: usize = 1 + 2 + 4 + 4;

/// Appends one frame whose body is what `write` appends.
pub(crate) fn put_frame(
    out: &mut Vec<u8>,
    kind: Kind,
    version: u16,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), CodecError>,
) -> Result<(), CodecError> {
    let start = out.len();
    out.push(kind as u8);
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    write(out)?;
    let length = out.len() - start - HEADER;
    let length = u32::try_from(length)
        .map_err(|_| CodecError::TooLarge { bytes: length, limit: u32::MAX as usize })?;
    out[start + 3..start + 7].copy_from_slice(&length.to_le_bytes());
    let sum = checksum(&out[start..start + 7], &out[start + HEADER..]);
    out[start + 7..start + HEADER].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

/// A frame as its own bytes.
pub(crate) fn frame(
    kind: Kind,
    version: u16,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), CodecError>,
) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::with_capacity(256); // A renewal's entry and its record fit.
    put_frame(&mut out, kind, version, write)?;
    Ok(out)
}

/// Opens a frame that must fill `bytes`, be of this kind and have this version.
pub(crate) fn open(bytes: &[u8], kind: Kind, version: u16) -> Result<&[u8], CodecError> {
    let (got, body, rest) = split(bytes, kind)?;
    if !rest.is_empty() {
        return Err(CodecError::Trailing { bytes: rest.len() });
    }
    if got == version { Ok(body) } else { Err(CodecError::Version { kind, version: got }) }
}

/// Opens the first frame; gives its version, its body and what follows it.
pub(crate) fn split(bytes: &[u8], kind: Kind) -> Result<(u16, &[u8], &[u8]), CodecError> {
    let mut fields = Fields(bytes);
    let got = fields.u8()?;
    let version = fields.u16()?;
    let length = fields.u32()? as usize;
    let sum = fields.u32()?;
    if got != kind as u8 {
        return Err(CodecError::WrongKind { want: kind, got });
    }
    let body = fields.bytes(length)?;
    if sum != checksum(&bytes[..7], body) {
        return Err(CodecError::Checksum);
    }
    Ok((version, body, fields.rest()))
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), body)
}

/// Reads fixed-width little-endian fields from the front.
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let (front, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(CodecError::Short { need: count, have: self.0.len() })?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let mut out = [0; N];
        out.copy_from_slice(self.bytes(N)?);
        Ok(out)
    }

    pub fn u8(&mut self) -> Result<u8, CodecError> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, CodecError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, CodecError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, CodecError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn flag(&mut self, what: &'static str) -> Result<bool, CodecError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            tag => Err(CodecError::Tag { what, tag: tag.into() }),
        }
    }

    pub fn hash(&mut self) -> Result<[u8; 32], CodecError> {
        self.array()
    }

    /// A length and so many bytes.
    pub fn block(&mut self) -> Result<&'a [u8], CodecError> {
        let length = self.u32()? as usize;
        self.bytes(length)
    }

    pub fn text(&mut self) -> Result<String, CodecError> {
        String::from_utf8(self.block()?.to_vec())
            .map_err(|_| CodecError::Body { why: "text is not UTF-8".to_owned() })
    }

    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), CodecError> {
        if self.0.is_empty() { Ok(()) } else { Err(CodecError::Trailing { bytes: self.0.len() }) }
    }
}

/// Writes a length and the bytes.
pub(crate) fn put_block(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), CodecError> {
    let length = u32::try_from(bytes.len())
        .map_err(|_| CodecError::TooLarge { bytes: bytes.len(), limit: u32::MAX as usize })?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let bytes = frame(Kind::Forward, 3, |out| {
            out.extend_from_slice(b"a body");
            Ok(())
        })
        .expect("encodes");
        assert_eq!(open(&bytes, Kind::Forward, 3), Ok(&b"a body"[..]));
        for cut in 0..bytes.len() {
            assert!(open(&bytes[..cut], Kind::Forward, 3).is_err(), "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&bad, Kind::Forward, 3).is_err(), "bit {bit}");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert_eq!(open(&longer, Kind::Forward, 3), Err(CodecError::Trailing { bytes: 1 }));
        assert!(matches!(open(&bytes, Kind::Forward, 2), Err(CodecError::Version { .. })));
    }
}
