//! Shared memory: what all kinds have in common, and System V segments.

use std::ffi::{c_char, c_int, c_void};

use libc::ssize_t;
use wigwag::{Access, Mapping, MemoryOptions, Result, SysvShm, SysvShmStatus};

use crate::boundary::{
    Options, address, call, expect_out, flag, give, invalid, object, object_mut, options, put, take,
};

/// How shared memory is created or opened; initialise with WW_MEMORY_OPTIONS_INIT. What the address says counts where
/// a member is 0.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_memory_options {
    pub size: usize,
    /// How many bytes of memory; needed to create. When opening, what is there must be at least as large.
    pub length: usize,
    /// The size of a huge page in bytes; 0 is the system's default.
    pub huge_page_size: usize,
    /// The permissions of what is created, such as 0640, whatever the umask; 0 is 0600.
    pub mode: u32,
    /// 1: attach for reading only; writing through the pointer is SIGSEGV then. Not for what is created.
    pub read_only: c_int,
    /// 1: create on huge pages, which the administrator must have reserved (vm.nr_hugepages). System V and memfd.
    pub huge_pages: c_int,
    /// 1: have all pages present from the start, so that no first access is slow.
    pub populate: c_int,
    /// 1: keep the pages in memory, never in swap; counts against RLIMIT_MEMLOCK.
    pub lock: c_int,
    /// 1: create without reserving the pages; where there is none left when one is first touched, the process is
    /// killed by SIGBUS. POSIX and memfd.
    pub sparse: c_int,
}

// SAFETY: repr(C), size first, no padding (three words of eight bytes and six of four), any bytes are valid.
unsafe impl Options for ww_memory_options {}

/// What the kernel keeps about a System V segment. Times are seconds of the wall clock, 0 for never.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_sysv_shm_status {
    /// The size in bytes.
    pub length: usize,
    /// How often it is attached, over all processes.
    pub attached: u64,
    pub attached_at: i64,
    pub detached_at: i64,
    /// When it was created, or its owner or mode changed.
    pub changed_at: i64,
    /// The process that created it; 0 if it lives in a pid namespace that cannot be seen from here.
    pub creator_pid: libc::pid_t,
    /// The process that attached or detached last; 0 for none.
    pub last_pid: libc::pid_t,
    /// The owner, and who created it.
    pub uid: libc::uid_t,
    pub gid: libc::gid_t,
    pub creator_uid: libc::uid_t,
    pub creator_gid: libc::gid_t,
    /// The permissions.
    pub mode: u32,
    /// 1: removed, and gone with the last that detaches.
    pub removed: c_int,
    /// 1: somebody has locked the whole segment in memory.
    pub locked: c_int,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 4],
}

/// # Safety
/// As [`crate::boundary::options`].
pub(crate) unsafe fn memory_options(given: *const ww_memory_options) -> Result<MemoryOptions> {
    const NOUN: &str = "ww_memory_options";
    // SAFETY: as the caller promises.
    let given = unsafe { self::options(given, NOUN) }?;
    if given.length > isize::MAX as usize {
        return Err(invalid(NOUN, "a length of more than half the address space; was it a negative number?"));
    }
    let read_only = flag(given.read_only, NOUN)?;
    Ok(MemoryOptions {
        size: given.length,
        mode: given.mode,
        access: if read_only { Access::ReadOnly } else { Access::ReadWrite },
        huge_pages: flag(given.huge_pages, NOUN)?,
        huge_page_size: given.huge_page_size,
        populate: flag(given.populate, NOUN)?,
        lock: flag(given.lock, NOUN)?,
        sparse: flag(given.sparse, NOUN)?,
    })
}

/// Writes where the memory begins.
///
/// # Safety
/// `out` is NULL or may be written to.
pub(crate) unsafe fn put_data(out: *mut *mut c_void, mapping: &Mapping) -> Result<()> {
    // SAFETY: as the caller promises.
    unsafe { put(out, mapping.as_ptr().cast(), "output pointer") }
}

/// Writes the status.
///
/// # Safety
/// `out` is NULL or may be written to.
pub(crate) unsafe fn put_status(out: *mut ww_sysv_shm_status, found: &SysvShmStatus) -> Result<()> {
    let status = ww_sysv_shm_status {
        length: found.size,
        attached: found.attached,
        attached_at: found.attached_at,
        detached_at: found.detached_at,
        changed_at: found.changed_at,
        creator_pid: found.creator_pid,
        last_pid: found.last_pid,
        uid: found.uid,
        gid: found.gid,
        creator_uid: found.creator_uid,
        creator_gid: found.creator_gid,
        mode: found.mode,
        removed: found.removed.into(),
        locked: found.locked.into(),
        reserved: [0; 4],
    };
    // SAFETY: as the caller promises.
    unsafe { put(out, status, "output pointer") }
}

/// A System V shared memory segment (sysv-shm:), attached.
///
/// It outlives its processes: it is there until somebody removes it, and its memory until the last process that is
/// attached then has gone, by whatever death. Its size is fixed from the moment it exists; its content starts as
/// zeroes. A child made by fork is attached as well. May be shared between threads.
pub struct ww_sysv_shm(SysvShm);

