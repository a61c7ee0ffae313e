//! Starts processes, starts them again when they end, and leaves none behind.
//!
//! Each child leads a process group of its own, so that a terminal's Ctrl-C reaches only the
//! supervisor and a signal to a child reaches whatever it started. A child that ends is started
//! again after a pause that doubles while it keeps failing, unless it was put down on purpose.
//!
//! What always holds:
//!  1. a signal is sent only while a child is not known to have ended; its pid is forgotten at
//!     once when it has, long before the kernel comes round to giving it to a stranger;
//!  2. after [`Supervisor::shutdown`], and after the last handle is dropped, no child runs, frozen
//!     ones included; when the supervisor itself is killed, children that called
//!     [`die_with_parent`] die too;
//!  3. a child never waits for its log.
//!
//! Next: `child.rs` for one child's life, `launcher.rs` for why starting has a thread.

mod child;
mod launcher;
mod logfile;
#[cfg(test)]
mod tests;

pub use launcher::{PARENT_VARIABLE, die_with_parent};

use crate::protocol::{Addresses, KillSignal, ProcessStatus};
use child::{Child, Wanted};
use cryptorun_platform::clock::Clock;
use launcher::Launcher;
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Clone)]
pub struct SupervisorSettings {
    /// Folder of the children's logs; made if it is not there.
    pub logs: PathBuf,
    /// For each child's log, old and new part together.
    pub log_bytes_max: u64,
    pub clock: Arc<dyn Clock>,
}

/// A process to run.
#[derive(Clone, Debug)]
pub struct ChildSettings {
    /// Unique; also the log's file name.
    pub name: String,
    /// `node`, `worker`, `venue`, …
    pub role: String,
    pub region: Option<String>,
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub addresses: Addresses,
    /// False: one that ends stays down.
    pub restart: bool,
    /// At shutdown lower ones are stopped first, equal ones together.
    pub stop_order: u32,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    #[error("cannot make the log folder {}", path.display())]
    Logs { path: PathBuf, source: std::io::Error },
    #[error("cannot start the thread that starts processes")]
    Launcher { source: std::io::Error },
    #[error("there is already a process named '{name}'")]
    NameTaken { name: String },
    #[error("cannot start {name}: {}", program.display())]
    CannotStart { name: String, program: PathBuf, source: std::io::Error },
    #[error("no process or region '{target}'; known: {known}")]
    Unknown { target: String, known: String },
    #[error("{name} does not run")]
    NotRunning { name: String },
    #[error("cannot signal {name}")]
    Signal { name: String, source: std::io::Error },
    #[error("the supervisor is shutting down")]
    ShuttingDown,
}

/// A handle; clones are the same supervisor. The last one dropped kills every child.
#[derive(Clone)]
pub struct Supervisor(Arc<Inner>);

struct Inner {
    settings: SupervisorSettings,
    launcher: Launcher,
    children: Mutex<Children>,
}

#[derive(Default)]
struct Children {
    by_name: BTreeMap<String, Arc<Child>>,
    closed: bool,
}

impl Supervisor {
    /// Must be called on a runtime with I/O and time.
    pub fn new(settings: SupervisorSettings) -> Result<Self, SupervisorError> {
        std::fs::create_dir_all(&settings.logs)
            .map_err(|source| SupervisorError::Logs { path: settings.logs.clone(), source })?;
        let launcher = Launcher::start().map_err(|source| SupervisorError::Launcher { source })?;
        Ok(Self(Arc::new(Inner { settings, launcher, children: Mutex::default() })))
    }

    /// Starts a child and keeps it running. An error means that it is not there at all.
    pub async fn start(&self, settings: ChildSettings) -> Result<(), SupervisorError> {
        let log = self.0.settings.logs.join(format!("{}.log", settings.name));
        let name = settings.name.clone();
        let child = Arc::new(Child::new(
            settings,
            log,
            self.0.settings.log_bytes_max,
            self.0.settings.clock.clone(),
        ));
        {
            let mut children = self.children();
            if children.closed {
                return Err(SupervisorError::ShuttingDown);
            }
            if children.by_name.contains_key(&name) {
                return Err(SupervisorError::NameTaken { name });
            }
            children.by_name.insert(name.clone(), child.clone());
        }
        let started = child.launch(&self.0.launcher).await;
        match started {
            Ok(process) => {
                tokio::spawn(child.tend(process, self.0.launcher.clone()));
                Ok(())
            }
            Err(source) => {
                self.children().by_name.remove(&name);
                let program = child.settings.program.clone();
                Err(SupervisorError::CannotStart { name, program, source })
            }
        }
    }

