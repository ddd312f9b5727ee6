//! POSIX semaphore.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use wigwag::SemOptions;

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::held::{Held, acquire};
use crate::support::{self, Room, raise, wait};

/// A POSIX semaphore (``sem:/name``, or in shared memory): a number of permits that processes take and give back.
///
/// Has the shape of threading.Semaphore; ``with sem:`` holds a permit, and ``with sem.held(timeout=1):`` does so with a
/// deadline. Made by ``Sem.open()``, ``Sem.create()``, ``Sem.open_or_create()``, or in memory by ``Sem.init_at()`` and
/// ``Sem.at()``. Starting at 1 makes a lock. The counter knows no owners: a process that is killed while it holds a permit
/// takes it along; where that matters use SysvSem. A named one lives until ``Sem.remove()`` or the next boot.
#[pyclass(frozen, module = "wigwag")]
pub struct Sem(Handle<Placed>);

/// The semaphore, and what keeps its memory in place; dropped in this order.
struct Placed {
    sem: wigwag::Sem,
    _memory: Option<Room>,
}

impl Sem {
    fn named(py: Python<'_>, sem: wigwag::Result<wigwag::Sem>) -> PyResult<Sem> {
        let sem = sem.map_err(|error| raise(py, error))?;
        Ok(Sem(Handle::new("Sem", Placed { sem, _memory: None })))
    }

    fn placed(
        py: Python<'_>,
        mut memory: Room,
        offset: usize,
        make: impl FnOnce(*mut u8) -> wigwag::Result<wigwag::Sem>,
    ) -> PyResult<Sem> {
        let end = offset.checked_add(wigwag::Sem::SIZE);
        let Some(place) = end.and_then(|end| memory.as_mut_slice().get_mut(offset..end)) else {
            let text = format!("a semaphore takes {} bytes, and the buffer ends before", wigwag::Sem::SIZE);
            return Err(PyValueError::new_err(text));
        };
        let sem = make(place.as_mut_ptr()).map_err(|error| raise(py, error))?;
        Ok(Sem(Handle::new("Sem", Placed { sem, _memory: Some(memory) })))
    }
}

#[pymethods]
impl Sem {
    /// The bytes that a semaphore takes in memory.
    #[classattr]
    const SIZE: usize = wigwag::Sem::SIZE;

    /// What the address of a semaphore in memory must be a multiple of.
    #[classattr]
    const ALIGNMENT: usize = wigwag::Sem::ALIGNMENT;

    /// The largest value.
    #[classattr]
    const VALUE_MAX: u32 = wigwag::SEM_VALUE_MAX;

    /// Open a semaphore that exists. Never blocks.
    ///
    /// Raises FileNotFoundError, PermissionError, OSError (EINVAL, EBADMSG: the file of that name holds no semaphore).
    #[staticmethod]
    fn open(py: Python<'_>, address: AddressLike) -> PyResult<Sem> {
        Sem::named(py, wigwag::Sem::open(&address.0))
    }

    /// Make a semaphore that must not exist yet. Never blocks.
    ///
    /// What is 0 counts as the address says (``sem:/gate?mode=0660&initial=1``); the mode is 0600 by default, and holds
    /// whatever the umask. Raises FileExistsError, OSError (EINVAL for the value or the mode; ENOSPC).
    #[staticmethod]
    #[pyo3(signature = (address, initial = 0, mode = 0))]
    fn create(py: Python<'_>, address: AddressLike, initial: u32, mode: u32) -> PyResult<Sem> {
        Sem::named(py, wigwag::Sem::create(&address.0, &SemOptions { mode, initial }))
    }

    /// Open a semaphore, or make it if there is none; the options count only for the one who makes it. Never blocks.
    ///
    /// Raises PermissionError, OSError, as open and create.
    #[staticmethod]
    #[pyo3(signature = (address, initial = 0, mode = 0))]
    fn open_or_create(py: Python<'_>, address: AddressLike, initial: u32, mode: u32) -> PyResult<Sem> {
        Sem::named(py, wigwag::Sem::open_or_create(&address.0, &SemOptions { mode, initial }))
    }

