//! Hearing at once when a holder's process ends.
//!
//! Those who wait ask who is alive every two seconds at most. Where the kernel gives descriptors of processes (pidfd_open,
//! Linux 5.3, unless a sandbox refuses), a helper thread sleeps on those of the holders, from when somebody has first
//! waited for some milliseconds until the pool is closed, and takes back what a process leaves that has ended.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::slots::Shared;
use crate::doorbell::{Doorbells, Listen};
use crate::segment::{Party, Tag};
use crate::sys::{SysResult, fork, pidfd};
use crate::timeout::Timeout;

/// Shorter waits are not worth a thread.
pub(super) const WORTH_IT: Duration = Duration::from_millis(5);
const WORTH_IT_FOR: Duration = Duration::from_millis(100);

/// Whether one who waits that long at most can gain much.
pub(super) fn is_worth_it(timeout: Timeout) -> bool {
    match timeout {
        Timeout::Forever => true,
        Timeout::Now => false,
        Timeout::After(most) => most >= WORTH_IT_FOR,
    }
}

/// The helper, and whom it listens to. Only ever tried, never waited for: a thread that has it may stay behind in fork.
#[derive(Default)]
pub(super) struct Watch {
    /// Not for its descriptor: for the helper that ends with it.
    helper: Doorbells<()>,
    watched: Mutex<Option<Watched>>,
}

struct Watched {
    generation: u32,
    epoll: Arc<Epoll>,
    processes: Vec<(Tag, OwnedFd)>,
}

struct Watcher {
    shared: Arc<Shared>,
    epoll: Arc<Epoll>,
}

impl Watch {
    /// Listens to all who hold a slot now, as far as possible.
    pub fn keep(&self, shared: &Arc<Shared>) {
        let Ok(mut watched) = self.watched.try_lock() else { return };
        let generation = fork::generation();
        if watched.as_ref().is_none_or(|watched| watched.generation != generation) {
            *watched = self.begin(shared, generation);
        }
        if let Some(watched) = watched.as_mut() {
            watched.add_holders(shared);
        }
    }

    fn begin(&self, shared: &Arc<Shared>, generation: u32) -> Option<Watched> {
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).ok()?);
        let watcher = Watcher { shared: Arc::clone(shared), epoll: Arc::clone(&epoll) };
        self.helper.get((), &shared.object, || Ok(Box::new(watcher))).ok()?;
        Some(Watched { generation, epoll, processes: Vec::new() })
    }
}

impl Watched {
    fn add_holders(&mut self, shared: &Shared) {
        self.processes.retain(|(tag, _)| shared.member.is_current(*tag));
        let mut holders: Vec<Tag> = (0..shared.room)
            .map(|slot| shared.word(slot))
            .filter(|word| word.is_held())
            .map(|word| word.owner())
            .collect();
        holders.sort_unstable_by_key(|tag| tag.bits());
        holders.dedup();
        holders.retain(|tag| !self.processes.iter().any(|(known, _)| known == tag));
        if holders.is_empty() {
            return;
        }
        let mut found = Vec::new();
        let _ = shared.member.each(|peer| {
            if let Some(pid) = peer.pid.filter(|pid| *pid != std::process::id() && holders.contains(&peer.tag)) {
                found.push((peer.tag, pid));
            }
        });
        for (tag, pid) in found {
            match libc::pid_t::try_from(pid).map_err(|_| Errno::EINVAL).and_then(pidfd::open) {
                Ok(fd) => {
                    let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, fd.as_raw_fd() as u64);
                    if self.epoll.add(&fd, event).is_ok() {
                        self.processes.push((tag, fd));
                    }
                }
                Err(Errno::ESRCH) => shared.bury_now(),
                Err(_) => {} // found out within two seconds
            }
        }
    }
}

impl Shared {
    /// Asks who is alive, due or not, and takes back what the dead hold.
    fn bury_now(&self) {
        let _ = self.member.ask().and_then(|()| self.member.bury(|| self.tidy())); // a failure is for those who wait to meet
    }
}

impl Listen for Watcher {
    fn look(&self) -> SysResult<()> {
        Err(Errno::EAGAIN) // nothing that could be told by the descriptor
    }

    fn wait(&self) -> SysResult<()> {
        let mut events = [EpollEvent::empty(); 8];
        loop {
            self.epoll.wait(&mut events, EpollTimeout::NONE)?;
            self.shared.bury_now();
        }
    }
}
