/*
 * wigwag.h: every way two Linux processes can talk.
 *
 * Generated from bindings/c by `make header`; edit there.
 *
 * Rules that hold for every function, unless it says otherwise:
 *
 * Errors. Functions return 0 or a count on success and a negated errno on failure, nothing else. Outputs are written only
 * on success; exceptions are `size_t *done` and `*sent` (how far a transfer came, always written) and `*true_size` or
 * `*length` (with -EMSGSIZE). ww_last_error() tells, for the calling thread, the operation, the object, the cause and the remedy. Possible
 * everywhere, named below or not: -EFAULT, a NULL pointer where none may be; -EINVAL, a size of more than half the address
 * space; -ENOMEM; -ENOTRECOVERABLE, a defect of the library was met and stopped at this call; where an address is given,
 * -EINVAL, it is none, or of a scheme that the call is not for, and -ENAMETOOLONG, its name is longer than such an object's
 * can be; and for calls that can wait:
 *   -EAGAIN      the call would block, and the timeout is WW_NOW
 *   -ETIMEDOUT   the deadline passed; never early
 *   -ECANCELED   a ww_cancel fired, or another thread closed the object or ended its waits
 *   -EINVAL      the timeout is negative and not WW_FOREVER
 * -EINTR never comes back: after a signal the call goes on with the time that is left. SIGPIPE is never raised.
 *
 * Parameters. First the handle, or where to put a new one; then the outputs that must be there and what the call is
 * about, a buffer before its size; then the timeout; last the outputs that may be NULL.
 *
 * Time. Timeouts are nanoseconds on the monotonic clock: WW_FOREVER, WW_NOW, WW_MS(n), WW_SEC(n). A call tries first and
 * waits only if it would block.
 *
 * Ownership. A handle belongs to the caller until it is given to its ww_..._close(), which accepts NULL. Threads that wait
 * on it meanwhile return -ECANCELED before the handle goes; any other use during or after close is undefined, as with
 * free(): where threads call again and again, have their waits end by ww_..._end_waits(), join them, then close. Text and
 * data that a function returns belong to the library, as long as its comment says. Pointers handed in are used during the
 * call only, but for a pool's functions and their user pointers.
 *
 * Options. A struct whose first member is its size: initialise it with its WW_..._INIT macro, set what you want, and leave
 * the rest: zero is the default. NULL means all defaults. Unknown flags and set members that this version does not know
 * are -EINVAL.
 *
 * Threads. A handle may be used from several threads at once. Do not pthread_cancel() a thread in a call of the library:
 * what the call holds would stay held. Use a ww_cancel.
 *
 * Fork. A child may use the handles that it inherited; they are the same kernel objects. What is only of one process says
 * so. After fork in a program with threads, wigwag can be used as far as malloc can, which glibc allows.
 *
 * Signals. Only functions that say so may be called in a signal handler. The library takes one real-time signal for
 * itself, the highest that has no handler when it first waits (SIGRTMAX - 2 as a rule), to end waits in calls that know
 * no timeout; it is let through in a thread while that thread waits.
 */
#ifndef WIGWAG_H
#define WIGWAG_H

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

/* What the WW_..._INIT macros stand for: all zeros, but for the size. */
#ifdef __cplusplus
template <typename options> static inline options ww_init_options() {
    options zeroed = options();
    zeroed.size = sizeof zeroed;
    return zeroed;
}
#define WW_INIT(type) ww_init_options<type>()
#define WW_INT64(n) static_cast<int64_t>(n)
#define WW_AS(type, n) static_cast<type>(n)
#define WW_SIZE(n) static_cast<size_t>(n)
#define WW_CHARS(p) static_cast<char *>(p)
#else
#define WW_INIT(type) { .size = sizeof(type) }
#define WW_INT64(n) ((int64_t)(n))
#define WW_AS(type, n) ((type)(n))
#define WW_SIZE(n) ((size_t)(n))
#define WW_CHARS(p) ((char *)(p))
#endif

/* Durations in nanoseconds. */
#define WW_MS(n) WW_INT64((n) * WW_INT64(1000000))
#define WW_SEC(n) WW_INT64((n) * WW_INT64(1000000000))

