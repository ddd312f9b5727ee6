//! What locks and the like have in common.

use std::ops::Range;
use std::os::fd::BorrowedFd;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use wigwag::WaitMode;

use crate::support::{borrow, fields, raise};

/// ``"adaptive"``, ``"block"`` or ``"poll"``.
#[derive(Clone, Copy)]
pub(crate) struct Waiting(pub(crate) WaitMode);

impl Waiting {
    pub(crate) fn text(self) -> &'static str {
        match self.0 {
            WaitMode::Adaptive => "adaptive",
            WaitMode::Block => "block",
            WaitMode::Poll => "poll",
        }
    }
}

impl Default for Waiting {
    fn default() -> Waiting {
        Waiting(WaitMode::Adaptive)
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Waiting {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Waiting> {
        match object.extract::<std::borrow::Cow<'_, str>>()?.as_ref() {
            "adaptive" => Ok(Waiting(WaitMode::Adaptive)),
            "block" => Ok(Waiting(WaitMode::Block)),
            "poll" => Ok(Waiting(WaitMode::Poll)),
            _ => Err(PyValueError::new_err("wait must be 'adaptive', 'block' or 'poll'")),
        }
    }
}

/// How pickle makes an object anew: opened by its address, or from its descriptor where it goes along with a process that
/// is being started. The options are the handle's own.
pub(crate) fn reduce<'py>(
    object: &Bound<'py, PyAny>,
    address: &str,
    options: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    if address.ends_with(':') {
        let descriptor =
            py.import("wigwag._pickle")?.call_method1("descriptor", (object.call_method0("segment_fd")?,))?;
        let adopt = py.import("wigwag._pickle")?.getattr("adopt")?;
        return (adopt, (object.get_type(), descriptor, options)).into_pyobject(py);
    }
    let reopen = py.import("wigwag._pickle")?.getattr("reopen")?;
    (reopen, (object.get_type(), address, options)).into_pyobject(py)
}

/// The same for one that may lie in memory of the caller's, whose descriptor it then has.
pub(crate) fn reduce_sync<'py>(
    object: &Bound<'py, PyAny>,
    address: &str,
    placed: Option<Range<u64>>,
    options: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyTuple>> {
    let Some(range) = placed else { return reduce(object, address, options) };
    let pickling = object.py().import("wigwag._pickle")?;
    let descriptor = pickling.call_method1("descriptor", (object.call_method0("segment_fd")?,))?;
    let arguments = (object.get_type(), descriptor, range.start, range.end - range.start, options);
    (pickling.getattr("place")?, arguments).into_pyobject(object.py())
}

/// Places an object in a caller's memory; without a size in as much of it as it needs.
pub(crate) fn place<T: Send>(
    memory: &Bound<'_, PyAny>,
    offset: u64,
    size: Option<u64>,
    needed: wigwag::Result<usize>,
    place: impl FnOnce(BorrowedFd<'_>, Range<u64>) -> wigwag::Result<T> + Send,
) -> PyResult<T> {
    let py = memory.py();
    let needed = needed.map_err(|error| raise(py, error))?;
    let end = offset.saturating_add(size.unwrap_or(needed as u64));
    // SAFETY: for this call, through which the caller has the object.
    let memory = unsafe { borrow(memory) }?;
    py.detach(|| place(memory, offset..end)).map_err(|error| raise(py, error))
}

/// One handle on a lock or the like, of this or another process.
///
/// ``pid`` is None where it lives in a pid namespace that this process cannot see. ``since`` is when it was opened,
/// ``holding`` what it holds (1 for a lock, permits for permits, read locks), ``holding_since`` since when at the latest:
/// when somebody who had to wait first saw it. ``waiting`` is how many of its threads wait, the first of them since
/// ``waiting_since``. Times are in seconds since 1970, None if there is none.
#[pyclass(frozen, module = "wigwag", get_all)]
#[derive(Debug)]
pub struct SyncParticipant {
    is_self: bool,
    pid: Option<u32>,
    since: f64,
    holding: u64,
    holding_since: Option<f64>,
    waiting: u32,
    waiting_since: Option<f64>,
}

#[pymethods]
impl SyncParticipant {
    fn __repr__(&self) -> String {
        fields(self)
    }
}

/// Seconds since 1970.
pub(crate) fn seconds(time: std::time::SystemTime) -> f64 {
    time.duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

pub(crate) fn participants(those: Vec<wigwag::SyncParticipant>) -> Vec<SyncParticipant> {
    let one = |other: wigwag::SyncParticipant| SyncParticipant {
        is_self: other.is_self,
        pid: other.pid,
        since: seconds(other.since),
        holding: other.holding,
        holding_since: other.holding_since.map(seconds),
        waiting: other.waiting,
        waiting_since: other.waiting_since.map(seconds),
    };
    those.into_iter().map(one).collect()
}
