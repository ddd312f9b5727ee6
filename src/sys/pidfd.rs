//! Descriptors of processes, and how a child ended, without reaping it.
//!
//! System calls: pidfd_open, waitid with WNOWAIT.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::taken::Taken;
use super::{SysResult, check};

static PATH: Taken = Taken::new("pidfd_open", "waitid in a helper thread");

/// Which way of waiting for the end of a child is in use, once one was waited for.
pub(crate) fn path() -> &'static str {
    PATH.path()
}

/// A descriptor of the process `pid` that polls readable once it has ended; close-on-exec by itself. ENOSYS, EPERM: the
/// kernel or a sandbox has none to give.
pub(crate) fn open(pid: libc::pid_t) -> SysResult<OwnedFd> {
    // SAFETY: takes two numbers.
    let opened = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) });
    let refused = matches!(opened, Err(Errno::ENOSYS | Errno::EPERM));
    PATH.found(!refused);
    let fd = opened?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EIO)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// How the child `pid` ended, as waitpid would put it, leaving it to be reaped by whoever started it; waits until then.
/// ECHILD: not a child of this process, or somebody has reaped it.
pub(crate) fn wait_for_end(pid: libc::pid_t) -> SysResult<i32> {
    waitid(libc::P_PID, libc::id_t::try_from(pid).map_err(|_| Errno::EINVAL)?, 0)
}

/// As [`wait_for_end`], with EAGAIN while it lives.
pub(crate) fn peek_end(pid: libc::pid_t) -> SysResult<i32> {
    waitid(libc::P_PID, libc::id_t::try_from(pid).map_err(|_| Errno::EINVAL)?, libc::WNOHANG)
}

/// As [`peek_end`] by the child's descriptor, which is not mistaken for another child that got its pid.
pub(crate) fn peek_end_of(pidfd: BorrowedFd<'_>) -> SysResult<i32> {
    waitid(libc::P_PIDFD, pidfd.as_raw_fd().cast_unsigned(), libc::WNOHANG)
}

fn waitid(kind: libc::idtype_t, id: libc::id_t, flags: libc::c_int) -> SysResult<i32> {
    // SAFETY: zeros are a valid siginfo, the kernel writes to a live local, and once it has put a pid there, the
    // members for SIGCHLD are the ones that it filled.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        check(libc::waitid(kind, id, &raw mut info, libc::WEXITED | libc::WNOWAIT | flags))?;
        if info.si_pid() == 0 {
            return Err(Errno::EAGAIN);
        }
        let status = info.si_status();
        Ok(match info.si_code {
            libc::CLD_EXITED => (status & 0xff) << 8,
            libc::CLD_DUMPED => status | 0x80,
            _ => status,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn status_is_what_waitpid_gives() {
        for script in ["exit 0", "exit 7", "exit 255", "kill -KILL $$", "kill -TERM $$"] {
            let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            let pid = child.id().cast_signed();
            let peeked = wait_for_end(pid).unwrap();
            assert_eq!(peek_end(pid), Ok(peeked));
            assert_eq!(peek_end_of(open(pid).unwrap().as_fd()), Ok(peeked));
            assert_eq!(child.wait().unwrap().into_raw(), peeked, "{script}");
            assert_eq!(peek_end(pid), Err(Errno::ECHILD));
        }
    }

    #[test]
    fn a_living_child_has_not_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(peek_end(child.id().cast_signed()), Err(Errno::EAGAIN));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn absurd_pids() {
        assert_eq!(open(-1).unwrap_err(), Errno::EINVAL);
        assert_eq!(open(0).unwrap_err(), Errno::EINVAL);
        assert_eq!(peek_end(-1), Err(Errno::EINVAL));
        assert!(open(i32::MAX).is_err());
    }
}
