//! System V message queue.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::AsRawFd;

use libc::ssize_t;
use wigwag::{MqAccess, Result, SysvMq, SysvMqOptions, SysvReceived, SysvSelect};

use crate::boundary::{
    Options, address, bytes, call, close, expect_out, give, invalid, object, options, put, put_if_wanted, room, timeout,
};

/// What a message queue of either kind is opened for.
pub const WW_MQ_BOTH: u32 = 0;
pub const WW_MQ_RECEIVE: u32 = 1;
pub const WW_MQ_SEND: u32 = 2;

/// With ww_sysv_mq_recv() and ww_mq_recv(): take a message that is too large for the buffer all the same, and drop the
/// rest.
pub const WW_MQ_CUT: u32 = 1;
/// With ww_sysv_mq_recv() and ww_sysv_mq_doorbell(): any type but the one given.
pub const WW_SYSV_MQ_ALL_BUT: u32 = 2;

/// A System V message queue (sysv-mq:path#65, sysv-mq:0xKEY, sysv-mq:private): messages with a type each, picked by
/// type.
///
/// A message is taken whole by one receiver. The queue and the messages in it outlive every process until somebody
/// removes the queue; closing a handle leaves it as it is. It has no descriptor but what ww_sysv_mq_doorbell() makes.
/// May be shared between threads.
pub struct ww_sysv_mq(SysvMq);

/// How a System V queue is opened or created; initialise with WW_SYSV_MQ_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_sysv_mq_options {
    pub size: usize,
    /// WW_MQ_BOTH, WW_MQ_RECEIVE or WW_MQ_SEND.
    pub access: u32,
    /// Permissions of a queue that is created (the umask has no say); 0 for what the address says, or else 0600.
    pub mode: u32,
    /// The most bytes that all its messages together may have; 0 for what the address says, or else kernel.msgmnb.
    pub bytes: usize,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_sysv_mq_options {}

/// What the kernel knows about a System V queue.
#[repr(C)]
pub struct ww_sysv_mq_status {
    /// Messages in it.
    pub messages: usize,
    /// Bytes in them.
    pub bytes: usize,
    /// The most bytes that it may hold.
    pub bytes_max: usize,
    /// The processes that sent and received last; 0 for none.
    pub last_sender: libc::pid_t,
    pub last_receiver: libc::pid_t,
    /// Seconds of the wall clock: last sent, last received (0 for never), created or resized.
    pub sent_at: i64,
    pub received_at: i64,
    pub changed_at: i64,
    /// Its key, 0 if it is private; permissions; owner.
    pub key: i32,
    pub mode: u32,
    pub uid: libc::uid_t,
    pub gid: libc::gid_t,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 4],
}

/// The system's limits on System V queues, and what is in use.
#[repr(C)]
pub struct ww_sysv_mq_limits {
    /// The largest message (kernel.msgmax), and the most bytes in a queue (kernel.msgmnb).
    pub message_max: usize,
    pub bytes_max: usize,
    /// The most queues (kernel.msgmni).
    pub queues_max: usize,
    /// Queues that exist, messages in all of them, and bytes in those.
    pub queues: usize,
    pub messages: usize,
    pub bytes: usize,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 4],
}

pub(crate) fn access(number: u32) -> Result<MqAccess> {
    match number {
        WW_MQ_BOTH => Ok(MqAccess::Both),
        WW_MQ_RECEIVE => Ok(MqAccess::Receive),
        WW_MQ_SEND => Ok(MqAccess::Send),
        _ => Err(invalid("access", "expected WW_MQ_BOTH, WW_MQ_RECEIVE or WW_MQ_SEND")),
    }
}

/// # Safety
/// As of the functions that call it.
unsafe fn open_with(
    out: *mut *mut ww_sysv_mq,
    spelled: *const c_char,
    given: *const ww_sysv_mq_options,
    open: impl FnOnce(&wigwag::Address, &SysvMqOptions) -> Result<SysvMq>,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        let given = options(given, "ww_sysv_mq_options")?;
        let wanted = SysvMqOptions { access: access(given.access)?, mode: given.mode, bytes: given.bytes };
        give(out, ww_sysv_mq(open(&address(spelled)?, &wanted)?))
    })
}

/// Opens a queue that exists. Never blocks, but for the 0.1 s below. Close it with ww_sysv_mq_close().
///
/// Errors: -ENOENT there is none, or the file that its key is derived from does not exist; -EACCES its mode does not
/// allow the access; -EEXIST it may hold another number of bytes than asked for (looked at for up to 0.1 s if it has
/// just been created); -EINVAL the address, or an option; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_mq_open(
    out: *mut *mut ww_sysv_mq,
    address: *const c_char,
    options: *const ww_sysv_mq_options,
) -> c_int {
    // SAFETY: as above.
    unsafe { open_with(out, address, options, SysvMq::open) }
}

