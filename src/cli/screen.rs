//! The terminal, or what stands in for one: results on stdout, everything else on stderr.
//!
//! What always holds: colour is added only on a terminal without `NO_COLOR`, and never carries a
//! meaning that no word carries; a script is never asked anything; a reader that went away ends the
//! command quietly.

use crate::failure::Failure;
use std::fmt::Display;
use std::io::{BufRead, IsTerminal, Write};

/// What is known of the streams.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// Somebody sits at stdin and stderr: questions can be asked.
    pub interactive: bool,
    /// Stdout is a terminal.
    pub stdout_terminal: bool,
    /// Stderr is a terminal: progress may be drawn.
    pub stderr_terminal: bool,
    /// Columns of that terminal; none where lines have no end.
    pub width: Option<usize>,
    /// Whether colour may be used.
    pub colour: bool,
}

impl Facts {
    /// Of this process.
    pub fn of_process() -> Self {
        let stdout_terminal = std::io::stdout().is_terminal();
        let stderr_terminal = std::io::stderr().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        Self {
            interactive: std::io::stdin().is_terminal() && stderr_terminal,
            stdout_terminal,
            stderr_terminal,
            width: stdout_terminal
                .then(terminal_size::terminal_size)
                .flatten()
                .map(|(width, _)| usize::from(width.0)),
            colour: stdout_terminal && !no_colour,
        }
    }
}

/// Where a command reads and writes.
pub struct Screen {
    /// What is known of it.
    pub facts: Facts,
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    input: Box<dyn BufRead + Send>,
}

impl Screen {
    /// The process's own streams.
    pub fn of_process() -> Self {
        Self::new(
            Facts::of_process(),
            Box::new(std::io::stdout()),
            Box::new(std::io::stderr()),
            Box::new(std::io::BufReader::new(std::io::stdin())),
        )
    }

    /// Any other streams.
    pub fn new(
        facts: Facts,
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
        input: Box<dyn BufRead + Send>,
    ) -> Self {
        Self { facts, out, err, input }
    }

    /// Writes a result; `text` ends with a newline or is empty.
    pub fn result(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes())?;
        Ok(self.out.flush()?)
    }

    /// Writes one line of a result.
    pub fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        self.result(&format!("{line}\n"))
    }

    /// Tells whoever watches; nothing depends on it.
    pub fn say(&mut self, line: impl Display) {
        let _ = writeln!(self.err, "{line}");
    }

    /// Explains a failure.
    pub fn fail(&mut self, failure: &Failure) {
        let _ = self.err.write_all(failure.text().as_bytes());
    }

    /// Asks for a line of text; none from a script, or when nothing was typed.
    pub fn ask(&mut self, question: &str) -> Option<String> {
        if !self.facts.interactive {
            return None;
        }
        let _ = write!(self.err, "{question} ");
        let _ = self.err.flush();
        let mut line = String::new();
        self.input.read_line(&mut line).ok()?;
        let line = line.trim();
        (!line.is_empty()).then(|| line.to_owned())
    }

    /// Asks y/N; anything but yes is no.
    pub fn confirm(&mut self, question: &str) -> bool {
        self.ask(&format!("{question} [y/N]"))
            .is_some_and(|answer| matches!(answer.to_lowercase().as_str(), "y" | "yes"))
    }

    /// Puts the cursor back to the top of an empty screen, where there is one.
    pub fn clear(&mut self) -> Result<(), Failure> {
        match self.facts.stdout_terminal {
            true => self.result("\x1b[H\x1b[2J"),
            false => self.line(""),
        }
    }
}
