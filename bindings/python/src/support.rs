//! What every class shares: errors, timeouts, waiting without the interpreter, event loops, buffers.

use std::cell::RefCell;
use std::ffi::c_char;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyOSError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use wigwag::{Error, Timeout};

/// Where Python's main thread is not the process's first, the one that imports this is it in all likelihood.
static IMPORTED_BY: AtomicI32 = AtomicI32::new(0);

thread_local! {
    /// What a Python signal handler raised inside a wait of this thread.
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Has Python's signal handlers run inside the core's waits; what they raise ends the wait.
pub(crate) fn install_interrupt_hook() {
    // SAFETY: asks for a number.
    IMPORTED_BY.store(unsafe { libc::gettid() }, Ordering::Relaxed);
    wigwag::set_interrupt_hook(|| {
        // Handlers run in the main thread only; the others are not to wait for the interpreter.
        if !is_main_thread() {
            return false;
        }
        let stop = Python::try_attach(|py| match py.check_signals() {
            Ok(()) => false,
            Err(raised) => {
                RAISED.with_borrow_mut(|slot| *slot = Some(raised));
                true
            }
        });
        stop.unwrap_or(false) // the interpreter has ended, and runs no handlers
    });
}

/// Whether this is the thread that imported the module or the process's first, which a fork makes of any.
fn is_main_thread() -> bool {
    // SAFETY: asks for a number.
    let this = unsafe { libc::gettid() };
    this.unsigned_abs() == std::process::id() || this == IMPORTED_BY.load(Ordering::Relaxed)
}

/// The exception for an error: the subclass of OSError that its errno selects, with `errno`, `strerror` and `filename`
/// (the address), `done` (how far a transfer came) and `true_size` (with EMSGSIZE).
///
/// What a signal handler raised meanwhile comes first, however the call has ended: it must not come out of a later one.
pub(crate) fn raise(py: Python<'_>, error: Error) -> PyErr {
    if let Some(raised) = interrupted() {
        return raised;
    }
    let text = format!("{}: {}", error.operation(), error.reason());
    let exception = match error.object() {
        Some(object) => PyOSError::new_err((error.errno(), text, object.to_owned())),
        None => PyOSError::new_err((error.errno(), text)),
    };
    let value = exception.value(py);
    // An exception takes any attribute; should one not, the exception itself matters more.
    let _ = value.setattr("done", error.done());
    let _ = value.setattr("true_size", error.true_size());
    if error.errno() == libc::EAGAIN && error.done() != 0 {
        let _ = value.setattr("characters_written", error.done());
    }
    exception
}

/// What a signal handler raised inside the last call of the core.
pub(crate) fn interrupted() -> Option<PyErr> {
    RAISED.with_borrow_mut(Option::take)
}

/// How a call of the core that may have waited has ended.
pub(crate) fn ended<T>(py: Python<'_>, result: wigwag::Result<T>) -> PyResult<T> {
    let value = result.map_err(|error| raise(py, error))?;
    interrupted().map_or(Ok(value), Err)
}

/// The repr of a record of numbers: ``<wigwag.MqLimits depth_max=10 …>``.
pub(crate) fn fields(record: &impl std::fmt::Debug) -> String {
    let text = format!("{record:?}").replace(" { ", " ").replace(" }", "").replace(", ", " ").replace(": ", "=");
    // As Python writes them; there are no parentheses in these but Rust's of what is there.
    let text = text.replace("=true", "=True").replace("=false", "=False").replace("=Some(", "=").replace(')', "");
    format!("<wigwag.{text}>")
}

/// Seconds as the standard library takes them: `None` is for ever, 0 is now.
pub(crate) fn timeout(seconds: Option<f64>) -> PyResult<Timeout> {
    match seconds {
        None => Ok(Timeout::Forever),
        Some(seconds) if seconds >= 0.0 => {
            Ok(Duration::try_from_secs_f64(seconds).map_or(Timeout::Forever, Timeout::from))
        }
        Some(_) => Err(PyValueError::new_err("timeout must be None or a number of seconds from 0")),
    }
}

/// Makes or joins what lies in memory, which the kernel may take long to provide: other threads run meanwhile.
pub(crate) fn opened<T: Send>(py: Python<'_>, make: impl FnOnce() -> wigwag::Result<T> + Send) -> PyResult<T> {
    ended(py, py.detach(make))
}

/// Runs a call of the core: first without waiting and without letting go of the interpreter; if that would block, again
/// with its timeout and detached.
pub(crate) fn wait<T: Send>(
    py: Python<'_>,
    seconds: Option<f64>,
    mut call: impl FnMut(Timeout) -> wigwag::Result<T> + Send,
) -> PyResult<T> {
    let timeout = timeout(seconds)?;
    match call(Timeout::Now) {
        Err(error) if error.errno() == libc::EAGAIN && timeout != Timeout::Now => {
            ended(py, py.detach(|| call(timeout)))
        }
        result => result.map_err(|error| raise(py, error)),
    }
}

/// As `wait`, for a transfer of `total` bytes that may come part of the way: `call` gets how far it is and does the rest.
pub(crate) fn wait_for_all(
    py: Python<'_>,
    seconds: Option<f64>,
    mut call: impl FnMut(usize, Timeout) -> wigwag::Result<()> + Send,
) -> PyResult<()> {
    let timeout = timeout(seconds)?;
    match call(0, Timeout::Now) {
        Err(error) if error.errno() == libc::EAGAIN && timeout != Timeout::Now => {
            let done = error.done();
            let result = py.detach(|| call(done, timeout)).map_err(|error| {
                let total = done + error.done();
                error.after(total)
            });
            ended(py, result)
        }
        result => result.map_err(|error| raise(py, error)),
    }
}

/// Whether an event loop may be watching a descriptor. Set before the first watch; a close that misses it raced with the
/// call that set it.
static ASYNC_USED: AtomicBool = AtomicBool::new(false);

/// Before a descriptor is closed: has event loops that watch it let go of it.
pub(crate) fn forget_in_event_loops(py: Python<'_>, fd: i32) -> PyResult<()> {
    if ASYNC_USED.load(Ordering::Relaxed) {
        py.import("wigwag._aio")?.call_method1("closing", (fd,))?;
    }
    Ok(())
}

/// The coroutine behind an `_async` twin: `method` of `object` with `arguments`, awaited until the descriptor is ready.
pub(crate) fn coroutine<'py>(
    object: &Bound<'py, PyAny>,
    method: &str,
    writable: bool,
    seconds: Option<f64>,
    arguments: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    coroutine_on(object, method, &object.getattr("fileno")?, writable, seconds, arguments)
}

