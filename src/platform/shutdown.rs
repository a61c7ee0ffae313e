//! Stopping: the first signal asks to drain, the second to stop now.
//!
//! What to do while draining (hand over leadership, seal and release, finish answers) is each
//! service's own; this only says when.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Cheap to clone; clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    now: CancellationToken,
}

impl Shutdown {
    /// Stops only when told by [`Shutdown::drain`].
    pub fn manual() -> Self {
        Self::default()
    }

    /// Drains at the first SIGTERM or SIGINT, stops at the second.
    pub fn on_signals() -> io::Result<Self> {
        let mut term = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Self::default();
        let told = shutdown.clone();
        tokio::spawn(async move {
            let signal = next(&mut term, &mut interrupt).await;
            info!(signal, "draining");
            told.drain.cancel();
            let signal = next(&mut term, &mut interrupt).await;
            warn!(signal, "stopping without draining");
            told.stop_now();
        });
        Ok(shutdown)
    }

    /// Asks everybody to finish what they have and stop.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Asks everybody to drop what they have.
    pub fn stop_now(&self) {
        self.drain.cancel();
        self.now.cancel();
    }

    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    pub async fn stopping_now(&self) {
        self.now.cancelled().await;
    }

    /// For what takes a token: cancelled once draining begins.
    pub fn token(&self) -> CancellationToken {
        self.drain.clone()
    }
}

async fn next(term: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::Shutdown;

    #[tokio::test]
    async fn the_first_signal_drains_and_the_second_stops() {
        let shutdown = Shutdown::on_signals().unwrap();
        assert!(!shutdown.is_draining());
        kill_process(getpid(), Signal::TERM).unwrap();
        shutdown.draining().await;
        assert!(!shutdown.now.is_cancelled());
        kill_process(getpid(), Signal::INT).unwrap();
        shutdown.stopping_now().await;
    }
}
