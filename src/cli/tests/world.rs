//! A terminal that remembers and a cluster made of routers, without sockets.

use crate::args::ClientArgs;
use crate::client::Client;
use crate::client::transport::{Event, Events, Method, Reply, Request, SendError, Transport};
use crate::context::{Checker, Host};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::{Facts, Screen};
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use clap::{CommandFactory, Parser};
use cryptorun_core::config::ClusterConfig;
use cryptorun_platform::random::SeededRandom;
use cryptorun_platform::settings::{Reader, SettingsError};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tower::ServiceExt;

/// The program around the verbs, with a process beside them, as `main` has it.
#[derive(Debug, Parser)]
#[command(name = "cryptorun")]
pub struct Program {
    #[command(subcommand)]
    pub verb: Word,
}

#[derive(Debug, clap::Subcommand)]
pub enum Word {
    /// Run a node
    Node {
        /// Like the client's, and not it
        #[arg(long, short)]
        output: Option<String>,
    },
    #[command(flatten)]
    Client(Box<crate::Verb>),
}

/// One endpoint.
#[derive(Clone)]
pub enum Node {
    /// Answers.
    Up(Router),
    /// Cannot be reached.
    Down,
    /// Does what it is asked and loses the answer to every change.
    Mute(Router),
}

/// Endpoints by address, in the order they are asked.
#[derive(Clone, Default)]
pub struct Cluster {
    nodes: BTreeMap<String, Node>,
    order: Vec<String>,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Cluster {
    /// One node that answers.
    pub fn of(router: Router) -> Self {
        Self::default().node("a:1", Node::Up(router))
    }

    /// With another endpoint after those there are.
    pub fn node(self, at: &str, node: Node) -> Self {
        let mut more = self.hidden(at, node);
        more.order.push(at.to_owned());
        more
    }

    /// With a process that only a redirect leads to.
    pub fn hidden(mut self, at: &str, node: Node) -> Self {
        self.nodes.insert(at.to_owned(), node);
        self
    }

    /// Each request as `host METHOD path`, in order.
    pub fn sent(&self) -> Vec<String> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn client(&self) -> Client {
        let random = Arc::new(SeededRandom::new(7));
        Client::new(self.order.clone(), Arc::new(self.clone()), random)
    }
}

#[async_trait]
impl Transport for Cluster {
    async fn send(&self, at: &str, request: &Request, _: Duration) -> Result<Reply, SendError> {
        let line = format!("{at} {} {}", request.method.as_str(), request.path);
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        let (router, heard) = match self.nodes.get(at) {
            None => return Err(SendError::NotSent(format!("{at} is no host"))),
            Some(Node::Down) => return Err(SendError::NotSent("connection refused".to_owned())),
            Some(Node::Up(router)) => (router, true),
            Some(Node::Mute(router)) => (router, request.method == Method::Get),
        };
        let mut made =
            axum::http::Request::builder().method(request.method.as_str()).uri(&request.path);
        for (name, value) in &request.headers {
            made = made.header(name, value);
        }
        let made = made.body(Body::from(request.body.clone())).unwrap();
        let reply = router.clone().oneshot(made).await.unwrap();
        if !heard {
            return Err(SendError::NoAnswer("connection reset".to_owned()));
        }
        let (parts, body) = reply.into_parts();
        Ok(Reply {
            status: parts.status.as_u16(),
            headers: parts
                .headers
                .iter()
                .map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned()))
                .collect(),
            body: body.collect().await.unwrap().to_bytes(),
        })
    }

    async fn events(&self, at: &str, path: &str) -> Result<Result<Events, Reply>, SendError> {
        let reply = self.send(at, &Request::new(Method::Get, path), Duration::MAX).await?;
        let body = String::from_utf8_lossy(&reply.body).into_owned();
        let events: Vec<_> = body.split("\n\n").filter_map(Event::parse).map(Ok).collect();
        match reply.status {
            200 => Ok(Ok(futures_util::stream::iter(events).boxed())),
            _ => Ok(Err(reply)),
        }
    }
}

/// What came of a line.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    pub exit: Exit,
    pub out: String,
    pub err: String,
}

/// Runs a line as a script would, on a terminal of no width.
pub async fn run(cluster: &Cluster, line: &str) -> Ran {
    run_on(cluster, line, Facts::default(), "").await
}

/// Runs a line as a person would who types `input`; the line's words are split at blanks.
pub async fn run_on(cluster: &Cluster, line: &str, facts: Facts, input: &str) -> Ran {
    let client = cluster.client();
    let connect = move |args: &ClientArgs| Ok(client.clone().with_request(args.request.clone()));
    run_with(&connect, line, facts, input).await
}

/// The same with any client.
pub async fn run_with(
    connect: &(dyn Fn(&ClientArgs) -> Result<Client, Failure> + Sync),
    line: &str,
    facts: Facts,
    input: &str,
) -> Ran {
    let program = match Program::try_parse_from(line.split_whitespace()) {
        Ok(program) => program,
        Err(e) => panic!("{line}: {e}"),
    };
    let Word::Client(verb) = program.verb else { panic!("{line} is no client's verb") };
    let (out, err) = (Paper::default(), Paper::default());
    let screen = Screen::new(
        facts,
        Box::new(out.clone()),
        Box::new(err.clone()),
        Box::new(Cursor::new(input.to_owned())),
    );
    let exit = crate::dispatch(*verb, &host(), screen, connect).await;
    Ran { exit, out: out.text(), err: err.text() }
}

pub fn host() -> Host {
    Host { grammar: Program::command(), checker: Box::new(OneKey) }
}

/// Knows files of one key, `name`.
struct OneKey;

impl Checker for OneKey {
    fn check(&self, path: &Path) -> Result<String, SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
        let reader = Reader::parse(&path.display().to_string(), &text)?;
        Ok(reader.build(|r| r.string("name").example("demo").required())?)
    }

    fn cluster(&self, path: &Path) -> Result<ClusterConfig, SettingsError> {
        self.check(path).map(|_| super::fixtures::config())
    }
}

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
