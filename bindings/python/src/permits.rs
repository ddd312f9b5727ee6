//! Permits: a counting semaphore whose permits have owners.

use std::os::fd::{AsFd, AsRawFd};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::held::acquire;
use crate::support::{adopt, raise};
use crate::sync::{SyncParticipant, Waiting, participants, place, reduce_sync};

/// Permits (``permits:name``): a counting semaphore whose permits come back when their holder dies or closes its handle.
///
/// Has the shape of threading.BoundedSemaphore; ``with permits:`` holds one. Works across processes, which open it by
/// its address or inherit it. Permits belong to the handle that has taken them, whichever of its threads did. Made by
/// ``Permits.open()``, ``Permits.anonymous()`` and ``Permits.from_fd()``.
#[pyclass(frozen, module = "wigwag")]
pub struct Permits(Handle<wigwag::Permits>);

#[pymethods]
impl Permits {
    /// Open the set of permits of this address, or make it; what it is counts only for the one who makes it. Never
    /// blocks.
    ///
    /// A plain name lies in ``$WIGWAG_DIR`` or ``/dev/shm/wigwag-UID``, one with a slash is a path on a tmpfs. ``count``
    /// is how many there are (1 by default, at most 16383), ``fair`` serves first who comes first. ``participants`` is
    /// how many handles may be open at the same time (64 by default, at most 256), ``wait`` how the calls of this handle
    /// wait: ``"adaptive"``, ``"block"`` or ``"poll"``. Raises OSError (EINVAL, ENOSPC, EACCES; EBADMSG: there is
    /// something else; EPROTO: made by an incompatible version; EUSERS: no room for another handle).
    #[staticmethod]
    #[pyo3(signature = (address, count = 0, fair = false, *, participants = 0, mode = 0, wait = Waiting::default()))]
    fn open(
        py: Python<'_>,
        address: AddressLike,
        count: u32,
        fair: bool,
        participants: u32,
        mode: u32,
        wait: Waiting,
    ) -> PyResult<Permits> {
        let options = wigwag::PermitsOptions { count, fair, participants, mode, wait: wait.0 };
        let opened = wigwag::Permits::open(&address.0, options).map_err(|error| raise(py, error))?;
        Ok(Permits(Handle::new("Permits", opened)))
    }

    /// Make a set of permits without a name, for children made by fork, and for others by its descriptor. Never blocks.
    /// Raises OSError (EINVAL, ENOSPC).
    #[staticmethod]
    #[pyo3(signature = (count = 0, fair = false, *, participants = 0, mode = 0, wait = Waiting::default()))]
    fn anonymous(
        py: Python<'_>,
        count: u32,
        fair: bool,
        participants: u32,
        mode: u32,
        wait: Waiting,
    ) -> PyResult<Permits> {
        let options = wigwag::PermitsOptions { count, fair, participants, mode, wait: wait.0 };
        let made = wigwag::Permits::anonymous(options).map_err(|error| raise(py, error))?;
        Ok(Permits(Handle::new("Permits", made)))
    }

    /// Join one whose descriptor came from a parent or a peer; the descriptor then belongs to the object. Never blocks.
    ///
    /// Raises OSError (EBADMSG: it is something else; EPROTO, EUSERS).
    #[staticmethod]
    fn from_fd(py: Python<'_>, fd: i32) -> PyResult<Permits> {
        let joined = adopt(py, fd, |fd| wigwag::Permits::from_fd(fd, wigwag::PermitsOptions::default()))?;
        Ok(Permits(Handle::new("Permits", joined)))
    }

    /// Join a set of permits in a range of memory that the caller brought, or make it there: see Mutex.place. Raises OSError as there.
    #[staticmethod]
    #[pyo3(signature = (memory, offset, size = None, *, count = 0, fair = false, participants = 0, wait = Waiting::default()))]
    #[allow(clippy::too_many_arguments)] // keywords in Python
    fn place(
        memory: &Bound<'_, PyAny>,
        offset: u64,
        size: Option<u64>,
        count: u32,
        fair: bool,
        participants: u32,
        wait: Waiting,
    ) -> PyResult<Permits> {
        let options = wigwag::PermitsOptions { count, fair, participants, wait: wait.0, ..Default::default() };
        let needed = wigwag::Permits::placed_size_for(&options);
        let placed =
            place(memory, offset, size, needed, |memory, range| wigwag::Permits::place(memory, range, options))?;
        Ok(Permits(Handle::new("Permits", placed)))
    }

    /// How many bytes a set of permits takes in memory that the caller brings. Never blocks. Raises OSError (EINVAL).
    #[staticmethod]
    #[pyo3(signature = (*, participants = 0))]
    fn placed_size_for(py: Python<'_>, participants: u32) -> PyResult<usize> {
        let options = wigwag::PermitsOptions { participants, ..Default::default() };
        wigwag::Permits::placed_size_for(&options).map_err(|error| raise(py, error))
    }

    /// Where it lies in memory that the caller brought, offset and size; None if it has memory of its own.
    #[getter]
    fn placed(&self) -> PyResult<Option<(u64, u64)>> {
        Ok(self.0.get()?.placed().map(|range| (range.start, range.end - range.start)))
    }

    /// Remove a name: those who have it open go on using it. Never blocks. Raises FileNotFoundError, PermissionError.
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        wigwag::Permits::remove(&address.0).map_err(|error| raise(py, error))
    }

    /// Raise OSError (ESTALE) if the name no longer stands for this one. Never blocks.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.check().map_err(|error| raise(py, error))
    }

    /// Take ``n`` permits, all at once; True, or False if they could not be had in time (at once with ``blocking=False``).
    ///
    /// Raises OSError (EINVAL: none, or more than there are; ENOSPC: too many wait for fair permits; ESTALE, EBADMSG).
    #[pyo3(signature = (blocking = true, timeout = None, n = 1))]
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: Option<f64>, n: u32) -> PyResult<bool> {
        let permits = self.0.get()?;
        acquire(py, blocking, timeout, |timeout| permits.take(n, timeout))
    }

    /// Give back ``n`` of the permits that this handle holds. Never blocks. Raises PermissionError: it does not hold as many.
    #[pyo3(signature = (n = 1))]
    fn release(&self, py: Python<'_>, n: u32) -> PyResult<()> {
        self.0.get()?.release(n).map_err(|error| raise(py, error))
    }

    /// How many can be had now.
    #[getter]
    fn available(&self) -> PyResult<u32> {
        Ok(self.0.get()?.available())
    }

    /// How many there are.
    #[getter]
    fn total(&self) -> PyResult<u32> {
        Ok(self.0.get()?.total())
    }

    fn __enter__<'py>(slf: PyRef<'py, Self>, py: Python<'py>) -> PyResult<PyRef<'py, Self>> {
        slf.acquire(py, true, None, 1)?;
        Ok(slf)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _type: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.release(py, 1)
    }

    /// A descriptor that is readable while a permit can be had; a helper thread sleeps behind it from the first call on.
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

    /// The address; ``"permits:"`` for one without a name.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. What it holds comes back. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |_| None, wigwag::Permits::end_waits)
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
