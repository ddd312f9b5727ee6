//! Socket.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wigwag::{KeepAlive, Scheme, ShutdownSide, SocketOptions};

use crate::address::AddressLike;
use crate::handle::Handle;
use crate::support::{
    Bytes, Room, adopt, borrow, coroutine, coroutine_of, in_thread, new_bytes, raise, timeout, wait, wait_for_all,
    with_partial,
};

/// One end of a connection, or a socket for datagrams; made by ``Socket.connect()``, ``Socket.bind()``,
/// ``Socket.pair()`` or ``Listener.accept()``.
///
/// ``tcp:`` and ``unix:`` carry bytes; ``udp:``, ``unix-dgram:`` and ``unix-seqpacket:`` messages, which are never cut.
/// Receiving ``b""`` is the end of a stream (from a datagram socket an empty datagram): the peer has closed or shut down
/// its end, or died. Descriptors are closed on exec unless ``inherit()`` says otherwise.
#[pyclass(frozen, module = "wigwag")]
pub struct Socket(Handle<wigwag::Socket>);

pub(crate) fn python(socket: wigwag::Socket) -> Socket {
    Socket(Handle::new("Socket", socket))
}

#[pymethods]
impl Socket {
    /// Connect to a listener, or fix the peer of a datagram socket; waits for a host's name to be looked up and for the
    /// connection to be made. A host's addresses are tried one after the other, each for its share of the time
    /// that is left; an empty host is this one.
    ///
    /// Options that are not given here count as the address says. Raises ConnectionRefusedError when nobody listens there,
    /// FileNotFoundError, PermissionError (the path's permissions, or another user holds the abstract name), TimeoutError,
    /// OSError (ENOTSUP for a ``unix-dgram:`` abstract name without ``any_user=True`` where the system does not tell who
    /// would receive).
    #[staticmethod]
    #[pyo3(signature = (address, timeout = None, *, nodelay = false, keepalive = false, send_buffer = 0, receive_buffer = 0, any_user = false))]
    #[allow(clippy::too_many_arguments)] // keywords
    fn connect(
        py: Python<'_>,
        address: AddressLike,
        timeout: Option<f64>,
        nodelay: bool,
        keepalive: bool,
        send_buffer: usize,
        receive_buffer: usize,
        any_user: bool,
    ) -> PyResult<Socket> {
        let (address, timeout) = (address.0, self::timeout(timeout)?);
        let options =
            SocketOptions { nodelay, keepalive, send_buffer, receive_buffer, any_user, ..SocketOptions::default() };
        let connected = py.detach(|| wigwag::Socket::connect(&address, &options, timeout));
        connected.map(python).map_err(|error| raise(py, error))
    }

