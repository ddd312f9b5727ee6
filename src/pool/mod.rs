//! A pool of worker processes: bytes in, bytes out, and a verdict for every task.

mod deaths;
mod due;
mod engine;
mod group;
mod growth;
mod launch;
mod manager;
mod name;
mod options;
mod outlet;
mod place;
mod program;
mod queue;
mod reaper;
mod seat;
mod signal;
mod unheard;
mod verdict;
mod wire;
mod worker;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

pub use launch::{Handler, PoolLauncher};
pub use options::{PoolOptions, PoolStatistics, TaskOptions, WorkerStatistics};
pub use seat::WorkerSeat;
pub use verdict::{Death, DeathReason, Verdict};
pub use worker::{HandlerResult, WorkerTask};

use crate::error::{Error, Result};
use crate::timeout::Timeout;
use launch::Forked;
use manager::Shared;
use program::Program;
use queue::Ticket;

/// A pool of worker processes.
///
/// Workers are copies of this process, made by fork, that run the handlers given to [`Pool::start`]. A worker that is
/// killed, crashes, runs for too long or takes too much memory fails the one task that it runs, with a verdict that says
/// what happened; it is replaced, and all other tasks go on. Tasks run at most once, unless `retries` says otherwise.
///
/// Workers die with this process, also if it is killed. Ctrl-C does not end them (SIGINT has a handler in them that does
/// nothing): this process decides what becomes of it. A pool belongs to the process that made it. Start it before other
/// threads hold locks that the handlers need: in the copies nobody gives them back. Children are reaped by the pool;
/// somebody else who reaps all children of the process takes the ends of its workers away.
///
/// ```
/// use wigwag::{Handler, Pool, PoolOptions, TaskOptions, Timeout, Verdict};
/// let upper = Handler::new("upper", |text: &[u8]| Ok(text.to_ascii_uppercase()));
/// let pool = Pool::start(PoolOptions { workers: 2, ..Default::default() }, vec![upper])?;
/// let task = pool.submit("upper", b"hello", TaskOptions::default(), Timeout::Forever)?;
/// assert_eq!(task.wait(Timeout::Forever)?, Verdict::Done(b"HELLO".to_vec()));
/// pool.shutdown(false, Timeout::Forever)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[doc(alias = "executor")]
pub struct Pool {
    shared: Arc<Shared>,
    thread: Arc<()>,
    names: Vec<String>,
}

/// A task of a pool.
pub struct PoolTask {
    shared: Arc<Shared>,
    ticket: Arc<Ticket>,
    number: u64,
}

impl Pool {
    /// Starts the workers. Does not wait for them.
    ///
    /// # Errors
    /// `EINVAL` options that do not go together; `ENOTSUP` an address that cannot carry tasks; `EBUSY` another pool is at
    /// work at this address; `EMFILE`, `ENFILE`; `ENOMEM` also if no thread can be had.
    ///
    /// System calls: fork, pidfd_open, and those of the channel.
    pub fn start(options: PoolOptions, handlers: Vec<Handler>) -> Result<Pool> {
        let names = handlers.iter().map(|handler| handler.name.clone()).collect();
        let (shared, thread) = Shared::start(options, Box::new(Forked(handlers)))?;
        Ok(Pool { shared, thread, names })
    }

    /// As [`Pool::start`], with workers that are a program and its arguments, found on PATH, which takes its seat by
    /// [`WorkerSeat::from_environment`] (in C, `ww_worker_serve`). Tasks are handed to [`Pool::submit_to`].
    ///
    /// # Errors
    /// As [`Pool::start`]; `ENOTSUP` an address that is not `pipe:`; `EINVAL` no program is named. One that cannot be run is
    /// tried again, less and less often.
    ///
    /// System calls: as [`Pool::start`], and execve.
    pub fn start_program(options: PoolOptions, program: &[impl AsRef<std::ffi::OsStr>]) -> Result<Pool> {
        let refuse = |errno, reason| Err(Error::new(errno, "pool").because(reason));
        if options.address.as_ref().is_some_and(|address| address.scheme() != crate::Scheme::Pipe) {
            return refuse(Errno::ENOTSUP, "only pools over pipe: hand their seats over to programs");
        }
        if program.is_empty() {
            return refuse(Errno::EINVAL, "no program is named");
        }
        let program: Vec<OsString> = program.iter().map(|word| word.as_ref().to_owned()).collect();
        Pool::with_launcher(options, Box::new(Program(program)))
    }

    /// As [`Pool::start`], with workers that `launcher` starts; tasks name their handler by number only.
    ///
    /// # Errors
    /// As [`Pool::start`].
    pub fn with_launcher(options: PoolOptions, launcher: Box<dyn PoolLauncher>) -> Result<Pool> {
        let (shared, thread) = Shared::start(options, launcher)?;
        Ok(Pool { shared, thread, names: Vec::new() })
    }

