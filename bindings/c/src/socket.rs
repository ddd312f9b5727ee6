//! Socket.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::time::Duration;

use libc::ssize_t;
use wigwag::{KeepAlive, Result, Scheme, ShutdownSide, Socket, SocketAddress, SocketOptions};

use crate::address::copy_out;
use crate::boundary::{
    self, Options, adopt, borrow, bytes, call, close, done, expect_out, flag, give, invalid, object, options,
    put_if_wanted, room, text, timeout,
};

/// No socket's address is longer as text, the terminating NUL included.
pub const WW_SOCKET_ADDRESS_MAX: usize = 384;
/// The most descriptors that one message can carry.
pub const WW_SOCKET_FDS_MAX: usize = 253;
/// ww_socket_shutdown(): nothing more is received.
pub const WW_SHUTDOWN_RECEIVING: c_int = 0;
/// ww_socket_shutdown(): nothing more is sent; the peer reads the end of the stream.
pub const WW_SHUTDOWN_SENDING: c_int = 1;
/// ww_socket_shutdown(): both.
pub const WW_SHUTDOWN_BOTH: c_int = 2;

/// One end of a connection, or a socket for datagrams: tcp://host:port, udp://host:port, unix:/path or unix:@abstract,
/// unix-dgram: and unix-seqpacket: likewise.
///
/// tcp: and unix: carry bytes; udp:, unix-dgram: and unix-seqpacket: messages, which are never cut. Receiving 0 bytes is
/// the end of a stream (from a datagram socket an empty datagram): the peer has closed or shut down its end, or died.
/// Descriptors are closed on exec unless ww_socket_inherit() says otherwise; a child made by fork shares the socket. May
/// be shared between threads; a stream that several threads send to at once may mix their bytes.
pub struct ww_socket(pub(crate) Socket);

/// How a socket or a listener is opened; initialise with WW_SOCKET_OPTIONS_INIT. Where a member is zero, the option of the
/// address counts (backlog, reuse, nodelay, keepalive, sndbuf, rcvbuf, mode, any-user). What concerns listening alone is
/// ignored by a connecting socket.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_socket_options {
    pub size: usize,
    /// How many connections may wait to be accepted; 0 for as many as the system allows.
    pub backlog: u32,
    /// Whether a port may be bound that was in use a moment ago: 1 yes, -1 no, 0 yes for tcp: and no for udp:.
    pub reuse: c_int,
    /// 1, tcp: alone: small pieces are sent at once instead of being collected.
    pub nodelay: c_int,
    /// 1, tcp: alone: the kernel probes an idle connection; see ww_socket_set_keep_alive().
    pub keepalive: c_int,
    /// The bytes of the send buffer; 0 for the system's default.
    pub send_buffer: usize,
    /// The bytes of the receive buffer; 0 for the system's default.
    pub receive_buffer: usize,
    /// Permissions of a unix path, whatever the umask; 0 for 0600.
    pub mode: u32,
    /// 1: every user may talk to an abstract name, which has no permissions; else only the own user and root.
    pub any_user: c_int,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_socket_options {}

/// Converts a caller's options.
///
/// # Safety
/// As `boundary::options`.
pub(crate) unsafe fn socket_options(given: *const ww_socket_options) -> Result<SocketOptions> {
    // SAFETY: as the caller promises.
    let given = unsafe { options(given, "ww_socket_options") }?;
    Ok(SocketOptions {
        backlog: given.backlog,
        reuse: match given.reuse {
            0 => None,
            1 => Some(true),
            -1 => Some(false),
            _ => return Err(invalid("ww_socket_options.reuse", "reuse is 0, 1 or -1")),
        },
        nodelay: flag(given.nodelay, "ww_socket_options.nodelay")?,
        keepalive: flag(given.keepalive, "ww_socket_options.keepalive")?,
        send_buffer: given.send_buffer,
        receive_buffer: given.receive_buffer,
        mode: given.mode,
        any_user: flag(given.any_user, "ww_socket_options.any_user")?,
    })
}

