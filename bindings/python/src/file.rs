//! Disk file.

use std::os::fd::{AsFd, AsRawFd};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wigwag::{
    Access, Durability, FileAccess, FileCreate, FileEvents, FileOptions, FileRange, LockMode, MapOptions,
    ReplaceOptions,
};

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::mapping::Mapping;
use crate::support::{Bytes, Room, adopt, coroutine, in_thread, new_bytes, raise, wait};

/// An open disk file (``file:/path``); made by ``File.open()``. What names a file works on its address: ``File.replace()``,
/// ``File.load()``, ``File.until_exists()``, ``File.remove()``.
///
/// It stays with the file that was opened, also after the name has been given to another one by ``replace`` or removed.
#[pyclass(frozen, module = "wigwag")]
pub struct File(Handle<wigwag::File>);

#[pymethods]
impl File {
    /// Make ``data`` the content of the file at ``address``, so that every reader sees the old or the new content, never a
    /// part, also if this process is killed at any moment; makes the file if it is missing.
    ///
    /// ``durability`` is "full" (once it has returned, a power failure leaves the new content), "content" (the old or the
    /// new) or "none". ``mode`` is by default what the old file had, else 0o600. It becomes another file of the same name:
    /// who has the old one open, locked or mapped keeps the old one. Raises FileNotFoundError for a missing directory,
    /// PermissionError, IsADirectoryError, OSError (ENOSPC; ENOTSUP no regular file; ELOOP a symbolic link), the old content
    /// being untouched.
    #[staticmethod]
    #[pyo3(signature = (address, data, durability = "full", mode = None))]
    fn replace(py: Python<'_>, address: AddressLike, data: Bytes, durability: &str, mode: Option<u32>) -> PyResult<()> {
        let durability = match durability {
            "full" => Durability::Full,
            "content" => Durability::Content,
            "none" => Durability::None,
            _ => return Err(PyValueError::new_err("durability must be 'full', 'content' or 'none'")),
        };
        let (address, bytes) = (address.0, data.as_slice());
        py.detach(|| wigwag::File::replace(&address, bytes, &ReplaceOptions { durability, mode }))
            .map_err(|error| raise(py, error))
    }

