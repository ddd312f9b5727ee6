//! Memory that Python may have views of: memoryviews, NumPy arrays.

use std::ffi::c_int;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::support::raise;

/// Where an object's memory is.
pub(crate) struct Bytes {
    pub(crate) start: *mut u8,
    pub(crate) length: usize,
    pub(crate) readonly: bool,
}

/// An object of the core whose memory stays where it is until the object changes or goes.
pub(crate) trait Visible {
    fn bytes(&self) -> Bytes;
}

/// An object of the core with memory that can be closed, and the count of views that keep it from being closed or moved.
///
/// The lock is held for the length of a core call that does not wait, never while the interpreter is let go of (others wait for
/// it with theirs, and a fork would leave it locked in the child), and not when Python objects are made, exceptions say: that may
/// collect garbage, whose finalizers may come here again.
pub(crate) struct Memory<T> {
    class: &'static str,
    state: Mutex<State<T>>,
}

struct State<T> {
    object: Option<T>,
    views: usize,
}

impl<T: Visible> Memory<T> {
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
        let result = {
            let mut state = self.state();
            if state.views != 0 {
                return Err(has_views());
            }
            call(state.object.as_mut().ok_or_else(|| self.closed_error())?)
        };
        result.map_err(|error| raise(py, error))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().object.is_none()
    }

    pub(crate) fn close(&self, py: Python<'_>) -> PyResult<()>
    where
        T: Send,
    {
        let mut state = self.state();
        if state.views != 0 {
            return Err(has_views());
        }
        let object = state.object.take();
        drop(state);
        py.detach(|| drop(object)); // which may have many pages
        Ok(())
    }

    /// Takes the object out, which nothing may look into any more, for the call that is its last.
    pub(crate) fn finish<R>(&self, py: Python<'_>, call: impl FnOnce(T) -> wigwag::Result<R>) -> PyResult<R> {
        let mut state = self.state();
        if state.views != 0 {
            return Err(has_views());
        }
        let object = state.object.take().ok_or_else(|| self.closed_error())?;
        drop(state);
        call(object).map_err(|error| raise(py, error))
    }

    /// The object, if it is still there, when there can be no views any more: the Python object that they keep goes.
    pub(crate) fn take(&mut self) -> Option<T> {
        self.state.get_mut().unwrap_or_else(PoisonError::into_inner).object.take()
    }

    pub(crate) fn describe(&self, address: impl FnOnce(&T) -> String) -> String {
        match &self.state().object {
            Some(object) => format!("<wigwag.{} {} size={}>", self.class, address(object), object.bytes().length),
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
        let Some(Bytes { start, length, readonly }) = self.add_view() else {
            // SAFETY: as the caller promises; a failed request has no owner.
            unsafe { (*view).obj = std::ptr::null_mut() };
            return Err(self.closed_error());
        };
        let (length, readonly) =
            (ffi::Py_ssize_t::try_from(length).unwrap_or(ffi::Py_ssize_t::MAX), c_int::from(readonly));
        // SAFETY: the memory stays where it is as long as there are views: `close`, `change` and `finish` refuse, and the
        // owner, to which the view holds a reference, is not freed before.
        let refused = unsafe { ffi::PyBuffer_FillInfo(view, owner, start.cast(), length, readonly, flags) } != 0;
        if refused {
            self.release();
            // SAFETY: as above.
            unsafe { (*view).obj = std::ptr::null_mut() };
            return Python::attach(|py| Err(PyErr::fetch(py)));
        }
        Ok(())
    }

    /// Counts a view, of the memory that is here; none after close.
    fn add_view(&self) -> Option<Bytes> {
        let mut state = self.state();
        let bytes = state.object.as_ref()?.bytes();
        state.views += 1;
        Some(bytes)
    }

    /// A view is gone.
    pub(crate) fn release(&self) {
        self.state().views -= 1;
    }
}

fn has_views() -> PyErr {
    PyBufferError::new_err("views of the memory exist (memoryview, NumPy array, …); release or delete them first")
}
