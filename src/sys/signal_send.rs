//! Sending signals: to a process by number or by descriptor, to a thread, with a value.
//!
//! System calls: kill, tgkill, rt_sigqueueinfo, pidfd_open, pidfd_send_signal.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::taken::Taken;
use super::{SysResult, check, direct};

static PATH: Taken = Taken::new("pidfd_send_signal", "kill after a look at the start time");

/// Which way signals for a certain process go, once one was opened or sent to.
pub(crate) fn path() -> &'static str {
    PATH.path()
}

/// Remembers the way for [`path`].
pub(crate) fn found(by_descriptor: bool) {
    PATH.found(by_descriptor);
}

/// What a sender fills in of a `siginfo_t` (64-bit Linux); the rest stays zero.
#[repr(C)]
struct Queued {
    signal: i32,
    errno: i32,
    code: i32,
    _pad: i32,
    pid: i32,
    uid: u32,
    value: i64,
}

const _: () = assert!(size_of::<Queued>() <= size_of::<libc::siginfo_t>());
const _: () = assert!(align_of::<Queued>() <= align_of::<libc::siginfo_t>());

/// kill; a negative `pid` is a process group, signal 0 only asks.
pub(crate) fn kill(pid: libc::pid_t, signal: libc::c_int) -> SysResult<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// tgkill: one thread of a process. Async-signal-safe, as all of these.
pub(crate) fn thread(pid: libc::pid_t, tid: libc::pid_t, signal: libc::c_int) -> SysResult<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) }).map(drop)
}

/// rt_sigqueueinfo: a signal with a value, as `sigqueue` sends it.
pub(crate) fn queue(pid: libc::pid_t, signal: libc::c_int, value: i32) -> SysResult<()> {
    let info = queued(signal, value);
    // SAFETY: the kernel reads a whole siginfo, which `info` is.
    unsafe { direct::call3(libc::SYS_rt_sigqueueinfo, pid as usize, signal as usize, info.as_ptr() as usize) }.map(drop)
}

/// pidfd_open.
pub(crate) fn open_process(pid: libc::pid_t) -> SysResult<OwnedFd> {
    // SAFETY: takes numbers, and a success is a new descriptor that nobody else owns; it is close-on-exec.
    unsafe {
        let fd = check(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        Ok(OwnedFd::from_raw_fd(fd as libc::c_int))
    }
}

/// pidfd_send_signal, with a value or as kill sends it; signal 0 only asks.
pub(crate) fn to_process(process: BorrowedFd<'_>, signal: libc::c_int, value: Option<i32>) -> SysResult<()> {
    let info = value.map(|value| queued(signal, value));
    let pointer = info.as_ref().map_or(std::ptr::null(), MaybeUninit::as_ptr);
    // SAFETY: the pointer is null or to a whole siginfo that lives until the call returns.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, pointer, 0) }).map(drop)
}

/// getpid or getuid, which cannot fail.
fn own(number: libc::c_long) -> usize {
    // SAFETY: takes nothing.
    unsafe { direct::call3(number, 0, 0, 0) }.unwrap_or_default()
}

fn queued(signal: libc::c_int, value: i32) -> MaybeUninit<libc::siginfo_t> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let start = Queued {
        signal,
        errno: 0,
        code: libc::SI_QUEUE,
        _pad: 0,
        pid: own(libc::SYS_getpid) as libc::pid_t,
        uid: own(libc::SYS_getuid) as libc::uid_t,
        value: value.into(), // the low half, where a receiver's sival_int lies, on the little-endian machines we run on
    };
    // SAFETY: a Queued fits into a siginfo and is aligned no stricter (asserted above), and the rest is zeros.
    unsafe { info.as_mut_ptr().cast::<Queued>().write(start) };
    info
}
