//! Leases: slots that all processes of a host share, for connections, licences and the like.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use wigwag::{LeaseGroup, LeaseOptions, LeaseRequest};

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::support::{Bytes, adopt, raise, try_then_in_thread, wait};
use crate::sync::{SyncParticipant, Waiting, participants, reduce, seconds};

/// A pool of leases (``lease:name``): slots that all processes of a host share, each with what its holders keep about it.
///
/// For connections to a database, licences, ports: ``with pool.acquire() as lease:`` has one. The slot of a process that
/// dies comes back marked dirty, so that whoever gets it first makes sure that nothing is left of what that one had begun.
/// Made by ``LeasePool.open()``, ``LeasePool.anonymous()`` and ``LeasePool.from_fd()``.
#[pyclass(frozen, module = "wigwag")]
pub struct LeasePool(Handle<Arc<wigwag::LeasePool>>);

/// Those options that Python has in another form.
fn options(expires: Option<f64>, groups: Option<&Bound<'_, PyDict>>) -> PyResult<LeaseOptions> {
    let wrong = || PyValueError::new_err("expires must be None or a number of seconds above 0");
    let expires = match expires {
        None => Duration::ZERO,
        Some(seconds) if seconds > 0.0 => Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?,
        Some(_) => return Err(wrong()),
    };
    let group = |(name, minimum): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
        Ok(LeaseGroup { name: name.extract()?, minimum: minimum.extract()? })
    };
    let groups =
        groups.map(|groups| groups.iter().map(group).collect::<PyResult<_>>()).transpose()?.unwrap_or_default();
    Ok(LeaseOptions { expires, groups, ..Default::default() })
}

fn pool(made: wigwag::LeasePool) -> LeasePool {
    LeasePool(Handle::new("LeasePool", Arc::new(made)))
}

