//! `cryptorun pki`: certificates for trials.

use crate::program::run;
use std::os::unix::fs::PermissionsExt;

const ANA: &str = "spiffe://trial.cryptorun/cryptorun/trial/person/us-east-1/ana";

#[test]
fn an_authority_issues_a_certificate_that_checks() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    assert_eq!(run(&["pki", "init", &at("ca"), "--cluster", "trial"]).code, 0);
    assert_eq!(run(&["pki", "issue", &at("ca"), ANA, &at("ana")]).code, 0);
    let checked = run(&["pki", "check", &at("ana")]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    assert!(checked.out.starts_with(ANA), "{}", checked.out);
}

#[test]
fn a_key_that_others_may_read_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    run(&["pki", "init", &at("ca"), "--cluster", "trial"]);
    run(&["pki", "issue", &at("ca"), ANA, &at("ana")]);
    let key = folder.path().join("ana/key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let checked = run(&["pki", "check", &at("ana")]);
    assert_eq!(checked.code, 1);
    assert!(checked.err.contains("key.pem"), "{}", checked.err);
}

#[test]
fn a_name_that_is_no_identity_is_a_usage_error() {
    let ran = run(&["pki", "issue", "ca", "https://ana", "out"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
}
