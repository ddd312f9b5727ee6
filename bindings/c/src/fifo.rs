//! Named pipe.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};

use libc::ssize_t;
use wigwag::{Address, Fifo, FifoOptions, Result, Timeout};

use crate::boundary::{
    Options, address, adopt, bytes, call, close, done, expect_out, flag, give, object, options, room, timeout,
};

/// One end of a named pipe (fifo:/path), for reading or for writing.
///
/// A read of 0 bytes is the end of the stream: every write end is closed, also by the death of its process; a later writer
/// starts it again, and a reader opened with keep_open never sees it. Writing when no read end is left is -EPIPE, and never
/// SIGPIPE. Closed on exec. What nobody has read when the last end is closed is lost; the name stays until
/// ww_fifo_remove(). May be shared between threads.
pub struct ww_fifo(Fifo);

/// How to make or open a FIFO; initialise with WW_FIFO_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_fifo_options {
    pub size: usize,
    /// The bytes it can hold, rounded up by the kernel; 0: the address's capacity=, else what it has already.
    pub capacity: usize,
    /// 1: make the FIFO if it is missing.
    pub create: c_int,
    /// 1: a reader stays without an end of the stream while writers come and go, and need not wait for the first when
    /// opening; it takes the permission to write. Also by the address's keep-open=1. A writer is not affected.
    pub keep_open: c_int,
    /// Permissions of a FIFO made here, set against the umask; 0: the address's mode=, else 0600.
    pub mode: u32,
    pub reserved: c_int,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_fifo_options {}

/// # Safety
/// As `boundary::options`.
unsafe fn convert(given: *const ww_fifo_options) -> Result<FifoOptions> {
    // SAFETY: as the caller promises.
    let given = unsafe { options(given, "ww_fifo_options") }?;
    if given.reserved != 0 {
        return Err(crate::boundary::invalid("ww_fifo_options", "the reserved member must be 0"));
    }
    Ok(FifoOptions {
        create: flag(given.create, "ww_fifo_options.create")?,
        keep_open: flag(given.keep_open, "ww_fifo_options.keep_open")?,
        mode: (given.mode != 0).then_some(given.mode),
        capacity: given.capacity,
    })
}

/// # Safety
/// As those of the exported functions below.
unsafe fn open(
    out: *mut *mut ww_fifo,
    address: *const c_char,
    options: *const ww_fifo_options,
    timeout_ns: i64,
    open: fn(&Address, &FifoOptions, Timeout) -> Result<Fifo>,
) -> c_int {
    // SAFETY: as the caller promises.
    call(|| unsafe {
        expect_out(out)?;
        let options = convert(options)?;
        give(out, ww_fifo(open(&self::address(address)?, &options, timeout(timeout_ns)?)?))
    })
}

/// Makes the FIFO at the address without opening it. Never blocks.
///
/// Errors: -EEXIST the name is taken, by a FIFO or something else; -ENOENT, -ENOTDIR no such directory; -EACCES, -EROFS,
/// -ENOSPC, -ENAMETOOLONG; -EINVAL an address or option; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_fifo_create(address: *const c_char, options: *const ww_fifo_options) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        let options = convert(options)?;
        Fifo::create(&self::address(address)?, &options)
    })
}

/// Removes the name at the address; who has the FIFO open keeps it. Never blocks.
///
/// Errors: -ENOENT; -ENOTSUP it is no FIFO, and was left alone; -EACCES, -EPERM, -EROFS; -EINVAL the address; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_fifo_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Fifo::remove(&self::address(address)?) })
}

/// Opens the read end; waits until a writer has it open too, as the kernel's open does, but at most for the timeout. What a
/// writer left in it counts as a writer; with keep_open it waits for nothing. Close it with ww_fifo_close().
///
/// A writer that waits for a reader is let go as soon as this call has begun, also if it then runs out.
///
/// Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED no writer came; -ENOENT no such FIFO; -ENOTSUP it is something else, which is
/// left untouched; -EACCES; -EMFILE; -EPERM the capacity is above what an unprivileged process may have; -EINVAL an address
/// or option; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_fifo_open_reader(
    out: *mut *mut ww_fifo,
    address: *const c_char,
    options: *const ww_fifo_options,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    unsafe { open(out, address, options, timeout_ns, Fifo::open_reader) }
}

