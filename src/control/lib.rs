//! cryptorun-control
