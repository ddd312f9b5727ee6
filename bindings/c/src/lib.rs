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

pub mod common;

pub mod address;
pub mod cancel;

pub mod socket;

// Behind socket, whose handles it gives: the blank lines keep the order.
pub mod listener;

pub mod eventfd;
pub mod fifo;
pub mod file;
pub mod pipe;
pub mod signal;
pub mod sysv_mq;
// Behind the other kind of queue, whose constants it shares.
pub mod mq;
pub mod sem;
pub mod sysv_sem;

pub mod sysv_shm;

pub mod memfd;
pub mod shm;
pub mod waitset;
