//! What the three kinds of shared memory have in common: options, a handle whose memory others may have views of, and the
//! methods of every class.

use std::ffi::c_int;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use wigwag::{Access, Mapping, MemoryOptions};

use crate::support::raise;

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

/// Memory of the core that can be closed, and the count of views that keep it from being closed or moved.
///
/// The lock is held for the length of a core call that does not wait, and never while the interpreter is let go of.
pub(crate) struct Memory<T> {
    class: &'static str,
    state: Mutex<State<T>>,
}

struct State<T> {
    object: Option<T>,
    views: usize,
}

impl<T: Deref<Target = Mapping>> Memory<T> {
    pub(crate) fn new(class: &'static str, object: T) -> Memory<T> {
        Memory { class, state: Mutex::new(State { object: Some(object), views: 0 }) }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed_error(&self) -> PyErr {
        PyValueError::new_err(format!("operation on a closed {}", self.class))
    }

    /// Calls with the object, or raises `ValueError` after close.
    pub(crate) fn with<R>(&self, call: impl FnOnce(&T) -> R) -> PyResult<R> {
        self.state().object.as_ref().map(call).ok_or_else(|| self.closed_error())
    }

    /// As `with`, for a call of the core that can fail.
    pub(crate) fn call<R>(&self, py: Python<'_>, call: impl FnOnce(&T) -> wigwag::Result<R>) -> PyResult<R> {
        self.with(call)?.map_err(|error| raise(py, error))
    }

    /// As `call`, for one that moves the memory or takes away the right to write, which views rely on.
    pub(crate) fn change<R>(&self, py: Python<'_>, call: impl FnOnce(&mut T) -> wigwag::Result<R>) -> PyResult<R> {
        let mut state = self.state();
        if state.views != 0 {
            return Err(has_views());
        }
        let object = state.object.as_mut().ok_or_else(|| self.closed_error())?;
        call(object).map_err(|error| raise(py, error))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().object.is_none()
    }

    pub(crate) fn close(&self) -> PyResult<()> {
        let mut state = self.state();
        if state.views != 0 {
            return Err(has_views());
        }
        state.object = None;
        Ok(())
    }

    pub(crate) fn describe(&self, address: impl FnOnce(&T) -> String) -> String {
        match &self.state().object {
            Some(object) => format!("<wigwag.{} {} size={}>", self.class, address(object), object.len()),
            None => format!("<wigwag.{} closed>", self.class),
        }
    }

    /// Fills in a view for `owner`, which Python keeps alive as long as the view.
    ///
    /// # Safety
    /// `view` is what Python gave to `__getbuffer__` of `owner`, which this memory belongs to.
    pub(crate) unsafe fn export(
        &self,
        owner: *mut ffi::PyObject,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let mut state = self.state();
        let Some(object) = &state.object else {
            // SAFETY: as the caller promises; a failed request has no owner.
            unsafe { (*view).obj = std::ptr::null_mut() };
            return Err(self.closed_error());
        };
        let length = ffi::Py_ssize_t::try_from(object.len()).unwrap_or(ffi::Py_ssize_t::MAX);
        let readonly = c_int::from(object.access() == Access::ReadOnly);
        // SAFETY: the memory stays where it is as long as there are views: `close` and `change` refuse, and the owner, to
        // which the view holds a reference, is not freed before.
        let refused =
            unsafe { ffi::PyBuffer_FillInfo(view, owner, object.as_ptr().cast(), length, readonly, flags) } != 0;
        if refused {
            // SAFETY: as above.
            unsafe { (*view).obj = std::ptr::null_mut() };
            return Python::attach(|py| Err(PyErr::fetch(py)));
        }
        state.views += 1;
        Ok(())
    }

    /// A view is gone.
    pub(crate) fn release(&self) {
        self.state().views -= 1;
    }
}

fn has_views() -> PyErr {
    PyBufferError::new_err("views of the memory exist (memoryview, NumPy array, …); release or delete them first")
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

/// The methods of one class: its own, and those that all have.
macro_rules! memory_class {
    ($class:ident { $($own:tt)* }) => {
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
            fn close(&self) -> PyResult<()> {
                self.0.close()
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
                _type: &Bound<'_, PyAny>,
                _value: &Bound<'_, PyAny>,
                _traceback: &Bound<'_, PyAny>,
            ) -> PyResult<()> {
                match self.0.close() {
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
