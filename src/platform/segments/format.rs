//! The bytes of a segment. See the parent module for the shape and its reasons.
//!
//! The first 64 bytes keep their shape in every format to come, so that an old version can say that
//! a file is newer instead of calling it damaged.

use std::fmt;

pub const FORMAT: u32 = 1;
pub const HEADER: usize = 64;
/// `len | crc`, which the length does not count.
const FRAME: usize = 8;
/// Bytes around a body: the frame, kind and version.
pub const AROUND: usize = FRAME + 2;
pub const BEGIN_SIZE: usize = AROUND + BEGIN_BODY;
pub const END_SIZE: usize = AROUND + 1;
/// Bytes around a batch.
pub const AROUND_BATCH: usize = BEGIN_SIZE + END_SIZE;

/// The highest kind an owner may use; those above are the log's own.
pub const MAX_KIND: u8 = 0xEF;
pub const BEGIN: u8 = 0xFE;
pub const END: u8 = 0xFF;
/// Ends BEGIN and END. Not zero: a zero in its place says that the write did not get so far.
pub const MARK: u8 = 0xA5;

const MAGIC: [u8; 8] = *b"crseg\r\n\x1a";
/// number u64, bytes u32, padded u16, mark. With that its first byte is 17: two bits, so that no
/// single flipped one makes it look unwritten.
const BEGIN_BODY: usize = 15;

/// Whose log this is: two halves, such as a cluster's and a node's id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Owner(pub [u8; 16]);

impl Owner {
    pub fn new(cluster: u64, node: u64) -> Self {
        let mut tag = [0; 16];
        tag[..8].copy_from_slice(&cluster.to_be_bytes());
        tag[8..].copy_from_slice(&node.to_be_bytes());
        Self(tag)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(i, byte)| {
            let dash = if i == 8 { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")
        })
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({self})")
    }
}

pub fn file_name(segment: u64) -> String {
    format!("{segment:020}.seg")
}

/// The number in a segment's file name; none for other files.
pub fn segment_of(name: &str) -> Option<u64> {
    let segment = name.strip_suffix(".seg")?.parse().ok()?;
    (file_name(segment) == name).then_some(segment)
}

/// What a segment says about itself. Plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub format: u32,
    /// Where the first batch begins.
    pub start: u32,
    pub owner: Owner,
    pub segment: u64,
    /// How long the file was made.
    pub size: u64,
    pub first_batch: u64,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.format.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.start.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.owner.0);
        bytes[32..40].copy_from_slice(&self.segment.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.size.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.first_batch.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// None when these are not the first bytes of any segment, of whatever format.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER)?;
        if bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60)? {
            return None;
        }
        Some(Self {
            format: u32_at(bytes, 8)?,
            start: u32_at(bytes, 12)?,
            owner: Owner(bytes[16..32].try_into().ok()?),
            segment: u64_at(bytes, 32)?,
            size: u64_at(bytes, 40)?,
            first_batch: u64_at(bytes, 48)?,
        })
    }

    /// Why [`Header::decode`] has none.
    pub fn missing(bytes: &[u8]) -> &'static str {
        match bytes.get(..HEADER) {
            None => "it is shorter than a segment's header",
            Some(header) if header[..8] != MAGIC => "it does not begin like a segment",
            Some(_) => "the header's checksum is wrong",
        }
    }

    pub fn salt(&self) -> Salt {
        Salt::new(self.owner, self.segment)
    }
}

/// What every checksum of one segment begins with.
#[derive(Clone, Copy)]
pub struct Salt(u32);

impl Salt {
    pub fn new(owner: Owner, segment: u64) -> Self {
        Self(crc32c::crc32c_append(crc32c::crc32c(&owner.0), &segment.to_le_bytes()))
    }

    fn crc(self, offset: u64, len: [u8; 4], content: &[u8]) -> u32 {
        let placed = crc32c::crc32c_append(self.0, &offset.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c_append(placed, &len), content)
    }

    /// Completes a record that [`push_record`] left open, now that its place is known.
    pub fn close(self, record: &mut [u8], offset: u64) {
        let (frame, content) = record.split_at_mut(FRAME);
        let len = [frame[0], frame[1], frame[2], frame[3]];
        frame[4..].copy_from_slice(&self.crc(offset, len, content).to_le_bytes());
    }

    /// The record that begins `bytes`, which stand at `offset`; none when its checksum is wrong or
    /// it does not end within.
    pub fn frame(self, bytes: &[u8], offset: u64) -> Option<Frame<'_>> {
        let len: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
        let size = FRAME.checked_add(usize::try_from(u32::from_le_bytes(len)).ok()?)?;
        let content = bytes.get(FRAME..size)?;
        let (&[kind, version], body) = content.split_first_chunk()?;
        (u32_at(bytes, 4)? == self.crc(offset, len, content)).then_some(Frame {
            kind,
            version,
            body,
            size,
        })
    }

    /// The BEGIN at `at`, if there is one.
    pub fn begin(self, segment: &[u8], at: usize) -> Option<Begin> {
        let frame = self.frame(segment.get(at..)?, at as u64)?;
        (frame.kind == BEGIN).then(|| frame.begin())?
    }
}

