//! Logs: one file for all processes of a host, past the death of any of them.

use std::borrow::Cow;
use std::ffi::{OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use wigwag::{
    Log, LogFormat, LogFull, LogLevel, LogOptions, LogRecord, LogSync, LogThrough, LogValue, LogWriter, Result,
};

use crate::boundary::{
    Options, address, bytes, call, expect_out, flag, give, invalid, object, options, put, text, timeout,
};
use crate::calls::{Counted, close_counted};
use crate::segment::wait_mode;

const LOG: &str = "log";
const NOUN: &str = "ww_log_options";

/// Each step.
pub const WW_LOG_TRACE: u32 = 1;
/// What helps to find faults.
pub const WW_LOG_DEBUG: u32 = 2;
/// What happens as it should.
pub const WW_LOG_INFO: u32 = 3;
/// What may have to be looked at.
pub const WW_LOG_WARN: u32 = 4;
/// What has failed.
pub const WW_LOG_ERROR: u32 = 5;
/// What ends the program.
pub const WW_LOG_FATAL: u32 = 6;
/// For ww_log_set_level(): nothing is logged.
pub const WW_LOG_OFF: u32 = 7;

/// For people; the default.
pub const WW_LOG_TEXT: u32 = 1;
/// A JSON object on each line.
pub const WW_LOG_JSON: u32 = 2;
/// Pairs key=value on each line.
pub const WW_LOG_LOGFMT: u32 = 3;

/// Records travel through a ring in shared memory; the default.
pub const WW_LOG_RING: u32 = 1;
/// Through a POSIX message queue, which is the log's own.
pub const WW_LOG_MQ: u32 = 2;
/// Through a System V message queue, which is the log's own.
pub const WW_LOG_SYSV_MQ: u32 = 3;

/// What was written is brought to the disk when the kernel comes to it; the default.
pub const WW_LOG_SYNC_NEVER: u32 = 1;
/// It is brought there so long after it was written, at the latest.
pub const WW_LOG_SYNC_INTERVAL: u32 = 2;
/// Before a record counts as written.
pub const WW_LOG_SYNC_ALWAYS: u32 = 3;

/// A log (log:name): what any number of processes log, in one file. They elect one that writes it, and when that one dies
/// another takes over at the exact record. What a call has logged is written once, whoever dies; if nobody is left, the next
/// to open the log writes it.
///
/// May be shared between threads. A child made by fork takes part as itself.
pub struct ww_log(Counted<Log>);

/// How a log is opened or made; initialise with WW_LOG_OPTIONS_INIT. Zero means what the address says, or else the
/// default. participants and mode count when it is made; timeout_ns, drop, no_writer and wait are each handle's own;
/// what else differs from the log that there is already is refused.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_log_options {
    pub size: usize,
    /// The file's path; NULL for the address's file=, or that of the log that there is.
    pub file: *const c_char,
    /// Memory for records that are not written yet, in bytes; 0 for 1500 of the largest size.
    pub capacity: u64,
    /// The largest record in bytes, with all that belongs to it, 256 to 1048576; 0 for 4000. What is longer is cut,
    /// says so, and is counted.
    pub largest: u64,
    /// A file that would become larger than so many bytes is set aside first, as file.1, and a new one is begun; 0:
    /// never.
    pub rotate_size: u64,
    /// The same after so many seconds, counted from midnight UTC where that divides a day; 0: never.
    pub rotate_every_s: u64,
    /// With WW_LOG_SYNC_INTERVAL: how long, in milliseconds, 1 or more; else not looked at.
    pub sync_every_ms: u64,
    /// How long a call waits for room, in nanoseconds; 0 or WW_FOREVER for ever.
    pub timeout_ns: i64,
    /// WW_LOG_TEXT, WW_LOG_JSON or WW_LOG_LOGFMT.
    pub format: u32,
    /// WW_LOG_SYNC_NEVER, WW_LOG_SYNC_INTERVAL or WW_LOG_SYNC_ALWAYS.
    pub sync: u32,
    /// How many files that were set aside are kept; 0 for 10.
    pub keep: u32,
    /// 1: files that were set aside are compressed.
    pub compress: u32,
    /// 1: without room a record is dropped, and how many were is written into the file; 0: the call waits.
    pub drop: u32,
    /// 1: this handle does not write itself but in ww_log_drain() and ww_log_serve(); 0: it has a thread that does its part.
    pub no_writer: u32,
    /// How many handles may be open at the same time, at most 256; 0 for 64.
    pub participants: u32,
    /// Permissions of the file and of the memory; 0 for 0600.
    pub mode: u32,
    /// WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL.
    pub wait: u32,
    /// WW_LOG_RING, WW_LOG_MQ or WW_LOG_SYSV_MQ: what records travel through to the writer; a message queue has as much
    /// room as the system gives.
    pub through: u32,
}

