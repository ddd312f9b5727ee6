//! Subscription: what is published on a topic.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::handle::Handle;
use crate::loan::TopicBorrowed;
use crate::support::{Room, coroutine, new_bytes, raise, wait};

/// So much is taken in one batch, unless the first message is larger.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_MESSAGES: usize = 1024;

/// A message that was received: ``data`` (bytes), ``sequence``, which message of the topic it is (the first is 1), and
/// ``missed``, how many this subscriber has missed since the one that it received before.
#[pyclass(frozen, get_all, module = "wigwag")]
pub struct TopicMessage {
    data: Py<PyBytes>,
    sequence: u64,
    missed: u64,
}

#[pymethods]
impl TopicMessage {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let data = self.data.bind(py).repr()?;
        Ok(format!("wigwag.TopicMessage(data={data}, sequence={}, missed={})", self.sequence, self.missed))
    }
}

/// A subscription to a topic; made by ``Topic.subscribe()``. It belongs to the process that made it.
#[pyclass(frozen, module = "wigwag")]
pub struct Subscription(Handle<Arc<wigwag::Subscription>>);

impl Subscription {
    pub(crate) fn new(subscription: wigwag::Subscription) -> Subscription {
        Subscription(Handle::new("Subscription", Arc::new(subscription)))
    }
}

#[pymethods]
impl Subscription {
    /// Receive the next message; waits while there is none.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0, ConnectionAbortedError: it was stuck for longer than its limit
    /// and was cut off, PermissionError: it belongs to the process that this one was forked from, OSError (ESTALE, EBADMSG).
    #[pyo3(signature = (timeout = None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<TopicMessage> {
        let subscription = self.0.get()?;
        let (mut sequence, mut missed) = (0, 0);
        let data = new_bytes(py, subscription.largest(), |room| {
            let received = wait(py, timeout, |timeout| subscription.recv(room, timeout))?;
            (sequence, missed) = (received.sequence, received.missed);
            Ok(received.length)
        })?;
        Ok(TopicMessage { data: data.unbind(), sequence, missed })
    }

    /// As recv, into a writable buffer; the length of the message, its sequence number, and how many were missed before it.
    ///
    /// Raises as recv, and OSError (EMSGSIZE: the buffer is too small; ``true_size`` says how long the message is, which is
    /// left).
    #[pyo3(signature = (buffer, timeout = None))]
    fn recv_into(&self, py: Python<'_>, mut buffer: Room, timeout: Option<f64>) -> PyResult<(usize, u64, u64)> {
        let subscription = self.0.get()?;
        let room = buffer.as_mut_slice();
        let received = wait(py, timeout, |timeout| subscription.recv(room, timeout))?;
        Ok((received.length, received.sequence, received.missed))
    }

    /// Receive up to ``limit`` messages, at least one; waits while there is none. Raises as recv.
    #[pyo3(signature = (limit = 64, timeout = None))]
    fn recv_batch(&self, py: Python<'_>, limit: usize, timeout: Option<f64>) -> PyResult<Vec<TopicMessage>> {
        let subscription = self.0.get()?;
        let mut received = vec![wigwag::TopicReceived::default(); limit.min(BATCH_MESSAGES)];
        // What does not fit is left for the next call; the largest message always does.
        let largest = subscription.largest();
        let mut room = vec![0; (largest * received.len()).min(largest.max(BATCH_BYTES))];
        let count = wait(py, timeout, |timeout| subscription.recv_batch(&mut room, &mut received, timeout))?;
        let mut left = &room[..];
        let mut one = |received: &wigwag::TopicReceived| {
            let (data, rest) = left.split_at_checked(received.length).unwrap_or((left, &[]));
            left = rest;
            let (data, sequence, missed) = (PyBytes::new(py, data).unbind(), received.sequence, received.missed);
            TopicMessage { data, sequence, missed }
        };
        Ok(received.iter().take(count).map(&mut one).collect())
    }

    /// As recv, for asyncio.
    #[pyo3(signature = (timeout = None))]
    fn recv_async<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf.as_any(), "recv", false, timeout, ())
    }

    /// Borrow the next message, to be read in place and then released, in any order; publishers wait until then for its room.
    ///
    /// Waits and raises as recv, and OSError (ENOTSUP: the subscriber is lossy, and the message could be overwritten).
    #[pyo3(signature = (timeout = None))]
    fn borrow(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<TopicBorrowed> {
        let subscription = self.0.get()?;
        wait(py, timeout, |timeout| subscription.borrow_owned(timeout)).map(TopicBorrowed::new)
    }

    /// How many messages it has missed in all, as far as it has found out by receiving.
    #[getter]
    fn missed(&self) -> PyResult<u64> {
        Ok(self.0.get()?.missed())
    }

    /// A descriptor that is readable while there is a message, or the subscriber was cut off; a helper thread sleeps behind it
    /// from the first call on. A call that finds nothing quiets it.
    ///
    /// It stays the object's. Raises OSError (EMFILE, ENFILE).
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        Ok(self.0.get()?.doorbell().map_err(|error| raise(py, error))?.as_raw_fd())
    }

    /// The topic's address; ``"topic:"`` for one without a name.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// End it; threads that wait on it get OSError with errno ECANCELED. What was borrowed stays until it is released, and only
    /// then the subscription ends. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let descriptors =
            |own: &Arc<wigwag::Subscription>| own.doorbells().map(|fd| fd.as_raw_fd()).collect::<Vec<_>>();
        self.0.close(py, descriptors, |subscription| subscription.end_waits())
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
        self.0.describe(|object| object.address().to_owned())
    }
}
