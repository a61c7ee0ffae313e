//! One small HTTP request to a loopback control port, and its answer.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

const BODY_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("nothing listens on {address}")]
    Unreachable { address: SocketAddr, source: std::io::Error },
    #[error("no answer from {address} within {within_ms} ms")]
    TimedOut { address: SocketAddr, within_ms: u128 },
    #[error("the connection to {address} broke: {reason}")]
    Broken { address: SocketAddr, reason: String },
    #[error("{reason}")]
    Refused { status: u16, reason: String },
    #[error("{address} answered what was not expected: {reason}")]
    Malformed { address: SocketAddr, reason: String },
}

pub async fn get<A: DeserializeOwned>(
    address: SocketAddr,
    path: &str,
    within: Duration,
) -> Result<A, CallError> {
    read(address, send(address, "GET", path, Bytes::new(), within).await?)
}

pub async fn post<A: DeserializeOwned>(
    address: SocketAddr,
    path: &str,
    body: &impl Serialize,
    within: Duration,
) -> Result<A, CallError> {
    let body = serde_json::to_vec(body)
        .map_err(|error| CallError::Malformed { address, reason: error.to_string() })?;
    read(address, send(address, "POST", path, body.into(), within).await?)
}

fn read<A: DeserializeOwned>(
    address: SocketAddr,
    (status, body): (u16, Bytes),
) -> Result<A, CallError> {
    if !(200..300).contains(&status) {
        let reason = String::from_utf8_lossy(&body).trim().to_owned();
        return Err(CallError::Refused { status, reason });
    }
    serde_json::from_slice(&body)
        .map_err(|error| CallError::Malformed { address, reason: error.to_string() })
}

async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: Bytes,
    within: Duration,
) -> Result<(u16, Bytes), CallError> {
    let broken = |reason: String| CallError::Broken { address, reason };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, address.to_string())
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| broken(error.to_string()))?;
    let exchange = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|source| CallError::Unreachable { address, source })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(error.to_string()))?;
        let answer = async {
            let response =
                sender.send_request(request).await.map_err(|error| broken(error.to_string()))?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), BODY_MAX)
                .collect()
                .await
                .map_err(|error| broken(error.to_string()))?;
            Ok((status, body.to_bytes()))
        };
        let mut connection = std::pin::pin!(connection);
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            answered = &mut answer => answered,
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(broken(error.to_string())),
            },
        }
    };
    match tokio::time::timeout(within, exchange).await {
        Ok(answered) => answered,
        Err(_) => Err(CallError::TimedOut { address, within_ms: within.as_millis() }),
    }
}
