//! Questions and answers over channels.

use pyo3::exceptions::{PyException, PyOSError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use wigwag::Question;

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::support::{Bytes, in_thread, interrupted, raise, wait};

pyo3::create_exception!(
    wigwag,
    Refused,
    PyOSError,
    "A question was refused: ``strerror`` is the text that the server's handler gave, ``errno`` is EREMOTEIO.\n\n\
     A handler raises ``Refused(\"why\")`` to refuse with that text and without a record in the log; one that it got itself,\n\
     asking somebody else, goes on with the text that it has."
);

/// The asking side of a channel: sends questions, and gets the answers to its own.
///
/// Works over ``tcp:``, ``udp:``, ``unix:``, ``unix-dgram:``, ``unix-seqpacket:``, ``mq:``, ``sysv-mq:``, ``ring:`` and ``fifo:``.
/// Opening it waits for a server where the mechanism needs one, for as long as ``timeout`` says. One question is under way at a
/// time; other threads wait for their turn. An answer that comes after its question was given up is dropped, and counted in ``late``.
/// Belongs to the process that opened it; pickles as its address. Raises OSError as ``Channel.open_sender()`` does, and ENOTSUP:
/// no way leads back over this mechanism.
#[pyclass(frozen, module = "wigwag")]
pub struct Caller {
    handle: Handle<wigwag::Caller>,
    address: String,
    patience: Option<f64>,
}

#[pymethods]
impl Caller {
    #[new]
    #[pyo3(signature = (address, timeout = None))]
    fn new(py: Python<'_>, address: AddressLike, timeout: Option<f64>) -> PyResult<Caller> {
        let within = crate::support::timeout(timeout)?;
        let opened = py.detach(|| wigwag::Caller::open(&address.0, within)).map_err(|error| raise(py, error))?;
        Ok(Caller { handle: Handle::new("Caller", opened), address: address.0.to_string(), patience: timeout })
    }

    /// Ask, and wait for the answer.
    ///
    /// Raises Refused: the server's handler did, with its text; BrokenPipeError, ConnectionResetError: the server went in
    /// between, and the question may have been acted on; TimeoutError, BlockingIOError with a timeout of 0: there is no answer
    /// yet, and if one comes it is dropped; OSError (EMSGSIZE: the question is too large; ENOTSUP: opened before a fork; what
    /// the channel gives).
    #[pyo3(signature = (message, timeout = None))]
    fn call<'py>(&self, py: Python<'py>, message: Bytes<'_>, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        let (caller, bytes) = (self.handle.get()?, message.as_slice());
        let timeout = crate::support::timeout(timeout)?;
        let answered = match py.detach(|| caller.call(bytes, timeout)) {
            Err(error) if error.errno() == libc::EREMOTEIO => {
                Err(Refused::new_err((error.errno(), error.reason().to_owned(), self.address.clone())))
            }
            answered => Ok(answered),
        };
        if let Some(raised) = interrupted() {
            return Err(raised);
        }
        Ok(PyBytes::new(py, &answered?.map_err(|error| raise(py, error))?))
    }

    /// As call, for asyncio: it waits in a thread of its own. A task that is cancelled gives its question up.
    #[pyo3(signature = (message, timeout = None))]
    fn call_async<'py>(
        slf: &Bound<'py, Self>,
        message: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        in_thread(&slf.getattr("call")?, (message,), timeout, None)
    }

    /// How many answers came when their question had been given up, and were dropped.
    #[getter]
    fn late(&self) -> PyResult<u64> {
        Ok(self.handle.get()?.late())
    }

    /// The address that it was opened with.
    #[getter]
    fn address(&self) -> PyResult<&str> {
        self.handle.get()?;
        Ok(&self.address)
    }

    /// Close it, and remove its channel for answers; threads that wait on it get OSError with errno ECANCELED. Closing twice
    /// is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.handle.close(py, |_| None, wigwag::Caller::end_waits)
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// It pickles as its address, and is opened anew with the same timeout.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let this = slf.get();
        this.handle.get()?;
        (slf.get_type(), (this.address.as_str(), this.patience)).into_pyobject(slf.py())
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
        self.handle.describe(|_| self.address.clone())
    }
}

/// The answering side of a channel: receives questions, and answers whoever asked.
///
/// A handler takes the question's bytes and returns the answer's, any object with a buffer; it runs in the thread that serves.
/// What it raises refuses the question: ``Refused`` with its text; any other Exception with its class and text, and the logger
/// ``wigwag`` gets it with its traceback; KeyboardInterrupt, SystemExit and the like do so too, and then leave the call that
/// serves. Several threads may serve.
///
/// Opening it waits as ``Channel.open_receiver()`` does. Pickles as its address. Raises OSError as that does, and ENOTSUP: no way
/// leads back over this mechanism.
#[pyclass(frozen, module = "wigwag")]
pub struct Server {
    handle: Handle<wigwag::Server>,
    address: String,
    patience: Option<f64>,
}

