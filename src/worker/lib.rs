//! cryptorun-worker
