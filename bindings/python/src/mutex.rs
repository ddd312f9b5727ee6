//! Mutex: a lock that knows its holder.

use std::os::fd::{AsFd, AsRawFd};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::address::AddressLike;
use crate::handle::{Handle, User};
use crate::held::acquire;
use crate::support::{adopt, raise};
use crate::sync::{SyncParticipant, Waiting, participants, place, reduce_sync};

/// A mutex (``mutex:name``): a lock that knows who holds it, down to the thread, and passes on to the next when that one
/// dies, or its thread ends.
///
/// Has the shape of threading.Lock, and of threading.RLock with ``recursive=True``; ``with mutex:`` holds it. Works
/// across processes, which open it by its address or inherit it. Who takes it over from the dead finds
/// ``mutex.inherited`` true: what it guards may be half changed. Make good and call ``consistent()``, or ``give_up()``.
/// Made by ``Mutex.open()``, ``Mutex.anonymous()`` and ``Mutex.from_fd()``.
#[pyclass(frozen, module = "wigwag")]
pub struct Mutex(Handle<wigwag::Mutex>);

impl Mutex {
    pub(crate) fn core(&self) -> PyResult<User<'_, wigwag::Mutex>> {
        self.0.get()
    }
}

#[pymethods]
impl Mutex {
    /// Open the mutex of this address, or make it; what it is counts only for the one who makes it. Never blocks.
    ///
    /// A plain name lies in ``$WIGWAG_DIR`` or ``/dev/shm/wigwag-UID``, one with a slash is a path on a tmpfs.
    /// ``recursive`` lets the thread that holds it take it again, and is the handle's own. ``participants`` is how many
    /// handles may be open at the same time (64 by default, at most 256), ``wait`` how the calls of this handle wait:
    /// ``"adaptive"``, ``"block"`` or ``"poll"``. Raises OSError (EINVAL, ENOSPC, EACCES; EBADMSG: there is something
    /// else; EPROTO: made by an incompatible version; EUSERS: no room for another handle).
    #[staticmethod]
    #[pyo3(signature = (address, recursive = false, *, participants = 0, mode = 0, wait = Waiting::default()))]
    fn open(
        py: Python<'_>,
        address: AddressLike,
        recursive: bool,
        participants: u32,
        mode: u32,
        wait: Waiting,
    ) -> PyResult<Mutex> {
        let options = wigwag::MutexOptions { recursive, participants, mode, wait: wait.0 };
        let opened = wigwag::Mutex::open(&address.0, options).map_err(|error| raise(py, error))?;
        Ok(Mutex(Handle::new("Mutex", opened)))
    }

    /// Make a mutex without a name, for children made by fork, and for others by its descriptor. Never blocks. Raises
    /// OSError (EINVAL, ENOSPC).
    #[staticmethod]
    #[pyo3(signature = (recursive = false, *, participants = 0, mode = 0, wait = Waiting::default()))]
    fn anonymous(py: Python<'_>, recursive: bool, participants: u32, mode: u32, wait: Waiting) -> PyResult<Mutex> {
        let options = wigwag::MutexOptions { recursive, participants, mode, wait: wait.0 };
        let made = wigwag::Mutex::anonymous(options).map_err(|error| raise(py, error))?;
        Ok(Mutex(Handle::new("Mutex", made)))
    }

    /// Join one whose descriptor came from a parent or a peer; the descriptor then belongs to the object. Never blocks.
    ///
    /// ``recursive`` and ``wait`` are the handle's own, as in open. Raises OSError (EBADMSG: it is something else; EPROTO,
    /// EUSERS).
    #[staticmethod]
    #[pyo3(signature = (fd, recursive = false, *, wait = Waiting::default()))]
    fn from_fd(py: Python<'_>, fd: i32, recursive: bool, wait: Waiting) -> PyResult<Mutex> {
        let options = wigwag::MutexOptions { recursive, wait: wait.0, ..Default::default() };
        let joined = adopt(py, fd, |fd| wigwag::Mutex::from_fd(fd, options))?;
        Ok(Mutex(Handle::new("Mutex", joined)))
    }

