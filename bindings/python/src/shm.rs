//! POSIX shared memory.

#![allow(unsafe_op_in_unsafe_fn)] // the code that PyO3 generates calls __getbuffer__ without a block

use std::os::fd::{AsFd, AsRawFd};

use pyo3::prelude::*;

use crate::address::AddressLike;
use crate::memory::{Asked, memory_class};
use crate::support::{adopt, opened, raise, timeout};
use crate::views::Memory;

/// A POSIX shared memory object (``shm:/name``), mapped as a whole; made by ``create``, ``open``, ``open_or_create`` or
/// ``from_fd``.
///
/// It outlives its processes: its name is there until somebody removes it, and its memory until the last process has let
/// go of it, by whatever death. It gets its name only when it is complete, so that nobody finds it half made, and its pages
/// are reserved: a full ``/dev/shm`` is an OSError at creation, and never SIGBUS later. Its content starts as zeroes.
/// Supports the buffer protocol; views keep it mapped. ``multiprocessing.shared_memory`` uses the same objects.
#[pyclass(frozen, module = "wigwag")]
pub struct Shm(Memory<wigwag::Shm>);

fn made(py: Python<'_>, result: wigwag::Result<wigwag::Shm>) -> PyResult<Shm> {
    result.map(new).map_err(|error| raise(py, error))
}

fn new(shm: wigwag::Shm) -> Shm {
    Shm(Memory::new("Shm", shm))
}

memory_class! {
    Shm {
        /// Create the object that the address names, such as ``"shm:/frames"``. Never waits for others.
        ///
        /// ``mode`` 0 is 0o600, set against the umask. With ``sparse=True`` pages are taken when first touched, and where
        /// there is none left the process is killed by SIGBUS. Raises FileExistsError, OSError (ENOSPC with the mount that
        /// is full and its size; ENOMEM; EINVAL; EFBIG).
        #[staticmethod]
        #[pyo3(signature = (address, size = 0, *, mode = 0, populate = false, lock = false, sparse = false))]
        fn create(
            py: Python<'_>,
            address: AddressLike,
            size: usize,
            mode: u32,
            populate: bool,
            lock: bool,
            sparse: bool,
        ) -> PyResult<Shm> {
            let asked = Asked { size, mode, populate, lock, sparse, ..Default::default() };
            made(py, py.detach(|| wigwag::Shm::create(&address.0, &asked.options())))
        }

        /// Open the object that exists; it must have at least ``size`` bytes. Waits while it has no size yet, because its
        /// creator, another program, is between making and sizing it.
        ///
        /// Raises FileNotFoundError, PermissionError, TimeoutError, BlockingIOError with a timeout of 0, OSError (EINVAL if
        /// it is too small, or not shared memory).
        #[staticmethod]
        #[pyo3(signature = (address, size = 0, *, readonly = false, populate = false, lock = false, timeout = None))]
        fn open(
            py: Python<'_>,
            address: AddressLike,
            size: usize,
            readonly: bool,
            populate: bool,
            lock: bool,
            timeout: Option<f64>,
        ) -> PyResult<Shm> {
            let options = Asked { size, readonly, populate, lock, ..Default::default() }.options();
            let timeout = self::timeout(timeout)?;
            opened(py, || wigwag::Shm::open(&address.0, &options, timeout)).map(new)
        }

        /// Open the object, made if there is none; ``created`` tells which. Of several processes that do so at once,
        /// exactly one creates it, and all get the whole size. Waits as open does. Raises what create and open do.
        #[staticmethod]
        #[pyo3(signature = (address, size = 0, *, mode = 0, populate = false, lock = false, sparse = false, timeout = None))]
        #[allow(clippy::too_many_arguments)] // keyword arguments
        fn open_or_create(
            py: Python<'_>,
            address: AddressLike,
            size: usize,
            mode: u32,
            populate: bool,
            lock: bool,
            sparse: bool,
            timeout: Option<f64>,
        ) -> PyResult<Shm> {
            let options = Asked { size, mode, populate, lock, sparse, ..Default::default() }.options();
            let timeout = self::timeout(timeout)?;
            opened(py, || wigwag::Shm::open_or_create(&address.0, &options, timeout)).map(new)
        }

        /// Take over the descriptor of an object that something else opened. It then belongs to the object; on an exception
        /// it stays the caller's.
        #[staticmethod]
        #[pyo3(signature = (fd, size = 0, *, readonly = false, populate = false, lock = false))]
        fn from_fd(py: Python<'_>, fd: i32, size: usize, readonly: bool, populate: bool, lock: bool) -> PyResult<Shm> {
            let options = Asked { size, readonly, populate, lock, ..Default::default() }.options();
            adopt(py, fd, |fd| wigwag::Shm::from_fd(fd, &options)).map(new)
        }

        /// Remove the name in the address; the memory stays for those that have it open.
        ///
        /// Raises FileNotFoundError, PermissionError.
        #[staticmethod]
        fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
            wigwag::Shm::remove(&address.0).map_err(|error| raise(py, error))
        }

        /// The name without the slash, as ``multiprocessing.shared_memory`` takes it.
        #[getter]
        fn name(&self) -> PyResult<String> {
            let address = self.0.with(|shm| wigwag::Address::parse(shm.address()))?;
            let name = address.map(|address| String::from_utf8_lossy(address.name()).into_owned()).unwrap_or_default();
            Ok(name.trim_start_matches('/').to_owned())
        }

        /// Whether this object made it, as opposed to finding it.
        #[getter]
        fn created(&self) -> PyResult<bool> {
            self.0.with(wigwag::Shm::created)
        }

        /// Take in what others have added by growing it; the new size. Raises BufferError while views of it exist.
        fn refresh(&self, py: Python<'_>) -> PyResult<usize> {
            self.0.change(py, wigwag::Shm::refresh)
        }

        /// Take all pages now, for an object that was made without, by another program or as ``sparse``.
        ///
        /// Raises OSError (ENOSPC with the mount that is full and its size; ENOMEM).
        fn reserve(&self, py: Python<'_>) -> PyResult<()> {
            self.0.call(py, wigwag::Shm::reserve)
        }

        /// Raise unless the name still leads to this object: FileNotFoundError if the name is gone, OSError with errno
        /// ESTALE if it was made anew.
        fn check_name(&self, py: Python<'_>) -> PyResult<()> {
            self.0.call(py, wigwag::Shm::check_name)
        }

        /// Remove the name; the memory goes with the last process that has it open. An object of the same name that was
        /// made meanwhile stays, and errno is ESTALE.
        ///
        /// Raises FileNotFoundError, PermissionError.
        fn unlink(&self, py: Python<'_>) -> PyResult<()> {
            self.0.call(py, wigwag::Shm::unlink)
        }

        /// Keep the descriptor open in programs that this process starts.
        fn inherit(&self, py: Python<'_>) -> PyResult<()> {
            self.0.call(py, wigwag::Shm::inherit)
        }

        /// The descriptor, to pass on.
        fn fileno(&self) -> PyResult<i32> {
            self.0.with(|shm| shm.as_fd().as_raw_fd())
        }
    }
}
