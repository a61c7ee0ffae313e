//! How a byte stream to a venue is made: TCP, and TLS over it for the public endpoints.
//!
//! A venue is not one of our processes: it has no client certificate to check and its own name to
//! prove, against the public roots. Tests hand in a pipe instead.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use hyper::Uri;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A two-way byte stream.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

#[async_trait]
pub trait Dial: Send + Sync + 'static {
    async fn dial(&self, to: &Endpoint) -> io::Result<Box<dyn Wire>>;
}

/// Where a URL leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("not a url: {url:?}")]
    Malformed { url: String },
    #[error("{url}: the scheme must be one of ws, wss, http, https")]
    Scheme { url: String },
}

impl Endpoint {
    pub fn of(url: &str) -> Result<Self, UrlError> {
        let malformed = || UrlError::Malformed { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| malformed())?;
        let (tls, port) = match uri.scheme_str() {
            Some("ws" | "http") => (false, 80),
            Some("wss" | "https") => (true, 443),
            _ => return Err(UrlError::Scheme { url: url.to_owned() }),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(malformed)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(port), tls })
    }

    /// For the `Host` header.
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

/// The network.
pub struct TcpDial {
    tls: TlsConnector,
}

impl TcpDial {
    pub fn new() -> Result<Self, rustls::Error> {
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }
}

#[async_trait]
impl Dial for TcpDial {
    async fn dial(&self, to: &Endpoint) -> io::Result<Box<dyn Wire>> {
        let stream = TcpStream::connect((to.host.as_str(), to.port)).await?;
        stream.set_nodelay(true)?;
        if !to.tls {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(to.host.clone())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Box::new(self.tls.connect(name, stream).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lead_where_they_say() {
        let endpoint = |host: &str, port, tls| Ok(Endpoint { host: host.into(), port, tls });
        assert_eq!(Endpoint::of("wss://ws.kraken.com/v2"), endpoint("ws.kraken.com", 443, true));
        assert_eq!(
            Endpoint::of("ws://127.0.0.1:9001/?client=us"),
            endpoint("127.0.0.1", 9001, false)
        );
        assert_eq!(Endpoint::of("http://[::1]:80/"), endpoint("::1", 80, false));
        assert!(matches!(Endpoint::of("ftp://host/"), Err(UrlError::Scheme { .. })));
        assert!(matches!(Endpoint::of("/path"), Err(UrlError::Scheme { .. })));
        assert!(matches!(Endpoint::of("not a url"), Err(UrlError::Malformed { .. })));
        let shown = Endpoint::of("https://[::1]:444").map(|endpoint| endpoint.authority());
        assert_eq!(shown, Ok("[::1]:444".into()));
    }

    #[test]
    fn public_roots_make_a_client() {
        assert!(TcpDial::new().is_ok());
    }
}
