//! Channel: messages over any mechanism that carries them.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use wigwag::{ChannelReceived, Timeout};

use crate::address::AddressLike;
use crate::channel_message::{ChannelCapabilities, ChannelMessage, ChannelStatistics, PeerOf};
use crate::channel_returned::Returned;
use crate::handle::Handle;
use crate::support::{
    Bytes, Room, coroutine, ended, in_thread, interrupted, new_bytes, raise, take_in_thread, timeout, wait,
};

/// One end of a channel: whole messages over whichever mechanism its address names, sent from one end and received at the
/// other.
///
/// ``tcp:``, ``udp:``, ``unix:``, ``unix-dgram:``, ``unix-seqpacket:``, ``pipe:``, ``fifo:``, ``file:``, ``mq:``,
/// ``sysv-mq:``, ``ring:`` and ``topic:``. Over ``tcp:`` and ``unix:`` each message follows its length (32 bits, most significant byte
/// first); ``?framing=line`` and ``?framing=none`` talk to programs that know nothing of this. ``?largest=`` bounds what a
/// stream's message may have, 1 MiB by default. A receiver at a socket's address takes any number of senders; one that sends
/// something else is cut off, and the others do not notice. A sender whose connection breaks connects again, within its
/// timeout, and raises ConnectionResetError first if something that it sent may not have arrived.
///
/// Over ``file:`` the address names a directory, made if it is missing, with a log that senders append to and every receiver
/// reads from the beginning, or from the end with ``?from=newest``. With ``?reader=NAME`` a receiver goes on where it was: a
/// message is dealt with when the next is asked for, by ``flush()``, or when the receiver is closed, and is received again if
/// the process dies before, or an exception leaves the ``with`` block. ``?fsync=never``, ``interval`` (the default, with ``?interval=MS``, 1000 by default) or ``every``
/// says when what is sent goes to the disk; ``?segment=BYTES``, ``?retain=BYTES`` and ``?age=SECONDS`` what is kept.
///
/// May be used by several threads. Made by ``Channel.open_sender()``, ``Channel.open_receiver()`` and ``Channel.pair()``.
#[pyclass(frozen, module = "wigwag")]
pub struct Channel {
    handle: Handle<wigwag::Channel>,
    kind: Kind,
    /// How long opening it could take.
    patience: Option<f64>,
    /// Parts of a message can be on their way while the rest waits for room.
    in_parts: bool,
    /// The descriptor, once somebody has asked for it.
    shown: AtomicI32,
    returned: Returned,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sender,
    Receiver,
    PairedSender,
    PairedReceiver,
}

impl Kind {
    fn text(self) -> &'static str {
        if matches!(self, Kind::Sender | Kind::PairedSender) { "sender" } else { "receiver" }
    }
}

/// Most bytes that a pipe takes in one piece.
const ONE_PIECE: usize = 4000;
/// Room for a message whose size is not known.
const USUAL: usize = 8192;

/// What is left of a timeout for each of several attempts.
struct Left {
    seconds: Option<f64>,
    begun: Option<Instant>,
}

impl Left {
    fn of(seconds: Option<f64>) -> Left {
        Left { seconds, begun: None }
    }

    fn next(&mut self) -> Option<f64> {
        match (self.seconds, self.begun) {
            // Too little to wait for, and yet a time that runs out, which 0 is not.
            (Some(seconds), Some(begun)) if seconds > 0.0 => Some((seconds - begun.elapsed().as_secs_f64()).max(1e-9)),
            (seconds, _) => {
                self.begun = Some(Instant::now());
                seconds
            }
        }
    }
}

impl Channel {
    fn over(channel: wigwag::Channel, kind: Kind, patience: Option<f64>) -> Channel {
        let in_parts = ["tcp:", "unix:"].iter().any(|scheme| channel.address().starts_with(scheme));
        let (handle, shown) = (Handle::new("Channel", channel), AtomicI32::new(-1));
        Channel { handle, kind, patience, in_parts, shown, returned: Returned::default() }
    }

