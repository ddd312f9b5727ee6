//! Pools of worker processes: bytes in, bytes out, and a verdict for every task.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;
use std::time::Duration;

use wigwag::{DeathReason, Error, Handler, Pool, PoolOptions, PoolTask, Result, TaskOptions, Verdict};

use crate::boundary::{
    Options, address, bytes, call, close, expect_out, flag, give, invalid, object, options, put, put_list, text,
    timeout,
};
use crate::call::{answer, ww_function};
use crate::calls::{Counted, WaitsElsewhere, close_counted};
use crate::common::WW_FOREVER;

const POOL: &str = "pool";
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
/// For least_workers: none has to be kept.
pub const WW_POOL_NO_WORKERS: u32 = u32::MAX;

/// A pool of worker processes. May be shared between threads. It belongs to the process that made it, and its workers
/// end with that process, also if it is killed.
pub struct ww_pool(Counted<Pool>);

/// A task of a pool, until ww_pool_task_close(). May be shared between threads.
pub struct ww_pool_task {
    task: PoolTask,
    /// Waits for the verdict, in the pool.
    elsewhere: WaitsElsewhere,
    ended: OnceLock<Ended>,
}

impl ww_pool_task {
    fn new(task: PoolTask) -> ww_pool_task {
        ww_pool_task { task, elsewhere: WaitsElsewhere::new(), ended: OnceLock::new() }
    }
}

/// A verdict, and what its pointers point to.
struct Ended {
    verdict: Verdict,
    said: CString,
}

/// Something that workers can do, by its name.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_pool_function {
    pub name: *const c_char,
    pub run: ww_function,
    /// Handed to run as it is.
    pub user: *mut c_void,
}

/// How a pool works; initialise with WW_POOL_OPTIONS_INIT. Zero means the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_pool_options {
    pub size: usize,
    /// What tasks travel over: "pipe:" (the default), "ring:name", "mq:/name", "sysv-mq:/path#1".
    pub address: *const c_char,
    /// How many tasks may wait for a worker, after which submitting waits; 0 for 65536.
    pub queue: u64,
    /// The most bytes that a worker may have resident for itself, without pages of files and shared memory; it is killed
    /// above that. Looked at 20 times a second, and where this process may make control groups, the kernel holds it to the
    /// limit at every page, those of shared memory included that it is first to touch. 0 for no limit.
    pub memory_limit: u64,
    /// Tasks after which a worker is replaced by a fresh one; 0 for never.
    pub tasks_per_worker: u64,
    /// How long a task may run, in nanoseconds, until its worker is killed; 0 for ever.
    pub task_timeout_ns: i64,
    /// How long a worker beyond the least has nothing to do before it ends, in nanoseconds; 0 for 10 s.
    pub shrink_after_ns: i64,
    /// The most workers at a time, at most 4096; 0 for one per processor.
    pub workers: u32,
    /// Workers that are kept while there is nothing to do; 0 for all, or WW_POOL_NO_WORKERS.
    pub least_workers: u32,
    /// How often a task whose worker died is tried again; 0 for never, as it may have done its work.
    pub retries: u32,
    pub reserved: u32,
    /// How long a worker may take until it asks for its first task, in nanoseconds; then it is killed, as one that ends
    /// before it has done anything, and the next has twice as long, up to 16 times. Time in which this process does not run
    /// does not count. 0 for 60 s, WW_FOREVER for ever.
    pub start_timeout_ns: i64,
}

impl Default for ww_pool_options {
    fn default() -> ww_pool_options {
        ww_pool_options {
            size: size_of::<ww_pool_options>(),
            address: std::ptr::null(),
            queue: 0,
            memory_limit: 0,
            tasks_per_worker: 0,
            task_timeout_ns: 0,
            shrink_after_ns: 0,
            workers: 0,
            least_workers: 0,
            retries: 0,
            reserved: 0,
            start_timeout_ns: 0,
        }
    }
}

// SAFETY: repr(C), size first, no padding, valid for all zeros.
unsafe impl Options for ww_pool_options {}

/// What one task asks for; initialise with WW_TASK_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_task_options {
    pub size: usize,
    /// How long it may run, in nanoseconds; 0 for what the pool says.
    pub timeout_ns: i64,
    /// Tasks of a higher one run first.
    pub priority: u32,
    pub reserved: u32,
}

impl Default for ww_task_options {
    fn default() -> ww_task_options {
        ww_task_options { size: size_of::<ww_task_options>(), timeout_ns: 0, priority: 0, reserved: 0 }
    }
}