    pub fn status(&self) -> Vec<ProcessStatus> {
        self.children().by_name.values().map(|child| child.status()).collect()
    }

    /// Waits until the named process is as wanted: running, down, started a second time.
    pub async fn until(
        &self,
        name: &str,
        holds: impl Fn(&ProcessStatus) -> bool,
    ) -> Result<ProcessStatus, SupervisorError> {
        let child = self.chosen(name)?.remove(0);
        Ok(child.until(holds).await)
    }

    /// Kills a process, or all of a region. Unless kept down it is started again after its pause.
    pub fn kill(
        &self,
        target: &str,
        signal: KillSignal,
        keep_down: bool,
    ) -> Result<Vec<ProcessStatus>, SupervisorError> {
        self.each(target, |child| {
            if keep_down {
                child.want(Wanted::Down);
            }
            match signal {
                KillSignal::Kill => child.signal(Signal::KILL),
                KillSignal::Term => child.terminate(),
            }
        })
    }

    /// SIGSTOP: it holds its sockets and locks and does nothing.
    pub fn freeze(&self, target: &str) -> Result<Vec<ProcessStatus>, SupervisorError> {
        self.each(target, |child| child.freeze(true))
    }

    pub fn thaw(&self, target: &str) -> Result<Vec<ProcessStatus>, SupervisorError> {
        self.each(target, |child| child.freeze(false))
    }

    /// Starts again what was kept down, at once.
    pub fn start_again(&self, target: &str) -> Result<Vec<ProcessStatus>, SupervisorError> {
        self.each(target, |child| {
            child.want(Wanted::Up);
            Ok(())
        })
    }

    /// Stops everything in order: SIGTERM, the child's grace, SIGKILL. Nothing starts afterwards.
    pub async fn shutdown(&self) {
        let children: Vec<_> = {
            let mut children = self.children();
            children.closed = true;
            children.by_name.values().cloned().collect()
        };
        children.iter().for_each(|child| child.want(Wanted::Gone));
        let orders: BTreeSet<u32> =
            children.iter().map(|child| child.settings.stop_order).collect();
        for order in orders {
            let mut stopping = tokio::task::JoinSet::new();
            for child in children.iter().filter(|child| child.settings.stop_order == order) {
                let child = child.clone();
                stopping.spawn(async move { child.stop().await });
            }
            while stopping.join_next().await.is_some() {}
        }
    }

    /// Acts on every process that `target` names. Of a region, those that are down already are
    /// passed over.
    fn each(
        &self,
        target: &str,
        act: impl Fn(&Child) -> Result<(), SupervisorError>,
    ) -> Result<Vec<ProcessStatus>, SupervisorError> {
        let chosen = self.chosen(target)?;
        let several = chosen.len() > 1;
        for child in &chosen {
            match act(child) {
                Err(SupervisorError::NotRunning { .. }) if several => {}
                acted => acted?,
            }
        }
        Ok(chosen.iter().map(|child| child.status()).collect())
    }

    fn chosen(&self, target: &str) -> Result<Vec<Arc<Child>>, SupervisorError> {
        let children = self.children();
        if let Some(child) = children.by_name.get(target) {
            return Ok(vec![child.clone()]);
        }
        let of_region = |child: &&Arc<Child>| child.settings.region.as_deref() == Some(target);
        let chosen: Vec<_> = children.by_name.values().filter(of_region).cloned().collect();
        if chosen.is_empty() {
            let names = children.by_name.keys().map(String::as_str);
            let regions =
                children.by_name.values().filter_map(|child| child.settings.region.as_deref());
            let known: BTreeSet<&str> = names.chain(regions).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            return Err(SupervisorError::Unknown { target: target.into(), known });
        }
        Ok(chosen)
    }

    fn children(&self) -> MutexGuard<'_, Children> {
        self.0.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let children = self.children.get_mut().unwrap_or_else(PoisonError::into_inner);
        for child in children.by_name.values() {
            child.want(Wanted::Gone);
            let _ = child.signal(Signal::KILL);
        }
    }
}