#ifdef __cplusplus
extern "C" {
#endif


/* ---- Library-wide: version, last error ---- */

/* Wait for ever. */
#define WW_FOREVER (-1)

/* Do not wait: fail with -EAGAIN where the call would block. */
#define WW_NOW 0

/* The version of the library, such as "0.1.0". Never blocks, never fails; the text is the library's. */
const char *ww_version(void);

/* The text of the calling thread's last error: operation, object, errno, cause and remedy.
 *
 * Never blocks. Calls that succeed leave it as it is; it is empty before the first failure. The text is the library's
 * and good until this thread's next failing call, or its next call of this function. */
const char *ww_last_error(void);

/* Which way the library took where kernels differ, one line for each, such as
 * "write without SIGPIPE: pwritev2 with RWF_NOSIGNAL".
 *
 * Never blocks. The text is the library's and good until this thread's next call of this function. */
const char *ww_paths(void);


/* ---- Addresses ---- */

/* One line of text that names an IPC object, parsed:
 * scheme ":" name ["#" id] ["?" key "=" value *("&" key "=" value)].
 *
 * May be shared between threads; never changes. Free it with ww_address_close(). */
typedef struct ww_address ww_address;

/* Parses text. Never blocks.
 *
 * Errors: -EINVAL with the position and what was expected there in ww_last_error(); -ENAMETOOLONG the name is longer
 * than such an object's can be; -EFAULT. */
int ww_address_parse(ww_address **out, const char *spelled);

/* Frees an address. NULL is allowed. */
void ww_address_close(ww_address *address);

/* Writes the address as text, with a terminating NUL. Parsing that text gives the same address.
 *
 * Never blocks. Returns the length without the NUL. Errors: -EMSGSIZE if size is too small, with nothing written; the
 * length that is needed, without the NUL, is stored in *true_size, which may be NULL. -EFAULT. */
ssize_t ww_address_print(const ww_address *address, char *buffer, size_t size, size_t *true_size);

/* The scheme, such as "sysv-mq", without the colon. Never blocks. The text is the library's and lasts for ever.
 * Returns NULL for NULL. */
const char *ww_address_scheme(const ww_address *address);

/* Copies the name, as plain bytes without percent-coding, and a terminating NUL.
 *
 * Never blocks. Returns the length without the NUL. Errors: as ww_address_print(). */
ssize_t ww_address_name(const ww_address *address, char *buffer, size_t size, size_t *true_size);

/* ftok's project number, 1 to 255, or 0 where there is none. Never blocks. Errors: -EFAULT. */
int ww_address_id(const ww_address *address);

/* Copies the value of an option, as plain bytes, and a terminating NUL.
 *
 * Never blocks. Returns the length without the NUL. Errors: -ENOENT the address does not have the option; otherwise as
 * ww_address_print(). */
ssize_t ww_address_option(const ww_address *address, const char *key, char *buffer, size_t size, size_t *true_size);

/* Whether two addresses are the same, options included: 1 or 0. Never blocks. Errors: -EFAULT. */
int ww_address_equals(const ww_address *a, const ww_address *b);


/* ---- Cancellation ---- */

/* Ends the waits of every thread that is in its scope.
 *
 * Between ww_cancel_enter() and ww_cancel_leave(), every blocking wigwag call of that thread returns -ECANCELED once
 * the cancel has fired; a call that need not wait still succeeds. Scopes nest, and any of them ends a wait. May be
 * shared between threads. After fork, the child's copy is its own. */
typedef struct ww_cancel ww_cancel;

/* Makes a cancel that has not fired. Never blocks. Errors: -EFAULT. */
int ww_cancel_new(ww_cancel **out);

/* Frees a cancel; no thread may be in its scope or about to fire it. NULL is allowed. */
void ww_cancel_close(ww_cancel *cancel);

/* Ends the waits of the threads in scope, now and later. Never blocks; allowed in signal handlers. Errors: -EFAULT. */
int ww_cancel_fire(const ww_cancel *cancel);

/* Whether it has fired: 1 or 0. Never blocks; allowed in signal handlers. Errors: -EFAULT. */
int ww_cancel_is_fired(const ww_cancel *cancel);

/* Makes it as new, so that waits in scope block again. Never blocks. Errors: -EFAULT. */
int ww_cancel_reset(const ww_cancel *cancel);

/* Puts the calling thread's waits under this cancel until the matching ww_cancel_leave(). Never blocks.
 * Errors: -EFAULT. */
int ww_cancel_enter(const ww_cancel *cancel);

/* Undoes the calling thread's newest ww_cancel_enter() for this cancel. Never blocks.
 *
 * Errors: -EINVAL this thread is not in its scope; -EFAULT. */
int ww_cancel_leave(const ww_cancel *cancel);


/* ---- Socket ---- */

/* No socket's address is longer as text, the terminating NUL included. */
#define WW_SOCKET_ADDRESS_MAX 384

/* The most descriptors that one message can carry. */
#define WW_SOCKET_FDS_MAX 253

/* ww_socket_shutdown(): nothing more is received. */
#define WW_SHUTDOWN_RECEIVING 0

/* ww_socket_shutdown(): nothing more is sent; the peer reads the end of the stream. */
#define WW_SHUTDOWN_SENDING 1

/* ww_socket_shutdown(): both. */
#define WW_SHUTDOWN_BOTH 2

/* One end of a connection, or a socket for datagrams: tcp://host:port, udp://host:port, unix:/path or unix:@abstract,
 * unix-dgram: and unix-seqpacket: likewise.
 *
 * tcp: and unix: carry bytes; udp:, unix-dgram: and unix-seqpacket: messages, which are never cut. Receiving 0 bytes is
 * the end of a stream (from a datagram socket an empty datagram): the peer has closed or shut down its end, or died.
 * Descriptors are closed on exec unless ww_socket_inherit() says otherwise; a child made by fork shares the socket. May
 * be shared between threads; a stream that several threads send to at once may mix their bytes. */
typedef struct ww_socket ww_socket;

/* How a socket or a listener is opened; initialise with WW_SOCKET_OPTIONS_INIT. Where a member is zero, the option of the
 * address counts (backlog, reuse, nodelay, keepalive, sndbuf, rcvbuf, mode, any-user). What concerns listening alone is
 * ignored by a connecting socket. */
typedef struct ww_socket_options {
    size_t size;
    /* How many connections may wait to be accepted; 0 for as many as the system allows. */
    uint32_t backlog;
    /* Whether a port may be bound that was in use a moment ago: 1 yes, -1 no, 0 yes for tcp: and no for udp:. */
    int reuse;
    /* 1, tcp: alone: small pieces are sent at once instead of being collected. */
    int nodelay;
    /* 1, tcp: alone: the kernel probes an idle connection; see ww_socket_set_keep_alive(). */
    int keepalive;
    /* The bytes of the send buffer; 0 for the system's default. */
    size_t send_buffer;
    /* The bytes of the receive buffer; 0 for the system's default. */
    size_t receive_buffer;
    /* Permissions of a unix path, whatever the umask; 0 for 0600. */
    uint32_t mode;
    /* 1: every user may talk to an abstract name, which has no permissions; else only the own user and root. */
    int any_user;
} ww_socket_options;
#define WW_SOCKET_OPTIONS_INIT WW_INIT(ww_socket_options)

/* Connects to a listener, or fixes the peer of a datagram socket; waits for a host's name to be looked up and for the
 * connection to be made. A host's addresses are tried one after the other, each for its share of the time that is left
 * and, but for the last, for 10 seconds at most; an empty host is this one. A unix-dgram: socket gets a name of the
 * kernel's choice, so that the peer can answer. Free with ww_socket_close().
 *
 * Errors: -ECONNREFUSED nobody listens there; -ENOENT there is no such path or host; -EACCES the path's permissions, or
 * another user holds the abstract name; -EPROTOTYPE a unix socket of another type; -EHOSTUNREACH, -ENETUNREACH;
 * -ENAMETOOLONG a unix name of more than 107 bytes; -ENOTSUP a unix-dgram: abstract name without any_user where the
 * system does not tell who would receive; -ENOBUFS buffers above the system's limit; -EINVAL the address, or an option;
 * -EAGAIN, -ETIMEDOUT, -ECANCELED; -EMFILE, -ENFILE; -EFAULT. */
int ww_socket_connect(ww_socket **out, const char *address, const ww_socket_options *options, int64_t timeout_ns);

/* Opens a socket that receives datagrams at a udp: or unix-dgram: address, from anybody; waits at most for a host's name
 * to be looked up. An empty host means all interfaces, over IPv4 and IPv6; port 0 means any free one.
 *
 * A path is taken over if it is a socket where nobody receives any more; closing removes it, if this process made it.
 * Datagrams to an abstract name from other users are dropped and counted. Free with ww_socket_close().
 *
 * Errors: -EADDRINUSE somebody has the address; -EADDRNOTAVAIL no interface has it; -EACCES a privileged port, or the
 * directory's permissions; -ENOTSOCK the path is something else than a socket (it is left alone); -ENOENT there is no
 * such directory or host; -EHOSTUNREACH; -ENAMETOOLONG; -ENOBUFS; -EINVAL the address, or an option; -EAGAIN, -ETIMEDOUT,
 * -ECANCELED; -EMFILE, -ENFILE; -EFAULT. */
int ww_socket_bind(ww_socket **out, const char *address, const ww_socket_options *options, int64_t timeout_ns);

/* Makes two sockets connected to each other, each to be closed with ww_socket_close(). kind is "unix", "unix-dgram" or
 * "unix-seqpacket". Never blocks.
 *
 * Errors: -EINVAL another kind; -EMFILE, -ENFILE; -EFAULT. */
int ww_socket_pair(ww_socket **one, ww_socket **other, const char *kind);

/* Takes over a socket that something else made; its mode is left as it is. The handle uses a copy of the descriptor and
 * closes fd; after an error fd stays the caller's. Never blocks.
 *
 * Errors: -ENOTSOCK not a socket; -ENOTSUP of a family or type without a scheme; -EINVAL it listens (see
 * ww_listener_from_fd()); -EBADF not an open descriptor; -EMFILE; -EFAULT. */
int ww_socket_from_fd(ww_socket **out, int fd);

/* Closes the socket; threads that wait on it return -ECANCELED first. NULL is allowed. */
void ww_socket_close(ww_socket *socket);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_socket_end_waits(const ww_socket *socket);

/* Sends what fits of a stream's bytes, or a whole message, and returns how many bytes; waits until there is room.
 *
 * Errors, with nothing sent: -EPIPE, -ECONNRESET the peer is gone; -EMSGSIZE the message is larger than the socket can
 * send; -EINVAL an empty message over unix-seqpacket:, which would look like the end; -EDESTADDRREQ, -ENOTCONN there is
 * no peer; -ECONNREFUSED nobody receives at the peer's address; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT. */
ssize_t ww_socket_send(const ww_socket *socket, const void *data, size_t size, int64_t timeout_ns);

/* Sends all bytes of a stream, or a whole message; waits until there is room. *done, which may be NULL, tells how many
 * bytes were sent, also after an error.
 *
 * Errors: as ww_socket_send(). */
int ww_socket_send_all(const ww_socket *socket, const void *data, size_t size, int64_t timeout_ns, size_t *done);

/* Receives what has come of a stream, at most size bytes, or one whole message, and returns how many bytes; waits for
 * something to come. 0 is the end of the stream. Descriptors that come along are closed.
 *
 * Errors: -EMSGSIZE the message is larger: *true_size, which may be NULL, tells its size, and it stays to be received with
 * a larger buffer (unless several receivers share the socket: ww_last_error() tells if it was lost); -EINVAL size is 0
 * for a stream; -ECONNRESET the peer is gone; -ENOTCONN there is no peer; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT. */
ssize_t ww_socket_recv(const ww_socket *socket, void *buffer, size_t size, int64_t timeout_ns, size_t *true_size);

/* Fills the buffer from a stream; waits until all of it has come. *done, which may be NULL, tells how many bytes it
 * holds, also after an error.
 *
 * Errors: -EPIPE the stream ended before; -ECONNRESET; -EAGAIN, -ETIMEDOUT, -ECANCELED; -ENOTSUP the socket carries
 * messages; -EFAULT. */
int ww_socket_recv_exact(const ww_socket *socket, void *buffer, size_t size, int64_t timeout_ns, size_t *done);

/* Sends one datagram to an address; waits until there is room, in the receiver's queue too, and for a host's name to be
 * looked up. The address may be one that ww_socket_recv_from() gave. An abstract name is sent to whoever holds it.
 *
 * Errors: -EMSGSIZE larger than a datagram can be; -ECONNREFUSED nobody receives there; -ENOENT there is no such path or
 * host; -EACCES the path's permissions; -EPERM the receiver is connected to somebody else; -EISCONN, -ENOTSUP the socket
 * sends no datagrams to addresses; -EINVAL the address; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT. */
int ww_socket_send_to(const ww_socket *socket, const void *data, size_t size, const char *to, int64_t timeout_ns);

/* Receives one whole message as ww_socket_recv() does, and writes its sender's address to from, which has room for
 * WW_SOCKET_ADDRESS_MAX bytes or is NULL. A sender without a name, which cannot be answered, gives "unix-dgram:".
 *
 * Errors: as ww_socket_recv(); -ENOTSUP the socket carries a stream; -EINVAL from_size is below WW_SOCKET_ADDRESS_MAX. */
ssize_t ww_socket_recv_from(const ww_socket *socket, void *buffer, size_t size, char *from, size_t from_size,
                            int64_t timeout_ns, size_t *true_size);

/* Sends bytes, at least one, over a unix socket, with count open descriptors attached, all or none of them; waits until
 * there is room. The receiver gets descriptors of its own to the same open files; these stay the caller's. *done, which
 * may be NULL, tells how many bytes were sent, also after an error: once it is not 0, the descriptors are.
 *
 * Errors: -EINVAL more than WW_SOCKET_FDS_MAX, or no byte; -ENOTSUP tcp: or udp:; -EBADF one is not open; -ETOOMANYREFS
 * too many are on their way; otherwise as ww_socket_send(). */
int ww_socket_send_fds(const ww_socket *socket, const void *data, size_t size, const int *fds, size_t count,
                       int64_t timeout_ns, size_t *done);

/* Receives bytes as ww_socket_recv() does, and the descriptors attached to them: writes up to capacity of them to fds, and
 * how many to *count. They belong to the caller, and are closed on exec.
 *
 * Errors: -EBADMSG more descriptors came than capacity, or not all could be delivered, because this process may have no
 * more: those that came are closed, and the bytes are lost; -ENOTSUP tcp: or udp:; otherwise as ww_socket_recv(). */
ssize_t ww_socket_recv_fds(const ww_socket *socket, void *buffer, size_t size, int *fds, size_t capacity, size_t *count,
                           int64_t timeout_ns, size_t *true_size);

/* Closes one direction of a connection, or both (WW_SHUTDOWN_...), for every process that shares the socket. Never
 * blocks.
 *
 * Errors: -ENOTCONN there is no connection; -EINVAL; -EFAULT. */
int ww_socket_shutdown(const ww_socket *socket, int how);

/* Writes the address of this end as text, with a terminating NUL, and returns its length without it; "unix:" for a
 * socket without a name. WW_SOCKET_ADDRESS_MAX bytes are always enough. Never blocks.
 *
 * Errors: -EMSGSIZE size is too small, *true_size, which may be NULL, tells the length without the NUL; -EFAULT. */
ssize_t ww_socket_local_address(const ww_socket *socket, char *buffer, size_t size, size_t *true_size);

/* Writes the address of the other end, as ww_socket_local_address().
 *
 * Errors: -ENOTCONN there is no peer; otherwise as ww_socket_local_address(). */
ssize_t ww_socket_peer_address(const ww_socket *socket, char *buffer, size_t size, size_t *true_size);

/* The process on the other side of a unix connection or pair, as the kernel vouches for it, when it connected, began to
 * listen or made the pair. Each output may be NULL. pid is 0 for a process outside of this pid namespace. Never blocks.
 *
 * Errors: -ENOTSUP tcp:, udp:, or datagrams without a pair; -ENOTCONN not connected; -EFAULT. */
int ww_socket_peer_credentials(const ww_socket *socket, pid_t *pid, uid_t *uid, gid_t *gid);

/* Whether small pieces are sent at once: 1 or 0. Never blocks. Errors: -ENOTSUP not tcp:; -EFAULT. */
int ww_socket_nodelay(const ww_socket *socket);

/* Has small pieces sent at once (1), or collected (0). Never blocks. Errors: -ENOTSUP not tcp:; -EINVAL; -EFAULT. */
int ww_socket_set_nodelay(const ww_socket *socket, int on);

/* Whether the kernel probes the connection while it is idle: 1 or 0; if so, writes after how long, in which intervals, in
 * seconds, and how many unanswered probes break it. Each output may be NULL. Never blocks.
 *
 * Errors: -ENOTSUP not tcp:; -EFAULT. */
int ww_socket_keep_alive(const ww_socket *socket, uint32_t *idle_s, uint32_t *interval_s, uint32_t *probes);

/* Has the kernel probe the connection while it is idle (on is 1), and break it with -ETIMEDOUT when the peer does not
 * answer, or stops that (0). 0 for idle_s, interval_s and probes leaves the system's default. Never blocks.
 *
 * Errors: -ENOTSUP not tcp:; -EINVAL above 32767 seconds or 127 probes; -EFAULT. */
int ww_socket_set_keep_alive(const ww_socket *socket, int on, uint32_t idle_s, uint32_t interval_s, uint32_t probes);

/* The bytes that the send buffer has for data. Never blocks. Errors: -EFAULT. */
ssize_t ww_socket_send_buffer(const ww_socket *socket);

/* Sets the bytes of the send buffer; the kernel may give more. Never blocks. Errors: -ENOBUFS above the system's limit
 * net.core.wmem_max, and the buffer has that size then; -EFAULT. */
int ww_socket_set_send_buffer(const ww_socket *socket, size_t size);

/* The bytes that the receive buffer has for data. Never blocks. Errors: -EFAULT. */
ssize_t ww_socket_receive_buffer(const ww_socket *socket);

/* Sets the bytes of the receive buffer; the kernel may give more. Never blocks. Errors: -ENOBUFS above the system's limit
 * net.core.rmem_max, and the buffer has that size then; -EFAULT. */
int ww_socket_set_receive_buffer(const ww_socket *socket, size_t size);

/* How many datagrams to an abstract name were dropped because another user had sent them. Never blocks. Errors: -EFAULT. */
ssize_t ww_socket_refused(const ww_socket *socket);

/* Keeps the socket open over exec, in blocking mode as programs expect of one that they inherit. Never blocks; not to be
 * called while another thread uses it. Errors: -EFAULT. */
int ww_socket_inherit(const ww_socket *socket);

/* The descriptor, to poll or to pass on. It stays the handle's. Never blocks. Errors: -EFAULT. */
int ww_socket_fd(const ww_socket *socket);


/* ---- Listener ---- */

/* A socket that accepts connections: tcp://host:port, unix:/path or unix:@abstract, unix-seqpacket: likewise.
 *
 * A unix path stays behind when the process is killed; the next listener on it takes it over. Closed on exec unless
 * ww_listener_inherit() says otherwise; a child made by fork shares the listener. May be shared between threads. */
typedef struct ww_listener ww_listener;

/* Listens at an address; waits at most for a host's name to be looked up. An empty host means all interfaces, over IPv4
 * and IPv6; port 0 means any free one, see ww_listener_local_address(). Free with ww_listener_close().
 *
 * A path is taken over if it is a socket where nobody listens any more; closing removes it, if this process made it.
 * Accepted connections have the listener's nodelay, keepalive and buffer sizes.
 *
 * Errors: -EADDRINUSE somebody listens there; -EADDRNOTAVAIL no interface has the address; -EACCES a privileged port, or
 * the directory's permissions; -ENOTSOCK the path is something else than a socket (it is left alone); -ENOENT there is no
 * such directory or host; -EHOSTUNREACH; -ENAMETOOLONG; -ENOBUFS buffers above the system's limit; -EINVAL the address,
 * or an option; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EMFILE, -ENFILE; -EFAULT. */
int ww_listener_open(ww_listener **out, const char *address, const ww_socket_options *options, int64_t timeout_ns);

/* Takes over a listening socket that something else made, such as a service manager; its mode is left as it is, and so is
 * its path when it is closed. The handle uses a copy of the descriptor and closes fd; after an error fd stays the
 * caller's. Never blocks.
 *
 * Errors: -ENOTSOCK not a socket; -ENOTSUP of a family or type without a scheme; -EINVAL it does not listen; -EBADF not an
 * open descriptor; -EMFILE; -EFAULT. */
int ww_listener_from_fd(ww_listener **out, int fd);

/* Closes the listener and removes its path, if this process made it; threads that wait on it return -ECANCELED first.
 * NULL is allowed. */
void ww_listener_close(ww_listener *listener);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_listener_end_waits(const ww_listener *listener);

/* Accepts the connection that has waited longest; waits for one. Free it with ww_socket_close(). On an abstract name,
 * connections of users other than the own and root are closed at once and counted.
 *
 * Errors: -EMFILE, -ENFILE no descriptor is left (the connection goes on waiting); -EAGAIN, -ETIMEDOUT, -ECANCELED;
 * -EFAULT. */
int ww_listener_accept(const ww_listener *listener, ww_socket **out, int64_t timeout_ns);

/* Writes the address that it listens at as text, with the port that the kernel chose and a terminating NUL, and returns
 * its length without the NUL. WW_SOCKET_ADDRESS_MAX bytes are always enough. Never blocks.
 *
 * Errors: -EMSGSIZE size is too small, *true_size, which may be NULL, tells the length without the NUL; -EFAULT. */
ssize_t ww_listener_local_address(const ww_listener *listener, char *buffer, size_t size, size_t *true_size);

/* How many connections to an abstract name were refused because they were another user's. Never blocks. Errors: -EFAULT. */
ssize_t ww_listener_refused(const ww_listener *listener);

/* Keeps the listener open over exec, in blocking mode as programs expect of one that they inherit. Never blocks; not to
 * be called while another thread uses it. Errors: -EFAULT. */
int ww_listener_inherit(const ww_listener *listener);

/* The descriptor, to poll or to pass on; readable while a connection waits. It stays the handle's. Never blocks. Errors:
 * -EFAULT. */
int ww_listener_fd(const ww_listener *listener);


/* ---- Disk file ---- */

/* ww_file_options.access: for reading, appending and both kinds of locks. */
#define WW_FILE_READ_WRITE 0

/* ww_file_options.access: for reading and shared locks. */
#define WW_FILE_READ 1

/* ww_file_options.access: for appending and exclusive locks. */
#define WW_FILE_APPEND 2

/* ww_file_options.create: fail with -ENOENT if the file is missing. */
#define WW_FILE_EXISTING 0

/* ww_file_options.create: make an empty file if it is missing. */
#define WW_FILE_CREATE 1

/* ww_file_options.create: make an empty file, and fail with -EEXIST if it is not missing. */
#define WW_FILE_CREATE_NEW 2

/* ww_file_replace_options.durability: a power failure leaves the old or the new content, and the new once the call has
 * returned. */
#define WW_FILE_DURABLE 0

/* ww_file_replace_options.durability: a power failure leaves the old or the new content, maybe the old for a while
 * after the call. */
#define WW_FILE_DURABLE_CONTENT 1

/* ww_file_replace_options.durability: nothing is said about power failures. */
#define WW_FILE_NOT_DURABLE 2

/* ww_file_lock(): together with other shared locks. */
#define WW_FILE_SHARED 0

/* ww_file_lock(): alone. */
#define WW_FILE_EXCLUSIVE 1

/* What a ww_filewatch waits for and tells, joined by |: the name came to be (made, linked, or renamed into place). */
#define WW_FILE_APPEARED 1

/* The content may be another: written, truncated, made, or another file renamed into place; not by memory mappings. */
#define WW_FILE_CHANGED 2

/* It is complete: closed by one that had it open for writing, or renamed into place. */
#define WW_FILE_CLOSED 4

/* The name is gone. */
#define WW_FILE_REMOVED 8

/* Only told, with all that was asked for: more happened than the kernel keeps (fs.inotify.max_queued_events), so each
 * may have happened. */
#define WW_FILE_OVERFLOWED 16

/* An open disk file (file:/path). It stays with the file that was opened, also after ww_file_replace() has given the name
 * to another one or the name was removed. May be shared between threads and with children made by fork. */
typedef struct ww_file ww_file;

/* A lock that is held on a file. It stands on its own: the ww_file may be closed meanwhile. It is of one process: a child
 * made by fork does not have it. When the process dies, the kernel releases it, and does not tell the next holder. */
typedef struct ww_filelock ww_filelock;

/* A watch over the name of a file, which need not exist yet. Everything from the moment it is opened is seen, so the way
 * to miss nothing is: open the watch, look at the file, wait, look again. What happens more than once before a wait is told
 * once; of several threads that wait on one watch, one is told. Not seen is what is done through another hard link, on
 * another machine of a network file system, or to the file that a symbolic link leads to. */
typedef struct ww_filewatch ww_filewatch;

/* A file as memory. May be shared between threads; a child made by fork has it as well. */
typedef struct ww_mapping ww_mapping;

/* How to replace a file; initialise with WW_FILE_REPLACE_OPTIONS_INIT. */
typedef struct ww_file_replace_options {
    size_t size;
    /* WW_FILE_DURABLE, WW_FILE_DURABLE_CONTENT or WW_FILE_NOT_DURABLE. */
    int durability;
    /* Permissions of the file; 0: the address's mode=, else those that the old file had, else 0600. */
    uint32_t mode;
} ww_file_replace_options;
#define WW_FILE_REPLACE_OPTIONS_INIT WW_INIT(ww_file_replace_options)

/* How to open a file; initialise with WW_FILE_OPTIONS_INIT. */
typedef struct ww_file_options {
    size_t size;
    /* WW_FILE_READ_WRITE, WW_FILE_READ or WW_FILE_APPEND. */
    int access;
    /* WW_FILE_EXISTING, WW_FILE_CREATE or WW_FILE_CREATE_NEW. */
    int create;
    /* Permissions of a file made here, set against the umask; 0: the address's mode=, else 0600. */
    uint32_t mode;
    int reserved;
} ww_file_options;
#define WW_FILE_OPTIONS_INIT WW_INIT(ww_file_options)

/* Which part of a file to map, and how; initialise with WW_MAP_OPTIONS_INIT. */
typedef struct ww_map_options {
    size_t size;
    /* The first byte; a multiple of the page size. */
    uint64_t offset;
    /* How many bytes; 0 is all up to the end of the file. */
    size_t length;
    /* 1: map for reading only; writing through the pointer is SIGSEGV then. */
    int read_only;
    /* 1: have all pages present from the start, so that no first access is slow. */
    int populate;
    /* 1: keep the pages in memory, never in swap; counts against RLIMIT_MEMLOCK. */
    int lock;
    int reserved;
} ww_map_options;
#define WW_MAP_OPTIONS_INIT WW_INIT(ww_map_options)

/* Makes the bytes the content of the file at the address, so that every reader sees the old or the new content, never a
 * part, also if this process is killed at any moment; makes the file if it is missing. Blocks for the disk.
 *
 * It becomes another file of the same name: who has the old one open, locked or mapped keeps the old one. Permissions and
 * group are kept, the owner where the process may give files away.
 *
 * Errors, with the old content untouched: -ENOSPC, -EDQUOT, -EFBIG the new content does not fit; -EACCES, -EROFS the
 * directory may not be written; -EPERM the old file's group is not this process's and no mode was given, or the directory
 * is sticky; -ENOENT, -ENOTDIR no such directory; -EISDIR; -ENOTSUP no regular file; -ELOOP a symbolic link; -EINVAL an
 * address or option; -EIO. An error of the directory's fsync says in its text that the new content is in place. */
int ww_file_replace(const char *address, const void *data, size_t size, const ww_file_replace_options *options);

/* Reads the whole file at the address if it has no more than size bytes, and returns how many. A file that is only ever
 * replaced is seen as it was before or after. Blocks for the disk only.
 *
 * Errors: -EMSGSIZE it is larger, and *true_size, which may be NULL, tells how large (0: not known); -ENOENT; -EACCES;
 * -EISDIR; -ENOTSUP no regular file; -EINVAL the address; -EIO; -EFAULT. */
ssize_t ww_file_load(const char *address, void *buffer, size_t size, size_t *true_size);

/* Removes the name at the address; who has the file open keeps it. Never blocks, other than for the disk.
 *
 * Errors: -ENOENT; -EISDIR, -ENOTSUP, -ELOOP no regular file, which is left alone; -EACCES, -EPERM, -EROFS; -EINVAL. */
int ww_file_remove(const char *address);

/* Waits until something has the name at the address; returns at once if something has. Should the path of its directory lead
 * to another one meanwhile, that is noticed within two seconds, which a ww_filewatch does not. That it is there does not say that
 * it is complete: a writer should use ww_file_replace(), or a ww_filewatch for WW_FILE_CLOSED be opened before it begins.
 *
 * Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; as ww_filewatch_open() and ww_filewatch_wait(). */
int ww_file_until_exists(const char *address, int64_t timeout_ns);

/* Opens the file at the address; NULL options open an existing one for all purposes. Close it with ww_file_close(). Never
 * blocks, other than for the disk.
 *
 * Errors: -ENOENT; -EEXIST with WW_FILE_CREATE_NEW; -EISDIR a directory; -ENOTSUP something else that is no regular file,
 * which is left untouched; -EACCES, -EROFS, -ENOSPC, -EMFILE, -ENAMETOOLONG; -EINVAL an address or option; -EFAULT. */
int ww_file_open(ww_file **out, const char *address, const ww_file_options *options);

/* Takes over a descriptor of a regular file (also a memfd) that something else opened. The handle uses a copy of the
 * descriptor and closes fd; after an error fd stays the caller's. Never blocks.
 *
 * Errors: -EISDIR, -ENOTSUP no regular file; -EBADF not an open descriptor; -EMFILE; -EFAULT. */
int ww_file_from_fd(ww_file **out, int fd);

/* Closes the file; threads that wait for a lock on it return -ECANCELED first. NULL is allowed. */
void ww_file_close(ww_file *file);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_file_end_waits(const ww_file *file);

/* Appends a record in one write: no other process that appends can come in between. *done, which may be NULL, tells how
 * many bytes are in the file, also after an error: a part stays there if the disk became full in the middle, since cutting
 * it off could cut off what others have appended meanwhile; ww_file_append_locked() can take it back. Never blocks, other
 * than for the disk.
 *
 * Errors: -ENOSPC, -EDQUOT the disk or quota is full; -EFBIG the file or the process may not grow further (never SIGXFSZ, if
 * the process had its limit when it opened the file: who sets RLIMIT_FSIZE later ignores the signal, opens the file anew or
 * appends by ww_file_append_locked()); -EMSGSIZE more than 2147479552 bytes, with nothing written;
 * -EBADF not opened for appending; -EINVAL adopted without O_APPEND; -EIO; -EFAULT. */
int ww_file_append(const ww_file *file, const void *data, size_t size, size_t *done);

/* As ww_file_append() under an exclusive lock of the whole file, so that a record which did not fit is taken back: among
 * processes that all append this way, each record is there as a whole or not at all. Waits for the lock.
 *
 * Errors: as ww_file_append() and ww_file_lock(). */
int ww_file_append_locked(const ww_file *file, const void *data, size_t size, int64_t timeout_ns, size_t *done);

/* Reads the whole of the open file, as ww_file_load() does by name. Blocks for the disk only. Errors: as there; -EBADF
 * opened for appending only. */
ssize_t ww_file_read_all(const ww_file *file, void *buffer, size_t size, size_t *true_size);

/* Reads what is there from the offset on, at most size bytes, and returns how many; 0 at or past the end. Blocks for the
 * disk only. Errors: -EBADF opened for appending only; -EINVAL an offset past 2^63 - 1; -EIO; -EFAULT. */
ssize_t ww_file_read_at(const ww_file *file, uint64_t offset, void *buffer, size_t size);

/* The size in bytes. Never blocks. Errors: -EFAULT. */
int ww_file_size(const ww_file *file, uint64_t *size);

/* Returns once what was appended is on the disk, to survive a power failure. Blocks for the disk.
 *
 * Errors: -EIO, -ENOSPC, -EDQUOT some of it may be lost, which a later call may not tell again; -EFAULT. */
int ww_file_sync(const ww_file *file);

/* Locks length bytes of the file from start on (0: all to the end, however far it grows) in the mode WW_FILE_SHARED or
 * WW_FILE_EXCLUSIVE, against the same call by any process or thread, and F_OFD_SETLK and F_SETLK (not flock) by programs
 * that know nothing of wigwag. Release it with ww_filelock_release(). A thread that asks for what it has locked itself
 * waits too. Lock a file that stays: of one that is replaced or removed meanwhile, the lock is not given.
 *
 * Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; -ESTALE since it was opened, the file was removed or replaced: open it again;
 * -EBADF not open for reading (shared), for writing (exclusive); -EINVAL the mode, or a range past 2^63 - 1; -ENOLCK;
 * -EACCES, -EMFILE the file cannot be opened once more, which a lock takes; -ENOENT /proc is not mounted; -EFAULT. */
int ww_file_lock(const ww_file *file, ww_filelock **out, int mode, uint64_t start, uint64_t length, int64_t timeout_ns);

/* Releases a lock and frees the handle. Never blocks. NULL is allowed. In a child made by fork it frees the child's
 * copy only. */
void ww_filelock_release(ww_filelock *lock);

/* Makes the file at least size bytes long, with its place on the disk reserved, so that a full disk is an error now and not
 * a SIGBUS later; what is new reads as zeroes. It never becomes shorter. Blocks for the disk.
 *
 * Errors: -ENOSPC the disk is full, with the mount in the text; -EFBIG more than a file or the process may have; -EBADF
 * opened for reading only; -EDQUOT; -EIO; -EFAULT. */
int ww_file_grow(const ww_file *file, uint64_t size);

/* Maps the file, or a part of it, as memory that all who map it share; NULL options map all of it for reading and writing.
 * The mapping stands on its own: the file may be closed. Make the file large enough first (ww_file_grow()). Close it with
 * ww_mapping_close(). Never waits for others.
 *
 * Errors: -EACCES the file was not opened for this access; -EINVAL an option, an offset that is not a multiple of the page
 * size, or a length past the end of the file; -ENODEV the file system cannot map; -ENOMEM, -EPERM for lock; -EFAULT. */
int ww_file_map(const ww_file *file, ww_mapping **out, const ww_map_options *options);

/* The descriptor. It stays the handle's. Never blocks. Errors: -EFAULT. */
int ww_file_fd(const ww_file *file);

/* Where the memory begins, in *data: good until the mapping is closed. Other processes may change it at any time; if one
 * makes the file shorter, touching what is gone raises SIGBUS. Never blocks. Errors: -EFAULT. */
int ww_mapping_data(const ww_mapping *mapping, void **data);

/* How many bytes of memory there are behind the pointer. Never blocks. Errors: -EFAULT. */
ssize_t ww_mapping_size(const ww_mapping *mapping);

/* Waits until the disk has what was written to length bytes from offset on. Blocks for the disk.
 *
 * Errors: -EINVAL outside; -EIO; -EFAULT. */
int ww_mapping_flush(const ww_mapping *mapping, size_t offset, size_t length);

/* Unmaps and frees the handle; pointers into the memory are no longer good. NULL is allowed. */
void ww_mapping_close(ww_mapping *mapping);

/* Starts watching the file at the address for any of WW_FILE_APPEARED, WW_FILE_CHANGED, WW_FILE_CLOSED and
 * WW_FILE_REMOVED, joined by |. Close it with ww_filewatch_close(). Never blocks.
 *
 * Errors: -ENOENT, -ENOTDIR its directory does not exist; -EACCES the directory may not be read; -EMFILE, -ENOSPC too many
 * watches exist, with the limit in the text; -EINVAL the address, no events, or unknown ones; -EISDIR; -EFAULT. */
int ww_filewatch_open(ww_filewatch **out, const char *address, int events);

/* Waits until some of the events watched for have happened since the watch was opened or since the last wait, and returns
 * those, joined by |.
 *
 * Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; -ESTALE the directory was removed, renamed or unmounted: open a new watch;
 * -EFAULT. */
int ww_filewatch_wait(const ww_filewatch *watch, int64_t timeout_ns);

/* The descriptor, to poll: readable when something happened in the directory, to this file or another; a wait with WW_NOW
 * tells. It stays the handle's. Never blocks. Errors: -EFAULT. */
int ww_filewatch_fd(const ww_filewatch *watch);

/* Closes the watch; threads that wait on it return -ECANCELED first. NULL is allowed. */
void ww_filewatch_close(ww_filewatch *watch);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_filewatch_end_waits(const ww_filewatch *watch);


/* ---- Event counter ---- */

/* An event counter (eventfd:): one side adds to a 64-bit number in the kernel, the other takes from it.
 *
 * May be shared between threads. Shared with children made by fork, and with others by passing the descriptor. Gone
 * with its last descriptor. */
typedef struct ww_eventfd ww_eventfd;

/* How an event counter is made; initialise with WW_EVENTFD_OPTIONS_INIT. */
typedef struct ww_eventfd_options {
    size_t size;
    /* The value at the start, at most 2^64 - 2. */
    uint64_t initial;
    /* 1: each take gives 1 and leaves the rest, instead of taking all at once. */
    int semaphore;
    int reserved;
} ww_eventfd_options;
#define WW_EVENTFD_OPTIONS_INIT WW_INIT(ww_eventfd_options)

/* Makes a counter; NULL options mean one that starts at 0 and is taken whole. Close it with ww_eventfd_close().
 *
 * Never blocks. Errors: -EMFILE, -ENFILE no descriptor is left; -EINVAL the initial value or an option; -EFAULT. */
int ww_eventfd_open(ww_eventfd **out, const ww_eventfd_options *options);

/* Takes over an eventfd that something else made; its mode is left as it is. The handle uses a copy of the descriptor and
 * closes fd; after an error fd stays the caller's. Never blocks. Errors: -EBADF, -EMFILE, -EFAULT. */
int ww_eventfd_from_fd(ww_eventfd **out, int fd);

/* Closes the counter; threads that wait on it return -ECANCELED first. NULL is allowed. */
void ww_eventfd_close(ww_eventfd *eventfd);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_eventfd_end_waits(const ww_eventfd *eventfd);

/* Adds to the counter; waits while the sum would pass 2^64 - 2.
 *
 * Errors, with nothing added: -EAGAIN, -ETIMEDOUT, -ECANCELED; -EINVAL the value is 2^64 - 1; -EFAULT. */
int ww_eventfd_add(const ww_eventfd *eventfd, uint64_t value, int64_t timeout_ns);

/* Takes the whole counter, or 1 in semaphore mode, into *value; waits while it is zero.
 *
 * Errors, with nothing taken: -EAGAIN, -ETIMEDOUT, -ECANCELED; -EBADMSG an adopted descriptor is not an eventfd;
 * -EFAULT. */
int ww_eventfd_take(const ww_eventfd *eventfd, uint64_t *value, int64_t timeout_ns);

/* The descriptor, to poll or to pass on: readable while the counter is above 0. It stays the handle's.
 * Never blocks. Errors: -EFAULT. */
int ww_eventfd_fd(const ww_eventfd *eventfd);


/* ---- Anonymous pipe ---- */

/* Writes of up to this many bytes are never torn and never mixed with another writer's. */
#define WW_PIPE_ATOMIC 4096

/* One end of an anonymous pipe (pipe:), for reading or for writing.
 *
 * A read of 0 bytes is the end of the stream: every write end is closed, also by the death of its process. Writing when
 * no read end is left is -EPIPE, and never SIGPIPE. Both ends are closed on exec unless ww_pipe_inherit() says
 * otherwise; a child made by fork has both until then. May be shared between threads.
 *
 * The timeouts rely on the non-blocking mode, which belongs to all that have an end in common by a fork: a program that
 * gets one in another way than by ww_pipe_inherit(), and makes it block, makes it block here too. */
typedef struct ww_pipe ww_pipe;

/* How a pipe is made; initialise with WW_PIPE_OPTIONS_INIT. */
typedef struct ww_pipe_options {
    size_t size;
    /* The bytes it can hold, rounded up by the kernel; 0 for the system's default. */
    size_t capacity;
    /* 1: each write is a packet of 1 to WW_PIPE_ATOMIC bytes, and each read takes one whole. */
    int packet;
    int reserved;
} ww_pipe_options;
#define WW_PIPE_OPTIONS_INIT WW_INIT(ww_pipe_options)

/* Makes a pipe and gives both ends, each to be closed with ww_pipe_close(). Never blocks.
 *
 * Errors: -EMFILE, -ENFILE no descriptor is left; -EPERM the capacity is above what an unprivileged process may have;
 * -EINVAL an option; -EFAULT. */
int ww_pipe_open(ww_pipe **reader, ww_pipe **writer, const ww_pipe_options *options);

/* Takes over one end that something else made, such as standard input; its mode is left as it is. The handle uses a copy
 * of the descriptor and closes fd; after an error fd stays the caller's. Never blocks.
 *
 * Errors: -EINVAL not a pipe's descriptor; -EBADF not an open descriptor; -EMFILE; -EFAULT. */
int ww_pipe_from_fd(ww_pipe **out, int fd);

/* Closes one end; threads that wait on it return -ECANCELED first. NULL is allowed. */
void ww_pipe_close(ww_pipe *pipe);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_pipe_end_waits(const ww_pipe *pipe);

/* Reads what is there, at most size bytes, and returns how many; waits while nothing is. 0 is the end of the stream.
 *
 * Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; -EBADF this is the write end; -EINVAL size is 0; -EMSGSIZE in packet mode
 * size is below WW_PIPE_ATOMIC, so that a packet could be cut (nothing is taken); -EFAULT. */
ssize_t ww_pipe_read(const ww_pipe *pipe, void *buffer, size_t size, int64_t timeout_ns);

/* Fills the buffer; waits until all of it has come. *done, which may be NULL, tells how many bytes it holds, also
 * after an error.
 *
 * Errors: -EPIPE the stream ended before; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EBADF this is the write end; -ENOTSUP the
 * pipe is in packet mode; -EFAULT. */
int ww_pipe_read_exact(const ww_pipe *pipe, void *buffer, size_t size, int64_t timeout_ns, size_t *done);

/* Writes what fits and returns how many bytes did; waits until something does. Up to WW_PIPE_ATOMIC bytes are written
 * whole or not at all.
 *
 * Errors, with nothing written: -EPIPE no reader is left; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EBADF this is the read end;
 * -EMSGSIZE longer than a packet, -EINVAL an empty packet; -EFAULT. */
ssize_t ww_pipe_write(const ww_pipe *pipe, const void *data, size_t size, int64_t timeout_ns);

/* Writes all of it; waits as long as there is no room. *done, which may be NULL, tells how many bytes were written,
 * also after an error. Above WW_PIPE_ATOMIC bytes other writers may come between.
 *
 * Errors: as ww_pipe_write(). */
int ww_pipe_write_all(const ww_pipe *pipe, const void *data, size_t size, int64_t timeout_ns, size_t *done);

/* Moves up to size bytes from this read end to the pipe, file or socket behind fd, without copying them through this
 * process, and returns how many; waits until some can be moved. 0 is the end of the stream.
 *
 * Errors: -EINVAL the other side cannot take part, or size is 0; -EPIPE the other side has no reader left; -EBADF this
 * is the write end, or fd is not open; -EFBIG the file may not grow further (never SIGXFSZ); -EAGAIN, -ETIMEDOUT,
 * -ECANCELED; -EFAULT. */
ssize_t ww_pipe_splice_to(const ww_pipe *pipe, int fd, size_t size, int64_t timeout_ns);

/* Moves up to size bytes from the pipe, file or socket behind fd into this write end; waits, and fails, as
 * ww_pipe_splice_to(). 0 is the end of the input. */
ssize_t ww_pipe_splice_from(const ww_pipe *pipe, int fd, size_t size, int64_t timeout_ns);

/* Copies up to size bytes from this read end into another pipe's write end and leaves them here to be read; returns
 * how many, and waits until some can be copied. 0 is the end of the stream. Errors: as ww_pipe_splice_to(). */
ssize_t ww_pipe_tee(const ww_pipe *pipe, const ww_pipe *to, size_t size, int64_t timeout_ns);

/* The bytes that the pipe can hold. Never blocks. Errors: -EFAULT. */
ssize_t ww_pipe_capacity(const ww_pipe *pipe);

/* Sets the bytes that the pipe can hold, and returns what the kernel made of it. Never blocks.
 *
 * Errors: -EPERM more than an unprivileged process may have; -EBUSY more is waiting to be read; -EINVAL 2 GiB or more;
 * -EFAULT. */
ssize_t ww_pipe_set_capacity(const ww_pipe *pipe, size_t size);

/* Whether this end is the read end: 1 or 0. Never blocks. Errors: -EFAULT. */
int ww_pipe_is_reader(const ww_pipe *pipe);

/* Keeps this end open over exec, in blocking mode as programs expect of a pipe that they inherit. Never blocks; not to
 * be called while another thread uses this end. Other processes that have the end by a fork keep theirs as it is; a wait set or
 * event loop that watches this one has to be told of it anew. Errors: -EMFILE, -ENFILE, -EFAULT. */
int ww_pipe_inherit(const ww_pipe *pipe);

/* The descriptor, to poll or to pass on. It stays the handle's. Never blocks. Errors: -EFAULT. */
int ww_pipe_fd(const ww_pipe *pipe);


/* ---- Named pipe ---- */

/* One end of a named pipe (fifo:/path), for reading or for writing.
 *
 * A read of 0 bytes is the end of the stream: every write end is closed, also by the death of its process; a later writer
 * starts it again, and a reader opened with keep_open never sees it. Writing when no read end is left is -EPIPE, and never
 * SIGPIPE. Closed on exec. What nobody has read when the last end is closed is lost; the name stays until
 * ww_fifo_remove(). May be shared between threads. */
typedef struct ww_fifo ww_fifo;

/* How to make or open a FIFO; initialise with WW_FIFO_OPTIONS_INIT. */
typedef struct ww_fifo_options {
    size_t size;
    /* The bytes it can hold, rounded up by the kernel; 0: the address's capacity=, else what it has already. */
    size_t capacity;
    /* 1: make the FIFO if it is missing. */
    int create;
    /* 1: a reader stays without an end of the stream while writers come and go, and need not wait for the first when
     * opening; it takes the permission to write. Also by the address's keep-open=1. A writer is not affected. */
    int keep_open;
    /* Permissions of a FIFO made here, set against the umask; 0: the address's mode=, else 0600. */
    uint32_t mode;
    int reserved;
} ww_fifo_options;
#define WW_FIFO_OPTIONS_INIT WW_INIT(ww_fifo_options)

/* Makes the FIFO at the address without opening it. Never blocks.
 *
 * Errors: -EEXIST the name is taken, by a FIFO or something else; -ENOENT, -ENOTDIR no such directory; -EACCES, -EROFS,
 * -ENOSPC, -ENAMETOOLONG; -EINVAL an address or option; -EFAULT. */
int ww_fifo_create(const char *address, const ww_fifo_options *options);

/* Removes the name at the address; who has the FIFO open keeps it. Never blocks.
 *
 * Errors: -ENOENT; -ENOTSUP it is no FIFO, and was left alone; -EACCES, -EPERM, -EROFS; -EINVAL the address; -EFAULT. */
int ww_fifo_remove(const char *address);

/* Opens the read end; waits until a writer has it open too, as the kernel's open does, but at most for the timeout. What a
 * writer left in it counts as a writer; with keep_open it waits for nothing. Close it with ww_fifo_close().
 *
 * A writer that waits for a reader is let go as soon as this call has begun, also if it then runs out.
 *
 * Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED no writer came; -ENOENT no such FIFO; -ENOTSUP it is something else, which is
 * left untouched; -EACCES; -EMFILE; -EPERM the capacity is above what an unprivileged process may have; -EINVAL an address
 * or option; -EFAULT. */
int ww_fifo_open_reader(ww_fifo **out, const char *address, const ww_fifo_options *options, int64_t timeout_ns);

/* Opens the write end; waits until a reader has it open too, as the kernel's open does, but at most for the timeout. Close
 * it with ww_fifo_close().
 *
 * Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED no reader came; otherwise as ww_fifo_open_reader(). */
int ww_fifo_open_writer(ww_fifo **out, const char *address, const ww_fifo_options *options, int64_t timeout_ns);

/* Takes over one end that something else opened; its mode is left as it is. The handle uses a copy of the descriptor and
 * closes fd; after an error fd stays the caller's. Never blocks.
 *
 * Errors: -EINVAL not a pipe's descriptor; -EBADF not an open descriptor; -EMFILE; -EFAULT. */
int ww_fifo_from_fd(ww_fifo **out, int fd);

/* Closes one end; threads that wait on it return -ECANCELED first. NULL is allowed. */
void ww_fifo_close(ww_fifo *fifo);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_fifo_end_waits(const ww_fifo *fifo);

/* Reads what is there, at most size bytes, and returns how many; waits while nothing is. 0 is the end of the stream.
 *
 * Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; -EBADF this is the write end; -EINVAL size is 0; -EFAULT. */
ssize_t ww_fifo_read(const ww_fifo *fifo, void *buffer, size_t size, int64_t timeout_ns);

/* Fills the buffer; waits until all of it has come. *done, which may be NULL, tells how many bytes it holds, also after an
 * error.
 *
 * Errors: -EPIPE the stream ended before; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EBADF this is the write end; -EFAULT. */
int ww_fifo_read_exact(const ww_fifo *fifo, void *buffer, size_t size, int64_t timeout_ns, size_t *done);

/* Writes what fits and returns how many bytes did; waits until something does. Up to WW_PIPE_ATOMIC bytes are written whole
 * or not at all, and not mixed with another writer's.
 *
 * Errors, with nothing written: -EPIPE no reader is left; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EBADF this is the read end;
 * -EFAULT. */
ssize_t ww_fifo_write(const ww_fifo *fifo, const void *data, size_t size, int64_t timeout_ns);

/* Writes all of it; waits as long as there is no room. *done, which may be NULL, tells how many bytes were written, also
 * after an error. Above WW_PIPE_ATOMIC bytes other writers may come between.
 *
 * Errors: as ww_fifo_write(). */
int ww_fifo_write_all(const ww_fifo *fifo, const void *data, size_t size, int64_t timeout_ns, size_t *done);

/* The bytes that the FIFO can hold. Never blocks. Errors: -EFAULT. */
ssize_t ww_fifo_capacity(const ww_fifo *fifo);

/* Sets the bytes that the FIFO can hold, and returns what the kernel made of it. Never blocks.
 *
 * Errors: -EPERM more than an unprivileged process may have; -EBUSY more is waiting to be read; -EINVAL 2 GiB or more;
 * -EFAULT. */
ssize_t ww_fifo_set_capacity(const ww_fifo *fifo, size_t size);

/* Whether this end is the read end: 1 or 0. Never blocks. Errors: -EFAULT. */
int ww_fifo_is_reader(const ww_fifo *fifo);

/* The descriptor, to poll or to pass on. It stays the handle's. Never blocks. Errors: -EFAULT. */
int ww_fifo_fd(const ww_fifo *fifo);


/* ---- Signals ---- */

/* The numbers of the classic signals on Linux, so that signal.h is not needed; real-time signals come from
 * ww_signal_number("RTMIN+3"), as their numbers are not constants. */
#define WW_SIGHUP 1
#define WW_SIGINT 2
#define WW_SIGQUIT 3
#define WW_SIGILL 4
#define WW_SIGTRAP 5
#define WW_SIGABRT 6
#define WW_SIGBUS 7
#define WW_SIGFPE 8
#define WW_SIGKILL 9
#define WW_SIGUSR1 10
#define WW_SIGSEGV 11
#define WW_SIGUSR2 12
#define WW_SIGPIPE 13
#define WW_SIGALRM 14
#define WW_SIGTERM 15
#define WW_SIGSTKFLT 16
#define WW_SIGCHLD 17
#define WW_SIGCONT 18
#define WW_SIGSTOP 19
#define WW_SIGTSTP 20
#define WW_SIGTTIN 21
#define WW_SIGTTOU 22
#define WW_SIGURG 23
#define WW_SIGXCPU 24
#define WW_SIGXFSZ 25
#define WW_SIGVTALRM 26
#define WW_SIGPROF 27
#define WW_SIGWINCH 28
#define WW_SIGIO 29
#define WW_SIGPWR 30
#define WW_SIGSYS 31

/* What a signal does to a process that has made no arrangements: it ends it. */
#define WW_SIGNAL_TERMINATES 1

/* It ends the process, with a core dump where they are on. */
#define WW_SIGNAL_DUMPS_CORE 2

/* Nothing. */
#define WW_SIGNAL_IGNORED 3

/* It stops the process. */
#define WW_SIGNAL_STOPS 4

/* It lets a stopped process go on. */
#define WW_SIGNAL_CONTINUES 5

/* Signals that came, in order, each with its sender and value: taken one by one, or handed to callbacks outside of
 * signal context.
 *
 * The handler only writes to a queue. Several handles may subscribe to one signal, and each gets it. Handlers that
 * were there before are called as well, after the queues are filled; the end of the last subscription puts them back.
 * Calls that a signal would interrupt go on, unless an earlier handler was installed to interrupt them.
 *
 * Of a classic signal the kernel keeps one pending and merges further ones; real-time signals all queue, in order if
 * one thread alone does not block them. What came and found the queue full is counted by ww_signal_lost().
 *
 * May be shared between threads. Fork: the subscriptions are the parent's. A child that does nothing about them meets
 * each signal as if nobody had subscribed (WW_SIGTERM ends it); once it calls a function on the handle, that is its
 * own, with an empty queue and without dispatcher thread, and takes nothing from the parent. exec ends them. */
typedef struct ww_signal ww_signal;

/* A signal that is ignored, or left to its default action, until this is closed. */
typedef struct ww_signal_action ww_signal_action;

/* A function that runs inside the signal handler. */
typedef struct ww_signal_raw ww_signal_raw;

/* How signals are received; initialise with WW_SIGNAL_OPTIONS_INIT. */
typedef struct ww_signal_options {
    size_t size;
    /* Room for at least this many signals that came and were not taken; 0 for the kernel's usual, about 1,300. */
    size_t capacity;
    /* 1: handlers that were there before are not called for the signals of this handle, until it is closed. */
    int unchained;
    int reserved;
} ww_signal_options;
#define WW_SIGNAL_OPTIONS_INIT WW_INIT(ww_signal_options)

/* One signal that came. What the kernel does not say for a signal's kind is 0. */
typedef struct ww_signal_info {
    /* Which signal. */
    int signal;
    /* How it came, the kernel's si_code: 0 by kill, -1 with a value, -6 to a thread, above 0 from the kernel. */
    int code;
    /* The sender as this process sees it, 0 if it cannot; with WW_SIGCHLD the child. */
    pid_t pid;
    /* The sender's real user. */
    uid_t uid;
    /* The number that was sent along. */
    int value;
    /* With WW_SIGCHLD: the exit status, or the signal that ended or stopped the child. */
    int status;
    /* With a timer: how many further expirations this signal stands for. With WW_SIGIO: the descriptor. */
    int detail;
    int reserved;
    /* The value as a whole machine word, for senders that send a pointer. */
    void *pointer;
    /* With a fault (WW_SIGSEGV, WW_SIGBUS, WW_SIGFPE, WW_SIGILL): the address. */
    void *fault_address;
} ww_signal_info;

/* A function for a signal that came, and the pointer given with it; info is good during the call. */
typedef void (*ww_signal_callback)(const struct ww_signal_info *info, void *user);

/* What ww_signal_block() or ww_signal_unblock() has changed, for ww_signal_restore(). The members are the library's. */
typedef struct ww_signal_mask {
    uint64_t changed;
    int blocked;
    int reserved;
} ww_signal_mask;

/* The number of a signal by its name, with or without SIG: "USR1", "SIGTERM", "RTMIN+3", "10".
 *
 * Never blocks. Errors: -EINVAL there is none of that name. */
int ww_signal_number(const char *name);

/* The name of a signal, such as "SIGUSR1" or "SIGRTMIN+3"; NULL for a number that is none.
 *
 * Never blocks. The text is the library's and good for ever. */
const char *ww_signal_name(int signal);

/* What a signal does by default: WW_SIGNAL_TERMINATES and so on. Never blocks. Errors: -EINVAL no signal. */
int ww_signal_default_action(int signal);

/* Subscribes to signals, given as an array of numbers; NULL options mean defaults. Close it with ww_signal_close().
 *
 * Never blocks. Errors: -EINVAL WW_SIGKILL, WW_SIGSTOP, a signal of the C library, a fault (for which there is
 * ww_signal_raw_open()), a number that is no signal, or none at all; -EBUSY the signal that this library uses itself;
 * -EMFILE, -ENFILE no descriptor is left; -EPERM the capacity is more than fs.pipe-max-size. */
int ww_signal_open(ww_signal **out, const int *signals, size_t count, const ww_signal_options *options);

/* Subscribes to the signals of an address such as "signal:USR1" or "signal:INT,TERM?capacity=64".
 *
 * Never blocks. Errors: as ww_signal_open(); -EINVAL the address, also one with a pid. */
int ww_signal_open_address(ww_signal **out, const char *address, const ww_signal_options *options);

/* Ends the subscriptions: threads that wait on them return -ECANCELED, a callback that is running is waited for (unless
 * it is the caller), and no other begins. NULL is allowed. */
void ww_signal_close(ww_signal *signal);

/* Takes the oldest signal that came into *info, waiting for one.
 *
 * Errors, with nothing taken: -EAGAIN, -ETIMEDOUT, -ECANCELED; in a forked child -EMFILE, -ENFILE; -EFAULT. */
int ww_signal_take(const ww_signal *signal, ww_signal_info *info, int64_t timeout_ns);

/* Adds a function that runs when this signal has been taken by ww_signal_dispatch() or the dispatcher thread, and
 * writes its number for ww_signal_off() to *id (which may be NULL). Callbacks run one at a time, for one signal in the
 * order they were added; they may call all of wigwag but ww_signal_dispatch() on this handle.
 *
 * Never blocks. Errors: -EINVAL the signal is not among those of this handle; -EFAULT. */
int ww_signal_on(const ww_signal *signal, int number, ww_signal_callback callback, void *user, uint64_t *id);

/* Removes a callback. When it returns, the callback neither runs nor will: it waits for one that is running, unless it
 * is called from there.
 *
 * Errors: -ENOENT none has this number; -EFAULT. */
int ww_signal_off(const ww_signal *signal, uint64_t id);

/* Waits for a signal and runs the callbacks for it and for those that came meanwhile, in this thread; how many signals
 * that were. Signals without a callback are taken too.
 *
 * Errors, with nothing taken: -EAGAIN, -ETIMEDOUT, -ECANCELED; -EDEADLK it is called by one of those callbacks; in
 * a child made by fork -EMFILE, -ENFILE; -EFAULT. */
ssize_t ww_signal_dispatch(const ww_signal *signal, int64_t timeout_ns);

/* Starts a thread that dispatches from now on, with all signals blocked in it. Never blocks.
 *
 * Errors: -EALREADY it runs already; -ENOMEM no thread can be had; in a child made by fork -EMFILE, -ENFILE; -EFAULT. */
int ww_signal_start(const ww_signal *signal);

/* Stops the dispatcher thread; waits for a callback that is running (unless it is the caller). Nothing happens if there is
 * none. Errors: -EFAULT. */
int ww_signal_stop(const ww_signal *signal);

/* How many signals came and were lost because the queue was full. Never blocks. Errors: -EFAULT. */
ssize_t ww_signal_lost(const ww_signal *signal);

/* The descriptor, to poll: readable while there is a signal to take. It stays the handle's; in a child made by fork
 * this makes it the child's own. Never blocks. Errors: -EFAULT. */
int ww_signal_fd(const ww_signal *signal);

/* Has a function called inside the handler of a signal, in whatever thread the kernel chose, beside other
 * subscriptions, until ww_signal_raw_close().
 *
 * The function calls async-signal-safe functions only, none of this library but those that say so, and returns (never
 * by longjmp). For a fault (WW_SIGSEGV, WW_SIGBUS, WW_SIGFPE, WW_SIGILL) returning means that the instruction runs
 * again. After fork it runs in the child as well.
 *
 * Never blocks. Errors: -EINVAL WW_SIGKILL, WW_SIGSTOP, a signal of the C library, or none; -EBUSY the signal that this
 * library uses itself; -EFAULT. */
int ww_signal_raw_open(ww_signal_raw **out, int signal, ww_signal_callback handler, void *user);

/* Ends the subscription; returns when no thread runs the function any more. Not to be called in a signal handler. NULL
 * is allowed. */
void ww_signal_raw_close(ww_signal_raw *raw);

/* Ignores a signal in this process, until ww_signal_action_close(), or for good if out is NULL. Passes over exec.
 *
 * Never blocks. Errors: -EBUSY it has subscriptions in this process, or is the one that this library uses itself;
 * -EINVAL WW_SIGKILL, WW_SIGSTOP, a signal of the C library, or none. */
int ww_signal_ignore(ww_signal_action **out, int signal);

/* Gives a signal its default action, until ww_signal_action_close(), or for good if out is NULL. Never blocks.
 * Errors: as ww_signal_ignore(). */
int ww_signal_default(ww_signal_action **out, int signal);

/* Puts back what the signal did before. NULL is allowed. */
void ww_signal_action_close(ww_signal_action *action);

/* Blocks signals for the calling thread; *saved, which may be NULL, is for ww_signal_restore() by the same thread.
 *
 * The mask is the thread's own and passes to threads and children that it makes: to keep a signal from the whole
 * process, block it in the main thread first. Never blocks the caller. Errors: -EINVAL WW_SIGKILL, WW_SIGSTOP, a signal
 * of the C library, or none; -EBUSY the signal that this library uses itself. */
int ww_signal_block(const int *signals, size_t count, ww_signal_mask *saved);

/* Lets signals through to the calling thread: pending ones act before this returns. Otherwise as ww_signal_block(). */
int ww_signal_unblock(const int *signals, size_t count, ww_signal_mask *saved);

/* Undoes what ww_signal_block() or ww_signal_unblock() has changed, in the same thread; what was so before stays.
 * Never blocks the caller. Errors: -EINVAL the struct comes from neither; -EFAULT. */
int ww_signal_restore(const ww_signal_mask *saved);

/* Takes the next pending signal of a set into *info, waiting for one, without a handler.
 *
 * The signals are blocked in the calling thread while this runs. Before and after they act as arranged, which for most
 * ends the process, and so they do at any time in a thread that has not blocked them: call ww_signal_block() first,
 * before further threads are made. The lowest number comes first, of one real-time signal the oldest.
 *
 * Errors, with nothing taken: -EAGAIN, -ETIMEDOUT, -ECANCELED; -EINVAL WW_SIGKILL, WW_SIGSTOP, a signal of the C
 * library, or none at all; -EBUSY the signal that this library uses itself; -EFAULT. */
int ww_signal_wait(const int *signals, size_t count, ww_signal_info *info, int64_t timeout_ns);


/* ---- Sending signals ---- */

/* A process to send signals to that stays the same one: once it has ended and is reaped, sending fails with -ESRCH,
 * also when its number has gone to another.
 *
 * That holds from the opening on: do it while the process cannot have been reaped, as its parent or with a message from
 * it at hand. May be shared between threads. */
typedef struct ww_signal_target ww_signal_target;

/* Sends a signal to a process. Never blocks. The number may by now belong to another process than the one meant:
 * ww_signal_target excludes that.
 *
 * Errors: -ESRCH there is no such process; -EPERM it belongs to another user; -EINVAL a pid below 1, or no signal. */
int ww_signal_send(pid_t pid, int signal);

/* Sends a signal to a process with a number: real-time signals queue up, in order; of a classic signal one is pending
 * at a time. Never blocks.
 *
 * Errors: -EAGAIN the receiver has as many signals pending as its RLIMIT_SIGPENDING allows, nothing was sent;
 * otherwise as ww_signal_send(). */
int ww_signal_send_value(pid_t pid, int signal, int value);

/* Sends a signal to every process of a process group. Never blocks. Errors: as ww_signal_send(); -EINVAL below 2. */
int ww_signal_send_group(pid_t group, int signal);

/* Sends a signal to one thread of a process. Never blocks. Errors: as ww_signal_send(); -ESRCH also if the thread is
 * not one of that process. */
int ww_signal_send_thread(pid_t pid, pid_t thread, int signal);

/* The calling thread's number, for ww_signal_send_thread(). Never blocks, never fails. */
pid_t ww_signal_this_thread(void);

/* Takes hold of the process that has this number now. Close it with ww_signal_target_close().
 *
 * Never blocks. Errors: -ESRCH there is none; -EINVAL a number below 1, or a further thread's; -EMFILE, -ENFILE. */
int ww_signal_target_open(ww_signal_target **out, pid_t pid);

/* The same by an address such as "signal:USR1@1234", whose signal goes to *signal (which may be NULL).
 *
 * Never blocks. Errors: as ww_signal_target_open(); -EINVAL the address, also one without a pid. */
int ww_signal_target_open_address(ww_signal_target **out, const char *address, int *signal);

/* Takes over a pidfd. The handle uses a copy and closes fd; after an error fd stays the caller's. Never blocks.
 * Errors: -EBADF it is none; -EMFILE. */
int ww_signal_target_from_fd(ww_signal_target **out, int fd);

/* Lets go of the process, which is not affected. NULL is allowed. */
void ww_signal_target_close(ww_signal_target *target);

/* Sends a signal. Never blocks. Errors: -ESRCH the process has ended and was reaped; -EPERM it belongs to another user;
 * -EINVAL no signal; -EFAULT. */
int ww_signal_target_send(const ww_signal_target *target, int signal);

/* Sends a signal with a number. Never blocks. Errors: as ww_signal_target_send(); -EAGAIN as ww_signal_send_value(). */
int ww_signal_target_send_value(const ww_signal_target *target, int signal, int value);

/* Whether the process is there still, 1 or 0; one that has ended and is not reaped yet is. Never blocks.
 * Errors: -EFAULT. */
int ww_signal_target_exists(const ww_signal_target *target);

/* Its number. Never blocks. Errors: -EFAULT. */
pid_t ww_signal_target_pid(const ww_signal_target *target);

/* The pidfd, readable once the process has ended. It stays the handle's. Never blocks.
 * Errors: -ENOTSUP the kernel has none; -EFAULT. */
int ww_signal_target_fd(const ww_signal_target *target);

/* How signals get there: "pidfd_send_signal", which cannot meet another process, or "kill" where the kernel lacks it:
 * then the time at which the process started is compared first, which leaves a moment for the number to change hands.
 * NULL for a NULL target. Never blocks. The text is the library's and good for ever. */
const char *ww_signal_target_path(const ww_signal_target *target);


/* ---- Shutdown by signal ---- */

/* The wish that this process should end, as its user or supervisor sends it: WW_SIGTERM or WW_SIGINT.
 *
 * While it is open these signals no longer end the process. May be shared between threads. Fork: as ww_signal; the wish
 * to the parent is none to the child. */
typedef struct ww_signal_shutdown ww_signal_shutdown;

/* How a wish to end is received; initialise with WW_SIGNAL_SHUTDOWN_OPTIONS_INIT. */
typedef struct ww_signal_shutdown_options {
    size_t size;
    /* The signals that ask for the end; NULL for WW_SIGTERM and WW_SIGINT. */
    const int *signals;
    /* How many signals there are; 0 with NULL. */
    size_t count;
    /* Fired by the first of them: every wait in its scope returns -ECANCELED. NULL for none; may be closed any time. */
    const ww_cancel *cancel;
    /* 1: a second one is left to the earlier handler or the default action, which ends the process at once. */
    int second_ends;
    /* 1: handlers that were there before are not called. */
    int unchained;
} ww_signal_shutdown_options;
#define WW_SIGNAL_SHUTDOWN_OPTIONS_INIT WW_INIT(ww_signal_shutdown_options)

/* Turns WW_SIGTERM and WW_SIGINT, or the signals of the options, into a wish that this process should end; NULL options
 * mean defaults. Close it with ww_signal_shutdown_close().
 *
 * Never blocks. Errors: -EINVAL WW_SIGKILL, WW_SIGSTOP, a signal of the C library, a fault, or an option; -EBUSY the
 * signal that this library uses itself; -EMFILE, -ENFILE no descriptor is left. */
int ww_signal_shutdown_open(ww_signal_shutdown **out, const ww_signal_shutdown_options *options);

/* Puts back what the signals did before; threads that wait return -ECANCELED first. NULL is allowed. */
void ww_signal_shutdown_close(ww_signal_shutdown *shutdown);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_signal_shutdown_end_waits(const ww_signal_shutdown *shutdown);

/* The signal that asked for the end, or 0 if none has. Never blocks. Errors: -EFAULT. */
int ww_signal_shutdown_requested(const ww_signal_shutdown *shutdown);

/* Waits until the end is asked for, again at once each time after; the signal that asked.
 *
 * Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; in a forked child -EMFILE, -ENFILE; -EFAULT. */
int ww_signal_shutdown_wait(const ww_signal_shutdown *shutdown, int64_t timeout_ns);

/* How often the end was asked for. Never blocks. Errors: -EFAULT. */
int ww_signal_shutdown_count(const ww_signal_shutdown *shutdown);

/* The descriptor, to poll: readable from the first wish on; not to be read from. It stays the handle's. Never blocks.
 * Errors: -EFAULT. */
int ww_signal_shutdown_fd(const ww_signal_shutdown *shutdown);


/* ---- Shared memory: what all kinds have in common, and System V segments ---- */

/* A System V shared memory segment (sysv-shm:), attached.
 *
 * It outlives its processes: it is there until somebody removes it, and its memory until the last process that is
 * attached then has gone, by whatever death. Its size is fixed from the moment it exists; its content starts as
 * zeroes. A child made by fork is attached as well. May be shared between threads. */
typedef struct ww_sysv_shm ww_sysv_shm;

/* How shared memory is created or opened; initialise with WW_MEMORY_OPTIONS_INIT. What the address says counts where
 * a member is 0. */
typedef struct ww_memory_options {
    size_t size;
    /* How many bytes of memory; needed to create. When opening, what is there must be at least as large. */
    size_t length;
    /* The size of a huge page in bytes; 0 is the system's default. */
    size_t huge_page_size;
    /* The permissions of what is created, such as 0640, whatever the umask; 0 is 0600. */
    uint32_t mode;
    /* 1: attach for reading only; writing through the pointer is SIGSEGV then. Not for what is created. */
    int read_only;
    /* 1: create on huge pages, which the administrator must have reserved (vm.nr_hugepages). System V and memfd. */
    int huge_pages;
    /* 1: have all pages present from the start, so that no first access is slow. */
    int populate;
    /* 1: keep the pages in memory, never in swap; counts against RLIMIT_MEMLOCK. */
    int lock;
    /* 1: create without reserving the pages; where there is none left when one is first touched, the process is
     * killed by SIGBUS. POSIX and memfd. */
    int sparse;
} ww_memory_options;
#define WW_MEMORY_OPTIONS_INIT WW_INIT(ww_memory_options)

/* What the kernel keeps about a System V segment. Times are seconds of the wall clock, 0 for never. */
typedef struct ww_sysv_shm_status {
    /* The size in bytes. */
    size_t length;
    /* How often it is attached, over all processes. */
    uint64_t attached;
    int64_t attached_at;
    int64_t detached_at;
    /* When it was created, or its owner or mode changed. */
    int64_t changed_at;
    /* The process that created it; 0 if it lives in a pid namespace that cannot be seen from here. */
    pid_t creator_pid;
    /* The process that attached or detached last; 0 for none. */
    pid_t last_pid;
    /* The owner, and who created it. */
    uid_t uid;
    gid_t gid;
    uid_t creator_uid;
    gid_t creator_gid;
    /* The permissions. */
    uint32_t mode;
    /* 1: removed, and gone with the last that detaches. */
    int removed;
    /* 1: somebody has locked the whole segment in memory. */
    int locked;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[4];
} ww_sysv_shm_status;

/* Creates the segment that the address names, such as "sysv-shm:shmfile#65", and attaches it. Close it with
 * ww_sysv_shm_close(). Never waits for others.
 *
 * Errors: -EEXIST there is one with this key; -EINVAL no length, one above kernel.shmmax, or an option; -ENOENT the
 * file that the key is derived from does not exist; -ENOSPC kernel.shmmni segments exist, or kernel.shmall pages are
 * in use; -ENOMEM no memory, no free huge pages, or RLIMIT_MEMLOCK is too low; -EPERM huge pages, or locking, is not
 * allowed; -EFAULT. */
int ww_sysv_shm_create(ww_sysv_shm **out, const char *address, const ww_memory_options *options);

/* Attaches the segment that exists. Close it with ww_sysv_shm_close(). Never waits for others.
 *
 * Errors: -ENOENT there is none with this key, or the file that the key is derived from does not exist; -EACCES its
 * mode does not allow this access; -EINVAL it is smaller than asked for, or the address is private; -ENOMEM, -EPERM
 * as ww_sysv_shm_create(); -EFAULT. */
int ww_sysv_shm_open(ww_sysv_shm **out, const char *address, const ww_memory_options *options);

/* Attaches the segment, made if there is none; ww_sysv_shm_created() tells which. Of several processes that do so at
 * once, exactly one creates it, and all get the whole size. Never waits for others. Errors: as ww_sysv_shm_create()
 * and ww_sysv_shm_open(). */
int ww_sysv_shm_open_or_create(ww_sysv_shm **out, const char *address, const ww_memory_options *options);

/* Attaches the segment with this id, as another program got it from shmget() and passed it on. length, read_only,
 * populate and lock count of the options. Close it with ww_sysv_shm_close(). Never waits for others.
 *
 * Errors: -EIDRM there is no segment with this id (any more); the others as ww_sysv_shm_open(). */
int ww_sysv_shm_from_id(ww_sysv_shm **out, int id, const ww_memory_options *options);

/* Detaches and frees the handle; pointers into the memory are no longer good. The object stays. NULL is allowed. */
void ww_sysv_shm_close(ww_sysv_shm *shm);

/* Where the memory begins, in *data: good until the handle is closed. Other processes may change what is there at any
 * time. Never blocks. Errors: -EFAULT. */
int ww_sysv_shm_data(const ww_sysv_shm *shm, void **data);

/* How many bytes of memory there are behind the pointer. Never blocks. Errors: -EFAULT. */
ssize_t ww_sysv_shm_size(const ww_sysv_shm *shm);

/* Makes sure that there are this many bytes, which a System V segment has from the start or never; returns how many
 * there are. Never blocks. Errors: -ENOTSUP it is smaller; -EFAULT. */
ssize_t ww_sysv_shm_grow(ww_sysv_shm *shm, size_t length);

/* What the kernel keeps about it, in *status. Never blocks. Errors: -EACCES the mode does not allow reading;
 * -EFAULT. */
int ww_sysv_shm_get_status(const ww_sysv_shm *shm, ww_sysv_shm_status *status);

/* The kernel's id, which works in every process of the same IPC namespace. Never blocks. Errors: -EFAULT. */
int ww_sysv_shm_id(const ww_sysv_shm *shm);

/* The key, in *key: 0, IPC_PRIVATE, for a segment without one, be it that it never had one or that it was removed.
 * Never blocks. Errors: -EFAULT. */
int ww_sysv_shm_key(const ww_sysv_shm *shm, int32_t *key);

/* Whether this handle made the object, 1, or found it, 0. Never blocks. Errors: -EFAULT. */
int ww_sysv_shm_created(const ww_sysv_shm *shm);

/* Whether its name still leads to this object: 0 if so. Never blocks.
 *
 * Errors: -ENOENT the name is gone; -ESTALE it was removed and made anew: open it again; -EFAULT. */
int ww_sysv_shm_check_name(const ww_sysv_shm *shm);

/* Removes the segment: its name is gone at once, its memory with the last process that is attached. Doing it twice is
 * as good as once. Never blocks. Errors: -EPERM it belongs to somebody else; -EFAULT. */
int ww_sysv_shm_unlink(const ww_sysv_shm *shm);

/* Removes the segment that the address names. Its memory stays for those that are attached. Never blocks.
 *
 * Errors: -ENOENT there is none; -EPERM it belongs to somebody else; -EINVAL the address is private; -EFAULT. */
int ww_sysv_shm_remove(const char *address);


/* ---- POSIX shared memory ---- */

/* A POSIX shared memory object (shm:/name), mapped as a whole.
 *
 * It outlives its processes: its name is there until somebody removes it, and its memory until the last process has
 * let go of it, by whatever death. It gets its name only when it is complete, so that nobody finds it half made. Its
 * pages are reserved at creation: a full /dev/shm is -ENOSPC there, and never SIGBUS later. Its content starts as
 * zeroes. A child made by fork has it as well. May be shared between threads. */
typedef struct ww_shm ww_shm;

/* Creates the object that the address names, such as "shm:/frames". Close it with ww_shm_close(). Never waits for
 * others.
 *
 * Errors: -EEXIST there is one of this name; -EINVAL no length, or an option; -ENOSPC /dev/shm is full, the text names
 * its size; -ENOMEM no memory, or RLIMIT_MEMLOCK is too low for lock; -EFBIG more than a file can have; -EPERM lock is
 * refused; -EACCES /dev/shm does not let this user make files; -ENOTSUP huge pages; -EMFILE, -ENFILE; -EFAULT. */
int ww_shm_create(ww_shm **out, const char *address, const ww_memory_options *options);

/* Opens the object that exists. Waits while it has no size yet, because its creator, another program, is between
 * making and sizing it. Close it with ww_shm_close().
 *
 * Errors: -ENOENT there is none of this name; -EACCES its mode does not allow this access; -EINVAL it is smaller than
 * asked for, or not shared memory; -EAGAIN, -ETIMEDOUT it has no size; -ECANCELED; -ENOMEM, -EPERM lock is refused;
 * with populate -ENOSPC /dev/shm is full, -ENOMEM;
 * -ELOOP a symbolic link; -EMFILE, -ENFILE; -EFAULT. */
int ww_shm_open(ww_shm **out, const char *address, const ww_memory_options *options, int64_t timeout_ns);

/* Opens the object, made if there is none; ww_shm_created() tells which. Of several processes that do so at once,
 * exactly one creates it, and all get the whole size. Waits as ww_shm_open(). Errors: as ww_shm_create() and
 * ww_shm_open(). */
int ww_shm_open_or_create(ww_shm **out, const char *address, const ww_memory_options *options, int64_t timeout_ns);

/* Takes over the descriptor of an object that something else opened. length, read_only, populate and lock count of
 * the options. The handle uses a copy of the descriptor and closes fd; after an error fd stays the caller's.
 * Never waits for others.
 *
 * Errors: -EINVAL it is not shared memory, or smaller than asked for; -EACCES it was not opened for this access;
 * -EPERM lock is refused; -EBADF; -EMFILE; -EFAULT. */
int ww_shm_from_fd(ww_shm **out, int fd, const ww_memory_options *options);

/* Detaches and frees the handle; pointers into the memory are no longer good. The object stays. NULL is allowed. */
void ww_shm_close(ww_shm *shm);

/* Where the memory begins, in *data: good until the handle is closed, grown or refreshed. Other processes may change
 * what is there at any time. Never blocks. Errors: -EFAULT. */
int ww_shm_data(const ww_shm *shm, void **data);

/* How many bytes of memory there are behind the pointer. Never blocks. Errors: -EFAULT. */
ssize_t ww_shm_size(const ww_shm *shm);

/* Makes it at least length bytes large with all pages reserved, and returns how many bytes there are now. The memory
 * may move: ask for the pointer again. Others see the new part after ww_shm_refresh(). It never becomes smaller. No
 * other thread may use the handle meanwhile. Never waits for others.
 *
 * Errors, with nothing changed: -ENOSPC /dev/shm is full, the text names its size; -ENOMEM no memory; -EACCES
 * attached read-only; -EFBIG more than a file can have; -EFAULT. With one change: -ENOMEM for locked memory past
 * RLIMIT_MEMLOCK, where the object has grown and this handle's memory has not. */
ssize_t ww_shm_grow(ww_shm *shm, size_t length);

/* Takes in what others have added meanwhile, and returns how many bytes there are now. The memory may move: ask for
 * the pointer again. No other thread may use the handle meanwhile. Never blocks. Errors: -ENOMEM, -EFAULT. */
ssize_t ww_shm_refresh(ww_shm *shm);

/* Takes all pages now, for an object that was made without, by another program or as sparse. Never waits for others.
 *
 * Errors: -ENOSPC /dev/shm is full, the text names its size; -ENOMEM no memory; -EBADF attached read-only; -EFAULT. */
int ww_shm_reserve(const ww_shm *shm);

/* What the kernel keeps, which of POSIX shared memory is neither attach count nor creator: always -ENOTSUP, or
 * -EFAULT. System V segments have them. Never blocks. */
int ww_shm_get_status(const ww_shm *shm, ww_sysv_shm_status *status);

/* Keeps the descriptor open over exec. Never blocks. Errors: -EFAULT. */
int ww_shm_inherit(const ww_shm *shm);

/* The descriptor, to pass on. It stays the handle's. Never blocks. Errors: -EFAULT. */
int ww_shm_fd(const ww_shm *shm);

/* Whether this handle made the object, 1, or found it, 0. Never blocks. Errors: -EFAULT. */
int ww_shm_created(const ww_shm *shm);

/* Whether its name still leads to this object: 0 if so. Never blocks.
 *
 * Errors: -ENOENT the name is gone; -ESTALE it was removed and made anew: open it again; -ENOTSUP adopted without a
 * name; -EFAULT. */
int ww_shm_check_name(const ww_shm *shm);

/* Removes the name; the memory goes with the last process that has it open. An object of the same name that was made
 * meanwhile stays. Never blocks.
 *
 * Errors: -ENOENT the name is gone already; -ESTALE it belongs to a newer object by now; -EACCES, -EPERM it belongs
 * to somebody else; -ENOTSUP adopted without a name; -EFAULT. */
int ww_shm_unlink(const ww_shm *shm);

/* Removes the name in the address. The memory stays for those that have it open. Never blocks.
 *
 * Errors: -ENOENT there is none of this name; -EACCES, -EPERM it belongs to somebody else; -EFAULT. */
int ww_shm_remove(const char *address);


/* ---- Shared memory with a descriptor instead of a name, which can be sealed ---- */

/* No further seals. */
#define WW_SEAL_SEAL 1

/* It never becomes shorter: touching it never raises SIGBUS. */
#define WW_SEAL_SHRINK 2

/* It never becomes longer. */
#define WW_SEAL_GROW 4

/* Its content never changes. Nobody may have it mapped writable when this seal is set. */
#define WW_SEAL_WRITE 8

/* Its content changes only through mappings that are writable already. */
#define WW_SEAL_FUTURE_WRITE 16

/* The permission to execute it never changes. */
#define WW_SEAL_EXEC 32

/* Anonymous memory (memfd:), mapped as a whole, that others get by its descriptor: inherited, or passed over a
 * socket.
 *
 * Gone when the last process has let go of it, by whatever death. Its pages are reserved at creation; its content
 * starts as zeroes. Seals are promises that nobody can take back, its creator included. A child made by fork has it
 * as well. May be shared between threads. */
typedef struct ww_memfd ww_memfd;

/* Makes memory; the address is "memfd:", or "memfd:label" for a label that shows in /proc. On huge pages the size is
 * rounded up to whole ones. Close it with ww_memfd_close(). Never waits for others.
 *
 * Errors: -EINVAL no length, an option, or the system has no huge pages of that size; -ENOMEM no memory, or
 * RLIMIT_MEMLOCK is too low for lock; -ENOSPC no free huge pages; -EFBIG more than a file can have; -ENAMETOOLONG a
 * label of more than 249 bytes; -EPERM lock is refused, or the mode has an x; -EMFILE, -ENFILE; -EFAULT. */
int ww_memfd_create(ww_memfd **out, const char *address, const ww_memory_options *options);

/* Takes over the descriptor of a memfd that came from elsewhere, provided that it has the required seals. length,
 * read_only, populate and lock count of the options. The handle uses a copy of the descriptor and closes fd; after an
 * error fd stays the caller's. Never waits for others.
 *
 * Errors: -EPERM a seal is missing, or one forbids this access, or lock is refused; -EINVAL it is not a memfd, or
 * smaller than asked for, or a seal is not one of WW_SEAL_...; -EACCES it was not opened for this access; -EBADF;
 * -EMFILE; -EFAULT. */
int ww_memfd_from_fd(ww_memfd **out, int fd, uint32_t required_seals, const ww_memory_options *options);

/* Unmaps, closes and frees the handle; pointers into the memory are no longer good. NULL is allowed. */
void ww_memfd_close(ww_memfd *memfd);

/* Where the memory begins, in *data: good until the handle is closed, grown or refreshed. Other processes may change
 * what is there at any time. Never blocks. Errors: -EFAULT. */
int ww_memfd_data(const ww_memfd *memfd, void **data);

/* How many bytes of memory there are behind the pointer. Never blocks. Errors: -EFAULT. */
ssize_t ww_memfd_size(const ww_memfd *memfd);

/* Makes it at least length bytes large with all pages reserved, and returns how many bytes there are now. The memory
 * may move: ask for the pointer again. Others see the new part after ww_memfd_refresh(). It never becomes smaller. No
 * other thread may use the handle meanwhile. Never waits for others.
 *
 * Errors, with nothing changed: -EPERM it is sealed against it; -ENOMEM no memory; -EACCES attached read-only; -EFBIG
 * more than a file can have; -ENOTSUP it is on huge pages; -EFAULT. With one change: -ENOMEM for locked memory past
 * RLIMIT_MEMLOCK, where the memfd has grown and this handle's memory has not. */
ssize_t ww_memfd_grow(ww_memfd *memfd, size_t length);

/* Takes in what others have added meanwhile, and returns how many bytes there are now. The memory may move: ask for
 * the pointer again. No other thread may use the handle meanwhile. Never blocks. Errors: -ENOMEM, -EFAULT. */
ssize_t ww_memfd_refresh(ww_memfd *memfd);

/* Takes all pages now, for memory that was made without, by another program or as sparse. Never waits for others.
 *
 * Errors: -ENOMEM no memory; -ENOSPC no free huge pages; -EBADF attached read-only; -EPERM sealed against writing;
 * -EFAULT. */
int ww_memfd_reserve(const ww_memfd *memfd);

/* What the kernel keeps, which of a memfd is neither attach count nor creator: always -ENOTSUP, or
 * -EFAULT. System V segments have them. Never blocks. */
int ww_memfd_get_status(const ww_memfd *memfd, ww_sysv_shm_status *status);

/* Keeps the descriptor open over exec. Never blocks. Errors: -EFAULT. */
int ww_memfd_inherit(const ww_memfd *memfd);

/* The descriptor, to pass on. It stays the handle's. Never blocks. Errors: -EFAULT. */
int ww_memfd_fd(const ww_memfd *memfd);

/* The seals that are set, WW_SEAL_... joined by |, in *seals. Never blocks. Errors: -EFAULT. */
int ww_memfd_seals(const ww_memfd *memfd, uint32_t *seals);

/* Adds seals, WW_SEAL_... joined by |, for good. With WW_SEAL_WRITE this handle's memory becomes read-only, at the
 * same address, and is locked and populated again if it was. No other thread may use the handle meanwhile. Never blocks.
 *
 * Errors, with nothing changed: -EPERM it is sealed against further seals, or its descriptor was opened read-only;
 * -EBUSY for WW_SEAL_WRITE, somebody has it mapped writable, such as a child forked since; -EINVAL not a seal, or this
 * kernel does not know it; -ENOMEM it cannot be locked or populated again; -EFAULT. */
int ww_memfd_seal(ww_memfd *memfd, uint32_t seals);


/* ---- System V message queue ---- */

/* What a message queue of either kind is opened for. */
#define WW_MQ_BOTH 0
#define WW_MQ_RECEIVE 1
#define WW_MQ_SEND 2

/* With ww_sysv_mq_recv() and ww_mq_recv(): take a message that is too large for the buffer all the same, and drop the
 * rest. */
#define WW_MQ_CUT 1

/* With ww_sysv_mq_recv() and ww_sysv_mq_doorbell(): any type but the one given. */
#define WW_SYSV_MQ_ALL_BUT 2

/* A System V message queue (sysv-mq:path#65, sysv-mq:0xKEY, sysv-mq:private): messages with a type each, picked by
 * type.
 *
 * A message is taken whole by one receiver. The queue and the messages in it outlive every process until somebody
 * removes the queue; closing a handle leaves it as it is. It has no descriptor but what ww_sysv_mq_doorbell() makes.
 * May be shared between threads. */
typedef struct ww_sysv_mq ww_sysv_mq;

/* How a System V queue is opened or created; initialise with WW_SYSV_MQ_OPTIONS_INIT. */
typedef struct ww_sysv_mq_options {
    size_t size;
    /* WW_MQ_BOTH, WW_MQ_RECEIVE or WW_MQ_SEND. */
    uint32_t access;
    /* Permissions of a queue that is created (the umask has no say); 0 for what the address says, or else 0600. */
    uint32_t mode;
    /* The most bytes that all its messages together may have; 0 for what the address says, or else kernel.msgmnb. */
    size_t bytes;
} ww_sysv_mq_options;
#define WW_SYSV_MQ_OPTIONS_INIT WW_INIT(ww_sysv_mq_options)

/* What the kernel knows about a System V queue. */
typedef struct ww_sysv_mq_status {
    /* Messages in it. */
    size_t messages;
    /* Bytes in them. */
    size_t bytes;
    /* The most bytes that it may hold. */
    size_t bytes_max;
    /* The processes that sent and received last; 0 for none. */
    pid_t last_sender;
    pid_t last_receiver;
    /* Seconds of the wall clock: last sent, last received (0 for never), created or resized. */
    int64_t sent_at;
    int64_t received_at;
    int64_t changed_at;
    /* Its key, 0 if it is private; permissions; owner. */
    int32_t key;
    uint32_t mode;
    uid_t uid;
    gid_t gid;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[4];
} ww_sysv_mq_status;

/* The system's limits on System V queues, and what is in use. */
typedef struct ww_sysv_mq_limits {
    /* The largest message (kernel.msgmax), and the most bytes in a queue (kernel.msgmnb). */
    size_t message_max;
    size_t bytes_max;
    /* The most queues (kernel.msgmni). */
    size_t queues_max;
    /* Queues that exist, messages in all of them, and bytes in those. */
    size_t queues;
    size_t messages;
    size_t bytes;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[4];
} ww_sysv_mq_limits;

/* Opens a queue that exists. Never blocks, but for the 0.1 s below. Close it with ww_sysv_mq_close().
 *
 * Errors: -ENOENT there is none, or the file that its key is derived from does not exist; -EACCES its mode does not
 * allow the access; -EEXIST it may hold another number of bytes than asked for (looked at for up to 0.1 s if it has
 * just been created); -EINVAL the address, or an option; -EFAULT. */
int ww_sysv_mq_open(ww_sysv_mq **out, const char *address, const ww_sysv_mq_options *options);

/* Creates a queue, which must not exist yet; sysv-mq:private is another one each time. Never blocks. Close it with
 * ww_sysv_mq_close().
 *
 * Errors: -EEXIST it exists; -ENOSPC the system has no room for one more queue; -EPERM it may not hold that many bytes;
 * -ENOENT the file that its key is derived from does not exist; -EINVAL the address, or an option; -EFAULT. */
int ww_sysv_mq_create(ww_sysv_mq **out, const char *address, const ww_sysv_mq_options *options);

/* Opens a queue, or creates it if it does not exist. Blocking, errors and the rest: as ww_sysv_mq_open() and
 * ww_sysv_mq_create(). */
int ww_sysv_mq_open_or_create(ww_sysv_mq **out, const char *address, const ww_sysv_mq_options *options);

/* Takes over a queue by its id, as another process has passed it on. Never blocks. Close it with ww_sysv_mq_close().
 *
 * Errors: -EIDRM there is no queue with this id (any more); -EACCES its mode does not let this user read it; -EFAULT. */
int ww_sysv_mq_from_id(ww_sysv_mq **out, int id);

/* Closes the handle; threads of this process that wait on it return -ECANCELED first. The queue stays. NULL is allowed. */
void ww_sysv_mq_close(ww_sysv_mq *queue);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_sysv_mq_end_waits(const ww_sysv_mq *queue);

/* Puts a message in the queue, with a type of 1 or more; waits while the queue is full. A message may be empty.
 *
 * Errors, with nothing sent: -EMSGSIZE it is larger than the system or the queue allows, however long one waits; -EINVAL
 * the type is below 1; -EIDRM the queue was removed; -EACCES its mode does not let this user send; -ENOMEM; -EAGAIN,
 * -ETIMEDOUT, -ECANCELED; -EFAULT. */
int ww_sysv_mq_send(const ww_sysv_mq *queue, int64_t type, const void *data, size_t size, int64_t timeout_ns);

/* Takes a message out of the queue and returns how many bytes of it are in the buffer; waits until there is one that
 * select picks: 0 the oldest; a type the oldest of that type, or with WW_SYSV_MQ_ALL_BUT of any other; a negative
 * number the oldest of the lowest type there is, if that is not above its absolute value.
 *
 * *type and *true_size, each of which may be NULL, get its type and its size; *true_size also with -EMSGSIZE.
 *
 * Errors: -EMSGSIZE it is larger than the buffer: it stays in the queue, unless flags have WW_MQ_CUT (a *true_size
 * of 0: the kernel does not tell); -EIDRM the queue was removed; -EACCES its mode does not let this user receive;
 * -EINVAL select, or flags; -ENOMEM; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT. */
ssize_t ww_sysv_mq_recv(const ww_sysv_mq *queue, int64_t select, uint32_t flags, void *buffer, size_t size,
                        int64_t timeout_ns, int64_t *type, size_t *true_size);

/* Copies the message at a place in the queue, 0 for the oldest, and leaves it there; returns its size. Never blocks.
 * *type and *true_size as ww_sysv_mq_recv().
 *
 * Errors: -EAGAIN there is no message at this place; -EMSGSIZE it is larger than the buffer; -ENOTSUP the kernel is built
 * without it (CONFIG_CHECKPOINT_RESTORE); -EIDRM, -EACCES; -EFAULT. */
ssize_t ww_sysv_mq_peek(const ww_sysv_mq *queue, size_t place, void *buffer, size_t size, int64_t *type,
                        size_t *true_size);

/* Tells what the kernel knows about the queue. Never blocks.
 *
 * Errors: -EIDRM it was removed; -EACCES its mode does not let this user read it; -EFAULT. */
int ww_sysv_mq_get_status(const ww_sysv_mq *queue, ww_sysv_mq_status *status);

/* Tells the limits of the system (of the IPC namespace, to be exact). Never blocks. Errors: -ENOSYS the kernel is built
 * without System V IPC; -EFAULT. */
int ww_sysv_mq_get_limits(ww_sysv_mq_limits *limits);

/* Changes how many bytes the messages in the queue may have together; those in it stay. Never blocks.
 *
 * Errors: -EPERM it belongs to another user, or bytes is above kernel.msgmnb; -EINVAL bytes is 0; -EIDRM; -EACCES;
 * -EFAULT. */
int ww_sysv_mq_resize(const ww_sysv_mq *queue, size_t bytes);

/* Removes the queue with all messages in it; waits on it, in every process, end with -EIDRM. The handle is still to be
 * closed. Never blocks.
 *
 * Errors: -EIDRM it was removed before; -EPERM it belongs to another user; -EFAULT. */
int ww_sysv_mq_unlink(const ww_sysv_mq *queue);

/* Removes a queue by its address, as ww_sysv_mq_unlink(). Never blocks.
 *
 * Errors: -ENOENT there is none; -EPERM it belongs to another user; -EINVAL the address; -EFAULT. */
int ww_sysv_mq_remove(const char *address);

/* A descriptor that is readable when there may be a message that select and flags pick, as for ww_sysv_mq_recv(): to poll,
 * or for ww_waitset_add_fd(). It hears senders that know nothing of this library. It stays the handle's. Never blocks.
 *
 * It stays readable until ww_sysv_mq_recv() with the same select gives -EAGAIN, so receive until then; it may be readable
 * for nothing when another process was faster. A child made by fork asks again and gets one of its own. The cost, from
 * the first call on: a helper thread that sleeps in the kernel, a descriptor, and for each message that finds the queue
 * empty two switches of context and a few system calls. A message without bytes that comes while the helper waits is taken
 * by it and sent again at once: another one that is sent in that instant goes before it, and killing this process in that
 * instant loses it; ww_sysv_mq_handed_back() counts them. With a select other than 0 also one that lies in the queue
 * already is moved to its end.
 *
 * Errors: -EACCES its mode does not let this user receive, or send, which handing back takes; -EINVAL select, or flags;
 * -EIDRM the queue was removed; -ENOMEM no helper thread can be had; -EMFILE, -ENFILE no descriptor is left; -EFAULT. */
int ww_sysv_mq_doorbell(const ww_sysv_mq *queue, int64_t select, uint32_t flags);

/* How many messages without bytes the helpers of ww_sysv_mq_doorbell() have taken and put back. Never blocks.
 * Errors: -EFAULT. */
ssize_t ww_sysv_mq_handed_back(const ww_sysv_mq *queue);

/* The kernel's number of the queue, by which other processes can adopt it. Never blocks. Errors: -EFAULT. */
int ww_sysv_mq_id(const ww_sysv_mq *queue);


/* ---- POSIX message queue ---- */

/* The highest priority of a message. */
#define WW_MQ_PRIORITY_MAX 32767

/* A POSIX message queue (mq:/name): the oldest message of the highest priority first, on a descriptor to poll.
 *
 * A message is taken whole by one receiver. The queue and the messages in it outlive every process; its name stays until
 * it is unlinked, the queue until the last descriptor is closed as well. May be shared between threads. */
typedef struct ww_mq ww_mq;

/* How a POSIX queue is opened or created; initialise with WW_MQ_OPTIONS_INIT. */
typedef struct ww_mq_options {
    size_t size;
    /* WW_MQ_BOTH, WW_MQ_RECEIVE or WW_MQ_SEND. */
    uint32_t access;
    /* Permissions of a queue that is created, set against the umask; 0 for what the address says, or else 0600. */
    uint32_t mode;
    /* How many messages it holds; 0 for what the address says, or else fs.mqueue.msg_default. */
    size_t depth;
    /* The largest message in bytes; 0 for what the address says, or else fs.mqueue.msgsize_default. */
    size_t message_size;
} ww_mq_options;
#define WW_MQ_OPTIONS_INIT WW_INIT(ww_mq_options)

/* What a POSIX queue was created with, and what is in it. */
typedef struct ww_mq_attributes {
    /* How many messages it holds, and the largest in bytes. */
    size_t depth;
    size_t message_size;
    /* Messages in it now. */
    size_t messages;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[4];
} ww_mq_attributes;

/* The system's limits on POSIX queues; CAP_SYS_RESOURCE goes past the first three. */
typedef struct ww_mq_limits {
    /* The most messages in a queue (fs.mqueue.msg_max), and the largest message in bytes (fs.mqueue.msgsize_max). */
    size_t depth_max;
    size_t message_size_max;
    /* The most queues (fs.mqueue.queues_max). */
    size_t queues_max;
    /* What a queue gets that is created without numbers. */
    size_t depth_default;
    size_t message_size_default;
    /* The most bytes that all queues of this user together may take (RLIMIT_MSGQUEUE). */
    uint64_t user_bytes;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[4];
} ww_mq_limits;

/* Opens a queue that exists. Never blocks. Close it with ww_mq_close().
 *
 * Errors: -ENOENT there is none; -EACCES its mode does not allow the access; -EEXIST its depth or message size is
 * another than asked for; -EMFILE, -ENFILE no descriptor is left; -EINVAL the address, or an option; -EFAULT. */
int ww_mq_open(ww_mq **out, const char *address, const ww_mq_options *options);

/* Creates a queue, whose name must not exist yet. Never blocks. Close it with ww_mq_close().
 *
 * Errors: -EEXIST it exists; -EINVAL depth or message size is beyond what the system allows, or the address; -ENOSPC the
 * system has no room for one more queue; -EMFILE the user's queues would take more than RLIMIT_MSGQUEUE, or no
 * descriptor is left; -ENOMEM; -EFAULT. */
int ww_mq_create(ww_mq **out, const char *address, const ww_mq_options *options);

/* Opens a queue, or creates it if it does not exist. Never blocks. Errors and the rest: as ww_mq_open() and
 * ww_mq_create(). */
int ww_mq_open_or_create(ww_mq **out, const char *address, const ww_mq_options *options);

/* Takes over a queue's descriptor (an mqd_t) that something else has opened; its mode is left as it is. The handle uses a
 * copy of the descriptor and closes fd; after an error fd stays the caller's. Never blocks. Errors: -EBADF, -EMFILE,
 * -EFAULT. */
int ww_mq_from_fd(ww_mq **out, int fd);

/* Closes the handle; threads that wait on it return -ECANCELED first. The queue stays. NULL is allowed. */
void ww_mq_close(ww_mq *queue);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_mq_end_waits(const ww_mq *queue);

/* Removes the name of a queue; those who have it open go on. Never blocks.
 *
 * Errors: -ENOENT there is none; -EACCES it belongs to another user; -EINVAL the address; -EFAULT. */
int ww_mq_remove(const char *address);

/* Puts a message in the queue, with a priority up to WW_MQ_PRIORITY_MAX; waits while the queue is full. A message may be
 * empty.
 *
 * Errors, with nothing sent: -EMSGSIZE it is larger than the queue allows; -EINVAL the priority; -EBADF the queue is
 * open for receiving only, or an adopted descriptor is no queue; -ENOMEM; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT. */
int ww_mq_send(const ww_mq *queue, const void *data, size_t size, uint32_t priority, int64_t timeout_ns);

/* Takes the oldest message of the highest priority and returns how many bytes of it are in the buffer; waits while the
 * queue is empty. *priority and *true_size, each of which may be NULL, get its priority and its size.
 *
 * Errors: -EMSGSIZE the buffer is smaller than the largest message that the queue allows, however large the next one is
 * (the kernel wants it so): nothing is taken, and *true_size is what the buffer must have, unless flags have WW_MQ_CUT;
 * -EBADF the queue is open for sending only, or an adopted descriptor is no queue; -EINVAL flags; -ENOMEM; -EAGAIN,
 * -ETIMEDOUT, -ECANCELED; -EFAULT. */
ssize_t ww_mq_recv(const ww_mq *queue, uint32_t flags, void *buffer, size_t size, int64_t timeout_ns,
                   uint32_t *priority, size_t *true_size);

/* Tells what the queue was created with, and how many messages are in it. Never blocks. Errors: -EBADF an adopted
 * descriptor is no queue; -EFAULT. */
int ww_mq_get_attributes(const ww_mq *queue, ww_mq_attributes *attributes);

/* Tells the limits of the system (of the IPC namespace, to be exact). Never blocks. Errors: -EFAULT. */
int ww_mq_get_limits(ww_mq_limits *limits);

/* Has a signal with a value (si_value.sival_int) sent to this process, once, when next a message comes into the empty
 * queue while nobody receives. Each queue has place for one process at a time; the signal frees it, and so do closing any
 * handle of the queue in this process and ww_mq_cancel_notify(). Those who wait by polling, as this library does, do not
 * count as receiving: where a wait on the descriptor serves as well, it is the better way. Never blocks.
 *
 * Errors: -EBUSY a process has the place, maybe this one; -EINVAL there is no such signal, or it cannot be handled;
 * -EBADF an adopted descriptor is no queue; -EFAULT. */
int ww_mq_notify(const ww_mq *queue, int signal, int value);

/* Takes back what ww_mq_notify() asked for; no error if there is nothing to take back. Never blocks. Errors: -EBADF an
 * adopted descriptor is no queue; -EFAULT. */
int ww_mq_cancel_notify(const ww_mq *queue);

/* The descriptor, to poll or to pass on: readable while a message is in the queue, writable while there is room. It
 * stays the handle's. Never blocks. Errors: -EFAULT. */
int ww_mq_fd(const ww_mq *queue);


/* ---- System V semaphore set ---- */

/* Flag of ww_sysv_sem_op: when the process ends, however it ends, the kernel takes the change back (SEM_UNDO). */
#define WW_SYSV_SEM_UNDO 1

/* A System V semaphore set (sysv-sem:path#65, sysv-sem:0xKEY, sysv-sem:private): counters that one call can change
 * together. Semaphores are numbered from 0.
 *
 * Every operation is a system call. A set lives until it is removed or the next boot; calls on one that was removed,
 * before or meanwhile, fail with -EIDRM. May be shared between threads, and used by children made by fork; what is
 * undone at the end of a process is what this process did. */
typedef struct ww_sysv_sem ww_sysv_sem;

/* How a set is made; initialise with WW_SYSV_SEM_OPTIONS_INIT. What is 0 here counts as the address says, as in
 * "sysv-sem:semfile#65?mode=0660&count=3&initial=1". */
typedef struct ww_sysv_sem_options {
    size_t size;
    /* How many semaphores; 0 means 1. Opening refuses a set that has fewer. */
    size_t count;
    /* The values at the start, count of them, which must be given here then; NULL: each starts at initial. */
    const uint16_t *values;
    /* How long to wait, in nanoseconds, for another creator to put its values in before taking over; 0 means one
     * second. */
    int64_t settle_ns;
    /* The value of each at the start, at most 32767. */
    uint32_t initial;
    /* Permissions, whatever the umask; 0 means 0600. */
    uint32_t mode;
} ww_sysv_sem_options;
#define WW_SYSV_SEM_OPTIONS_INIT WW_INIT(ww_sysv_sem_options)

/* What to do to one semaphore of a set, in ww_sysv_sem_operate(). */
typedef struct ww_sysv_sem_op {
    /* Which semaphore. */
    uint16_t number;
    /* Above 0: add this. Below 0: take this, waiting until the value is as large. 0: wait until the value is 0. */
    int16_t change;
    /* 0 or WW_SYSV_SEM_UNDO. */
    uint16_t flags;
} ww_sysv_sem_op;

/* What the kernel keeps about a set. */
typedef struct ww_sysv_sem_status {
    /* Seconds of the wall clock: when an operation last succeeded (0 for never), when it was created or values were set. */
    int64_t operated_at;
    int64_t changed_at;
    /* How many semaphores it has. */
    size_t count;
    /* Its key, 0 for a private one. */
    int32_t key;
    /* Owner and creator, and the permissions. */
    uid_t uid;
    gid_t gid;
    uid_t creator_uid;
    gid_t creator_gid;
    uint32_t mode;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[4];
} ww_sysv_sem_status;

/* Opens a set that exists. Close it with ww_sysv_sem_close().
 *
 * Waits only for a set that has just been made and that nobody has operated on yet, since it might not have its values:
 * for settle_ns at most, 0 for one second. After that it is opened as it is.
 *
 * Errors: -ENOENT there is none, or the file that the key comes from is missing; -EINVAL it has fewer semaphores than
 * the address asks for, or the address is not one, or a negative settle_ns; -EACCES it is somebody else's; -ECANCELED;
 * -EFAULT. */
int ww_sysv_sem_open(ww_sysv_sem **out, const char *address, int64_t settle_ns);

/* Makes a set that must not exist yet, with its values in place; NULL options mean the address's. Never blocks.
 *
 * Errors: -EEXIST there is one; -ENOSPC the system has no room for another; -EINVAL more semaphores than a set may
 * have, values without a count, the mode, or the address; -ERANGE a value above 32767; -ENOENT the file that the key
 * comes from is missing; -EFAULT. */
int ww_sysv_sem_create(ww_sysv_sem **out, const char *address, const ww_sysv_sem_options *options);

/* Opens a set, or makes it with its values if there is none. The options count only for the one who makes it.
 *
 * No process that opens it by this library sees it without its values. A set that another program has made and nobody
 * has operated on is waited for, for settle_ns at most. If by then its values are all 0 and no process has set any, its
 * creator is taken for dead: the set is used if 0 is what was wanted, and otherwise removed and made anew.
 *
 * Errors: as ww_sysv_sem_open() and ww_sysv_sem_create(); -EPERM the creator seems to be dead, and the set is not the
 * caller's to remove; -EBUSY others make and remove it all the time; -ECANCELED. */
int ww_sysv_sem_open_or_create(ww_sysv_sem **out, const char *address, const ww_sysv_sem_options *options);

/* Uses a set by its kernel id, as ww_sysv_sem_id() or semget() told it. Close it with ww_sysv_sem_close(), which leaves
 * the set. Never blocks. Errors: -EIDRM there is no such set; -EACCES; -EFAULT. */
int ww_sysv_sem_from_id(ww_sysv_sem **out, int id);

/* Closes the handle; threads that wait on it return -ECANCELED first. The set stays, and so does what was acquired.
 * NULL is allowed. */
void ww_sysv_sem_close(ww_sysv_sem *set);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_sysv_sem_end_waits(const ww_sysv_sem *set);

/* Takes a permit of one semaphore, waiting while there is none. The kernel gives it back if the process ends before
 * ww_sysv_sem_release() does. A permit that is used up rather than given back is taken with ww_sysv_sem_add().
 *
 * Errors, with nothing taken: -EFBIG there is no semaphore of that number; -EIDRM; -EACCES; -ERANGE 32767 permits are to
 * be given back at the end of this process; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT. */
int ww_sysv_sem_acquire(const ww_sysv_sem *set, uint32_t number, int64_t timeout_ns);

/* Gives back a permit that this process has acquired. Never blocks. For permits that one process gives and another
 * takes use ww_sysv_sem_add(): what is released here is taken back when this process ends.
 *
 * Errors: -ERANGE the value would pass 32767; -EFBIG, -EIDRM, -EACCES; -EFAULT. */
int ww_sysv_sem_release(const ww_sysv_sem *set, uint32_t number);

/* Adds change to one semaphore; below 0 takes that many at once, waiting until there are as many. Nothing is undone when
 * the process ends.
 *
 * Errors: -EINVAL the change is 0; -ERANGE the value would pass 32767; and as ww_sysv_sem_acquire(). */
int ww_sysv_sem_add(const ww_sysv_sem *set, uint32_t number, int change, int64_t timeout_ns);

/* Waits until the value of one semaphore is 0. Errors: as ww_sysv_sem_acquire(). */
int ww_sysv_sem_wait_zero(const ww_sysv_sem *set, uint32_t number, int64_t timeout_ns);

/* A descriptor that is readable when change may be possible for one semaphore: -1 for a permit, less for several at once,
 * 0 for the value being 0; to poll, or for ww_waitset_add_fd(). It hears processes that know nothing of this library. It
 * stays the handle's. Never blocks.
 *
 * It stays readable until an operation by this handle with the same number and change (ww_sysv_sem_acquire() is -1) gives
 * -EAGAIN; it may be readable for nothing when another process was faster. A child made by fork asks again and gets one of
 * its own. The cost, from the first call on: a helper thread that sleeps in the kernel, a descriptor, and each time that
 * the helper is woken two switches of context and a few system calls. The helper takes and gives back in one operation:
 * the value never moves, but the helper counts in ww_sysv_sem_waiting(), and shows as the last pid.
 *
 * Errors: -EINVAL the change is above 0, or -32768; -ERANGE it is below that; -EFBIG, -EIDRM, -EACCES as
 * ww_sysv_sem_acquire(); -ENOMEM no helper thread can be had; -EMFILE, -ENFILE no descriptor is left; -EFAULT. */
int ww_sysv_sem_doorbell(const ww_sysv_sem *set, uint32_t number, int change);

/* Does all of count operations at one moment, waiting until all can be done; none is done if one fails.
 *
 * Errors: -EINVAL no operation, or an unknown flag; -E2BIG more than the system allows in a call; -ERANGE a value would
 * pass 32767; and as ww_sysv_sem_acquire(). */
int ww_sysv_sem_operate(const ww_sysv_sem *set, const ww_sysv_sem_op *ops, size_t count, int64_t timeout_ns);

/* The value of one semaphore at this moment. Never blocks. Errors: -EFBIG, -EIDRM, -EACCES, -EFAULT. */
int ww_sysv_sem_value(const ww_sysv_sem *set, uint32_t number);

/* Sets the value of one semaphore and wakes those whom it lets go on. All processes forget what they would have undone
 * for it. Never blocks. Errors: -ERANGE a value above 32767; -EFBIG, -EIDRM, -EACCES, -EFAULT. */
int ww_sysv_sem_set_value(const ww_sysv_sem *set, uint32_t number, uint32_t value);

/* Writes all values at one moment to values, which has room for count. Never blocks. Returns how many semaphores the
 * set has. Errors: -EMSGSIZE it has more than count, with nothing written; -EIDRM, -EACCES, -EFAULT. */
ssize_t ww_sysv_sem_values(const ww_sysv_sem *set, uint16_t *values, size_t count);

/* Sets all values at one moment, count of them, one for each semaphore; otherwise as ww_sysv_sem_set_value().
 *
 * Errors: -EINVAL more or fewer values than semaphores; -ERANGE, -EIDRM, -EACCES, -EFAULT. */
int ww_sysv_sem_set_values(const ww_sysv_sem *set, const uint16_t *values, size_t count);

/* How many threads wait until the value of one semaphore grows. Never blocks.
 * Errors: -EFBIG, -EIDRM, -EACCES, -EFAULT. */
int ww_sysv_sem_waiting(const ww_sysv_sem *set, uint32_t number);

/* How many threads wait until one semaphore is zero. Never blocks. Errors: -EFBIG, -EIDRM, -EACCES, -EFAULT. */
int ww_sysv_sem_waiting_for_zero(const ww_sysv_sem *set, uint32_t number);

/* The process that last changed or set the value of one semaphore; 0 if none has, or if it lives in a pid namespace that
 * this process cannot see into. Never blocks. Errors: -EFBIG, -EIDRM, -EACCES, -EFAULT. */
int ww_sysv_sem_last_pid(const ww_sysv_sem *set, uint32_t number);

/* What the kernel keeps about the set, into *status. Never blocks. Errors: -EIDRM, -EACCES, -EFAULT. */
int ww_sysv_sem_get_status(const ww_sysv_sem *set, ww_sysv_sem_status *status);

/* How many semaphores the set has. Never blocks. Errors: -EFAULT. */
ssize_t ww_sysv_sem_count(const ww_sysv_sem *set);

/* The kernel's id of the set, for calls of the C library. Never blocks. Errors: -EFAULT. */
int ww_sysv_sem_id(const ww_sysv_sem *set);

/* Removes the set at once, for everybody: who waits on it gets -EIDRM. The handle is still to be closed. Never blocks.
 * Errors: -EIDRM it is gone already; -EPERM it is somebody else's; -EFAULT. */
int ww_sysv_sem_unlink(const ww_sysv_sem *set);

/* Removes the set that an address names, without opening it first. Never blocks.
 * Errors: -ENOENT there is none; -EPERM it is somebody else's; -EINVAL the address; -EFAULT. */
int ww_sysv_sem_remove(const char *address);


/* ---- POSIX semaphore ---- */

/* The bytes that a semaphore takes in memory, for ww_sem_init_at(). */
#define WW_SEM_SIZE 32

/* What the address of a semaphore in memory must be a multiple of. */
#define WW_SEM_ALIGNMENT 8

/* A POSIX semaphore: a number of permits, by name (sem:/gate) or in memory that processes share.
 *
 * Acquiring takes a permit or waits while there is none; without anybody waiting neither that nor releasing is a system
 * call. Starting at 1 makes a lock. The counter knows no owners: a process that is killed while it holds a permit takes
 * it along; where that matters use ww_sysv_sem. A named one lives until ww_sem_remove() or the next boot; one in memory
 * as long as the memory. Same object as of sem_open() and sem_init(). May be shared between threads, and used by
 * children made by fork. */
typedef struct ww_sem ww_sem;

/* How a semaphore is made; initialise with WW_SEM_OPTIONS_INIT. What is 0 here counts as the address says, as in
 * "sem:/gate?mode=0660&initial=1". */
typedef struct ww_sem_options {
    size_t size;
    /* The value at the start, at most 2147483647. */
    uint32_t initial;
    /* Permissions, whatever the umask; 0 means 0600. */
    uint32_t mode;
} ww_sem_options;
#define WW_SEM_OPTIONS_INIT WW_INIT(ww_sem_options)

/* Opens a semaphore that exists. Close it with ww_sem_close(). Never blocks.
 *
 * Errors: -ENOENT there is none; -EACCES it is somebody else's; -EBADMSG, -EINVAL the file of that name holds no
 * semaphore, or the address is not one; -EMFILE, -ENFILE; -EFAULT. */
int ww_sem_open(ww_sem **out, const char *address);

/* Makes a semaphore that must not exist yet; NULL options mean the address's. Never blocks.
 *
 * Errors: -EEXIST there is one; -EINVAL the address, the initial value or the mode; -ENOSPC /dev/shm is full; and as
 * ww_sem_open(). */
int ww_sem_create(ww_sem **out, const char *address, const ww_sem_options *options);

/* Opens a semaphore, or makes it if there is none; no process ever sees it without its value. The options count only
 * for the one who makes it. Never blocks. Errors: as ww_sem_open() and ww_sem_create(), without -ENOENT and -EEXIST;
 * -EBUSY others make and remove it all the time. */
int ww_sem_open_or_create(ww_sem **out, const char *address, const ww_sem_options *options);

/* Makes a semaphore in shared memory: WW_SEM_SIZE bytes at a multiple of WW_SEM_ALIGNMENT. Never blocks.
 *
 * The memory stays the caller's, mapped and writable while the handle is open. Nobody uses a semaphore that was there
 * before; other processes use this one after the call, by ww_sem_at(). Closing the handle leaves it there.
 *
 * Errors: -EINVAL not aligned, or the initial value is above 2147483647; -EFAULT. */
int ww_sem_init_at(ww_sem **out, void *memory, uint32_t initial);

/* Uses a semaphore in memory that somebody has made there, with ww_sem_init_at() or sem_init(). Never blocks.
 *
 * The memory stays the caller's, mapped and writable while the handle is open.
 *
 * Errors: -EBADMSG there is no semaphore, as far as can be seen; -EINVAL not aligned; -EFAULT. */
int ww_sem_at(ww_sem **out, void *memory);

/* Closes the handle; threads that wait on it return -ECANCELED first. The semaphore stays. NULL is allowed. */
void ww_sem_close(ww_sem *sem);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_sem_end_waits(const ww_sem *sem);

/* Takes a permit; waits while there is none.
 *
 * Errors, with nothing taken: -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT. */
int ww_sem_acquire(const ww_sem *sem, int64_t timeout_ns);

/* Gives a permit: wakes one that waits, or adds 1 to the value. Never blocks. Allowed in a signal handler where the
 * value cannot be at its largest.
 *
 * Errors: -EOVERFLOW the value is 2147483647 already; -EFAULT. */
int ww_sem_release(const ww_sem *sem);

/* Gives count permits, one after the other, and writes how many were given to *done, which may be NULL. Never blocks.
 * Errors: as ww_sem_release(). */
int ww_sem_release_many(const ww_sem *sem, uint32_t count, size_t *done);

/* The value at this moment: how many permits are left. Never blocks. Errors: -EFAULT. */
int ww_sem_value(const ww_sem *sem);

/* The sem_t behind the handle, for calls of the C library; good while the handle is open. Never blocks. Returns NULL
 * for NULL. */
void *ww_sem_pointer(const ww_sem *sem);

/* Removes the name: those who have it open go on using it, and the name is free for a new one. Never blocks.
 *
 * Errors: -ENOENT there is none; -EACCES it is somebody else's; -EINVAL the address; -EFAULT. */
int ww_sem_remove(const char *address);


/* ---- What rings, cells, topics and locks have in common: how their calls wait, and loans ---- */

/* Look again and again for about as long as a wake-up takes, if waits have been that short lately, then sleep. */
#define WW_WAIT_ADAPTIVE 0

/* Sleep at once. */
#define WW_WAIT_BLOCK 1

/* Never sleep: look again and again until the timeout. For threads that have a processor to themselves. */
#define WW_WAIT_POLL 2

/* Bytes in shared memory that a call has lent, for reading or for writing in place, until they are given back by a call
 * that names how: committed, published, aborted, released. A loan is given back once; later tries are -EINVAL. */
typedef struct ww_loan {
    /* Where the bytes are. What others may write there at the same time, only a peer that breaks the rules does. */
    void *data;
    /* How many bytes. */
    size_t size;
    /* Names the loan to the handle that gave it; nothing to do arithmetic with. */
    uint64_t token;
} ww_loan;

/* Bytes of the caller's that a call is to read. data may be NULL where size is 0. */
typedef struct ww_bytes {
    const void *data;
    size_t size;
} ww_bytes;


/* ---- Ring: messages through shared memory, each to one consumer ---- */

/* A full ring: the sender waits as long as its timeout allows. */
#define WW_RING_WAIT 0

/* A full ring: the sender fails with -EAGAIN at once, whatever its timeout. */
#define WW_RING_FAIL 1

/* A full ring: the sender drops the message that it is sending, and counts it. */
#define WW_RING_DROP_NEWEST 2

/* A full ring: the sender drops the oldest message that nobody has taken, and counts it. */
#define WW_RING_DROP_OLDEST 3

/* A handle becomes a producer when it first sends and a consumer when it first receives. */
#define WW_RING_EITHER 0

/* It is a producer from the start. */
#define WW_RING_PRODUCER 1

/* It is a consumer from the start. */
#define WW_RING_CONSUMER 2

/* A ring (ring:name): messages through shared memory between any number of producers and consumers, each message to one
 * consumer.
 *
 * A process killed at any instruction loses nothing that it had sent and hangs nobody: what it was writing is skipped
 * and counted; what it had taken and not released is delivered again, marked. May be shared between threads. A child
 * made by fork joins as itself when it first uses the handle (-EUSERS, -EMFILE, -ENFILE if it cannot); loans stay the
 * parent's. */
typedef struct ww_ring ww_ring;

/* How a ring is opened or made; initialise with WW_RING_OPTIONS_INIT. capacity, largest, depth, participants, mode,
 * persistent, redeliveries and lanes count when it is made and are the ring's from then on; the rest is each handle's
 * own. Zero means what the address says, or else the default. */
typedef struct ww_ring_options {
    size_t size;
    /* Memory for messages in bytes, reserved at once; 0 for 1 MiB or, where a depth is given, for so many messages of the
     * largest size. */
    uint64_t capacity;
    /* The largest message in bytes; 0 for 1024, or a quarter of the capacity if that is less. A limit only: each
     * message takes 128 bytes of the capacity, and one of more than 96 bytes its own length besides, rounded up to at
     * most twice that (an eighth more on the average). Rings whose largest message has at most 112 bytes have 64 or
     * 128 bytes for each instead. */
    uint64_t largest;
    /* How many handles may be open at the same time, at most 256; 0 for 256. */
    uint32_t participants;
    /* Permissions of the file; 0 for 0600. */
    uint32_t mode;
    /* 1: nobody is told that the other side has gone; the ring is there for those to come. */
    int persistent;
    /* WW_RING_WAIT, WW_RING_FAIL, WW_RING_DROP_NEWEST or WW_RING_DROP_OLDEST. */
    uint32_t full;
    /* WW_RING_EITHER, WW_RING_PRODUCER or WW_RING_CONSUMER. */
    uint32_t role;
    /* WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL. */
    uint32_t wait;
    /* A message that was delivered again so often, and comes back once more, becomes a dead letter instead, which only
     * handles with dead_letters receive; 0: never. Dead letters take up half of a lane at most; what would go beyond is
     * dropped, and counted as such. */
    uint32_t redeliveries;
    /* 1: what this handle receives are dead letters, in no particular order, instead of messages. It does not become a
     * consumer by that. One that is not released stays a dead letter. */
    int dead_letters;
    /* How many lanes the ring has, at most 8; 0 for 1. Messages of a higher lane are received first. Each lane has its part
     * of the capacity, and is full by itself. */
    uint32_t lanes;
    /* The lane that this handle sends by where it names no other, from 0. */
    uint32_t lane;
    /* How many messages there may be at once, all lanes together, rounded up to a power of two in each; 0 for as many as
     * take a quarter of the capacity, 65536 at most (where the largest message has at most 112 bytes, the whole of it). Not
     * with a one-to-one ring. */
    uint64_t depth;
} ww_ring_options;
#define WW_RING_OPTIONS_INIT WW_INIT(ww_ring_options)

/* What a ring has seen and what it holds. Always sent = released + borrowed + queued + dropped + dead_lettered. */
typedef struct ww_ring_statistics {
    /* Messages that were committed, or dropped by their sender because the ring was full. */
    uint64_t sent;
    /* Messages that consumers were done with; have taken and not released; messages that nobody has taken. */
    uint64_t released;
    uint64_t borrowed;
    uint64_t queued;
    /* Messages that were thrown away because the ring, or its room for dead letters, was full. */
    uint64_t dropped;
    /* Messages that came back too often and that nobody has taken since. */
    uint64_t dead_lettered;
    /* Places reserved and not committed; reservations given up; half-written messages of producers that died. None of
     * them was ever sent. */
    uint64_t writing;
    uint64_t aborted;
    uint64_t skipped;
    /* How often a message came back after it had been taken. */
    uint64_t redelivered;
    /* The most messages that were in the ring at once (in one of its lanes, if there are several), those being written
     * included; may be short by 16, or an eighth of what there is room for if that is less. 0 with a one-to-one ring. */
    uint64_t high_water;
    /* The largest message, and all memory, in bytes. */
    size_t largest;
    size_t bytes;
    /* How many handles take part. */
    size_t participants;
    /* Lanes; 0 with a one-to-one ring. */
    uint64_t lanes;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[5];
} ww_ring_statistics;

/* One handle on a ring, of this or another process. */
typedef struct ww_ring_participant {
    /* Its process; 0 if it lives in a pid namespace that this one cannot see. */
    uint32_t pid;
    /* 1 or 0: the handle that was asked; has sent, or was opened to send; has received, or was opened to receive. */
    uint32_t is_self;
    uint32_t producer;
    uint32_t consumer;
    /* When it was opened, in seconds since 1970. */
    uint64_t since;
    /* Messages that it is writing, or has taken and not released. */
    uint64_t holding;
    /* Since when the first of its threads waits, in nanoseconds since 1970; 0: none does. */
    uint64_t waiting_since;
    /* How many of its threads wait. */
    uint32_t waiting;
    uint32_t unused;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[2];
} ww_ring_participant;

/* Opens the ring of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one with a slash is
 * a path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_ring_close().
 *
 * Errors: -EINVAL the address, or options that do not fit together; -ENOSPC the memory is not free; -EACCES the
 * directory is somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -ELOOP a symbolic
 * link; -ENOTSUP the file system cannot make files without a name (a tmpfs can); -EBADMSG there is something else
 * under that name, or it is damaged; -EPROTO it was made by an incompatible version; -EUSERS it has no room for
 * another participant; -EMFILE, -ENFILE; -EFAULT. */
int ww_ring_open(ww_ring **out, const char *address, const ww_ring_options *options);

/* Makes a ring without a name, for children made by fork, and for others by its descriptor. Never blocks.
 *
 * Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT. */
int ww_ring_anonymous(ww_ring **out, const ww_ring_options *options);

/* Joins the ring whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor and closes fd;
 * after an error fd stays the caller's. Never blocks.
 *
 * Errors: -EBADMSG it is no ring, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT. */
int ww_ring_from_fd(ww_ring **out, int fd, const ww_ring_options *options);

/* Closes the handle; threads that wait on it return -ECANCELED first. What it had reserved was never sent; what it had
 * borrowed is delivered again, marked. NULL is allowed. */
void ww_ring_close(ww_ring *ring);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_ring_end_waits(const ww_ring *ring);

/* Removes a ring's name; those who have it open keep it, and what it holds is gone with the last of them. Never blocks.
 *
 * Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT. */
int ww_ring_remove(const char *address);

/* How many bytes of memory a ring with these options takes, all in all. Never blocks. Errors: -EINVAL, -EFAULT. */
ssize_t ww_ring_size_for(const ww_ring_options *options);

/* Whether the name still stands for this ring. Never blocks. Errors: -ESTALE the name was removed: what is sent from now
 * on reaches only those who have the ring open; -EFAULT. */
int ww_ring_check(const ww_ring *ring);

/* The descriptor, to pass on for ww_ring_from_fd(); not for polling. It stays the handle's. Never blocks.
 * Errors: -EFAULT. */
int ww_ring_segment_fd(const ww_ring *ring);

/* A descriptor that is readable while there may be a message for this handle (a dead letter, if these are what it
 * receives): for poll, a wait set, an event loop. It stays so until a call finds none. It stays the handle's. From the
 * first call on it costs a helper thread that sleeps in the kernel. Never blocks.
 *
 * Errors: -EMFILE, -ENFILE no descriptor is left; -ENOMEM no thread can be had; -ESTALE this handle was declared dead;
 * -EFAULT. */
int ww_ring_fd(const ww_ring *ring);

/* As ww_ring_fd(), readable while there may be room for a message in this lane (0 where there is one), until a call finds
 * none. Never blocks. Errors: as ww_ring_fd(); -EINVAL there is no such lane. */
int ww_ring_room_fd(const ww_ring *ring, uint32_t lane);

/* Copies a message into the ring; waits while the ring is full, unless the handle's options say otherwise. A message
 * may be empty.
 *
 * Errors, with nothing sent: -EMSGSIZE it is larger than the ring's largest; -EPIPE there is no room and the last
 * consumer has gone (never with a persistent ring or WW_RING_DROP_NEWEST); -ESTALE this handle was
 * declared dead because its lock was closed: open the ring anew; -EBADMSG the ring is damaged; -EAGAIN, -ETIMEDOUT,
 * -ECANCELED; -EFAULT. */
int ww_ring_send(const ww_ring *ring, const void *data, size_t size, int64_t timeout_ns);

/* Copies the next message out of the ring, is done with it, and returns its size; waits while there is none.
 * *deliveries, which may be NULL, gets how often it has been taken, this time included: more than 1 says that somebody may
 * have acted on it before. *true_size, which may be NULL, gets its size also where the buffer is too small.
 *
 * Errors, with nothing taken: -EMSGSIZE the buffer is too small; -EPIPE the ring is empty and the last producer has
 * gone (never with a persistent ring); -ESTALE, -EBADMSG as ww_ring_send(); -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT. */
ssize_t ww_ring_recv(const ww_ring *ring, void *buffer, size_t size, int64_t timeout_ns, uint32_t *deliveries,
                     size_t *true_size);

/* Lends room for a message of this size, in *loan, to be written in place and then given to ww_ring_commit() or
 * ww_ring_abort(); waits while the ring is full. Several can be out, and come back in any order.
 *
 * Errors: as ww_ring_send(); a full ring with WW_RING_DROP_NEWEST is -EAGAIN, as there is nothing yet to drop. */
int ww_ring_reserve(const ww_ring *ring, ww_loan *loan, size_t size, int64_t timeout_ns);

/* Sends the message that was written in place. Never blocks.
 *
 * Errors: -EINVAL the token names no reservation of this handle; -ESTALE this handle was declared dead, and the room
 * taken back; -EPERM it was reserved by the process that this one was forked from; -EFAULT. */
int ww_ring_commit(const ww_ring *ring, uint64_t token);

/* Gives reserved room back; nothing was sent. Never blocks. Errors: as ww_ring_commit(). */
int ww_ring_abort(const ww_ring *ring, uint64_t token);

/* Takes the next message and lends it in *loan, to be read in place and then given to ww_ring_release() or
 * ww_ring_give_back(); waits while there is none. *deliveries as in ww_ring_recv(). Several can be out, and come back in
 * any order.
 *
 * Errors: as ww_ring_recv(), without -EMSGSIZE. */
int ww_ring_borrow(const ww_ring *ring, ww_loan *loan, int64_t timeout_ns, uint32_t *deliveries);

/* Is done with a borrowed message. Never blocks.
 *
 * Errors: -EINVAL the token names no borrowed message of this handle; -ESTALE this handle was declared dead, and the
 * message will be delivered to another; -EPERM it was taken by the process that this one was forked from; -EFAULT. */
int ww_ring_release(const ww_ring *ring, uint64_t token);

/* Gives a borrowed message back without being done with it: it will be delivered again, marked. Never blocks.
 * Errors: as ww_ring_release(). */
int ww_ring_give_back(const ww_ring *ring, uint64_t token);

/* Tells what the ring has seen and holds, and in participants, if it is not NULL, who takes part: at most so many as
 * there is room for; statistics->participants is how many there are. Never blocks; takes time in proportion to the
 * capacity. Errors: -EBADMSG the ring is damaged; -ESTALE; -EFAULT. */
int ww_ring_get_statistics(const ww_ring *ring, ww_ring_statistics *statistics, ww_ring_participant *participants,
                           size_t room);


/* ---- Rings: several messages in one call, and lanes ---- */

/* One message of a batch that was received. */
typedef struct ww_ring_received {
    /* Its bytes, which follow those of the message before it. */
    size_t size;
    /* How often it has been taken, this time included: more than 1 says that somebody may have acted on it before. */
    uint32_t deliveries;
    /* The lane that it came by; 0 where there is one. */
    uint32_t lane;
} ww_ring_received;

/* Copies as many of these messages into the ring as there is room for, at least one unless count is 0, in their order,
 * and returns how many. Waits while there is no room for the first, unless the handle's options say otherwise: with
 * WW_RING_DROP_NEWEST those without room are dropped and counted, and it returns how many there were. Each message is sent
 * whole or not at all; others may see the first before the last is sent, and send in between.
 *
 * Errors, with nothing sent: as ww_ring_send(); what stops a batch after its first message, such as one that is too
 * large, is met by the next call. */
ssize_t ww_ring_send_batch(const ww_ring *ring, const ww_bytes *messages, size_t count, int64_t timeout_ns);

/* As ww_ring_send(), by this lane of the ring; messages of a higher lane are received first. Errors: as there; -EINVAL
 * there is no such lane. */
int ww_ring_send_in_lane(const ww_ring *ring, uint32_t lane, const void *data, size_t size, int64_t timeout_ns);

/* As ww_ring_send_batch(), by this lane. Errors: as there; -EINVAL there is no such lane. */
ssize_t ww_ring_send_batch_in_lane(const ww_ring *ring, uint32_t lane, const ww_bytes *messages, size_t count,
                                   int64_t timeout_ns);

/* As ww_ring_reserve(), by this lane. Errors: as there; -EINVAL there is no such lane. */
int ww_ring_reserve_in_lane(const ww_ring *ring, uint32_t lane, ww_loan *loan, size_t size, int64_t timeout_ns);

/* Copies as many messages out of the ring as are there and fit, at least one and at most 64, is done with them, and
 * returns how many; waits while there is none. They come one behind the other in buffer, which has size bytes, and what
 * each is in received, which has room for count entries. *true_size, which may be NULL, gets the size of the first message
 * where the buffer is too small for it. A process that dies in this call was not done with them, or not with all.
 *
 * Errors, with nothing taken: as ww_ring_recv(); -EINVAL count is 0. */
ssize_t ww_ring_recv_batch(const ww_ring *ring, void *buffer, size_t size, ww_ring_received *received, size_t count,
                           int64_t timeout_ns, size_t *true_size);


/* ---- One-to-one rings: the receiving end ---- */

/* The receiving end of a one-to-one ring; see ww_ring_producer. */
typedef struct ww_ring_consumer ww_ring_consumer;

/* Opens the one-to-one ring of this name, or makes it, and becomes its consumer. Never blocks. Close it with
 * ww_ring_consumer_close(). Errors: -EBUSY it has a consumer; otherwise as ww_ring_producer_open(). */
int ww_ring_consumer_open(ww_ring_consumer **out, const char *address, const ww_ring_options *options);

/* Becomes the consumer of the ring whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor
 * and closes fd; after an error fd stays the caller's. Never blocks. Errors: as ww_ring_producer_from_fd(). */
int ww_ring_consumer_from_fd(ww_ring_consumer **out, int fd, const ww_ring_options *options);

/* Closes the end; a thread that waits on it returns -ECANCELED first. What it had borrowed is delivered again, marked, to
 * the next consumer. NULL is allowed. */
void ww_ring_consumer_close(ww_ring_consumer *consumer);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_ring_consumer_end_waits(const ww_ring_consumer *consumer);

/* Whether the name still stands for this ring. Never blocks. Errors: -ESTALE the name was removed: whoever opens it from
 * now on gets another ring; -EFAULT. */
int ww_ring_consumer_check(const ww_ring_consumer *consumer);

/* The segment's descriptor, to pass on for ww_ring_producer_from_fd(); not for polling. It stays the handle's. Never
 * blocks. Errors: -EFAULT. */
int ww_ring_consumer_segment_fd(const ww_ring_consumer *consumer);

/* A descriptor that is readable while there may be a message: for poll, a wait set, an event loop. It stays so until a
 * call finds none. It stays the handle's. From the first call on it costs a helper thread that sleeps in the kernel. Never
 * blocks. Errors: as ww_ring_producer_fd(). */
int ww_ring_consumer_fd(const ww_ring_consumer *consumer);

/* Copies the next message out of the ring, is done with it, and returns its size; waits while there is none.
 * *deliveries, which may be NULL, gets how often it has been taken, this time included: more than 1 says that somebody may
 * have acted on it before. *true_size, which may be NULL, gets its size also where the buffer is too small.
 *
 * Errors, with nothing taken: -EMSGSIZE the buffer is too small; -EPIPE the ring is empty and its producer has gone (never
 * with a persistent ring); -EBUSY a loan is out; -EPERM, -ESTALE, -EBADMSG as ww_ring_producer_send(); -EAGAIN, -ETIMEDOUT,
 * -ECANCELED; -EFAULT. */
ssize_t ww_ring_consumer_recv(const ww_ring_consumer *consumer, void *buffer, size_t size, int64_t timeout_ns,
                              uint32_t *deliveries, size_t *true_size);

/* Copies as many messages out of the ring as are there and fit, at least one and at most 64, is done with them, all at one
 * instant, and returns how many; waits while there is none. They come one behind the other in buffer, which has size bytes,
 * and what each is in received, which has room for count entries. *true_size, which may be NULL, gets the size of the
 * first message where the buffer is too small for it.
 *
 * Errors, with nothing taken: as ww_ring_consumer_recv(); -EINVAL count is 0. */
ssize_t ww_ring_consumer_recv_batch(const ww_ring_consumer *consumer, void *buffer, size_t size,
                                    ww_ring_received *received, size_t count, int64_t timeout_ns, size_t *true_size);

/* Takes the next message and lends it in *loan, to be read in place and then given to ww_ring_consumer_release() or
 * ww_ring_consumer_give_back(); waits while there is none. *deliveries as in ww_ring_consumer_recv(). One can be out at a
 * time.
 *
 * Errors: as ww_ring_consumer_recv(), without -EMSGSIZE. */
int ww_ring_consumer_borrow(const ww_ring_consumer *consumer, ww_loan *loan, int64_t timeout_ns, uint32_t *deliveries);

/* Is done with the borrowed message. Never blocks.
 *
 * Errors: -EINVAL the token names no borrowed message of this handle; -ESTALE this end was declared dead, and the message
 * will be delivered to another; -EPERM it was taken by the process that this one was forked from; -EFAULT. */
int ww_ring_consumer_release(const ww_ring_consumer *consumer, uint64_t token);

/* Gives the borrowed message back without being done with it: it will be delivered again, marked. Never blocks.
 * Errors: as ww_ring_consumer_release(). */
int ww_ring_consumer_give_back(const ww_ring_consumer *consumer, uint64_t token);

/* As ww_ring_producer_get_statistics(). Never blocks. */
int ww_ring_consumer_get_statistics(const ww_ring_consumer *consumer, ww_ring_statistics *statistics,
                                    ww_ring_participant *participants, size_t room);


/* ---- One-to-one rings: the sending end ---- */

/* The sending end of a one-to-one ring (ring:name), the fastest way between two processes: one producer, one consumer at
 * a time. A second one is -EBUSY, and takes over once the first has gone or died. What was sent stays sent; what a
 * consumer had taken and not finished when it died is delivered again, marked.
 *
 * One thread at a time uses an end; another may close it, which ends a wait. A child made by fork cannot use an inherited
 * end: it stays the parent's. */
typedef struct ww_ring_producer ww_ring_producer;

/* Opens the one-to-one ring of this name, or makes it, and becomes its producer. Of the options, role is not looked
 * at; redeliveries, dead_letters, depth, lanes above 1, lane and WW_RING_DROP_OLDEST are -EINVAL. Never blocks. Close
 * it with ww_ring_producer_close(); remove the name with ww_ring_remove().
 *
 * Errors: -EBUSY it has a producer; -EBADMSG the name is that of something else, such as a many-to-many ring; otherwise
 * as ww_ring_open(). */
int ww_ring_producer_open(ww_ring_producer **out, const char *address, const ww_ring_options *options);

/* Makes a one-to-one ring without a name, and both its ends. The consumer is usually not for this process: pass on its
 * descriptor and close it. Never blocks. Errors: as ww_ring_anonymous(). */
int ww_ring_producer_anonymous(ww_ring_producer **out, ww_ring_consumer **consumer, const ww_ring_options *options);

/* Becomes the producer of the ring whose descriptor came from a parent or a peer. The handle uses a copy of the
 * descriptor and closes fd; after an error fd stays the caller's. Never blocks.
 *
 * Errors: -EBUSY it has a producer; -EBADMSG it is no one-to-one ring, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF,
 * -EMFILE, -EFAULT. */
int ww_ring_producer_from_fd(ww_ring_producer **out, int fd, const ww_ring_options *options);

/* Closes the end; a thread that waits on it returns -ECANCELED first. What it had reserved was never sent. NULL is
 * allowed. */
void ww_ring_producer_close(ww_ring_producer *producer);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_ring_producer_end_waits(const ww_ring_producer *producer);

/* How many bytes of memory a one-to-one ring with these options takes, all in all. Never blocks. Errors: -EINVAL,
 * -EFAULT. */
ssize_t ww_ring_producer_size_for(const ww_ring_options *options);

/* Whether the name still stands for this ring. Never blocks. Errors: -ESTALE the name was removed: what is sent from now
 * on reaches only who has the other end open; -EFAULT. */
int ww_ring_producer_check(const ww_ring_producer *producer);

/* The segment's descriptor, to pass on for ww_ring_consumer_from_fd(); not for polling. It stays the handle's. Never
 * blocks. Errors: -EFAULT. */
int ww_ring_producer_segment_fd(const ww_ring_producer *producer);

/* A descriptor that is readable while there may be room for another message of any size: for poll, a wait set, an event
 * loop. It stays so until a call finds no room. It stays the handle's. From the first call on it costs a helper thread
 * that sleeps in the kernel. Never blocks.
 *
 * Errors: -EMFILE, -ENFILE no descriptor is left; -ENOMEM no thread can be had; -EPERM this end is the parent's; -EFAULT. */
int ww_ring_producer_fd(const ww_ring_producer *producer);

/* Copies a message into the ring; waits while there is no room, unless the handle's options say otherwise. A message may
 * be empty.
 *
 * Errors, with nothing sent: -EMSGSIZE it is larger than the ring's largest; -EPIPE there is no room and the consumer has
 * gone (never with a persistent ring or WW_RING_DROP_NEWEST); -EBUSY a loan is out; -EPERM this end is the parent's; -ESTALE it was declared dead
 * because its lock was closed: open it anew; -EBADMSG the ring is damaged; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT. */
int ww_ring_producer_send(const ww_ring_producer *producer, const void *data, size_t size, int64_t timeout_ns);

/* Copies as many of these messages into the ring as there is room for, at least one unless count is 0, up to 64 of them at
 * one instant, and returns how many. Waits while there is no room for the first, unless the handle's options say otherwise:
 * with WW_RING_DROP_NEWEST those without room are dropped and counted, and it returns how many there were.
 *
 * Errors, with nothing sent: as ww_ring_producer_send(); what stops a batch after its first message, such as one that is
 * too large, is met by the next call. */
ssize_t ww_ring_producer_send_batch(const ww_ring_producer *producer, const ww_bytes *messages, size_t count,
                                    int64_t timeout_ns);

/* Lends room for a message of this size, in *loan, to be written in place and then given to ww_ring_producer_commit() or
 * ww_ring_producer_abort(); waits while there is none. One can be out at a time.
 *
 * Errors: as ww_ring_producer_send(); a full ring with WW_RING_DROP_NEWEST is -EAGAIN, as there is nothing yet to drop. */
int ww_ring_producer_reserve(const ww_ring_producer *producer, ww_loan *loan, size_t size, int64_t timeout_ns);

/* Sends the message that was written in place. Never blocks.
 *
 * Errors: -EINVAL the token names no reservation of this handle; -ESTALE this end was declared dead; -EPERM it was
 * reserved by the process that this one was forked from; -EFAULT. */
int ww_ring_producer_commit(const ww_ring_producer *producer, uint64_t token);

/* Gives reserved room back; nothing was sent. Never blocks. Errors: -EINVAL the token names no reservation of this
 * handle; -EFAULT. */
int ww_ring_producer_abort(const ww_ring_producer *producer, uint64_t token);

/* Tells what the ring has seen and holds, as ww_ring_get_statistics(); a one-to-one ring has no writing, aborted, skipped
 * and dead_lettered. Never blocks. Errors: -EPERM, -ESTALE, -EBADMSG as ww_ring_producer_send(); -EFAULT. */
int ww_ring_producer_get_statistics(const ww_ring_producer *producer, ww_ring_statistics *statistics,
                                    ww_ring_participant *participants, size_t room);


/* ---- Cell: the latest value in shared memory ---- */

/* A cell (cell:name): the latest value, and nothing but the latest, in shared memory.
 *
 * Reading takes a fixed number of steps and finds a whole value, also while writers are at full speed, stopped, or
 * killed half-way. Many may write. May be shared between threads. A child made by fork joins as itself when it first
 * uses the handle to write or wait (-EUSERS, -EMFILE, -ENFILE if it cannot); loans stay the parent's. */
typedef struct ww_cell ww_cell;

/* How a cell is opened or made; initialise with WW_CELL_OPTIONS_INIT. largest, participants and mode count when it is
 * made and are the cell's from then on. Zero means what the address says, or else the default. */
typedef struct ww_cell_options {
    size_t size;
    /* The largest value in bytes; 0 for 256. Memory for 2 * participants + 2 of them is reserved at once. */
    uint64_t largest;
    /* How many handles may be open at the same time, at most 256; 0 for 32. */
    uint32_t participants;
    /* Permissions of the file; 0 for 0600. */
    uint32_t mode;
    /* WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL. */
    uint32_t wait;
    uint32_t reserved;
} ww_cell_options;
#define WW_CELL_OPTIONS_INIT WW_INIT(ww_cell_options)

/* What a cell has seen. */
typedef struct ww_cell_statistics {
    /* Values so far. */
    uint64_t sequence;
    /* Buffers reserved and not published; values that were being written by those who died, and were never published. */
    uint64_t writing;
    uint64_t skipped;
    /* Buffers, each for one value. */
    uint64_t buffers;
    /* The largest value, and all memory, in bytes. */
    size_t largest;
    size_t bytes;
    /* How many handles take part. */
    size_t participants;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[4];
} ww_cell_statistics;

/* One handle on a cell, of this or another process. */
typedef struct ww_cell_participant {
    /* Its process; 0 if it lives in a pid namespace that this one cannot see. */
    uint32_t pid;
    /* 1 or 0: the handle that was asked. */
    uint32_t is_self;
    /* When it was opened, in seconds since 1970. */
    uint64_t since;
    /* Buffers that it has reserved and not published. */
    uint64_t writing;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[2];
} ww_cell_participant;

/* Opens the cell of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one with a slash is
 * a path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_cell_close().
 *
 * Errors: -EINVAL the address, or options that do not fit together; -ENOSPC the memory is not free; -EACCES the
 * directory is somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -EBUSY others make
 * and remove it all the time; -ELOOP a symbolic link; -ENOTSUP the file system cannot make files without a name (a
 * tmpfs can); -EBADMSG there is something else under that name, or it is damaged; -EPROTO it was made by an
 * incompatible version; -EUSERS it has no room for another participant; -EMFILE, -ENFILE; -EFAULT. */
int ww_cell_open(ww_cell **out, const char *address, const ww_cell_options *options);

/* Makes a cell without a name, for children made by fork, and for others by its descriptor. Never blocks.
 *
 * Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT. */
int ww_cell_anonymous(ww_cell **out, const ww_cell_options *options);

/* Joins the cell whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor and closes fd;
 * after an error fd stays the caller's. Never blocks.
 *
 * Errors: -EBADMSG it is no cell, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT. */
int ww_cell_from_fd(ww_cell **out, int fd, const ww_cell_options *options);

/* Closes the handle; threads that wait on it return -ECANCELED first. What it had reserved is not published. NULL is
 * allowed. */
void ww_cell_close(ww_cell *cell);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_cell_end_waits(const ww_cell *cell);

/* Removes a cell's name; those who have it open keep it. Never blocks.
 *
 * Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT. */
int ww_cell_remove(const char *address);

/* How many bytes of memory a cell with these options takes, all in all. Never blocks. Errors: -EINVAL, -EFAULT. */
ssize_t ww_cell_size_for(const ww_cell_options *options);

/* Whether the name still stands for this cell. Never blocks. Errors: -ESTALE the name was removed; -EFAULT. */
int ww_cell_check(const ww_cell *cell);

/* The segment's descriptor, to pass on for ww_cell_from_fd(); not for polling. It stays the handle's. Never blocks.
 * Errors: -EFAULT. */
int ww_cell_segment_fd(const ww_cell *cell);

/* Makes a copy of these bytes the latest value; *sequence, which may be NULL, gets how many values there have been, this
 * one included. Never blocks.
 *
 * Errors, with nothing written: -EMSGSIZE it is larger than the cell's largest; -EAGAIN all buffers are in use, which
 * takes more unfinished writes than the cell has participants; -ESTALE this handle was declared dead because its lock
 * was closed: open the cell anew; -EBADMSG the cell is damaged; -EFAULT. */
int ww_cell_write(const ww_cell *cell, const void *data, size_t size, uint64_t *sequence);

/* Copies the latest value out and returns its size. *sequence, which may be NULL, gets how many values there had been,
 * this one included; *true_size, which may be NULL, its size also where the buffer is too small. Never blocks, and is
 * over after a fixed number of steps.
 *
 * Errors: -ENODATA nothing has been written yet; -EMSGSIZE the buffer is too small; -ESTALE, -EBADMSG as
 * ww_cell_write(); -EFAULT. */
ssize_t ww_cell_read(const ww_cell *cell, void *buffer, size_t size, uint64_t *sequence, size_t *true_size);

/* Waits until there have been more values than after, and writes how many there have been then to *sequence, which may
 * be NULL. The sequence number of the last value that was read is what to give; 0 waits for the first.
 *
 * Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; -ESTALE, -EBADMSG as ww_cell_write(); -EFAULT. */
int ww_cell_wait(const ww_cell *cell, uint64_t after, int64_t timeout_ns, uint64_t *sequence);

/* Waits for a value newer than the one of this sequence number, and copies it out as ww_cell_read().
 *
 * Errors: as ww_cell_wait() and ww_cell_read(). */
ssize_t ww_cell_wait_read(const ww_cell *cell, uint64_t after, void *buffer, size_t size, int64_t timeout_ns,
                          uint64_t *sequence, size_t *true_size);

/* A descriptor that is readable while there is a value that this handle has not seen: for poll, a wait set, an event
 * loop. A read, or a wait with the latest sequence number, quiets it. It stays the handle's; a child made by fork asks for
 * its own. From the first call on it costs a helper thread that sleeps in the kernel. Never blocks.
 *
 * Errors: -EMFILE, -ENFILE no descriptor is left; -ENOMEM no thread can be had; -EFAULT. */
int ww_cell_fd(const ww_cell *cell);

/* Lends room for a value of this size, in *loan, to be written in place and then given to ww_cell_publish() or
 * ww_cell_abort(). Never blocks. Errors: as ww_cell_write(). */
int ww_cell_reserve(const ww_cell *cell, ww_loan *loan, size_t size);

/* Makes a value that was written in place the latest; *sequence, which may be NULL, as in ww_cell_write(). Never blocks.
 *
 * Errors: -EINVAL the token names no reservation of this handle; -ESTALE this handle was declared dead, and the room
 * taken back; -EPERM it was reserved by the process that this one was forked from; -EFAULT. */
int ww_cell_publish(const ww_cell *cell, uint64_t token, uint64_t *sequence);

/* Gives reserved room back; nothing has happened. Never blocks. Errors: as ww_cell_publish(). */
int ww_cell_abort(const ww_cell *cell, uint64_t token);

/* Tells what the cell has seen, and in participants, if it is not NULL, who takes part: at most so many as there is room
 * for; statistics->participants is how many there are. Never blocks. Errors: -EBADMSG the cell is damaged; -ESTALE;
 * -EFAULT. */
int ww_cell_get_statistics(const ww_cell *cell, ww_cell_statistics *statistics, ww_cell_participant *participants,
                           size_t room);


/* ---- Topic: each message to every subscriber, in shared memory ---- */

/* A subscription to a topic, which it keeps open. May be shared between threads; each message goes to one of them. It
 * belongs to the process that made it: a child made by fork gets -EPERM, and subscribes anew. */
typedef struct ww_subscription ww_subscription;

/* A topic (topic:name): each message to every subscriber, through shared memory, in which it lies once.
 *
 * Many may publish; all subscribers see all messages in one order. A publisher that dies or stops half-way holds up
 * nobody. May be shared between threads. A child made by fork joins as itself when it first uses the handle (-EUSERS,
 * -EMFILE, -ENFILE if it cannot); loans stay the parent's. */
typedef struct ww_topic ww_topic;

/* How a topic is opened or made; initialise with WW_TOPIC_OPTIONS_INIT. All but wait count when it is made and are the
 * topic's from then on. Zero means what the address says, or else the default. */
typedef struct ww_topic_options {
    size_t size;
    /* Memory for messages in bytes, reserved at once; 0 for 1 MiB. Each message uses what it needs of it, in blocks of a
     * sixteenth of the largest, at least 128 bytes. */
    uint64_t capacity;
    /* The largest message in bytes; 0 for 1024, or a quarter of the capacity if that is less. */
    uint64_t largest;
    /* How many messages are stored at most; 0 for as many as the capacity holds. */
    uint64_t depth;
    /* How many handles may be open at the same time, at most 256; 0 for 64. */
    uint32_t participants;
    /* How many subscriptions there may be at the same time, at most 1024; 0 for as many as participants. */
    uint32_t subscribers;
    /* Permissions of the file; 0 for 0600. */
    uint32_t mode;
    /* WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL. */
    uint32_t wait;
} ww_topic_options;
#define WW_TOPIC_OPTIONS_INIT WW_INIT(ww_topic_options)

/* How to subscribe; initialise with WW_SUBSCRIBE_OPTIONS_INIT. */
typedef struct ww_subscribe_options {
    size_t size;
    /* Of a lossless subscriber: for how many nanoseconds it may hold up a publisher without receiving anything before it is
     * cut off, to the millisecond; 0 for ever. */
    uint64_t stuck_ns;
    /* Begin with up to so many of the last messages, as far as they are still stored; 0 for none. A lossless
     * subscriber cannot have the oldest sixteenth of the depth. */
    uint64_t history;
    /* 1: never slow a publisher; messages that are not received in time are missed, and counted. 0: publishers wait. */
    uint32_t lossy;
    uint32_t reserved;
} ww_subscribe_options;
#define WW_SUBSCRIBE_OPTIONS_INIT WW_INIT(ww_subscribe_options)

/* Which message was received. */
typedef struct ww_topic_received {
    /* Its bytes; in a batch they follow those of the message before it. */
    size_t size;
    /* Which message of the topic it is; the first is 1. All subscribers see the same. */
    uint64_t sequence;
    /* How many messages this subscriber has missed since the one that it received before. */
    uint64_t missed;
} ww_topic_received;

/* What a topic has seen. */
typedef struct ww_topic_statistics {
    /* Messages published so far; that were being made by those who died; stored; being made. */
    uint64_t sent;
    uint64_t skipped;
    uint64_t stored;
    uint64_t reserved;
    /* Messages stored at most. */
    uint64_t depth;
    /* Memory for messages, the largest message, and all memory, in bytes. */
    size_t capacity;
    size_t largest;
    size_t bytes;
    /* How many handles take part, and how many have subscribed. */
    size_t participants;
    size_t subscribers;
    /* Room for what later versions tell; 0. */
    uint64_t more[4];
} ww_topic_statistics;

/* One subscription to a topic, of this or another process. */
typedef struct ww_topic_subscriber {
    /* Its process; 0 if it lives in a pid namespace that this one cannot see. */
    uint32_t pid;
    /* 1 or 0: made by the handle that was asked; publishers wait for it; it was stuck for too long. */
    uint32_t is_self;
    uint32_t lossless;
    uint32_t cut_off;
    /* When it subscribed, in seconds since 1970. */
    uint64_t since;
    /* How many messages it has before it, those that it has borrowed included, and how many it has missed. */
    uint64_t lag;
    uint64_t missed;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[2];
} ww_topic_subscriber;

/* Opens the topic of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one with a slash is
 * a path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_topic_close().
 *
 * Errors: -EINVAL the address, or options that do not fit together; -ENOSPC the memory is not free; -EACCES the
 * directory is somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -EBUSY others make
 * and remove it all the time; -ELOOP a symbolic link; -ENOTSUP the file system cannot make files without a name (a
 * tmpfs can); -EBADMSG there is something else under that name, or it is damaged; -EPROTO it was made by an
 * incompatible version; -EUSERS it has no room for another participant; -EMFILE, -ENFILE; -EFAULT. */
int ww_topic_open(ww_topic **out, const char *address, const ww_topic_options *options);

/* Makes a topic without a name, for children made by fork, and for others by its descriptor. Never blocks.
 *
 * Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT. */
int ww_topic_anonymous(ww_topic **out, const ww_topic_options *options);

/* Joins the topic whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor and closes fd;
 * after an error fd stays the caller's. Never blocks.
 *
 * Errors: -EBADMSG it is no topic, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT. */
int ww_topic_from_fd(ww_topic **out, int fd, const ww_topic_options *options);

/* Closes the handle; threads that wait in its calls return -ECANCELED first. What it had reserved is not published. Its
 * subscriptions go on. NULL is allowed. */
void ww_topic_close(ww_topic *topic);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_topic_end_waits(const ww_topic *topic);

/* Removes a topic's name; those who have it open keep it. Never blocks.
 *
 * Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT. */
int ww_topic_remove(const char *address);

/* How many bytes of memory a topic with these options takes, all in all. Never blocks. Errors: -EINVAL, -EFAULT. */
ssize_t ww_topic_size_for(const ww_topic_options *options);

/* Whether the name still stands for this topic. Never blocks. Errors: -ESTALE the name was removed; -EFAULT. */
int ww_topic_check(const ww_topic *topic);

/* The segment's descriptor, to pass on for ww_topic_from_fd(); not for polling. It stays the handle's. Never blocks.
 * Errors: -EFAULT. */
int ww_topic_segment_fd(const ww_topic *topic);

/* Publishes a copy of these bytes; *sequence, which may be NULL, gets which message of the topic it is, from 1. Waits
 * while there is no room because a lossless subscriber has not come so far.
 *
 * Errors, with nothing published: -EMSGSIZE it is larger than the topic's largest; -EAGAIN, -ETIMEDOUT, -ECANCELED;
 * -ESTALE this handle was declared dead because its lock was closed: open the topic anew; -EUSERS this is a child made by fork,
 * and the topic has no room for another participant; -EBADMSG the topic is damaged; -EINVAL the timeout; -EFAULT. */
int ww_topic_publish(const ww_topic *topic, const void *data, size_t size, int64_t timeout_ns, uint64_t *sequence);

/* Lends room for a message of this size, in *loan, to be written in place and then given to ww_topic_commit() or
 * ww_topic_abort(). Waits as ww_topic_publish(). Errors: as ww_topic_publish(). */
int ww_topic_reserve(const ww_topic *topic, ww_loan *loan, size_t size, int64_t timeout_ns);

/* Publishes a message that was written in place; *sequence, which may be NULL, as in ww_topic_publish(). Never blocks.
 *
 * Errors: -EINVAL the token names no reservation of this handle; -ESTALE this handle was declared dead, and the room
 * taken back; -EPERM it was reserved by the process that this one was forked from; -EBADMSG, -EFAULT. */
int ww_topic_commit(const ww_topic *topic, uint64_t token, uint64_t *sequence);

/* Gives reserved room back; nothing has happened. Never blocks. Errors: as ww_topic_commit(). */
int ww_topic_abort(const ww_topic *topic, uint64_t token);

/* Subscribes: gets all that is published from now on, and as much of the history as asked for. NULL options mean
 * lossless, without history. Never blocks. Close it with ww_subscription_close().
 *
 * Errors: -EUSERS the topic has no room for another subscriber; -EINVAL the options; -ESTALE, -EBADMSG as
 * ww_topic_publish(); -EFAULT. */
int ww_topic_subscribe(const ww_topic *topic, ww_subscription **out, const ww_subscribe_options *options);

/* Ends a subscription; threads that wait on it return -ECANCELED first, and what it had borrowed is released. NULL is
 * allowed. */
void ww_subscription_close(ww_subscription *subscription);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_subscription_end_waits(const ww_subscription *subscription);

/* Copies the next message out and returns its size; waits for it if there is none. *received, which may be NULL, gets
 * which it is; *true_size, which may be NULL, its size also where the buffer is too small, and it is left.
 *
 * Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; -EMSGSIZE the buffer is too small; -ECONNABORTED the subscriber was stuck for
 * longer than its limit and was cut off, now and later: subscribe anew; -ESTALE its handle was declared dead because its
 * lock was closed; -EPERM it belongs to the process that this one was forked from; -EBADMSG the topic is damaged; -EINVAL
 * the timeout; -EFAULT. */
ssize_t ww_subscription_recv(const ww_subscription *subscription, void *buffer, size_t size, int64_t timeout_ns,
                             ww_topic_received *received, size_t *true_size);

/* Lends the next message in *loan, to be read in place and then given to ww_subscription_release(); waits while there is
 * none. *sequence, which may be NULL, gets which it is. Several can be out, and come back in any order; publishers wait
 * until then for their room.
 *
 * Errors: as ww_subscription_recv(), without -EMSGSIZE; -ENOTSUP the subscriber is lossy. */
int ww_subscription_borrow(const ww_subscription *subscription, ww_loan *loan, int64_t timeout_ns, uint64_t *sequence);

/* Is done with a borrowed message. Never blocks.
 *
 * Errors: -EINVAL the token names no borrowed message of this subscription; -ECONNABORTED the subscriber was cut off,
 * -ESTALE its handle was declared dead: the message may have been overwritten while it was read; -EPERM it was borrowed
 * by the process that this one was forked from; -EFAULT. */
int ww_subscription_release(const ww_subscription *subscription, uint64_t token);

/* Writes how many messages this subscriber has missed, as far as it has found out by receiving. Never blocks. Errors:
 * -EFAULT. */
int ww_subscription_missed(const ww_subscription *subscription, uint64_t *missed);

/* A descriptor that is readable while there is a message, or the subscriber was cut off: for poll, a wait set, an event
 * loop. A call that finds nothing quiets it. It stays the subscription's. From the first call on it costs a helper thread
 * that sleeps in the kernel. Never blocks.
 *
 * Errors: -EMFILE, -ENFILE no descriptor is left; -ENOMEM no thread can be had; -EFAULT. */
int ww_subscription_fd(const ww_subscription *subscription);

/* Tells what the topic has seen, and in subscribers, if it is not NULL, who has subscribed: at most so many as there is
 * room for; statistics->subscribers is how many there are. Never blocks. Errors: -EBADMSG the topic is damaged; -ESTALE;
 * -EFAULT. */
int ww_topic_get_statistics(const ww_topic *topic, ww_topic_statistics *statistics, ww_topic_subscriber *subscribers,
                            size_t room);


/* ---- Topics: several messages in one call ---- */

/* Publishes these messages one after the other, waits as ww_topic_publish() for each within one timeout, and returns how
 * many there was room for, at least one unless count is 0. Others may publish in between.
 *
 * Errors, with nothing published: as ww_topic_publish(); what stops a batch after its first message is met by the next
 * call. */
ssize_t ww_topic_publish_batch(const ww_topic *topic, const ww_bytes *messages, size_t count, int64_t timeout_ns);

/* Copies as many messages out as there are, at most count and 64, and returns how many; waits while there is none. They
 * come one behind the other in buffer, which has size bytes, and which they are in received, which has room for count
 * entries. *true_size, which may be NULL, gets the size of the first where the buffer is too small for it.
 *
 * Errors, with nothing taken: as ww_subscription_recv(); -EINVAL count is 0; what stops a batch after its first message is
 * met by the next call. */
ssize_t ww_subscription_recv_batch(const ww_subscription *subscription, void *buffer, size_t size,
                                   ww_topic_received *received, size_t count, int64_t timeout_ns, size_t *true_size);


/* ---- What locks and the like have in common: who takes part, and what stands in a lock ---- */

/* What a lock returns instead of 0 when it was taken over from the dead. */
#define WW_INHERITED 1

/* What stands in a lock: nobody holds it. */
#define WW_LOCK_FREE 0

/* Somebody does. */
#define WW_LOCK_HELD 1

/* Somebody holds it who has taken it over from the dead. */
#define WW_LOCK_INHERITED 2

/* Its holder died. */
#define WW_LOCK_ABANDONED 3

/* It was given up for good. */
#define WW_LOCK_GIVEN_UP 4

/* One handle on a lock or the like, of this or another process. Times are in nanoseconds since 1970. */
typedef struct ww_sync_participant {
    /* Its process; 0 if it lives in a pid namespace that this one cannot see. */
    uint32_t pid;
    /* 1 or 0: the handle that was asked. */
    uint32_t is_self;
    /* When it was opened, to the second. */
    uint64_t since;
    /* What it holds: 1 for a lock, permits for permits, read locks. */
    uint64_t holding;
    /* Since when, at the latest: when somebody who had to wait first saw it. 0 while nobody had to. */
    uint64_t holding_since;
    /* Since when the first of its threads waits; 0: none does. */
    uint64_t waiting_since;
    /* How many of its threads wait. */
    uint32_t waiting;
    uint32_t unused;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[2];
} ww_sync_participant;


/* ---- Mutex: a lock that knows its holder, in shared memory ---- */

/* A mutex (mutex:name): a lock that knows who holds it, down to the thread, and passes on to the next when that one
 * dies, or its thread ends.
 *
 * May be shared between threads. A child made by fork joins as itself when it first uses the handle (-EUSERS, -EMFILE,
 * -ENFILE if it cannot), and holds nothing of its parent's. */
typedef struct ww_mutex ww_mutex;

/* How a mutex is opened or made; initialise with WW_MUTEX_OPTIONS_INIT. participants and mode count when it is made;
 * recursive and wait are the handle's own. Zero means what the address says, or else the default. */
typedef struct ww_mutex_options {
    size_t size;
    /* 1: the thread that holds it may take it again, and has to release it as often; 0: -EDEADLK. */
    uint32_t recursive;
    /* How many handles may be open at the same time, at most 256; 0 for 64. */
    uint32_t participants;
    /* Permissions of the file; 0 for 0600. */
    uint32_t mode;
    /* WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL. */
    uint32_t wait;
} ww_mutex_options;
#define WW_MUTEX_OPTIONS_INIT WW_INIT(ww_mutex_options)

/* Who uses a mutex. */
typedef struct ww_mutex_statistics {
    /* WW_LOCK_FREE and so on. */
    uint32_t state;
    /* The thread that holds it, by its number in the holder's pid namespace; 0: nobody does. */
    uint32_t thread;
    /* All memory, in bytes. */
    size_t bytes;
    /* How many handles take part. */
    size_t participants;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[4];
} ww_mutex_statistics;

/* Opens the mutex of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one with a
 * slash is a path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_mutex_close().
 *
 * Errors: -EINVAL the address, or options that do not fit together; -ENOSPC the memory is not free; -EACCES the
 * directory is somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -EBUSY others make
 * and remove it all the time; -ELOOP a symbolic link; -ENOTSUP the file system cannot make files without a name (a
 * tmpfs can); -EBADMSG there is something else under that name, or it is damaged; -EPROTO it was made by an
 * incompatible version; -EUSERS it has no room for another participant; -EMFILE, -ENFILE; -EFAULT. */
int ww_mutex_open(ww_mutex **out, const char *address, const ww_mutex_options *options);

/* Makes a mutex without a name, for children made by fork, and for others by its descriptor. Never blocks.
 *
 * Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT. */
int ww_mutex_anonymous(ww_mutex **out, const ww_mutex_options *options);

/* Joins the mutex whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor and closes
 * fd; after an error fd stays the caller's. Never blocks.
 *
 * Errors: -EBADMSG it is something else, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT. */
int ww_mutex_from_fd(ww_mutex **out, int fd, const ww_mutex_options *options);

/* Joins the mutex in a range of memory that the caller brought, or makes it there. fd is that of the memory: of a shm or
 * memfd object, or of a disk file, which may hold other things beside it, and further objects; it stays the caller's, and
 * may be closed, as the memory is mapped anew for the handle. The range begins at a multiple of 128. Where it is all
 * zeros, as fresh memory is, a mutex is made; what is there already is taken as it is, and of the options only the
 * handle's own count. Clearing the range to zeros removes the mutex. Does not block, but for about a quarter of a second
 * while another process that is making it does not get on.
 *
 * Errors: -EINVAL the range does not begin at a multiple of 128, ends behind the memory, or is smaller than
 * ww_mutex_placed_size_for() says, or the options; -EBADMSG something else lies there, or it is damaged; -EPROTO made by
 * an incompatible version; -EUSERS no room for another participant; -EBUSY another process is making it and does not get
 * on; -ENODEV fd is not that of memory; -EACCES it cannot be written; -ENOSPC its pages are not free; -ENOTSUP the file
 * system cannot reserve them; -EBADF, -EMFILE, -ENFILE, -EFAULT. */
int ww_mutex_place(ww_mutex **out, int fd, uint64_t offset, size_t size, const ww_mutex_options *options);

/* How many bytes a mutex with these options takes in memory that the caller brings. Never blocks.
 *
 * Errors: -EINVAL, -EFAULT. */
ssize_t ww_mutex_placed_size_for(const ww_mutex_options *options);

/* Closes the handle; threads that wait on it return -ECANCELED first, and those that wait on a condition under it -ENOLCK.
 * If a thread holds the mutex by this handle, it passes on as from the dead. NULL is allowed. */
void ww_mutex_close(ww_mutex *mutex);

/* As ww_channel_end_waits(); those that wait on a condition under the mutex return -ENOLCK, and do not hold it.
 * Errors: -EFAULT. */
int ww_mutex_end_waits(const ww_mutex *mutex);

/* Removes the name of a mutex; those who have it open keep it. Never blocks.
 *
 * Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT. */
int ww_mutex_remove(const char *address);

/* How many bytes of memory a mutex with these options takes, all in all. Never blocks. Errors: -EINVAL, -EFAULT. */
ssize_t ww_mutex_size_for(const ww_mutex_options *options);

/* Whether the name or place still stands for this mutex. Never blocks. Errors: -ESTALE it was removed; -EFAULT. */
int ww_mutex_check(const ww_mutex *mutex);

/* The segment's descriptor, to pass on for ww_mutex_from_fd(); not for polling. It stays the handle's. Never blocks.
 * Errors: -EFAULT. */
int ww_mutex_segment_fd(const ww_mutex *mutex);

/* Takes the mutex; waits while somebody else has it. Returns 0, or WW_INHERITED if its last holder died, or one
 * before that and nobody has said since that all is well: what it guards may be half changed.
 *
 * Errors: -EDEADLK this thread has it, and the handle is not recursive; -ENOTRECOVERABLE it was given up for good;
 * -EAGAIN, -ETIMEDOUT, -ECANCELED; -ESTALE this handle was declared dead because its lock was closed: open the mutex
 * anew; -EBADMSG it is damaged; -EOVERFLOW taken 2^32 times; -EINVAL the timeout; -EFAULT. */
int ww_mutex_lock(const ww_mutex *mutex, int64_t timeout_ns);

/* Releases it, or undoes the last of several takings. Never blocks.
 *
 * Errors: -EPERM this thread does not hold it; -ESTALE this handle was declared dead, and the mutex passed on;
 * -EFAULT. */
int ww_mutex_unlock(const ww_mutex *mutex);

/* Says that what an inherited mutex guards is consistent again. Without, the next to take it is told as well. Never
 * blocks.
 *
 * Errors: -EINVAL it was not inherited; -EPERM, -ESTALE as ww_mutex_unlock(); -EFAULT. */
int ww_mutex_consistent(const ww_mutex *mutex);

/* Gives the held mutex up for good: all who wait for it or come later get -ENOTRECOVERABLE. Never blocks.
 *
 * Errors: -EPERM, -ESTALE as ww_mutex_unlock(); -EFAULT. */
int ww_mutex_give_up(const ww_mutex *mutex);

/* A descriptor that is readable while the mutex could be taken; a ww_mutex_lock() without waiting that fails quiets
 * it: for poll, a wait set, an event loop. It stays the handle's; a child made by fork asks for its own. From the
 * first call on it costs a helper thread that sleeps in the kernel. Never blocks.
 *
 * Errors: -EMFILE, -ENFILE no descriptor is left; -ENOMEM no thread can be had; -EFAULT. */
int ww_mutex_fd(const ww_mutex *mutex);

/* Tells what is known of the mutex, and in participants, if it is not NULL, who takes part: at most so many as there
 * is room for; statistics->participants is how many there are. Never blocks.
 *
 * Errors: -EBADMSG the mutex is damaged; -EFAULT. */
int ww_mutex_get_statistics(const ww_mutex *mutex, ww_mutex_statistics *statistics, ww_sync_participant *participants,
                            size_t room);


/* ---- Permits: a counting semaphore whose permits have owners, in shared memory ---- */

/* Permits (permits:name): a counting semaphore whose permits come back when their holder dies or closes its handle.
 * They belong to the handle that has taken them, whichever of its threads did.
 *
 * May be shared between threads. A child made by fork joins as itself when it first uses the handle (-EUSERS, -EMFILE,
 * -ENFILE if it cannot), and holds nothing of its parent's. */
typedef struct ww_permits ww_permits;

/* How a set of permits is opened or made; initialise with WW_PERMITS_OPTIONS_INIT. All but wait count when they are
 * made. Zero means what the address says, or else the default. */
typedef struct ww_permits_options {
    size_t size;
    /* How many permits there are, at most 16383; 0 for 1. */
    uint32_t count;
    /* 1: first come, first served, whoever comes later waits for those who wait already; 0: not. */
    uint32_t fair;
    /* How many handles may be open at the same time, at most 256; 0 for 64. */
    uint32_t participants;
    /* Permissions of the file; 0 for 0600. */
    uint32_t mode;
    /* WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL. */
    uint32_t wait;
    uint32_t reserved;
} ww_permits_options;
#define WW_PERMITS_OPTIONS_INIT WW_INIT(ww_permits_options)

/* Where permits are. */
typedef struct ww_permits_statistics {
    /* How many there are, and how many can be had. */
    uint32_t total;
    uint32_t available;
    /* 1: first come, first served. */
    uint32_t fair;
    /* 0. */
    uint32_t unused;
    /* All memory, in bytes. */
    size_t bytes;
    /* How many handles take part. */
    size_t participants;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[4];
} ww_permits_statistics;

/* Opens the set of permits of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one
 * with a slash is a path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_permits_close().
 *
 * Errors: -EINVAL the address, or options that do not fit together; -ENOSPC the memory is not free; -EACCES the
 * directory is somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -EBUSY others make
 * and remove it all the time; -ELOOP a symbolic link; -ENOTSUP the file system cannot make files without a name (a
 * tmpfs can); -EBADMSG there is something else under that name, or it is damaged; -EPROTO it was made by an
 * incompatible version; -EUSERS it has no room for another participant; -EMFILE, -ENFILE; -EFAULT. */
int ww_permits_open(ww_permits **out, const char *address, const ww_permits_options *options);

/* Makes a set of permits without a name, for children made by fork, and for others by its descriptor. Never blocks.
 *
 * Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT. */
int ww_permits_anonymous(ww_permits **out, const ww_permits_options *options);

/* Joins the set of permits whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor
 * and closes fd; after an error fd stays the caller's. Never blocks.
 *
 * Errors: -EBADMSG it is something else, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT. */
int ww_permits_from_fd(ww_permits **out, int fd, const ww_permits_options *options);

/* Joins the set of permits in a range of memory that the caller brought, or makes it there: see ww_mutex_place().
 * Blocking and errors: as there. */
int ww_permits_place(ww_permits **out, int fd, uint64_t offset, size_t size, const ww_permits_options *options);

/* How many bytes a set of permits with these options takes in memory that the caller brings. Never blocks.
 *
 * Errors: -EINVAL, -EFAULT. */
ssize_t ww_permits_placed_size_for(const ww_permits_options *options);

/* Closes the handle; threads that wait on it return -ECANCELED first. What it holds comes back. NULL is allowed. */
void ww_permits_close(ww_permits *permits);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_permits_end_waits(const ww_permits *permits);

/* Removes the name of a set of permits; those who have it open keep it. Never blocks.
 *
 * Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT. */
int ww_permits_remove(const char *address);

/* How many bytes of memory a set of permits with these options takes, all in all. Never blocks. Errors: -EINVAL,
 * -EFAULT. */
ssize_t ww_permits_size_for(const ww_permits_options *options);

/* Whether the name or place still stands for this set of permits. Never blocks. Errors: -ESTALE it was removed; -EFAULT. */
int ww_permits_check(const ww_permits *permits);

/* The segment's descriptor, to pass on for ww_permits_from_fd(); not for polling. It stays the handle's. Never
 * blocks. Errors: -EFAULT. */
int ww_permits_segment_fd(const ww_permits *permits);

/* Takes so many permits, all at once; waits until they can be had.
 *
 * Errors: -EINVAL none, or more than there are, or the timeout; -EAGAIN, -ETIMEDOUT, -ECANCELED; -ENOSPC first come
 * is first served, and more threads wait than there is room for; -ESTALE this handle was declared dead because its
 * lock was closed: open the permits anew; -EBADMSG they are damaged; -EFAULT. */
int ww_permits_acquire(const ww_permits *permits, uint32_t count, int64_t timeout_ns);

/* Gives back so many of the permits that this handle holds. Never blocks.
 *
 * Errors: -EPERM it does not hold as many; -ESTALE it was declared dead, and they are back; -EBADMSG; -EFAULT. */
int ww_permits_release(const ww_permits *permits, uint32_t count);

/* How many can be had now. Never blocks. Errors: -EFAULT. */
int ww_permits_available(const ww_permits *permits);

/* A descriptor that is readable while a permit can be had; a ww_permits_acquire() without waiting that fails quiets
 * it: for poll, a wait set, an event loop. It stays the handle's; a child made by fork asks for its own. From the
 * first call on it costs a helper thread that sleeps in the kernel. Never blocks.
 *
 * Errors: -EMFILE, -ENFILE no descriptor is left; -ENOMEM no thread can be had; -EFAULT. */
int ww_permits_fd(const ww_permits *permits);

/* Tells what is known of the permits, and in participants, if it is not NULL, who takes part: at most so many as
 * there is room for; statistics->participants is how many there are. Never blocks.
 *
 * Errors: -EBADMSG the set of permits is damaged; -EFAULT. */
int ww_permits_get_statistics(const ww_permits *permits, ww_permits_statistics *statistics,
                              ww_sync_participant *participants, size_t room);


/* ---- Event: something that has happened, or not, in shared memory ---- */

/* An event (event:name): a flag that processes set, take back and wait for. It has no owner: a death changes nothing.
 *
 * May be shared between threads. A child made by fork joins as itself when it first uses the handle (-EUSERS, -EMFILE,
 * -ENFILE if it cannot). */
typedef struct ww_event ww_event;

/* How an event is opened or made; initialise with WW_EVENT_OPTIONS_INIT. All but wait count when it is made. Zero
 * means what the address says, or else the default. */
typedef struct ww_event_options {
    size_t size;
    /* 1: one wait that succeeds takes the event back, so that each time it is set lets one through; 0: it stays. */
    uint32_t auto_reset;
    /* How many handles may be open at the same time, at most 256; 0 for 64. */
    uint32_t participants;
    /* Permissions of the file; 0 for 0600. */
    uint32_t mode;
    /* WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL. */
    uint32_t wait;
} ww_event_options;
#define WW_EVENT_OPTIONS_INIT WW_INIT(ww_event_options)

/* What an event has seen. */
typedef struct ww_event_statistics {
    /* How often it was set while it was not. */
    uint64_t times;
    /* 1 or 0. */
    uint32_t is_set;
    uint32_t auto_reset;
    /* All memory, in bytes. */
    size_t bytes;
    /* How many handles take part. */
    size_t participants;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[4];
} ww_event_statistics;

/* Opens the event of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one with a
 * slash is a path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_event_close().
 *
 * Errors: -EINVAL the address, or options that do not fit together; -ENOSPC the memory is not free; -EACCES the
 * directory is somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -EBUSY others make
 * and remove it all the time; -ELOOP a symbolic link; -ENOTSUP the file system cannot make files without a name (a
 * tmpfs can); -EBADMSG there is something else under that name, or it is damaged; -EPROTO it was made by an
 * incompatible version; -EUSERS it has no room for another participant; -EMFILE, -ENFILE; -EFAULT. */
int ww_event_open(ww_event **out, const char *address, const ww_event_options *options);

/* Makes an event without a name, for children made by fork, and for others by its descriptor. Never blocks.
 *
 * Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT. */
int ww_event_anonymous(ww_event **out, const ww_event_options *options);

/* Joins the event whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor and closes
 * fd; after an error fd stays the caller's. Never blocks.
 *
 * Errors: -EBADMSG it is something else, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT. */
int ww_event_from_fd(ww_event **out, int fd, const ww_event_options *options);

/* Joins the event in a range of memory that the caller brought, or makes it there: see ww_mutex_place(). Blocking and
 * errors: as there. */
int ww_event_place(ww_event **out, int fd, uint64_t offset, size_t size, const ww_event_options *options);

/* How many bytes an event with these options takes in memory that the caller brings. Never blocks.
 *
 * Errors: -EINVAL, -EFAULT. */
ssize_t ww_event_placed_size_for(const ww_event_options *options);

/* Closes the handle; threads that wait on it return -ECANCELED first. NULL is allowed. */
void ww_event_close(ww_event *event);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_event_end_waits(const ww_event *event);

/* Removes the name of an event; those who have it open keep it. Never blocks.
 *
 * Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT. */
int ww_event_remove(const char *address);

/* How many bytes of memory an event with these options takes, all in all. Never blocks. Errors: -EINVAL, -EFAULT. */
ssize_t ww_event_size_for(const ww_event_options *options);

/* Whether the name or place still stands for this event. Never blocks. Errors: -ESTALE it was removed; -EFAULT. */
int ww_event_check(const ww_event *event);

/* The segment's descriptor, to pass on for ww_event_from_fd(); not for polling. It stays the handle's. Never blocks.
 * Errors: -EFAULT. */
int ww_event_segment_fd(const ww_event *event);

/* Sets it, and wakes those who wait; 1 if it was not set before, else 0. Never blocks.
 *
 * Errors: -ESTALE this handle was declared dead because its lock was closed: open the event anew; -EFAULT. */
int ww_event_set(const ww_event *event);

/* Takes it back; 1 if it was set, else 0. Never blocks. Errors: as ww_event_set(). */
int ww_event_clear(const ww_event *event);

/* Whether it is set, 1 or 0. Never blocks. Errors: -EFAULT. */
int ww_event_is_set(const ww_event *event);

/* Waits until it is set, or was set since the call began.
 *
 * Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; -ESTALE as ww_event_set(); -EINVAL the timeout; -EFAULT. */
int ww_event_wait(const ww_event *event, int64_t timeout_ns);

/* A descriptor that is readable while it is set; a ww_event_wait() that finds it not set quiets it: for poll, a wait
 * set, an event loop. It stays the handle's; a child made by fork asks for its own. From the first call on it costs a
 * helper thread that sleeps in the kernel. Never blocks.
 *
 * Errors: -EMFILE, -ENFILE no descriptor is left; -ENOMEM no thread can be had; -EFAULT. */
int ww_event_fd(const ww_event *event);

/* Tells what the event has seen, and in participants, if it is not NULL, who takes part: at most so many as there is
 * room for; statistics->participants is how many there are. Never blocks.
 *
 * Errors: -EBADMSG the event is damaged; -EFAULT. */
int ww_event_get_statistics(const ww_event *event, ww_event_statistics *statistics, ww_sync_participant *participants,
                            size_t room);


/* ---- Condition: waiting under a mutex until another changes something, in shared memory ---- */

/* A condition (condition:name): waiting under a ww_mutex until somebody else, of any process, has changed what it
 * guards and notifies.
 *
 * May be shared between threads. A child made by fork joins as itself when it first uses the handle (-EUSERS, -EMFILE,
 * -ENFILE if it cannot). */
typedef struct ww_condition ww_condition;

/* How a condition is opened or made; initialise with WW_CONDITION_OPTIONS_INIT. All but wait count when it is made.
 * Zero means what the address says, or else the default. */
typedef struct ww_condition_options {
    size_t size;
    /* How many handles may be open at the same time, at most 256; 0 for 64. */
    uint32_t participants;
    /* Permissions of the file; 0 for 0600. */
    uint32_t mode;
    /* WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL. */
    uint32_t wait;
    uint32_t reserved;
} ww_condition_options;
#define WW_CONDITION_OPTIONS_INIT WW_INIT(ww_condition_options)

/* What a condition has seen. */
typedef struct ww_condition_statistics {
    /* Notifications so far. */
    uint64_t notified;
    /* All memory, in bytes. */
    size_t bytes;
    /* How many handles take part. */
    size_t participants;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[4];
} ww_condition_statistics;

/* Opens the condition of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one with a
 * slash is a path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_condition_close().
 *
 * Errors: -EINVAL the address, or options that do not fit together; -ENOSPC the memory is not free; -EACCES the
 * directory is somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -EBUSY others make
 * and remove it all the time; -ELOOP a symbolic link; -ENOTSUP the file system cannot make files without a name (a
 * tmpfs can); -EBADMSG there is something else under that name, or it is damaged; -EPROTO it was made by an
 * incompatible version; -EUSERS it has no room for another participant; -EMFILE, -ENFILE; -EFAULT. */
int ww_condition_open(ww_condition **out, const char *address, const ww_condition_options *options);

/* Makes a condition without a name, for children made by fork, and for others by its descriptor. Never blocks.
 *
 * Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT. */
int ww_condition_anonymous(ww_condition **out, const ww_condition_options *options);

/* Joins the condition whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor and
 * closes fd; after an error fd stays the caller's. Never blocks.
 *
 * Errors: -EBADMSG it is something else, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT. */
int ww_condition_from_fd(ww_condition **out, int fd, const ww_condition_options *options);

/* Joins the condition in a range of memory that the caller brought, or makes it there: see ww_mutex_place(). Blocking
 * and errors: as there. */
int ww_condition_place(ww_condition **out, int fd, uint64_t offset, size_t size, const ww_condition_options *options);

/* How many bytes a condition with these options takes in memory that the caller brings. Never blocks.
 *
 * Errors: -EINVAL, -EFAULT. */
ssize_t ww_condition_placed_size_for(const ww_condition_options *options);

/* Closes the handle; threads that wait on it return -ECANCELED first. NULL is allowed. */
void ww_condition_close(ww_condition *condition);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_condition_end_waits(const ww_condition *condition);

/* Removes the name of a condition; those who have it open keep it. Never blocks.
 *
 * Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT. */
int ww_condition_remove(const char *address);

/* How many bytes of memory a condition with these options takes, all in all. Never blocks. Errors: -EINVAL, -EFAULT. */
ssize_t ww_condition_size_for(const ww_condition_options *options);

/* Whether the name or place still stands for this condition. Never blocks. Errors: -ESTALE it was removed; -EFAULT. */
int ww_condition_check(const ww_condition *condition);

/* The segment's descriptor, to pass on for ww_condition_from_fd(); not for polling. It stays the handle's. Never
 * blocks. Errors: -EFAULT. */
int ww_condition_segment_fd(const ww_condition *condition);

/* Releases the mutex, which this thread holds, waits to be notified, and takes it again, which may take as long as
 * the timeout, and at least a second, once more. Returns 0, or WW_INHERITED if the mutex was taken over from the dead
 * meanwhile, as ww_mutex_lock(), however the wait has ended. A wait can end without a notification, after somebody died at
 * the latest: look whether what was waited for is so, and else wait again.
 *
 * The mutex is held again after 0 and WW_INHERITED, after -ETIMEDOUT and -EAGAIN, by which the time has passed, and after
 * -ECANCELED. It is not held after the other errors: -ENOLCK it could not be had again in time, or, once a ww_cancel in whose
 * scope this is has fired, without waiting, or the mutex was closed, which ends the wait; -ENOTRECOVERABLE it was given
 * up for good; -ESTALE, -EBADMSG as ww_mutex_lock(), about the mutex. It is held still if these are about the condition:
 * ww_mutex_unlock() does right after both. With nothing done: -EPERM this thread does not hold it; -EINVAL the
 * timeout; -EFAULT. */
int ww_condition_wait(const ww_condition *condition, const ww_mutex *mutex, int64_t timeout_ns);

/* Wakes one of those who wait. Never blocks. With or without the mutex held. After waits that have run out while others went
 * on, it may wake more than one.
 *
 * Errors: -ESTALE this handle was declared dead because its lock was closed: open the condition anew; -EFAULT. */
int ww_condition_notify_one(const ww_condition *condition);

/* Wakes all who wait. Never blocks. With or without the mutex held. Errors: as ww_condition_notify_one(). */
int ww_condition_notify_all(const ww_condition *condition);

/* Tells what the condition has seen, and in participants, if it is not NULL, who takes part: at most so many as there
 * is room for; statistics->participants is how many there are. Never blocks.
 *
 * Errors: -EBADMSG the condition is damaged; -EFAULT. */
int ww_condition_get_statistics(const ww_condition *condition, ww_condition_statistics *statistics,
                                ww_sync_participant *participants, size_t room);


/* ---- Read-write lock: for many readers or one writer, in shared memory ---- */

/* A lock (rwlock:name) that many may hold for reading, or one for writing. A reader's death leaves nothing behind;
 * whoever comes after a writer that died is told. A writer that waits keeps new readers out, and waits for all
 * readers, those of its own handle too: a thread that reads must neither read again nor write, or it waits for itself; no
 * -EDEADLK tells of that. Read locks belong to the handle, the lock for writing to the thread.
 *
 * May be shared between threads. A child made by fork joins as itself when it first uses the handle (-EUSERS, -EMFILE,
 * -ENFILE if it cannot), and holds nothing of its parent's. */
typedef struct ww_rwlock ww_rwlock;

/* How a read-write lock is opened or made; initialise with WW_RWLOCK_OPTIONS_INIT. All but wait count when it is
 * made. Zero means what the address says, or else the default. */
typedef struct ww_rwlock_options {
    size_t size;
    /* How many handles may be open at the same time, at most 256; 0 for 64. */
    uint32_t participants;
    /* Permissions of the file; 0 for 0600. */
    uint32_t mode;
    /* WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL. */
    uint32_t wait;
    uint32_t reserved;
} ww_rwlock_options;
#define WW_RWLOCK_OPTIONS_INIT WW_INIT(ww_rwlock_options)

/* Who uses a read-write lock. */
typedef struct ww_rwlock_statistics {
    /* Read locks. */
    uint64_t readers;
    /* WW_LOCK_FREE and so on: whether somebody writes, or is about to. */
    uint32_t writer;
    /* The thread that writes, by its number in its pid namespace; 0: none does. */
    uint32_t thread;
    /* All memory, in bytes. */
    size_t bytes;
    /* How many handles take part. */
    size_t participants;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[4];
} ww_rwlock_statistics;

/* Opens the read-write lock of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one
 * with a slash is a path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_rwlock_close().
 *
 * Errors: -EINVAL the address, or options that do not fit together; -ENOSPC the memory is not free; -EACCES the
 * directory is somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -EBUSY others make
 * and remove it all the time; -ELOOP a symbolic link; -ENOTSUP the file system cannot make files without a name (a
 * tmpfs can); -EBADMSG there is something else under that name, or it is damaged; -EPROTO it was made by an
 * incompatible version; -EUSERS it has no room for another participant; -EMFILE, -ENFILE; -EFAULT. */
int ww_rwlock_open(ww_rwlock **out, const char *address, const ww_rwlock_options *options);

/* Makes a read-write lock without a name, for children made by fork, and for others by its descriptor. Never blocks.
 *
 * Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT. */
int ww_rwlock_anonymous(ww_rwlock **out, const ww_rwlock_options *options);

/* Joins the read-write lock whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor
 * and closes fd; after an error fd stays the caller's. Never blocks.
 *
 * Errors: -EBADMSG it is something else, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT. */
int ww_rwlock_from_fd(ww_rwlock **out, int fd, const ww_rwlock_options *options);

/* Joins the read-write lock in a range of memory that the caller brought, or makes it there: see ww_mutex_place().
 * Blocking and errors: as there. */
int ww_rwlock_place(ww_rwlock **out, int fd, uint64_t offset, size_t size, const ww_rwlock_options *options);

/* How many bytes a read-write lock with these options takes in memory that the caller brings. Never blocks.
 *
 * Errors: -EINVAL, -EFAULT. */
ssize_t ww_rwlock_placed_size_for(const ww_rwlock_options *options);

/* Closes the handle; threads that wait on it return -ECANCELED first. Read locks end; if a thread writes by this
 * handle, the lock passes on as from the dead. NULL is allowed. */
void ww_rwlock_close(ww_rwlock *rwlock);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_rwlock_end_waits(const ww_rwlock *rwlock);

/* Removes the name of a read-write lock; those who have it open keep it. Never blocks.
 *
 * Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT. */
int ww_rwlock_remove(const char *address);

/* How many bytes of memory a read-write lock with these options takes, all in all. Never blocks. Errors: -EINVAL,
 * -EFAULT. */
ssize_t ww_rwlock_size_for(const ww_rwlock_options *options);

/* Whether the name or place still stands for this read-write lock. Never blocks. Errors: -ESTALE it was removed;
 * -EFAULT. */
int ww_rwlock_check(const ww_rwlock *rwlock);

/* The segment's descriptor, to pass on for ww_rwlock_from_fd(); not for polling. It stays the handle's. Never blocks.
 * Errors: -EFAULT. */
int ww_rwlock_segment_fd(const ww_rwlock *rwlock);

/* Takes the lock for reading; waits while somebody writes or waits to write. Returns 0, or WW_INHERITED if a writer
 * died and no other has said since that all is well.
 *
 * Errors: -EDEADLK this thread writes; -ENOTRECOVERABLE it was given up for good; -EAGAIN, -ETIMEDOUT, -ECANCELED;
 * -ESTALE this handle was declared dead because its lock was closed: open the lock anew; -EBADMSG it is damaged;
 * -EINVAL the timeout; -EFAULT. */
int ww_rwlock_lock_read(const ww_rwlock *rwlock, int64_t timeout_ns);

/* Releases one read lock of this handle. Never blocks.
 *
 * Errors: -EPERM it has none; -ESTALE it was declared dead; -EFAULT. */
int ww_rwlock_unlock_read(const ww_rwlock *rwlock);

/* Takes the lock for writing; waits while others read or write. Returns 0, or WW_INHERITED as ww_rwlock_lock_read().
 *
 * Errors: as ww_rwlock_lock_read(); -EDEADLK this thread writes already. */
int ww_rwlock_lock_write(const ww_rwlock *rwlock, int64_t timeout_ns);

/* Ends writing. Never blocks.
 *
 * Errors: -EPERM this thread does not write; -ESTALE this handle was declared dead, and the lock passed on; -EFAULT. */
int ww_rwlock_unlock_write(const ww_rwlock *rwlock);

/* Has the writer say that what an inherited lock guards is consistent again. Never blocks.
 *
 * Errors: -EINVAL it was not inherited; -EPERM, -ESTALE as ww_rwlock_unlock_write(); -EFAULT. */
int ww_rwlock_consistent(const ww_rwlock *rwlock);

/* Has the writer give the lock up for good: all who wait for it or come later get -ENOTRECOVERABLE. Never blocks.
 *
 * Errors: -EPERM, -ESTALE as ww_rwlock_unlock_write(); -EFAULT. */
int ww_rwlock_give_up(const ww_rwlock *rwlock);

/* A descriptor that is readable while it could be taken for reading; a ww_rwlock_lock_read() without waiting that fails
 * quiets it: for poll, a wait set, an event loop. It stays the handle's; a child made by fork asks for its own. From
 * the first call on it costs a helper thread that sleeps in the kernel. Never blocks.
 *
 * Errors: -EMFILE, -ENFILE no descriptor is left; -ENOMEM no thread can be had; -EFAULT. */
int ww_rwlock_fd(const ww_rwlock *rwlock);

/* Tells what is known of the lock, and in participants, if it is not NULL, who takes part: at most so many as there
 * is room for; statistics->participants is how many there are. Never blocks.
 *
 * Errors: -EBADMSG the read-write lock is damaged; -EFAULT. */
int ww_rwlock_get_statistics(const ww_rwlock *rwlock, ww_rwlock_statistics *statistics,
                             ww_sync_participant *participants, size_t room);


/* ---- Barrier: a meeting point, in shared memory ---- */

/* A point (barrier:name) where a number of threads, of any processes, wait for each other. It breaks when a process
 * dies that has it open, arrived or not: all who wait then and later get -EOWNERDEAD until somebody resets it.
 *
 * May be shared between threads. A child made by fork joins as itself when it first uses the handle (-EUSERS, -EMFILE,
 * -ENFILE if it cannot). */
typedef struct ww_barrier ww_barrier;

/* How a barrier is opened or made; initialise with WW_BARRIER_OPTIONS_INIT. All but wait count when it is made. Zero
 * means what the address says, or else the default. */
typedef struct ww_barrier_options {
    size_t size;
    /* How many have to arrive before all go on, at most 32767; 0 for 2. */
    uint32_t parties;
    /* How many handles may be open at the same time, at most 256; 0 for 64. */
    uint32_t participants;
    /* Permissions of the file; 0 for 0600. */
    uint32_t mode;
    /* WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL. */
    uint32_t wait;
} ww_barrier_options;
#define WW_BARRIER_OPTIONS_INIT WW_INIT(ww_barrier_options)

/* Who meets at a barrier. */
typedef struct ww_barrier_statistics {
    /* How many have to arrive, and how many have, in this round. */
    uint32_t parties;
    uint32_t arrived;
    /* Rounds so far, modulo 2^32. */
    uint32_t round;
    /* 1 or 0. */
    uint32_t is_broken;
    /* All memory, in bytes. */
    size_t bytes;
    /* How many handles take part. */
    size_t participants;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[4];
} ww_barrier_statistics;

/* Opens the barrier of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one with a
 * slash is a path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_barrier_close().
 *
 * Errors: -EINVAL the address, or options that do not fit together; -ENOSPC the memory is not free; -EACCES the
 * directory is somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -EBUSY others make
 * and remove it all the time; -ELOOP a symbolic link; -ENOTSUP the file system cannot make files without a name (a
 * tmpfs can); -EBADMSG there is something else under that name, or it is damaged; -EPROTO it was made by an
 * incompatible version; -EUSERS it has no room for another participant; -EMFILE, -ENFILE; -EFAULT. */
int ww_barrier_open(ww_barrier **out, const char *address, const ww_barrier_options *options);

/* Makes a barrier without a name, for children made by fork, and for others by its descriptor. Never blocks.
 *
 * Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT. */
int ww_barrier_anonymous(ww_barrier **out, const ww_barrier_options *options);

/* Joins the barrier whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor and
 * closes fd; after an error fd stays the caller's. Never blocks.
 *
 * Errors: -EBADMSG it is something else, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT. */
int ww_barrier_from_fd(ww_barrier **out, int fd, const ww_barrier_options *options);

/* Joins the barrier in a range of memory that the caller brought, or makes it there: see ww_mutex_place(). Blocking
 * and errors: as there. */
int ww_barrier_place(ww_barrier **out, int fd, uint64_t offset, size_t size, const ww_barrier_options *options);

/* How many bytes a barrier with these options takes in memory that the caller brings. Never blocks.
 *
 * Errors: -EINVAL, -EFAULT. */
ssize_t ww_barrier_placed_size_for(const ww_barrier_options *options);

/* Closes the handle; threads that wait on it return -ECANCELED first. NULL is allowed. */
void ww_barrier_close(ww_barrier *barrier);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_barrier_end_waits(const ww_barrier *barrier);

/* Removes the name of a barrier; those who have it open keep it. Never blocks.
 *
 * Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT. */
int ww_barrier_remove(const char *address);

/* How many bytes of memory a barrier with these options takes, all in all. Never blocks. Errors: -EINVAL, -EFAULT. */
ssize_t ww_barrier_size_for(const ww_barrier_options *options);

/* Whether the name or place still stands for this barrier. Never blocks. Errors: -ESTALE it was removed; -EFAULT. */
int ww_barrier_check(const ww_barrier *barrier);

/* The segment's descriptor, to pass on for ww_barrier_from_fd(); not for polling. It stays the handle's. Never
 * blocks. Errors: -EFAULT. */
int ww_barrier_segment_fd(const ww_barrier *barrier);

/* Arrives, and waits until all have. Returns 1 for the one that arrived last, else 0.
 *
 * Errors: -EOWNERDEAD it is broken: somebody who had it open died, or it was broken or reset on purpose; -EAGAIN (not
 * all others have arrived), -ETIMEDOUT, -ECANCELED: the arrival is taken back; -ESTALE this handle was declared dead
 * because its lock was closed: open the barrier anew; -EBADMSG it is damaged; -EINVAL the timeout; -EFAULT. */
int ww_barrier_wait(const ww_barrier *barrier, int64_t timeout_ns);

/* Breaks it on purpose: all who wait, and all who come until it is reset, get -EOWNERDEAD. Never blocks.
 *
 * Errors: -ESTALE, -EBADMSG as ww_barrier_wait(); -EFAULT. */
int ww_barrier_break(const ww_barrier *barrier);

/* Begins a new round, whether it was broken or not: who waits gets -EOWNERDEAD, who comes waits for all. Never
 * blocks.
 *
 * Errors: -ESTALE, -EBADMSG as ww_barrier_wait(); -EFAULT. */
int ww_barrier_reset(const ww_barrier *barrier);

/* Tells what is known of the barrier, and in participants, if it is not NULL, who takes part: at most so many as
 * there is room for; statistics->participants is how many there are. Never blocks.
 *
 * Errors: -EBADMSG the barrier is damaged; -EFAULT. */
int ww_barrier_get_statistics(const ww_barrier *barrier, ww_barrier_statistics *statistics,
                              ww_sync_participant *participants, size_t room);


/* ---- Leases: slots that all processes of a host share, for connections, licences and the like ---- */

/* Bytes of information that a slot keeps. */
#define WW_LEASE_INFORMATION_MAX 1024

/* Size of the members of ww_lease_holder that are text, the NUL at the end included. */
#define WW_LEASE_TEXT 72

/* Counters of waits in ww_lease_pool_statistics. */
#define WW_LEASE_WAITS 24

/* One slot, from ww_lease_pool_acquire() to ww_lease_release(), ww_lease_abandon() or ww_lease_close(). It keeps its pool
 * open. One thread at a time may use it. */
typedef struct ww_lease ww_lease;

/* A pool of leases (lease:name): slots that all processes of a host share, each with what its holders keep about it.
 * The slot of a holder that dies comes back marked dirty.
 *
 * May be shared between threads. A child made by fork joins as itself when it first uses the handle (-EUSERS, -EMFILE,
 * -ENFILE if it cannot), and holds nothing of its parent's. */
typedef struct ww_lease_pool ww_lease_pool;

/* How a pool is opened or made; initialise with WW_LEASE_POOL_OPTIONS_INIT. Zero means what the address says, or else
 * the default. participants and mode count when it is made, wait is each handle's own; what else differs from the pool
 * that there is already is refused. */
typedef struct ww_lease_pool_options {
    size_t size;
    /* How many slots there are, at most 4096; 0 for 8. */
    uint32_t slots;
    /* How many it can be resized to, at most 4096; 0 for twice as many, and 64 at least. Each takes 2176 bytes, of as
     * many as the next power of two. */
    uint32_t room;
    /* 1: first come, first served; 0: whoever comes may be faster than those who wait, until one has waited for 0.4 ms. */
    uint32_t fair;
    /* How many handles may be open at the same time, at most 256; 0 for 64. */
    uint32_t participants;
    /* Permissions of the file; 0 for 0600. */
    uint32_t mode;
    /* WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL. */
    uint32_t wait;
    /* How long a lease lasts unless it is renewed, in milliseconds; 0 for as long as its holder lives. */
    uint64_t expires_ms;
    /* Slots that are kept for groups, such as "web:6,cron:2", at most 8, with names of at most 32 bytes; NULL for what
     * the address says, or else none. */
    const char *groups;
} ww_lease_pool_options;
#define WW_LEASE_POOL_OPTIONS_INIT WW_INIT(ww_lease_pool_options)

/* What a pool tells about itself. */
typedef struct ww_lease_pool_statistics {
    /* How many slots can be had, and how many it can be resized to. */
    uint32_t slots;
    uint32_t room;
    /* How many slots are held, and how many of those that can be had are dirty, held or not. */
    uint32_t held;
    uint32_t dirty;
    /* How many threads wait in line. */
    uint32_t waiting;
    /* 1: first come, first served. */
    uint32_t fair;
    /* How long a lease lasts unless it is renewed, in milliseconds; 0 for as long as its holder lives. */
    uint64_t expires_ms;
    /* All memory, in bytes. */
    size_t bytes;
    /* Leases so far. */
    uint64_t leases;
    /* Calls that ended without one, as their time had passed. */
    uint64_t timeouts;
    /* Slots taken back from the dead. */
    uint64_t reclaims;
    /* Slots taken back from who did not renew in time. */
    uint64_t expiries;
    /* Calls under leases that were lost. */
    uint64_t refused;
    /* How many had to wait: entry n for less than 2^n microseconds and not for less than 2^(n-1), the last for longer. */
    uint64_t waits[WW_LEASE_WAITS];
    /* Room for what later versions tell; 0. */
    uint64_t reserved[4];
} ww_lease_pool_statistics;

/* Who holds a slot. Times are in nanoseconds since 1970. */
typedef struct ww_lease_holder {
    /* The slot's number, from 0. */
    uint32_t slot;
    /* The process; 0 if it lives in a pid namespace that this one cannot see, or is dead. */
    uint32_t pid;
    /* 1: it is the handle that was asked. */
    uint32_t is_self;
    /* 1: somebody died with the slot, or lost it, and it is not clean yet. */
    uint32_t dirty;
    /* The lease's fencing token. */
    uint64_t token;
    /* When it was taken, to some milliseconds; 0 in the instant before that is written. */
    uint64_t since;
    /* For which group it was taken; empty for none. */
    char group[WW_LEASE_TEXT];
    /* What its holder says it is for. */
    char note[WW_LEASE_TEXT];
    /* Room for what later versions tell; 0. */
    uint64_t reserved[2];
} ww_lease_holder;

/* Opens the pool of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one with a slash is a
 * path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_lease_pool_close().
 *
 * Errors: -EINVAL the address, or options that do not fit together, or that the pool that there is was not made with,
 * which are named; -ENOSPC the memory is not free; -EACCES the directory is somebody else's, or the mode does not
 * allow it; -ENOENT, -ENOTDIR no such directory; -EBUSY others make and remove it all the time; -ELOOP a symbolic
 * link; -ENOTSUP the file system cannot make files without a name (a tmpfs can); -EBADMSG there is something else
 * under that name, or it is damaged; -EPROTO it was made by an incompatible version; -EUSERS it has no room for
 * another participant; -EMFILE, -ENFILE; -EFAULT. */
int ww_lease_pool_open(ww_lease_pool **out, const char *address, const ww_lease_pool_options *options);

/* Makes a pool without a name, for children made by fork, and for others by its descriptor. Never blocks.
 *
 * Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT. */
int ww_lease_pool_anonymous(ww_lease_pool **out, const ww_lease_pool_options *options);

/* Joins the pool whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor and closes fd;
 * after an error fd stays the caller's. Never blocks.
 *
 * Errors: -EBADMSG it is something else, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT. */
int ww_lease_pool_from_fd(ww_lease_pool **out, int fd, const ww_lease_pool_options *options);

/* Closes the handle; threads that wait on it return -ECANCELED first. Leases that were taken from it stay good. NULL is
 * allowed. */
void ww_lease_pool_close(ww_lease_pool *pool);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_lease_pool_end_waits(const ww_lease_pool *pool);

/* Removes the name of a pool; those who have it open keep it. Never blocks.
 *
 * Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT. */
int ww_lease_pool_remove(const char *address);

/* How many bytes of memory a pool with these options takes, all in all. Never blocks. Errors: -EINVAL, -EFAULT. */
ssize_t ww_lease_pool_size_for(const ww_lease_pool_options *options);

/* Whether the name still stands for this pool. Never blocks. Errors: -ESTALE the name was removed; -EFAULT. */
int ww_lease_pool_check(const ww_lease_pool *pool);

/* The segment's descriptor, to pass on for ww_lease_pool_from_fd(); not for polling. It stays the handle's. Never blocks.
 * Errors: -EFAULT. */
int ww_lease_pool_segment_fd(const ww_lease_pool *pool);

/* Takes a slot; waits until one is free. WW_INHERITED (1): the slot is dirty, see ww_lease_is_dirty().
 *
 * group is that for which it is taken, one of those that the pool was made with, and note what it is used for, for
 * people who look at the statistics, of which 64 bytes are kept; both may be NULL.
 *
 * Errors: -EINVAL there is no such group, a text is not UTF-8, or the timeout; -EAGAIN, -ETIMEDOUT, -ECANCELED;
 * -ESTALE this handle was declared dead because its lock was closed: open the pool anew; -EFAULT. */
int ww_lease_pool_acquire(const ww_lease_pool *pool, ww_lease **out, const char *group, const char *note,
                          int64_t timeout_ns);

/* How many slots there are, held or not. Never blocks. Errors: -EFAULT. */
int ww_lease_pool_slots(const ww_lease_pool *pool);

/* How many of them are free, those that are kept for groups included. Never blocks. Errors: -EFAULT. */
int ww_lease_pool_available(const ww_lease_pool *pool);

/* How many threads wait in line for one, of all processes. Never blocks. Errors: -EFAULT. */
int ww_lease_pool_waiting(const ww_lease_pool *pool);

/* Waits until somebody waits in line for a slot: for those who keep one that they do not need just now.
 *
 * Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; -ESTALE as ww_lease_pool_acquire(); -EINVAL the timeout; -EFAULT. */
int ww_lease_pool_wait_wanted(const ww_lease_pool *pool, int64_t timeout_ns);

/* Makes the pool larger or smaller, for all who have it open. Slots beyond the new size stay with their holders until these
 * give them back. Never blocks.
 *
 * Errors: -EINVAL more than it has room for, or fewer than are kept for groups, or none; -EFAULT. */
int ww_lease_pool_resize(const ww_lease_pool *pool, uint32_t slots);

/* A descriptor that is readable while a slot can be had that is not kept for a group; a ww_lease_pool_acquire() without
 * waiting that fails quiets it: for poll, a wait set, an event loop. It stays the handle's; a child made by fork asks for
 * its own. From the first call on it costs a helper thread that sleeps in the kernel. Never blocks.
 *
 * Errors: -EMFILE, -ENFILE no descriptor is left; -ENOMEM no thread can be had; -EFAULT. */
int ww_lease_pool_fd(const ww_lease_pool *pool);

/* Tells what is known of a pool, and in holders, if it is not NULL, who holds its slots: at most so many as there is room
 * for; statistics->held is how many there are. Never blocks.
 *
 * Errors: -EBADMSG the pool is damaged; -EFAULT. */
int ww_lease_pool_get_statistics(const ww_lease_pool *pool, ww_lease_pool_statistics *statistics,
                                 ww_lease_holder *holders, size_t room);

/* The number of a lease's slot, from 0. Never blocks. Errors: -EFAULT. */
int ww_lease_slot(const ww_lease *lease);

/* A lease's fencing token: higher than that of every earlier lease of its slot. What the slot stands for can refuse whoever
 * comes with a lower one than it has seen. Never blocks. Errors: -EFAULT. */
int ww_lease_token(const ww_lease *lease, uint64_t *token);

/* 1 if somebody has died with the slot, or lost it, and nobody has made it clean since: what the information tells of may
 * still be alive somewhere. Make sure that it is not, then call ww_lease_make_clean(). Never blocks. Errors: -EFAULT. */
int ww_lease_is_dirty(const ww_lease *lease);

/* When the slot was last given back, or, if it was not, taken, in nanoseconds since 1970, to some milliseconds; 0 if nobody
 * ever had it. Never blocks. Errors: -EFAULT. */
int ww_lease_last_used(const ww_lease *lease, uint64_t *last_used_ns);

/* How long a lease still lasts, in nanoseconds; WW_FOREVER for as long as its holder lives. Never blocks. Errors: -EFAULT. */
int ww_lease_expires_in(const ww_lease *lease, int64_t *left_ns);

/* Whether it is still this lease's slot. Never blocks.
 *
 * Errors: -ESTALE it was lost, and ww_last_error() says who has it; -EPERM it is that of the process that this one was
 * forked from; -EFAULT. */
int ww_lease_check(const ww_lease *lease);

/* Copies what holders of the slot have last said about it; nothing at first. length, if not NULL, is how long it is, also
 * after -EMSGSIZE. Never blocks.
 *
 * Errors: -EMSGSIZE there is not enough room, WW_LEASE_INFORMATION_MAX always is; -EBADMSG it was spoilt by a holder that
 * had lost the slot in the middle of writing; -ESTALE, -EPERM as ww_lease_check(); -EFAULT. */
int ww_lease_information(const ww_lease *lease, void *buffer, size_t room, size_t *length);

/* Says what the slot stands for now, for those who come later. Who is killed in the middle of it leaves what was there
 * before. Never blocks.
 *
 * Errors: -EMSGSIZE more than WW_LEASE_INFORMATION_MAX bytes; -ESTALE, -EPERM as ww_lease_check(); -EFAULT. */
int ww_lease_set_information(ww_lease *lease, const void *information, size_t length);

/* Says what it is used for, for people who look at the statistics; 64 bytes of it are kept. Never blocks.
 *
 * Errors: -EINVAL it is not UTF-8; -ESTALE, -EPERM as ww_lease_check(); -EFAULT. */
int ww_lease_set_note(ww_lease *lease, const char *note);

/* Says that nothing is left of what the one who died with the slot, or lost it, had begun. Never blocks.
 *
 * Errors: -ESTALE, -EPERM as ww_lease_check(); -EFAULT. */
int ww_lease_make_clean(ww_lease *lease);

/* Has its time begin anew; does nothing where leases last as long as their holders. Never blocks.
 *
 * Errors: -ESTALE, -EPERM as ww_lease_check(); -EFAULT. */
int ww_lease_renew(const ww_lease *lease);

/* 1 if it would do good to give it back soon: somebody waits who could have this slot, or the pool was made smaller. Never
 * blocks. Errors: -EFAULT. */
int ww_lease_is_wanted(const ww_lease *lease);

/* Gives the slot back, and frees the handle, whatever is returned. NULL is allowed. Never blocks.
 *
 * Errors: -ESTALE, -EPERM as ww_lease_check(). */
int ww_lease_release(ww_lease *lease);

/* Gives the slot back as dirty, for who cannot tell what is left of what it stood for, and frees the handle, whatever is
 * returned. NULL is allowed. Never blocks.
 *
 * Errors: -ESTALE, -EPERM as ww_lease_check(). */
int ww_lease_abandon(ww_lease *lease);

/* As ww_lease_release() for those who do not want to know. NULL is allowed. Never blocks. */
void ww_lease_close(ww_lease *lease);


/* ---- Questions and answers over channels ---- */

/* The bytes of an answer: to be filled by a function that does tasks of a pool or answers questions, for the thread
 * that runs it and until it returns; or what ww_caller_call() has received. */
typedef struct ww_answer ww_answer;

/* The asking side: sends questions over a channel, and receives the answers to its own. May be shared between threads,
 * whose calls come one after the other. It belongs to the process that opened it. */
typedef struct ww_caller ww_caller;

/* The answering side: receives questions, and answers whoever asked. May be shared between threads. */
typedef struct ww_server ww_server;

/* What does a task or answers a question: puts the answer by ww_answer_put() and returns 0, or returns a negated
 * errno, which refuses, with what was put as the reason. */
typedef int (*ww_function)(const void *asked, size_t length, struct ww_answer *answer, void *user);

/* What a server has met. */
typedef struct ww_server_statistics {
    /* Answers that nobody was there to take, and messages that were no questions. */
    uint64_t dropped;
    uint64_t foreign;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[4];
} ww_server_statistics;

/* Adds bytes to an answer. Never blocks. Errors: -EFAULT. */
int ww_answer_put(ww_answer *answer, const void *data, size_t length);

/* The bytes of an answer, and how many they are; they are the answer's, until it is closed. Never blocks. Errors: -EFAULT. */
int ww_answer_data(const ww_answer *answer, const void **data, size_t *length);

/* Lets go of an answer that was received. NULL is allowed. */
void ww_answer_close(ww_answer *answer);

/* Opens a channel for questions, and one for answers if its mechanism needs that; waits as ww_channel_open_sender()
 * does. Close it with ww_caller_close().
 *
 * Errors: as ww_channel_open_sender(); -ENOTSUP there is no way back over this mechanism. */
int ww_caller_open(ww_caller **out, const char *address, int64_t timeout_ns);

/* Asks, and waits for the answer, which is the caller's: read it by ww_answer_data(), close it with ww_answer_close().
 *
 * Errors: -EREMOTEIO the server refused, ww_last_error() says why; -EPIPE, -ECONNRESET the server went in between: the
 * question may have been acted on; -EAGAIN, -ETIMEDOUT, -ECANCELED there is no answer yet, and if one comes it is
 * dropped and counted; -EMSGSIZE the question is too large; -ENOTSUP opened before a fork; -EINVAL the timeout;
 * -EFAULT. */
int ww_caller_call(const ww_caller *caller, ww_answer **out, const void *question, size_t length, int64_t timeout_ns);

/* How many answers came too late, and were dropped. Never blocks. Errors: -EFAULT. */
int ww_caller_late(const ww_caller *caller, uint64_t *late);

/* Closes the handle; threads that wait on it return -ECANCELED first. NULL is allowed. */
void ww_caller_close(ww_caller *caller);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_caller_end_waits(const ww_caller *caller);

/* Opens a channel for questions; waits as ww_channel_open_receiver() does. Close it with ww_server_close().
 *
 * Errors: as ww_channel_open_receiver(); -ENOTSUP there is no way back over this mechanism. */
int ww_server_open(ww_server **out, const char *address, int64_t timeout_ns);

/* Waits for one question, and answers it with what the function makes of it. 1: somebody was there to take the answer;
 * 0: nobody was, and the answer was dropped and counted. The answer waits for room for a second at most, whatever the
 * timeout.
 *
 * Errors: -EBADMSG a peer sent something else and was cut off; -EAGAIN, -ETIMEDOUT, -ECANCELED; what the channel
 * gives; -EINVAL the timeout; -EFAULT. */
int ww_server_serve_one(const ww_server *server, ww_function function, void *user, int64_t timeout_ns);

/* Answers questions with what the function makes of them until none has come for the timeout, or the handle is closed:
 * to be called by a thread, or several, that do nothing else.
 *
 * Errors: -ETIMEDOUT, -ECANCELED and the like, as ww_server_serve_one(); a peer that sends something else does not end it. */
int ww_server_serve(const ww_server *server, ww_function function, void *user, int64_t timeout_ns);

/* What the server has met. Never blocks. Errors: -EFAULT. */
int ww_server_get_statistics(const ww_server *server, ww_server_statistics *out);

/* Closes the handle; threads that serve return -ECANCELED first, after the question that they are at. Not to be called by
 * the function that answers. NULL is allowed. */
void ww_server_close(ww_server *server);

/* Writes where callers reach this server, with a terminating NUL: the port that the kernel chose, if the address left that
 * to it. Never blocks. Returns the length without the NUL.
 *
 * Errors: as ww_channel_local_address(). */
ssize_t ww_server_local_address(const ww_server *server, char *buffer, size_t size, size_t *true_size);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_server_end_waits(const ww_server *server);


/* ---- Tasks of a pool, and how they ended ---- */

/* How a task ended: its function gave a result; it refused; it was cancelled; its worker ended while it ran; its
 * workers ended each time that it was tried, and it was set aside. */
#define WW_TASK_DONE 1
#define WW_TASK_FAILED 2
#define WW_TASK_CANCELLED 3
#define WW_TASK_LOST 4
#define WW_TASK_POISON 5

/* Why a worker ended: by itself, or somebody's signal; as the task ran for too long; as it had too much memory; as the
 * task was cancelled; as it had not asked for its first task in time. */
#define WW_DEATH_OWN 0
#define WW_DEATH_TIMEOUT 1
#define WW_DEATH_MEMORY 2
#define WW_DEATH_CANCEL 3
#define WW_DEATH_START 4

/* A task of a pool, until ww_pool_task_close(). May be shared between threads. */
typedef struct ww_pool_task ww_pool_task;

/* How a task ended. What it points to is the task's, until that is closed. */
typedef struct ww_verdict {
    /* WW_TASK_DONE and the like. */
    uint32_t state;
    /* WW_TASK_LOST and WW_TASK_POISON, here and below: WW_DEATH_OWN and the like, of the last worker. */
    uint32_t reason;
    /* Its process. */
    int32_t pid;
    /* The signal that ended it; 0 for none. */
    int32_t signal;
    /* What it exited with; -1 if a signal ended it, or, with signal 0, if that is not known. */
    int32_t exit_code;
    /* How many workers the task has ended. */
    uint32_t deaths;
    /* The task's number in the pool. */
    uint64_t task;
    /* The most bytes that the worker had resident. */
    uint64_t peak_memory;
    /* WW_TASK_DONE: the result; WW_TASK_FAILED: the reason, as the function put it, if it put text. */
    const void *data;
    size_t length;
    /* What happened, in words, with what a worker that ended had last written to its standard error. */
    const char *text;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[4];
} ww_verdict;

/* The end of one worker in the middle of a task. What it points to is the task's, until that is closed. */
typedef struct ww_death {
    /* WW_DEATH_OWN and the like. */
    uint32_t reason;
    /* Its process. */
    int32_t pid;
    /* The signal that ended it; 0 for none. */
    int32_t signal;
    /* What it exited with; -1 if a signal ended it, or, with signal 0, if that is not known. */
    int32_t exit_code;
    /* The most bytes that it had resident. */
    uint64_t peak_memory;
    /* The last that it wrote to its standard error. */
    const char *last_words;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[2];
} ww_death;

/* Waits for a task's verdict. May be called again, also by several threads.
 *
 * Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED it has none yet; -ENOTSUP in a child of the pool's process; -EINVAL the
 * timeout; -EFAULT. */
int ww_pool_task_wait(const ww_pool_task *task, ww_verdict *out, int64_t timeout_ns);

/* One of the workers that a task has ended, of which verdict.deaths tells how many, from 0, in *out: what the verdict tells
 * of the last one. Never blocks.
 *
 * Errors: -EAGAIN the task has no verdict yet, or nobody has waited for it; -ENOENT no worker ended so often; -EFAULT. */
int ww_pool_task_death(const ww_pool_task *task, size_t index, ww_death *out);

/* Cancels a task, with running 1 also if it runs: its worker is killed for it. 1: it is cancelled; 0: it has its
 * verdict already, or runs on. Never blocks. Errors: -EINVAL, -EFAULT. */
int ww_pool_task_cancel(const ww_pool_task *task, int running);

/* Lets go of a task, which goes on; its verdict is lost, and threads that wait for it return -ECANCELED first. NULL is
 * allowed. */
void ww_pool_task_close(ww_pool_task *task);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_pool_task_end_waits(const ww_pool_task *task);


/* ---- Pools of worker processes: bytes in, bytes out, and a verdict for every task ---- */

/* For least_workers: none has to be kept. */
#define WW_POOL_NO_WORKERS UINT32_MAX

/* A pool of worker processes. May be shared between threads. It belongs to the process that made it, and its workers
 * end with that process, also if it is killed. */
typedef struct ww_pool ww_pool;

/* How a pool works; initialise with WW_POOL_OPTIONS_INIT. Zero means the default. */
typedef struct ww_pool_options {
    size_t size;
    /* What tasks travel over: "pipe:" (the default), "ring:name", "mq:/name", "sysv-mq:/path#1". */
    const char *address;
    /* How many tasks may wait for a worker, after which submitting waits; 0 for 65536. */
    uint64_t queue;
    /* The most bytes that a worker may have resident for itself, without pages of files and shared memory; it is killed
     * above that. Looked at 20 times a second, and where this process may make control groups, the kernel holds it to the
     * limit at every page, those of shared memory included that it is first to touch. 0 for no limit. */
    uint64_t memory_limit;
    /* Tasks after which a worker is replaced by a fresh one; 0 for never. */
    uint64_t tasks_per_worker;
    /* How long a task may run, in nanoseconds, until its worker is killed; 0 for ever. */
    int64_t task_timeout_ns;
    /* How long a worker beyond the least has nothing to do before it ends, in nanoseconds; 0 for 10 s. */
    int64_t shrink_after_ns;
    /* The most workers at a time, at most 4096; 0 for one per processor. */
    uint32_t workers;
    /* Workers that are kept while there is nothing to do; 0 for all, or WW_POOL_NO_WORKERS. */
    uint32_t least_workers;
    /* How often a task whose worker died is tried again; 0 for never, as it may have done its work. */
    uint32_t retries;
    uint32_t reserved;
    /* How long a worker may take until it asks for its first task, in nanoseconds; then it is killed, as one that ends
     * before it has done anything, and the next has twice as long, up to 16 times. Time in which this process does not run
     * does not count. 0 for 60 s, WW_FOREVER for ever. */
    int64_t start_timeout_ns;
} ww_pool_options;
#define WW_POOL_OPTIONS_INIT WW_INIT(ww_pool_options)

/* Something that workers can do, by its name. */
typedef struct ww_pool_function {
    const char *name;
    ww_function run;
    /* Handed to run as it is. */
    void *user;
} ww_pool_function;

/* What one task asks for; initialise with WW_TASK_OPTIONS_INIT. */
typedef struct ww_task_options {
    size_t size;
    /* How long it may run, in nanoseconds; 0 for what the pool says, WW_FOREVER for as long as it likes. */
    int64_t timeout_ns;
    /* Tasks of a higher one run first. */
    uint32_t priority;
    uint32_t reserved;
} ww_task_options;
#define WW_TASK_OPTIONS_INIT WW_INIT(ww_task_options)

/* What a pool has seen, and what it does now: submitted = done + failed + lost + cancelled + poisoned + queued + running. */
typedef struct ww_pool_statistics {
    uint64_t submitted;
    uint64_t done;
    uint64_t failed;
    uint64_t lost;
    uint64_t cancelled;
    uint64_t poisoned;
    /* Tasks that no worker has been given, and that a worker has, begun or not. */
    uint64_t queued;
    uint64_t running;
    /* Times that a task was tried again. */
    uint64_t retried;
    /* Workers started, those that ended in the middle of a task or before they had done any, and those that there are. */
    uint64_t started;
    uint64_t deaths;
    uint64_t workers;
    /* Bytes of the workers' standard error, and of what the pool had to say there, that were not passed on, as this process's had
     * no room. */
    uint64_t unsaid;
    /* Reports that were no worker's of this pool, or none at all, and dropped: somebody else sends to its address. */
    uint64_t foreign;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[2];
} ww_pool_statistics;

/* A worker of a pool. */
typedef struct ww_pool_worker {
    /* Tasks it has done. */
    uint64_t tasks;
    /* Bytes it has resident for itself, without pages of files and shared memory; 0 if the system does not tell. */
    uint64_t memory;
    /* Its process. */
    int32_t pid;
    /* The share of its life that it had something to do, in thousandths. */
    uint32_t busy;
    /* 1 if the kernel holds it to the memory limit, by a control group; else 0. */
    uint64_t in_group;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[3];
} ww_pool_worker;

/* Starts a pool whose workers are copies of this process, made by fork, that run the functions, with the user pointers as
 * they are then: what these point to must stay until the pool is closed. Workers are forked as long as the pool lives, also
 * when one has died or done its tasks: what other threads of this process have locked at that moment (stdio, a mutex of
 * yours), in the copy nobody gives back, and a function that needs it hangs until its task's time limit. If that cannot be
 * excluded, use ww_pool_start_program(). Workers end by _exit(): what a function has buffered by stdio it flushes
 * itself. The pool reaps its workers; who reaps all children of the process takes their ends away from it. Does not wait
 * for them. NULL options mean defaults. Close it
 * with ww_pool_close().
 *
 * Errors: -EINVAL options that do not go together; -ENOTSUP an address that cannot carry tasks; -EBUSY another pool is
 * at work at this address; -EMFILE, -ENFILE; -ENOMEM also if no thread can be had; -EFAULT. */
int ww_pool_start(ww_pool **out, const ww_pool_options *options, const ww_pool_function *functions, size_t count);

/* Starts a pool whose workers are a program with its arguments, found on PATH, ended by NULL, that calls
 * ww_worker_serve(). Over "pipe:" only. Its functions are known by their numbers: see ww_pool_submit_to().
 *
 * Errors: as ww_pool_start(); -EINVAL no program is named. A program that cannot be run is tried again, less and less
 * often. */
int ww_pool_start_program(ww_pool **out, const ww_pool_options *options, const char *const *program);

/* In a program that ww_pool_start_program() started: works, and waits for tasks, until the pool says stop or is gone.
 * Functions are called by their numbers, from 0. Unless the program has a handler for SIGINT, it gets one that does
 * nothing: Ctrl-C is for the pool's process.
 *
 * Errors: -ENOENT no pool started this program; -EBUSY it was called before; -EINVAL, -EBADF the environment was
 * changed on the way; -EBADMSG somebody else writes to the pool's channel; -EFAULT. */
int ww_worker_serve(const ww_pool_function *functions, size_t count);

/* Ends the pool: tasks that it has are cancelled, their workers killed, whose end it waits for, 5 s at most; threads
 * that wait in it return -ECANCELED first. Tasks stay good until they are closed. See ww_pool_shutdown() for a gentler
 * end. NULL is allowed. */
void ww_pool_close(ww_pool *pool);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_pool_end_waits(const ww_pool *pool);

/* Hands a task to a function by its name; waits while too many wait already. NULL options mean defaults.
 *
 * Errors: -EINVAL no function has this name, or the timeout; -EPIPE the pool was shut down; -EMSGSIZE more bytes than
 * its address carries; -EAGAIN, -ETIMEDOUT, -ECANCELED with no task submitted; -ENOTSUP in a child of the pool's
 * process; -EFAULT. */
int ww_pool_submit(const ww_pool *pool, ww_pool_task **out, const char *function, const void *data, size_t length,
                   const ww_task_options *options, int64_t timeout_ns);

/* As ww_pool_submit(), to a function by its number, from 0; one that there is not fails the task. */
int ww_pool_submit_to(const ww_pool *pool, ww_pool_task **out, uint32_t function, const void *data, size_t length,
                      const ww_task_options *options, int64_t timeout_ns);

/* As ww_pool_submit_to(), for a task whose verdict comes out of ww_pool_collect(), among those of others. Its number is stored
 * in *number.
 *
 * Errors: as ww_pool_submit_to(). */
int ww_pool_submit_collected(const ww_pool *pool, uint64_t *number, uint32_t function, const void *data, size_t length,
                             const ww_task_options *options, int64_t timeout_ns);

/* Takes the tasks that were submitted to be collected and have ended, as they end, and returns how many, at most room:
 * ww_pool_task_wait() on them does not wait. Waits for the first. 0: the pool was shut down, and all were collected. Close
 * each with ww_pool_task_close().
 *
 * Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED none has ended; -ENOTSUP in a child of the pool's process; -EINVAL there is no
 * room, or the timeout; -EFAULT. */
ssize_t ww_pool_collect(const ww_pool *pool, ww_pool_task **tasks, size_t room, int64_t timeout_ns);

/* Ends the pool: no more tasks are taken, those that it has are finished (with cancel_queued 1, those that have not
 * begun are cancelled), and the workers end; waits for all that. At the deadline, what still runs is cancelled and its
 * workers are killed. The handle stays to be closed.
 *
 * Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED some tasks were cancelled for it; the pool is shut down nevertheless;
 * -EINVAL, -EFAULT. */
int ww_pool_shutdown(const ww_pool *pool, int cancel_queued, int64_t timeout_ns);

/* What the pool has seen, and as many of its workers as there is room for; workers may be NULL. Never blocks. Errors:
 * -EFAULT. */
int ww_pool_get_statistics(const ww_pool *pool, ww_pool_statistics *out, ww_pool_worker *workers, size_t room);


/* ---- Logs: one file for all processes of a host, past the death of any of them ---- */

/* Each step. */
#define WW_LOG_TRACE 1

/* What helps to find faults. */
#define WW_LOG_DEBUG 2

/* What happens as it should. */
#define WW_LOG_INFO 3

/* What may have to be looked at. */
#define WW_LOG_WARN 4

/* What has failed. */
#define WW_LOG_ERROR 5

/* What ends the program. */
#define WW_LOG_FATAL 6

/* For ww_log_set_level(): nothing is logged. */
#define WW_LOG_OFF 7

/* For people; the default. */
#define WW_LOG_TEXT 1

/* A JSON object on each line. */
#define WW_LOG_JSON 2

/* Pairs key=value on each line. */
#define WW_LOG_LOGFMT 3

/* Records travel through a ring in shared memory; the default. */
#define WW_LOG_RING 1

/* Through a POSIX message queue, which is the log's own. */
#define WW_LOG_MQ 2

/* Through a System V message queue, which is the log's own. */
#define WW_LOG_SYSV_MQ 3

/* What was written is brought to the disk when the kernel comes to it; the default. */
#define WW_LOG_SYNC_NEVER 1

/* It is brought there so long after it was written, at the latest. */
#define WW_LOG_SYNC_INTERVAL 2

/* Before a record counts as written. */
#define WW_LOG_SYNC_ALWAYS 3

/* A log (log:name): what any number of processes log, in one file. They elect one that writes it, and when that one dies
 * another takes over at the exact record. What a call has logged is written once, whoever dies; if nobody is left, the next
 * to open the log writes it.
 *
 * May be shared between threads. A child made by fork takes part as itself. */
typedef struct ww_log ww_log;

/* How a log is opened or made; initialise with WW_LOG_OPTIONS_INIT. Zero means what the address says, or else the
 * default. participants and mode count when it is made; timeout_ns, drop, no_writer and wait are each handle's own;
 * what else differs from the log that there is already is refused. */
typedef struct ww_log_options {
    size_t size;
    /* The file's path; NULL for the address's file=, or that of the log that there is. */
    const char *file;
    /* Memory for records that are not written yet, in bytes; 0 for 1500 of the largest size. */
    uint64_t capacity;
    /* The largest record in bytes, with all that belongs to it, 256 to 1048576; 0 for 4000. What is longer is cut,
     * says so, and is counted. */
    uint64_t largest;
    /* A file that would become larger than so many bytes is set aside first, as file.1, and a new one is begun; 0:
     * never. */
    uint64_t rotate_size;
    /* The same after so many seconds, counted from midnight UTC where that divides a day; 0: never. */
    uint64_t rotate_every_s;
    /* With WW_LOG_SYNC_INTERVAL: how long, in milliseconds, 1 or more; else not looked at. */
    uint64_t sync_every_ms;
    /* How long a call waits for room, in nanoseconds; 0 or WW_FOREVER for ever. */
    int64_t timeout_ns;
    /* WW_LOG_TEXT, WW_LOG_JSON or WW_LOG_LOGFMT. */
    uint32_t format;
    /* WW_LOG_SYNC_NEVER, WW_LOG_SYNC_INTERVAL or WW_LOG_SYNC_ALWAYS. */
    uint32_t sync;
    /* How many files that were set aside are kept; 0 for 10. */
    uint32_t keep;
    /* 1: files that were set aside are compressed. */
    uint32_t compress;
    /* 1: without room a record is dropped, and how many were is written into the file; 0: the call waits. */
    uint32_t drop;
    /* 1: this handle does not write itself but in ww_log_drain() and ww_log_serve(); 0: it has a thread that does its part. */
    uint32_t no_writer;
    /* How many handles may be open at the same time, at most 256; 0 for 64. */
    uint32_t participants;
    /* Permissions of the file and of the memory; 0 for 0600. */
    uint32_t mode;
    /* WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL. */
    uint32_t wait;
    /* WW_LOG_RING, WW_LOG_MQ or WW_LOG_SYSV_MQ: what records travel through to the writer; a message queue has as much
     * room as the system gives. */
    uint32_t through;
} ww_log_options;
#define WW_LOG_OPTIONS_INIT WW_INIT(ww_log_options)

/* A field of a record: a name and its text. */
typedef struct ww_log_field {
    const char *key;
    const char *value;
} ww_log_field;

/* What a log has seen, and how it is. */
typedef struct ww_log_statistics {
    /* Records that are in the file, and that are not yet. */
    uint64_t written;
    uint64_t queued;
    /* Records that were dropped for want of room, and that were cut. */
    uint64_t dropped;
    uint64_t cut;
    /* Messages that were no records, and half-sent ones of processes that died. */
    uint64_t damaged;
    uint64_t skipped;
    /* Bytes in the file and those before it. */
    uint64_t bytes;
    /* Files that were set aside. */
    uint64_t rotations;
    /* How often a writer took over from one that had died. */
    uint64_t taken_over;
    /* How often the file was found changed by others. */
    uint64_t disturbed;
    /* Writes that failed; each is tried again. */
    uint64_t failures;
    /* Memory in bytes. */
    uint64_t memory;
    /* Why nothing can be written at present, as an errno; 0: nothing is in the way. */
    int32_t trouble;
    /* The process that writes; 0 if none does, or it lives in a pid namespace that this one cannot see. */
    uint32_t writer;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[4];
} ww_log_statistics;

/* Opens the log of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one with a slash is a
 * path on a tmpfs. Who makes it names the file, in the options or as log:name?file=PATH. Never blocks. Close it with
 * ww_log_close().
 *
 * Errors: -EINVAL the address, or options that do not fit together, or that the log that there is was not made with, which
 * are named; or there is none, and no file was named; -ENOSPC the memory is not free; -EACCES the directory is
 * somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -ELOOP a symbolic link;
 * -ENOTSUP the file system cannot make files without a name (a tmpfs can); -EBADMSG there is something else under that
 * name, or it is damaged; -EPROTO it was made by an incompatible version; -EUSERS it has no room for another
 * participant; -ENOMEM no thread can be had; -EMFILE, -ENFILE; -EFAULT. */
int ww_log_open(ww_log **out, const char *address, const ww_log_options *options);

/* Closes the handle; threads that wait on it return -ECANCELED first. Writes what is there if nobody else does, and
 * blocks for the disk then. NULL is allowed. */
void ww_log_close(ww_log *log);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_log_end_waits(const ww_log *log);

/* Removes the name and the memory of a log; the file stays. Never blocks.
 *
 * Errors: -ENOENT there is none; -EBUSY it holds records that are not written: drain it first; -EUSERS as many have it
 * open as it has room for: close one; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT. */
int ww_log_remove(const char *address);

/* Whether the name still stands for this log. Never blocks. Errors: -ESTALE the name was removed; -EFAULT. */
int ww_log_check(const ww_log *log);

/* 1 if a record of this level would be logged, 0 if not. Never blocks. Errors: -EINVAL, -EFAULT. */
int ww_log_is_enabled(const ww_log *log, uint32_t level);

/* The lowest level that is logged; WW_LOG_INFO in a new log. Never blocks. Errors: -EFAULT. */
int ww_log_level(const ww_log *log);

/* Sets the lowest level that is logged, for all processes at once. Never blocks. Errors: -EINVAL, -EFAULT. */
int ww_log_set_level(const ww_log *log, uint32_t level);

/* Logs a message of this length with fields, unless the level keeps it out; see the macros ww_log_info() and the like.
 * target and file may be NULL, line 0. Waits while there is no room, unless the options say otherwise. Bytes that are
 * not UTF-8 are replaced. Once it has returned 0, the record cannot be lost by anybody's death.
 *
 * Errors: -EAGAIN there is no room and the handle does not wait: the record was dropped, and is counted; -ETIMEDOUT,
 * -ECANCELED the same after waiting; -ESTALE this handle was declared dead because its lock was closed; -EBADMSG the
 * log is damaged; -EINVAL the level; -ENOMEM in a child made by fork, no thread can be had; -EFAULT. */
int ww_log_write(const ww_log *log, uint32_t level, const char *target, const char *file, uint32_t line,
                 const char *message, size_t length, const ww_log_field *fields, size_t count);

/* 1 if numbers have a point before their decimals in the calling thread's locale, else 0: what ww_log_info() and the like
 * ask before they format such a number. Never blocks, never fails. */
int ww_log_has_decimal_point(void);

/* Has SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT logged until the log is closed, before what would have become of
 * them: the handler that was there runs, or the default action ends the program. Never blocks; a crash waits for 1.5 s
 * at most until it is logged. Once is enough: it holds for children made by fork too, as soon as they have logged
 * something.
 *
 * Errors: -ENOMEM no thread can be had; -EFAULT. */
int ww_log_crashes(const ww_log *log);

/* Logs that a signal ends the program, with the address that it is about (NULL for none); for handlers of a program's own:
 * async-signal-safe in a process that has used the log before, given 64 KiB of stack. Waits a second for room at most.
 *
 * Errors, which ww_last_error() does not tell of: -EAGAIN there is no room; -ESTALE, -EBADMSG as
 * ww_log_write(); -EFAULT. */
int ww_log_signal(const ww_log *log, int signal, const void *about);

/* Waits until all that was logged before, by whatever process, is in the file; writes it itself if nobody else does.
 *
 * Errors: -ENOSPC, -EBUSY (another log or program has it locked) and the like: the file cannot be written at present;
 * what is logged is kept, and written when it can be; -EAGAIN, -ETIMEDOUT, -ECANCELED; -ESTALE, -EBADMSG as
 * ww_log_write(); -EINVAL, -EFAULT. */
int ww_log_drain(const ww_log *log, int64_t timeout_ns);

/* Is the writer, as soon as there is no other, until the timeout is over, which is no error: for a process or thread
 * of its own that does nothing else. Trouble with the file does not end it: see ww_log_get_statistics().
 *
 * Errors: -ECANCELED; -ESTALE, -EBADMSG as ww_log_write(); -EINVAL, -EFAULT. */
int ww_log_serve(const ww_log *log, int64_t timeout_ns);

/* Has the writer open the file anew, as after it was renamed, and waits until it has. A writer finds out itself that a
 * file was renamed, but only when it has something to write. Errors: as ww_log_drain(). */
int ww_log_reopen(const ww_log *log, int64_t timeout_ns);

/* What the log has seen, and how it is. Never blocks; takes time in proportion to the capacity. Errors: -EBADMSG the
 * log is damaged; -ESTALE as ww_log_write(); -EFAULT. */
int ww_log_get_statistics(const ww_log *log, ww_log_statistics *statistics);

#if defined(__GNUC__)
#define WW_PRINTF(at, first) __attribute__((__format__(__printf__, at, first)))
#else
#define WW_PRINTF(at, first)
#endif

/* Puts the digits of a number in front of `end`, two at a time; where they begin. */
static inline char *ww_log_digits(char *end, uint64_t number) {
    static const char pairs[] =
        "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
        "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";
    for (; number >= 100; number /= 100) memcpy(end -= 2, pairs + number % 100 * 2, 2);
    if (number >= 10) return WW_CHARS(memcpy(end - 2, pairs + number * 2, 2));
    *--end = pairs[number * 2 + 1];
    return end;
}

/* The same in base 16. */
static inline char *ww_log_hex(char *end, uint64_t number) {
    do *--end = "0123456789abcdef"[number & 15];
    while ((number >>= 4) != 0);
    return end;
}

/* Those of one with so many decimals, 1 to 9, rounded to the nearest; NULL where it is none, or too large or too small for that. */
static inline char *ww_log_decimal(char *end, double number, unsigned decimals) {
    const uint64_t half = WW_AS(uint64_t, 1) << 63, low_half = 0xffffffff;
    static const uint32_t powers[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000};
    const uint64_t power = powers[decimals];
    uint64_t bits, whole, part, low, high, rest;
    double size = number < 0 ? -number : number;
    memcpy(&bits, &number, sizeof bits);
    if ((bits >> 52 & 2047) == 2047) return NULL; /* by its bits, as a compiler may be told that there is no such number */
    if (!(size < 9007199254740992.0) || (size < 1.0 / 2048 && size > 0)) return NULL;
    /* Nothing is rounded here: the last bit of such a number stands for 2^-63 or more. */
    whole = WW_AS(uint64_t, size);
    part = WW_AS(uint64_t, (size - WW_AS(double, whole)) * 18446744073709551616.0);
    /* The product has 128 bits: the upper 64 are the decimals, and the lower say how to round them, a half to the even. */
    low = (part & low_half) * power;
    high = (part >> 32) * power + (low >> 32);
    rest = high << 32 | (low & low_half);
    high >>= 32;
    if (rest > half || (rest == half && (high & 1) != 0)) high++;
    if (high == power) {
        high = 0;
        whole++;
    }
    end = ww_log_digits(end, power + high); /* with a 1 in front, which keeps the zeros */
    *end = '.';
    end = ww_log_digits(end, whole);
    if (bits >> 63 != 0) *--end = '-'; /* also of -0.0 */
    return end;
}

/* What vsnprintf() does, in a fraction of its time, for plain text and %d %i %u %x (also with l, ll and z) %s %c %% %.1f to %.9f;
 * -1 if there is anything else, or not enough room. Ends with no 0. */
static inline int ww_log_format(char *text, size_t size, const char *format, va_list values) {
    char digits[32], *const end = digits + sizeof digits, *at = text, *const last = text + size;
    for (;; format++) {
        const char *piece, *behind = strchr(format, '%');
        int longs = 0;
        size_t plain = behind == NULL ? strlen(format) : WW_SIZE(behind - format);
        if (plain > WW_SIZE(last - at)) return -1;
        memcpy(at, format, plain);
        at += plain;
        if (behind == NULL) return WW_AS(int, at - text);
        for (format = behind + 1; *format == 'l' && longs < 2; format++) longs++;
        if (*format == 'z' && longs == 0) {
            longs = 3;
            format++;
        }
        if (longs != 0 && *format != 'd' && *format != 'i' && *format != 'u' && *format != 'x') return -1;
        behind = end;
        switch (*format) {
        case 'd':
        case 'i': {
            int64_t given = longs == 0   ? va_arg(values, int)
                            : longs == 1 ? va_arg(values, long)
                            : longs == 2 ? va_arg(values, long long)
                                         : va_arg(values, ssize_t);
            char *first = ww_log_digits(end, given < 0 ? 0 - WW_AS(uint64_t, given) : WW_AS(uint64_t, given));
            if (given < 0) *--first = '-';
            piece = first;
            break;
        }
        case 'u':
        case 'x': {
            uint64_t given = longs == 0   ? va_arg(values, unsigned)
                             : longs == 1 ? va_arg(values, unsigned long)
                             : longs == 2 ? va_arg(values, unsigned long long)
                                          : va_arg(values, size_t);
            piece = *format == 'u' ? ww_log_digits(end, given) : ww_log_hex(end, given);
            break;
        }
        case '.':
            if (format[1] < '1' || format[1] > '9' || format[2] != 'f') return -1;
            if (ww_log_has_decimal_point() == 0) return -1;
            piece = ww_log_decimal(end, va_arg(values, double), WW_AS(unsigned, format[1] - '0'));
            format += 2;
            break;
        case 's':
            piece = va_arg(values, const char *);
            behind = piece == NULL ? NULL : piece + strlen(piece);
            break;
        case 'c':
            *digits = WW_AS(char, va_arg(values, int));
            piece = digits;
            behind = digits + 1;
            break;
        case '%':
            piece = format;
            behind = format + 1;
            break;
        default: return -1;
        }
        if (piece == NULL || behind - piece > last - at) return -1;
        memcpy(at, piece, WW_SIZE(behind - piece));
        at += behind - piece;
    }
}

/* Logs a message that is put together as by printf. Errors: as ww_log_write(), and -EINVAL the format, -ENOMEM. */
WW_PRINTF(6, 7)
static inline int ww_log_print(const ww_log *log, uint32_t level, const char *target, const char *file, uint32_t line,
                               const char *format, ...) {
    char text[1024], *message = text, *longer = NULL;
    va_list values;
    int length, result;
    va_start(values, format);
    length = ww_log_format(text, sizeof text, format, values);
    va_end(values);
    if (length < 0) {
        va_start(values, format);
        length = vsnprintf(text, sizeof text, format, values);
        va_end(values);
    }
    if (length < 0) return -EINVAL;
    if (WW_SIZE(length) >= sizeof text) {
        message = longer = WW_CHARS(malloc(WW_SIZE(length) + 1));
        if (longer == NULL) return -ENOMEM;
        va_start(values, format);
        length = vsnprintf(longer, WW_SIZE(length) + 1, format, values);
        va_end(values);
        if (length < 0) {
            free(longer);
            return -EINVAL;
        }
    }
    result = ww_log_write(log, level, target, file, line, message, WW_SIZE(length), NULL, 0);
    free(longer);
    return result;
}

/* Log a message with its place in the source, put together as by printf only if the level lets it through; 0 if not. The
 * compiler checks format and values. log and level are evaluated twice. */
#define WW_LOG(log, level, ...)                                                                                       \
    (ww_log_is_enabled(log, level) == 0 ? 0 : ww_log_print(log, level, NULL, __FILE__, __LINE__, __VA_ARGS__))
#define ww_log_trace(log, ...) WW_LOG(log, WW_LOG_TRACE, __VA_ARGS__)
#define ww_log_debug(log, ...) WW_LOG(log, WW_LOG_DEBUG, __VA_ARGS__)
#define ww_log_info(log, ...) WW_LOG(log, WW_LOG_INFO, __VA_ARGS__)
#define ww_log_warn(log, ...) WW_LOG(log, WW_LOG_WARN, __VA_ARGS__)
#define ww_log_error(log, ...) WW_LOG(log, WW_LOG_ERROR, __VA_ARGS__)
#define ww_log_fatal(log, ...) WW_LOG(log, WW_LOG_FATAL, __VA_ARGS__)


/* ---- Channels: who sent a message ---- */

/* Who sent a message, to be told apart and to be answered. Stays valid when the sender or the channel has gone. Free it
 * with ww_channel_peer_close(); may be shared between threads. */
typedef struct ww_channel_peer ww_channel_peer;

/* Frees a peer. NULL is allowed. */
void ww_channel_peer_close(ww_channel_peer *peer);

/* Whether two messages came from the same connection, or from the same address where there are none: 1 or 0. Never
 * blocks. Errors: -EFAULT. */
int ww_channel_peer_equals(const ww_channel_peer *a, const ww_channel_peer *b);

/* Writes where the sender is, for people to read, with a terminating NUL. Never blocks. Returns the length without the
 * NUL. Errors: -EMSGSIZE as ww_channel_local_address(); -EFAULT. */
ssize_t ww_channel_peer_print(const ww_channel_peer *peer, char *buffer, size_t size, size_t *true_size);

/* The sender's process, as the kernel vouches for it, when it connected. Each output may be NULL. pid is 0 for a process
 * outside of this pid namespace. Never blocks. Errors: -ENOTSUP the mechanism does not tell; unix: and unix-seqpacket: do;
 * -EFAULT. */
int ww_channel_peer_credentials(const ww_channel_peer *peer, pid_t *pid, uid_t *uid, gid_t *gid);


/* ---- Channel: messages over any mechanism that carries them ---- */

/* Messages on their way are lost when the receiving process ends. */
#define WW_CHANNEL_CONNECTION 0

/* Messages lie in the system's memory: every process may end, a reboot loses them. */
#define WW_CHANNEL_SYSTEM 1

/* Messages lie on the disk. */
#define WW_CHANNEL_DISK 2

/* One end of a channel: whole messages over whichever mechanism its address names, sent from one end and received at the
 * other. tcp:, udp:, unix:, unix-dgram:, unix-seqpacket:, pipe:, fifo:, file:, mq:, sysv-mq:, ring: and topic:.
 *
 * Over tcp: and unix: each message follows its length (32 bits, most significant byte first); ?framing=line and
 * ?framing=none talk to programs that know nothing of this. Over pipe: and fifo: messages travel in pieces that the kernel
 * keeps together, so that any number of writers never mix. ?largest= bounds what a stream's message may have, 1 MiB by
 * default. A receiver at a socket's address takes any number of senders; one that sends something else is cut off, and the
 * others do not notice. A sender whose connection breaks connects again, within its timeout, and fails with -ECONNRESET
 * first if something that it sent may not have arrived.
 *
 * Over file: the address names a directory, made if it is missing, with a log that senders append to and every
 * receiver reads from the beginning, or from the end with ?from=newest. With ?reader=NAME a receiver goes on where it
 * was: a message is dealt with when the next is asked for, by ww_channel_flush(), or when the receiver is closed, and
 * is received again if the process dies before, or by ww_channel_put_back(). ?fsync=never, interval (the default, with
 * ?interval=MS, 1000 by default) or every says when what is sent goes to the disk; ?segment=BYTES, ?retain=BYTES and
 * ?age=SECONDS what is kept.
 *
 * May be shared between threads. After a fork, the child's senders connect anew and its receivers begin with what
 * comes from then on, or fail with -EBUSY if they have a reader=; a pair's ends go on in one of the two processes. */
typedef struct ww_channel ww_channel;

/* What a channel over an address does and does not do. Flags are 1 or 0. */
typedef struct ww_channel_capabilities {
    /* The largest message in bytes; SIZE_MAX if it is decided by whoever made the object. */
    size_t largest;
    /* How many priorities there are; 1 is none. */
    uint32_t priorities;
    /* What messages outlive: WW_CHANNEL_CONNECTION, WW_CHANNEL_SYSTEM or WW_CHANNEL_DISK. */
    uint32_t durability;
    /* The messages of one sender arrive in its order; a message arrives as it was sent, neither split nor joined. */
    uint32_t ordered;
    uint32_t boundaries;
    /* Several may send; several may receive, each message going to one of them; or to all, with broadcast. */
    uint32_t many_senders;
    uint32_t many_receivers;
    uint32_t broadcast;
    /* The receiver knows who sent a message, and can answer; it knows the sender's process and user. */
    uint32_t answers;
    uint32_t credentials;
    /* Receiving ends (-EPIPE) once the last sender has gone and everything is received. */
    uint32_t ends;
    /* Reaches other hosts. */
    uint32_t crosses_hosts;
    /* Messages may be lost, or arrive twice or out of order, without anybody noticing. */
    uint32_t may_lose;
    /* Room for what later versions tell; 0. */
    uint32_t reserved[8];
} ww_channel_capabilities;

/* What is known about a message that was received. */
typedef struct ww_channel_received {
    /* Its bytes; in a batch they follow those of the message before it. */
    size_t size;
    /* How many messages were missed before it (topic: with lossy=1; file:, removed by age or size, or damaged). */
    uint64_t missed;
    /* The priority it was sent with; 0 where there are none. */
    uint32_t priority;
    /* How often it has been taken, this time included, where that is known (ring:); else 0. */
    uint32_t deliveries;
} ww_channel_received;

/* What one end of a channel has seen. */
typedef struct ww_channel_statistics {
    /* Messages sent from here, answers included; messages received here. */
    uint64_t sent;
    uint64_t received;
    /* Messages that wait to be received; UINT64_MAX where that is not known. */
    uint64_t waiting;
    /* Connections to senders that are open now; times that a connection was made anew. */
    uint64_t peers;
    uint64_t reconnects;
    /* Times that something sent may have been lost with a connection, or in part with the receiver of a pipe, was refused by
     * the receiver's host, or could not be brought to the disk. */
    uint64_t unconfirmed;
    /* Messages that came in part, because their sender died or broke off, or their beginning went with a receiver that
     * died; broken connections whose last answers nobody has received; over file:, torn tails of the log that were cut,
     * by all its users. */
    uint64_t torn;
    /* Peers that were cut off, because of what they sent, because they did not take an answer, or for want of memory;
     * times that something else than messages was in a pipe. */
    uint64_t cut_off;
    uint64_t garbage;
    /* Messages that a full ring has dropped, by all its users; messages that this subscriber, or reader of a log, has
     * missed. */
    uint64_t dropped;
    uint64_t missed;
    /* Times that there was no descriptor or memory for new senders, who wait until there is. */
    uint64_t starved;
    /* Room for what later versions tell; 0. */
    uint64_t reserved[7];
} ww_channel_statistics;

/* Tells what a channel over this address does and does not do. Never blocks.
 *
 * Errors: -EINVAL the address, or it names something that carries no messages; -EFAULT. */
int ww_channel_get_capabilities(const char *address, ww_channel_capabilities *capabilities);

/* Opens the end that sends; waits for a receiver where the mechanism needs one: tcp:, unix:, unix-seqpacket: and fifo:.
 * Queues, rings, topics and logs are made if they are missing. Close it with ww_channel_close().
 *
 * Errors: -EINVAL the address, one that carries no messages, or pipe:, which has no name (see ww_channel_pair());
 * -ECONNREFUSED, -ENOENT no receiver is there, with a timeout of WW_NOW; -EBADMSG, -EPROTO what lies there is no log
 * of messages, or one of another version (file:); what opening the mechanism gives; -EAGAIN, -ETIMEDOUT, -ECANCELED;
 * -EFAULT. */
int ww_channel_open_sender(ww_channel **out, const char *address, int64_t timeout_ns);

/* Opens the end that receives; waits for a sender over fifo:, unless keep-open=1, and for nothing else. Close it with
 * ww_channel_close().
 *
 * Errors: -EINVAL, -EBADMSG, -EPROTO as ww_channel_open_sender(); -EADDRINUSE, -EBUSY another receiver has it, where
 * there can be one only; what opening the mechanism gives; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT. */
int ww_channel_open_receiver(ww_channel **out, const char *address, int64_t timeout_ns);

/* Makes both ends of a channel without a name, for a process and the children it forks: pipe:. Never blocks. Close
 * each with ww_channel_close().
 *
 * Errors: -EINVAL an address of another kind, or one with a name; -EMFILE, -ENFILE no descriptor is left; -EFAULT. */
int ww_channel_pair(ww_channel **receiver, ww_channel **sender, const char *address);

/* Closes the handle; threads that wait on it return -ECANCELED first. What the mechanism keeps, it keeps: see durability.
 * NULL is allowed. */
void ww_channel_close(ww_channel *channel);

/* Has the waits of all threads on the handle return -ECANCELED, now and from now on, and returns when they have left; to
 * know that a thread can be joined before the handle is closed. Errors: -EFAULT. */
int ww_channel_end_waits(const ww_channel *channel);

/* Removes what the address names, so that it can be opened no more: a FIFO, queue, ring or topic, whose users keep it;
 * a log, whose users get -ESTALE, or with reader= the position of that reader alone. Sockets' names go with their
 * receiver. Never blocks, but for who is just appending to a log.
 *
 * Errors: -EINVAL the address, or it names nothing that outlives its receiver; -ENOENT there is no such thing; -EBUSY the
 * reader is in use; -ENOTEMPTY files that are not the log's stay in its directory; what removing it gives; -EFAULT. */
int ww_channel_remove(const char *address);

/* Sends one message; waits for room. A message that is sent has been handed to the mechanism; what outlives what is told by
 * ww_channel_get_capabilities(). Of a message over tcp:, unix:, pipe: or fifo: a part may have been sent when the time is
 * over: it counts as sent, and the rest goes out with the next call that waits on the channel, sending or receiving (not
 * with one that waits already), or ww_channel_flush().
 *
 * Errors, with nothing sent: -EMSGSIZE larger than the mechanism or the address allows; -EPIPE the last receiver has
 * gone (pipe:, fifo:, and ring: where there is no room; over the last two another may come); -ECONNRESET what was sent before
 * over a connection may be lost, or the receiver ended several in a row in the middle of this one; -EINVAL the framing cannot
 * carry it; -EBADF this end receives; what the mechanism gives; -EAGAIN, -ETIMEDOUT, -ECANCELED;
 * -EFAULT. With the message in the log all the same: -EIO, -ENOSPC, -EDQUOT it may not be on the disk (file: with
 * ?fsync=every). */
int ww_channel_send(const ww_channel *channel, const void *data, size_t size, int64_t timeout_ns);

/* As ww_channel_send(), with a priority: higher ones are received first. 0 is what ww_channel_send() uses.
 *
 * Errors: as ww_channel_send(); -ENOTSUP the mechanism has no priorities; -EINVAL above the highest. */
int ww_channel_send_with_priority(const ww_channel *channel, const void *data, size_t size, uint32_t priority,
                                  int64_t timeout_ns);

/* Sends count messages one after the other, within one deadline; waits for room. *sent, which may be NULL, gets how
 * many were sent, also after an error.
 *
 * Errors: as ww_channel_send(), for the first that could not be sent. */
int ww_channel_send_batch(const ww_channel *channel, const ww_bytes *messages, size_t count, int64_t timeout_ns,
                          size_t *sent);

/* Receives one message into buffer and returns how many bytes it has; waits for one. Each output may be NULL: *received
 * gets what is known about it; *peer who sent it, to be freed with ww_channel_peer_close(), or NULL where that is not
 * known; *true_size its size, also where the buffer is too small for it. The end that sends over a socket receives
 * answers with this.
 *
 * Errors: -EMSGSIZE the buffer is too small, and the message stays (mq: with this handle, for its next call, and is lost if
 * it is closed before); -EPIPE the last sender has gone and everything is
 * received, where the mechanism tells; -EBADMSG a sender sent something else: it was cut off, or what it wrote was
 * skipped, and counted; -EBADF this end sends, and there are no answers; what the mechanism gives; -EAGAIN, -ETIMEDOUT,
 * -ECANCELED; -EFAULT. */
ssize_t ww_channel_recv(const ww_channel *channel, void *buffer, size_t size, int64_t timeout_ns,
                        ww_channel_received *received, ww_channel_peer **peer, size_t *true_size);

/* Receives up to count messages and returns how many: waits for the first, and takes those that are there besides and
 * fit. They come one behind the other in buffer, which has size bytes, and what each is in received, which has room for
 * count entries. *true_size, which may be NULL, gets the size of the first message where the buffer is too small for it.
 *
 * Errors: as ww_channel_recv(), for the first message; -EINVAL count is 0. What stops it behind the first ends the batch,
 * and is counted where it has a count. */
ssize_t ww_channel_recv_batch(const ww_channel *channel, void *buffer, size_t size, ww_channel_received *received,
                              size_t count, int64_t timeout_ns, size_t *true_size);

/* Answers the sender of a message; waits for room. The sender receives answers with its own ww_channel_recv().
 *
 * Errors: -ENOTSUP the mechanism does not know senders; -EPIPE the sender has gone; -EINVAL the sender of another
 * channel's message; otherwise as ww_channel_send(). */
int ww_channel_reply(const ww_channel *channel, const ww_channel_peer *peer, const void *data, size_t size,
                     int64_t timeout_ns);

/* Has what was received and is not dealt with received again, by the next call that receives here. Over file: alone. Never
 * blocks.
 *
 * Errors: -ENOTSUP what was received is gone; -EAGAIN another thread is receiving; -EBADF this end sends; -EFAULT. */
int ww_channel_put_back(const ww_channel *channel);

/* Waits until what was sent is out of this process's hands: acknowledged by the other host (tcp:), read by the other side
 * (unix:), on the disk (file:, blocking for it), with the kernel or in shared memory (the others, at once but for the rest
 * of a message over pipe: and fifo:). A receiver over file: with a name says that what it has received is dealt with, and
 * has that on the disk.
 *
 * Errors: -ECONNRESET the connection broke before, and something may be lost; -EPIPE the receiver of a pipe has gone before
 * it had the rest of a message; -EIO, -ENOSPC, -EDQUOT it may not be on the disk, and never will be; -EAGAIN, -ETIMEDOUT,
 * -ECANCELED something is on its way still; -EFAULT. */
int ww_channel_flush(const ww_channel *channel, int64_t timeout_ns);

/* A descriptor to poll, or for ww_waitset_add_fd(), and in *interest, which may be NULL, what for: WW_READABLE or
 * WW_WRITABLE. That it is ready means that receiving, or sending, is worth trying with WW_NOW; try until it gives -EAGAIN.
 * It stays the handle's. Never blocks.
 *
 * Errors: -ENOTSUP there is nothing to poll; -EMFILE, -ENFILE no descriptor is left; -EFAULT. */
int ww_channel_fd(const ww_channel *channel, uint32_t *interest);

/* Tells what this end has seen, and the mechanism where it keeps count. Never blocks. Errors: -EFAULT. */
int ww_channel_get_statistics(const ww_channel *channel, ww_channel_statistics *statistics);

/* Writes where senders reach this receiver, with a terminating NUL: the port that the kernel chose, if the address left
 * that to it. Never blocks. Returns the length without the NUL.
 *
 * Errors: -ENOTSUP it is no receiver over a socket; -EMSGSIZE size is too small, with nothing written; the length that is
 * needed, without the NUL, is stored in *true_size, which may be NULL; -EFAULT. */
ssize_t ww_channel_local_address(const ww_channel *channel, char *buffer, size_t size, size_t *true_size);

/* Writes the address that the channel was opened with, with a terminating NUL. Never blocks. Returns the length without
 * the NUL. Errors: -EMSGSIZE as ww_channel_local_address(); -EFAULT. */
ssize_t ww_channel_address(const ww_channel *channel, char *buffer, size_t size, size_t *true_size);


/* ---- Wait set ---- */

/* Wanted, or reported: something can be read, or the end of the stream, or a connection can be accepted. */
#define WW_READABLE 1

/* Wanted, or reported: something can be written. */
#define WW_WRITABLE 2

/* Reported: the other side is gone; what it left can still be read. */
#define WW_HANGUP 4

/* Reported: an error is pending, which a read or write tells; or nobody reads this pipe any more. */
#define WW_ERROR 8

/* Reported: the timer has expired. */
#define WW_TIMER 16

/* Reported: the child has ended. */
#define WW_ENDED 32

/* The most events that one ww_waitset_wait() gives. */
#define WW_WAITSET_BATCH 256

/* Waits for whichever comes first of any number of descriptors, timers and children.
 *
 * Each entry has a token of the caller's choice, any 64-bit number that no other entry of the set has. Level-triggered:
 * an entry is reported by every wait for as long as the condition lasts; a timer's expirations are counted, and reported
 * to one wait only. Any thread may add, change and remove while others wait. The set does not keep descriptors open:
 * remove an entry before closing its descriptor. It belongs to the process that made it: a forked child gets -ENOTSUP
 * from every call but ww_waitset_fd(), and may only close its handle. */
typedef struct ww_waitset ww_waitset;

/* One entry that has something to say. */
typedef struct ww_waitset_event {
    /* The token that the entry was added with. */
    uint64_t token;
    /* For a timer: how often it has expired since it was last reported; more than 1: some were missed. Otherwise 0. */
    uint64_t expirations;
    /* What is the case: WW_READABLE, WW_WRITABLE, WW_HANGUP, WW_ERROR, WW_TIMER, WW_ENDED, or several of them. */
    uint32_t ready;
    /* For a child: how it ended, as waitpid() gives it; -1 if it has been reaped by now, or is no child of this process. */
    int status;
} ww_waitset_event;

/* Makes an empty set; close it with ww_waitset_close(). Never blocks.
 *
 * Errors: -EMFILE, -ENFILE no descriptor is left; -EFAULT. */
int ww_waitset_new(ww_waitset **out);

/* Closes the set; threads that wait on it return -ECANCELED first. What is in it stays open. NULL is allowed. */
void ww_waitset_close(ww_waitset *set);

/* As ww_channel_end_waits(). Errors: -EFAULT. */
int ww_waitset_end_waits(const ww_waitset *set);

/* Adds a descriptor, such as that of any ww_..._fd(), for WW_READABLE, WW_WRITABLE, both, or 0: WW_HANGUP and WW_ERROR
 * are reported in any case. Never blocks; waits in progress take it into account at once.
 *
 * Errors: -EEXIST the token or the descriptor is in the set already; -EPERM the kernel cannot poll it, being a regular
 * file or a directory; -EBADF it is not open; -EINVAL the interest, or the set itself; -ELOOP a set that contains this
 * one; -ENOSPC the user's limit fs.epoll.max_user_watches is reached; -ENOTSUP made before a fork; -EFAULT. */
int ww_waitset_add_fd(const ww_waitset *set, int fd, uint32_t interest, uint64_t token);

/* Adds a timer that expires first_ns from now and then every period_ns, or once if that is 0, on the monotonic clock.
 * Never blocks.
 *
 * A wait that comes late reports all expirations with one event. A timer without a period stays in the set, at rest;
 * ww_waitset_change_timer() starts it again. Errors: -EEXIST the token is in the set already; -EINVAL a negative time;
 * -EMFILE, -ENFILE no descriptor is left; -ENOSPC, -ENOTSUP as ww_waitset_add_fd(); -EFAULT. */
int ww_waitset_add_timer(const ww_waitset *set, int64_t first_ns, int64_t period_ns, uint64_t token);

/* Adds the end of the child pid; one that has ended already is reported at once. Never blocks.
 *
 * The child is not reaped: that stays with whoever started it, before or after. It is reported by every wait until it is
 * removed. Where the kernel or a sandbox has no pidfd, a helper thread waits for each child; ww_paths() says which way
 * is used. Errors: -ESRCH no such process; -ECHILD not a child of this process, and there is no pidfd; -EINVAL not the
 * pid of a process; -ENOMEM no helper thread can be had; -EEXIST the token is in the set already; -EMFILE, -ENFILE,
 * -ENOSPC, -ENOTSUP as ww_waitset_add_timer(); -EFAULT. */
int ww_waitset_add_child(const ww_waitset *set, pid_t pid, uint64_t token);

/* Changes what a descriptor is watched for; see ww_waitset_add_fd(). Never blocks.
 *
 * Errors: -ENOENT no entry has the token; -EINVAL it is a timer or a child, or the interest; -EBADF its descriptor was
 * closed while it was in the set; -ENOTSUP made before a fork; -EFAULT. */
int ww_waitset_change(const ww_waitset *set, uint64_t token, uint32_t interest);

/* Starts a timer anew, with other times, and forgets expirations that were not reported. Never blocks.
 *
 * Errors: -ENOENT no entry has the token; -EINVAL it is not a timer, or a negative time; -ENOTSUP made before a fork;
 * -EFAULT. */
int ww_waitset_change_timer(const ww_waitset *set, uint64_t token, int64_t first_ns, int64_t period_ns);

/* Removes an entry. Never blocks but for the moment that a child's helper thread needs to end. An event of the entry
 * that another thread has just received may still be on its way there.
 *
 * Errors: -ENOENT no entry has the token; -EBADF the entry is removed, but its descriptor was closed while it was in
 * the set; -ENOTSUP made before a fork; -EFAULT. */
int ww_waitset_remove(const ww_waitset *set, uint64_t token);

/* Waits until at least one entry has something to say, writes at most capacity events (and at most WW_WAITSET_BATCH),
 * and returns how many. What does not fit comes first the next time.
 *
 * Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; -EINVAL capacity is 0; -EBADF a descriptor was closed before it was removed,
 * while a duplicate (in a forked child, say) stays open and keeps it reported; -ENOTSUP made before a fork; -EFAULT. */
ssize_t ww_waitset_wait(const ww_waitset *set, ww_waitset_event *events, size_t capacity, int64_t timeout_ns);

/* The set's own descriptor, to poll or to add to another set: readable while an entry has something to say.
 * Never blocks. Errors: -EFAULT. */
int ww_waitset_fd(const ww_waitset *set);

#ifdef __cplusplus
}
#endif

#endif
