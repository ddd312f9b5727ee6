//! Signals: what they are, what is told about one, sending, masks and actions.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use pyo3::basic::CompareOp;
use pyo3::exceptions::{PyOSError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use wigwag::{DefaultAction, SignalAction as CoreAction, SignalMask as CoreMask, SignalTarget as CoreTarget};

use crate::handle::Handle;
use crate::support::{adopt, raise, wait};

/// A signal, by its name with or without SIG (``"USR1"``, ``"SIGTERM"``, ``"RTMIN+3"``) or its number.
///
/// Equal to its number, and so to the standard library's ``signal.SIGUSR1``; ``int(signal)`` gives it, ``str(signal)``
/// the full name. Where a function takes a signal, a name or a number does as well. Raises OSError with errno EINVAL
/// for what is no signal.
#[pyclass(frozen, module = "wigwag")]
#[derive(Clone, Copy)]
pub struct Signal(pub(crate) wigwag::Signal);

/// A signal as Python code may spell it.
pub(crate) struct AnySignal(pub(crate) wigwag::Signal);

impl<'a, 'py> FromPyObject<'a, 'py> for AnySignal {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<AnySignal> {
        let py = object.py();
        if let Ok(signal) = object.cast::<Signal>() {
            return Ok(AnySignal(signal.get().0));
        }
        let signal = match object.cast::<PyString>() {
            Ok(name) => name.to_str()?.parse(),
            Err(_) => match object.extract() {
                Ok(number) => wigwag::Signal::from_number(number),
                Err(error) if error.is_instance_of::<pyo3::exceptions::PyOverflowError>(py) => {
                    wigwag::Signal::from_number(0)
                }
                Err(_) => return Err(PyTypeError::new_err("a signal is a wigwag.Signal, a name or a number")),
            },
        };
        signal.map(AnySignal).map_err(|error| raise(py, error))
    }
}

/// One signal, or several in an iterable.
pub(crate) fn list(signals: &Bound<'_, PyAny>) -> PyResult<Vec<wigwag::Signal>> {
    if signals.cast::<PyString>().is_ok() || signals.cast::<Signal>().is_ok() || signals.extract::<i64>().is_ok() {
        return Ok(vec![signals.extract::<AnySignal>()?.0]);
    }
    signals.try_iter()?.map(|signal| Ok(signal?.extract::<AnySignal>()?.0)).collect()
}

#[pymethods]
impl Signal {
    #[new]
    fn new(signal: AnySignal) -> Signal {
        Signal(signal.0)
    }

    /// The number.
    #[getter]
    fn number(&self) -> i32 {
        self.0.number()
    }

    /// The full name, such as ``"SIGUSR1"`` or ``"SIGRTMIN+3"``.
    #[getter]
    fn name(&self) -> String {
        self.0.to_string()
    }

    /// What it does to a process that has made no arrangements: ``"terminate"``, ``"core"``, ``"ignore"``, ``"stop"`` or
    /// ``"continue"``.
    #[getter]
    fn default_action(&self) -> &'static str {
        match self.0.default_action() {
            DefaultAction::Terminate => "terminate",
            DefaultAction::Core => "core",
            DefaultAction::Ignore => "ignore",
            DefaultAction::Stop => "stop",
            DefaultAction::Continue => "continue",
        }
    }

    /// Whether several of it queue up, in order and each with its value; of the others one at a time can be pending.
    #[getter]
    fn is_real_time(&self) -> bool {
        self.0.is_real_time()
    }

    /// Send it to a process. Never blocks. The number may by now belong to another process than the one meant:
    /// SignalTarget excludes that.
    ///
    /// Raises ProcessLookupError, PermissionError, OSError (EINVAL for a pid below 1).
    fn send(&self, py: Python<'_>, pid: i32) -> PyResult<()> {
        self.0.send(pid).map_err(|error| raise(py, error))
    }

    /// Send it to a process with a number. Never blocks.
    ///
    /// Raises BlockingIOError when the receiver has as many signals pending as its RLIMIT_SIGPENDING allows; otherwise as
    /// send.
    fn send_value(&self, py: Python<'_>, pid: i32, value: i32) -> PyResult<()> {
        self.0.send_value(pid, value).map_err(|error| raise(py, error))
    }

    /// Send it to every process of a process group. Never blocks. Raises as send does.
    fn send_to_group(&self, py: Python<'_>, group: i32) -> PyResult<()> {
        self.0.send_to_group(group).map_err(|error| raise(py, error))
    }

    /// Send it to one thread (``threading.get_native_id()``) of a process. Never blocks. Raises as send does.
    fn send_to_thread(&self, py: Python<'_>, pid: i32, thread: i32) -> PyResult<()> {
        self.0.send_to_thread(pid, thread).map_err(|error| raise(py, error))
    }

    fn __int__(&self) -> i32 {
        self.0.number()
    }

    fn __index__(&self) -> i32 {
        self.0.number()
    }

    fn __hash__(&self) -> u64 {
        // As that of the number it is equal to.
        self.0.number().unsigned_abs().into()
    }

    fn __richcmp__(&self, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        let py = other.py();
        let Ok(number) = other.extract::<i64>() else { return Ok(py.NotImplemented()) };
        let result = op.matches(i64::from(self.0.number()).cmp(&number));
        Ok(pyo3::types::PyBool::new(py, result).to_owned().into_any().unbind())
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("wigwag.Signal({:?})", self.0.to_string())
    }

    fn __getnewargs__(&self) -> (i32,) {
        (self.0.number(),)
    }
}

