//! The door of the admin API: two requests come all the time, a worker's renewal and a look at one
//! scope, and take a short way past the router; everything else takes the long one.
//!
//! What always holds: both ways pass the same checks in the same order (rate, time, identity, path,
//! query, body) and are answered and counted alike. A path that is written in an unusual way takes the
//! long one.

use super::BODY_BYTES_MAX;
use super::Web;
use super::answer::guarded;
use super::extract::{Asked, Read, parsed};
use super::reads::one_scope;
use super::sessions::RenewQuery;
use crate::caller::Caller;
use crate::problem::ApiError;
use axum::Router;
use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{Method, Request, Uri, header};
use axum::response::{IntoResponse, Response};
use cryptorun_core::session::SessionKey;
use cryptorun_platform::listener::Answer;
use cryptorun_platform::net::Peer;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use std::pin::pin;

/// Answers whatever the admin API's port is asked.
#[derive(Clone)]
pub struct Front {
    web: Web,
    router: Router,
}

/// What takes the short way.
#[derive(Debug, PartialEq, Eq)]
enum Short<'a> {
    Renew { session: &'a str },
    Scope { tier: &'a str, group: &'a str },
}

impl<'a> Short<'a> {
    fn of(method: &Method, path: &'a str) -> Option<Self> {
        let plain = |part: &&str| !part.is_empty() && !part.contains(['/', '%']);
        if *method == Method::POST {
            let session = path.strip_prefix("/v1/sessions/")?.strip_suffix("/renew")?;
            return Some(session).filter(plain).map(|session| Self::Renew { session });
        }
        if *method == Method::GET {
            let (tier, group) = path.strip_prefix("/v1/scopes/")?.split_once('/')?;
            let (tier, group) = (Some(tier).filter(plain)?, Some(group).filter(plain)?);
            return Some(Self::Scope { tier, group });
        }
        None
    }
}

impl Front {
    pub(super) fn new(web: Web, router: Router) -> Self {
        Self { web, router }
    }

    /// The long way alone.
    pub fn into_router(self) -> Router {
        self.router
    }

    async fn short(&self, request: Request<Incoming>, from: Peer) -> Response {
        let (head, body) = request.into_parts();
        let identity = from.id.clone();
        let answer = async {
            let answer = self.shortly(&head, body, from).await;
            answer.unwrap_or_else(ApiError::into_response)
        };
        // In its place: handed on by value it would be in this future twice.
        guarded(&self.web, &head.uri, Some(&identity), pin!(answer)).await
    }

    async fn shortly(
        &self,
        head: &Parts,
        body: Incoming,
        from: Peer,
    ) -> Result<Response, ApiError> {
        let caller = Caller::new(from.id, from.serial)?;
        match Short::of(&head.method, head.uri.path()) {
            Some(Short::Renew { session }) => self.renew(&caller, session, &head.uri, body).await,
            Some(Short::Scope { tier, group }) => {
                let Read(read) = Read::of(&head.uri)?;
                one_scope(&self.web, &caller, tier, group, read).await
            }
            None => Err(ApiError::not_found(head.uri.path().to_owned())),
        }
    }

    async fn renew(
        &self,
        caller: &Caller,
        session: &str,
        uri: &Uri,
        body: Incoming,
    ) -> Result<Response, ApiError> {
        let session: SessionKey = session.parse().map_err(ApiError::bad)?;
        let Asked(RenewQuery { directed }) = Asked::of(uri)?;
        let request = parsed(&whole(body).await?)?;
        let answer = self.web.api.renew(caller, session, request, directed).await?;
        let json = serde_json::to_vec(&answer);
        let json = json.map_err(|error| ApiError::Internal { why: error.to_string() })?;
        Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
    }
}

impl Answer<Peer> for Front {
    fn answer(
        self,
        request: Request<Incoming>,
        from: Peer,
    ) -> impl Future<Output = Response> + Send + 'static {
        let short = Short::of(request.method(), request.uri().path()).is_some();
        async move {
            match short {
                true => self.short(request, from).await,
                false => self.router.answer(request, from).await,
            }
        }
    }
}

/// A body that fits.
async fn whole(body: Incoming) -> Result<Bytes, ApiError> {
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(ApiError::TooLarge { max: BODY_BYTES_MAX })
        }
        Err(_) => Err(ApiError::bad("the body did not arrive whole")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_otherwise_takes_the_long_way() {
        let renew = Short::Renew { session: "w.00" };
        assert_eq!(Short::of(&Method::POST, "/v1/sessions/w.00/renew"), Some(renew));
        let scope = Short::Scope { tier: "warm", group: "global" };
        assert_eq!(Short::of(&Method::GET, "/v1/scopes/warm/global"), Some(scope));
        for (method, path) in [
            (Method::GET, "/v1/sessions/w.00/renew"),
            (Method::POST, "/v1/sessions/w.00/x/renew"),
            (Method::POST, "/v1/sessions//renew"),
            (Method::POST, "/v1/sessions/renew"),
            (Method::POST, "/v1/sessions/w%2e00/renew"),
            (Method::GET, "/v1/scopes/warm"),
            (Method::GET, "/v1/scopes/warm/"),
            (Method::GET, "/v1/scopes/warm/global/x"),
            (Method::GET, "/v1/scopes/warm/glob%61l"),
            (Method::HEAD, "/v1/scopes/warm/global"),
        ] {
            assert_eq!(Short::of(&method, path), None, "{method} {path}");
        }
    }
}
