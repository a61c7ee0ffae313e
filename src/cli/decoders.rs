//! Every decoder of this crate by name, for whoever feeds them arbitrary bytes (`chaos/fuzz`).

use crate::audit::file::Reader;
use crate::cluster::backup::file::read_from;
use cryptorun_platform::decoders::Decoder;
use std::path::Path;

pub const ALL: &[(&str, Decoder)] = &[
    ("backup", |bytes| drop(read_from(bytes, Path::new("b")))),
    ("audit_export", |bytes| {
        if let Ok(mut reader) = Reader::new(bytes, Path::new("a")) {
            while let Ok(Some(_)) = reader.entry() {}
        }
    }),
];
