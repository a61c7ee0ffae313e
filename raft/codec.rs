//! All bytes on disk and between nodes.
//!
//! A frame is `kind u8 | version u16 | length u32 | crc32c u32 | body`, little endian; the
//! checksum covers kind, version, length and body. Variants carry tags that are written here and
//! never reused; payload structs are written by bincode under one fixed configuration. Golden
//! files hold the bytes of every kind: a changed shape is a new version or a new tag, and the old
//! one stays readable.
//!
//! What always holds: decoding consumes exactly its input or fails; it never panics and never
//! allocates more than its limit, whatever the bytes.

pub mod command;
pub mod frame;
pub mod log;
pub mod record;
pub mod rpc;
pub mod snapshot;

pub use frame::{CodecError, Kind};

use bincode::config::{Configuration, Fixint, Limit, LittleEndian, NoLimit};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest log entry. An API body is 1 MiB at most, and a command is less than its body.
pub const ENTRY_MAX: usize = 2 << 20;
/// Largest message between peers: below the transport's 16 MiB with room for framing.
pub const MESSAGE_MAX: usize = 15 << 20;

const CONFIG: Configuration<LittleEndian, Fixint, NoLimit> =
    bincode::config::standard().with_little_endian().with_fixed_int_encoding();
/// Decoding may not claim more memory than the largest thing there is.
const READ: Configuration<LittleEndian, Fixint, Limit<MESSAGE_MAX>> = bincode::config::standard()
    .with_little_endian()
    .with_fixed_int_encoding()
    .with_limit::<MESSAGE_MAX>();

/// Writes a payload struct after what is in `out`.
pub(crate) fn put<T: Serialize>(out: &mut Vec<u8>, value: &T) -> Result<(), CodecError> {
    bincode::serde::encode_into_std_write(value, out, CONFIG)
        .map(drop)
        .map_err(|error| CodecError::Encode { why: error.to_string() })
}

/// Reads a payload struct that fills `bytes`.
pub(crate) fn get<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, READ)
        .map_err(|error| CodecError::Body { why: error.to_string() })?;
    if used == bytes.len() {
        Ok(value)
    } else {
        Err(CodecError::Trailing { bytes: bytes.len() - used })
    }
}

#[cfg(test)]
#[path = "tests/codec.rs"]
mod tests;
