//! What lies where in a log's own segment; records lie in a ring beside it, or in a message queue.
//!
//! ```text
//! 0   Control
//!     journals     2: identities of the records, then the bytes that go to the file
//!     places       for what a writer has from a message queue, if records travel through one
//! ```

use std::sync::Arc;

use nix::errno::Errno;

use super::options::{LogFormat, LogOptions, LogSync, LogThrough, PATH_MAX};
use super::queue::place_size;
use super::record::LogLevel;
use crate::segment::Bell;
use crate::sync_atomics::{AtomicU32, AtomicU64, Ordering};
use crate::sys::SysResult;
use crate::sys::shared::{Mapping, Places, Record};

/// Records that a writer has in its hands at once.
pub(super) const BATCH: usize = 512;
/// Participants that can wait for an answer, each at its own place.
pub(super) const ANSWERS: usize = 256;
/// Messages that a writer has from a message queue at once.
pub(super) const PLACES: usize = 64;
const IDENTITIES: usize = BATCH * size_of::<u64>();
/// Bytes of a journal at least.
const JOURNAL_MIN: usize = 128 << 10;

/// Never changes once others can see it.
#[repr(C, align(128))]
pub(super) struct Constant {
    /// Part of the names of the ring and of the lock that belong to this log and to no other of its name.
    pub id: AtomicU64,
    pub capacity: AtomicU64,
    pub largest: AtomicU64,
    pub rotate_size: AtomicU64,
    pub rotate_every: AtomicU64,
    pub sync_every_ms: AtomicU64,
    pub format: AtomicU32,
    pub keep: AtomicU32,
    pub compress: AtomicU32,
    pub sync: AtomicU32,
    pub mode: AtomicU32,
    pub through: AtomicU32,
    pub path_length: AtomicU32,
    pub path: [AtomicU64; PATH_MAX / 8],
}

/// What the producers look at.
#[repr(C, align(128))]
pub(super) struct Line {
    pub level: AtomicU32,
    /// Asks the writer to open the file anew, whenever it changes.
    pub reopen: AtomicU32,
    /// Blocks of identities that were given out.
    pub blocks: AtomicU64,
    pub dropped: AtomicU64,
    pub cut: AtomicU64,
    /// Rings when a record was sent through a message queue.
    pub sent: Bell,
}

/// What the writer looks at.
#[repr(C, align(128))]
pub(super) struct Progress {
    /// The number of the last journal that holds: its bytes belong into the file.
    pub committed: AtomicU64,
    /// The number of the last journal whose bytes are in the file.
    pub done: AtomicU64,
    pub damaged: AtomicU64,
    pub rotations: AtomicU64,
    pub taken_over: AtomicU64,
    pub disturbed: AtomicU64,
    pub failures: AtomicU64,
    pub trouble: AtomicU32,
    /// Which period, of those that `rotate_every` makes, the file belongs to.
    pub period: AtomicU64,
    /// How many messages have come from a message queue.
    pub arrived: AtomicU64,
    /// Rings when marks have been answered, or the writer has run into trouble.
    pub answered: Bell,
}

/// What a journal says besides its bytes.
#[repr(C, align(128))]
pub(super) struct Heading {
    pub device: AtomicU64,
    pub inode: AtomicU64,
    pub offset: AtomicU64,
    pub length: AtomicU64,
    pub identities: AtomicU64,
    /// Sums over all journals so far, this one included.
    pub records: AtomicU64,
    pub bytes: AtomicU64,
    /// How many dropped records the file tells of.
    pub told: AtomicU64,
}

#[repr(C, align(128))]
pub(crate) struct Control {
    pub(super) constant: Constant,
    pub(super) line: Line,
    pub(super) progress: Progress,
    pub(super) headings: [Heading; 2],
    pub(super) answers: [AtomicU64; ANSWERS],
    /// The how manieth message a place holds, or is to hold; 0: it is free.
    pub(super) places: [AtomicU64; PLACES],
}

// SAFETY: atomics only.
#[allow(unsafe_code)]
unsafe impl Record for Control {}

fn journal_size(largest: u64) -> usize {
    // A byte can become six when it is written, and a record gets its time and the like.
    let longest = usize::try_from(largest).unwrap_or(usize::MAX / 16).saturating_mul(8).saturating_add(4096);
    IDENTITIES + longest.max(JOURNAL_MIN).next_multiple_of(8)
}

/// Bytes of a body.
pub(super) fn size(options: &LogOptions) -> usize {
    let places = if options.through.is_queue() { PLACES * place_size(options.largest()) } else { 0 };
    places_at(options.largest()) + places
}

fn places_at(largest: u64) -> usize {
    size_of::<Control>() + 2 * journal_size(largest)
}