/// Waits for a question, and answers it. `beyond` senders of something else, which are cut off and counted, until it is closed.
fn serve_one(
    py: Python<'_>,
    server: &wigwag::Server,
    handler: &Bound<'_, PyAny>,
    seconds: Option<f64>,
    beyond: bool,
) -> PyResult<bool> {
    let next = |timeout| if beyond { server.next_in_turn(timeout) } else { server.next(timeout) };
    let question = wait(py, seconds, next)?;
    let answer = handler.call1((PyBytes::new(py, question.message()),));
    let bytes = match &answer {
        Ok(answer) => Bytes::extract(answer.as_borrowed()),
        Err(raised) => Err(raised.clone_ref(py)),
    };
    let raised = match bytes {
        Ok(bytes) => return send(py, question, Ok(bytes.as_slice())),
        Err(raised) => raised,
    };
    if raised.is_instance_of::<Refused>(py) {
        let text = text_of(raised.value(py)).unwrap_or_else(|_| raised.to_string());
        return send(py, question, Err(&text));
    }
    let text = raised.to_string();
    let sent = send(py, question, Err(text.strip_suffix(": ").unwrap_or(&text)));
    if !raised.is_instance_of::<PyException>(py) {
        return Err(raised);
    }
    log(py, &raised).unwrap_or_else(|_| raised.write_unraisable(py, Some(handler)));
    sent
}

/// Sends an answer, or a refusal. What a signal handler of Python's raised meanwhile is not lost in there.
fn send(py: Python<'_>, question: Question<'_>, answer: Result<&[u8], &str>) -> PyResult<bool> {
    let sent = py.detach(|| question.answer(answer));
    interrupted().map_or(Ok(sent), Err)
}

/// The text of a refusal, that came from elsewhere or is made by a handler.
fn text_of(refused: &Bound<'_, PyAny>) -> PyResult<String> {
    let text = refused.getattr("strerror")?;
    let text = if text.is_none() { refused.str()? } else { text.str()? };
    Ok(text.to_string_lossy().into_owned())
}

fn log(py: Python<'_>, raised: &PyErr) -> PyResult<()> {
    let details = PyDict::new(py);
    // Before Python 3.12 the value alone would come without its traceback.
    details.set_item("exc_info", (raised.get_type(py), raised.value(py), raised.traceback(py)))?;
    let logger = py.import("logging")?.call_method1("getLogger", ("wigwag",))?;
    logger.call_method("error", ("a handler failed, and its question was refused",), Some(&details))?;
    Ok(())
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (address, timeout = None))]
    fn new(py: Python<'_>, address: AddressLike, timeout: Option<f64>) -> PyResult<Server> {
        let within = crate::support::timeout(timeout)?;
        let opened = py.detach(|| wigwag::Server::open(&address.0, within)).map_err(|error| raise(py, error))?;
        Ok(Server { handle: Handle::new("Server", opened), address: address.0.to_string(), patience: timeout })
    }

    /// Wait for one question, and answer it with what ``handler`` makes of it: True, or False if nobody was there to take the
    /// answer, which then is dropped and counted. Messages that are no questions are skipped and counted.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0: no question came; OSError (EBADMSG: a sender sent something else
    /// and was cut off, or what it wrote was skipped; what the channel gives); KeyboardInterrupt and the like of the handler.
    #[pyo3(signature = (handler, timeout = None))]
    fn serve_one(&self, py: Python<'_>, handler: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<bool> {
        serve_one(py, &*self.handle.get()?, handler, timeout, false)
    }

    /// Answer questions as serve_one does, until none has come for the timeout, or it is closed.
    ///
    /// Raises as serve_one, but for EBADMSG: TimeoutError, OSError (ECANCELED: it was closed) and so on.
    #[pyo3(signature = (handler, timeout = None))]
    fn serve(&self, py: Python<'_>, handler: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let server = self.handle.get()?; // once: a handler may close it
        loop {
            py.check_signals()?; // a call that does not wait does not look
            serve_one(py, &server, handler, timeout, true)?;
        }
    }

    /// How many answers nobody was there to take.
    #[getter]
    fn dropped(&self) -> PyResult<u64> {
        Ok(self.handle.get()?.dropped())
    }

    /// How many messages were no questions.
    #[getter]
    fn foreign(&self) -> PyResult<u64> {
        Ok(self.handle.get()?.foreign())
    }

    /// The address that it was opened with.
    #[getter]
    fn address(&self) -> PyResult<&str> {
        self.handle.get()?;
        Ok(&self.address)
    }

    /// Where callers reach it over a socket: the port that the kernel chose, if the address left that to it; None for others.
    #[getter]
    fn local_address(&self) -> PyResult<Option<String>> {
        Ok(self.handle.get()?.local_address().map(ToString::to_string))
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.handle.close(py, |_| None, wigwag::Server::end_waits)
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// It pickles as its address, and is opened anew with the same timeout.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let this = slf.get();
        this.handle.get()?;
        (slf.get_type(), (this.address.as_str(), this.patience)).into_pyobject(slf.py())
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
        self.handle.describe(|_| self.address.clone())
    }
}
