//! A log as a layer of the crate `tracing`.

use std::fmt::{Debug, Write};

use tracing_core::field::{Field, Visit};
use tracing_core::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::{Log, LogLevel, LogRecord, LogValue};

/// Logs the events of `tracing`, with their fields, and the names of the spans that they happen in, the outermost first, as
/// `span`.
///
/// The log's level filter decides, which counts for all processes; a filter of the program's own can be put before it.
#[derive(Debug)]
pub struct LogLayer(Log);

impl LogLayer {
    /// Logs into this log.
    pub fn new(log: Log) -> LogLayer {
        LogLayer(log)
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.0
    }
}

enum Owned {
    Text(String),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Flag(bool),
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Owned)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}"); // a string takes all
        } else {
            self.others.push((field.name(), Owned::Text(format!("{value:?}"))));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.others.push((field.name(), Owned::Text(value.into())));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.others.push((field.name(), Owned::Signed(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.others.push((field.name(), Owned::Unsigned(value)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.others.push((field.name(), Owned::Float(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.others.push((field.name(), Owned::Flag(value)));
    }
}

fn level(level: &Level) -> LogLevel {
    match *level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let about = event.metadata();
        let level = level(about.level());
        if !self.0.is_enabled(level) {
            return;
        }
        let mut found = Fields::default();
        event.record(&mut found);
        let spans: Vec<_> = context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
            .map(|span| span.name())
            .collect();
        if !spans.is_empty() {
            found.others.push(("span", Owned::Text(spans.join(":"))));
        }
        let lent = |value| match value {
            &Owned::Signed(number) => LogValue::Signed(number),
            &Owned::Unsigned(number) => LogValue::Unsigned(number),
            &Owned::Float(number) => LogValue::Float(number),
            &Owned::Flag(flag) => LogValue::Flag(flag),
            Owned::Text(text) => LogValue::Text(text),
        };
        let fields: Vec<_> = found.others.iter().map(|(key, value)| (*key, lent(value))).collect();
        // Nobody can be told here: what there was no room for is counted, and the file says so.
        let _ = self.0.log(&LogRecord {
            level,
            target: about.target(),
            file: about.file().unwrap_or_default(),
            line: about.line().unwrap_or(0),
            message: &found.message,
            fields: &fields,
        });
    }
}
