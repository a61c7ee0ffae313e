//! cryptorun-raft
