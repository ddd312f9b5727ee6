//! Every way two processes on a Linux host can talk, with one set of rules: every object has an address, every wait
//! has a deadline, every holding has an owner, every loss has a count.
//!
//! | to | use |
//! | --- | --- |
//! | talk over the network, or to another process with descriptors and credentials | [`Socket`], [`Listener`] |
//! | count events | [`EventFd`] |
//! | stream bytes between relatives | [`Pipe`] |
//! | stream bytes between strangers | [`Fifo`] |
//! | leave data on the disk, lock it, wait for it | [`File`], [`FileWatch`] |
//! | pass whole messages, by type or by priority | [`SysvMq`], [`Mq`] |
//! | let so many in at a time | [`Sem`], [`SysvSem`] |
//! | share memory | [`SysvShm`], [`Shm`], [`Memfd`], [`Mapping`] |
//! | tell a process something, with no object between | [`Signals`], [`Signal::send`], [`SignalTarget`], [`Shutdown`] |
//! | pass messages through memory, to one consumer each | [`Ring`]; between two, [`RingProducer`] and [`RingConsumer`] |
//! | share the latest value, and nothing but the latest | [`Cell`] |
//! | pass each message to everybody who listens | [`Topic`], [`Subscription`] |
//! | keep others out, or let many read | [`Mutex`], [`RwLock`] |
//! | wait under a mutex for a change, for something to happen, for each other | [`Condition`], [`Event`], [`Barrier`] |
//! | hand out a number of permits that come back when their holder dies | [`Permits`] |
//! | share connections, licences and the like between all processes of the host | [`LeasePool`], [`Lease`] |
//! | log into one file from all processes | [`Log`] |
//! | wait for any of many | [`WaitSet`] |
//! | await any of them under tokio | `wigwag::tokio`, with the feature `tokio` |

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))] // no panics on any input
#![deny(unsafe_code)] // each module that needs it opts in, and argues each block

mod address;
mod cancel;
mod cell;
mod channel;
mod descriptor;
#[allow(unsafe_code)]
mod doorbell;
mod error;
mod eventfd;
mod file;
mod lease;
mod lender;
mod limits;
mod log;
#[cfg(loom)]
#[doc(hidden)]
#[allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // for tests only
pub mod modelled;
mod mq;
mod paths;
mod pipe;
mod pool;
mod ring;
#[allow(unsafe_code)]
mod segment;
mod sem;
mod shm;
mod signal;
mod socket;
mod sync;
mod sync_atomics;
#[allow(unsafe_code)]
mod sys;
mod sysv;
mod timeout;
#[cfg(feature = "tokio")]
pub mod tokio;
mod topic;
mod typed;
#[allow(unsafe_code)]
mod wait;
mod waitset;

#[cfg(feature = "tracing")]
pub use crate::log::LogLayer;
pub use address::{Address, Scheme, SysvName};
pub use cancel::{Cancel, CancelScope};
pub use cell::{Cell, CellOptions, CellParticipant, CellRead, CellReserved, CellStatistics};
pub use channel::{
    Caller, Capabilities, Channel, ChannelDurability, ChannelMessage, ChannelPeer, ChannelReceived, ChannelStatistics,
    Question, Server,
};
pub use error::{Error, Result};
pub use eventfd::{EVENTFD_MAX, EventFd, EventFdOptions};
pub use file::{
    Durability, File, FileAccess, FileCreate, FileEvents, FileLock, FileOptions, FileRange, FileWatch, LockMode,
    ReplaceOptions,
};
pub use lease::{
    LEASE_INFORMATION_MAX, Lease, LeaseGroup, LeaseGroupStatistics, LeaseHolder, LeaseOptions, LeasePool, LeaseRequest,
    LeaseStatistics,
};
pub use log::{
    Log, LogFormat, LogFull, LogLevel, LogOptions, LogOrigin, LogRecord, LogStatistics, LogSync, LogThrough, LogValue,
    LogWriter,
};
pub use mq::{
    MQ_PRIORITY_MAX, Mq, MqAccess, MqAttributes, MqLimits, MqMessage, MqOptions, MqReceived, SysvMessage, SysvMq,
    SysvMqLimits, SysvMqOptions, SysvMqStatus, SysvReceived, SysvSelect,
};
pub use pipe::{Fifo, FifoOptions, PIPE_ATOMIC, Pipe, PipeOptions};
pub use pool::{
    Death, DeathReason, Handler, HandlerResult, Pool, PoolLauncher, PoolOptions, PoolStatistics, PoolTask, TaskOptions,
    Verdict, WorkerSeat, WorkerStatistics, WorkerTask,
};
pub use ring::{
    Ring, RingBorrowed, RingConsumer, RingConsumerBorrowed, RingFull, RingOptions, RingParticipant, RingProducer,
    RingProducerReserved, RingReceived, RingReserved, RingRole, RingStatistics, RingWaits,
};
pub use segment::WaitMode;
pub use sem::{SEM_VALUE_MAX, Sem, SemGuard, SemOp, SemOptions, SysvSem, SysvSemGuard, SysvSemOptions, SysvSemStatus};
pub use shm::{Access, MapOptions, Mapping, Memfd, MemoryOptions, Seals, Shm, SysvShm, SysvShmStatus};
pub use signal::{
    DefaultAction, RawHandler, RawSubscription, Shutdown, ShutdownOptions, Signal, SignalAction, SignalInfo,
    SignalMask, SignalTarget, Signals, SignalsOptions, wait_signal,
};
pub use socket::{
    Credentials, KeepAlive, Listener, ReceivedDescriptors, ShutdownSide, Socket, SocketAddress, SocketOptions,
};
pub use sync::{
    Barrier, BarrierOptions, BarrierStatistics, Condition, ConditionOptions, ConditionStatistics, Event, EventOptions,
    EventStatistics, Locked, Mutex, MutexGuard, MutexOptions, MutexState, MutexStatistics, Permits, PermitsGuard,
    PermitsOptions, PermitsStatistics, RwLock, RwLockOptions, RwLockReadGuard, RwLockStatistics, RwLockWriteGuard,
    SyncParticipant, Waited,
};
pub use sys::fork::generation as fork_generation;
pub use timeout::Timeout;
pub use topic::{
    SubscribeOptions, Subscription, Topic, TopicBorrowed, TopicOptions, TopicParticipant, TopicReceived, TopicReserved,
    TopicStatistics, TopicSubscriber,
};
pub use typed::{Typed, TypedBorrowed, TypedReserved};
pub use wait::set_interrupt_hook;
pub use waitset::{Interest, Readiness, WAITSET_BATCH, WaitSet, WaitSetEvent};

/// Which way the library took where kernels differ: what for, and how. Never blocks.
pub fn paths() -> Vec<(&'static str, &'static str)> {
    vec![
        ("write without SIGPIPE", sys::nosigpipe::path()),
        ("signal to a process for certain", sys::signal_send::path()),
        ("end of a child", sys::pidfd::path()),
        ("end of a wait", sys::taken::END_OF_WAITS.path()),
        ("all pages present", sys::taken::POPULATE.path()),
        ("name of POSIX shared memory", sys::taken::SHM_NAME.path()),
        ("new content of a file", sys::taken::NEW_CONTENT.path()),
    ]
}

/// The README's example runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
