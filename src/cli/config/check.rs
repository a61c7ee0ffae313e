//! `config check`: all problems of all files at once.

use crate::Ended;
use crate::args::Format;
use crate::context::Host;
use crate::exit::Exit;
use crate::render;
use crate::screen::Screen;
use clap::Args;
use cryptorun_platform::settings::SettingsError;
use serde::Serialize;
use std::error::Error;
use std::path::PathBuf;

#[derive(Clone, Debug, Args)]
pub struct Check {
    /// The files
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// What was found in one file.
#[derive(Serialize)]
struct Checked {
    path: String,
    ok: bool,
    kind: Option<String>,
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Problem {
    key: String,
    value: String,
    reason: String,
    example: String,
}

pub fn run(args: Check, format: Format, host: &Host, screen: &mut Screen) -> Ended {
    let mut all = Vec::new();
    let mut text = String::new();
    let mut unreadable = false;
    for path in &args.paths {
        let shown = path.display().to_string();
        let (kind, problems) = match host.checker.check(path) {
            Ok(kind) => {
                text.push_str(&format!("{shown}: ok, {kind}\n"));
                (Some(kind), Vec::new())
            }
            Err(error) => {
                unreadable |= matches!(error, SettingsError::Unreadable { .. });
                let cause = error.source().map(|c| format!(": {c}")).unwrap_or_default();
                text.push_str(&format!("{error}{cause}\n"));
                (None, problems(&error, &cause))
            }
        };
        all.push(Checked { path: shown, ok: problems.is_empty(), kind, problems });
    }
    match format {
        Format::Table => screen.result(&text)?,
        Format::Json | Format::Yaml => screen.result(&render::data(format, &all)?)?,
    }
    Ok(match (unreadable, all.iter().all(|file| file.ok)) {
        (true, _) => Exit::Usage,
        (false, true) => Exit::Done,
        (false, false) => Exit::CheckFailed,
    })
}

fn problems(error: &SettingsError, cause: &str) -> Vec<Problem> {
    match error {
        SettingsError::Unreadable { .. } => vec![Problem {
            key: String::new(),
            value: String::new(),
            reason: format!("{error}{cause}"),
            example: String::new(),
        }],
        SettingsError::Wrong(problems) => problems
            .list
            .iter()
            .map(|p| Problem {
                key: p.key.clone(),
                value: p.value.clone(),
                reason: p.reason.clone(),
                example: p.example.clone(),
            })
            .collect(),
    }
}
