//! Making a connection, from either side: TCP, handshake, and a plain answer when it fails.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::AlertDescription;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::net::Peer;

use super::verify::{find_rustls, not_after_unix_s, serial_of};
use super::{ClientTls, Mismatch, Reason, ServerTls, TlsError, error_chain, spiffe_of};

/// How long a refused client may take to read why; a round trip across an ocean is 0.3 s.
const LINGER: Duration = Duration::from_secs(1);

/// A connection that a client made.
pub type TlsIo = tokio_rustls::client::TlsStream<TcpStream>;
/// A connection that a server accepted.
pub type ServerStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Why there is no connection. In each case nothing was asked of the peer.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("cannot resolve {endpoint}")]
    Resolve { endpoint: String, source: io::Error },
    #[error("cannot connect to {endpoint}")]
    Connect { endpoint: String, source: io::Error },
    #[error("no connection to {endpoint} within {} ms", within.as_millis())]
    Timeout { endpoint: String, within: Duration },
    /// We turned the peer away: it is not who it should be.
    #[error("{endpoint} is not to be trusted ({}): {detail}", reason.as_str())]
    Untrusted { endpoint: String, reason: Reason, detail: String },
    /// The handshake failed otherwise; the text says whether the peer refused us.
    #[error("tls handshake with {endpoint} failed: {detail}")]
    Handshake { endpoint: String, detail: String },
    #[error("own tls material cannot be used")]
    Own(#[source] TlsError),
}

/// What the peer's alert says about *our* certificate. Such an alert ends the handshake on the
/// server's side, so nothing sent before it was read.
pub(crate) fn refused_by_peer(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let Some(rustls::Error::AlertReceived(alert)) = find_rustls(error) else { return None };
    let why = match alert {
        AlertDescription::CertificateRequired => "it asks for a certificate",
        AlertDescription::UnknownCA => "it does not know our certificate authority",
        AlertDescription::CertificateExpired => "our certificate is not valid now",
        AlertDescription::CertificateRevoked => "our certificate was revoked",
        AlertDescription::CertificateUnknown | AlertDescription::AccessDenied => {
            "our identity may not connect to it"
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::DecryptError => "it cannot use our certificate",
        AlertDescription::NoApplicationProtocol => "it speaks another protocol: is the port right?",
        AlertDescription::ProtocolVersion => "it does not speak tls 1.3",
        AlertDescription::HandshakeFailure => "the handshake failed there",
        _ => return None,
    };
    Some(format!("the peer refused us: {why}"))
}

impl ClientTls {
    /// Connects to `host:port`, trying each of its addresses, and checks who answers.
    pub async fn dial(&self, endpoint: &str, within: Duration) -> Result<TlsIo, DialError> {
        match tokio::time::timeout(within, self.connect(endpoint)).await {
            Ok(done) => done,
            Err(_) => Err(DialError::Timeout { endpoint: endpoint.to_owned(), within }),
        }
    }

    async fn connect(&self, endpoint: &str) -> Result<TlsIo, DialError> {
        let named = || endpoint.to_owned();
        let resolve = |source| DialError::Resolve { endpoint: named(), source };
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "no addresses");
        for addr in tokio::net::lookup_host(endpoint).await.map_err(resolve)? {
            match TcpStream::connect(addr).await {
                Ok(stream) => return self.handshake(endpoint, addr, stream).await,
                Err(error) => failed = error,
            }
        }
        Err(DialError::Connect { endpoint: named(), source: failed })
    }

    async fn handshake(
        &self,
        endpoint: &str,
        addr: SocketAddr,
        stream: TcpStream,
    ) -> Result<TlsIo, DialError> {
        let named = || endpoint.to_owned();
        // Small frames must not wait for the answer to the one before.
        stream
            .set_nodelay(true)
            .map_err(|source| DialError::Connect { endpoint: named(), source })?;
        let connector = TlsConnector::from(self.config().map_err(DialError::Own)?);
        // Never sent and never checked: `enable_sni` is off, and identities replace names.
        let name = ServerName::IpAddress(addr.ip().into());
        let error = match connector.connect(name, stream).await {
            Ok(stream) => {
                let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
                if agreed == Some(self.protocol.alpn()) {
                    if let Some(leaf) =
                        stream.get_ref().1.peer_certificates().and_then(<[_]>::first)
                        && let Ok(id) = spiffe_of(leaf)
                    {
                        self.store.peers.note(id.to_string(), leaf);
                    }
                    return Ok(stream);
                }
                let detail = "it speaks another protocol: is the port right?".to_owned();
                return Err(DialError::Handshake { endpoint: named(), detail });
            }
            Err(error) => error,
        };
        if let Some(rustls::Error::InvalidCertificate(_)) = find_rustls(&error) {
            let (reason, detail) = (Reason::of(&error), error_chain(&error));
            self.store.refusals.note(reason, addr, &detail);
            return Err(DialError::Untrusted { endpoint: named(), reason, detail });
        }
        let detail = refused_by_peer(&error).unwrap_or_else(|| error_chain(&error));
        Err(DialError::Handshake { endpoint: named(), detail })
    }
}

