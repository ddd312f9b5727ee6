//! Shared memory with a descriptor instead of a name.

#![allow(unsafe_op_in_unsafe_fn)] // the code that PyO3 generates calls __getbuffer__ without a block

use std::os::fd::{AsFd, AsRawFd};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use wigwag::Seals;

use crate::address::AddressLike;
use crate::memory::{Asked, memory_class};
use crate::support::{adopt, raise};
use crate::views::Memory;

/// Anonymous shared memory (``memfd:``), mapped as a whole; made by ``create`` or ``from_fd``.
///
/// Others get it by its descriptor: inherited, or passed over a unix socket. Gone when the last process has let go of it,
/// by whatever death. Its pages are reserved at creation; its content starts as zeroes. Seals are promises that nobody can
/// take back, its creator included. Supports the buffer protocol; views keep it mapped.
#[pyclass(frozen, module = "wigwag")]
pub struct Memfd(Memory<wigwag::Memfd>);

fn new(memfd: wigwag::Memfd) -> Memfd {
    Memfd(Memory::new("Memfd", memfd))
}

fn seals_from(bits: u32) -> PyResult<Seals> {
    Seals::from_bits(bits).ok_or_else(|| PyValueError::new_err("seals are Memfd.SEAL_… joined by |"))
}

memory_class! {
    Memfd {
        /// No further seals.
        #[classattr]
        const SEAL_SEAL: u32 = Seals::SEAL.bits();
        /// It never becomes shorter: touching it never raises SIGBUS.
        #[classattr]
        const SEAL_SHRINK: u32 = Seals::SHRINK.bits();
        /// It never becomes longer.
        #[classattr]
        const SEAL_GROW: u32 = Seals::GROW.bits();
        /// Its content never changes. Nobody may have it mapped writable when this seal is set.
        #[classattr]
        const SEAL_WRITE: u32 = Seals::WRITE.bits();
        /// Its content changes only through mappings that are writable already.
        #[classattr]
        const SEAL_FUTURE_WRITE: u32 = Seals::FUTURE_WRITE.bits();
        /// The permission to execute it never changes.
        #[classattr]
        const SEAL_EXEC: u32 = Seals::EXEC.bits();

        /// Make memory of ``size`` bytes; the address is ``"memfd:"``, or ``"memfd:label"`` for a label that shows in
        /// ``/proc``. Never waits for others.
        ///
        /// Raises OSError (ENOMEM; ENOSPC if there are not enough free huge pages; EINVAL; EFBIG).
        #[staticmethod]
        #[pyo3(signature = (size = 0, address = None, *, mode = 0, huge_pages = false, huge_page_size = 0, populate = false, lock = false, sparse = false))]
        #[allow(clippy::too_many_arguments)] // keyword arguments
        fn create(
            py: Python<'_>,
            size: usize,
            address: Option<AddressLike>,
            mode: u32,
            huge_pages: bool,
            huge_page_size: usize,
            populate: bool,
            lock: bool,
            sparse: bool,
        ) -> PyResult<Memfd> {
            let asked = Asked { size, mode, huge_pages, huge_page_size, populate, lock, sparse, ..Default::default() };
            let address = match address {
                Some(address) => address.0,
                None => wigwag::Address::parse("memfd:").map_err(|error| raise(py, error))?,
            };
            let made = py.detach(|| wigwag::Memfd::create(&address, &asked.options()));
            made.map(new).map_err(|error| raise(py, error))
        }

        /// Take over the descriptor of a memfd that came from elsewhere, provided that it has the ``required`` seals. It
        /// then belongs to the object; on an exception it stays the caller's.
        ///
        /// Raises PermissionError if a seal is missing or forbids writing (then ``readonly=True`` works), OSError (EINVAL if
        /// it is not a memfd, or too small).
        #[staticmethod]
        #[pyo3(signature = (fd, required = 0, size = 0, *, readonly = false, populate = false, lock = false))]
        #[allow(clippy::too_many_arguments)] // keyword arguments
        fn from_fd(
            py: Python<'_>,
            fd: i32,
            required: u32,
            size: usize,
            readonly: bool,
            populate: bool,
            lock: bool,
        ) -> PyResult<Memfd> {
            let options = Asked { size, readonly, populate, lock, ..Default::default() }.options();
            let required = seals_from(required)?;
            adopt(py, fd, |fd| wigwag::Memfd::from_fd(fd, &options, required)).map(new)
        }

        /// The seals that are set, ``SEAL_…`` joined by ``|``.
        #[getter]
        fn seals(&self, py: Python<'_>) -> PyResult<u32> {
            self.0.call(py, |memfd| memfd.seals().map(|seals| seals.bits()))
        }

        /// Add seals, ``SEAL_…`` joined by ``|``, for good. With ``SEAL_WRITE`` this object becomes read-only.
        ///
        /// Raises PermissionError if it is sealed against further seals, OSError with errno EBUSY for ``SEAL_WRITE`` while
        /// somebody has it mapped writable, such as a child forked since, BufferError while views of it exist.
        fn seal(&self, py: Python<'_>, seals: u32) -> PyResult<()> {
            let seals = seals_from(seals)?;
            self.0.change(py, |memfd| memfd.seal(seals))
        }

        /// Take in what others have added by growing it; the new size. Raises BufferError while views of it exist.
        fn refresh(&self, py: Python<'_>) -> PyResult<usize> {
            self.0.change(py, wigwag::Memfd::refresh)
        }

        /// Take all pages now, for memory that was made without, by another program or as ``sparse``.
        ///
        /// Raises OSError (ENOMEM; ENOSPC).
        fn reserve(&self, py: Python<'_>) -> PyResult<()> {
            self.0.call(py, wigwag::Memfd::reserve)
        }

        /// Keep the descriptor open in programs that this process starts.
        fn inherit(&self, py: Python<'_>) -> PyResult<()> {
            self.0.call(py, wigwag::Memfd::inherit)
        }

        /// The descriptor, to pass on.
        fn fileno(&self) -> PyResult<i32> {
            self.0.with(|memfd| memfd.as_fd().as_raw_fd())
        }
    }
}
