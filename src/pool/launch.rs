//! Starting workers.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::seat::WorkerSeat;
use super::worker::HandlerResult;
use crate::error::{Error, Result};
use crate::sys::child;

/// Starts worker processes.
pub trait PoolLauncher: Send {
    /// Starts a process that works in `seat` ([`WorkerSeat::serve`]) and says on `error`, its standard error, what it has
    /// to say; its pid. Called from a thread of the pool's own.
    ///
    /// # Errors
    /// Whatever keeps it from starting; the pool tries again, less and less often.
    fn launch(&mut self, seat: WorkerSeat, error: OwnedFd) -> Result<i32>;

    /// How a worker ended, as waitpid puts it, where the launcher knows better: asked once the process has ended and if it
    /// was no child of this one, or somebody has reaped it.
    fn end_of(&mut self, _pid: i32) -> Option<i32> {
        None
    }
}

/// Something that workers can do, by name.
pub struct Handler {
    pub(super) name: String,
    pub(super) run: Run,
}

pub(super) type Run = Arc<dyn Fn(&[u8]) -> HandlerResult + Send + Sync>;

impl Handler {
    /// A handler that turns a task's bytes into a result, or says why there is none.
    pub fn new(name: impl Into<String>, run: impl Fn(&[u8]) -> HandlerResult + Send + Sync + 'static) -> Handler {
        Handler { name: name.into(), run: Arc::new(run) }
    }
}

/// Workers that are copies of this process.
pub(super) struct Forked(pub Vec<Handler>);

impl PoolLauncher for Forked {
    fn launch(&mut self, seat: WorkerSeat, error: OwnedFd) -> Result<i32> {
        let started = child::fork(Some(error), || match seat.serve_handlers(&self.0) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("worker {}: {error}", std::process::id());
                1
            }
        });
        started.map_err(|errno| Error::new(errno, "fork").because("no worker could be started"))
    }
}
