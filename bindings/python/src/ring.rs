//! Ring: messages through shared memory.

use std::os::fd::{AsFd, AsRawFd};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use wigwag::{RingFull, RingOptions, RingRole};

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::support::{Bytes, adopt, fields, raise, wait};
use crate::sync::{Waiting, reduce};

/// A message that was received: ``data`` (bytes), and ``deliveries``, how often it has been taken, this time included:
/// above 1, somebody took it before and died, and may have acted on it.
#[pyclass(frozen, get_all, module = "wigwag")]
pub struct RingMessage {
    data: Py<PyBytes>,
    deliveries: u32,
}

#[pymethods]
impl RingMessage {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("wigwag.RingMessage(data={}, deliveries={})", self.data.bind(py).repr()?, self.deliveries))
    }
}

/// What a ring has seen. Always ``sent == released + borrowed + queued + dropped``, whoever died when.
///
/// ``writing`` places are reserved and not committed; ``aborted`` and ``skipped`` ones were given up, or left half-written by
/// producers that died, and never sent; ``redelivered`` is how often a message was given back after it had been taken.
/// ``slots`` each hold one message of up to ``largest`` bytes; ``bytes`` is all memory; ``participants`` handles are open.
#[pyclass(frozen, get_all, module = "wigwag")]
#[derive(Debug)]
pub struct RingStatistics {
    sent: u64,
    released: u64,
    borrowed: u64,
    queued: u64,
    dropped: u64,
    writing: u64,
    aborted: u64,
    skipped: u64,
    redelivered: u64,
    slots: u64,
    largest: usize,
    bytes: usize,
    participants: usize,
}

#[pymethods]
impl RingStatistics {
    fn __repr__(&self) -> String {
        fields(self)
    }
}

/// A ring (``ring:name``): a queue of messages in shared memory, each of which goes to one of its consumers.
///
/// Any number of producers and consumers. A process killed at any instruction loses nothing that it had sent and hangs
/// nobody: a message that a consumer had taken is delivered again, and says so. Works across processes, which open it by its
/// address or inherit it. Made by ``Ring.open()``, ``Ring.anonymous()`` and ``Ring.from_fd()``.
#[pyclass(frozen, module = "wigwag")]
pub struct Ring(Handle<wigwag::Ring>);

fn full(text: &str) -> PyResult<RingFull> {
    match text {
        "wait" => Ok(RingFull::Wait),
        "fail" => Ok(RingFull::Fail),
        "drop-newest" => Ok(RingFull::DropNewest),
        "drop-oldest" => Ok(RingFull::DropOldest),
        _ => Err(PyValueError::new_err("full must be 'wait', 'fail', 'drop-newest' or 'drop-oldest'")),
    }
}

fn role(text: &str) -> PyResult<RingRole> {
    match text {
        "either" => Ok(RingRole::Either),
        "producer" => Ok(RingRole::Producer),
        "consumer" => Ok(RingRole::Consumer),
        _ => Err(PyValueError::new_err("role must be 'either', 'producer' or 'consumer'")),
    }
}

