//! Where a verb stands: the cluster it speaks to, the screen it writes on, the form of its answers.

use crate::args::Format;
use crate::client::Client;
use crate::failure::Failure;
use crate::screen::Screen;
use cryptorun_core::config::ClusterConfig;
use cryptorun_platform::settings::SettingsError;
use serde::Serialize;
use std::path::Path;

/// Reads configuration files. The readers live with the processes that obey them; `main` brings
/// them here.
pub trait Checker: Send + Sync {
    /// Checks one file and says what kind it is: `node.yaml`, `cluster.yaml`.
    fn check(&self, path: &Path) -> Result<String, SettingsError>;

    /// Reads what a cluster starts from.
    fn cluster(&self, path: &Path) -> Result<ClusterConfig, SettingsError>;
}

/// What `main` knows and this crate must not: the whole grammar, the readers of files.
pub struct Host {
    /// The program's whole grammar, for completions.
    pub grammar: clap::Command,
    /// Readers of configuration files.
    pub checker: Box<dyn Checker>,
}

/// What every verb is handed.
pub struct Context {
    /// The cluster.
    pub client: Client,
    /// The terminal.
    pub screen: Screen,
    /// The form of results.
    pub format: Format,
}

impl Context {
    /// Prints a result: `table` makes the text for people.
    pub fn show<T: Serialize>(
        &mut self,
        value: &T,
        table: impl FnOnce(&T, &Screen) -> String,
    ) -> Result<(), Failure> {
        show(self.format, &mut self.screen, value, table)
    }
}

/// The same for a verb that speaks to no cluster.
pub fn show<T: Serialize>(
    format: Format,
    screen: &mut Screen,
    value: &T,
    table: impl FnOnce(&T, &Screen) -> String,
) -> Result<(), Failure> {
    let text = match format {
        Format::Table => table(value, screen),
        Format::Json | Format::Yaml => crate::render::data(format, value)?,
    };
    screen.result(&text)
}
