//! The entries of a wait set: what each watches, and how tokens, descriptors and the kernel's events lead to it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::sys::epoll::EpollFlags;

use super::child::Child;
use super::event::{Readiness, WaitSetEvent};
use super::timer::Timer;

/// What an entry watches.
pub(super) enum Source {
    /// Somebody else's, by number: it may be closed behind our back.
    Descriptor(RawFd),
    Timer(Timer),
    Child(Child),
}

/// How many lost entries are remembered, for the sake of a good error.
const LOST_KEPT: usize = 1024;

/// Entries have numbers that are never used again, so that an event which is late cannot be taken for a newer entry's.
#[derive(Default)]
pub(super) struct Entries {
    by_id: HashMap<u64, (u64, Source)>,
    by_token: HashMap<u64, u64>,
    by_fd: HashMap<RawFd, u64>,
    /// Numbers and tokens of entries whose descriptor was closed before it was removed, the latest of them: the kernel
    /// may go on reporting them.
    lost: VecDeque<(u64, u64)>,
    last_id: u64,
}

impl Entries {
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn insert(&mut self, id: u64, token: u64, source: Source) {
        // The kernel has just accepted the number as new, so that an entry which has it stands for a closed descriptor.
        if let Some(stale) = self.by_fd.insert(source.as_raw_fd(), id)
            && let Some((old, _)) = self.by_id.remove(&stale)
        {
            self.by_token.remove(&old);
            self.lose(stale, old);
        }
        self.by_token.insert(token, id);
        self.by_id.insert(id, (token, source));
    }

    pub(super) fn find(&self, token: u64) -> Option<(u64, &Source)> {
        let id = *self.by_token.get(&token)?;
        self.by_id.get(&id).map(|(_, source)| (id, source))
    }

    pub(super) fn get(&self, id: u64) -> Option<(u64, &Source)> {
        self.by_id.get(&id).map(|(token, source)| (*token, source))
    }

    pub(super) fn take(&mut self, token: u64) -> Option<(u64, Source)> {
        let id = self.by_token.remove(&token)?;
        let (_, source) = self.by_id.remove(&id)?;
        self.by_fd.remove(&source.as_raw_fd());
        Some((id, source))
    }

    pub(super) fn lose(&mut self, id: u64, token: u64) {
        if self.lost.len() == LOST_KEPT {
            self.lost.pop_front();
        }
        self.lost.push_back((id, token));
    }

    /// The token that a lost entry had.
    pub(super) fn lost(&self, id: u64) -> Option<u64> {
        self.lost.iter().find(|(lost, _)| *lost == id).map(|(_, token)| *token)
    }

    pub(super) fn has_lost(&self, token: u64) -> bool {
        self.lost.iter().any(|(_, lost)| *lost == token)
    }

    pub(super) fn token_of(&self, fd: RawFd) -> Option<u64> {
        self.by_fd.get(&fd).and_then(|id| self.by_id.get(id)).map(|(token, _)| *token)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}

impl Source {
    pub(super) fn operation(&self) -> &'static str {
        match self {
            Source::Descriptor(_) => "add",
            Source::Timer(_) => "add_timer",
            Source::Child(_) => "add_child",
        }
    }

    /// The event to report, unless there is none any more.
    pub(super) fn event(&self, token: u64, flags: EpollFlags) -> Option<WaitSetEvent> {
        let mut event = WaitSetEvent { token, ..WaitSetEvent::default() };
        match self {
            Source::Descriptor(_) => event.readiness = readiness(flags),
            Source::Timer(timer) => {
                event.readiness = Readiness::TIMER;
                event.expirations = timer.take().ok()?; // another waiting thread was faster, or it was set anew
            }
            Source::Child(child) => {
                event.readiness = Readiness::ENDED;
                event.status = child.status();
            }
        }
        Some(event)
    }
}

fn readiness(flags: EpollFlags) -> Readiness {
    let mut readiness = Readiness::empty();
    readiness.set(Readiness::READABLE, flags.contains(EpollFlags::EPOLLIN));
    readiness.set(Readiness::WRITABLE, flags.contains(EpollFlags::EPOLLOUT));
    readiness.set(Readiness::HANGUP, flags.contains(EpollFlags::EPOLLHUP));
    readiness.set(Readiness::ERROR, flags.contains(EpollFlags::EPOLLERR));
    readiness
}

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Source::Descriptor(fd) => *fd,
            Source::Timer(timer) => timer.as_fd().as_raw_fd(),
            Source::Child(child) => child.as_fd().as_raw_fd(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Descriptor(fd) => write!(f, "descriptor {fd}"),
            Source::Timer(_) => f.write_str("a timer"),
            Source::Child(child) => write!(f, "child {}", child.pid()),
        }
    }
}
