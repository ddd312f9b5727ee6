//! POSIX message queue.

use std::os::fd::{AsFd, AsRawFd};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wigwag::MqOptions;

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::support::{Bytes, Room, adopt, coroutine, fields, raise, wait};
use crate::sysv_mq::access;

/// A message that was received: ``data`` (bytes) and ``priority``.
#[pyclass(frozen, get_all, module = "wigwag")]
pub struct MqMessage {
    data: Py<PyBytes>,
    priority: u32,
}

#[pymethods]
impl MqMessage {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("wigwag.MqMessage(data={}, priority={})", self.data.bind(py).repr()?, self.priority))
    }
}

/// What a POSIX queue was created with: ``depth`` (how many messages it holds) and ``size`` (the largest in bytes); and how
/// many ``messages`` are in it now.
#[pyclass(frozen, get_all, module = "wigwag")]
#[derive(Debug)]
pub struct MqAttributes {
    depth: usize,
    size: usize,
    messages: usize,
}

#[pymethods]
impl MqAttributes {
    fn __repr__(&self) -> String {
        fields(self)
    }
}

/// The system's limits on POSIX queues: ``depth_max`` (fs.mqueue.msg_max), ``size_max`` (fs.mqueue.msgsize_max),
/// ``queues_max`` (fs.mqueue.queues_max); ``depth_default`` and ``size_default``; ``user_bytes``, the most that all queues of
/// this user together may take (RLIMIT_MSGQUEUE).
#[pyclass(frozen, get_all, module = "wigwag")]
#[derive(Debug)]
pub struct MqLimits {
    depth_max: usize,
    size_max: usize,
    depth_default: usize,
    size_default: usize,
    queues_max: usize,
    user_bytes: u64,
}

#[pymethods]
impl MqLimits {
    fn __repr__(&self) -> String {
        fields(self)
    }
}

/// A POSIX message queue (``mq:/name``): the oldest message of the highest priority first, on a descriptor to poll. Made by
/// ``Mq.open()``, ``create()``, ``open_or_create()`` or ``from_fd()``.
///
/// A message is taken whole by one receiver. The queue and the messages in it outlive every process; its name stays until
/// it is unlinked, the queue until the last descriptor is closed as well.
#[pyclass(frozen, module = "wigwag")]
pub struct Mq(Handle<wigwag::Mq>);

fn made(py: Python<'_>, queue: wigwag::Result<wigwag::Mq>) -> PyResult<Mq> {
    Ok(Mq(Handle::new("Mq", queue.map_err(|error| raise(py, error))?)))
}

#[pymethods]
impl Mq {
    /// The highest priority that a message can have.
    #[classattr]
    const PRIORITY_MAX: u32 = wigwag::MQ_PRIORITY_MAX;

    /// Open a queue that exists. Never blocks.
    ///
    /// ``access`` is "both", "receive" or "send"; ``depth`` and ``size`` are what it must have, 0 for anything. Raises
    /// FileNotFoundError, PermissionError, FileExistsError if it has another depth or size.
    #[staticmethod]
    #[pyo3(signature = (address, access = "both", depth = 0, size = 0))]
    fn open(py: Python<'_>, address: AddressLike, access: &str, depth: usize, size: usize) -> PyResult<Mq> {
        let options = MqOptions { access: self::access(access)?, mode: 0, depth, size };
        made(py, wigwag::Mq::open(&address.0, &options))
    }

    /// Create a queue of ``depth`` messages of at most ``size`` bytes, whose name must not exist yet. Never blocks.
    ///
    /// ``mode``, set against the umask, is 0o600, and depth and size are the system's defaults, unless the address says
    /// otherwise. Raises FileExistsError; OSError with errno EINVAL for more than the system allows, ENOSPC if it has no room
    /// for one more queue, EMFILE if this user's queues would take more than RLIMIT_MSGQUEUE.
    #[staticmethod]
    #[pyo3(signature = (address, access = "both", mode = 0, depth = 0, size = 0))]
    fn create(
        py: Python<'_>,
        address: AddressLike,
        access: &str,
        mode: u32,
        depth: usize,
        size: usize,
    ) -> PyResult<Mq> {
        let options = MqOptions { access: self::access(access)?, mode, depth, size };
        made(py, wigwag::Mq::create(&address.0, &options))
    }

    /// Open a queue, or create it if it does not exist. Never blocks. Otherwise as open and create.
    #[staticmethod]
    #[pyo3(signature = (address, access = "both", mode = 0, depth = 0, size = 0))]
    fn open_or_create(
        py: Python<'_>,
        address: AddressLike,
        access: &str,
        mode: u32,
        depth: usize,
        size: usize,
    ) -> PyResult<Mq> {
        let options = MqOptions { access: self::access(access)?, mode, depth, size };
        made(py, wigwag::Mq::open_or_create(&address.0, &options))
    }

