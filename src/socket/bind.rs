//! Binding: sockets for datagrams from anybody, and the first half of listening.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::name::{Side, candidates};
use super::options::apply_for_binding;
use super::path::{BoundPath, claim};
use super::{Socket, SocketAddress, SocketOptions, explain::explain, make};
use crate::address::{Address, Scheme};
use crate::descriptor::Descriptor;
use crate::error::Result;
use crate::sys::socket::{self as sys, Name};
use crate::timeout::Timeout;
use crate::wait::{Object, Operation};

/// A bound socket, and the path if it has one.
pub(super) struct Bound {
    pub(super) fd: OwnedFd,
    pub(super) family: libc::c_int,
    pub(super) path: Option<BoundPath>,
    pub(super) is_abstract: bool,
}

impl Socket {
    /// Opens a socket that receives datagrams at an address, from anybody: `udp:` or `unix-dgram:`. Waits at most for a
    /// host's name to be looked up. An empty host means all interfaces, over IPv4 and IPv6.
    ///
    /// A path is taken over if it is a socket where nobody receives any more, and is refused otherwise; it is removed
    /// when the socket is dropped, by the process that bound it. Its permissions are 0600 unless the options say
    /// otherwise.
    ///
    /// ```
    /// use wigwag::{Socket, SocketOptions, Timeout};
    /// let receiver = Socket::bind(&"udp://127.0.0.1:0".parse()?, &SocketOptions::default(), Timeout::Now)?;
    /// let sender = Socket::bind(&"udp://127.0.0.1:0".parse()?, &SocketOptions::default(), Timeout::Now)?;
    /// sender.send_to(b"Hello", &receiver.local_address()?, Timeout::Now)?;
    /// let (length, from) = receiver.recv_from(&mut [0; 100], Timeout::Forever)?;
    /// assert_eq!((length, from), (5, sender.local_address()?));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    ///
    /// # Errors
    /// `EADDRINUSE` somebody has the address; `EADDRNOTAVAIL` no interface has it; `EACCES` a privileged port, or the
    /// directory's permissions; `ENOTSOCK` the path is something else than a socket (it is left alone); `ENAMETOOLONG` a
    /// Unix name of more than 107 bytes; `ENOBUFS` buffers above the system's limit; `EINVAL` another scheme or an
    /// option that does not fit; `ENOENT`, `EHOSTUNREACH` as for [`SocketAddress::resolve`]; `EMFILE`, `ENFILE`;
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED`.
    ///
    /// System calls: socket, setsockopt, bind; for paths also flock of the directory, fchmod, connect, lstat, unlink.
    pub fn bind(address: &Address, options: &SocketOptions, timeout: Timeout) -> Result<Socket> {
        address.require(&[Scheme::Udp, Scheme::UnixDgram], "bind")?;
        let options = options.with(address)?;
        let object = Object::new(address.to_string());
        let bound = bind(&object, address, &options, object.operation("bind", timeout), |_| Ok(()))?;
        let only_own_user = bound.is_abstract && !options.any_user;
        let socket = Socket::new(object, Descriptor::ours(bound.fd), address.scheme(), bound.family);
        Ok(Socket { path: bound.path, only_own_user, ..socket })
    }
}

/// Binds a new socket and lets `then` go on with it (listen) before anybody else may look at the path.
pub(super) fn bind(
    object: &Object,
    address: &Address,
    options: &SocketOptions,
    mut operation: Operation<'_>,
    then: impl Fn(&OwnedFd) -> std::result::Result<(), Errno>,
) -> Result<Bound> {
    let scheme = address.scheme();
    let names = candidates(address, &mut operation, Side::Own)?;
    let all_interfaces = address.host_and_port().is_some_and(|(host, _)| host.is_empty());
    let mut failure = operation.error(Errno::EADDRNOTAVAIL);
    for name in &names {
        match bind_one(object, address, options, &mut operation, name, all_interfaces, &then) {
            // Without IPv6 there is IPv4; a host's name may stand for an address of another host.
            Err(error) if error.is(Errno::EAFNOSUPPORT) || error.is(Errno::EADDRNOTAVAIL) => failure = error,
            Err(error) => return Err(error),
            Ok(bound) => return Ok(bound),
        }
    }
    Err(explain(failure, scheme))
}

fn bind_one(
    object: &Object,
    address: &Address,
    options: &SocketOptions,
    operation: &mut Operation<'_>,
    name: &Name,
    all_interfaces: bool,
    then: impl Fn(&OwnedFd) -> std::result::Result<(), Errno>,
) -> Result<Bound> {
    let scheme = address.scheme();
    let family = name.family();
    let fd = make(object, scheme, name, "bind")?;
    options.apply(object, fd.as_fd())?;
    apply_for_binding(options, object, fd.as_fd(), scheme, all_interfaces && family == libc::AF_INET6)?;
    let is_abstract = SocketAddress::new(scheme, *name).is_abstract();
    if family == libc::AF_UNIX && !is_abstract {
        let path = claim(operation, &fd, scheme, name, address.path(), options.permissions(), || then(&fd))?;
        return Ok(Bound { fd, family, path: Some(path), is_abstract });
    }
    if is_abstract && scheme == Scheme::UnixDgram && !options.any_user {
        // Each datagram says whose it is.
        sys::set_number_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_PASSCRED, 1)
            .map_err(|errno| object.error(errno, "setsockopt"))?;
    }
    sys::bind(fd.as_fd(), name).and_then(|()| then(&fd)).map_err(|errno| explain(operation.error(errno), scheme))?;
    Ok(Bound { fd, family, path: None, is_abstract })
}
