//! Tasks of a pool, and how they ended.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::OnceLock;

use wigwag::{Death, DeathReason, Error, PoolTask, Result, Timeout, Verdict};

use crate::boundary::{call, close, expect_out, flag, invalid, object, put, timeout};
use crate::calls::WaitsElsewhere;

const TASK: &str = "task";

/// How a task ended: its function gave a result; it refused; it was cancelled; its worker ended while it ran; its
/// workers ended each time that it was tried, and it was set aside.
pub const WW_TASK_DONE: u32 = 1;
pub const WW_TASK_FAILED: u32 = 2;
pub const WW_TASK_CANCELLED: u32 = 3;
pub const WW_TASK_LOST: u32 = 4;
pub const WW_TASK_POISON: u32 = 5;
/// Why a worker ended: by itself, or somebody's signal; as the task ran for too long; as it had too much memory; as the
/// task was cancelled; as it had not asked for its first task in time.
pub const WW_DEATH_OWN: u32 = 0;
pub const WW_DEATH_TIMEOUT: u32 = 1;
pub const WW_DEATH_MEMORY: u32 = 2;
pub const WW_DEATH_CANCEL: u32 = 3;
pub const WW_DEATH_START: u32 = 4;
/// A task of a pool, until ww_pool_task_close(). May be shared between threads.
pub struct ww_pool_task {
    number: u64,
    /// `None`: it was collected, and has its verdict.
    task: Option<PoolTask>,
    /// Waits for the verdict, in the pool.
    elsewhere: WaitsElsewhere,
    ended: OnceLock<Ended>,
}

impl ww_pool_task {
    pub(crate) fn new(task: PoolTask) -> ww_pool_task {
        let number = task.number();
        ww_pool_task { number, task: Some(task), elsewhere: WaitsElsewhere::new(), ended: OnceLock::new() }
    }

    pub(crate) fn collected(number: u64, verdict: Verdict) -> ww_pool_task {
        ww_pool_task {
            number,
            task: None,
            elsewhere: WaitsElsewhere::new(),
            ended: OnceLock::from(Ended::new(verdict)),
        }
    }

    fn wait(&self, timeout: Timeout) -> Result<&Ended> {
        match (&self.task, self.ended.get()) {
            (Some(task), None) => {
                let verdict = task.wait(timeout)?;
                Ok(self.ended.get_or_init(|| Ended::new(verdict)))
            }
            (_, Some(ended)) => Ok(ended),
            (None, None) => Err(invalid(TASK, "it has no verdict")), // cannot be: see `collected`
        }
    }
}

/// A verdict, and what its pointers point to.
struct Ended {
    verdict: Verdict,
    said: CString,
    /// What the worker of each death had last written.
    last_words: Vec<CString>,
}

/// How a task ended. What it points to is the task's, until that is closed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_verdict {
    /// WW_TASK_DONE and the like.
    pub state: u32,
    /// WW_TASK_LOST and WW_TASK_POISON, here and below: WW_DEATH_OWN and the like, of the last worker.
    pub reason: u32,
    /// Its process.
    pub pid: i32,
    /// The signal that ended it; 0 for none.
    pub signal: i32,
    /// What it exited with; -1 if a signal ended it, or, with signal 0, if that is not known.
    pub exit_code: i32,
    /// How many workers the task has ended.
    pub deaths: u32,
    /// The task's number in the pool.
    pub task: u64,
    /// The most bytes that the worker had resident.
    pub peak_memory: u64,
    /// WW_TASK_DONE: the result; WW_TASK_FAILED: the reason, as the function put it, if it put text.
    pub data: *const c_void,
    pub length: usize,
    /// What happened, in words, with what a worker that ended had last written to its standard error.
    pub text: *const c_char,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 4],
}

/// The end of one worker in the middle of a task. What it points to is the task's, until that is closed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_death {
    /// WW_DEATH_OWN and the like.
    pub reason: u32,
    /// Its process.
    pub pid: i32,
    /// The signal that ended it; 0 for none.
    pub signal: i32,
    /// What it exited with; -1 if a signal ended it, or, with signal 0, if that is not known.
    pub exit_code: i32,
    /// The most bytes that it had resident.
    pub peak_memory: u64,
    /// The last that it wrote to its standard error.
    pub last_words: *const c_char,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 2],
}

/// Waits for a task's verdict. May be called again, also by several threads.
///
/// Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED it has none yet; -ENOTSUP in a child of the pool's process; -EINVAL the
/// timeout; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pool_task_wait(task: *const ww_pool_task, out: *mut ww_verdict, timeout_ns: i64) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        let handle = object(task, TASK)?;
        let _waiting = handle.elsewhere.begin();
        put(out, handle.wait(timeout(timeout_ns)?)?.to_c(handle.number), "verdict")
    })
}

