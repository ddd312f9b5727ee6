//! Topic: messages through shared memory, each to everybody who listens.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use wigwag::{SubscribeOptions, TopicOptions};

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::loan::TopicReserved;
use crate::subscription::Subscription;
use crate::support::{Bytes, adopt, ended, fields, in_thread, opened, raise, wait};
use crate::sync::{Waiting, reduce, seconds};

/// What a topic has seen.
///
/// ``sent`` messages were published so far; ``skipped`` ones were being made by those who died, and never published; ``stored``
/// ones are there, read or not; ``reserved`` ones are being made. ``capacity`` is memory for messages, ``bytes`` all memory;
/// ``depth`` messages of up to ``largest`` bytes are stored at most. ``participants`` handles and ``subscribers`` subscriptions
/// are open.
#[pyclass(frozen, get_all, module = "wigwag")]
#[derive(Debug)]
pub struct TopicStatistics {
    sent: u64,
    skipped: u64,
    stored: u64,
    reserved: u64,
    capacity: usize,
    largest: usize,
    depth: u64,
    bytes: usize,
    participants: usize,
    subscribers: usize,
}

#[pymethods]
impl TopicStatistics {
    fn __repr__(&self) -> String {
        fields(self)
    }
}

/// One handle on a topic, of this or another process.
///
/// ``pid`` is None where it lives in a pid namespace that this process cannot see. ``since`` is when it was opened, in seconds
/// since 1970.
#[pyclass(frozen, get_all, module = "wigwag")]
#[derive(Debug)]
pub struct TopicParticipant {
    is_self: bool,
    pid: Option<u32>,
    since: f64,
}

#[pymethods]
impl TopicParticipant {
    fn __repr__(&self) -> String {
        fields(self)
    }
}

/// One subscription to a topic, of this or another process.
///
/// ``is_self``: made by the handle that was asked. ``pid`` is None where it lives in a pid namespace that this process cannot
/// see. ``since`` is when it subscribed, in seconds since 1970. Publishers wait for it if it is ``lossless``. ``lag`` messages
/// are before it, those that it has borrowed included; ``missed`` is how many it has missed, as far as it has found out itself;
/// ``cut_off`` says that it was stuck for longer than its limit.
#[pyclass(frozen, get_all, module = "wigwag")]
#[derive(Debug)]
pub struct TopicSubscriber {
    is_self: bool,
    pid: Option<u32>,
    since: f64,
    lossless: bool,
    lag: u64,
    missed: u64,
    cut_off: bool,
}

#[pymethods]
impl TopicSubscriber {
    fn __repr__(&self) -> String {
        fields(self)
    }
}

/// A topic (``topic:name``): messages in shared memory, each of which goes to every subscriber, and is stored once.
///
/// Any number of publishers and subscribers, which come and go. A process killed at any instruction holds up nobody. Works
/// across processes, which open it by its address or inherit it. Made by ``Topic.open()``, ``Topic.anonymous()`` and
/// ``Topic.from_fd()``.
#[pyclass(frozen, module = "wigwag")]
pub struct Topic {
    handle: Handle<Arc<wigwag::Topic>>,
    wait: Waiting,
}

impl Topic {
    fn of(topic: wigwag::Topic, wait: Waiting) -> Topic {
        Topic { handle: Handle::new("Topic", Arc::new(topic)), wait }
    }
}

