//! From a request to checked values: who calls, under which key, how to read, and the body.

use super::{BODY_BYTES_MAX, Web};
use crate::api::ReadQuery;
use crate::caller::Caller;
use crate::problem::ApiError;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, Uri};
use cryptorun_core::time::WallTime;
use cryptorun_core::wire::Consistency;
use cryptorun_platform::net::Peer;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::str::FromStr;

/// Whose connection a request came over; put there by the listener.
pub(super) fn peer_of(extensions: &Extensions) -> Option<&Peer> {
    extensions.get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer)
}

/// The caller.
pub(super) struct Who(pub Caller);

impl FromRequestParts<Web> for Who {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Web) -> Result<Self, ApiError> {
        let peer = peer_of(&parts.extensions)
            .ok_or_else(|| ApiError::forbidden("this connection carries no identity"))?;
        Caller::new(peer.id.clone(), peer.serial.clone()).map(Self)
    }
}

/// The `Idempotency-Key`.
pub(super) struct Key(Option<String>);

impl Key {
    pub(super) fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl FromRequestParts<Web> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Web) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        let text = value.to_str();
        text.map(|text| Self(Some(text.to_owned())))
            .map_err(|_| ApiError::bad("Idempotency-Key is not printable text"))
    }
}

/// `?consistency=` and `?wait_index=`.
pub(super) struct Read(pub ReadQuery);

#[derive(Deserialize)]
struct ReadParameters {
    consistency: Option<Consistency>,
    wait_index: Option<u64>,
}

impl Read {
    pub(super) fn of(uri: &Uri) -> Result<Self, ApiError> {
        let Asked(given) = Asked::<ReadParameters>::of(uri)?;
        Ok(Self(ReadQuery {
            consistency: given.consistency.unwrap_or(Consistency::Linearizable),
            wait_index: given.wait_index,
        }))
    }
}

impl FromRequestParts<Web> for Read {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Web) -> Result<Self, ApiError> {
        Self::of(&parts.uri)
    }
}

/// The query string as a struct.
pub(super) struct Asked<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Web> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Web) -> Result<Self, ApiError> {
        Self::of(&parts.uri)
    }
}

impl<T: DeserializeOwned> Asked<T> {
    pub(super) fn of(uri: &Uri) -> Result<Self, ApiError> {
        match Query::<T>::try_from_uri(uri) {
            Ok(Query(value)) => Ok(Self(value)),
            Err(error) => {
                Err(ApiError::bad(format!("the query cannot be read: {}", error.body_text())))
            }
        }
    }
}

/// A path's parameter that reads itself from text.
pub(super) struct At<T>(pub T);

impl<T> FromRequestParts<Web> for At<T>
where
    T: FromStr<Err = String> + Send,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, web)
            .await
            .map_err(|error| ApiError::bad(error.body_text()))?;
        text.parse().map(Self).map_err(ApiError::bad)
    }
}

/// The body as JSON; `T` refuses unknown fields itself.
pub(super) struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Web> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, web: &Web) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, web).await.map_err(|error| {
            match error.status().as_u16() {
                413 => ApiError::TooLarge { max: BODY_BYTES_MAX },
                _ => ApiError::bad("the body did not arrive whole"),
            }
        })?;
        parsed(&bytes).map(Self)
    }
}

/// A whole body as what an operation takes.
pub(super) fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // An operation without anything to say may come without a body.
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes)
        .map_err(|error| ApiError::bad(format!("the body is not what this takes: {error}")))
}

/// A time of a query, which may be absent.
pub(super) fn time(text: Option<&str>) -> Result<Option<WallTime>, String> {
    text.map(WallTime::parse).transpose()
}
