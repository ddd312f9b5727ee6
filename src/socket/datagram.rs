//! Messages: received whole or not at all, with their sender; sent to a receiver named with each.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::credentials::is_trusted;
use super::name::{Side, candidates};
use super::{Socket, SocketAddress};
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::sys::SysResult;
use crate::sys::socket::{self as sys, Message, Name};
use crate::timeout::Timeout;
use crate::wait::{Operation, Pauses};

/// No UDP datagram is larger, so a buffer of this size needs no look first.
const LARGEST_UDP: usize = 65535;

/// What became of one try to receive a message.
pub(super) enum Taken<T> {
    Whole(T),
    /// It is larger than the buffer, and still there unless `lost`.
    TooLarge {
        size: usize,
        lost: bool,
    },
    /// Of another user, and dropped.
    Refused,
}

impl<T> Taken<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Taken<U> {
        match self {
            Taken::Whole(message) => Taken::Whole(change(message)),
            Taken::TooLarge { size, lost } => Taken::TooLarge { size, lost },
            Taken::Refused => Taken::Refused,
        }
    }
}

impl Socket {
    /// Receives one datagram and the name of its sender; waits for one. A sender without a name has the empty name
    /// `unix-dgram:`, and cannot be answered. Otherwise as [`Socket::recv`].
    ///
    /// # Errors
    /// As [`Socket::recv`]; `ENOTSUP` the socket carries a stream.
    ///
    /// System call: recvfrom; recv first to look at the size, unless a UDP buffer is as large as a datagram can be.
    #[inline]
    pub fn recv_from(&self, buffer: &mut [u8], timeout: Timeout) -> Result<(usize, SocketAddress)> {
        if !self.carries_messages() {
            return Err(self.no_datagrams("recv_from"));
        }
        let scheme = self.scheme; // once the wait is over, another thread may close the socket
        let (length, name) = self.receive_whole("recv_from", buffer, timeout)?;
        Ok((length, SocketAddress::new(scheme, name)))
    }

    /// Sends one datagram to a receiver; waits until there is room, in the receiver's queue too. The receiver's name comes
    /// from [`Socket::recv_from`] or [`SocketAddress::resolve`]. An abstract name is sent to whoever holds it.
    ///
    /// # Errors
    /// `EMSGSIZE` larger than a datagram can be; `ECONNREFUSED` nobody receives there; `ENOENT` there is no such path;
    /// `EACCES` the path's permissions; `EPERM` the receiver is connected to somebody else; `EISCONN`, `ENOTSUP` the
    /// socket carries no datagrams; `EINVAL` an address of another kind; `EAGAIN`, `ETIMEDOUT`, `ECANCELED`.
    ///
    /// System call: sendto with MSG_NOSIGNAL.
    #[inline]
    pub fn send_to(&self, bytes: &[u8], to: &SocketAddress, timeout: Timeout) -> Result<()> {
        self.check_receiver(to.scheme())?;
        let mut operation = self.object.operation("send_to", timeout);
        self.send_named(&mut operation, bytes, to)
    }

    /// As [`Socket::send_to`], for a receiver whose address has yet to be looked up: waits for that as well, if it is a
    /// host's name.
    ///
    /// # Errors
    /// As [`Socket::send_to`] and [`SocketAddress::resolve`].
    pub fn send_to_address(&self, bytes: &[u8], to: &Address, timeout: Timeout) -> Result<()> {
        self.check_receiver(to.scheme())?;
        let mut operation = self.object.operation("send_to", timeout);
        let found = candidates(to, &mut operation, Side::Peer)?;
        let name = found.first().ok_or_else(|| operation.error(Errno::ENOENT))?;
        self.send_named(&mut operation, bytes, &SocketAddress::new(self.scheme, *name))
    }

    #[inline]
    fn check_receiver(&self, scheme: Scheme) -> Result<()> {
        if !matches!(self.scheme, Scheme::Udp | Scheme::UnixDgram) {
            return Err(self.no_datagrams("send_to"));
        }
        if scheme != self.scheme {
            return Err(self.object.error(Errno::EINVAL, "send_to").because_found(format!(
                "the receiver's address is of another kind ({scheme}:); this socket sends to {}: addresses",
                self.scheme
            )));
        }
        Ok(())
    }

