//! Starting a child that is a copy of this process, and learning how one ended.
//!
//! System calls: fork, prctl(PR_SET_PDEATHSIG), sigaction, dup2, wait4, fcntl.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::{SysResult, check};

/// How a child ended, and the most memory that it had resident, in bytes.
pub(crate) struct End {
    pub status: libc::c_int,
    pub peak_memory: u64,
}

/// Reaps a child that has ended; EAGAIN while it lives.
pub(crate) fn reap(pid: libc::pid_t) -> SysResult<End> {
    let mut status = 0;
    // SAFETY: zeros are a valid rusage; the kernel writes to live locals.
    let (found, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (check(libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage))?, usage)
    };
    if found == 0 {
        return Err(nix::errno::Errno::EAGAIN);
    }
    Ok(End { status, peak_memory: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024 })
}

/// Kills a child that has not been reaped. Nothing happens if it has ended.
pub(crate) fn kill(pid: libc::pid_t) {
    // SAFETY: a plain system call; a child that nobody has reaped keeps its pid.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Runs `body` in a child, which exits with what it returns, without running anything else of this process; it dies with
/// the calling thread, takes `error` for its standard error, has no signal blocked, and lives through SIGINT.
pub(crate) fn fork(error: Option<OwnedFd>, body: impl FnOnce() -> libc::c_int) -> SysResult<libc::pid_t> {
    // SAFETY: plain system calls. What other threads held when the child was made stays held in it; the caller says in
    // its documentation what that means for the body.
    unsafe {
        let parent = libc::getpid();
        let pid = check(libc::fork())?;
        if pid != 0 {
            return Ok(pid);
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != parent {
            libc::_exit(0); // it died before it could be told that it matters
        }
        outlive_interrupts(false);
        no_signal_blocked();
        if let Some(error) = error {
            libc::dup2(error.as_raw_fd(), 2);
        }
        libc::_exit(body())
    }
}

/// Has this process live through SIGINT, which a terminal's Ctrl-C sends to all that run in front: when the end comes says
/// the parent. By a handler that does nothing, so that programs that it starts have the default action; where SIGINT is ignored,
/// they are to ignore it, too. A handler that is there stays if `keeps` says so. Async-signal-safe.
pub(crate) fn outlive_interrupts(keeps: bool) {
    extern "C" fn pass(_: libc::c_int) {}
    // SAFETY: zeros are a valid sigaction; sigemptyset fills the set in; the handler touches nothing.
    unsafe {
        let mut found: libc::sigaction = std::mem::zeroed();
        let unknown = libc::sigaction(libc::SIGINT, std::ptr::null(), &raw mut found) != 0;
        let action = found.sa_sigaction;
        if unknown || action == libc::SIG_IGN || keeps && action != libc::SIG_DFL {
            return;
        }
        let mut own: libc::sigaction = std::mem::zeroed();
        own.sa_sigaction = pass as extern "C" fn(libc::c_int) as libc::sighandler_t;
        own.sa_flags = libc::SA_RESTART;
        libc::sigemptyset(&raw mut own.sa_mask);
        libc::sigaction(libc::SIGINT, &raw const own, std::ptr::null_mut());
    }
}

/// For the calling thread, which a pool's has all of them blocked. Async-signal-safe.
fn no_signal_blocked() {
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset fills the set in.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// Has the program that `command` will run inherit descriptors, die with the calling thread, and have no signal blocked.
pub(crate) fn end_with_parent(command: &mut Command, inherits: [RawFd; 3]) {
    let parent = std::process::id();
    // SAFETY: plain system calls, as a child of a process with threads may make them.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::getppid().cast_unsigned() != parent {
                libc::_exit(0); // it died before it could be told that it matters
            }
            no_signal_blocked();
            for fd in inherits {
                if libc::fcntl(fd, libc::F_SETFD, 0) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}

/// A descriptor that this program inherited for its own use, and does not pass on. EBADF: it is not open.
pub(crate) fn inherited(fd: RawFd) -> SysResult<OwnedFd> {
    // SAFETY: fcntl refuses a number that is not open; one that is was opened for this program, which the caller says.
    unsafe {
        check(libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}
