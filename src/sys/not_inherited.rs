//! Descriptors that a child made by fork does not get: what marks a holding of this process must end with it, and a copy in a
//! child would keep it. What another thread starts as a program (posix_spawn) has a copy until exec: whoever can ends the
//! holding by more than closing.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

use super::{SysResult, fork};

const FREE: i32 = -1;
const PLACES: usize = 16;

/// Places for descriptors; a further set is appended when all are taken. Never freed.
struct Table {
    places: [AtomicI32; PLACES],
    more: AtomicPtr<Table>,
}

impl Table {
    const fn new() -> Table {
        Table { places: [const { AtomicI32::new(FREE) }; PLACES], more: AtomicPtr::new(std::ptr::null_mut()) }
    }
}

static FIRST: Table = Table::new();

fn tables() -> impl Iterator<Item = &'static Table> {
    // SAFETY: `more` is null or a leaked box, published with Release after it was made.
    std::iter::successors(Some(&FIRST), |table| unsafe { table.more.load(Ordering::Acquire).as_ref() })
}

/// An owned descriptor that is closed in children made by fork.
#[derive(Debug)]
pub(crate) struct NotInherited {
    fd: ManuallyDrop<OwnedFd>,
    place: &'static AtomicI32,
    generation: u32,
}

impl NotInherited {
    fn new(fd: OwnedFd) -> NotInherited {
        let generation = fork::generation();
        let place = enter(fd.as_raw_fd());
        NotInherited { fd: ManuallyDrop::new(fd), place, generation }
    }

    /// Opens a descriptor that no child has a copy of, not even one that another thread forks at this moment.
    pub(crate) fn open(mut open: impl FnMut() -> SysResult<OwnedFd>) -> SysResult<NotInherited> {
        fork::generation();
        loop {
            if let Some(opened) = fork::between_forks(|| open().map(NotInherited::new)) {
                return opened;
            }
            std::thread::yield_now();
        }
    }

    /// The descriptor; `None` in a child made by fork.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.is_of_this_process().then(|| self.fd.as_fd())
    }

    /// False in a child made by fork, where there is no such descriptor.
    pub(crate) fn is_of_this_process(&self) -> bool {
        self.generation == fork::generation()
    }
}

fn enter(number: i32) -> &'static AtomicI32 {
    let mut last = &FIRST;
    for table in tables() {
        for place in &table.places {
            // Relaxed: the value is all there is to see; the handler in a child is ordered by fork itself.
            if place.compare_exchange(FREE, number, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return place;
            }
        }
        last = table;
    }
    let more: &'static Table = Box::leak(Box::new(Table::new()));
    let [first, ..] = &more.places;
    first.store(number, Ordering::Relaxed);
    let pushed = std::ptr::from_ref(more).cast_mut();
    // Release publishes the table to the Acquire in `tables`; somebody else may have appended one meanwhile.
    while let Err(other) =
        last.more.compare_exchange(std::ptr::null_mut(), pushed, Ordering::Release, Ordering::Acquire)
    {
        // SAFETY: not null, since the exchange failed: a leaked table.
        last = unsafe { &*other };
    }
    first
}

/// Runs in a child made by fork, before anything else can: closes them all. Async-signal-safe.
pub(super) fn close_all_in_child() {
    for table in tables() {
        for place in &table.places {
            let number = place.swap(FREE, Ordering::Relaxed);
            if number != FREE {
                // SAFETY: the child's copy of a descriptor that a NotInherited owns, whose drop in this process will
                // leave the number alone; only the forking thread exists here, and it is in fork.
                unsafe { libc::close(number) };
            }
        }
    }
}

impl AsFd for NotInherited {
    /// In a child made by fork the descriptor is closed: look at `is_of_this_process` first.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for NotInherited {
    fn drop(&mut self) {
        if self.is_of_this_process() {
            // Out of the table first: a number in it must never be another descriptor's.
            self.place.store(FREE, Ordering::Relaxed);
            // SAFETY: the descriptor is ours, and not used after this.
            drop(unsafe { OwnedFd::from_raw_fd(self.fd.as_raw_fd()) });
        }
    }
}
