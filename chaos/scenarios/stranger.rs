//! Connections that a client of ours would never make: without a certificate, and with TLS 1.2.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const WITHIN: Duration = Duration::from_secs(5);

/// Believes every server: what is tested is what the server believes.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Says hello without a certificate and asks for something. What came back, or how it ended.
pub async fn without_certificate(to: SocketAddr, protocol: &[u8]) -> Result<usize, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth();
    let mut config = config;
    config.alpn_protocols = vec![protocol.to_vec()];
    let exchange = async {
        let stream = TcpStream::connect(to).await.map_err(|error| error.to_string())?;
        let name = ServerName::IpAddress(to.ip().into());
        let mut stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|error| error.to_string())?;
        let request = b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(request).await.map_err(|error| error.to_string())?;
        let mut answer = [0; 256];
        stream.read(&mut answer).await.map_err(|error| error.to_string())
    };
    match timeout(WITHIN, exchange).await {
        Ok(Ok(0)) => Err("closed".to_owned()),
        Ok(done) => done,
        Err(_) => Err("no answer".to_owned()),
    }
}

/// A TLS 1.2 hello by the bytes; the alert that came back.
pub async fn tls12(to: SocketAddr) -> Result<(u8, u8), String> {
    let exchange = async {
        let mut stream = TcpStream::connect(to).await.map_err(|error| error.to_string())?;
        stream.write_all(&client_hello_12()).await.map_err(|error| error.to_string())?;
        let mut record = [0; 7];
        stream.read_exact(&mut record).await.map_err(|error| error.to_string())?;
        match record {
            [21, _, _, _, _, level, alert] => Ok((level, alert)),
            other => Err(format!("a record that is no alert: {other:?}")),
        }
    };
    timeout(WITHIN, exchange).await.unwrap_or_else(|_| Err("no answer".to_owned()))
}

/// RFC 5246 §7.4.1.2: version 3.3, one ECDHE suite, groups, points and signatures; no
/// `supported_versions`, by which TLS 1.3 would be offered.
fn client_hello_12() -> Vec<u8> {
    let extensions: &[(u16, &[u8])] = &[
        (10, &[0, 2, 0, 29]),      // supported_groups: x25519
        (11, &[1, 0]),             // ec_point_formats: uncompressed
        (13, &[0, 4, 4, 3, 8, 4]), // signatures: ecdsa p256 sha256, rsa pss sha256
        (23, &[]),                 // extended_master_secret
        (0xff01, &[0]),            // renegotiation_info: none
    ];
    let mut listed = Vec::new();
    for (kind, body) in extensions {
        listed.extend(kind.to_be_bytes());
        listed.extend((body.len() as u16).to_be_bytes());
        listed.extend_from_slice(body);
    }
    let mut hello = vec![3, 3];
    hello.extend([7; 32]); // Any random will do.
    hello.push(0); // No session.
    hello.extend([0, 4, 0xc0, 0x2b, 0xc0, 0x2f]); // ECDHE with AES-128-GCM, ECDSA and RSA.
    hello.extend([1, 0]); // No compression.
    hello.extend((listed.len() as u16).to_be_bytes());
    hello.extend(listed);
    let mut handshake = vec![1, 0];
    handshake.extend((hello.len() as u16).to_be_bytes());
    handshake.extend(hello);
    let mut record = vec![22, 3, 1];
    record.extend((handshake.len() as u16).to_be_bytes());
    record.extend(handshake);
    record
}
