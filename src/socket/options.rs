//! How a socket is opened, and what can be set on an open one.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;

use super::{Listener, Socket};
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::limits::setting;
use crate::sys::{SysResult, socket as sys};
use crate::wait::Object;

/// How a socket is opened; zero means default everywhere, and then the option of the same name in the address counts.
/// What concerns listening and binding alone is ignored by a connecting socket, so that both sides can be given the
/// same address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// How many connections may wait to be accepted; 0 for as many as the system allows (`net.core.somaxconn`).
    pub backlog: u32,
    /// Whether a port may be bound although it was in use a moment ago. By default yes for TCP listeners, where nothing
    /// can go wrong, and no for UDP, where two sockets could then share a port.
    pub reuse: Option<bool>,
    /// TCP: small pieces are sent at once instead of being collected.
    pub nodelay: bool,
    /// TCP: the kernel probes an idle connection and breaks it when the peer is gone; see [`Socket::set_keep_alive`].
    pub keepalive: bool,
    /// The bytes of the send buffer; 0 for the system's default.
    pub send_buffer: usize,
    /// The bytes of the receive buffer; 0 for the system's default.
    pub receive_buffer: usize,
    /// Permissions of a Unix path, whatever the umask; 0 for 0600, the own user alone.
    pub mode: u32,
    /// Lets every user talk to an abstract Unix name, which has no permissions of its own. By default a listener refuses
    /// connections of users other than its own and root, a connecting socket refuses to talk to such listeners, and
    /// datagrams of such users are dropped; all are counted.
    pub any_user: bool,
}

/// When the kernel probes an idle TCP connection; zero in a member means the system's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepAlive {
    /// How long the connection is idle before the first probe; in whole seconds, rounded up.
    pub idle: Duration,
    /// How long between probes; in whole seconds, rounded up.
    pub interval: Duration,
    /// How many probes without an answer break the connection.
    pub probes: u32,
}

impl SocketOptions {
    /// These options, filled up from those in the address.
    pub(super) fn with(mut self, address: &Address) -> Result<SocketOptions> {
        let number = |given: usize, key| match given {
            0 => address.number(key).map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX)),
            given => given,
        };
        self.backlog = match self.backlog {
            0 => address.number("backlog").map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX)),
            given => given,
        };
        self.reuse = self.reuse.or(address.flag("reuse"));
        self.nodelay |= address.flag("nodelay").unwrap_or(false);
        self.keepalive |= address.flag("keepalive").unwrap_or(false);
        self.send_buffer = number(self.send_buffer, "sndbuf");
        self.receive_buffer = number(self.receive_buffer, "rcvbuf");
        if self.mode == 0 {
            self.mode = address.mode().unwrap_or(0);
        }
        self.any_user |= address.flag("any-user").unwrap_or(false);
        let wrong = |reason| Err(Error::new(Errno::EINVAL, "options").on_text(address.to_string()).because(reason));
        if self.mode > 0o777 {
            return wrong("the mode has bits beyond 0777");
        }
        if (self.nodelay || self.keepalive) && address.scheme() != Scheme::Tcp {
            return wrong("nodelay and keepalive are for tcp: alone");
        }
        Ok(self)
    }

    pub(super) fn permissions(&self) -> u32 {
        if self.mode == 0 { 0o600 } else { self.mode }
    }

    /// Sets what has to be set before the socket is bound or connected.
    pub(super) fn apply(&self, object: &Object, fd: BorrowedFd<'_>) -> Result<()> {
        if self.send_buffer != 0 {
            set_buffer(object, fd, Buffer::Send, self.send_buffer)?;
        }
        if self.receive_buffer != 0 {
            set_buffer(object, fd, Buffer::Receive, self.receive_buffer)?;
        }
        let set = |level, option| {
            sys::set_number_option(fd, level, option, 1).map_err(|errno| object.error(errno, "setsockopt"))
        };
        if self.nodelay {
            set(libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
        }
        if self.keepalive {
            set(libc::SOL_SOCKET, libc::SO_KEEPALIVE)?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Buffer {
    Send,
    Receive,
}

impl Buffer {
    fn option(self) -> libc::c_int {
        if self == Buffer::Send { libc::SO_SNDBUF } else { libc::SO_RCVBUF }
    }

    fn limit(self) -> &'static str {
        if self == Buffer::Send { "wmem_max" } else { "rmem_max" }
    }
}

/// The kernel keeps twice of what is asked for, the other half for its own records, and cuts without a word what is above
/// the system's limit: that is an error here.
fn set_buffer(object: &Object, fd: BorrowedFd<'_>, buffer: Buffer, bytes: usize) -> Result<()> {
    let failed = |errno| object.error(errno, "setsockopt");
    let asked = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    sys::set_number_option(fd, libc::SOL_SOCKET, buffer.option(), asked).map_err(failed)?;
    if get_buffer(fd, buffer).map_err(failed)? < bytes {
        let limit = buffer.limit();
        let now = setting(&format!("net/core/{limit}"));
        return Err(failed(Errno::ENOBUFS).because_found(format!(
            "a buffer of {bytes} bytes is above net.core.{limit}={now}; ask for less, or raise the limit"
        )));
    }
    Ok(())
}

fn get_buffer(fd: BorrowedFd<'_>, buffer: Buffer) -> SysResult<usize> {
    let doubled = sys::number_option(fd, libc::SOL_SOCKET, buffer.option())?;
    Ok(usize::try_from(doubled / 2).unwrap_or(0))
}

fn whole_seconds(duration: Duration) -> libc::c_int {
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() != 0));
    libc::c_int::try_from(seconds).unwrap_or(libc::c_int::MAX)
}

