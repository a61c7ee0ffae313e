//! cryptorun-platform
pub mod identity;
pub mod metrics;
pub mod net;
pub mod settings;