/// A record whose checksum is right.
pub struct Frame<'a> {
    pub kind: u8,
    pub version: u8,
    pub body: &'a [u8],
    /// All of it.
    pub size: usize,
}

/// What BEGIN says about its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    pub number: u64,
    /// From the first byte of BEGIN to the last of END.
    pub bytes: u32,
    /// Whether zeros fill the rest of END's block.
    pub padded: bool,
}

impl Frame<'_> {
    pub fn begin(&self) -> Option<Begin> {
        let body: &[u8; BEGIN_BODY] = self.body.try_into().ok()?;
        if body[14] != MARK {
            return None;
        }
        Some(Begin { number: u64_at(body, 0)?, bytes: u32_at(body, 8)?, padded: body[12] != 0 })
    }
}

impl Begin {
    pub fn body(&self) -> [u8; BEGIN_BODY] {
        let mut body = [0; BEGIN_BODY];
        body[..8].copy_from_slice(&self.number.to_le_bytes());
        body[8..12].copy_from_slice(&self.bytes.to_le_bytes());
        body[12] = self.padded.into();
        body[14] = MARK;
        body
    }
}

/// Adds a record without its checksum.
pub fn push_record(buf: &mut Vec<u8>, kind: u8, version: u8, body: &[u8]) {
    // Callers keep bodies below `MAX_RECORD`.
    let len = u32::try_from(body.len() + 2).unwrap_or(u32::MAX);
    buf.extend_from_slice(&len.to_le_bytes());
    buf.extend_from_slice(&[0; 4]);
    buf.extend_from_slice(&[kind, version]);
    buf.extend_from_slice(body);
}

/// The size of the record that begins `bytes`, as it says itself; 0 for padding, none when too
/// little is there to tell.
pub fn size_claimed(bytes: &[u8]) -> Option<u64> {
    let len = u32_at(bytes, 0)?;
    Some(if len == 0 { 0 } else { FRAME as u64 + u64::from(len) })
}

/// The first place from `from` on where a valid BEGIN above `number` stands.
pub fn find_begin_above(segment: &[u8], salt: Salt, from: usize, number: u64) -> Option<usize> {
    let len = (BEGIN_SIZE - FRAME) as u8;
    let mut at = from;
    while let Some(rest) = segment.get(at..)
        && let Some(found) = rest.windows(4).position(|w| w == [len, 0, 0, 0])
    {
        at += found;
        if salt.begin(segment, at).is_some_and(|begin| begin.number > number) {
            return Some(at);
        }
        at += 1;
    }
    None
}

pub fn all_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| chunk == &ZEROS[..chunk.len()])
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner(*b"clusterAnode0001");

    fn closed(salt: Salt, offset: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_record(&mut bytes, 3, 1, b"vote");
        salt.close(&mut bytes, offset);
        bytes
    }

    #[test]
    fn a_record_counts_only_where_it_was_written() {
        let salt = Salt::new(OWNER, 5);
        let bytes = closed(salt, 100);
        assert_eq!(salt.frame(&bytes, 100).map(|f| (f.kind, f.version, f.size)), Some((3, 1, 14)));
        assert!(salt.frame(&bytes, 101).is_none(), "another place");
        assert!(Salt::new(OWNER, 6).frame(&bytes, 100).is_none(), "another segment");
        assert!(Salt::new(Owner([0; 16]), 5).frame(&bytes, 100).is_none(), "another owner");
        assert!(salt.frame(&bytes[..13], 100).is_none(), "cut");
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic() {
        let salt = Salt::new(OWNER, 5);
        for len in 0..40 {
            for byte in [0, 1, 2, 17, 0xFF] {
                let bytes = vec![byte; len];
                assert!(salt.frame(&bytes, 0).is_none());
                assert!(Header::decode(&bytes).is_none());
            }
        }
    }

    /// Its checksum says who wrote it, not that it has the length of a BEGIN.
    #[test]
    fn a_begin_of_another_length_is_none() {
        let salt = Salt::new(OWNER, 5);
        let body = Begin { number: 9, bytes: 50, padded: true }.body();
        for len in 0..BEGIN_BODY {
            let mut bytes = Vec::new();
            push_record(&mut bytes, BEGIN, 1, &body[..len]);
            salt.close(&mut bytes, 0);
            assert!(salt.frame(&bytes, 0).is_some());
            assert!(salt.begin(&bytes, 0).is_none(), "{len} bytes");
        }
    }

    /// Disks in the field are read by these bytes: when this fails, raise `FORMAT`.
    #[test]
    fn format_1_keeps_its_bytes() {
        let header =
            Header { format: 1, start: 64, owner: OWNER, segment: 5, size: 4096, first_batch: 9 };
        assert_eq!(Header::decode(&header.encode()), Some(header));
        let mut begin = Vec::new();
        push_record(&mut begin, BEGIN, 1, &Begin { number: 9, bytes: 50, padded: true }.body());
        header.salt().close(&mut begin, 64);
        let mut end = Vec::new();
        push_record(&mut end, END, 1, &[MARK]);
        header.salt().close(&mut end, 103);
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let record = closed(header.salt(), 89);
        let all = [hex(&header.encode()), hex(&begin), hex(&record), hex(&end)];
        assert_eq!(all.join("\n"), include_str!("format-1.golden").trim_end());
    }
}
