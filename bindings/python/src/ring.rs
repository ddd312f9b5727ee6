//! Ring: messages through shared memory.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use wigwag::{RingFull, RingOptions, RingRole};

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::loan::{RingBorrowed, RingReserved};
use crate::support::{Bytes, Room, adopt, coroutine, coroutine_of_call, fields, opened, raise, wait};
use crate::sync::{Waiting, reduce, seconds};

/// Room for so many messages. What does not fit is left for the next call; the largest always does, and how large that is says
/// whoever made the ring.
pub(crate) fn batch_room(largest: usize, messages: usize) -> PyResult<Vec<u8>> {
    let (mut room, length) = (Vec::new(), largest.saturating_mul(messages).min(largest.max(BATCH)));
    room.try_reserve_exact(length).map_err(|_| PyMemoryError::new_err("no memory for the ring's largest message"))?;
    room.resize(length, 0);
    Ok(room)
}

/// The messages of a batch, which lie one behind the other.
pub(crate) fn apart(py: Python<'_>, mut bytes: &[u8], received: &[wigwag::RingReceived]) -> Vec<RingMessage> {
    let one = |received: &wigwag::RingReceived| {
        let (data, rest) = bytes.split_at_checked(received.length).unwrap_or((bytes, &[]));
        bytes = rest;
        RingMessage::new(PyBytes::new(py, data), received.deliveries, received.lane)
    };
    received.iter().map(one).collect()
}

/// A message that was received: ``data`` (bytes), ``deliveries``, how often it has been taken, this time included: above 1,
/// somebody took it before and died, and may have acted on it, and ``lane``, the one that it came by.
#[pyclass(frozen, get_all, module = "wigwag")]
pub struct RingMessage {
    data: Py<PyBytes>,
    deliveries: u32,
    lane: u32,
}

impl RingMessage {
    pub(crate) fn new(data: Bound<'_, PyBytes>, deliveries: u32, lane: u32) -> RingMessage {
        RingMessage { data: data.unbind(), deliveries, lane }
    }
}

#[pymethods]
impl RingMessage {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!(
            "wigwag.RingMessage(data={}, deliveries={}, lane={})",
            self.data.bind(py).repr()?,
            self.deliveries,
            self.lane
        ))
    }
}

