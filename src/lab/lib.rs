//! cryptorun-lab
