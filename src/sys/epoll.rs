//! Changing what an epoll instance watches by descriptor number: the entry may outlive the descriptor, and then the
//! caller wants the kernel's answer, not a borrow.
//!
//! System call: epoll_ctl.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use super::{SysResult, check};

/// Watches `fd` from now on; events carry `data`.
pub(crate) fn add(epoll: BorrowedFd<'_>, fd: RawFd, events: u32, data: u64) -> SysResult<()> {
    control(epoll, libc::EPOLL_CTL_ADD, fd, events, data)
}

/// Sets what is watched for; EBADF and ENOENT if the descriptor that was added is gone.
pub(crate) fn modify(epoll: BorrowedFd<'_>, fd: RawFd, events: u32, data: u64) -> SysResult<()> {
    control(epoll, libc::EPOLL_CTL_MOD, fd, events, data)
}

/// Stops watching; EBADF and ENOENT as in [`modify`].
pub(crate) fn delete(epoll: BorrowedFd<'_>, fd: RawFd) -> SysResult<()> {
    control(epoll, libc::EPOLL_CTL_DEL, fd, 0, 0)
}

fn control(epoll: BorrowedFd<'_>, change: libc::c_int, fd: RawFd, events: u32, data: u64) -> SysResult<()> {
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: the kernel reads a live local; a number that is not open, or not in the set, is refused.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), change, fd, &raw mut event) }).map(drop)
}