/// As `coroutine`, with another source of the descriptor than `fileno()` without arguments.
pub(crate) fn coroutine_on<'py>(
    object: &Bound<'py, PyAny>,
    method: &str,
    fileno: &Bound<'py, PyAny>,
    writable: bool,
    seconds: Option<f64>,
    arguments: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    ASYNC_USED.store(true, Ordering::Relaxed);
    let arguments = arguments.into_pyobject(py).map_err(Into::into)?;
    let mut all = vec![
        object.getattr(method)?,
        fileno.clone(),
        pyo3::types::PyBool::new(py, writable).to_owned().into_any(),
        seconds.into_pyobject(py)?.into_any(),
    ];
    all.extend(arguments.iter());
    py.import("wigwag._aio")?.getattr("call_when_ready")?.call1(PyTuple::new(py, all)?)
}

/// As `coroutine`, of any callable, and a descriptor that becomes readable.
pub(crate) fn coroutine_of_call<'py>(
    call: &Bound<'py, PyAny>,
    fileno: &Bound<'py, PyAny>,
    seconds: Option<f64>,
    arguments: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = call.py();
    ASYNC_USED.store(true, Ordering::Relaxed);
    let arguments = arguments.into_pyobject(py).map_err(Into::into)?;
    let mut all = vec![call.clone(), fileno.clone(), pyo3::types::PyBool::new(py, false).to_owned().into_any()];
    all.push(seconds.into_pyobject(py)?.into_any());
    all.extend(arguments.iter());
    py.import("wigwag._aio")?.getattr("call_when_ready")?.call1(PyTuple::new(py, all)?)
}

/// Bytes of an object that exports a buffer, for reading.
pub(crate) enum Bytes<'a> {
    /// Of a bytes object, which cannot change and needs no export.
    Constant(&'a [u8]),
    Exported(PyUntypedBuffer),
}

