//! Disk file.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};

use libc::ssize_t;
use wigwag::{
    Access, Durability, Error, File, FileAccess, FileCreate, FileEvents, FileLock, FileOptions, FileRange, FileWatch,
    LockMode, MapOptions, Mapping, ReplaceOptions, Result,
};

use crate::boundary::{
    Options, address, adopt, bytes, call, close, done, expect_out, flag, give, invalid, object, options, put,
    put_if_wanted, room, take, timeout,
};
use crate::sysv_shm::put_data;

/// ww_file_options.access: for reading, appending and both kinds of locks.
pub const WW_FILE_READ_WRITE: c_int = 0;
/// ww_file_options.access: for reading and shared locks.
pub const WW_FILE_READ: c_int = 1;
/// ww_file_options.access: for appending and exclusive locks.
pub const WW_FILE_APPEND: c_int = 2;

/// ww_file_options.create: fail with -ENOENT if the file is missing.
pub const WW_FILE_EXISTING: c_int = 0;
/// ww_file_options.create: make an empty file if it is missing.
pub const WW_FILE_CREATE: c_int = 1;
/// ww_file_options.create: make an empty file, and fail with -EEXIST if it is not missing.
pub const WW_FILE_CREATE_NEW: c_int = 2;

/// ww_file_replace_options.durability: a power failure leaves the old or the new content, and the new once the call has
/// returned.
pub const WW_FILE_DURABLE: c_int = 0;
/// ww_file_replace_options.durability: a power failure leaves the old or the new content, maybe the old for a while
/// after the call.
pub const WW_FILE_DURABLE_CONTENT: c_int = 1;
/// ww_file_replace_options.durability: nothing is said about power failures.
pub const WW_FILE_NOT_DURABLE: c_int = 2;

/// ww_file_lock(): together with other shared locks.
pub const WW_FILE_SHARED: c_int = 0;
/// ww_file_lock(): alone.
pub const WW_FILE_EXCLUSIVE: c_int = 1;

/// What a ww_filewatch waits for and tells, joined by |: the name came to be (made, linked, or renamed into place).
pub const WW_FILE_APPEARED: c_int = 1;
/// The content may be another: written, truncated, made, or another file renamed into place; not by memory mappings.
pub const WW_FILE_CHANGED: c_int = 2;
/// It is complete: closed by one that had it open for writing, or renamed into place.
pub const WW_FILE_CLOSED: c_int = 4;
/// The name is gone.
pub const WW_FILE_REMOVED: c_int = 8;
/// Only told, with all that was asked for: more happened than the kernel keeps (fs.inotify.max_queued_events), so each
/// may have happened.
pub const WW_FILE_OVERFLOWED: c_int = 16;

/// An open disk file (file:/path). It stays with the file that was opened, also after ww_file_replace() has given the name
/// to another one or the name was removed. May be shared between threads and with children made by fork.
pub struct ww_file(File);

/// A lock that is held on a file. It stands on its own: the ww_file may be closed meanwhile. It is of one process: a child
/// made by fork does not have it. When the process dies, the kernel releases it, and does not tell the next holder.
pub struct ww_filelock(FileLock);

/// A watch over the name of a file, which need not exist yet. Everything from the moment it is opened is seen, so the way
/// to miss nothing is: open the watch, look at the file, wait, look again. What happens more than once before a wait is told
/// once; of several threads that wait on one watch, one is told. Not seen is what is done through another hard link, on
/// another machine of a network file system, or to the file that a symbolic link leads to.
pub struct ww_filewatch(FileWatch);

/// A file as memory. May be shared between threads; a child made by fork has it as well.
pub struct ww_mapping(Mapping);

/// Which part of a file to map, and how; initialise with WW_MAP_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_map_options {
    pub size: usize,
    /// The first byte; a multiple of the page size.
    pub offset: u64,
    /// How many bytes; 0 is all up to the end of the file.
    pub length: usize,
    /// 1: map for reading only; writing through the pointer is SIGSEGV then.
    pub read_only: c_int,
    /// 1: have all pages present from the start, so that no first access is slow.
    pub populate: c_int,
    /// 1: keep the pages in memory, never in swap; counts against RLIMIT_MEMLOCK.
    pub lock: c_int,
    pub reserved: c_int,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_map_options {}

