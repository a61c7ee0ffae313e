//! Why connections were refused: counted always, logged at a bounded rate; who showed a certificate is
//! handed on for the audit.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

use super::verify::{find_rustls, serial_of, spiffe_of};
use super::{Mismatch, error_chain};
use crate::identity::SpiffeId;

/// A scanner or a misconfigured fleet repeats itself: one line a reason in this time.
const LOG_EVERY: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    NoCertificate,
    UnknownCa,
    OtherCluster,
    WrongClass,
    WrongId,
    Expired,
    Revoked,
    TlsVersion,
    Timeout,
    Other,
}

impl Reason {
    pub const ALL: [Reason; 10] = [
        Reason::NoCertificate,
        Reason::UnknownCa,
        Reason::OtherCluster,
        Reason::WrongClass,
        Reason::WrongId,
        Reason::Expired,
        Reason::Revoked,
        Reason::TlsVersion,
        Reason::Timeout,
        Reason::Other,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::NoCertificate => "no_certificate",
            Reason::UnknownCa => "unknown_ca",
            Reason::OtherCluster => "other_cluster",
            Reason::WrongClass => "wrong_class",
            Reason::WrongId => "wrong_id",
            Reason::Expired => "expired",
            Reason::Revoked => "revoked",
            Reason::TlsVersion => "tls_version",
            Reason::Timeout => "timeout",
            Reason::Other => "other",
        }
    }

    /// What a failed handshake failed on.
    pub fn of(error: &(dyn std::error::Error + 'static)) -> Reason {
        let Some(error) = find_rustls(error) else { return Reason::Other };
        match error {
            rustls::Error::NoCertificatesPresented => Reason::NoCertificate,
            rustls::Error::PeerIncompatible(_) => Reason::TlsVersion,
            rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion) => {
                Reason::TlsVersion
            }
            rustls::Error::InvalidCertificate(error) => Self::of_certificate(error),
            _ => Reason::Other,
        }
    }

    fn of_certificate(error: &CertificateError) -> Reason {
        match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Reason::UnknownCa,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Reason::Expired,
            CertificateError::Revoked => Reason::Revoked,
            other => mismatch(other).map_or(Reason::Other, |mismatch| mismatch.reason),
        }
    }
}

/// What our own check of an identity found.
fn mismatch(error: &CertificateError) -> Option<&Mismatch> {
    match error {
        CertificateError::Other(other) => other.0.downcast_ref(),
        _ => None,
    }
}

/// A certificate that a port did not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub reason: Reason,
    /// As the certificate says; of an unknown authority that is a claim.
    pub id: Option<SpiffeId>,
    /// In hex.
    pub serial: Option<String>,
    /// What exactly was wrong.
    pub detail: String,
}

impl Login {
    pub(super) fn refused(error: &rustls::Error, leaf: &CertificateDer<'_>) -> Self {
        let detail = match error {
            rustls::Error::InvalidCertificate(error) => {
                mismatch(error).map_or_else(|| error.to_string(), ToString::to_string)
            }
            other => error_chain(other),
        };
        let (id, serial) = (spiffe_of(leaf).ok(), serial_of(leaf));
        Self { reason: Reason::of(error), id, serial, detail }
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: certificate {}",
            self.reason.as_str(),
            self.serial.as_deref().unwrap_or("?")
        )?;
        match &self.id {
            Some(id) => write!(f, " of {id}: {}", self.detail),
            None => write!(f, ": {}", self.detail),
        }
    }
}

/// Logins that wait for whoever follows them; more are counted and logged alone.
const LOGINS_WAITING: usize = 64;

#[derive(Debug, Default)]
pub struct Refusals {
    counts: [AtomicU64; Reason::ALL.len()],
    log: Mutex<[LogState; Reason::ALL.len()]>,
    logins: Mutex<Option<mpsc::Sender<Login>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct LogState {
    last: Option<Instant>,
    unsaid: u64,
}

impl Refusals {
    pub fn count(&self, reason: Reason) -> u64 {
        self.counts[reason as usize].load(Ordering::Relaxed)
    }

    /// Certificates that are not let in from now on; a later follower takes an earlier one's place.
    pub fn logins(&self) -> mpsc::Receiver<Login> {
        let (sender, receiver) = mpsc::channel(LOGINS_WAITING);
        *self.logins.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    pub(super) fn turn_away(&self, login: Login) {
        let logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(logins) = &*logins {
            let _ = logins.try_send(login); // Who floods the door is counted, and logged now and then.
        }
    }

    /// Counts a refusal; `detail` says what exactly was wrong.
    pub fn note(&self, reason: Reason, peer: SocketAddr, detail: &str) {
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut log[reason as usize];
        let now = Instant::now();
        if state.last.is_some_and(|last| now.duration_since(last) < LOG_EVERY) {
            state.unsaid += 1;
            return;
        }
        let also = std::mem::take(&mut state.unsaid);
        state.last = Some(now);
        drop(log);
        warn!(reason = reason.as_str(), %peer, detail, also, "connection refused");
    }
}
