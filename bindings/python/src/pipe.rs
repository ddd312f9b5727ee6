//! Anonymous pipe.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wigwag::PipeOptions;

use crate::handle::Handle;
use crate::support::{Bytes, Room, adopt, borrow, coroutine, coroutine_for_all, new_bytes, raise, wait, wait_for_all};

/// One end of an anonymous pipe (``pipe:``), for reading or for writing; made by ``Pipe.open()``.
///
/// Reading ``b""`` is the end of the stream: every write end is closed, also by the death of its process. Writing when no
/// read end is left raises BrokenPipeError. Both ends are closed on exec unless ``inherit()`` says otherwise.
#[pyclass(frozen, module = "wigwag")]
pub struct Pipe(Handle<wigwag::Pipe>);

#[pymethods]
impl Pipe {
    /// Writes of up to this many bytes are never torn and never mixed with another writer's.
    #[classattr]
    const ATOMIC: usize = wigwag::PIPE_ATOMIC;

    /// Make a pipe: (reader, writer). Never blocks.
    ///
    /// ``capacity`` is in bytes, 0 for the system's default; with ``packet=True`` each write is a packet of 1 to
    /// ``Pipe.ATOMIC`` bytes and each read takes one whole. Raises OSError (EMFILE, ENFILE), PermissionError for a capacity
    /// above what an unprivileged process may have.
    #[staticmethod]
    #[pyo3(signature = (capacity = 0, packet = false))]
    fn open(py: Python<'_>, capacity: usize, packet: bool) -> PyResult<(Pipe, Pipe)> {
        let ends = wigwag::Pipe::open(PipeOptions { capacity, packet });
        let (reader, writer) = ends.map_err(|error| raise(py, error))?;
        Ok((Pipe(Handle::new("Pipe", reader)), Pipe(Handle::new("Pipe", writer))))
    }

    /// Take over one end that something else made; its mode is left as it is. The descriptor then belongs to the object.
    ///
    /// Raises OSError with errno EINVAL if it is not a pipe's; the descriptor then stays the caller's.
    #[staticmethod]
    fn from_fd(py: Python<'_>, fd: i32) -> PyResult<Pipe> {
        adopt(py, fd, wigwag::Pipe::from_fd).map(|pipe| Pipe(Handle::new("Pipe", pipe)))
    }