/// # Safety
/// As `boundary::options`.
unsafe fn map_options(given: *const ww_map_options) -> Result<MapOptions> {
    // SAFETY: as the caller promises.
    let given = unsafe { options(given, "ww_map_options") }?;
    if given.reserved != 0 {
        return Err(invalid("ww_map_options", "the reserved member must be 0"));
    }
    let read_only = flag(given.read_only, "ww_map_options.read_only")?;
    Ok(MapOptions {
        access: if read_only { Access::ReadOnly } else { Access::ReadWrite },
        offset: given.offset,
        length: given.length,
        populate: flag(given.populate, "ww_map_options.populate")?,
        lock: flag(given.lock, "ww_map_options.lock")?,
    })
}

/// How to open a file; initialise with WW_FILE_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_file_options {
    pub size: usize,
    /// WW_FILE_READ_WRITE, WW_FILE_READ or WW_FILE_APPEND.
    pub access: c_int,
    /// WW_FILE_EXISTING, WW_FILE_CREATE or WW_FILE_CREATE_NEW.
    pub create: c_int,
    /// Permissions of a file made here, set against the umask; 0: the address's mode=, else 0600.
    pub mode: u32,
    pub reserved: c_int,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_file_options {}

/// How to replace a file; initialise with WW_FILE_REPLACE_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_file_replace_options {
    pub size: usize,
    /// WW_FILE_DURABLE, WW_FILE_DURABLE_CONTENT or WW_FILE_NOT_DURABLE.
    pub durability: c_int,
    /// Permissions of the file; 0: the address's mode=, else those that the old file had, else 0600.
    pub mode: u32,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_file_replace_options {}

fn mode(bits: u32) -> Option<u32> {
    (bits != 0).then_some(bits)
}

/// Gives the size of what did not fit to a caller who wants it.
///
/// # Safety
/// `out` is NULL or may be written to.
unsafe fn with_true_size(out: *mut usize, result: Result<usize>) -> Result<usize> {
    if let Err(error) = &result
        && error.errno() == libc::EMSGSIZE
    {
        // SAFETY: as the caller promises.
        unsafe { put_if_wanted(out, error.true_size()) };
    }
    result
}

/// Makes the bytes the content of the file at the address, so that every reader sees the old or the new content, never a
/// part, also if this process is killed at any moment; makes the file if it is missing. Blocks for the disk.
///
/// It becomes another file of the same name: who has the old one open, locked or mapped keeps the old one. Permissions and
/// group are kept, the owner where the process may give files away.
///
/// Errors, with the old content untouched: -ENOSPC, -EDQUOT, -EFBIG the new content does not fit; -EACCES, -EROFS the
/// directory may not be written; -EPERM the old file's group is not this process's and no mode was given, or the directory
/// is sticky; -ENOENT, -ENOTDIR no such directory; -EISDIR; -ENOTSUP no regular file; -ELOOP a symbolic link; -EINVAL an
/// address or option; -EIO. An error of the directory's fsync says in its text that the new content is in place.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_file_replace(
    address: *const c_char,
    data: *const c_void,
    size: usize,
    options: *const ww_file_replace_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        let given = self::options(options, "ww_file_replace_options")?;
        let durability = match given.durability {
            WW_FILE_DURABLE => Durability::Full,
            WW_FILE_DURABLE_CONTENT => Durability::Content,
            WW_FILE_NOT_DURABLE => Durability::None,
            _ => {
                return Err(invalid(
                    "ww_file_replace_options.durability",
                    "expected WW_FILE_DURABLE, WW_FILE_DURABLE_CONTENT or WW_FILE_NOT_DURABLE",
                ));
            }
        };
        let options = ReplaceOptions { durability, mode: mode(given.mode) };
        File::replace(&self::address(address)?, bytes(data, size)?, &options)
    })
}

