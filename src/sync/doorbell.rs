//! How a helper thread waits until something could be had.

use std::sync::Arc;

use nix::errno::Errno;

use crate::doorbell::{Listen, ROUNDS};
use crate::segment::{ASK_EVERY, Party, look_around};
use crate::sys::{SysResult, futex};

pub(crate) trait Ready: Party {
    /// Whether a call would succeed now, or fail otherwise than by having to wait.
    fn is_ready(&self) -> SysResult<bool>;
}

pub(crate) struct Listener<P>(pub Arc<P>);

impl<P: Ready + Send + Sync + 'static> Listen for Listener<P> {
    fn look(&self) -> SysResult<()> {
        if self.0.is_ready()? { Ok(()) } else { Err(Errno::EAGAIN) }
    }

    fn wait(&self) -> SysResult<()> {
        let mut woken = false;
        let waited = self.sleep(&mut woken);
        if woken {
            self.0.bell()?.ring(); // this one takes nothing, and may have been woken in the place of one that would
        }
        waited
    }
}

impl<P: Ready> Listener<P> {
    fn sleep(&self, woken: &mut bool) -> SysResult<()> {
        for _ in 0..ROUNDS {
            look_around(&*self.0)?;
            let bell = self.0.bell()?;
            let announced = bell.announce();
            if self.0.is_ready()? {
                return Ok(());
            }
            let soon = self.0.look_again().map_or(ASK_EVERY, |soon| soon.min(ASK_EVERY));
            match futex::wait(bell.word(), announced, soon) {
                Ok(()) => *woken = true,
                Err(Errno::EAGAIN | Errno::ETIMEDOUT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EINTR)
    }
}
