//! Many requests at once over one connection: HTTP/2 as our API speaks it, and as gRPC does.

use crate::BenchError;
use crate::load::{Asked, Reach};
use crate::wire::{self, Stream};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use hyper::{HeaderMap, Request, StatusCode};
use std::fmt::Display;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// What the requests of a connection look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Json,
    /// A message is a protobuf; the answer's status stands in its trailers.
    Grpc,
}

/// A connection that several clients share; the first one makes it.
pub struct Shared {
    reach: Reach,
    dialect: Dialect,
    made: OnceCell<SendRequest<Bytes>>,
}

impl Shared {
    pub fn new(reach: Reach, dialect: Dialect) -> Arc<Self> {
        Arc::new(Self { reach, dialect, made: OnceCell::new() })
    }

    /// A client's own handle.
    pub async fn open(&self) -> Result<Streams, BenchError> {
        let connect = async {
            let io: Box<dyn Stream> = wire::dial(&self.reach).await?;
            let shaken = h2::client::handshake(io).await;
            let (sender, connection) = shaken.map_err(|e| BenchError::answer("http/2", e))?;
            // It ends with the runtime; a request that was under way says why.
            tokio::spawn(connection);
            Ok::<_, BenchError>(sender)
        };
        let sender = self.made.get_or_try_init(|| connect).await?.clone();
        Ok(Streams { sender, dialect: self.dialect, answer: Vec::new() })
    }
}

pub struct Streams {
    sender: SendRequest<Bytes>,
    dialect: Dialect,
    answer: Vec<u8>,
}

impl Streams {
    pub fn answer(&self) -> &[u8] {
        &self.answer
    }

    /// Asks on a stream of its own, and waits for the whole answer.
    ///
    /// # Errors
    /// The connection or stream ended, or the answer is a no.
    pub async fn ask(&mut self, asked: Asked) -> Result<(), BenchError> {
        let path = asked.path.clone();
        let wrong = |why: &dyn Display| BenchError::answer(path.clone(), why);
        let content = match self.dialect {
            Dialect::Json => "application/json",
            Dialect::Grpc => "application/grpc",
        };
        let mut request = Request::builder()
            .method(asked.method)
            .uri(format!("http://localhost{}", asked.path))
            .header("content-type", content);
        if self.dialect == Dialect::Grpc {
            request = request.header("te", "trailers");
        }
        let request = request.body(()).map_err(|e| wrong(&e))?;
        let empty = asked.body.is_empty();
        std::future::poll_fn(|cx| self.sender.poll_ready(cx)).await.map_err(|e| wrong(&e))?;
        let sent = self.sender.send_request(request, empty);
        let (answer, mut body) = sent.map_err(|e| wrong(&e))?;
        if !empty {
            body.send_data(asked.body, true).map_err(|e| wrong(&e))?;
        }
        let answer = answer.await.map_err(|e| wrong(&e))?;
        let (head, mut body) = answer.into_parts();
        self.answer.clear();
        while let Some(bytes) = body.data().await {
            let bytes = bytes.map_err(|e| wrong(&e))?;
            body.flow_control().release_capacity(bytes.len()).map_err(|e| wrong(&e))?;
            self.answer.extend_from_slice(&bytes);
        }
        let trailers = body.trailers().await.map_err(|e| wrong(&e))?.unwrap_or_default();
        let refused =
            self.dialect == Dialect::Grpc && !(is_fine(&trailers) || is_fine(&head.headers));
        if head.status != StatusCode::OK || refused {
            let said = String::from_utf8_lossy(&self.answer);
            return Err(wrong(&format!("{} {trailers:?}: {said}", head.status)));
        }
        Ok(())
    }
}

fn is_fine(headers: &HeaderMap) -> bool {
    headers.get("grpc-status").is_some_and(|status| status == "0")
}

/// A message of fields that hold bytes, numbered from one, in gRPC's envelope.
pub fn grpc(fields: &[&[u8]]) -> Bytes {
    let mut message = BytesMut::new();
    for (number, field) in (1u8..).zip(fields) {
        message.put_u8(number << 3 | 2); // Of wire type 2: a length, then so many bytes.
        let mut length = field.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(field);
    }
    let mut whole = BytesMut::with_capacity(5 + message.len());
    whole.put_u8(0); // Not compressed.
    whole.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    whole.put_slice(&message);
    whole.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_written_as_protobuf_writes_it() {
        // PutRequest { key: "k", value: 300 bytes }.
        let value = vec![7; 300];
        let written = grpc(&[b"k", &value]);
        assert_eq!(&written[..5], [0, 0, 0, 1, 50]);
        assert_eq!(&written[5..11], [0x0a, 1, b'k', 0x12, 0xac, 0x02]);
        assert_eq!(written.len(), 5 + 306);
    }
}