/// Reads the whole file at the address if it has no more than size bytes, and returns how many. A file that is only ever
/// replaced is seen as it was before or after. Blocks for the disk only.
///
/// Errors: -EMSGSIZE it is larger, and *true_size, which may be NULL, tells how large (0: not known); -ENOENT; -EACCES;
/// -EISDIR; -ENOTSUP no regular file; -EINVAL the address; -EIO; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_file_load(
    address: *const c_char,
    buffer: *mut c_void,
    size: usize,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let result = File::load_into(&self::address(address)?, room(buffer, size)?);
        with_true_size(true_size, result)
    })
}

/// Removes the name at the address; who has the file open keeps it. Never blocks, other than for the disk.
///
/// Errors: -ENOENT; -EISDIR, -ENOTSUP, -ELOOP no regular file, which is left alone; -EACCES, -EPERM, -EROFS; -EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_file_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { File::remove(&self::address(address)?) })
}

/// Waits until something has the name at the address; returns at once if something has. Should the path of its directory lead
/// to another one meanwhile, that is noticed within two seconds, which a ww_filewatch does not. That it is there does not say that
/// it is complete: a writer should use ww_file_replace(), or a ww_filewatch for WW_FILE_CLOSED be opened before it begins.
///
/// Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; as ww_filewatch_open() and ww_filewatch_wait().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_file_until_exists(address: *const c_char, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { File::until_exists(&self::address(address)?, timeout(timeout_ns)?) })
}

/// Opens the file at the address; NULL options open an existing one for all purposes. Close it with ww_file_close(). Never
/// blocks, other than for the disk.
///
/// Errors: -ENOENT; -EEXIST with WW_FILE_CREATE_NEW; -EISDIR a directory; -ENOTSUP something else that is no regular file,
/// which is left untouched; -EACCES, -EROFS, -ENOSPC, -EMFILE, -ENAMETOOLONG; -EINVAL an address or option; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_file_open(
    out: *mut *mut ww_file,
    address: *const c_char,
    options: *const ww_file_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let given = self::options(options, "ww_file_options")?;
        if given.reserved != 0 {
            return Err(invalid("ww_file_options", "the reserved member must be 0"));
        }
        let access = match given.access {
            WW_FILE_READ_WRITE => FileAccess::ReadWrite,
            WW_FILE_READ => FileAccess::Read,
            WW_FILE_APPEND => FileAccess::Append,
            _ => {
                return Err(invalid(
                    "ww_file_options.access",
                    "expected WW_FILE_READ_WRITE, WW_FILE_READ or WW_FILE_APPEND",
                ));
            }
        };
        let create = match given.create {
            WW_FILE_EXISTING => FileCreate::Never,
            WW_FILE_CREATE => FileCreate::IfMissing,
            WW_FILE_CREATE_NEW => FileCreate::Exclusively,
            _ => {
                return Err(invalid(
                    "ww_file_options.create",
                    "expected WW_FILE_EXISTING, WW_FILE_CREATE or WW_FILE_CREATE_NEW",
                ));
            }
        };
        let options = FileOptions { access, create, mode: mode(given.mode) };
        give(out, ww_file(File::open(&self::address(address)?, &options)?))
    })
}

/// Takes over a descriptor of a regular file (also a memfd) that something else opened. The handle uses a copy of the
/// descriptor and closes fd; after an error fd stays the caller's. Never blocks.
///
/// Errors: -EISDIR, -ENOTSUP no regular file; -EBADF not an open descriptor; -EMFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_file_from_fd(out: *mut *mut ww_file, fd: c_int) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_file(adopt(fd, "file", File::from_fd)?))
    })
}

/// Closes the file; threads that wait for a lock on it return -ECANCELED first. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_file_close(file: *mut ww_file) {
    // SAFETY: as above.
    unsafe { close(file, |file| file.0.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_file_end_waits(file: *const ww_file) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(file, "file")?.0.end_waits();
        Ok(())
    })
}

