//! The real way to the cluster: mutual TLS with the operator's certificate.

use super::Client;
use super::transport::{Event, Events, Method, Reply, Request, SendError, Transport};
use crate::args::ClientArgs;
use crate::failure::Failure;
use async_trait::async_trait;
use cryptorun_platform::https::{self, HttpError, HttpsClient};
use cryptorun_platform::identity::Class;
use cryptorun_platform::random::OsRandom;
use cryptorun_platform::tls::{Expect, TlsFiles, TlsStore};
use futures_util::StreamExt;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A stream that says nothing for so long is dead: the server sends a progress event each 10 s.
const EVENTS_IDLE: Duration = Duration::from_secs(30);

const WHERE_FROM: &str = "a held demo writes them: set -a; . DIR/demo.env; set +a";

/// A client as the settings say.
pub fn connect(args: &ClientArgs) -> Result<Client, Failure> {
    let endpoints = endpoints(&args.endpoints)?;
    let files = TlsFiles {
        ca: needed(&args.ca, "CRYPTORUN_CA", "--ca")?,
        cert: needed(&args.cert, "CRYPTORUN_CERT", "--cert")?,
        key: needed(&args.key, "CRYPTORUN_KEY", "--key")?,
        crl: None,
    };
    let tls = TlsStore::load(files).map_err(|e| {
        let cause = e.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        Failure::usage_hint(format!("{e}{cause}"), WHERE_FROM)
    })?;
    let expect = Expect::any_of(&tls.id().cluster, &[Class::Node, Class::Worker]);
    let transport = Https { client: HttpsClient::new(&tls, expect) };
    let client = Client::new(endpoints, Arc::new(transport), Arc::new(OsRandom));
    Ok(client.with_request(args.request.clone()))
}

fn needed(path: &Option<PathBuf>, variable: &str, option: &str) -> Result<PathBuf, Failure> {
    path.clone().filter(|p| !p.as_os_str().is_empty()).ok_or_else(|| {
        Failure::usage_hint(format!("neither {option} nor {variable} is given"), WHERE_FROM)
    })
}

/// Each as `host:port`; a scheme that people paste along is dropped.
pub fn endpoints(given: &[String]) -> Result<Vec<String>, Failure> {
    let plain: Vec<String> = given
        .iter()
        .map(|e| e.trim().trim_start_matches("https://").trim_end_matches('/').to_owned())
        .filter(|e| !e.is_empty())
        .collect();
    if plain.is_empty() {
        return Err(Failure::usage_hint(
            "neither --endpoints nor CRYPTORUN_ENDPOINTS is given",
            WHERE_FROM,
        ));
    }
    for endpoint in &plain {
        let port = endpoint.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(Failure::usage(format!(
                "'{endpoint}' is not an endpoint like 10.0.0.1:7400"
            )));
        }
    }
    Ok(plain)
}

struct Https {
    client: HttpsClient,
}

#[async_trait]
impl Transport for Https {
    async fn send(
        &self,
        endpoint: &str,
        request: &Request,
        timeout: Duration,
    ) -> Result<Reply, SendError> {
        let request = https::Request {
            method: match request.method {
                Method::Get => hyper::Method::GET,
                Method::Post => hyper::Method::POST,
                Method::Delete => hyper::Method::DELETE,
            },
            path: request.path.clone(),
            headers: request.headers.clone(),
            body: request.body.clone(),
        };
        let reply = self.client.send(endpoint, request, timeout).await.map_err(cause)?;
        Ok(of(reply))
    }

    async fn events(&self, endpoint: &str, path: &str) -> Result<Result<Events, Reply>, SendError> {
        match self.client.events(endpoint, path, None, EVENTS_IDLE).await {
            Ok(events) => Ok(Ok(events
                .into_stream()
                .map(|event| {
                    let event = event.map_err(|e| e.to_string())?;
                    Ok(Event { name: event.name, data: event.data })
                })
                .boxed())),
            // 410: the index is no longer kept. The body is the one event to go on from.
            Err(HttpError::NotEvents { response, .. }) if response.status.as_u16() == 410 => {
                let once = Event::parse(&String::from_utf8_lossy(&response.body));
                Ok(Ok(futures_util::stream::iter(once.map(Ok)).boxed()))
            }
            Err(HttpError::NotEvents { response, .. }) => Ok(Err(of(*response))),
            Err(other) => Err(cause(other)),
        }
    }
}

fn of(reply: https::Response) -> Reply {
    let text = |value: &hyper::header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    Reply {
        status: reply.status.as_u16(),
        headers: reply.headers.iter().map(|(n, v)| (n.as_str().to_owned(), text(v))).collect(),
        body: reply.body,
    }
}

/// The endpoint stands beside the cause already.
fn cause(error: HttpError) -> SendError {
    let text = error.cause().map_or_else(|| error.to_string(), ToString::to_string);
    match error.is_safe_to_retry() {
        true => SendError::NotSent(text),
        false => SendError::NoAnswer(text),
    }
}
