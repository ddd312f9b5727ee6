//! Condition: waiting under a mutex until another changes something, in shared memory.

use std::ffi::{c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};

use libc::ssize_t;
use wigwag::{Condition, ConditionOptions, Error, Result};

use crate::boundary::{
    Options, address, adopt, borrow, call, close, expect_out, give, invalid, object, options, put, timeout,
};
use crate::mutex::ww_mutex;
use crate::segment::wait_mode;
use crate::sync::{self, place, put_participants, ww_sync_participant};

/// A condition (condition:name): waiting under a ww_mutex until somebody else, of any process, has changed what it
/// guards and notifies.
///
/// May be shared between threads. A child made by fork joins as itself when it first uses the handle (-EUSERS, -EMFILE,
/// -ENFILE if it cannot).
pub struct ww_condition(Condition);

/// How a condition is opened or made; initialise with WW_CONDITION_OPTIONS_INIT. All but wait count when it is made.
/// Zero means what the address says, or else the default.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_condition_options {
    pub size: usize,
    /// How many handles may be open at the same time, at most 256; 0 for 64.
    pub participants: u32,
    /// Permissions of the file; 0 for 0600.
    pub mode: u32,
    /// WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL.
    pub wait: u32,
    pub reserved: u32,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_condition_options {}

/// # Safety
/// `given` is NULL or points to a struct of the size that its first member tells.
unsafe fn condition_options(given: *const ww_condition_options) -> Result<ConditionOptions> {
    const NOUN: &str = "ww_condition_options";
    // SAFETY: as the caller promises.
    let given = unsafe { options(given, NOUN) }?;
    if given.reserved != 0 {
        return Err(invalid(NOUN, "the reserved member must be 0"));
    }
    Ok(ConditionOptions { participants: given.participants, mode: given.mode, wait: wait_mode(given.wait, NOUN)? })
}

/// Opens the condition of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one with a
/// slash is a path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_condition_close().
///
/// Errors: -EINVAL the address, or options that do not fit together; -ENOSPC the memory is not free; -EACCES the
/// directory is somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -EBUSY others make
/// and remove it all the time; -ELOOP a symbolic link; -ENOTSUP the file system cannot make files without a name (a
/// tmpfs can); -EBADMSG there is something else under that name, or it is damaged; -EPROTO it was made by an
/// incompatible version; -EUSERS it has no room for another participant; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_condition_open(
    out: *mut *mut ww_condition,
    address: *const c_char,
    options: *const ww_condition_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_condition(Condition::open(&self::address(address)?, condition_options(options)?)?))
    })
}

/// Makes a condition without a name, for children made by fork, and for others by its descriptor. Never blocks.
///
/// Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_condition_anonymous(
    out: *mut *mut ww_condition,
    options: *const ww_condition_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_condition(Condition::anonymous(condition_options(options)?)?))
    })
}

/// Joins the condition whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor and
/// closes fd; after an error fd stays the caller's. Never blocks.
///
/// Errors: -EBADMSG it is something else, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_condition_from_fd(
    out: *mut *mut ww_condition,
    fd: c_int,
    options: *const ww_condition_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = condition_options(options)?;
        give(out, ww_condition(adopt(fd, "condition", |fd| Condition::from_fd(fd, options))?))
    })
}

/// Joins the condition in a range of memory that the caller brought, or makes it there: see ww_mutex_place(). Blocking
/// and errors: as there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_condition_place(
    out: *mut *mut ww_condition,
    fd: c_int,
    offset: u64,
    size: usize,
    options: *const ww_condition_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = condition_options(options)?;
        give(out, ww_condition(Condition::place(borrow(fd, "condition")?, place(offset, size), options)?))
    })
}

/// How many bytes a condition with these options takes in memory that the caller brings. Never blocks.
///
/// Errors: -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_condition_placed_size_for(options: *const ww_condition_options) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Condition::placed_size_for(&condition_options(options)?) })
}

/// Closes the handle; threads that wait on it return -ECANCELED first. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_condition_close(condition: *mut ww_condition) {
    // SAFETY: as above.
    unsafe { close(condition, |condition| condition.0.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_condition_end_waits(condition: *const ww_condition) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(condition, "condition")?.0.end_waits();
        Ok(())
    })
}