/// Appends a record in one write: no other process that appends can come in between. *done, which may be NULL, tells how
/// many bytes are in the file, also after an error: a part stays there if the disk became full in the middle, since cutting
/// it off could cut off what others have appended meanwhile; ww_file_append_locked() can take it back. Never blocks, other
/// than for the disk.
///
/// Errors: -ENOSPC, -EDQUOT the disk or quota is full; -EFBIG the file or the process may not grow further (never SIGXFSZ, if
/// the process had its limit when it opened the file: who sets RLIMIT_FSIZE later ignores the signal, opens the file anew or
/// appends by ww_file_append_locked()); -EMSGSIZE more than 2147479552 bytes, with nothing written;
/// -EBADF not opened for appending; -EINVAL adopted without O_APPEND; -EIO; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_file_append(
    file: *const ww_file,
    data: *const c_void,
    size: usize,
    done: *mut usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { self::done(done, size, || object(file, "file")?.0.append(bytes(data, size)?)) })
}

/// As ww_file_append() under an exclusive lock of the whole file, so that a record which did not fit is taken back: among
/// processes that all append this way, each record is there as a whole or not at all. Waits for the lock.
///
/// Errors: as ww_file_append() and ww_file_lock().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_file_append_locked(
    file: *const ww_file,
    data: *const c_void,
    size: usize,
    timeout_ns: i64,
    done: *mut usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        self::done(done, size, || object(file, "file")?.0.append_locked(bytes(data, size)?, timeout(timeout_ns)?))
    })
}

/// Reads the whole of the open file, as ww_file_load() does by name. Blocks for the disk only. Errors: as there; -EBADF
/// opened for appending only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_file_read_all(
    file: *const ww_file,
    buffer: *mut c_void,
    size: usize,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let result = object(file, "file")?.0.read_all_into(room(buffer, size)?);
        with_true_size(true_size, result)
    })
}

/// Reads what is there from the offset on, at most size bytes, and returns how many; 0 at or past the end. Blocks for the
/// disk only. Errors: -EBADF opened for appending only; -EINVAL an offset past 2^63 - 1; -EIO; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_file_read_at(
    file: *const ww_file,
    offset: u64,
    buffer: *mut c_void,
    size: usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object(file, "file")?.0.read_at(offset, room(buffer, size)?) })
}

/// The size in bytes. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_file_size(file: *const ww_file, size: *mut u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(size)?;
        put(size, object(file, "file")?.0.size()?, "size")
    })
}

/// Returns once what was appended is on the disk, to survive a power failure. Blocks for the disk.
///
/// Errors: -EIO, -ENOSPC, -EDQUOT some of it may be lost, which a later call may not tell again; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_file_sync(file: *const ww_file) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(file, "file")?.0.sync() })
}

/// Locks length bytes of the file from start on (0: all to the end, however far it grows) in the mode WW_FILE_SHARED or
/// WW_FILE_EXCLUSIVE, against the same call by any process or thread, and F_OFD_SETLK and F_SETLK (not flock) by programs
/// that know nothing of wigwag. Release it with ww_filelock_release(). A thread that asks for what it has locked itself
/// waits too. Lock a file that stays: of one that is replaced or removed meanwhile, the lock is not given.
///
/// Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; -ESTALE since it was opened, the file was removed or replaced: open it again;
/// -EBADF not open for reading (shared), for writing (exclusive); -EINVAL the mode, or a range past 2^63 - 1; -ENOLCK;
/// -EACCES, -EMFILE the file cannot be opened once more, which a lock takes; -ENOENT /proc is not mounted; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_file_lock(
    file: *const ww_file,
    out: *mut *mut ww_filelock,
    mode: c_int,
    start: u64,
    length: u64,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let mode = match mode {
            WW_FILE_SHARED => LockMode::Shared,
            WW_FILE_EXCLUSIVE => LockMode::Exclusive,
            _ => return Err(invalid("lock", "the mode is WW_FILE_SHARED or WW_FILE_EXCLUSIVE")),
        };
        let range = FileRange { start, length };
        give(out, ww_filelock(object(file, "file")?.0.lock(mode, range, timeout(timeout_ns)?)?))
    })
}

/// Releases a lock and frees the handle. Never blocks. NULL is allowed. In a child made by fork it frees the child's
/// copy only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_filelock_release(lock: *mut ww_filelock) {
    // SAFETY: as above.
    if let Some(lock) = unsafe { take(lock) } {
        lock.0.release();
    }
}

