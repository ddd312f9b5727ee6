//! Sockets: `tcp:` and `udp:` between hosts, `unix:`, `unix-dgram:` and `unix-seqpacket:` on this one.
//!
//! Every send and receive carries MSG_DONTWAIT, so that waiting is always ours, also on a description that something
//! else opened in blocking mode.

mod bind;
mod connect;
mod credentials;
mod datagram;
mod descriptors;
mod diag;
mod explain;
mod listener;
mod lookup;
mod name;
mod options;
mod path;
mod stream;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, shutdown, socket, socketpair};

pub use credentials::Credentials;
pub use descriptors::ReceivedDescriptors;
pub use listener::Listener;
pub use name::SocketAddress;
pub use options::{KeepAlive, SocketOptions};

use crate::address::Scheme;
use crate::descriptor::Descriptor;
use crate::error::{Error, Result};
use crate::sys;
use crate::wait::Object;
use explain::explain;
use path::BoundPath;

/// The kinds of sockets.
pub(crate) const SCHEMES: &[Scheme] =
    &[Scheme::Tcp, Scheme::Udp, Scheme::Unix, Scheme::UnixDgram, Scheme::UnixSeqpacket];

/// Which direction of a connection [`Socket::shutdown`] closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownSide {
    /// Nothing more is received.
    Receiving,
    /// Nothing more is sent: the peer reads the end of the stream after what is on its way.
    Sending,
    /// Both.
    Both,
}

/// One end of a connection, or a socket for datagrams.
///
/// `tcp:` and `unix:` carry bytes, `udp:`, `unix-dgram:` and `unix-seqpacket:` messages, which are never cut: a message
/// that is larger than the buffer is `EMSGSIZE` with its true size, and stays to be received with a larger one. A receive
/// of 0 bytes is the end of a stream (or an empty datagram). No call raises SIGPIPE. Descriptors are closed on exec. Any
/// thread may call anything at any time; a stream that several threads send to at once may mix their bytes.
///
/// A child made by fork shares the socket. When a process dies, by SIGKILL too, the kernel closes its end: the peer
/// reads what was sent before, then the end (or `ECONNRESET` if something was left unread).
///
/// ```
/// use std::time::Duration;
/// use wigwag::{Listener, Socket, SocketOptions, Timeout};
/// let soon = Timeout::After(Duration::from_secs(5));
/// let listener = Listener::open(&"tcp://127.0.0.1:0".parse()?, &SocketOptions::default(), soon)?;
/// let address = listener.local_address()?.to_address()?;
/// let client = Socket::connect(&address, &SocketOptions::default(), soon)?;
/// let server = listener.accept(soon)?;
/// client.send_all(b"Hello", soon)?;
/// let mut buffer = [0; 5];
/// server.recv_exact(&mut buffer, soon)?;
/// assert_eq!(&buffer, b"Hello");
/// # Ok::<(), wigwag::Error>(())
/// ```
#[doc(alias = "socket")]
pub struct Socket {
    object: Object,
    /// Before the descriptor, so that the path is gone before the socket is: a path in use is never taken over.
    path: Option<BoundPath>,
    descriptor: Descriptor,
    scheme: Scheme,
    family: libc::c_int,
    /// Datagrams of other users are dropped, because the name has no permissions.
    only_own_user: bool,
    refused: AtomicU64,
}

impl Socket {
    fn new(object: Object, descriptor: Descriptor, scheme: Scheme, family: libc::c_int) -> Socket {
        Socket { object, path: None, descriptor, scheme, family, only_own_user: false, refused: AtomicU64::new(0) }
    }

