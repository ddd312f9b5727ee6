//! Read-write lock: for many readers or one writer, in shared memory.

use std::ffi::{c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};

use libc::ssize_t;
use wigwag::{Result, RwLock, RwLockOptions};

use crate::boundary::{
    Options, address, adopt, borrow, call, close, expect_out, give, invalid, object, options, put, timeout,
};
use crate::segment::wait_mode;
use crate::sync::{inherited, lock_state, place, put_participants, ww_sync_participant};

/// A lock (rwlock:name) that many may hold for reading, or one for writing. A reader's death leaves nothing behind;
/// whoever comes after a writer that died is told. A writer that waits keeps new readers out, and waits for all
/// readers, those of its own handle too: a thread that reads must neither read again nor write, or it waits for itself; no
/// -EDEADLK tells of that. Read locks belong to the handle, the lock for writing to the thread.
///
/// May be shared between threads. A child made by fork joins as itself when it first uses the handle (-EUSERS, -EMFILE,
/// -ENFILE if it cannot), and holds nothing of its parent's.
pub struct ww_rwlock(RwLock);

/// How a read-write lock is opened or made; initialise with WW_RWLOCK_OPTIONS_INIT. All but wait count when it is
/// made. Zero means what the address says, or else the default.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_rwlock_options {
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
unsafe impl Options for ww_rwlock_options {}

/// # Safety
/// `given` is NULL or points to a struct of the size that its first member tells.
unsafe fn rwlock_options(given: *const ww_rwlock_options) -> Result<RwLockOptions> {
    const NOUN: &str = "ww_rwlock_options";
    // SAFETY: as the caller promises.
    let given = unsafe { options(given, NOUN) }?;
    if given.reserved != 0 {
        return Err(invalid(NOUN, "the reserved member must be 0"));
    }
    Ok(RwLockOptions { participants: given.participants, mode: given.mode, wait: wait_mode(given.wait, NOUN)? })
}

/// Opens the read-write lock of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one
/// with a slash is a path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_rwlock_close().
///
/// Errors: -EINVAL the address, or options that do not fit together; -ENOSPC the memory is not free; -EACCES the
/// directory is somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -EBUSY others make
/// and remove it all the time; -ELOOP a symbolic link; -ENOTSUP the file system cannot make files without a name (a
/// tmpfs can); -EBADMSG there is something else under that name, or it is damaged; -EPROTO it was made by an
/// incompatible version; -EUSERS it has no room for another participant; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_open(
    out: *mut *mut ww_rwlock,
    address: *const c_char,
    options: *const ww_rwlock_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_rwlock(RwLock::open(&self::address(address)?, rwlock_options(options)?)?))
    })
}

/// Makes a read-write lock without a name, for children made by fork, and for others by its descriptor. Never blocks.
///
/// Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_anonymous(out: *mut *mut ww_rwlock, options: *const ww_rwlock_options) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_rwlock(RwLock::anonymous(rwlock_options(options)?)?))
    })
}

/// Joins the read-write lock whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor
/// and closes fd; after an error fd stays the caller's. Never blocks.
///
/// Errors: -EBADMSG it is something else, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_from_fd(
    out: *mut *mut ww_rwlock,
    fd: c_int,
    options: *const ww_rwlock_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = rwlock_options(options)?;
        give(out, ww_rwlock(adopt(fd, "read-write lock", |fd| RwLock::from_fd(fd, options))?))
    })
}

/// Joins the read-write lock in a range of memory that the caller brought, or makes it there: see ww_mutex_place().
/// Blocking and errors: as there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_place(
    out: *mut *mut ww_rwlock,
    fd: c_int,
    offset: u64,
    size: usize,
    options: *const ww_rwlock_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = rwlock_options(options)?;
        give(out, ww_rwlock(RwLock::place(borrow(fd, "read-write lock")?, place(offset, size), options)?))
    })
}

/// How many bytes a read-write lock with these options takes in memory that the caller brings. Never blocks.
///
/// Errors: -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_placed_size_for(options: *const ww_rwlock_options) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { RwLock::placed_size_for(&rwlock_options(options)?) })
}

/// Closes the handle; threads that wait on it return -ECANCELED first. Read locks end; if a thread writes by this
/// handle, the lock passes on as from the dead. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_close(rwlock: *mut ww_rwlock) {
    // SAFETY: as above.
    unsafe { close(rwlock, |rwlock| rwlock.0.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_end_waits(rwlock: *const ww_rwlock) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(rwlock, "read-write lock")?.0.end_waits();
        Ok(())
    })
}

/// Removes the name of a read-write lock; those who have it open keep it. Never blocks.
///
/// Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { RwLock::remove(&self::address(address)?) })
}

