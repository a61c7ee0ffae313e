//! The admin API's client: endpoints in their order, redirects to the leader, outcomes never guessed.
//!
//! A read goes to the next endpoint whenever one gives no answer. A change carries an idempotency
//! key: what was never sent is tried elsewhere; what was sent and not answered is *settled*, by asking
//! every endpoint what became of the key and, where the cluster has not seen it, sending the same
//! again under the same key, which takes effect at most once. Only when that too stays open does the
//! caller hear [`Failure::Unknown`].
//!
//! Deliberately absent: TLS, sockets ([`transport`]), what the answers mean to an operator.

pub(crate) mod production;
mod settle;
pub mod transport;

use crate::failure::{Failure, Tried, problem_kind};
use cryptorun_core::command::Outcome;
use cryptorun_core::wire::{Accepted, Problem};
use cryptorun_platform::random::Random;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use transport::{Events, Method, Reply, Request, SendError, Transport};

/// Hops to a leader; more is two nodes pointing at each other.
const REDIRECTS_MAX: usize = 3;
/// How long one attempt may take, unless the caller says otherwise.
pub const ATTEMPT: Duration = Duration::from_secs(10);

/// Speaks to the cluster.
#[derive(Clone)]
pub struct Client {
    endpoints: Vec<String>,
    transport: Arc<dyn Transport>,
    random: Arc<dyn Random>,
    attempt: Duration,
    request: Option<String>,
}

/// How one endpoint answered, redirects followed.
enum Heard {
    /// With a body to read.
    Answer(Reply),
    /// With a problem that the next endpoint would give too.
    No(Box<Problem>),
    /// With one that another endpoint, or the same later, may not give; nothing was done.
    Later(Tried),
    /// Not, or in a way that leaves open whether anything was done.
    Open(Tried),
}

impl Client {
    /// Speaks to these endpoints, in this order.
    pub fn new(
        endpoints: Vec<String>,
        transport: Arc<dyn Transport>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { endpoints, transport, random, attempt: ATTEMPT, request: None }
    }

    /// Bounds one attempt.
    pub fn with_attempt(self, attempt: Duration) -> Self {
        Self { attempt, ..self }
    }

    /// Sends the next change under this key instead of a fresh one.
    pub fn with_request(self, request: Option<String>) -> Self {
        Self { request, ..self }
    }

    /// Speaks to the first endpoint only.
    pub fn local(&self) -> Self {
        Self { endpoints: self.endpoints.iter().take(1).cloned().collect(), ..self.clone() }
    }

    /// Whom it speaks to, in this order.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Speaks to one other process, a worker for instance.
    pub fn at(&self, endpoint: &str) -> Self {
        Self { endpoints: vec![endpoint.to_owned()], ..self.clone() }
    }

