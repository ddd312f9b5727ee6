//! Listener.

use std::os::fd::{AsFd, AsRawFd};

use pyo3::prelude::*;
use wigwag::SocketOptions;

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::socket::{Socket, python};
use crate::support::{adopt, coroutine, raise, timeout, wait};

/// A socket that accepts connections: ``tcp:``, ``unix:`` or ``unix-seqpacket:``.
///
/// An empty host means all interfaces; port 0 any free one, see ``local_address``. A path is taken over if it is a socket
/// where nobody listens any more; closing removes it, if this process made it. Options that are not given here count as
/// the address says; accepted connections have the listener's. The timeout is for a host's name to be looked up.
///
/// Raises OSError (EADDRINUSE, EADDRNOTAVAIL, ENOTSOCK if the path is something else than a socket), PermissionError,
/// TimeoutError.
#[pyclass(frozen, module = "wigwag")]
pub struct Listener(Handle<wigwag::Listener>);

#[pymethods]
impl Listener {
    #[new]
    #[pyo3(signature = (address, timeout = None, *, backlog = 0, reuse = None, nodelay = false, keepalive = false, send_buffer = 0, receive_buffer = 0, mode = 0, any_user = false))]
    #[allow(clippy::too_many_arguments)] // keywords
    fn new(
        py: Python<'_>,
        address: AddressLike,
        timeout: Option<f64>,
        backlog: u32,
        reuse: Option<bool>,
        nodelay: bool,
        keepalive: bool,
        send_buffer: usize,
        receive_buffer: usize,
        mode: u32,
        any_user: bool,
    ) -> PyResult<Listener> {
        let (address, timeout) = (address.0, self::timeout(timeout)?);
        let options = SocketOptions { backlog, reuse, nodelay, keepalive, send_buffer, receive_buffer, mode, any_user };
        let listener = py.detach(|| wigwag::Listener::open(&address, &options, timeout));
        listener.map(|listener| Listener(Handle::new("Listener", listener))).map_err(|error| raise(py, error))
    }

    /// Take over a listening socket that something else made; its mode is left as it is, and so is its path when it is
    /// closed. The descriptor then belongs to the object.
    ///
    /// Raises OSError (ENOTSOCK, ENOTSUP, EINVAL if it does not listen); the descriptor then stays the caller's.
    #[staticmethod]
    fn from_fd(py: Python<'_>, fd: i32) -> PyResult<Listener> {
        adopt(py, fd, wigwag::Listener::from_fd).map(|listener| Listener(Handle::new("Listener", listener)))
    }

    /// Accept the connection that has waited longest; waits for one. Raises TimeoutError, BlockingIOError with a timeout of
    /// 0, OSError (EMFILE, ENFILE; the connection goes on waiting).
    #[pyo3(signature = (timeout = None))]
    fn accept(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Socket> {
        let listener = self.0.get()?;
        wait(py, timeout, |timeout| listener.accept(timeout)).map(python)
    }

    /// As accept, to be awaited.
    #[pyo3(signature = (timeout = None))]
    fn accept_async<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf, "accept", false, timeout, ())
    }

    /// The address that it listens at, with the port that the kernel chose.
    #[getter]
    fn local_address(&self, py: Python<'_>) -> PyResult<String> {
        let address = self.0.get()?.local_address().map_err(|error| raise(py, error))?;
        Ok(address.to_string())
    }

    /// How many connections to an abstract name were refused because they were another user's.
    #[getter]
    fn refused(&self) -> PyResult<u64> {
        Ok(self.0.get()?.refused())
    }

    /// Keep the listener open over exec, in blocking mode as programs expect of one that they inherit.
    fn inherit(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.inherit().map_err(|error| raise(py, error))
    }

    /// The address it was opened with.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// The descriptor, to poll or to pass on; readable while a connection waits.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.0.get()?.as_fd().as_raw_fd())
    }

    /// Close the listener and remove its path, if this process made it; threads that wait on it get OSError with errno
    /// ECANCELED. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |listener| Some(listener.as_fd().as_raw_fd()), wigwag::Listener::end_waits)
    }

    /// Whether the listener is closed.
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
        self.0.describe(|listener| format!("{} fd={}", listener.address(), listener.as_fd().as_raw_fd()))
    }
}
