//! A disk file as memory.

use std::ops::Deref;
use std::sync::Arc;

use pyo3::prelude::*;

use crate::memory::all_of;
use crate::support::raise;
use crate::views::{Bytes, Memory, Visible};

/// The core's mapping and the address of its file.
pub(crate) struct Mapped {
    mapping: Arc<wigwag::Mapping>,
    address: String,
}

impl Deref for Mapped {
    type Target = wigwag::Mapping;

    fn deref(&self) -> &wigwag::Mapping {
        &self.mapping
    }
}

impl Visible for Mapped {
    fn bytes(&self) -> Bytes {
        all_of(self)
    }
}

/// A file, or a part of it, as memory that all who map it share; made by ``File.map()``.
///
/// Supports the buffer protocol: ``memoryview(mapping)`` and ``numpy.frombuffer(mapping, dtype=…)`` share the memory. If
/// another process makes the file shorter, touching what is gone raises SIGBUS.
#[pyclass(frozen, module = "wigwag")]
pub struct Mapping(Memory<Mapped>);

impl Mapping {
    pub(crate) fn new(mapping: wigwag::Mapping, address: String) -> Mapping {
        Mapping(Memory::new("Mapping", Mapped { mapping: Arc::new(mapping), address }))
    }
}

#[pymethods]
impl Mapping {
    /// A new memoryview of all of the memory.
    #[getter]
    fn buf<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Ok(pyo3::types::PyMemoryView::from(slf)?.into_any())
    }

    /// How many bytes there are.
    #[getter]
    fn size(&self) -> PyResult<usize> {
        self.0.with(|memory| memory.len())
    }

    /// Whether it is mapped for reading only.
    #[getter]
    fn readonly(&self) -> PyResult<bool> {
        self.0.with(|memory| memory.access() == wigwag::Access::ReadOnly)
    }

    /// The address of the file.
    #[getter]
    fn address(&self) -> PyResult<String> {
        self.0.with(|memory| memory.address.clone())
    }

    /// Return once the disk has what was written.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        // Its own hold on the memory: other threads run meanwhile, and may close.
        let mapping = self.0.with(|memory| Arc::clone(&memory.mapping))?;
        py.detach(|| mapping.flush(0, mapping.len())).map_err(|error| raise(py, error))
    }

    /// Unmap. Closing twice is fine. Raises BufferError while views of the memory exist.
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
        self.0.describe(|memory| memory.address.clone())
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
