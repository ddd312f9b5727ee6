//! The atomics of everything that lives in shared memory, in one place, so that a model checker can put its own here.

#[cfg(loom)]
pub(crate) use crate::modelled::{AtomicU32, AtomicU64, compiler_fence, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, compiler_fence, fence};

pub(crate) use std::sync::atomic::Ordering;
