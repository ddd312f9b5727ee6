//! Anonymous pipe.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libc::ssize_t;
use wigwag::{Pipe, PipeOptions};

use crate::boundary::{
    Options, adopt, borrow, bytes, call, close, done, expect_out, flag, give, invalid, object, options, room, timeout,
};

/// Writes of up to this many bytes are never torn and never mixed with another writer's.
pub const WW_PIPE_ATOMIC: usize = 4096;

/// One end of an anonymous pipe (pipe:), for reading or for writing.
///
/// A read of 0 bytes is the end of the stream: every write end is closed, also by the death of its process. Writing when
/// no read end is left is -EPIPE, and never SIGPIPE. Both ends are closed on exec unless ww_pipe_inherit() says
/// otherwise; a child made by fork has both until then. May be shared between threads.
///
/// The timeouts rely on the non-blocking mode, which belongs to all that have an end in common by a fork: a program that
/// gets one in another way than by ww_pipe_inherit(), and makes it block, makes it block here too.
pub struct ww_pipe(Pipe);

/// How a pipe is made; initialise with WW_PIPE_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_pipe_options {
    pub size: usize,
    /// The bytes it can hold, rounded up by the kernel; 0 for the system's default.
    pub capacity: usize,
    /// 1: each write is a packet of 1 to WW_PIPE_ATOMIC bytes, and each read takes one whole.
    pub packet: c_int,
    pub reserved: c_int,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_pipe_options {}

/// Makes a pipe and gives both ends, each to be closed with ww_pipe_close(). Never blocks.
///
/// Errors: -EMFILE, -ENFILE no descriptor is left; -EPERM the capacity is above what an unprivileged process may have;
/// -EINVAL an option; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pipe_open(
    reader: *mut *mut ww_pipe,
    writer: *mut *mut ww_pipe,
    options: *const ww_pipe_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(reader)?;
        expect_out(writer)?;
        let given = self::options(options, "ww_pipe_options")?;
        if given.reserved != 0 {
            return Err(invalid("ww_pipe_options", "the reserved member must be 0"));
        }
        let packet = flag(given.packet, "ww_pipe_options.packet")?;
        let (read_end, write_end) = Pipe::open(PipeOptions { capacity: given.capacity, packet })?;
        give(reader, ww_pipe(read_end))?;
        give(writer, ww_pipe(write_end))
    })
}

/// Takes over one end that something else made, such as standard input; its mode is left as it is. The handle uses a copy
/// of the descriptor and closes fd; after an error fd stays the caller's. Never blocks.
///
/// Errors: -EINVAL not a pipe's descriptor; -EBADF not an open descriptor; -EMFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pipe_from_fd(out: *mut *mut ww_pipe, fd: c_int) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_pipe(adopt(fd, "pipe", Pipe::from_fd)?))
    })
}

/// Closes one end; threads that wait on it return -ECANCELED first. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pipe_close(pipe: *mut ww_pipe) {
    // SAFETY: as above.
    unsafe { close(pipe, |pipe| pipe.0.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pipe_end_waits(pipe: *const ww_pipe) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(pipe, "pipe")?.0.end_waits();
        Ok(())
    })
}

/// Reads what is there, at most size bytes, and returns how many; waits while nothing is. 0 is the end of the stream.
///
/// Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; -EBADF this is the write end; -EINVAL size is 0; -EMSGSIZE in packet mode
/// size is below WW_PIPE_ATOMIC, so that a packet could be cut (nothing is taken); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pipe_read(
    pipe: *const ww_pipe,
    buffer: *mut c_void,
    size: usize,
    timeout_ns: i64,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object(pipe, "pipe")?.0.read(room(buffer, size)?, timeout(timeout_ns)?) })
}

/// Fills the buffer; waits until all of it has come. *done, which may be NULL, tells how many bytes it holds, also
/// after an error.
///
/// Errors: -EPIPE the stream ended before; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EBADF this is the write end; -ENOTSUP the
/// pipe is in packet mode; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pipe_read_exact(
    pipe: *const ww_pipe,
    buffer: *mut c_void,
    size: usize,
    timeout_ns: i64,
    done: *mut usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        self::done(done, size, || object(pipe, "pipe")?.0.read_exact(room(buffer, size)?, timeout(timeout_ns)?))
    })
}

