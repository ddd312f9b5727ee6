//! Mutex: a lock that knows its holder, in shared memory.

use std::ffi::{c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};

use libc::ssize_t;
use wigwag::{Mutex, MutexOptions, Result};

use crate::boundary::{
    Options, address, adopt, borrow, call, close, expect_out, flag, give, object, options, put, timeout,
};
use crate::calls::WaitsElsewhere;
use crate::segment::wait_mode;
use crate::sync::{inherited, lock_state, place, put_participants, ww_sync_participant};

/// A mutex (mutex:name): a lock that knows who holds it, down to the thread, and passes on to the next when that one
/// dies, or its thread ends.
///
/// May be shared between threads. A child made by fork joins as itself when it first uses the handle (-EUSERS, -EMFILE,
/// -ENFILE if it cannot), and holds nothing of its parent's.
pub struct ww_mutex {
    pub(crate) mutex: Mutex,
    /// Waits on a condition, under the mutex.
    pub(crate) elsewhere: WaitsElsewhere,
}

impl ww_mutex {
    fn new(mutex: Mutex) -> ww_mutex {
        ww_mutex { mutex, elsewhere: WaitsElsewhere::new() }
    }
}

/// How a mutex is opened or made; initialise with WW_MUTEX_OPTIONS_INIT. participants and mode count when it is made;
/// recursive and wait are the handle's own. Zero means what the address says, or else the default.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_mutex_options {
    pub size: usize,
    /// 1: the thread that holds it may take it again, and has to release it as often; 0: -EDEADLK.
    pub recursive: u32,
    /// How many handles may be open at the same time, at most 256; 0 for 64.
    pub participants: u32,
    /// Permissions of the file; 0 for 0600.
    pub mode: u32,
    /// WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL.
    pub wait: u32,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_mutex_options {}

/// # Safety
/// `given` is NULL or points to a struct of the size that its first member tells.
unsafe fn mutex_options(given: *const ww_mutex_options) -> Result<MutexOptions> {
    const NOUN: &str = "ww_mutex_options";
    // SAFETY: as the caller promises.
    let given = unsafe { options(given, NOUN) }?;
    Ok(MutexOptions {
        recursive: flag(given.recursive as c_int, "ww_mutex_options.recursive")?,
        participants: given.participants,
        mode: given.mode,
        wait: wait_mode(given.wait, NOUN)?,
    })
}

/// Opens the mutex of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one with a
/// slash is a path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_mutex_close().
///
/// Errors: -EINVAL the address, or options that do not fit together; -ENOSPC the memory is not free; -EACCES the
/// directory is somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -EBUSY others make
/// and remove it all the time; -ELOOP a symbolic link; -ENOTSUP the file system cannot make files without a name (a
/// tmpfs can); -EBADMSG there is something else under that name, or it is damaged; -EPROTO it was made by an
/// incompatible version; -EUSERS it has no room for another participant; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mutex_open(
    out: *mut *mut ww_mutex,
    address: *const c_char,
    options: *const ww_mutex_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_mutex::new(Mutex::open(&self::address(address)?, mutex_options(options)?)?))
    })
}

/// Makes a mutex without a name, for children made by fork, and for others by its descriptor. Never blocks.
///
/// Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mutex_anonymous(out: *mut *mut ww_mutex, options: *const ww_mutex_options) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_mutex::new(Mutex::anonymous(mutex_options(options)?)?))
    })
}

/// Joins the mutex whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor and closes
/// fd; after an error fd stays the caller's. Never blocks.
///
/// Errors: -EBADMSG it is something else, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mutex_from_fd(
    out: *mut *mut ww_mutex,
    fd: c_int,
    options: *const ww_mutex_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = mutex_options(options)?;
        give(out, ww_mutex::new(adopt(fd, "mutex", |fd| Mutex::from_fd(fd, options))?))
    })
}

/// Joins the mutex in a range of memory that the caller brought, or makes it there. fd is that of the memory: of a shm or
/// memfd object, or of a disk file, which may hold other things beside it, and further objects; it stays the caller's, and
/// may be closed, as the memory is mapped anew for the handle. The range begins at a multiple of 128. Where it is all
/// zeros, as fresh memory is, a mutex is made; what is there already is taken as it is, and of the options only the
/// handle's own count. Clearing the range to zeros removes the mutex. Does not block, but for about a quarter of a second
/// while another process that is making it does not get on.
///
/// Errors: -EINVAL the range does not begin at a multiple of 128, ends behind the memory, or is smaller than
/// ww_mutex_placed_size_for() says, or the options; -EBADMSG something else lies there, or it is damaged; -EPROTO made by
/// an incompatible version; -EUSERS no room for another participant; -EBUSY another process is making it and does not get
/// on; -ENODEV fd is not that of memory; -EACCES it cannot be written; -ENOSPC its pages are not free; -ENOTSUP the file
/// system cannot reserve them; -EBADF, -EMFILE, -ENFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mutex_place(
    out: *mut *mut ww_mutex,
    fd: c_int,
    offset: u64,
    size: usize,
    options: *const ww_mutex_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = mutex_options(options)?;
        give(out, ww_mutex::new(Mutex::place(borrow(fd, "mutex")?, place(offset, size), options)?))
    })
}

