//! Pools of worker processes: bytes in, bytes out, and a verdict for every task.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use libc::ssize_t;
use wigwag::{Error, Handler, Pool, PoolOptions, Result, TaskOptions};

use crate::boundary::{
    Options, address, bytes, call, expect_out, flag, give, invalid, object, options, put, put_list, text, timeout,
};
use crate::call::{answer, ww_function};
use crate::calls::{Counted, close_counted};
use crate::common::WW_FOREVER;
use crate::pool_task::ww_pool_task;

const POOL: &str = "pool";

/// For least_workers: none has to be kept.
pub const WW_POOL_NO_WORKERS: u32 = u32::MAX;

/// A pool of worker processes. May be shared between threads. It belongs to the process that made it, and its workers
/// end with that process, also if it is killed.
pub struct ww_pool(Counted<Pool>);

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
    /// How long it may run, in nanoseconds; 0 for what the pool says, WW_FOREVER for as long as it likes.
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

/// A time limit: 0 for `usual`, WW_FOREVER for `forever`.
fn limit(
    nanos: i64,
    member: &'static str,
    usual: Option<Duration>,
    forever: Option<Duration>,
) -> Result<Option<Duration>> {
    match nanos {
        0 => Ok(usual),
        WW_FOREVER => Ok(forever),
        nanos => u64::try_from(nanos)
            .map(|nanos| Some(Duration::from_nanos(nanos)))
            .map_err(|_| invalid(member, "a time limit is a number of nanoseconds, 0 or WW_FOREVER")),
    }
}

/// Longer than anything runs.
const NO_LIMIT: Duration = Duration::from_nanos(i64::MAX as u64);

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
        shrink_after: limit(given.shrink_after_ns, "ww_pool_options.shrink_after_ns", None, Some(NO_LIMIT))?
            .unwrap_or(PoolOptions::default().shrink_after),
        queue: usize::try_from(given.queue).unwrap_or(usize::MAX),
        retries: given.retries,
        task_timeout: limit(given.task_timeout_ns, "ww_pool_options.task_timeout_ns", None, None)?,
        start_timeout: limit(
            given.start_timeout_ns,
            "ww_pool_options.start_timeout_ns",
            PoolOptions::default().start_timeout,
            None,
        )?,
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

/// Starts a pool whose workers are copies of this process, made by fork, that run the functions, with the user pointers as
/// they are then: what these point to must stay until the pool is closed. Workers are forked as long as the pool lives, also
/// when one has died or done its tasks: what other threads of this process have locked at that moment (stdio, a mutex of
/// yours), in the copy nobody gives back, and a function that needs it hangs until its task's time limit. If that cannot be
/// excluded, use ww_pool_start_program(). Workers end by _exit(): what a function has buffered by stdio it flushes
/// itself. The pool reaps its workers; who reaps all children of the process takes their ends away from it. Does not wait
/// for them. NULL options mean defaults. Close it
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
    call(|| unsafe {
        let handlers = handlers(functions, count)?; // before the seat, which can be taken once, is gone
        wigwag::WorkerSeat::from_environment()?.serve_handlers(&handlers)
    })
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

/// As ww_pool_submit_to(), for a task whose verdict comes out of ww_pool_collect(), among those of others. Its number is stored
/// in *number.
///
/// Errors: as ww_pool_submit_to().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pool_submit_collected(
    pool: *const ww_pool,
    number: *mut u64,
    function: u32,
    data: *const c_void,
    length: usize,
    options: *const ww_task_options,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(number)?;
        let pool = object(pool, POOL)?.0.begin();
        let data = bytes(data, length)?.to_vec();
        let submitted = pool.submit_collected(function, data, task_options(options)?, timeout(timeout_ns)?)?;
        put(number, submitted, "number")
    })
}

/// Takes the tasks that were submitted to be collected and have ended, as they end, and returns how many, at most room:
/// ww_pool_task_wait() on them does not wait. Waits for the first. 0: the pool was shut down, and all were collected. Close
/// each with ww_pool_task_close().
///
/// Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED none has ended; -ENOTSUP in a child of the pool's process; -EINVAL there is no
/// room, or the timeout; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_pool_collect(
    pool: *const ww_pool,
    tasks: *mut *mut ww_pool_task,
    room: usize,
    timeout_ns: i64,
) -> ssize_t {
    // SAFETY: as above; tasks has room for so many.
    call(|| unsafe {
        expect_out(tasks)?;
        if room == 0 {
            return Err(invalid("room", "there is none for a task"));
        }
        let pool = object(pool, POOL)?.0.begin();
        let ended = pool.collect(room, timeout(timeout_ns)?)?;
        let count = ended.len();
        for (at, (number, verdict)) in ended.into_iter().enumerate() {
            give(tasks.add(at), ww_pool_task::collected(number, verdict))?;
        }
        Ok(count)
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
    let timeout = limit(given.timeout_ns, "ww_task_options.timeout_ns", None, Some(NO_LIMIT))?;
    Ok(TaskOptions { priority: given.priority, timeout })
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
    call(|| unsafe {
        object(pool, POOL)?.0.begin().shutdown(flag(cancel_queued, "cancel_queued")?, timeout(timeout_ns)?)
    })
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