    /// Read the whole file at ``address`` if it has no more than ``limit`` bytes.
    ///
    /// Raises OSError with errno EMSGSIZE if it is larger (``true_size`` tells how large), FileNotFoundError,
    /// PermissionError, IsADirectoryError.
    #[staticmethod]
    #[pyo3(signature = (address, limit = 1073741824))]
    fn load<'py>(py: Python<'py>, address: AddressLike, limit: usize) -> PyResult<Bound<'py, PyBytes>> {
        let address = address.0;
        let bytes = py.detach(|| wigwag::File::load(&address, limit)).map_err(|error| raise(py, error))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Remove the name at ``address``; who has the file open keeps it. Raises FileNotFoundError, IsADirectoryError,
    /// PermissionError, OSError (ENOTSUP no regular file).
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        wigwag::File::remove(&address.0).map_err(|error| raise(py, error))
    }

    /// Wait until something has the name ``address``; returns at once if something has. Its directory must exist.
    ///
    /// That it is there does not say that it is complete: see ``replace``, or ``FileWatch``. Raises TimeoutError,
    /// BlockingIOError with a timeout of 0, FileNotFoundError for a missing directory.
    #[staticmethod]
    #[pyo3(signature = (address, timeout = None))]
    fn until_exists(py: Python<'_>, address: AddressLike, timeout: Option<f64>) -> PyResult<()> {
        let address = address.0;
        wait(py, timeout, |timeout| wigwag::File::until_exists(&address, timeout))
    }

    /// As until_exists, to be awaited; the waiting is done on a thread of its own.
    #[staticmethod]
    #[pyo3(signature = (address, timeout = None))]
    fn until_exists_async<'py>(
        py: Python<'py>,
        address: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        in_thread(&py.get_type::<File>().getattr("until_exists")?, (address,), timeout, None)
    }

    /// Open the file at ``address``.
    ///
    /// ``access`` is "read-write", "read" or "append"; ``create`` is "never", "if-missing" or "exclusively"; ``mode`` is for
    /// a file made here, 0o600 by default. Raises FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError,
    /// OSError (ENOTSUP no regular file, which is left untouched).
    #[staticmethod]
    #[pyo3(signature = (address, access = "read-write", create = "never", mode = None))]
    fn open(py: Python<'_>, address: AddressLike, access: &str, create: &str, mode: Option<u32>) -> PyResult<File> {
        let access = match access {
            "read-write" => FileAccess::ReadWrite,
            "read" => FileAccess::Read,
            "append" => FileAccess::Append,
            _ => return Err(PyValueError::new_err("access must be 'read-write', 'read' or 'append'")),
        };
        let create = match create {
            "never" => FileCreate::Never,
            "if-missing" => FileCreate::IfMissing,
            "exclusively" => FileCreate::Exclusively,
            _ => return Err(PyValueError::new_err("create must be 'never', 'if-missing' or 'exclusively'")),
        };
        let file = wigwag::File::open(&address.0, &FileOptions { access, create, mode });
        Ok(File(Handle::new("File", file.map_err(|error| raise(py, error))?)))
    }

    /// Take over a descriptor of a regular file (also a memfd) that something else opened. The descriptor then belongs to
    /// the object. Raises OSError (ENOTSUP no regular file); the descriptor then stays the caller's.
    #[staticmethod]
    fn from_fd(py: Python<'_>, fd: i32) -> PyResult<File> {
        adopt(py, fd, wigwag::File::from_fd).map(|file| File(Handle::new("File", file)))
    }

    /// Append a record in one write: no other process that appends can come in between.
    ///
    /// Raises OSError (ENOSPC, EDQUOT, EFBIG the record did not fit; the exception's ``done`` tells how much of it is in the
    /// file; EBADF not open for appending).
    fn append(&self, py: Python<'_>, record: Bytes) -> PyResult<()> {
        let file = self.0.get()?;
        file.append(record.as_slice()).map_err(|error| raise(py, error))
    }

    /// As append under an exclusive lock of the whole file, so that a record which did not fit is taken back. Waits for the
    /// lock. Raises what append and lock raise.
    #[pyo3(signature = (record, timeout = None))]
    fn append_locked(&self, py: Python<'_>, record: Bytes, timeout: Option<f64>) -> PyResult<()> {
        let file = self.0.get()?;
        let bytes = record.as_slice();
        wait(py, timeout, |timeout| file.append_locked(bytes, timeout))
    }

    /// Read the whole of the open file, as load does by name.
    #[pyo3(signature = (limit = 1073741824))]
    fn read_all<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyBytes>> {
        let file = self.0.get()?;
        let bytes = py.detach(|| file.read_all(limit)).map_err(|error| raise(py, error))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Read what is there from ``offset`` on, at most ``size`` bytes; ``b""`` at or past the end.
    fn read_at<'py>(&self, py: Python<'py>, offset: u64, size: usize) -> PyResult<Bound<'py, PyBytes>> {
        let file = self.0.get()?;
        new_bytes(py, size, |room| file.read_at(offset, room).map_err(|error| raise(py, error)))
    }

    /// Read from ``offset`` on into a writable buffer; the number of bytes.
    fn read_at_into(&self, py: Python<'_>, offset: u64, mut buffer: Room) -> PyResult<usize> {
        let file = self.0.get()?;
        file.read_at(offset, buffer.as_mut_slice()).map_err(|error| raise(py, error))
    }

    /// The size in bytes.
    #[getter]
    fn size(&self, py: Python<'_>) -> PyResult<u64> {
        self.0.get()?.size().map_err(|error| raise(py, error))
    }

    /// Return once what was appended is on the disk, to survive a power failure. Raises OSError (EIO).
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        let file = self.0.get()?;
        py.detach(|| file.sync()).map_err(|error| raise(py, error))
    }

    /// Lock ``length`` bytes from ``start`` on (0: all to the end), against the same call by any process or thread, and
    /// ``fcntl.lockf`` (not ``fcntl.flock``). To be used as ``with file.lock(): …``, or released by ``release()``.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0, OSError (ESTALE since it was opened, the file was removed or
    /// replaced: open it again; EBADF not open for reading, or for writing if exclusive).
    #[pyo3(signature = (exclusive = true, start = 0, length = 0, timeout = None))]
    fn lock(
        &self,
        py: Python<'_>,
        exclusive: bool,
        start: u64,
        length: u64,
        timeout: Option<f64>,
    ) -> PyResult<FileLock> {
        let file = self.0.get()?;
        let mode = if exclusive { LockMode::Exclusive } else { LockMode::Shared };
        let lock = wait(py, timeout, |timeout| file.lock(mode, FileRange { start, length }, timeout))?;
        Ok(FileLock(Handle::new("FileLock", lock)))
    }

    /// As lock, to be awaited: ``async`` programs use it as ``with await file.lock_async(): …``. The waiting is done on a
    /// thread of its own, because no descriptor tells when a lock is free.
    #[pyo3(signature = (exclusive = true, start = 0, length = 0, timeout = None))]
    fn lock_async<'py>(
        slf: &Bound<'py, Self>,
        exclusive: bool,
        start: u64,
        length: u64,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        in_thread(&slf.getattr("lock")?, (exclusive, start, length), timeout, None)
    }

    /// As append_locked, to be awaited; the waiting is done on a thread of its own.
    #[pyo3(signature = (record, timeout = None))]
    fn append_locked_async<'py>(
        slf: &Bound<'py, Self>,
        record: Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        in_thread(&slf.getattr("append_locked")?, (record,), timeout, None)
    }

    /// Make the file at least ``size`` bytes long, with its place on the disk reserved; what is new reads as zeroes. It
    /// never becomes shorter. Raises OSError (ENOSPC the disk is full; EFBIG; EBADF opened for reading only).
    fn grow(&self, py: Python<'_>, size: u64) -> PyResult<()> {
        let file = self.0.get()?;
        py.detach(|| file.grow(size)).map_err(|error| raise(py, error))
    }

    /// Map ``length`` bytes of the file from ``offset`` on (0: all to the end) as memory that all who map it share. It
    /// stands on its own: the file may be closed. Make the file large enough first, with grow.
    ///
    /// ``populate`` has all pages present from the start, ``lock`` keeps them out of swap. Raises PermissionError if the file
    /// was not opened for this access, OSError (EINVAL an offset that is not a multiple of the page size, or past the end).
    #[pyo3(signature = (readonly = false, offset = 0, length = 0, populate = false, lock = false))]
    fn map(
        &self,
        py: Python<'_>,
        readonly: bool,
        offset: u64,
        length: usize,
        populate: bool,
        lock: bool,
    ) -> PyResult<Mapping> {
        let file = self.0.get()?;
        let access = if readonly { Access::ReadOnly } else { Access::ReadWrite };
        let mapping = file.map(&MapOptions { access, offset, length, populate, lock });
        Ok(Mapping::new(mapping.map_err(|error| raise(py, error))?, file.address().to_owned()))
    }

    /// The address, without options.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// The descriptor.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.0.get()?.as_fd().as_raw_fd())
    }

    /// Close the file; threads that wait for a lock on it get OSError with errno ECANCELED. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |file| Some(file.as_fd().as_raw_fd()), wigwag::File::end_waits)
    }

    /// Whether it is closed.
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
        self.0.describe(|file| format!("{} fd={}", file.address(), file.as_fd().as_raw_fd()))
    }
}