/// What a ring has seen. Always ``sent == released + borrowed + queued + dropped + dead_lettered``, whoever died when.
///
/// ``writing`` places are reserved and not committed; ``aborted`` and ``skipped`` ones were given up, or left half-written by
/// producers that died, and never sent; ``redelivered`` is how often a message was given back after it had been taken;
/// ``dead_lettered`` came back too often.
/// ``slots`` is how many messages there may be, of up to ``largest`` bytes, over all ``lanes``; ``high_water`` is the most messages that there were
/// at once, in one lane, about; ``bytes`` is all memory; ``participants`` handles are open.
#[pyclass(frozen, get_all, module = "wigwag")]
#[derive(Debug)]
pub struct RingStatistics {
    sent: u64,
    released: u64,
    borrowed: u64,
    queued: u64,
    dropped: u64,
    dead_lettered: u64,
    writing: u64,
    aborted: u64,
    skipped: u64,
    redelivered: u64,
    lanes: u32,
    slots: u64,
    high_water: u64,
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

impl From<wigwag::RingStatistics> for RingStatistics {
    fn from(seen: wigwag::RingStatistics) -> RingStatistics {
        RingStatistics {
            sent: seen.sent,
            released: seen.released,
            borrowed: seen.borrowed,
            queued: seen.queued,
            dropped: seen.dropped,
            dead_lettered: seen.dead_lettered,
            writing: seen.writing,
            aborted: seen.aborted,
            skipped: seen.skipped,
            redelivered: seen.redelivered,
            lanes: seen.lanes,
            slots: seen.slots,
            high_water: seen.high_water,
            largest: seen.largest,
            bytes: seen.bytes,
            participants: seen.participants.len(),
        }
    }
}

/// One handle on a ring, of this or another process.
///
/// ``pid`` is None where it lives in a pid namespace that this process cannot see. ``producer`` and ``consumer`` say whether it
/// has sent and received, or was opened to; ``since`` is when it was opened, in seconds since 1970; ``holding`` is how many
/// messages it is writing, or has taken and not released. ``waiting`` is how many of its threads wait, the first of them since
/// ``waiting_since``, None if there is none.
#[pyclass(frozen, get_all, module = "wigwag")]
#[derive(Debug)]
pub struct RingParticipant {
    is_self: bool,
    pid: Option<u32>,
    producer: bool,
    consumer: bool,
    since: f64,
    holding: u64,
    waiting: u32,
    waiting_since: Option<f64>,
}

#[pymethods]
impl RingParticipant {
    fn __repr__(&self) -> String {
        fields(self)
    }
}

impl From<wigwag::RingParticipant> for RingParticipant {
    fn from(other: wigwag::RingParticipant) -> RingParticipant {
        RingParticipant {
            is_self: other.is_self,
            pid: other.pid,
            producer: other.producer,
            consumer: other.consumer,
            since: seconds(other.since),
            holding: other.holding,
            waiting: other.waiting,
            waiting_since: other.waiting_since.map(seconds),
        }
    }
}

/// A ring (``ring:name``): a queue of messages in shared memory, each of which goes to one of its consumers.
///
/// Any number of producers and consumers. A process killed at any instruction loses nothing that it had sent and hangs
/// nobody: a message that a consumer had taken is delivered again, and says so. Works across processes, which open it by its
/// address or inherit it. Made by ``Ring.open()``, ``Ring.anonymous()`` and ``Ring.from_fd()``.
#[pyclass(frozen, module = "wigwag")]
pub struct Ring {
    handle: Handle<Arc<wigwag::Ring>>,
    own: Own,
}

/// What is the handle's own, and goes with its pickle.
#[derive(Clone, Copy)]
pub(crate) struct Own {
    full: RingFull,
    role: RingRole,
    wait: Waiting,
    dead_letters: bool,
    lane: u32,
}

/// So many bytes are taken in one batch, unless the first message is larger.
const BATCH: usize = 256 << 10;

const FULL: [(&str, RingFull); 4] = [
    ("wait", RingFull::Wait),
    ("fail", RingFull::Fail),
    ("drop-newest", RingFull::DropNewest),
    ("drop-oldest", RingFull::DropOldest),
];
const ROLES: [(&str, RingRole); 3] =
    [("either", RingRole::Either), ("producer", RingRole::Producer), ("consumer", RingRole::Consumer)];

impl Own {
    pub(crate) fn new(full: &str, role: &str, wait: Waiting, dead_letters: bool, lane: u32) -> PyResult<Own> {
        let full = FULL.iter().find(|(text, _)| *text == full);
        let role = ROLES.iter().find(|(text, _)| *text == role);
        let refused = |text| PyValueError::new_err(text);
        Ok(Own {
            full: full.ok_or_else(|| refused("full must be 'wait', 'fail', 'drop-newest' or 'drop-oldest'"))?.1,
            role: role.ok_or_else(|| refused("role must be 'either', 'producer' or 'consumer'"))?.1,
            wait,
            dead_letters,
            lane,
        })
    }

    pub(crate) fn options(self) -> RingOptions {
        let Own { full, role, wait, dead_letters, lane } = self;
        RingOptions { full, role, wait: wait.0, dead_letters, lane, ..Default::default() }
    }

    fn describe<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let options = PyDict::new(py);
        options.set_item("full", FULL.iter().find(|(_, full)| *full == self.full).map(|(text, _)| text))?;
        options.set_item("role", ROLES.iter().find(|(_, role)| *role == self.role).map(|(text, _)| text))?;
        options.set_item("wait", self.wait.text())?;
        options.set_item("dead_letters", self.dead_letters)?;
        options.set_item("lane", self.lane)?;
        Ok(options)
    }
}

impl Ring {
    fn of(ring: wigwag::Ring, own: Own) -> Ring {
        // What the address said, too.
        let (full, lane, dead_letters) = (ring.full(), ring.lane(), ring.receives_dead_letters());
        let own = Own { full, lane, dead_letters, ..own };
        Ring { handle: Handle::new("Ring", Arc::new(ring)), own }
    }
}

