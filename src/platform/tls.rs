//! TLS between processes: 1.3 only, certificates on both sides, identities instead of host names.
//!
//! A [`TlsStore`] holds this process's certificate, key, roots and revocation list, and takes new
//! ones from the same files without a restart. From it come a [`ServerTls`] for each port and a
//! [`ClientTls`] for each kind of peer, both knowing whom they [`Expect`].
//!
//! What always holds:
//!  1. a connection is handed on only after the peer's chain, dates, revocation, cluster, class,
//!     and where given region and id, were checked;
//!  2. material that cannot be used never replaces material that can: a failed reload keeps the
//!     old and says so;
//!  3. a process keeps the identity it started with;
//!  4. each refusal is counted under one [`Reason`].
//!
//! Deliberately absent: session resumption (a resumed session skips the checks of rule 1), DNS
//! names (machines move, identities do not), and the process-wide crypto provider.
//!
//! Next: `tls/material.rs` for what the files must hold, `tls/verify.rs` for the checks.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::identity::SpiffeId;
use crate::metrics::Metrics;

pub(crate) use dial::refused_by_peer;
pub use dial::{DialError, ServerStream, TlsIo};
pub use expect::{Expect, Mismatch};
pub use material::TlsError;
pub use refusals::{Login, Reason, Refusals};
pub use verify::{peer_id, spiffe_of};

use material::{Fingerprint, Material};

mod dial;
mod expect;
mod material;
mod refusals;
mod standing;
mod verify;

/// How often the files are looked at. A new certificate is issued hours before the old one ends.
const WATCH_EVERY: Duration = Duration::from_secs(10);

/// Where this process's credentials are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our chain, leaf first.
    pub cert: PathBuf,
    /// The leaf's key; nobody but its owner may read it.
    pub key: PathBuf,
    /// Roots that peers must chain to; several while a root is being replaced.
    pub ca: PathBuf,
    pub crl: Option<PathBuf>,
}

impl TlsFiles {
    /// `cert.pem`, `key.pem` and `ca.pem` in one folder, as `pki` writes them; `crl.pem` if there.
    pub fn in_folder(folder: &Path) -> Self {
        let crl = folder.join("crl.pem");
        Self {
            cert: folder.join("cert.pem"),
            key: folder.join("key.pem"),
            ca: folder.join("ca.pem"),
            crl: crl.exists().then_some(crl),
        }
    }
}

/// What the two ends of a connection speak; agreed during the handshake (ALPN), so that a client
/// of one port that lands on another is told at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1; a server that speaks it takes HTTP/2 too.
    Http,
    /// HTTP/2 and nothing else.
    Http2,
    Framed,
}

impl Protocol {
    fn alpn(self) -> Vec<u8> {
        match self {
            Protocol::Http => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
            Protocol::Framed => b"cryptorun-framed/1".to_vec(),
        }
    }

    /// What a server agrees to, the best first.
    fn accepted(self) -> Vec<Vec<u8>> {
        match self {
            Protocol::Http => vec![Protocol::Http2.alpn(), Protocol::Http.alpn()],
            Protocol::Http2 | Protocol::Framed => vec![self.alpn()],
        }
    }
}

/// This process's credentials, exchangeable while it runs.
pub struct TlsStore {
    files: TlsFiles,
    current: ArcSwap<Material>,
    generation: watch::Sender<u64>,
    attempt: Mutex<Attempt>,
    refusals: Arc<Refusals>,
    peers: standing::Peers,
}

/// The last time the files were read.
struct Attempt {
    seen: Fingerprint,
    /// What was wrong then: said once, not at every look.
    failed: Option<String>,
}

impl TlsStore {
    pub fn load(files: TlsFiles) -> Result<Arc<TlsStore>, TlsError> {
        let seen = Fingerprint::of(&files);
        let material = Material::load(&files)?;
        Ok(Arc::new(TlsStore {
            files,
            current: ArcSwap::from_pointee(material),
            generation: watch::Sender::new(0),
            attempt: Mutex::new(Attempt { seen, failed: None }),
            refusals: Arc::default(),
            peers: standing::Peers::default(),
        }))
    }

    /// Who this process is.
    pub fn id(&self) -> SpiffeId {
        self.current.load().id.clone()
    }

    /// The Unix second at which our certificate ends.
    pub fn not_after(&self) -> u64 {
        self.current.load().not_after_unix_s
    }

    pub fn refusals(&self) -> &Arc<Refusals> {
        &self.refusals
    }

    /// Counts reloads; whoever keeps a connection re-checks it when this moves.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Has refusals and the end of our certificate on the metrics page.
    pub fn export(self: &Arc<Self>, metrics: &Metrics) {
        let store = Arc::clone(self);
        metrics.on_render(move |m| {
            let class = store.id().class.as_str();
            m.certificate_expiry_seconds.set([class], store.not_after() as f64);
            for reason in Reason::ALL {
                m.tls_refused_total.record([reason.as_str()], store.refusals.count(reason));
            }
        });
    }