/// One of the workers that a task has ended, of which verdict.deaths tells how many, from 0, in *out: what the verdict tells
/// of the last one. Never blocks.
///
/// Errors: -EAGAIN the task has no verdict yet, or nobody has waited for it; -ENOENT no worker ended so often; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pool_task_death(task: *const ww_pool_task, index: usize, out: *mut ww_death) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let task = object(task, TASK)?;
        let ended = task.ended.get().ok_or_else(|| Error::from_raw(libc::EAGAIN, "death of a worker"))?;
        let deaths = ended.deaths();
        let missing = || {
            let told = format!("the task has ended {} workers", deaths.len());
            Error::from_raw(libc::ENOENT, "death of a worker").because_found(told)
        };
        let (death, last_words) = deaths.get(index).zip(ended.last_words.get(index)).ok_or_else(missing)?;
        put(out, ww_death::new(death, last_words), "death")
    })
}

impl ww_death {
    fn new(death: &Death, last_words: &CStr) -> ww_death {
        ww_death {
            reason: match death.reason {
                DeathReason::Timeout(_) => WW_DEATH_TIMEOUT,
                DeathReason::Memory(_) => WW_DEATH_MEMORY,
                DeathReason::Cancel => WW_DEATH_CANCEL,
                DeathReason::Start(_) => WW_DEATH_START,
                _ => WW_DEATH_OWN,
            },
            pid: death.pid,
            signal: death.signal.unwrap_or(0),
            exit_code: death.exit_code.unwrap_or(-1),
            peak_memory: death.peak_memory,
            last_words: last_words.as_ptr(),
            reserved: [0; 2],
        }
    }
}

fn c_text(text: &str) -> CString {
    CString::new(text.bytes().filter(|byte| *byte != 0).collect::<Vec<_>>()).unwrap_or_default()
}

impl Ended {
    fn new(verdict: Verdict) -> Ended {
        let mut ended = Ended { said: c_text(&verdict.to_string()), verdict, last_words: Vec::new() };
        ended.last_words = ended.deaths().iter().map(|death| c_text(&death.last_words)).collect();
        ended
    }

    fn deaths(&self) -> &[Death] {
        match &self.verdict {
            Verdict::Lost(death) => std::slice::from_ref(death),
            Verdict::Poison(deaths) => deaths,
            _ => &[],
        }
    }

    fn to_c(&self, task: u64) -> ww_verdict {
        let mut verdict = ww_verdict {
            state: WW_TASK_CANCELLED,
            reason: WW_DEATH_OWN,
            pid: 0,
            signal: 0,
            exit_code: 0,
            deaths: 0,
            task,
            peak_memory: 0,
            data: std::ptr::null(),
            length: 0,
            text: self.said.as_ptr(),
            reserved: [0; 4],
        };
        let bytes: &[u8] = match &self.verdict {
            Verdict::Done(result) => {
                verdict.state = WW_TASK_DONE;
                result
            }
            Verdict::Failed(reason) => {
                verdict.state = WW_TASK_FAILED;
                reason.as_bytes()
            }
            Verdict::Lost(_) => {
                verdict.state = WW_TASK_LOST;
                &[]
            }
            Verdict::Poison(_) => {
                verdict.state = WW_TASK_POISON;
                &[]
            }
            _ => &[],
        };
        (verdict.data, verdict.length) = (bytes.as_ptr().cast(), bytes.len());
        verdict.deaths = u32::try_from(self.last_words.len()).unwrap_or(u32::MAX);
        if let Some((death, last_words)) = self.deaths().last().zip(self.last_words.last()) {
            let death = ww_death::new(death, last_words);
            (verdict.reason, verdict.pid, verdict.signal) = (death.reason, death.pid, death.signal);
            (verdict.exit_code, verdict.peak_memory) = (death.exit_code, death.peak_memory);
        }
        verdict
    }
}

/// Cancels a task, with running 1 also if it runs: its worker is killed for it. 1: it is cancelled; 0: it has its
/// verdict already, or runs on. Never blocks. Errors: -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pool_task_cancel(task: *const ww_pool_task, running: c_int) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let running = flag(running, "running")?;
        let task = object(task, TASK)?.task.as_ref();
        Ok(c_int::from(task.is_some_and(|task| task.cancel(running))))
    })
}

/// Lets go of a task, which goes on; its verdict is lost, and threads that wait for it return -ECANCELED first. NULL is
/// allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pool_task_close(task: *mut ww_pool_task) {
    // SAFETY: as above.
    unsafe { close(task, |task| task.elsewhere.end()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pool_task_end_waits(task: *const ww_pool_task) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(task, TASK)?.elsewhere.end();
        Ok(())
    })
}
