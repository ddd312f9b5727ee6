//! A descriptor, and whether its description is one that we opened in non-blocking mode.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

use crate::paths;
use crate::sys::{SysResult, fork};

/// An owned descriptor that remembers who set its mode. O_NONBLOCK belongs to the description, which other processes
/// may share: it is set only on descriptions that this library opened.
pub(crate) struct Descriptor {
    fd: OwnedFd,
    never_blocks: AtomicBool,
}

impl Descriptor {
    /// For a description that we opened, with O_NONBLOCK.
    pub(crate) fn ours(fd: OwnedFd) -> Descriptor {
        Descriptor { fd, never_blocks: AtomicBool::new(true) }
    }

    /// For a description that came from elsewhere; its mode stays as it is, and may change any time.
    pub(crate) fn adopted(fd: OwnedFd) -> Descriptor {
        Descriptor { fd, never_blocks: AtomicBool::new(false) }
    }

    /// Whether calls on it can be relied on not to block.
    #[inline]
    pub(crate) fn never_blocks(&self) -> bool {
        // Relaxed: a caller that misses the change to blocking mode made by `share` meets EAGAIN's absence at worst,
        // and `share` says not to use the object concurrently.
        self.never_blocks.load(Ordering::Relaxed)
    }

    /// Readies it for a program that knows nothing of us: blocking mode, and kept over exec if asked.
    pub(crate) fn share(&self, keep_on_exec: bool) -> SysResult<()> {
        if self.never_blocks() {
            let flags = OFlag::from_bits_retain(fcntl(&self.fd, FcntlArg::F_GETFL)?);
            fcntl(&self.fd, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
            self.never_blocks.store(false, Ordering::Relaxed);
        }
        self.set_close_on_exec(!keep_on_exec)
    }

    /// As `share` for the end of a pipe. A description that a fork has made common to several processes stays as it is: the
    /// others rely on its mode. The number gets a description of its own, where the kernel lets the pipe be opened anew:
    /// not without /proc, nor as another user, nor a FIFO for writing that nobody reads.
    pub(crate) fn share_pipe(&self, keep_on_exec: bool) -> SysResult<()> {
        if self.never_blocks() {
            match self.set_apart() {
                Ok(()) => self.never_blocks.store(false, Ordering::Relaxed),
                Err(errno @ (Errno::EMFILE | Errno::ENFILE)) => return Err(errno),
                Err(_) => {}
            }
        }
        self.share(keep_on_exec)
    }

    /// Puts a description of the same pipe in blocking mode under the number of this one.
    fn set_apart(&self) -> SysResult<()> {
        let flags = OFlag::from_bits_retain(fcntl(&self.fd, FcntlArg::F_GETFL)?);
        // Opened without blocking, as a FIFO would wait for the other end. All other flags, O_DIRECT for one, a pipe
        // takes only afterwards.
        let own = paths::reopen(self.fd.as_fd(), flags & OFlag::O_ACCMODE | OFlag::O_NONBLOCK)?;
        fcntl(&own, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
        fork::replace_descriptor(self.fd.as_fd(), own.as_fd())
    }

    pub(crate) fn set_close_on_exec(&self, close: bool) -> SysResult<()> {
        let flags = if close { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
        fcntl(&self.fd, FcntlArg::F_SETFD(flags)).map(drop)
    }

    pub(crate) fn into_owned(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
