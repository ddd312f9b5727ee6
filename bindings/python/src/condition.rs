//! Condition: waiting under a mutex until another changes something.

use std::os::fd::{AsFd, AsRawFd};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::mutex::Mutex;
use crate::support::{self, adopt, ended, raise};
use crate::sync::{SyncParticipant, Waiting, participants, place, reduce_sync};

/// A condition (``condition:name``): waiting under a mutex until somebody else, of any process, changes something and
/// notifies.
///
/// Has the shape of threading.Condition with a wigwag.Mutex, which ``with condition:`` holds. A wait can end without a
/// notification, after somebody died at the latest: look whether what was waited for is so, and else wait again, which
/// wait_for does. Works across processes, which open both by their addresses or inherit them. Made by
/// ``Condition.open()``, ``Condition.anonymous()`` and ``Condition.from_fd()``.
#[pyclass(frozen, module = "wigwag")]
pub struct Condition(Handle<wigwag::Condition>, Py<Mutex>);

#[pymethods]
impl Condition {
    /// Open the condition of this address, or make it; what it is counts only for the one who makes it. Never blocks.
    ///
    /// A plain name lies in ``$WIGWAG_DIR`` or ``/dev/shm/wigwag-UID``, one with a slash is a path on a tmpfs.
    /// ``participants`` is how many handles may be open at the same time (64 by default, at most 256), ``wait`` how the
    /// calls of this handle wait: ``"adaptive"``, ``"block"`` or ``"poll"``. Raises OSError (EINVAL, ENOSPC, EACCES;
    /// EBADMSG: there is something else; EPROTO: made by an incompatible version; EUSERS: no room for another handle).
    #[staticmethod]
    #[pyo3(signature = (address, mutex, *, participants = 0, mode = 0, wait = Waiting::default()))]
    fn open(
        py: Python<'_>,
        address: AddressLike,
        mutex: Py<Mutex>,
        participants: u32,
        mode: u32,
        wait: Waiting,
    ) -> PyResult<Condition> {
        let options = wigwag::ConditionOptions { participants, mode, wait: wait.0 };
        let opened = wigwag::Condition::open(&address.0, options).map_err(|error| raise(py, error))?;
        Ok(Condition(Handle::new("Condition", opened), mutex))
    }

    /// Make a condition without a name, for children made by fork, and for others by its descriptor. Never blocks.
    /// Raises OSError (EINVAL, ENOSPC).
    #[staticmethod]
    #[pyo3(signature = (mutex, *, participants = 0, mode = 0, wait = Waiting::default()))]
    fn anonymous(py: Python<'_>, mutex: Py<Mutex>, participants: u32, mode: u32, wait: Waiting) -> PyResult<Condition> {
        let options = wigwag::ConditionOptions { participants, mode, wait: wait.0 };
        let made = wigwag::Condition::anonymous(options).map_err(|error| raise(py, error))?;
        Ok(Condition(Handle::new("Condition", made), mutex))
    }

    /// Join one whose descriptor came from a parent or a peer; the descriptor then belongs to the object. Never blocks.
    ///
    /// Raises OSError (EBADMSG: it is something else; EPROTO, EUSERS).
    #[staticmethod]
    fn from_fd(py: Python<'_>, fd: i32, mutex: Py<Mutex>) -> PyResult<Condition> {
        let joined = adopt(py, fd, |fd| wigwag::Condition::from_fd(fd, wigwag::ConditionOptions::default()))?;
        Ok(Condition(Handle::new("Condition", joined), mutex))
    }

    /// Join a condition in a range of memory that the caller brought, or make it there: see Mutex.place. Raises OSError
    /// as there.
    #[staticmethod]
    #[pyo3(signature = (memory, offset, size = None, *, mutex, participants = 0, wait = Waiting::default()))]
    #[allow(clippy::too_many_arguments)] // keywords in Python
    fn place(
        memory: &Bound<'_, PyAny>,
        offset: u64,
        size: Option<u64>,
        mutex: Py<Mutex>,
        participants: u32,
        wait: Waiting,
    ) -> PyResult<Condition> {
        let options = wigwag::ConditionOptions { participants, wait: wait.0, ..Default::default() };
        let needed = wigwag::Condition::placed_size_for(&options);
        let placed =
            place(memory, offset, size, needed, |memory, range| wigwag::Condition::place(memory, range, options))?;
        Ok(Condition(Handle::new("Condition", placed), mutex))
    }

