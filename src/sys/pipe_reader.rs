//! One reader of a named pipe at a time.
//!
//! System call: flock, on an open file description of the claim's own, that no child made by fork has; the kernel lets go
//! with the process.

use std::os::fd::AsRawFd;

use nix::errno::Errno;

use super::not_inherited::NotInherited;
use super::{SysResult, check};

/// A pipe that is claimed, until this is dropped or the process ends.
pub(crate) struct PipeClaim(NotInherited);

impl PipeClaim {
    /// Claims the pipe for this description; `EBUSY` if another one has it. Never blocks.
    pub(crate) fn new(own: NotInherited) -> SysResult<PipeClaim> {
        match flock(&own, libc::LOCK_EX | libc::LOCK_NB) {
            Err(Errno::EWOULDBLOCK) => Err(Errno::EBUSY),
            result => result.map(|()| PipeClaim(own)),
        }
    }
}

impl Drop for PipeClaim {
    fn drop(&mut self) {
        if self.0.is_of_this_process() {
            // Closing would do, but for a program that another thread is just starting, and where the description is shared.
            // Cannot fail for what is locked.
            let _ = flock(&self.0, libc::LOCK_UN);
        }
    }
}

fn flock(own: &NotInherited, operation: libc::c_int) -> SysResult<()> {
    let fd = own.fd().ok_or(Errno::EBADF)?;
    // SAFETY: the call takes a descriptor, which is open for as long as it is borrowed, and no memory.
    check(unsafe { libc::flock(fd.as_raw_fd(), operation) }).map(drop)
}
