//! What went wrong with a System V queue, in words: the limit that was hit, its value, and the way out.

use nix::errno::Errno;

use super::MqAccess;
use crate::error::Error;
use crate::sys::sysv_mq as sys;
use crate::wait::Object;

const REMOVED: &str = "the queue was removed; open or create it again";

/// Opening or creating.
pub(super) fn open(object: &Object, errno: Errno, access: MqAccess) -> Error {
    let error = object.error(errno, "msgget");
    match errno {
        Errno::ENOENT => error.because("no queue has this key; create it, or start the program that does"),
        Errno::EEXIST => error.because("the queue exists already; open it, or remove it first (ipcs -q lists them)"),
        Errno::EACCES => error.because_found(format!(
            "the mode of the queue does not let this user {}; its owner can change that (ipcs -q -p shows who)",
            access.verb()
        )),
        Errno::ENOSPC => match (sys::usage(), sys::limits()) {
            (Ok(usage), Ok(limits)) => error.because_found(format!(
                "{} of kernel.msgmni={} queues exist; remove one (ipcs -q lists them, ipcrm -q ID removes) or raise the limit with sysctl",
                usage.msgpool, limits.msgmni
            )),
            _ => error.because("as many queues exist as kernel.msgmni allows; remove one or raise the limit"),
        },
        Errno::EINVAL => error.because("a private queue has no name to remove it by; adopt its id and remove that"),
        Errno::ENOSYS => error.because("this kernel is built without System V IPC (CONFIG_SYSVIPC)"),
        _ => error,
    }
}

/// A queue that exists, but may hold another number of bytes than asked for.
pub(super) fn other_size(object: &Object, found: usize, asked: usize) -> Error {
    object.error(Errno::EEXIST, "msgget").because_found(format!(
        "the queue exists and may hold {found} bytes, not the {asked} asked for; open it without a number and resize it, or remove it first"
    ))
}

/// Whatever is done with an id: `verb` is what the mode of the queue may not allow.
#[cold]
pub(super) fn call(error: Error, verb: &str) -> Error {
    match Errno::from_raw(error.errno()) {
        // The kernel says EINVAL for an id that is gone, and EIDRM if it was in use again or somebody was waiting.
        Errno::EINVAL | Errno::EIDRM => removed(&error),
        Errno::EACCES => error
            .because_found(format!("the mode of the queue does not let this user {verb}; its owner can change that")),
        _ => error,
    }
}

fn removed(error: &Error) -> Error {
    with_errno(error, Errno::EIDRM).because(REMOVED)
}

/// The same operation on the same object, with an errno that says it better.
fn with_errno(error: &Error, errno: Errno) -> Error {
    let other = Error::new(errno, error.operation());
    match error.object() {
        Some(object) => other.on_text(object),
        None => other,
    }
}

/// Sending `size` bytes.
#[cold]
pub(super) fn send(error: Error, id: i32, size: usize) -> Error {
    match Errno::from_raw(error.errno()) {
        Errno::EINVAL if exceeds_message_max(size) => too_large(error, id, size),
        Errno::EMSGSIZE => too_large(error, id, size),
        Errno::ENOMEM => error.because("the kernel has no memory for the message; receive some, or send it later"),
        _ => call(error, "send"),
    }
}

/// Whether no queue takes a message of this size.
#[cold]
pub(super) fn exceeds_message_max(size: usize) -> bool {
    sys::limits().is_ok_and(|limits| usize::try_from(limits.msgmax).is_ok_and(|most| size > most))
}

/// Whether this queue does not take a message of this size even when it is empty.
#[cold]
pub(super) fn exceeds_queue(id: i32, size: usize) -> bool {
    capacity(id).is_some_and(|most| size > most)
}

fn capacity(id: i32) -> Option<usize> {
    sys::status(id).ok()?.msg_qbytes.try_into().ok()
}

/// A message that cannot be sent, whichever of the two limits it breaks.
#[cold]
pub(super) fn too_large(error: Error, id: i32, size: usize) -> Error {
    let error = with_errno(&error, Errno::EMSGSIZE).with_true_size(size);
    let Ok(limits) = sys::limits() else { return error };
    if usize::try_from(limits.msgmax).is_ok_and(|most| size > most) {
        error.because_found(format!(
            "the message has {size} bytes, kernel.msgmax={} allows no more; send it in parts, or raise the limit with sysctl",
            limits.msgmax
        ))
    } else {
        error.because_found(format!(
            "the message has {size} bytes, the queue holds at most msg_qbytes={}; send it in parts, or resize the queue (up to kernel.msgmnb={} without privilege)",
            capacity(id).unwrap_or_default(),
            limits.msgmnb
        ))
    }
}

/// A message that does not fit the buffer of the receiver.
#[cold]
pub(super) fn buffer(error: Error, room: usize, size: usize) -> Error {
    let error = error.with_true_size(size);
    match size {
        0 => error.because_found(format!("the message does not fit the buffer of {room} bytes; it stays in the queue")),
        size => error.because_found(format!(
            "the message has {size} bytes, the buffer {room}; it stays in the queue: receive with more room, or have it cut"
        )),
    }
}

/// Looking at a message.
#[cold]
pub(super) fn peek(object: &Object, errno: Errno, id: i32) -> Error {
    let error = |errno| object.error(errno, "peek");
    match errno {
        Errno::ENOMSG => error(Errno::EAGAIN).because("no message is at this place in the queue"),
        Errno::ENOSYS => error(Errno::ENOTSUP).because(
            "this kernel is built without CONFIG_CHECKPOINT_RESTORE, which looking at messages takes; receive instead",
        ),
        Errno::EINVAL if sys::status(id).is_ok() => error(Errno::EMSGSIZE)
            .because("the message is larger than kernel.msgmax has become since; the kernel lets it be received only"),
        _ => call(error(errno), "receive"),
    }
}

/// Changing how many bytes the queue may hold.
#[cold]
pub(super) fn resize(object: &Object, errno: Errno, bytes: usize) -> Error {
    let error = object.error(errno, "resize");
    match errno {
        Errno::EPERM => match sys::limits() {
            Ok(limits) if usize::try_from(limits.msgmnb).is_ok_and(|most| bytes > most) => error.because_found(format!(
                "{bytes} bytes are more than kernel.msgmnb={}, which takes CAP_SYS_RESOURCE; ask for less, or raise the limit with sysctl",
                limits.msgmnb
            )),
            _ => error.because("only the owner of the queue can resize it"),
        },
        Errno::EINVAL if bytes == 0 => error.because("a queue that may hold no bytes is of no use; ask for at least one"),
        _ => call(error, "look at it"),
    }
}

/// Removing the queue.
#[cold]
pub(super) fn remove(object: &Object, errno: Errno, id: i32) -> Error {
    let error = object.error(errno, "remove");
    match errno {
        Errno::EPERM => match sys::status(id) {
            Ok(status) => error.because_found(format!(
                "the queue belongs to uid {}; only its owner or creator can remove it",
                status.msg_perm.uid
            )),
            Err(_) => error.because("only its owner or creator can remove the queue"),
        },
        _ => call(error, "remove it"),
    }
}
