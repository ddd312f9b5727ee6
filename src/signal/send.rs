//! Sending signals.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use super::Signal;
use crate::address::Address;
use crate::error::{Error, Result};
use crate::sys::{SysResult, signal_send as kernel};

impl Signal {
    /// Sends it to a process. Never blocks.
    ///
    /// The number may by now belong to another process than the one meant: [`SignalTarget`] excludes that.
    ///
    /// # Errors
    /// `ESRCH` there is no such process; `EPERM` it belongs to another user; `EINVAL` a pid below 1.
    ///
    /// System call: kill.
    pub fn send(self, pid: i32) -> Result<()> {
        self.check_pid(pid)?;
        kernel::kill(pid, self.number()).map_err(|errno| self.explain(errno, "kill", pid))
    }

    /// Sends it to every process of a process group. Never blocks. Errors: as [`Signal::send`], `EINVAL` below 2.
    ///
    /// System call: kill.
    pub fn send_to_group(self, group: i32) -> Result<()> {
        if group < 2 {
            return Err(self.to(group, Errno::EINVAL, "kill").because(
                "a process group is a number from 2; the call would take others as \"own group\" or \"everybody\"",
            ));
        }
        kernel::kill(-group, self.number()).map_err(|errno| self.explain(errno, "kill", group))
    }

    /// Sends it to a process with a number. Never blocks: real-time signals queue up, in order, as many as the
    /// receiver's limit allows; of a classic signal one is pending at a time, and the kernel merges further ones
    /// without a word.
    ///
    /// # Errors
    /// `EAGAIN` the receiver has as many signals pending as its RLIMIT_SIGPENDING allows, nothing was sent; `ESRCH`,
    /// `EPERM`, `EINVAL` as [`Signal::send`].
    ///
    /// System call: rt_sigqueueinfo.
    pub fn send_value(self, pid: i32, value: i32) -> Result<()> {
        self.check_pid(pid)?;
        kernel::queue(pid, self.number(), value).map_err(|errno| self.explain(errno, "sigqueue", pid))
    }

    /// Sends it to one thread of a process. Never blocks. Errors: as [`Signal::send`], `ESRCH` also if the thread is
    /// not one of that process.
    ///
    /// System call: tgkill.
    pub fn send_to_thread(self, pid: i32, thread: i32) -> Result<()> {
        self.check_pid(pid)?;
        self.check_pid(thread)?;
        kernel::thread(pid, thread, self.number()).map_err(|errno| self.explain(errno, "tgkill", thread))
    }

    /// The calling thread's number, for [`Signal::send_to_thread`].
    pub fn this_thread() -> i32 {
        nix::unistd::gettid().as_raw()
    }

    fn to(self, pid: i32, errno: Errno, operation: &'static str) -> Error {
        Error::new(errno, operation).on_text(format!("{}@{pid}", self.address()))
    }

    fn check_pid(self, pid: i32) -> Result<()> {
        if pid >= 1 {
            return Ok(());
        }
        Err(self.to(pid, Errno::EINVAL, "kill").because(
            "a process or thread is a number from 1; the call would take others as a group or as everybody, for which \
             there is send_to_group",
        ))
    }

    fn explain(self, errno: Errno, operation: &'static str, pid: i32) -> Error {
        let error = self.to(pid, errno, operation);
        match errno {
            Errno::ESRCH => error.because_found(format!("there is no process (group, thread) {pid}, or not any more")),
            Errno::EPERM => error.because_found(format!(
                "{pid} belongs to another user; only root, and processes of the same user, may signal it (or a security \
                 policy forbids it)"
            )),
            Errno::EAGAIN => error.because_found(format!(
                "the receiver's queue of signals is full: {} of its RLIMIT_SIGPENDING are pending; wait until it has \
                 taken some, or raise its limit (ulimit -i)",
                pending_of(pid).as_deref().unwrap_or("all")
            )),
            _ => error,
        }
    }
}

fn not_a_process(error: Error) -> Error {
    error.because("that is one of the further threads of a process; name the process itself")
}

/// How many signals are pending for the user of a process, and how many may be, as `3/63203`.
fn pending_of(pid: i32) -> Option<String> {
    from_status(pid, "SigQ:")
}

/// The process that a process or thread number belongs to.
fn leader_of(pid: i32) -> Option<i32> {
    from_status(pid, "Tgid:")?.parse().ok()
}

fn from_status(pid: i32, key: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix(key))?.trim().to_owned())
}

/// A process to send signals to that stays the same one: once it has ended, sending fails, also when its number has
/// gone to another.
///
/// That holds from [`SignalTarget::open`] on: open it while the process cannot have been reaped yet, as a parent or with
/// a message from it at hand. Where the kernel or a sandbox has no pidfd_open, the time at which the process started is
/// compared before each send instead, which leaves a moment for the number to change hands; [`SignalTarget::path`] tells.
///
/// ```
/// use wigwag::{Signal, SignalTarget};
/// let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
/// let target = SignalTarget::open(child.id() as i32)?;
/// target.send(Signal::TERM)?;
/// child.wait().unwrap();
/// assert_eq!(target.send(Signal::TERM).unwrap_err().errno(), libc::ESRCH);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Debug)]
pub struct SignalTarget {
    pid: i32,
    pidfd: Option<OwnedFd>,
    /// When the process started, in clock ticks since boot; `None` where /proc does not tell.
    start: Option<u64>,
    /// Whether pidfd_send_signal was found to be missing. Right at any time, so relaxed accesses need no partner.
    by_number: AtomicBool,
}

