//! Which thread this is, and what happens to the locks of one that ends.
//!
//! A lock whose holder's thread ends is as abandoned as if its process had died; the kernel says nothing of the kind, so
//! each process keeps a list of its locks and the thread goes through it when it ends. Nothing is written down when a lock
//! is taken: its word names the thread.
//!
//! The list is guarded by a word that names the generation of forks, so that a child is not kept waiting by a thread that
//! it does not have, and each change of the list is a single store, so that it finds a whole one.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::time::Duration;

use nix::unistd::gettid;

use crate::sys::fork;

/// Something that a thread can hold.
pub(super) trait Holdings: Send + Sync {
    /// Gives up what this thread holds. Never blocks.
    fn abandon(&self, thread: u32);
}

/// Keeps an object in the list of this process.
pub(super) struct Entry(&'static Node);

struct Node {
    next: *const Node,
    /// Null while the node is free for use.
    holdings: AtomicPtr<()>,
    /// `unsafe fn(*const (), u32)`, set before `holdings`.
    abandon: AtomicPtr<()>,
}

// SAFETY: `next` does not change once the node is in the list, the rest is atomics.
unsafe impl Sync for Node {}

/// Nodes are never freed, and used again.
static NODES: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());

/// The generation, plus one, of the thread that has the list; 0: nobody has.
static GUARD: AtomicU64 = AtomicU64::new(0);

struct Guard;

impl Guard {
    fn take() -> Guard {
        let own = u64::from(fork::generation()) + 1;
        let mut tried = 0u32;
        loop {
            let found = GUARD.load(Ordering::Relaxed);
            // Acquire pairs with the Release in `drop`. One of another generation has stayed behind in the parent.
            if found != own && GUARD.compare_exchange(found, own, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return Guard;
            }
            // Whoever has it is busy for a few instructions for each lock. To one of lower real-time priority a yield gives
            // no way.
            if tried < 100 {
                std::thread::yield_now()
            } else {
                std::thread::sleep(Duration::from_micros(50))
            }
            tried = tried.saturating_add(1);
        }
    }

    fn nodes(&self) -> impl Iterator<Item = &'static Node> {
        // SAFETY: pointers in the list are null or from Box::leak, stored with Release after the node was filled.
        let first = unsafe { NODES.load(Ordering::Acquire).as_ref() };
        // SAFETY: as above.
        std::iter::successors(first, |node| unsafe { node.next.as_ref() })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        GUARD.store(0, Ordering::Release);
    }
}

unsafe fn abandon<T: Holdings>(holdings: *const (), thread: u32) {
    // SAFETY: the caller has the list, in which there are only live objects of the type that the function was made for.
    unsafe { &*holdings.cast::<T>() }.abandon(thread);
}

impl Entry {
    /// # Safety
    /// `holdings` stays where it is until the entry is dropped.
    pub(super) unsafe fn new<T: Holdings>(holdings: &T) -> Entry {
        let guard = Guard::take();
        let unused = guard.nodes().find(|node| node.holdings.load(Ordering::Relaxed).is_null());
        let node = unused.unwrap_or_else(|| {
            let node: &'static Node = Box::leak(Box::new(Node {
                next: NODES.load(Ordering::Relaxed),
                holdings: AtomicPtr::default(),
                abandon: AtomicPtr::default(),
            }));
            NODES.store(ptr::from_ref(node).cast_mut(), Ordering::Release);
            node
        });
        // Relaxed: others read these under the guard; a child finds what was stored in this order.
        node.abandon.store(abandon::<T> as *mut (), Ordering::Relaxed);
        node.holdings.store(ptr::from_ref(holdings).cast_mut().cast(), Ordering::Release);
        Entry(node)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let _guard = Guard::take();
        self.0.holdings.store(ptr::null_mut(), Ordering::Relaxed);
    }
}

/// A thread that may hold something.
struct Thread(u32);

impl Drop for Thread {
    fn drop(&mut self) {
        if gettid().as_raw().cast_unsigned() != self.0 {
            return; // a child made by fork, whose locks its parent still has
        }
        let guard = Guard::take();
        for node in guard.nodes() {
            let holdings = node.holdings.load(Ordering::Relaxed);
            let abandon = node.abandon.load(Ordering::Relaxed);
            if !holdings.is_null() && !abandon.is_null() {
                // SAFETY: `Entry::new` stored the pair, and this is the type that it was stored as.
                let abandon = unsafe { std::mem::transmute::<*mut (), unsafe fn(*const (), u32)>(abandon) };
                // SAFETY: `Entry::new` was promised that the object stays until the entry is dropped, which waits for
                // the guard.
                unsafe { abandon(holdings, self.0) };
            }
        }
    }
}

thread_local! {
    /// Generation and number of this thread.
    static OWN: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
    static ENDING: Cell<Option<Thread>> = const { Cell::new(None) };
}

/// The number of this thread. From the first call on, the locks of this process hear of its end.
#[inline]
pub(super) fn own() -> u32 {
    let (generation, number) = OWN.get();
    if number != 0 && generation == fork::generation_in_handler() { number } else { first() }
}

#[cold]
#[inline(never)]
fn first() -> u32 {
    let number = gettid().as_raw().cast_unsigned();
    OWN.set((fork::generation(), number));
    // A failure: the thread is ending already, and what it locks from now on nobody gives up for it.
    let _ = ENDING.try_with(|ending| ending.set(Some(Thread(number))));
    number
}
