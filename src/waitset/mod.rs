//! Wait set: one wait for any mix of descriptors, timers and children.

mod child;
mod entries;
mod event;
mod timer;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use child::Child;
use entries::{Entries, Source};
pub use event::{Interest, Readiness, WaitSetEvent};
use timer::Timer;

use crate::error::{Error, Result};
use crate::limits::{explain_descriptors, setting};
use crate::sys::{self, SysResult, fork};
use crate::timeout::Timeout;
use crate::wait::Object;

/// The most events that one [`WaitSet::wait`] gives; what does not fit comes first the next time.
pub const WAITSET_BATCH: usize = 256;

/// Waits for whichever comes first of any number of descriptors, timers and children.
///
/// Every object of this library that has a descriptor can be in it, and every other descriptor that the kernel can
/// poll. Each entry has a token of the caller's choice, by which events tell entries apart and by which entries are
/// changed and removed; it is any 64-bit number that no other entry has. Level-triggered: an entry is reported by every
/// wait for as long as the condition lasts. A timer's expirations are counted, and reported to one wait only.
///
/// Any thread may add, change and remove while others wait, and several may wait: each event then goes to one or more of
/// them. The set does not keep descriptors open: remove an entry *before* closing its descriptor. A set has a descriptor
/// itself and can be in another set or event loop. It belongs to the process that made it: a forked child gets `ENOTSUP`
/// from every call, because its changes would reach into the parent's set.
///
/// ```
/// use std::time::Duration;
/// use wigwag::{EventFd, Interest, Readiness, Timeout, WaitSet, WaitSetEvent};
/// let (set, requests) = (WaitSet::new()?, EventFd::new()?);
/// set.add(&requests, Interest::READABLE, 1)?;
/// set.add_timer(Duration::from_secs(3600), None, 2)?;
/// requests.add(1, Timeout::Now)?;
/// let mut events = [WaitSetEvent::default(); 8];
/// assert_eq!(set.wait(&mut events, Timeout::Forever)?, 1);
/// assert_eq!((events[0].token, events[0].readiness), (1, Readiness::READABLE));
/// # Ok::<(), wigwag::Error>(())
/// ```
#[doc(alias = "epoll")]
pub struct WaitSet {
    object: Object,
    epoll: Epoll,
    entries: Mutex<Entries>,
    generation: u32,
}

