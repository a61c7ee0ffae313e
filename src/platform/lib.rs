//! What the program is given instead of taking it: time, randomness, tasks, disk, network.
//!
//! Production passes the real ones, tests and the simulator pass their own, and the code between
//! cannot tell them apart. Nothing outside this crate reads a clock, opens a file or draws a
//! random number by itself.

pub mod backoff;
pub mod clock;
pub mod decoders;
pub mod disk;
pub mod framed;
pub mod https;
pub mod identity;
pub mod listener;
pub mod metrics;
pub mod net;
pub mod pki;
pub mod random;
pub mod segments;
pub mod settings;
pub mod shutdown;
pub mod spawn;
pub mod telemetry;
pub mod tls;

#[cfg(test)]
mod testkit;

use std::path::PathBuf;
use std::sync::Arc;

use clock::{Clock, SystemClock};
use disk::{Disk, RealDisk};
use random::{OsRandom, Random};
use spawn::{Spawn, TokioSpawn};

/// The four that nearly everything needs, handed on together. Plain data.
#[derive(Clone)]
pub struct Platform {
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub spawn: Arc<dyn Spawn>,
    pub disk: Arc<dyn Disk>,
}

impl Platform {
    /// This machine, with every path taken relative to `root`.
    pub fn real(root: PathBuf) -> Self {
        Self {
            clock: Arc::new(SystemClock),
            random: Arc::new(OsRandom),
            spawn: Arc::new(TokioSpawn),
            disk: Arc::new(RealDisk::new(root)),
        }
    }
}