/// Connects to a listener, or fixes the peer of a datagram socket; waits for a host's name to be looked up and for the
/// connection to be made. A host's addresses are tried one after the other, each for its share of the time that is left
/// and, but for the last, for 10 seconds at most; an empty host is this one. A unix-dgram: socket gets a name of the
/// kernel's choice, so that the peer can answer. Free with ww_socket_close().
///
/// Errors: -ECONNREFUSED nobody listens there; -ENOENT there is no such path or host; -EACCES the path's permissions, or
/// another user holds the abstract name; -EPROTOTYPE a unix socket of another type; -EHOSTUNREACH, -ENETUNREACH;
/// -ENAMETOOLONG a unix name of more than 107 bytes; -ENOTSUP a unix-dgram: abstract name without any_user where the
/// system does not tell who would receive; -ENOBUFS buffers above the system's limit; -EINVAL the address, or an option;
/// -EAGAIN, -ETIMEDOUT, -ECANCELED; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_connect(
    out: *mut *mut ww_socket,
    address: *const c_char,
    options: *const ww_socket_options,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        let options = socket_options(options)?;
        give(out, ww_socket(Socket::connect(&boundary::address(address)?, &options, timeout(timeout_ns)?)?))
    })
}

/// Opens a socket that receives datagrams at a udp: or unix-dgram: address, from anybody; waits at most for a host's name
/// to be looked up. An empty host means all interfaces, over IPv4 and IPv6; port 0 means any free one.
///
/// A path is taken over if it is a socket where nobody receives any more; closing removes it, if this process made it.
/// Datagrams to an abstract name from other users are dropped and counted. Free with ww_socket_close().
///
/// Errors: -EADDRINUSE somebody has the address; -EADDRNOTAVAIL no interface has it; -EACCES a privileged port, or the
/// directory's permissions; -ENOTSOCK the path is something else than a socket (it is left alone); -ENOENT there is no
/// such directory or host; -EHOSTUNREACH; -ENAMETOOLONG; -ENOBUFS; -EINVAL the address, or an option; -EAGAIN, -ETIMEDOUT,
/// -ECANCELED; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_bind(
    out: *mut *mut ww_socket,
    address: *const c_char,
    options: *const ww_socket_options,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = socket_options(options)?;
        give(out, ww_socket(Socket::bind(&boundary::address(address)?, &options, timeout(timeout_ns)?)?))
    })
}

/// Makes two sockets connected to each other, each to be closed with ww_socket_close(). kind is "unix", "unix-dgram" or
/// "unix-seqpacket". Never blocks.
///
/// Errors: -EINVAL another kind; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_pair(
    one: *mut *mut ww_socket,
    other: *mut *mut ww_socket,
    kind: *const c_char,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(one)?;
        expect_out(other)?;
        let kind = text(kind, "kind")?;
        let scheme = Scheme::ALL.iter().find(|scheme| scheme.as_str().as_bytes() == kind);
        let scheme = scheme.ok_or_else(|| invalid("socketpair", "a pair is unix, unix-dgram or unix-seqpacket"))?;
        let (first, second) = Socket::pair(*scheme)?;
        give(one, ww_socket(first))?;
        give(other, ww_socket(second))
    })
}

/// Takes over a socket that something else made; its mode is left as it is. The handle uses a copy of the descriptor and
/// closes fd; after an error fd stays the caller's. Never blocks.
///
/// Errors: -ENOTSOCK not a socket; -ENOTSUP of a family or type without a scheme; -EINVAL it listens (see
/// ww_listener_from_fd()); -EBADF not an open descriptor; -EMFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_from_fd(out: *mut *mut ww_socket, fd: c_int) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_socket(adopt(fd, "socket", Socket::from_fd)?))
    })
}

/// Closes the socket; threads that wait on it return -ECANCELED first. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_close(socket: *mut ww_socket) {
    // SAFETY: as above.
    unsafe { close(socket, |socket| socket.0.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_end_waits(socket: *const ww_socket) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(socket, "socket")?.0.end_waits();
        Ok(())
    })
}

/// Sends what fits of a stream's bytes, or a whole message, and returns how many bytes; waits until there is room.
///
/// Errors, with nothing sent: -EPIPE, -ECONNRESET the peer is gone; -EMSGSIZE the message is larger than the socket can
/// send; -EINVAL an empty message over unix-seqpacket:, which would look like the end; -EDESTADDRREQ, -ENOTCONN there is
/// no peer; -ECONNREFUSED nobody receives at the peer's address; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_send(
    socket: *const ww_socket,
    data: *const c_void,
    size: usize,
    timeout_ns: i64,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object(socket, "socket")?.0.send(bytes(data, size)?, timeout(timeout_ns)?) })
}

