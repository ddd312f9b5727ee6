//! Cell: the latest value.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use wigwag::CellOptions;

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::loan::CellReserved;
use crate::support::{Bytes, Room, adopt, coroutine, fields, new_bytes, opened, raise, wait};
use crate::sync::{Waiting, reduce, seconds};

/// A cell (``cell:name``): the latest value, and nothing but the latest, in shared memory.
///
/// Reading takes a fixed number of steps and finds a whole value, also while writers are at full speed, stopped, or killed
/// half-way. Many may write. Values have a sequence number, which is how many there have been. Works across processes,
/// which open it by its address or inherit it. Made by ``Cell.open()``, ``Cell.anonymous()`` and ``Cell.from_fd()``.
#[pyclass(frozen, module = "wigwag")]
pub struct Cell {
    handle: Handle<Arc<wigwag::Cell>>,
    wait: Waiting,
}

fn options(largest: u64, participants: u32, mode: u32, wait: Waiting) -> CellOptions {
    CellOptions { largest, participants, mode, wait: wait.0 }
}

impl Cell {
    fn of(cell: wigwag::Cell, wait: Waiting) -> Cell {
        Cell { handle: Handle::new("Cell", Arc::new(cell)), wait }
    }
}

#[pymethods]
impl Cell {
    /// Open the cell of this address, or make it; what it is counts only for the one who makes it. Never blocks.
    ///
    /// ``largest`` is the largest value in bytes (256 by default), ``participants`` how many handles may be open at the same
    /// time (32 by default, at most 256); memory for ``2 * participants + 2`` values is reserved at once. ``wait`` is how the
    /// calls of this handle wait: ``"adaptive"``, ``"block"`` or ``"poll"``. Raises OSError (EINVAL, ENOSPC, EACCES; EBADMSG:
    /// there is something else; EPROTO: made by an incompatible version; EUSERS: no room for another handle).
    #[staticmethod]
    #[pyo3(signature = (address, largest = 0, *, participants = 0, mode = 0, wait = Waiting::default()))]
    fn open(
        py: Python<'_>,
        address: AddressLike,
        largest: u64,
        participants: u32,
        mode: u32,
        wait: Waiting,
    ) -> PyResult<Cell> {
        let options = options(largest, participants, mode, wait);
        opened(py, || wigwag::Cell::open(&address.0, options)).map(|cell| Cell::of(cell, wait))
    }

    /// Make a cell without a name, for children made by fork, and for others by its descriptor. Never blocks.
    #[staticmethod]
    #[pyo3(signature = (largest = 0, *, participants = 0, mode = 0, wait = Waiting::default()))]
    fn anonymous(py: Python<'_>, largest: u64, participants: u32, mode: u32, wait: Waiting) -> PyResult<Cell> {
        let options = options(largest, participants, mode, wait);
        opened(py, || wigwag::Cell::anonymous(options)).map(|cell| Cell::of(cell, wait))
    }

    /// Join the cell whose descriptor came from a parent or a peer; the descriptor then belongs to the object. Never blocks.
    ///
    /// Raises OSError (EBADMSG: it is something else; EPROTO, EUSERS).
    #[staticmethod]
    #[pyo3(signature = (fd, *, wait = Waiting::default()))]
    fn from_fd(py: Python<'_>, fd: i32, wait: Waiting) -> PyResult<Cell> {
        let options = CellOptions { wait: wait.0, ..Default::default() };
        let joined = adopt(py, fd, |fd| wigwag::Cell::from_fd(fd, options))?;
        Ok(Cell::of(joined, wait))
    }

    /// How many bytes of memory a cell with these options takes, all in all. Never blocks. Raises OSError (EINVAL).
    #[staticmethod]
    #[pyo3(signature = (largest = 0, *, participants = 0))]
    fn size_for(py: Python<'_>, largest: u64, participants: u32) -> PyResult<usize> {
        let options = options(largest, participants, 0, Waiting::default());
        wigwag::Cell::size_for(&options).map_err(|error| raise(py, error))
    }