/// A finished handshake on the server's side.
pub(crate) struct Accepted {
    pub stream: ServerStream,
    pub peer: Peer,
    pub chain: Vec<CertificateDer<'static>>,
    pub not_after_unix_s: u64,
}

/// Closes without losing the alert. A client of TLS 1.3 believes the handshake done before we have
/// read its certificate, so a request may be on its way; closing with bytes unread would reset the
/// connection, and the client would learn "reset" where we said why.
async fn linger(mut stream: TcpStream) {
    let drain = async {
        stream.shutdown().await?;
        let mut sink = [0; 4096];
        while stream.read(&mut sink).await? > 0 {}
        io::Result::Ok(())
    };
    // Whatever goes wrong here, the connection is over.
    let _ = tokio::time::timeout(LINGER, drain).await;
}

impl ServerTls {
    /// Shakes hands; `None` means that the peer was refused, which has been counted.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        addr: SocketAddr,
        within: Duration,
    ) -> Option<Accepted> {
        let refusals = &self.store.refusals;
        let acceptor = match self.config() {
            Ok(config) => TlsAcceptor::from(config),
            Err(error) => {
                refusals.note(Reason::Other, addr, &error_chain(&error));
                return None;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            refusals.note(Reason::Other, addr, &error.to_string());
            return None;
        }
        let handshake = acceptor.accept(stream).into_fallible();
        let stream = match tokio::time::timeout(within, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, stream))) => {
                refusals.note(Reason::of(&error), addr, &error_chain(&error));
                linger(stream).await;
                return None;
            }
            Err(_) => {
                let detail = format!("no handshake within {} ms", within.as_millis());
                refusals.note(Reason::Timeout, addr, &detail);
                return None;
            }
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
        let read = chain
            .first()
            .map(|leaf| Ok((spiffe_of(leaf)?, not_after_unix_s(leaf)?, serial_of(leaf))));
        match read {
            Some(Ok::<_, Mismatch>((id, not_after_unix_s, serial))) => {
                if let Some(leaf) = chain.first() {
                    self.store.peers.note(id.to_string(), leaf);
                }
                let peer = Peer { addr, id: Arc::new(id), serial: serial.map(Arc::from) };
                Some(Accepted { stream, peer, chain, not_after_unix_s })
            }
            // The verifier has read the same leaf already.
            _ => {
                refusals.note(Reason::NoCertificate, addr, "no identity after the handshake");
                None
            }
        }
    }

    /// Whether a connected peer would be let in today; a refusal is counted.
    pub(crate) fn still_welcome(&self, peer: &Peer, chain: &[CertificateDer<'_>]) -> bool {
        let material = self.store.current.load();
        match material.recheck(chain, &self.expect, &self.store.refusals) {
            Ok(()) => true,
            Err(error) => {
                self.store.refusals.note(Reason::of(&error), peer.addr, &error_chain(&error));
                false
            }
        }
    }
}