/// One signal that came: which, from whom, with what. What the kernel does not say for a signal's kind is 0.
#[pyclass(frozen, module = "wigwag")]
pub struct SignalInfo(pub(crate) wigwag::SignalInfo);

#[pymethods]
impl SignalInfo {
    /// Which signal.
    #[getter]
    fn signal(&self) -> Signal {
        Signal(self.0.signal)
    }

    /// How it came, the kernel's si_code: 0 by kill, -1 with a value, -6 to a thread, above 0 from the kernel.
    #[getter]
    fn code(&self) -> i32 {
        self.0.code
    }

    /// The sender as this process sees it, 0 if it cannot; with SIGCHLD the child.
    #[getter]
    fn pid(&self) -> i32 {
        self.0.pid
    }

    /// The sender's real user; with SIGCHLD the child's.
    #[getter]
    fn uid(&self) -> u32 {
        self.0.uid
    }

    /// The number that was sent along.
    #[getter]
    fn value(&self) -> i32 {
        self.0.value
    }

    /// The same as a whole machine word, for senders that send a pointer.
    #[getter]
    fn pointer(&self) -> usize {
        self.0.pointer
    }

    /// With SIGCHLD: the exit status, or the signal that ended or stopped the child.
    #[getter]
    fn status(&self) -> i32 {
        self.0.status
    }

    /// With a timer: how many further expirations this signal stands for. With SIGIO: the descriptor.
    #[getter]
    fn detail(&self) -> i32 {
        self.0.detail
    }

    fn __repr__(&self) -> String {
        let info = &self.0;
        format!(
            "<wigwag.SignalInfo {} code={} pid={} uid={} value={}>",
            info.signal, info.code, info.pid, info.uid, info.value
        )
    }
}

/// Take the next pending signal of a set, waiting for one, without a handler: a SignalInfo.
///
/// The signals are blocked in the calling thread while this runs. Before and after they act as arranged, which for most
/// ends the process, and so they do at any time in a thread that has not blocked them: do it within
/// ``SignalMask.block(...)``, entered before further threads are made.
///
/// Raises TimeoutError, BlockingIOError with a timeout of 0, OSError (EINVAL for SIGKILL and SIGSTOP, EBUSY for the
/// signal that this library uses itself).
#[pyfunction]
#[pyo3(signature = (signals, timeout = None))]
pub fn wait_signal(py: Python<'_>, signals: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<SignalInfo> {
    let signals = list(signals)?;
    wait(py, timeout, |timeout| wigwag::wait_signal(&signals, timeout)).map(SignalInfo)
}

