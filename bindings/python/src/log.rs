//! Logs: one file that all processes log into.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyString, PyTuple};
use wigwag::{LogFormat, LogFull, LogLevel, LogOptions, LogOrigin, LogRecord, LogSync, LogThrough, LogWriter, Timeout};

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::log_record::{Fields, of_python, send};
use crate::support::{in_thread, opened, raise, timeout};
use crate::sync::{SyncParticipant, Waiting, participants, reduce};

/// A level by its name, or by a number of ``logging``'s.
pub(crate) struct Level(LogLevel);

impl<'a, 'py> FromPyObject<'a, 'py> for Level {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Level> {
        if object.is_instance_of::<PyInt>() {
            return Ok(Level(of_python(object.extract()?)));
        }
        let name = object
            .extract::<std::borrow::Cow<'_, str>>()
            .map_err(|_| PyTypeError::new_err("a level is text or a number of logging's"))?;
        Ok(Level(match name.to_ascii_lowercase().as_str() {
            "trace" => LogLevel::Trace,
            "debug" => LogLevel::Debug,
            "info" => LogLevel::Info,
            "warn" | "warning" => LogLevel::Warn,
            "error" => LogLevel::Error,
            "fatal" | "critical" => LogLevel::Fatal,
            "off" => LogLevel::Off,
            _ => {
                return Err(PyValueError::new_err(
                    "level must be 'trace', 'debug', 'info', 'warn', 'error', 'fatal', 'off' or a number of logging's",
                ));
            }
        }))
    }
}

fn name(level: LogLevel) -> String {
    level.name().to_ascii_lowercase()
}

/// One of some words, the first of which is the default.
fn word<T: Copy>(name: &str, given: &str, words: &[(&str, T)]) -> PyResult<T> {
    words.iter().find(|(word, _)| *word == given).map(|(_, value)| *value).ok_or_else(|| {
        let all: Vec<_> = words.iter().map(|(word, _)| format!("'{word}'")).collect();
        PyValueError::new_err(format!("{name} must be {}", all.join(" or ")))
    })
}

/// A file that any number of processes log into (``log:name``), without a daemon: they elect one that writes, and when it dies
/// another takes over at the exact record.
///
/// What ``log()`` has returned for is written once, whoever is killed. ``wigwag.log.Handler`` is a handler of ``logging`` on
/// top. Made by ``Log.open()``; a child made by fork goes on using it, as itself.
#[pyclass(frozen, module = "wigwag")]
pub struct Log {
    log: Handle<wigwag::Log>,
    /// What it was opened with, which says how to make the log anew.
    address: String,
    full: LogFull,
    timeout: Option<f64>,
    writer: LogWriter,
}

