//! What the credential files hold, read and checked as a whole before any of it is used.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::SpiffeId;

use super::verify::{ClientVerifier, ServerVerifier, not_after_unix_s, spiffe_of};
use super::{Expect, Mismatch, Protocol, Refusals, TlsFiles};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {path}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("private key {path} may be read by others (mode {mode:04o}): run chmod 600 {path}")]
    KeyMode { path: PathBuf, mode: u32 },
    #[error("{path} holds no {what} in PEM form")]
    Empty { path: PathBuf, what: &'static str },
    #[error("{path} is damaged: it should hold a {what} in PEM form")]
    Damaged { path: PathBuf, what: &'static str, source: pem::Error },
    #[error("a root certificate in {path} cannot be used")]
    Root { path: PathBuf, source: rustls::Error },
    #[error(
        "{path} holds two authorities by the name of {name}: which revocation list is whose cannot \
         be told; give the new one another name"
    )]
    SameName { path: PathBuf, name: String },
    #[error("revocation list {path} cannot be used: {reason}")]
    Crl { path: PathBuf, reason: String },
    #[error("key {key} does not belong to certificate {cert}, or cannot be used")]
    Key { key: PathBuf, cert: PathBuf, source: rustls::Error },
    #[error("certificate {path} names no one")]
    Identity { path: PathBuf, source: Mismatch },
    #[error("certificate {cert} does not hold against {ca}")]
    NotValid { cert: PathBuf, ca: PathBuf, source: rustls::Error },
    #[error("certificate {path} is for {found}, this process is {current}: restart it to change")]
    OtherIdentity { path: PathBuf, found: Box<SpiffeId>, current: Box<SpiffeId> },
    #[error("tls cannot be configured")]
    Config(#[from] rustls::Error),
}

/// Enough of each file's metadata to see that it was written or replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<Option<(u64, u64, i64, i64)>>);

impl Fingerprint {
    pub fn of(files: &TlsFiles) -> Self {
        let paths = [&files.cert, &files.key, &files.ca].into_iter().chain(&files.crl);
        Self(
            paths
                .map(|path| std::fs::metadata(path).ok())
                .map(|meta| meta.map(|m| (m.ino(), m.len(), m.mtime(), m.mtime_nsec())))
                .collect(),
        )
    }
}

pub(super) struct Material {
    pub id: SpiffeId,
    pub not_after_unix_s: u64,
    own: Arc<CertifiedKey>,
    /// What `roots` was made of.
    pub trusted: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
    pub crls: Vec<CertificateRevocationListDer<'static>>,
    provider: Arc<CryptoProvider>,
    files: TlsFiles,
}

impl Material {
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain: Vec<CertificateDer> = read_all(&files.cert, "certificate")?;
        let mut roots = RootCertStore::empty();
        let trusted: Vec<CertificateDer> = read_all(&files.ca, "certificate")?;
        for root in &trusted {
            roots
                .add(root.clone())
                .map_err(|source| TlsError::Root { path: files.ca.clone(), source })?;
        }
        let crls = match &files.crl {
            Some(path) => read_all(path, "revocation list")?,
            None => Vec::new(),
        };
        if let Some(name) = shared_name(&trusted).filter(|_| !crls.is_empty()) {
            return Err(TlsError::SameName { path: files.ca.clone(), name });
        }
        let key = read_key(&files.key)?;
        let own = CertifiedKey::from_der(chain, key, &provider).map_err(|source| {
            TlsError::Key { key: files.key.clone(), cert: files.cert.clone(), source }
        })?;