/// Writes what fits and returns how many bytes did; waits until something does. Up to WW_PIPE_ATOMIC bytes are written
/// whole or not at all.
///
/// Errors, with nothing written: -EPIPE no reader is left; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EBADF this is the read end;
/// -EMSGSIZE longer than a packet, -EINVAL an empty packet; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pipe_write(
    pipe: *const ww_pipe,
    data: *const c_void,
    size: usize,
    timeout_ns: i64,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object(pipe, "pipe")?.0.write(bytes(data, size)?, timeout(timeout_ns)?) })
}

/// Writes all of it; waits as long as there is no room. *done, which may be NULL, tells how many bytes were written,
/// also after an error. Above WW_PIPE_ATOMIC bytes other writers may come between.
///
/// Errors: as ww_pipe_write().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pipe_write_all(
    pipe: *const ww_pipe,
    data: *const c_void,
    size: usize,
    timeout_ns: i64,
    done: *mut usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        self::done(done, size, || object(pipe, "pipe")?.0.write_all(bytes(data, size)?, timeout(timeout_ns)?))
    })
}

/// Moves up to size bytes from this read end to the pipe, file or socket behind fd, without copying them through this
/// process, and returns how many; waits until some can be moved. 0 is the end of the stream.
///
/// Errors: -EINVAL the other side cannot take part, or size is 0; -EPIPE the other side has no reader left; -EBADF this
/// is the write end, or fd is not open; -EFBIG the file may not grow further (never SIGXFSZ); -EAGAIN, -ETIMEDOUT,
/// -ECANCELED; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pipe_splice_to(pipe: *const ww_pipe, fd: c_int, size: usize, timeout_ns: i64) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object(pipe, "pipe")?.0.splice_to(borrow(fd, "splice")?, size, timeout(timeout_ns)?) })
}

/// Moves up to size bytes from the pipe, file or socket behind fd into this write end; waits, and fails, as
/// ww_pipe_splice_to(). 0 is the end of the input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pipe_splice_from(pipe: *const ww_pipe, fd: c_int, size: usize, timeout_ns: i64) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let from: BorrowedFd<'_> = borrow(fd, "splice")?;
        object(pipe, "pipe")?.0.splice_from(from, size, timeout(timeout_ns)?)
    })
}

/// Copies up to size bytes from this read end into another pipe's write end and leaves them here to be read; returns
/// how many, and waits until some can be copied. 0 is the end of the stream. Errors: as ww_pipe_splice_to().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pipe_tee(
    pipe: *const ww_pipe,
    to: *const ww_pipe,
    size: usize,
    timeout_ns: i64,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object(pipe, "pipe")?.0.tee(&object(to, "pipe")?.0, size, timeout(timeout_ns)?) })
}

/// The bytes that the pipe can hold. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pipe_capacity(pipe: *const ww_pipe) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object(pipe, "pipe")?.0.capacity() })
}

/// Sets the bytes that the pipe can hold, and returns what the kernel made of it. Never blocks.
///
/// Errors: -EPERM more than an unprivileged process may have; -EBUSY more is waiting to be read; -EINVAL 2 GiB or more;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pipe_set_capacity(pipe: *const ww_pipe, size: usize) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object(pipe, "pipe")?.0.set_capacity(size) })
}

/// Whether this end is the read end: 1 or 0. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pipe_is_reader(pipe: *const ww_pipe) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(c_int::from(object(pipe, "pipe")?.0.is_reader())) })
}

/// Keeps this end open over exec, in blocking mode as programs expect of a pipe that they inherit. Never blocks; not to
/// be called while another thread uses this end. Other processes that have the end by a fork keep theirs as it is; a wait set or
/// event loop that watches this one has to be told of it anew. Errors: -EMFILE, -ENFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pipe_inherit(pipe: *const ww_pipe) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(pipe, "pipe")?.0.inherit() })
}

/// The descriptor, to poll or to pass on. It stays the handle's. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pipe_fd(pipe: *const ww_pipe) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(pipe, "pipe")?.0.as_fd().as_raw_fd()) })
}
