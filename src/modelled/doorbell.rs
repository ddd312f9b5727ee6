//! A doorbell whose helper is a thread of the model, with a counter of the model's in the place of the kernel's.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use loom::sync::{Condvar, Mutex};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::words::{map, unmap};
use crate::doorbell::{Counter, Listen, Ringing};
use crate::ring::Ring;
use crate::topic::Subscription;

#[derive(Default)]
struct State {
    full: bool,
    ended: bool,
}

#[derive(Default)]
struct Modelled {
    state: Mutex<State>,
    changed: Condvar,
}

impl Modelled {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
        changed
    }

    /// Whether it has not ended when what is awaited comes.
    fn wait(&self, comes: impl Fn(&State) -> bool) -> bool {
        let mut state = self.state.lock().unwrap();
        while !state.ended && !comes(&state) {
            state = self.changed.wait(state).unwrap();
        }
        !state.ended
    }
}

impl Counter for Modelled {
    fn fill(&self) {
        self.change(|state| state.full = true);
    }

    fn empty(&self) -> bool {
        self.change(|state| std::mem::take(&mut state.full))
    }
}

/// The side of who polls.
pub struct Doorbell {
    ringing: Arc<Ringing<Modelled>>,
    /// What tells its word from those of segments.
    _identity: OwnedFd,
}

/// The helper's.
pub struct Helper {
    ringing: Arc<Ringing<Modelled>>,
    listener: Box<dyn Listen>,
}

impl Doorbell {
    /// One that rings while there is a message.
    pub fn of_messages(ring: &Ring) -> (Doorbell, Helper) {
        Doorbell::over(ring.message_listener())
    }

    /// One that rings while there is room in the first lane.
    pub fn of_room(ring: &Ring) -> (Doorbell, Helper) {
        Doorbell::over(ring.room_listener())
    }

    /// One that rings while there is a message.
    pub fn of_subscription(subscription: &Subscription) -> (Doorbell, Helper) {
        Doorbell::over(subscription.listener())
    }

    fn over(listener: Box<dyn Listen>) -> (Doorbell, Helper) {
        let ringing = Arc::new(Ringing::new(Modelled::default()));
        let identity = memfd_create(c"doorbell", MFdFlags::MFD_CLOEXEC).unwrap();
        map(Arc::as_ptr(&ringing) as usize, size_of::<Ringing<Modelled>>(), &identity);
        let helper = Helper { ringing: Arc::clone(&ringing), listener };
        (Doorbell { ringing, _identity: identity }, helper)
    }

    /// Waits until the descriptor is readable.
    pub fn poll(&self) {
        self.ringing.counter().wait(|state| state.full);
    }

    /// To be called when nothing was found.
    pub fn quiet(&self) {
        self.ringing.quiet();
    }

    /// Has the helper end when it next has something to look at.
    pub fn end(&self) {
        self.ringing.counter().change(|state| state.ended = true);
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        unmap(Arc::as_ptr(&self.ringing) as usize);
    }
}

impl Helper {
    /// What the helper's thread does.
    pub fn run(self) {
        let comes = || {
            let found = self.listener.look().or_else(|_| self.listener.wait());
            found.is_ok() && self.ringing.counter().wait(|_| true)
        };
        self.ringing.help(comes, |counter| counter.wait(|state| !state.full));
    }
}