#[pymethods]
impl LeasePool {
    /// Open the pool of this address, or make it. What is given and differs from the pool that there is is refused. Never
    /// blocks.
    ///
    /// A plain name lies in ``$WIGWAG_DIR`` or ``/dev/shm/wigwag-UID``, one with a slash is a path on a tmpfs. ``slots`` is
    /// how many there are (8 by default, at most 4096), ``room`` how many it can be resized to. ``fair`` serves first who
    /// comes first; by default whoever comes may be faster than those who wait, until one of these has waited for 0.4 ms.
    /// ``expires`` is how many seconds a lease lasts unless it is renewed (None: as long as its holder lives), ``groups`` how
    /// many slots are kept for whom, such as ``{"web": 6, "cron": 2}``. ``participants`` is how many handles may be open at
    /// the same time (64 by default, at most 256), ``wait`` how the calls of this handle wait: ``"adaptive"``, ``"block"``
    /// or ``"poll"``. Raises OSError (EINVAL, ENOSPC, EACCES; EBADMSG: there is something else; EPROTO: made by an
    /// incompatible version; EUSERS: no room for another handle).
    #[staticmethod]
    #[pyo3(signature = (address, slots = 0, *, room = 0, fair = false, expires = None, groups = None, participants = 0,
        mode = 0, wait = Waiting::default()))]
    #[allow(clippy::too_many_arguments)]
    fn open(
        py: Python<'_>,
        address: AddressLike,
        slots: u32,
        room: u32,
        fair: bool,
        expires: Option<f64>,
        groups: Option<&Bound<'_, PyDict>>,
        participants: u32,
        mode: u32,
        wait: Waiting,
    ) -> PyResult<LeasePool> {
        let options = options(expires, groups)?;
        let options = LeaseOptions { slots, room, fair, participants, mode, wait: wait.0, ..options };
        Ok(pool(wigwag::LeasePool::open(&address.0, options).map_err(|error| raise(py, error))?))
    }

    /// Make a pool without a name, for children made by fork, and for others by its descriptor. Never blocks. Raises OSError
    /// (EINVAL, ENOSPC).
    #[staticmethod]
    #[pyo3(signature = (slots = 0, *, room = 0, fair = false, expires = None, groups = None, participants = 0, mode = 0,
        wait = Waiting::default()))]
    #[allow(clippy::too_many_arguments)]
    fn anonymous(
        py: Python<'_>,
        slots: u32,
        room: u32,
        fair: bool,
        expires: Option<f64>,
        groups: Option<&Bound<'_, PyDict>>,
        participants: u32,
        mode: u32,
        wait: Waiting,
    ) -> PyResult<LeasePool> {
        let options = options(expires, groups)?;
        let options = LeaseOptions { slots, room, fair, participants, mode, wait: wait.0, ..options };
        Ok(pool(wigwag::LeasePool::anonymous(options).map_err(|error| raise(py, error))?))
    }

    /// Join one whose descriptor came from a parent or a peer; the descriptor then belongs to the object. Never blocks.
    ///
    /// Raises OSError (EBADMSG: it is something else; EPROTO, EUSERS).
    #[staticmethod]
    fn from_fd(py: Python<'_>, fd: i32) -> PyResult<LeasePool> {
        Ok(pool(adopt(py, fd, |fd| wigwag::LeasePool::from_fd(fd, LeaseOptions::default()))?))
    }

    /// Remove a name: those who have it open go on using it. Never blocks. Raises FileNotFoundError, PermissionError.
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        wigwag::LeasePool::remove(&address.0).map_err(|error| raise(py, error))
    }

    /// Raise OSError (ESTALE) if the name no longer stands for this one. Never blocks.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.check().map_err(|error| raise(py, error))
    }

    /// Take a slot; waits for one for ``timeout`` seconds at most.
    ///
    /// ``group`` is that for which it is taken, one of those that the pool was made with, and ``note`` what it is used for, in
    /// at most 64 bytes, for people who look at the statistics. Raises TimeoutError, BlockingIOError (with a timeout of 0),
    /// OSError (EINVAL: no such group; ESTALE: this handle was declared dead).
    #[pyo3(signature = (timeout = None, *, group = "", note = ""))]
    fn acquire(&self, py: Python<'_>, timeout: Option<f64>, group: &str, note: &str) -> PyResult<Lease> {
        let pool = self.0.get()?;
        let request = LeaseRequest { group, note };
        let lease = wait(py, timeout, |timeout| pool.acquire_owned(&request, timeout))?;
        Ok(Lease { slot: lease.slot(), token: lease.token(), held: Mutex::new(Some(lease)) })
    }

    /// As acquire, to be awaited; if no slot is free, the waiting is done on a thread of its own.
    #[pyo3(signature = (timeout = None, *, group = "", note = ""))]
    fn acquire_async<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<f64>,
        group: &str,
        note: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options = PyDict::new(slf.py());
        options.set_item("group", group)?;
        options.set_item("note", note)?;
        try_then_in_thread(&slf.getattr("acquire")?, (), timeout, Some(&options))
    }

    /// How many slots there are, held or not.
    #[getter]
    fn slots(&self) -> PyResult<u32> {
        Ok(self.0.get()?.slots())
    }

    /// How many of them are free, those that are kept for groups included.
    #[getter]
    fn available(&self) -> PyResult<u32> {
        Ok(self.0.get()?.available())
    }

    /// How many threads wait in line for one, of all processes.
    #[getter]
    fn waiting(&self) -> PyResult<u32> {
        Ok(self.0.get()?.waiting())
    }

    /// Wait until somebody waits in line for a slot: for those who keep one that they do not need just now.
    ///
    /// Raises TimeoutError, BlockingIOError (with a timeout of 0).
    #[pyo3(signature = (timeout = None))]
    fn wait_wanted(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let pool = self.0.get()?;
        wait(py, timeout, |timeout| pool.wait_wanted(timeout))
    }

    /// Make the pool larger or smaller, for all who have it open. Slots beyond the new size stay with their holders until
    /// these give them back. Never blocks. Raises OSError (EINVAL: more than it has room for, fewer than are kept, or none).
    fn resize(&self, py: Python<'_>, slots: u32) -> PyResult<()> {
        self.0.get()?.resize(slots).map_err(|error| raise(py, error))
    }

    /// A descriptor that is readable while a slot can be had that is not kept for a group; a helper thread sleeps behind it
    /// from the first call on.
    ///
    /// It stays the object's; a child made by fork asks for its own. Raises OSError (EMFILE, ENFILE).
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        Ok(self.0.get()?.doorbell().map_err(|error| raise(py, error))?.as_raw_fd())
    }

    /// The descriptor of its memory, to pass on for from_fd; it stays the object's.
    fn segment_fd(&self) -> PyResult<i32> {
        Ok(self.0.get()?.as_fd().as_raw_fd())
    }

    /// Who holds which slot, who waits, and what has happened so far. Never blocks.
    fn statistics(&self, py: Python<'_>) -> PyResult<LeaseStatistics> {
        let seen = self.0.get()?.statistics().map_err(|error| raise(py, error))?;
        let holders = seen.holders.into_iter().map(|holder| {
            let holder = LeaseHolder {
                slot: holder.slot,
                token: holder.token,
                pid: holder.pid,
                is_self: holder.is_self,
                since: holder.since.map(seconds),
                expires_in: holder.expires_in.map(|left| left.as_secs_f64()),
                dirty: holder.dirty,
                group: holder.group,
                note: holder.note,
                information: holder.information.map(|bytes| PyBytes::new(py, &bytes).unbind()),
            };
            Py::new(py, holder)
        });
        Ok(LeaseStatistics {
            slots: seen.slots,
            room: seen.room,
            held: seen.held,
            dirty: seen.dirty,
            waiting: seen.waiting,
            fair: seen.fair,
            expires: seen.expires.map(|expires| expires.as_secs_f64()),
            bytes: seen.bytes,
            leases: seen.leases,
            timeouts: seen.timeouts,
            reclaims: seen.reclaims,
            expiries: seen.expiries,
            refused: seen.refused,
            waits: seen
                .waits
                .into_iter()
                .map(|(below, count)| (if below == Duration::MAX { f64::INFINITY } else { below.as_secs_f64() }, count))
                .collect(),
            groups: seen
                .groups
                .into_iter()
                .map(|group| (group.name, (group.minimum, group.held, group.waiting)))
                .collect(),
            holders: holders.collect::<PyResult<_>>()?,
            participants: participants(seen.participants)
                .into_iter()
                .map(|participant| Py::new(py, participant))
                .collect::<PyResult<_>>()?,
        })
    }

    /// The address; ``"lease:"`` for one without a name.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. Leases that were taken stay good. Closing twice is
    /// fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |_| None, |pool| pool.end_waits())
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    /// It pickles as its address; without a name only along with a process that multiprocessing starts.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let object = slf.get().0.get()?;
        reduce(slf.as_any(), object.address(), &PyDict::new(slf.py()))
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        slf.0.get()?;
        Ok(slf)
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
        self.0.describe(|object| object.address().to_owned())
    }
}