    /// Join the mutex in a range of memory that the caller brought, or make it there. Does not block, but for about a
    /// quarter of a second while another process that is making it does not get on.
    ///
    /// ``memory`` is a Shm, a Memfd, a File, or any descriptor of a file that others map as well; it may hold other things,
    /// and is not needed afterwards. ``offset`` is a multiple of 128; ``size`` is what the mutex may take, by default
    /// what ``placed_size_for`` says. Where the range is all zeros, as fresh memory is, a mutex is made; what is there
    /// already is taken as it is. Clearing the range to zeros removes it.
    ///
    /// Raises OSError (EINVAL: the range is not aligned, not inside the memory, or too small; EBADMSG: something else lies
    /// there; EPROTO; EUSERS: no room for another participant; EBUSY: another process is making it and does not get on;
    /// ENODEV: not memory; EACCES, ENOSPC, ENOTSUP).
    #[staticmethod]
    #[pyo3(signature = (memory, offset, size = None, *, recursive = false, participants = 0, wait = Waiting::default()))]
    #[allow(clippy::too_many_arguments)] // keywords in Python
    fn place(
        memory: &Bound<'_, PyAny>,
        offset: u64,
        size: Option<u64>,
        recursive: bool,
        participants: u32,
        wait: Waiting,
    ) -> PyResult<Mutex> {
        let options = wigwag::MutexOptions { recursive, participants, wait: wait.0, ..Default::default() };
        let needed = wigwag::Mutex::placed_size_for(&options);
        let placed = place(memory, offset, size, needed, |memory, range| wigwag::Mutex::place(memory, range, options))?;
        Ok(Mutex(Handle::new("Mutex", placed)))
    }

    /// How many bytes a mutex takes in memory that the caller brings. Never blocks. Raises OSError (EINVAL).
    #[staticmethod]
    #[pyo3(signature = (*, participants = 0))]
    fn placed_size_for(py: Python<'_>, participants: u32) -> PyResult<usize> {
        let options = wigwag::MutexOptions { participants, ..Default::default() };
        wigwag::Mutex::placed_size_for(&options).map_err(|error| raise(py, error))
    }

    /// Where it lies in memory that the caller brought, offset and size; None if it has memory of its own.
    #[getter]
    fn placed(&self) -> PyResult<Option<(u64, u64)>> {
        Ok(self.0.get()?.placed().map(|range| (range.start, range.end - range.start)))
    }

    /// Remove a name: those who have it open go on using it. Never blocks. Raises FileNotFoundError, PermissionError.
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        wigwag::Mutex::remove(&address.0).map_err(|error| raise(py, error))
    }

    /// Raise OSError (ESTALE) if the name no longer stands for this one. Never blocks.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.check().map_err(|error| raise(py, error))
    }

    /// Take it; True, or False if it could not be had in time (at once with ``blocking=False``).
    ///
    /// Raises OSError (EDEADLK: this thread has it; ENOTRECOVERABLE: it was given up for good; ESTALE, EBADMSG).
    #[pyo3(signature = (blocking = true, timeout = None))]
    pub(crate) fn acquire(&self, py: Python<'_>, blocking: bool, timeout: Option<f64>) -> PyResult<bool> {
        let mutex = self.0.get()?;
        acquire(py, blocking, timeout, |timeout| mutex.take(timeout).map(drop))
    }

    /// Release it, or undo the last of several takings. Never blocks. Raises PermissionError: this thread does not hold it.
    pub(crate) fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.release().map_err(|error| raise(py, error))
    }

    /// Whether it is held by one who took it over from the dead and has not called consistent().
    #[getter]
    fn inherited(&self, py: Python<'_>) -> PyResult<bool> {
        let state = self.0.get()?.state().map_err(|error| raise(py, error))?;
        Ok(state == wigwag::MutexState::Inherited)
    }

    /// Say that what an inherited mutex guards is consistent again. Without, the next to take it is told as well.
    ///
    /// Raises PermissionError, OSError (EINVAL: it was not inherited).
    fn consistent(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.consistent().map_err(|error| raise(py, error))
    }

    /// Give the held mutex up for good: all others get OSError (ENOTRECOVERABLE). Raises PermissionError.
    fn give_up(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.give_up().map_err(|error| raise(py, error))
    }

    /// Whether somebody holds it.
    fn locked(&self, py: Python<'_>) -> PyResult<bool> {
        let state = self.0.get()?.state().map_err(|error| raise(py, error))?;
        Ok(matches!(state, wigwag::MutexState::Held | wigwag::MutexState::Inherited))
    }

    /// Whether the calling thread holds it, by this object.
    fn is_mine(&self) -> PyResult<bool> {
        Ok(self.0.get()?.is_mine())
    }

    fn __enter__<'py>(slf: PyRef<'py, Self>, py: Python<'py>) -> PyResult<PyRef<'py, Self>> {
        slf.acquire(py, true, None)?;
        Ok(slf)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _type: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.release(py)
    }

    /// A descriptor that is readable while the mutex could be taken; a helper thread sleeps behind it from the first call on.
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

    /// The address; ``"mutex:"`` for one without a name.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. If a thread holds it, it passes on as from the dead. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |_| None, wigwag::Mutex::end_waits)
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
        options.set_item("recursive", object.is_recursive())?;
        reduce_sync(slf.as_any(), object.address(), object.placed(), &options)
    }

    fn __repr__(&self) -> String {
        self.0.describe(|object| object.address().to_owned())
    }
}