#[pymethods]
impl Ring {
    /// Open the ring of this address, or make it; what it is counts only for the one who makes it. Never blocks.
    ///
    /// ``capacity`` is memory for messages in bytes, reserved at once (1 MiB by default, or for ``depth`` of the largest), ``largest``
    /// the largest message (1024 by default; a limit only: a message takes 128 bytes, and one of more than 96 its length besides),
    /// ``depth`` how many messages there may be (as many as take a quarter of the capacity), ``participants`` how many handles may be open at the same time (256), ``lanes`` how many lanes there are (1,
    /// at most 8): messages of a higher one are received first, and each has its part of the capacity. When the last producer has
    /// gone consumers get BrokenPipeError once the ring is empty, and producers when the last consumer has gone, unless it is
    /// ``persistent``. With ``redeliveries``, a message that was delivered again so often and comes back once more becomes a dead
    /// letter. The handle's own: ``full``, what it does when the ring is full (``"wait"``, ``"fail"``,
    /// ``"drop-newest"``, ``"drop-oldest"``; what is dropped is counted), ``role`` (``"either"``, ``"producer"``,
    /// ``"consumer"``), ``wait`` (``"adaptive"``, ``"block"``, ``"poll"``), and ``dead_letters``: whether it receives these, in no
    /// particular order, and nothing else, and ``lane``, the one that it sends by. Raises OSError (EINVAL, ENOSPC, EACCES;
    /// EBADMSG: there is something else; EPROTO: made by an incompatible version; EUSERS: no room for another handle).
    #[staticmethod]
    #[pyo3(signature = (address, capacity = 0, largest = 0, *, depth = 0, participants = 0, lanes = 0, persistent = false, redeliveries = 0, mode = 0,
        full = "wait", role = "either", wait = Waiting::default(), dead_letters = false, lane = 0))]
    #[allow(clippy::too_many_arguments)] // one for each keyword
    fn open(
        py: Python<'_>,
        address: AddressLike,
        capacity: u64,
        largest: u64,
        depth: u64,
        participants: u32,
        lanes: u32,
        persistent: bool,
        redeliveries: u32,
        mode: u32,
        full: &str,
        role: &str,
        wait: Waiting,
        dead_letters: bool,
        lane: u32,
    ) -> PyResult<Ring> {
        let own = Own::new(full, role, wait, dead_letters, lane)?;
        let options = RingOptions {
            capacity,
            largest,
            depth,
            participants,
            lanes,
            persistent,
            redeliveries,
            mode,
            ..own.options()
        };
        let ring = opened(py, || wigwag::Ring::open(&address.0, options))?;
        Ok(Ring::of(ring, own))
    }

    /// Make a ring without a name, for children made by fork, and for others by its descriptor. Options as in open. Never
    /// blocks.
    #[staticmethod]
    #[pyo3(signature = (capacity = 0, largest = 0, *, depth = 0, participants = 0, lanes = 0, persistent = false, redeliveries = 0, full = "wait",
        role = "either", wait = Waiting::default(), dead_letters = false, lane = 0))]
    #[allow(clippy::too_many_arguments)] // one for each keyword
    fn anonymous(
        py: Python<'_>,
        capacity: u64,
        largest: u64,
        depth: u64,
        participants: u32,
        lanes: u32,
        persistent: bool,
        redeliveries: u32,
        full: &str,
        role: &str,
        wait: Waiting,
        dead_letters: bool,
        lane: u32,
    ) -> PyResult<Ring> {
        let own = Own::new(full, role, wait, dead_letters, lane)?;
        let options =
            RingOptions { capacity, largest, depth, participants, lanes, persistent, redeliveries, ..own.options() };
        let ring = opened(py, || wigwag::Ring::anonymous(options))?;
        Ok(Ring::of(ring, own))
    }

    /// Join the ring whose descriptor came from a parent or a peer; the descriptor then belongs to the object. Never blocks.
    ///
    /// Raises OSError (EBADMSG: it is something else; EPROTO, EUSERS).
    #[staticmethod]
    #[pyo3(signature = (fd, *, full = "wait", role = "either", wait = Waiting::default(), dead_letters = false, lane = 0))]
    fn from_fd(
        py: Python<'_>,
        fd: i32,
        full: &str,
        role: &str,
        wait: Waiting,
        dead_letters: bool,
        lane: u32,
    ) -> PyResult<Ring> {
        let own = Own::new(full, role, wait, dead_letters, lane)?;
        let joined = adopt(py, fd, |fd| wigwag::Ring::from_fd(fd, own.options()))?;
        Ok(Ring::of(joined, own))
    }

    /// How many bytes of memory a ring with these options takes, all in all. Never blocks. Raises OSError (EINVAL).
    #[staticmethod]
    #[pyo3(signature = (capacity = 0, largest = 0, *, depth = 0, participants = 0, lanes = 0))]
    fn size_for(
        py: Python<'_>,
        capacity: u64,
        largest: u64,
        depth: u64,
        participants: u32,
        lanes: u32,
    ) -> PyResult<usize> {
        let options = RingOptions { capacity, largest, depth, participants, lanes, ..Default::default() };
        wigwag::Ring::size_for(&options).map_err(|error| raise(py, error))
    }

    /// Remove a name: those who have it open go on using it. Never blocks. Raises FileNotFoundError, PermissionError.
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        wigwag::Ring::remove(&address.0).map_err(|error| raise(py, error))
    }

    /// Raise OSError (ESTALE) if the name no longer stands for this ring. Never blocks.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.handle.get()?.check().map_err(|error| raise(py, error))
    }

    /// Send a copy of these bytes as one message; waits while the ring is full, if that is what the handle does. ``lane``
    /// is another than the handle's.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0 or ``full="fail"``, BrokenPipeError: the last consumer has
    /// gone, OSError (EMSGSIZE: larger than the largest; ESTALE, EBADMSG).
    #[pyo3(signature = (data, timeout = None, *, lane = None))]
    fn send(&self, py: Python<'_>, data: Bytes<'_>, timeout: Option<f64>, lane: Option<u32>) -> PyResult<()> {
        let ring = self.handle.get()?;
        let (bytes, lane) = (data.as_slice(), lane.unwrap_or(self.own.lane));
        wait(py, timeout, |timeout| ring.send_in_lane(lane, bytes, timeout))
    }

    /// Take the oldest message; waits while there is none.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0, BrokenPipeError: the ring is empty and the last producer has
    /// gone, OSError (ESTALE, EBADMSG).
    #[pyo3(signature = (timeout = None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<RingMessage> {
        let ring = self.handle.get()?;
        // Taken, copied into what Python gets, and only then released: an error in between loses nothing.
        let borrowed = wait(py, timeout, |timeout| ring.borrow(timeout))?;
        let data = PyBytes::new_with(py, borrowed.length(), |room| {
            borrowed.read(0, room);
            Ok(())
        })?;
        let (deliveries, lane) = (borrowed.deliveries(), borrowed.lane());
        borrowed.release().map_err(|error| raise(py, error))?;
        Ok(RingMessage::new(data, deliveries, lane))
    }

    /// As recv, into a writable buffer; the length of the message and its deliveries.
    ///
    /// Raises as recv, and OSError (EMSGSIZE: the buffer is too small; ``true_size`` says how long the message is, which stays
    /// in the ring).
    #[pyo3(signature = (buffer, timeout = None))]
    fn recv_into(&self, py: Python<'_>, mut buffer: Room, timeout: Option<f64>) -> PyResult<(usize, u32)> {
        let ring = self.handle.get()?;
        let room = buffer.as_mut_slice();
        let received = wait(py, timeout, |timeout| ring.recv(room, timeout))?;
        Ok((received.length, received.deliveries))
    }

    /// Send as many of these messages as there is room for, at least one; how many. Waits for the first, as send.
    ///
    /// Raises as send, with nothing sent. What stops it after the first message, such as one that is too large, is met by the next
    /// call.
    #[pyo3(signature = (messages, timeout = None, *, lane = None))]
    fn send_batch(
        &self,
        py: Python<'_>,
        messages: Vec<Bound<'_, PyAny>>,
        timeout: Option<f64>,
        lane: Option<u32>,
    ) -> PyResult<usize> {
        let lane = lane.unwrap_or(self.own.lane);
        let ring = self.handle.get()?;
        let messages = messages.iter().map(|one| one.extract()).collect::<PyResult<Vec<Bytes<'_>>>>()?;
        let slices: Vec<&[u8]> = messages.iter().map(Bytes::as_slice).collect();
        wait(py, timeout, |timeout| ring.send_batch_in_lane(lane, &slices, timeout))
    }

    /// Take up to ``limit`` messages, at least one and at most 64; waits while there is none. Raises as recv.
    #[pyo3(signature = (limit = 64, timeout = None))]
    fn recv_batch(&self, py: Python<'_>, limit: usize, timeout: Option<f64>) -> PyResult<Vec<RingMessage>> {
        let ring = self.handle.get()?;
        let mut received = vec![wigwag::RingReceived::default(); limit.min(64)];
        let mut room = batch_room(ring.largest(), received.len())?;
        let count = wait(py, timeout, |timeout| ring.recv_batch(&mut room, &mut received, timeout))?;
        Ok(apart(py, &room, received.get(..count).unwrap_or_default()))
    }

    /// Reserve room for a message of ``size`` bytes, to be written in place and then committed; waits while the ring is full,
    /// if that is what the handle does. Raises as send.
    #[pyo3(signature = (size, timeout = None, *, lane = None))]
    fn reserve(&self, py: Python<'_>, size: usize, timeout: Option<f64>, lane: Option<u32>) -> PyResult<RingReserved> {
        let (ring, lane) = (self.handle.get()?, lane.unwrap_or(self.own.lane));
        wait(py, timeout, |timeout| ring.reserve_owned_in_lane(lane, size, timeout)).map(RingReserved::new)
    }

    /// Take the oldest message, to be read in place and then released; waits while there is none. Raises as recv.
    #[pyo3(signature = (timeout = None))]
    fn borrow(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<RingBorrowed> {
        let ring = self.handle.get()?;
        wait(py, timeout, |timeout| ring.borrow_owned(timeout)).map(RingBorrowed::new)
    }

    /// As send, for asyncio.
    #[pyo3(signature = (data, timeout = None, *, lane = None))]
    fn send_async<'py>(
        slf: &Bound<'py, Self>,
        data: &Bound<'py, PyAny>,
        timeout: Option<f64>,
        lane: Option<u32>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, lane) = (slf.py(), lane.unwrap_or(slf.get().own.lane));
        // One that fails when the ring is full does so at once.
        let timeout = if slf.get().own.full == RingFull::Fail { Some(0.0) } else { timeout };
        let by = PyDict::new(py);
        by.set_item("lane", lane)?;
        let partial = py.import("functools")?.getattr("partial")?;
        let send = partial.call((slf.getattr("send")?,), Some(&by))?;
        let room = partial.call((slf.getattr("room_fileno")?,), Some(&by))?;
        coroutine_of_call(&send, &room, timeout, (data,))
    }

    /// As recv, for asyncio.
    #[pyo3(signature = (timeout = None))]
    fn recv_async<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf.as_any(), "recv", false, timeout, ())
    }

    /// A descriptor that is readable while there may be a message for this handle, until a call finds none; a helper thread
    /// sleeps behind it from the first call on.
    ///
    /// It stays the object's; a child made by fork asks for its own. Raises OSError (EMFILE, ENFILE, ESTALE).
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        Ok(self.handle.get()?.doorbell().map_err(|error| raise(py, error))?.as_raw_fd())
    }

    /// As fileno, readable while there may be room for a message in the handle's lane, or this one, until a call finds none.
    #[pyo3(signature = (lane = None))]
    fn room_fileno(&self, py: Python<'_>, lane: Option<u32>) -> PyResult<i32> {
        let lane = lane.unwrap_or(self.own.lane);
        Ok(self.handle.get()?.room_doorbell(lane).map_err(|error| raise(py, error))?.as_raw_fd())
    }

    /// Who takes part, and what each holds. Never blocks; takes time in proportion to the number of slots.
    fn participants(&self, py: Python<'_>) -> PyResult<Vec<RingParticipant>> {
        let seen = self.handle.get()?.statistics().map_err(|error| raise(py, error))?;
        Ok(seen.participants.into_iter().map(RingParticipant::from).collect())
    }

    /// What the ring has seen. Never blocks; takes time in proportion to the number of slots.
    fn statistics(&self, py: Python<'_>) -> PyResult<RingStatistics> {
        let seen = self.handle.get()?.statistics().map_err(|error| raise(py, error))?;
        Ok(seen.into())
    }

    /// The descriptor of its memory, to pass on for from_fd; it stays the object's.
    fn segment_fd(&self) -> PyResult<i32> {
        Ok(self.handle.get()?.as_fd().as_raw_fd())
    }

    /// The address; ``"ring:"`` for one without a name.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.handle.get()?.address().to_owned())
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. What was reserved or borrowed can still be finished.
    /// Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let descriptors = |ring: &Arc<wigwag::Ring>| ring.doorbells().map(|fd| fd.as_raw_fd()).collect::<Vec<_>>();
        self.handle.close(py, descriptors, |ring| ring.end_waits())
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// It pickles as its address; without a name only along with a process that multiprocessing starts.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let object = slf.get().handle.get()?;
        reduce(slf.as_any(), object.address(), &slf.get().own.describe(slf.py())?)
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
