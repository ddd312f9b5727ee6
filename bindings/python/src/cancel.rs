//! Cancellation.

use pyo3::prelude::*;

/// Ends the waits of every thread that is in its scope.
///
/// Inside ``with cancel:`` every blocking wigwag call of that thread raises OSError with errno ECANCELED once the cancel
/// has fired, from any thread or signal handler; a call that need not wait still succeeds. Scopes nest.
#[pyclass(frozen, module = "wigwag")]
pub struct Cancel(pub(crate) wigwag::Cancel);

#[pymethods]
impl Cancel {
    #[new]
    fn new() -> Cancel {
        Cancel(wigwag::Cancel::new())
    }

    /// End the waits of the threads in scope, now and later. Never blocks.
    fn fire(&self) {
        self.0.fire();
    }

    /// Make it as new, so that waits in scope block again.
    fn reset(&self) {
        self.0.reset();
    }

    /// Whether it has fired.
    #[getter]
    fn fired(&self) -> bool {
        self.0.is_fired()
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf.0.enter_unscoped();
        slf
    }

    fn __exit__(&self, _type: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _traceback: &Bound<'_, PyAny>) {
        self.0.leave();
    }

    fn __repr__(&self) -> String {
        format!("<wigwag.Cancel {}>", if self.0.is_fired() { "fired" } else { "not fired" })
    }
}