/// Creates the segment that the address names, such as "sysv-shm:shmfile#65", and attaches it. Close it with
/// ww_sysv_shm_close(). Never waits for others.
///
/// Errors: -EEXIST there is one with this key; -EINVAL no length, one above kernel.shmmax, or an option; -ENOENT the
/// file that the key is derived from does not exist; -ENOSPC kernel.shmmni segments exist, or kernel.shmall pages are
/// in use; -ENOMEM no memory, no free huge pages, or RLIMIT_MEMLOCK is too low; -EPERM huge pages, or locking, is not
/// allowed; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_shm_create(
    out: *mut *mut ww_sysv_shm,
    address: *const c_char,
    options: *const ww_memory_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_sysv_shm(SysvShm::create(&self::address(address)?, &memory_options(options)?)?))
    })
}

/// Attaches the segment that exists. Close it with ww_sysv_shm_close(). Never waits for others.
///
/// Errors: -ENOENT there is none with this key, or the file that the key is derived from does not exist; -EACCES its
/// mode does not allow this access; -EINVAL it is smaller than asked for, or the address is private; -ENOMEM, -EPERM
/// as ww_sysv_shm_create(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_shm_open(
    out: *mut *mut ww_sysv_shm,
    address: *const c_char,
    options: *const ww_memory_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_sysv_shm(SysvShm::open(&self::address(address)?, &memory_options(options)?)?))
    })
}

/// Attaches the segment, made if there is none; ww_sysv_shm_created() tells which. Of several processes that do so at
/// once, exactly one creates it, and all get the whole size. Never waits for others. Errors: as ww_sysv_shm_create()
/// and ww_sysv_shm_open().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_shm_open_or_create(
    out: *mut *mut ww_sysv_shm,
    address: *const c_char,
    options: *const ww_memory_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_sysv_shm(SysvShm::open_or_create(&self::address(address)?, &memory_options(options)?)?))
    })
}

/// Attaches the segment with this id, as another program got it from shmget() and passed it on. length, read_only,
/// populate and lock count of the options. Close it with ww_sysv_shm_close(). Never waits for others.
///
/// Errors: -EIDRM there is no segment with this id (any more); the others as ww_sysv_shm_open().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_shm_from_id(
    out: *mut *mut ww_sysv_shm,
    id: c_int,
    options: *const ww_memory_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_sysv_shm(SysvShm::from_id(id, &memory_options(options)?)?))
    })
}

/// Detaches and frees the handle; pointers into the memory are no longer good. The object stays. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_shm_close(shm: *mut ww_sysv_shm) {
    // SAFETY: as above.
    drop(unsafe { take(shm) });
}

/// Where the memory begins, in *data: good until the handle is closed. Other processes may change what is there at any
/// time. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_shm_data(shm: *const ww_sysv_shm, data: *mut *mut c_void) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { put_data(data, &object(shm, "sysv_shm")?.0) })
}

/// How many bytes of memory there are behind the pointer. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_shm_size(shm: *const ww_sysv_shm) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(shm, "sysv_shm")?.0.len()) })
}

/// Makes sure that there are this many bytes, which a System V segment has from the start or never; returns how many
/// there are. Never blocks. Errors: -ENOTSUP it is smaller; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_shm_grow(shm: *mut ww_sysv_shm, length: usize) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object_mut(shm, "sysv_shm")?.0.grow(length) })
}

/// What the kernel keeps about it, in *status. Never blocks. Errors: -EACCES the mode does not allow reading;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_shm_get_status(shm: *const ww_sysv_shm, status: *mut ww_sysv_shm_status) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(status)?;
        put_status(status, &object(shm, "sysv_shm")?.0.status()?)
    })
}

/// The kernel's id, which works in every process of the same IPC namespace. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_shm_id(shm: *const ww_sysv_shm) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(shm, "sysv_shm")?.0.id()) })
}

/// The key, in *key: 0, IPC_PRIVATE, for a segment without one, be it that it never had one or that it was removed.
/// Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_shm_key(shm: *const ww_sysv_shm, key: *mut i32) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { put(key, object(shm, "sysv_shm")?.0.key()?, "output pointer") })
}

/// Whether this handle made the object, 1, or found it, 0. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_shm_created(shm: *const ww_sysv_shm) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(c_int::from(object(shm, "sysv_shm")?.0.created())) })
}

/// Whether its name still leads to this object: 0 if so. Never blocks.
///
/// Errors: -ENOENT the name is gone; -ESTALE it was removed and made anew: open it again; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_shm_check_name(shm: *const ww_sysv_shm) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(shm, "sysv_shm")?.0.check_name() })
}

/// Removes the segment: its name is gone at once, its memory with the last process that is attached. Doing it twice is
/// as good as once. Never blocks. Errors: -EPERM it belongs to somebody else; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_shm_unlink(shm: *const ww_sysv_shm) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(shm, "sysv_shm")?.0.unlink() })
}

/// Removes the segment that the address names. Its memory stays for those that are attached. Never blocks.
///
/// Errors: -ENOENT there is none; -EPERM it belongs to somebody else; -EINVAL the address is private; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_shm_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { SysvShm::remove(&self::address(address)?) })
}