/// One slot of a pool, until it is released; ``with`` releases it in the end. It keeps its pool open.
///
/// A lease is lost when its time is over and somebody has looked at the pool since, as those do who wait for a slot, or for
/// one to be wanted, or open it: what is done under it then raises OSError (ESTALE), whose text says who has the slot. After release everything but ``slot``, ``token`` and ``released`` raises
/// ValueError.
#[pyclass(frozen, module = "wigwag")]
pub struct Lease {
    /// The number of its slot, from 0.
    #[pyo3(get)]
    slot: u32,
    /// Its fencing token: higher than that of every earlier lease of this slot.
    #[pyo3(get)]
    token: u64,
    /// No call under it blocks.
    held: Mutex<Option<wigwag::Lease<'static>>>,
}

impl Lease {
    fn with<T>(&self, call: impl FnOnce(&mut wigwag::Lease<'static>) -> T) -> PyResult<T> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_mut().map(call).ok_or_else(|| PyValueError::new_err("operation on a released Lease"))
    }

    fn trying<T>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mut wigwag::Lease<'static>) -> wigwag::Result<T>,
    ) -> PyResult<T> {
        self.with(call)?.map_err(|error| raise(py, error))
    }

    fn take(&self) -> Option<wigwag::Lease<'static>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl Lease {
    /// Whether somebody has died with the slot, or lost it, and nobody has made it clean since: what the information tells of
    /// may still be alive somewhere.
    #[getter]
    fn dirty(&self) -> PyResult<bool> {
        self.with(|lease| lease.is_dirty())
    }

    /// When the slot was last given back, or, if it was not, taken, in seconds since 1970; None if nobody ever had it.
    #[getter]
    fn last_used(&self) -> PyResult<Option<f64>> {
        self.with(|lease| lease.last_used().map(seconds))
    }

    /// How many seconds it still lasts; None for as long as its holder lives.
    #[getter]
    fn expires_in(&self) -> PyResult<Option<f64>> {
        self.with(|lease| lease.expires_in().map(|left| left.as_secs_f64()))
    }

    /// Whether it would do good to give it back soon: somebody waits who could have this slot, or the pool was made smaller.
    #[getter]
    fn wanted(&self) -> PyResult<bool> {
        self.with(|lease| lease.is_wanted())
    }

    /// How many threads, of all processes, wait in line who could have this slot.
    fn _waiting(&self) -> PyResult<u32> {
        self.with(|lease| lease.waiting())
    }