    /// Reads.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.read(Request::new(Method::Get, path)).await
    }

    /// Posts what changes nothing: a dry run, a simulation.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.read(Request::new(Method::Post, path).json(body)).await
    }

    async fn read<T: DeserializeOwned>(&self, request: Request) -> Result<T, Failure> {
        let mut tried = Vec::new();
        for endpoint in &self.endpoints {
            match self.hear(endpoint, &request).await {
                Heard::Answer(reply) => match serde_json::from_slice(&reply.body) {
                    Ok(value) => return Ok(value),
                    Err(e) => tried.push(Tried {
                        endpoint: endpoint.clone(),
                        cause: format!("its answer is not what this version reads: {e}"),
                    }),
                },
                Heard::No(problem) => return Err(Failure::Refused(problem)),
                Heard::Later(one) | Heard::Open(one) => tried.push(one),
            }
        }
        Err(unreachable(tried))
    }

    /// Changes something, at most once.
    pub async fn change(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Accepted, Failure> {
        let key = self.request.clone().unwrap_or_else(|| {
            format!("{:016x}{:016x}", self.random.next_u64(), self.random.next_u64())
        });
        let request = Request::new(method, path).header("idempotency-key", &key);
        let request = match method {
            // What is taken back stands in the path.
            Method::Get | Method::Delete => request,
            Method::Post => request.json(body),
        };
        let mut tried = Vec::new();
        for endpoint in &self.endpoints {
            match self.hear(endpoint, &request).await {
                Heard::Answer(reply) => return accepted(&reply, &key),
                Heard::No(problem) => return Err(Failure::Refused(problem)),
                Heard::Later(one) => tried.push(one),
                Heard::Open(one) => {
                    tried.push(one);
                    return self.settle(&request, &key, tried).await;
                }
            }
        }
        Err(unreachable(tried))
    }

    /// Follows a stream of events from the first endpoint that opens one.
    pub async fn events(&self, path: &str) -> Result<Events, Failure> {
        let mut tried = Vec::new();
        for endpoint in &self.endpoints {
            match self.transport.events(endpoint, path).await {
                Ok(Ok(events)) => return Ok(events),
                Ok(Err(reply)) => match problem_of(&reply) {
                    no if (400..429).contains(&no.status) => {
                        return Err(Failure::Refused(Box::new(no)));
                    }
                    later => {
                        tried.push(Tried { endpoint: endpoint.clone(), cause: later.detail });
                    }
                },
                Err(SendError::NotSent(cause) | SendError::NoAnswer(cause)) => {
                    tried.push(Tried { endpoint: endpoint.clone(), cause });
                }
            }
        }
        Err(unreachable(tried))
    }

    async fn hear(&self, endpoint: &str, request: &Request) -> Heard {
        let mut at = endpoint.to_owned();
        let mut request = request.clone();
        for _ in 0..=REDIRECTS_MAX {
            let place = |cause: String| Tried {
                endpoint: if at == endpoint { at.clone() } else { format!("{endpoint} → {at}") },
                cause,
            };
            let reply = match self.transport.send(&at, &request, self.attempt).await {
                Ok(reply) => reply,
                Err(SendError::NotSent(cause)) => return Heard::Later(place(cause)),
                Err(SendError::NoAnswer(cause)) => return Heard::Open(place(cause)),
            };
            match reply.status {
                200..=299 => return Heard::Answer(reply),
                307 | 308 => match leader_of(&reply, &request.path) {
                    Some((next, path)) => {
                        at = next.unwrap_or(at);
                        request.path = path;
                    }
                    None => return Heard::Later(place("it names no leader".to_owned())),
                },
                status => {
                    let problem = problem_of(&reply);
                    return match (status, problem_kind(&problem)) {
                        (_, "outcome_unknown") | (500 | 502 | 504, _) => {
                            Heard::Open(place(problem.detail))
                        }
                        (429 | 503, _) => Heard::Later(place(problem.detail)),
                        _ => Heard::No(Box::new(problem)),
                    };
                }
            }
        }
        Heard::Later(Tried {
            endpoint: endpoint.to_owned(),
            cause: format!("sent on more than {REDIRECTS_MAX} times; the last was {at}"),
        })
    }
}

fn unreachable(tried: Vec<Tried>) -> Failure {
    Failure::Unreachable {
        tried,
        hint: Some(
            "nothing was changed, it is safe to try again; one process alone answers: \
             cryptorun replication status --local"
                .to_owned(),
        ),
    }
}

fn accepted(reply: &Reply, key: &str) -> Result<Accepted, Failure> {
    if reply.body.is_empty() {
        return Ok(Accepted { index: 0, outcome: Outcome::Done });
    }
    serde_json::from_slice(&reply.body).map_err(|e| Failure::Unknown {
        key: key.to_owned(),
        tried: vec![Tried {
            endpoint: "answer".to_owned(),
            cause: format!("accepted, but not in a form that this version reads: {e}"),
        }],
    })
}

/// Where a redirect points: another host, where it names one, and the path there.
fn leader_of(reply: &Reply, path: &str) -> Option<(Option<String>, String)> {
    if let Some(location) = reply.header("location") {
        let Some(rest) = location.split_once("://").map(|(_, rest)| rest) else {
            return location.starts_with('/').then(|| (None, location.to_owned()));
        };
        let slash = rest.find('/');
        let host = rest[..slash.unwrap_or(rest.len())].to_owned();
        let path = slash.map_or(path.to_owned(), |at| rest[at..].to_owned());
        return Some((Some(host), path));
    }
    problem_of(reply).leader.map(|leader| (Some(leader), path.to_owned()))
}

fn problem_of(reply: &Reply) -> Problem {
    serde_json::from_slice(&reply.body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&reply.body);
        let text: String = text.trim().chars().take(200).collect();
        Problem {
            status: reply.status,
            detail: match text.is_empty() {
                true => format!("it answered {} and nothing else", reply.status),
                false => format!("it answered {}: {text}", reply.status),
            },
            ..Problem::default()
        }
    })
}

/// A value for a query string.
pub fn query(value: &str) -> String {
    value
        .bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(b).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}
