//! The end of a child process as something that polls readable: a pidfd, or where the kernel or a sandbox has none
//! (ENOSYS, EPERM; valgrind is one), a thread that waits for the child without reaping it and rings an event counter.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;

use crate::eventfd::EventFd;
use crate::sys::{SysResult, background, fork, pidfd};
use crate::timeout::Timeout;
use crate::wait::Object;

pub(super) struct Child {
    pid: libc::pid_t,
    end: End,
}

enum End {
    Pidfd(OwnedFd),
    Thread(Arc<Helper>),
}

struct Helper {
    /// The fork generation that has the thread.
    generation: u32,
    /// The thread's wait is an operation on this, so that ending the waits ends the thread.
    object: Object,
    /// The status as waitpid gives it, or `UNKNOWN`. Stored with Release before the counter says that there is one.
    status: AtomicI32,
    ended: EventFd,
}

const UNKNOWN: i32 = -1;

impl Child {
    pub(super) fn watch(pid: libc::pid_t) -> SysResult<Child> {
        match pidfd::open(pid) {
            Ok(fd) => Ok(Child { pid, end: End::Pidfd(fd) }),
            Err(Errno::ENOSYS | Errno::EPERM) => Child::watch_by_thread(pid),
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn watch_by_thread(pid: libc::pid_t) -> SysResult<Child> {
        if let Err(errno @ (Errno::ECHILD | Errno::EINVAL)) = pidfd::peek_end(pid) {
            return Err(errno);
        }
        let ended = EventFd::new().map_err(|error| Errno::from_raw(error.errno()))?;
        let helper = Arc::new(Helper {
            generation: fork::generation(),
            object: Object::new("child"),
            status: AtomicI32::new(UNKNOWN),
            ended,
        });
        let of_thread = Arc::clone(&helper);
        background::spawn("wigwag-child", background::SMALL_STACK, move || of_thread.run(pid))?;
        Ok(Child { pid, end: End::Thread(helper) })
    }

    pub(super) fn pid(&self) -> libc::pid_t {
        self.pid
    }

    /// How it ended, if it was not reaped before anybody asked.
    pub(super) fn status(&self) -> Option<ExitStatus> {
        let status = match &self.end {
            End::Pidfd(fd) => pidfd::peek_end_of(fd.as_fd()).ok(),
            End::Thread(helper) => Some(helper.status.load(Ordering::Acquire)).filter(|status| *status != UNKNOWN),
        };
        status.map(ExitStatus::from_raw)
    }
}

impl Helper {
    fn run(&self, pid: libc::pid_t) {
        let mut operation = self.object.operation("waitid", Timeout::Forever);
        match operation.in_call(|| pidfd::peek_end(pid), |_| pidfd::wait_for_end(pid)) {
            Ok(status) => self.status.store(status, Ordering::Release),
            Err(error) if error.is(Errno::ECHILD) => {} // reaped before we came to see it: it is no more
            Err(_) => return,                           // not wanted any more
        }
        let _ = self.ended.add(1, Timeout::Now); // an empty counter has room for one
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let End::Thread(helper) = &self.end {
            helper.object.end_waits();
            background::wait_until_released(helper, helper.generation);
        }
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.end {
            End::Pidfd(fd) => fd.as_fd(),
            End::Thread(helper) => helper.ended.as_fd(),
        }
    }
}