    /// Take over a queue's descriptor that something else has opened; its mode is left as it is. The descriptor then belongs
    /// to the object.
    #[staticmethod]
    fn from_fd(py: Python<'_>, fd: i32) -> PyResult<Mq> {
        adopt(py, fd, |fd| Ok(wigwag::Mq::from_fd(fd))).map(|queue| Mq(Handle::new("Mq", queue)))
    }

    /// Remove the name of a queue; those who have it open go on. Never blocks. Raises FileNotFoundError, PermissionError.
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        wigwag::Mq::remove(&address.0).map_err(|error| raise(py, error))
    }

    /// The limits of the system. Never blocks.
    #[staticmethod]
    fn limits() -> MqLimits {
        let found = wigwag::Mq::limits();
        MqLimits {
            depth_max: found.depth_max,
            size_max: found.size_max,
            depth_default: found.depth_default,
            size_default: found.size_default,
            queues_max: found.queues_max,
            user_bytes: found.user_bytes,
        }
    }

    /// Put a message in the queue, with a priority up to ``Mq.PRIORITY_MAX``; waits while the queue is full.
    ///
    /// Raises OSError with errno EMSGSIZE if it is larger than the queue allows, EINVAL for the priority, EBADF if the queue
    /// is open for receiving only; TimeoutError, BlockingIOError with a timeout of 0.
    #[pyo3(signature = (data, priority = 0, timeout = None))]
    fn send(&self, py: Python<'_>, data: Bytes, priority: u32, timeout: Option<f64>) -> PyResult<()> {
        let queue = self.0.get()?;
        let bytes = data.as_slice();
        wait(py, timeout, |timeout| queue.send(bytes, priority, timeout))
    }

    /// Take the oldest message of the highest priority; waits while the queue is empty.
    ///
    /// Raises OSError with errno EBADF if the queue is open for sending only; TimeoutError, BlockingIOError with a timeout
    /// of 0.
    #[pyo3(signature = (timeout = None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<MqMessage> {
        let queue = self.0.get()?;
        let message = wait(py, timeout, |timeout| queue.recv(timeout))?;
        Ok(MqMessage { data: PyBytes::new(py, &message.data).unbind(), priority: message.priority })
    }

    /// As recv, into a writable buffer; the size of the message and its priority.
    ///
    /// The kernel wants a buffer as large as the largest message that the queue allows: a smaller one raises OSError with
    /// errno EMSGSIZE (the size it must have is the exception's ``true_size``) and nothing is taken. With ``cut=True`` what
    /// does not fit is dropped, and the size tells.
    #[pyo3(signature = (buffer, cut = false, timeout = None))]
    fn recv_into(&self, py: Python<'_>, mut buffer: Room, cut: bool, timeout: Option<f64>) -> PyResult<(usize, u32)> {
        let queue = self.0.get()?;
        let room = buffer.as_mut_slice();
        let received =
            wait(
                py,
                timeout,
                |timeout| {
                    if cut { queue.recv_into_cut(room, timeout) } else { queue.recv_into(room, timeout) }
                },
            )?;
        Ok((received.size, received.priority))
    }

    /// As send, to be awaited.
    #[pyo3(signature = (data, priority = 0, timeout = None))]
    fn send_async<'py>(
        slf: &Bound<'py, Self>,
        data: Bound<'py, PyAny>,
        priority: u32,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf, "send", true, timeout, (data, priority))
    }

    /// As recv, to be awaited.
    #[pyo3(signature = (timeout = None))]
    fn recv_async<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf, "recv", false, timeout, ())
    }

    /// What it was created with, and how many messages are in it. Never blocks.
    fn attributes(&self, py: Python<'_>) -> PyResult<MqAttributes> {
        let found = self.0.get()?.attributes().map_err(|error| raise(py, error))?;
        Ok(MqAttributes { depth: found.depth, size: found.size, messages: found.messages })
    }

    /// Have ``signal`` with ``value`` sent to this process, once, when next a message comes into the empty queue while
    /// nobody receives. Never blocks.
    ///
    /// Each queue has place for one process at a time; the signal frees it, and so do closing any object of the queue in this
    /// process and ``cancel_notify()``. Those who wait by polling, as this library does, do not count as receiving: where a
    /// wait on the descriptor serves as well, it is the better way. Raises OSError with errno EBUSY if a process has the
    /// place, EINVAL if there is no such signal or it cannot be handled.
    #[pyo3(signature = (signal, value = 0))]
    fn notify(&self, py: Python<'_>, signal: i32, value: i32) -> PyResult<()> {
        self.0.get()?.notify(signal, value).map_err(|error| raise(py, error))
    }

    /// Take back what ``notify()`` asked for; no error if there is nothing to take back. Never blocks.
    fn cancel_notify(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.cancel_notify().map_err(|error| raise(py, error))
    }

    /// The address.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// The descriptor, to poll: readable while a message is in the queue, writable while there is room.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.0.get()?.as_fd().as_raw_fd())
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. The queue stays. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |queue| Some(queue.as_fd().as_raw_fd()), wigwag::Mq::end_waits)
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
        self.0.describe(|queue| format!("{} fd={}", queue.address(), queue.as_fd().as_raw_fd()))
    }
}