impl WaitSet {
    /// Makes an empty set. Never blocks.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` no descriptor is left.
    ///
    /// System call: epoll_create1.
    pub fn new() -> Result<WaitSet> {
        let object = Object::new("waitset");
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|errno| explain_descriptors(object.error(errno, "new")))?;
        Ok(WaitSet { object, epoll, entries: Mutex::default(), generation: fork::generation() })
    }

    /// Adds a descriptor. Never blocks; waits in progress take it into account at once.
    ///
    /// # Errors
    /// `EEXIST` the token or the descriptor is in the set already; `EPERM` the kernel cannot poll it, being a regular
    /// file or a directory; `EBADF` it is not open; `EINVAL`, `ELOOP` it is the set itself, or a set that contains it;
    /// `ENOSPC` the user's limit fs.epoll.max_user_watches is reached; `ENOMEM`; `ENOTSUP` made before a fork.
    ///
    /// System call: epoll_ctl.
    pub fn add(&self, fd: &(impl AsFd + ?Sized), interest: Interest, token: u64) -> Result<()> {
        self.insert(Source::Descriptor(fd.as_fd().as_raw_fd()), interest, token)
    }

    /// Adds a timer, which expires `first` from now and then every `period`, if there is one. Never blocks. Time is
    /// measured on the monotonic clock; a zero `first` or `period` counts as a nanosecond.
    ///
    /// Expirations are counted: a wait that comes late reports all of them with one event. A timer without a period
    /// stays in the set, at rest; [`WaitSet::change_timer`] starts it again.
    ///
    /// # Errors
    /// `EEXIST` the token is in the set already; `EMFILE`, `ENFILE` no descriptor is left; `ENOSPC`, `ENOMEM`,
    /// `ENOTSUP` as [`WaitSet::add`].
    ///
    /// System calls: timerfd_create, timerfd_settime, epoll_ctl.
    pub fn add_timer(&self, first: Duration, period: Option<Duration>, token: u64) -> Result<()> {
        let timer =
            Timer::new(first, period).map_err(|errno| explain_descriptors(self.object.error(errno, "add_timer")))?;
        self.insert(Source::Timer(timer), Interest::READABLE, token)
    }

    /// Adds the end of the child `pid`. Never blocks; a child that has ended already is reported at once.
    ///
    /// The child is not reaped: that stays with whoever started it, before or after. An ended child is reported by every
    /// wait until it is removed. Where the kernel or a sandbox has no pidfd, a helper thread waits for each child;
    /// [`paths`](crate::paths) says which way is used. With a pidfd, `pid` may be any process, whose status is unknown then.
    ///
    /// # Errors
    /// `ESRCH` no such process; `ECHILD` not a child of this process, and there is no pidfd; `EINVAL` not a pid, or
    /// that of a thread; `ENOMEM` also if a helper thread is needed and none can be had; `EEXIST` the token is in the set
    /// already; `EMFILE`, `ENFILE`, `ENOSPC`, `ENOTSUP` as [`WaitSet::add`].
    ///
    /// System calls: pidfd_open, epoll_ctl.
    pub fn add_child(&self, pid: i32, token: u64) -> Result<()> {
        let child = Child::watch(pid).map_err(|errno| {
            let error = self.object.error(errno, "add_child");
            match errno {
                Errno::ESRCH => {
                    error.because_found(format!("no process {pid} exists; a child is added before it is reaped"))
                }
                Errno::ECHILD => error.because_found(format!(
                    "process {pid} is not a child of this one, and without pidfd_open only children can be waited for"
                )),
                Errno::EINVAL => error.because_found(format!("{pid} is not the pid of a process")),
                Errno::ENOMEM => error.because(
                    "there is no pidfd_open, and no thread to wait instead: memory or a limit of threads (ulimit -u)",
                ),
                _ => explain_descriptors(error),
            }
        })?;
        self.insert(Source::Child(child), Interest::READABLE, token)
    }

    /// Changes what a descriptor is watched for. Never blocks; waits in progress take it into account at once.
    ///
    /// # Errors
    /// `ENOENT` no entry has the token; `EINVAL` it is a timer or a child; `EBADF` its descriptor was closed while it
    /// was in the set; `ENOTSUP` made before a fork.
    ///
    /// System call: epoll_ctl.
    pub fn change(&self, token: u64, interest: Interest) -> Result<()> {
        let entries = self.entries("change")?;
        let (id, source) = entries.find(token).ok_or_else(|| self.no_such("change", token, &entries))?;
        let Source::Descriptor(fd) = *source else {
            return Err(self
                .object
                .error(Errno::EINVAL, "change")
                .because_found(format!("token {token} is {source}, and only descriptors have an interest to change")));
        };
        sys::epoll::modify(self.as_fd(), fd, flags(interest), id)
            .map_err(|errno| self.closed_meanwhile("change", errno, fd))
    }

    /// Starts a timer anew, with other times, and forgets expirations that were not reported. Never blocks.
    ///
    /// # Errors
    /// `ENOENT` no entry has the token; `EINVAL` it is not a timer; `ENOTSUP` made before a fork.
    ///
    /// System call: timerfd_settime.
    pub fn change_timer(&self, token: u64, first: Duration, period: Option<Duration>) -> Result<()> {
        let entries = self.entries("change_timer")?;
        match entries.find(token).ok_or_else(|| self.no_such("change_timer", token, &entries))? {
            (_, Source::Timer(timer)) => {
                timer.set(first, period).map_err(|errno| self.object.error(errno, "change_timer"))
            }
            (_, other) => Err(self
                .object
                .error(Errno::EINVAL, "change_timer")
                .because_found(format!("token {token} is {other}, not a timer"))),
        }
    }

    /// Removes an entry. Never blocks, except for the moment that a helper thread of a child needs to end. An event of
    /// the entry that another thread has just received may still be on its way to that thread's program.
    ///
    /// # Errors
    /// `ENOENT` no entry has the token; `EBADF` the entry is removed, but its descriptor was closed while it was in the
    /// set, which loses events or, where a duplicate is left open, makes waits fail; `ENOTSUP` made before a fork.
    ///
    /// System call: epoll_ctl.
    pub fn remove(&self, token: u64) -> Result<()> {
        let (removed, deleted) = {
            let mut entries = self.entries("remove")?;
            let (id, source) = entries.take(token).ok_or_else(|| self.no_such("remove", token, &entries))?;
            let deleted = sys::epoll::delete(self.as_fd(), source.as_raw_fd());
            if deleted.is_err() {
                entries.lose(id, token);
            }
            (source, deleted)
        };
        let fd = removed.as_raw_fd();
        drop(removed); // outside the lock: a helper thread may have to end first
        deleted.map_err(|errno| self.closed_meanwhile("remove", errno, fd))
    }

    /// Waits until at least one entry has something to say, and gives as many events as fit, at most
    /// [`WAITSET_BATCH`]; returns their number.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere; `EINVAL` there is no room for an event; `EBADF` a descriptor
    /// was closed before it was removed, while a duplicate (a forked child's, say) stays open and keeps it reported;
    /// `ENOTSUP` made before a fork.
    ///
    /// System calls: epoll_wait; when there is nothing yet, ppoll on the set's own descriptor in between.
    pub fn wait(&self, events: &mut [WaitSetEvent], timeout: Timeout) -> Result<usize> {
        let mut operation = self.object.operation("wait", timeout);
        if events.is_empty() {
            return Err(operation.error(Errno::EINVAL).because("there is no room for even one event"));
        }
        self.of_this_process("wait")?;
        let mut lost = None;
        let count = operation.until_ready(self.as_fd(), PollFlags::POLLIN, || self.collect(events, &mut lost));
        count.map_err(|error| match lost {
            Some(token) => error.because_found(format!(
                "the descriptor of token {token} was closed before it was removed from the set, and a duplicate of it \
                 (in a forked child, perhaps) keeps it reported; close the duplicate, or make a new set"
            )),
            None => error,
        })
    }

    /// How many entries it has; none in a forked child. Never blocks.
    pub fn len(&self) -> usize {
        self.entries("len").map_or(0, |entries| entries.len())
    }

    /// Whether it has none. Never blocks.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its name in errors, `waitset`.
    pub fn address(&self) -> &str {
        self.object.address()
    }

    /// Ends the waits of all threads on this set with `ECANCELED`, now and later; returns when they have left.
    pub fn end_waits(&self) {
        self.object.end_waits();
    }

    fn insert(&self, source: Source, interest: Interest, token: u64) -> Result<()> {
        let operation = source.operation();
        let mut entries = self.entries(operation)?;
        if entries.find(token).is_some() {
            return Err(self
                .object
                .error(Errno::EEXIST, operation)
                .because_found(format!("token {token} is in the set already; remove it first, or choose another")));
        }
        let id = entries.next_id();
        let added = sys::epoll::add(self.as_fd(), source.as_raw_fd(), flags(interest), id);
        added.map_err(|errno| self.refused(errno, &source, &entries))?;
        entries.insert(id, token, source);
        Ok(())
    }

    /// Asks the kernel without waiting, and translates; EAGAIN if nothing remains.
    fn collect(&self, events: &mut [WaitSetEvent], lost: &mut Option<u64>) -> SysResult<usize> {
        let mut ready = [EpollEvent::empty(); WAITSET_BATCH];
        let room = ready.len().min(events.len());
        let found = self.epoll.wait(ready.get_mut(..room).unwrap_or_default(), EpollTimeout::ZERO)?;
        if found == 0 {
            return Err(Errno::EAGAIN);
        }
        let entries = self.lock();
        let mut slots = events.iter_mut();
        let mut count = 0;
        for reported in ready.iter().take(found) {
            let Some((token, source)) = entries.get(reported.data()) else {
                // Removed a moment ago by another thread, or gone without being removed.
                *lost = lost.or(entries.lost(reported.data()));
                continue;
            };
            if let Some(event) = source.event(token, reported.events())
                && let Some(slot) = slots.next()
            {
                *slot = event;
                count += 1;
            }
        }
        match (count, *lost) {
            (0, Some(_)) => Err(Errno::EBADF),
            (0, None) => Err(Errno::EAGAIN),
            (count, _) => Ok(count),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Nothing in here panics half-way through a change.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries(&self, operation: &'static str) -> Result<MutexGuard<'_, Entries>> {
        self.of_this_process(operation)?;
        Ok(self.lock())
    }

    fn of_this_process(&self, operation: &'static str) -> Result<()> {
        if self.generation == fork::generation() {
            return Ok(());
        }
        Err(self.object.error(Errno::ENOTSUP, operation).because(
            "the set was made before a fork and shares its entries with the parent process; make one in this process",
        ))
    }

    #[cold]
    fn no_such(&self, operation: &'static str, token: u64, entries: &Entries) -> Error {
        if entries.has_lost(token) {
            return self.object.error(Errno::EBADF, operation).because_found(format!(
                "the descriptor of token {token} was closed while it was in the set, and its number is in use again; \
                 remove an entry before closing its descriptor"
            ));
        }
        self.object
            .error(Errno::ENOENT, operation)
            .because_found(format!("no entry of the set has the token {token}; was it removed already?"))
    }

    #[cold]
    fn closed_meanwhile(&self, operation: &'static str, errno: Errno, fd: i32) -> Error {
        match errno {
            Errno::EBADF | Errno::ENOENT => self.object.error(Errno::EBADF, operation).because_found(format!(
                "descriptor {fd} was closed while it was in the set; remove an entry before closing its descriptor"
            )),
            _ => self.object.error(errno, operation),
        }
    }

    #[cold]
    fn refused(&self, errno: Errno, source: &Source, entries: &Entries) -> Error {
        let error = self.object.error(errno, source.operation());
        let fd = source.as_raw_fd();
        match errno {
            Errno::EEXIST => error.because_found(match entries.token_of(fd) {
                Some(token) => format!(
                    "descriptor {fd} is in the set already, under token {token}; change that entry, or add a duplicate (dup)"
                ),
                None => format!("descriptor {fd} is in the set already"),
            }),
            Errno::EPERM => error.because_found(format!(
                "descriptor {fd} cannot be polled: regular files and directories are always ready; read it without waiting"
            )),
            Errno::EBADF => error.because_found(format!("descriptor {fd} is not open")),
            Errno::EINVAL => error.because("a set cannot be in itself"),
            Errno::ELOOP => error.because("sets that contain each other, or more than five sets inside one another"),
            Errno::ENOSPC => error.because_found(format!(
                "the user has as many entries in wait sets as fs.epoll.max_user_watches={} allows; remove some, or raise the limit",
                setting("fs/epoll/max_user_watches")
            )),
            _ => error,
        }
    }
}

fn flags(interest: Interest) -> u32 {
    let mut flags = EpollFlags::empty();
    flags.set(EpollFlags::EPOLLIN, interest.contains(Interest::READABLE));
    flags.set(EpollFlags::EPOLLOUT, interest.contains(Interest::WRITABLE));
    flags.bits().cast_unsigned()
}

impl AsFd for WaitSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

impl std::fmt::Debug for WaitSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WaitSet").field("fd", &self.as_fd()).field("entries", &self.len()).finish()
    }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests;
