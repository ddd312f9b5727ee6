//! POSIX message queue.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};

use libc::ssize_t;
use wigwag::{Mq, MqOptions, Result};

use crate::boundary::{
    Options, address, adopt, bytes, call, close, expect_out, give, invalid, object, options, put, put_if_wanted, room,
    timeout,
};
use crate::sysv_mq::{WW_MQ_CUT, access};

/// The highest priority of a message.
pub const WW_MQ_PRIORITY_MAX: u32 = 32767;

/// A POSIX message queue (mq:/name): the oldest message of the highest priority first, on a descriptor to poll.
///
/// A message is taken whole by one receiver. The queue and the messages in it outlive every process; its name stays until
/// it is unlinked, the queue until the last descriptor is closed as well. May be shared between threads.
pub struct ww_mq(Mq);

/// How a POSIX queue is opened or created; initialise with WW_MQ_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_mq_options {
    pub size: usize,
    /// WW_MQ_BOTH, WW_MQ_RECEIVE or WW_MQ_SEND.
    pub access: u32,
    /// Permissions of a queue that is created, set against the umask; 0 for what the address says, or else 0600.
    pub mode: u32,
    /// How many messages it holds; 0 for what the address says, or else fs.mqueue.msg_default.
    pub depth: usize,
    /// The largest message in bytes; 0 for what the address says, or else fs.mqueue.msgsize_default.
    pub message_size: usize,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_mq_options {}

/// What a POSIX queue was created with, and what is in it.
#[repr(C)]
pub struct ww_mq_attributes {
    /// How many messages it holds, and the largest in bytes.
    pub depth: usize,
    pub message_size: usize,
    /// Messages in it now.
    pub messages: usize,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 4],
}

/// The system's limits on POSIX queues; CAP_SYS_RESOURCE goes past the first three.
#[repr(C)]
pub struct ww_mq_limits {
    /// The most messages in a queue (fs.mqueue.msg_max), and the largest message in bytes (fs.mqueue.msgsize_max).
    pub depth_max: usize,
    pub message_size_max: usize,
    /// The most queues (fs.mqueue.queues_max).
    pub queues_max: usize,
    /// What a queue gets that is created without numbers.
    pub depth_default: usize,
    pub message_size_default: usize,
    /// The most bytes that all queues of this user together may take (RLIMIT_MSGQUEUE).
    pub user_bytes: u64,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 4],
}

/// # Safety
/// As of the functions that call it.
unsafe fn open_with(
    out: *mut *mut ww_mq,
    spelled: *const c_char,
    given: *const ww_mq_options,
    open: impl FnOnce(&wigwag::Address, &MqOptions) -> Result<Mq>,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        let given = options(given, "ww_mq_options")?;
        let (access, size) = (access(given.access)?, given.message_size);
        let wanted = MqOptions { access, mode: given.mode, depth: given.depth, size };
        give(out, ww_mq(open(&address(spelled)?, &wanted)?))
    })
}

/// Opens a queue that exists. Never blocks. Close it with ww_mq_close().
///
/// Errors: -ENOENT there is none; -EACCES its mode does not allow the access; -EEXIST its depth or message size is
/// another than asked for; -EMFILE, -ENFILE no descriptor is left; -EINVAL the address, or an option; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mq_open(
    out: *mut *mut ww_mq,
    address: *const c_char,
    options: *const ww_mq_options,
) -> c_int {
    // SAFETY: as above.
    unsafe { open_with(out, address, options, Mq::open) }
}

/// Creates a queue, whose name must not exist yet. Never blocks. Close it with ww_mq_close().
///
/// Errors: -EEXIST it exists; -EINVAL depth or message size is beyond what the system allows, or the address; -ENOSPC the
/// system has no room for one more queue; -EMFILE the user's queues would take more than RLIMIT_MSGQUEUE, or no
/// descriptor is left; -ENOMEM; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mq_create(
    out: *mut *mut ww_mq,
    address: *const c_char,
    options: *const ww_mq_options,
) -> c_int {
    // SAFETY: as above.
    unsafe { open_with(out, address, options, Mq::create) }
}

/// Opens a queue, or creates it if it does not exist. Never blocks. Errors and the rest: as ww_mq_open() and
/// ww_mq_create().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mq_open_or_create(
    out: *mut *mut ww_mq,
    address: *const c_char,
    options: *const ww_mq_options,
) -> c_int {
    // SAFETY: as above.
    unsafe { open_with(out, address, options, Mq::open_or_create) }
}

/// Takes over a queue's descriptor (an mqd_t) that something else has opened; its mode is left as it is. The handle uses a
/// copy of the descriptor and closes fd; after an error fd stays the caller's. Never blocks. Errors: -EBADF, -EMFILE,
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mq_from_fd(out: *mut *mut ww_mq, fd: c_int) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_mq(adopt(fd, "queue", |fd| Ok(Mq::from_fd(fd)))?))
    })
}