/// Sends all bytes of a stream, or a whole message; waits until there is room. *done, which may be NULL, tells how many
/// bytes were sent, also after an error.
///
/// Errors: as ww_socket_send().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_send_all(
    socket: *const ww_socket,
    data: *const c_void,
    size: usize,
    timeout_ns: i64,
    done: *mut usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        self::done(done, size, || object(socket, "socket")?.0.send_all(bytes(data, size)?, timeout(timeout_ns)?))
    })
}

/// Receives what has come of a stream, at most size bytes, or one whole message, and returns how many bytes; waits for
/// something to come. 0 is the end of the stream. Descriptors that come along are closed.
///
/// Errors: -EMSGSIZE the message is larger: *true_size, which may be NULL, tells its size, and it stays to be received with
/// a larger buffer (unless several receivers share the socket: ww_last_error() tells if it was lost); -EINVAL size is 0
/// for a stream; -ECONNRESET the peer is gone; -ENOTCONN there is no peer; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_recv(
    socket: *const ww_socket,
    buffer: *mut c_void,
    size: usize,
    timeout_ns: i64,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let received = object(socket, "socket")?.0.recv(room(buffer, size)?, timeout(timeout_ns)?);
        with_true_size(received, true_size)
    })
}

/// Fills the buffer from a stream; waits until all of it has come. *done, which may be NULL, tells how many bytes it
/// holds, also after an error.
///
/// Errors: -EPIPE the stream ended before; -ECONNRESET; -EAGAIN, -ETIMEDOUT, -ECANCELED; -ENOTSUP the socket carries
/// messages; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_recv_exact(
    socket: *const ww_socket,
    buffer: *mut c_void,
    size: usize,
    timeout_ns: i64,
    done: *mut usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        self::done(done, size, || object(socket, "socket")?.0.recv_exact(room(buffer, size)?, timeout(timeout_ns)?))
    })
}

/// Sends one datagram to an address; waits until there is room, in the receiver's queue too, and for a host's name to be
/// looked up. The address may be one that ww_socket_recv_from() gave. An abstract name is sent to whoever holds it.
///
/// Errors: -EMSGSIZE larger than a datagram can be; -ECONNREFUSED nobody receives there; -ENOENT there is no such path or
/// host; -EACCES the path's permissions; -EPERM the receiver is connected to somebody else; -EISCONN, -ENOTSUP the socket
/// sends no datagrams to addresses; -EINVAL the address; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_send_to(
    socket: *const ww_socket,
    data: *const c_void,
    size: usize,
    to: *const c_char,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let socket = &object(socket, "socket")?.0;
        socket.send_to_address(bytes(data, size)?, &boundary::address(to)?, timeout(timeout_ns)?)
    })
}

/// Receives one whole message as ww_socket_recv() does, and writes its sender's address to from, which has room for
/// WW_SOCKET_ADDRESS_MAX bytes or is NULL. A sender without a name, which cannot be answered, gives "unix-dgram:".
///
/// Errors: as ww_socket_recv(); -ENOTSUP the socket carries a stream; -EINVAL from_size is below WW_SOCKET_ADDRESS_MAX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_recv_from(
    socket: *const ww_socket,
    buffer: *mut c_void,
    size: usize,
    from: *mut c_char,
    from_size: usize,
    timeout_ns: i64,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        if !from.is_null() && from_size < WW_SOCKET_ADDRESS_MAX {
            return Err(invalid("recv_from", "the room for the sender's address is below WW_SOCKET_ADDRESS_MAX"));
        }
        let received = object(socket, "socket")?.0.recv_from(room(buffer, size)?, timeout(timeout_ns)?);
        let (length, sender) = with_true_size(received, true_size)?;
        if !from.is_null() {
            copy_out(sender.to_string().as_bytes(), from, from_size, std::ptr::null_mut())?;
        }
        Ok(length)
    })
}