    /// Make a semaphore in a writable buffer (shared memory, mmap), ``Sem.SIZE`` bytes from ``offset``. Never blocks.
    ///
    /// The buffer stays exported while the semaphore is open. Nobody may use a semaphore that is there already; others use
    /// this one after the call, by ``Sem.at()``, and nobody writes to its bytes. Raises OSError (EINVAL: not aligned).
    #[staticmethod]
    #[pyo3(signature = (buffer, initial = 0, offset = 0))]
    fn init_at(py: Python<'_>, buffer: Room, initial: u32, offset: usize) -> PyResult<Sem> {
        // SAFETY: the bytes lie in a buffer that `placed` keeps exported, so mapped and writable, as long as the
        // semaphore; that nobody else misuses them is asked of the caller, as of every user of shared memory.
        Sem::placed(py, buffer, offset, |place| unsafe { wigwag::Sem::init_at(place, initial) })
    }

    /// Use a semaphore that somebody has made in a buffer. Never blocks.
    ///
    /// Raises OSError (EBADMSG: there is none, as far as can be seen; EINVAL: not aligned).
    #[staticmethod]
    #[pyo3(signature = (buffer, offset = 0))]
    fn at(py: Python<'_>, buffer: Room, offset: usize) -> PyResult<Sem> {
        // SAFETY: as in `init_at`.
        Sem::placed(py, buffer, offset, |place| unsafe { wigwag::Sem::at(place) })
    }

    /// Remove a name: those who have it open go on using it. Never blocks. Raises FileNotFoundError, PermissionError.
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        wigwag::Sem::remove(&address.0).map_err(|error| raise(py, error))
    }

    /// Take a permit; True, or False if there was none in time (at once with ``blocking=False``).
    #[pyo3(signature = (blocking = true, timeout = None))]
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: Option<f64>) -> PyResult<bool> {
        let placed = self.0.get()?;
        acquire(py, blocking, timeout, |timeout| placed.sem.take(timeout))
    }

    /// Give ``n`` permits, waking those who wait. Never blocks.
    ///
    /// Raises ValueError for an ``n`` below 1, OSError with errno EOVERFLOW at the largest value; its ``done`` tells how
    /// many were given.
    #[pyo3(signature = (n = 1))]
    fn release(&self, py: Python<'_>, n: i64) -> PyResult<()> {
        let n = u32::try_from(n).ok().filter(|n| *n >= 1);
        let n = n.ok_or_else(|| PyValueError::new_err("n must be one or more, and below 2**32"))?;
        self.0.get()?.sem.release_many(n).map_err(|error| raise(py, error))
    }

    /// A permit for the length of a ``with`` statement, which raises TimeoutError if there is none in time.
    #[pyo3(signature = (timeout = None))]
    fn held(slf: Py<Self>, py: Python<'_>, timeout: Option<f64>) -> PyResult<Held> {
        support::timeout(timeout)?;
        drop(slf.get().0.get()?); // a closed one is refused here already
        let same = slf.clone_ref(py);
        let take = move |py: Python<'_>| {
            let placed = slf.get().0.get()?;
            wait(py, timeout, |timeout| placed.sem.take(timeout))
        };
        Ok(Held::new(take, move |py| same.get().release(py, 1)))
    }

    /// How many permits are left at this moment.
    #[getter]
    fn value(&self, py: Python<'_>) -> PyResult<u32> {
        self.0.get()?.sem.value().map_err(|error| raise(py, error))
    }

    /// The address; ``"sem:"`` for one in memory.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.sem.address().to_owned())
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. The semaphore stays. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |_| None, |placed| placed.sem.end_waits())
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Take a permit, as threading.Semaphore does.
    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, true, None)
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

    fn __repr__(&self) -> String {
        self.0.describe(|placed| format!("{} value={}", placed.sem.address(), placed.sem.value().unwrap_or(0)))
    }
}
