//! A descriptor for what the kernel cannot poll: a helper thread waits there without taking anything, and writes to an
//! event counter.
//!
//! It costs nothing until somebody asks for the descriptor. From then on, and until the object ends: one thread asleep
//! in the kernel with a small stack, one descriptor, and for each time that the object becomes ready two switches of
//! context and two system calls more than a thread that waits in the call itself. The other side need not know: the
//! helper is woken by the kernel, whoever sent.
//!
//! Level-triggered: once it has rung, the descriptor stays readable until a call on the object finds nothing; that call
//! quiets the bell, and the helper waits anew. So the descriptor may be readable for nothing, when another process was
//! faster, but is never quiet while there is something.

mod ringing;

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};

use crate::error::{Error, Result};
use crate::eventfd::{EVENTFD_MAX, EventFd};
use crate::limits::explain_descriptors;
use crate::sys::{SysResult, background, fork};
use crate::timeout::Timeout;
use crate::wait::Object;

pub(crate) use ringing::{Counter, Ringing};

/// So often a helper may be woken in vain before it looks whether it is to end: where a peer that keeps no rules never lets it
/// sleep, no signal interrupts its sleep either.
pub(crate) const ROUNDS: u32 = 64;

/// How a helper thread waits without taking.
pub(crate) trait Listen: Send + 'static {
    /// Whether there is something now: EAGAIN if not. Never blocks.
    fn look(&self) -> SysResult<()>;
    /// Waits in the kernel until there is; EINTR when a signal comes, or it has been woken in vain for `ROUNDS` times.
    fn wait(&self) -> SysResult<()>;
}

/// The doorbells of one object, one for each `K`, which is what callers wait for (a type of message, say).
///
/// Free of locks, so that a fork at any moment does no harm: a child finds the bells of its parent, whose helpers it
/// does not have, passes over them, and hangs up its own when asked.
pub(crate) struct Doorbells<K> {
    /// The newest; pushed with Release once filled, walked with Acquire, freed by `drop` only.
    newest: AtomicPtr<Node<K>>,
}

struct Node<K> {
    key: K,
    generation: u32,
    bell: Arc<Bell>,
    next: *mut Node<K>,
}

struct Bell {
    /// The helper's waits are operations on this, so that ending the waits ends the helper.
    object: Object,
    ringing: Ringing<EventFd>,
}

impl Counter for EventFd {
    fn fill(&self) {
        // A full counter is readable, and becomes writable again when somebody takes it.
        let _ = self.add(EVENTFD_MAX, Timeout::Now); // has a place: it was seen writable, or is new
    }

    fn empty(&self) -> bool {
        self.take(Timeout::Now).is_ok()
    }
}

impl<K> Default for Doorbells<K> {
    fn default() -> Doorbells<K> {
        Doorbells { newest: AtomicPtr::new(ptr::null_mut()) }
    }
}

// SAFETY: the list is shared by atomics and changes only by pushing; nodes hold a key, which is Send and Sync, and an Arc
// of what is Sync.
unsafe impl<K: Send + Sync> Send for Doorbells<K> {}
// SAFETY: as above.
unsafe impl<K: Send + Sync> Sync for Doorbells<K> {}

impl<K: PartialEq> Doorbells<K> {
    /// The descriptor that becomes readable when there is something of `key`; hung up on the first request, with the
    /// helper that `listener` makes.
    pub(crate) fn get(
        &self,
        key: K,
        object: &Object,
        listener: impl FnOnce() -> Result<Box<dyn Listen>>,
    ) -> Result<BorrowedFd<'_>> {
        if let Some(bell) = self.bells(&key).next() {
            return Ok(bell.descriptor());
        }
        let failed = |error: Error| explained(object.error(Errno::from_raw(error.errno()), "doorbell"));
        let bell = Arc::new(Bell {
            object: Object::new(Arc::clone(object.address())),
            ringing: Ringing::new(EventFd::new().map_err(failed)?),
        });
        let (of_helper, listener) = (Arc::clone(&bell), listener()?);
        let help = move || {
            of_helper.listen(&*listener);
            drop(listener); // before the bell, which `drop` waits for: what it listens to has gone then, too
            drop(of_helper);
        };
        background::spawn("wigwag-doorbell", background::SMALL_STACK, help)
            .map_err(|errno| explained(object.error(errno, "doorbell")))?;
        Ok(self.push(key, bell).descriptor())
    }

    /// To be called whenever a call on the object finds nothing of `key`: quiets the bell, and has the helper wait anew.
    #[inline]
    pub(crate) fn found_nothing(&self, key: &K) {
        if !self.newest.load(Ordering::Acquire).is_null() {
            self.bells(key).for_each(|bell| bell.ringing.quiet());
        }
    }

    /// All descriptors that were asked for in this process.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let generation = fork::generation();
        self.nodes().filter(move |node| node.generation == generation).map(|node| node.bell.descriptor())
    }

    /// Those of `key`, the oldest last. Two threads that ask at once hang up a bell each, and both ring.
    fn bells(&self, key: &K) -> impl Iterator<Item = &Bell> {
        let generation = fork::generation();
        self.nodes().filter(move |node| node.generation == generation && node.key == *key).map(|node| &*node.bell)
    }

    fn push(&self, key: K, bell: Arc<Bell>) -> &Bell {
        let node = Box::into_raw(Box::new(Node { key, generation: fork::generation(), bell, next: ptr::null_mut() }));
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            // SAFETY: from Box::into_raw above, and not shared before the exchange succeeds.
            unsafe { (*node).next = newest };
            match self.newest.compare_exchange_weak(newest, node, Ordering::Release, Ordering::Relaxed) {
                // SAFETY: nodes are freed by `drop` only, so this one lives as long as `self` is borrowed.
                Ok(_) => return unsafe { &(*node).bell },
                Err(newer) => newest = newer,
            }
        }
    }
}

