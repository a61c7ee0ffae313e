//! A small certificate authority for trials, demos and tests.
//!
//! It signs identities, also on request, and takes them back; real deployments bring certificates of
//! their own, which need only carry the same URI name. Files that hold keys are made readable by
//! their owner alone.
//!
//! Deliberately absent: a server, renewal, intermediates. An authority is three files: certificate,
//! key, and the list of what it took back.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams,
    CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use crate::identity::{IdentityError, SpiffeId};

/// Certificates begin a little in the past: the reader's clock may trail ours.
const BACKDATED: Duration = Duration::from_secs(300);
/// Long enough to forget about a trial, short enough not to be taken for a real authority.
const AUTHORITY_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// When a list names its successor: readers here go on with an old one, others may not.
const LIST_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// RFC 5280 allows 20 octets; 16 random ones never meet twice.
const SERIAL_BYTES: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("identity cannot be certified")]
    Identity(#[from] IdentityError),
    #[error("certificate cannot be made")]
    Make(#[from] rcgen::Error),
    #[error("the request is for {}, not for {expected}", found.join(", "))]
    OtherRequest { expected: String, found: Vec<String> },
    #[error("no randomness for a serial number: {0}")]
    Random(getrandom::Error),
    #[error("{path} is not an authority made by cryptorun: {reason}")]
    NotAuthority { path: PathBuf, reason: &'static str },
    #[error("{path} is not a {what}")]
    NotOne { path: PathBuf, what: &'static str },
    #[error("certificate {path} is not this authority's")]
    NotOurs { path: PathBuf },
    #[error("cannot use {path}")]
    File { path: PathBuf, source: io::Error },
}

/// The last second that a certificate can name: the year has four digits.
const UNIX_S_MAX: u64 = 253_402_300_799;

/// rcgen takes dates of a library that it does not hand on; the type has no name here.
macro_rules! date {
    ($unix_s:expr) => {
        date_time_ymd(1970, 1, 1) + Duration::from_secs($unix_s.min(UNIX_S_MAX))
    };
}

/// From when to when, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub from_unix_s: u64,
    pub to_unix_s: u64,
}

impl Validity {
    /// Beginning now, give or take a wrong clock.
    pub fn lasting(life: Duration) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            from_unix_s: now.saturating_sub(BACKDATED).as_secs(),
            to_unix_s: now.saturating_add(life).as_secs(),
        }
    }
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Leaf {
    pub id: SpiffeId,
    pub cert_pem: String,
    pub key_pem: String,
    /// What a revocation list names it by.
    pub serial: Vec<u8>,
}

impl Leaf {
    /// Writes `cert.pem`, `key.pem` and the authority's `ca.pem` into `folder`, made if missing:
    /// what `TlsFiles::in_folder` reads. The authority's list of what it took back is the caller's to
    /// bring: it changes when this certificate does not.
    pub fn write(&self, authority: &Authority, folder: &Path) -> Result<(), PkiError> {
        make_folder(folder)?;
        // The key first: a reader that sees the new certificate finds its key.
        write_private(&folder.join("key.pem"), &self.key_pem)?;
        write_whole(&folder.join("cert.pem"), &self.cert_pem, 0o644)?;
        write_whole(&folder.join("ca.pem"), authority.cert_pem(), 0o644)
    }
}

/// Signs for one cluster of one trust domain.
pub struct Authority {
    trust_domain: String,
    cluster: String,
    cert_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(trust_domain: &str, cluster: &str) -> Result<Self, PkiError> {
        let key = KeyPair::generate()?;
        let (bytes, number) = serial()?;
        let mark: String = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let name = format!("cryptorun {cluster} authority {mark}");
        let mut params = authority_params(&name, trust_domain, cluster);
        set_validity(&mut params, Validity::lasting(AUTHORITY_LIFE));
        params.serial_number = Some(number);
        let cert_pem = params.self_signed(&key)?.pem();
        Ok(Self::with_key(&name, trust_domain, cluster, cert_pem, key))
    }

    /// Reads an authority that [`Authority::write`] wrote.
    pub fn load(folder: &Path) -> Result<Self, PkiError> {
        let path = folder.join("ca.pem");
        let broken = |reason| PkiError::NotAuthority { path: path.clone(), reason };
        let cert_pem = read(&path)?;
        let key = KeyPair::from_pem(&read(&folder.join("ca.key"))?)?;
        let der = CertificateDer::from_pem_slice(cert_pem.as_bytes())
            .map_err(|_| broken("it holds no certificate"))?;
        let (_, cert) =
            X509Certificate::from_der(&der).map_err(|_| broken("its certificate is damaged"))?;
        if cert.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Err(broken("ca.key does not belong to it"));
        }
        let first = |mut found: Box<dyn Iterator<Item = String> + '_>| found.next();
        let subject = cert.subject();
        let texts =
            |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().ok().map(str::to_owned);
        let trust_domain = first(Box::new(subject.iter_organization().filter_map(texts)));
        let cluster = first(Box::new(subject.iter_organizational_unit().filter_map(texts)));
        let name = first(Box::new(subject.iter_common_name().filter_map(texts)));
        match (name, trust_domain, cluster) {
            (Some(name), Some(domain), Some(cluster)) => {
                let cert_pem = cert_pem.clone();
                Ok(Self::with_key(&name, &domain, &cluster, cert_pem, key))
            }
            _ => Err(broken("its subject lacks a name, a trust domain or a cluster")),
        }
    }

    fn with_key(
        name: &str,
        trust_domain: &str,
        cluster: &str,
        cert_pem: String,
        key: KeyPair,
    ) -> Self {
        Self {
            trust_domain: trust_domain.to_owned(),
            cluster: cluster.to_owned(),
            cert_pem,
            key_pem: key.serialize_pem(),
            issuer: Issuer::new(authority_params(name, trust_domain, cluster), key),
        }
    }

    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Writes `ca.pem`, `ca.key` and a list `crl.pem` that takes back nothing into `folder`, made if
    /// missing.
    pub fn write(&self, folder: &Path) -> Result<(), PkiError> {
        make_folder(folder)?;
        write_private(&folder.join("ca.key"), &self.key_pem)?;
        write_whole(&folder.join("ca.pem"), &self.cert_pem, 0o644)?;
        let nothing = self.revoke(&[], Validity::lasting(LIST_LIFE))?;
        write_whole(&folder.join("crl.pem"), &nothing, 0o644)
    }

    /// Adds a certificate to the list `crl.pem` in the authority's folder; how many are on it then.
    /// One that stands there already is no mistake.
    pub fn take_back(&self, folder: &Path, cert: &Path) -> Result<usize, PkiError> {
        let serial = self.serial_in(cert)?;
        let path = folder.join("crl.pem");
        let mut serials = listed(&path)?;
        if !serials.contains(&serial) {
            serials.push(serial);
        }
        let list = self.revoke(&serials, Validity::lasting(LIST_LIFE))?;
        write_whole(&path, &list, 0o644)?;
        Ok(serials.len())
    }

    /// The serial number of a certificate that this authority signed.
    fn serial_in(&self, path: &Path) -> Result<Vec<u8>, PkiError> {
        let damaged =
            || PkiError::NotOne { path: path.to_owned(), what: "certificate in PEM form" };
        let own =
            CertificateDer::from_pem_slice(self.cert_pem.as_bytes()).map_err(|_| damaged())?;
        let (_, own) = X509Certificate::from_der(&own).map_err(|_| damaged())?;
        let der = CertificateDer::from_pem_slice(read(path)?.as_bytes()).map_err(|_| damaged())?;
        let (_, cert) = X509Certificate::from_der(&der).map_err(|_| damaged())?;
        cert.verify_signature(Some(own.public_key()))
            .map_err(|_| PkiError::NotOurs { path: path.to_owned() })?;
        Ok(cert.raw_serial().to_vec())
    }

    pub fn issue(&self, id: &SpiffeId, validity: Validity) -> Result<Leaf, PkiError> {
        self.issue_for(id, &[], validity)
    }

    /// The same with host names and addresses beside the identity, for clients that check those:
    /// browsers, curl, Prometheus.
    pub fn issue_for(
        &self,
        id: &SpiffeId,
        hosts: &[&str],
        validity: Validity,
    ) -> Result<Leaf, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = leaf_params(id, names(hosts)?)?;
        let serial = self.fill(&mut params, validity)?;
        let cert_pem = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Leaf { id: id.clone(), cert_pem, key_pem: key.serialize_pem(), serial })
    }

    /// Signs a request that [`request`] or any other tool made, if it asks for exactly `id`: who
    /// signs says who it is for. Returns the certificate in PEM.
    pub fn sign(
        &self,
        csr_pem: &str,
        id: &SpiffeId,
        validity: Validity,
    ) -> Result<String, PkiError> {
        let mut asked = CertificateSigningRequestParams::from_pem(csr_pem)?;
        let (uris, hosts): (Vec<_>, Vec<_>) =
            asked.params.subject_alt_names.into_iter().partition(|n| matches!(n, SanType::URI(_)));
        let found: Vec<String> = uris
            .iter()
            .filter_map(|name| match name {
                SanType::URI(uri) => Some(uri.to_string()),
                _ => None,
            })
            .collect();
        if found != [id.to_string()] {
            return Err(PkiError::OtherRequest { expected: id.to_string(), found });
        }
        // Only the key and the names are taken; what the certificate may do is ours to say.
        asked.params = leaf_params(id, hosts)?;
        self.fill(&mut asked.params, validity)?;
        Ok(asked.signed_by(&self.issuer)?.pem())
    }

    fn fill(
        &self,
        params: &mut CertificateParams,
        validity: Validity,
    ) -> Result<Vec<u8>, PkiError> {
        params.use_authority_key_identifier_extension = true;
        set_validity(params, validity);
        let (serial, number) = serial()?;
        params.serial_number = Some(number);
        Ok(serial)
    }

    /// A revocation list of these serials, in PEM.
    pub fn revoke(&self, serials: &[Vec<u8>], validity: Validity) -> Result<String, PkiError> {
        let at = date!(validity.from_unix_s);
        let revoked_certs = serials
            .iter()
            .map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from_slice(serial),
                revocation_time: at,
                reason_code: Some(RevocationReason::Unspecified),
                invalidity_date: None,
            })
            .collect();
        let list = CertificateRevocationListParams {
            this_update: at,
            next_update: date!(validity.to_unix_s),
            // Grows with time, which is all that is asked of it.
            crl_number: SerialNumber::from(validity.from_unix_s),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }
}

