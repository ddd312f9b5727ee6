//! The C ABI: `libwigwag.so`, `libwigwag.a`, and, by way of `tools/header`, `include/wigwag.h`.
//!
//! One file per part of the header, in the header's order. The documentation comments of exported items are written for
//! C programmers: they become the header. Each function is the same few steps: boundary, convert, call the core, map the
//! result.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))] // no panics on any input
#![allow(non_camel_case_types)] // the types carry their C names
#![allow(missing_docs)] // some members and constants are documented as a group, as a C header does it
#![allow(clippy::missing_safety_doc)] // the header's opening says what callers promise; boundary.rs what we rely on

mod boundary;
mod calls;
mod lock;

// The order of these lines is the header's; the blank lines keep it.

pub mod common;

pub mod address;

pub mod cancel;

pub mod socket;

pub mod listener;

pub mod file;

pub mod eventfd;

pub mod pipe;

pub mod fifo;

pub mod signal;

pub mod signal_send;

pub mod signal_shutdown;

pub mod sysv_shm;

pub mod shm;

pub mod memfd;

pub mod sysv_mq;

pub mod mq;

pub mod sysv_sem;

pub mod sem;

pub mod segment;

pub mod ring;

pub mod ring_batch;

pub mod ring_consumer;

pub mod ring_producer;

pub mod cell;

pub mod topic;

pub mod topic_batch;

pub mod sync;

pub mod mutex;

pub mod permits;

pub mod event;

pub mod condition;

pub mod rwlock;

pub mod barrier;

pub mod lease;

pub mod call;

pub mod pool_task;

pub mod pool;

pub mod log;

pub mod channel_peer;

pub mod channel;

pub mod waitset;