/// Creates a queue, which must not exist yet; sysv-mq:private is another one each time. Never blocks. Close it with
/// ww_sysv_mq_close().
///
/// Errors: -EEXIST it exists; -ENOSPC the system has no room for one more queue; -EPERM it may not hold that many bytes;
/// -ENOENT the file that its key is derived from does not exist; -EINVAL the address, or an option; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_mq_create(
    out: *mut *mut ww_sysv_mq,
    address: *const c_char,
    options: *const ww_sysv_mq_options,
) -> c_int {
    // SAFETY: as above.
    unsafe { open_with(out, address, options, SysvMq::create) }
}

/// Opens a queue, or creates it if it does not exist. Blocking, errors and the rest: as ww_sysv_mq_open() and
/// ww_sysv_mq_create().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_mq_open_or_create(
    out: *mut *mut ww_sysv_mq,
    address: *const c_char,
    options: *const ww_sysv_mq_options,
) -> c_int {
    // SAFETY: as above.
    unsafe { open_with(out, address, options, SysvMq::open_or_create) }
}

/// Takes over a queue by its id, as another process has passed it on. Never blocks. Close it with ww_sysv_mq_close().
///
/// Errors: -EIDRM there is no queue with this id (any more); -EACCES its mode does not let this user read it; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_mq_from_id(out: *mut *mut ww_sysv_mq, id: c_int) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_sysv_mq(SysvMq::from_id(id)?))
    })
}

/// Closes the handle; threads of this process that wait on it return -ECANCELED first. The queue stays. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_mq_close(queue: *mut ww_sysv_mq) {
    // SAFETY: as above.
    unsafe { close(queue, |queue| queue.0.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_mq_end_waits(queue: *const ww_sysv_mq) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(queue, "queue")?.0.end_waits();
        Ok(())
    })
}

/// Puts a message in the queue, with a type of 1 or more; waits while the queue is full. A message may be empty.
///
/// Errors, with nothing sent: -EMSGSIZE it is larger than the system or the queue allows, however long one waits; -EINVAL
/// the type is below 1; -EIDRM the queue was removed; -EACCES its mode does not let this user send; -ENOMEM; -EAGAIN,
/// -ETIMEDOUT, -ECANCELED; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_mq_send(
    queue: *const ww_sysv_mq,
    r#type: i64,
    data: *const c_void,
    size: usize,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(queue, "queue")?.0.send(bytes(data, size)?, r#type, timeout(timeout_ns)?) })
}

fn selection(select: i64, flags: u32) -> Result<SysvSelect> {
    match (select, flags & WW_SYSV_MQ_ALL_BUT != 0) {
        _ if flags & !(WW_SYSV_MQ_ALL_BUT | WW_MQ_CUT) != 0 => {
            Err(invalid("recv", "flags other than WW_SYSV_MQ_ALL_BUT and WW_MQ_CUT"))
        }
        (number, true) => Ok(SysvSelect::AllBut(number)),
        (0, false) => Ok(SysvSelect::Any),
        (1.., false) => Ok(SysvSelect::Type(select)),
        (_, false) => Ok(SysvSelect::UpTo(select.checked_neg().unwrap_or(i64::MAX))),
    }
}

/// Writes what is known of a message that was received, or did not fit; gives how many bytes are in the buffer.
///
/// # Safety
/// The outputs are NULL or may be written to.
unsafe fn received(
    result: Result<SysvReceived>,
    size: usize,
    r#type: *mut i64,
    true_size: *mut usize,
) -> Result<usize> {
    // SAFETY: as the caller promises.
    unsafe {
        match result {
            Ok(received) => {
                put_if_wanted(r#type, received.kind);
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
    }
}

/// Takes a message out of the queue and returns how many bytes of it are in the buffer; waits until there is one that
/// select picks: 0 the oldest; a type the oldest of that type, or with WW_SYSV_MQ_ALL_BUT of any other; a negative
/// number the oldest of the lowest type there is, if that is not above its absolute value.
///
/// *type and *true_size, each of which may be NULL, get its type and its size; *true_size also with -EMSGSIZE.
///
/// Errors: -EMSGSIZE it is larger than the buffer: it stays in the queue, unless flags have WW_MQ_CUT (a *true_size
/// of 0: the kernel does not tell); -EIDRM the queue was removed; -EACCES its mode does not let this user receive;
/// -EINVAL select, or flags; -ENOMEM; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_mq_recv(
    queue: *const ww_sysv_mq,
    select: i64,
    flags: u32,
    buffer: *mut c_void,
    size: usize,
    timeout_ns: i64,
    r#type: *mut i64,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let (queue, buffer) = (&object(queue, "queue")?.0, room(buffer, size)?);
        let (select, timeout) = (selection(select, flags)?, timeout(timeout_ns)?);
        let result = if flags & WW_MQ_CUT != 0 {
            queue.recv_into_cut(select, buffer, timeout)
        } else {
            queue.recv_into(select, buffer, timeout)
        };
        received(result, size, r#type, true_size)
    })
}

/// Copies the message at a place in the queue, 0 for the oldest, and leaves it there; returns its size. Never blocks.
/// *type and *true_size as ww_sysv_mq_recv().
///
/// Errors: -EAGAIN there is no message at this place; -EMSGSIZE it is larger than the buffer; -ENOTSUP the kernel is built
/// without it (CONFIG_CHECKPOINT_RESTORE); -EIDRM, -EACCES; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_mq_peek(
    queue: *const ww_sysv_mq,
    place: usize,
    buffer: *mut c_void,
    size: usize,
    r#type: *mut i64,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let seen = object(queue, "queue")?.0.peek_into(place, room(buffer, size)?);
        received(seen, size, r#type, true_size)
    })
}

