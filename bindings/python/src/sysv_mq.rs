//! System V message queue.

use std::os::fd::AsRawFd;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wigwag::{MqAccess, SysvMqOptions, SysvSelect};

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::support::{Bytes, Room, coroutine_on, fields, fileno_with, raise, wait};

pub(crate) fn access(word: &str) -> PyResult<MqAccess> {
    match word {
        "both" => Ok(MqAccess::Both),
        "receive" => Ok(MqAccess::Receive),
        "send" => Ok(MqAccess::Send),
        _ => Err(PyValueError::new_err("access must be 'both', 'receive' or 'send'")),
    }
}

/// A message that was received: ``data`` (bytes) and ``type``.
#[pyclass(frozen, get_all, module = "wigwag")]
pub struct SysvMessage {
    data: Py<PyBytes>,
    r#type: i64,
}

#[pymethods]
impl SysvMessage {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("wigwag.SysvMessage(data={}, type={})", self.data.bind(py).repr()?, self.r#type))
    }
}

impl SysvMessage {
    fn from(py: Python<'_>, message: wigwag::SysvMessage) -> SysvMessage {
        SysvMessage { data: PyBytes::new(py, &message.data).unbind(), r#type: message.kind }
    }
}

/// What the kernel knows about a System V queue: ``messages`` and ``bytes`` in it; ``bytes_max``; ``last_sender`` and
/// ``last_receiver`` (pids, 0 for none); ``sent_at``, ``received_at`` (0 for never) and ``changed_at`` (seconds of the wall
/// clock); ``key`` (0 if private), ``mode``, ``uid``, ``gid``.
#[pyclass(frozen, get_all, module = "wigwag")]
#[derive(Debug)]
pub struct SysvMqStatus {
    messages: usize,
    bytes: usize,
    bytes_max: usize,
    last_sender: i32,
    last_receiver: i32,
    sent_at: i64,
    received_at: i64,
    changed_at: i64,
    key: i32,
    mode: u32,
    uid: u32,
    gid: u32,
}

#[pymethods]
impl SysvMqStatus {
    fn __repr__(&self) -> String {
        fields(self)
    }
}

/// The system's limits on System V queues, and what is in use: ``message_max`` (kernel.msgmax), ``bytes_max``
/// (kernel.msgmnb), ``queues_max`` (kernel.msgmni); ``queues``, and ``messages`` and ``bytes`` in all of them.
#[pyclass(frozen, get_all, module = "wigwag")]
#[derive(Debug)]
pub struct SysvMqLimits {
    message_max: usize,
    bytes_max: usize,
    queues_max: usize,
    queues: usize,
    messages: usize,
    bytes: usize,
}

#[pymethods]
impl SysvMqLimits {
    fn __repr__(&self) -> String {
        fields(self)
    }
}

/// A System V message queue (``sysv-mq:path#65``, ``sysv-mq:0xKEY``, ``sysv-mq:private``): messages with a type each, picked
/// by type. Made by ``SysvMq.open()``, ``create()``, ``open_or_create()`` or ``from_id()``.
///
/// A message is taken whole by one receiver. The queue and the messages in it outlive every process until somebody removes
/// the queue; closing the object leaves it as it is. It has a descriptor when ``fileno()`` asks for one.
#[pyclass(frozen, module = "wigwag")]
pub struct SysvMq(Handle<wigwag::SysvMq>);

fn made(py: Python<'_>, queue: wigwag::Result<wigwag::SysvMq>) -> PyResult<SysvMq> {
    Ok(SysvMq(Handle::new("SysvMq", queue.map_err(|error| raise(py, error))?)))
}

fn selection(r#type: Option<i64>, up_to: Option<i64>, all_but: Option<i64>) -> PyResult<SysvSelect> {
    match (r#type, up_to, all_but) {
        (None, None, None) => Ok(SysvSelect::Any),
        (Some(number), None, None) => Ok(SysvSelect::Type(number)),
        (None, Some(bound), None) => Ok(SysvSelect::UpTo(bound)),
        (None, None, Some(number)) => Ok(SysvSelect::AllBut(number)),
        _ => Err(PyTypeError::new_err("give one of type, up_to and all_but")),
    }
}

#[pymethods]
impl SysvMq {
    /// Open a queue that exists. Never blocks.
    ///
    /// ``access`` is "both", "receive" or "send"; ``bytes`` is how many it must be allowed to hold, 0 for any number.
    /// Raises FileNotFoundError, PermissionError, FileExistsError if it may hold another number of bytes.
    #[staticmethod]
    #[pyo3(signature = (address, access = "both", bytes = 0))]
    fn open(py: Python<'_>, address: AddressLike, access: &str, bytes: usize) -> PyResult<SysvMq> {
        let options = SysvMqOptions { access: self::access(access)?, mode: 0, bytes };
        made(py, py.detach(|| wigwag::SysvMq::open(&address.0, &options)))
    }