    /// Makes two sockets connected to each other: `unix:`, `unix-dgram:` or `unix-seqpacket:`. Never blocks.
    ///
    /// ```
    /// use wigwag::{Scheme, Socket, Timeout};
    /// let (one, other) = Socket::pair(Scheme::UnixSeqpacket)?;
    /// one.send(b"ping", Timeout::Now)?;
    /// assert_eq!(other.recv(&mut [0; 100], Timeout::Now)?, 4);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    ///
    /// # Errors
    /// `EINVAL` another scheme; `EMFILE`, `ENFILE` no descriptor is left.
    ///
    /// System call: socketpair.
    pub fn pair(scheme: Scheme) -> Result<(Socket, Socket)> {
        let object = || Object::new(format!("{scheme}:"));
        let failed = |errno| object().error(errno, "socketpair");
        let (_, kind) =
            kernel_kind(scheme).filter(|(family, _)| *family == Some(AddressFamily::Unix)).ok_or_else(|| {
                failed(Errno::EINVAL).because("only unix:, unix-dgram: and unix-seqpacket: sockets come in pairs")
            })?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (one, other) =
            socketpair(AddressFamily::Unix, kind, None, flags).map_err(|e| explain(failed(e), scheme))?;
        let made = |fd| Socket::new(object(), Descriptor::ours(fd), scheme, libc::AF_UNIX);
        Ok((made(one), made(other)))
    }

    /// Takes over a socket that something else made, such as an inherited one; its kind is found out, and its mode left
    /// as it is. Never blocks.
    ///
    /// # Errors
    /// `ENOTSOCK` not a socket; `ENOTSUP` of a family or type that has no scheme here; `EINVAL` it listens (take it over
    /// as a [`Listener`]).
    ///
    /// System calls: getsockopt, getpeername, getsockname.
    pub fn from_fd(fd: OwnedFd) -> Result<Socket> {
        let (scheme, family, listens) = kind_of(fd.as_fd())?;
        if listens {
            return Err(Error::new(Errno::EINVAL, "adopt").because("the socket listens: it accepts connections only"));
        }
        let name = sys::socket::peer_name(fd.as_fd()).or_else(|_| sys::socket::local_name(fd.as_fd()));
        let name = name.map_err(|errno| Error::new(errno, "adopt"))?;
        let object = Object::new(SocketAddress::new(scheme, name).to_string());
        Ok(Socket::new(object, Descriptor::adopted(fd), scheme, family))
    }

    /// Its kind: the scheme of its address.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether it keeps the boundaries of messages, as opposed to carrying a stream of bytes.
    pub fn carries_messages(&self) -> bool {
        !matches!(self.scheme, Scheme::Tcp | Scheme::Unix)
    }

    /// Closes one direction of a connection, or both, for every process that shares the socket. Never blocks.
    ///
    /// # Errors
    /// `ENOTCONN` there is no connection (any more).
    ///
    /// System call: shutdown.
    pub fn shutdown(&self, how: ShutdownSide) -> Result<()> {
        use nix::sys::socket::Shutdown as Kernel;
        let how = match how {
            ShutdownSide::Receiving => Kernel::Read,
            ShutdownSide::Sending => Kernel::Write,
            ShutdownSide::Both => Kernel::Both,
        };
        shutdown(self.raw(), how).map_err(|errno| self.explained(self.object.error(errno, "shutdown")))
    }

    /// The name of this end; unnamed Unix sockets have the empty name `unix:`. Never blocks.
    ///
    /// System call: getsockname.
    pub fn local_address(&self) -> Result<SocketAddress> {
        let name = sys::socket::local_name(self.as_fd()).map_err(|errno| self.object.error(errno, "getsockname"))?;
        Ok(SocketAddress::new(self.scheme, name))
    }

    /// The name of the other end. Never blocks.
    ///
    /// # Errors
    /// `ENOTCONN` there is no peer (any more).
    ///
    /// System call: getpeername.
    pub fn peer_address(&self) -> Result<SocketAddress> {
        let name = sys::socket::peer_name(self.as_fd())
            .map_err(|errno| self.explained(self.object.error(errno, "getpeername")))?;
        Ok(SocketAddress::new(self.scheme, name))
    }

    /// How many datagrams to an abstract name were dropped because another user had sent them; see
    /// [`SocketOptions::any_user`].
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Its address: the one it was opened with; of an accepted TCP connection, the peer's.
    pub fn address(&self) -> &str {
        self.object.address()
    }

