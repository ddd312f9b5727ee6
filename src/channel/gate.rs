//! One descriptor that is readable when a receiver has something to do: its sources have, or messages lie in memory.
//!
//! A source in an epoll set makes each message dearer for its sender, who has to wake the set. So the only source of a
//! receiver stays outside, *aside*, and is polled beside the gate by whoever sleeps, until somebody wants the descriptor.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::Result;
use crate::sys::{SysResult, copy_descriptor, epoll};
use crate::timeout::Deadline;
use crate::wait::Operation;

/// The token of the gate's own bell.
const BELL: u64 = u64::MAX;

/// An epoll set with a bell.
pub(super) struct Gate {
    epoll: Epoll,
    bell: EventFd,
    /// Threads that sleep at the gate, or are about to.
    waiting: AtomicU32,
    /// Somebody has the descriptor and may poll it at any time.
    shown: AtomicBool,
}

impl Gate {
    pub fn new() -> SysResult<Gate> {
        let gate = Gate {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            bell: EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            waiting: AtomicU32::new(0),
            shown: AtomicBool::new(false),
        };
        gate.add(gate.bell.as_fd(), libc::EPOLLIN.cast_unsigned(), BELL)?;
        Ok(gate)
    }

    pub fn add(&self, fd: BorrowedFd<'_>, events: u32, token: u64) -> SysResult<()> {
        epoll::add(self.epoll.0.as_fd(), fd.as_raw_fd(), events, token)
    }

    /// Has a source that is in the set told of as long as it is ready, or once for each time that it becomes so.
    pub fn change(&self, fd: BorrowedFd<'_>, events: u32, token: u64) -> SysResult<()> {
        epoll::modify(self.epoll.0.as_fd(), fd.as_raw_fd(), events, token)
    }

    pub fn remove(&self, fd: BorrowedFd<'_>) -> SysResult<()> {
        epoll::delete(self.epoll.0.as_fd(), fd.as_raw_fd())
    }

    /// The tokens of sources that are ready now, at most as many as fit; the bell is not among them.
    pub fn ready(&self, tokens: &mut [u64; 8]) -> SysResult<usize> {
        let mut events = [EpollEvent::empty(); 8];
        let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Err(Errno::EINTR) => 0,
            outcome => outcome?,
        };
        let mut found = 0;
        for event in events.iter().take(count).filter(|event| event.data() != BELL) {
            tokens[found] = event.data();
            found += 1;
        }
        Ok(found)
    }

    /// Makes the descriptor readable if somebody could be looking at it. Called with the receiver's turn, like
    /// [`Gate::quiet`]: `rung` is what they know about the bell.
    pub fn ring(&self, rung: &mut bool) {
        if !*rung && (self.waiting.load(Ordering::SeqCst) > 0 || self.shown.load(Ordering::SeqCst)) {
            *rung = self.bell.write(1).is_ok();
        }
    }

    /// Takes back what [`Gate::ring`] did.
    pub fn quiet(&self, rung: &mut bool) {
        if *rung {
            *rung = self.bell.read().is_err();
        }
    }

    /// Announces a sleep. What is found in memory after this has been rung for: so announce, look once more, sleep.
    pub fn announce(&self) -> Announced<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Announced(self)
    }

    /// Whether a source may stay aside: nobody polls the descriptor, and nobody sleeps who would not know of it. Called
    /// with the receiver's turn, by one of `own` announced sleepers: those that announce later look, with the turn, before
    /// they sleep.
    pub fn allows_aside(&self, own: u32) -> bool {
        !self.shown.load(Ordering::SeqCst) && self.waiting.load(Ordering::SeqCst) <= own
    }

    /// The descriptor, for somebody who polls it from now on. The source aside has to be added after this.
    pub fn show(&self) -> SysResult<OwnedFd> {
        let shown = copy_descriptor(self.epoll.0.as_fd())?;
        self.shown.store(true, Ordering::SeqCst);
        Ok(shown)
    }
}

/// A sleep that is going to happen, until dropped.
pub(super) struct Announced<'a>(&'a Gate);

impl Announced<'_> {
    /// Sleeps until the gate opens, or the source aside has something; no longer than to `end`.
    pub fn sleep(&self, aside: Option<BorrowedFd<'_>>, end: Deadline, operation: &mut Operation<'_>) -> Result<()> {
        let gate = self.0.epoll.0.as_fd();
        let source = aside.unwrap_or(gate);
        let events = PollFlags::POLLIN | PollFlags::from_bits_retain(libc::POLLRDHUP);
        let mut fds = [PollFd::new(gate, PollFlags::POLLIN), PollFd::new(source, events)];
        let fds = if aside.is_some() { &mut fds[..] } else { &mut fds[..1] };
        operation.wait().poll_until(fds, end).map_err(|errno| operation.error(errno))
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
