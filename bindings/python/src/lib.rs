//! `wigwag._wigwag`: mechanism for Python. Names, event loop glue and stubs are in `python/wigwag`.
//!
//! One file per class; `handle` and `support` have what they share. Docstrings are the documentation comments here. Classes are frozen
//! and `Sync`: the module may be used without the interpreter lock.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))] // no panics on any input
#![allow(missing_docs)] // the documentation of methods is Python's docstrings

mod address;
mod barrier;
mod blocks;
mod call;
mod cancel;
mod cell;
mod channel;
mod channel_message;
mod channel_returned;
mod condition;
mod event;
mod eventfd;
mod fifo;
mod file;
mod handle;
mod held;
mod lease;
mod listener;
mod loan;
mod log;
mod log_record;
mod mapping;
mod memfd;
mod memory;
mod mq;
mod mutex;
mod permits;
mod pipe;
mod pool;
mod ring;
mod ring_one;
mod rwlock;
mod sem;
mod shm;
mod signal;
mod signals;
mod socket;
mod subscription;
mod support;
mod sync;
mod sysv_mq;
mod sysv_sem;
mod sysv_shm;
mod topic;
mod views;
mod waitset;

use pyo3::prelude::*;

#[pymodule]
mod _wigwag {
    #[pymodule_export]
    use super::address::Address;
    #[pymodule_export]
    use super::barrier::Barrier;
    #[pymodule_export]
    use super::blocks::{Block, BlockFile};
    #[pymodule_export]
    use super::call::{Caller, Refused, Server};
    #[pymodule_export]
    use super::cancel::Cancel;
    #[pymodule_export]
    use super::cell::{Cell, CellParticipant, CellStatistics};
    #[pymodule_export]
    use super::channel::Channel;
    #[pymodule_export]
    use super::channel_message::{ChannelCapabilities, ChannelMessage, ChannelPeer, ChannelStatistics};
    #[pymodule_export]
    use super::condition::Condition;
    #[pymodule_export]
    use super::event::Event;
    #[pymodule_export]
    use super::eventfd::EventFd;
    #[pymodule_export]
    use super::fifo::Fifo;
    #[pymodule_export]
    use super::file::{File, FileLock, FileWatch};
    #[pymodule_export]
    use super::lease::{Lease, LeaseHolder, LeasePool, LeaseStatistics};
    #[pymodule_export]
    use super::listener::Listener;
    #[pymodule_export]
    use super::loan::{CellReserved, RingBorrowed, RingReserved, TopicBorrowed, TopicReserved};
    #[pymodule_export]
    use super::log::{Log, LogStatistics};
    #[pymodule_export]
    use super::mapping::Mapping;
    #[pymodule_export]
    use super::memfd::Memfd;
    #[pymodule_export]
    use super::memory::SysvShmStatus;
    #[pymodule_export]
    use super::mq::{Mq, MqAttributes, MqLimits, MqMessage};
    #[pymodule_export]
    use super::mutex::Mutex;
    #[pymodule_export]
    use super::permits::Permits;
    #[pymodule_export]
    use super::pipe::Pipe;
    #[pymodule_export]
    use super::pool::{PoolCore, WorkerSeat, die_with_parent};
    #[pymodule_export]
    use super::ring::{Ring, RingMessage, RingParticipant, RingStatistics};
    #[pymodule_export]
    use super::ring_one::{RingConsumer, RingConsumerBorrowed, RingProducer, RingProducerReserved};
    #[pymodule_export]
    use super::rwlock::RwLock;
    #[pymodule_export]
    use super::sem::Sem;
    #[pymodule_export]
    use super::shm::Shm;
    #[pymodule_export]
    use super::signal::{Signal, SignalAction, SignalInfo, SignalMask, SignalTarget, wait_signal};
    #[pymodule_export]
    use super::signals::{Shutdown, Signals};
    #[pymodule_export]
    use super::socket::Socket;
    #[pymodule_export]
    use super::subscription::{Subscription, TopicMessage};
    #[pymodule_export]
    use super::sync::SyncParticipant;
    #[pymodule_export]
    use super::sysv_mq::{SysvMessage, SysvMq, SysvMqLimits, SysvMqStatus};
    #[pymodule_export]
    use super::sysv_sem::{SysvSem, SysvSemStatus};
    #[pymodule_export]
    use super::sysv_shm::SysvShm;
    #[pymodule_export]
    use super::topic::{Topic, TopicParticipant, TopicStatistics, TopicSubscriber};
    #[pymodule_export]
    use super::waitset::{WaitSet, WaitSetEvent};

    use pyo3::prelude::*;

    /// Which way the library took where kernels differ: a dict of purpose to path.
    #[pyfunction]
    fn paths() -> std::collections::BTreeMap<&'static str, &'static str> {
        wigwag::paths().into_iter().collect()
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        super::support::install_interrupt_hook();
        super::handle::watch_forks();
        Ok(())
    }
}
