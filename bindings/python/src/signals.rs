//! Receiving signals: as a queue, by functions, as a wish to end.

use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use wigwag::{ShutdownOptions, SignalsOptions};

use crate::cancel::Cancel;
use crate::handle::Handle;
use crate::signal::{AnySignal, Signal, SignalInfo, list};
use crate::support::{coroutine, raise, wait};

thread_local! {
    /// While a thread is in `dispatch`: the first exception of a function that it ran, if any.
    static DISPATCHING: RefCell<Option<Option<PyErr>>> = const { RefCell::new(None) };
}

/// Signals that came, in order, each with its sender and value: taken one by one, or handed to functions.
///
/// ``signals`` is one signal or an iterable of them (names, numbers, ``signal.SIGUSR1``, ``wigwag.Signal``), or an
/// address such as ``"signal:INT,TERM"``. Any thread may make one. Beside the standard library: handlers that were there
/// before, also those of ``signal.signal()``, are called as well and stay after close. Python's own handler for SIGINT,
/// which raises KeyboardInterrupt, counts as none: it is called only with ``chain=True``; with ``chain=False`` no earlier
/// handler is. A ``signal.signal()`` made later takes the signal over.
///
/// ``capacity`` is room for that many signals; what came and found no room is counted in ``lost``. A child made by
/// ``os.fork()`` has no subscriptions until it uses the object, which then is its own.
///
/// Raises OSError (EINVAL for SIGKILL, SIGSTOP and faults, EBUSY for the signal that this library uses itself, EMFILE).
#[pyclass(frozen, module = "wigwag")]
pub struct Signals(Handle<wigwag::Signals>);

/// Of these signals, those whose earlier handlers are left out.
fn unchained(py: Python<'_>, signals: &[wigwag::Signal], chain: Option<bool>) -> PyResult<Vec<wigwag::Signal>> {
    match chain {
        Some(true) => Ok(Vec::new()),
        Some(false) => Ok(signals.to_vec()),
        None if !signals.contains(&wigwag::Signal::INT) => Ok(Vec::new()),
        None => {
            let module = py.import("signal")?;
            let handler = module.call_method1("getsignal", (wigwag::Signal::INT.number(),))?;
            let is_pythons = handler.is(&module.getattr("default_int_handler")?);
            Ok(if is_pythons { vec![wigwag::Signal::INT] } else { Vec::new() })
        }
    }
}

#[pymethods]
impl Signals {
    #[new]
    #[pyo3(signature = (signals, capacity = 0, chain = None))]
    fn new(py: Python<'_>, signals: &Bound<'_, PyAny>, capacity: usize, chain: Option<bool>) -> PyResult<Signals> {
        let text = signals.cast::<PyString>().ok().and_then(|text| text.to_str().ok());
        let opened = match text.filter(|text| text.starts_with("signal:")) {
            Some(address) => {
                let address = wigwag::Address::parse(address).map_err(|error| raise(py, error))?;
                let (signals, _) = wigwag::Signal::from_address(&address).map_err(|error| raise(py, error))?;
                let unchained = unchained(py, &signals, chain)?;
                wigwag::Signals::at(&address, SignalsOptions { capacity, unchained })
            }
            None => {
                let signals = list(signals)?;
                let unchained = unchained(py, &signals, chain)?;
                wigwag::Signals::open_with(&signals, SignalsOptions { capacity, unchained })
            }
        };
        Ok(Signals(Handle::new("Signals", opened.map_err(|error| raise(py, error))?)))
    }

    /// Take the oldest signal that came, waiting for one: a SignalInfo.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0.
    #[pyo3(signature = (timeout = None))]
    fn take(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<SignalInfo> {
        let signals = self.0.get()?;
        wait(py, timeout, |timeout| signals.take(timeout)).map(SignalInfo)
    }

    /// As take, to be awaited.
    #[pyo3(signature = (timeout = None))]
    fn take_async<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf, "take", false, timeout, ())
    }

    /// Add a function that is called with the SignalInfo when this signal has been taken by dispatch or the dispatcher
    /// thread; its number, for off. Functions run one at a time, for one signal in the order they were added.
    ///
    /// Raises OSError with errno EINVAL if the signal is not among those of this object.
    fn on(&self, py: Python<'_>, signal: AnySignal, function: Py<PyAny>) -> PyResult<u64> {
        if !function.bind(py).is_callable() {
            return Err(PyTypeError::new_err("the function is not callable"));
        }
        let call = move |info: &wigwag::SignalInfo| {
            // None while the interpreter ends: there is nobody left to tell.
            let _ = Python::try_attach(|py| {
                if let Err(raised) = function.call1(py, (SignalInfo(*info),)) {
                    keep_or_print(py, raised, &function);
                }
            });
        };
        self.0.get()?.on(signal.0, call).map_err(|error| raise(py, error))
    }

    /// Remove the function that has this number. When it returns, the function neither runs nor will, unless the caller
    /// is one of them. Raises FileNotFoundError if there is none.
    fn off(&self, py: Python<'_>, id: u64) -> PyResult<()> {
        let signals = self.0.get()?;
        py.detach(|| signals.off(id)).map_err(|error| raise(py, error))
    }

    /// Wait for a signal and call the functions for it and for those that came meanwhile, in this thread; how many
    /// signals that were. The first exception that one raises comes out here, after the others have run.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0, OSError with errno EDEADLK if it is called by one of
    /// those functions.
    #[pyo3(signature = (timeout = None))]
    fn dispatch(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<usize> {
        let signals = self.0.get()?;
        let outer = DISPATCHING.replace(Some(None));
        let done = wait(py, timeout, |timeout| signals.dispatch(timeout));
        match DISPATCHING.replace(outer).flatten() {
            Some(raised) => Err(raised),
            None => done,
        }
    }

    /// As dispatch, to be awaited.
    #[pyo3(signature = (timeout = None))]
    fn dispatch_async<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf, "dispatch", false, timeout, ())
    }

    /// Start a thread that dispatches from now on. An exception in a function goes to ``sys.unraisablehook``.
    ///
    /// Raises OSError (EALREADY if it runs already, ENOMEM if no thread can be had).
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.start().map_err(|error| raise(py, error))
    }

    /// Stop the dispatcher thread, after a function that is running (unless it is the caller).
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        let signals = self.0.get()?;
        py.detach(|| signals.stop());
        Ok(())
    }

    /// How many signals came and were lost because there was no room.
    #[getter]
    fn lost(&self) -> PyResult<u64> {
        Ok(self.0.get()?.lost())
    }

    /// The signals that it is for, a tuple.
    #[getter]
    fn signals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let signals = self.0.get()?;
        PyTuple::new(py, signals.signals().iter().map(|signal| Signal(*signal)))
    }

    /// The address, such as ``"signal:INT,TERM"``.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// The descriptor, to poll: readable while there is a signal to take.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.0.get()?.as_fd().as_raw_fd())
    }

    /// End the subscriptions and the dispatcher thread; threads that wait get OSError with errno ECANCELED. Closing twice
    /// is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |signals| Some(signals.as_fd().as_raw_fd()), wigwag::Signals::end)
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
        self.close(py)
    }

    fn __repr__(&self) -> String {
        self.0.describe(|signals| format!("{} lost={}", signals.address(), signals.lost()))
    }
}

