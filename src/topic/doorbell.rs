//! How a helper thread waits for the next message of a subscription.

use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use super::log::Log;
use super::subscription::Own;
use crate::doorbell::Listen;
use crate::segment::ASK_EVERY;
use crate::sync_atomics::Ordering;
use crate::sys::{SysResult, futex};

/// Nothing but a message, or being cut off, ends this wait; the kernel is asked for so long at a time.
const LONG: Duration = Duration::from_secs(3600);

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
        // Whoever rings may have called this one for all.
        self.log.control()?.subscribers_bell.0.ring();
        waited
    }
}

impl Listener {
    fn sleep(&self) -> SysResult<()> {
        loop {
            let bell = &self.log.control()?.subscribers_bell.0;
            let announced = bell.announce();
            match self.look() {
                Err(Errno::EAGAIN) => {}
                looked => return looked,
            }
            // Another that was called for all may not come, if it is another process's.
            let most = if self.log.member.has_company()? { ASK_EVERY } else { LONG };
            match futex::wait(bell.word(), announced, most) {
                Ok(()) | Err(Errno::EAGAIN | Errno::ETIMEDOUT) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}
