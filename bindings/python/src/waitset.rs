//! Wait set.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use wigwag::{Interest, Readiness, WAITSET_BATCH};

use crate::handle::Handle;
use crate::support::{borrow, coroutine, raise, wait};

/// Waits for whichever comes first of any number of descriptors, timers and children.
///
/// Each entry has a token of the caller's choice, an int from 0 to 2**64 - 1 that no other entry has. Level-triggered: an
/// entry is reported by every wait for as long as the condition lasts; a timer's expirations are counted, and reported to
/// one wait only. Any thread may add, change and remove while others wait. The set does not keep descriptors open: remove
/// an entry before closing its object. It belongs to the process that made it: in a forked child every method raises
/// OSError with errno ENOTSUP. Raises OSError (EMFILE, ENFILE).
#[pyclass(frozen, module = "wigwag")]
pub struct WaitSet(Handle<wigwag::WaitSet>);

/// One entry of a WaitSet that has something to say.
#[pyclass(frozen, get_all, module = "wigwag")]
pub struct WaitSetEvent {
    /// The token that the entry was added with.
    token: u64,
    /// Something can be read, or the end of the stream, or a connection can be accepted.
    readable: bool,
    /// Something can be written.
    writable: bool,
    /// The other side is gone; what it left can still be read.
    hangup: bool,
    /// An error is pending, which a read or write tells; or nobody reads this pipe any more.
    error: bool,
    /// The child has ended.
    ended: bool,
    /// For a child that has ended: its exit status, or the negated number of the signal that killed it, as in subprocess;
    /// None if it has been reaped by now, or is no child of this process.
    returncode: Option<i32>,
    /// For a timer: how often it has expired since it was last reported; more than 1 means that some were missed.
    expirations: u64,
}

#[pymethods]
impl WaitSet {
    /// Interest: something can be read, or the end of the stream, or a connection can be accepted.
    #[classattr]
    const READABLE: u32 = Interest::READABLE.bits();

    /// Interest: something can be written.
    #[classattr]
    const WRITABLE: u32 = Interest::WRITABLE.bits();

    #[new]
    fn new(py: Python<'_>) -> PyResult<WaitSet> {
        Ok(WaitSet(Handle::new("WaitSet", wigwag::WaitSet::new().map_err(|error| raise(py, error))?)))
    }

    /// Add a descriptor, or an object with ``fileno()``. ``interest`` is READABLE, WRITABLE, both (``|``) or 0: hang-up
    /// and error are reported in any case.
    ///
    /// Raises FileExistsError (the token or the descriptor is in the set already), PermissionError (the kernel cannot poll
    /// it, being a regular file or a directory), OSError (EBADF; EINVAL, ELOOP for sets in themselves; ENOSPC at the limit
    /// fs.epoll.max_user_watches).
    #[pyo3(signature = (fileobj, token, interest = 1))]
    fn add(&self, py: Python<'_>, fileobj: &Bound<'_, PyAny>, token: u64, interest: u32) -> PyResult<()> {
        let set = self.0.get()?;
        // SAFETY: `fileobj` is borrowed for the call, and with it what keeps its descriptor open.
        let fd = unsafe { borrow(fileobj) }?;
        set.add(&fd, self::interest(interest)?, token).map_err(|error| raise(py, error))
    }

    /// Add a timer that expires ``first`` seconds from now and then every ``period`` seconds, if one is given.
    ///
    /// A wait that comes late reports all expirations with one event. A timer without a period stays in the set, at rest,
    /// until ``change_timer``. Raises FileExistsError, OSError (EMFILE, ENFILE, ENOSPC), ValueError for negative times.
    #[pyo3(signature = (first, token, period = None))]
    fn add_timer(&self, py: Python<'_>, first: f64, token: u64, period: Option<f64>) -> PyResult<()> {
        let set = self.0.get()?;
        let (first, period) = times(first, period)?;
        set.add_timer(first, period, token).map_err(|error| raise(py, error))
    }

    /// Add the end of a child: a pid, or an object with ``pid``, such as ``subprocess.Popen``. One that has ended already
    /// is reported at once.
    ///
    /// The child is not reaped: that stays with whoever started it. Raises ProcessLookupError, ChildProcessError (not a
    /// child of this process, and the kernel has no pidfd), FileExistsError, OSError (EINVAL, EMFILE, ENFILE, ENOSPC;
    /// ENOMEM if a helper thread is needed and none can be had).
    fn add_child(&self, py: Python<'_>, process: &Bound<'_, PyAny>, token: u64) -> PyResult<()> {
        let set = self.0.get()?;
        let pid: i32 = match process.extract() {
            Ok(pid) => pid,
            Err(_) => process.getattr("pid")?.extract()?,
        };
        set.add_child(pid, token).map_err(|error| raise(py, error))
    }

