//! How bytes get to an endpoint: mutual TLS in production, anything in a test.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::Serialize;
use std::time::Duration;

/// The methods the API has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Asks or changes.
    Post,
    /// Takes back.
    Delete,
}

impl Method {
    /// As it goes over the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body; empty for none.
    pub body: Bytes,
}

impl Request {
    /// Without headers and body.
    pub fn new(method: Method, path: &str) -> Self {
        Self { method, path: path.to_owned(), headers: Vec::new(), body: Bytes::new() }
    }

    /// With a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a JSON body. The wire types have no shape that JSON cannot hold.
    pub fn json(mut self, body: &impl Serialize) -> Self {
        self.body = Bytes::from(serde_json::to_vec(body).unwrap_or_default());
        self.header("content-type", "application/json")
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// Why there is no answer; the difference decides whether a change may be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// Nothing left this process.
    NotSent(String),
    /// It may have arrived.
    NoAnswer(String),
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name; `message` when it has none.
    pub name: String,
    /// Its body.
    pub data: String,
}

impl Event {
    /// Reads the one event that a body holds.
    pub fn parse(body: &str) -> Option<Self> {
        let field = |name: &str| {
            let lines = body.lines().filter_map(|line| line.strip_prefix(name));
            lines.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect::<Vec<_>>()
        };
        let data = field("data:").join("\n");
        let name = field("event:").last().map_or("message", |name| *name).to_owned();
        (!data.is_empty()).then_some(Self { name, data })
    }
}

/// Events until the stream ends or breaks.
pub type Events = BoxStream<'static, Result<Event, String>>;

/// Carries requests.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends one request and waits for its answer.
    async fn send(
        &self,
        endpoint: &str,
        request: &Request,
        timeout: Duration,
    ) -> Result<Reply, SendError>;

    /// Opens a stream of server-sent events; where something else came, that.
    async fn events(&self, endpoint: &str, path: &str) -> Result<Result<Events, Reply>, SendError>;
}
