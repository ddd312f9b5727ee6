//! Who is on the other side, and whether an abstract name, which has no permissions, is held by somebody to trust.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::geteuid;

use super::{Socket, diag};
use crate::address::Scheme;
use crate::error::Result;
use crate::sys::socket as sys;

/// A process as the kernel vouches for it, when it connected, began to listen, or made the pair.
///
/// The pid is as seen in this process's pid namespace, 0 for a process outside of it; by now it may be another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The process.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

impl Socket {
    /// The process on the other side of a Unix connection or pair. Never blocks.
    ///
    /// # Errors
    /// `ENOTSUP` a TCP or UDP socket, or datagrams without a pair: the kernel does not know; `ENOTCONN` not connected.
    ///
    /// System call: getsockopt(SO_PEERCRED).
    pub fn peer_credentials(&self) -> Result<Credentials> {
        let failed = |errno| self.object.error(errno, "getsockopt");
        if matches!(self.scheme, Scheme::Tcp | Scheme::Udp) {
            return Err(failed(Errno::ENOTSUP).because("only Unix sockets know who is on the other side"));
        }
        let found = sys::peer_credentials(self.as_fd()).map_err(failed)?;
        if found.uid == libc::uid_t::MAX {
            return Err(if self.scheme == Scheme::UnixDgram {
                failed(Errno::ENOTSUP).because("the kernel keeps no peer of datagram sockets outside of a pair")
            } else {
                failed(Errno::ENOTCONN)
            });
        }
        Ok(Credentials { pid: found.pid, uid: found.uid, gid: found.gid })
    }
}

/// Whether an abstract name may be shared with this user: ourselves, or root, who can do anything to us anyway.
pub(super) fn is_trusted(uid: libc::uid_t) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

/// Fails unless whoever holds the abstract name that `fd` is connected to may be trusted.
pub(super) fn check_holder(fd: BorrowedFd<'_>, scheme: Scheme) -> std::result::Result<(), (Errno, String)> {
    let holder = match scheme {
        Scheme::UnixDgram => diag::uid_of_peer(fd),
        _ => sys::peer_credentials(fd).map(|holder| holder.uid),
    };
    match holder {
        Ok(uid) if is_trusted(uid) => Ok(()),
        Ok(uid) => Err((
            Errno::EACCES,
            format!(
                "user {uid} holds this abstract name, which every user could take; say any-user=1 if that is intended"
            ),
        )),
        Err(Errno::ENOENT) => Err((Errno::ECONNREFUSED, "whoever held this abstract name is gone".into())),
        Err(errno) => Err((
            Errno::ENOTSUP,
            format!(
                "this system does not tell who receives datagrams at an abstract name ({}); use a path, unix-seqpacket:, \
                 or say any-user=1 to trust every user of this host",
                errno.desc()
            ),
        )),
    }
}
