//! What a run measured and checked: lines while it goes on, `report.json` at the end.

use super::DemoError;
use serde::Serialize;
use std::path::Path;

/// One stage as it went.
#[derive(Clone, Debug, Serialize)]
pub struct StageReport {
    pub number: u32,
    pub name: &'static str,
    /// What it found, as printed.
    pub lines: Vec<String>,
    /// Figures by name; each name carries its unit.
    pub measured: std::collections::BTreeMap<String, serde_json::Value>,
}

/// One invariant, checked from journals, audit and state.
#[derive(Clone, Debug, Serialize)]
pub struct Invariant {
    pub name: &'static str,
    pub holds: bool,
    /// The numbers behind the verdict.
    pub evidence: String,
}

/// `report.json`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub profile: String,
    pub rtt_ms: Vec<u128>,
    pub stages: Vec<StageReport>,
    pub invariants: Vec<Invariant>,
    pub invariants_held: usize,
    pub took_ms: u128,
}

/// Prints stages as they end, or nothing until the end when JSON was asked for.
pub struct Teller {
    json: bool,
    number: u32,
    pub report: Report,
}

impl Teller {
    pub fn new(json: bool, profile: String, rtt_ms: Vec<u128>) -> Self {
        Self { json, number: 0, report: Report { profile, rtt_ms, ..Report::default() } }
    }

    pub fn headline(&self, text: &str) {
        if !self.json {
            println!("{text}");
        }
    }

    /// A stage ended with these lines; the first stands beside its name.
    pub fn stage(
        &mut self,
        name: &'static str,
        lines: Vec<String>,
        measured: &[(&str, serde_json::Value)],
    ) {
        self.number += 1;
        if !self.json {
            let mut lines = lines.iter();
            let first = lines.next().map_or("", String::as_str);
            println!("{:>2} {name:<17} {first}", self.number);
            lines.for_each(|line| println!("{:20} {line}", ""));
        }
        self.report.stages.push(StageReport {
            number: self.number,
            name,
            lines,
            measured: measured.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
        });
    }

    /// Says what is awaited, for a person who watches.
    pub fn waiting(&self, what: &str) {
        if !self.json {
            eprintln!("   … {what}");
        }
    }

    /// Writes `report.json`, prints where it is.
    pub fn finish(&self, folder: &Path) -> Result<(), DemoError> {
        let path = folder.join("report.json");
        let text = serde_json::to_string_pretty(&self.report)
            .map_err(|e| DemoError::cannot("the report cannot be written as JSON", e))?;
        std::fs::write(&path, &text)
            .map_err(|e| DemoError::cannot(format!("cannot write {}", path.display()), e))?;
        match self.json {
            true => println!("{text}"),
            false => println!("\nreport: {}", path.display()),
        }
        Ok(())
    }
}
