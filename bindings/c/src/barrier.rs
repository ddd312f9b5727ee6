//! Barrier: a meeting point, in shared memory.

use std::ffi::{c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};

use libc::ssize_t;
use wigwag::{Barrier, BarrierOptions, Result};

use crate::boundary::{Options, address, adopt, borrow, call, close, expect_out, give, object, options, put, timeout};
use crate::segment::wait_mode;
use crate::sync::{place, put_participants, ww_sync_participant};

/// A point (barrier:name) where a number of threads, of any processes, wait for each other. It breaks when a process
/// dies that has it open, arrived or not: all who wait then and later get -EOWNERDEAD until somebody resets it.
///
/// May be shared between threads. A child made by fork joins as itself when it first uses the handle (-EUSERS, -EMFILE,
/// -ENFILE if it cannot).
pub struct ww_barrier(Barrier);

/// How a barrier is opened or made; initialise with WW_BARRIER_OPTIONS_INIT. All but wait count when it is made. Zero
/// means what the address says, or else the default.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_barrier_options {
    pub size: usize,
    /// How many have to arrive before all go on, at most 32767; 0 for 2.
    pub parties: u32,
    /// How many handles may be open at the same time, at most 256; 0 for 64.
    pub participants: u32,
    /// Permissions of the file; 0 for 0600.
    pub mode: u32,
    /// WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL.
    pub wait: u32,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_barrier_options {}

/// # Safety
/// `given` is NULL or points to a struct of the size that its first member tells.
unsafe fn barrier_options(given: *const ww_barrier_options) -> Result<BarrierOptions> {
    const NOUN: &str = "ww_barrier_options";
    // SAFETY: as the caller promises.
    let given = unsafe { options(given, NOUN) }?;
    Ok(BarrierOptions {
        parties: given.parties,
        participants: given.participants,
        mode: given.mode,
        wait: wait_mode(given.wait, NOUN)?,
    })
}

/// Opens the barrier of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one with a
/// slash is a path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_barrier_close().
///
/// Errors: -EINVAL the address, or options that do not fit together; -ENOSPC the memory is not free; -EACCES the
/// directory is somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -EBUSY others make
/// and remove it all the time; -ELOOP a symbolic link; -ENOTSUP the file system cannot make files without a name (a
/// tmpfs can); -EBADMSG there is something else under that name, or it is damaged; -EPROTO it was made by an
/// incompatible version; -EUSERS it has no room for another participant; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_barrier_open(
    out: *mut *mut ww_barrier,
    address: *const c_char,
    options: *const ww_barrier_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_barrier(Barrier::open(&self::address(address)?, barrier_options(options)?)?))
    })
}

/// Makes a barrier without a name, for children made by fork, and for others by its descriptor. Never blocks.
///
/// Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_barrier_anonymous(out: *mut *mut ww_barrier, options: *const ww_barrier_options) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_barrier(Barrier::anonymous(barrier_options(options)?)?))
    })
}

/// Joins the barrier whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor and
/// closes fd; after an error fd stays the caller's. Never blocks.
///
/// Errors: -EBADMSG it is something else, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_barrier_from_fd(
    out: *mut *mut ww_barrier,
    fd: c_int,
    options: *const ww_barrier_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = barrier_options(options)?;
        give(out, ww_barrier(adopt(fd, "barrier", |fd| Barrier::from_fd(fd, options))?))
    })
}

/// Joins the barrier in a range of memory that the caller brought, or makes it there: see ww_mutex_place(). Blocking
/// and errors: as there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_barrier_place(
    out: *mut *mut ww_barrier,
    fd: c_int,
    offset: u64,
    size: usize,
    options: *const ww_barrier_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = barrier_options(options)?;
        give(out, ww_barrier(Barrier::place(borrow(fd, "barrier")?, place(offset, size), options)?))
    })
}

