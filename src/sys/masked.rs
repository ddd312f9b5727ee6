//! Keeping off a signal that the kernel sends to a thread for its own failing call.
//!
//! System calls: two rt_sigprocmask, rt_sigpending, and on failure rt_sigtimedwait.

use nix::errno::Errno;

use super::SysResult;

/// Runs a call that raises `signal` when it fails with `errno`, so that it only fails.
pub(crate) fn masked<T>(signal: libc::c_int, errno: Errno, call: impl FnOnce() -> SysResult<T>) -> SysResult<T> {
    // SAFETY: the sets are live locals, valid as zeros and filled before they are read. The mask is the calling
    // thread's own and is put back before returning. A signal that was pending before stays; one that came with the
    // failure is directed at this thread, where only we can take it.
    unsafe {
        let mut only: libc::sigset_t = std::mem::zeroed();
        let (mut before, mut pending) = (only, only);
        libc::sigemptyset(&raw mut only);
        libc::sigaddset(&raw mut only, signal);
        libc::sigpending(&raw mut pending);
        let already_pending = libc::sigismember(&raw const pending, signal) == 1;
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const only, &raw mut before);

        let result = call();

        if matches!(&result, Err(failure) if *failure == errno) && !already_pending {
            let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            while libc::sigtimedwait(&raw const only, std::ptr::null_mut(), &raw const now) == -1
                && Errno::last() == Errno::EINTR
            {}
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        result
    }
}
