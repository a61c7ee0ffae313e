//! What clients did and were told, as the checkers read it.

use std::time::Duration;

/// One operation of one client on one register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Does one thing at a time.
    pub client: u64,
    /// Which register.
    pub register: usize,
    /// When it was asked.
    pub called: Duration,
    /// When the answer came; never, where the outcome is unknown.
    pub returned: Option<Duration>,
    /// What.
    pub what: What,
    /// Where in the log, as the server says; an unknown outcome has none.
    pub index: Option<u64>,
}

/// See [`Operation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The register has this value from then on. No value is written twice.
    Write {
        /// Which.
        value: String,
    },
    /// The register had this value.
    Read {
        /// Which; none before the first write.
        value: Option<String>,
    },
}