/// How many bytes a mutex with these options takes in memory that the caller brings. Never blocks.
///
/// Errors: -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mutex_placed_size_for(options: *const ww_mutex_options) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Mutex::placed_size_for(&mutex_options(options)?) })
}

/// Closes the handle; threads that wait on it return -ECANCELED first, and those that wait on a condition under it -ENOLCK.
/// If a thread holds the mutex by this handle, it passes on as from the dead. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mutex_close(mutex: *mut ww_mutex) {
    // SAFETY: as above.
    unsafe {
        close(mutex, |mutex| {
            mutex.mutex.end_waits();
            mutex.elsewhere.end();
        })
    };
}

/// As ww_channel_end_waits(); those that wait on a condition under the mutex return -ENOLCK, and do not hold it.
/// Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mutex_end_waits(mutex: *const ww_mutex) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let mutex = object(mutex, "mutex")?;
        mutex.mutex.end_waits();
        mutex.elsewhere.end();
        Ok(())
    })
}

/// Removes the name of a mutex; those who have it open keep it. Never blocks.
///
/// Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mutex_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Mutex::remove(&self::address(address)?) })
}

/// How many bytes of memory a mutex with these options takes, all in all. Never blocks. Errors: -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mutex_size_for(options: *const ww_mutex_options) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Mutex::size_for(&mutex_options(options)?) })
}

/// Whether the name or place still stands for this mutex. Never blocks. Errors: -ESTALE it was removed; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mutex_check(mutex: *const ww_mutex) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(mutex, "mutex")?.mutex.check() })
}

/// The segment's descriptor, to pass on for ww_mutex_from_fd(); not for polling. It stays the handle's. Never blocks.
/// Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mutex_segment_fd(mutex: *const ww_mutex) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(mutex, "mutex")?.mutex.as_fd().as_raw_fd()) })
}

/// Takes the mutex; waits while somebody else has it. Returns 0, or WW_INHERITED if its last holder died, or one
/// before that and nobody has said since that all is well: what it guards may be half changed.
///
/// Errors: -EDEADLK this thread has it, and the handle is not recursive; -ENOTRECOVERABLE it was given up for good;
/// -EAGAIN, -ETIMEDOUT, -ECANCELED; -ESTALE this handle was declared dead because its lock was closed: open the mutex
/// anew; -EBADMSG it is damaged; -EOVERFLOW taken 2^32 times; -EINVAL the timeout; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mutex_lock(mutex: *const ww_mutex, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(inherited(object(mutex, "mutex")?.mutex.take(timeout(timeout_ns)?)?)) })
}

/// Releases it, or undoes the last of several takings. Never blocks.
///
/// Errors: -EPERM this thread does not hold it; -ESTALE this handle was declared dead, and the mutex passed on;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mutex_unlock(mutex: *const ww_mutex) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(mutex, "mutex")?.mutex.release() })
}

/// Says that what an inherited mutex guards is consistent again. Without, the next to take it is told as well. Never
/// blocks.
///
/// Errors: -EINVAL it was not inherited; -EPERM, -ESTALE as ww_mutex_unlock(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mutex_consistent(mutex: *const ww_mutex) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(mutex, "mutex")?.mutex.consistent() })
}

/// Gives the held mutex up for good: all who wait for it or come later get -ENOTRECOVERABLE. Never blocks.
///
/// Errors: -EPERM, -ESTALE as ww_mutex_unlock(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mutex_give_up(mutex: *const ww_mutex) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(mutex, "mutex")?.mutex.give_up() })
}

/// A descriptor that is readable while the mutex could be taken; a ww_mutex_lock() without waiting that fails quiets
/// it: for poll, a wait set, an event loop. It stays the handle's; a child made by fork asks for its own. From the
/// first call on it costs a helper thread that sleeps in the kernel. Never blocks.
///
/// Errors: -EMFILE, -ENFILE no descriptor is left; -ENOMEM no thread can be had; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mutex_fd(mutex: *const ww_mutex) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(mutex, "mutex")?.mutex.doorbell()?.as_raw_fd()) })
}

/// Who uses a mutex.
#[repr(C)]
pub struct ww_mutex_statistics {
    /// WW_LOCK_FREE and so on.
    pub state: u32,
    /// The thread that holds it, by its number in the holder's pid namespace; 0: nobody does.
    pub thread: u32,
    /// All memory, in bytes.
    pub bytes: usize,
    /// How many handles take part.
    pub participants: usize,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 4],
}

/// Tells what is known of the mutex, and in participants, if it is not NULL, who takes part: at most so many as there
/// is room for; statistics->participants is how many there are. Never blocks.
///
/// Errors: -EBADMSG the mutex is damaged; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mutex_get_statistics(
    mutex: *const ww_mutex,
    statistics: *mut ww_mutex_statistics,
    participants: *mut ww_sync_participant,
    room: usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(statistics)?;
        let seen = object(mutex, "mutex")?.mutex.statistics()?;
        put_participants(participants, room, &seen.participants);
        let told = ww_mutex_statistics {
            state: lock_state(seen.state),
            thread: seen.thread.unwrap_or(0),
            bytes: seen.bytes,
            participants: seen.participants.len(),
            reserved: [0; 4],
        };
        put(statistics, told, "statistics")
    })
}
