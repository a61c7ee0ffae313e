//! Server-sent events: the stream as a client reads it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use tokio::time::timeout;

use super::{Cause, HttpError, cause_of, no_answer};

/// The largest event there is: a full state after a gap.
const EVENT_BYTES_MAX: usize = 16 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The last id seen so far: what to resume after. Empty before the first.
    pub id: String,
    /// `message` where the server gave none.
    pub name: String,
    pub data: String,
}

/// An open event stream.
pub struct Events {
    endpoint: String,
    body: Incoming,
    parser: Parser,
    idle: Duration,
    /// Dropping it would let the connection close while we still read.
    _connection: SendRequest<Full<Bytes>>,
}

impl Events {
    pub(super) fn new(
        endpoint: &str,
        body: Incoming,
        connection: SendRequest<Full<Bytes>>,
        idle: Duration,
    ) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            body,
            parser: Parser::default(),
            idle,
            _connection: connection,
        }
    }

    /// The next event; `None` once the server has ended the stream.
    pub async fn next(&mut self) -> Option<Result<Event, HttpError>> {
        loop {
            if let Some(event) = self.parser.ready.pop_front() {
                return Some(Ok(event));
            }
            let cause = match timeout(self.idle, self.body.frame()).await {
                Ok(None) => return None,
                Ok(Some(Ok(frame))) => {
                    let data = frame.into_data().unwrap_or_default();
                    match self.parser.feed(&data) {
                        Ok(()) => continue,
                        Err(reason) => Cause::Events(reason),
                    }
                }
                Ok(Some(Err(error))) => cause_of(error),
                Err(_) => Cause::Timeout(self.idle),
            };
            return Some(Err(no_answer(&self.endpoint, cause)));
        }
    }

    /// The same as a stream that ends after its first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Event, HttpError>> + Send {
        futures_util::stream::unfold(Some(self), |state| async move {
            let mut events = state?;
            let next = events.next().await?;
            let rest = next.is_ok().then_some(events);
            Some((next, rest))
        })
    }
}

/// Bytes in, events out; <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
#[derive(Default)]
struct Parser {
    ready: std::collections::VecDeque<Event>,
    line: Vec<u8>,
    /// The last line ended with a carriage return: a newline right after belongs to it.
    after_return: bool,
    id: String,
    name: String,
    data: String,
    has_data: bool,
}

impl Parser {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        for byte in bytes {
            match byte {
                b'\n' if std::mem::take(&mut self.after_return) => {}
                b'\n' => self.end_of_line()?,
                b'\r' => {
                    self.end_of_line()?;
                    self.after_return = true;
                }
                other => {
                    self.after_return = false;
                    self.line.push(*other);
                    if self.line.len() + self.data.len() > EVENT_BYTES_MAX {
                        return Err("an event is too large");
                    }
                }
            }
        }
        Ok(())
    }

    fn end_of_line(&mut self) -> Result<(), &'static str> {
        let line = std::mem::take(&mut self.line);
        let line = std::str::from_utf8(&line).map_err(|_| "it is not text")?;
        if line.is_empty() {
            self.end_of_event();
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.to_owned(),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.id = value.to_owned(),
            // Comments keep the connection alive; `retry` is for browsers.
            _ => {}
        }
        Ok(())
    }

    fn end_of_event(&mut self) {
        let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
        if !std::mem::take(&mut self.has_data) {
            return;
        }
        let name = if name.is_empty() { "message".to_owned() } else { name };
        self.ready.push_back(Event { id: self.id.clone(), name, data });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(chunks: &[&[u8]]) -> Vec<Event> {
        let mut parser = Parser::default();
        for chunk in chunks {
            parser.feed(chunk).unwrap();
        }
        parser.ready.into_iter().collect()
    }

    fn event(id: &str, name: &str, data: &str) -> Event {
        Event { id: id.into(), name: name.into(), data: data.into() }
    }

    #[test]
    fn events_are_read_whatever_the_cuts_between_chunks() {
        let text = b": hello\n\nid: 7\nevent: lease\ndata: {\"a\":1}\ndata: more\n\ndata:x\r\n\r\nevent: none\n\nid: 9\rdata\r\r";
        let expected = [
            event("7", "lease", "{\"a\":1}\nmore"),
            event("7", "message", "x"),
            event("9", "message", ""),
        ];
        assert_eq!(parse(&[text]), expected);
        for cut in 1..text.len() {
            let (left, right) = text.split_at(cut);
            assert_eq!(parse(&[left, right]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn an_event_that_never_ends_is_refused() {
        let mut parser = Parser::default();
        let line = [b"data: ".as_slice(), &[b'x'; 1 << 20], b"\n"].concat();
        let refused = (0..20).any(|_| parser.feed(&line).is_err());
        assert!(refused);
    }
}