impl<'a, 'py> FromPyObject<'a, 'py> for Bytes<'a> {
    type Error = PyErr;

    #[inline]
    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Bytes<'a>> {
        if object.is_instance_of::<PyBytes>() {
            return Ok(Bytes::Constant(object.extract()?));
        }
        let buffer = PyUntypedBuffer::get(&object)?;
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("a contiguous buffer is needed"));
        }
        Ok(Bytes::Exported(buffer))
    }
}

impl Bytes<'_> {
    pub(crate) fn as_slice(&self) -> &[u8] {
        let buffer = match self {
            Bytes::Constant(bytes) => return bytes,
            Bytes::Exported(buffer) => buffer,
        };
        let length = buffer.len_bytes();
        if length == 0 {
            return &[];
        }
        // SAFETY: the exporter keeps the memory of a buffer in place until it is released, when `self` goes. Another
        // thread that changes the bytes meanwhile changes what is sent, as everywhere in Python; this side hands the
        // range to the kernel or copies it and never relies on its content staying the same.
        unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast(), length) }
    }
}

/// Room in an object that exports a writable buffer.
pub(crate) struct Room(PyUntypedBuffer);

impl<'a, 'py> FromPyObject<'a, 'py> for Room {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Room> {
        let buffer = PyUntypedBuffer::get(&object)?;
        if buffer.readonly() {
            return Err(PyBufferError::new_err("a writable buffer is needed"));
        }
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("a contiguous buffer is needed"));
        }
        Ok(Room(buffer))
    }
}

impl Room {
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        let length = self.0.len_bytes();
        if length == 0 {
            return &mut [];
        }
        // SAFETY: as in Bytes, and the exporter said that it may be written to; only the kernel or a copy writes.
        unsafe { std::slice::from_raw_parts_mut(self.0.buf_ptr().cast(), length) }
    }
}

// SAFETY: as CPython documents it; pyo3-ffi does not declare it.
unsafe extern "C" {
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> std::ffi::c_int;
}

/// A bytes object of up to `size` bytes that `fill` writes, as long as it says.
#[inline]
pub(crate) fn new_bytes<'py>(
    py: Python<'py>,
    size: usize,
    fill: impl FnOnce(&mut [u8]) -> PyResult<usize>,
) -> PyResult<Bound<'py, PyBytes>> {
    /// Up to here it is cheaper to copy what came than to allocate for what might have come.
    const ON_STACK: usize = 8192;
    if size > ON_STACK {
        return new_large_bytes(py, size, fill);
    }
    let mut room = [const { std::mem::MaybeUninit::<u8>::uninit() }; ON_STACK];
    // SAFETY: plain bytes that `fill` only hands to the kernel or copies into, and of which no more are read than it says
    // were written.
    let room = unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr().cast::<u8>(), size) };
    let filled = fill(room)?;
    Ok(PyBytes::new(py, room.get(..filled).unwrap_or(room)))
}

fn new_large_bytes<'py>(
    py: Python<'py>,
    size: usize,
    fill: impl FnOnce(&mut [u8]) -> PyResult<usize>,
) -> PyResult<Bound<'py, PyBytes>> {
    let length = ffi::Py_ssize_t::try_from(size).map_err(|_| PyValueError::new_err("size is too large"))?;
    // SAFETY: with no source the new object's bytes are ours to write until somebody else sees it. The slice is dropped
    // before the resize, which moves the object and takes over the reference; a failed one leaves NULL and an exception.
    unsafe {
        let mut object = ffi::PyBytes_FromStringAndSize(std::ptr::null::<c_char>(), length);
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        let start = ffi::PyBytes_AsString(object).cast::<u8>();
        match fill(std::slice::from_raw_parts_mut(start, size)) {
            Ok(filled) if filled == size => {}
            Ok(filled) => {
                let filled = ffi::Py_ssize_t::try_from(filled.min(size)).unwrap_or(length);
                if _PyBytes_Resize(&raw mut object, filled) != 0 {
                    return Err(PyErr::fetch(py));
                }
            }
            Err(error) => {
                ffi::Py_DECREF(object);
                return Err(error);
            }
        }
        Ok(Bound::from_owned_ptr(py, object).cast_into_unchecked())
    }
}