    /// Ends the waits of all threads on this socket with `ECANCELED`, now and later; returns when they have left.
    pub fn end_waits(&self) {
        self.object.end_waits();
    }

    /// Keeps it open over exec, in blocking mode as programs expect of a socket that they inherit. Never blocks. Not to
    /// be called while another thread uses it.
    ///
    /// System call: fcntl(F_SETFD, F_SETFL).
    pub fn inherit(&self) -> Result<()> {
        self.share(true)
    }

    fn share(&self, keep_on_exec: bool) -> Result<()> {
        self.descriptor.share(keep_on_exec).map_err(|errno| self.object.error(errno, "fcntl"))
    }

    /// Gives up the object and keeps its descriptor, in blocking mode, closed on exec. A path that it is bound to stays,
    /// and is the caller's to remove. Never blocks.
    pub fn into_fd(self) -> Result<OwnedFd> {
        self.share(false)?;
        if let Some(path) = self.path {
            path.keep();
        }
        Ok(self.descriptor.into_owned())
    }

    fn raw(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.descriptor.as_fd())
    }

    #[cold]
    fn explained(&self, error: Error) -> Error {
        explain(error, self.scheme)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("address", &self.address()).field("fd", &self.as_fd()).finish()
    }
}

/// The kernel's family (none where it depends on the host's address) and type.
fn kernel_kind(scheme: Scheme) -> Option<(Option<AddressFamily>, SockType)> {
    Some(match scheme {
        Scheme::Tcp => (None, SockType::Stream),
        Scheme::Udp => (None, SockType::Datagram),
        Scheme::Unix => (Some(AddressFamily::Unix), SockType::Stream),
        Scheme::UnixDgram => (Some(AddressFamily::Unix), SockType::Datagram),
        Scheme::UnixSeqpacket => (Some(AddressFamily::Unix), SockType::SeqPacket),
        _ => return None,
    })
}

/// A socket fit for `name`, close-on-exec and in non-blocking mode.
fn make(object: &Object, scheme: Scheme, name: &sys::socket::Name, operation: &'static str) -> Result<OwnedFd> {
    let family = match name.family() {
        libc::AF_INET => AddressFamily::Inet,
        libc::AF_INET6 => AddressFamily::Inet6,
        _ => AddressFamily::Unix,
    };
    let kind = kernel_kind(scheme).map_or(SockType::Stream, |(_, kind)| kind);
    socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
        .map_err(|errno| explain(object.error(errno, operation), scheme))
}

/// Scheme and family of a socket that something else made, and whether it listens.
fn kind_of(fd: BorrowedFd<'_>) -> Result<(Scheme, libc::c_int, bool)> {
    let option = |option| {
        sys::socket::number_option(fd, libc::SOL_SOCKET, option).map_err(|errno| {
            let error = Error::new(errno, "adopt");
            if errno == Errno::ENOTSOCK { error.because("the descriptor is not a socket's") } else { error }
        })
    };
    let (family, kind) = (option(libc::SO_DOMAIN)?, option(libc::SO_TYPE)?);
    let protocol = option(libc::SO_PROTOCOL)?;
    let is_inet = family == libc::AF_INET || family == libc::AF_INET6;
    let scheme = match (kind, protocol) {
        (libc::SOCK_STREAM, libc::IPPROTO_TCP) if is_inet => Scheme::Tcp,
        (libc::SOCK_DGRAM, libc::IPPROTO_UDP) if is_inet => Scheme::Udp,
        (libc::SOCK_STREAM, _) if family == libc::AF_UNIX => Scheme::Unix,
        (libc::SOCK_DGRAM, _) if family == libc::AF_UNIX => Scheme::UnixDgram,
        (libc::SOCK_SEQPACKET, _) if family == libc::AF_UNIX => Scheme::UnixSeqpacket,
        _ => {
            return Err(Error::new(Errno::ENOTSUP, "adopt")
                .because_found(format!("no scheme for a socket of family {family}, type {kind}")));
        }
    };
    Ok((scheme, family, option(libc::SO_ACCEPTCONN)? != 0))
}