#[pymethods]
impl Ring {
    /// Open the ring of this address, or make it; what it is counts only for the one who makes it. Never blocks.
    ///
    /// ``capacity`` is memory for messages in bytes, reserved at once (1 MiB by default), ``largest`` the largest message
    /// (1024 by default), ``participants`` how many handles may be open at the same time (256). When the last producer has
    /// gone consumers get BrokenPipeError once the ring is empty, and producers when the last consumer has gone, unless it is
    /// ``persistent``. The handle's own: ``full``, what it does when the ring is full (``"wait"``, ``"fail"``,
    /// ``"drop-newest"``, ``"drop-oldest"``; what is dropped is counted), ``role`` (``"either"``, ``"producer"``,
    /// ``"consumer"``), and ``wait`` (``"adaptive"``, ``"block"``, ``"poll"``). Raises OSError (EINVAL, ENOSPC, EACCES;
    /// EBADMSG: there is something else; EPROTO: made by an incompatible version; EUSERS: no room for another handle).
    #[staticmethod]
    #[pyo3(signature = (address, capacity = 0, largest = 0, *, participants = 0, persistent = false, mode = 0, full = "wait",
        role = "either", wait = Waiting::default()))]
    #[allow(clippy::too_many_arguments)] // one for each keyword
    fn open(
        py: Python<'_>,
        address: AddressLike,
        capacity: u64,
        largest: u64,
        participants: u32,
        persistent: bool,
        mode: u32,
        full: &str,
        role: &str,
        wait: Waiting,
    ) -> PyResult<Ring> {
        let (full, role, wait) = (self::full(full)?, self::role(role)?, wait.0);
        let options =
            RingOptions { capacity, largest, participants, persistent, mode, full, role, wait, ..Default::default() };
        let opened = wigwag::Ring::open(&address.0, options).map_err(|error| raise(py, error))?;
        Ok(Ring(Handle::new("Ring", opened)))
    }

    /// Make a ring without a name, for children made by fork, and for others by its descriptor. Options as in open. Never
    /// blocks.
    #[staticmethod]
    #[pyo3(signature = (capacity = 0, largest = 0, *, participants = 0, persistent = false, full = "wait", role = "either",
        wait = Waiting::default()))]
    #[allow(clippy::too_many_arguments)] // one for each keyword
    fn anonymous(
        py: Python<'_>,
        capacity: u64,
        largest: u64,
        participants: u32,
        persistent: bool,
        full: &str,
        role: &str,
        wait: Waiting,
    ) -> PyResult<Ring> {
        let (full, role, wait) = (self::full(full)?, self::role(role)?, wait.0);
        let options =
            RingOptions { capacity, largest, participants, persistent, full, role, wait, ..Default::default() };
        let made = wigwag::Ring::anonymous(options).map_err(|error| raise(py, error))?;
        Ok(Ring(Handle::new("Ring", made)))
    }

    /// Join the ring whose descriptor came from a parent or a peer; the descriptor then belongs to the object. Never blocks.
    ///
    /// Raises OSError (EBADMSG: it is something else; EPROTO, EUSERS).
    #[staticmethod]
    #[pyo3(signature = (fd, *, full = "wait", role = "either", wait = Waiting::default()))]
    fn from_fd(py: Python<'_>, fd: i32, full: &str, role: &str, wait: Waiting) -> PyResult<Ring> {
        let (full, role, wait) = (self::full(full)?, self::role(role)?, wait.0);
        let options = RingOptions { full, role, wait, ..Default::default() };
        let joined = adopt(py, fd, |fd| wigwag::Ring::from_fd(fd, options))?;
        Ok(Ring(Handle::new("Ring", joined)))
    }

    /// Remove a name: those who have it open go on using it. Never blocks. Raises FileNotFoundError, PermissionError.
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        wigwag::Ring::remove(&address.0).map_err(|error| raise(py, error))
    }

    /// Raise OSError (ESTALE) if the name no longer stands for this ring. Never blocks.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.check().map_err(|error| raise(py, error))
    }

    /// Send a copy of these bytes as one message; waits while the ring is full, if that is what the handle does.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0 or ``full="fail"``, BrokenPipeError: the last consumer has
    /// gone, OSError (EMSGSIZE: larger than the largest; ESTALE, EBADMSG).
    #[pyo3(signature = (data, timeout = None))]
    fn send(&self, py: Python<'_>, data: Bytes<'_>, timeout: Option<f64>) -> PyResult<()> {
        let ring = self.0.get()?;
        let bytes = data.as_slice();
        wait(py, timeout, |timeout| ring.send(bytes, timeout))
    }

    /// Take the oldest message; waits while there is none.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0, BrokenPipeError: the ring is empty and the last producer has
    /// gone, OSError (ESTALE, EBADMSG).
    #[pyo3(signature = (timeout = None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<RingMessage> {
        let ring = self.0.get()?;
        // Taken, copied into what Python gets, and only then released: an error in between loses nothing.
        let borrowed = wait(py, timeout, |timeout| ring.borrow(timeout))?;
        let data = PyBytes::new_with(py, borrowed.length(), |room| {
            borrowed.read(0, room);
            Ok(())
        })?;
        let deliveries = borrowed.deliveries();
        borrowed.release().map_err(|error| raise(py, error))?;
        Ok(RingMessage { data: data.unbind(), deliveries })
    }

    /// What the ring has seen. Never blocks.
    fn statistics(&self, py: Python<'_>) -> PyResult<RingStatistics> {
        let seen = self.0.get()?.statistics().map_err(|error| raise(py, error))?;
        Ok(RingStatistics {
            sent: seen.sent,
            released: seen.released,
            borrowed: seen.borrowed,
            queued: seen.queued,
            dropped: seen.dropped,
            writing: seen.writing,
            aborted: seen.aborted,
            skipped: seen.skipped,
            redelivered: seen.redelivered,
            slots: seen.slots,
            largest: seen.largest,
            bytes: seen.bytes,
            participants: seen.participants.len(),
        })
    }

    /// The descriptor of its memory, to pass on for from_fd; it stays the object's.
    fn segment_fd(&self) -> PyResult<i32> {
        Ok(self.0.get()?.as_fd().as_raw_fd())
    }

    /// The address; ``"ring:"`` for one without a name.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |_| None, wigwag::Ring::end_waits)
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    /// It pickles as its address; without a name only along with a process that multiprocessing starts.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let object = slf.get().0.get()?;
        reduce(slf.as_any(), object.address(), &PyDict::new(slf.py()))
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
        self.0.describe(|object| object.address().to_owned())
    }
}
