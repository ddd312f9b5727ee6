//! Event counter (`eventfd:`): a 64-bit number in the kernel that one side adds to and the other takes from.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd as Kernel};

use crate::descriptor::Descriptor;
use crate::error::{Error, Result};
use crate::limits::explain_descriptors;
use crate::sys::{SysResult, direct};
use crate::timeout::Timeout;
use crate::wait::{Object, Operation, Pauses};

/// The largest value the counter can hold; adding past it waits.
pub const EVENTFD_MAX: u64 = u64::MAX - 1;

/// What the counter starts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventFdOptions {
    /// The value at the start, 0 by default.
    pub initial: u64,
    /// Each take gives 1 and leaves the rest, instead of taking all at once.
    pub semaphore: bool,
}

/// An event counter: [`add`](EventFd::add) signals events, [`take`](EventFd::take) waits for them.
///
/// Level-triggered: the descriptor polls readable while the counter is above zero. Shared with children made by fork,
/// and with others by passing the descriptor. Gone when the last descriptor is closed, also by SIGKILL; a count that
/// nobody has taken by then is gone with it.
///
/// ```
/// use wigwag::{EventFd, Timeout};
/// let events = EventFd::new()?;
/// events.add(3, Timeout::Now)?;
/// assert_eq!(events.take(Timeout::Now)?, 3);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[doc(alias = "eventfd")]
pub struct EventFd {
    object: Object,
    descriptor: Descriptor,
}

impl EventFd {
    /// A counter that starts at zero and is taken whole. Never blocks. Errors and system call: as [`EventFd::open`].
    pub fn new() -> Result<EventFd> {
        EventFd::open(EventFdOptions::default())
    }

    /// Makes a counter. Never blocks.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` no descriptor is left; `EINVAL` the initial value is above [`EVENTFD_MAX`].
    ///
    /// System call: eventfd2 with EFD_CLOEXEC and EFD_NONBLOCK.
    pub fn open(options: EventFdOptions) -> Result<EventFd> {
        let object = Object::new("eventfd:");
        if options.initial > EVENTFD_MAX {
            return Err(object
                .error(Errno::EINVAL, "eventfd")
                .because("the initial value is past the largest, 2^64 - 2; start lower"));
        }
        let mut flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        flags.set(EfdFlags::EFD_SEMAPHORE, options.semaphore);
        // The system call takes 32 bits at the start; the rest is added.
        let small = u32::try_from(options.initial).unwrap_or(0);
        let kernel = Kernel::from_value_and_flags(small, flags)
            .map_err(|errno| explain_descriptors(object.error(errno, "eventfd")))?;
        let eventfd = EventFd { object, descriptor: Descriptor::ours(kernel.into()) };
        if options.initial != u64::from(small) {
            eventfd.add(options.initial, Timeout::Now)?;
        }
        Ok(eventfd)
    }

    /// Takes over a descriptor that something else made. Never blocks; its mode is left as it is.
    pub fn from_fd(fd: OwnedFd) -> EventFd {
        EventFd { object: Object::new("eventfd:"), descriptor: Descriptor::adopted(fd) }
    }

    /// Adds to the counter; waits while the sum would pass [`EVENTFD_MAX`].
    ///
    /// # Errors
    /// `EINVAL` the value is 2^64 - 1, which the kernel keeps for itself; `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as
    /// everywhere, with nothing added.
    ///
    /// System call: write.
    #[inline]
    pub fn add(&self, value: u64, timeout: Timeout) -> Result<()> {
        let mut operation = self.object.operation("add", timeout);
        let write = || direct::write(self.descriptor.as_fd(), &value.to_ne_bytes());
        let added = if self.descriptor.never_blocks() {
            match write() {
                Ok(_) => Ok(()),
                Err(errno) => self.add_when_it_fits(errno, write, &mut operation),
            }
        } else {
            operation.transfer(&self.descriptor, PollFlags::POLLOUT, write).map(drop)
        };
        added.map_err(|error| {
            if error.is(Errno::EINVAL) {
                error.because("2^64 - 1 cannot be added to an event counter; the largest is 2^64 - 2")
            } else {
                error
            }
        })
    }

    /// Writable means that 1 fits. Room for more than that cannot be waited for: it is tried, ever less often.
    #[cold]
    fn add_when_it_fits(
        &self,
        mut errno: Errno,
        mut write: impl FnMut() -> SysResult<usize>,
        operation: &mut Operation<'_>,
    ) -> Result<()> {
        let mut pauses = Pauses::default();
        loop {
            match errno {
                Errno::EINTR => {}
                Errno::EAGAIN if operation.timeout() != Timeout::Now => {
                    let mut room_for_one = [PollFd::new(self.as_fd(), PollFlags::POLLOUT)];
                    operation.wait().poll(&mut room_for_one).map_err(|errno| operation.error(errno))?;
                }
                errno => return Err(operation.error(errno)),
            }
            match write() {
                Ok(_) => return Ok(()),
                Err(again) => errno = again,
            }
            if errno == Errno::EAGAIN {
                pauses.sleep(operation)?;
            }
        }
    }

    /// Takes the whole counter, or 1 in semaphore mode; waits while it is zero.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere, with nothing taken.
    ///
    /// System call: read.
    #[inline]
    pub fn take(&self, timeout: Timeout) -> Result<u64> {
        let mut value = [0; 8];
        let mut operation = self.object.operation("take", timeout);
        let length = operation
            .transfer(&self.descriptor, PollFlags::POLLIN, || direct::read(self.descriptor.as_fd(), &mut value))?;
        if length != value.len() {
            return Err(self.not_an_eventfd(operation.error(Errno::EBADMSG)));
        }
        Ok(u64::from_ne_bytes(value))
    }

