//! What a person writes for a node and for a cluster, read as written and checked into values.
//!
//! A host's file says who it is, where its files are, what it listens on and how it reaches its
//! peers ([`node`]). What the cluster must agree on starts from `cluster.yaml` and
//! `data_sources.yaml` ([`cluster`], [`sources`]) and lives in the log from then on: a host's file
//! that disagrees shows as drift, it never wins.
//!
//! Every problem of a file is reported at once, with its key and an example.

mod cluster;
mod node;
mod sources;

pub use cluster::{read_cluster, read_cluster_text};
pub use node::{Listen, NodeSettings, Peer, Tls, read_node, read_node_text};
pub use sources::{DataSources, Dataset, read_sources, read_sources_text};

#[cfg(test)]
mod tests;
