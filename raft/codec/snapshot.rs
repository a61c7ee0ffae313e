//! A snapshot as one frame: where it stands, then every record of the machine in its order.
//! And what the state store keeps beside the records.

use super::frame::{self, CodecError, Fields, Kind, put_block};
use super::record;
use super::rpc::{get_meta, put_meta};
use crate::types::SnapshotMeta;
use cryptorun_core::machine::Machine;
use cryptorun_core::position::Hash;

const VERSION: u16 = 1;

/// Where a machine stands: enough to go on from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Standing {
    /// Last applied entry and the membership then.
    pub meta: SnapshotMeta,
    /// The state hash at that entry.
    pub hash: Hash,
}

fn put_standing(out: &mut Vec<u8>, standing: &Standing) -> Result<(), CodecError> {
    put_meta(out, &standing.meta)?;
    out.extend_from_slice(&standing.hash.0);
    Ok(())
}

fn get_standing(fields: &mut Fields<'_>) -> Result<Standing, CodecError> {
    Ok(Standing { meta: get_meta(fields)?, hash: Hash(fields.hash()?) })
}

pub(crate) fn standing(standing: &Standing) -> Result<Vec<u8>, CodecError> {
    frame::frame(Kind::StoreMeta, VERSION, |out| put_standing(out, standing))
}

pub(crate) fn read_standing(bytes: &[u8]) -> Result<Standing, CodecError> {
    let mut fields = Fields(frame::open(bytes, Kind::StoreMeta, VERSION)?);
    let standing = get_standing(&mut fields)?;
    fields.end()?;
    Ok(standing)
}

pub(crate) fn encode(machine: &Machine, at: &Standing) -> Result<Vec<u8>, CodecError> {
    frame::frame(Kind::Snapshot, VERSION, |out| {
        put_standing(out, at)?;
        for key in machine.keys() {
            if let Some(body) = machine.record(&key) {
                put_block(out, &record::encode(body)?)?;
            }
        }
        Ok(())
    })
}

pub(crate) fn decode(bytes: &[u8]) -> Result<(Standing, Machine), CodecError> {
    let mut fields = Fields(frame::open(bytes, Kind::Snapshot, VERSION)?);
    let standing = get_standing(&mut fields)?;
    let mut machine = Machine::default();
    while !fields.0.is_empty() {
        machine.load(record::decode(fields.block()?)?);
    }
    Ok((standing, machine))
}
