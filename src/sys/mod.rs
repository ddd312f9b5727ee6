//! The ground floor: safe, policy-free wrappers over system calls that nix does not have (or has without a flag that we
//! need). Raw libc calls live here and nowhere else; what nix offers is called where it is used.
//!
//! # Safety
//! Every block in here rests on the same few facts, argued where they are used: pointers handed to the kernel come from
//! live Rust references or owned buffers of the length that is passed beside them, and descriptors are borrowed for the
//! length of the call.

pub(crate) mod background;
pub(crate) mod child;
pub(crate) mod direct;
pub(crate) mod epoll;
pub(crate) mod file_lock;
pub(crate) mod file_size;
pub mod fork;
#[cfg(not(loom))]
pub(crate) mod futex;
pub(crate) mod lending;
pub(crate) mod lookup;
pub(crate) mod masked;
#[cfg(not(loom))]
pub(crate) mod membarrier;
pub(crate) mod memory;
pub(crate) mod mq;
pub(crate) mod nosigpipe;
pub(crate) mod not_inherited;
pub(crate) mod pidfd;
pub(crate) mod pipe_reader;
pub(crate) mod posix_sem;
pub(crate) mod processors;
pub(crate) mod shared;
pub(crate) mod shm;
pub(crate) mod signal;
pub(crate) mod signal_send;
pub(crate) mod socket;
pub(crate) mod space;
pub(crate) mod sysv;
pub(crate) mod sysv_mq;
pub(crate) mod sysv_sem;
pub(crate) mod taken;
pub(crate) mod thread_timer;
pub(crate) mod wake_signal;
pub(crate) mod xattr;

#[cfg(loom)]
pub(crate) use crate::modelled::{futex, membarrier};

use nix::errno::Errno;

/// What a wrapper gives: the value or the errno, before anybody knows which object it was about.
pub(crate) type SysResult<T> = Result<T, Errno>;

/// Turns the kernel's -1 into the calling thread's errno.
pub(crate) fn check<T: Copy + PartialOrd + Default>(returned: T) -> SysResult<T> {
    if returned < T::default() { Err(Errno::last()) } else { Ok(returned) }
}

/// A second number for the same open file description, closed on exec.
///
/// System call: fcntl(F_DUPFD_CLOEXEC).
pub(crate) fn copy_descriptor(fd: std::os::fd::BorrowedFd<'_>) -> SysResult<std::os::fd::OwnedFd> {
    fd.try_clone_to_owned().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
}
