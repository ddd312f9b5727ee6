//! Wait set.

use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use libc::ssize_t;
use wigwag::{Interest, WaitSet, WaitSetEvent};

use crate::boundary::{borrow, call, close, expect_out, give, invalid, object, timeout};

/// Wanted, or reported: something can be read, or the end of the stream, or a connection can be accepted.
pub const WW_READABLE: u32 = 1;
/// Wanted, or reported: something can be written.
pub const WW_WRITABLE: u32 = 2;
/// Reported: the other side is gone; what it left can still be read.
pub const WW_HANGUP: u32 = 4;
/// Reported: an error is pending, which a read or write tells; or nobody reads this pipe any more.
pub const WW_ERROR: u32 = 8;
/// Reported: the timer has expired.
pub const WW_TIMER: u32 = 16;
/// Reported: the child has ended.
pub const WW_ENDED: u32 = 32;

/// The most events that one ww_waitset_wait() gives.
pub const WW_WAITSET_BATCH: usize = 256;

/// Waits for whichever comes first of any number of descriptors, timers and children.
///
/// Each entry has a token of the caller's choice, any 64-bit number that no other entry of the set has. Level-triggered:
/// an entry is reported by every wait for as long as the condition lasts; a timer's expirations are counted, and reported
/// to one wait only. Any thread may add, change and remove while others wait. The set does not keep descriptors open:
/// remove an entry before closing its descriptor. It belongs to the process that made it: a forked child gets -ENOTSUP
/// from every call but ww_waitset_fd(), and may only close its handle.
pub struct ww_waitset(WaitSet);

/// One entry that has something to say.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_waitset_event {
    /// The token that the entry was added with.
    pub token: u64,
    /// For a timer: how often it has expired since it was last reported; more than 1: some were missed. Otherwise 0.
    pub expirations: u64,
    /// What is the case: WW_READABLE, WW_WRITABLE, WW_HANGUP, WW_ERROR, WW_TIMER, WW_ENDED, or several of them.
    pub ready: u32,
    /// For a child: how it ended, as waitpid() gives it; -1 if it has been reaped by now, or is no child of this process.
    pub status: c_int,
}

impl From<WaitSetEvent> for ww_waitset_event {
    fn from(event: WaitSetEvent) -> ww_waitset_event {
        ww_waitset_event {
            token: event.token,
            expirations: event.expirations,
            ready: event.readiness.bits(),
            status: event.status.map_or(-1, ExitStatusExt::into_raw),
        }
    }
}

fn interest(bits: u32) -> wigwag::Result<Interest> {
    Interest::from_bits(bits).ok_or_else(|| invalid("interest", "an interest is WW_READABLE, WW_WRITABLE, both or 0"))
}

fn duration(nanos: i64, what: &'static str) -> wigwag::Result<Duration> {
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| invalid(what, "a time in nanoseconds from 0"))
}

fn times(first_ns: i64, period_ns: i64) -> wigwag::Result<(Duration, Option<Duration>)> {
    let period = duration(period_ns, "period_ns")?;
    Ok((duration(first_ns, "first_ns")?, Some(period).filter(|period| !period.is_zero())))
}

/// Makes an empty set; close it with ww_waitset_close(). Never blocks.
///
/// Errors: -EMFILE, -ENFILE no descriptor is left; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_waitset_new(out: *mut *mut ww_waitset) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_waitset(WaitSet::new()?))
    })
}

/// Closes the set; threads that wait on it return -ECANCELED first. What is in it stays open. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_waitset_close(set: *mut ww_waitset) {
    // SAFETY: as above.
    unsafe { close(set, |set| set.0.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_waitset_end_waits(set: *const ww_waitset) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(set, "waitset")?.0.end_waits();
        Ok(())
    })
}

/// Adds a descriptor, such as that of any ww_..._fd(), for WW_READABLE, WW_WRITABLE, both, or 0: WW_HANGUP and WW_ERROR
/// are reported in any case. Never blocks; waits in progress take it into account at once.
///
/// Errors: -EEXIST the token or the descriptor is in the set already; -EPERM the kernel cannot poll it, being a regular
/// file or a directory; -EBADF it is not open; -EINVAL the interest, or the set itself; -ELOOP a set that contains this
/// one; -ENOSPC the user's limit fs.epoll.max_user_watches is reached; -ENOTSUP made before a fork; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_waitset_add_fd(set: *const ww_waitset, fd: c_int, interest: u32, token: u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(set, "waitset")?.0.add(&borrow(fd, "waitset")?, self::interest(interest)?, token) })
}