    /// How many bytes a condition takes in memory that the caller brings. Never blocks. Raises OSError (EINVAL).
    #[staticmethod]
    #[pyo3(signature = (*, participants = 0))]
    fn placed_size_for(py: Python<'_>, participants: u32) -> PyResult<usize> {
        let options = wigwag::ConditionOptions { participants, ..Default::default() };
        wigwag::Condition::placed_size_for(&options).map_err(|error| raise(py, error))
    }

    /// Where it lies in memory that the caller brought, offset and size; None if it has memory of its own.
    #[getter]
    fn placed(&self) -> PyResult<Option<(u64, u64)>> {
        Ok(self.0.get()?.placed().map(|range| (range.start, range.end - range.start)))
    }

    /// Remove a name: those who have it open go on using it. Never blocks. Raises FileNotFoundError, PermissionError.
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        wigwag::Condition::remove(&address.0).map_err(|error| raise(py, error))
    }

    /// Raise OSError (ESTALE) if the name no longer stands for this one. Never blocks.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.check().map_err(|error| raise(py, error))
    }

    /// Take the mutex, as its acquire.
    #[pyo3(signature = (blocking = true, timeout = None))]
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: Option<f64>) -> PyResult<bool> {
        drop(self.0.get()?);
        self.1.get().acquire(py, blocking, timeout)
    }

    /// Release the mutex, as its release.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        drop(self.0.get()?);
        self.1.get().release(py)
    }

    /// Release the mutex, wait to be notified, and take it again; True, or False if the time has passed.
    ///
    /// Taking it again may take as long as the timeout, and at least a second, once more; it is held again also when
    /// the wait was ended early, by Ctrl-C or close. Raises PermissionError: this thread does not hold the mutex. After
    /// these the mutex is not held: OSError (ENOLCK: it could not be had again in time, or, after a cancel, without
    /// waiting; ENOTRECOVERABLE: it was given up for good; ESTALE, EBADMSG about the mutex: if these are about the
    /// condition, it is held still).
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let (condition, mutex, timeout) = (self.0.get()?, self.1.get().core()?, support::timeout(timeout)?);
        let (waited, _) = ended(py, py.detach(|| condition.wait_taken(&mutex, timeout)))?;
        match waited {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.errno(), libc::EAGAIN | libc::ETIMEDOUT) => Ok(false),
            Err(error) => Err(raise(py, error)),
        }
    }

    /// Wait until the predicate, called with the mutex held, is true; what it last gave.
    #[pyo3(signature = (predicate, timeout = None))]
    fn wait_for<'py>(
        &self,
        py: Python<'py>,
        predicate: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let started = std::time::Instant::now();
        loop {
            let result = predicate.call0()?;
            let left = timeout.map(|seconds| (seconds - started.elapsed().as_secs_f64()).max(0.0));
            if result.is_truthy()? || !self.wait(py, left)? {
                return if result.is_truthy()? { Ok(result) } else { predicate.call0() };
            }
        }
    }

    /// Wake ``n`` of those who wait. Never blocks. With or without the mutex held. Raises OSError (ESTALE).
    #[pyo3(signature = (n = 1))]
    fn notify(&self, py: Python<'_>, n: u32) -> PyResult<()> {
        let condition = self.0.get()?;
        (0..n).try_for_each(|_| condition.notify_one()).map_err(|error| raise(py, error))
    }

    /// Wake all who wait, as notify.
    fn notify_all(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.notify_all().map_err(|error| raise(py, error))
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

    /// The descriptor of its memory, to pass on for from_fd; it stays the object's.
    fn segment_fd(&self) -> PyResult<i32> {
        Ok(self.0.get()?.as_fd().as_raw_fd())
    }

    /// Who takes part, holds and waits.
    fn participants(&self, py: Python<'_>) -> PyResult<Vec<SyncParticipant>> {
        let statistics = self.0.get()?.statistics().map_err(|error| raise(py, error))?;
        Ok(participants(statistics.participants))
    }

    /// The address; ``"condition:"`` for one without a name.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. The mutex stays open. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |_| None, wigwag::Condition::end_waits)
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
        options.set_item("mutex", slf.get().1.clone_ref(slf.py()))?;
        reduce_sync(slf.as_any(), object.address(), object.placed(), &options)
    }

    fn __repr__(&self) -> String {
        self.0.describe(|object| object.address().to_owned())
    }
}