/// Removes the name of a condition; those who have it open keep it. Never blocks.
///
/// Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_condition_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Condition::remove(&self::address(address)?) })
}

/// How many bytes of memory a condition with these options takes, all in all. Never blocks. Errors: -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_condition_size_for(options: *const ww_condition_options) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Condition::size_for(&condition_options(options)?) })
}

/// Whether the name or place still stands for this condition. Never blocks. Errors: -ESTALE it was removed; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_condition_check(condition: *const ww_condition) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(condition, "condition")?.0.check() })
}

/// The segment's descriptor, to pass on for ww_condition_from_fd(); not for polling. It stays the handle's. Never
/// blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_condition_segment_fd(condition: *const ww_condition) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(condition, "condition")?.0.as_fd().as_raw_fd()) })
}

/// Releases the mutex, which this thread holds, waits to be notified, and takes it again, which may take as long as
/// the timeout, and at least a second, once more. Returns 0, or WW_INHERITED if the mutex was taken over from the dead
/// meanwhile, as ww_mutex_lock(), however the wait has ended. A wait can end without a notification, after somebody died at
/// the latest: look whether what was waited for is so, and else wait again.
///
/// The mutex is held again after 0 and WW_INHERITED, after -ETIMEDOUT and -EAGAIN, by which the time has passed, and after
/// -ECANCELED. It is not held after the other errors: -ENOLCK it could not be had again in time, or, once a ww_cancel in whose
/// scope this is has fired, without waiting, or the mutex was closed, which ends the wait; -ENOTRECOVERABLE it was given
/// up for good; -ESTALE, -EBADMSG as ww_mutex_lock(), about the mutex. It is held still if these are about the condition:
/// ww_mutex_unlock() does right after both. With nothing done: -EPERM this thread does not hold it; -EINVAL the
/// timeout; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_condition_wait(
    condition: *const ww_condition,
    mutex: *const ww_mutex,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let (condition, mutex) = (object(condition, "condition")?, object(mutex, "mutex")?);
        let _waiting = mutex.elsewhere.begin();
        let (ended, inherited) = condition.0.wait_taken(&mutex.mutex, timeout(timeout_ns)?)?;
        // From here on the condition may be closed.
        if mutex.elsewhere.is_ended() {
            while mutex.mutex.release().is_ok() {} // so that it does not pass on as from the dead
            let error = Error::from_raw(libc::ENOLCK, "wait");
            return Err(error.because("the mutex was closed meanwhile; it is not held"));
        }
        if inherited { Ok(sync::inherited(true)) } else { ended.map(|()| 0) }
    })
}

/// Wakes one of those who wait. Never blocks. With or without the mutex held. After waits that have run out while others went
/// on, it may wake more than one.
///
/// Errors: -ESTALE this handle was declared dead because its lock was closed: open the condition anew; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_condition_notify_one(condition: *const ww_condition) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(condition, "condition")?.0.notify_one() })
}

/// Wakes all who wait. Never blocks. With or without the mutex held. Errors: as ww_condition_notify_one().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_condition_notify_all(condition: *const ww_condition) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(condition, "condition")?.0.notify_all() })
}

/// What a condition has seen.
#[repr(C)]
pub struct ww_condition_statistics {
    /// Notifications so far.
    pub notified: u64,
    /// All memory, in bytes.
    pub bytes: usize,
    /// How many handles take part.
    pub participants: usize,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 4],
}

/// Tells what the condition has seen, and in participants, if it is not NULL, who takes part: at most so many as there
/// is room for; statistics->participants is how many there are. Never blocks.
///
/// Errors: -EBADMSG the condition is damaged; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_condition_get_statistics(
    condition: *const ww_condition,
    statistics: *mut ww_condition_statistics,
    participants: *mut ww_sync_participant,
    room: usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(statistics)?;
        let seen = object(condition, "condition")?.0.statistics()?;
        put_participants(participants, room, &seen.participants);
        let told = ww_condition_statistics {
            notified: seen.notified,
            bytes: seen.bytes,
            participants: seen.participants.len(),
            reserved: [0; 4],
        };
        put(statistics, told, "statistics")
    })
}
