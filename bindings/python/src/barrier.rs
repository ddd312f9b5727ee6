//! Barrier: a meeting point.

use std::os::fd::{AsFd, AsRawFd};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::support::{adopt, ended, raise};
use crate::sync::{SyncParticipant, Waiting, participants, place, reduce_sync};

/// A barrier (``barrier:name``): a point where a number of threads, of any processes, wait for each other.
///
/// Nearly has the shape of threading.Barrier; it breaks when a process dies that has it open: all who wait then and
/// later get OSError (EOWNERDEAD) until somebody resets it. Who only gives up waiting takes its arrival back. Works
/// across processes, which open it by its address or inherit it. Made by ``Barrier.open()``, ``Barrier.anonymous()`` and
/// ``Barrier.from_fd()``.
#[pyclass(frozen, module = "wigwag")]
pub struct Barrier(Handle<wigwag::Barrier>);

#[pymethods]
impl Barrier {
    /// Open the barrier of this address, or make it; what it is counts only for the one who makes it. Never blocks.
    ///
    /// A plain name lies in ``$WIGWAG_DIR`` or ``/dev/shm/wigwag-UID``, one with a slash is a path on a tmpfs.
    /// ``parties`` is how many have to arrive (2 by default). ``participants`` is how many handles may be open at the
    /// same time (64 by default, at most 256), ``wait`` how the calls of this handle wait: ``"adaptive"``, ``"block"``
    /// or ``"poll"``. Raises OSError (EINVAL, ENOSPC, EACCES; EBADMSG: there is something else; EPROTO: made by an
    /// incompatible version; EUSERS: no room for another handle).
    #[staticmethod]
    #[pyo3(signature = (address, parties = 0, *, participants = 0, mode = 0, wait = Waiting::default()))]
    fn open(
        py: Python<'_>,
        address: AddressLike,
        parties: u32,
        participants: u32,
        mode: u32,
        wait: Waiting,
    ) -> PyResult<Barrier> {
        let options = wigwag::BarrierOptions { parties, participants, mode, wait: wait.0 };
        let opened = wigwag::Barrier::open(&address.0, options).map_err(|error| raise(py, error))?;
        Ok(Barrier(Handle::new("Barrier", opened)))
    }

    /// Make a barrier without a name, for children made by fork, and for others by its descriptor. Never blocks. Raises
    /// OSError (EINVAL, ENOSPC).
    #[staticmethod]
    #[pyo3(signature = (parties = 0, *, participants = 0, mode = 0, wait = Waiting::default()))]
    fn anonymous(py: Python<'_>, parties: u32, participants: u32, mode: u32, wait: Waiting) -> PyResult<Barrier> {
        let options = wigwag::BarrierOptions { parties, participants, mode, wait: wait.0 };
        let made = wigwag::Barrier::anonymous(options).map_err(|error| raise(py, error))?;
        Ok(Barrier(Handle::new("Barrier", made)))
    }

    /// Join one whose descriptor came from a parent or a peer; the descriptor then belongs to the object. Never blocks.
    ///
    /// Raises OSError (EBADMSG: it is something else; EPROTO, EUSERS).
    #[staticmethod]
    fn from_fd(py: Python<'_>, fd: i32) -> PyResult<Barrier> {
        let joined = adopt(py, fd, |fd| wigwag::Barrier::from_fd(fd, wigwag::BarrierOptions::default()))?;
        Ok(Barrier(Handle::new("Barrier", joined)))
    }

    /// Join a barrier in a range of memory that the caller brought, or make it there: see Mutex.place. Raises OSError as there.
    #[staticmethod]
    #[pyo3(signature = (memory, offset, size = None, *, parties = 0, participants = 0, wait = Waiting::default()))]
    #[allow(clippy::too_many_arguments)] // keywords in Python
    fn place(
        memory: &Bound<'_, PyAny>,
        offset: u64,
        size: Option<u64>,
        parties: u32,
        participants: u32,
        wait: Waiting,
    ) -> PyResult<Barrier> {
        let options = wigwag::BarrierOptions { parties, participants, wait: wait.0, ..Default::default() };
        let needed = wigwag::Barrier::placed_size_for(&options);
        let placed =
            place(memory, offset, size, needed, |memory, range| wigwag::Barrier::place(memory, range, options))?;
        Ok(Barrier(Handle::new("Barrier", placed)))
    }

    /// How many bytes a barrier takes in memory that the caller brings. Never blocks. Raises OSError (EINVAL).
    #[staticmethod]
    #[pyo3(signature = (*, participants = 0))]
    fn placed_size_for(py: Python<'_>, participants: u32) -> PyResult<usize> {
        let options = wigwag::BarrierOptions { participants, ..Default::default() };
        wigwag::Barrier::placed_size_for(&options).map_err(|error| raise(py, error))
    }

    /// Where it lies in memory that the caller brought, offset and size; None if it has memory of its own.
    #[getter]
    fn placed(&self) -> PyResult<Option<(u64, u64)>> {
        Ok(self.0.get()?.placed().map(|range| (range.start, range.end - range.start)))
    }

    /// Remove a name: those who have it open go on using it. Never blocks. Raises FileNotFoundError, PermissionError.
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        wigwag::Barrier::remove(&address.0).map_err(|error| raise(py, error))
    }

    /// Raise OSError (ESTALE) if the name no longer stands for this one. Never blocks.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.check().map_err(|error| raise(py, error))
    }

    /// Arrive, and wait until all have; True for the one that arrived last.
    ///
    /// Raises OSError (EOWNERDEAD: it is broken; ESTALE, EBADMSG), TimeoutError, BlockingIOError with a timeout of 0.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let barrier = self.0.get()?;
        let timeout = crate::support::timeout(timeout)?;
        ended(py, py.detach(|| barrier.wait(timeout)))
    }

    /// As wait; how many had arrived in this round before. The last gets ``parties - 1``.
    #[pyo3(signature = (timeout = None))]
    fn wait_numbered(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<u32> {
        let barrier = self.0.get()?;
        let timeout = crate::support::timeout(timeout)?;
        ended(py, py.detach(|| barrier.wait_numbered(timeout)))
    }

    /// Break it: all who wait, and all who come until it is reset, get OSError (EOWNERDEAD). Never blocks.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.break_off().map_err(|error| raise(py, error))
    }

    /// Begin a new round: who waits gets OSError (EOWNERDEAD), who comes waits for all. Never blocks.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.reset().map_err(|error| raise(py, error))
    }

    /// How many have to arrive.
    #[getter]
    fn parties(&self) -> PyResult<u32> {
        Ok(self.0.get()?.parties())
    }

    /// How many have arrived in this round.
    #[getter]
    fn n_waiting(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(self.0.get()?.statistics().map_err(|error| raise(py, error))?.arrived)
    }

    /// Whether it is broken.
    #[getter]
    fn broken(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.0.get()?.statistics().map_err(|error| raise(py, error))?.is_broken)
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

    /// The address; ``"barrier:"`` for one without a name.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |_| None, wigwag::Barrier::end_waits)
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
