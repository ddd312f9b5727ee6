//! Read-write lock: for many readers or one writer.

use std::os::fd::{AsFd, AsRawFd};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::held::{Held, acquire};
use crate::support::{self, adopt, raise, wait};
use crate::sync::{SyncParticipant, Waiting, participants, place, reduce_sync};

/// A lock (``rwlock:name``) that many may hold for reading, or one for writing; ``with lock.reading():``, ``with
/// lock.writing():``.
///
/// A reader's death leaves nothing behind; after a writer that died ``lock.inherited`` is true, for readers as well,
/// until a writer calls ``consistent()``, or ``give_up()``. A writer that waits keeps new readers out, and waits for
/// all, those of its own handle too: a thread that reads must neither read again nor write, or it waits for itself.
/// Works across processes, which open it by its address or inherit it. Read locks belong to the handle, the lock for
/// writing to the thread. Made by ``RwLock.open()``, ``RwLock.anonymous()`` and ``RwLock.from_fd()``.
#[pyclass(frozen, module = "wigwag")]
pub struct RwLock(Handle<wigwag::RwLock>);

#[pymethods]
impl RwLock {
    /// Open the read-write lock of this address, or make it; what it is counts only for the one who makes it. Never
    /// blocks.
    ///
    /// A plain name lies in ``$WIGWAG_DIR`` or ``/dev/shm/wigwag-UID``, one with a slash is a path on a tmpfs.
    /// ``participants`` is how many handles may be open at the same time (64 by default, at most 256), ``wait`` how the
    /// calls of this handle wait: ``"adaptive"``, ``"block"`` or ``"poll"``. Raises OSError (EINVAL, ENOSPC, EACCES;
    /// EBADMSG: there is something else; EPROTO: made by an incompatible version; EUSERS: no room for another handle).
    #[staticmethod]
    #[pyo3(signature = (address, *, participants = 0, mode = 0, wait = Waiting::default()))]
    fn open(py: Python<'_>, address: AddressLike, participants: u32, mode: u32, wait: Waiting) -> PyResult<RwLock> {
        let options = wigwag::RwLockOptions { participants, mode, wait: wait.0 };
        let opened = wigwag::RwLock::open(&address.0, options).map_err(|error| raise(py, error))?;
        Ok(RwLock(Handle::new("RwLock", opened)))
    }

    /// Make a read-write lock without a name, for children made by fork, and for others by its descriptor. Never blocks.
    /// Raises OSError (EINVAL, ENOSPC).
    #[staticmethod]
    #[pyo3(signature = (*, participants = 0, mode = 0, wait = Waiting::default()))]
    fn anonymous(py: Python<'_>, participants: u32, mode: u32, wait: Waiting) -> PyResult<RwLock> {
        let options = wigwag::RwLockOptions { participants, mode, wait: wait.0 };
        let made = wigwag::RwLock::anonymous(options).map_err(|error| raise(py, error))?;
        Ok(RwLock(Handle::new("RwLock", made)))
    }

    /// Join one whose descriptor came from a parent or a peer; the descriptor then belongs to the object. Never blocks.
    ///
    /// Raises OSError (EBADMSG: it is something else; EPROTO, EUSERS).
    #[staticmethod]
    fn from_fd(py: Python<'_>, fd: i32) -> PyResult<RwLock> {
        let joined = adopt(py, fd, |fd| wigwag::RwLock::from_fd(fd, wigwag::RwLockOptions::default()))?;
        Ok(RwLock(Handle::new("RwLock", joined)))
    }

    /// Join a read-write lock in a range of memory that the caller brought, or make it there: see Mutex.place. Raises
    /// OSError as there.
    #[staticmethod]
    #[pyo3(signature = (memory, offset, size = None, *, participants = 0, wait = Waiting::default()))]
    #[allow(clippy::too_many_arguments)] // keywords in Python
    fn place(
        memory: &Bound<'_, PyAny>,
        offset: u64,
        size: Option<u64>,
        participants: u32,
        wait: Waiting,
    ) -> PyResult<RwLock> {
        let options = wigwag::RwLockOptions { participants, wait: wait.0, ..Default::default() };
        let needed = wigwag::RwLock::placed_size_for(&options);
        let placed =
            place(memory, offset, size, needed, |memory, range| wigwag::RwLock::place(memory, range, options))?;
        Ok(RwLock(Handle::new("RwLock", placed)))
    }