/// Closes the handle; threads that wait on it return -ECANCELED first. The queue stays. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mq_close(queue: *mut ww_mq) {
    // SAFETY: as above.
    unsafe { close(queue, |queue| queue.0.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mq_end_waits(queue: *const ww_mq) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(queue, "queue")?.0.end_waits();
        Ok(())
    })
}

/// Removes the name of a queue; those who have it open go on. Never blocks.
///
/// Errors: -ENOENT there is none; -EACCES it belongs to another user; -EINVAL the address; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mq_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Mq::remove(&self::address(address)?) })
}

/// Puts a message in the queue, with a priority up to WW_MQ_PRIORITY_MAX; waits while the queue is full. A message may be
/// empty.
///
/// Errors, with nothing sent: -EMSGSIZE it is larger than the queue allows; -EINVAL the priority; -EBADF the queue is
/// open for receiving only, or an adopted descriptor is no queue; -ENOMEM; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mq_send(
    queue: *const ww_mq,
    data: *const c_void,
    size: usize,
    priority: u32,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(queue, "queue")?.0.send(bytes(data, size)?, priority, timeout(timeout_ns)?) })
}

/// Takes the oldest message of the highest priority and returns how many bytes of it are in the buffer; waits while the
/// queue is empty. *priority and *true_size, each of which may be NULL, get its priority and its size.
///
/// Errors: -EMSGSIZE the buffer is smaller than the largest message that the queue allows, however large the next one is
/// (the kernel wants it so): nothing is taken, and *true_size is what the buffer must have, unless flags have WW_MQ_CUT;
/// -EBADF the queue is open for sending only, or an adopted descriptor is no queue; -EINVAL flags; -ENOMEM; -EAGAIN,
/// -ETIMEDOUT, -ECANCELED; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mq_recv(
    queue: *const ww_mq,
    flags: u32,
    buffer: *mut c_void,
    size: usize,
    timeout_ns: i64,
    priority: *mut u32,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let (queue, buffer, timeout) = (&object(queue, "queue")?.0, room(buffer, size)?, timeout(timeout_ns)?);
        let result = match flags {
            0 => queue.recv_into(buffer, timeout),
            WW_MQ_CUT => queue.recv_into_cut(buffer, timeout),
            _ => return Err(invalid("recv", "flags other than WW_MQ_CUT")),
        };
        match result {
            Ok(received) => {
                put_if_wanted(priority, received.priority);
                put_if_wanted(true_size, received.size);
                Ok(received.size.min(size))
            }
            Err(error) => {
                if error.errno() == libc::EMSGSIZE {
                    put_if_wanted(true_size, error.true_size());
                }
                Err(error)
            }
        }
    })
}

/// Tells what the queue was created with, and how many messages are in it. Never blocks. Errors: -EBADF an adopted
/// descriptor is no queue; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mq_get_attributes(queue: *const ww_mq, attributes: *mut ww_mq_attributes) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(attributes)?;
        let found = object(queue, "queue")?.0.attributes()?;
        let (depth, message_size, messages) = (found.depth, found.size, found.messages);
        put(attributes, ww_mq_attributes { depth, message_size, messages, reserved: [0; 4] }, "attributes")
    })
}

/// Tells the limits of the system (of the IPC namespace, to be exact). Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mq_get_limits(limits: *mut ww_mq_limits) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(limits)?;
        let found = Mq::limits();
        let found = ww_mq_limits {
            depth_max: found.depth_max,
            message_size_max: found.size_max,
            queues_max: found.queues_max,
            depth_default: found.depth_default,
            message_size_default: found.size_default,
            user_bytes: found.user_bytes,
            reserved: [0; 4],
        };
        put(limits, found, "limits")
    })
}

/// Has a signal with a value (si_value.sival_int) sent to this process, once, when next a message comes into the empty
/// queue while nobody receives. Each queue has place for one process at a time; the signal frees it, and so do closing any
/// handle of the queue in this process and ww_mq_cancel_notify(). Those who wait by polling, as this library does, do not
/// count as receiving: where a wait on the descriptor serves as well, it is the better way. Never blocks.
///
/// Errors: -EBUSY a process has the place, maybe this one; -EINVAL there is no such signal, or it cannot be handled;
/// -EBADF an adopted descriptor is no queue; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mq_notify(queue: *const ww_mq, signal: c_int, value: c_int) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(queue, "queue")?.0.notify(signal, value) })
}

/// Takes back what ww_mq_notify() asked for; no error if there is nothing to take back. Never blocks. Errors: -EBADF an
/// adopted descriptor is no queue; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mq_cancel_notify(queue: *const ww_mq) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(queue, "queue")?.0.cancel_notify() })
}

/// The descriptor, to poll or to pass on: readable while a message is in the queue, writable while there is room. It
/// stays the handle's. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_mq_fd(queue: *const ww_mq) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(queue, "queue")?.0.as_fd().as_raw_fd()) })
}
