//! The descriptors that were shown to be polled: one in each process that has the channel, as a set that a child made by fork
//! shares with its parent tells of what lies in the other's memory.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use nix::poll::PollFlags;

use crate::error::Result;
use crate::sys::fork;

#[derive(Default)]
pub(super) struct Shown(OnceLock<Box<One>>);

struct One {
    fd: OwnedFd,
    events: PollFlags,
    generation: u32,
    /// That of a child.
    next: Shown,
}

impl Shown {
    /// This process's, which `make` makes the first time.
    pub fn get(&self, make: impl FnOnce() -> Result<(OwnedFd, PollFlags)>) -> Result<(&OwnedFd, PollFlags)> {
        let generation = fork::generation();
        let mut place = self;
        while let Some(one) = place.0.get() {
            if one.generation == generation {
                return Ok((&one.fd, one.events));
            }
            place = &one.next;
        }
        let (fd, events) = make()?;
        let made = Box::new(One { fd, events, generation, next: Shown::default() });
        let one = place.0.get_or_init(|| made); // another thread may have been faster
        Ok((&one.fd, one.events))
    }
}
