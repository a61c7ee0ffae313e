//! Segmented, checksummed, group-committed append-only log.