    /// Create a queue, which must not exist yet; ``"sysv-mq:private"`` is another one each time. Never blocks.
    ///
    /// ``mode`` is 0o600 and ``bytes``, the most that its messages together may have, the system's kernel.msgmnb, unless the
    /// address says otherwise. Raises FileExistsError; FileNotFoundError if the file that its key is derived from does not
    /// exist; OSError with errno ENOSPC if the system has no room for one more; PermissionError for too many bytes.
    #[staticmethod]
    #[pyo3(signature = (address, access = "both", mode = 0, bytes = 0))]
    fn create(py: Python<'_>, address: AddressLike, access: &str, mode: u32, bytes: usize) -> PyResult<SysvMq> {
        let options = SysvMqOptions { access: self::access(access)?, mode, bytes };
        made(py, wigwag::SysvMq::create(&address.0, &options))
    }

    /// Open a queue, or create it if it does not exist. Never blocks. Otherwise as open and create.
    #[staticmethod]
    #[pyo3(signature = (address, access = "both", mode = 0, bytes = 0))]
    fn open_or_create(py: Python<'_>, address: AddressLike, access: &str, mode: u32, bytes: usize) -> PyResult<SysvMq> {
        let options = SysvMqOptions { access: self::access(access)?, mode, bytes };
        made(py, py.detach(|| wigwag::SysvMq::open_or_create(&address.0, &options)))
    }

    /// Take over a queue by its id, as another process has passed it on. Never blocks.
    ///
    /// Raises OSError with errno EIDRM if there is none (any more), PermissionError.
    #[staticmethod]
    fn from_id(py: Python<'_>, id: i32) -> PyResult<SysvMq> {
        made(py, wigwag::SysvMq::from_id(id))
    }

    /// Remove a queue by its address, with all messages in it. Never blocks. Raises FileNotFoundError, PermissionError.
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        wigwag::SysvMq::remove(&address.0).map_err(|error| raise(py, error))
    }

    /// The limits of the system, and what is in use. Never blocks.
    #[staticmethod]
    fn limits(py: Python<'_>) -> PyResult<SysvMqLimits> {
        let found = wigwag::SysvMq::limits().map_err(|error| raise(py, error))?;
        Ok(SysvMqLimits {
            message_max: found.message_max,
            bytes_max: found.bytes_max,
            queues_max: found.queues_max,
            queues: found.queues,
            messages: found.messages,
            bytes: found.bytes,
        })
    }

