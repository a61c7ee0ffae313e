//! Runs the program under test.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What a run left behind.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The program with nothing of this environment that could steer it.
pub fn cryptorun(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cryptorun"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CRYPTORUN_")) {
        command.env_remove(name);
    }
    command.args(words).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(words: &[&str]) -> Ran {
    cryptorun(words).output().expect("the program can be run").into()
}

/// A text file in a folder; its path as text.
pub fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a temporary file can be written");
    path.display().to_string()
}
