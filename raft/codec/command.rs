//! Commands as log entries carry them.
//!
//! Body of a `Command` frame: `tag u16 | length u32 | head | payload`. The head (stamp, actor,
//! via, request) and the payload struct are bincode. Tags are written here, whatever the order of
//! the enum in the source.

use super::frame::{self, CodecError, Fields, Kind, put_block};
use super::{ENTRY_MAX, get, put};
use cryptorun_core::command::{Command, Entry};
use cryptorun_core::config::CLUSTER_VERSION;
use cryptorun_core::people::Actor;
use cryptorun_core::record::RequestKey;
use cryptorun_core::time::Stamp;
use serde::{Deserialize, Serialize};

const VERSION: u16 = 1;

#[derive(Serialize, Deserialize)]
struct Head {
    stamp: Stamp,
    actor: Actor,
    via: Option<u64>,
    request: Option<RequestKey>,
}

/// Writes the tag table once: both directions and the list of all tags come from it.
macro_rules! tags {
    ($($tag:literal $name:ident),* $(,)?; $($unit_tag:literal $unit:ident),* $(,)?) => {
        fn put_command(out: &mut Vec<u8>, command: &Command) -> Result<(), CodecError> {
            match command {
                $(Command::$name(payload) => put(out, payload),)*
                $(Command::$unit => Ok(()),)*
            }
        }

        fn get_command(tag: u16, bytes: &[u8]) -> Result<Command, CodecError> {
            let command = match tag {
                $($tag => Command::$name(get(bytes)?),)*
                $($unit_tag => Fields(bytes).end().map(|()| Command::$unit)?,)*
                tag => return Err(CodecError::Newer { what: "command", tag }),
            };
            // A program of an earlier version does not know it, whatever its source has.
            match command.since() > CLUSTER_VERSION {
                true => Err(CodecError::Newer { what: "command", tag }),
                false => Ok(command),
            }
        }

        /// The tag a command is written under.
        pub fn tag(command: &Command) -> u16 {
            match command {
                $(Command::$name(_) => $tag,)*
                $(Command::$unit => $unit_tag,)*
            }
        }

        /// Every tag with its command's name, for the golden test.
        pub const TAGS: &[(u16, &str)] = &[
            $(($tag, stringify!($name)),)*
            $(($unit_tag, stringify!($unit)),)*
        ];
    };
}

tags! {
    1 Found, 2 OpenSession, 3 Renew, 4 EndSession, 5 Reserve, 6 Grant, 7 Release, 8 Handover,
    9 RequestPromotion, 10 Approve, 11 Deny, 12 Cancel, 13 StepStarted, 14 StepDone,
    15 StepFailed, 16 Rollback, 17 Report, 18 SetLink, 19 Pause, 20 Unpause, 21 OpenReview,
    22 DecideReview, 23 SetClusterVersion, 25 ProposeRules, 26 ApproveRules, 27 DenyRules,
    28 CancelRules, 29 Restore, 30 SetSeat, 31 PreferLeader,
    32 LeaveSeat, 33 TurnedAway;
    24 Tick,
}

/// # Errors
/// It would be larger than a log entry may be.
pub fn encode(entry: &Entry) -> Result<Vec<u8>, CodecError> {
    let head = Head {
        stamp: entry.stamp,
        actor: entry.actor.clone(),
        via: entry.via,
        request: entry.request.clone(),
    };
    let bytes = frame::frame(Kind::Command, VERSION, |out| {
        out.extend_from_slice(&tag(&entry.command).to_le_bytes());
        let mut head_bytes = Vec::with_capacity(64);
        put(&mut head_bytes, &head)?;
        put_block(out, &head_bytes)?;
        put_command(out, &entry.command)
    })?;
    if bytes.len() > ENTRY_MAX {
        return Err(CodecError::TooLarge { bytes: bytes.len(), limit: ENTRY_MAX });
    }
    Ok(bytes)
}

/// # Errors
/// The bytes are no entry this version knows.
pub fn decode(bytes: &[u8]) -> Result<Entry, CodecError> {
    if bytes.len() > ENTRY_MAX {
        return Err(CodecError::TooLarge { bytes: bytes.len(), limit: ENTRY_MAX });
    }
    let mut fields = Fields(frame::open(bytes, Kind::Command, VERSION)?);
    let tag = fields.u16()?;
    let Head { stamp, actor, via, request } = get(fields.block()?)?;
    Ok(Entry { stamp, actor, via, request, command: get_command(tag, fields.rest())? })
}