/// Signals that the calling thread blocks, or lets through, within ``with``: made by ``SignalMask.block()`` and
/// ``SignalMask.unblock()``. What was so before stays so after. A thread's mask passes to threads and children that it
/// makes.
#[pyclass(frozen, module = "wigwag")]
pub struct SignalMask {
    signals: Vec<wigwag::Signal>,
    blocks: bool,
    /// What each entering has changed; the innermost last.
    changed: std::sync::Mutex<Vec<Vec<i32>>>,
}

#[pymethods]
impl SignalMask {
    /// Block signals within ``with``. Entering raises OSError (EINVAL for SIGKILL and SIGSTOP, EBUSY for the signal that
    /// this library uses itself).
    #[staticmethod]
    fn block(signals: &Bound<'_, PyAny>) -> PyResult<SignalMask> {
        Ok(SignalMask { signals: list(signals)?, blocks: true, changed: std::sync::Mutex::default() })
    }

    /// Let signals through within ``with``. Entering raises as with block.
    #[staticmethod]
    fn unblock(signals: &Bound<'_, PyAny>) -> PyResult<SignalMask> {
        Ok(SignalMask { signals: list(signals)?, blocks: false, changed: std::sync::Mutex::default() })
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let (this, py) = (slf.get(), slf.py());
        let mask = if this.blocks { CoreMask::block(&this.signals) } else { CoreMask::unblock(&this.signals) };
        let mask = mask.map_err(|error| raise(py, error))?;
        let mut changed = this.changed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        changed.push(mask.changed().to_vec());
        mask.keep();
        Ok(slf.clone())
    }

    fn __exit__(&self, _type: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _traceback: &Bound<'_, PyAny>) {
        let changed = self.changed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
        CoreMask::undo(&changed.unwrap_or_default(), self.blocks);
    }

    fn __repr__(&self) -> String {
        format!("<wigwag.SignalMask {} {:?}>", if self.blocks { "blocks" } else { "lets through" }, self.signals)
    }
}

/// A signal that the process ignores, or leaves to its default action, until this is closed: made by
/// ``SignalAction.ignore()`` and ``SignalAction.default()``.
///
/// Below the standard library: ``signal.getsignal()`` goes on to tell the Python handler, which comes back with close.
#[pyclass(frozen, module = "wigwag")]
pub struct SignalAction(Handle<CoreAction>);

#[pymethods]
impl SignalAction {
    /// Ignore a signal. Raises OSError (EBUSY if it has subscriptions in this process, EINVAL for SIGKILL and SIGSTOP).
    #[staticmethod]
    fn ignore(py: Python<'_>, signal: AnySignal) -> PyResult<SignalAction> {
        let action = CoreAction::ignore(signal.0).map_err(|error| raise(py, error))?;
        Ok(SignalAction(Handle::new("SignalAction", action)))
    }

    /// Give a signal its default action. Raises as ignore does.
    #[staticmethod]
    fn default(py: Python<'_>, signal: AnySignal) -> PyResult<SignalAction> {
        let action = CoreAction::default_for(signal.0).map_err(|error| raise(py, error))?;
        Ok(SignalAction(Handle::new("SignalAction", action)))
    }

    /// Put back what the signal did before. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |_| None, |_| ())
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
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
        self.0.describe(|action| action.signal().to_string())
    }
}

/// A process to send signals to that stays the same one: once it has ended and is reaped, sending raises
/// ProcessLookupError, also when its number has gone to another. ``pid`` may be an address such as
/// ``"signal:USR1@1234"``, whose signal is then the default of ``send()``.
///
/// Open it while the process cannot have been reaped, as its parent or with a message from it at hand. Raises
/// ProcessLookupError, OSError (EINVAL, EMFILE).
#[pyclass(frozen, module = "wigwag")]
pub struct SignalTarget {
    target: Handle<CoreTarget>,
    signal: Option<wigwag::Signal>,
}