    #[inline]
    fn send_named(&self, operation: &mut Operation<'_>, bytes: &[u8], to: &SocketAddress) -> Result<()> {
        let name = to.name_for(self.family);
        let mut pauses = Pauses::default();
        loop {
            match sys::send_to(self.as_fd(), bytes, &name) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if operation.timeout() != Timeout::Now => {
                    self.wait_for_room(operation, &name, &mut pauses)?;
                }
                Err(errno) => return Err(self.send_to_failed(operation.error(errno), bytes.len(), to)),
            }
        }
    }

    #[cold]
    fn send_to_failed(&self, error: Error, length: usize, to: &SocketAddress) -> Error {
        let error = self.send_failed(error, length);
        match Errno::from_raw(error.errno()) {
            Errno::EAGAIN | Errno::EMSGSIZE => error,
            Errno::EPERM => error.because_found(format!("{to} is connected, and receives from its peer alone")),
            _ => {
                let reason = format!("to {to}: {}", error.reason());
                error.because_found(reason)
            }
        }
    }

    /// A socket without a peer polls writable although the receiver's queue is full; a socket connected to the receiver
    /// tells the truth. A receiver that is connected to us takes no others: that one is asked again and again.
    #[cold]
    fn wait_for_room(&self, operation: &mut Operation<'_>, name: &Name, pauses: &mut Pauses) -> Result<()> {
        let mut ready = |fd: BorrowedFd<'_>| operation.wait().poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)]);
        let waited = match self.scheme {
            Scheme::UnixDgram => ready(self.as_fd()).and_then(|()| ready(probe(name)?.as_fd())),
            _ => ready(self.as_fd()),
        };
        match waited {
            Err(Errno::EPERM) => pauses.sleep(operation),
            waited => waited.map_err(|errno| operation.error(errno)),
        }
    }

    #[cold]
    fn no_datagrams(&self, operation: &'static str) -> Error {
        self.object.error(Errno::ENOTSUP, operation).because("datagrams go over udp: and unix-dgram: sockets")
    }

    #[inline]
    pub(super) fn receive_whole(
        &self,
        operation: &'static str,
        buffer: &mut [u8],
        timeout: Timeout,
    ) -> Result<(usize, Name)> {
        let room = buffer.len();
        let mut operation = self.object.operation(operation, timeout);
        self.until_taken(&mut operation, room, || {
            if self.only_own_user {
                return Ok(self.take_message(buffer)?.map(|message| (message.length, message.name)));
            }
            if self.scheme != Scheme::Udp || room < LARGEST_UDP {
                let size = sys::receive(self.as_fd(), &mut [], libc::MSG_PEEK | libc::MSG_TRUNC)?;
                if size > room {
                    return Ok(Taken::TooLarge { size, lost: false });
                }
            }
            let (length, name) = sys::receive_from(self.as_fd(), buffer, libc::MSG_TRUNC)?;
            Ok(if length > room { Taken::TooLarge { size: length, lost: true } } else { Taken::Whole((length, name)) })
        })
    }

    /// Waits for a message that `take` takes whole.
    #[inline]
    pub(super) fn until_taken<T>(
        &self,
        operation: &mut Operation<'_>,
        room: usize,
        mut take: impl FnMut() -> SysResult<Taken<T>>,
    ) -> Result<T> {
        let mut refused = 0;
        loop {
            let taken = operation.until_ready(self.as_fd(), PollFlags::POLLIN, &mut take);
            match taken.map_err(|error| self.explained(error))? {
                Taken::Whole(message) => return Ok(message),
                Taken::TooLarge { size, lost } => {
                    return Err(too_large(operation.error(Errno::EMSGSIZE), size, room, lost));
                }
                Taken::Refused => {
                    self.refused.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
                    operation.go_on(&mut refused)?;
                }
            }
        }
    }

    /// Tries to take a message with its control data; on an abstract name, only of a user that may be trusted.
    pub(super) fn take_message(&self, buffer: &mut [u8]) -> SysResult<Taken<Message>> {
        let room = buffer.len();
        let may_be_taken =
            |message: &Message| !self.only_own_user || message.credentials.is_some_and(|from| is_trusted(from.uid));
        let look = libc::MSG_PEEK | libc::MSG_TRUNC;
        // One that is refused is taken as any other: another thread may have taken it since, and what comes then is another.
        let size = if self.only_own_user {
            let looked_at = sys::receive_message(self.as_fd(), &mut [], look)?;
            if may_be_taken(&looked_at) { looked_at.length } else { 0 }
        } else {
            sys::receive(self.as_fd(), &mut [], look)?
        };
        if size > room {
            return Ok(Taken::TooLarge { size, lost: false });
        }
        let message = sys::receive_message(self.as_fd(), buffer, libc::MSG_TRUNC)?;
        Ok(if !may_be_taken(&message) {
            Taken::Refused
        } else if message.length > room {
            Taken::TooLarge { size: message.length, lost: true }
        } else {
            Taken::Whole(message)
        })
    }
}

/// A socket that polls writable when that receiver has room.
fn probe(receiver: &Name) -> SysResult<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    sys::connect(probe.as_fd(), receiver)?;
    Ok(probe)
}

#[cold]
fn too_large(error: Error, size: usize, room: usize, lost: bool) -> Error {
    let fate = if lost {
        "it was lost, because another receiver took the message before it; use one receiver, or larger buffers"
    } else {
        "it is still there: receive it with a larger buffer"
    };
    error.with_true_size(size).because_found(format!("a message of {size} bytes for a buffer of {room}; {fate}"))
}
