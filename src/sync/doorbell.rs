//! How a helper thread waits until something could be had.

use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use crate::doorbell::Listen;
use crate::segment::{ASK_EVERY, Party, look_around};
use crate::sys::{SysResult, futex};

/// Nobody's death can matter: the kernel is asked for so long at a time.
const LONG: Duration = Duration::from_secs(3600);

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
        loop {
            look_around(&*self.0)?;
            let bell = self.0.bell()?;
            let announced = bell.announce();
            if self.0.is_ready()? {
                return Ok(());
            }
            let most = if self.0.member().has_company()? { ASK_EVERY } else { LONG };
            match futex::wait(bell.word(), announced, most) {
                Ok(()) | Err(Errno::EAGAIN | Errno::ETIMEDOUT) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}
