//! Why connections were refused: counted always, logged at a bounded rate.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustls::CertificateError;
use tokio::time::Instant;
use tracing::warn;

use super::Mismatch;
use super::verify::find_rustls;

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
            CertificateError::Other(other) => {
                other.0.downcast_ref::<Mismatch>().map_or(Reason::Other, |m| m.reason)
            }
            _ => Reason::Other,
        }
    }
}

#[derive(Default)]
pub struct Refusals {
    counts: [AtomicU64; Reason::ALL.len()],
    log: Mutex<[LogState; Reason::ALL.len()]>,
}

#[derive(Clone, Copy, Default)]
struct LogState {
    last: Option<Instant>,
    unsaid: u64,
}

impl Refusals {
    pub fn count(&self, reason: Reason) -> u64 {
        self.counts[reason as usize].load(Ordering::Relaxed)
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
