//! What a part of the product has to show to be crashed.

use cryptorun_platform::disk::SimDisk;
use std::future::Future;

/// Something that keeps what it was given.
pub trait Part: Sync {
    /// What its user knows afterwards: what was acknowledged, and what was sent.
    type Knows: Sync;

    fn name(&self) -> &'static str;

    /// Uses the part for a while: to the end, or until the disk fails it.
    fn tell(&self, disk: &SimDisk) -> Self::Knows;

    /// Starts again on what is left. Everything acknowledged has to be there, nothing that was never
    /// sent, and it has to go on.
    fn check(&self, disk: &SimDisk, knows: &Self::Knows) -> Result<(), Wrong>;
}

/// How a restart went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It did not start, and says why.
    Refused(String),
    /// It started and something is not as it was acknowledged.
    Lost(String),
}

/// `error` and everything behind it, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Runs on a runtime of its own with paused time; whatever is still running then ends with it.
pub(crate) fn block<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    match runtime {
        Ok(runtime) => runtime.block_on(cryptorun_raft::runtime::seeded(1, future)),
        Err(error) => panic!("no runtime: {error}"),
    }
}
