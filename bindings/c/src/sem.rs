//! POSIX semaphore.

use std::ffi::{c_char, c_int, c_void};

use wigwag::{Sem, SemOptions};

use crate::boundary::{Options, address, call, close, done, expect_out, give, object, options, timeout};

/// The bytes that a semaphore takes in memory, for ww_sem_init_at().
pub const WW_SEM_SIZE: usize = 32;

/// What the address of a semaphore in memory must be a multiple of.
pub const WW_SEM_ALIGNMENT: usize = 8;

const _: () = assert!(Sem::SIZE <= WW_SEM_SIZE && WW_SEM_ALIGNMENT.is_multiple_of(Sem::ALIGNMENT));

/// A POSIX semaphore: a number of permits, by name (sem:/gate) or in memory that processes share.
///
/// Acquiring takes a permit or waits while there is none; without anybody waiting neither that nor releasing is a system
/// call. Starting at 1 makes a lock. The counter knows no owners: a process that is killed while it holds a permit takes
/// it along; where that matters use ww_sysv_sem. A named one lives until ww_sem_remove() or the next boot; one in memory
/// as long as the memory. Same object as of sem_open() and sem_init(). May be shared between threads, and used by
/// children made by fork.
pub struct ww_sem(Sem);

/// How a semaphore is made; initialise with WW_SEM_OPTIONS_INIT. What is 0 here counts as the address says, as in
/// "sem:/gate?mode=0660&initial=1".
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_sem_options {
    pub size: usize,
    /// The value at the start, at most 2147483647.
    pub initial: u32,
    /// Permissions, whatever the umask; 0 means 0600.
    pub mode: u32,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_sem_options {}

impl From<ww_sem_options> for SemOptions {
    fn from(given: ww_sem_options) -> SemOptions {
        SemOptions { mode: given.mode, initial: given.initial }
    }
}

/// Opens a semaphore that exists. Close it with ww_sem_close(). Never blocks.
///
/// Errors: -ENOENT there is none; -EACCES it is somebody else's; -EBADMSG, -EINVAL the file of that name holds no
/// semaphore, or the address is not one; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sem_open(out: *mut *mut ww_sem, address: *const c_char) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_sem(Sem::open(&self::address(address)?)?))
    })
}

/// Makes a semaphore that must not exist yet; NULL options mean the address's. Never blocks.
///
/// Errors: -EEXIST there is one; -EINVAL the address, the initial value or the mode; -ENOSPC /dev/shm is full; and as
/// ww_sem_open().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sem_create(
    out: *mut *mut ww_sem,
    address: *const c_char,
    options: *const ww_sem_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let given = self::options(options, "ww_sem_options")?;
        give(out, ww_sem(Sem::create(&self::address(address)?, &given.into())?))
    })
}

/// Opens a semaphore, or makes it if there is none; no process ever sees it without its value. The options count only
/// for the one who makes it. Never blocks. Errors: as ww_sem_open() and ww_sem_create(), without -ENOENT and -EEXIST;
/// -EBUSY others make and remove it all the time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sem_open_or_create(
    out: *mut *mut ww_sem,
    address: *const c_char,
    options: *const ww_sem_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let given = self::options(options, "ww_sem_options")?;
        give(out, ww_sem(Sem::open_or_create(&self::address(address)?, &given.into())?))
    })
}

/// Makes a semaphore in shared memory: WW_SEM_SIZE bytes at a multiple of WW_SEM_ALIGNMENT. Never blocks.
///
/// The memory stays the caller's, mapped and writable while the handle is open. Nobody uses a semaphore that was there
/// before; other processes use this one after the call, by ww_sem_at(). Closing the handle leaves it there.
///
/// Errors: -EINVAL not aligned, or the initial value is above 2147483647; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sem_init_at(out: *mut *mut ww_sem, memory: *mut c_void, initial: u32) -> c_int {
    // SAFETY: as above; what is asked of the memory is what the header says.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_sem(Sem::init_at(memory.cast(), initial)?))
    })
}

/// Uses a semaphore in memory that somebody has made there, with ww_sem_init_at() or sem_init(). Never blocks.
///
/// The memory stays the caller's, mapped and writable while the handle is open.
///
/// Errors: -EBADMSG there is no semaphore, as far as can be seen; -EINVAL not aligned; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sem_at(out: *mut *mut ww_sem, memory: *mut c_void) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_sem(Sem::at(memory.cast())?))
    })
}

/// Closes the handle; threads that wait on it return -ECANCELED first. The semaphore stays. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sem_close(sem: *mut ww_sem) {
    // SAFETY: as above.
    unsafe { close(sem, |sem| sem.0.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sem_end_waits(sem: *const ww_sem) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(sem, "sem")?.0.end_waits();
        Ok(())
    })
}

/// Takes a permit; waits while there is none.
///
/// Errors, with nothing taken: -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sem_acquire(sem: *const ww_sem, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(sem, "sem")?.0.take(timeout(timeout_ns)?) })
}

/// Gives a permit: wakes one that waits, or adds 1 to the value. Never blocks. Allowed in a signal handler where the
/// value cannot be at its largest.
///
/// Errors: -EOVERFLOW the value is 2147483647 already; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sem_release(sem: *const ww_sem) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(sem, "sem")?.0.release() })
}

/// Gives count permits, one after the other, and writes how many were given to *done, which may be NULL. Never blocks.
/// Errors: as ww_sem_release().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sem_release_many(sem: *const ww_sem, count: u32, done: *mut usize) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { self::done(done, count as usize, || object(sem, "sem")?.0.release_many(count)) })
}

/// The value at this moment: how many permits are left. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sem_value(sem: *const ww_sem) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(c_int::try_from(object(sem, "sem")?.0.value()?).unwrap_or(c_int::MAX)) })
}

/// The sem_t behind the handle, for calls of the C library; good while the handle is open. Never blocks. Returns NULL
/// for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sem_pointer(sem: *const ww_sem) -> *mut c_void {
    // SAFETY: as above.
    unsafe { sem.as_ref() }.map_or(std::ptr::null_mut(), |sem| sem.0.as_ptr().cast())
}

/// Removes the name: those who have it open go on using it, and the name is free for a new one. Never blocks.
///
/// Errors: -ENOENT there is none; -EACCES it is somebody else's; -EINVAL the address; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sem_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Sem::remove(&self::address(address)?) })
}