        let leaf = own.end_entity_cert()?;
        let unnamed = |source| TlsError::Identity { path: files.cert.clone(), source };
        let id = spiffe_of(leaf).map_err(unnamed)?;
        let not_after_unix_s = not_after_unix_s(leaf).map_err(unnamed)?;
        let material = Self {
            id,
            not_after_unix_s,
            own: Arc::new(own),
            trusted,
            roots: Arc::new(roots),
            crls,
            provider,
            files: files.clone(),
        };
        material.check_own_chain()?;
        Ok(material)
    }

    /// The certificate that names us.
    pub fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.own.cert.first()
    }

    /// A peer would refuse a bad chain too, but only the reader of this message can mend it.
    fn check_own_chain(&self) -> Result<(), TlsError> {
        let (leaf, rest) = self.own.cert.split_first().unzip();
        let (Some(leaf), Some(rest)) = (leaf, rest) else { return Ok(()) };
        self.chain_verifier()?.verify_client_cert(leaf, rest, UnixTime::now()).map_err(
            |source| TlsError::NotValid {
                cert: self.files.cert.clone(),
                ca: self.files.ca.clone(),
                source,
            },
        )?;
        Ok(())
    }

    /// This, if it may follow `current`.
    pub fn replacing(self, current: &Material) -> Result<Self, TlsError> {
        if self.id == current.id {
            return Ok(self);
        }
        Err(TlsError::OtherIdentity {
            path: self.files.cert,
            found: Box::new(self.id),
            current: Box::new(current.id.clone()),
        })
    }

    /// Whether a peer that was let in with this chain would be let in today.
    pub fn recheck(
        &self,
        chain: &[CertificateDer<'_>],
        expect: &Expect,
        refusals: &Arc<Refusals>,
    ) -> Result<(), rustls::Error> {
        let Some((leaf, rest)) = chain.split_first() else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        let verifier = self
            .client_verifier(expect, refusals)
            .map_err(|error| rustls::Error::General(super::error_chain(&error)))?;
        verifier.verify_client_cert(leaf, rest, UnixTime::now()).map(|_| ())
    }

    pub fn server_config(
        &self,
        expect: &Expect,
        protocol: Protocol,
        refusals: &Arc<Refusals>,
    ) -> Result<ServerConfig, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(self.client_verifier(expect, refusals)?)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.own))));
        config.alpn_protocols = protocol.accepted();
        // A resumed session would skip the certificate checks.
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    pub fn client_config(
        &self,
        expect: &Expect,
        protocol: Protocol,
    ) -> Result<ClientConfig, TlsError> {
        let verifier = ServerVerifier::new(
            Arc::clone(&self.roots),
            self.crls.clone(),
            &self.provider,
            expect.clone(),
            &self.id.trust_domain,
        )
        .map_err(|reason| self.crl_error(reason))?;
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.own))));
        config.alpn_protocols = vec![protocol.alpn()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(config)
    }

    fn client_verifier(
        &self,
        expect: &Expect,
        refusals: &Arc<Refusals>,
    ) -> Result<Arc<ClientVerifier>, TlsError> {
        Ok(Arc::new(ClientVerifier {
            chain: self.chain_verifier()?,
            expect: expect.clone(),
            trust_domain: self.id.trust_domain.clone(),
            refusals: Arc::clone(refusals),
        }))
    }

    /// Chain, dates and revocation; no identity.
    fn chain_verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let builder = WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&self.roots),
            Arc::clone(&self.provider),
        )
        .with_crls(self.crls.iter().cloned())
        // One list speaks for one authority; while a root is replaced the other has none yet.
        .only_check_end_entity_revocation()
        .allow_unknown_revocation_status();
        builder.build().map_err(|error| self.crl_error(error.to_string()))
    }

    fn crl_error(&self, reason: String) -> TlsError {
        // Roots were checked when they were read, so only the list can be at fault.
        let path = self.files.crl.clone().unwrap_or_else(|| self.files.ca.clone());
        TlsError::Crl { path, reason }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
}

/// A name that two different authorities bear. A list is found by its issuer's name.
fn shared_name(trusted: &[CertificateDer<'_>]) -> Option<String> {
    let mut known = BTreeMap::new();
    for root in trusted {
        let Ok((_, parsed)) = X509Certificate::from_der(root) else { continue };
        let key = parsed.public_key().raw.to_vec();
        let name = parsed.subject().to_string();
        if known.insert(name.clone(), key.clone()).is_some_and(|other| other != key) {
            return Some(name);
        }
    }
    None
}

fn read_all<T: PemObject>(path: &Path, what: &'static str) -> Result<Vec<T>, TlsError> {
    let found: Result<Vec<T>, _> = T::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(found) if found.is_empty() => Err(TlsError::Empty { path: path.to_owned(), what }),
        Ok(found) => Ok(found),
        Err(source) => Err(TlsError::Damaged { path: path.to_owned(), what, source }),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let meta = std::fs::metadata(path)
        .map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })?;
    let mode = meta.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(TlsError::KeyMode { path: path.to_owned(), mode });
    }
    match PrivateKeyDer::from_pem_slice(&read(path)?) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => {
            Err(TlsError::Empty { path: path.to_owned(), what: "private key" })
        }
        Err(source) => {
            Err(TlsError::Damaged { path: path.to_owned(), what: "private key", source })
        }
    }
}