// SAFETY: repr(C), size first, no padding, valid for all zeros.
unsafe impl Options for ww_task_options {}

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
    /// WW_TASK_DONE: the result.
    pub data: *const c_void,
    pub length: usize,
    /// What happened, in words, with what a worker that ended had last written to its standard error.
    pub text: *const c_char,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 4],
}

/// What a pool has seen, and what it does now: submitted = done + failed + lost + cancelled + poisoned + queued + running.
#[repr(C)]
pub struct ww_pool_statistics {
    pub submitted: u64,
    pub done: u64,
    pub failed: u64,
    pub lost: u64,
    pub cancelled: u64,
    pub poisoned: u64,
    /// Tasks that no worker has been given, and that a worker has, begun or not.
    pub queued: u64,
    pub running: u64,
    /// Times that a task was tried again.
    pub retried: u64,
    /// Workers started, those that ended in the middle of a task or before they had done any, and those that there are.
    pub started: u64,
    pub deaths: u64,
    pub workers: u64,
    /// Bytes of the workers' standard error, and of what the pool had to say there, that were not passed on, as this process's had
    /// no room.
    pub unsaid: u64,
    /// Reports that were no worker's of this pool, or none at all, and dropped: somebody else sends to its address.
    pub foreign: u64,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 2],
}

/// A worker of a pool.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_pool_worker {
    /// Tasks it has done.
    pub tasks: u64,
    /// Bytes it has resident for itself, without pages of files and shared memory; 0 if the system does not tell.
    pub memory: u64,
    /// Its process.
    pub pid: i32,
    /// The share of its life that it had something to do, in thousandths.
    pub busy: u32,
    /// 1 if the kernel holds it to the memory limit, by a control group; else 0.
    pub in_group: u64,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 3],
}

/// The caller's pointer, which means something to the caller's function alone.
struct User(*mut c_void);

// SAFETY: this side never looks at what it points to; in a worker, which is a process of its own, one thread calls the function.
unsafe impl Send for User {}
// SAFETY: as above.
unsafe impl Sync for User {}

fn limit(nanos: i64) -> Result<Option<Duration>> {
    let wrong = |_| invalid(POOL, "a time limit is a number of nanoseconds, or 0");
    Ok((nanos != 0).then_some(Duration::from_nanos(u64::try_from(nanos).map_err(wrong)?)))
}

/// # Safety
/// `given` is NULL or points to a struct of the size that its first member tells, whose `address` is NULL or a C string.
unsafe fn pool_options(given: *const ww_pool_options) -> Result<PoolOptions> {
    // SAFETY: as the caller promises.
    let given = unsafe { options(given, "ww_pool_options") }?;
    if given.reserved != 0 {
        return Err(invalid("ww_pool_options", "the reserved member must be 0"));
    }
    // SAFETY: as above.
    let address = if given.address.is_null() { None } else { Some(unsafe { address(given.address) }?) };
    Ok(PoolOptions {
        address,
        workers: given.workers,
        least_workers: match given.least_workers {
            0 => None,
            WW_POOL_NO_WORKERS => Some(0),
            least => Some(least),
        },
        shrink_after: limit(given.shrink_after_ns)?.unwrap_or(PoolOptions::default().shrink_after),
        queue: usize::try_from(given.queue).unwrap_or(usize::MAX),
        retries: given.retries,
        task_timeout: limit(given.task_timeout_ns)?,
        start_timeout: match given.start_timeout_ns {
            0 => PoolOptions::default().start_timeout,
            WW_FOREVER => None,
            nanos => limit(nanos)?,
        },
        memory_limit: given.memory_limit,
        tasks_per_worker: given.tasks_per_worker,
        ..Default::default()
    })
}

/// # Safety
/// An array of so many functions, whose names are C strings.
unsafe fn handlers(functions: *const ww_pool_function, count: usize) -> Result<Vec<Handler>> {
    let handler = |index: usize| {
        // SAFETY: as the caller promises.
        let function = unsafe { object(functions.wrapping_add(index), "function") }?;
        let run = function.run.ok_or_else(|| Error::from_raw(libc::EFAULT, "function"))?;
        // SAFETY: as above.
        let name = String::from_utf8_lossy(unsafe { text(function.name, "function") }?).into_owned();
        let user = User(function.user);
        Ok(Handler::new(name, move |task| {
            let user = &user;
            answer(|answer| {
                // SAFETY: the caller's function with the caller's pointer, as the header says; the bytes are the task's.
                unsafe { run(task.as_ptr().cast(), task.len(), answer, user.0) }
            })
        }))
    };
    (0..count).map(handler).collect()
}

