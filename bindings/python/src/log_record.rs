//! From a ``logging.LogRecord`` to a record of a log, in one call.

use std::borrow::Cow;

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyFloat, PyFrozenSet, PyInt, PyString, PyTuple};
use wigwag::{LogLevel, LogOrigin, LogRecord, LogValue};

use crate::support::raise;

/// The level that has a number of ``logging``'s.
pub(crate) fn of_python(number: i64) -> LogLevel {
    match number {
        ..10 => LogLevel::Trace,
        10..20 => LogLevel::Debug,
        20..30 => LogLevel::Info,
        30..40 => LogLevel::Warn,
        40..50 => LogLevel::Error,
        50.. => LogLevel::Fatal,
    }
}

enum Value {
    Text(String),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Flag(bool),
}

impl Value {
    fn of(object: &Bound<'_, PyAny>) -> PyResult<Value> {
        if let Ok(flag) = object.cast::<PyBool>() {
            return Ok(Value::Flag(flag.is_true()));
        }
        if object.is_instance_of::<PyFloat>() {
            return Ok(Value::Float(object.extract()?));
        }
        if object.is_instance_of::<PyInt>() {
            if let Ok(number) = object.extract() {
                return Ok(Value::Signed(number));
            }
            if let Ok(number) = object.extract() {
                return Ok(Value::Unsigned(number));
            }
        }
        match owned(object) {
            // One value that cannot be told is no reason to lose the rest of the record.
            Err(error) if error.is_instance_of::<PyException>(object.py()) => Ok(Value::Text(format!("<{error}>"))),
            text => text.map(Value::Text),
        }
    }

    fn lend(&self) -> LogValue<'_> {
        match self {
            Value::Text(text) => LogValue::Text(text),
            Value::Signed(number) => LogValue::Signed(*number),
            Value::Unsigned(number) => LogValue::Unsigned(*number),
            Value::Float(number) => LogValue::Float(*number),
            Value::Flag(flag) => LogValue::Flag(*flag),
        }
    }
}

fn owned(object: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(object.str()?.to_string_lossy().into_owned())
}

/// Key-value pairs.
pub(crate) struct Fields(Vec<(String, Value)>);

impl Fields {
    pub(crate) fn of<'py>(pairs: impl IntoIterator<Item = (Bound<'py, PyAny>, Bound<'py, PyAny>)>) -> PyResult<Fields> {
        let one = |(key, value): (Bound<'py, PyAny>, Bound<'py, PyAny>)| Ok((owned(&key)?, Value::of(&value)?));
        Ok(Fields(pairs.into_iter().map(one).collect::<PyResult<_>>()?))
    }

    pub(crate) fn lend(&self) -> Vec<(&str, LogValue<'_>)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.lend())).collect()
    }

    /// About what they take in a record.
    fn length(&self) -> usize {
        let value = |value: &Value| if let Value::Text(text) = value { text.len() } else { 8 };
        self.0.iter().map(|(key, held)| 8 + key.len() + value(held)).sum()
    }
}

/// Logs without letting go of the interpreter where there is room, and detached where it has to wait for some.
pub(crate) fn send(py: Python<'_>, log: &wigwag::Log, record: &LogRecord<'_>, origin: &LogOrigin) -> PyResult<()> {
    sent(py, log, record, origin).map_err(|error| raise(py, error))
}

fn sent(py: Python<'_>, log: &wigwag::Log, record: &LogRecord<'_>, origin: &LogOrigin) -> wigwag::Result<()> {
    match log.log_at_once(record, origin) {
        Ok(true) => Ok(()),
        Ok(false) => py.detach(|| log.log_anyway(record, origin)),
        Err(error) => Err(error),
    }
}

/// What every record has, and what formatters add.
fn usual(py: Python<'_>) -> PyResult<&'static (Py<PyFrozenSet>, usize)> {
    static USUAL: PyOnceLock<(Py<PyFrozenSet>, usize)> = PyOnceLock::new();
    USUAL.get_or_try_init(py, || {
        let module = py.import("wigwag.log")?;
        let names = module.getattr("_USUAL")?.cast_into::<PyFrozenSet>()?;
        Ok((names.unbind(), module.getattr("_COUNT")?.extract()?))
    })
}

fn text<'py>(object: Option<Bound<'py, PyAny>>) -> PyResult<Option<Bound<'py, PyString>>> {
    match object {
        None => Ok(None),
        Some(object) if object.is_none() => Ok(None),
        Some(object) => object.str().map(Some),
    }
}

