//! Records of the machine: their names as ordered keys, their content under stable tags.

use super::frame::{self, CodecError, Fields, Kind};
use super::{get, put};
use cryptorun_core::record::{Record, RecordKey, RecordRef};

const VERSION: u16 = 1;

macro_rules! tags {
    ($($tag:literal $name:ident),* $(,)?) => {
        fn tag(record: RecordRef<'_>) -> u8 {
            match record { $(RecordRef::$name(_) => $tag,)* }
        }

        fn put_body(out: &mut Vec<u8>, record: RecordRef<'_>) -> Result<(), CodecError> {
            match record { $(RecordRef::$name(body) => put(out, &body),)* }
        }

        fn get_body(tag: u8, bytes: &[u8]) -> Result<Record, CodecError> {
            match tag {
                $($tag => Ok(Record::$name(get(bytes)?)),)*
                tag => Err(CodecError::Newer { what: "record", tag: tag.into() }),
            }
        }

        /// Every tag with its record's name, for the golden test.
        pub const TAGS: &[(u8, &str)] = &[$(($tag, stringify!($name)),)*];
    };
}

tags! {
    1 Clock, 2 Cluster, 3 Region, 4 Session, 5 Scope, 6 Promotion, 7 Request, 8 Review,
    9 AuditHead, 10 Audit, 11 Rule, 12 Restored, 13 Preference,
}

/// # Errors
/// It does not encode.
pub fn encode<'a>(record: impl Into<RecordRef<'a>>) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::with_capacity(256); // A session's fits.
    put_record(&mut out, record.into())?;
    Ok(out)
}

/// Appends what [`encode`] gives.
///
/// # Errors
/// It does not encode.
pub fn put_record(out: &mut Vec<u8>, record: RecordRef<'_>) -> Result<(), CodecError> {
    frame::put_frame(out, Kind::Record, VERSION, |out| {
        out.push(tag(record));
        put_body(out, record)
    })
}

/// # Errors
/// The bytes are no record this version knows.
pub fn decode(bytes: &[u8]) -> Result<Record, CodecError> {
    let mut fields = Fields(frame::open(bytes, Kind::Record, VERSION)?);
    let tag = fields.u8()?;
    get_body(tag, fields.rest())
}

/// A record's name as bytes. Unique, and numbers sort as numbers.
///
/// # Errors
/// It does not encode.
pub fn key(key: &RecordKey) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::with_capacity(24);
    put_key(&mut out, key)?;
    Ok(out)
}

/// Appends what [`key`] gives.
///
/// # Errors
/// It does not encode.
pub fn put_key(out: &mut Vec<u8>, key: &RecordKey) -> Result<(), CodecError> {
    match key {
        RecordKey::Clock => out.push(1),
        RecordKey::Cluster => out.push(2),
        RecordKey::Region(name) => named(out, 3, name)?,
        RecordKey::Session(session) => named(out, 4, session)?,
        RecordKey::Scope(id) => named(out, 5, id)?,
        RecordKey::Promotion(id) => named(out, 6, id)?,
        RecordKey::Request(request) => named(out, 7, request)?,
        RecordKey::Review(id) => numbered(out, 8, *id),
        RecordKey::AuditHead => out.push(9),
        RecordKey::Audit(seq) => numbered(out, 10, *seq),
        RecordKey::Rule(id) => numbered(out, 11, id.0),
        RecordKey::Restored => out.push(12),
        RecordKey::Preference => out.push(13),
    }
    Ok(())
}

fn named<T: serde::Serialize>(out: &mut Vec<u8>, tag: u8, name: &T) -> Result<(), CodecError> {
    out.push(tag);
    put(out, name)
}

fn numbered(out: &mut Vec<u8>, tag: u8, number: u64) {
    out.push(tag);
    out.extend_from_slice(&number.to_be_bytes());
}
