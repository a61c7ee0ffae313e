//! The built program, run as a person or a supervisor runs it: arguments, files, exit codes.
//!
//! One binary for all of them. Whole clusters are run by `cryptorun demo` and `chaos/scenarios`.

mod bad_input;
mod pki;
mod program;
mod shipped_files;
