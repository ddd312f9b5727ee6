//! Permits: a counting semaphore whose permits have owners, in shared memory.

use std::ffi::{c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};

use libc::ssize_t;
use wigwag::{Permits, PermitsOptions, Result};

use crate::boundary::{
    Options, address, adopt, borrow, call, close, expect_out, flag, give, invalid, object, options, put, timeout,
};
use crate::segment::wait_mode;
use crate::sync::{place, put_participants, ww_sync_participant};

/// Permits (permits:name): a counting semaphore whose permits come back when their holder dies or closes its handle.
/// They belong to the handle that has taken them, whichever of its threads did.
///
/// May be shared between threads. A child made by fork joins as itself when it first uses the handle (-EUSERS, -EMFILE,
/// -ENFILE if it cannot), and holds nothing of its parent's.
pub struct ww_permits(Permits);

/// How a set of permits is opened or made; initialise with WW_PERMITS_OPTIONS_INIT. All but wait count when they are
/// made. Zero means what the address says, or else the default.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_permits_options {
    pub size: usize,
    /// How many permits there are, at most 16383; 0 for 1.
    pub count: u32,
    /// 1: first come, first served, whoever comes later waits for those who wait already; 0: not.
    pub fair: u32,
    /// How many handles may be open at the same time, at most 256; 0 for 64.
    pub participants: u32,
    /// Permissions of the file; 0 for 0600.
    pub mode: u32,
    /// WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL.
    pub wait: u32,
    pub reserved: u32,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_permits_options {}

/// # Safety
/// `given` is NULL or points to a struct of the size that its first member tells.
unsafe fn permits_options(given: *const ww_permits_options) -> Result<PermitsOptions> {
    const NOUN: &str = "ww_permits_options";
    // SAFETY: as the caller promises.
    let given = unsafe { options(given, NOUN) }?;
    if given.reserved != 0 {
        return Err(invalid(NOUN, "the reserved member must be 0"));
    }
    Ok(PermitsOptions {
        count: given.count,
        fair: flag(given.fair as c_int, "ww_permits_options.fair")?,
        participants: given.participants,
        mode: given.mode,
        wait: wait_mode(given.wait, NOUN)?,
    })
}

/// Opens the set of permits of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one
/// with a slash is a path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_permits_close().
///
/// Errors: -EINVAL the address, or options that do not fit together; -ENOSPC the memory is not free; -EACCES the
/// directory is somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -EBUSY others make
/// and remove it all the time; -ELOOP a symbolic link; -ENOTSUP the file system cannot make files without a name (a
/// tmpfs can); -EBADMSG there is something else under that name, or it is damaged; -EPROTO it was made by an
/// incompatible version; -EUSERS it has no room for another participant; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_permits_open(
    out: *mut *mut ww_permits,
    address: *const c_char,
    options: *const ww_permits_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_permits(Permits::open(&self::address(address)?, permits_options(options)?)?))
    })
}

/// Makes a set of permits without a name, for children made by fork, and for others by its descriptor. Never blocks.
///
/// Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_permits_anonymous(out: *mut *mut ww_permits, options: *const ww_permits_options) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_permits(Permits::anonymous(permits_options(options)?)?))
    })
}

/// Joins the set of permits whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor
/// and closes fd; after an error fd stays the caller's. Never blocks.
///
/// Errors: -EBADMSG it is something else, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_permits_from_fd(
    out: *mut *mut ww_permits,
    fd: c_int,
    options: *const ww_permits_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = permits_options(options)?;
        give(out, ww_permits(adopt(fd, "set of permits", |fd| Permits::from_fd(fd, options))?))
    })
}

/// Joins the set of permits in a range of memory that the caller brought, or makes it there: see ww_mutex_place().
/// Blocking and errors: as there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_permits_place(
    out: *mut *mut ww_permits,
    fd: c_int,
    offset: u64,
    size: usize,
    options: *const ww_permits_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = permits_options(options)?;
        give(out, ww_permits(Permits::place(borrow(fd, "set of permits")?, place(offset, size), options)?))
    })
}

