//! POSIX shared memory.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};

use libc::ssize_t;
use wigwag::Shm;

use crate::boundary::{address, adopt, call, expect_out, give, object, object_mut, take, timeout};
use crate::sysv_shm::{memory_options, put_data, put_status, ww_memory_options, ww_sysv_shm_status};

/// A POSIX shared memory object (shm:/name), mapped as a whole.
///
/// It outlives its processes: its name is there until somebody removes it, and its memory until the last process has
/// let go of it, by whatever death. It gets its name only when it is complete, so that nobody finds it half made. Its
/// pages are reserved at creation: a full /dev/shm is -ENOSPC there, and never SIGBUS later. Its content starts as
/// zeroes. A child made by fork has it as well. May be shared between threads.
pub struct ww_shm(Shm);

/// Creates the object that the address names, such as "shm:/frames". Close it with ww_shm_close(). Never waits for
/// others.
///
/// Errors: -EEXIST there is one of this name; -EINVAL no length, or an option; -ENOSPC /dev/shm is full, the text names
/// its size; -ENOMEM no memory, or RLIMIT_MEMLOCK is too low for lock; -EFBIG more than a file can have; -EPERM lock is
/// refused; -EACCES /dev/shm does not let this user make files; -ENOTSUP huge pages; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_shm_create(
    out: *mut *mut ww_shm,
    address: *const c_char,
    options: *const ww_memory_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_shm(Shm::create(&self::address(address)?, &memory_options(options)?)?))
    })
}

/// Opens the object that exists. Waits while it has no size yet, because its creator, another program, is between
/// making and sizing it. Close it with ww_shm_close().
///
/// Errors: -ENOENT there is none of this name; -EACCES its mode does not allow this access; -EINVAL it is smaller than
/// asked for, or not shared memory; -EAGAIN, -ETIMEDOUT it has no size; -ECANCELED; -ENOMEM, -EPERM lock is refused;
/// with populate -ENOSPC /dev/shm is full, -ENOMEM;
/// -ELOOP a symbolic link; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_shm_open(
    out: *mut *mut ww_shm,
    address: *const c_char,
    options: *const ww_memory_options,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_shm(Shm::open(&self::address(address)?, &memory_options(options)?, timeout(timeout_ns)?)?))
    })
}

/// Opens the object, made if there is none; ww_shm_created() tells which. Of several processes that do so at once,
/// exactly one creates it, and all get the whole size. Waits as ww_shm_open(). Errors: as ww_shm_create() and
/// ww_shm_open().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_shm_open_or_create(
    out: *mut *mut ww_shm,
    address: *const c_char,
    options: *const ww_memory_options,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let (address, options) = (self::address(address)?, memory_options(options)?);
        give(out, ww_shm(Shm::open_or_create(&address, &options, timeout(timeout_ns)?)?))
    })
}

/// Takes over the descriptor of an object that something else opened. length, read_only, populate and lock count of
/// the options. The handle uses a copy of the descriptor and closes fd; after an error fd stays the caller's.
/// Never waits for others.
///
/// Errors: -EINVAL it is not shared memory, or smaller than asked for; -EACCES it was not opened for this access;
/// -EPERM lock is refused; -EBADF; -EMFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_shm_from_fd(out: *mut *mut ww_shm, fd: c_int, options: *const ww_memory_options) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = memory_options(options)?;
        give(out, ww_shm(adopt(fd, "shm", |fd| Shm::from_fd(fd, &options))?))
    })
}

/// Detaches and frees the handle; pointers into the memory are no longer good. The object stays. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_shm_close(shm: *mut ww_shm) {
    // SAFETY: as above.
    drop(unsafe { take(shm) });
}

/// Where the memory begins, in *data: good until the handle is closed, grown or refreshed. Other processes may change
/// what is there at any time. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_shm_data(shm: *const ww_shm, data: *mut *mut c_void) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { put_data(data, &object(shm, "shm")?.0) })
}

/// How many bytes of memory there are behind the pointer. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_shm_size(shm: *const ww_shm) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(shm, "shm")?.0.len()) })
}

/// Makes it at least length bytes large with all pages reserved, and returns how many bytes there are now. The memory
/// may move: ask for the pointer again. Others see the new part after ww_shm_refresh(). It never becomes smaller. No
/// other thread may use the handle meanwhile. Never waits for others.
///
/// Errors, with nothing changed: -ENOSPC /dev/shm is full, the text names its size; -ENOMEM no memory; -EACCES
/// attached read-only; -EFBIG more than a file can have; -EFAULT. With one change: -ENOMEM for locked memory past
/// RLIMIT_MEMLOCK, where the object has grown and this handle's memory has not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_shm_grow(shm: *mut ww_shm, length: usize) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object_mut(shm, "shm")?.0.grow(length) })
}

/// Takes in what others have added meanwhile, and returns how many bytes there are now. The memory may move: ask for
/// the pointer again. No other thread may use the handle meanwhile. Never blocks. Errors: -ENOMEM, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_shm_refresh(shm: *mut ww_shm) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object_mut(shm, "shm")?.0.refresh() })
}

/// Takes all pages now, for an object that was made without, by another program or as sparse. Never waits for others.
///
/// Errors: -ENOSPC /dev/shm is full, the text names its size; -ENOMEM no memory; -EBADF attached read-only; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_shm_reserve(shm: *const ww_shm) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(shm, "shm")?.0.reserve() })
}

/// What the kernel keeps, which of POSIX shared memory is neither attach count nor creator: always -ENOTSUP, or
/// -EFAULT. System V segments have them. Never blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_shm_get_status(shm: *const ww_shm, status: *mut ww_sysv_shm_status) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(status)?;
        put_status(status, &object(shm, "shm")?.0.status()?)
    })
}

/// Keeps the descriptor open over exec. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_shm_inherit(shm: *const ww_shm) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(shm, "shm")?.0.inherit() })
}

/// The descriptor, to pass on. It stays the handle's. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_shm_fd(shm: *const ww_shm) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(shm, "shm")?.0.as_fd().as_raw_fd()) })
}

/// Whether this handle made the object, 1, or found it, 0. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_shm_created(shm: *const ww_shm) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(c_int::from(object(shm, "shm")?.0.created())) })
}

/// Whether its name still leads to this object: 0 if so. Never blocks.
///
/// Errors: -ENOENT the name is gone; -ESTALE it was removed and made anew: open it again; -ENOTSUP adopted without a
/// name; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_shm_check_name(shm: *const ww_shm) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(shm, "shm")?.0.check_name() })
}

/// Removes the name; the memory goes with the last process that has it open. An object of the same name that was made
/// meanwhile stays. Never blocks.
///
/// Errors: -ENOENT the name is gone already; -ESTALE it belongs to a newer object by now; -EACCES, -EPERM it belongs
/// to somebody else; -ENOTSUP adopted without a name; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_shm_unlink(shm: *const ww_shm) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(shm, "shm")?.0.unlink() })
}

/// Removes the name in the address. The memory stays for those that have it open. Never blocks.
///
/// Errors: -ENOENT there is none of this name; -EACCES, -EPERM it belongs to somebody else; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_shm_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Shm::remove(&self::address(address)?) })
}