/// Adds a timer that expires first_ns from now and then every period_ns, or once if that is 0, on the monotonic clock.
/// Never blocks.
///
/// A wait that comes late reports all expirations with one event. A timer without a period stays in the set, at rest;
/// ww_waitset_change_timer() starts it again. Errors: -EEXIST the token is in the set already; -EINVAL a negative time;
/// -EMFILE, -ENFILE no descriptor is left; -ENOSPC, -ENOTSUP as ww_waitset_add_fd(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_waitset_add_timer(
    set: *const ww_waitset,
    first_ns: i64,
    period_ns: i64,
    token: u64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let (first, period) = times(first_ns, period_ns)?;
        object(set, "waitset")?.0.add_timer(first, period, token)
    })
}

/// Adds the end of the child pid; one that has ended already is reported at once. Never blocks.
///
/// The child is not reaped: that stays with whoever started it, before or after. It is reported by every wait until it is
/// removed. Where the kernel or a sandbox has no pidfd, a helper thread waits for each child; ww_paths() says which way
/// is used. Errors: -ESRCH no such process; -ECHILD not a child of this process, and there is no pidfd; -EINVAL not the
/// pid of a process; -ENOMEM no helper thread can be had; -EEXIST the token is in the set already; -EMFILE, -ENFILE,
/// -ENOSPC, -ENOTSUP as ww_waitset_add_timer(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_waitset_add_child(set: *const ww_waitset, pid: libc::pid_t, token: u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(set, "waitset")?.0.add_child(pid, token) })
}

/// Changes what a descriptor is watched for; see ww_waitset_add_fd(). Never blocks.
///
/// Errors: -ENOENT no entry has the token; -EINVAL it is a timer or a child, or the interest; -EBADF its descriptor was
/// closed while it was in the set; -ENOTSUP made before a fork; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_waitset_change(set: *const ww_waitset, token: u64, interest: u32) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(set, "waitset")?.0.change(token, self::interest(interest)?) })
}

/// Starts a timer anew, with other times, and forgets expirations that were not reported. Never blocks.
///
/// Errors: -ENOENT no entry has the token; -EINVAL it is not a timer, or a negative time; -ENOTSUP made before a fork;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_waitset_change_timer(
    set: *const ww_waitset,
    token: u64,
    first_ns: i64,
    period_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let (first, period) = times(first_ns, period_ns)?;
        object(set, "waitset")?.0.change_timer(token, first, period)
    })
}

/// Removes an entry. Never blocks but for the moment that a child's helper thread needs to end. An event of the entry
/// that another thread has just received may still be on its way there.
///
/// Errors: -ENOENT no entry has the token; -EBADF the entry is removed, but its descriptor was closed while it was in
/// the set; -ENOTSUP made before a fork; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_waitset_remove(set: *const ww_waitset, token: u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(set, "waitset")?.0.remove(token) })
}

/// Waits until at least one entry has something to say, writes at most capacity events (and at most WW_WAITSET_BATCH),
/// and returns how many. What does not fit comes first the next time.
///
/// Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; -EINVAL capacity is 0; -EBADF a descriptor was closed before it was removed,
/// while a duplicate (in a forked child, say) stays open and keeps it reported; -ENOTSUP made before a fork; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_waitset_wait(
    set: *const ww_waitset,
    events: *mut ww_waitset_event,
    capacity: usize,
    timeout_ns: i64,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let set = &object(set, "waitset")?.0;
        if capacity != 0 {
            expect_out(events)?;
        }
        // A large array is cleared only for those who ask for many.
        match capacity {
            0..=FEW => wait::<FEW>(set, events, capacity, timeout_ns),
            _ => wait::<WW_WAITSET_BATCH>(set, events, capacity, timeout_ns),
        }
    })
}

const FEW: usize = 16;

/// # Safety
/// `events` has room for `capacity` events.
unsafe fn wait<const MOST: usize>(
    set: &WaitSet,
    events: *mut ww_waitset_event,
    capacity: usize,
    timeout_ns: i64,
) -> wigwag::Result<usize> {
    let mut found = [WaitSetEvent::default(); MOST];
    let room = found.get_mut(..capacity.min(MOST)).unwrap_or_default();
    let count = set.wait(room, timeout(timeout_ns)?)?;
    for (n, event) in found.iter().take(count).enumerate() {
        // SAFETY: no more than `capacity` events are found.
        unsafe { events.add(n).write((*event).into()) };
    }
    Ok(count)
}

/// The set's own descriptor, to poll or to add to another set: readable while an entry has something to say.
/// Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_waitset_fd(set: *const ww_waitset) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(set, "waitset")?.0.as_fd().as_raw_fd()) })
}