impl Default for ww_log_options {
    fn default() -> ww_log_options {
        ww_log_options {
            size: size_of::<ww_log_options>(),
            file: std::ptr::null(),
            capacity: 0,
            largest: 0,
            rotate_size: 0,
            rotate_every_s: 0,
            sync_every_ms: 0,
            timeout_ns: 0,
            format: 0,
            sync: 0,
            keep: 0,
            compress: 0,
            drop: 0,
            no_writer: 0,
            participants: 0,
            mode: 0,
            wait: 0,
            through: 0,
        }
    }
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_log_options {}

/// # Safety
/// `given` is NULL or points to a struct of the size that its first member tells, whose `file` is NULL or a C string.
unsafe fn log_options(given: *const ww_log_options) -> Result<LogOptions> {
    // SAFETY: as the caller promises.
    let given = unsafe { options(given, NOUN) }?;
    let file = if given.file.is_null() {
        Default::default()
    } else {
        // SAFETY: as the caller promises.
        OsStr::from_bytes(unsafe { text(given.file, NOUN) }?).into()
    };
    Ok(LogOptions {
        file,
        format: match given.format {
            0 => LogFormat::Default,
            WW_LOG_TEXT => LogFormat::Text,
            WW_LOG_JSON => LogFormat::Json,
            WW_LOG_LOGFMT => LogFormat::Logfmt,
            _ => return Err(invalid(NOUN, "the format is WW_LOG_TEXT, WW_LOG_JSON or WW_LOG_LOGFMT")),
        },
        through: match given.through {
            0 => LogThrough::Default,
            WW_LOG_RING => LogThrough::Ring,
            WW_LOG_MQ => LogThrough::Mq,
            WW_LOG_SYSV_MQ => LogThrough::SysvMq,
            _ => return Err(invalid(NOUN, "what records travel through is WW_LOG_RING, WW_LOG_MQ or WW_LOG_SYSV_MQ")),
        },
        capacity: given.capacity,
        largest: given.largest,
        rotate_size: given.rotate_size,
        rotate_every: Duration::from_secs(given.rotate_every_s),
        keep: given.keep,
        compress: flag(given.compress as c_int, "ww_log_options.compress")?,
        sync: match given.sync {
            0 => LogSync::Default,
            WW_LOG_SYNC_NEVER => LogSync::Never,
            WW_LOG_SYNC_INTERVAL => LogSync::Interval(Duration::from_millis(given.sync_every_ms)),
            WW_LOG_SYNC_ALWAYS => LogSync::Always,
            _ => return Err(invalid(NOUN, "sync is one of WW_LOG_SYNC_...")),
        },
        full: if flag(given.drop as c_int, "ww_log_options.drop")? { LogFull::Drop } else { LogFull::Wait },
        timeout: match given.timeout_ns {
            0 | -1 => None,
            1.. => Some(Duration::from_nanos(given.timeout_ns.unsigned_abs())),
            _ => return Err(invalid(NOUN, "a timeout is nanoseconds from 0, or WW_FOREVER")),
        },
        writer: if flag(given.no_writer as c_int, "ww_log_options.no_writer")? {
            LogWriter::Never
        } else {
            LogWriter::Elected
        },
        participants: given.participants,
        mode: given.mode,
        wait: wait_mode(given.wait, NOUN)?,
    })
}

fn level_of(number: u32) -> Result<LogLevel> {
    LogLevel::from_number(number).ok_or_else(|| invalid(LOG, "the level is one of WW_LOG_TRACE to WW_LOG_OFF"))
}

/// Opens the log of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one with a slash is a
/// path on a tmpfs. Who makes it names the file, in the options or as log:name?file=PATH. Never blocks. Close it with
/// ww_log_close().
///
/// Errors: -EINVAL the address, or options that do not fit together, or that the log that there is was not made with, which
/// are named; or there is none, and no file was named; -ENOSPC the memory is not free; -EACCES the directory is
/// somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -ELOOP a symbolic link;
/// -ENOTSUP the file system cannot make files without a name (a tmpfs can); -EBADMSG there is something else under that
/// name, or it is damaged; -EPROTO it was made by an incompatible version; -EUSERS it has no room for another
/// participant; -ENOMEM no thread can be had; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_log_open(
    out: *mut *mut ww_log,
    address: *const c_char,
    options: *const ww_log_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_log(Counted::new(Log::open(&self::address(address)?, log_options(options)?)?)))
    })
}