/// A key and a request to have it certified, so that the key never leaves its machine.
pub struct CertificateRequest {
    pub csr_pem: String,
    pub key_pem: String,
}

/// Asks for a certificate for `id`; any authority may answer it.
pub fn request(id: &SpiffeId, hosts: &[&str]) -> Result<CertificateRequest, PkiError> {
    let key = KeyPair::generate()?;
    let csr_pem = leaf_params(id, names(hosts)?)?.serialize_request(&key)?.pem()?;
    Ok(CertificateRequest { csr_pem, key_pem: key.serialize_pem() })
}

impl CertificateRequest {
    /// Writes `key.pem` and `request.pem` into `folder`, made if missing.
    pub fn write(&self, folder: &Path) -> Result<(), PkiError> {
        make_folder(folder)?;
        write_private(&folder.join("key.pem"), &self.key_pem)?;
        write_whole(&folder.join("request.pem"), &self.csr_pem, 0o644)
    }
}

fn names(hosts: &[&str]) -> Result<Vec<SanType>, PkiError> {
    let name = |host: &&str| match host.parse::<IpAddr>() {
        Ok(addr) => Ok(SanType::IpAddress(addr)),
        Err(_) => Ok(SanType::DnsName((*host).try_into()?)),
    };
    hosts.iter().map(name).collect()
}

