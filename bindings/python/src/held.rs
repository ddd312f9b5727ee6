//! Permits as `with` statements and as `threading.Semaphore` has them.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use wigwag::{Result, Timeout};

use crate::support::{self, raise};

/// Takes a permit as `threading.Semaphore.acquire` does: False if there was none in time.
pub(crate) fn acquire(
    py: Python<'_>,
    blocking: bool,
    seconds: Option<f64>,
    mut take: impl FnMut(Timeout) -> Result<()> + Send,
) -> PyResult<bool> {
    if !blocking && seconds.is_some() {
        return Err(PyValueError::new_err("can't specify timeout for non-blocking acquire"));
    }
    let timeout = if blocking { support::timeout(seconds)? } else { Timeout::Now };
    let result = match take(Timeout::Now) {
        Err(error) if error.errno() == libc::EAGAIN && timeout != Timeout::Now => py.detach(|| take(timeout)),
        result => result,
    };
    match result {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.errno(), libc::EAGAIN | libc::ETIMEDOUT) => Ok(false),
        Err(error) => Err(raise(py, error)),
    }
}

type Step = Box<dyn Fn(Python<'_>) -> PyResult<()> + Send + Sync>;

/// A permit for the length of a `with` statement.
#[pyclass(frozen, module = "wigwag")]
pub struct Held {
    take: Step,
    release: Step,
}

impl Held {
    pub(crate) fn new(
        take: impl Fn(Python<'_>) -> PyResult<()> + Send + Sync + 'static,
        release: impl Fn(Python<'_>) -> PyResult<()> + Send + Sync + 'static,
    ) -> Held {
        Held { take: Box::new(take), release: Box::new(release) }
    }
}

#[pymethods]
impl Held {
    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        (self.take)(py)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _type: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        (self.release)(py)
    }
}