    /// Hands a task to the pool; waits while too many wait already.
    ///
    /// # Errors
    /// `EINVAL` no handler has this name; `EPIPE` the pool was shut down; `EMSGSIZE` more bytes than its address carries;
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` with no task submitted.
    pub fn submit(&self, handler: &str, payload: &[u8], options: TaskOptions, timeout: Timeout) -> Result<PoolTask> {
        let found = self.names.iter().position(|name| name == handler).and_then(|at| u32::try_from(at).ok());
        let handler = found.ok_or_else(|| {
            let known = self.names.join(", ");
            self.shared
                .error(Errno::EINVAL, "submit")
                .because_found(format!("no handler is called {handler}; there are: {known}"))
        })?;
        self.submit_to(handler, payload, options, timeout)
    }

    /// As [`Pool::submit`], to a handler by its number, as they were given, from 0.
    ///
    /// # Errors
    /// As [`Pool::submit`]; a number that no handler has fails the task.
    pub fn submit_to(&self, handler: u32, payload: &[u8], options: TaskOptions, timeout: Timeout) -> Result<PoolTask> {
        let ticket = Arc::new(Ticket::default());
        let number = self.shared.submit(handler, payload.to_vec(), options, Some(Arc::clone(&ticket)), timeout)?;
        Ok(PoolTask { shared: Arc::clone(&self.shared), ticket, number })
    }

    /// Hands a task to a handler by its number; its verdict comes out of [`Pool::collect`]. The task's number.
    ///
    /// # Errors
    /// As [`Pool::submit`].
    pub fn submit_collected(
        &self,
        handler: u32,
        payload: Vec<u8>,
        options: TaskOptions,
        timeout: Timeout,
    ) -> Result<u64> {
        self.shared.submit(handler, payload, options, None, timeout)
    }

    /// Verdicts of tasks that were submitted to be collected, as they come; waits for the first, at most `most`. None at
    /// all: the pool is shut down and everything was collected.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED`; `ENOTSUP` the pool is another process's.
    pub fn collect(&self, most: usize, timeout: Timeout) -> Result<Vec<(u64, Verdict)>> {
        self.shared.collect(most, timeout)
    }

    /// Cancels a task by number, one that runs too if `running`: its worker is killed for it. False if it has its verdict
    /// already, or runs on. Never blocks.
    pub fn cancel(&self, task: u64, running: bool) -> bool {
        self.shared.with_own(|engine, news| engine.cancel(task, running, news))
    }

    /// Whether a worker has begun a task that has no verdict yet. Never blocks.
    pub fn has_begun(&self, task: u64) -> bool {
        self.shared.with_own(|engine, _| engine.has_begun(task))
    }

    /// As many bytes as a task may have, and its result, with what the pool was started over. Never blocks.
    pub fn largest(&self) -> usize {
        self.shared.largest()
    }

    /// What it has seen, and what it does now; nothing in a child made by fork. Never blocks.
    pub fn statistics(&self) -> PoolStatistics {
        self.shared.with_own(|engine, _| engine.statistics())
    }

    /// Ends the pool: no more tasks are taken, those that it has are finished (with `cancel_queued`, those that have not
    /// begun are cancelled), and the workers end. At the deadline, what still runs is cancelled and its workers are killed.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` some tasks were cancelled for it; the pool is shut down nevertheless. `EINTR` the
    /// interrupt hook said so: no more tasks are taken, those that it has go on, and another call waits for them.
    pub fn shutdown(&self, cancel_queued: bool, timeout: Timeout) -> Result<()> {
        self.shared.shutdown(cancel_queued, timeout)
    }

    /// Ends the waits of all threads in this pool (`ECANCELED`).
    pub fn end_waits(&self) {
        self.shared.end_waits();
    }
}

impl Drop for Pool {
    /// Cancels what is left, and kills the workers.
    fn drop(&mut self) {
        let _ = self.shared.shutdown(true, Timeout::Now); // the pool is shut down in any case
        self.shared.wait_for_thread(&self.thread);
    }
}

impl PoolTask {
    /// Its number in the pool.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Waits for the verdict.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED`: it has none yet; `ENOTSUP` the pool is another process's.
    pub fn wait(&self, timeout: Timeout) -> Result<Verdict> {
        self.shared.wait(&self.ticket, timeout)
    }

    /// Cancels it, also if it runs and `running` says so. False if it has its verdict already, or runs on. Never blocks.
    pub fn cancel(&self, running: bool) -> bool {
        self.shared.with_own(|engine, news| engine.cancel(self.number, running, news))
    }
}

/// Pauses after workers that could not be started or ended before they had done anything, doubling from the first to the
/// last.
const RESTART: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));

fn closed(error: Error) -> Error {
    error.because("the pool was shut down")
}
