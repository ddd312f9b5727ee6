//! What the three kinds of shared memory have in common: options, and the methods of every class.

use pyo3::prelude::*;
use wigwag::{Access, Mapping, MemoryOptions};

use crate::views::Bytes;

/// What the constructors take, as far as each does.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) size: usize,
    pub(crate) mode: u32,
    pub(crate) readonly: bool,
    pub(crate) huge_pages: bool,
    pub(crate) huge_page_size: usize,
    pub(crate) populate: bool,
    pub(crate) lock: bool,
    pub(crate) sparse: bool,
}

impl Asked {
    pub(crate) fn options(&self) -> MemoryOptions {
        MemoryOptions {
            size: self.size,
            mode: self.mode,
            access: if self.readonly { Access::ReadOnly } else { Access::ReadWrite },
            huge_pages: self.huge_pages,
            huge_page_size: self.huge_page_size,
            populate: self.populate,
            lock: self.lock,
            sparse: self.sparse,
        }
    }
}

/// What the kernel keeps about System V shared memory. Times are seconds of the wall clock, 0 for never.
#[pyclass(frozen, get_all, module = "wigwag")]
pub struct SysvShmStatus {
    /// The size in bytes.
    size: usize,
    /// How often it is attached, over all processes.
    attached: u64,
    /// The process that created it; 0 if it cannot be seen from here.
    creator_pid: i32,
    /// The process that attached or detached last; 0 for none.
    last_pid: i32,
    /// When it was last attached.
    attached_at: i64,
    /// When it was last detached.
    detached_at: i64,
    /// When it was created, or its owner or mode changed.
    changed_at: i64,
    /// The user that owns it.
    uid: u32,
    /// The group that owns it.
    gid: u32,
    /// The user that created it.
    creator_uid: u32,
    /// The group that created it.
    creator_gid: u32,
    /// The permissions.
    mode: u32,
    /// Whether it is removed, and gone with the last that detaches.
    removed: bool,
    /// Whether somebody has locked the whole segment in memory.
    locked: bool,
}

#[pymethods]
impl SysvShmStatus {
    fn __repr__(&self) -> String {
        format!(
            "<wigwag.SysvShmStatus size={} attached={} creator_pid={} last_pid={} mode={:#o} removed={}>",
            self.size, self.attached, self.creator_pid, self.last_pid, self.mode, self.removed
        )
    }
}

impl From<wigwag::SysvShmStatus> for SysvShmStatus {
    fn from(found: wigwag::SysvShmStatus) -> SysvShmStatus {
        SysvShmStatus {
            size: found.size,
            attached: found.attached,
            creator_pid: found.creator_pid,
            last_pid: found.last_pid,
            attached_at: found.attached_at,
            detached_at: found.detached_at,
            changed_at: found.changed_at,
            uid: found.uid,
            gid: found.gid,
            creator_uid: found.creator_uid,
            creator_gid: found.creator_gid,
            mode: found.mode,
            removed: found.removed,
            locked: found.locked,
        }
    }
}

/// All of a mapping.
pub(crate) fn all_of(mapping: &Mapping) -> Bytes {
    Bytes { start: mapping.as_ptr(), length: mapping.len(), readonly: mapping.access() == Access::ReadOnly }
}

/// The methods of one class: its own, and those that all have.
macro_rules! memory_class {
    ($class:ident { $($own:tt)* }) => {
        impl crate::views::Visible for wigwag::$class {
            fn bytes(&self) -> crate::views::Bytes {
                crate::memory::all_of(self)
            }
        }

        #[pymethods]
        impl $class {
            $($own)*

            /// A new memoryview of all of the memory. The object itself supports the buffer protocol as well:
            /// ``numpy.frombuffer(shm, dtype=…)`` shares the memory.
            #[getter]
            fn buf<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
                Ok(pyo3::types::PyMemoryView::from(slf)?.into_any())
            }

            /// How many bytes there are.
            #[getter]
            fn size(&self) -> PyResult<usize> {
                self.0.with(|memory| memory.len())
            }

            /// Whether it is attached for reading only.
            #[getter]
            fn readonly(&self) -> PyResult<bool> {
                self.0.with(|memory| memory.access() == wigwag::Access::ReadOnly)
            }

            /// The address.
            #[getter]
            fn address(&self) -> PyResult<String> {
                self.0.with(|memory| memory.address().to_owned())
            }

            /// Make it at least ``size`` bytes large with all pages reserved; the new size. It never becomes smaller.
            ///
            /// Raises OSError (ENOSPC and ENOMEM where there is no room, with what is full in the text; ENOTSUP for memory
            /// of fixed size), BufferError while views of it exist: it may move.
            fn grow(&self, py: Python<'_>, size: usize) -> PyResult<usize> {
                self.0.change(py, |memory| memory.grow(size))
            }

            /// What the kernel keeps about it: System V segments only, others raise OSError with errno ENOTSUP.
            fn status(&self, py: Python<'_>) -> PyResult<crate::memory::SysvShmStatus> {
                Ok(self.0.call(py, |memory| memory.status())?.into())
            }

            /// Detach. Closing twice is fine. Raises BufferError while views of the memory exist.
            fn close(&self, py: Python<'_>) -> PyResult<()> {
                self.0.close(py)
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
                match self.0.close(py) {
                    // What went wrong inside matters more; the memory goes with the last view.
                    Err(_) if !_type.is_none() => Ok(()),
                    result => result,
                }
            }

            fn __repr__(&self) -> String {
                self.0.describe(|memory| memory.address().to_owned())
            }

            unsafe fn __getbuffer__(
                slf: &Bound<'_, Self>,
                view: *mut pyo3::ffi::Py_buffer,
                flags: std::ffi::c_int,
            ) -> PyResult<()> {
                // SAFETY: called by Python with a request for a view of this object.
                unsafe { slf.get().0.export(slf.as_ptr(), view, flags) }
            }

            unsafe fn __releasebuffer__(&self, _view: *mut pyo3::ffi::Py_buffer) {
                self.0.release();
            }
        }
    };
}
pub(crate) use memory_class;