/// Where it was made, if not here: a record may come from another process or thread by a queue.
fn origin(attributes: &Bound<'_, PyDict>) -> PyResult<LogOrigin> {
    let py = attributes.py();
    let created = attributes.get_item(intern!(py, "created"))?;
    let created: f64 = created.and_then(|created| created.extract().ok()).unwrap_or(0.0);
    let number = |name| -> PyResult<Option<u64>> {
        Ok(attributes.get_item(name)?.and_then(|number: Bound<'_, PyAny>| number.extract().ok()))
    };
    // Some are told to leave these out (logging.logProcesses, logging.logThreads).
    let process = number(intern!(py, "process"))?.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    let thread = number(intern!(py, "thread"))?;
    let own = std::process::id();
    // SAFETY: no arguments, always succeeds; Python's identifier of a thread on Linux (threading.get_ident) is this one.
    let is_here = thread.is_none_or(|thread| thread == unsafe { libc::pthread_self() } as u64);
    let pid = if process == 0 || process == own { if is_here { 0 } else { own } } else { process };
    Ok(LogOrigin { time: (created * 1e9) as u64, pid, tid: 0 })
}

/// What has been added to the record, and those of its own attributes that are asked for.
fn fields<'py>(attributes: &Bound<'py, PyDict>, asked: Option<&Bound<'py, PyTuple>>) -> PyResult<Fields> {
    let (usual, count) = usual(attributes.py())?;
    let mut pairs = Vec::new();
    for name in asked.into_iter().flatten() {
        if let Some(value) = attributes.get_item(&name)?.filter(|value| !value.is_none()) {
            pairs.push((name, value));
        }
    }
    if attributes.len() > *count {
        let usual = usual.bind(attributes.py());
        // A copy: `str` of a value may run anything.
        for pair in attributes.items() {
            let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair.extract()?;
            if !usual.contains(&key)? {
                pairs.push((key, value));
            }
        }
    }
    Fields::of(pairs)
}

/// What a record takes beside its texts, about.
const HEADER: usize = 64;

pub(crate) fn log<'py>(
    log: &wigwag::Log,
    record: &Bound<'py, PyAny>,
    message: Option<Bound<'py, PyString>>,
    asked: Option<&Bound<'py, PyTuple>>,
) -> PyResult<()> {
    let py = record.py();
    let attributes = record.getattr(intern!(py, "__dict__"))?.cast_into::<PyDict>()?;
    let get = |name| attributes.get_item(name);
    let level = get(intern!(py, "levelno"))?.map_or(Ok(0), |number| number.extract())?;
    let level = of_python(level);
    if !log.is_enabled(level) {
        return Ok(());
    }
    let target = text(get(intern!(py, "name"))?)?;
    let source = text(get(intern!(py, "pathname"))?)?;
    let target = target.as_ref().map_or(Cow::Borrowed(""), |text| text.to_string_lossy());
    let source = source.as_ref().map_or(Cow::Borrowed(""), |text| text.to_string_lossy());
    let line = get(intern!(py, "lineno"))?.and_then(|line| line.extract().ok()).unwrap_or(0);
    let fields = fields(&attributes, asked)?;
    let message = match message {
        Some(message) => message,
        None => {
            let room = log.largest().saturating_sub(HEADER + target.len() + source.len() + fields.length());
            message_of(record, &attributes, room)?
        }
    };
    let message = message.to_string_lossy();
    let fields = fields.lend();
    let told = LogRecord { level, target: &target, file: &source, line, message: &message, fields: &fields };
    match sent(py, log, &told, &origin(&attributes)?) {
        // It is counted, and the file says so: not to be taken for an error of whatever has put the record together.
        Err(error) if error.errno() == libc::EAGAIN => Ok(()),
        sent => sent.map_err(|error| raise(py, error)),
    }
}

/// The message, with traceback and stack if there are any, for which there is so much room.
fn message_of<'py>(
    record: &Bound<'py, PyAny>,
    attributes: &Bound<'py, PyDict>,
    room: usize,
) -> PyResult<Bound<'py, PyString>> {
    let py = record.py();
    let message = record.call_method0(intern!(py, "getMessage"))?.str()?;
    for name in [intern!(py, "exc_info"), intern!(py, "exc_text"), intern!(py, "stack_info")] {
        if attributes.get_item(name)?.is_some_and(|value| !value.is_none()) {
            return py.import("wigwag.log")?.call_method1("_with_traceback", (record, message, room))?.str();
        }
    }
    Ok(message)
}
