//! The demo: three regions on one machine decide together who may write, and prove it.
//!
//! Nodes, workers and the venue are processes of their own under a supervisor; links between regions
//! are relays with real delay that can be cut. The story is told stage by stage ([`stages`]), through
//! the same API and commands that an operator uses ([`operator`]); the proof at the end is computed
//! from journals, the audit and the state itself, never from what a stage believes ([`proof`]).
//!
//! What always holds: no process outlives the demo, however it ends; a folder that is not an earlier
//! demo's is never touched.

mod hold;
pub mod layout;
pub mod operator;
pub mod proof;
pub mod report;
pub mod stages;

pub use layout::{
    BASE_PORT, CLUSTER, DemoOptions, Lab, REGIONS, REQUESTS_PER_SECOND, RegionLinks, Site,
};

use crate::ports::PortError;
use crate::supervisor::SupervisorError;
use crate::wan::WanError;
use cryptorun_core::time::Millis;
use cryptorun_platform::shutdown::Shutdown;
use std::path::PathBuf;

/// Why the demo did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// An option makes no sense.
    #[error("{0}")]
    Options(String),
    /// Something on this machine prevents it.
    #[error("{what}")]
    CannotStart {
        what: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stage did not reach what it must.
    #[error("stage {stage}: {what}")]
    Stage { stage: &'static str, what: String },
    /// Something was awaited in vain.
    #[error("stage {stage}: {what} did not happen within {within}; last seen: {seen}")]
    TooLate { stage: &'static str, what: String, within: Millis, seen: String },
    /// The proof found something wrong.
    #[error("{broken} of {checked} invariants do not hold")]
    Broken { broken: usize, checked: usize },
    /// Somebody asked to stop.
    #[error("stopped")]
    Stopped,
}

impl DemoError {
    /// As in `docs/cli.md`: 2 for arguments, 8 for what prevents a start, 1 for a failed check.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Options(_) => 2,
            Self::CannotStart { .. } => 8,
            Self::Stage { .. } | Self::TooLate { .. } | Self::Broken { .. } => 1,
            Self::Stopped => 130,
        }
    }

    fn cannot(
        what: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::CannotStart { what: what.into(), source: Box::new(source) }
    }
}

impl From<SupervisorError> for DemoError {
    fn from(error: SupervisorError) -> Self {
        Self::cannot("a process of the demo cannot be run", error)
    }
}

impl From<WanError> for DemoError {
    fn from(error: WanError) -> Self {
        Self::cannot("the links between regions cannot be made", error)
    }
}

impl From<PortError> for DemoError {
    fn from(error: PortError) -> Self {
        Self::cannot(format!("{error}"), error)
    }
}

/// Runs the demo to its end, or until somebody stops it. Nothing of it runs on afterwards.
///
/// # Errors
/// What prevented it, or the stage or invariant that failed.
pub async fn run(options: DemoOptions, shutdown: Shutdown) -> Result<PathBuf, DemoError> {
    let lab = layout::Lab::prepare(&options).await?;
    let told = tokio::select! {
        told = stages::tell(&lab, &options) => told,
        () = shutdown.draining() => Err(DemoError::Stopped),
    };
    let report = lab.folder.join("report.json");
    let told = match told {
        Ok(()) if options.hold => {
            hold::until(&lab, &options, &shutdown).await;
            Ok(report)
        }
        Ok(()) => Ok(report),
        Err(DemoError::Stopped) => Err(DemoError::Stopped),
        Err(error) => {
            eprintln!("logs of every process: {}", lab.folder.join("logs").display());
            Err(error)
        }
    };
    lab.stop().await;
    told
}
