//! How a task ended: every task ends in one of these ways, and none takes another one with it.

use std::fmt;
use std::time::Duration;

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Its handler gave this.
    Done(Vec<u8>),
    /// Its handler refused, with this text.
    Failed(String),
    /// It was cancelled: before it ran, or its worker was killed for it.
    Cancelled,
    /// Its worker ended while it ran.
    Lost(Death),
    /// Its workers ended each time that it was tried; it was set aside.
    Poison(Vec<Death>),
}

/// Why a worker was ended, or ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeathReason {
    /// It ended by itself: a crash, an exit, somebody's signal, the system out of memory.
    Own,
    /// Its task ran for longer than it was allowed to.
    Timeout(Duration),
    /// It had more memory than it was allowed to, in bytes.
    Memory(u64),
    /// Its task was cancelled.
    Cancel,
    /// It had not asked for its first task in the time that it may take to start.
    Start(Duration),
}

/// The end of a worker in the middle of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// The task, as numbered by the pool.
    pub task: u64,
    /// The worker's process.
    pub pid: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it exited with, if it did.
    pub exit_code: Option<i32>,
    /// Why, as far as the pool knows.
    pub reason: DeathReason,
    /// The most memory that it had resident, in bytes.
    pub peak_memory: u64,
    /// The last that it wrote to its standard error.
    pub last_words: String,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}: its {}", self.task, EndOfWorker(self))
    }
}

/// What became of the worker, whatever it was doing.
pub(super) struct EndOfWorker<'a>(pub &'a Death);

impl fmt::Display for EndOfWorker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EndOfWorker(death) = self;
        write!(f, "worker (pid {}) ", death.pid)?;
        match (death.signal, death.exit_code) {
            (Some(signal), _) => write!(f, "was ended by signal {signal}")?,
            (None, Some(code)) => write!(f, "exited with {code}")?,
            (None, None) => write!(f, "ended, and somebody else has been told how")?,
        }
        match death.reason {
            DeathReason::Own => {}
            DeathReason::Timeout(limit) => write!(f, ", as the task ran for longer than {limit:?}")?,
            DeathReason::Memory(limit) => write!(f, ", as it had more than {limit} bytes of memory")?,
            DeathReason::Cancel => write!(f, ", as the task was cancelled")?,
            DeathReason::Start(limit) => write!(f, ", as it had asked for no task after {limit:?}")?,
        }
        write!(f, "; it had up to {} KiB", death.peak_memory / 1024)?;
        if !death.last_words.is_empty() {
            write!(f, "; it last said: {}", death.last_words.trim_end())?;
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Done(result) => write!(f, "done, with {} bytes", result.len()),
            Verdict::Failed(reason) => write!(f, "failed: {reason}"),
            Verdict::Cancelled => write!(f, "cancelled"),
            Verdict::Lost(death) => write!(f, "{death}"),
            Verdict::Poison(deaths) => {
                write!(f, "set aside after {} attempts", deaths.len())?;
                deaths.iter().try_for_each(|death| write!(f, "; {death}"))
            }
        }
    }
}