#[pymethods]
impl Log {
    /// Open the log of this address, or make it. What is given and differs from the log that there is is refused. Never blocks.
    ///
    /// A plain name lies in ``$WIGWAG_DIR`` or ``/dev/shm/wigwag-UID``, one with a slash is a path on a tmpfs: the name of what
    /// is in memory. ``file`` is the file, which who makes the log has to name, here or in the address. ``format`` is
    /// ``"text"``, ``"json"`` or ``"logfmt"``; ``through`` what records travel through to the writer: ``"ring"``, or a message queue
    /// of the kernel's, ``"mq"`` or ``"sysv-mq"``; ``capacity`` how many bytes records may take that are not written yet, ``largest``
    /// the largest record (4000; what is longer is cut, and counted). ``rotate_size`` (bytes) and ``rotate_every`` (seconds) set
    /// the file aside, ``keep`` of those are kept (10), ``compress`` makes them ``.gz``. ``sync`` is ``"never"``, ``"always"`` or
    /// a number of seconds: when what is written is brought to the disk. These are the log's; the others are each handle's own.
    /// ``full`` says what happens when there is no room: ``"wait"``, for ``timeout`` seconds at most, or ``"drop"``. ``writer``
    /// is ``"elected"``, or ``"never"`` if others write, or who calls ``serve()`` or ``drain()``. Raises OSError (EINVAL,
    /// ENOSPC, EACCES; EBADMSG: there is something else; EPROTO: made by an incompatible version; EUSERS: no room for another
    /// handle; ENOMEM: no thread can be had).
    #[staticmethod]
    #[pyo3(signature = (address, file = None, *, format = None, through = None, capacity = 0, largest = 0, rotate_size = 0, rotate_every = 0,
        keep = 0, compress = false, sync = None, full = None, timeout = None, writer = "elected", participants = 0, mode = 0,
        wait = Waiting::default()))]
    #[allow(clippy::too_many_arguments)]
    fn open(
        py: Python<'_>,
        address: AddressLike,
        file: Option<PathBuf>,
        format: Option<&str>,
        through: Option<&str>,
        capacity: u64,
        largest: u64,
        rotate_size: u64,
        rotate_every: u64,
        keep: u32,
        compress: bool,
        sync: Option<&Bound<'_, PyAny>>,
        full: Option<&str>,
        timeout: Option<f64>,
        writer: &str,
        participants: u32,
        mode: u32,
        wait: Waiting,
    ) -> PyResult<Log> {
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json), ("logfmt", LogFormat::Logfmt)];
        let carriers = [("ring", LogThrough::Ring), ("mq", LogThrough::Mq), ("sysv-mq", LogThrough::SysvMq)];
        let from_text = address.0.option("full");
        let full = match full {
            Some(full) => word("full", full, &[("wait", LogFull::Wait), ("drop", LogFull::Drop)])?,
            None if from_text == Some(b"drop") => LogFull::Drop,
            None => LogFull::Wait,
        };
        let most = match crate::support::timeout(timeout)? {
            Timeout::Forever => None,
            Timeout::Now => Some(Duration::ZERO),
            Timeout::After(most) => Some(most),
        };
        let options = LogOptions {
            file: file.unwrap_or_default(),
            format: format.map(|format| word("format", format, &formats)).transpose()?.unwrap_or_default(),
            through: through.map(|through| word("through", through, &carriers)).transpose()?.unwrap_or_default(),
            capacity,
            largest,
            rotate_size,
            rotate_every: Duration::from_secs(rotate_every),
            keep,
            compress,
            sync: sync.map(sync_of).transpose()?.unwrap_or_default(),
            full,
            timeout: most,
            writer: word("writer", writer, &[("elected", LogWriter::Elected), ("never", LogWriter::Never)])?,
            participants,
            mode,
            wait: wait.0,
        };
        let writer = options.writer;
        let log = opened(py, || wigwag::Log::open(&address.0, options))?;
        Ok(Log { log: Handle::new("Log", log), address: address.0.to_string(), full, timeout, writer })
    }

    /// Remove a log's name and memory; the file stays. Never blocks.
    ///
    /// Raises FileNotFoundError, OSError (EBUSY: it holds records that are not written, drain it first; EBADMSG).
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        wigwag::Log::remove(&address.0).map_err(|error| raise(py, error))
    }

    /// Raise OSError (ESTALE) if the name no longer stands for this log. Never blocks.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.log.get()?.check().map_err(|error| raise(py, error))
    }

    /// Log a message, unless the level filter keeps it out; waits while there is no room, unless it was opened otherwise. Once
    /// it has returned, the record cannot be lost by anybody's death.
    ///
    /// ``level`` is a name such as ``"info"`` or a number of ``logging``'s, ``target`` which part of the program speaks,
    /// ``source`` and ``line`` where, ``fields`` a dict of further facts. Raises TimeoutError, BlockingIOError (with
    /// ``full="drop"``): there is no room, and the record was dropped and counted; OSError (ESTALE: this handle was declared
    /// dead; EBADMSG: the log is damaged).
    #[pyo3(signature = (level, message, *, target = "", source = "", line = 0, fields = None))]
    #[allow(clippy::too_many_arguments)]
    fn log(
        &self,
        py: Python<'_>,
        level: Level,
        message: &Bound<'_, PyString>,
        target: &str,
        source: &str,
        line: u32,
        fields: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let log = self.log.get()?;
        if !log.is_enabled(level.0) {
            return Ok(());
        }
        // A copy: what a value says of itself is said by Python, which may change the dictionary.
        let copy = fields.map(|fields| fields.copy()).transpose()?;
        let fields = Fields::of(copy.iter().flat_map(|fields| fields.iter()))?;
        let (message, fields) = (message.to_string_lossy(), fields.lend());
        let record = LogRecord { level: level.0, target, file: source, line, message: &message, fields: &fields };
        send(py, &log, &record, &LogOrigin::default())
    }

    /// Log a ``logging.LogRecord``, as ``wigwag.log.Handler`` does. Waits and raises as ``log()``, but drops the record in
    /// silence, counted, where there is no room and it does not wait.
    ///
    /// ``message`` is what stands in place of its message and traceback, ``attributes`` are names of its attributes that are
    /// logged as fields, beside those that were given to it by ``extra``.
    #[pyo3(signature = (record, message = None, attributes = None))]
    fn log_record(
        &self,
        record: &Bound<'_, PyAny>,
        message: Option<Bound<'_, PyString>>,
        attributes: Option<&Bound<'_, PyTuple>>,
    ) -> PyResult<()> {
        crate::log_record::log(&*self.log.get()?, record, message, attributes)
    }

    /// Whether a record of this level would be logged. Never blocks.
    fn is_enabled(&self, level: Level) -> PyResult<bool> {
        Ok(self.log.get()?.is_enabled(level.0))
    }

    /// The lowest level that is logged, ``"info"`` in a new log. Setting it, to a name or a number of ``logging``'s, holds for
    /// all processes at once. Never blocks.
    #[getter]
    fn level(&self) -> PyResult<String> {
        Ok(name(self.log.get()?.level()))
    }

    #[setter]
    fn set_level(&self, level: Level) -> PyResult<()> {
        self.log.get()?.set_level(level.0);
        Ok(())
    }

    /// Wait until all that was logged before, by whatever process, is in the file; writes it if nobody else does.
    ///
    /// Raises OSError (ENOSPC and the like: the file cannot be written at present, and what is logged is kept until it can be;
    /// ESTALE, EBADMSG), TimeoutError, BlockingIOError (with a timeout of 0).
    #[pyo3(signature = (timeout = None))]
    fn drain(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.detached(py, timeout, |log, timeout| log.drain(timeout))
    }

    /// As drain, to be awaited; the waiting is done on a thread of its own.
    #[pyo3(signature = (timeout = None))]
    fn drain_async<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        in_thread(&slf.getattr("drain")?, (), timeout, None)
    }

    /// Be the writer, as soon as there is no other, until the timeout is over: for a process or thread of its own. How many
    /// messages it dealt with. Trouble with the file does not end it. Raises OSError (ESTALE, EBADMSG).
    #[pyo3(signature = (timeout = None))]
    fn serve(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<u64> {
        self.detached(py, timeout, |log, timeout| log.serve(timeout))
    }

    /// Have the writer open the file anew, as after it was renamed, and wait until it has. Raises as drain.
    #[pyo3(signature = (timeout = None))]
    fn reopen(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.detached(py, timeout, |log, timeout| log.reopen(timeout))
    }

    /// As reopen, to be awaited; the waiting is done on a thread of its own.
    #[pyo3(signature = (timeout = None))]
    fn reopen_async<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        in_thread(&slf.getattr("reopen")?, (), timeout, None)
    }

    /// Have SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT logged until the log is closed, before what would have become of them.
    /// Never blocks; a crash waits for 1.5 s at most until it is logged.
    ///
    /// It holds for children made by fork too, as soon as they have logged something. ``faulthandler`` goes on working beside
    /// it. Raises OSError (ENOMEM: no thread can be had).
    fn log_crashes(&self, py: Python<'_>) -> PyResult<()> {
        self.log.get()?.log_crashes().map_err(|error| raise(py, error))
    }

    /// What the log has seen, and how it is. Never blocks. Raises OSError (EBADMSG, ESTALE).
    fn statistics(&self, py: Python<'_>) -> PyResult<LogStatistics> {
        let seen = self.log.get()?.statistics().map_err(|error| raise(py, error))?;
        Ok(LogStatistics {
            written: seen.written,
            queued: seen.queued,
            dropped: seen.dropped,
            cut: seen.cut,
            damaged: seen.damaged,
            skipped: seen.skipped,
            bytes: seen.bytes,
            rotations: seen.rotations,
            taken_over: seen.taken_over,
            disturbed: seen.disturbed,
            failures: seen.failures,
            trouble: seen.trouble,
            writer: seen.writer,
            level: name(seen.level),
            memory: seen.memory,
            participants: participants(seen.participants)
                .into_iter()
                .map(|participant| Py::new(py, participant))
                .collect::<PyResult<_>>()?,
        })
    }

    /// The path of the file.
    #[getter]
    fn file(&self) -> PyResult<PathBuf> {
        Ok(self.log.get()?.file().to_owned())
    }

    /// The largest record, in bytes.
    #[getter]
    fn largest(&self) -> PyResult<usize> {
        Ok(self.log.get()?.largest())
    }

    /// The address that it was opened with.
    #[getter]
    fn address(&self) -> PyResult<&str> {
        self.log.get()?;
        Ok(&self.address)
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. Writes what is there if nobody else does. Closing
    /// twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.log.close(py, |_| None, |log| log.end_waits())
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.log.is_closed()
    }

    /// It pickles as its address and what is the handle's own.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let this = slf.get();
        let log = this.log.get()?;
        let options = PyDict::new(slf.py());
        if wigwag::Address::parse(&this.address).is_ok_and(|address| address.option("file").is_some()) {
            options.set_item("file", log.file())?; // where it lies seen from here: another may be in another directory
        }
        options.set_item("full", if this.full == LogFull::Drop { "drop" } else { "wait" })?;
        options.set_item("timeout", this.timeout)?;
        options.set_item("writer", if this.writer == LogWriter::Never { "never" } else { "elected" })?;
        reduce(slf.as_any(), &this.address, &options)
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        slf.log.get()?;
        Ok(slf)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _type: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        self.log.describe(|log| format!("{} file={:?}", log.address(), log.file()))
    }
}