    /// As `wait`, for something that is sent: an attempt that does not wait could leave a part of it for later, when
    /// nothing may be sent any more.
    fn wait_to_send(
        &self,
        py: Python<'_>,
        length: usize,
        seconds: Option<f64>,
        mut call: impl FnMut(Timeout) -> wigwag::Result<()> + Send,
    ) -> PyResult<()> {
        if length <= ONE_PIECE && !self.in_parts {
            return wait(py, seconds, call);
        }
        let timeout = timeout(seconds)?;
        ended(py, py.detach(|| call(timeout)))
    }

    /// Receives into bytes that are as long as the message, unless one has come back.
    fn receive<'py, T>(
        &self,
        py: Python<'py>,
        seconds: Option<f64>,
        come_back: impl FnOnce(ChannelMessage) -> T,
        new: impl FnOnce(Bound<'py, PyBytes>, ChannelReceived) -> PyResult<T>,
    ) -> PyResult<T> {
        let channel = self.handle.get()?;
        let mut left = Left::of(seconds);
        let mut size = USUAL;
        loop {
            let seen = self.returned.seen();
            if let Some(message) = self.returned.take() {
                return Ok(come_back(message));
            }
            let (mut found, mut needed) = (None, None);
            let data = new_bytes(py, size, |room| {
                let received =
                    self.returned.wait(py, left.next(), seen, |timeout| match channel.recv(room, timeout) {
                        Err(error) if error.errno() == libc::EMSGSIZE && error.true_size() > room.len() => {
                            needed = Some(error.true_size());
                            Ok(None)
                        }
                        result => result.map(Some),
                    })?;
                found = received.flatten();
                Ok(found.as_ref().map_or(0, |received| received.length))
            })?;
            if let Some(found) = found {
                return new(data, found);
            }
            size = needed.unwrap_or(size);
        }
    }

    fn has_descriptor(&self, py: Python<'_>) -> PyResult<bool> {
        match self.handle.get()?.descriptor() {
            Ok((fd, _)) => {
                self.shown.store(fd.as_raw_fd(), Ordering::Relaxed);
                Ok(true)
            }
            Err(error) if error.errno() == libc::ENOTSUP => Ok(false),
            Err(error) => Err(raise(py, error)),
        }
    }

    fn coroutine<'py>(slf: &Bound<'py, Self>, method: &str, seconds: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        if slf.get().kind.text() == "receiver" && slf.get().has_descriptor(slf.py())? {
            return coroutine(slf.as_any(), method, false, seconds, PyTuple::empty(slf.py()));
        }
        slf.get().returned.expect();
        // The whole message in any case, for whoever gets it if the task is cancelled.
        let taking = take_in_thread(&slf.getattr("recv_message")?, seconds, &slf.getattr("_give_back")?)?;
        if method == "recv" { slf.py().import("wigwag._aio")?.call_method1("data_of", (taking,)) } else { Ok(taking) }
    }
}

#[pymethods]
impl Channel {
    /// What a channel over this address does and does not do. Never blocks. Raises OSError (EINVAL: it carries no messages).
    #[staticmethod]
    fn capabilities(py: Python<'_>, address: AddressLike) -> PyResult<ChannelCapabilities> {
        wigwag::Channel::capabilities(&address.0).map(ChannelCapabilities::from).map_err(|error| raise(py, error))
    }

