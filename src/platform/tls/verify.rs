//! The checks of a handshake: the chain by rustls's own verifiers, then the identity by ours.

use std::error::Error as StdError;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, CommonState, DigitallySignedStruct, DistinguishedName, OtherError,
    PeerIncompatible, RootCertStore, SignatureScheme,
};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::SpiffeId;

use super::{Expect, Login, Mismatch, Reason, Refusals};

/// Who is at the other end of an established connection.
pub fn peer_id(connection: &CommonState) -> Option<SpiffeId> {
    spiffe_of(connection.peer_certificates()?.first()?).ok()
}

/// The one URI name of a certificate, read as an identity.
pub fn spiffe_of(cert: &CertificateDer<'_>) -> Result<SpiffeId, Mismatch> {
    let wrong = |text: String| Mismatch { reason: Reason::WrongId, text };
    let (_, parsed) =
        X509Certificate::from_der(cert).map_err(|_| wrong("certificate is damaged".into()))?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| wrong("certificate's names are damaged".into()))?
        .map(|extension| &extension.value.general_names);
    let mut uris = names.into_iter().flatten().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => uri.parse().map_err(|e| wrong(format!("{e}"))),
        (None, _) => Err(wrong("certificate has no URI name".into())),
        (Some(_), Some(_)) => Err(wrong("certificate has more than one URI name".into())),
    }
}

pub(super) fn not_after_unix_s(cert: &CertificateDer<'_>) -> Result<u64, Mismatch> {
    let (_, parsed) = X509Certificate::from_der(cert)
        .map_err(|_| Mismatch { reason: Reason::WrongId, text: "certificate is damaged".into() })?;
    Ok(u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0))
}

/// The serial number in hex.
pub(super) fn serial_of(cert: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(cert).ok()?;
    Some(parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The TLS error inside whatever a library wrapped around it.
pub(super) fn find_rustls<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An `io::Error`'s source is the source of what it carries, not that itself.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

fn check(
    cert: &CertificateDer<'_>,
    expect: &Expect,
    trust_domain: &str,
) -> Result<(), rustls::Error> {
    spiffe_of(cert)
        .and_then(|id| expect.check(trust_domain, &id))
        .map_err(|mismatch| CertificateError::Other(OtherError(Arc::new(mismatch))).into())
}

/// An authority of the same name with another key is another authority. Said like this, the peer
/// is told "unknown ca" and not that decryption failed.
fn impostor_is_unknown(error: rustls::Error) -> rustls::Error {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::BadSignature) => {
            CertificateError::UnknownIssuer.into()
        }
        other => other,
    }
}

fn never_tls12<T>() -> Result<T, rustls::Error> {
    Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
}

/// What a server checks of a client.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub chain: Arc<dyn ClientCertVerifier>,
    pub expect: Expect,
    pub trust_domain: String,
    /// Told of whoever is not let in.
    pub refusals: Arc<Refusals>,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now);
        let verified = verified.map_err(impostor_is_unknown).and_then(|verified| {
            check(end_entity, &self.expect, &self.trust_domain).map(|()| verified)
        });
        verified.inspect_err(|error| self.refusals.turn_away(Login::refused(error, end_entity)))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        never_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// What a client checks of a server: the chain without a host name, then who it is.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    /// Asked about revocation only; without a list there is nothing to ask.
    revocation: Option<Arc<WebPkiServerVerifier>>,
    expect: Expect,
    trust_domain: String,
}

impl ServerVerifier {
    pub fn new(
        roots: Arc<RootCertStore>,
        crls: Vec<CertificateRevocationListDer<'static>>,
        provider: &Arc<CryptoProvider>,
        expect: Expect,
        trust_domain: &str,
    ) -> Result<Self, String> {
        let revocation = if crls.is_empty() {
            None
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(
                Arc::clone(&roots),
                Arc::clone(provider),
            )
            .with_crls(crls)
            .only_check_end_entity_revocation()
            .allow_unknown_revocation_status();
            Some(builder.build().map_err(|error| error.to_string())?)
        };
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { roots, algorithms, revocation, expect, trust_domain: trust_domain.to_owned() })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )
        .map_err(impostor_is_unknown)?;
        if let Some(revocation) = &self.revocation {
            let answer = revocation.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            );
            match answer {
                Ok(_) => {}
                // The chain stands, as checked above; host names mean nothing here.
                Err(rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. },
                )) => {}
                Err(error) => return Err(error),
            }
        }
        check(end_entity, &self.expect, &self.trust_domain)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        never_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
