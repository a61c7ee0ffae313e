//! Sessions: a worker's standing with the cluster, renewed as one whatever it holds.

use crate::name::Name;
use crate::region::RegionName;
use crate::report::WorkerReport;
use crate::scope::ScopeId;
use crate::time::LogTime;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// One life of one worker: its identity and the boot id it drew at start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    /// The worker's id from its certificate.
    pub worker: Name,
    /// Drawn anew at every start.
    pub boot: u64,
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Digits by hand: each renewal writes its session some ten times.
        let digit = |at: usize| b"0123456789abcdef"[(self.boot >> (60 - 4 * at)) as usize & 0xF];
        let digits: [u8; 16] = std::array::from_fn(digit);
        let boot = str::from_utf8(&digits).unwrap_or_default();
        if f.width().is_some() {
            return f.pad(&[&self.worker, ".", boot].concat());
        }
        [&self.worker, ".", boot].into_iter().try_for_each(|part| f.write_str(part))
    }
}

impl FromStr for SessionKey {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.rsplit_once('.')
            .filter(|(worker, boot)| !worker.is_empty() && boot.len() == 16)
            .and_then(|(worker, boot)| {
                let boot = u64::from_str_radix(boot, 16).ok()?;
                Some(Self { worker: worker.into(), boot })
            })
            .ok_or_else(|| format!("'{text}' is not a session id"))
    }
}

crate::record::text_serde!(SessionKey);

/// Where other workers reach this one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerAddresses {
    /// HTTP API, `host:port`.
    pub api: String,
    /// Bulk data, `host:port`.
    pub data: String,
}

/// A session as the machine keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its key.
    pub key: SessionKey,
    /// The worker's region, from its certificate.
    pub region: RegionName,
    /// Where it can be reached.
    pub addresses: WorkerAddresses,
    /// When it was opened.
    pub opened_at: LogTime,
    /// Number of its last committed renewal; opening is number 0.
    pub renew_seq: u64,
    /// When that was.
    pub renewed_at: LogTime,
    /// A newer boot of the same worker has opened a session: this one may not renew any more.
    pub barred: bool,
    /// What it reported with its last renewal.
    pub report: WorkerReport,
    /// Where it holds a scope and makes no progress, by scope.
    pub stalled: BTreeMap<ScopeId, Stall>,
}

/// A holder renews and makes no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stall {
    /// Renewals in a row that told so.
    pub renewals: u32,
    /// When the one before the first of them was committed: it told the same end.
    pub since: LogTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_read_back() {
        let key = SessionKey { worker: "w.1".into(), boot: 0xab };
        assert_eq!(key.to_string(), "w.1.00000000000000ab");
        assert_eq!(key.to_string().parse(), Ok(key));
        assert!("w1".parse::<SessionKey>().is_err());
    }
}
