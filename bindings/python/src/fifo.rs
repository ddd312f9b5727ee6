//! Named pipe.

use std::os::fd::{AsFd, AsRawFd};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use wigwag::FifoOptions;

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::support::{
    Bytes, Room, adopt, coroutine, coroutine_for_all, in_thread, new_bytes, raise, timeout, wait, wait_for_all,
    with_partial,
};

/// One end of a named pipe (``fifo:/path``), for reading or for writing; made by ``Fifo.open_reader()`` and
/// ``Fifo.open_writer()``.
///
/// Reading ``b""`` is the end of the stream: every write end is closed, also by the death of its process; a later writer
/// starts it again, and a reader opened with ``keep_open=True`` never sees it. Writing when no read end is left raises
/// BrokenPipeError. The name stays until ``Fifo.remove()``.
#[pyclass(frozen, module = "wigwag")]
pub struct Fifo(Handle<wigwag::Fifo>);

type Open = fn(&wigwag::Address, &FifoOptions, wigwag::Timeout) -> wigwag::Result<wigwag::Fifo>;

/// Detached at once, without the usual try: a try would let a waiting peer go and then not be there.
fn opened(
    py: Python<'_>,
    address: AddressLike,
    options: &FifoOptions,
    seconds: Option<f64>,
    open: Open,
) -> PyResult<Fifo> {
    let (address, timeout) = (address.0, timeout(seconds)?);
    let fifo = py.detach(|| open(&address, options, timeout)).map_err(|error| raise(py, error))?;
    Ok(Fifo(Handle::new("Fifo", fifo)))
}

#[pymethods]
impl Fifo {
    /// Make the FIFO at ``address`` without opening it. Never blocks.
    ///
    /// ``mode``, set against the umask, is 0o600 unless the address says otherwise. Raises FileExistsError,
    /// FileNotFoundError for a missing directory, PermissionError.
    #[staticmethod]
    #[pyo3(signature = (address, mode = None))]
    fn create(py: Python<'_>, address: AddressLike, mode: Option<u32>) -> PyResult<()> {
        let options = FifoOptions { mode, ..FifoOptions::default() };
        wigwag::Fifo::create(&address.0, &options).map_err(|error| raise(py, error))
    }

