//! Event: something that has happened, or not, in shared memory.

use std::ffi::{c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};

use libc::ssize_t;
use wigwag::{Event, EventOptions, Result};

use crate::boundary::{
    Options, address, adopt, borrow, call, close, expect_out, flag, give, object, options, put, timeout,
};
use crate::segment::wait_mode;
use crate::sync::{place, put_participants, ww_sync_participant};

/// An event (event:name): a flag that processes set, take back and wait for. It has no owner: a death changes nothing.
///
/// May be shared between threads. A child made by fork joins as itself when it first uses the handle (-EUSERS, -EMFILE,
/// -ENFILE if it cannot).
pub struct ww_event(Event);

/// How an event is opened or made; initialise with WW_EVENT_OPTIONS_INIT. All but wait count when it is made. Zero
/// means what the address says, or else the default.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_event_options {
    pub size: usize,
    /// 1: one wait that succeeds takes the event back, so that each time it is set lets one through; 0: it stays.
    pub auto_reset: u32,
    /// How many handles may be open at the same time, at most 256; 0 for 64.
    pub participants: u32,
    /// Permissions of the file; 0 for 0600.
    pub mode: u32,
    /// WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL.
    pub wait: u32,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_event_options {}

/// # Safety
/// `given` is NULL or points to a struct of the size that its first member tells.
unsafe fn event_options(given: *const ww_event_options) -> Result<EventOptions> {
    const NOUN: &str = "ww_event_options";
    // SAFETY: as the caller promises.
    let given = unsafe { options(given, NOUN) }?;
    Ok(EventOptions {
        auto_reset: flag(given.auto_reset as c_int, "ww_event_options.auto_reset")?,
        participants: given.participants,
        mode: given.mode,
        wait: wait_mode(given.wait, NOUN)?,
    })
}

/// Opens the event of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one with a
/// slash is a path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_event_close().
///
/// Errors: -EINVAL the address, or options that do not fit together; -ENOSPC the memory is not free; -EACCES the
/// directory is somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -EBUSY others make
/// and remove it all the time; -ELOOP a symbolic link; -ENOTSUP the file system cannot make files without a name (a
/// tmpfs can); -EBADMSG there is something else under that name, or it is damaged; -EPROTO it was made by an
/// incompatible version; -EUSERS it has no room for another participant; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_event_open(
    out: *mut *mut ww_event,
    address: *const c_char,
    options: *const ww_event_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_event(Event::open(&self::address(address)?, event_options(options)?)?))
    })
}

/// Makes an event without a name, for children made by fork, and for others by its descriptor. Never blocks.
///
/// Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_event_anonymous(out: *mut *mut ww_event, options: *const ww_event_options) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_event(Event::anonymous(event_options(options)?)?))
    })
}

/// Joins the event whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor and closes
/// fd; after an error fd stays the caller's. Never blocks.
///
/// Errors: -EBADMSG it is something else, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_event_from_fd(
    out: *mut *mut ww_event,
    fd: c_int,
    options: *const ww_event_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = event_options(options)?;
        give(out, ww_event(adopt(fd, "event", |fd| Event::from_fd(fd, options))?))
    })
}

/// Joins the event in a range of memory that the caller brought, or makes it there: see ww_mutex_place(). Blocking and
/// errors: as there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_event_place(
    out: *mut *mut ww_event,
    fd: c_int,
    offset: u64,
    size: usize,
    options: *const ww_event_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = event_options(options)?;
        give(out, ww_event(Event::place(borrow(fd, "event")?, place(offset, size), options)?))
    })
}

/// How many bytes an event with these options takes in memory that the caller brings. Never blocks.
///
/// Errors: -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_event_placed_size_for(options: *const ww_event_options) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Event::placed_size_for(&event_options(options)?) })
}

/// Closes the handle; threads that wait on it return -ECANCELED first. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_event_close(event: *mut ww_event) {
    // SAFETY: as above.
    unsafe { close(event, |event| event.0.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_event_end_waits(event: *const ww_event) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(event, "event")?.0.end_waits();
        Ok(())
    })
}

/// Removes the name of an event; those who have it open keep it. Never blocks.
///
/// Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_event_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Event::remove(&self::address(address)?) })
}

/// How many bytes of memory an event with these options takes, all in all. Never blocks. Errors: -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_event_size_for(options: *const ww_event_options) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Event::size_for(&event_options(options)?) })
}

/// Whether the name or place still stands for this event. Never blocks. Errors: -ESTALE it was removed; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_event_check(event: *const ww_event) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(event, "event")?.0.check() })
}

/// The segment's descriptor, to pass on for ww_event_from_fd(); not for polling. It stays the handle's. Never blocks.
/// Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_event_segment_fd(event: *const ww_event) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(event, "event")?.0.as_fd().as_raw_fd()) })
}

/// Sets it, and wakes those who wait; 1 if it was not set before, else 0. Never blocks.
///
/// Errors: -ESTALE this handle was declared dead because its lock was closed: open the event anew; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_event_set(event: *const ww_event) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(event, "event")?.0.set().map(c_int::from) })
}

/// Takes it back; 1 if it was set, else 0. Never blocks. Errors: as ww_event_set().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_event_clear(event: *const ww_event) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(event, "event")?.0.clear().map(c_int::from) })
}

/// Whether it is set, 1 or 0. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_event_is_set(event: *const ww_event) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(c_int::from(object(event, "event")?.0.is_set())) })
}

/// Waits until it is set, or was set since the call began.
///
/// Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; -ESTALE as ww_event_set(); -EINVAL the timeout; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_event_wait(event: *const ww_event, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(event, "event")?.0.wait(timeout(timeout_ns)?) })
}

/// A descriptor that is readable while it is set; a ww_event_wait() that finds it not set quiets it: for poll, a wait
/// set, an event loop. It stays the handle's; a child made by fork asks for its own. From the first call on it costs a
/// helper thread that sleeps in the kernel. Never blocks.
///
/// Errors: -EMFILE, -ENFILE no descriptor is left; -ENOMEM no thread can be had; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_event_fd(event: *const ww_event) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(event, "event")?.0.doorbell()?.as_raw_fd()) })
}

/// What an event has seen.
#[repr(C)]
pub struct ww_event_statistics {
    /// How often it was set while it was not.
    pub times: u64,
    /// 1 or 0.
    pub is_set: u32,

    pub auto_reset: u32,
    /// All memory, in bytes.
    pub bytes: usize,
    /// How many handles take part.
    pub participants: usize,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 4],
}

/// Tells what the event has seen, and in participants, if it is not NULL, who takes part: at most so many as there is
/// room for; statistics->participants is how many there are. Never blocks.
///
/// Errors: -EBADMSG the event is damaged; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_event_get_statistics(
    event: *const ww_event,
    statistics: *mut ww_event_statistics,
    participants: *mut ww_sync_participant,
    room: usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(statistics)?;
        let seen = object(event, "event")?.0.statistics()?;
        put_participants(participants, room, &seen.participants);
        let told = ww_event_statistics {
            times: seen.times,
            is_set: seen.is_set.into(),
            auto_reset: seen.auto_reset.into(),
            bytes: seen.bytes,
            participants: seen.participants.len(),
            reserved: [0; 4],
        };
        put(statistics, told, "statistics")
    })
}
