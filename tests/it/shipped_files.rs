//! Files in `config/` are what `config check` says they are.

use crate::program::{file, run};

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
