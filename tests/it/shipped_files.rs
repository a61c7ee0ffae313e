//! Files in `config/` are what `config check` says they are.

use crate::program::{file, run};
use cryptorun_platform::metrics::DECLARED;

#[test]
fn every_shipped_file_checks() {
    for name in ["node.yaml", "worker.yaml", "cluster.yaml", "data_sources.yaml"] {
        let path = format!("{}/config/{name}", env!("CARGO_MANIFEST_DIR"));
        let ran = run(&["config", "check", &path]);
        assert_eq!(ran.code, 0, "{name}: {}{}", ran.out, ran.err);
    }
}

#[test]
fn all_problems_of_a_file_are_told_at_once_with_examples() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "node.yaml", "node: 0\nregoin: us-east-1\ndata: /tmp/x\n");
    let ran = run(&["config", "check", &path]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let said = format!("{}{}", ran.out, ran.err);
    for key in ["node", "regoin", "region", "tls"] {
        assert!(said.contains(key), "{key} is not named in: {said}");
    }
}

#[test]
fn alerts_speak_of_metrics_that_there_are_and_of_documents_that_can_be_read() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = std::fs::read_to_string(root.join("config/prometheus/alerts.yaml")).unwrap();
    let declared: Vec<&str> = DECLARED.iter().map(|(name, ..)| *name).collect();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named: Vec<&str> =
        rules.split(|c| !word(c)).filter(|name| name.starts_with("cryptorun_")).collect();
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        assert!(declared.contains(&name), "{name} is on no metrics page");
    }
    let links: Vec<&str> =
        rules.lines().filter_map(|l| l.trim().strip_prefix("runbook: ")).collect();
    assert!(links.len() > 15, "{links:?}");
    for link in links {
        assert!(root.join(link).is_file(), "{link} is not there");
    }
}
