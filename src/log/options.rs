//! What a log can be asked to be, and what it tells about itself.

use std::path::PathBuf;
use std::time::Duration;

use super::record::LogLevel;
use crate::address::Address;
use crate::sync::SyncParticipant;
use crate::sync::opening::options;
use crate::timeout::Timeout;

/// Bytes that the file's path can have.
pub(super) const PATH_MAX: usize = 1024;
const LARGEST_DEFAULT: u64 = 4000;
const LARGEST_MAX: u64 = 1 << 20;
const SLOTS_DEFAULT: u64 = 2048;
const KEEP_DEFAULT: u32 = 10;
const KEEP_MAX: u32 = 100_000;
const SYNC_EVERY_DEFAULT: Duration = Duration::from_secs(1);

/// How a record is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// As the log is already, or as its address says; else as [`LogFormat::Text`].
    #[default]
    Default,
    /// For people: time, level, process and thread, target, place in the source, message, fields. Further lines of a message
    /// are indented.
    Text,
    /// A JSON object on a line of its own.
    Json,
    /// `key=value` pairs on one line.
    Logfmt,
}

/// When what was written is brought to the disk, so that it survives a loss of power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogSync {
    /// As the log is already, or as its address says; else as [`LogSync::Never`].
    #[default]
    Default,
    /// When the kernel comes to it.
    Never,
    /// At the latest so long after it was written, in whole milliseconds.
    Interval(Duration),
    /// Before a record counts as written.
    Always,
}

/// What happens when there is no room for a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFull {
    /// `log` waits, as long as the handle's timeout allows.
    #[default]
    Wait,
    /// The record is dropped; how many were is written into the log where it happened.
    Drop,
}

/// What records travel through to the writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogThrough {
    /// As the log is already, or as its address says; else as [`LogThrough::Ring`].
    #[default]
    Default,
    /// A ring in shared memory.
    Ring,
    /// A POSIX message queue, `mq:` with a name that is the log's own.
    Mq,
    /// A System V message queue, `sysv-mq:` with a key that is the log's own.
    SysvMq,
}

impl LogThrough {
    pub(super) fn is_queue(self) -> bool {
        matches!(self, LogThrough::Mq | LogThrough::SysvMq)
    }
}

/// Whether a handle does its part of the writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogWriter {
    /// A thread of this process becomes the writer when there is none.
    #[default]
    Elected,
    /// Others write, or who calls `serve` or `drain`.
    Never,
}

options! {
    /// How to open or make a log.
    ///
    /// What differs from the log that there is already is refused; what is left at its default is taken as it is. `full`,
    /// `timeout` and `writer` are each handle's own.
    LogOptions {
        /// The file; has to be named by who makes the log. A relative path counts from the working directory of that time.
        file: PathBuf,
        /// How records are written.
        format: LogFormat,
        /// What they travel through to the writer.
        through: LogThrough,
        /// Memory for records that are not written yet, in bytes; 0 for that of 1500 records of the largest size, in which many more
        /// short ones have room. A message queue has what the system gives, and more only as far as its limits go.
        capacity: u64,
        /// The largest record in bytes, with all that belongs to it, at most 1 MiB; 0 for 4000. What is longer is cut, says so,
        /// and is counted.
        largest: u64,
        /// A file that would become larger than so many bytes is set aside first, as `file.1`, and a new one is begun; 0: never.
        rotate_size: u64,
        /// The same when so much time, in whole seconds, has passed by the wall clock, counted from midnight UTC where it
        /// divides a day; zero: never.
        rotate_every: Duration,
        /// How many files that were set aside are kept; 0 for 10.
        keep: u32,
        /// Files that were set aside are compressed, as `file.1.gz`.
        compress: bool,
        /// When what was written is brought to the disk.
        sync: LogSync,
        /// What this handle does when there is no room for a record.
        full: LogFull,
        /// How long `log` waits for room; `None`: for ever.
        timeout: Option<Duration>,
        /// Whether this handle does its part of the writing.
        writer: LogWriter,
    }
}

impl LogOptions {
    pub(super) fn with(&mut self, address: &Address) {
        self.with_common(address);
        let number = |key| address.number(key).unwrap_or(0);
        if self.file.as_os_str().is_empty()
            && let Some(file) = address.option("file")
        {
            use std::os::unix::ffi::OsStrExt;
            self.file = std::ffi::OsStr::from_bytes(file).into();
        }
        if !self.file.as_os_str().is_empty() {
            // Fails for an empty path only, or without a working directory, where opening the file will tell.
            self.file = std::path::absolute(&self.file).unwrap_or_else(|_| self.file.clone());
        }
        if self.format == LogFormat::Default {
            self.format = match address.option("format") {
                Some(b"text") => LogFormat::Text,
                Some(b"json") => LogFormat::Json,
                Some(b"logfmt") => LogFormat::Logfmt,
                _ => LogFormat::Default,
            };
        }
        if self.through == LogThrough::Default {
            self.through = match address.option("through") {
                Some(b"ring") => LogThrough::Ring,
                Some(b"mq") => LogThrough::Mq,
                Some(b"sysv-mq") => LogThrough::SysvMq,
                _ => LogThrough::Default,
            };
        }
        if self.capacity == 0 {
            self.capacity = number("capacity");
        }
        if self.largest == 0 {
            self.largest = number("largest");
        }
        if self.rotate_size == 0 {
            self.rotate_size = number("rotate-size");
        }
        if self.rotate_every.is_zero() {
            self.rotate_every = Duration::from_secs(number("rotate-every"));
        }
        if self.keep == 0 {
            self.keep = u32::try_from(number("keep")).unwrap_or(u32::MAX);
        }
        self.compress |= address.flag("compress").unwrap_or(false);
        if self.sync == LogSync::Default {
            self.sync = match address.option("sync") {
                Some(b"never") => LogSync::Never,
                Some(b"interval") => LogSync::Interval(match address.number("sync-every") {
                    None | Some(0) => SYNC_EVERY_DEFAULT,
                    Some(every) => Duration::from_millis(every),
                }),
                Some(b"always") => LogSync::Always,
                _ => LogSync::Default,
            };
        }
        if address.option("full") == Some(b"drop") {
            self.full = LogFull::Drop;
        }
    }

