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
