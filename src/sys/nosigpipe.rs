//! Writing to a pipe whose reader may be gone without SIGPIPE: by flag where the kernel has it, by mask where not.
//!
//! System calls: pwritev2 with RWF_NOSIGNAL (Linux 6.18), else write between two rt_sigprocmask and a
//! rt_sigtimedwait that takes back a SIGPIPE of our own making.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use nix::errno::Errno;

use super::{SysResult, check, direct, masked};

const RWF_NOSIGNAL: libc::c_int = 0x0000_0100;

const UNKNOWN: u8 = 0;
const BY_FLAG: u8 = 1;
const BY_MASK: u8 = 2;

// A cache of what the kernel can; every value is right at any time, so relaxed accesses need no partner.
static PATH: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Which way is in use, once a write has found out.
pub(crate) fn path() -> &'static str {
    match PATH.load(Ordering::Relaxed) {
        BY_FLAG => "pwritev2 with RWF_NOSIGNAL",
        BY_MASK => "write with SIGPIPE masked",
        _ => "not yet probed",
    }
}

/// `write` to a pipe in non-blocking mode that fails with EPIPE and never raises SIGPIPE.
#[inline]
pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> SysResult<usize> {
    if PATH.load(Ordering::Relaxed) == BY_FLAG {
        match direct::pwritev2(fd, bytes, RWF_NOSIGNAL) {
            // The kernel is another one: the process was moved to it, or a sandbox put in between.
            Err(Errno::EOPNOTSUPP) => {}
            result => return result,
        }
    }
    write_on_unknown_kernel(fd, bytes, &PATH, |bytes| direct::pwritev2(fd, bytes, RWF_NOSIGNAL))
}

#[cold]
fn write_on_unknown_kernel(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    path: &AtomicU8,
    by_flag: impl FnOnce(&[u8]) -> SysResult<usize>,
) -> SysResult<usize> {
    if bytes.is_empty() {
        return Ok(0); // as every kernel answers, whether or not it knows the flag
    }
    if path.load(Ordering::Relaxed) == UNKNOWN {
        match by_flag(bytes) {
            // What an old kernel answers to the flag (EOPNOTSUPP, EINVAL) or a sandbox to the call (ENOSYS, EPERM).
            Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) => {}
            result => {
                // Other answers, such as EINTR, may come before the flag is looked at.
                if matches!(result, Ok(1..) | Err(Errno::EAGAIN | Errno::EPIPE)) {
                    path.store(BY_FLAG, Ordering::Relaxed);
                }
                return result;
            }
        }
    }
    let result = write_by_mask(fd, bytes);
    // Only a plain write that gets further than the flagged one proves that it was the flag that was refused.
    if !matches!(result, Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOSYS | Errno::EPERM)) {
        path.store(BY_MASK, Ordering::Relaxed);
    }
    result
}

fn write_by_mask(fd: BorrowedFd<'_>, bytes: &[u8]) -> SysResult<usize> {
    masked(|| {
        // SAFETY: the kernel reads `bytes`, which is live for the call.
        check(unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) }).map(|n| n.cast_unsigned())
    })
}

/// Runs a call that may raise SIGPIPE and has no flag against it, so that it only fails with EPIPE.
pub(crate) fn masked<T>(call: impl FnOnce() -> SysResult<T>) -> SysResult<T> {
    masked::masked(libc::SIGPIPE, Errno::EPIPE, call)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn an_empty_write_tells_nothing_about_the_kernel() {
        let old_kernel = |bytes: &[u8]| if bytes.is_empty() { Ok(0) } else { Err(Errno::EOPNOTSUPP) };
        let (_reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        let path = AtomicU8::new(UNKNOWN);
        assert_eq!(write_on_unknown_kernel(writer.as_fd(), b"", &path, old_kernel), Ok(0));
        assert_eq!(path.load(Ordering::Relaxed), UNKNOWN);
        assert_eq!(write_on_unknown_kernel(writer.as_fd(), b"abc", &path, old_kernel), Ok(3));
        assert_eq!(path.load(Ordering::Relaxed), BY_MASK);
    }

    #[test]
    fn a_flag_that_is_refused_later_is_given_up() {
        let (_reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        let path = AtomicU8::new(BY_FLAG);
        let unasked = |_: &[u8]| Err(Errno::EOPNOTSUPP);
        assert_eq!(write_on_unknown_kernel(writer.as_fd(), b"abc", &path, unasked), Ok(3));
        assert_eq!(path.load(Ordering::Relaxed), BY_MASK);
    }

    #[test]
    fn what_proves_that_the_flag_is_known() {
        let (_reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        for (answer, proves) in
            [(Ok(3), true), (Err(Errno::EAGAIN), true), (Err(Errno::EPIPE), true), (Err(Errno::EINTR), false)]
        {
            let path = AtomicU8::new(UNKNOWN);
            assert_eq!(write_on_unknown_kernel(writer.as_fd(), b"abc", &path, |_| answer), answer);
            assert_eq!(path.load(Ordering::Relaxed) == BY_FLAG, proves, "{answer:?}");
        }
    }
}