    pub(super) fn largest(&self) -> u64 {
        if self.largest == 0 { LARGEST_DEFAULT } else { self.largest }
    }

    pub(super) fn capacity(&self) -> u64 {
        const WITH_EACH: u64 = 80; // what a ring adds to a message, generously
        if self.through.is_queue() {
            return self.capacity; // 0 for what the system gives
        }
        if self.capacity == 0 { SLOTS_DEFAULT * (self.largest() + WITH_EACH) } else { self.capacity }
    }

    pub(super) fn keep(&self) -> u32 {
        if self.keep == 0 { KEEP_DEFAULT } else { self.keep }
    }

    pub(super) fn room(&self) -> Timeout {
        self.timeout.into()
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.file.as_os_str().len() > PATH_MAX {
            return Err("the file's path can have 1024 bytes");
        }
        if !(256..=LARGEST_MAX).contains(&self.largest()) {
            return Err("the largest record is from 256 bytes to 1 MiB");
        }
        if self.keep() > KEEP_MAX {
            return Err("at most 100000 files can be kept");
        }
        if !self.rotate_every.is_zero() && self.rotate_every.as_secs() == 0 {
            return Err("a file lasts for a second at least");
        }
        match self.sync {
            LogSync::Interval(every) if every.as_millis() == 0 => Err("the interval is a millisecond at least"),
            _ => Ok(()),
        }
    }

    /// Says what of these options another log does not have; both values.
    pub(super) fn differences(&self, made: &LogOptions) -> Option<String> {
        let mut found = Vec::new();
        if !self.file.as_os_str().is_empty() && self.file != made.file {
            found.push(format!("file={}, and not file={}", made.file.display(), self.file.display()));
        }
        if self.format != LogFormat::Default && self.format != made.format {
            found.push(format!("format={:?}, and not format={:?}", made.format, self.format));
        }
        if self.through != LogThrough::Default && self.through != made.through {
            found.push(format!("through={:?}, and not through={:?}", made.through, self.through));
        }
        if self.sync != LogSync::Default && self.sync != made.sync {
            found.push(format!("sync={:?}, and not sync={:?}", made.sync, self.sync));
        }
        let mut number = |name: &str, asked: u64, made: u64| {
            if asked != 0 && asked != made {
                found.push(format!("{name}={made}, and not {name}={asked}"));
            }
        };
        number("largest", self.largest, made.largest);
        number("capacity", self.capacity, made.capacity);
        number("rotate-size", self.rotate_size, made.rotate_size);
        number("rotate-every", self.rotate_every.as_secs(), made.rotate_every.as_secs());
        number("keep", self.keep.into(), made.keep.into());
        number("compress", self.compress.into(), made.compress.into());
        (!found.is_empty()).then(|| found.join("; "))
    }
}

/// What a log has seen, and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStatistics {
    /// Records that are in the file.
    pub written: u64,
    /// Records that are not in the file yet.
    pub queued: u64,
    /// Records that were dropped because there was no room; the file says so where it happened.
    pub dropped: u64,
    /// Records that were cut because they were too long.
    pub cut: u64,
    /// Messages that were no records, thrown away.
    pub damaged: u64,
    /// Half-sent records of processes that died while they logged; `log` had not returned for them.
    pub skipped: u64,
    /// Bytes in the file and its predecessors.
    pub bytes: u64,
    /// Files that were set aside.
    pub rotations: u64,
    /// How often a writer took over from one that had died.
    pub taken_over: u64,
    /// How often the file was found changed by others: moved away, cut, written to.
    pub disturbed: u64,
    /// Writes that failed; each is tried again until it succeeds.
    pub failures: u64,
    /// Why nothing can be written at present, as an errno; 0: nothing is in the way.
    pub trouble: i32,
    /// The process that writes; `None` if none does, or it lives in a pid namespace that this one cannot see.
    pub writer: Option<u32>,
    /// What is logged at present, for all processes.
    pub level: LogLevel,
    /// Memory in bytes, all of it.
    pub memory: usize,
    /// Who takes part.
    pub participants: Vec<SyncParticipant>,
}