impl Socket {
    fn option(&self, level: libc::c_int, option: libc::c_int) -> Result<libc::c_int> {
        self.check_level(level, "getsockopt")?;
        sys::number_option(self.as_fd(), level, option).map_err(|errno| self.object.error(errno, "getsockopt"))
    }

    fn set_option(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> Result<()> {
        self.check_level(level, "setsockopt")?;
        sys::set_number_option(self.as_fd(), level, option, value).map_err(|errno| {
            let error = self.object.error(errno, "setsockopt");
            if errno == Errno::EINVAL { error.because("the value is out of the kernel's range") } else { error }
        })
    }

    fn check_level(&self, level: libc::c_int, operation: &'static str) -> Result<()> {
        if level == libc::IPPROTO_TCP && self.scheme != Scheme::Tcp {
            return Err(self.object.error(Errno::ENOTSUP, operation).because("an option of tcp: alone"));
        }
        Ok(())
    }

    /// Whether small pieces are sent at once. Never blocks. Errors: `ENOTSUP` not a TCP socket.
    ///
    /// System call: getsockopt(TCP_NODELAY).
    pub fn nodelay(&self) -> Result<bool> {
        self.option(libc::IPPROTO_TCP, libc::TCP_NODELAY).map(|value| value != 0)
    }

    /// Has small pieces sent at once, or collected. Never blocks. Errors: `ENOTSUP` not a TCP socket.
    ///
    /// System call: setsockopt(TCP_NODELAY).
    pub fn set_nodelay(&self, on: bool) -> Result<()> {
        self.set_option(libc::IPPROTO_TCP, libc::TCP_NODELAY, on.into())
    }

    /// When the kernel probes the connection; `None` if it does not. Never blocks. Errors: `ENOTSUP` not a TCP socket.
    ///
    /// System call: getsockopt.
    pub fn keep_alive(&self) -> Result<Option<KeepAlive>> {
        let value = |option| self.option(libc::IPPROTO_TCP, option).map(|value| value.unsigned_abs());
        let keep_alive = KeepAlive {
            idle: Duration::from_secs(value(libc::TCP_KEEPIDLE)?.into()),
            interval: Duration::from_secs(value(libc::TCP_KEEPINTVL)?.into()),
            probes: value(libc::TCP_KEEPCNT)?,
        };
        let on = self.option(libc::SOL_SOCKET, libc::SO_KEEPALIVE)? != 0;
        Ok(on.then_some(keep_alive))
    }

    /// Has the kernel probe the connection while it is idle, and break it (`ETIMEDOUT`) when the peer does not answer;
    /// `None` stops that. Never blocks.
    ///
    /// # Errors
    /// `ENOTSUP` not a TCP socket; `EINVAL` above 32767 seconds or 127 probes.
    ///
    /// System call: setsockopt.
    pub fn set_keep_alive(&self, keep_alive: Option<KeepAlive>) -> Result<()> {
        self.check_level(libc::IPPROTO_TCP, "setsockopt")?;
        if let Some(KeepAlive { idle, interval, probes }) = keep_alive {
            let probes = libc::c_int::try_from(probes).unwrap_or(libc::c_int::MAX);
            let values = [
                (libc::TCP_KEEPIDLE, whole_seconds(idle)),
                (libc::TCP_KEEPINTVL, whole_seconds(interval)),
                (libc::TCP_KEEPCNT, probes),
            ];
            for (option, value) in values.into_iter().filter(|(_, value)| *value != 0) {
                self.set_option(libc::IPPROTO_TCP, option, value)?;
            }
        }
        self.set_option(libc::SOL_SOCKET, libc::SO_KEEPALIVE, keep_alive.is_some().into())
    }

    /// The bytes that the send buffer has for data. Never blocks. System call: getsockopt(SO_SNDBUF).
    pub fn send_buffer(&self) -> Result<usize> {
        get_buffer(self.as_fd(), Buffer::Send).map_err(|errno| self.object.error(errno, "getsockopt"))
    }

    /// The bytes that the receive buffer has for data. Never blocks. System call: getsockopt(SO_RCVBUF).
    pub fn receive_buffer(&self) -> Result<usize> {
        get_buffer(self.as_fd(), Buffer::Receive).map_err(|errno| self.object.error(errno, "getsockopt"))
    }

    /// Sets the bytes of the send buffer; the kernel may give more. Never blocks.
    ///
    /// # Errors
    /// `ENOBUFS` above the system's limit `net.core.wmem_max`; the buffer then has the size of the limit.
    ///
    /// System call: setsockopt(SO_SNDBUF).
    pub fn set_send_buffer(&self, bytes: usize) -> Result<()> {
        set_buffer(&self.object, self.as_fd(), Buffer::Send, bytes)
    }

    /// Sets the bytes of the receive buffer; the kernel may give more. Never blocks.
    ///
    /// # Errors
    /// `ENOBUFS` above the system's limit `net.core.rmem_max`; the buffer then has the size of the limit.
    ///
    /// System call: setsockopt(SO_RCVBUF).
    pub fn set_receive_buffer(&self, bytes: usize) -> Result<()> {
        set_buffer(&self.object, self.as_fd(), Buffer::Receive, bytes)
    }
}

/// What a listener needs in addition: reuse of the port, and both IP versions on `[::]`.
pub(super) fn apply_for_binding(
    options: &SocketOptions,
    object: &Object,
    fd: BorrowedFd<'_>,
    scheme: Scheme,
    both_versions: bool,
) -> Result<()> {
    let set = |level, option, value| {
        sys::set_number_option(fd, level, option, value).map_err(|errno| object.error(errno, "setsockopt"))
    };
    if matches!(scheme, Scheme::Tcp | Scheme::Udp) && options.reuse.unwrap_or(scheme == Scheme::Tcp) {
        set(libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    }
    if both_versions {
        set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
    }
    Ok(())
}

impl Listener {
    /// The longest queue that the options ask for, as the kernel wants it.
    pub(super) fn backlog(options: &SocketOptions) -> libc::c_int {
        match options.backlog {
            0 => 4096, // the kernel cuts it to net.core.somaxconn
            given => libc::c_int::try_from(given).unwrap_or(libc::c_int::MAX),
        }
    }
}
