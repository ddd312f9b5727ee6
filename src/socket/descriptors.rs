//! Passing descriptors: open files, sockets, memory, from one process to another over a Unix socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::PollFlags;

use super::Socket;
use crate::address::Scheme;
use crate::error::{Error, Result};
use crate::limits;
use crate::sys::socket::{self as sys, MOST_DESCRIPTORS, Message};
use crate::timeout::Timeout;

/// Bytes and the descriptors that came with them.
#[derive(Debug)]
pub struct ReceivedDescriptors {
    /// How many bytes of the buffer were filled; 0 at the end of the stream.
    pub length: usize,
    /// Owned, and closed on exec.
    pub descriptors: Vec<OwnedFd>,
}

impl Socket {
    /// Sends bytes with open descriptors attached, all or none of them; waits until there is room. The receiver gets
    /// descriptors of its own to the same open files; the sender may close its own at once.
    ///
    /// ```
    /// use wigwag::{EventFd, Scheme, Socket, Timeout};
    /// use std::os::fd::AsFd;
    /// let (one, other) = Socket::pair(Scheme::Unix)?;
    /// let events = EventFd::new()?;
    /// one.send_fds(b"take this", &[events.as_fd()], Timeout::Now)?;
    /// let received = other.recv_fds(&mut [0; 100], 1, Timeout::Now)?;
    /// let same = EventFd::from_fd(received.descriptors.into_iter().next().unwrap());
    /// same.add(1, Timeout::Now)?;
    /// assert_eq!(events.take(Timeout::Now)?, 1);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    ///
    /// # Errors
    /// `EINVAL` more than 253 descriptors, or no byte to go with them; `ENOTSUP` a TCP or UDP socket; `ETOOMANYREFS` too
    /// many are on their way; otherwise as [`Socket::send_all`]: once [`Error::done`] is above zero, the descriptors are
    /// sent.
    ///
    /// System call: sendmsg with SCM_RIGHTS.
    pub fn send_fds(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>], timeout: Timeout) -> Result<()> {
        self.check_can_pass("send_fds")?;
        let refused = |reason| Err(self.object.error(Errno::EINVAL, "send_fds").because(reason));
        if bytes.is_empty() {
            return refused("descriptors travel with at least one byte");
        }
        if descriptors.len() > MOST_DESCRIPTORS {
            return refused("a message carries at most 253 descriptors");
        }
        let mut operation = self.object.operation("send_fds", timeout);
        let send = || sys::send_descriptors(self.as_fd(), bytes, descriptors);
        let sent = operation.until_ready(self.as_fd(), PollFlags::POLLOUT, send).map_err(|error| {
            if error.is(Errno::ETOOMANYREFS) {
                return error.because_found(format!(
                    "as many descriptors as this process may have (RLIMIT_NOFILE={}) are on their way already; let the \
                     receivers take some",
                    limits::descriptors()
                ));
            }
            self.send_failed(error, bytes.len())
        })?;
        if sent == bytes.len() { Ok(()) } else { self.send_rest(&mut operation, bytes, sent) }
    }

    /// Receives bytes and the descriptors attached to them; waits for something to come. On a stream the bytes end where
    /// those of the next descriptors would begin.
    ///
    /// # Errors
    /// `EBADMSG` more descriptors came than `most`, or the kernel could not deliver all of them (this process may have no
    /// more): those that came are closed, and the bytes are lost ([`Error::done`] tells how many). `ENOTSUP` a TCP or UDP
    /// socket; otherwise as [`Socket::recv`].
    ///
    /// System call: recvmsg; for a message twice, first to look at its size.
    pub fn recv_fds(&self, buffer: &mut [u8], most: usize, timeout: Timeout) -> Result<ReceivedDescriptors> {
        self.check_can_pass("recv_fds")?;
        let mut operation = self.object.operation("recv_fds", timeout);
        let message = if self.carries_messages() {
            let room = buffer.len();
            self.until_taken(&mut operation, room, || self.take_message(buffer))?
        } else {
            self.check_buffer("recv_fds", buffer)?;
            operation
                .until_ready(self.as_fd(), PollFlags::POLLIN, || sys::receive_message(self.as_fd(), buffer, 0))
                .map_err(|error| self.explained(error))?
        };
        if message.control_was_cut || message.descriptors.len() > most {
            return Err(self.control_was_cut(message, most));
        }
        Ok(ReceivedDescriptors { length: message.length, descriptors: message.descriptors })
    }

    /// Closes what came, and says why.
    #[cold]
    fn control_was_cut(&self, message: Message, most: usize) -> Error {
        let count = message.descriptors.len();
        let error = self.object.error(Errno::EBADMSG, "recv_fds").after(message.length);
        if message.control_was_cut {
            return error.because_found(format!(
                "not all descriptors could be delivered, as a rule because this process has none left \
                 (RLIMIT_NOFILE={}); the {count} that came were closed",
                limits::descriptors()
            ));
        }
        error.because_found(format!("{count} descriptors came, {most} were asked for; all were closed"))
    }

    #[inline]
    fn check_can_pass(&self, operation: &'static str) -> Result<()> {
        if matches!(self.scheme, Scheme::Tcp | Scheme::Udp) {
            return Err(self.object.error(Errno::ENOTSUP, operation).because("descriptors go over Unix sockets alone"));
        }
        Ok(())
    }
}