impl Drop for Signals {
    /// Collected without close: the dispatcher thread may be waiting for the interpreter, so let go of that first.
    fn drop(&mut self) {
        if let Ok(signals) = self.0.get() {
            let ended = Python::try_attach(|py| py.detach(|| signals.end()));
            if ended.is_none() {
                signals.end();
            }
        }
    }
}

/// For `dispatch` to raise, or for the hook where nobody could catch it.
fn keep_or_print(py: Python<'_>, raised: PyErr, function: &Py<PyAny>) {
    let kept = DISPATCHING.with_borrow_mut(|dispatching| match dispatching {
        Some(first @ None) => {
            *first = Some(raised.clone_ref(py));
            true
        }
        _ => false,
    });
    if !kept {
        raised.write_unraisable(py, Some(function.bind(py)));
    }
}

/// The wish that this process should end, as its user or supervisor sends it: SIGTERM and SIGINT, unless ``signals`` says
/// otherwise.
///
/// While it is open they no longer end the process. The first fires ``cancel``, so that every wait in its scope raises
/// OSError with errno ECANCELED; with ``second_ends=True`` a second one is left to the earlier handler or the default
/// action. ``chain`` is as with Signals. Raises OSError (EINVAL, EBUSY, EMFILE).
#[pyclass(frozen, module = "wigwag")]
pub struct Shutdown(Handle<wigwag::Shutdown>);

#[pymethods]
impl Shutdown {
    #[new]
    #[pyo3(signature = (signals = None, cancel = None, second_ends = false, chain = None))]
    fn new(
        py: Python<'_>,
        signals: Option<&Bound<'_, PyAny>>,
        cancel: Option<&Bound<'_, Cancel>>,
        second_ends: bool,
        chain: Option<bool>,
    ) -> PyResult<Shutdown> {
        let mut signals = signals.map_or(Ok(Vec::new()), list)?;
        if signals.is_empty() {
            signals = vec![wigwag::Signal::TERM, wigwag::Signal::INT];
        }
        let unchained = unchained(py, &signals, chain)?;
        let cancel = cancel.map(|cancel| cancel.get().0.clone());
        let shutdown = wigwag::Shutdown::open(ShutdownOptions { signals, cancel, second_ends, unchained });
        Ok(Shutdown(Handle::new("Shutdown", shutdown.map_err(|error| raise(py, error))?)))
    }

    /// The signal that asked for the end, or None.
    #[getter]
    fn requested(&self) -> PyResult<Option<Signal>> {
        Ok(self.0.get()?.requested().map(Signal))
    }

    /// How often it was asked for.
    #[getter]
    fn count(&self) -> PyResult<u32> {
        Ok(self.0.get()?.count())
    }

    /// Wait until the end is asked for, again at once each time after: the signal that asked.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Signal> {
        let shutdown = self.0.get()?;
        wait(py, timeout, |timeout| shutdown.wait(timeout)).map(Signal)
    }

    /// As wait, to be awaited.
    #[pyo3(signature = (timeout = None))]
    fn wait_async<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf, "wait", false, timeout, ())
    }

    /// The address, such as ``"signal:TERM,INT"``.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// The descriptor, to poll: readable from the first wish on; not to be read from.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.0.get()?.as_fd().as_raw_fd())
    }

    /// Put back what the signals did before; threads that wait get OSError with errno ECANCELED. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |shutdown| Some(shutdown.as_fd().as_raw_fd()), wigwag::Shutdown::end_waits)
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
        self.close(py)
    }

    fn __repr__(&self) -> String {
        self.0.describe(|shutdown| match shutdown.requested() {
            Some(signal) => format!("{} requested by {signal}", shutdown.address()),
            None => shutdown.address().to_owned(),
        })
    }
}
