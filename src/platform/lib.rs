//! cryptorun-platform
