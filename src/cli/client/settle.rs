//! Learning what became of a change that was sent and not answered.

use super::transport::{Method, Reply, Request};
use super::{Client, Heard, accepted};
use crate::failure::{Failure, Tried};
use cryptorun_core::command::Answer;
use cryptorun_core::wire::{Accepted, Problem};
use serde::Deserialize;
use std::time::Duration;

/// Rounds over all endpoints, with a pause between: long enough for an election in any profile.
const ROUNDS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(2);

/// `GET /v1/requests/{key}`.
#[derive(Deserialize)]
struct Known {
    index: u64,
    answer: Answer,
}

enum Told {
    Answer(Result<Accepted, Failure>),
    /// A quorum says that no such request has been committed.
    Absent,
    Nothing(Tried),
}

impl Client {
    pub(super) async fn settle(
        &self,
        request: &Request,
        key: &str,
        mut tried: Vec<Tried>,
    ) -> Result<Accepted, Failure> {
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            for endpoint in &self.endpoints {
                match self.told(endpoint, key).await {
                    Told::Answer(answer) => return answer,
                    Told::Nothing(one) => note(&mut tried, one),
                    // The same key: should the first one still arrive, one of them does nothing.
                    Told::Absent => match self.hear(endpoint, request).await {
                        Heard::Answer(reply) => return accepted(&reply, key),
                        Heard::No(problem) => return Err(Failure::Refused(problem)),
                        Heard::Later(one) | Heard::Open(one) => note(&mut tried, one),
                    },
                }
            }
        }
        Err(Failure::Unknown { key: key.to_owned(), tried })
    }

    async fn told(&self, endpoint: &str, key: &str) -> Told {
        let path = format!("/v1/requests/{key}?consistency=linearizable");
        match self.hear(endpoint, &Request::new(Method::Get, &path)).await {
            Heard::Answer(reply) => read(&reply, endpoint),
            Heard::No(problem) if problem.status == 404 => Told::Absent,
            Heard::No(problem) => {
                Told::Nothing(Tried { endpoint: endpoint.to_owned(), cause: problem.detail })
            }
            Heard::Later(one) | Heard::Open(one) => Told::Nothing(one),
        }
    }
}

fn read(reply: &Reply, endpoint: &str) -> Told {
    match serde_json::from_slice::<Known>(&reply.body) {
        Ok(Known { index, answer: Ok(outcome) }) => Told::Answer(Ok(Accepted { index, outcome })),
        Ok(Known { answer: Err(refusal), .. }) => {
            Told::Answer(Err(Failure::Refused(Box::new(Problem {
                kind: format!("https://cryptorun.dev/problems/{}", refusal.kind()),
                title: refusal.kind().replace('_', " "),
                status: 409,
                detail: refusal.to_string(),
                predicates: refusal.predicates().to_vec(),
                ..Problem::default()
            }))))
        }
        Err(e) => Told::Nothing(Tried {
            endpoint: endpoint.to_owned(),
            cause: format!("its answer about the request cannot be read: {e}"),
        }),
    }
}

/// Keeps the last cause of each endpoint, in the order they were first tried.
fn note(tried: &mut Vec<Tried>, one: Tried) {
    match tried.iter_mut().find(|known| known.endpoint == one.endpoint) {
        Some(known) => *known = one,
        None => tried.push(one),
    }
}
