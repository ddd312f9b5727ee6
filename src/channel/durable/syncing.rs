//! Bringing what was appended to the disk.
//!
//! With an interval, a thread does it: it comes to be when there is something to bring, and ends when there is nothing more.
//!
//! When the kernel fails to write pages to the disk it says so once, and takes them for clean from then on: trying again would
//! succeed, and mean nothing. So a failure is told, counted, and the segment not used any more.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::fdatasync;

use super::segment::Segment;
use crate::error::Result;
use crate::sync_atomics::{AtomicU32, Ordering};
use crate::sys::background::{SMALL_STACK, spawn, wait_until_released};
use crate::sys::{SysResult, fork, futex};
use crate::wait::{Forked, Operation, Turn, Turns};

/// When what was appended goes to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// When the kernel comes to it.
    Never,
    /// So much later at the latest.
    Interval(Duration),
    /// Before sending returns.
    Every,
}

pub(super) fn sync(segment: &Segment) -> SysResult<()> {
    loop {
        match fdatasync(segment.as_fd()) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// Syncs segments a while after they were written to.
pub(super) struct Later {
    shared: Arc<Shared>,
    interval: Duration,
    generation: u32,
}

struct Shared {
    state: Turns<State>,
    /// Taken before the state.
    disk: Turns<Disk>,
    /// 1 once the thread shall end.
    ended: AtomicU32,
}

#[derive(Default)]
struct State {
    /// What was written to since it was last synced.
    unsynced: Option<Arc<Segment>>,
    is_running: bool,
    failed: Option<Errno>,
}

/// Who has the turn brings to the disk what it takes out of the state: so to have had it says that all taken out before is
/// there, or its failure told.
struct Disk;

impl Forked for Disk {
    fn after_fork(&mut self) {}

    fn replaced(&self) -> Disk {
        Disk
    }
}

impl Forked for State {
    /// The thread stayed with the parent, which syncs what it has appended.
    fn after_fork(&mut self) {
        *self = State::default();
    }

    fn replaced(&self) -> State {
        State::default()
    }
}

impl Later {
    pub fn new(interval: Duration) -> Later {
        let shared = Shared { state: Turns::new(State::default()), disk: Turns::new(Disk), ended: AtomicU32::new(0) };
        Later { shared: Arc::new(shared), interval, generation: fork::generation() }
    }

    /// What a sync since the last call has failed with.
    pub fn failure(&self) -> Option<Errno> {
        self.shared.state.take_soon().failed.take()
    }

    /// Has this segment synced in due time; at once where no thread can be had.
    pub fn wants(&self, segment: &Arc<Segment>) {
        let mut state = self.shared.state.take_soon();
        let before = state.unsynced.replace(Arc::clone(segment)).filter(|before| !Arc::ptr_eq(before, segment));
        if let Some(Err(errno)) = before.map(|before| sync(&before)) {
            state.failed = Some(errno);
        }
        if !state.is_running {
            let (shared, interval) = (Arc::clone(&self.shared), self.interval);
            state.is_running = true;
            if spawn("wigwag-sync", SMALL_STACK, move || shared.run(interval)).is_err() {
                state.is_running = false;
                let unsynced = state.unsynced.take();
                state.failed = unsynced.and_then(|segment| sync(&segment).err()).or(state.failed);
            }
        }
    }

    /// Syncs what is not synced, after whoever just does; [`Later::failure`] tells how it went.
    pub fn now(&self, operation: &mut Operation<'_>) -> Result<()> {
        self.shared.bring(&self.shared.disk.take(operation)?);
        Ok(())
    }
}

impl Shared {
    fn bring(&self, _: &Turn<'_, Disk>) {
        let segment = self.state.take_soon().unsynced.take();
        if let Some(Err(errno)) = segment.map(|segment| sync(&segment)) {
            self.state.take_soon().failed = Some(errno);
        }
    }

    fn run(&self, interval: Duration) {
        loop {
            let deadline = crate::timeout::now() + interval;
            loop {
                let left = deadline.saturating_sub(crate::timeout::now());
                // Acquire is not needed: the word alone is what counts.
                if self.ended.load(Ordering::Relaxed) != 0 {
                    return;
                }
                if left.is_zero() {
                    break;
                }
                let _ = futex::wait(&self.ended, 0, left);
            }
            self.bring(&self.disk.take_soon());
            let mut state = self.state.take_soon();
            if state.unsynced.is_none() {
                state.is_running = false;
                return;
            }
        }
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        self.shared.ended.store(1, Ordering::Relaxed);
        futex::wake(&self.shared.ended, 1);
        wait_until_released(&self.shared, self.generation);
        if self.generation == fork::generation() {
            self.shared.bring(&self.shared.disk.take_soon()); // who has to know how it went calls flush
        }
    }
}
