//! A timer that sends a signal to one thread: what ends a wait in a call that knows no timeout.
//!
//! System calls: timer_create with SIGEV_THREAD_ID, timer_settime, timer_delete; called raw because glibc's `timer_t`
//! hides the kernel's number behind a pointer, and an atomic number is what a signal handler can share.

use std::time::Duration;

use super::{SysResult, check};
use crate::timeout::timespec;

/// A timer of the kernel's; a plain number, so that it fits an atomic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimerId(pub(crate) libc::c_int);

/// After the first shot the timer repeats this often, so that a shot which came before the thread was inside its call
/// is followed by one that finds it there.
const REPEAT: Duration = Duration::from_millis(1);

/// Creates a disarmed timer that will signal the calling thread.
pub(crate) fn create(signal: libc::c_int) -> SysResult<TimerId> {
    // SAFETY: a sigevent is plain data for which all zeros is a valid value.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = signal;
    // SAFETY: gettid takes nothing and cannot fail.
    event.sigev_notify_thread_id = unsafe { libc::gettid() };
    let mut id: libc::c_int = 0;
    // SAFETY: both pointers are to live locals of the types that the kernel expects (its timer id is an int).
    check(unsafe { libc::syscall(libc::SYS_timer_create, libc::CLOCK_MONOTONIC, &raw mut event, &raw mut id) })?;
    Ok(TimerId(id))
}

/// Fires after `first` (at least a nanosecond from now) and then again and again until disarmed. Async-signal-safe.
pub(crate) fn arm(timer: TimerId, first: Duration) -> SysResult<()> {
    set(timer, first.max(Duration::from_nanos(1)), REPEAT)
}

/// Stops the timer. Async-signal-safe.
pub(crate) fn disarm(timer: TimerId) -> SysResult<()> {
    set(timer, Duration::ZERO, Duration::ZERO)
}

fn set(timer: TimerId, first: Duration, repeat: Duration) -> SysResult<()> {
    let spec = libc::itimerspec { it_interval: timespec(repeat), it_value: timespec(first) };
    // SAFETY: the kernel reads `spec`, a live local; a number that is no timer of ours is refused with EINVAL.
    check(unsafe { libc::syscall(libc::SYS_timer_settime, timer.0, 0, &raw const spec, std::ptr::null::<u8>()) })?;
    Ok(())
}

/// Gives the timer back.
pub(crate) fn delete(timer: TimerId) {
    // SAFETY: takes a number; one that is no timer is refused, and then there is nothing to give back.
    unsafe { libc::syscall(libc::SYS_timer_delete, timer.0) };
}
