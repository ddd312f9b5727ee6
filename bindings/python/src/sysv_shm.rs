//! System V shared memory.

#![allow(unsafe_op_in_unsafe_fn)] // the code that PyO3 generates calls __getbuffer__ without a block

use pyo3::prelude::*;

use crate::address::AddressLike;
use crate::memory::{Asked, memory_class};
use crate::support::raise;
use crate::views::Memory;

/// A System V shared memory segment (``sysv-shm:``), attached; made by ``create``, ``open``, ``open_or_create`` or
/// ``from_id``.
///
/// It outlives its processes: it is there until somebody removes it, and its memory until the last process that is
/// attached then has gone, by whatever death. Its size is fixed; its content starts as zeroes. Supports the buffer
/// protocol; views keep the memory attached.
#[pyclass(frozen, module = "wigwag")]
pub struct SysvShm(Memory<wigwag::SysvShm>);

fn made(py: Python<'_>, result: wigwag::Result<wigwag::SysvShm>) -> PyResult<SysvShm> {
    result.map(|shm| SysvShm(Memory::new("SysvShm", shm))).map_err(|error| raise(py, error))
}

memory_class! {
    SysvShm {
        /// Create the segment that the address names, such as ``"sysv-shm:shmfile#65"``. Never waits for others.
        ///
        /// ``mode`` 0 is 0o600. ``huge_pages``, ``populate`` and ``lock`` are raised about where refused. Raises
        /// FileExistsError, FileNotFoundError if the file that the key is derived from is missing, OSError (EINVAL; ENOSPC
        /// with the limit that is reached; ENOMEM).
        #[staticmethod]
        #[pyo3(signature = (address, size = 0, *, mode = 0, huge_pages = false, huge_page_size = 0, populate = false, lock = false))]
        #[allow(clippy::too_many_arguments)] // keyword arguments
        fn create(
            py: Python<'_>,
            address: AddressLike,
            size: usize,
            mode: u32,
            huge_pages: bool,
            huge_page_size: usize,
            populate: bool,
            lock: bool,
        ) -> PyResult<SysvShm> {
            let asked = Asked { size, mode, huge_pages, huge_page_size, populate, lock, ..Default::default() };
            made(py, py.detach(|| wigwag::SysvShm::create(&address.0, &asked.options())))
        }

        /// Attach the segment that exists; it must have at least ``size`` bytes. Never waits for others.
        ///
        /// Raises FileNotFoundError, PermissionError, OSError (EINVAL if it is too small).
        #[staticmethod]
        #[pyo3(signature = (address, size = 0, *, readonly = false, populate = false, lock = false))]
        fn open(
            py: Python<'_>,
            address: AddressLike,
            size: usize,
            readonly: bool,
            populate: bool,
            lock: bool,
        ) -> PyResult<SysvShm> {
            let asked = Asked { size, readonly, populate, lock, ..Default::default() };
            made(py, py.detach(|| wigwag::SysvShm::open(&address.0, &asked.options())))
        }

        /// Attach the segment, made if there is none; ``created`` tells which. Of several processes that do so at once,
        /// exactly one creates it, and all get the whole size. Raises what create and open do.
        #[staticmethod]
        #[pyo3(signature = (address, size = 0, *, mode = 0, huge_pages = false, huge_page_size = 0, populate = false, lock = false))]
        #[allow(clippy::too_many_arguments)] // keyword arguments
        fn open_or_create(
            py: Python<'_>,
            address: AddressLike,
            size: usize,
            mode: u32,
            huge_pages: bool,
            huge_page_size: usize,
            populate: bool,
            lock: bool,
        ) -> PyResult<SysvShm> {
            let asked = Asked { size, mode, huge_pages, huge_page_size, populate, lock, ..Default::default() };
            made(py, py.detach(|| wigwag::SysvShm::open_or_create(&address.0, &asked.options())))
        }

        /// Attach the segment with this id, as another program got it from shmget and passed it on.
        ///
        /// Raises OSError (EIDRM: there is none, or not any more; EINVAL: it is smaller than asked for; ENOMEM),
        /// PermissionError.
        #[staticmethod]
        #[pyo3(signature = (id, size = 0, *, readonly = false, populate = false, lock = false))]
        fn from_id(
            py: Python<'_>,
            id: i32,
            size: usize,
            readonly: bool,
            populate: bool,
            lock: bool,
        ) -> PyResult<SysvShm> {
            let asked = Asked { size, readonly, populate, lock, ..Default::default() };
            made(py, py.detach(|| wigwag::SysvShm::from_id(id, &asked.options())))
        }

        /// Remove the segment that the address names; its memory stays for those that are attached.
        ///
        /// Raises FileNotFoundError, PermissionError.
        #[staticmethod]
        fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
            wigwag::SysvShm::remove(&address.0).map_err(|error| raise(py, error))
        }

        /// The kernel's id, which works in every process of the same IPC namespace.
        #[getter]
        fn id(&self) -> PyResult<i32> {
            self.0.with(wigwag::SysvShm::id)
        }

        /// The key; 0, IPC_PRIVATE, for a segment without one, be it that it never had one or that it was removed.
        #[getter]
        fn key(&self, py: Python<'_>) -> PyResult<i32> {
            self.0.call(py, wigwag::SysvShm::key)
        }

        /// Whether this object made the segment, as opposed to finding it.
        #[getter]
        fn created(&self) -> PyResult<bool> {
            self.0.with(wigwag::SysvShm::created)
        }

        /// Raise unless the name still leads to this segment: FileNotFoundError if the name is gone, OSError with errno
        /// ESTALE if it was made anew.
        fn check_name(&self, py: Python<'_>) -> PyResult<()> {
            self.0.call(py, wigwag::SysvShm::check_name)
        }

        /// Remove the segment: its name is gone at once, its memory with the last process that is attached.
        ///
        /// Raises PermissionError.
        fn unlink(&self, py: Python<'_>) -> PyResult<()> {
            self.0.call(py, wigwag::SysvShm::unlink)
        }
    }
}