    /// Raise OSError if it is not this lease's slot any more (ESTALE), or that of the process that this one was forked from
    /// (EPERM).
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.trying(py, |lease| lease.check())
    }

    /// What holders of the slot have last said about it, empty at first. At most 1024 bytes; who is killed while setting it
    /// leaves what was there before.
    ///
    /// Raises OSError (ESTALE, EPERM; EMSGSIZE: too long; EBADMSG: spoilt by a holder that had lost the slot in the middle).
    #[getter]
    fn information<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.trying(py, |lease| lease.information())?))
    }

    #[setter]
    fn set_information(&self, py: Python<'_>, information: Bytes<'_>) -> PyResult<()> {
        self.trying(py, |lease| lease.set_information(information.as_slice()))
    }

    /// Say what it is used for, in at most 64 bytes, for people who look at the statistics. Raises OSError (ESTALE, EPERM).
    fn set_note(&self, py: Python<'_>, note: &str) -> PyResult<()> {
        self.trying(py, |lease| lease.set_note(note))
    }

    /// Say that nothing is left of what the one who died with the slot, or lost it, had begun. Raises OSError (ESTALE, EPERM).
    fn make_clean(&self, py: Python<'_>) -> PyResult<()> {
        self.trying(py, |lease| lease.make_clean())
    }

    /// Have its time begin anew. Raises OSError (ESTALE, EPERM).
    fn renew(&self, py: Python<'_>) -> PyResult<()> {
        self.trying(py, |lease| lease.renew())
    }

    /// Give the slot back. Does nothing if that was done. Raises OSError (ESTALE: it was lost before; EPERM).
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.take().map_or(Ok(()), |lease| lease.release().map_err(|error| raise(py, error)))
    }

    /// Give the slot back as dirty: for who cannot tell what is left of what it stood for. Does nothing if it was given back.
    ///
    /// Raises OSError (ESTALE, EPERM).
    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        self.take().map_or(Ok(()), |lease| lease.abandon().map_err(|error| raise(py, error)))
    }

    /// Whether it was given back.
    #[getter]
    fn released(&self) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        slf.with(|_| ())?;
        Ok(slf)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        match self.release(py) {
            // What has gone wrong first is what is told.
            Err(_) if !kind.is_none() => Ok(()),
            released => released,
        }
    }

    fn __repr__(&self) -> String {
        let state = self.with(|lease| if lease.check().is_err() { "lost" } else { "held" }).unwrap_or("released");
        format!("<wigwag.Lease slot={} token={} {state}>", self.slot, self.token)
    }
}

/// Who holds a slot.
///
/// ``pid`` is None where it lives in a pid namespace that this process cannot see, or is dead. ``since`` is in seconds since 1970,
/// None in the instant before that is written, ``expires_in`` in seconds, None for as long as its holder lives.
/// ``information`` is None if it was spoilt.
#[pyclass(frozen, module = "wigwag", get_all)]
pub struct LeaseHolder {
    slot: u32,
    token: u64,
    pid: Option<u32>,
    is_self: bool,
    since: Option<f64>,
    expires_in: Option<f64>,
    dirty: bool,
    group: Option<String>,
    note: String,
    information: Option<Py<PyBytes>>,
}

#[pymethods]
impl LeaseHolder {
    fn __repr__(&self) -> String {
        format!(
            "<wigwag.LeaseHolder slot={} token={} pid={} note={:?}{}>",
            self.slot,
            self.token,
            self.pid.map_or("None".into(), |pid| pid.to_string()),
            self.note,
            if self.dirty { " dirty" } else { "" }
        )
    }
}

/// What a pool tells about itself.
///
/// ``held`` slots may be more than ``slots`` for a while after the pool was made smaller; ``dirty`` counts those that can be
/// had, held or not. ``leases``, ``timeouts``, ``reclaims`` (from the dead), ``expiries`` (from who did not renew) and
/// ``refused`` (calls under leases that were lost) are counts since it was made. ``waits`` is a list of durations and counts:
/// how many have waited for less than that many seconds, and not for less than the one before. ``groups`` is, for each name,
/// how many slots are kept, held, and waited for.
#[pyclass(frozen, module = "wigwag", get_all)]
pub struct LeaseStatistics {
    slots: u32,
    room: u32,
    held: u32,
    dirty: u32,
    waiting: u32,
    fair: bool,
    expires: Option<f64>,
    bytes: usize,
    leases: u64,
    timeouts: u64,
    reclaims: u64,
    expiries: u64,
    refused: u64,
    waits: Vec<(f64, u64)>,
    groups: BTreeMap<String, (u32, u32, u32)>,
    holders: Vec<Py<LeaseHolder>>,
    participants: Vec<Py<SyncParticipant>>,
}

#[pymethods]
impl LeaseStatistics {
    fn __repr__(&self) -> String {
        format!(
            "<wigwag.LeaseStatistics slots={} held={} dirty={} waiting={} leases={} timeouts={} reclaims={} expiries={}>",
            self.slots, self.held, self.dirty, self.waiting, self.leases, self.timeouts, self.reclaims, self.expiries
        )
    }
}