impl<K> Doorbells<K> {
    fn nodes(&self) -> impl Iterator<Item = &Node<K>> {
        // SAFETY: pointers in the list are null or from Box::into_raw, published after the node was filled, and freed by
        // `drop` only, when nobody borrows `self`.
        let newest = unsafe { self.newest.load(Ordering::Acquire).as_ref() };
        // SAFETY: as above; `next` does not change once the node is in the list.
        std::iter::successors(newest, |node| unsafe { node.next.as_ref() })
    }
}

impl<K> Drop for Doorbells<K> {
    fn drop(&mut self) {
        let mut next = *self.newest.get_mut();
        while !next.is_null() {
            // SAFETY: from Box::into_raw in `push`, and `&mut self` says that nobody walks the list any more.
            let node = unsafe { Box::from_raw(next) };
            // A child has none of its parent's helpers: neither call finds one to wait for.
            node.bell.object.end_waits();
            background::wait_until_released(&node.bell, node.generation);
            next = node.next;
        }
    }
}

impl Bell {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.ringing.counter().as_fd()
    }

    fn listen(&self, listener: &dyn Listen) {
        let operation = RefCell::new(self.object.operation("doorbell", Timeout::Forever));
        let comes = || match operation.borrow_mut().in_call(|| listener.look(), |_| listener.wait()) {
            Err(error) => !error.is(Errno::ECANCELED), // any other is for the caller to meet
            Ok(()) => true,
        };
        let is_emptied = |counter: &EventFd| {
            operation.borrow_mut().wait().poll(&mut [PollFd::new(counter.as_fd(), PollFlags::POLLOUT)]).is_ok()
        };
        self.ringing.help(comes, is_emptied);
    }
}

