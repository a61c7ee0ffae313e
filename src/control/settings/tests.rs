use super::*;
use cryptorun_core::scope::{Mode, ScopeId, Tier};
use cryptorun_core::time::{Millis, Profile};

const NODE: &str = include_str!("../../../config/node.yaml");
const CLUSTER: &str = include_str!("../../../config/cluster.yaml");
const SOURCES: &str = include_str!("../../../config/data_sources.yaml");

#[test]
fn shipped_files_are_right() {
    let node = read_node_text("node.yaml", NODE).unwrap();
    assert_eq!((node.node, node.region.as_str(), node.peers.len()), (1, "us-east-1", 2));
    assert!(node.log_json);
    let sources = read_sources_text("data_sources.yaml", SOURCES).unwrap();
    assert_eq!(sources.error_permille, Some(50));
    let cluster = read_cluster_text("cluster.yaml", CLUSTER, Some(&sources)).unwrap();
    assert_eq!(cluster.timing.profile, Profile::Wan);
    assert_eq!(cluster.limits, cryptorun_core::config::Limits::default());
    let warm = &cluster.scopes[&ScopeId::new(Tier::Warm, "global")];
    assert_eq!((warm.people, warm.mode, warm.members.len()), (2, Mode::Approve, 3));
}

#[test]
fn all_problems_of_a_node_file_are_named_at_once() {
    let text = "node: 0\nregion: us/east\nlisten: {api: nowhere, raft: 127.0.0.1:7402}\n\
                peers: [{node: 2, region: us-west-2, raft: host, api: 'host:1'}]\ndate: /x\n";
    let problems = read_node_text("node.yaml", text).unwrap_err().to_string();
    for part in [
        "node: 0: must be at least 1",
        "region: 'us/east': may hold only",
        "data: is missing",
        "tls.cert: is missing",
        "listen.api: 'nowhere'",
        "listen.health: is the same address as listen.raft",
        "peers[0].raft: 'host': must be host:port",
        "date: is not a known key (for example data)",
    ] {
        assert!(problems.contains(part), "{part} is not in {problems}");
    }
}

#[test]
fn a_cluster_that_could_never_be_moved_is_refused() {
    let text = CLUSTER
        .replace("  ben: { roles: [approver] }\n  eve: { roles: [admin] }\n", "")
        .replace("    grants:\n      - { role: approver, tier: warm, region: us-west-2 }\n", "");
    let problems = read_cluster_text("cluster.yaml", &text, None).unwrap_err().to_string();
    assert!(
        problems.contains(
            "1 may approve for warm/global, which needs 2 people: it could never be moved"
        ),
        "{problems}"
    );
}

#[test]
fn round_trips_that_the_profile_cannot_carry_are_refused_with_the_arithmetic() {
    let text = CLUSTER.replace("profile: wan", "profile: local");
    let problems = read_cluster_text("cluster.yaml", &text, None).unwrap_err().to_string();
    assert!(problems.contains("heartbeat 50 ms < (rtt 150 ms + fsync 5 ms) / 0.75"), "{problems}");
}

#[test]
fn residency_keeps_every_copy_at_home() {
    let text = CLUSTER.replace("members: [eu-west-1]", "members: [eu-west-1, us-east-1]");
    let problems = read_cluster_text("cluster.yaml", &text, None).unwrap_err().to_string();
    assert!(problems.contains("scopes.warm/eu.members"), "{problems}");
    let sources = read_sources_text("data_sources.yaml", SOURCES).unwrap();
    let text = CLUSTER.replace("    residency: eu-west-1     #", "    #");
    let problems = read_cluster_text("cluster.yaml", &text, Some(&sources)).unwrap_err();
    assert!(problems.to_string().contains("dataset candles-eu, which may not leave eu-west-1"));
}

#[test]
fn detection_comes_from_the_data_sources_unless_the_cluster_says_it() {
    let sources = SOURCES.replace("unhealthy_timeout: \"60s\"", "unhealthy_timeout: \"7s\"");
    let sources = read_sources_text("data_sources.yaml", &sources).unwrap();
    let silent = CLUSTER.replace("  detection: 60s\n", "");
    let cluster = read_cluster_text("cluster.yaml", &silent, Some(&sources)).unwrap();
    assert_eq!(cluster.limits.detection, Millis::secs(7));
    let cluster = read_cluster_text("cluster.yaml", CLUSTER, Some(&sources)).unwrap();
    assert_eq!(cluster.limits.detection, Millis::secs(60));
}

#[test]
fn so_does_the_rate_of_errors() {
    let sources = SOURCES.replace("error_rate_threshold: 0.05", "error_rate_threshold: 0.2");
    let sources = read_sources_text("data_sources.yaml", &sources).unwrap();
    let silent = CLUSTER.replace("  error_rate_max: 0.05\n", "");
    let read = |text: &str| read_cluster_text("cluster.yaml", text, Some(&sources));
    assert_eq!(read(&silent).unwrap().limits.errors_max_permille, 200);
    assert_eq!(read(CLUSTER).unwrap().limits.errors_max_permille, 50);
    let wrong = CLUSTER.replace("error_rate_max: 0.05", "error_rate_max: 5");
    let problems = read(&wrong).unwrap_err().to_string();
    assert!(problems.contains("limits.error_rate_max"), "{problems}");
}

#[test]
fn nobody_is_called_as_the_audit_calls_something_else() {
    for id in ["time", "controller"] {
        let text = CLUSTER.replace("  eve:", &format!("  {id}:"));
        let problems = read_cluster_text("cluster.yaml", &text, None).unwrap_err().to_string();
        assert!(problems.contains(&format!("{id} is what the audit calls")), "{problems}");
    }
}
