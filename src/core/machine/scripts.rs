//! Behavior over time as scripts an operator can review: `tests/scripts/*.txt`, with their output
//! recorded below each command. `CRYPTORUN_RECORD=1 cargo test -p cryptorun-core scripts` writes it anew.

use super::world::{World, warm};
use crate::command::{Approve, Cancel, Command, Deny, PauseScope, RequestPromotion, Unpause};
use crate::explain;
use crate::promotion::PromotionId;
use crate::region::RegionName;
use crate::scope::Mode;
use crate::time::Millis;
use std::fmt::Write as _;

/// Runs a script's commands one block at a time; a block ends with `----`, its output follows.
fn run(script: &str) -> String {
    let mut world = World::running(Mode::Approve);
    let mut seen = world.machine.audit_head().end.seq;
    let mut out = String::new();
    for block in script.split("\n\n") {
        let (commands, _) = block.split_once("\n----").unwrap_or((block, ""));
        let mut answers = Vec::new();
        for line in commands.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            answers.extend(one(&mut world, line));
        }
        let _ = writeln!(out, "{commands}\n----");
        for entry in world.machine.audit().range(seen + 1..).map(|(_, entry)| entry) {
            if !(entry.action == "grant" && entry.subject == "warm/eu") {
                let at = entry.at.log.0 / 1000;
                let _ = writeln!(
                    out,
                    "+{at}s {} {} by {}: {}",
                    entry.subject, entry.action, entry.actor, entry.detail
                );
            }
        }
        seen = world.machine.audit_head().end.seq;
        answers.iter().for_each(|answer| {
            let _ = writeln!(out, "{answer}");
        });
        let _ = writeln!(out);
    }
    out.trim_end().to_owned() + "\n"
}

fn one(world: &mut World, line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let region = |i: usize| RegionName::from(words[i]);
    let promotion = |i: usize| words[i].parse::<PromotionId>().unwrap();
    let rest = |i: usize| Some(words[i..].join(" ")).filter(|text| !text.is_empty());
    let answer = match words[0] {
        "advance" => {
            let secs = words[1].trim_end_matches('s').parse().unwrap();
            world.advance(Millis::secs(secs));
            return None;
        }
        "lose" => {
            world.lost.insert(region(1), world.now);
            return None;
        }
        "find" => {
            world.lost.remove(&region(1));
            return None;
        }
        "cut" => {
            world.cut.insert((region(1), region(2)), world.now);
            return None;
        }
        "heal" => {
            world.cut.clear();
            return None;
        }
        "stop-worker" => {
            world.workers.get_mut(&region(1)).unwrap().up = false;
            return None;
        }
        "start-worker" => {
            world.workers.get_mut(&region(1)).unwrap().restart();
            return None;
        }
        "clock" => {
            world.offsets.insert(region(1), words[2].parse().unwrap());
            return None;
        }
        "status" => {
            let scope = world.scope();
            let token = scope.reign().map(|reign| reign.token).unwrap_or_default();
            let holder = world.holder().map_or("nobody".to_owned(), |h| h.to_string());
            return Some(format!("{} {}, {holder} token={token}", scope.id, scope.phase));
        }
        "explain" => {
            let explained = explain::explain(&world.machine, &warm(), &region(1), None)
                .map_err(|r| r.to_string());
            return Some(match explained {
                Err(refusal) => refusal,
                Ok(explained) => {
                    let open = explained.command.unwrap_or_else(|| match explained.opens_in {
                        Some(span) => format!("nothing yet, {span} to wait"),
                        None => {
                            let changes = explained.decision.changes.iter();
                            let changes: Vec<String> = changes.map(ToString::to_string).collect();
                            format!("needs {}", changes.join(", "))
                        }
                    });
                    format!("{:?} {}: {open}", explained.decision.choice, explained.decision.kind)
                }
            });
        }
        "switchover" | "failover" | "emergency" => world.by(
            words[2],
            Command::RequestPromotion(RequestPromotion {
                kind: words[0].parse().unwrap(),
                scope: warm(),
                from: None,
                to: region(1),
                reason: rest(3),
                plan: None,
            }),
        ),
        "approve" => world.by(
            words[2],
            Command::Approve(Approve {
                promotion: promotion(1),
                reason: rest(3),
                certificate: None,
            }),
        ),
        "deny" => world.by(
            words[2],
            Command::Deny(Deny { promotion: promotion(1), reason: rest(3).unwrap_or_default() }),
        ),
        "cancel" => world.by(words[2], Command::Cancel(Cancel { promotion: promotion(1) })),
        "pause" => world.by(
            words[2],
            Command::Pause(PauseScope {
                scope: warm(),
                reason: rest(3).unwrap_or_default(),
                span: Millis::mins(words[1].trim_end_matches('m').parse().unwrap()),
            }),
        ),
        "resume" => world.by(words[1], Command::Unpause(Unpause { scope: warm() })),
        other => panic!("no script command '{other}'"),
    };
    answer.err().map(|refusal| format!("refused {}: {refusal}", refusal.kind()))
}

fn check(name: &str) {
    let path = format!("{}/../../tests/scripts/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let script = std::fs::read_to_string(&path).unwrap();
    let got = run(&script);
    if std::env::var_os("CRYPTORUN_RECORD").is_some() {
        std::fs::write(&path, &got).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap();
    assert!(got == want, "{name}: the recorded output differs; it is now:\n{got}");
}

#[test]
fn lease() {
    check("lease");
}

#[test]
fn promotion() {
    check("promotion");
}

#[test]
fn approval() {
    check("approval");
}

#[test]
fn partition() {
    check("partition");
}