    /// Remove the name at ``address``; who has the FIFO open keeps it. Raises FileNotFoundError, PermissionError, OSError
    /// (ENOTSUP it is no FIFO, and was left alone).
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        wigwag::Fifo::remove(&address.0).map_err(|error| raise(py, error))
    }

    /// Open the read end; waits until a writer has it open too, as ``os.open`` does, but at most ``timeout`` seconds. What a
    /// writer left in it counts as a writer; with ``keep_open`` it waits for nothing.
    ///
    /// With ``create`` the FIFO is made if it is missing, with ``mode`` against the umask; ``capacity`` is in bytes. Raises
    /// TimeoutError, BlockingIOError with a timeout of 0, FileNotFoundError, PermissionError, OSError (ENOTSUP it is no
    /// FIFO, and was left untouched).
    #[staticmethod]
    #[pyo3(signature = (address, keep_open = false, create = false, mode = None, capacity = 0, timeout = None))]
    fn open_reader(
        py: Python<'_>,
        address: AddressLike,
        keep_open: bool,
        create: bool,
        mode: Option<u32>,
        capacity: usize,
        timeout: Option<f64>,
    ) -> PyResult<Fifo> {
        let options = FifoOptions { create, mode, keep_open, capacity };
        opened(py, address, &options, timeout, wigwag::Fifo::open_reader)
    }

    /// Open the write end; waits until a reader has it open too, as ``os.open`` does, but at most ``timeout`` seconds.
    /// Otherwise as open_reader.
    #[staticmethod]
    #[pyo3(signature = (address, create = false, mode = None, capacity = 0, timeout = None))]
    fn open_writer(
        py: Python<'_>,
        address: AddressLike,
        create: bool,
        mode: Option<u32>,
        capacity: usize,
        timeout: Option<f64>,
    ) -> PyResult<Fifo> {
        let options = FifoOptions { create, mode, keep_open: false, capacity };
        opened(py, address, &options, timeout, wigwag::Fifo::open_writer)
    }

    /// As open_reader, to be awaited; the waiting is done on a thread of its own.
    #[staticmethod]
    #[pyo3(signature = (address, timeout = None, **options))]
    fn open_reader_async<'py>(
        py: Python<'py>,
        address: &Bound<'py, PyAny>,
        timeout: Option<f64>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        in_thread(&py.get_type::<Fifo>().getattr("open_reader")?, (address,), timeout, options)
    }

    /// As open_writer, to be awaited; the waiting is done on a thread of its own.
    #[staticmethod]
    #[pyo3(signature = (address, timeout = None, **options))]
    fn open_writer_async<'py>(
        py: Python<'py>,
        address: &Bound<'py, PyAny>,
        timeout: Option<f64>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        in_thread(&py.get_type::<Fifo>().getattr("open_writer")?, (address,), timeout, options)
    }

    /// Take over one end that something else opened; its mode is left as it is. The descriptor then belongs to the object.
    ///
    /// Raises OSError with errno EINVAL if it is not a pipe's; the descriptor then stays the caller's.
    #[staticmethod]
    fn from_fd(py: Python<'_>, fd: i32) -> PyResult<Fifo> {
        adopt(py, fd, wigwag::Fifo::from_fd).map(|fifo| Fifo(Handle::new("Fifo", fifo)))
    }

    /// Read what is there, at most ``size`` bytes; waits while nothing is. ``b""`` is the end of the stream.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0, OSError (EBADF on the write end).
    #[pyo3(signature = (size = 65536, timeout = None))]
    fn read<'py>(&self, py: Python<'py>, size: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        let fifo = self.0.get()?;
        new_bytes(py, size, |room| wait(py, timeout, |timeout| fifo.read(room, timeout)))
    }

    /// Read into a writable buffer; the number of bytes. Otherwise as read.
    #[pyo3(signature = (buffer, timeout = None))]
    fn read_into(&self, py: Python<'_>, mut buffer: Room, timeout: Option<f64>) -> PyResult<usize> {
        let fifo = self.0.get()?;
        let room = buffer.as_mut_slice();
        wait(py, timeout, |timeout| fifo.read(room, timeout))
    }

    /// Read exactly ``size`` bytes.
    ///
    /// Raises BrokenPipeError if the stream ends before; what had come by then, as after a TimeoutError, is in the
    /// exception's ``partial``.
    #[pyo3(signature = (size, timeout = None))]
    fn read_exact<'py>(&self, py: Python<'py>, size: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        let fifo = self.0.get()?;
        new_bytes(py, size, |room| {
            let result = wait_for_all(py, timeout, |done, timeout| {
                fifo.read_exact(room.get_mut(done..).unwrap_or_default(), timeout)
            });
            with_partial(py, result, room).map(|()| size)
        })
    }

    /// Write what fits and return how many bytes did; waits until something does. Up to ``Pipe.ATOMIC`` bytes are written
    /// whole or not at all.
    ///
    /// Raises BrokenPipeError, TimeoutError, BlockingIOError with a timeout of 0, OSError (EBADF on the read end).
    #[pyo3(signature = (data, timeout = None))]
    fn write(&self, py: Python<'_>, data: Bytes, timeout: Option<f64>) -> PyResult<usize> {
        let fifo = self.0.get()?;
        let bytes = data.as_slice();
        wait(py, timeout, |timeout| fifo.write(bytes, timeout))
    }

    /// Write all of it; waits as long as there is no room. On an exception, its ``done`` is how many bytes were written.
    #[pyo3(signature = (data, timeout = None))]
    fn write_all(&self, py: Python<'_>, data: Bytes, timeout: Option<f64>) -> PyResult<()> {
        let fifo = self.0.get()?;
        let bytes = data.as_slice();
        wait_for_all(py, timeout, |done, timeout| fifo.write_all(bytes.get(done..).unwrap_or_default(), timeout))
    }

    /// As read, to be awaited.
    #[pyo3(signature = (size = 65536, timeout = None))]
    fn read_async<'py>(slf: &Bound<'py, Self>, size: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf, "read", false, timeout, (size,))
    }

    /// As write, to be awaited.
    #[pyo3(signature = (data, timeout = None))]
    fn write_async<'py>(
        slf: &Bound<'py, Self>,
        data: Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf, "write", true, timeout, (data,))
    }

    /// As write_all, to be awaited.
    #[pyo3(signature = (data, timeout = None))]
    fn write_all_async<'py>(
        slf: &Bound<'py, Self>,
        data: Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        coroutine_for_all(slf, "write_all_when_ready", timeout, data)
    }

    /// As read_exact, to be awaited.
    #[pyo3(signature = (size, timeout = None))]
    fn read_exact_async<'py>(slf: &Bound<'py, Self>, size: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        coroutine_for_all(slf, "read_exact_when_ready", timeout, size)
    }

    /// The bytes that the FIFO can hold.
    #[getter]
    fn capacity(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.get()?.capacity().map_err(|error| raise(py, error))
    }

    /// Set the bytes that the FIFO can hold; what the kernel made of it.
    fn set_capacity(&self, py: Python<'_>, size: usize) -> PyResult<usize> {
        self.0.get()?.set_capacity(size).map_err(|error| raise(py, error))
    }

    /// Whether this is the read end.
    #[getter]
    fn is_reader(&self) -> PyResult<bool> {
        Ok(self.0.get()?.is_reader())
    }

    /// The address, without options.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// The descriptor, to poll or to pass on.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.0.get()?.as_fd().as_raw_fd())
    }

    /// Close this end; threads that wait on it get OSError with errno ECANCELED. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |fifo| Some(fifo.as_fd().as_raw_fd()), wigwag::Fifo::end_waits)
    }

    /// Whether this end is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
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
        self.0.describe(|fifo| {
            let end = if fifo.is_reader() { "reader" } else { "writer" };
            format!("{} {end} fd={}", fifo.address(), fifo.as_fd().as_raw_fd())
        })
    }
}