impl Log {
    /// For calls that may write the file themselves: never with the interpreter held.
    fn detached<T: Send>(
        &self,
        py: Python<'_>,
        seconds: Option<f64>,
        call: impl FnOnce(&wigwag::Log, Timeout) -> wigwag::Result<T> + Send,
    ) -> PyResult<T> {
        let log = self.log.get()?;
        let timeout = timeout(seconds)?;
        py.detach(|| call(&log, timeout)).map_err(|error| raise(py, error))
    }
}

fn sync_of(given: &Bound<'_, PyAny>) -> PyResult<LogSync> {
    let wrong = || PyValueError::new_err("sync must be 'never', 'always' or a number of seconds from 0.001");
    if let Ok(text) = given.cast::<PyString>() {
        return match &*text.to_string_lossy() {
            "never" => Ok(LogSync::Never),
            "always" => Ok(LogSync::Always),
            _ => Err(wrong()),
        };
    }
    let every = Duration::try_from_secs_f64(given.extract()?).map_err(|_| wrong())?;
    if every.as_millis() == 0 { Err(wrong()) } else { Ok(LogSync::Interval(every)) }
}

/// What a log has seen, and how it is.
///
/// ``written`` records are in the file, ``queued`` are not yet, ``dropped`` had no room, ``cut`` were too long, ``damaged``
/// were none, ``skipped`` were half-sent by processes that died. ``bytes`` and ``rotations`` tell of the file and its
/// predecessors; ``taken_over`` how often a writer took over from a dead one, ``disturbed`` how often others had changed the
/// file, ``failures`` how many writes failed, ``trouble`` why nothing can be written at present, as an errno (0: nothing is
/// in the way). ``writer`` is the process that writes, or None, ``memory`` in bytes.
#[pyclass(frozen, module = "wigwag", get_all)]
pub struct LogStatistics {
    written: u64,
    queued: u64,
    dropped: u64,
    cut: u64,
    damaged: u64,
    skipped: u64,
    bytes: u64,
    rotations: u64,
    taken_over: u64,
    disturbed: u64,
    failures: u64,
    trouble: i32,
    writer: Option<u32>,
    level: String,
    memory: usize,
    participants: Vec<Py<SyncParticipant>>,
}

#[pymethods]
impl LogStatistics {
    fn __repr__(&self) -> String {
        format!(
            "<wigwag.LogStatistics written={} queued={} dropped={} cut={} rotations={} failures={} trouble={} writer={} level={}>",
            self.written,
            self.queued,
            self.dropped,
            self.cut,
            self.rotations,
            self.failures,
            self.trouble,
            self.writer.map_or("None".into(), |pid| pid.to_string()),
            self.level
        )
    }
}