/// Closes the handle; threads that wait on it return -ECANCELED first. Writes what is there if nobody else does, and
/// blocks for the disk then. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_log_close(log: *mut ww_log) {
    // SAFETY: as above.
    unsafe { close_counted(log, |log| &log.0, Log::end_waits) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_log_end_waits(log: *const ww_log) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(log, "log")?.0.get().end_waits();
        Ok(())
    })
}

/// Removes the name and the memory of a log; the file stays. Never blocks.
///
/// Errors: -ENOENT there is none; -EBUSY it holds records that are not written: drain it first; -EUSERS as many have it
/// open as it has room for: close one; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_log_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Log::remove(&self::address(address)?) })
}

/// Whether the name still stands for this log. Never blocks. Errors: -ESTALE the name was removed; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_log_check(log: *const ww_log) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(log, LOG)?.0.get().check() })
}

/// 1 if a record of this level would be logged, 0 if not. Never blocks. Errors: -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_log_is_enabled(log: *const ww_log, level: u32) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(c_int::from(object(log, LOG)?.0.get().is_enabled(level_of(level)?))) })
}

/// The lowest level that is logged; WW_LOG_INFO in a new log. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_log_level(log: *const ww_log) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(log, LOG)?.0.get().level() as c_int) })
}

/// Sets the lowest level that is logged, for all processes at once. Never blocks. Errors: -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_log_set_level(log: *const ww_log, level: u32) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(log, LOG)?.0.get().set_level(level_of(level)?);
        Ok(())
    })
}

/// A field of a record: a name and its text.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_log_field {
    pub key: *const c_char,
    pub value: *const c_char,
}

/// # Safety
/// NULL, or a C string that lives as long as what is returned.
unsafe fn optional<'a>(given: *const c_char) -> Result<std::borrow::Cow<'a, str>> {
    // SAFETY: as the caller promises.
    if given.is_null() { Ok("".into()) } else { Ok(readable(unsafe { text(given, LOG) }?)) }
}

/// Text as it is where it is UTF-8, else with what is not UTF-8 replaced.
fn readable(bytes: &[u8]) -> Cow<'_, str> {
    if bytes.is_ascii() {
        // SAFETY: ASCII is UTF-8; nearly all text is, and that is told several times as fast.
        return unsafe { str::from_utf8_unchecked(bytes) }.into();
    }
    str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// Logs a message of this length with fields, unless the level keeps it out; see the macros ww_log_info() and the like.
/// target and file may be NULL, line 0. Waits while there is no room, unless the options say otherwise. Bytes that are
/// not UTF-8 are replaced. Once it has returned 0, the record cannot be lost by anybody's death.
///
/// Errors: -EAGAIN there is no room and the handle does not wait: the record was dropped, and is counted; -ETIMEDOUT,
/// -ECANCELED the same after waiting; -ESTALE this handle was declared dead because its lock was closed; -EBADMSG the
/// log is damaged; -EINVAL the level; -ENOMEM in a child made by fork, no thread can be had; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_log_write(
    log: *const ww_log,
    level: u32,
    target: *const c_char,
    file: *const c_char,
    line: u32,
    message: *const c_char,
    length: usize,
    fields: *const ww_log_field,
    count: usize,
) -> c_int {
    // SAFETY: as above; fields are an array of so many.
    call(|| unsafe {
        let log = object(log, LOG)?.0.begin();
        let (target, file) = (optional(target)?, optional(file)?);
        let message = readable(bytes(message.cast(), length)?);
        let mut pairs = Vec::new();
        for n in 0..count {
            let field = object(fields.wrapping_add(n), "field")?;
            pairs.push((optional(field.key)?, optional(field.value)?));
        }
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (&**key, LogValue::Text(value))).collect();
        let level = level_of(level)?;
        log.log(&LogRecord { level, target: &target, file: &file, line, message: &message, fields: &pairs })
    })
}

/// 1 if numbers have a point before their decimals in the calling thread's locale, else 0: what ww_log_info() and the like
/// ask before they format such a number. Never blocks, never fails.
#[unsafe(no_mangle)]
pub extern "C" fn ww_log_has_decimal_point() -> c_int {
    // SAFETY: a C string, which stays until the thread's locale is changed, and is looked at before that.
    let radix = unsafe { libc::nl_langinfo(libc::RADIXCHAR) };
    // SAFETY: the same; never NULL.
    c_int::from(unsafe { std::ffi::CStr::from_ptr(radix) } == c".")
}