/// Where messages from a queue are put down.
pub(super) fn places(memory: &Arc<Mapping>, body: usize, largest: u64) -> Option<Places> {
    Places::new(memory, body + places_at(largest), place_size(largest), PLACES as u64)
}

/// The bytes of both journals.
pub(super) fn journals(memory: &Arc<Mapping>, body: usize, largest: u64) -> Option<Places> {
    Places::new(memory, body + size_of::<Control>(), journal_size(largest), 2)
}

/// Bytes for the file that a journal holds.
pub(super) fn journal_room(largest: u64) -> usize {
    journal_size(largest) - IDENTITIES
}

/// Where the bytes begin in a journal.
pub(super) const BYTES_AT: usize = IDENTITIES;

impl Constant {
    pub fn fill(&self, options: &LogOptions, id: u64, mode: u32) {
        // Relaxed: nobody else can see the segment yet.
        let put = |word: &AtomicU64, value| word.store(value, Ordering::Relaxed);
        put(&self.id, id);
        put(&self.capacity, options.capacity());
        put(&self.largest, options.largest());
        put(&self.rotate_size, options.rotate_size);
        put(&self.rotate_every, options.rotate_every.as_secs());
        let (sync, every) = match options.sync {
            LogSync::Default | LogSync::Never => (0, 0),
            LogSync::Interval(every) => (1, u64::try_from(every.as_millis()).unwrap_or(u64::MAX)),
            LogSync::Always => (2, 0),
        };
        put(&self.sync_every_ms, every);
        let put = |word: &AtomicU32, value| word.store(value, Ordering::Relaxed);
        put(&self.sync, sync);
        let format = match options.format {
            LogFormat::Default | LogFormat::Text => 0,
            LogFormat::Json => 1,
            LogFormat::Logfmt => 2,
        };
        put(&self.format, format);
        put(
            &self.through,
            match options.through {
                LogThrough::Default | LogThrough::Ring => 0,
                LogThrough::Mq => 1,
                LogThrough::SysvMq => 2,
            },
        );
        put(&self.keep, options.keep());
        put(&self.compress, options.compress.into());
        put(&self.mode, mode);
        let path = options.file.as_os_str().as_encoded_bytes();
        put(&self.path_length, path.len() as u32);
        for (word, chunk) in self.path.iter().zip(path.chunks(8)) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
        }
    }

    /// What the log was made with, each word read once and checked.
    pub fn read(&self) -> SysResult<LogOptions> {
        use std::os::unix::ffi::OsStrExt;
        // Relaxed: constant since before the segment could be seen.
        let (long, short) =
            (|word: &AtomicU64| word.load(Ordering::Relaxed), |word: &AtomicU32| word.load(Ordering::Relaxed));
        let mut path: Vec<u8> = self.path.iter().flat_map(|word| long(word).to_ne_bytes()).collect();
        path.truncate(short(&self.path_length) as usize);
        let options = LogOptions {
            file: std::ffi::OsStr::from_bytes(&path).into(),
            format: match short(&self.format) {
                0 => LogFormat::Text,
                1 => LogFormat::Json,
                2 => LogFormat::Logfmt,
                _ => return Err(Errno::EBADMSG),
            },
            through: match short(&self.through) {
                0 => LogThrough::Ring,
                1 => LogThrough::Mq,
                2 => LogThrough::SysvMq,
                _ => return Err(Errno::EBADMSG),
            },
            capacity: long(&self.capacity),
            largest: long(&self.largest),
            rotate_size: long(&self.rotate_size),
            rotate_every: std::time::Duration::from_secs(long(&self.rotate_every)),
            keep: short(&self.keep),
            compress: short(&self.compress) != 0,
            sync: match short(&self.sync) {
                0 => LogSync::Never,
                1 => LogSync::Interval(std::time::Duration::from_millis(long(&self.sync_every_ms))),
                2 => LogSync::Always,
                _ => return Err(Errno::EBADMSG),
            },
            mode: short(&self.mode),
            ..Default::default()
        };
        options.check().map_err(|_| Errno::EBADMSG)?;
        let no_capacity = options.capacity == 0 && !options.through.is_queue();
        if options.largest == 0 || no_capacity || options.keep == 0 || options.mode > 0o777 {
            return Err(Errno::EBADMSG);
        }
        Ok(options)
    }
}

impl Control {
    /// A new log's level.
    pub(super) fn begin(&self) {
        self.line.level.store(LogLevel::Info as u32, Ordering::Relaxed); // nobody else can see the segment yet
    }

    pub(super) fn heading(&self, journal: u64) -> &Heading {
        let [even, odd] = &self.headings;
        if journal.is_multiple_of(2) { even } else { odd }
    }
}
