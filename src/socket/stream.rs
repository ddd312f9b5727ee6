//! Sending and receiving over a connection: bytes of a stream, or whole messages.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::PollFlags;

use super::Socket;
use crate::address::Scheme;
use crate::error::{Error, Result};
use crate::sys::SysResult;
use crate::sys::socket as sys;
use crate::timeout::Timeout;
use crate::wait::Operation;

impl Socket {
    /// Sends what fits of a stream's bytes, or a whole message; waits until there is room. Returns how many bytes were
    /// sent.
    ///
    /// # Errors
    /// `EPIPE`, `ECONNRESET` the peer is gone; `EMSGSIZE` the message is larger than the socket can send; `EINVAL` an
    /// empty message over `unix-seqpacket:`, which would look like the end; `EDESTADDRREQ`, `ENOTCONN` there is no peer;
    /// `ECONNREFUSED` nobody receives at the peer's address; `EAGAIN`, `ETIMEDOUT`, `ECANCELED` with nothing sent.
    ///
    /// System call: send with MSG_NOSIGNAL.
    #[inline]
    pub fn send(&self, bytes: &[u8], timeout: Timeout) -> Result<usize> {
        self.check_message("send", bytes)?;
        match sys::send(self.as_fd(), bytes) {
            Ok(sent) => Ok(sent),
            Err(errno) => self.send_after(errno, &mut self.object.operation("send", timeout), bytes),
        }
    }

    /// Goes on where a first attempt met `errno`.
    #[cold]
    #[inline(never)]
    fn send_after(&self, errno: Errno, operation: &mut Operation<'_>, bytes: &[u8]) -> Result<usize> {
        operation
            .until_ready_after(errno, self.as_fd(), PollFlags::POLLOUT, || sys::send(self.as_fd(), bytes))
            .map_err(|error| self.send_failed(error, bytes.len()))
    }

    /// Sends all bytes of a stream, or a whole message; waits until there is room.
    ///
    /// # Errors
    /// As [`Socket::send`], where [`Error::done`] tells how many bytes of a stream were sent.
    ///
    /// System call: send with MSG_NOSIGNAL.
    #[inline]
    pub fn send_all(&self, bytes: &[u8], timeout: Timeout) -> Result<()> {
        self.check_message("send", bytes)?;
        match sys::send(self.as_fd(), bytes) {
            Ok(sent) if sent == bytes.len() => Ok(()),
            outcome => self.send_all_after(outcome, bytes, timeout),
        }
    }

    #[cold]
    #[inline(never)]
    fn send_all_after(&self, outcome: SysResult<usize>, bytes: &[u8], timeout: Timeout) -> Result<()> {
        let mut operation = self.object.operation("send", timeout);
        let done = outcome.or_else(|errno| self.send_after(errno, &mut operation, bytes))?;
        self.send_rest(&mut operation, bytes, done)
    }

