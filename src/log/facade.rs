//! A log as the backend of the crate `log`: `log::set_boxed_logger(Box::new(log))`, then `log::set_max_level`.

use std::time::Duration;

use ::log::kv::{self, Key, Value, VisitSource};
use ::log::{Level, Log as Backend, Metadata, Record};

use super::{Log, LogLevel, LogRecord, LogValue};
use crate::timeout::Timeout;

/// `flush` cannot fail and takes no timeout; what is not written by then stays in memory, and is written later.
const FLUSH: Timeout = Timeout::After(Duration::from_secs(5));

/// A value that lives as long as the record is put together.
enum Owned {
    Text(String),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Flag(bool),
}

impl Owned {
    fn of(value: &Value<'_>) -> Owned {
        if let Some(flag) = value.to_bool() {
            Owned::Flag(flag)
        } else if let Some(number) = value.to_i64() {
            Owned::Signed(number)
        } else if let Some(number) = value.to_u64() {
            Owned::Unsigned(number)
        } else if let Some(number) = value.to_f64() {
            Owned::Float(number)
        } else {
            Owned::Text(value.to_string())
        }
    }

    fn lent(&self) -> LogValue<'_> {
        match self {
            Owned::Text(text) => LogValue::Text(text),
            Owned::Signed(number) => LogValue::Signed(*number),
            Owned::Unsigned(number) => LogValue::Unsigned(*number),
            Owned::Float(number) => LogValue::Float(*number),
            Owned::Flag(flag) => LogValue::Flag(*flag),
        }
    }
}

#[derive(Default)]
struct Fields(Vec<(String, Owned)>);

impl<'a> VisitSource<'a> for Fields {
    fn visit_pair(&mut self, key: Key<'a>, value: Value<'a>) -> Result<(), kv::Error> {
        self.0.push((key.to_string(), Owned::of(&value)));
        Ok(())
    }
}

fn level(level: Level) -> LogLevel {
    match level {
        Level::Error => LogLevel::Error,
        Level::Warn => LogLevel::Warn,
        Level::Info => LogLevel::Info,
        Level::Debug => LogLevel::Debug,
        Level::Trace => LogLevel::Trace,
    }
}

impl Backend for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.is_enabled(level(metadata.level()))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.is_enabled(level(record.level())) {
            return;
        }
        let mut fields = Fields::default();
        // The visitor refuses nothing.
        let _ = record.key_values().visit(&mut fields);
        let fields: Vec<_> = fields.0.iter().map(|(key, value)| (key.as_str(), value.lent())).collect();
        let text;
        let message = match record.args().as_str() {
            Some(message) => message,
            None => {
                text = record.args().to_string();
                &text
            }
        };
        // Nobody can be told here: what there was no room for is counted, and the file says so.
        let _ = Log::log(
            self,
            &LogRecord {
                level: level(record.level()),
                target: record.target(),
                file: record.file().unwrap_or_default(),
                line: record.line().unwrap_or(0),
                message,
                fields: &fields,
            },
        );
    }

    fn flush(&self) {
        let _ = self.drain(FLUSH); // trouble shows in the log's statistics
    }
}
