//! One reader of a named pipe at a time.
//!
//! System call: flock, on the reader's own open file description; the kernel lets go when the last copy is closed.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::{SysResult, check};

/// Claims the pipe for this description; `EBUSY` if another one has it. Never blocks.
pub(crate) fn claim(fd: BorrowedFd<'_>) -> SysResult<()> {
    // SAFETY: the call takes a descriptor, which is open for as long as it is borrowed, and no memory.
    match check(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Err(Errno::EWOULDBLOCK) => Err(Errno::EBUSY),
        result => result.map(drop),
    }
}