    /// Open the end that sends; waits for a receiver where the mechanism needs one: ``tcp:``, ``unix:``,
    /// ``unix-seqpacket:`` and ``fifo:``. Queues, rings, topics and logs are made if they are missing.
    ///
    /// Raises OSError (EINVAL: the address carries no messages; EBADMSG, EPROTO: what lies there is no log of messages, or one of
    /// another version), TimeoutError, and with a timeout of 0 BlockingIOError,
    /// ConnectionRefusedError, FileNotFoundError: no receiver is there.
    #[staticmethod]
    #[pyo3(signature = (address, timeout = None))]
    fn open_sender(py: Python<'_>, address: AddressLike, timeout: Option<f64>) -> PyResult<Channel> {
        let open = crate::support::timeout(timeout)?;
        let opened = py.detach(|| wigwag::Channel::open_sender(&address.0, open));
        Ok(Channel::over(opened.map_err(|error| raise(py, error))?, Kind::Sender, timeout))
    }

    /// As open_sender, for asyncio: it waits in a thread of its own.
    #[staticmethod]
    #[pyo3(signature = (address, timeout = None))]
    fn open_sender_async<'py>(
        py: Python<'py>,
        address: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        in_thread(&py.get_type::<Channel>().getattr("open_sender")?, (address,), timeout, None)
    }

    /// Open the end that receives; waits for a sender over ``fifo:``, unless ``keep-open=1``, and for nothing else.
    ///
    /// Raises OSError (EINVAL, EBADMSG, EPROTO as open_sender; EADDRINUSE, EBUSY: another receiver has it, where there can be one only),
    /// TimeoutError, BlockingIOError.
    #[staticmethod]
    #[pyo3(signature = (address, timeout = None))]
    fn open_receiver(py: Python<'_>, address: AddressLike, timeout: Option<f64>) -> PyResult<Channel> {
        let open = crate::support::timeout(timeout)?;
        let opened = py.detach(|| wigwag::Channel::open_receiver(&address.0, open));
        Ok(Channel::over(opened.map_err(|error| raise(py, error))?, Kind::Receiver, timeout))
    }

    /// As open_receiver, for asyncio: it waits in a thread of its own.
    #[staticmethod]
    #[pyo3(signature = (address, timeout = None))]
    fn open_receiver_async<'py>(
        py: Python<'py>,
        address: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        in_thread(&py.get_type::<Channel>().getattr("open_receiver")?, (address,), timeout, None)
    }

    /// Make both ends of a channel without a name, the receiving one first, for a process and the children it forks:
    /// ``pipe:``. Never blocks. Raises OSError (EINVAL, EMFILE, ENFILE).
    #[staticmethod]
    fn pair(py: Python<'_>, address: AddressLike) -> PyResult<(Channel, Channel)> {
        let (receiver, sender) = wigwag::Channel::pair(&address.0).map_err(|error| raise(py, error))?;
        let receiver = Channel::over(receiver, Kind::PairedReceiver, None);
        Ok((receiver, Channel::over(sender, Kind::PairedSender, None)))
    }

    /// Remove what the address names, so that it can be opened no more: a FIFO, queue, ring or topic, whose users keep it; a
    /// log, whose users get OSError (ESTALE), or with ``reader=`` the position of that reader alone. Sockets' names go with
    /// their receiver. Never blocks, but for who is just appending to a log. Raises FileNotFoundError, OSError (EINVAL: it
    /// names nothing that outlives its receiver; EBUSY: the reader is in use; ENOTEMPTY: files that are not the log's stay in
    /// its directory).
    #[staticmethod]
    fn remove(py: Python<'_>, address: AddressLike) -> PyResult<()> {
        py.detach(|| wigwag::Channel::remove(&address.0)).map_err(|error| raise(py, error))
    }

    /// Send one message; waits for room. Higher priorities are received first, where the mechanism has any. A message that is
    /// sent has been handed to the mechanism; what outlives what is told by ``Channel.capabilities()``. Of one over ``tcp:``,
    /// ``unix:``, ``pipe:`` or ``fifo:`` a part may have been sent when the time is over: it counts as sent, and the rest
    /// goes out with the next call that waits on the channel, or ``flush()``.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0, BrokenPipeError: the last receiver has gone (over
    /// ``ring:``, and there is no room), ConnectionResetError: what was sent before may be lost and this was not sent, OSError (EMSGSIZE: larger than the
    /// mechanism allows; EINVAL: the framing cannot carry it; ENOTSUP: there are no priorities; EBADF: this end receives).
    #[pyo3(signature = (data, timeout = None, *, priority = 0))]
    fn send(&self, py: Python<'_>, data: Bytes<'_>, timeout: Option<f64>, priority: u32) -> PyResult<()> {
        let channel = self.handle.get()?;
        let bytes = data.as_slice();
        self.wait_to_send(py, bytes.len(), timeout, |timeout| channel.send_with_priority(bytes, priority, timeout))
    }

    /// Send messages one after the other, within one deadline.
    ///
    /// Raises as send, for the first that could not be sent; ``done`` of the exception is how many were.
    #[pyo3(signature = (messages, timeout = None))]
    fn send_batch(&self, py: Python<'_>, messages: Vec<Bound<'_, PyAny>>, timeout: Option<f64>) -> PyResult<()> {
        let channel = self.handle.get()?;
        let exported = messages.iter().map(|message| Bytes::extract(message.as_borrowed()));
        let exported: Vec<_> = exported.collect::<PyResult<_>>()?;
        let messages: Vec<_> = exported.iter().map(Bytes::as_slice).collect();
        let timeout = crate::support::timeout(timeout)?;
        py.detach(|| channel.send_batch(&messages, timeout)).map_err(|error| {
            // The error tells the size instead of how many: of the first message that has it.
            let size = (error.errno() == libc::EMSGSIZE).then(|| error.true_size());
            let raised = raise(py, error);
            if let Some(done) = size.and_then(|size| messages.iter().position(|message| message.len() == size)) {
                let _ = raised.value(py).setattr("done", done); // an exception takes any attribute
            }
            raised
        })?;
        interrupted().map_or(Ok(()), Err)
    }

    /// Receive one message; waits for one. The end that sends over a socket receives answers with this.
    ///
    /// Raises TimeoutError, BlockingIOError with a timeout of 0, BrokenPipeError: the last sender has gone and everything is
    /// received, where the mechanism tells, OSError (EBADMSG: a sender sent something else: it was cut off, or what it wrote
    /// was skipped, and counted; EBADF: this end sends, and there are no answers; ENOMEM).
    #[pyo3(signature = (timeout = None))]
    fn recv<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        self.receive(py, timeout, |message| message.data(py), |data, _| Ok(data))
    }

    /// As recv, with what is known about the message: its sender, priority and so on.
    #[pyo3(signature = (timeout = None))]
    fn recv_message(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<ChannelMessage> {
        self.receive(py, timeout, |message| message, ChannelMessage::new)
    }

    /// What a task that was cancelled had received: the next call that receives gets it.
    fn _give_back(&self, py: Python<'_>, message: &ChannelMessage) {
        self.returned.give_back(message.copy(py));
    }

    /// As recv, into a writable buffer; the length of the message.
    ///
    /// Raises as recv, and OSError (EMSGSIZE: the buffer is too small; ``true_size`` says how long the message is, which
    /// stays).
    #[pyo3(signature = (buffer, timeout = None))]
    fn recv_into(&self, py: Python<'_>, mut buffer: Room, timeout: Option<f64>) -> PyResult<usize> {
        let channel = self.handle.get()?;
        let room = buffer.as_mut_slice();
        let mut left = Left::of(timeout);
        loop {
            let seen = self.returned.seen();
            match self.returned.take_up_to(py, room.len()) {
                Ok(None) => {}
                Ok(Some(message)) => {
                    let data = message.data(py);
                    room.iter_mut().zip(data.as_bytes()).for_each(|(to, from)| *to = *from);
                    return Ok(message.length(py));
                }
                Err(length) => {
                    let error = wigwag::Error::from_raw(libc::EMSGSIZE, "recv").on_text(channel.address());
                    return Err(raise(py, error.with_true_size(length)));
                }
            }
            if let Some(found) = self.returned.wait(py, left.next(), seen, |timeout| channel.recv(room, timeout))? {
                return Ok(found.length);
            }
        }
    }

    /// Receive up to ``most`` messages: waits for the first, and takes those that are there besides. Raises as recv, for the
    /// first; what stops it behind that ends the batch, and is counted where it has a count.
    #[pyo3(signature = (most, timeout = None))]
    fn recv_batch(&self, py: Python<'_>, most: usize, timeout: Option<f64>) -> PyResult<Vec<ChannelMessage>> {
        let channel = self.handle.get()?;
        let mut left = Left::of(timeout);
        let message =
            |found: wigwag::ChannelMessage| ChannelMessage::new(PyBytes::new(py, &found.data), found.received);
        loop {
            let seen = self.returned.seen();
            let returned = self.returned.take_some(most);
            if !returned.is_empty() {
                return Ok(returned);
            }
            let wait = |timeout| channel.recv_batch(most, timeout);
            if let Some(found) = self.returned.wait(py, left.next(), seen, wait)? {
                return found.into_iter().map(message).collect();
            }
        }
    }

    /// Answer the sender of a message, which is what recv_message gave, or its ``peer``; waits for room. The sender receives
    /// answers with its own ``recv``.
    ///
    /// Raises BrokenPipeError: the sender has gone, OSError (ENOTSUP: the mechanism does not know senders; EINVAL: the sender
    /// of another channel's message), otherwise as send.
    #[pyo3(signature = (peer, data, timeout = None))]
    fn reply(&self, py: Python<'_>, peer: PeerOf, data: Bytes<'_>, timeout: Option<f64>) -> PyResult<()> {
        let channel = self.handle.get()?;
        let (peer, bytes) = (peer.get()?, data.as_slice());
        self.wait_to_send(py, bytes.len(), timeout, |timeout| channel.reply(peer, bytes, timeout))
    }

    /// Have what was received and is not dealt with received again, by the next call that receives here. Over ``file:`` alone:
    /// leaving a ``with`` block by an exception does it, so that the next receiver of this name gets it again. Never blocks.
    ///
    /// Raises OSError (ENOTSUP: what was received is gone; EBADF: this end sends), BlockingIOError: another thread is
    /// receiving.
    fn put_back(&self, py: Python<'_>) -> PyResult<()> {
        let channel = self.handle.get()?;
        py.detach(|| channel.put_back()).map_err(|error| raise(py, error))?;
        self.returned.forget();
        Ok(())
    }

    /// Wait until what was sent is out of this process's hands: acknowledged by the other host (``tcp:``), read by the other
    /// side (``unix:``), on the disk (``file:``, blocking for it), with the kernel or in shared memory (the others, at once
    /// but for the rest of a message over ``pipe:`` and ``fifo:``). A receiver over ``file:`` with a name says that what it
    /// has received is dealt with, and has that on the disk.
    ///
    /// Raises ConnectionResetError: the connection broke before, and something may be lost, BrokenPipeError: the receiver of
    /// a pipe has gone before it had the rest of a message, TimeoutError, BlockingIOError, OSError (EIO, ENOSPC, EDQUOT: it
    /// may not be on the disk, and never will be).
    #[pyo3(signature = (timeout = None))]
    fn flush(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let channel = self.handle.get()?;
        wait(py, timeout, |timeout| channel.flush(timeout))
    }

    /// As send, for asyncio: it waits in a thread of its own.
    #[pyo3(signature = (data, timeout = None, *, priority = 0))]
    fn send_async<'py>(
        slf: &Bound<'py, Self>,
        data: &Bound<'py, PyAny>,
        timeout: Option<f64>,
        priority: u32,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options = PyDict::new(slf.py());
        options.set_item("priority", priority)?;
        in_thread(&slf.getattr("send")?, (data,), timeout, Some(&options))
    }

    /// As recv, for asyncio; where there is no descriptor to await, it waits in a thread of its own.
    #[pyo3(signature = (timeout = None))]
    fn recv_async<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        Channel::coroutine(slf, "recv", timeout)
    }

    /// As recv_message, for asyncio; as recv_async.
    #[pyo3(signature = (timeout = None))]
    fn recv_message_async<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        Channel::coroutine(slf, "recv_message", timeout)
    }

    /// As reply, for asyncio: it waits in a thread of its own.
    #[pyo3(signature = (peer, data, timeout = None))]
    fn reply_async<'py>(
        slf: &Bound<'py, Self>,
        peer: &Bound<'py, PyAny>,
        data: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        in_thread(&slf.getattr("reply")?, (peer, data), timeout, None)
    }

    /// As flush, for asyncio: it waits in a thread of its own.
    #[pyo3(signature = (timeout = None))]
    fn flush_async<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        in_thread(&slf.getattr("flush")?, (), timeout, None)
    }

    /// The descriptor to poll, for what ``interest`` says: that it is ready means that receiving, or sending, is worth trying
    /// with a timeout of 0; try until that raises BlockingIOError. It stays the object's. Raises OSError (ENOTSUP: there is
    /// nothing to poll).
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        let channel = self.handle.get()?;
        let (fd, _) = channel.descriptor().map_err(|error| raise(py, error))?;
        self.shown.store(fd.as_raw_fd(), Ordering::Relaxed);
        Ok(fd.as_raw_fd())
    }

    /// What to poll ``fileno()`` for: ``WaitSet.READABLE`` or ``WaitSet.WRITABLE``. Raises as fileno.
    #[getter]
    fn interest(&self, py: Python<'_>) -> PyResult<u32> {
        self.fileno(py)?;
        let channel = self.handle.get()?;
        channel.descriptor().map(|(_, interest)| interest.bits()).map_err(|error| raise(py, error))
    }

    /// What this end has seen, and the mechanism where it keeps count. Never blocks.
    fn statistics(&self) -> PyResult<ChannelStatistics> {
        Ok(self.handle.get()?.statistics().into())
    }

    /// The address that it was opened with.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.handle.get()?.address().to_owned())
    }

    /// Where senders reach this receiver over a socket: the port that the kernel chose, if the address left that to it; None
    /// for others.
    #[getter]
    fn local_address(&self) -> PyResult<Option<String>> {
        Ok(self.handle.get()?.local_address().map(ToString::to_string))
    }

    /// Close it; threads that wait on it get OSError with errno ECANCELED. What the mechanism keeps, it keeps: see
    /// ``Channel.capabilities()``. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let shown = Some(self.shown.load(Ordering::Relaxed)).filter(|fd| *fd >= 0);
        self.handle.close(py, |_| shown, |channel| channel.end_waits())
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// It pickles as its address, and is opened anew with the same timeout. One of a pair cannot: it has no name.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let (py, this) = (slf.py(), slf.get());
        let channel = this.handle.get()?;
        let method = match this.kind {
            Kind::Sender => "open_sender",
            Kind::Receiver => "open_receiver",
            Kind::PairedSender | Kind::PairedReceiver => {
                return Err(PyTypeError::new_err(
                    "it has no name by which another process could open it: open both ends by an address with a name, or \
                     fork the process that is to have it",
                ));
            }
        };
        let arguments = (channel.address(), this.patience).into_pyobject(py)?;
        (slf.get_type().getattr(method)?, arguments).into_pyobject(py)
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        exception: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if !exception.is_none()
            && let Ok(channel) = self.handle.get()
        {
            // What was received last was not dealt with. Where it cannot be put back, nothing is lost by trying.
            let _ = py.detach(|| channel.put_back());
        }
        self.close(py)
    }

    fn __repr__(&self) -> String {
        self.handle.describe(|channel| format!("{} {}", self.kind.text(), channel.address()))
    }
}
