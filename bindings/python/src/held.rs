//! Permits as `with` statements and as `threading.Semaphore` has them.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use wigwag::{Result, Timeout};

use crate::support::{self, raise, wait};

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

/// A permit for the length of a `with` statement.
#[pyclass(frozen, module = "wigwag")]
pub struct Held {
    take: Box<dyn Fn(Timeout) -> Result<()> + Send + Sync>,
    release: Box<dyn Fn() -> Result<()> + Send + Sync>,
    timeout: Option<f64>,
}

impl Held {
    pub(crate) fn new(
        timeout: Option<f64>,
        take: impl Fn(Timeout) -> Result<()> + Send + Sync + 'static,
        release: impl Fn() -> Result<()> + Send + Sync + 'static,
    ) -> PyResult<Held> {
        support::timeout(timeout)?;
        Ok(Held { take: Box::new(take), release: Box::new(release), timeout })
    }
}

#[pymethods]
impl Held {
    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        wait(py, self.timeout, &*self.take)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _type: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        (self.release)().map_err(|error| raise(py, error))
    }
}