/// How many bytes of memory a read-write lock with these options takes, all in all. Never blocks. Errors: -EINVAL,
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_size_for(options: *const ww_rwlock_options) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { RwLock::size_for(&rwlock_options(options)?) })
}

/// Whether the name or place still stands for this read-write lock. Never blocks. Errors: -ESTALE it was removed;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_check(rwlock: *const ww_rwlock) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(rwlock, "read-write lock")?.0.check() })
}

/// The segment's descriptor, to pass on for ww_rwlock_from_fd(); not for polling. It stays the handle's. Never blocks.
/// Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_segment_fd(rwlock: *const ww_rwlock) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(rwlock, "read-write lock")?.0.as_fd().as_raw_fd()) })
}

/// Takes the lock for reading; waits while somebody writes or waits to write. Returns 0, or WW_INHERITED if a writer
/// died and no other has said since that all is well.
///
/// Errors: -EDEADLK this thread writes; -ENOTRECOVERABLE it was given up for good; -EAGAIN, -ETIMEDOUT, -ECANCELED;
/// -ESTALE this handle was declared dead because its lock was closed: open the lock anew; -EBADMSG it is damaged;
/// -EINVAL the timeout; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_lock_read(rwlock: *const ww_rwlock, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(inherited(object(rwlock, "read-write lock")?.0.take_read(timeout(timeout_ns)?)?)) })
}

/// Releases one read lock of this handle. Never blocks.
///
/// Errors: -EPERM it has none; -ESTALE it was declared dead; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_unlock_read(rwlock: *const ww_rwlock) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(rwlock, "read-write lock")?.0.release_read() })
}

/// Takes the lock for writing; waits while others read or write. Returns 0, or WW_INHERITED as ww_rwlock_lock_read().
///
/// Errors: as ww_rwlock_lock_read(); -EDEADLK this thread writes already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_lock_write(rwlock: *const ww_rwlock, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(inherited(object(rwlock, "read-write lock")?.0.take_write(timeout(timeout_ns)?)?)) })
}

/// Ends writing. Never blocks.
///
/// Errors: -EPERM this thread does not write; -ESTALE this handle was declared dead, and the lock passed on; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_unlock_write(rwlock: *const ww_rwlock) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(rwlock, "read-write lock")?.0.release_write() })
}

/// Has the writer say that what an inherited lock guards is consistent again. Never blocks.
///
/// Errors: -EINVAL it was not inherited; -EPERM, -ESTALE as ww_rwlock_unlock_write(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_consistent(rwlock: *const ww_rwlock) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(rwlock, "read-write lock")?.0.consistent() })
}

/// Has the writer give the lock up for good: all who wait for it or come later get -ENOTRECOVERABLE. Never blocks.
///
/// Errors: -EPERM, -ESTALE as ww_rwlock_unlock_write(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_give_up(rwlock: *const ww_rwlock) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(rwlock, "read-write lock")?.0.give_up() })
}

/// A descriptor that is readable while it could be taken for reading; a ww_rwlock_lock_read() without waiting that fails
/// quiets it: for poll, a wait set, an event loop. It stays the handle's; a child made by fork asks for its own. From
/// the first call on it costs a helper thread that sleeps in the kernel. Never blocks.
///
/// Errors: -EMFILE, -ENFILE no descriptor is left; -ENOMEM no thread can be had; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_fd(rwlock: *const ww_rwlock) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(rwlock, "read-write lock")?.0.doorbell()?.as_raw_fd()) })
}

/// Who uses a read-write lock.
#[repr(C)]
pub struct ww_rwlock_statistics {
    /// Read locks.
    pub readers: u64,
    /// WW_LOCK_FREE and so on: whether somebody writes, or is about to.
    pub writer: u32,
    /// The thread that writes, by its number in its pid namespace; 0: none does.
    pub thread: u32,
    /// All memory, in bytes.
    pub bytes: usize,
    /// How many handles take part.
    pub participants: usize,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 4],
}

/// Tells what is known of the lock, and in participants, if it is not NULL, who takes part: at most so many as there
/// is room for; statistics->participants is how many there are. Never blocks.
///
/// Errors: -EBADMSG the read-write lock is damaged; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_rwlock_get_statistics(
    rwlock: *const ww_rwlock,
    statistics: *mut ww_rwlock_statistics,
    participants: *mut ww_sync_participant,
    room: usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(statistics)?;
        let seen = object(rwlock, "read-write lock")?.0.statistics()?;
        put_participants(participants, room, &seen.participants);
        let told = ww_rwlock_statistics {
            readers: seen.readers,
            writer: lock_state(seen.writer),
            thread: seen.thread.unwrap_or(0),
            bytes: seen.bytes,
            participants: seen.participants.len(),
            reserved: [0; 4],
        };
        put(statistics, told, "statistics")
    })
}