/// Starts a pool whose workers are copies of this process, made by fork, that run the functions. Start it before other
/// threads hold locks that these need: in the copies nobody gives them back. The pool reaps its workers; who reaps all
/// children of the process takes their ends away from it. Does not wait for them. NULL options mean defaults. Close it
/// with ww_pool_close().
///
/// Errors: -EINVAL options that do not go together; -ENOTSUP an address that cannot carry tasks; -EBUSY another pool is
/// at work at this address; -EMFILE, -ENFILE; -ENOMEM also if no thread can be had; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pool_start(
    out: *mut *mut ww_pool,
    options: *const ww_pool_options,
    functions: *const ww_pool_function,
    count: usize,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_pool(Counted::new(Pool::start(pool_options(options)?, handlers(functions, count)?)?)))
    })
}

/// Starts a pool whose workers are a program with its arguments, found on PATH, ended by NULL, that calls
/// ww_worker_serve(). Over "pipe:" only. Its functions are known by their numbers: see ww_pool_submit_to().
///
/// Errors: as ww_pool_start(); -EINVAL no program is named. A program that cannot be run is tried again, less and less
/// often.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pool_start_program(
    out: *mut *mut ww_pool,
    options: *const ww_pool_options,
    program: *const *const c_char,
) -> c_int {
    // SAFETY: as above; the array ends with NULL.
    call(|| unsafe {
        expect_out(out)?;
        let mut words = Vec::new();
        let mut at = program;
        while let Some(word) = at.as_ref().filter(|word| !word.is_null()) {
            words.push(OsStr::from_bytes(CStr::from_ptr(*word).to_bytes()));
            at = at.add(1);
        }
        give(out, ww_pool(Counted::new(Pool::start_program(pool_options(options)?, &words)?)))
    })
}

/// In a program that ww_pool_start_program() started: works, and waits for tasks, until the pool says stop or is gone.
/// Functions are called by their numbers, from 0. Unless the program has a handler for SIGINT, it gets one that does
/// nothing: Ctrl-C is for the pool's process.
///
/// Errors: -ENOENT no pool started this program; -EBUSY it was called before; -EINVAL, -EBADF the environment was
/// changed on the way; -EBADMSG somebody else writes to the pool's channel; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_worker_serve(functions: *const ww_pool_function, count: usize) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { wigwag::WorkerSeat::from_environment()?.serve_handlers(&handlers(functions, count)?) })
}

/// Ends the pool: tasks that it has are cancelled, their workers killed, whose end it waits for, 5 s at most; threads
/// that wait in it return -ECANCELED first. Tasks stay good until they are closed. See ww_pool_shutdown() for a gentler
/// end. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pool_close(pool: *mut ww_pool) {
    // SAFETY: as above.
    unsafe { close_counted(pool, |pool| &pool.0, Pool::end_waits) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pool_end_waits(pool: *const ww_pool) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(pool, "pool")?.0.get().end_waits();
        Ok(())
    })
}

/// Hands a task to a function by its name; waits while too many wait already. NULL options mean defaults.
///
/// Errors: -EINVAL no function has this name, or the timeout; -EPIPE the pool was shut down; -EMSGSIZE more bytes than
/// its address carries; -EAGAIN, -ETIMEDOUT, -ECANCELED with no task submitted; -ENOTSUP in a child of the pool's
/// process; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pool_submit(
    pool: *const ww_pool,
    out: *mut *mut ww_pool_task,
    function: *const c_char,
    data: *const c_void,
    length: usize,
    options: *const ww_task_options,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let name = std::str::from_utf8(text(function, "function")?)
            .map_err(|_| invalid(POOL, "a function's name is text in UTF-8"))?;
        let task = object(pool, POOL)?.0.begin().submit(
            name,
            bytes(data, length)?,
            task_options(options)?,
            timeout(timeout_ns)?,
        )?;
        give(out, ww_pool_task::new(task))
    })
}

/// As ww_pool_submit(), to a function by its number, from 0; one that there is not fails the task.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pool_submit_to(
    pool: *const ww_pool,
    out: *mut *mut ww_pool_task,
    function: u32,
    data: *const c_void,
    length: usize,
    options: *const ww_task_options,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let pool = object(pool, POOL)?.0.begin();
        let task = pool.submit_to(function, bytes(data, length)?, task_options(options)?, timeout(timeout_ns)?)?;
        give(out, ww_pool_task::new(task))
    })
}

/// # Safety
/// `given` is NULL or points to a struct of the size that its first member tells.
unsafe fn task_options(given: *const ww_task_options) -> Result<TaskOptions> {
    // SAFETY: as the caller promises.
    let given = unsafe { options(given, "ww_task_options") }?;
    if given.reserved != 0 {
        return Err(invalid("ww_task_options", "the reserved member must be 0"));
    }
    Ok(TaskOptions { priority: given.priority, timeout: limit(given.timeout_ns)? })
}