/// How many bytes a set of permits with these options takes in memory that the caller brings. Never blocks.
///
/// Errors: -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_permits_placed_size_for(options: *const ww_permits_options) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Permits::placed_size_for(&permits_options(options)?) })
}

/// Closes the handle; threads that wait on it return -ECANCELED first. What it holds comes back. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_permits_close(permits: *mut ww_permits) {
    // SAFETY: as above.
    unsafe { close(permits, |permits| permits.0.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_permits_end_waits(permits: *const ww_permits) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(permits, "set of permits")?.0.end_waits();
        Ok(())
    })
}

/// Removes the name of a set of permits; those who have it open keep it. Never blocks.
///
/// Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_permits_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Permits::remove(&self::address(address)?) })
}

/// How many bytes of memory a set of permits with these options takes, all in all. Never blocks. Errors: -EINVAL,
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_permits_size_for(options: *const ww_permits_options) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Permits::size_for(&permits_options(options)?) })
}

/// Whether the name or place still stands for this set of permits. Never blocks. Errors: -ESTALE it was removed; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_permits_check(permits: *const ww_permits) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(permits, "set of permits")?.0.check() })
}

/// The segment's descriptor, to pass on for ww_permits_from_fd(); not for polling. It stays the handle's. Never
/// blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_permits_segment_fd(permits: *const ww_permits) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(permits, "set of permits")?.0.as_fd().as_raw_fd()) })
}

/// Takes so many permits, all at once; waits until they can be had.
///
/// Errors: -EINVAL none, or more than there are, or the timeout; -EAGAIN, -ETIMEDOUT, -ECANCELED; -ENOSPC first come
/// is first served, and more threads wait than there is room for; -ESTALE this handle was declared dead because its
/// lock was closed: open the permits anew; -EBADMSG they are damaged; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_permits_acquire(permits: *const ww_permits, count: u32, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(permits, "set of permits")?.0.take(count, timeout(timeout_ns)?) })
}

/// Gives back so many of the permits that this handle holds. Never blocks.
///
/// Errors: -EPERM it does not hold as many; -ESTALE it was declared dead, and they are back; -EBADMSG; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_permits_release(permits: *const ww_permits, count: u32) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(permits, "set of permits")?.0.release(count) })
}

/// How many can be had now. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_permits_available(permits: *const ww_permits) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(permits, "set of permits")?.0.available() as c_int) })
}

/// A descriptor that is readable while a permit can be had; a ww_permits_acquire() without waiting that fails quiets
/// it: for poll, a wait set, an event loop. It stays the handle's; a child made by fork asks for its own. From the
/// first call on it costs a helper thread that sleeps in the kernel. Never blocks.
///
/// Errors: -EMFILE, -ENFILE no descriptor is left; -ENOMEM no thread can be had; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_permits_fd(permits: *const ww_permits) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(permits, "set of permits")?.0.doorbell()?.as_raw_fd()) })
}

/// Where permits are.
#[repr(C)]
pub struct ww_permits_statistics {
    /// How many there are, and how many can be had.
    pub total: u32,

    pub available: u32,
    /// 1: first come, first served.
    pub fair: u32,
    /// 0.
    pub unused: u32,
    /// All memory, in bytes.
    pub bytes: usize,
    /// How many handles take part.
    pub participants: usize,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 4],
}

/// Tells what is known of the permits, and in participants, if it is not NULL, who takes part: at most so many as
/// there is room for; statistics->participants is how many there are. Never blocks.
///
/// Errors: -EBADMSG the set of permits is damaged; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_permits_get_statistics(
    permits: *const ww_permits,
    statistics: *mut ww_permits_statistics,
    participants: *mut ww_sync_participant,
    room: usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(statistics)?;
        let seen = object(permits, "set of permits")?.0.statistics()?;
        put_participants(participants, room, &seen.participants);
        let told = ww_permits_statistics {
            total: seen.total,
            available: seen.available,
            fair: seen.fair.into(),
            unused: 0,
            bytes: seen.bytes,
            participants: seen.participants.len(),
            reserved: [0; 4],
        };
        put(statistics, told, "statistics")
    })
}
