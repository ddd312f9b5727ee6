//! How a helper thread waits for the next message of a subscription.

use std::sync::Arc;

use nix::errno::Errno;

use super::log::Log;
use super::subscription::Own;
use crate::doorbell::{Listen, ROUNDS};
use crate::segment::ASK_EVERY;
use crate::sync_atomics::Ordering;
use crate::sys::{SysResult, futex};

pub(super) struct Listener {
    pub(super) log: Arc<Log>,
    pub(super) own: Arc<Own>,
}

impl Listen for Listener {
    fn look(&self) -> SysResult<()> {
        // One that was cut off is to find out.
        let next = self.own.next.load(Ordering::Acquire); // pairs with the Release of `Subscription::move_on`
        let ready = self.log.is_past(next) || self.log.check_place(&self.own.seated).is_err();
        if ready { Ok(()) } else { Err(Errno::EAGAIN) }
    }

    fn wait(&self) -> SysResult<()> {
        let waited = self.sleep();
        self.log.control()?.subscribers_bell.0.ring_all_if_called();
        waited
    }
}

impl Listener {
    fn sleep(&self) -> SysResult<()> {
        for _ in 0..ROUNDS {
            let bell = &self.log.control()?.subscribers_bell.0;
            let (announced, was_called) = bell.announce_and_tell();
            if was_called {
                bell.ring_all(); // as a subscription does: what there is, is there for all
            }
            match self.look() {
                Err(Errno::EAGAIN) => {}
                looked => return looked,
            }
            match futex::wait(bell.word(), announced, ASK_EVERY) {
                Ok(()) | Err(Errno::EAGAIN | Errno::ETIMEDOUT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EINTR)
    }
}