    /// Remove a name: those who have it open go on using it. Never blocks. Raises FileNotFoundError, PermissionError.
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        wigwag::Cell::remove(&address.0).map_err(|error| raise(py, error))
    }

    /// Raise OSError (ESTALE) if the name no longer stands for this cell. Never blocks.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.handle.get()?.check().map_err(|error| raise(py, error))
    }

    /// Make a copy of these bytes the latest value; its sequence number. Never blocks.
    ///
    /// Raises OSError (EMSGSIZE: larger than the cell's largest; EAGAIN: all buffers are in use; ESTALE, EBADMSG).
    fn write(&self, py: Python<'_>, data: Bytes<'_>) -> PyResult<u64> {
        self.handle.get()?.write(data.as_slice()).map_err(|error| raise(py, error))
    }

    /// Reserve room for a value of ``size`` bytes, to be written in place and then published. Never blocks. Raises as write.
    fn reserve(&self, py: Python<'_>, size: usize) -> PyResult<CellReserved> {
        self.handle.get()?.reserve_owned(size).map(CellReserved::new).map_err(|error| raise(py, error))
    }

    /// The latest value and its sequence number; None if there has been none. Never blocks.
    ///
    /// Raises OSError (ESTALE, EBADMSG).
    fn read<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyBytes>, u64)>> {
        let cell = self.handle.get()?;
        let mut sequence = 0;
        let bytes = new_bytes(py, cell.largest(), |room| {
            let read = cell.read(room).map_err(|error| raise(py, error))?;
            sequence = read.sequence;
            Ok(read.length)
        });
        match bytes {
            Ok(bytes) => Ok(Some((bytes, sequence))),
            Err(error) if error.value(py).getattr("errno")?.extract::<i32>()? == libc::ENODATA => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Copy the latest value into a writable buffer; its length and its sequence number. Never blocks.
    ///
    /// Raises OSError (ENODATA: there has been none; EMSGSIZE: the buffer is too small, ``true_size`` says how large the
    /// value is; ESTALE, EBADMSG).
    fn read_into(&self, py: Python<'_>, mut buffer: Room) -> PyResult<(usize, u64)> {
        let read = self.handle.get()?.read(buffer.as_mut_slice()).map_err(|error| raise(py, error))?;
        Ok((read.length, read.sequence))
    }

    /// Wait until there have been more values than ``after``; how many there have been then.
    ///
    /// The sequence number of the last value that was read is what to give; 0 waits for the first. Raises TimeoutError,
    /// BlockingIOError with a timeout of 0, OSError (ESTALE, EBADMSG).
    #[pyo3(signature = (after, timeout = None))]
    fn wait(&self, py: Python<'_>, after: u64, timeout: Option<f64>) -> PyResult<u64> {
        let cell = self.handle.get()?;
        wait(py, timeout, |timeout| cell.wait(after, timeout))
    }

    /// As wait, for asyncio.
    #[pyo3(signature = (after, timeout = None))]
    fn wait_async<'py>(slf: &Bound<'py, Self>, after: u64, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf.as_any(), "wait", false, timeout, (after,))
    }

    /// What the cell has seen. Never blocks.
    fn statistics(&self, py: Python<'_>) -> PyResult<CellStatistics> {
        let seen = self.handle.get()?.statistics().map_err(|error| raise(py, error))?;
        Ok(CellStatistics {
            sequence: seen.sequence,
            writing: seen.writing,
            skipped: seen.skipped,
            buffers: seen.buffers,
            largest: seen.largest,
            bytes: seen.bytes,
            participants: seen.participants.len(),
        })
    }

    /// Who takes part. Never blocks.
    fn participants(&self, py: Python<'_>) -> PyResult<Vec<CellParticipant>> {
        let seen = self.handle.get()?.statistics().map_err(|error| raise(py, error))?;
        let one = |other: wigwag::CellParticipant| CellParticipant {
            is_self: other.is_self,
            pid: other.pid,
            since: seconds(other.since),
            writing: other.writing,
        };
        Ok(seen.participants.into_iter().map(one).collect())
    }

    /// The largest value in bytes.
    #[getter]
    fn largest(&self) -> PyResult<usize> {
        Ok(self.handle.get()?.largest())
    }

    /// A descriptor that is readable while there is a value that this handle has not seen; a helper thread sleeps behind it
    /// from the first call on. A read quiets it.
    ///
    /// It stays the object's; a child made by fork asks for its own. Raises OSError (EMFILE, ENFILE).
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        Ok(self.handle.get()?.doorbell().map_err(|error| raise(py, error))?.as_raw_fd())
    }

    /// The descriptor of its memory, to pass on for from_fd; it stays the object's.
    fn segment_fd(&self) -> PyResult<i32> {
        Ok(self.handle.get()?.as_fd().as_raw_fd())
    }

    /// The address; ``"cell:"`` for one without a name.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.handle.get()?.address().to_owned())
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let descriptors = |cell: &Arc<wigwag::Cell>| cell.doorbells().map(|fd| fd.as_raw_fd()).collect::<Vec<_>>();
        self.handle.close(py, descriptors, |cell| cell.end_waits())
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// It pickles as its address; without a name only along with a process that multiprocessing starts.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let object = slf.get().handle.get()?;
        let options = PyDict::new(slf.py());
        options.set_item("wait", slf.get().wait.text())?;
        reduce(slf.as_any(), object.address(), &options)
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

/// What a cell has seen.
///
/// ``sequence`` values so far; ``writing`` buffers are reserved and not published; ``skipped`` values were being written by those
/// who died. ``buffers`` each hold one value of up to ``largest`` bytes; ``bytes`` is all memory; ``participants`` handles are
/// open.
#[pyclass(frozen, get_all, module = "wigwag")]
#[derive(Debug)]
pub struct CellStatistics {
    sequence: u64,
    writing: u64,
    skipped: u64,
    buffers: u64,
    largest: usize,
    bytes: usize,
    participants: usize,
}

#[pymethods]
impl CellStatistics {
    fn __repr__(&self) -> String {
        fields(self)
    }
}

/// One handle on a cell, of this or another process.
///
/// ``pid`` is None where it lives in a pid namespace that this process cannot see. ``since`` is when it was opened, in seconds
/// since 1970; ``writing`` is how many buffers it has reserved and not published.
#[pyclass(frozen, get_all, module = "wigwag")]
#[derive(Debug)]
pub struct CellParticipant {
    is_self: bool,
    pid: Option<u32>,
    since: f64,
    writing: u64,
}

#[pymethods]
impl CellParticipant {
    fn __repr__(&self) -> String {
        fields(self)
    }
}
