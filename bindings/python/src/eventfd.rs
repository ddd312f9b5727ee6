//! Event counter.

use std::os::fd::{AsFd, AsRawFd};

use pyo3::prelude::*;
use wigwag::EventFdOptions;

use crate::handle::Handle;
use crate::support::{adopt, coroutine, raise, wait};

/// An event counter (``eventfd:``): one side adds to a 64-bit number in the kernel, the other takes from it.
///
/// With ``semaphore=True`` each take gives 1 and leaves the rest. Raises OSError (EMFILE, ENFILE; EINVAL for an initial
/// value above 2**64 - 2).
#[pyclass(frozen, module = "wigwag")]
pub struct EventFd(Handle<wigwag::EventFd>);

#[pymethods]
impl EventFd {
    #[new]
    #[pyo3(signature = (initial = 0, semaphore = false))]
    fn new(py: Python<'_>, initial: u64, semaphore: bool) -> PyResult<EventFd> {
        let eventfd = wigwag::EventFd::open(EventFdOptions { initial, semaphore });
        Ok(EventFd(Handle::new("EventFd", eventfd.map_err(|error| raise(py, error))?)))
    }

    /// Take over an eventfd descriptor that something else made; its mode is left as it is. The descriptor then belongs
    /// to the object.
    #[staticmethod]
    fn from_fd(py: Python<'_>, fd: i32) -> PyResult<EventFd> {
        adopt(py, fd, |fd| Ok(wigwag::EventFd::from_fd(fd))).map(|eventfd| EventFd(Handle::new("EventFd", eventfd)))
    }

    /// Add to the counter; waits while the sum would pass 2**64 - 2.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0, OSError (EINVAL for 2**64 - 1).
    #[pyo3(signature = (value = 1, timeout = None))]
    fn add(&self, py: Python<'_>, value: u64, timeout: Option<f64>) -> PyResult<()> {
        let eventfd = self.0.get()?;
        wait(py, timeout, |timeout| eventfd.add(value, timeout))
    }

    /// Take the whole counter, or 1 in semaphore mode; waits while it is zero.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0.
    #[pyo3(signature = (timeout = None))]
    fn take(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<u64> {
        let eventfd = self.0.get()?;
        wait(py, timeout, |timeout| eventfd.take(timeout))
    }

    /// As add, to be awaited.
    #[pyo3(signature = (value = 1, timeout = None))]
    fn add_async<'py>(slf: &Bound<'py, Self>, value: u64, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf, "add", true, timeout, (value,))
    }

    /// As take, to be awaited.
    #[pyo3(signature = (timeout = None))]
    fn take_async<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf, "take", false, timeout, ())
    }

    /// The address, ``"eventfd:"``.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// The descriptor, to poll: readable while the counter is above 0.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.0.get()?.as_fd().as_raw_fd())
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |eventfd| Some(eventfd.as_fd().as_raw_fd()), wigwag::EventFd::end_waits)
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
        self.0.describe(|eventfd| format!("fd={}", eventfd.as_fd().as_raw_fd()))
    }
}
