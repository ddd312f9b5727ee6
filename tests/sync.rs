//! Locks and the like between threads and processes, at their edges.

#[path = "support/mod.rs"]
mod support;

#[path = "sync/barrier.rs"]
mod barrier;
#[path = "sync/condition.rs"]
mod condition;
#[path = "sync/event.rs"]
mod event;
#[path = "sync/mutex.rs"]
mod mutex;
#[path = "sync/permits.rs"]
mod permits;
#[path = "sync/placed.rs"]
mod placed;
#[path = "sync/rwlock.rs"]
mod rwlock;

/// A word that children made by fork share; for the rest of the test process.
pub(crate) fn shared_counter() -> &'static std::sync::atomic::AtomicU64 {
    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
    let size = 4096.try_into().unwrap();
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a fresh mapping, never unmapped, aligned and zeroed; used as an atomic only.
    unsafe { mmap_anonymous(None, size, protection, MapFlags::MAP_SHARED).unwrap().cast().as_ref() }
}