    /// Sends a stream's bytes from `done` on; of a message, everything is done.
    pub(super) fn send_rest(&self, operation: &mut Operation<'_>, bytes: &[u8], mut done: usize) -> Result<()> {
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let sent = sys::send(self.as_fd(), rest);
            done += sent.or_else(|errno| self.send_after(errno, operation, rest)).map_err(|error| error.after(done))?;
        }
        Ok(())
    }

    #[cold]
    pub(super) fn send_failed(&self, error: Error, length: usize) -> Error {
        if !error.is(Errno::EMSGSIZE) {
            return self.explained(error);
        }
        let error = error.with_true_size(length);
        match self.scheme {
            Scheme::Udp => error.because_found(format!(
                "a UDP datagram carries at most 65507 bytes (65527 over IPv6), here are {length}; split it"
            )),
            _ => {
                let buffer = self.send_buffer().unwrap_or(0);
                error.because_found(format!(
                    "a message of {length} bytes does not fit the send buffer of {buffer}; split it, or set a larger \
                     one (sndbuf=, up to net.core.wmem_max)"
                ))
            }
        }
    }

    #[inline]
    pub(super) fn check_message(&self, operation: &'static str, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() && self.scheme == Scheme::UnixSeqpacket {
            return Err(self
                .object
                .error(Errno::EINVAL, operation)
                .because("an empty message would look like the end of the connection to the peer"));
        }
        Ok(())
    }

    /// Receives what has come, at most the buffer's length of a stream, or one whole message; waits for something to
    /// come. 0 is the end of the stream; from a datagram socket it is an empty datagram.
    ///
    /// A message is looked at before it is taken: `EMSGSIZE` leaves it to be received with a larger buffer. Only where
    /// several receivers share one socket, another one may take it in between; should the message that comes in its
    /// place not fit, it is lost, and the error says so. Descriptors that come along are closed (see
    /// [`Socket::recv_fds`]).
    ///
    /// # Errors
    /// `EMSGSIZE` the message is larger than the buffer, [`Error::true_size`] tells by how much; `EINVAL` the buffer for
    /// a stream is empty; `ECONNRESET` the peer is gone and has left something unread; `ENOTCONN` there is no peer;
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` with nothing received.
    ///
    /// System call: recv; twice for a message, unless a UDP buffer is as large as a datagram can be (65535).
    #[inline]
    pub fn recv(&self, buffer: &mut [u8], timeout: Timeout) -> Result<usize> {
        if self.carries_messages() {
            return self.receive_whole("recv", buffer, timeout).map(|(length, _)| length);
        }
        self.check_buffer("recv", buffer)?;
        match sys::receive(self.as_fd(), buffer, 0) {
            Ok(length) => Ok(length),
            Err(errno) => self.receive_after(errno, &mut self.object.operation("recv", timeout), buffer),
        }
    }

    /// Goes on where a first attempt met `errno`.
    #[cold]
    #[inline(never)]
    fn receive_after(&self, errno: Errno, operation: &mut Operation<'_>, buffer: &mut [u8]) -> Result<usize> {
        operation
            .until_ready_after(errno, self.as_fd(), PollFlags::POLLIN, || sys::receive(self.as_fd(), buffer, 0))
            .map_err(|error| self.explained(error))
    }

    /// Fills the buffer from a stream; waits until all of it has come.
    ///
    /// # Errors
    /// `EPIPE` the stream ended before; `ECONNRESET`, `EAGAIN`, `ETIMEDOUT`, `ECANCELED`; in all of these
    /// [`Error::done`] tells how many bytes the buffer holds. `ENOTSUP` the socket carries messages, which have their
    /// own size.
    ///
    /// System call: recv.
    pub fn recv_exact(&self, buffer: &mut [u8], timeout: Timeout) -> Result<()> {
        if self.carries_messages() {
            return Err(self
                .object
                .error(Errno::ENOTSUP, "recv")
                .because("an exact length means nothing here: each receive takes one message"));
        }
        if buffer.is_empty() {
            return Ok(());
        }
        match sys::receive(self.as_fd(), buffer, 0) {
            Ok(length) if length == buffer.len() => Ok(()),
            outcome => self.receive_all_after(outcome, buffer, timeout),
        }
    }

    #[cold]
    #[inline(never)]
    fn receive_all_after(&self, mut outcome: SysResult<usize>, buffer: &mut [u8], timeout: Timeout) -> Result<()> {
        let mut operation = self.object.operation("recv", timeout);
        let mut done = 0;
        loop {
            let rest = buffer.get_mut(done..).unwrap_or_default();
            let received = outcome.or_else(|errno| self.receive_after(errno, &mut operation, rest));
            match received.map_err(|error| error.after(done))? {
                0 => {
                    let end = operation.error(Errno::EPIPE).after(done);
                    return Err(end.because("the stream ended before all bytes asked for had come"));
                }
                length => done += length,
            }
            outcome = match buffer.get_mut(done..) {
                Some(rest) if !rest.is_empty() => sys::receive(self.as_fd(), rest, 0),
                _ => return Ok(()),
            };
        }
    }

    #[inline]
    pub(super) fn check_buffer(&self, operation: &'static str, buffer: &[u8]) -> Result<()> {
        if buffer.is_empty() {
            return Err(self
                .object
                .error(Errno::EINVAL, operation)
                .because("a buffer of zero bytes could not tell data from the end of the stream"));
        }
        Ok(())
    }
}