#[cold]
fn explained(error: Error) -> Error {
    if error.is(Errno::ENOMEM) {
        error.because(
            "its descriptor takes a helper thread, and none can be had: memory or a limit of threads (ulimit -u)",
        )
    } else {
        explain_descriptors(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Interest, WaitSet, WaitSetEvent};
    use nix::poll::{PollTimeout, poll};
    use nix::unistd::{pipe, read, write};
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    const GENEROUS: Timeout = Timeout::After(Duration::from_secs(30));

    /// Stands for a queue: something is there while the pipe has bytes.
    struct Queue {
        object: Object,
        reader: Arc<OwnedFd>,
        writer: OwnedFd,
        bells: Doorbells<u8>,
    }

    struct Waiter(Arc<OwnedFd>);

    impl Listen for Waiter {
        fn look(&self) -> SysResult<()> {
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO)? {
                0 => Err(Errno::EAGAIN),
                _ => Ok(()),
            }
        }

        fn wait(&self) -> SysResult<()> {
            poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).map(drop)
        }
    }

    impl Queue {
        fn new() -> Queue {
            let (reader, writer) = pipe().unwrap();
            let bells = Doorbells::default();
            Queue { object: Object::new("test:"), reader: Arc::new(reader), writer, bells }
        }

        fn send(&self) {
            write(&self.writer, b"m").unwrap();
        }

        fn receive(&self) -> SysResult<()> {
            let found = Waiter(Arc::clone(&self.reader)).look();
            if found.is_err() {
                self.bells.found_nothing(&0);
            } else {
                read(&self.reader, &mut [0]).unwrap();
            }
            found
        }

        fn doorbell(&self) -> BorrowedFd<'_> {
            self.bells.get(0, &self.object, || Ok(Box::new(Waiter(Arc::clone(&self.reader))))).unwrap()
        }
    }

    #[test]
    fn rings_and_is_quieted_again_and_again() {
        let (queue, set) = (Queue::new(), WaitSet::new().unwrap());
        set.add(&queue.doorbell(), Interest::READABLE, 1).unwrap();
        let mut events = [WaitSetEvent::default()];
        assert!(set.wait(&mut events, Timeout::After(Duration::from_millis(20))).is_err());
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for _ in 0..200 {
                    queue.send();
                    std::thread::yield_now();
                }
            });
            let mut received = 0;
            while received < 200 {
                set.wait(&mut events, GENEROUS).unwrap();
                while queue.receive().is_ok() {
                    received += 1;
                }
            }
        });
        // It may ring once more for what was taken before the helper looked; then it is quiet.
        while set.wait(&mut events, Timeout::After(Duration::from_millis(20))).is_ok() {
            assert!(queue.receive().is_err());
        }
    }

    #[test]
    fn stays_readable_until_nothing_is_found() {
        let queue = Queue::new();
        queue.send();
        queue.send();
        let set = WaitSet::new().unwrap();
        set.add(&queue.doorbell(), Interest::READABLE, 1).unwrap();
        let mut events = [WaitSetEvent::default()];
        for _ in 0..3 {
            set.wait(&mut events, GENEROUS).unwrap();
        }
        queue.receive().unwrap();
        set.wait(&mut events, GENEROUS).unwrap();
        queue.receive().unwrap();
        set.wait(&mut events, GENEROUS).unwrap();
    }

    #[test]
    fn one_for_each_key_made_once() {
        let queue = Queue::new();
        assert_eq!(queue.bells.nodes().count(), 0);
        queue.bells.found_nothing(&0);
        let first = std::os::fd::AsRawFd::as_raw_fd(&queue.doorbell());
        assert_eq!(std::os::fd::AsRawFd::as_raw_fd(&queue.doorbell()), first);
        queue.bells.get(7, &queue.object, || Ok(Box::new(Waiter(Arc::clone(&queue.reader))))).unwrap();
        assert_eq!(queue.bells.nodes().count(), 2);
    }

    #[test]
    fn the_helper_ends_with_the_object_also_in_the_middle_of_things() {
        for rung in [false, true] {
            for _ in 0..20 {
                let queue = Queue::new();
                if rung {
                    queue.send();
                }
                let _ = queue.doorbell();
                let reader = Arc::clone(&queue.reader);
                drop(queue);
                assert_eq!(Arc::strong_count(&reader), 1, "it listens still");
            }
        }
    }

    #[test]
    fn what_it_listens_to_has_gone_when_the_bell_has() {
        struct Reluctant {
            waiter: Waiter,
            _part: Arc<()>,
        }
        impl Listen for Reluctant {
            fn look(&self) -> SysResult<()> {
                self.waiter.look()
            }
            fn wait(&self) -> SysResult<()> {
                self.waiter.wait()
            }
        }
        impl Drop for Reluctant {
            fn drop(&mut self) {
                std::thread::sleep(Duration::from_millis(20)); // before its own parts go
            }
        }
        let (queue, part) = (Queue::new(), Arc::new(()));
        let listener = Reluctant { waiter: Waiter(Arc::clone(&queue.reader)), _part: Arc::clone(&part) };
        queue.bells.get(0, &queue.object, || Ok(Box::new(listener))).unwrap();
        drop(queue);
        assert_eq!(Arc::strong_count(&part), 1);
    }

    #[test]
    fn a_listener_that_cannot_be_made_leaves_nothing() {
        let queue = Queue::new();
        let refused = queue.bells.get(0, &queue.object, || Err(Error::new(Errno::EACCES, "doorbell")));
        assert!(refused.unwrap_err().is(Errno::EACCES));
        assert_eq!(queue.bells.nodes().count(), 0);
    }

    #[test]
    fn what_two_threads_hang_up_at_once_is_quieted_at_once() {
        let bells = Doorbells::default();
        let hang = |key: u32| {
            let ringing = Ringing::new(EventFd::new().unwrap());
            let bell = bells.push(key, Arc::new(Bell { object: Object::new("test"), ringing }));
            bell.ringing.help(|| true, |_| false); // rings, and the helper ends
            bell
        };
        let (one, other, of_another) = (hang(1), hang(1), hang(2));
        bells.found_nothing(&1);
        let rings = |bell: &Bell| bell.ringing.counter().take(Timeout::Now).is_ok();
        assert_eq!((rings(one), rings(other), rings(of_another)), (false, false, true));
    }
}