/// Makes the file at least size bytes long, with its place on the disk reserved, so that a full disk is an error now and not
/// a SIGBUS later; what is new reads as zeroes. It never becomes shorter. Blocks for the disk.
///
/// Errors: -ENOSPC the disk is full, with the mount in the text; -EFBIG more than a file or the process may have; -EBADF
/// opened for reading only; -EDQUOT; -EIO; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_file_grow(file: *const ww_file, size: u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(file, "file")?.0.grow(size) })
}

/// Maps the file, or a part of it, as memory that all who map it share; NULL options map all of it for reading and writing.
/// The mapping stands on its own: the file may be closed. Make the file large enough first (ww_file_grow()). Close it with
/// ww_mapping_close(). Never waits for others.
///
/// Errors: -EACCES the file was not opened for this access; -EINVAL an option, an offset that is not a multiple of the page
/// size, or a length past the end of the file; -ENODEV the file system cannot map; -ENOMEM, -EPERM for lock; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_file_map(
    file: *const ww_file,
    out: *mut *mut ww_mapping,
    options: *const ww_map_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = map_options(options)?;
        give(out, ww_mapping(object(file, "file")?.0.map(&options)?))
    })
}

/// The descriptor. It stays the handle's. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_file_fd(file: *const ww_file) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(file, "file")?.0.as_fd().as_raw_fd()) })
}

/// Where the memory begins, in *data: good until the mapping is closed. Other processes may change it at any time; if one
/// makes the file shorter, touching what is gone raises SIGBUS. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mapping_data(mapping: *const ww_mapping, data: *mut *mut c_void) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { put_data(data, &object(mapping, "mapping")?.0) })
}

/// How many bytes of memory there are behind the pointer. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mapping_size(mapping: *const ww_mapping) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(mapping, "mapping")?.0.len()) })
}

/// Waits until the disk has what was written to length bytes from offset on. Blocks for the disk.
///
/// Errors: -EINVAL outside; -EIO; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mapping_flush(mapping: *const ww_mapping, offset: usize, length: usize) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(mapping, "mapping")?.0.flush(offset, length) })
}

/// Unmaps and frees the handle; pointers into the memory are no longer good. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mapping_close(mapping: *mut ww_mapping) {
    // SAFETY: as above.
    drop(unsafe { take(mapping) });
}

/// Starts watching the file at the address for any of WW_FILE_APPEARED, WW_FILE_CHANGED, WW_FILE_CLOSED and
/// WW_FILE_REMOVED, joined by |. Close it with ww_filewatch_close(). Never blocks.
///
/// Errors: -ENOENT, -ENOTDIR its directory does not exist; -EACCES the directory may not be read; -EMFILE, -ENOSPC too many
/// watches exist, with the limit in the text; -EINVAL the address, no events, or unknown ones; -EISDIR; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_filewatch_open(
    out: *mut *mut ww_filewatch,
    address: *const c_char,
    events: c_int,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let events = FileEvents::from_bits_retain(events.cast_unsigned());
        give(out, ww_filewatch(FileWatch::open(&self::address(address)?, events)?))
    })
}

/// Waits until some of the events watched for have happened since the watch was opened or since the last wait, and returns
/// those, joined by |.
///
/// Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; -ESTALE the directory was removed, renamed or unmounted: open a new watch;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_filewatch_wait(watch: *const ww_filewatch, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let events = object(watch, "filewatch")?.0.wait(timeout(timeout_ns)?)?;
        c_int::try_from(events.bits()).map_err(|_| Error::from_raw(libc::EOVERFLOW, "wait"))
    })
}

/// The descriptor, to poll: readable when something happened in the directory, to this file or another; a wait with WW_NOW
/// tells. It stays the handle's. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_filewatch_fd(watch: *const ww_filewatch) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(watch, "filewatch")?.0.as_fd().as_raw_fd()) })
}

/// Closes the watch; threads that wait on it return -ECANCELED first. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_filewatch_close(watch: *mut ww_filewatch) {
    // SAFETY: as above.
    unsafe { close(watch, |watch| watch.0.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_filewatch_end_waits(watch: *const ww_filewatch) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(watch, "filewatch")?.0.end_waits();
        Ok(())
    })
}