#[pymethods]
impl SignalTarget {
    #[new]
    fn new(py: Python<'_>, pid: &Bound<'_, PyAny>) -> PyResult<SignalTarget> {
        let opened = match pid.cast::<PyString>() {
            Ok(address) => wigwag::Address::parse(address.to_str()?)
                .and_then(|address| CoreTarget::at(&address))
                .map(|(target, signal)| (target, Some(signal))),
            Err(_) => CoreTarget::open(pid.extract()?).map(|target| (target, None)),
        };
        let (target, signal) = opened.map_err(|error| raise(py, error))?;
        Ok(SignalTarget { target: Handle::new("SignalTarget", target), signal })
    }

    /// Take over a pidfd, such as ``os.pidfd_open()`` gives. The descriptor then belongs to the object.
    ///
    /// Raises OSError with errno EBADF if it is none; the descriptor then stays the caller's.
    #[staticmethod]
    fn from_fd(py: Python<'_>, fd: i32) -> PyResult<SignalTarget> {
        let target = adopt(py, fd, |fd: OwnedFd| CoreTarget::from_fd(fd))?;
        Ok(SignalTarget { target: Handle::new("SignalTarget", target), signal: None })
    }

    /// Send a signal. Never blocks. Raises ProcessLookupError, PermissionError.
    #[pyo3(signature = (signal = None))]
    fn send(&self, py: Python<'_>, signal: Option<AnySignal>) -> PyResult<()> {
        let signal = self.or_own(signal)?;
        self.target.get()?.send(signal).map_err(|error| raise(py, error))
    }

    /// Send a signal with a number. Never blocks. Raises BlockingIOError when the receiver's queue is full; otherwise as
    /// send.
    #[pyo3(signature = (value, signal = None))]
    fn send_value(&self, py: Python<'_>, value: i32, signal: Option<AnySignal>) -> PyResult<()> {
        let signal = self.or_own(signal)?;
        self.target.get()?.send_value(signal, value).map_err(|error| raise(py, error))
    }

    /// Whether the process is there still; one that has ended and is not reaped yet is.
    #[getter]
    fn exists(&self) -> PyResult<bool> {
        Ok(self.target.get()?.exists())
    }

    /// Its number.
    #[getter]
    fn pid(&self) -> PyResult<i32> {
        Ok(self.target.get()?.pid())
    }

    /// How signals get there: ``"pidfd_send_signal"``, which cannot meet another process, or ``"kill"`` where the kernel
    /// lacks it, after a look at when the process started.
    #[getter]
    fn path(&self) -> PyResult<&'static str> {
        Ok(self.target.get()?.path())
    }

    /// The pidfd, readable once the process has ended. Raises OSError with errno ENOTSUP where the kernel has none.
    fn fileno(&self) -> PyResult<i32> {
        match self.target.get()?.pidfd() {
            Some(pidfd) => Ok(pidfd.as_fd().as_raw_fd()),
            None => Err(PyOSError::new_err((libc::ENOTSUP, "pidfd: this kernel, or the sandbox, has no pidfd_open"))),
        }
    }

    /// Let go of the process, which is not affected. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.target.close(py, |target| target.pidfd().map(|pidfd| pidfd.as_raw_fd()), |_| ())
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.target.is_closed()
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
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
        self.target.describe(|target| format!("pid={}", target.pid()))
    }
}

impl SignalTarget {
    fn or_own(&self, signal: Option<AnySignal>) -> PyResult<wigwag::Signal> {
        let own = || PyTypeError::new_err("which signal? Only a target made from an address has one of its own");
        signal.map(|signal| signal.0).or(self.signal).ok_or_else(own)
    }
}
