//! System V semaphore set.

use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use wigwag::{SemOp, SysvSemOptions};

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::held::{Held, acquire};
use crate::support::{self, coroutine_on, fileno_with, raise, wait};

/// A System V semaphore set (``sysv-sem:path#65``, ``sysv-sem:0xKEY``, ``sysv-sem:private``): counters that one call can
/// change together.
///
/// ``acquire()``, ``release()``, ``held()`` and ``with set:`` are for permits that the kernel gives back should the process
/// die; ``add()`` and ``operate()`` for any other use. Semaphores are numbered from 0, which is the default. Made by
/// ``SysvSem.open()``, ``SysvSem.create()`` or ``SysvSem.open_or_create()``; a set lives until it is removed or the next
/// boot. Calls on one that was removed, before or meanwhile, raise OSError with errno EIDRM.
#[pyclass(frozen, module = "wigwag")]
pub struct SysvSem(Handle<wigwag::SysvSem>);

/// What the kernel keeps about a SysvSem.
#[pyclass(frozen, get_all, module = "wigwag")]
pub struct SysvSemStatus {
    /// Its key, 0 if it has none.
    key: i32,
    /// The owner's user id.
    uid: u32,
    /// The owner's group id.
    gid: u32,
    /// The creator's user id.
    creator_uid: u32,
    /// The creator's group id.
    creator_gid: u32,
    /// Permissions.
    mode: u32,
    /// How many semaphores it has.
    count: usize,
    /// When an operation last succeeded, in whole seconds since 1970; None if none has yet.
    operated_at: Option<u64>,
    /// When it was made, or values were last set, in whole seconds since 1970.
    changed_at: u64,
}

/// Which semaphore of a set, or ValueError.
fn nth(number: i64) -> PyResult<u16> {
    u16::try_from(number).map_err(|_| PyValueError::new_err("number must be from 0 to 65535"))
}

fn options(
    values: Option<Vec<u16>>,
    count: usize,
    initial: u16,
    mode: u32,
    settle: Option<f64>,
) -> PyResult<SysvSemOptions> {
    let settle = self::settle(settle)?;
    Ok(SysvSemOptions { mode, count, initial, values: values.unwrap_or_default(), settle })
}

/// How long to wait for a set that might not have its values yet.
fn settle(seconds: Option<f64>) -> PyResult<Option<Duration>> {
    let Some(seconds) = seconds else { return Ok(None) };
    match support::timeout(Some(seconds))? {
        wigwag::Timeout::After(duration) => Ok(Some(duration)),
        wigwag::Timeout::Now => Ok(Some(Duration::ZERO)),
        wigwag::Timeout::Forever => Err(PyValueError::new_err("settle must have an end")),
    }
}

