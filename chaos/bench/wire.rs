//! One connection of the generator: a request written in one piece, its answer read whole.
//!
//! A client library spends several times what this does on each request, on the cores that the
//! measured servers need. It takes what the two systems send: a status line, headers, and a body of a
//! stated length.

use crate::BenchError;
use crate::load::{Asked, Reach};
use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

const DIAL_WITHIN: Duration = Duration::from_secs(10);
const HEADERS_MAX: usize = 32;
const READ_AT_ONCE: usize = 8 << 10;

/// A byte stream, with or without TLS.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub struct Wire {
    stream: Box<dyn Stream>,
    out: Vec<u8>,
    /// What has been read of the last answer.
    read: Vec<u8>,
    /// Where its body begins.
    body: usize,
}

/// Connects to a server.
pub async fn dial(reach: &Reach) -> Result<Box<dyn Stream>, BenchError> {
    Ok(match reach {
        Reach::Plain(addr) => {
            let wrong = |error| BenchError::answer(addr.to_string(), error);
            let tcp = TcpStream::connect(addr).await.map_err(wrong)?;
            tcp.set_nodelay(true).map_err(wrong)?;
            Box::new(tcp)
        }
        Reach::Mutual(addr, tls) => {
            let io = tls.dial(&addr.to_string(), DIAL_WITHIN).await;
            Box::new(io.map_err(|error| BenchError::answer(addr.to_string(), error))?)
        }
    })
}

impl Wire {
    pub async fn connect(reach: &Reach) -> Result<Self, BenchError> {
        Ok(Self { stream: dial(reach).await?, out: Vec::new(), read: Vec::new(), body: 0 })
    }

    /// Asks, and waits for the whole answer.
    ///
    /// # Errors
    /// The connection ended, the answer is not 200 or cannot be read.
    pub async fn ask(&mut self, asked: Asked) -> Result<(), BenchError> {
        let wrong = |why: &dyn Display| BenchError::answer(asked.path.clone(), why);
        self.out.clear();
        self.read.clear();
        let Asked { method, path, body } = &asked;
        let length = body.len();
        write!(
            self.out,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n"
        )
        .map_err(|error| wrong(&error))?;
        self.out.extend_from_slice(body);
        self.stream.write_all(&self.out).await.map_err(|error| wrong(&error))?;
        self.stream.flush().await.map_err(|error| wrong(&error))?;
        let head = loop {
            if let Some(head) = Head::of(&self.read).map_err(|why| wrong(&why))? {
                break head;
            }
            self.more().await.map_err(|error| wrong(&error))?;
        };
        let end = head.bytes + head.body;
        while self.read.len() < end {
            self.more().await.map_err(|error| wrong(&error))?;
        }
        if head.status != 200 {
            let text = String::from_utf8_lossy(&self.read[head.bytes..end]);
            return Err(wrong(&format!("{}: {text}", head.status)));
        }
        self.body = head.bytes;
        Ok(())
    }

    pub fn answer(&self) -> &[u8] {
        self.read.get(self.body..).unwrap_or_default()
    }

    async fn more(&mut self) -> std::io::Result<()> {
        self.read.reserve(READ_AT_ONCE);
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

struct Head {
    status: u16,
    /// Up to the first byte of the body.
    bytes: usize,
    body: usize,
}

impl Head {
    /// None while it is not whole.
    fn of(read: &[u8]) -> Result<Option<Self>, String> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut answer = httparse::Response::new(&mut headers);
        let bytes = match answer.parse(read).map_err(|error| error.to_string())? {
            httparse::Status::Complete(bytes) => bytes,
            httparse::Status::Partial => return Ok(None),
        };
        let length = answer
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-length"))
            .and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok())
            .ok_or("its answer does not say how long it is")?;
        Ok(Some(Self { status: answer.code.unwrap_or(0), bytes, body: length }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for cut in 0..whole.len() - 5 {
            assert!(Head::of(&whole[..cut]).unwrap().is_none(), "{cut} bytes");
        }
        let head = Head::of(whole).unwrap().unwrap();
        assert_eq!((head.status, head.bytes, head.body), (200, whole.len() - 5, 5));
        assert!(Head::of(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "no length");
    }
}
