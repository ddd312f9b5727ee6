//! Connecting, to one of the addresses that a name stands for, within one deadline.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::credentials::check_holder;
use super::name::{Side, candidates};
use super::{SCHEMES, Socket, SocketAddress, SocketOptions, explain::explain, make};
use crate::address::{Address, Scheme};
use crate::descriptor::Descriptor;
use crate::error::Result;
use crate::sys::SysResult;
use crate::sys::socket::{self as sys, Name};
use crate::timeout::Timeout;
use crate::wait::{Object, Operation};

/// How long an address is tried while there are others: it may be one that nothing answers for.
const PATIENCE: Duration = Duration::from_secs(10);

impl Socket {
    /// Connects to a listener, or fixes the peer of a datagram socket; waits for the host's name to be looked up and for
    /// the connection to be made (for TCP that is done by the kernel, for Unix there must be room in the backlog). A
    /// host's addresses are tried one after the other, each for its share of the time that is left and, but for the last, for
    /// 10 seconds at most. An empty host is this one.
    ///
    /// A `unix-dgram:` socket gets an abstract name of the kernel's choice, so that the peer can answer.
    ///
    /// # Errors
    /// `ECONNREFUSED` nobody listens there; `ENOENT` there is no such path or host; `EACCES` the path's permissions, or
    /// another user holds the abstract name; `EPROTOTYPE` a Unix socket of another type; `EHOSTUNREACH`, `ENETUNREACH`;
    /// `ENAMETOOLONG` a Unix name of more than 107 bytes; `ENOTSUP` a `unix-dgram:` abstract name without
    /// [`SocketOptions::any_user`] where the system does not tell who would receive; `ENOBUFS` buffers above the system's
    /// limit; `EINVAL` another scheme or an option that does not fit; `EMFILE`, `ENFILE`; `EAGAIN`, `ETIMEDOUT`,
    /// `ECANCELED`.
    ///
    /// System calls: socket, setsockopt, connect, poll; for a `unix-dgram:` abstract name also those of a netlink socket.
    pub fn connect(address: &Address, options: &SocketOptions, timeout: Timeout) -> Result<Socket> {
        address.require(SCHEMES, "connect")?;
        let object = Object::new(address.to_string());
        Socket::connect_within(address, options, &mut object.operation("connect", timeout), None)
    }

    /// As [`Socket::connect`], as part of another object's operation, which is what ends its waits; tries each address, the
    /// last among them, no longer than `patience`.
    pub(crate) fn connect_within(
        address: &Address,
        options: &SocketOptions,
        operation: &mut Operation<'_>,
        patience: Option<Duration>,
    ) -> Result<Socket> {
        let options = options.with(address)?;
        let object = Object::new(address.to_string());
        let (fd, family) = connect(&object, address, &options, operation, patience)?;
        Ok(Socket::new(object, Descriptor::ours(fd), address.scheme(), family))
    }
}

fn connect(
    object: &Object,
    address: &Address,
    options: &SocketOptions,
    operation: &mut Operation<'_>,
    patience: Option<Duration>,
) -> Result<(OwnedFd, libc::c_int)> {
    let scheme = address.scheme();
    let names = candidates(address, operation, Side::Peer)?;
    let mut failure = operation.error(Errno::ENOENT);
    for (index, name) in names.iter().enumerate() {
        let tried = match (names.len() - index, patience) {
            (1, None) => connect_to(object, scheme, options, operation, name),
            (left, patience) => {
                let share = operation.share(left, patience.unwrap_or(PATIENCE));
                connect_to(object, scheme, options, &mut operation.part("connect", share), name)
            }
        };
        match tried {
            Ok(fd) => return Ok((fd, name.family())),
            // Reasons to stop that are the caller's, not the address's.
            Err(error) if error.is(Errno::ECANCELED) || error.is(Errno::EINTR) => return Err(error),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn connect_to(
    object: &Object,
    scheme: Scheme,
    options: &SocketOptions,
    operation: &mut Operation<'_>,
    name: &Name,
) -> Result<OwnedFd> {
    let fd = make(object, scheme, name, "connect")?;
    options.apply(object, fd.as_fd())?;
    match scheme {
        Scheme::Tcp | Scheme::Udp => connect_inet(operation, fd.as_fd(), name),
        _ => connect_unix(operation, fd.as_fd(), name),
    }
    .map_err(|error| explain(error, scheme))?;
    if scheme == Scheme::Tcp && is_itself(fd.as_fd()) {
        return Err(explain(operation.error(Errno::ECONNREFUSED), scheme));
    }
    if SocketAddress::new(scheme, *name).is_abstract() && !options.any_user {
        check_holder(fd.as_fd(), scheme).map_err(|(errno, reason)| operation.error(errno).because_found(reason))?;
    }
    if scheme == Scheme::UnixDgram {
        sys::bind_to_any(fd.as_fd()).map_err(|errno| operation.error(errno))?;
    }
    Ok(fd)
}

fn connect_inet(operation: &mut Operation<'_>, fd: BorrowedFd<'_>, name: &Name) -> Result<()> {
    match sys::connect(fd, name) {
        Ok(()) => return Ok(()),
        Err(Errno::EINPROGRESS | Errno::EINTR) => {} // goes on without us
        Err(errno) => return Err(operation.error(errno)),
    }
    operation.until_ready(fd, PollFlags::POLLOUT, || {
        if poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::ZERO)? == 0 {
            return Err(Errno::EAGAIN);
        }
        match sys::number_option(fd, libc::SOL_SOCKET, libc::SO_ERROR)? {
            0 => Ok(()),
            errno => Err(Errno::from_raw(errno)),
        }
    })
}

/// Room in a Unix listener's backlog cannot be polled for: with none left, the kernel waits in connect itself, for which
/// the descriptor, still ours alone, goes into blocking mode.
fn connect_unix(operation: &mut Operation<'_>, fd: BorrowedFd<'_>, name: &Name) -> Result<()> {
    let blocking = |on: bool| -> SysResult<()> {
        let mut flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
        flags.set(OFlag::O_NONBLOCK, !on);
        fcntl(fd, FcntlArg::F_SETFL(flags)).map(drop)
    };
    operation.in_call(
        || sys::connect(fd, name),
        |_| {
            blocking(true)?;
            let connected = sys::connect(fd, name);
            blocking(false)?;
            connected
        },
    )
}

/// Whether the kernel, looking for a free port of our own, took the one that we connect to, where nobody listens: TCP
/// then connects the socket to itself.
fn is_itself(fd: BorrowedFd<'_>) -> bool {
    match (sys::local_name(fd), sys::peer_name(fd)) {
        (Ok(local), Ok(peer)) => local.as_inet() == peer.as_inet(),
        _ => false,
    }
}