fn op(given: &Bound<'_, PyAny>) -> PyResult<SemOp> {
    let parts = given.try_iter()?.collect::<PyResult<Vec<_>>>()?;
    let (number, change, undo) = match parts.as_slice() {
        [number, change] => (number, change, false),
        [number, change, undo] => (number, change, undo.is_truthy()?),
        _ => return Err(PyTypeError::new_err("an operation is (number, change) or (number, change, undo)")),
    };
    let op = SemOp::new(nth(number.extract()?)?, change.extract()?);
    Ok(if undo { op.with_undo() } else { op })
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl SysvSem {
    fn new(py: Python<'_>, set: wigwag::Result<wigwag::SysvSem>) -> PyResult<SysvSem> {
        Ok(SysvSem(Handle::new("SysvSem", set.map_err(|error| raise(py, error))?)))
    }

    fn ask<T>(&self, py: Python<'_>, what: impl FnOnce(&wigwag::SysvSem) -> wigwag::Result<T>) -> PyResult<T> {
        what(&*self.0.get()?).map_err(|error| raise(py, error))
    }
}

#[pymethods]
impl SysvSem {
    /// Open a set that exists.
    ///
    /// Waits only for a set that has just been made and that nobody has operated on yet: for ``settle`` seconds at most,
    /// 1 by default; then it is opened as it is. Raises FileNotFoundError, PermissionError, OSError (EINVAL: it has fewer semaphores than the address asks for).
    #[staticmethod]
    #[pyo3(signature = (address, settle = None))]
    fn open(py: Python<'_>, address: AddressLike, settle: Option<f64>) -> PyResult<SysvSem> {
        let settle = self::settle(settle)?;
        SysvSem::new(py, py.detach(|| wigwag::SysvSem::open(&address.0, settle)))
    }

    /// Make a set that must not exist yet, with its values in place. Never blocks.
    ///
    /// ``values`` gives the value of each, or ``count`` and ``initial`` give all the same one; what is 0 counts as the
    /// address says (``sysv-sem:semfile#65?mode=0660&count=3&initial=1``). The mode is 0600 by default. Raises
    /// FileExistsError, OSError (EINVAL, ERANGE; ENOSPC: the system has no room for another).
    #[staticmethod]
    #[pyo3(signature = (address, values = None, *, count = 0, initial = 0, mode = 0))]
    fn create(
        py: Python<'_>,
        address: AddressLike,
        values: Option<Vec<u16>>,
        count: usize,
        initial: u16,
        mode: u32,
    ) -> PyResult<SysvSem> {
        let options = options(values, count, initial, mode, None)?;
        SysvSem::new(py, wigwag::SysvSem::create(&address.0, &options))
    }

    /// Open a set, or make it with its values if there is none; the options count only for the one who makes it.
    ///
    /// No process that opens it by this library sees it without its values. A set that another program has made and
    /// nobody has operated on is waited for, ``settle`` seconds at most (1 by default); if it is untouched by then its
    /// creator is taken for dead, and the set made anew. Raises PermissionError, OSError, as open and create.
    #[staticmethod]
    #[pyo3(signature = (address, values = None, *, count = 0, initial = 0, mode = 0, settle = None))]
    fn open_or_create(
        py: Python<'_>,
        address: AddressLike,
        values: Option<Vec<u16>>,
        count: usize,
        initial: u16,
        mode: u32,
        settle: Option<f64>,
    ) -> PyResult<SysvSem> {
        let options = options(values, count, initial, mode, settle)?;
        SysvSem::new(py, py.detach(|| wigwag::SysvSem::open_or_create(&address.0, &options)))
    }

    /// Use a set by its kernel id. Never blocks. Raises OSError (EIDRM: there is none), PermissionError.
    #[staticmethod]
    fn from_id(py: Python<'_>, id: i32) -> PyResult<SysvSem> {
        SysvSem::new(py, wigwag::SysvSem::from_id(id))
    }

    /// Remove the set that an address names, without opening it first. Never blocks.
    ///
    /// Raises FileNotFoundError, PermissionError.
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        wigwag::SysvSem::remove(&address.0).map_err(|error| raise(py, error))
    }

    /// Take a permit, which the kernel gives back if the process ends first; True, or False if there was none in time (at
    /// once with ``blocking=False``).
    ///
    /// Raises OSError (EFBIG: no semaphore of that number; EIDRM), PermissionError.
    #[pyo3(signature = (blocking = true, timeout = None, *, number = 0))]
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: Option<f64>, number: i64) -> PyResult<bool> {
        let number = nth(number)?;
        let set = self.0.get()?;
        acquire(py, blocking, timeout, |timeout| set.take(number, timeout))
    }

    /// As acquire, to be awaited; see fileno.
    #[pyo3(signature = (timeout = None, *, number = 0))]
    fn acquire_async<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>, number: i64) -> PyResult<Bound<'py, PyAny>> {
        let number = nth(number)?;
        let taking = coroutine_on(slf, "_take", &fileno_with(slf, (number, -1))?, false, timeout, (number,))?;
        slf.py().import("wigwag._aio")?.call_method1("whether_in_time", (taking,))
    }

    /// As acquire, but raises TimeoutError, or BlockingIOError with a timeout of 0.
    #[pyo3(name = "_take", signature = (number, timeout))]
    fn take(&self, py: Python<'_>, number: i64, timeout: Option<f64>) -> PyResult<()> {
        let number = nth(number)?;
        let set = self.0.get()?;
        wait(py, timeout, |timeout| set.take(number, timeout))
    }

    /// Give back a permit that this process has acquired. Never blocks. Raises as acquire, and OSError with errno ERANGE.
    #[pyo3(signature = (*, number = 0))]
    fn release(&self, py: Python<'_>, number: i64) -> PyResult<()> {
        let number = nth(number)?;
        self.ask(py, |set| set.release(number))
    }

    /// A permit for the length of a ``with`` statement, which raises TimeoutError if there is none in time.
    #[pyo3(signature = (timeout = None, *, number = 0))]
    fn held(slf: Py<Self>, py: Python<'_>, timeout: Option<f64>, number: i64) -> PyResult<Held> {
        let number = nth(number)?;
        support::timeout(timeout)?;
        drop(slf.get().0.get()?); // a closed one is refused here already
        let same = slf.clone_ref(py);
        let take = move |py: Python<'_>| {
            let set = slf.get().0.get()?;
            wait(py, timeout, |timeout| set.take(number, timeout))
        };
        Ok(Held::new(take, move |py| same.get().ask(py, |set| set.release(number))))
    }

    /// Add ``change`` to a semaphore; below 0 take that many at once, waiting until there are as many. Nothing is undone
    /// when the process ends.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0, OSError (EINVAL for 0; ERANGE; EFBIG, EIDRM).
    #[pyo3(signature = (number, change, timeout = None))]
    fn add(&self, py: Python<'_>, number: i64, change: i16, timeout: Option<f64>) -> PyResult<()> {
        let number = nth(number)?;
        let set = self.0.get()?;
        wait(py, timeout, |timeout| set.add(number, change, timeout))
    }

    /// As add, to be awaited; see fileno.
    #[pyo3(signature = (number, change, timeout = None))]
    fn add_async<'py>(
        slf: &Bound<'py, Self>,
        number: i64,
        change: i16,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        coroutine_on(slf, "add", &fileno_with(slf, (number, change))?, false, timeout, (number, change))
    }

    /// As wait_zero, to be awaited; see fileno.
    #[pyo3(signature = (number = 0, timeout = None))]
    fn wait_zero_async<'py>(slf: &Bound<'py, Self>, number: i64, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        coroutine_on(slf, "wait_zero", &fileno_with(slf, (number, 0))?, false, timeout, (number,))
    }

    /// A descriptor, to poll: readable when ``change`` may be possible: -1 for a permit, less for several at once, 0 for the
    /// value being 0.
    ///
    /// It hears processes that know nothing of this library. It stays readable until a call with the same number and change
    /// (acquire is -1) finds that it would have to wait. A forked child asks again and gets one of its own. The cost, from
    /// the first call on: a helper thread, a descriptor, and each time that the helper is woken two switches of context. The
    /// helper never moves the value, but counts in ``waiting()`` and shows in ``last_pid()``. Raises OSError (EINVAL for a
    /// change above 0; EFBIG, EIDRM, EMFILE, ENFILE, ENOMEM), PermissionError.
    #[pyo3(signature = (number = 0, change = -1))]
    fn fileno(&self, py: Python<'_>, number: i64, change: i16) -> PyResult<i32> {
        let number = nth(number)?;
        self.ask(py, |set| set.doorbell(number, change).map(|fd| fd.as_raw_fd()))
    }

    /// Wait until the value of a semaphore is 0. Raises TimeoutError, BlockingIOError with a timeout of 0, OSError.
    #[pyo3(signature = (number = 0, timeout = None))]
    fn wait_zero(&self, py: Python<'_>, number: i64, timeout: Option<f64>) -> PyResult<()> {
        let number = nth(number)?;
        let set = self.0.get()?;
        wait(py, timeout, |timeout| set.wait_zero(number, timeout))
    }

    /// Do all operations at one moment, waiting until all can be done; none is done if one fails.
    ///
    /// Each is ``(number, change)`` or ``(number, change, undo)``: above 0 adds, below 0 takes, 0 waits for zero; with a
    /// true ``undo`` the kernel takes the change back when the process ends. Raises TimeoutError, BlockingIOError with a
    /// timeout of 0, OSError (EINVAL: none given; E2BIG: more than the system allows; ERANGE, EFBIG, EIDRM).
    #[pyo3(signature = (ops, timeout = None))]
    fn operate(&self, py: Python<'_>, ops: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let set = self.0.get()?;
        let ops = ops.try_iter()?.map(|given| op(&given?)).collect::<PyResult<Vec<_>>>()?;
        wait(py, timeout, |timeout| set.operate(&ops, timeout))
    }

    /// The value of a semaphore at this moment.
    #[pyo3(signature = (number = 0))]
    fn value(&self, py: Python<'_>, number: i64) -> PyResult<u16> {
        let number = nth(number)?;
        self.ask(py, |set| set.value(number))
    }

    /// Set the value of a semaphore and wake those whom it lets go on; all processes forget what they would have undone
    /// for it. Raises OSError (ERANGE: above 32767; EFBIG, EIDRM).
    fn set_value(&self, py: Python<'_>, number: i64, value: u16) -> PyResult<()> {
        let number = nth(number)?;
        self.ask(py, |set| set.set_value(number, value))
    }

    /// All values at one moment, as a list.
    fn values(&self, py: Python<'_>) -> PyResult<Vec<u16>> {
        self.ask(py, wigwag::SysvSem::values)
    }

    /// Set all values at one moment. Raises OSError (EINVAL: more or fewer than semaphores; ERANGE, EIDRM).
    fn set_values(&self, py: Python<'_>, values: Vec<u16>) -> PyResult<()> {
        self.ask(py, |set| set.set_values(&values))
    }

    /// How many threads wait until the value of a semaphore grows.
    #[pyo3(signature = (number = 0))]
    fn waiting(&self, py: Python<'_>, number: i64) -> PyResult<u32> {
        let number = nth(number)?;
        self.ask(py, |set| set.waiting(number))
    }

    /// How many threads wait until a semaphore is zero.
    #[pyo3(signature = (number = 0))]
    fn waiting_for_zero(&self, py: Python<'_>, number: i64) -> PyResult<u32> {
        let number = nth(number)?;
        self.ask(py, |set| set.waiting_for_zero(number))
    }

    /// The process that last changed or set the value of a semaphore; None if none has, or if it cannot be seen from here.
    #[pyo3(signature = (number = 0))]
    fn last_pid(&self, py: Python<'_>, number: i64) -> PyResult<Option<i32>> {
        let number = nth(number)?;
        self.ask(py, |set| set.last_pid(number))
    }

    /// What the kernel keeps about the set, as a SysvSemStatus.
    fn status(&self, py: Python<'_>) -> PyResult<SysvSemStatus> {
        let status = self.ask(py, wigwag::SysvSem::status)?;
        Ok(SysvSemStatus {
            key: status.key,
            uid: status.uid,
            gid: status.gid,
            creator_uid: status.creator_uid,
            creator_gid: status.creator_gid,
            mode: status.mode,
            count: status.count,
            operated_at: status.operated_at.map(seconds),
            changed_at: seconds(status.changed_at),
        })
    }

    /// How many semaphores it has.
    #[getter]
    fn count(&self) -> PyResult<usize> {
        Ok(self.0.get()?.count())
    }

    /// The kernel's id of the set.
    #[getter]
    fn id(&self) -> PyResult<i32> {
        Ok(self.0.get()?.id())
    }

    /// Remove the set at once, for everybody: who waits on it gets OSError with errno EIDRM. Raises PermissionError.
    fn unlink(&self, py: Python<'_>) -> PyResult<()> {
        self.ask(py, wigwag::SysvSem::unlink)
    }

    /// The address.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. The set stays, and so does what was acquired.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |set| set.doorbells().map(|fd| fd.as_raw_fd()).collect::<Vec<_>>(), wigwag::SysvSem::end_waits)
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Take a permit of semaphore 0, as threading.Semaphore does.
    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, true, None, 0)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _type: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.release(py, 0)
    }

    fn __repr__(&self) -> String {
        self.0.describe(|set| format!("{} id={} count={}", set.address(), set.id(), set.count()))
    }
}
