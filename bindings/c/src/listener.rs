//! Listener.

use std::ffi::{c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};

use libc::ssize_t;
use wigwag::Listener;

use crate::boundary::{self, adopt, call, close, expect_out, give, object, timeout};
use crate::socket::{print, socket_options, ww_socket, ww_socket_options};

/// A socket that accepts connections: tcp://host:port, unix:/path or unix:@abstract, unix-seqpacket: likewise.
///
/// A unix path stays behind when the process is killed; the next listener on it takes it over. Closed on exec unless
/// ww_listener_inherit() says otherwise; a child made by fork shares the listener. May be shared between threads.
pub struct ww_listener(Listener);

/// Listens at an address; waits at most for a host's name to be looked up. An empty host means all interfaces, over IPv4
/// and IPv6; port 0 means any free one, see ww_listener_local_address(). Free with ww_listener_close().
///
/// A path is taken over if it is a socket where nobody listens any more; closing removes it, if this process made it.
/// Accepted connections have the listener's nodelay, keepalive and buffer sizes.
///
/// Errors: -EADDRINUSE somebody listens there; -EADDRNOTAVAIL no interface has the address; -EACCES a privileged port, or
/// the directory's permissions; -ENOTSOCK the path is something else than a socket (it is left alone); -ENOENT there is no
/// such directory or host; -EHOSTUNREACH; -ENAMETOOLONG; -ENOBUFS buffers above the system's limit; -EINVAL the address,
/// or an option; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_listener_open(
    out: *mut *mut ww_listener,
    address: *const c_char,
    options: *const ww_socket_options,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        let options = socket_options(options)?;
        give(out, ww_listener(Listener::open(&boundary::address(address)?, &options, timeout(timeout_ns)?)?))
    })
}

/// Takes over a listening socket that something else made, such as a service manager; its mode is left as it is, and so is
/// its path when it is closed. The handle uses a copy of the descriptor and closes fd; after an error fd stays the
/// caller's. Never blocks.
///
/// Errors: -ENOTSOCK not a socket; -ENOTSUP of a family or type without a scheme; -EINVAL it does not listen; -EBADF not an
/// open descriptor; -EMFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_listener_from_fd(out: *mut *mut ww_listener, fd: c_int) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_listener(adopt(fd, "listener", Listener::from_fd)?))
    })
}

/// Closes the listener and removes its path, if this process made it; threads that wait on it return -ECANCELED first.
/// NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_listener_close(listener: *mut ww_listener) {
    // SAFETY: as above.
    unsafe { close(listener, |listener| listener.0.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_listener_end_waits(listener: *const ww_listener) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(listener, "listener")?.0.end_waits();
        Ok(())
    })
}

/// Accepts the connection that has waited longest; waits for one. Free it with ww_socket_close(). On an abstract name,
/// connections of users other than the own and root are closed at once and counted.
///
/// Errors: -EMFILE, -ENFILE no descriptor is left (the connection goes on waiting); -EAGAIN, -ETIMEDOUT, -ECANCELED;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_listener_accept(
    listener: *const ww_listener,
    out: *mut *mut ww_socket,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_socket(object(listener, "listener")?.0.accept(timeout(timeout_ns)?)?))
    })
}

/// Writes the address that it listens at as text, with the port that the kernel chose and a terminating NUL, and returns
/// its length without the NUL. WW_SOCKET_ADDRESS_MAX bytes are always enough. Never blocks.
///
/// Errors: -EMSGSIZE size is too small, *true_size, which may be NULL, tells the length without the NUL; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_listener_local_address(
    listener: *const ww_listener,
    buffer: *mut c_char,
    size: usize,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { print(object(listener, "listener")?.0.local_address()?, buffer, size, true_size) })
}

/// How many connections to an abstract name were refused because they were another user's. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_listener_refused(listener: *const ww_listener) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Ok(usize::try_from(object(listener, "listener")?.0.refused()).unwrap_or(usize::MAX)) })
}

/// Keeps the listener open over exec, in blocking mode as programs expect of one that they inherit. Never blocks; not to
/// be called while another thread uses it. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_listener_inherit(listener: *const ww_listener) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(listener, "listener")?.0.inherit() })
}

/// The descriptor, to poll or to pass on; readable while a connection waits. It stays the handle's. Never blocks. Errors:
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_listener_fd(listener: *const ww_listener) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(listener, "listener")?.0.as_fd().as_raw_fd()) })
}
