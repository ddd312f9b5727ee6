//! Semaphores: a number of permits that processes take and give back, and wait for when none is left.
//!
//! [`Sem`] is the POSIX one: a single counter, and no system call while nobody has to wait. [`SysvSem`] is System V's:
//! a set of counters that can be changed together, with the kernel giving back what a dead process held.

mod posix;
mod sysv;
mod sysv_bell;
mod sysv_guard;
mod sysv_make;
mod sysv_text;

pub use posix::{SEM_VALUE_MAX, Sem, SemGuard, SemOptions};
pub use sysv::{SemOp, SysvSem, SysvSemOptions, SysvSemStatus};
pub use sysv_guard::SysvSemGuard;
