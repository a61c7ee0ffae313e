//! cryptorun-cli
