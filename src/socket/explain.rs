//! Causes and remedies for what the kernel answers to socket calls.

use nix::errno::Errno;

use crate::address::Scheme;
use crate::error::Error;
use crate::limits::{explain_descriptors, setting};

/// Adds cause and remedy, where they are known.
#[cold]
pub(super) fn explain(error: Error, scheme: Scheme) -> Error {
    let is_inet = matches!(scheme, Scheme::Tcp | Scheme::Udp);
    match Errno::from_raw(error.errno()) {
        Errno::ECONNREFUSED if scheme == Scheme::Udp => {
            error.because("nobody receives at that port; the answer came for an earlier datagram")
        }
        Errno::ECONNREFUSED if is_inet => error.because("nobody listens there; start the server first, or check the port"),
        Errno::ECONNREFUSED => {
            error.because("nobody listens there: the socket file is left over from a server that is gone, or not a socket")
        }
        Errno::ENOENT => error.because("there is no such socket; start the server first, or check the path"),
        Errno::EACCES if is_inet => error.because_found(format!(
            "ports below net.ipv4.ip_unprivileged_port_start={} are for privileged processes; choose a higher one",
            setting("net/ipv4/ip_unprivileged_port_start")
        )),
        Errno::EACCES => error.because("the permissions of the path or of a directory on the way do not allow it"),
        Errno::EPROTOTYPE => {
            error.because("a Unix socket of another type; use the scheme that the server listens on")
        }
        Errno::EADDRINUSE if is_inet => {
            error.because("another socket has this port; stop the program that holds it, or choose another (0 for any)")
        }
        Errno::EADDRINUSE => error.because("somebody has this abstract name already; choose another"),
        Errno::EADDRNOTAVAIL if error.operation() == "connect" => {
            error.because("no local port is left for another connection (net.ipv4.ip_local_port_range), or the address cannot be a peer's")
        }
        Errno::EADDRNOTAVAIL => error.because("no interface of this host has that address"),
        Errno::EAFNOSUPPORT => error.because("this system has no such addresses: IPv6 may be switched off"),
        Errno::EPIPE => error.because("the peer has closed the connection, or this direction was shut down"),
        Errno::ECONNRESET => error.because("the peer has closed the connection without reading all that was sent to it"),
        Errno::ENOTCONN => error.because("there is no connection (any more)"),
        Errno::EDESTADDRREQ => error.because("the socket has no peer; connect it, or name the receiver with each datagram"),
        Errno::EOPNOTSUPP => error.because("the socket is not of a type that can do that"),
        _ => explain_descriptors(error),
    }
}
