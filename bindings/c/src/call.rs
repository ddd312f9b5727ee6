//! Questions and answers over channels.

use std::ffi::{c_char, c_int, c_void};

use libc::ssize_t;
use wigwag::{Caller, Error, HandlerResult, Server};

use crate::address::copy_out;
use crate::boundary::{address, bytes, call, close, expect_out, give, object, object_mut, put, timeout};
use crate::calls::{Counted, close_counted};

const ANSWER: &str = "answer";
const CALLER: &str = "caller";
const SERVER: &str = "server";

/// The bytes of an answer: to be filled by a function that does tasks of a pool or answers questions, for the thread
/// that runs it and until it returns; or what ww_caller_call() has received.
pub struct ww_answer(Vec<u8>);

/// What does a task or answers a question: puts the answer by ww_answer_put() and returns 0, or returns a negated
/// errno, which refuses, with what was put as the reason.
pub type ww_function = Option<
    unsafe extern "C" fn(asked: *const c_void, length: usize, answer: *mut ww_answer, user: *mut c_void) -> c_int,
>;

/// Runs a function of the caller's.
pub(crate) fn answer(run: impl FnOnce(&mut ww_answer) -> c_int) -> HandlerResult {
    let mut answer = ww_answer(Vec::new());
    match run(&mut answer) {
        0 => Ok(answer.0),
        code if answer.0.is_empty() => Err(std::io::Error::from_raw_os_error(code.saturating_neg()).to_string()),
        _ => Err(String::from_utf8_lossy(&answer.0).into_owned()),
    }
}

/// Adds bytes to an answer. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_answer_put(answer: *mut ww_answer, data: *const c_void, length: usize) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below. One thread has the answer.
    call(|| unsafe {
        object_mut(answer, ANSWER)?.0.extend_from_slice(bytes(data, length)?);
        Ok(())
    })
}

/// The bytes of an answer, and how many they are; they are the answer's, until it is closed. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_answer_data(
    answer: *const ww_answer,
    data: *mut *const c_void,
    length: *mut usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let bytes = &object(answer, ANSWER)?.0;
        put(data, bytes.as_ptr().cast(), "data")?;
        put(length, bytes.len(), "length")
    })
}

/// Lets go of an answer that was received. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_answer_close(answer: *mut ww_answer) {
    // SAFETY: as above.
    unsafe { close(answer, |_| {}) };
}

/// The asking side: sends questions over a channel, and receives the answers to its own. May be shared between threads,
/// whose calls come one after the other. It belongs to the process that opened it.
pub struct ww_caller(Counted<Caller>);

/// The answering side: receives questions, and answers whoever asked. May be shared between threads.
pub struct ww_server(Counted<Server>);

/// Opens a channel for questions, and one for answers if its mechanism needs that; waits as ww_channel_open_sender()
/// does. Close it with ww_caller_close().
///
/// Errors: as ww_channel_open_sender(); -ENOTSUP there is no way back over this mechanism.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_caller_open(out: *mut *mut ww_caller, address: *const c_char, timeout_ns: i64) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_caller(Counted::new(Caller::open(&self::address(address)?, timeout(timeout_ns)?)?)))
    })
}

/// Asks, and waits for the answer, which is the caller's: read it by ww_answer_data(), close it with ww_answer_close().
///
/// Errors: -EREMOTEIO the server refused, ww_last_error() says why; -EPIPE, -ECONNRESET the server went in between: the
/// question may have been acted on; -EAGAIN, -ETIMEDOUT, -ECANCELED there is no answer yet, and if one comes it is
/// dropped and counted; -EMSGSIZE the question is too large; -ENOTSUP opened before a fork; -EINVAL the timeout;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_caller_call(
    caller: *const ww_caller,
    out: *mut *mut ww_answer,
    question: *const c_void,
    length: usize,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let answer = object(caller, CALLER)?.0.begin().call(bytes(question, length)?, timeout(timeout_ns)?)?;
        give(out, ww_answer(answer))
    })
}

