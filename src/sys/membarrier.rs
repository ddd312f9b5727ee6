//! A memory barrier on the processors of others, so that they need none of their own on the fast path.
//!
//! System call: membarrier MEMBARRIER_CMD_GLOBAL_EXPEDITED, which reaches the running threads of every process that has
//! registered for it (Linux 4.16; some containers refuse it).

use super::{SysResult, check};

const GLOBAL_EXPEDITED: libc::c_int = 1 << 1;
const REGISTER_GLOBAL_EXPEDITED: libc::c_int = 1 << 2;

/// Has this process's threads take part in the barriers of others.
pub(crate) fn register() -> SysResult<()> {
    call(REGISTER_GLOBAL_EXPEDITED)
}

/// After this, everything that a registered process's threads did before it is visible here, and what this thread did
/// before it is visible to what they do after it.
pub(crate) fn barrier() -> SysResult<()> {
    call(GLOBAL_EXPEDITED)
}

fn call(command: libc::c_int) -> SysResult<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }).map(drop)
}