/// Sends bytes, at least one, over a unix socket, with count open descriptors attached, all or none of them; waits until
/// there is room. The receiver gets descriptors of its own to the same open files; these stay the caller's. *done, which
/// may be NULL, tells how many bytes were sent, also after an error: once it is not 0, the descriptors are.
///
/// Errors: -EINVAL more than WW_SOCKET_FDS_MAX, or no byte; -ENOTSUP tcp: or udp:; -EBADF one is not open; -ETOOMANYREFS
/// too many are on their way; otherwise as ww_socket_send().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_send_fds(
    socket: *const ww_socket,
    data: *const c_void,
    size: usize,
    fds: *const c_int,
    count: usize,
    timeout_ns: i64,
    done: *mut usize,
) -> c_int {
    // SAFETY: as above; the caller promises `count` readable ints, and that they stay open.
    call(|| unsafe {
        self::done(done, size, || {
            let socket = &object(socket, "socket")?.0;
            // NULL and absurd counts are refused as for any range of bytes.
            let given = bytes(fds.cast(), count.saturating_mul(size_of::<c_int>()))?;
            let mut passed = Vec::new();
            for at in 0..given.len() / size_of::<c_int>() {
                if at == WW_SOCKET_FDS_MAX {
                    return Err(invalid("send_fds", "a message carries at most 253 descriptors"));
                }
                passed.push(borrow(fds.add(at).read(), "send_fds")?);
            }
            socket.send_fds(bytes(data, size)?, &passed, timeout(timeout_ns)?)
        })
    })
}

/// Receives bytes as ww_socket_recv() does, and the descriptors attached to them: writes up to capacity of them to fds, and
/// how many to *count. They belong to the caller, and are closed on exec.
///
/// Errors: -EBADMSG more descriptors came than capacity, or not all could be delivered, because this process may have no
/// more: those that came are closed, and the bytes are lost; -ENOTSUP tcp: or udp:; otherwise as ww_socket_recv().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_recv_fds(
    socket: *const ww_socket,
    buffer: *mut c_void,
    size: usize,
    fds: *mut c_int,
    capacity: usize,
    count: *mut usize,
    timeout_ns: i64,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above; the caller promises `capacity` writable ints.
    call(|| unsafe {
        let socket = &object(socket, "socket")?.0;
        room(fds.cast(), capacity.saturating_mul(size_of::<c_int>()))?;
        expect_out(count)?;
        let received = socket.recv_fds(room(buffer, size)?, capacity, timeout(timeout_ns)?);
        let received = with_true_size(received, true_size)?;
        count.write(received.descriptors.len());
        for (at, fd) in received.descriptors.into_iter().map(IntoRawFd::into_raw_fd).enumerate() {
            fds.add(at).write(fd);
        }
        Ok(received.length)
    })
}

/// Closes one direction of a connection, or both (WW_SHUTDOWN_...), for every process that shares the socket. Never
/// blocks.
///
/// Errors: -ENOTCONN there is no connection; -EINVAL; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_shutdown(socket: *const ww_socket, how: c_int) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let how = match how {
            WW_SHUTDOWN_RECEIVING => ShutdownSide::Receiving,
            WW_SHUTDOWN_SENDING => ShutdownSide::Sending,
            WW_SHUTDOWN_BOTH => ShutdownSide::Both,
            _ => return Err(invalid("shutdown", "what to shut down is one of WW_SHUTDOWN_...")),
        };
        object(socket, "socket")?.0.shutdown(how)
    })
}

/// Writes the address of this end as text, with a terminating NUL, and returns its length without it; "unix:" for a
/// socket without a name. WW_SOCKET_ADDRESS_MAX bytes are always enough. Never blocks.
///
/// Errors: -EMSGSIZE size is too small, *true_size, which may be NULL, tells the length without the NUL; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_local_address(
    socket: *const ww_socket,
    buffer: *mut c_char,
    size: usize,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { print(object(socket, "socket")?.0.local_address()?, buffer, size, true_size) })
}

/// Writes the address of the other end, as ww_socket_local_address().
///
/// Errors: -ENOTCONN there is no peer; otherwise as ww_socket_local_address().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_peer_address(
    socket: *const ww_socket,
    buffer: *mut c_char,
    size: usize,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { print(object(socket, "socket")?.0.peer_address()?, buffer, size, true_size) })
}

/// The process on the other side of a unix connection or pair, as the kernel vouches for it, when it connected, began to
/// listen or made the pair. Each output may be NULL. pid is 0 for a process outside of this pid namespace. Never blocks.
///
/// Errors: -ENOTSUP tcp:, udp:, or datagrams without a pair; -ENOTCONN not connected; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_peer_credentials(
    socket: *const ww_socket,
    pid: *mut libc::pid_t,
    uid: *mut libc::uid_t,
    gid: *mut libc::gid_t,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let peer = object(socket, "socket")?.0.peer_credentials()?;
        put_if_wanted(pid, peer.pid);
        put_if_wanted(uid, peer.uid);
        put_if_wanted(gid, peer.gid);
        Ok(())
    })
}