/// A lock that is held on a file, made by ``File.lock()``; released at the end of its ``with`` block or by ``release()``.
///
/// It stands on its own: the file may be closed meanwhile. It is of one process: a child made by fork does not have it. When
/// the process dies, the kernel releases it, and does not tell the next holder.
#[pyclass(frozen, module = "wigwag")]
pub struct FileLock(Handle<wigwag::FileLock>);

#[pymethods]
impl FileLock {
    /// Release the lock. Releasing twice is fine.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |_| None, |_| {})
    }

    /// Whether it is released.
    #[getter]
    fn released(&self) -> bool {
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
        self.release(py)
    }

    fn __repr__(&self) -> String {
        self.0.describe(|lock| {
            let range = lock.range();
            format!("{} start={} length={}", lock.mode(), range.start, range.length)
        })
    }
}

/// A watch over the name of a file, which need not exist yet, for any of APPEARED, CHANGED, CLOSED and REMOVED, or'ed.
///
/// Everything from the moment it is made is seen, so the way to miss nothing is: make the watch, look at the file, wait, look
/// again. What happens more than once before a wait is told once. Raises FileNotFoundError for a missing directory,
/// PermissionError, OSError (EMFILE, ENOSPC too many watches exist).
#[pyclass(frozen, module = "wigwag")]
pub struct FileWatch(Handle<wigwag::FileWatch>);

#[pymethods]
impl FileWatch {
    /// The name came to be: made, linked, or renamed into place.
    #[classattr]
    const APPEARED: u32 = FileEvents::APPEARED.bits();
    /// The content may be another: written, truncated, made, or another file renamed into place.
    #[classattr]
    const CHANGED: u32 = FileEvents::CHANGED.bits();
    /// Complete: closed by one that had it open for writing, or renamed into place.
    #[classattr]
    const CLOSED: u32 = FileEvents::CLOSED.bits();
    /// The name is gone: removed, or renamed away.
    #[classattr]
    const REMOVED: u32 = FileEvents::REMOVED.bits();
    /// Comes with all that was asked for: more happened than the kernel keeps, so each may have happened.
    #[classattr]
    const OVERFLOWED: u32 = FileEvents::OVERFLOWED.bits();

    #[new]
    fn new(py: Python<'_>, address: AddressLike, events: u32) -> PyResult<FileWatch> {
        let watch = wigwag::FileWatch::open(&address.0, FileEvents::from_bits_retain(events));
        Ok(FileWatch(Handle::new("FileWatch", watch.map_err(|error| raise(py, error))?)))
    }

    /// Wait until some of the events have happened since the watch was made or since the last wait; those, or'ed.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0, OSError (ESTALE the directory was removed, renamed or
    /// unmounted: make a new watch).
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<u32> {
        let watch = self.0.get()?;
        Ok(self::wait(py, timeout, |timeout| watch.wait(timeout))?.bits())
    }

    /// As wait, to be awaited.
    #[pyo3(signature = (timeout = None))]
    fn wait_async<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf, "wait", false, timeout, ())
    }

    /// The address of the file.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// The descriptor, to poll: readable when something happened in the directory, to this file or another.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.0.get()?.as_fd().as_raw_fd())
    }

    /// Close the watch; threads that wait on it get OSError with errno ECANCELED. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |watch| Some(watch.as_fd().as_raw_fd()), wigwag::FileWatch::end_waits)
    }

    /// Whether it is closed.
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
        self.0.describe(|watch| format!("{} fd={}", watch.address(), watch.as_fd().as_raw_fd()))
    }
}
