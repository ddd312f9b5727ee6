//! What fork does to this process: how many forks lie between it and the one that loaded the library, and which
//! descriptors its children must not keep.

use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

use super::SysResult;

static GENERATION: AtomicU32 = AtomicU32::new(0);
static WATCH: Once = Once::new();

/// Forks that this process has begun, and that it has come back from.
static BEGUN: AtomicU32 = AtomicU32::new(0);
static ENDED: AtomicU32 = AtomicU32::new(0);

extern "C" fn before() {
    BEGUN.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn in_parent() {
    ENDED.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn in_child() {
    // The child has a single thread, so nothing can read between this and the return of fork.
    GENERATION.fetch_add(1, Ordering::Relaxed);
    ENDED.store(BEGUN.load(Ordering::Relaxed), Ordering::Relaxed);
    for place in places() {
        close(place.swap(NONE, Ordering::Relaxed));
    }
}

/// Changes in a child made by `fork`, so that what belongs to threads of the parent can be told apart.
pub(crate) fn generation() -> u32 {
    WATCH.call_once(|| {
        // SAFETY: the three are extern "C" functions without arguments that only touch atomics and close descriptors,
        // and they stay mapped for the life of the process: the shared library is linked with -z nodelete. A failure
        // (ENOMEM) means that children keep the parent's generation; they then miss early ends of waits, and share the
        // parent's part in segments until they exec.
        unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    });
    seen()
}

/// As [`generation`], once that has been called in this process or in one that it came from.
#[inline]
pub(crate) fn seen() -> u32 {
    // Relaxed: the value changes only across fork, which orders everything.
    GENERATION.load(Ordering::Relaxed)
}

const NONE: RawFd = -1;
const PLACES: usize = 32;

/// Numbers of the descriptors that children close; blocks are appended, never freed.
struct Block {
    fds: [AtomicI32; PLACES],
    more: AtomicPtr<Block>,
}

static FIRST: Block = Block { fds: [const { AtomicI32::new(NONE) }; PLACES], more: AtomicPtr::new(ptr::null_mut()) };

fn places() -> impl Iterator<Item = &'static AtomicI32> {
    // SAFETY: `more` is null or a leaked box, published with Release after it was filled: good for ever.
    std::iter::successors(Some(&FIRST), |block| unsafe { block.more.load(Ordering::Acquire).as_ref() })
        .flat_map(|block| &block.fds)
}

fn put(fd: RawFd) -> &'static AtomicI32 {
    loop {
        for place in places() {
            if place.compare_exchange(NONE, fd, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                return place;
            }
        }
        let more = Box::into_raw(Box::new(Block {
            fds: [const { AtomicI32::new(NONE) }; PLACES],
            more: AtomicPtr::new(ptr::null_mut()),
        }));
        let mut last = &FIRST;
        // Release publishes the block to the Acquire in `places`.
        while let Err(next) = last.more.compare_exchange(ptr::null_mut(), more, Ordering::Release, Ordering::Acquire) {
            // SAFETY: not null, so a leaked block as in `places`.
            last = unsafe { &*next };
        }
    }
}

fn close(fd: RawFd) {
    if fd != NONE {
        // SAFETY: the number came out of its place by a swap, so nobody else will close it; it was an OwnedFd's.
        unsafe { libc::close(fd) };
    }
}

/// A descriptor that children made by `fork` do not keep: each closes its copy before fork returns in it.
#[derive(Debug)]
pub(crate) struct NotInherited {
    place: &'static AtomicI32,
    /// Where it was opened: in a child the place is empty, or holds a descriptor of the child's own.
    generation: u32,
}

impl NotInherited {
    /// Opens a descriptor that no child has a copy of, not even one forked by another thread at this moment.
    pub(crate) fn open(mut open: impl FnMut() -> SysResult<OwnedFd>) -> SysResult<NotInherited> {
        let generation = generation();
        loop {
            let begun = BEGUN.load(Ordering::SeqCst);
            if ENDED.load(Ordering::SeqCst) == begun {
                let kept = NotInherited { place: put(open()?.into_raw_fd()), generation };
                // A fork between the opening and the putting down would have copied what its handler cannot know of.
                if BEGUN.load(Ordering::SeqCst) == begun {
                    return Ok(kept);
                }
            }
            std::thread::yield_now();
        }
    }

    /// The descriptor; `None` in a child.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        if self.generation != seen() {
            return None;
        }
        match self.place.load(Ordering::Relaxed) {
            NONE => None,
            // SAFETY: open until `self` is dropped, which outlives the borrow.
            fd => Some(unsafe { BorrowedFd::borrow_raw(fd) }),
        }
    }
}

impl Drop for NotInherited {
    fn drop(&mut self) {
        if self.generation == seen() {
            close(self.place.swap(NONE, Ordering::SeqCst));
        }
    }
}
