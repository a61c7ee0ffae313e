//! cryptorun-core
