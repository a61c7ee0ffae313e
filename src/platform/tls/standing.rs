//! What this process presents and trusts, and what was presented to it: how somebody who replaces a
//! certificate or an authority sees that everybody has the new one before the old one goes.
//!
//! Authorities are told apart by their key's identifier: a new one often bears the name of the old.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use cryptorun_core::time::WallTime;
use cryptorun_core::wire::{
    CertificateSeen, Credentials, Presented, RevocationList, TrustedAuthority,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::extensions::{AuthorityKeyIdentifier, ParsedExtension};
use x509_parser::prelude::{
    ASN1Time, CertificateRevocationList, FromDer, X509Certificate, X509Extension,
};

use super::TlsStore;

/// Peers remembered; the one that was seen longest ago makes room.
const PEERS_MAX: usize = 1024;
/// Hex digits of a key identifier that are shown: plenty to tell two authorities apart.
const KEY_DIGITS: usize = 8;
/// For an authority without a key identifier.
const UNNAMED: &str = "-";

/// The certificates that peers came with, by identity.
#[derive(Default)]
pub(super) struct Peers(Mutex<BTreeMap<String, Presented>>);

impl Peers {
    /// Somebody was let in, or let us in.
    pub fn note(&self, id: String, leaf: &CertificateDer<'_>) {
        let Some(certificate) = certificate(leaf) else { return };
        let at = now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= PEERS_MAX
            && !known.contains_key(&id)
            && let Some(oldest) = known.values().min_by_key(|p| p.at).map(|p| p.id.clone())
        {
            known.remove(&oldest);
        }
        known.insert(id.clone(), Presented { id, certificate, at });
    }

    fn list(&self) -> Vec<Presented> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl TlsStore {
    /// What this process presents and trusts, and who came to it with what.
    pub fn credentials(&self) -> Credentials {
        let material = self.current.load();
        let unreadable = || CertificateSeen {
            serial: UNNAMED.into(),
            authority: UNNAMED.into(),
            until: WallTime(0),
        };
        Credentials {
            process: material.id.to_string(),
            wall: now(),
            presents: material.leaf().and_then(certificate).unwrap_or_else(unreadable),
            trusts: material.trusted.iter().filter_map(authority).collect(),
            revocations: material.crls.iter().filter_map(revocations).collect(),
            not_taken: self.attempt().failed.clone(),
            peers: self.peers.list(),
        }
    }
}

fn certificate(leaf: &CertificateDer<'_>) -> Option<CertificateSeen> {
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    Some(CertificateSeen {
        serial: hex(parsed.raw_serial()),
        authority: signer(parsed.extensions()),
        until: wall(parsed.validity().not_after),
    })
}

fn authority(root: &CertificateDer<'static>) -> Option<TrustedAuthority> {
    let (_, parsed) = X509Certificate::from_der(root).ok()?;
    let key = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(short(id.0)),
        _ => None,
    });
    let name = parsed.subject().iter_common_name().find_map(|name| name.as_str().ok());
    Some(TrustedAuthority {
        authority: key.unwrap_or_else(|| UNNAMED.to_owned()),
        name: name.unwrap_or_default().to_owned(),
        until: wall(parsed.validity().not_after),
    })
}

fn revocations(list: &CertificateRevocationListDer<'static>) -> Option<RevocationList> {
    let (_, parsed) = CertificateRevocationList::from_der(list.as_ref()).ok()?;
    Some(RevocationList {
        authority: signer(parsed.extensions()),
        issued: wall(parsed.last_update()),
        next: parsed.next_update().map(wall),
        revoked: parsed.iter_revoked_certificates().count() as u64,
    })
}

/// Whose key signed this.
fn signer(extensions: &[X509Extension<'_>]) -> String {
    let key = extensions.iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(AuthorityKeyIdentifier {
            key_identifier: Some(id),
            ..
        }) => Some(short(id.0)),
        _ => None,
    });
    key.unwrap_or_else(|| UNNAMED.to_owned())
}

fn short(key: &[u8]) -> String {
    let mut text = hex(key);
    text.truncate(KEY_DIGITS);
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// By the clock that rustls judges dates by.
fn now() -> WallTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

fn wall(at: ASN1Time) -> WallTime {
    WallTime(u64::try_from(at.timestamp()).unwrap_or(0).saturating_mul(1000))
}
