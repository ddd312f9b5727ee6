//! The system's limits on POSIX message queues, and the texts that quote them.

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::resource::{Resource, getrlimit};

use super::MqAccess;
use crate::error::Error;
use crate::limits::{self, explain_descriptors};
use crate::sys::mq::Shape;
use crate::wait::Object;

/// The limits of the system (of the IPC namespace, to be exact) on POSIX queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MqLimits {
    /// The most messages that a queue may hold (fs.mqueue.msg_max); CAP_SYS_RESOURCE goes past it.
    pub depth_max: usize,
    /// The largest message that a queue may allow, in bytes (fs.mqueue.msgsize_max); CAP_SYS_RESOURCE goes past it.
    pub size_max: usize,
    /// How many messages a queue holds that is created without a number (fs.mqueue.msg_default).
    pub depth_default: usize,
    /// The largest message in bytes of a queue that is created without a number (fs.mqueue.msgsize_default).
    pub size_default: usize,
    /// The most queues (fs.mqueue.queues_max); CAP_SYS_RESOURCE goes past it.
    pub queues_max: usize,
    /// The most bytes that all queues of this user together may take (RLIMIT_MSGQUEUE).
    pub user_bytes: u64,
}

impl MqLimits {
    /// Reads them. Never blocks. Where /proc is not there, they are the kernel's own defaults.
    pub(super) fn read() -> MqLimits {
        let setting = |name: &str, default| limits::setting(&format!("fs/mqueue/{name}")).parse().unwrap_or(default);
        let (depth_max, size_max) = (setting("msg_max", 10), setting("msgsize_max", 8192));
        MqLimits {
            depth_max,
            size_max,
            // The kernel takes the lower of the two as well.
            depth_default: setting("msg_default", 10).min(depth_max),
            size_default: setting("msgsize_default", 8192).min(size_max),
            queues_max: setting("queues_max", 256),
            user_bytes: getrlimit(Resource::RLIMIT_MSGQUEUE).map_or(0, |(soft, _)| soft),
        }
    }
}

/// What a queue takes of RLIMIT_MSGQUEUE, as mq_overview(7) has it, with the sizes of a 64-bit kernel.
fn charge(shape: Shape) -> i128 {
    let (depth, size) = (i128::from(shape.depth), i128::from(shape.size));
    let (head, node) = (48, 48);
    depth * (head + size) + depth.min(32768) * node
}

/// Opening or creating; `shape` is what a queue was to be created with.
#[cold]
pub(super) fn explain_open(object: &Object, errno: Errno, access: MqAccess, shape: Shape) -> Error {
    let error = object.error(errno, "mq_open");
    let Shape { depth, size } = shape;
    match errno {
        Errno::ENOENT => error.because("no queue has this name; create it, or start the program that does"),
        Errno::EEXIST => error.because("the queue exists already; open it, or unlink it first"),
        Errno::EACCES => error.because_found(format!(
            "the mode of the queue does not let this user {}; its owner can change that",
            access.verb()
        )),
        Errno::EINVAL => {
            let limits = MqLimits::read();
            error.because_found(format!(
                "a queue of {depth} messages of {size} bytes is beyond the limits fs.mqueue.msg_max={} and fs.mqueue.msgsize_max={}; ask for less, or raise them with sysctl",
                limits.depth_max, limits.size_max
            ))
        }
        Errno::EOVERFLOW => error.because_found(format!("a queue of {depth} messages of {size} bytes is absurdly large")),
        Errno::ENOSPC => error.because_found(format!(
            "fs.mqueue.queues_max={} queues exist; unlink one (ls /dev/mqueue, where it is mounted) or raise the limit with sysctl",
            MqLimits::read().queues_max
        )),
        Errno::EMFILE if descriptors_are_left() => error.because_found(format!(
            "a queue of {depth} messages of {size} bytes takes {} bytes, and all queues of this user together may take RLIMIT_MSGQUEUE={}; unlink one, ask for less, or raise the limit (ulimit -q)",
            charge(shape),
            MqLimits::read().user_bytes
        )),
        Errno::ENOSYS => error.because("this kernel is built without POSIX message queues (CONFIG_POSIX_MQUEUE)"),
        _ => explain_descriptors(error),
    }
}

/// The kernel says EMFILE for two limits; another descriptor tells which.
fn descriptors_are_left() -> bool {
    EventFd::from_flags(EfdFlags::EFD_CLOEXEC).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_there() {
        let limits = MqLimits::read();
        assert!(limits.depth_max >= limits.depth_default && limits.depth_default >= 1);
        assert!(limits.size_max >= limits.size_default && limits.size_default >= 1);
        assert!(limits.queues_max >= 1);
    }

    #[test]
    fn charge_of_a_default_queue() {
        assert_eq!(charge(Shape { depth: 10, size: 8192 }), 82_880);
    }
}
