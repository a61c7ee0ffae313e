//! What a run must have reached: a model that never gets there proves nothing.
//!
//! Counted while states are generated, beside the state and never read by it.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! facts {
    ($($name:ident = $text:literal,)*) => {
        /// A rare thing that the exploration must meet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fact { $(#[doc = $text] $name,)* }

        impl Fact {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// How a mutant's line says that it was not reached.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => concat!("never: ", $text),)* }
            }

            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

facts! {
    GrantAfterRunOut = "a regrant after a lease ran out",
    GrantAfterGivingBack = "a regrant after a lease was given back",
    StampedEntryLost = "a change of leader lost a stamped entry",
    Restore = "a restore from a snapshot",
    Regrant = "a regrant",
    RenewalWithheld = "a withheld renewal",
    SwitchoverGranted = "a switchover past its grant",
    SwitchoverDone = "a switchover that is done",
    FailoverGranted = "a failover past its grant, its holder lost",
    GrantWithUnsealedSink = "a failover while a sink could not be sealed",
    WriteTurnedAway = "a write turned away by a sink",
    ApprovalRefused = "an approval that was refused",
    ApprovalExpired = "a request that nobody agreed to in time",
    HolderWentOn = "a drained holder that went on",
}

/// How often each was reached.
#[derive(Debug)]
pub struct Facts([AtomicU64; Fact::ALL.len()]);

impl Default for Facts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Facts {
    pub fn reached(&self, fact: Fact) {
        self.0[fact as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self, fact: Fact) -> u64 {
        self.0[fact as usize].load(Ordering::Relaxed)
    }
}
