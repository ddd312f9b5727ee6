//! Listening and accepting.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::poll::PollFlags;

use super::bind::bind;
use super::credentials::is_trusted;
use super::path::BoundPath;
use super::{Socket, SocketAddress, SocketOptions, explain::explain, kind_of};
use crate::address::{Address, Scheme};
use crate::descriptor::Descriptor;
use crate::error::{Error, Result};
use crate::sys::socket as sys;
use crate::timeout::Timeout;
use crate::wait::Object;

/// A socket that accepts connections: `tcp:`, `unix:` or `unix-seqpacket:`.
///
/// The descriptor polls readable while a connection waits. Connections that wait outlive nobody: they end when the last
/// process that has the listener closes it or dies. A Unix path stays behind when the process is killed; the next
/// listener on it takes it over. Any thread may call anything at any time.
///
/// ```
/// use wigwag::{Listener, Socket, SocketOptions, Timeout};
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("app.sock");
/// # let address = wigwag::Address::parse(format!("unix:{}", path.display()))?;
/// // let address = "unix:/run/app.sock".parse()?;
/// let listener = Listener::open(&address, &SocketOptions::default(), Timeout::Now)?;
/// let client = Socket::connect(&address, &SocketOptions::default(), Timeout::Now)?;
/// let server = listener.accept(Timeout::Now)?;
/// assert_eq!(server.peer_credentials()?.pid, std::process::id() as i32);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[doc(alias = "listen")]
pub struct Listener {
    object: Object,
    /// Before the descriptor, so that the path is gone before the socket is: a path in use is never taken over.
    path: Option<BoundPath>,
    descriptor: Descriptor,
    scheme: Scheme,
    family: libc::c_int,
    /// Connections of other users are refused, because the name has no permissions.
    only_own_user: bool,
    refused: AtomicU64,
}

impl Listener {
    /// Listens at an address. Waits at most for a host's name to be looked up. An empty host means all interfaces, over
    /// IPv4 and IPv6; port 0 means any free one, which [`Listener::local_address`] tells.
    ///
    /// A path is taken over if it is a socket where nobody listens any more, and is refused otherwise; it is removed
    /// when the listener is dropped, by the process that bound it. Its permissions are 0600 unless the options say
    /// otherwise. Accepted connections have the listener's `nodelay`, `keepalive` and buffer sizes.
    ///
    /// # Errors
    /// `EADDRINUSE` somebody listens there; `EADDRNOTAVAIL` no interface has the address; `EACCES` a privileged port, or
    /// the directory's permissions; `ENOTSOCK` the path is something else than a socket (it is left alone);
    /// `ENAMETOOLONG` a Unix name of more than 107 bytes; `ENOBUFS` buffers above the system's limit; `EINVAL` another
    /// scheme or an option that does not fit; `ENOENT`, `EHOSTUNREACH` as for [`SocketAddress::resolve`]; `EMFILE`,
    /// `ENFILE`; `ENOMEM` no thread can be had to look the host up; `EAGAIN`, `ETIMEDOUT`, `ECANCELED`.
    ///
    /// System calls: socket, setsockopt, bind, listen; for paths also flock of the directory, fchmod, connect, lstat,
    /// unlink.
    pub fn open(address: &Address, options: &SocketOptions, timeout: Timeout) -> Result<Listener> {
        address.require(&[Scheme::Tcp, Scheme::Unix, Scheme::UnixSeqpacket], "listen")?;
        let options = options.with(address)?;
        let backlog = Listener::backlog(&options);
        let object = Object::new(address.to_string());
        let bound = bind(&object, address, &options, object.operation("listen", timeout), |fd| {
            sys::listen(fd.as_fd(), backlog)
        })?;
        Ok(Listener {
            object,
            path: bound.path,
            descriptor: Descriptor::ours(bound.fd),
            scheme: address.scheme(),
            family: bound.family,
            only_own_user: bound.is_abstract && !options.any_user,
            refused: AtomicU64::new(0),
        })
    }

    /// Takes over a listening socket that something else made, such as a service manager; its mode is left as it is, and
    /// so is its path when it is dropped. An abstract name accepts every user: who made the socket has decided. Never
    /// blocks.
    ///
    /// # Errors
    /// `ENOTSOCK` not a socket; `ENOTSUP` of a family or type that has no scheme here; `EINVAL` it does not listen.
    ///
    /// System calls: getsockopt, getsockname.
    pub fn from_fd(fd: OwnedFd) -> Result<Listener> {
        let (scheme, family, listens) = kind_of(fd.as_fd())?;
        let name = sys::local_name(fd.as_fd()).map_err(|errno| Error::new(errno, "adopt"))?;
        let object = Object::new(SocketAddress::new(scheme, name).to_string());
        if !listens {
            return Err(object.error(Errno::EINVAL, "adopt").because("the socket does not listen"));
        }
        let (descriptor, refused) = (Descriptor::adopted(fd), AtomicU64::new(0));
        Ok(Listener { object, path: None, descriptor, scheme, family, only_own_user: false, refused })
    }

    /// Accepts the connection that has waited longest; waits for one.
    ///
    /// On an abstract name, connections of users other than the own and root are closed at once and counted, see
    /// [`Listener::refused`].
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` no descriptor is left (the connection goes on waiting); `EAGAIN`, also after 256 that were refused;
    /// `ETIMEDOUT`, `ECANCELED`.
    ///
    /// System call: accept4.
    pub fn accept(&self, timeout: Timeout) -> Result<Socket> {
        let mut operation = self.object.operation("accept", timeout);
        let mut refused = 0;
        loop {
            let accepted = operation.transfer(&self.descriptor, PollFlags::POLLIN, || {
                match sys::accept(self.descriptor.as_fd()) {
                    // The client gave up while it waited, or what stands on man page accept(2) as to be taken so.
                    Err(
                        Errno::ECONNABORTED
                        | Errno::EPROTO
                        | Errno::ENETDOWN
                        | Errno::ENOPROTOOPT
                        | Errno::EHOSTDOWN
                        | Errno::ENONET
                        | Errno::EHOSTUNREACH
                        | Errno::ENETUNREACH,
                    ) => Err(Errno::EAGAIN),
                    result => result,
                }
            });
            let (fd, name) = accepted.map_err(|error| explain(error, self.scheme))?;
            if self.only_own_user && !sys::peer_credentials(fd.as_fd()).is_ok_and(|peer| is_trusted(peer.uid)) {
                self.refused.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
                drop(fd);
                operation.go_on(&mut refused)?;
                continue;
            }
            let address: Arc<str> = match self.scheme {
                Scheme::Tcp => SocketAddress::new(self.scheme, name).to_string().into(),
                _ => Arc::clone(self.object.address()), // clients of Unix sockets have no name as a rule
            };
            return Ok(Socket::new(Object::new(address), Descriptor::ours(fd), self.scheme, self.family));
        }
    }

    /// The name it listens at, with the port that the kernel chose. Never blocks. System call: getsockname.
    pub fn local_address(&self) -> Result<SocketAddress> {
        let name = sys::local_name(self.as_fd()).map_err(|errno| self.object.error(errno, "getsockname"))?;
        Ok(SocketAddress::new(self.scheme, name))
    }

    /// How many connections to an abstract name were refused because they were another user's; see
    /// [`SocketOptions::any_user`].
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Its kind: the scheme of its address.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The address it was opened with.
    pub fn address(&self) -> &str {
        self.object.address()
    }

    /// Ends the waits of all threads on this listener with `ECANCELED`, now and later; returns when they have left.
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
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("address", &self.address()).field("fd", &self.as_fd()).finish()
    }
}
