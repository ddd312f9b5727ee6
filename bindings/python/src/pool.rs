//! Under `wigwag.ProcessPool`: the pool and the workers' side of it, in bytes.

use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use wigwag::{Death, DeathReason, PoolOptions, TaskOptions, Verdict};

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::support::{Bytes, ended, raise, timeout, wait};

/// A pool of worker processes that takes bytes and gives verdicts; ``wigwag.ProcessPool`` is made of it.
#[pyclass(frozen, module = "wigwag._wigwag", name = "PoolCore")]
pub struct PoolCore(Handle<Arc<wigwag::Pool>>);

/// Starts workers by calling Python.
struct Launcher {
    launch: Py<PyAny>,
    end_of: Py<PyAny>,
}

impl wigwag::PoolLauncher for Launcher {
    fn launch(&mut self, seat: wigwag::WorkerSeat, error: OwnedFd) -> wigwag::Result<i32> {
        let launched = Python::try_attach(|py| {
            let seat = Py::new(py, WorkerSeat(seat))?;
            self.launch.call1(py, (seat, error.into_raw_fd()))?.extract(py)
        });
        let ended = || wigwag::Error::from_raw(libc::ECHILD, "start worker").because("the interpreter has ended");
        launched.ok_or_else(ended)?.map_err(|error: PyErr| failed(&error))
    }

    fn end_of(&mut self, pid: i32) -> Option<i32> {
        Python::try_attach(|py| self.end_of.call1(py, (pid,))?.extract::<Option<i32>>(py))?.unwrap_or(None)
    }
}

fn failed(error: &PyErr) -> wigwag::Error {
    wigwag::Error::from_raw(libc::ECHILD, "start worker").because_found(error.to_string())
}

fn limit(seconds: Option<f64>) -> PyResult<Option<Duration>> {
    let wrong = || PyValueError::new_err("a time limit is None or a number of seconds above 0");
    match seconds {
        None => Ok(None),
        Some(seconds) if seconds > 0.0 => Duration::try_from_secs_f64(seconds).map(Some).map_err(|_| wrong()),
        Some(_) => Err(wrong()),
    }
}

type DeathFields = (u64, i32, Option<i32>, Option<i32>, &'static str, f64, u64, String);

fn death(death: Death) -> DeathFields {
    let (reason, limit) = match death.reason {
        DeathReason::Timeout(limit) => ("timeout", limit.as_secs_f64()),
        DeathReason::Memory(limit) => ("memory", limit as f64),
        DeathReason::Cancel => ("cancel", 0.0),
        DeathReason::Start(limit) => ("start", limit.as_secs_f64()),
        _ => ("own", 0.0),
    };
    let Death { task, pid, signal, exit_code, peak_memory, last_words, .. } = death;
    (task, pid, signal, exit_code, reason, limit, peak_memory, last_words)
}

#[pymethods]
impl PoolCore {
    /// Start a pool whose workers ``launch(seat, stderr)`` starts, returning their pid; ``end_of(pid)`` tells how one ended
    /// that is no child of this process.
    #[new]
    #[pyo3(signature = (launch, end_of, *, address = None, workers = 0, least_workers = None, shrink_after = 10.0, queue = 0,
        retries = 0, task_timeout = None, start_timeout = None, memory_limit = 0, tasks_per_worker = 0))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        launch: Py<PyAny>,
        end_of: Py<PyAny>,
        address: Option<AddressLike>,
        workers: u32,
        least_workers: Option<u32>,
        shrink_after: f64,
        queue: usize,
        retries: u32,
        task_timeout: Option<f64>,
        start_timeout: Option<f64>,
        memory_limit: u64,
        tasks_per_worker: u64,
    ) -> PyResult<PoolCore> {
        let options = PoolOptions {
            address: address.map(|address| address.0),
            workers,
            least_workers,
            shrink_after: limit(Some(shrink_after))?.unwrap_or_default(),
            queue,
            retries,
            task_timeout: limit(task_timeout)?,
            start_timeout: limit(start_timeout)?,
            memory_limit,
            tasks_per_worker,
            collects: true,
        };
        let launcher = Box::new(Launcher { launch, end_of });
        let pool = py.detach(|| wigwag::Pool::with_launcher(options, launcher)).map_err(|error| raise(py, error))?;
        Ok(PoolCore(Handle::new("PoolCore", Arc::new(pool))))
    }

    /// Submit a task; its number.
    #[pyo3(signature = (payload, priority = 0, limit = None, timeout = None))]
    fn submit(
        &self,
        py: Python<'_>,
        payload: Bytes,
        priority: u32,
        limit: Option<f64>,
        timeout: Option<f64>,
    ) -> PyResult<u64> {
        let pool = self.0.get()?;
        let options = TaskOptions { priority, timeout: self::limit(limit)? };
        let payload = payload.as_slice();
        // Where nothing is to be waited for the GIL is kept: the thread that takes in results would take it each time.
        match pool.submit_collected(0, payload.to_vec(), options, wigwag::Timeout::Now) {
            Err(error) if error.errno() == libc::EAGAIN && timeout != Some(0.0) => {
                wait(py, timeout, |timeout| pool.submit_collected(0, payload.to_vec(), options, timeout))
            }
            result => result.map_err(|error| raise(py, error)),
        }
    }

    /// Verdicts as ``(number, kind, what)``: 0 a result, 1 a reason, 2 cancelled, 3 a death, 4 a list of deaths. An empty
    /// list: the pool is shut down and everything was collected.
    fn collect<'py>(&self, py: Python<'py>, most: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyList>> {
        let pool = self.0.get()?;
        let found = wait(py, timeout, |timeout| pool.collect(most, timeout))?;
        let verdicts = found.into_iter().map(|(number, verdict)| {
            match verdict {
                Verdict::Done(result) => (number, 0, PyBytes::new(py, &result)).into_pyobject(py),
                Verdict::Failed(reason) => (number, 1, reason).into_pyobject(py),
                Verdict::Lost(lost) => (number, 3, death(lost)).into_pyobject(py),
                Verdict::Poison(deaths) => {
                    let deaths: Vec<_> = deaths.into_iter().map(death).collect();
                    (number, 4, deaths).into_pyobject(py)
                }
                _ => (number, 2, py.None()).into_pyobject(py),
            }
            .map(Bound::into_any)
        });
        PyList::new(py, verdicts.collect::<PyResult<Vec<_>>>()?)
    }

    /// Cancel a task, one that runs too if ``running``; False if it has its verdict already, or runs on.
    fn cancel(&self, number: u64, running: bool) -> PyResult<bool> {
        Ok(self.0.get()?.cancel(number, running))
    }

    /// Whether a worker has begun a task that has no verdict yet.
    fn has_begun(&self, number: u64) -> PyResult<bool> {
        Ok(self.0.get()?.has_begun(number))
    }

    /// As many bytes as a task may have, and its result.
    #[getter]
    fn largest(&self) -> PyResult<usize> {
        Ok(self.0.get()?.largest())
    }

    /// What the pool has seen.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let found = self.0.get()?.statistics();
        let dict = PyDict::new(py);
        for (name, value) in [
            ("submitted", found.submitted),
            ("done", found.done),
            ("failed", found.failed),
            ("lost", found.lost),
            ("cancelled", found.cancelled),
            ("poisoned", found.poisoned),
            ("queued", found.queued),
            ("running", found.running),
            ("retried", found.retried),
            ("started", found.started),
            ("deaths", found.deaths),
            ("foreign", found.foreign),
            ("unsaid", found.unsaid),
        ] {
            dict.set_item(name, value)?;
        }
        let workers = found.workers.iter().map(|worker| {
            let dict = PyDict::new(py);
            dict.set_item("pid", worker.pid)?;
            dict.set_item("tasks", worker.tasks)?;
            dict.set_item("busy", f64::from(worker.busy) / 1000.0)?;
            dict.set_item("memory", worker.memory)?;
            dict.set_item("in_group", worker.in_group)?;
            Ok(dict)
        });
        dict.set_item("workers", workers.collect::<PyResult<Vec<_>>>()?)?;
        Ok(dict)
    }

    /// Let go of everything, after the end.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |_| None, |pool| pool.end_waits())
    }

    /// End the pool; see ``ProcessPool.shutdown``.
    fn shutdown(&self, py: Python<'_>, cancel_queued: bool, timeout: Option<f64>) -> PyResult<()> {
        let pool = self.0.get()?;
        let timeout = self::timeout(timeout)?;
        ended(py, py.detach(|| pool.shutdown(cancel_queued, timeout)))
    }
}