    /// Takes what the files hold now. On an error the old material stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let mut attempt = self.attempt();
        // Taken before reading: a write during the read shows as a change next time.
        attempt.seen = Fingerprint::of(&self.files);
        self.take(&mut attempt)
    }

    /// The same, unless no file changed since a good look; says whether anything was taken.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let mut attempt = self.attempt();
        let now = Fingerprint::of(&self.files);
        // After a failure it looks again each time: a key often lands a moment after its
        // certificate, and neither write need change the other's date.
        if now == attempt.seen && attempt.failed.is_none() {
            return Ok(false);
        }
        attempt.seen = now;
        self.take(&mut attempt).map(|()| true)
    }

    fn take(&self, attempt: &mut Attempt) -> Result<(), TlsError> {
        let current = self.current.load();
        let taken = Material::load(&self.files).and_then(|new| new.replacing(&current));
        match taken {
            Ok(new) => {
                let (cert, not_after) = (&self.files.cert, new.not_after_unix_s);
                info!(cert = %cert.display(), not_after, "tls material reloaded");
                attempt.failed = None;
                self.current.store(Arc::new(new));
                self.generation.send_modify(|generation| *generation += 1);
                Ok(())
            }
            Err(error) => {
                let text = error_chain(&error);
                if attempt.failed.as_ref() != Some(&text) {
                    warn!(error = %text, "tls material not reloaded: the old one stays in use");
                    attempt.failed = Some(text);
                }
                Err(error)
            }
        }
    }

    /// Looks at the files every ten seconds and at each SIGHUP, until `stop`.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => Some(hangup),
            Err(error) => {
                warn!(%error, "cannot listen for SIGHUP: tls files are only polled");
                None
            }
        };
        loop {
            let asked = async {
                match &mut hangup {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            // Failures were logged where they were found.
            tokio::select! {
                () = stop.cancelled() => return,
                _ = asked => drop(self.reload()),
                () = tokio::time::sleep(WATCH_EVERY) => drop(self.reload_if_changed()),
            }
        }
    }

    /// What a port needs to accept connections from those it expects.
    pub fn server(self: &Arc<Self>, expect: Expect, protocol: Protocol) -> ServerTls {
        ServerTls { store: Arc::clone(self), expect, protocol, cached: ArcSwapOption::empty() }
    }

    /// What a client needs to connect to those it expects.
    pub fn client(self: &Arc<Self>, expect: Expect, protocol: Protocol) -> ClientTls {
        ClientTls { store: Arc::clone(self), expect, protocol, cached: ArcSwapOption::empty() }
    }

    fn attempt(&self) -> MutexGuard<'_, Attempt> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One port's side of TLS. Always uses the store's newest material.
pub struct ServerTls {
    store: Arc<TlsStore>,
    expect: Expect,
    protocol: Protocol,
    cached: ArcSwapOption<Built<ServerConfig>>,
}

/// One client's side of TLS. Always uses the store's newest material.
pub struct ClientTls {
    store: Arc<TlsStore>,
    expect: Expect,
    protocol: Protocol,
    cached: ArcSwapOption<Built<ClientConfig>>,
}

/// A configuration and the material that it was built from.
struct Built<C> {
    from: Arc<Material>,
    config: Arc<C>,
}

impl ServerTls {
    pub fn store(&self) -> &Arc<TlsStore> {
        &self.store
    }

    fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        built(&self.store, &self.cached, |material| {
            material.server_config(&self.expect, self.protocol, &self.store.refusals)
        })
    }
}

impl ClientTls {
    pub fn store(&self) -> &Arc<TlsStore> {
        &self.store
    }

    pub fn expect(&self) -> &Expect {
        &self.expect
    }

    fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        built(&self.store, &self.cached, |material| {
            material.client_config(&self.expect, self.protocol)
        })
    }
}

fn built<C>(
    store: &TlsStore,
    cached: &ArcSwapOption<Built<C>>,
    build: impl FnOnce(&Material) -> Result<C, TlsError>,
) -> Result<Arc<C>, TlsError> {
    let material = store.current.load_full();
    if let Some(built) = &*cached.load()
        && Arc::ptr_eq(&built.from, &material)
    {
        return Ok(Arc::clone(&built.config));
    }
    let config = Arc::new(build(&material)?);
    cached.store(Some(Arc::new(Built { from: material, config: Arc::clone(&config) })));
    Ok(config)
}

/// An error and what caused it, on one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let next = inner.to_string();
        // Some libraries repeat the cause in their own text.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = inner.source();
    }
    text
}
