//! cryptorun-chaos
