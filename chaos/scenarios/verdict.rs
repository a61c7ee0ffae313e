//! Checks and the numbers behind their verdicts, printed as they come.

use std::fmt::Display;

/// All verdicts of a run.
#[derive(Default)]
pub struct Verdicts {
    passed: usize,
    failed: usize,
    case: String,
    failed_in_case: usize,
}

impl Verdicts {
    /// What follows belongs to this case.
    pub fn case(&mut self, name: impl Into<String>) {
        self.case = name.into();
        self.failed_in_case = 0;
        println!("\n== {}", self.case);
    }

    /// Whether all checks of the present case held.
    pub fn case_is_clean(&self) -> bool {
        self.failed_in_case == 0
    }

    /// One check.
    pub fn check(&mut self, name: &str, holds: bool, evidence: impl Display) {
        let word = if holds { "pass" } else { "FAIL" };
        match holds {
            true => self.passed += 1,
            false => {
                self.failed += 1;
                self.failed_in_case += 1;
            }
        }
        println!("{word}  {}: {name}: {evidence}", self.case);
    }

    /// A check that could not be made is one that failed.
    pub fn result<T>(&mut self, name: &str, found: Result<T, impl Display>) -> Option<T> {
        match found {
            Ok(found) => Some(found),
            Err(why) => {
                self.check(name, false, why);
                None
            }
        }
    }

    /// For a person who reads; judges nothing.
    pub fn note(&self, text: impl Display) {
        println!("      {text}");
    }

    pub fn count(&self) -> (usize, usize) {
        (self.passed, self.failed)
    }
}