/// Waits for a task's verdict. May be called again, also by several threads.
///
/// Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED it has none yet; -ENOTSUP in a child of the pool's process; -EINVAL the
/// timeout; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pool_task_wait(task: *const ww_pool_task, out: *mut ww_verdict, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let handle = object(task, TASK)?;
        let _waiting = handle.elsewhere.begin();
        let verdict = handle.task.wait(timeout(timeout_ns)?)?;
        let ended = handle.ended.get_or_init(|| {
            let said: Vec<u8> = verdict.to_string().bytes().filter(|byte| *byte != 0).collect();
            Ended { verdict, said: CString::new(said).unwrap_or_default() }
        });
        put(out, ended.to_c(handle.task.number()), "verdict")
    })
}

impl Ended {
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
        let deaths = match &self.verdict {
            Verdict::Done(result) => {
                verdict.state = WW_TASK_DONE;
                (verdict.data, verdict.length) = (result.as_ptr().cast(), result.len());
                &[][..]
            }
            Verdict::Failed(_) => {
                verdict.state = WW_TASK_FAILED;
                &[]
            }
            Verdict::Lost(death) => {
                verdict.state = WW_TASK_LOST;
                std::slice::from_ref(death)
            }
            Verdict::Poison(deaths) => {
                verdict.state = WW_TASK_POISON;
                deaths
            }
            _ => &[],
        };
        verdict.deaths = u32::try_from(deaths.len()).unwrap_or(u32::MAX);
        if let Some(death) = deaths.last() {
            verdict.reason = match death.reason {
                DeathReason::Timeout(_) => WW_DEATH_TIMEOUT,
                DeathReason::Memory(_) => WW_DEATH_MEMORY,
                DeathReason::Cancel => WW_DEATH_CANCEL,
                DeathReason::Start(_) => WW_DEATH_START,
                _ => WW_DEATH_OWN,
            };
            (verdict.pid, verdict.signal) = (death.pid, death.signal.unwrap_or(0));
            (verdict.exit_code, verdict.peak_memory) = (death.exit_code.unwrap_or(-1), death.peak_memory);
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
        let running = flag(running, TASK)?;
        Ok(c_int::from(object(task, TASK)?.task.cancel(running)))
    })
}

/// Lets go of a task, which goes on; its verdict is lost, and threads that wait for it return -ECANCELED first. NULL is
/// allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pool_task_close(task: *mut ww_pool_task) {
    // SAFETY: as above.
    unsafe { close(task, |task| task.elsewhere.end()) };
}

/// Ends the pool: no more tasks are taken, those that it has are finished (with cancel_queued 1, those that have not
/// begun are cancelled), and the workers end; waits for all that. At the deadline, what still runs is cancelled and its
/// workers are killed. The handle stays to be closed.
///
/// Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED some tasks were cancelled for it; the pool is shut down nevertheless;
/// -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pool_shutdown(pool: *const ww_pool, cancel_queued: c_int, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(pool, POOL)?.0.begin().shutdown(flag(cancel_queued, POOL)?, timeout(timeout_ns)?) })
}

/// What the pool has seen, and as many of its workers as there is room for; workers may be NULL. Never blocks. Errors:
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pool_get_statistics(
    pool: *const ww_pool,
    out: *mut ww_pool_statistics,
    workers: *mut ww_pool_worker,
    room: usize,
) -> c_int {
    // SAFETY: as above; workers has room for so many.
    call(|| unsafe {
        let found = object(pool, POOL)?.0.get().statistics();
        let statistics = ww_pool_statistics {
            submitted: found.submitted,
            done: found.done,
            failed: found.failed,
            lost: found.lost,
            cancelled: found.cancelled,
            poisoned: found.poisoned,
            queued: found.queued,
            running: found.running,
            retried: found.retried,
            started: found.started,
            deaths: found.deaths,
            workers: found.workers.len() as u64,
            unsaid: found.unsaid,
            foreign: found.foreign,
            reserved: [0; 2],
        };
        put(out, statistics, "statistics")?;
        let of = |worker: &wigwag::WorkerStatistics| ww_pool_worker {
            tasks: worker.tasks,
            memory: worker.memory,
            pid: worker.pid,
            busy: worker.busy,
            in_group: worker.in_group.into(),
            reserved: [0; 3],
        };
        put_list(workers, room, found.workers.iter().map(of));
        Ok(())
    })
}