/// Whether small pieces are sent at once: 1 or 0. Never blocks. Errors: -ENOTSUP not tcp:; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_nodelay(socket: *const ww_socket) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(socket, "socket")?.0.nodelay().map(c_int::from) })
}

/// Has small pieces sent at once (1), or collected (0). Never blocks. Errors: -ENOTSUP not tcp:; -EINVAL; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_set_nodelay(socket: *const ww_socket, on: c_int) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(socket, "socket")?.0.set_nodelay(flag(on, "nodelay")?) })
}

/// Whether the kernel probes the connection while it is idle: 1 or 0; if so, writes after how long, in which intervals, in
/// seconds, and how many unanswered probes break it. Each output may be NULL. Never blocks.
///
/// Errors: -ENOTSUP not tcp:; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_keep_alive(
    socket: *const ww_socket,
    idle_s: *mut u32,
    interval_s: *mut u32,
    probes: *mut u32,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let Some(found) = object(socket, "socket")?.0.keep_alive()? else { return Ok(0) };
        let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        put_if_wanted(idle_s, seconds(found.idle));
        put_if_wanted(interval_s, seconds(found.interval));
        put_if_wanted(probes, found.probes);
        Ok(1)
    })
}

/// Has the kernel probe the connection while it is idle (on is 1), and break it with -ETIMEDOUT when the peer does not
/// answer, or stops that (0). 0 for idle_s, interval_s and probes leaves the system's default. Never blocks.
///
/// Errors: -ENOTSUP not tcp:; -EINVAL above 32767 seconds or 127 probes; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_set_keep_alive(
    socket: *const ww_socket,
    on: c_int,
    idle_s: u32,
    interval_s: u32,
    probes: u32,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let socket = &object(socket, "socket")?.0;
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let wanted = KeepAlive { idle: seconds(idle_s), interval: seconds(interval_s), probes };
        socket.set_keep_alive(flag(on, "keepalive")?.then_some(wanted))
    })
}

/// The bytes that the send buffer has for data. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_send_buffer(socket: *const ww_socket) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object(socket, "socket")?.0.send_buffer() })
}

/// Sets the bytes of the send buffer; the kernel may give more. Never blocks. Errors: -ENOBUFS above the system's limit
/// net.core.wmem_max, and the buffer has that size then; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_set_send_buffer(socket: *const ww_socket, size: usize) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(socket, "socket")?.0.set_send_buffer(size) })
}

/// The bytes that the receive buffer has for data. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_receive_buffer(socket: *const ww_socket) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { object(socket, "socket")?.0.receive_buffer() })
}

/// Sets the bytes of the receive buffer; the kernel may give more. Never blocks. Errors: -ENOBUFS above the system's limit
/// net.core.rmem_max, and the buffer has that size then; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_set_receive_buffer(socket: *const ww_socket, size: usize) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(socket, "socket")?.0.set_receive_buffer(size) })
}

/// How many datagrams to an abstract name were dropped because another user had sent them. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_refused(socket: *const ww_socket) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Ok(usize::try_from(object(socket, "socket")?.0.refused()).unwrap_or(usize::MAX)) })
}

/// Keeps the socket open over exec, in blocking mode as programs expect of one that they inherit. Never blocks; not to be
/// called while another thread uses it. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_inherit(socket: *const ww_socket) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(socket, "socket")?.0.inherit() })
}

/// The descriptor, to poll or to pass on. It stays the handle's. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_socket_fd(socket: *const ww_socket) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(socket, "socket")?.0.as_fd().as_raw_fd()) })
}

/// Writes a socket's address to a caller's buffer.
///
/// # Safety
/// As `copy_out`.
pub(crate) unsafe fn print(
    address: SocketAddress,
    buffer: *mut c_char,
    size: usize,
    true_size: *mut usize,
) -> Result<usize> {
    // SAFETY: as the caller promises.
    unsafe { copy_out(address.to_string().as_bytes(), buffer, size, true_size) }
}

/// Writes the true size of a message that did not fit.
unsafe fn with_true_size<T>(received: Result<T>, true_size: *mut usize) -> Result<T> {
    received.inspect_err(|error| {
        if error.errno() == libc::EMSGSIZE {
            // SAFETY: the caller's promise about the output.
            unsafe { put_if_wanted(true_size, error.true_size()) };
        }
    })
}
