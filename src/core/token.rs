//! The fencing token: what a writer shows and a sink compares.

use std::fmt;
use std::str::FromStr;

/// Shown with every write. A sink turns away any token lower than the highest it has seen.
///
/// Ordered by incarnation, then epoch: a cluster restored from a backup outranks its past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// Raised by every restore from a backup; at least the Unix second of that restore.
    pub incarnation: u32,
    /// Opened by every reserve, never used twice.
    pub epoch: u64,
}

impl Token {
    /// The token before any: below every token that was ever reserved.
    pub const NONE: Self = Self { incarnation: 0, epoch: 0 };

    /// The next epoch of the same incarnation.
    pub fn next(self) -> Self {
        Self { epoch: self.epoch + 1, ..self }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.epoch)
    }
}

impl FromStr for Token {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once('.')
            .and_then(|(i, e)| Some(Self { incarnation: i.parse().ok()?, epoch: e.parse().ok()? }))
            .ok_or_else(|| format!("'{text}' is not a token like 0.3"))
    }
}

crate::record::text_serde!(Token);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incarnation_outranks_epoch() {
        let old = Token { incarnation: 0, epoch: 900 };
        let restored = Token { incarnation: 1, epoch: 1 };
        assert!(restored > old && old.next() > old && old > Token::NONE);
        assert_eq!("1.1".parse(), Ok(restored));
    }
}
