//! Bad input gets an error that names the thing, and the exit code of `docs/cli.md`.

use crate::program::{cryptorun, file, run};

#[test]
fn an_unknown_verb_is_a_usage_error() {
    let ran = run(&["replication", "failoverr"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("failoverr"), "{}", ran.err);
}

#[test]
fn a_malformed_window_is_a_usage_error_that_shows_one() {
    let ran = run(&[
        "replication",
        "simulate",
        "--from",
        "eu-central",
        "--to",
        "us-east",
        "--tier",
        "warm",
        "--window",
        "yesterday",
    ]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("yesterday"), "{}", ran.err);
}

#[test]
fn a_client_without_endpoints_says_what_to_set() {
    let ran = run(&["replication", "status", "--tier", "warm", "--region", "us-east-1"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("CRYPTORUN_ENDPOINTS"), "{}", ran.err);
}

#[test]
fn nobody_listening_is_unreachable_with_each_endpoints_cause() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    run(&["pki", "init", &at("ca"), "--cluster", "trial"]);
    let ana = "spiffe://trial.cryptorun/cryptorun/trial/person/us-east-1/ana";
    run(&["pki", "issue", &at("ca"), ana, &at("ana")]);
    // Port 1 of loopback: nothing of ours is ever there.
    let ran = cryptorun(&["replication", "status"])
        .env("CRYPTORUN_ENDPOINTS", "127.0.0.1:1,localhost:1")
        .env("CRYPTORUN_CA", at("ana/ca.pem"))
        .env("CRYPTORUN_CERT", at("ana/cert.pem"))
        .env("CRYPTORUN_KEY", at("ana/key.pem"))
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(4), "{err}");
    assert!(err.contains("127.0.0.1:1") && err.contains("localhost:1"), "{err}");
}

#[test]
fn a_settings_file_that_is_not_there_is_named() {
    for role in ["node", "worker"] {
        let ran = run(&[role, "--config", "no/such/file.yaml"]);
        assert_eq!(ran.code, 2, "{role}: {}", ran.err);
        assert!(ran.err.contains("no/such/file.yaml"), "{role}: {}", ran.err);
    }
}

#[test]
fn a_demo_leaves_a_folder_alone_that_no_demo_made() {
    let folder = tempfile::tempdir().unwrap();
    let mine = file(folder.path(), "mine.txt", "precious");
    let ran = run(&["demo", "--fast", "--data", &folder.path().display().to_string()]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("not empty"), "{}", ran.err);
    assert_eq!(std::fs::read_to_string(mine).unwrap(), "precious");
}

#[test]
fn round_trips_that_a_profile_cannot_carry_are_refused_with_the_arithmetic() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("demo").display().to_string();
    let ran = run(&["demo", "--fast", "--rtt", "70/130/140", "--data", &data]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("heartbeat 50 ms < (rtt 140 ms + fsync 5 ms) / 0.75"), "{}", ran.err);
}

#[test]
fn a_taken_port_is_named_with_its_holder() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().min(65_000);
    let data = folder.path().join("demo").display().to_string();
    let ran = run(&["demo", "--fast", "--data", &data, "--base-port", &port.to_string()]);
    assert_eq!(ran.code, 8, "{}", ran.err);
    assert!(ran.err.contains(&format!("port {port} is taken by pid")), "{}", ran.err);
}
