//! Shared memory of every kind, between processes.

#[path = "../support/mod.rs"]
mod support;

mod confined;
mod memfd;
mod posix;
mod sysv;

use std::sync::atomic::{AtomicU32, Ordering};

use wigwag::{Address, MemoryOptions};

fn sized(size: usize) -> MemoryOptions {
    MemoryOptions { size, ..Default::default() }
}

/// The address of a System V segment with a key that no other test uses.
fn fresh_key() -> Address {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let key = 0x7000_0000 | (std::process::id() & 0xF_FFFF) << 8 | COUNT.fetch_add(1, Ordering::Relaxed);
    format!("sysv-shm:{key:#x}").parse().unwrap()
}

fn fresh_name() -> Address {
    format!("shm:/{}", support::fresh("shm")).parse().unwrap()
}

/// In a forked child: gives up root, if it has it.
fn become_ordinary() {
    // SAFETY: plain system calls, in a child with one thread.
    unsafe {
        if libc::geteuid() == 0 {
            assert_eq!(libc::setresgid(65534, 65534, 65534), 0);
            assert_eq!(libc::setresuid(65534, 65534, 65534), 0);
        }
    }
}

/// In a forked child: the soft and hard value of a limit.
fn limit(resource: libc::__rlimit_resource_t, value: u64) {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: a live local.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

/// Removes a name when the test ends, whichever way.
struct Gone<F: FnMut()>(F);

impl<F: FnMut()> Drop for Gone<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
