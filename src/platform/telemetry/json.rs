//! One JSON object a line: `time`, `level`, `target`, `message`, then the event's own fields.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::clock::{Clock as _, SystemClock};

pub struct Lines<W> {
    write: W,
}

impl<W: Fn(&str)> Lines<W> {
    /// `write` is given each line with its newline.
    pub fn new(write: W) -> Self {
        Self { write }
    }
}

impl<S: Subscriber, W: Fn(&str) + 'static> Layer<S> for Lines<W> {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let meta = event.metadata();
        let mut fields = Fields(Map::new());
        fields.put("time", SystemClock.wall().to_string());
        fields.put("level", meta.level().as_str().to_ascii_lowercase());
        fields.put("target", meta.target());
        event.record(&mut fields);
        (self.write)(&format!("{}\n", Value::Object(fields.0)));
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Messages and `%value`s come this way too, already fit to be shown.
        self.put(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }
}
