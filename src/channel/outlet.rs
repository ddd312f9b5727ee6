//! Writing whole messages to a connected stream.
//!
//! A stream may take part of a message when the deadline passes. The rest is then kept, at most one message's, and goes
//! out ahead of whatever is sent next, or while an answer is waited for: the message counts as sent, as one does that lies in
//! the kernel's buffer.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, sendmsg};

use super::framing::Frame;
use crate::error::{Error, Result};
use crate::socket::{ShutdownSide, Socket};
use crate::sys::{SysResult, socket as sys};
use crate::wait::Operation;

/// A message of up to so many bytes is copied behind its length and sent in one piece.
const COPIED: usize = 4096;

/// What is still to be written to one stream.
#[derive(Default)]
pub(super) struct Outlet {
    bytes: Vec<u8>,
    written: usize,
    /// The connection was ended after a part of the message that came last.
    broken_off: bool,
}

impl Outlet {
    /// Whether part of a message has not reached the kernel yet.
    pub fn is_behind(&self) -> bool {
        self.written < self.bytes.len()
    }

    /// Whether the message that came last broke off: a part of it had gone, and nobody will see it whole.
    pub fn has_broken_off(&self) -> bool {
        self.broken_off
    }

    /// Forgets what is still to be written.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.written = 0;
        self.broken_off = false;
    }

    /// Sends a framed message. `Ok`: the stream has it, or will get its rest first, and what has ended the wait for room; an
    /// error: nobody will see it whole.
    #[inline]
    pub fn send(
        &mut self,
        socket: &Socket,
        frame: &Frame,
        message: &[u8],
        operation: &mut Operation<'_>,
    ) -> Result<Option<Error>> {
        if self.is_behind() {
            self.flush(socket, operation)?;
        }
        if message.len() > COPIED {
            return self.send_large(socket, frame, message, operation);
        }
        self.clear();
        self.bytes.extend_from_slice(frame.head());
        self.bytes.extend_from_slice(message);
        self.bytes.extend_from_slice(frame.tail);
        match sys::send(socket.as_fd(), &self.bytes) {
            Ok(sent) if sent == self.bytes.len() => {
                self.clear();
                Ok(None)
            }
            outcome => {
                let sent = outcome.or_else(|errno| self.after(errno, socket, operation));
                self.written = sent.inspect_err(|_| self.bytes.clear())?;
                self.rest(socket, operation)
            }
        }
    }

    #[cold]
    fn after(&self, errno: Errno, socket: &Socket, operation: &mut Operation<'_>) -> Result<usize> {
        operation
            .until_ready_after(errno, socket.as_fd(), PollFlags::POLLOUT, || sys::send(socket.as_fd(), &self.bytes))
    }

    fn send_large(
        &mut self,
        socket: &Socket,
        frame: &Frame,
        message: &[u8],
        operation: &mut Operation<'_>,
    ) -> Result<Option<Error>> {
        self.clear();
        let parts = [frame.head(), message, frame.tail];
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut sent = 0;
        while sent < total {
            let step =
                operation.until_ready(socket.as_fd(), PollFlags::POLLOUT, || send_from(socket.as_fd(), &parts, sent));
            match step {
                Ok(more) => sent += more,
                Err(error) if sent > 0 && is_end_of_wait(&error) => {
                    if self.bytes.try_reserve_exact(total - sent).is_err() {
                        return Err(self.break_off(socket, operation.error(Errno::ENOMEM)));
                    }
                    for slice in from(&parts, sent) {
                        self.bytes.extend_from_slice(&slice);
                    }
                    return Ok(Some(error));
                }
                Err(error) if sent > 0 => return Err(self.break_off(socket, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Ends the connection after a part of a message: what comes next would be taken for the rest of it.
    #[cold]
    fn break_off(&mut self, socket: &Socket, error: Error) -> Error {
        self.clear();
        self.broken_off = true;
        let _ = socket.shutdown(ShutdownSide::Both); // fails only if the peer has gone already
        if error.is(Errno::EPIPE) || error.is(Errno::ECONNRESET) {
            return error;
        }
        let reason = format!("in the middle of a message: {}", error.reason());
        error.with_errno(Errno::ECONNRESET).because_found(reason)
    }

    /// Goes on with a message of which some is written; the end of the wait leaves the rest for later.
    #[cold]
    fn rest(&mut self, socket: &Socket, operation: &mut Operation<'_>) -> Result<Option<Error>> {
        match self.flush(socket, operation) {
            Err(error) if is_end_of_wait(&error) => Ok(Some(error)),
            outcome => outcome.map(|()| None).map_err(|error| self.break_off(socket, error)),
        }
    }

    /// Writes what is still to be written as far as there is room; whether more is left. What breaks is for the next call to meet.
    pub fn push(&mut self, socket: &Socket) -> bool {
        while self.is_behind() {
            match sys::send(socket.as_fd(), self.bytes.get(self.written..).unwrap_or_default()) {
                Ok(sent) => self.written += sent,
                Err(Errno::EINTR) => {}
                Err(errno) => return errno == Errno::EAGAIN,
            }
        }
        false
    }

    /// Writes what is still to be written; waits for room.
    pub fn flush(&mut self, socket: &Socket, operation: &mut Operation<'_>) -> Result<()> {
        while self.is_behind() {
            let (bytes, written) = (&self.bytes, self.written);
            self.written += operation.until_ready(socket.as_fd(), PollFlags::POLLOUT, || {
                sys::send(socket.as_fd(), bytes.get(written..).unwrap_or_default())
            })?;
        }
        self.clear();
        Ok(())
    }
}

/// Whether an error says that waiting was over, and nothing about the connection.
pub(super) fn is_end_of_wait(error: &Error) -> bool {
    matches!(Errno::from_raw(error.errno()), Errno::EAGAIN | Errno::ETIMEDOUT | Errno::ECANCELED | Errno::EINTR)
}

fn from<'a>(parts: &[&'a [u8]; 3], mut skip: usize) -> impl Iterator<Item = IoSlice<'a>> {
    parts
        .map(|part| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            IoSlice::new(&part[skipped..])
        })
        .into_iter()
}

fn send_from(fd: BorrowedFd<'_>, parts: &[&[u8]; 3], skip: usize) -> SysResult<usize> {
    use std::os::fd::AsRawFd;
    let mut slices = [IoSlice::new(b""); 3];
    for (slice, part) in slices.iter_mut().zip(from(parts, skip)) {
        *slice = part;
    }
    sendmsg::<()>(fd.as_raw_fd(), &slices, &[], MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT, None)
}
