//! The atomics of everything that lives in shared memory, in one place, so that a model checker can put its own here.

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence, fence};
