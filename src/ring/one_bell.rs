//! How a helper thread waits for a message, or for room.

use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use super::one_end::Shared;
use super::one_layout::{Mark, distance};
use crate::doorbell::{Listen, ROUNDS};
use crate::segment::{ASK_EVERY, Party, look_around};
use crate::sync_atomics::Ordering;
use crate::sys::{SysResult, futex, membarrier};

/// As `Patience` does where the kernel has no barriers for others.
const SETTLED: Duration = Duration::from_millis(1);

/// Nobody's death can matter: the kernel is asked for so long at a time.
const LONG: Duration = Duration::from_secs(3600);

pub(super) struct Listener(pub(super) Arc<Shared>);

impl Listener {
    fn is_message(&self) -> bool {
        let (log, consumer) = (&self.0.log, &self.0.log.control.consumer.0);
        for _ in 0..64 {
            let released = consumer.released.load(Ordering::Acquire);
            let head = log.head(Mark(released).units()).load(Ordering::Acquire);
            // While the consumer is still there, the producer has not written over the header.
            if consumer.released.load(Ordering::Acquire) == released {
                return head != 0;
            }
        }
        true // it goes on and on: there are messages
    }

    /// For what was refused last.
    fn is_room(&self) -> bool {
        let (log, [from, need]) = (&self.0.log, &self.0.refused);
        let head = log.control.head.0.load(Ordering::Acquire);
        let need = need.load(Ordering::Acquire);
        let used = distance(head, from.load(Ordering::Acquire));
        // More than there is: the consumer has gone past where it was refused.
        need == 0 || used > log.whole() || used + need < log.whole()
    }
}

impl Listen for Listener {
    fn look(&self) -> SysResult<()> {
        let is_ready = if self.0.is_consumer() { self.is_message() } else { self.is_room() };
        if is_ready { Ok(()) } else { Err(Errno::EAGAIN) }
    }

    fn wait(&self) -> SysResult<()> {
        for _ in 0..ROUNDS {
            look_around(&*self.0)?;
            let bell = self.0.bell()?;
            let announced = bell.announce();
            // Its own barrier, as what the consumer has arranged with the producer may end at any time.
            let settled = !self.0.is_consumer() || membarrier::barrier().is_ok();
            let over = self.0.over()?;
            // That nothing can come any more is for the caller to meet.
            if over.is_some() || self.look().is_ok() {
                return Ok(());
            }
            let company = if self.0.member().has_company()? { ASK_EVERY } else { LONG };
            match futex::wait(bell.word(), announced, if settled { company } else { SETTLED }) {
                Ok(()) | Err(Errno::EAGAIN | Errno::ETIMEDOUT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EINTR)
    }
}
