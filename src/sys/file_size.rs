//! Writing to a file past the process's limit on file sizes without SIGXFSZ, whose default is to kill.
//!
//! System calls: write, pwritev, between two rt_sigprocmask if there is a limit; getrlimit.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sys::uio::pwritev;
use nix::unistd;

use super::{SysResult, masked, memory};

/// RLIMIT_FSIZE; `None` without a limit.
pub(crate) fn limit() -> Option<u64> {
    memory::limit(libc::RLIMIT_FSIZE)
}

pub(crate) fn is_limited() -> bool {
    limit().is_some()
}

/// `write` that fails with EFBIG; `limited` says that SIGXFSZ has to be kept off.
#[inline]
pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8], limited: bool) -> SysResult<usize> {
    if limited { masked(|| unistd::write(fd, bytes)) } else { unistd::write(fd, bytes) }
}

/// `pwritev` in the same way.
#[inline]
pub(crate) fn gather_at(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>], at: i64, limited: bool) -> SysResult<usize> {
    if limited { masked(|| pwritev(fd, parts, at)) } else { pwritev(fd, parts, at) }
}

/// Runs a call that may write past the limit, so that it only fails with EFBIG.
pub(crate) fn masked<T>(call: impl FnOnce() -> SysResult<T>) -> SysResult<T> {
    masked::masked(libc::SIGXFSZ, Errno::EFBIG, call)
}