#[pymethods]
impl Topic {
    /// Open the topic of this address, or make it; what it is counts only for the one who makes it. Never blocks.
    ///
    /// ``capacity`` is memory for messages in bytes, reserved at once (1 MiB by default), of which each message uses what it
    /// needs; ``largest`` the largest message (1024 by default); ``depth`` how many messages are stored at most (as many as the
    /// capacity holds by default). ``participants`` handles (64 by default, at most 256) and ``subscribers`` subscriptions (as
    /// many by default, at most 1024) may be open at the same time. The handle's own: ``wait`` (``"adaptive"``, ``"block"``,
    /// ``"poll"``), also for its subscriptions. Raises OSError (EINVAL, ENOSPC, EACCES; EBADMSG: there is something else;
    /// EPROTO: made by an incompatible version; EUSERS: no room for another handle).
    #[staticmethod]
    #[pyo3(signature = (address, capacity = 0, largest = 0, depth = 0, *, participants = 0, subscribers = 0, mode = 0,
        wait = Waiting::default()))]
    #[allow(clippy::too_many_arguments)] // one for each keyword
    fn open(
        py: Python<'_>,
        address: AddressLike,
        capacity: u64,
        largest: u64,
        depth: u64,
        participants: u32,
        subscribers: u32,
        mode: u32,
        wait: Waiting,
    ) -> PyResult<Topic> {
        let options = TopicOptions { capacity, largest, depth, participants, subscribers, mode, wait: wait.0 };
        let topic = opened(py, || wigwag::Topic::open(&address.0, options))?;
        Ok(Topic::of(topic, wait))
    }

    /// Make a topic without a name, for children made by fork, and for others by its descriptor. Options as in open. Never
    /// blocks.
    #[staticmethod]
    #[pyo3(signature = (capacity = 0, largest = 0, depth = 0, *, participants = 0, subscribers = 0,
        wait = Waiting::default()))]
    fn anonymous(
        py: Python<'_>,
        capacity: u64,
        largest: u64,
        depth: u64,
        participants: u32,
        subscribers: u32,
        wait: Waiting,
    ) -> PyResult<Topic> {
        let options = TopicOptions { capacity, largest, depth, participants, subscribers, mode: 0, wait: wait.0 };
        let topic = opened(py, || wigwag::Topic::anonymous(options))?;
        Ok(Topic::of(topic, wait))
    }

    /// Join the topic whose descriptor came from a parent or a peer; the descriptor then belongs to the object. Never blocks.
    ///
    /// Raises OSError (EBADMSG: it is something else; EPROTO, EUSERS).
    #[staticmethod]
    #[pyo3(signature = (fd, *, wait = Waiting::default()))]
    fn from_fd(py: Python<'_>, fd: i32, wait: Waiting) -> PyResult<Topic> {
        let options = TopicOptions { wait: wait.0, ..Default::default() };
        let joined = adopt(py, fd, |fd| wigwag::Topic::from_fd(fd, options))?;
        Ok(Topic::of(joined, wait))
    }

    /// How many bytes of memory a topic with these options takes, all in all. Never blocks. Raises OSError (EINVAL).
    #[staticmethod]
    #[pyo3(signature = (capacity = 0, largest = 0, depth = 0, *, participants = 0, subscribers = 0))]
    fn size_for(
        py: Python<'_>,
        capacity: u64,
        largest: u64,
        depth: u64,
        participants: u32,
        subscribers: u32,
    ) -> PyResult<usize> {
        let options = TopicOptions { capacity, largest, depth, participants, subscribers, ..Default::default() };
        wigwag::Topic::size_for(&options).map_err(|error| raise(py, error))
    }

    /// Remove a name: those who have it open go on using it. Never blocks. Raises FileNotFoundError, PermissionError.
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        wigwag::Topic::remove(&address.0).map_err(|error| raise(py, error))
    }

    /// Raise OSError (ESTALE) if the name no longer stands for this topic. Never blocks.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.handle.get()?.check().map_err(|error| raise(py, error))
    }

    /// Publish a copy of these bytes; its sequence number. Waits while there is no room because a lossless subscriber has not
    /// come so far.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0, OSError (EMSGSIZE: larger than the largest; ESTALE, EBADMSG).
    #[pyo3(signature = (data, timeout = None))]
    fn publish(&self, py: Python<'_>, data: Bytes<'_>, timeout: Option<f64>) -> PyResult<u64> {
        let topic = self.handle.get()?;
        let bytes = data.as_slice();
        wait(py, timeout, |timeout| topic.publish(bytes, timeout))
    }

    /// Publish these messages one after the other, and wait for room for each within one timeout; how many there was room for.
    /// Others may publish in between. Raises as publish, if it happens to the first.
    #[pyo3(signature = (messages, timeout = None))]
    fn publish_batch(&self, py: Python<'_>, messages: Vec<Bound<'_, PyAny>>, timeout: Option<f64>) -> PyResult<usize> {
        let topic = self.handle.get()?;
        let messages = messages.iter().map(|one| one.extract()).collect::<PyResult<Vec<Bytes<'_>>>>()?;
        let slices: Vec<&[u8]> = messages.iter().map(Bytes::as_slice).collect();
        let timeout = crate::support::timeout(timeout)?;
        ended(py, py.detach(|| topic.publish_batch(&slices, timeout)))
    }

    /// As publish, for asyncio: it waits in a thread of its own.
    #[pyo3(signature = (data, timeout = None))]
    fn publish_async<'py>(
        slf: &Bound<'py, Self>,
        data: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        in_thread(&slf.getattr("publish")?, (data,), timeout, None)
    }

    /// Reserve room for a message of ``size`` bytes, to be written in place and then published. Waits and raises as publish.
    ///
    /// A message gets its place in the order when it is published, so nobody waits for one that is not.
    #[pyo3(signature = (size, timeout = None))]
    fn reserve(&self, py: Python<'_>, size: usize, timeout: Option<f64>) -> PyResult<TopicReserved> {
        let topic = self.handle.get()?;
        wait(py, timeout, |timeout| topic.reserve_owned(size, timeout)).map(TopicReserved::new)
    }

    /// Subscribe: gets all that is published from now on, and up to ``history`` of the messages before, as far as they are
    /// still stored. Never blocks.
    ///
    /// A ``lossy`` subscriber never slows a publisher: what it does not receive in time it misses, and is told how much. For
    /// any other publishers wait when there is no room, and it gets every message; held up by it for more than ``stuck`` seconds
    /// they cut it off, and it is told so. Raises OSError (EUSERS: no room for another subscriber; ESTALE, EBADMSG).
    #[pyo3(signature = (*, lossy = false, stuck = None, history = 0))]
    fn subscribe(&self, py: Python<'_>, lossy: bool, stuck: Option<f64>, history: u64) -> PyResult<Subscription> {
        let refused = |_| PyValueError::new_err("stuck must be None or a number of seconds from 0");
        let stuck = stuck.map(Duration::try_from_secs_f64).transpose().map_err(refused)?;
        let subscribed = self.handle.get()?.subscribe(SubscribeOptions { lossy, stuck, history });
        subscribed.map(Subscription::new).map_err(|error| raise(py, error))
    }

    /// What the topic has seen. Never blocks.
    fn statistics(&self, py: Python<'_>) -> PyResult<TopicStatistics> {
        let seen = self.handle.get()?.statistics().map_err(|error| raise(py, error))?;
        Ok(TopicStatistics {
            sent: seen.sent,
            skipped: seen.skipped,
            stored: seen.stored,
            reserved: seen.reserved,
            capacity: seen.capacity,
            largest: seen.largest,
            depth: seen.depth,
            bytes: seen.bytes,
            participants: seen.participants.len(),
            subscribers: seen.subscribers.len(),
        })
    }

    /// Who takes part. Never blocks.
    fn participants(&self, py: Python<'_>) -> PyResult<Vec<TopicParticipant>> {
        let seen = self.handle.get()?.statistics().map_err(|error| raise(py, error))?;
        let one = |other: wigwag::TopicParticipant| TopicParticipant {
            is_self: other.is_self,
            pid: other.pid,
            since: seconds(other.since),
        };
        Ok(seen.participants.into_iter().map(one).collect())
    }

    /// Who has subscribed, and how far each has come. Never blocks.
    fn subscribers(&self, py: Python<'_>) -> PyResult<Vec<TopicSubscriber>> {
        let seen = self.handle.get()?.statistics().map_err(|error| raise(py, error))?;
        let one = |other: wigwag::TopicSubscriber| TopicSubscriber {
            is_self: other.is_self,
            pid: other.pid,
            since: seconds(other.since),
            lossless: other.lossless,
            lag: other.lag,
            missed: other.missed,
            cut_off: other.cut_off,
        };
        Ok(seen.subscribers.into_iter().map(one).collect())
    }

    /// The descriptor of its memory, to pass on for from_fd; it stays the object's.
    fn segment_fd(&self) -> PyResult<i32> {
        Ok(self.handle.get()?.as_fd().as_raw_fd())
    }

    /// The address; ``"topic:"`` for one without a name.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.handle.get()?.address().to_owned())
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. Its subscriptions stay open, and what was reserved
    /// can still be published. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.handle.close(py, |_| None, |topic| topic.end_waits())
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// It pickles as its address; without a name only along with a process that multiprocessing starts.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let object = slf.get().handle.get()?;
        let options = PyDict::new(slf.py());
        options.set_item("wait", slf.get().wait.text())?;
        reduce(slf.as_any(), object.address(), &options)
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
        self.handle.describe(|object| object.address().to_owned())
    }
}