/// Tells what the kernel knows about the queue. Never blocks.
///
/// Errors: -EIDRM it was removed; -EACCES its mode does not let this user read it; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_mq_get_status(queue: *const ww_sysv_mq, status: *mut ww_sysv_mq_status) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(status)?;
        let found = object(queue, "queue")?.0.status()?;
        let found = ww_sysv_mq_status {
            messages: found.messages,
            bytes: found.bytes,
            bytes_max: found.bytes_max,
            last_sender: found.last_sender,
            last_receiver: found.last_receiver,
            sent_at: found.sent_at,
            received_at: found.received_at,
            changed_at: found.changed_at,
            key: found.key,
            mode: found.mode,
            uid: found.uid,
            gid: found.gid,
            reserved: [0; 4],
        };
        put(status, found, "status")
    })
}

/// Tells the limits of the system (of the IPC namespace, to be exact). Never blocks. Errors: -ENOSYS the kernel is built
/// without System V IPC; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_mq_get_limits(limits: *mut ww_sysv_mq_limits) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(limits)?;
        let found = SysvMq::limits()?;
        let found = ww_sysv_mq_limits {
            message_max: found.message_max,
            bytes_max: found.bytes_max,
            queues_max: found.queues_max,
            queues: found.queues,
            messages: found.messages,
            bytes: found.bytes,
            reserved: [0; 4],
        };
        put(limits, found, "limits")
    })
}

/// Changes how many bytes the messages in the queue may have together; those in it stay. Never blocks.
///
/// Errors: -EPERM it belongs to another user, or bytes is above kernel.msgmnb; -EINVAL bytes is 0; -EIDRM; -EACCES;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_mq_resize(queue: *const ww_sysv_mq, bytes: usize) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(queue, "queue")?.0.resize(bytes) })
}

/// Removes the queue with all messages in it; waits on it, in every process, end with -EIDRM. The handle is still to be
/// closed. Never blocks.
///
/// Errors: -EIDRM it was removed before; -EPERM it belongs to another user; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_mq_unlink(queue: *const ww_sysv_mq) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(queue, "queue")?.0.unlink() })
}

/// Removes a queue by its address, as ww_sysv_mq_unlink(). Never blocks.
///
/// Errors: -ENOENT there is none; -EPERM it belongs to another user; -EINVAL the address; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_mq_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { SysvMq::remove(&self::address(address)?) })
}

/// A descriptor that is readable when there may be a message that select and flags pick, as for ww_sysv_mq_recv(): to poll,
/// or for ww_waitset_add_fd(). It hears senders that know nothing of this library. It stays the handle's. Never blocks.
///
/// It stays readable until ww_sysv_mq_recv() with the same select gives -EAGAIN, so receive until then; it may be readable
/// for nothing when another process was faster. A child made by fork asks again and gets one of its own. The cost, from
/// the first call on: a helper thread that sleeps in the kernel, a descriptor, and for each message that finds the queue
/// empty two switches of context and a few system calls. A message without bytes that comes while the helper waits is taken
/// by it and sent again at once: another one that is sent in that instant goes before it, and killing this process in that
/// instant loses it; ww_sysv_mq_handed_back() counts them. With a select other than 0 also one that lies in the queue
/// already is moved to its end.
///
/// Errors: -EACCES its mode does not let this user receive, or send, which handing back takes; -EINVAL select, or flags;
/// -EIDRM the queue was removed; -ENOMEM no helper thread can be had; -EMFILE, -ENFILE no descriptor is left; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_mq_doorbell(queue: *const ww_sysv_mq, select: i64, flags: u32) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(queue, "queue")?.0.doorbell(selection(select, flags)?)?.as_raw_fd()) })
}

/// How many messages without bytes the helpers of ww_sysv_mq_doorbell() have taken and put back. Never blocks.
/// Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_mq_handed_back(queue: *const ww_sysv_mq) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(queue, "queue")?.0.handed_back()) })
}

/// The kernel's number of the queue, by which other processes can adopt it. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_mq_id(queue: *const ww_sysv_mq) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(queue, "queue")?.0.id()) })
}