    /// As connect, to be awaited; the waiting is done on a thread of its own.
    #[staticmethod]
    #[pyo3(signature = (address, timeout = None, **options))]
    fn connect_async<'py>(
        py: Python<'py>,
        address: &Bound<'py, PyAny>,
        timeout: Option<f64>,
        options: Option<&Bound<'py, pyo3::types::PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        in_thread(&py.get_type::<Socket>().getattr("connect")?, (address,), timeout, options)
    }

    /// Open a socket that receives datagrams at a ``udp:`` or ``unix-dgram:`` address, from anybody; waits at most for a
    /// host's name to be looked up. An empty host means all interfaces; port 0 any free one.
    ///
    /// A path is taken over if it is a socket where nobody receives any more; closing removes it, if this process made it.
    /// Raises OSError (EADDRINUSE, EADDRNOTAVAIL, ENOTSOCK if the path is something else than a socket), PermissionError,
    /// TimeoutError.
    #[staticmethod]
    #[pyo3(signature = (address, timeout = None, *, reuse = None, send_buffer = 0, receive_buffer = 0, mode = 0, any_user = false))]
    #[allow(clippy::too_many_arguments)] // keywords
    fn bind(
        py: Python<'_>,
        address: AddressLike,
        timeout: Option<f64>,
        reuse: Option<bool>,
        send_buffer: usize,
        receive_buffer: usize,
        mode: u32,
        any_user: bool,
    ) -> PyResult<Socket> {
        let (address, timeout) = (address.0, self::timeout(timeout)?);
        let options = SocketOptions { reuse, send_buffer, receive_buffer, mode, any_user, ..SocketOptions::default() };
        let bound = py.detach(|| wigwag::Socket::bind(&address, &options, timeout));
        bound.map(python).map_err(|error| raise(py, error))
    }

    /// Make two sockets connected to each other: ``"unix"``, ``"unix-dgram"`` or ``"unix-seqpacket"``. Never blocks.
    #[staticmethod]
    #[pyo3(signature = (kind = "unix"))]
    fn pair(py: Python<'_>, kind: &str) -> PyResult<(Socket, Socket)> {
        let scheme = Scheme::ALL.iter().find(|scheme| scheme.as_str() == kind);
        let scheme = scheme.ok_or_else(|| PyValueError::new_err("a pair is unix, unix-dgram or unix-seqpacket"))?;
        let (one, other) = wigwag::Socket::pair(*scheme).map_err(|error| raise(py, error))?;
        Ok((python(one), python(other)))
    }

    /// Take over a socket that something else made; its mode is left as it is. The descriptor then belongs to the object.
    ///
    /// Raises OSError (ENOTSOCK, ENOTSUP, EINVAL if it listens); the descriptor then stays the caller's.
    #[staticmethod]
    fn from_fd(py: Python<'_>, fd: i32) -> PyResult<Socket> {
        adopt(py, fd, wigwag::Socket::from_fd).map(python)
    }

    /// Send what fits of a stream's bytes, or a whole message; how many bytes. Waits until there is room.
    ///
    /// Raises BrokenPipeError and ConnectionResetError when the peer is gone, TimeoutError, BlockingIOError with a timeout
    /// of 0, OSError (EMSGSIZE for a message larger than the socket can send).
    #[pyo3(signature = (data, timeout = None))]
    fn send(&self, py: Python<'_>, data: Bytes, timeout: Option<f64>) -> PyResult<usize> {
        let socket = self.0.get()?;
        let bytes = data.as_slice();
        wait(py, timeout, |timeout| socket.send(bytes, timeout))
    }

    /// As send, to be awaited.
    #[pyo3(signature = (data, timeout = None))]
    fn send_async<'py>(
        slf: &Bound<'py, Self>,
        data: Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf, "send", true, timeout, (data,))
    }

    /// Send all bytes of a stream, or a whole message; waits until there is room. On an exception, its ``done`` is how many
    /// bytes were sent.
    #[pyo3(signature = (data, timeout = None))]
    fn send_all(&self, py: Python<'_>, data: Bytes, timeout: Option<f64>) -> PyResult<()> {
        let socket = self.0.get()?;
        let bytes = data.as_slice();
        wait_for_all(py, timeout, |done, timeout| socket.send_all(&bytes[done..], timeout))
    }

    /// As send_all, to be awaited.
    #[pyo3(signature = (data, timeout = None))]
    fn send_all_async<'py>(
        slf: &Bound<'py, Self>,
        data: Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        coroutine_of(slf, "write_all_when_ready", "send_all", timeout, data)
    }

    /// Receive what has come of a stream, at most ``size`` bytes, or one whole message; waits for something to come.
    /// ``b""`` is the end of the stream.
    ///
    /// Raises OSError with errno EMSGSIZE for a message larger than ``size``: ``true_size`` is its size, and it stays to be
    /// received. Raises ConnectionResetError, TimeoutError, BlockingIOError with a timeout of 0.
    #[pyo3(signature = (size = 65536, timeout = None))]
    fn recv<'py>(&self, py: Python<'py>, size: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        let socket = self.0.get()?;
        new_bytes(py, size, |room| wait(py, timeout, |timeout| socket.recv(room, timeout)))
    }

    /// As recv, to be awaited.
    #[pyo3(signature = (size = 65536, timeout = None))]
    fn recv_async<'py>(slf: &Bound<'py, Self>, size: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf, "recv", false, timeout, (size,))
    }

    /// Receive into a writable buffer; the number of bytes. Otherwise as recv.
    #[pyo3(signature = (buffer, timeout = None))]
    fn recv_into(&self, py: Python<'_>, mut buffer: Room, timeout: Option<f64>) -> PyResult<usize> {
        let socket = self.0.get()?;
        let room = buffer.as_mut_slice();
        wait(py, timeout, |timeout| socket.recv(room, timeout))
    }

    /// Receive exactly ``size`` bytes of a stream.
    ///
    /// Raises BrokenPipeError if the stream ends before; what had come by then, as after a TimeoutError, is in the
    /// exception's ``partial``. Raises OSError with errno ENOTSUP if the socket carries messages.
    #[pyo3(signature = (size, timeout = None))]
    fn recv_exact<'py>(&self, py: Python<'py>, size: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        let socket = self.0.get()?;
        new_bytes(py, size, |room| {
            let result = wait_for_all(py, timeout, |done, timeout| socket.recv_exact(&mut room[done..], timeout));
            with_partial(py, result, room).map(|()| size)
        })
    }

    /// As recv_exact, to be awaited.
    #[pyo3(signature = (size, timeout = None))]
    fn recv_exact_async<'py>(slf: &Bound<'py, Self>, size: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        coroutine_of(slf, "read_exact_when_ready", "recv_exact", timeout, size)
    }

    /// Send one datagram to an address, such as recv_from gave; waits until there is room, in the receiver's queue too.
    ///
    /// Raises ConnectionRefusedError when nobody receives there, FileNotFoundError, TimeoutError, BlockingIOError with a
    /// timeout of 0, OSError (EMSGSIZE; ENOTSUP if the socket carries a stream).
    #[pyo3(signature = (data, address, timeout = None))]
    fn send_to(&self, py: Python<'_>, data: Bytes, address: AddressLike, timeout: Option<f64>) -> PyResult<()> {
        let (socket, address) = (self.0.get()?, address.0);
        let bytes = data.as_slice();
        if socket.scheme() == Scheme::Udp {
            // A host's name is looked up once, not again after a first try without waiting.
            let timeout = self::timeout(timeout)?;
            let sent = py.detach(|| socket.send_to_address(bytes, &address, timeout));
            return sent.map_err(|error| raise(py, error));
        }
        wait(py, timeout, |timeout| socket.send_to_address(bytes, &address, timeout))
    }

    /// As send_to, to be awaited; the waiting is done on a thread of its own, because no descriptor tells when the
    /// receiver has room.
    #[pyo3(signature = (data, address, timeout = None))]
    fn send_to_async<'py>(
        slf: &Bound<'py, Self>,
        data: Bound<'py, PyAny>,
        address: Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        in_thread(&slf.getattr("send_to")?, (data, address), timeout, None)
    }

    /// Receive one whole message and its sender's address; otherwise as recv. A sender without a name, which cannot be
    /// answered, has the address ``"unix-dgram:"``.
    #[pyo3(signature = (size = 65536, timeout = None))]
    fn recv_from<'py>(
        &self,
        py: Python<'py>,
        size: usize,
        timeout: Option<f64>,
    ) -> PyResult<(Bound<'py, PyBytes>, String)> {
        let socket = self.0.get()?;
        let mut sender = String::new();
        let bytes = new_bytes(py, size, |room| {
            let (length, from) = wait(py, timeout, |timeout| socket.recv_from(room, timeout))?;
            sender = from.to_string();
            Ok(length)
        })?;
        Ok((bytes, sender))
    }

    /// As recv_from, to be awaited.
    #[pyo3(signature = (size = 65536, timeout = None))]
    fn recv_from_async<'py>(slf: &Bound<'py, Self>, size: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf, "recv_from", false, timeout, (size,))
    }

    /// Send bytes, at least one, over a Unix socket, with open descriptors (ints, or objects with ``fileno()``) attached;
    /// waits until there is room. The receiver gets descriptors of its own to the same open files.
    ///
    /// On an exception, its ``done`` is how many bytes were sent: once it is not 0, the descriptors are.
    #[pyo3(signature = (data, fds, timeout = None))]
    fn send_fds(&self, py: Python<'_>, data: Bytes, fds: Vec<Bound<'_, PyAny>>, timeout: Option<f64>) -> PyResult<()> {
        let socket = self.0.get()?;
        let bytes = data.as_slice();
        // SAFETY: `fds` is borrowed for the call, and with it what keeps the descriptors open.
        let passed: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| unsafe { borrow(fd) }).collect::<PyResult<_>>()?;
        wait_for_all(py, timeout, |done, timeout| match done {
            0 => socket.send_fds(bytes, &passed, timeout),
            done => socket.send_all(&bytes[done..], timeout),
        })
    }

    /// As send_fds, to be awaited; the waiting is done on a thread of its own.
    #[pyo3(signature = (data, fds, timeout = None))]
    fn send_fds_async<'py>(
        slf: &Bound<'py, Self>,
        data: Bound<'py, PyAny>,
        fds: Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        in_thread(&slf.getattr("send_fds")?, (data, fds), timeout, None)
    }

    /// Receive bytes as recv does, and up to ``most`` descriptors that came with them, as a list of ints that belong to the
    /// caller.
    ///
    /// Raises OSError with errno EBADMSG if more came, or if not all could be delivered: those that came are closed, and
    /// the bytes are lost.
    #[pyo3(signature = (size = 65536, most = 253, timeout = None))]
    fn recv_fds<'py>(
        &self,
        py: Python<'py>,
        size: usize,
        most: usize,
        timeout: Option<f64>,
    ) -> PyResult<(Bound<'py, PyBytes>, Vec<i32>)> {
        let socket = self.0.get()?;
        let mut descriptors = Vec::new();
        let bytes = new_bytes(py, size, |room| {
            let received = wait(py, timeout, |timeout| socket.recv_fds(room, most, timeout))?;
            descriptors = received.descriptors;
            Ok(received.length)
        })?;
        Ok((bytes, descriptors.into_iter().map(IntoRawFd::into_raw_fd).collect()))
    }

    /// As recv_fds, to be awaited.
    #[pyo3(signature = (size = 65536, most = 253, timeout = None))]
    fn recv_fds_async<'py>(
        slf: &Bound<'py, Self>,
        size: usize,
        most: usize,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        coroutine(slf, "recv_fds", false, timeout, (size, most))
    }

    /// Close one direction of a connection, ``"sending"`` or ``"receiving"``, or ``"both"``, for every process that shares
    /// the socket. Raises OSError with errno ENOTCONN if there is no connection.
    #[pyo3(signature = (how = "both"))]
    fn shutdown(&self, py: Python<'_>, how: &str) -> PyResult<()> {
        let how = match how {
            "sending" => ShutdownSide::Sending,
            "receiving" => ShutdownSide::Receiving,
            "both" => ShutdownSide::Both,
            _ => return Err(PyValueError::new_err("what to shut down is sending, receiving or both")),
        };
        self.0.get()?.shutdown(how).map_err(|error| raise(py, error))
    }

    /// The address of this end; ``"unix:"`` for a socket without a name.
    #[getter]
    fn local_address(&self, py: Python<'_>) -> PyResult<String> {
        let address = self.0.get()?.local_address().map_err(|error| raise(py, error))?;
        Ok(address.to_string())
    }

    /// The address of the other end. Raises OSError with errno ENOTCONN if there is no peer.
    #[getter]
    fn peer_address(&self, py: Python<'_>) -> PyResult<String> {
        let address = self.0.get()?.peer_address().map_err(|error| raise(py, error))?;
        Ok(address.to_string())
    }

    /// The process on the other side of a Unix connection or pair, as the kernel vouches for it: (pid, uid, gid).
    ///
    /// Raises OSError (ENOTSUP for ``tcp:``, ``udp:`` and datagrams without a pair; ENOTCONN).
    #[getter]
    fn peer_credentials(&self, py: Python<'_>) -> PyResult<(i32, u32, u32)> {
        let peer = self.0.get()?.peer_credentials().map_err(|error| raise(py, error))?;
        Ok((peer.pid, peer.uid, peer.gid))
    }

    /// Whether small pieces are sent at once. Raises OSError with errno ENOTSUP if it is not ``tcp:``.
    #[getter]
    fn nodelay(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.get()?.nodelay().map_err(|error| raise(py, error))
    }

    /// Have small pieces sent at once, or collected.
    fn set_nodelay(&self, py: Python<'_>, on: bool) -> PyResult<()> {
        self.0.get()?.set_nodelay(on).map_err(|error| raise(py, error))
    }

    /// When the kernel probes the connection: (idle, interval) in seconds and the number of probes; None if it does not.
    #[getter]
    fn keep_alive(&self, py: Python<'_>) -> PyResult<Option<(f64, f64, u32)>> {
        let found = self.0.get()?.keep_alive().map_err(|error| raise(py, error))?;
        Ok(found.map(|found| (found.idle.as_secs_f64(), found.interval.as_secs_f64(), found.probes)))
    }

    /// Have the kernel probe the connection after ``idle`` seconds, every ``interval`` seconds, and break it when ``probes``
    /// go unanswered; 0 leaves the system's default. ``on=False`` stops that.
    #[pyo3(signature = (on = true, idle = 0.0, interval = 0.0, probes = 0))]
    fn set_keep_alive(&self, py: Python<'_>, on: bool, idle: f64, interval: f64, probes: u32) -> PyResult<()> {
        let duration = |seconds: f64| {
            Duration::try_from_secs_f64(seconds)
                .map_err(|_| PyValueError::new_err("idle and interval are seconds from 0"))
        };
        let wanted = KeepAlive { idle: duration(idle)?, interval: duration(interval)?, probes };
        self.0.get()?.set_keep_alive(on.then_some(wanted)).map_err(|error| raise(py, error))
    }

    /// The bytes that the send buffer has for data.
    #[getter]
    fn send_buffer(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.get()?.send_buffer().map_err(|error| raise(py, error))
    }

    /// Set the bytes of the send buffer. Raises OSError with errno ENOBUFS above the system's limit.
    fn set_send_buffer(&self, py: Python<'_>, size: usize) -> PyResult<()> {
        self.0.get()?.set_send_buffer(size).map_err(|error| raise(py, error))
    }

    /// The bytes that the receive buffer has for data.
    #[getter]
    fn receive_buffer(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.get()?.receive_buffer().map_err(|error| raise(py, error))
    }

    /// Set the bytes of the receive buffer. Raises OSError with errno ENOBUFS above the system's limit.
    fn set_receive_buffer(&self, py: Python<'_>, size: usize) -> PyResult<()> {
        self.0.get()?.set_receive_buffer(size).map_err(|error| raise(py, error))
    }

    /// How many datagrams to an abstract name were dropped because another user had sent them.
    #[getter]
    fn refused(&self) -> PyResult<u64> {
        Ok(self.0.get()?.refused())
    }

    /// Keep the socket open over exec, in blocking mode as programs expect of one that they inherit.
    fn inherit(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get()?.inherit().map_err(|error| raise(py, error))
    }

    /// The address it was opened with; of an accepted TCP connection, the peer's.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.0.get()?.address().to_owned())
    }

    /// The descriptor, to poll or to pass on.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.0.get()?.as_fd().as_raw_fd())
    }

    /// Close the socket; threads that wait on it get OSError with errno ECANCELED. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py, |socket| Some(socket.as_fd().as_raw_fd()), wigwag::Socket::end_waits)
    }

    /// Whether the socket is closed.
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
        self.0.describe(|socket| format!("{} fd={}", socket.address(), socket.as_fd().as_raw_fd()))
    }
}