impl SignalTarget {
    /// Takes hold of the process that has this number now. Never blocks.
    ///
    /// # Errors
    /// `ESRCH` there is none; `EINVAL` a number below 1; `EMFILE`, `ENFILE` no descriptor is left.
    ///
    /// System call: pidfd_open; without it, a look into /proc.
    pub fn open(pid: i32) -> Result<SignalTarget> {
        let fail = |errno| Error::new(errno, "pidfd_open").on_text(format!("process {pid}"));
        if pid < 1 {
            return Err(fail(Errno::EINVAL).because("a process is a number from 1"));
        }
        let start = start_time(pid);
        let pidfd = match kernel::open_process(pid) {
            Ok(pidfd) => Some(pidfd),
            Err(Errno::ENOSYS | Errno::EPERM) => match leader_of(pid) {
                Some(leader) if leader == pid && start.is_some() => None,
                Some(leader) if leader != pid => return Err(not_a_process(fail(Errno::EINVAL))),
                _ => return Err(fail(Errno::ESRCH).because("there is no such process")),
            },
            Err(Errno::ESRCH) => return Err(fail(Errno::ESRCH).because("there is no such process")),
            // Older kernels say EINVAL, newer ones ENOENT.
            Err(Errno::EINVAL | Errno::ENOENT) => return Err(not_a_process(fail(Errno::EINVAL))),
            Err(errno) => return Err(fail(errno)),
        };
        let by_number = AtomicBool::new(pidfd.is_none());
        kernel::found(pidfd.is_some());
        Ok(SignalTarget { pid, pidfd, start, by_number })
    }

    /// The process and the signal that an address such as `signal:USR1@1234` names. Never blocks.
    ///
    /// # Errors
    /// `EINVAL` an address of another kind, without a pid, or with several signals; otherwise as
    /// [`SignalTarget::open`].
    pub fn at(address: &Address) -> Result<(SignalTarget, Signal)> {
        match Signal::from_address(address)? {
            (signals, Some(pid)) if signals.len() == 1 => {
                let signal = signals.into_iter().next();
                let signal = signal.ok_or_else(|| Error::new(Errno::EINVAL, "signal"))?;
                Ok((SignalTarget::open(pid)?, signal))
            }
            _ => Err(Error::new(Errno::EINVAL, "signal")
                .on_text(address.to_string())
                .because("to send, one signal and a pid are needed: signal:NAME@PID")),
        }
    }

    /// Takes over a pidfd. Never blocks.
    ///
    /// # Errors
    /// `EBADF` it is none.
    pub fn from_fd(pidfd: OwnedFd) -> Result<SignalTarget> {
        use std::os::fd::AsRawFd;
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap_or_default();
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|pid| pid.trim().parse().ok());
        match pid {
            Some(pid) => {
                Ok(SignalTarget { pid, pidfd: Some(pidfd), start: start_time(pid), by_number: AtomicBool::new(false) })
            }
            None => Err(Error::new(Errno::EBADF, "pidfd").because("the adopted descriptor is not a pidfd")),
        }
    }

    /// Sends a signal. Never blocks.
    ///
    /// # Errors
    /// `ESRCH` the process has ended and was reaped; `EPERM` it belongs to another user.
    ///
    /// System call: pidfd_send_signal, or kill; see [`SignalTarget::path`].
    pub fn send(&self, signal: Signal) -> Result<()> {
        self.deliver(signal.number(), None).map_err(|errno| signal.explain(errno, self.path(), self.pid))
    }

    /// Sends a signal with a number; as [`Signal::send_value`] otherwise, with `EAGAIN` when the receiver's queue is
    /// full.
    ///
    /// System call: pidfd_send_signal, or rt_sigqueueinfo; see [`SignalTarget::path`].
    pub fn send_value(&self, signal: Signal, value: i32) -> Result<()> {
        self.deliver(signal.number(), Some(value)).map_err(|errno| signal.explain(errno, self.path(), self.pid))
    }

    /// Whether the process is there still; one that has ended and is not reaped yet is. Never blocks.
    pub fn exists(&self) -> bool {
        self.deliver(0, None) != Err(Errno::ESRCH)
    }

    fn deliver(&self, signal: i32, value: Option<i32>) -> SysResult<()> {
        let by_descriptor = match &self.pidfd {
            Some(pidfd) if !self.by_number.load(Ordering::Relaxed) => kernel::to_process(pidfd.as_fd(), signal, value),
            _ => Err(Errno::ENOSYS),
        };
        match by_descriptor {
            // EPERM: a sandbox, or a process of another user, whom the other way may not signal either.
            Err(errno @ (Errno::ENOSYS | Errno::EPERM)) => {
                if self.start.is_none() || start_time(self.pid) != self.start {
                    return Err(if errno == Errno::EPERM { errno } else { Errno::ESRCH });
                }
                let sent = match value {
                    Some(value) => kernel::queue(self.pid, signal, value),
                    None => kernel::kill(self.pid, signal),
                };
                if sent.is_ok() {
                    self.by_number.store(true, Ordering::Relaxed);
                    kernel::found(false);
                }
                sent
            }
            result => result,
        }
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// How signals get there: `"pidfd_send_signal"`, which cannot meet another process, or `"kill"`.
    pub fn path(&self) -> &'static str {
        if self.by_number.load(Ordering::Relaxed) { "kill" } else { "pidfd_send_signal" }
    }

    /// The pidfd, readable once the process has ended; `None` where the kernel has none.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }
}

fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in the second field may hold anything; what follows its last bracket begins with the third field.
    stat.rsplit(')').next()?.split_ascii_whitespace().nth(19)?.parse().ok()
}