/// Has SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT logged until the log is closed, before what would have become of
/// them: the handler that was there runs, or the default action ends the program. Never blocks; a crash waits for 1.5 s
/// at most until it is logged. Once is enough: it holds for children made by fork too, as soon as they have logged
/// something.
///
/// Errors: -ENOMEM no thread can be had; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_log_crashes(log: *const ww_log) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(log, LOG)?.0.begin().log_crashes() })
}

/// Logs that a signal ends the program, with the address that it is about (NULL for none); for handlers of a program's own:
/// async-signal-safe in a process that has used the log before, given 64 KiB of stack. Waits a second for room at most.
///
/// Errors, which ww_last_error() does not tell of: -EAGAIN there is no room; -ESTALE, -EBADMSG as
/// ww_log_write(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_log_signal(log: *const ww_log, signal: c_int, about: *const std::ffi::c_void) -> c_int {
    // In a signal handler: nothing here allocates, frees, locks or formats.
    // SAFETY: as above.
    let Some(log) = (unsafe { log.as_ref() }) else { return -libc::EFAULT };
    match log.0.get().log_signal(signal, about.addr()) {
        Ok(()) => 0,
        Err(error) => {
            let code = -error.errno();
            std::mem::forget(error); // it may be the last to hold something
            code
        }
    }
}

/// Waits until all that was logged before, by whatever process, is in the file; writes it itself if nobody else does.
///
/// Errors: -ENOSPC, -EBUSY (another log or program has it locked) and the like: the file cannot be written at present;
/// what is logged is kept, and written when it can be; -EAGAIN, -ETIMEDOUT, -ECANCELED; -ESTALE, -EBADMSG as
/// ww_log_write(); -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_log_drain(log: *const ww_log, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(log, LOG)?.0.begin().drain(timeout(timeout_ns)?) })
}

/// Is the writer, as soon as there is no other, until the timeout is over, which is no error: for a process or thread
/// of its own that does nothing else. Trouble with the file does not end it: see ww_log_get_statistics().
///
/// Errors: -ECANCELED; -ESTALE, -EBADMSG as ww_log_write(); -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_log_serve(log: *const ww_log, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(log, LOG)?.0.begin().serve(timeout(timeout_ns)?).map(drop) })
}

/// Has the writer open the file anew, as after it was renamed, and waits until it has. A writer finds out itself that a
/// file was renamed, but only when it has something to write. Errors: as ww_log_drain().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_log_reopen(log: *const ww_log, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(log, LOG)?.0.begin().reopen(timeout(timeout_ns)?) })
}

/// What a log has seen, and how it is.
#[repr(C)]
pub struct ww_log_statistics {
    /// Records that are in the file, and that are not yet.
    pub written: u64,
    pub queued: u64,
    /// Records that were dropped for want of room, and that were cut.
    pub dropped: u64,
    pub cut: u64,
    /// Messages that were no records, and half-sent ones of processes that died.
    pub damaged: u64,
    pub skipped: u64,
    /// Bytes in the file and those before it.
    pub bytes: u64,
    /// Files that were set aside.
    pub rotations: u64,
    /// How often a writer took over from one that had died.
    pub taken_over: u64,
    /// How often the file was found changed by others.
    pub disturbed: u64,
    /// Writes that failed; each is tried again.
    pub failures: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// Why nothing can be written at present, as an errno; 0: nothing is in the way.
    pub trouble: i32,
    /// The process that writes; 0 if none does, or it lives in a pid namespace that this one cannot see.
    pub writer: u32,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 4],
}

/// What the log has seen, and how it is. Never blocks; takes time in proportion to the capacity. Errors: -EBADMSG the
/// log is damaged; -ESTALE as ww_log_write(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_log_get_statistics(log: *const ww_log, statistics: *mut ww_log_statistics) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(statistics)?;
        let seen = object(log, LOG)?.0.get().statistics()?;
        let told = ww_log_statistics {
            written: seen.written,
            queued: seen.queued,
            dropped: seen.dropped,
            cut: seen.cut,
            damaged: seen.damaged,
            skipped: seen.skipped,
            bytes: seen.bytes,
            rotations: seen.rotations,
            taken_over: seen.taken_over,
            disturbed: seen.disturbed,
            failures: seen.failures,
            memory: seen.memory as u64,
            trouble: seen.trouble,
            writer: seen.writer.unwrap_or(0),
            reserved: [0; 4],
        };
        put(statistics, told, "statistics")
    })
}