/// How many bytes a barrier with these options takes in memory that the caller brings. Never blocks.
///
/// Errors: -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_barrier_placed_size_for(options: *const ww_barrier_options) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Barrier::placed_size_for(&barrier_options(options)?) })
}

/// Closes the handle; threads that wait on it return -ECANCELED first. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_barrier_close(barrier: *mut ww_barrier) {
    // SAFETY: as above.
    unsafe { close(barrier, |barrier| barrier.0.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_barrier_end_waits(barrier: *const ww_barrier) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(barrier, "barrier")?.0.end_waits();
        Ok(())
    })
}

/// Removes the name of a barrier; those who have it open keep it. Never blocks.
///
/// Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_barrier_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Barrier::remove(&self::address(address)?) })
}

/// How many bytes of memory a barrier with these options takes, all in all. Never blocks. Errors: -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_barrier_size_for(options: *const ww_barrier_options) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Barrier::size_for(&barrier_options(options)?) })
}

/// Whether the name or place still stands for this barrier. Never blocks. Errors: -ESTALE it was removed; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_barrier_check(barrier: *const ww_barrier) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(barrier, "barrier")?.0.check() })
}

/// The segment's descriptor, to pass on for ww_barrier_from_fd(); not for polling. It stays the handle's. Never
/// blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_barrier_segment_fd(barrier: *const ww_barrier) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(barrier, "barrier")?.0.as_fd().as_raw_fd()) })
}

/// Arrives, and waits until all have. Returns 1 for the one that arrived last, else 0.
///
/// Errors: -EOWNERDEAD it is broken: somebody who had it open died, or it was broken or reset on purpose; -EAGAIN (not
/// all others have arrived), -ETIMEDOUT, -ECANCELED: the arrival is taken back; -ESTALE this handle was declared dead
/// because its lock was closed: open the barrier anew; -EBADMSG it is damaged; -EINVAL the timeout; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_barrier_wait(barrier: *const ww_barrier, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(barrier, "barrier")?.0.wait(timeout(timeout_ns)?).map(c_int::from) })
}

/// Breaks it on purpose: all who wait, and all who come until it is reset, get -EOWNERDEAD. Never blocks.
///
/// Errors: -ESTALE, -EBADMSG as ww_barrier_wait(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_barrier_break(barrier: *const ww_barrier) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(barrier, "barrier")?.0.break_off() })
}

/// Begins a new round, whether it was broken or not: who waits gets -EOWNERDEAD, who comes waits for all. Never
/// blocks.
///
/// Errors: -ESTALE, -EBADMSG as ww_barrier_wait(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_barrier_reset(barrier: *const ww_barrier) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(barrier, "barrier")?.0.reset() })
}

/// Who meets at a barrier.
#[repr(C)]
pub struct ww_barrier_statistics {
    /// How many have to arrive, and how many have, in this round.
    pub parties: u32,

    pub arrived: u32,
    /// Rounds so far, modulo 2^32.
    pub round: u32,
    /// 1 or 0.
    pub is_broken: u32,
    /// All memory, in bytes.
    pub bytes: usize,
    /// How many handles take part.
    pub participants: usize,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 4],
}

/// Tells what is known of the barrier, and in participants, if it is not NULL, who takes part: at most so many as
/// there is room for; statistics->participants is how many there are. Never blocks.
///
/// Errors: -EBADMSG the barrier is damaged; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_barrier_get_statistics(
    barrier: *const ww_barrier,
    statistics: *mut ww_barrier_statistics,
    participants: *mut ww_sync_participant,
    room: usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(statistics)?;
        let seen = object(barrier, "barrier")?.0.statistics()?;
        put_participants(participants, room, &seen.participants);
        let told = ww_barrier_statistics {
            parties: seen.parties,
            arrived: seen.arrived,
            round: seen.round,
            is_broken: seen.is_broken.into(),
            bytes: seen.bytes,
            participants: seen.participants.len(),
            reserved: [0; 4],
        };
        put(statistics, told, "statistics")
    })
}