    /// How many bytes a read-write lock takes in memory that the caller brings. Never blocks. Raises OSError (EINVAL).
    #[staticmethod]
    #[pyo3(signature = (*, participants = 0))]
    fn placed_size_for(py: Python<'_>, participants: u32) -> PyResult<usize> {
        let options = wigwag::RwLockOptions { participants, ..Default::default() };
        wigwag::RwLock::placed_size_for(&options).map_err(|error| raise(py, error))
    }

    /// Where it lies in memory that the caller brought, offset and size; None if it has memory of its own.
    #[getter]
    fn placed(&self) -> PyResult<Option<(u64, u64)>> {
        Ok(self.0.get()?.placed().map(|range| (range.start, range.end - range.start)))
    }

    /// Remove a name: those who have it open go on using it. Never blocks. Raises FileNotFoundError, PermissionError.
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        wigwag::RwLock::remove(&address.0).map_err(|error| raise(py, error))
    }

    /// Raise OSError (ESTALE) if the name no longer stands for this one. Never blocks.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.check().map_err(|error| raise(py, error))
    }

    /// Take it for reading; True, or False if it could not be had in time (at once with ``blocking=False``).
    ///
    /// Raises OSError (EDEADLK: this thread writes; ENOTRECOVERABLE: it was given up for good; ESTALE, EBADMSG).
    #[pyo3(signature = (blocking = true, timeout = None))]
    fn acquire_read(&self, py: Python<'_>, blocking: bool, timeout: Option<f64>) -> PyResult<bool> {
        let lock = self.0.get()?;
        acquire(py, blocking, timeout, |timeout| lock.take_read(timeout).map(drop))
    }

    /// Release one read lock of this handle. Never blocks. Raises PermissionError: it has none.
    fn release_read(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.release_read().map_err(|error| raise(py, error))
    }

    /// Take it for writing; as acquire_read.
    #[pyo3(signature = (blocking = true, timeout = None))]
    fn acquire_write(&self, py: Python<'_>, blocking: bool, timeout: Option<f64>) -> PyResult<bool> {
        let lock = self.0.get()?;
        acquire(py, blocking, timeout, |timeout| lock.take_write(timeout).map(drop))
    }

    /// End writing. Never blocks. Raises PermissionError: this thread does not write.
    fn release_write(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.release_write().map_err(|error| raise(py, error))
    }

    /// The lock for reading for the length of a ``with`` statement, which raises TimeoutError if it cannot be had in time.
    #[pyo3(signature = (timeout = None))]
    fn reading(slf: Py<Self>, py: Python<'_>, timeout: Option<f64>) -> PyResult<Held> {
        support::timeout(timeout)?;
        drop(slf.get().0.get()?); // a closed one is refused here already
        let same = slf.clone_ref(py);
        let take = move |py: Python<'_>| {
            let lock = slf.get().0.get()?;
            wait(py, timeout, |timeout| lock.take_read(timeout).map(drop))
        };
        Ok(Held::new(take, move |py| same.get().release_read(py)))
    }

    /// The lock for writing for the length of a ``with`` statement, as reading.
    #[pyo3(signature = (timeout = None))]
    fn writing(slf: Py<Self>, py: Python<'_>, timeout: Option<f64>) -> PyResult<Held> {
        support::timeout(timeout)?;
        drop(slf.get().0.get()?);
        let same = slf.clone_ref(py);
        let take = move |py: Python<'_>| {
            let lock = slf.get().0.get()?;
            wait(py, timeout, |timeout| lock.take_write(timeout).map(drop))
        };
        Ok(Held::new(take, move |py| same.get().release_write(py)))
    }

    /// Whether a writer died and no other has called consistent() since.
    #[getter]
    fn inherited(&self, py: Python<'_>) -> PyResult<bool> {
        let statistics = self.0.get()?.statistics().map_err(|error| raise(py, error))?;
        Ok(matches!(statistics.writer, wigwag::MutexState::Inherited | wigwag::MutexState::Abandoned))
    }

    /// Say, as the writer, that what an inherited lock guards is consistent again.
    ///
    /// Raises PermissionError, OSError (EINVAL: it was not inherited).
    fn consistent(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.consistent().map_err(|error| raise(py, error))
    }

    /// Give the lock, held for writing, up for good: all others get OSError (ENOTRECOVERABLE). Raises PermissionError.
    fn give_up(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.give_up().map_err(|error| raise(py, error))
    }

    /// A descriptor that is readable while the lock could be taken for reading; a helper thread sleeps behind it from
    /// the first call on.
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

    /// The address; ``"rwlock:"`` for one without a name.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. Its read locks end; if a thread writes, the
    /// lock passes on as from the dead. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |_| None, wigwag::RwLock::end_waits)
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
