//! Message queues (`sysv-mq:path#65`, `mq:/name`): the kernel keeps whole messages until somebody takes them, also when
//! the sender is gone by then.
//!
//! System V queues pick messages by type; POSIX queues hand out the highest priority first and have a descriptor that
//! can be polled. Both outlive all processes until they are removed or the machine restarts.

mod limits;
mod posix;
mod scratch;
mod sysv;
mod sysv_bell;
mod sysv_errors;
mod sysv_plan;

pub use limits::MqLimits;
pub use posix::{MQ_PRIORITY_MAX, Mq, MqAttributes, MqMessage, MqOptions, MqReceived};
pub use sysv::{SysvMessage, SysvMq, SysvMqLimits, SysvMqOptions, SysvMqStatus, SysvReceived, SysvSelect};

/// What a queue is opened for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MqAccess {
    /// Sending and receiving.
    #[default]
    Both,
    /// Receiving only, for which read permission is enough.
    Receive,
    /// Sending only, for which write permission is enough.
    Send,
}

impl MqAccess {
    /// The permission that it takes, in the owner's place of a mode.
    fn permission(self) -> u32 {
        match self {
            MqAccess::Both => 0o600,
            MqAccess::Receive => 0o400,
            MqAccess::Send => 0o200,
        }
    }

    fn verb(self) -> &'static str {
        match self {
            MqAccess::Both => "send and receive",
            MqAccess::Receive => "receive",
            MqAccess::Send => "send",
        }
    }
}

/// How often opening is tried while others create and remove the queue in between.
const ROUNDS: usize = 100;

/// Permissions for those who ask for none in particular.
const PRIVATE: u32 = 0o600;

/// As much of a message as fits.
fn copy(message: &[u8], buffer: &mut [u8]) {
    let size = message.len().min(buffer.len());
    if let (Some(to), Some(from)) = (buffer.get_mut(..size), message.get(..size)) {
        to.copy_from_slice(from);
    }
}
