//! Locks of an open file description on a whole file, however long it becomes: they end with the last copy of the description.
//!
//! System calls: fcntl F_OFD_SETLK, F_OFD_SETLKW.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use super::SysResult;

fn whole(kind: libc::c_int) -> libc::flock {
    let kind = kind as libc::c_short;
    libc::flock { l_type: kind, l_whence: libc::SEEK_SET as libc::c_short, l_start: 0, l_len: 0, l_pid: 0 }
}

/// Takes the lock of an open file without waiting; `EAGAIN` if another has it.
pub(crate) fn try_lock(file: impl AsFd) -> SysResult<()> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK))) {
        Err(Errno::EACCES) => Err(Errno::EAGAIN), // either may say that another lock is in the way
        result => result.map(drop),
    }
}

/// Takes it, and waits for it until a signal comes (`EINTR`): for calls that have themselves interrupted at their deadline.
pub(crate) fn lock(file: impl AsFd) -> SysResult<()> {
    fcntl(file, FcntlArg::F_OFD_SETLKW(&whole(libc::F_WRLCK))).map(drop)
}

/// Gives the lock of an open file back.
pub(crate) fn unlock(file: impl AsFd) {
    // Cannot fail for what is locked.
    let _ = fcntl(file, FcntlArg::F_OFD_SETLK(&whole(libc::F_UNLCK)));
}
