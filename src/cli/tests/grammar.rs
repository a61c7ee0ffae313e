//! What parses and what does not.

use super::world::Program;
use crate::args::Window;
use clap::{CommandFactory, Parser};

fn parses(line: &str) -> bool {
    Program::try_parse_from(line.split_whitespace()).is_ok()
}

fn wrong(line: &str) -> (i32, String) {
    let error = Program::try_parse_from(line.split_whitespace()).unwrap_err();
    (error.exit_code(), error.to_string())
}

#[test]
fn the_grammar_is_consistent() {
    Program::command().debug_assert();
}

#[test]
fn the_lines_that_were_asked_for_parse_letter_for_letter() {
    for line in [
        "cryptorun replication status --tier warm --region us-east-1",
        "cryptorun replication simulate --from eu-central --to us-east --tier warm --window \
         2025-01-01T00:00:00Z/2025-01-01T06:00:00Z",
        "cryptorun replication failover --tier warm --promote us-east --demote eu-central \
         --dry-run=false",
    ] {
        assert!(parses(line), "{line}");
    }
}

#[test]
fn every_verb_has_its_spelling() {
    for line in [
        "cryptorun replication switchover --tier warm --to us-west-2 --plan 4c1e --execute",
        "cryptorun replication failover --tier warm --to us-west-2 --kind emergency --dry-run",
        "cryptorun replication emergency --tier warm --to us-west-2 --dry-run=true --reason x",
        "cryptorun replication approve",
        "cryptorun replication approve P-3 --yes --reason lost --wait --timeout 10m",
        "cryptorun replication deny P-3 --reason no",
        "cryptorun replication cancel P-3",
        "cryptorun replication history --tier warm -o json",
        "cryptorun replication history P-3 --output yaml",
        "cryptorun replication explain --tier warm --target us-west-2",
        "cryptorun replication pause --tier warm --for 2h --reason disk",
        "cryptorun replication resume --tier warm --group eu",
        "cryptorun replication watch --from-index 7",
        "cryptorun replication status --watch --local --check --endpoints a:1,b:2",
        "cryptorun replication forks list",
        "cryptorun audit list --from 3 --limit 10",
        "cryptorun audit verify",
        "cryptorun audit verify a.audit -o json",
        "cryptorun audit report P-3 -o yaml",
        "cryptorun audit who ana --since 2026-01-01T00:00:00Z --until 2026-02-01T00:00:00Z",
        "cryptorun audit export --from 3 --to 9 --out a.audit",
        "cryptorun cluster init --expect 3 --config cluster.yaml",
        "cryptorun cluster status --check",
        "cryptorun cluster transfer-leader --to us-west",
        "cryptorun cluster add --node 4 --region us-west-2 --raft h:7401 --api h:7400",
        "cryptorun warm get --symbol BTC/USD --region us-west --since 2025-01-01T00:00:00Z",
        "cryptorun config check node.yaml worker.yaml",
        "cryptorun replication refusals --tier warm",
        "cryptorun replication refusals --tier warm --window 2026-01-02T14:00:00Z/2026-01-02T15:00:00Z",
        "cryptorun whoami -o json",
        "cryptorun completions bash",
    ] {
        assert!(parses(line), "{line}");
    }
}

#[test]
fn mistakes_are_usage_errors_that_say_what_is_right() {
    for (line, says) in [
        ("cryptorun replication status --tier tepid", "known: hot, warm, cold"),
        (
            "cryptorun replication simulate --tier warm --from a --to b --window yesterday",
            "is not a window like 2025-01-01T00:00:00Z/2025-01-01T06:00:00Z",
        ),
        (
            "cryptorun replication approve 7",
            "is neither a promotion like P-7 nor a rule change like R-7",
        ),
        ("cryptorun replication failover --tier warm --to 'x", "is not a region's name"),
        ("cryptorun replication pause --tier warm --for soon --reason x", "soon"),
        ("cryptorun replication forks list --request a/b", "1 to 64 letters"),
        ("cryptorun audit report 3", "is not a promotion like P-7"),
        ("cryptorun audit prove 3 --file a --head 1a2b", "is not a hash of 64 hex digits"),
        ("cryptorun audit export --from 0 --out a", "0 is not in 1.."),
    ] {
        let (code, text) = wrong(line);
        assert!(code == 2 && text.contains(says), "{line}: {code} {text}");
    }
}

#[test]
fn a_window_ends_after_it_starts() {
    let window: Window = "2025-01-01T00:00:00Z/2025-01-01T06:00:00Z".parse().unwrap();
    assert_eq!(window.end.since(window.start).0, 6 * 3_600_000);
    let backwards = "2025-01-01T06:00:00Z/2025-01-01T00:00:00Z".parse::<Window>();
    assert!(backwards.unwrap_err().contains("which is not after"));
}