/// Opens the write end; waits until a reader has it open too, as the kernel's open does, but at most for the timeout. Close
/// it with ww_fifo_close().
///
/// Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED no reader came; otherwise as ww_fifo_open_reader().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_fifo_open_writer(
    out: *mut *mut ww_fifo,
    address: *const c_char,
    options: *const ww_fifo_options,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    unsafe { open(out, address, options, timeout_ns, Fifo::open_writer) }
}

/// Takes over one end that something else opened; its mode is left as it is. The handle uses a copy of the descriptor and
/// closes fd; after an error fd stays the caller's. Never blocks.
///
/// Errors: -EINVAL not a pipe's descriptor; -EBADF not an open descriptor; -EMFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_fifo_from_fd(out: *mut *mut ww_fifo, fd: c_int) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_fifo(adopt(fd, "fifo", Fifo::from_fd)?))
    })
}

/// Closes one end; threads that wait on it return -ECANCELED first. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_fifo_close(fifo: *mut ww_fifo) {
    // SAFETY: as above.
    unsafe { close(fifo, |fifo| fifo.0.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_fifo_end_waits(fifo: *const ww_fifo) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(fifo, "fifo")?.0.end_waits();
        Ok(())
    })
}

/// Reads what is there, at most size bytes, and returns how many; waits while nothing is. 0 is the end of the stream.
///
/// Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; -EBADF this is the write end; -EINVAL size is 0; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_fifo_read(
    fifo: *const ww_fifo,
    buffer: *mut c_void,
    size: usize,
    timeout_ns: i64,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object(fifo, "fifo")?.0.read(room(buffer, size)?, timeout(timeout_ns)?) })
}

/// Fills the buffer; waits until all of it has come. *done, which may be NULL, tells how many bytes it holds, also after an
/// error.
///
/// Errors: -EPIPE the stream ended before; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EBADF this is the write end; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_fifo_read_exact(
    fifo: *const ww_fifo,
    buffer: *mut c_void,
    size: usize,
    timeout_ns: i64,
    done: *mut usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        self::done(done, size, || object(fifo, "fifo")?.0.read_exact(room(buffer, size)?, timeout(timeout_ns)?))
    })
}

/// Writes what fits and returns how many bytes did; waits until something does. Up to WW_PIPE_ATOMIC bytes are written whole
/// or not at all, and not mixed with another writer's.
///
/// Errors, with nothing written: -EPIPE no reader is left; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EBADF this is the read end;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_fifo_write(
    fifo: *const ww_fifo,
    data: *const c_void,
    size: usize,
    timeout_ns: i64,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object(fifo, "fifo")?.0.write(bytes(data, size)?, timeout(timeout_ns)?) })
}

/// Writes all of it; waits as long as there is no room. *done, which may be NULL, tells how many bytes were written, also
/// after an error. Above WW_PIPE_ATOMIC bytes other writers may come between.
///
/// Errors: as ww_fifo_write().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_fifo_write_all(
    fifo: *const ww_fifo,
    data: *const c_void,
    size: usize,
    timeout_ns: i64,
    done: *mut usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        self::done(done, size, || object(fifo, "fifo")?.0.write_all(bytes(data, size)?, timeout(timeout_ns)?))
    })
}

/// The bytes that the FIFO can hold. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_fifo_capacity(fifo: *const ww_fifo) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object(fifo, "fifo")?.0.capacity() })
}

/// Sets the bytes that the FIFO can hold, and returns what the kernel made of it. Never blocks.
///
/// Errors: -EPERM more than an unprivileged process may have; -EBUSY more is waiting to be read; -EINVAL 2 GiB or more;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_fifo_set_capacity(fifo: *const ww_fifo, size: usize) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object(fifo, "fifo")?.0.set_capacity(size) })
}

/// Whether this end is the read end: 1 or 0. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_fifo_is_reader(fifo: *const ww_fifo) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(c_int::from(object(fifo, "fifo")?.0.is_reader())) })
}

/// The descriptor, to poll or to pass on. It stays the handle's. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_fifo_fd(fifo: *const ww_fifo) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(fifo, "fifo")?.0.as_fd().as_raw_fd()) })
}
