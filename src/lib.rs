//! Every way two processes on a Linux host can talk, with one set of rules: every object has an address, every wait
//! has a deadline, every holding has an owner, every loss has a count.
//!
//! | to | use |
//! | --- | --- |
//! | count events | [`EventFd`] |
//! | stream bytes between relatives | [`Pipe`] |
//! | pass whole messages, by type or by priority | [`SysvMq`], [`Mq`] |
//! | pass messages through memory, to one consumer each | [`Ring`]; between two, [`RingProducer`] and [`RingConsumer`] |

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))] // no panics on any input
#![deny(unsafe_code)] // each module that needs it opts in, and argues each block

mod address;
mod cancel;
mod descriptor;
mod error;
mod eventfd;
mod mq;
mod pipe;
mod ring;
#[allow(unsafe_code)]
mod segment;
mod sync_atomics;
#[allow(unsafe_code)]
mod sys;
mod sysv;
mod timeout;
#[allow(unsafe_code)]
mod wait;

pub use address::{Address, Scheme, SysvName};
pub use cancel::{Cancel, CancelScope};
pub use error::{Error, Result};
pub use eventfd::{EVENTFD_MAX, EventFd, EventFdOptions};
pub use mq::{
    MQ_PRIORITY_MAX, Mq, MqAccess, MqAttributes, MqLimits, MqMessage, MqOptions, MqReceived, SysvMessage, SysvMq,
    SysvMqLimits, SysvMqOptions, SysvMqStatus, SysvReceived, SysvSelect,
};
pub use pipe::{PIPE_ATOMIC, Pipe, PipeOptions};

pub use ring::{
    Ring, RingBorrowed, RingConsumer, RingFull, RingOptions, RingParticipant, RingProducer, RingReceived, RingReserved,
    RingRole, RingStatistics,
};
pub use timeout::Timeout;
pub use wait::set_interrupt_hook;

/// Which way the library took where kernels differ: what for, and how. Never blocks.
pub fn paths() -> Vec<(&'static str, &'static str)> {
    vec![("write without SIGPIPE", sys::nosigpipe::path())]
}
