//! Event: something that has happened, or not.

use std::os::fd::{AsFd, AsRawFd};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::held::acquire;
use crate::support::{adopt, raise};
use crate::sync::{SyncParticipant, Waiting, participants, place, reduce_sync};

/// An event (``event:name``): a flag that processes set, take back and wait for. It has no owner: a death changes
/// nothing.
///
/// Has the shape of threading.Event. Works across processes, which open it by its address or inherit it. With
/// ``auto_reset`` each time that it is set lets one wait through. Made by ``Event.open()``, ``Event.anonymous()`` and
/// ``Event.from_fd()``.
#[pyclass(frozen, module = "wigwag")]
pub struct Event(Handle<wigwag::Event>);

#[pymethods]
impl Event {
    /// Open the event of this address, or make it; what it is counts only for the one who makes it. Never blocks.
    ///
    /// A plain name lies in ``$WIGWAG_DIR`` or ``/dev/shm/wigwag-UID``, one with a slash is a path on a tmpfs.
    /// ``auto_reset`` has one wait that succeeds take the event back. ``participants`` is how many handles may be open
    /// at the same time (64 by default, at most 256), ``wait`` how the calls of this handle wait: ``"adaptive"``,
    /// ``"block"`` or ``"poll"``. Raises OSError (EINVAL, ENOSPC, EACCES; EBADMSG: there is something else; EPROTO: made
    /// by an incompatible version; EUSERS: no room for another handle).
    #[staticmethod]
    #[pyo3(signature = (address, auto_reset = false, *, participants = 0, mode = 0, wait = Waiting::default()))]
    fn open(
        py: Python<'_>,
        address: AddressLike,
        auto_reset: bool,
        participants: u32,
        mode: u32,
        wait: Waiting,
    ) -> PyResult<Event> {
        let options = wigwag::EventOptions { auto_reset, participants, mode, wait: wait.0 };
        let opened = wigwag::Event::open(&address.0, options).map_err(|error| raise(py, error))?;
        Ok(Event(Handle::new("Event", opened)))
    }

    /// Make an event without a name, for children made by fork, and for others by its descriptor. Never blocks. Raises
    /// OSError (EINVAL, ENOSPC).
    #[staticmethod]
    #[pyo3(signature = (auto_reset = false, *, participants = 0, mode = 0, wait = Waiting::default()))]
    fn anonymous(py: Python<'_>, auto_reset: bool, participants: u32, mode: u32, wait: Waiting) -> PyResult<Event> {
        let options = wigwag::EventOptions { auto_reset, participants, mode, wait: wait.0 };
        let made = wigwag::Event::anonymous(options).map_err(|error| raise(py, error))?;
        Ok(Event(Handle::new("Event", made)))
    }

    /// Join one whose descriptor came from a parent or a peer; the descriptor then belongs to the object. Never blocks.
    ///
    /// Raises OSError (EBADMSG: it is something else; EPROTO, EUSERS).
    #[staticmethod]
    fn from_fd(py: Python<'_>, fd: i32) -> PyResult<Event> {
        let joined = adopt(py, fd, |fd| wigwag::Event::from_fd(fd, wigwag::EventOptions::default()))?;
        Ok(Event(Handle::new("Event", joined)))
    }

    /// Join an event in a range of memory that the caller brought, or make it there: see Mutex.place. Raises OSError as there.
    #[staticmethod]
    #[pyo3(signature = (memory, offset, size = None, *, auto_reset = false, participants = 0, wait = Waiting::default()))]
    #[allow(clippy::too_many_arguments)] // keywords in Python
    fn place(
        memory: &Bound<'_, PyAny>,
        offset: u64,
        size: Option<u64>,
        auto_reset: bool,
        participants: u32,
        wait: Waiting,
    ) -> PyResult<Event> {
        let options = wigwag::EventOptions { auto_reset, participants, wait: wait.0, ..Default::default() };
        let needed = wigwag::Event::placed_size_for(&options);
        let placed = place(memory, offset, size, needed, |memory, range| wigwag::Event::place(memory, range, options))?;
        Ok(Event(Handle::new("Event", placed)))
    }

    /// How many bytes an event takes in memory that the caller brings. Never blocks. Raises OSError (EINVAL).
    #[staticmethod]
    #[pyo3(signature = (*, participants = 0))]
    fn placed_size_for(py: Python<'_>, participants: u32) -> PyResult<usize> {
        let options = wigwag::EventOptions { participants, ..Default::default() };
        wigwag::Event::placed_size_for(&options).map_err(|error| raise(py, error))
    }

    /// Where it lies in memory that the caller brought, offset and size; None if it has memory of its own.
    #[getter]
    fn placed(&self) -> PyResult<Option<(u64, u64)>> {
        Ok(self.0.get()?.placed().map(|range| (range.start, range.end - range.start)))
    }

    /// Remove a name: those who have it open go on using it. Never blocks. Raises FileNotFoundError, PermissionError.
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        wigwag::Event::remove(&address.0).map_err(|error| raise(py, error))
    }

    /// Raise OSError (ESTALE) if the name no longer stands for this one. Never blocks.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.check().map_err(|error| raise(py, error))
    }

    /// Set it, and wake those who wait. Never blocks. Raises OSError (ESTALE).
    fn set(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.set().map(drop).map_err(|error| raise(py, error))
    }

    /// Take it back. Never blocks. Raises OSError (ESTALE).
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.clear().map(drop).map_err(|error| raise(py, error))
    }

    /// Whether it is set.
    fn is_set(&self) -> PyResult<bool> {
        Ok(self.0.get()?.is_set())
    }

    /// Wait until it is set, or was set since the call began; True, or False if the time has passed.
    ///
    /// Raises OSError (ESTALE).
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let event = self.0.get()?;
        acquire(py, true, timeout, |timeout| event.wait(timeout))
    }

    /// A descriptor that is readable while it is set; a helper thread sleeps behind it from the first call on.
    ///
    /// It stays the object's; a child made by fork asks for its own. Raises OSError (EMFILE, ENFILE).
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        Ok(self.0.get()?.doorbell().map_err(|error| raise(py, error))?.as_raw_fd())
    }

    /// The descriptor of its memory, to pass on for from_fd; it stays the object's.
    fn segment_fd(&self) -> PyResult<i32> {
        Ok(self.0.get()?.as_fd().as_raw_fd())
    }

    /// Who takes part, holds and waits.
    fn participants(&self, py: Python<'_>) -> PyResult<Vec<SyncParticipant>> {
        let statistics = self.0.get()?.statistics().map_err(|error| raise(py, error))?;
        Ok(participants(statistics.participants))
    }

    /// The address; ``"event:"`` for one without a name.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |_| None, wigwag::Event::end_waits)
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    /// It pickles as its address; without a name only along with a process that multiprocessing starts.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let object = slf.get().0.get()?;
        let options = PyDict::new(slf.py());
        reduce_sync(slf.as_any(), object.address(), object.placed(), &options)
    }

    fn __repr__(&self) -> String {
        self.0.describe(|object| object.address().to_owned())
    }
}