    fn not_an_eventfd(&self, error: Error) -> Error {
        error.because("the adopted descriptor is not an eventfd")
    }

    /// Its address, `eventfd:`.
    pub fn address(&self) -> &str {
        self.object.address()
    }

    /// Ends the waits of all threads on this counter with `ECANCELED`, now and later; returns when they have left.
    pub fn end_waits(&self) {
        self.object.end_waits();
    }

    /// Gives up the object and keeps its descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.descriptor.into_owned()
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl std::fmt::Debug for EventFd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventFd").field("fd", &self.as_fd()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cancel;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    #[test]
    fn adds_and_takes() {
        let events = EventFd::open(EventFdOptions { initial: 2, semaphore: false }).unwrap();
        events.add(3, Timeout::Now).unwrap();
        assert_eq!(events.take(Timeout::Now).unwrap(), 5);
        assert!(events.take(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    }

    #[test]
    fn semaphore_mode_takes_one_at_a_time() {
        let events = EventFd::open(EventFdOptions { initial: 2, semaphore: true }).unwrap();
        assert_eq!(events.take(Timeout::Now).unwrap(), 1);
        assert_eq!(events.take(Timeout::Now).unwrap(), 1);
        assert!(events.take(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    }

    #[test]
    fn overflow_waits() {
        let events = EventFd::open(EventFdOptions { initial: EVENTFD_MAX, semaphore: false }).unwrap();
        assert!(events.add(1, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
        assert!(events.add(1, Timeout::After(Duration::from_millis(5))).unwrap_err().is(Errno::ETIMEDOUT));
        assert!(events.add(u64::MAX, Timeout::Now).unwrap_err().is(Errno::EINVAL));
        assert_eq!(events.take(Timeout::Now).unwrap(), EVENTFD_MAX);
        assert!(EventFd::open(EventFdOptions { initial: u64::MAX, semaphore: false }).is_err());
    }

    #[test]
    fn waiting_for_room_for_more_than_one_takes_no_processor_time() {
        let events = EventFd::open(EventFdOptions { initial: EVENTFD_MAX - 1, semaphore: false }).unwrap();
        let used = || {
            nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)
                .map(std::time::Duration::from)
                .unwrap()
        };
        let before = used();
        let error = events.add(2, Timeout::After(Duration::from_millis(300))).unwrap_err();
        assert!(error.is(Errno::ETIMEDOUT));
        let spent = used() - before;
        assert!(spent < Duration::from_millis(100), "{spent:?} of 300 ms");
        std::thread::scope(|threads| {
            let adder = threads.spawn(|| events.add(2, Timeout::Forever));
            std::thread::sleep(Duration::from_millis(10));
            assert_eq!(events.take(Timeout::Now).unwrap(), EVENTFD_MAX - 1);
            adder.join().unwrap().unwrap();
        });
        assert_eq!(events.take(Timeout::Now).unwrap(), 2);
    }

    #[test]
    fn timeout_is_never_early() {
        let events = EventFd::new().unwrap();
        let start = Instant::now();
        let error = events.take(Timeout::After(Duration::from_millis(30))).unwrap_err();
        assert!(error.is(Errno::ETIMEDOUT));
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert_eq!(error.to_string(), "take eventfd:: ETIMEDOUT: the deadline passed");
    }

    #[test]
    fn cancel_ends_a_wait() {
        let (events, cancel) = (EventFd::new().unwrap(), Cancel::new());
        std::thread::scope(|threads| {
            threads.spawn(|| {
                std::thread::sleep(Duration::from_millis(10));
                cancel.fire();
            });
            let _scope = cancel.enter();
            assert!(events.take(Timeout::Forever).unwrap_err().is(Errno::ECANCELED));
        });
        assert!(events.take(Timeout::Now).unwrap_err().is(Errno::EAGAIN), "out of scope again");
    }

    #[test]
    fn end_waits_ends_all_of_them() {
        let events = Arc::new(EventFd::new().unwrap());
        let waiters: Vec<_> = (0..6)
            .map(|_| {
                let events = Arc::clone(&events);
                std::thread::spawn(move || events.take(Timeout::Forever).unwrap_err().errno())
            })
            .collect();
        std::thread::sleep(Duration::from_millis(10));
        events.end_waits();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), libc::ECANCELED);
        }
    }

    #[test]
    fn adopted_blocking_descriptor_is_bounded_and_keeps_its_mode() {
        let kernel = Kernel::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).unwrap();
        let events = EventFd::from_fd(kernel.into());
        assert!(events.take(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
        assert!(events.take(Timeout::After(Duration::from_millis(5))).unwrap_err().is(Errno::ETIMEDOUT));
        events.add(1, Timeout::Now).unwrap();
        assert_eq!(events.take(Timeout::After(Duration::from_secs(5))).unwrap(), 1);
        let flags = nix::fcntl::fcntl(&events, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert_eq!(flags & libc::O_NONBLOCK, 0);
    }

    #[test]
    fn adopted_descriptor_that_is_no_eventfd() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        nix::unistd::write(&writer, b"abc").unwrap();
        assert!(EventFd::from_fd(reader).take(Timeout::Now).unwrap_err().is(Errno::EBADMSG));
    }
}