    /// Put a message in the queue, with a type of 1 or more; waits while the queue is full.
    ///
    /// Raises OSError with errno EMSGSIZE if it is larger than the system or the queue allows, EIDRM if the queue was
    /// removed, EINVAL for the type; PermissionError, TimeoutError, BlockingIOError with a timeout of 0.
    #[pyo3(signature = (data, r#type = 1, timeout = None))]
    fn send(&self, py: Python<'_>, data: Bytes, r#type: i64, timeout: Option<f64>) -> PyResult<()> {
        let queue = self.0.get()?;
        let bytes = data.as_slice();
        wait(py, timeout, |timeout| queue.send(bytes, r#type, timeout))
    }

    /// Take a message out of the queue: the oldest, or the oldest of this ``type``, or of the lowest type ``up_to`` a bound,
    /// or of any type ``all_but`` one; waits until there is one.
    ///
    /// Raises OSError with errno EIDRM if the queue was removed, EINVAL for a type below 1; PermissionError, TimeoutError,
    /// BlockingIOError with a timeout of 0.
    #[pyo3(signature = (r#type = None, up_to = None, all_but = None, timeout = None))]
    fn recv(
        &self,
        py: Python<'_>,
        r#type: Option<i64>,
        up_to: Option<i64>,
        all_but: Option<i64>,
        timeout: Option<f64>,
    ) -> PyResult<SysvMessage> {
        let (queue, select) = (self.0.get()?, selection(r#type, up_to, all_but)?);
        wait(py, timeout, |timeout| queue.recv(select, timeout)).map(|message| SysvMessage::from(py, message))
    }

    /// As recv, into a writable buffer; the size of the message and its type.
    ///
    /// A message that is larger than the buffer raises OSError with errno EMSGSIZE (its size is the exception's
    /// ``true_size``) and stays in the queue; with ``cut=True`` it is taken and the rest dropped, and the size tells.
    #[pyo3(signature = (buffer, r#type = None, up_to = None, all_but = None, cut = false, timeout = None))]
    #[allow(clippy::too_many_arguments)] // keywords in Python
    fn recv_into(
        &self,
        py: Python<'_>,
        mut buffer: Room,
        r#type: Option<i64>,
        up_to: Option<i64>,
        all_but: Option<i64>,
        cut: bool,
        timeout: Option<f64>,
    ) -> PyResult<(usize, i64)> {
        let (queue, select) = (self.0.get()?, selection(r#type, up_to, all_but)?);
        let room = buffer.as_mut_slice();
        let received = wait(py, timeout, |timeout| {
            if cut { queue.recv_into_cut(select, room, timeout) } else { queue.recv_into(select, room, timeout) }
        })?;
        Ok((received.size, received.kind))
    }

    /// As recv, to be awaited; see fileno.
    #[pyo3(signature = (r#type = None, up_to = None, all_but = None, timeout = None))]
    fn recv_async<'py>(
        slf: &Bound<'py, Self>,
        r#type: Option<i64>,
        up_to: Option<i64>,
        all_but: Option<i64>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let select = (r#type, up_to, all_but);
        coroutine_on(slf, "recv", &fileno_with(slf, select)?, false, timeout, select)
    }

    /// A descriptor, to poll: readable when there may be a message that recv with the same arguments takes.
    ///
    /// It hears senders that know nothing of this library. It stays readable until such a recv finds nothing, so receive
    /// until BlockingIOError. A forked child asks again and gets one of its own. The cost, from the first call on: a helper
    /// thread, a descriptor, and for each message that finds the queue empty two switches of context. A message without
    /// bytes that comes while the helper waits is taken by it and sent again at once (``handed_back`` counts them): one sent
    /// in that instant goes before it, and killing this process in that instant loses it. Raises PermissionError (sending
    /// must be allowed as well, for that reason), OSError (EINVAL, EIDRM, EMFILE, ENFILE, ENOMEM).
    #[pyo3(signature = (r#type = None, up_to = None, all_but = None))]
    fn fileno(&self, py: Python<'_>, r#type: Option<i64>, up_to: Option<i64>, all_but: Option<i64>) -> PyResult<i32> {
        let (queue, select) = (self.0.get()?, selection(r#type, up_to, all_but)?);
        queue.doorbell(select).map(|fd| fd.as_raw_fd()).map_err(|error| raise(py, error))
    }

    /// How many messages without bytes the helpers of fileno have taken and put back.
    #[getter]
    fn handed_back(&self) -> PyResult<usize> {
        Ok(self.0.get()?.handed_back())
    }

    /// A copy of the message at a place in the queue, 0 for the oldest, which stays there. Never blocks.
    ///
    /// Raises BlockingIOError if there is none; OSError with errno ENOTSUP if the kernel is built without it, EIDRM if the
    /// queue was removed.
    #[pyo3(signature = (place = 0))]
    fn peek(&self, py: Python<'_>, place: usize) -> PyResult<SysvMessage> {
        let message = self.0.get()?.peek(place).map_err(|error| raise(py, error))?;
        Ok(SysvMessage::from(py, message))
    }

    /// What the kernel knows about it. Never blocks. Raises OSError with errno EIDRM if it was removed, PermissionError.
    fn status(&self, py: Python<'_>) -> PyResult<SysvMqStatus> {
        let found = self.0.get()?.status().map_err(|error| raise(py, error))?;
        Ok(SysvMqStatus {
            messages: found.messages,
            bytes: found.bytes,
            bytes_max: found.bytes_max,
            last_sender: found.last_sender,
            last_receiver: found.last_receiver,
            sent_at: found.sent_at,
            received_at: found.received_at,
            changed_at: found.changed_at,
            key: found.key,
            mode: found.mode,
            uid: found.uid,
            gid: found.gid,
        })
    }

    /// Change how many bytes the messages in it may have together; those in it stay. Never blocks.
    ///
    /// Raises PermissionError if it belongs to another user, or for more than kernel.msgmnb; OSError with errno EINVAL for 0.
    fn resize(&self, py: Python<'_>, bytes: usize) -> PyResult<()> {
        self.0.get()?.resize(bytes).map_err(|error| raise(py, error))
    }

    /// Remove the queue with all messages in it; waits on it, in every process, end with errno EIDRM. Never blocks.
    ///
    /// Raises OSError with errno EIDRM if it was removed before, PermissionError.
    fn unlink(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.unlink().map_err(|error| raise(py, error))
    }

    /// The kernel's number of the queue, by which other processes can adopt it.
    #[getter]
    fn id(&self) -> PyResult<i32> {
        Ok(self.0.get()?.id())
    }

    /// The address.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// Let go of it; threads that wait on it get OSError with errno ECANCELED. The queue stays. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(
            py,
            |queue| queue.doorbells().map(|fd| fd.as_raw_fd()).collect::<Vec<_>>(),
            wigwag::SysvMq::end_waits,
        )
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
        self.0.describe(|queue| format!("{} id={}", queue.address(), queue.id()))
    }
}
