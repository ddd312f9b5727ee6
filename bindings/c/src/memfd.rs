//! Shared memory with a descriptor instead of a name, which can be sealed.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};

use libc::ssize_t;
use wigwag::{Memfd, Seals};

use crate::boundary::{address, adopt, call, expect_out, give, invalid, object, object_mut, put, take};
use crate::sysv_shm::{memory_options, put_data, put_status, ww_memory_options, ww_sysv_shm_status};

/// No further seals.
pub const WW_SEAL_SEAL: u32 = 0x1;
/// It never becomes shorter: touching it never raises SIGBUS.
pub const WW_SEAL_SHRINK: u32 = 0x2;
/// It never becomes longer.
pub const WW_SEAL_GROW: u32 = 0x4;
/// Its content never changes. Nobody may have it mapped writable when this seal is set.
pub const WW_SEAL_WRITE: u32 = 0x8;
/// Its content changes only through mappings that are writable already.
pub const WW_SEAL_FUTURE_WRITE: u32 = 0x10;
/// The permission to execute it never changes.
pub const WW_SEAL_EXEC: u32 = 0x20;

/// Anonymous memory (memfd:), mapped as a whole, that others get by its descriptor: inherited, or passed over a
/// socket.
///
/// Gone when the last process has let go of it, by whatever death. Its pages are reserved at creation; its content
/// starts as zeroes. Seals are promises that nobody can take back, its creator included. A child made by fork has it
/// as well. May be shared between threads.
pub struct ww_memfd(Memfd);

/// Makes memory; the address is "memfd:", or "memfd:label" for a label that shows in /proc. On huge pages the size is
/// rounded up to whole ones. Close it with ww_memfd_close(). Never waits for others.
///
/// Errors: -EINVAL no length, an option, or the system has no huge pages of that size; -ENOMEM no memory, or
/// RLIMIT_MEMLOCK is too low for lock; -ENOSPC no free huge pages; -EFBIG more than a file can have; -ENAMETOOLONG a
/// label of more than 249 bytes; -EPERM lock is refused, or the mode has an x; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_memfd_create(
    out: *mut *mut ww_memfd,
    address: *const c_char,
    options: *const ww_memory_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_memfd(Memfd::create(&self::address(address)?, &memory_options(options)?)?))
    })
}

/// Takes over the descriptor of a memfd that came from elsewhere, provided that it has the required seals. length,
/// read_only, populate and lock count of the options. The handle uses a copy of the descriptor and closes fd; after an
/// error fd stays the caller's. Never waits for others.
///
/// Errors: -EPERM a seal is missing, or one forbids this access, or lock is refused; -EINVAL it is not a memfd, or
/// smaller than asked for, or a seal is not one of WW_SEAL_...; -EACCES it was not opened for this access; -EBADF;
/// -EMFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_memfd_from_fd(
    out: *mut *mut ww_memfd,
    fd: c_int,
    required_seals: u32,
    options: *const ww_memory_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let (options, required) = (memory_options(options)?, seals_from(required_seals)?);
        give(out, ww_memfd(adopt(fd, "memfd", |fd| Memfd::from_fd(fd, &options, required))?))
    })
}

/// Unmaps, closes and frees the handle; pointers into the memory are no longer good. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_memfd_close(memfd: *mut ww_memfd) {
    // SAFETY: as above.
    drop(unsafe { take(memfd) });
}

/// Where the memory begins, in *data: good until the handle is closed, grown or refreshed. Other processes may change
/// what is there at any time. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_memfd_data(memfd: *const ww_memfd, data: *mut *mut c_void) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { put_data(data, &object(memfd, "memfd")?.0) })
}

/// How many bytes of memory there are behind the pointer. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_memfd_size(memfd: *const ww_memfd) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(memfd, "memfd")?.0.len()) })
}

/// Makes it at least length bytes large with all pages reserved, and returns how many bytes there are now. The memory
/// may move: ask for the pointer again. Others see the new part after ww_memfd_refresh(). It never becomes smaller. No
/// other thread may use the handle meanwhile. Never waits for others.
///
/// Errors, with nothing changed: -EPERM it is sealed against it; -ENOMEM no memory; -EACCES attached read-only; -EFBIG
/// more than a file can have; -ENOTSUP it is on huge pages; -EFAULT. With one change: -ENOMEM for locked memory past
/// RLIMIT_MEMLOCK, where the memfd has grown and this handle's memory has not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_memfd_grow(memfd: *mut ww_memfd, length: usize) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object_mut(memfd, "memfd")?.0.grow(length) })
}

/// Takes in what others have added meanwhile, and returns how many bytes there are now. The memory may move: ask for
/// the pointer again. No other thread may use the handle meanwhile. Never blocks. Errors: -ENOMEM, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_memfd_refresh(memfd: *mut ww_memfd) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object_mut(memfd, "memfd")?.0.refresh() })
}

/// Takes all pages now, for memory that was made without, by another program or as sparse. Never waits for others.
///
/// Errors: -ENOMEM no memory; -ENOSPC no free huge pages; -EBADF attached read-only; -EPERM sealed against writing;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_memfd_reserve(memfd: *const ww_memfd) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(memfd, "memfd")?.0.reserve() })
}

/// What the kernel keeps, which of a memfd is neither attach count nor creator: always -ENOTSUP, or
/// -EFAULT. System V segments have them. Never blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_memfd_get_status(memfd: *const ww_memfd, status: *mut ww_sysv_shm_status) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(status)?;
        put_status(status, &object(memfd, "memfd")?.0.status()?)
    })
}

/// Keeps the descriptor open over exec. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_memfd_inherit(memfd: *const ww_memfd) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(memfd, "memfd")?.0.inherit() })
}

/// The descriptor, to pass on. It stays the handle's. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_memfd_fd(memfd: *const ww_memfd) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(memfd, "memfd")?.0.as_fd().as_raw_fd()) })
}

/// The seals that are set, WW_SEAL_... joined by |, in *seals. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_memfd_seals(memfd: *const ww_memfd, seals: *mut u32) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { put(seals, object(memfd, "memfd")?.0.seals()?.bits(), "output pointer") })
}

/// Adds seals, WW_SEAL_... joined by |, for good. With WW_SEAL_WRITE this handle's memory becomes read-only, at the
/// same address, and is locked and populated again if it was. No other thread may use the handle meanwhile. Never blocks.
///
/// Errors, with nothing changed: -EPERM it is sealed against further seals, or its descriptor was opened read-only;
/// -EBUSY for WW_SEAL_WRITE, somebody has it mapped writable, such as a child forked since; -EINVAL not a seal, or this
/// kernel does not know it; -ENOMEM it cannot be locked or populated again; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_memfd_seal(memfd: *mut ww_memfd, seals: u32) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object_mut(memfd, "memfd")?.0.seal(seals_from(seals)?) })
}

fn seals_from(bits: u32) -> wigwag::Result<Seals> {
    Seals::from_bits(bits).ok_or_else(|| invalid("memfd", "seals are WW_SEAL_... joined by |"))
}