/// Makes an object from a descriptor that Python code hands over; on failure it stays the caller's.
pub(crate) fn adopt<T: Send>(
    py: Python<'_>,
    fd: i32,
    make: impl FnOnce(OwnedFd) -> wigwag::Result<T> + Send,
) -> PyResult<T> {
    let failed = |errno, why: &str| PyOSError::new_err((errno, format!("adopt: {why}")));
    if fd < 0 {
        return Err(failed(libc::EBADF, "not an open descriptor"));
    }
    // SAFETY: not -1; borrowed for the next call only, which refuses a number that is not open.
    let copy = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
    let copy = copy.map_err(|error| match error.raw_os_error() {
        None | Some(libc::EBADF) => failed(libc::EBADF, "not an open descriptor"),
        Some(errno) => failed(errno, "the descriptor cannot be copied"),
    })?;
    let made = opened(py, || make(copy))?;
    // SAFETY: open, since it could be copied; the caller gave it away.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(made)
}

/// The descriptor of an int or of an object with `fileno()`.
///
/// # Safety
/// What keeps the descriptor open lives for `'a`.
pub(crate) unsafe fn borrow<'a>(object: &Bound<'_, PyAny>) -> PyResult<BorrowedFd<'a>> {
    let fd: i32 = match object.extract() {
        Ok(fd) => fd,
        Err(_) => object.call_method0("fileno")?.extract()?,
    };
    if fd < 0 {
        return Err(PyOSError::new_err((libc::EBADF, "not an open descriptor")));
    }
    // SAFETY: not -1, and open as the caller promises; a closed number is refused by the kernel.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Gives an exception of a read the bytes that had come by then, as `partial`.
pub(crate) fn with_partial(py: Python<'_>, result: PyResult<()>, room: &[u8]) -> PyResult<()> {
    result.inspect_err(|exception| {
        let value = exception.value(py);
        let done = value.getattr("done").and_then(|done| done.extract::<usize>()).unwrap_or(0);
        let _ = value.setattr("partial", PyBytes::new(py, room.get(..done).unwrap_or_default()));
    })
}

/// `fileno()` of `object` with arguments, to be called when the descriptor is needed.
pub(crate) fn fileno_with<'py>(
    object: &Bound<'py, PyAny>,
    arguments: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    let mut all = vec![object.getattr("fileno")?];
    all.extend(arguments.into_pyobject(py).map_err(Into::into)?.iter());
    py.import("functools")?.getattr("partial")?.call1(PyTuple::new(py, all)?)
}

/// The coroutine behind the `_async` twin of a transfer that may come part of the way.
pub(crate) fn coroutine_for_all<'py>(
    object: &Bound<'py, PyAny>,
    function: &str,
    seconds: Option<f64>,
    what: impl IntoPyObject<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    ASYNC_USED.store(true, Ordering::Relaxed);
    object.py().import("wigwag._aio")?.call_method1(function, (object, what, seconds))
}

/// As `coroutine_for_all`, for a class that has another name for the method.
pub(crate) fn coroutine_of<'py>(
    object: &Bound<'py, PyAny>,
    function: &str,
    method: &str,
    seconds: Option<f64>,
    what: impl IntoPyObject<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    ASYNC_USED.store(true, Ordering::Relaxed);
    object.py().import("wigwag._aio")?.call_method1(function, (object, what, seconds, method))
}

/// The coroutine behind the `_async` twin of a call for which no descriptor tells when to try again.
pub(crate) fn in_thread<'py>(
    method: &Bound<'py, PyAny>,
    arguments: impl IntoPyObject<'py, Target = PyTuple>,
    seconds: Option<f64>,
    options: Option<&Bound<'py, pyo3::types::PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    method.py().import("wigwag._aio")?.call_method1("call_in_thread", (method, arguments, seconds, options))
}

/// As `in_thread`, of a call whose result is given back by `give_back` if the task is cancelled too late to end the call.
pub(crate) fn take_in_thread<'py>(
    method: &Bound<'py, PyAny>,
    seconds: Option<f64>,
    give_back: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = (method, PyTuple::empty(method.py()), seconds, method.py().None(), give_back);
    method.py().import("wigwag._aio")?.call_method1("call_in_thread", arguments)
}

/// As `in_thread`, of a call that with a timeout of 0 never blocks: the thread is made only if it has to wait.
pub(crate) fn try_then_in_thread<'py>(
    method: &Bound<'py, PyAny>,
    arguments: impl IntoPyObject<'py, Target = PyTuple>,
    seconds: Option<f64>,
    options: Option<&Bound<'py, pyo3::types::PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = (method, arguments, seconds, options);
    method.py().import("wigwag._aio")?.call_method1("try_then_call_in_thread", arguments)
}