fn leaf_params(id: &SpiffeId, hosts: Vec<SanType>) -> Result<CertificateParams, PkiError> {
    id.check()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, id.id.as_str());
    params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
    params.subject_alt_names.extend(hosts);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Nodes and workers are called and call.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// Each authority has a name of its own: lists of two that share one cannot be told apart.
fn authority_params(name: &str, trust_domain: &str, cluster: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // Where `load` finds them again.
    params.distinguished_name.push(DnType::OrganizationName, trust_domain);
    params.distinguished_name.push(DnType::OrganizationalUnitName, cluster);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn set_validity(params: &mut CertificateParams, validity: Validity) {
    params.not_before = date!(validity.from_unix_s);
    params.not_after = date!(validity.to_unix_s);
}

/// A positive number that is new, as bytes and as rcgen wants it.
fn serial() -> Result<(Vec<u8>, SerialNumber), PkiError> {
    let mut bytes = [0; SERIAL_BYTES];
    getrandom::fill(&mut bytes).map_err(PkiError::Random)?;
    // Positive, and without a leading zero that DER would drop.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok((bytes.to_vec(), SerialNumber::from_slice(&bytes)))
}

/// The serial numbers on a list; none where there is no list yet.
fn listed(path: &Path) -> Result<Vec<Vec<u8>>, PkiError> {
    let damaged =
        || PkiError::NotOne { path: path.to_owned(), what: "revocation list in PEM form" };
    let pem = match read(path) {
        Err(PkiError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(Vec::new());
        }
        read => read?,
    };
    let der =
        CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).map_err(|_| damaged())?;
    let (_, list) = CertificateRevocationList::from_der(der.as_ref()).map_err(|_| damaged())?;
    Ok(list.iter_revoked_certificates().map(|one| one.raw_serial().to_vec()).collect())
}

fn read(path: &Path) -> Result<String, PkiError> {
    std::fs::read_to_string(path).map_err(|source| PkiError::File { path: path.to_owned(), source })
}

fn make_folder(folder: &Path) -> Result<(), PkiError> {
    std::fs::create_dir_all(folder)
        .map_err(|source| PkiError::File { path: folder.to_owned(), source })
}

fn write_private(path: &Path, text: &str) -> Result<(), PkiError> {
    write_whole(path, text, 0o600)
}

/// Never half a file, and never a moment at which others may read a key.
fn write_whole(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let beside = path.with_extension("new");
    let write = || {
        // A leftover of an earlier attempt may have another mode.
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|source| PkiError::File { path: path.to_owned(), source })
}