    /// Read what is there, at most ``size`` bytes; waits while nothing is. ``b""`` is the end of the stream.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0, OSError (EBADF on the write end; EMSGSIZE in packet mode
    /// for a size below ``Pipe.ATOMIC``).
    #[pyo3(signature = (size = 65536, timeout = None))]
    fn read<'py>(&self, py: Python<'py>, size: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        let pipe = self.0.get()?;
        new_bytes(py, size, |room| wait(py, timeout, |timeout| pipe.read(room, timeout)))
    }

    /// Read into a writable buffer; the number of bytes. Otherwise as read.
    #[pyo3(signature = (buffer, timeout = None))]
    fn read_into(&self, py: Python<'_>, mut buffer: Room, timeout: Option<f64>) -> PyResult<usize> {
        let pipe = self.0.get()?;
        let room = buffer.as_mut_slice();
        wait(py, timeout, |timeout| pipe.read(room, timeout))
    }

    /// Read exactly ``size`` bytes.
    ///
    /// Raises BrokenPipeError if the stream ends before; what had come by then, as after a TimeoutError, is in the
    /// exception's ``partial``.
    #[pyo3(signature = (size, timeout = None))]
    fn read_exact<'py>(&self, py: Python<'py>, size: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        let pipe = self.0.get()?;
        new_bytes(py, size, |room| {
            let result = wait_for_all(py, timeout, |done, timeout| pipe.read_exact(&mut room[done..], timeout));
            crate::support::with_partial(py, result, room).map(|()| size)
        })
    }

    /// Write what fits and return how many bytes did; waits until something does. Up to ``Pipe.ATOMIC`` bytes are written
    /// whole or not at all.
    ///
    /// Raises BrokenPipeError, TimeoutError, BlockingIOError with a timeout of 0, OSError (EBADF on the read end).
    #[pyo3(signature = (data, timeout = None))]
    fn write(&self, py: Python<'_>, data: Bytes<'_>, timeout: Option<f64>) -> PyResult<usize> {
        let pipe = self.0.get()?;
        let bytes = data.as_slice();
        wait(py, timeout, |timeout| pipe.write(bytes, timeout))
    }

    /// Write all of it; waits as long as there is no room. On an exception, its ``done`` is how many bytes were written.
    #[pyo3(signature = (data, timeout = None))]
    fn write_all(&self, py: Python<'_>, data: Bytes<'_>, timeout: Option<f64>) -> PyResult<()> {
        let pipe = self.0.get()?;
        let bytes = data.as_slice();
        wait_for_all(py, timeout, |done, timeout| pipe.write_all(&bytes[done..], timeout))
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

    /// Move up to ``size`` bytes from this read end to the pipe, file or socket behind ``to`` (a descriptor or an object
    /// with ``fileno()``) without copying them through this process; how many, 0 at the end of the stream.
    #[pyo3(signature = (to, size, timeout = None))]
    fn splice_to(&self, py: Python<'_>, to: &Bound<'_, PyAny>, size: usize, timeout: Option<f64>) -> PyResult<usize> {
        let pipe = self.0.get()?;
        // SAFETY: `to` is borrowed for the call, and with it what keeps its descriptor open.
        let to: BorrowedFd<'_> = unsafe { borrow(to) }?;
        wait(py, timeout, |timeout| pipe.splice_to(to, size, timeout))
    }

    /// Move up to ``size`` bytes from the pipe, file or socket behind ``source`` into this write end; how many, 0 at the
    /// end of the input.
    #[pyo3(signature = (source, size, timeout = None))]
    fn splice_from(
        &self,
        py: Python<'_>,
        source: &Bound<'_, PyAny>,
        size: usize,
        timeout: Option<f64>,
    ) -> PyResult<usize> {
        let pipe = self.0.get()?;
        // SAFETY: as in splice_to.
        let source: BorrowedFd<'_> = unsafe { borrow(source) }?;
        wait(py, timeout, |timeout| pipe.splice_from(source, size, timeout))
    }

    /// Copy up to ``size`` bytes from this read end into another pipe's write end and leave them here to be read.
    #[pyo3(signature = (to, size, timeout = None))]
    fn tee(&self, py: Python<'_>, to: PyRef<'_, Pipe>, size: usize, timeout: Option<f64>) -> PyResult<usize> {
        let (pipe, to) = (self.0.get()?, to.0.get()?);
        wait(py, timeout, |timeout| pipe.tee(&to, size, timeout))
    }

    /// The bytes that the pipe can hold.
    #[getter]
    fn capacity(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.get()?.capacity().map_err(|error| raise(py, error))
    }

    /// Set the bytes that the pipe can hold; what the kernel made of it.
    fn set_capacity(&self, py: Python<'_>, size: usize) -> PyResult<usize> {
        self.0.get()?.set_capacity(size).map_err(|error| raise(py, error))
    }

    /// Whether this is the read end.
    #[getter]
    fn is_reader(&self) -> PyResult<bool> {
        Ok(self.0.get()?.is_reader())
    }

    /// Keep this end open over exec, in blocking mode as programs expect of a pipe that they inherit.
    fn inherit(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.inherit().map_err(|error| raise(py, error))
    }

    /// The address, ``"pipe:"``.
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
        self.0.close(py, |pipe| Some(pipe.as_fd().as_raw_fd()), wigwag::Pipe::end_waits)
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
        self.0.describe(|pipe| {
            format!("{} fd={}", if pipe.is_reader() { "reader" } else { "writer" }, pipe.as_fd().as_raw_fd())
        })
    }
}
