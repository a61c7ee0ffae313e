//! Logs: set up once, on stderr, as lines for people or as JSON for collectors.
//!
//! The filter is a list of targets and levels (`info,cryptorun_raft=debug`), matched by prefix.
//! Spans and regular expressions are deliberately absent: neither has been worth its cost.

use std::io::{IsTerminal as _, Write as _};

use tracing::Subscriber;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, fmt};

mod json;

/// Names the filter; settings and arguments come before it.
pub const FILTER_VARIABLE: &str = "CRYPTORUN_LOG";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    Json,
}

impl std::str::FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("must be text or json"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("log filter '{filter}' is wrong: write levels and targets, info,cryptorun_raft=debug")]
    Filter { filter: String, source: tracing_subscriber::filter::ParseError },
    #[error("logs are set up already")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Sends the process's logs to stderr from now on.
pub fn start(format: Format, filter: &str) -> Result<(), TelemetryError> {
    let wrong = |source| TelemetryError::Filter { filter: filter.to_owned(), source };
    let targets: Targets = filter.parse().map_err(wrong)?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::registry()
        .with(layer(format, colour, std::io::stderr).with_filter(targets))
        .try_init()
        .map_err(TelemetryError::Twice)
}

fn layer<S, W>(format: Format, colour: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    match format {
        Format::Text => fmt::layer().with_ansi(colour).with_writer(writer).boxed(),
        Format::Json => json::Lines::new(move |line: &str| {
            // There is nowhere to say that logging failed.
            let _ = writer.make_writer().write_all(line.as_bytes());
        })
        .boxed(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, filter: &str, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = layer(format, false, move || writer.clone());
        let targets: Targets = filter.parse().unwrap();
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(targets));
        tracing::subscriber::with_default(subscriber, log);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn talk() {
        tracing::warn!(target: "cryptorun_raft", index = 7u64, by = %"n\"1", ok = true, "sealed");
        tracing::debug!(target: "cryptorun_raft", "detail");
        tracing::debug!(target: "hyper", "noise");
        tracing::error!(target: "hyper", lag = 0.5, left = -1i64, why = ?Some("x"), "broken\nline");
    }

    #[test]
    fn the_filter_works_by_target_and_level() {
        let text = logged(Format::Text, "error,cryptorun_raft=debug", talk);
        let lines: Vec<&str> = text.lines().collect();
        assert!(text.contains("sealed") && text.contains("detail") && text.contains("broken"));
        assert!(!text.contains("noise"), "{lines:?}");
        assert!("info,cryptorun_raft=loud".parse::<Targets>().is_err());
    }

    #[test]
    fn each_json_line_is_one_object_with_its_fields() {
        let text = logged(Format::Json, "info", talk);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["message"], "sealed");
        assert_eq!(lines[0]["level"], "warn");
        assert_eq!(lines[0]["target"], "cryptorun_raft");
        assert_eq!(lines[0]["index"], 7);
        assert_eq!(lines[0]["by"], "n\"1");
        assert_eq!(lines[0]["ok"], true);
        assert_eq!(lines[1]["lag"], 0.5);
        assert_eq!(lines[1]["left"], -1);
        assert_eq!(lines[1]["why"], "Some(\"x\")");
        assert_eq!(lines[1]["message"], "broken\nline");
        let time = lines[0]["time"].as_str().unwrap();
        assert!(cryptorun_core::time::WallTime::parse(time).is_ok(), "{time}");
    }
}