    /// Change what a descriptor is watched for. Raises FileNotFoundError (no entry has the token), OSError (EINVAL for a
    /// timer or a child; EBADF if it was closed while it was in the set).
    fn change(&self, py: Python<'_>, token: u64, interest: u32) -> PyResult<()> {
        let set = self.0.get()?;
        set.change(token, self::interest(interest)?).map_err(|error| raise(py, error))
    }

    /// Start a timer anew, with other times, and forget expirations that were not reported. Raises FileNotFoundError,
    /// OSError (EINVAL if it is not a timer), ValueError for negative times.
    #[pyo3(signature = (token, first, period = None))]
    fn change_timer(&self, py: Python<'_>, token: u64, first: f64, period: Option<f64>) -> PyResult<()> {
        let set = self.0.get()?;
        let (first, period) = times(first, period)?;
        set.change_timer(token, first, period).map_err(|error| raise(py, error))
    }

    /// Remove an entry. Raises FileNotFoundError (no entry has the token), OSError with errno EBADF (it is removed, but its
    /// descriptor was closed while it was in the set).
    fn remove(&self, py: Python<'_>, token: u64) -> PyResult<()> {
        let set = self.0.get()?;
        py.detach(|| set.remove(token)).map_err(|error| raise(py, error))
    }

    /// Wait until at least one entry has something to say; a list of up to ``limit`` WaitSetEvent, and of 256 at most.
    /// What does not fit comes first the next time.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0, OSError (EBADF if a descriptor was closed before it was
    /// removed while a duplicate keeps it reported; EINVAL for a limit of 0).
    #[pyo3(signature = (limit = 256, timeout = None))]
    fn wait(&self, py: Python<'_>, limit: usize, timeout: Option<f64>) -> PyResult<Vec<WaitSetEvent>> {
        let set = self.0.get()?;
        let mut events = [wigwag::WaitSetEvent::default(); WAITSET_BATCH];
        let room = events.get_mut(..limit.min(WAITSET_BATCH)).unwrap_or_default();
        let count = self::wait(py, timeout, |timeout| set.wait(room, timeout))?;
        Ok(events.iter().take(count).map(WaitSetEvent::from).collect())
    }

    /// As wait, to be awaited.
    #[pyo3(signature = (limit = 256, timeout = None))]
    fn wait_async<'py>(slf: &Bound<'py, Self>, limit: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf, "wait", false, timeout, (limit,))
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(self.0.get()?.len())
    }

    fn __bool__(&self) -> bool {
        true // an object, not a collection: an empty set is a set
    }

    /// Its name in errors, ``"waitset"``.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// The set's own descriptor, to poll: readable while an entry has something to say.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.0.get()?.as_fd().as_raw_fd())
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. What is in it stays open. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |set| Some(set.as_fd().as_raw_fd()), wigwag::WaitSet::end_waits)
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
        self.0.describe(|set| format!("fd={} entries={}", set.as_fd().as_raw_fd(), set.len()))
    }
}

#[pymethods]
impl WaitSetEvent {
    fn __repr__(&self) -> String {
        let mut text = format!("<wigwag.WaitSetEvent token={}", self.token);
        for (holds, word) in [
            (self.readable, " readable"),
            (self.writable, " writable"),
            (self.hangup, " hangup"),
            (self.error, " error"),
            (self.ended, " ended"),
        ] {
            text.push_str(if holds { word } else { "" });
        }
        if let Some(code) = self.returncode {
            text.push_str(&format!(" returncode={code}"));
        }
        if self.expirations != 0 {
            text.push_str(&format!(" expirations={}", self.expirations));
        }
        text + ">"
    }
}

impl From<&wigwag::WaitSetEvent> for WaitSetEvent {
    fn from(event: &wigwag::WaitSetEvent) -> WaitSetEvent {
        let is = |readiness| event.readiness.contains(readiness);
        WaitSetEvent {
            token: event.token,
            readable: is(Readiness::READABLE),
            writable: is(Readiness::WRITABLE),
            hangup: is(Readiness::HANGUP),
            error: is(Readiness::ERROR),
            ended: is(Readiness::ENDED),
            returncode: event.status.and_then(|status| status.code().or(status.signal().map(|signal| -signal))),
            expirations: event.expirations,
        }
    }
}

fn interest(bits: u32) -> PyResult<Interest> {
    Interest::from_bits(bits)
        .ok_or_else(|| PyValueError::new_err("interest must be WaitSet.READABLE, WaitSet.WRITABLE, both or 0"))
}

fn times(first: f64, period: Option<f64>) -> PyResult<(Duration, Option<Duration>)> {
    Ok((duration(first)?, period.map(duration).transpose()?))
}

/// Beyond what a duration holds is for ever, as with timeouts.
fn duration(seconds: f64) -> PyResult<Duration> {
    if seconds >= 0.0 {
        Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    } else {
        Err(PyValueError::new_err("a timer's times must be seconds from 0"))
    }
}