/// A worker's place in a pool.
#[pyclass(frozen, module = "wigwag._wigwag")]
pub struct WorkerSeat(wigwag::WorkerSeat);

#[pymethods]
impl WorkerSeat {
    /// A seat from what ``hand_over`` gave in the pool's process; the descriptors are taken over.
    #[staticmethod]
    fn taken_over(py: Python<'_>, number: u32, address: AddressLike, descriptors: [i32; 3]) -> PyResult<WorkerSeat> {
        if descriptors.iter().any(|fd| *fd < 0) {
            return Err(PyValueError::new_err("these are not descriptors"));
        }
        // SAFETY: the caller gives them away; a number that is not open is refused by the first call on it.
        let descriptors = descriptors.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        let seat = wigwag::WorkerSeat::from_descriptors(number, &address.0, descriptors);
        Ok(WorkerSeat(seat.map_err(|error| raise(py, error))?))
    }

    /// What another process needs: number, address, three descriptors, which stay the seat's.
    fn hand_over<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let descriptors = self.0.descriptors().ok_or_else(|| {
            PyValueError::new_err("only pools over pipe: hand their seats over to processes that are not forked")
        })?;
        let descriptors = descriptors.map(|fd| fd.as_raw_fd());
        (self.0.number(), self.0.address(), descriptors).into_pyobject(py)
    }

    /// Wait for the next task: ``(index, payload)``, or None when the pool says stop.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<(u32, Bound<'py, PyBytes>)>> {
        let task = wait(py, None, |timeout| self.0.next(timeout))?;
        Ok(task.map(|task| (task.index, PyBytes::new(py, &task.payload))))
    }

    /// As many bytes as a result may have.
    #[getter]
    fn largest(&self) -> usize {
        self.0.largest()
    }

    /// Report the result of the task with this index.
    fn report(&self, py: Python<'_>, index: u32, result: Bytes) -> PyResult<()> {
        let result = Ok(result.as_slice().to_vec());
        py.detach(|| self.0.report(index, &result)).map_err(|error| raise(py, error))
    }
}

/// Have this process killed when the thread that started it, or its process, is gone.
///
/// System call: prctl(PR_SET_PDEATHSIG).
#[pyfunction]
pub fn die_with_parent() {
    // SAFETY: a plain system call without pointers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}
