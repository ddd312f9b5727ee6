//! What a pool and a task shall be, and what a pool has seen.

use std::time::Duration;

use nix::errno::Errno;

use crate::address::Address;
use crate::error::{Error, Result};

/// Most workers of one pool.
const WORKERS_MAX: u32 = 4096;

/// How a pool works.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// What tasks and results travel over: `pipe:` (the default), `ring:name`, `mq:/name` or `sysv-mq:/path#1`; named ones get one object per
    /// worker, named after it, and are removed at the end. A name is one pool's, per user and library directory (WIGWAG_DIR);
    /// names of `mq:` and `sysv-mq:` are the whole system's, so that pools of several users need names of their own.
    pub address: Option<Address>,
    /// The most workers at a time; 0 for one per processor.
    pub workers: u32,
    /// Workers that are kept while there is nothing to do; `None` for all. More are started as tasks wait.
    pub least_workers: Option<u32>,
    /// How long a worker beyond those has nothing to do before it is ended; 10 s by default.
    pub shrink_after: Duration,
    /// Tasks that may wait for a worker; submitting one more waits. 0 for 65536.
    pub queue: usize,
    /// How often a task whose worker died is tried again. 0, the default, is at most once: it is never tried again, as it
    /// may have done its work. With n, a task that has killed n + 1 workers is set aside ([`Verdict::Poison`]).
    ///
    /// [`Verdict::Poison`]: super::Verdict::Poison
    pub retries: u32,
    /// How long a task may run; then its worker is killed. `None` for ever; each task may have its own.
    pub task_timeout: Option<Duration>,
    /// How long a worker may take until it asks for its first task; then it is killed, as one that ends before it has done
    /// anything, and the next has twice as long, up to 16 times. Time in which this process does not run, as a stopped job,
    /// does not count. 60 s by default; `None` for ever.
    pub start_timeout: Option<Duration>,
    /// The most memory in bytes that a worker may have resident for itself, without pages of files and shared memory; then it
    /// is killed. Looked at 20 times a second, and where this process may make control groups, the kernel holds it to the limit
    /// at every page, those of shared memory included that it is first to touch. 0 for no limit.
    pub memory_limit: u64,
    /// Tasks after which a worker is replaced by a fresh one; 0 for never.
    pub tasks_per_worker: u64,
    /// Verdicts are collected with [`Pool::collect`](super::Pool::collect), and tasks are not waited for one by one.
    pub collects: bool,
}

impl Default for PoolOptions {
    fn default() -> PoolOptions {
        PoolOptions {
            address: None,
            workers: 0,
            least_workers: None,
            shrink_after: Duration::from_secs(10),
            queue: 0,
            retries: 0,
            task_timeout: None,
            start_timeout: Some(Duration::from_secs(60)),
            memory_limit: 0,
            tasks_per_worker: 0,
            collects: false,
        }
    }
}

impl PoolOptions {
    /// Fills in what is default, and checks.
    pub(super) fn checked(mut self) -> Result<PoolOptions> {
        if self.workers == 0 {
            let found = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            self.workers = u32::try_from(found).unwrap_or(WORKERS_MAX);
        }
        if self.queue == 0 {
            self.queue = 65536;
        }
        let refuse = |reason| Err(Error::new(Errno::EINVAL, "pool").because(reason));
        if self.workers > WORKERS_MAX {
            return refuse("a pool has at most 4096 workers");
        }
        if self.least_workers.is_some_and(|least| least > self.workers) {
            return refuse("the least number of workers is above the most");
        }
        Ok(self)
    }
}

/// What one task asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskOptions {
    /// Higher ones run first; 0 by default.
    pub priority: u32,
    /// How long it may run, instead of [`PoolOptions::task_timeout`].
    pub timeout: Option<Duration>,
}

/// What a pool has seen, and what it does now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatistics {
    /// Tasks submitted. Always `submitted = done + failed + lost + cancelled + poisoned + queued + running`.
    pub submitted: u64,
    /// Tasks whose handler gave a result.
    pub done: u64,
    /// Tasks whose handler refused.
    pub failed: u64,
    /// Tasks whose worker ended while they ran.
    pub lost: u64,
    /// Tasks that were cancelled.
    pub cancelled: u64,
    /// Tasks that were set aside after all attempts.
    pub poisoned: u64,
    /// Tasks that no worker has been given.
    pub queued: u64,
    /// Tasks that a worker has, begun or not.
    pub running: u64,
    /// Times that a task was tried again.
    pub retried: u64,
    /// Workers started.
    pub started: u64,
    /// Workers that ended in the middle of a task, or before they had done any.
    pub deaths: u64,
    /// Reports that were no worker's of this pool, or none at all, and dropped: somebody else sends to its address.
    pub foreign: u64,
    /// Bytes of the workers' standard error, and of what the pool had to say there, that were not passed on, as this
    /// process's had no room: nobody waits for who reads it.
    pub unsaid: u64,
    /// The workers now.
    pub workers: Vec<WorkerStatistics>,
}

/// One worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerStatistics {
    /// Its process.
    pub pid: i32,
    /// Tasks it has done.
    pub tasks: u64,
    /// The share of its life that it had something to do, in thousandths.
    pub busy: u32,
    /// The memory it has resident for itself, in bytes, without pages of files and shared memory; 0 if the system does not
    /// tell.
    pub memory: u64,
    /// Whether the kernel holds it to the memory limit, by a control group.
    pub in_group: bool,
}
