//! The long-running roles: settings from a file, telemetry, a runtime, a clean end.

use clap::Args;
use cryptorun_cli::Checker;
use cryptorun_control::settings::{read_cluster, read_node, read_sources};
use cryptorun_core::config::ClusterConfig;
use cryptorun_platform::Platform;
use cryptorun_platform::settings::SettingsError;
use cryptorun_platform::shutdown::Shutdown;
use cryptorun_platform::telemetry::{self, Format};
use cryptorun_worker::settings::read_worker;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments or configuration that make no sense.
const USAGE: u8 = 2;
/// Something on this machine prevents the start.
pub const CANNOT_START: u8 = 8;

/// What a long-running role needs.
#[derive(Clone, Debug, Args)]
pub struct RoleArgs {
    /// Its settings
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

/// Says what went wrong, cause by cause.
pub fn fail(error: &(dyn std::error::Error + 'static), code: u8) -> ExitCode {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        eprintln!("  {inner}");
        cause = inner.source();
    }
    ExitCode::from(code)
}

/// One thread: three nodes and their load share few cores, and one wakes the next fastest.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Runs a role that ends by itself.
pub fn on_runtime(role: impl Future<Output = u8>) -> ExitCode {
    match runtime() {
        Ok(runtime) => ExitCode::from(runtime.block_on(role)),
        Err(error) => fail(&error, CANNOT_START),
    }
}

/// Runs a role until it is told to stop.
fn serve<R, E>(
    log: &str,
    json: bool,
    code: impl FnOnce(&E) -> u8,
    role: impl FnOnce(Shutdown) -> R,
) -> ExitCode
where
    R: Future<Output = Result<(), E>>,
    E: std::error::Error + 'static,
{
    let format = if json { Format::Json } else { Format::Text };
    if let Err(error) = telemetry::start(format, log) {
        return fail(&error, USAGE);
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, CANNOT_START),
    };
    let ended = runtime.block_on(async {
        let shutdown = Shutdown::on_signals().map_err(|error| fail(&error, CANNOT_START))?;
        role(shutdown).await.map_err(|error| fail(&error, code(&error)))
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => code,
    }
}

/// `cryptorun node`.
pub fn node(args: &RoleArgs) -> ExitCode {
    let settings = match read_node(&args.config) {
        Ok(settings) => settings,
        Err(error) => return fail(&error, USAGE),
    };
    let (log, json) = (settings.log.clone(), settings.log_json);
    serve(&log, json, cryptorun_control::StartError::exit_code, |shutdown| {
        cryptorun_control::run(settings, shutdown)
    })
}

/// `cryptorun worker`.
pub fn worker(args: &RoleArgs) -> ExitCode {
    let settings = match read_worker(&args.config) {
        Ok(settings) => settings,
        Err(error) => return fail(&error, USAGE),
    };
    let (log, json) = (settings.log.clone(), settings.log_json);
    let platform = Platform::real(settings.data.clone());
    serve(&log, json, cryptorun_worker::StartError::exit_code, |shutdown| {
        cryptorun_worker::run(settings, platform, shutdown)
    })
}

/// Readers of the files that an operator writes.
pub struct Files;

impl Checker for Files {
    fn check(&self, path: &Path) -> Result<String, SettingsError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // The file's name says what it is; every other one is tried as a cluster's.
        match name.as_str() {
            name if name.starts_with("node") => read_node(path).map(|_| "node.yaml".to_owned()),
            name if name.starts_with("worker") => {
                read_worker(path).map(|_| "worker.yaml".to_owned())
            }
            name if name.starts_with("data_sources") => {
                read_sources(path).map(|_| "data_sources.yaml".to_owned())
            }
            _ => read_cluster(path).map(|_| "cluster.yaml".to_owned()),
        }
    }

    fn cluster(&self, path: &Path) -> Result<ClusterConfig, SettingsError> {
        read_cluster(path)
    }
}
