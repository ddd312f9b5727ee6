//! How a helper thread waits for a new value.

use std::sync::Arc;

use nix::errno::Errno;

use super::Core;
use crate::doorbell::{Listen, ROUNDS};
use crate::segment::ASK_EVERY;
use crate::sync_atomics::Ordering;
use crate::sys::{SysResult, futex};

pub(super) struct Listener(pub(super) Arc<Core>);

impl Listen for Listener {
    fn look(&self) -> SysResult<()> {
        // Acquire pairs with the Release of `Cell::note`.
        let seen = self.0.seen.load(Ordering::Acquire);
        if self.0.buffers.sequence()? > seen { Ok(()) } else { Err(Errno::EAGAIN) }
    }

    fn wait(&self) -> SysResult<()> {
        for _ in 0..ROUNDS {
            let bell = self.0.buffers.bell()?;
            let announced = bell.announce();
            match self.look() {
                Err(Errno::EAGAIN) => {}
                looked => return looked,
            }
            // Whoever wrote may have died or been stopped before it rang, or when it had taken the announcement down.
            match futex::wait(bell.word(), announced, ASK_EVERY) {
                Ok(()) | Err(Errno::EAGAIN | Errno::ETIMEDOUT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EINTR)
    }
}