/// How many answers came too late, and were dropped. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_caller_late(caller: *const ww_caller, late: *mut u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { put(late, object(caller, CALLER)?.0.get().late(), "late") })
}

/// Closes the handle; threads that wait on it return -ECANCELED first. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_caller_close(caller: *mut ww_caller) {
    // SAFETY: as above.
    unsafe { close_counted(caller, |caller| &caller.0, Caller::end_waits) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_caller_end_waits(caller: *const ww_caller) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(caller, "caller")?.0.get().end_waits();
        Ok(())
    })
}

/// Opens a channel for questions; waits as ww_channel_open_receiver() does. Close it with ww_server_close().
///
/// Errors: as ww_channel_open_receiver(); -ENOTSUP there is no way back over this mechanism.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_server_open(out: *mut *mut ww_server, address: *const c_char, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_server(Counted::new(Server::open(&self::address(address)?, timeout(timeout_ns)?)?)))
    })
}

/// Waits for one question, and answers it with what the function makes of it. 1: somebody was there to take the answer;
/// 0: nobody was, and the answer was dropped and counted. The answer waits for room for a second at most, whatever the
/// timeout.
///
/// Errors: -EBADMSG a peer sent something else and was cut off; -EAGAIN, -ETIMEDOUT, -ECANCELED; what the channel
/// gives; -EINVAL the timeout; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_server_serve_one(
    server: *const ww_server,
    function: ww_function,
    user: *mut c_void,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above; the function is called with its pointer, on the calling thread.
    call(|| unsafe {
        let run = function.ok_or_else(|| Error::from_raw(libc::EFAULT, "function"))?;
        let handler = |asked: &[u8]| answer(|answer| run(asked.as_ptr().cast(), asked.len(), answer, user));
        Ok(c_int::from(object(server, SERVER)?.0.begin().serve_one(handler, timeout(timeout_ns)?)?))
    })
}

/// Answers questions with what the function makes of them until none has come for the timeout, or the handle is closed:
/// to be called by a thread, or several, that do nothing else.
///
/// Errors: -ETIMEDOUT, -ECANCELED and the like, as ww_server_serve_one(); a peer that sends something else does not end it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_server_serve(
    server: *const ww_server,
    function: ww_function,
    user: *mut c_void,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let run = function.ok_or_else(|| Error::from_raw(libc::EFAULT, "function"))?;
        let handler = |asked: &[u8]| answer(|answer| run(asked.as_ptr().cast(), asked.len(), answer, user));
        object(server, SERVER)?.0.begin().serve(handler, timeout(timeout_ns)?)
    })
}

/// What a server has met.
#[repr(C)]
pub struct ww_server_statistics {
    /// Answers that nobody was there to take, and messages that were no questions.
    pub dropped: u64,
    pub foreign: u64,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 4],
}

/// What the server has met. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_server_get_statistics(server: *const ww_server, out: *mut ww_server_statistics) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let server = object(server, SERVER)?.0.get();
        put(
            out,
            ww_server_statistics { dropped: server.dropped(), foreign: server.foreign(), reserved: [0; 4] },
            "statistics",
        )
    })
}

/// Closes the handle; threads that serve return -ECANCELED first, after the question that they are at. Not to be called by
/// the function that answers. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_server_close(server: *mut ww_server) {
    // SAFETY: as above.
    unsafe { close_counted(server, |server| &server.0, Server::end_waits) };
}

/// Writes where callers reach this server, with a terminating NUL: the port that the kernel chose, if the address left that
/// to it. Never blocks. Returns the length without the NUL.
///
/// Errors: as ww_channel_local_address().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_server_local_address(
    server: *const ww_server,
    buffer: *mut c_char,
    size: usize,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let server = object(server, SERVER)?.0.begin();
        let local = server.local_address().ok_or_else(|| {
            Error::from_raw(libc::ENOTSUP, "local address")
                .because("only servers over sockets have one of their own; the others are reached by their address")
        })?;
        copy_out(local.to_string().as_bytes(), buffer, size, true_size)
    })
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_server_end_waits(server: *const ww_server) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(server, "server")?.0.get().end_waits();
        Ok(())
    })
}
