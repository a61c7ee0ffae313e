//! Frames as bytes: `body length u32 | type u8 | kind u8 | id u64 | body`, little-endian.

use std::io;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::FRAME_BYTES_MAX;

pub const HEADER_BYTES: usize = 14;
/// Holds some hundred small frames, or the largest record TLS gives us four times over.
const READ_BUFFER_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Server, once: the connection was accepted.
    Hello = 0,
    Call = 1,
    Answer = 2,
    /// The body is the reason.
    Refusal = 3,
    Open = 4,
    Data = 5,
    /// Nothing more comes in this direction of the stream.
    End = 6,
    /// Whoever sent it reads no more of this stream.
    Reset = 7,
    /// The body says how much more may be sent on the stream, as `u32`.
    Credit = 8,
    Ping = 9,
    Pong = 10,
    /// Server: no new calls here, please; those under way are still answered.
    Bye = 11,
}

impl Type {
    const ALL: [Type; 12] = [
        Type::Hello,
        Type::Call,
        Type::Answer,
        Type::Refusal,
        Type::Open,
        Type::Data,
        Type::End,
        Type::Reset,
        Type::Credit,
        Type::Ping,
        Type::Pong,
        Type::Bye,
    ];
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub typ: Type,
    /// Of a call or a stream; what it means is the two services' business.
    pub kind: u8,
    pub id: u64,
    pub body: Bytes,
}

impl Frame {
    pub fn new(typ: Type, kind: u8, id: u64, body: Bytes) -> Self {
        Self { typ, kind, id, body }
    }

    pub fn bare(typ: Type, id: u64) -> Self {
        Self::new(typ, 0, id, Bytes::new())
    }

    pub fn put(&self, buffer: &mut BytesMut) {
        // Callers bound bodies by `FRAME_BYTES_MAX`, which fits.
        buffer.put_u32_le(u32::try_from(self.body.len()).unwrap_or(u32::MAX));
        buffer.put_u8(self.typ as u8);
        buffer.put_u8(self.kind);
        buffer.put_u64_le(self.id);
        buffer.extend_from_slice(&self.body);
    }
}

pub struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(io: R) -> Self {
        Self { io, buffer: BytesMut::with_capacity(READ_BUFFER_BYTES) }
    }

    /// The next frame; `None` when the peer has closed between frames.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        while self.buffer.len() < HEADER_BYTES {
            if self.fill().await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(cut_short()) };
            }
        }
        let mut header = &self.buffer[..HEADER_BYTES];
        let length = header.get_u32_le() as usize;
        let (typ, kind, id) = (header.get_u8(), header.get_u8(), header.get_u64_le());
        if length > FRAME_BYTES_MAX {
            return Err(broken(format!("a frame of {length} bytes is too large")));
        }
        let typ = Type::ALL
            .into_iter()
            .find(|known| *known as u8 == typ)
            .ok_or_else(|| broken(format!("frame type {typ} is unknown")))?;
        self.buffer.advance(HEADER_BYTES);
        let body = self.body(length).await?;
        Ok(Some(Frame { typ, kind, id, body }))
    }

    async fn body(&mut self, length: usize) -> io::Result<Bytes> {
        if length <= READ_BUFFER_BYTES {
            while self.buffer.len() < length {
                if self.fill().await? == 0 {
                    return Err(cut_short());
                }
            }
            // Copied: a slice would keep the whole receive buffer alive.
            let body = Bytes::copy_from_slice(&self.buffer[..length]);
            self.buffer.advance(length);
            return Ok(body);
        }
        let mut body = BytesMut::with_capacity(length);
        let here = self.buffer.len().min(length);
        body.extend_from_slice(&self.buffer[..here]);
        self.buffer.advance(here);
        while body.len() < length {
            let missing = length - body.len();
            let mut rest = (&mut self.io).take(missing as u64);
            if rest.read_buf(&mut body).await? == 0 {
                return Err(cut_short());
            }
        }
        Ok(body.freeze())
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(READ_BUFFER_BYTES);
        self.io.read_buf(&mut self.buffer).await
    }
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "closed in the middle of a frame")
}

pub fn broken(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_read_back_whatever_the_sizes() {
        let sizes = [0, 1, 100, READ_BUFFER_BYTES, READ_BUFFER_BYTES + 1, 3 << 20];
        let frames: Vec<Frame> = sizes
            .into_iter()
            .zip(Type::ALL)
            .map(|(size, typ)| Frame::new(typ, 9, u64::MAX, Bytes::from(vec![7; size])))
            .collect();
        let mut bytes = BytesMut::new();
        for frame in &frames {
            frame.put(&mut bytes);
        }
        let mut reader = FrameReader::new(&bytes[..]);
        for frame in frames {
            assert_eq!(reader.next().await.unwrap(), Some(frame));
        }
        assert_eq!(reader.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_cut_an_unknown_type_and_a_huge_length_are_errors() {
        let mut bytes = BytesMut::new();
        Frame::new(Type::Call, 1, 1, Bytes::from_static(b"body")).put(&mut bytes);
        for cut in 1..bytes.len() {
            let error = FrameReader::new(&bytes[..cut]).next().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "cut at {cut}");
        }
        bytes[4] = 200;
        assert!(FrameReader::new(&bytes[..]).next().await.is_err());
        bytes[4] = Type::Call as u8;
        bytes[..4].copy_from_slice(&(FRAME_BYTES_MAX as u32 + 1).to_le_bytes());
        assert!(FrameReader::new(&bytes[..]).next().await.is_err());
    }
}
