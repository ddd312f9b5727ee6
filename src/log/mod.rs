//! Logs (`log:name`): many processes, one file, and no daemon.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | the API |
//! | `options.rs` | options and statistics |
//! | `record.rs` | a record, and how it travels |
//! | `format.rs` | how it looks in the file |
//! | `writer.rs` | what the one writer does |
//! | `running.rs` | who is the writer, and for how long |
//! | `carrier.rs` | what carries records to the writer: a ring, or |
//! | `queue.rs` | a message queue of the kernel's |
//! | `journal.rs` | what a writer leaves to the one that takes over |
//! | `place.rs` | the file: appending, setting aside |
//! | `packing.rs` | compressing what was set aside |
//! | `layout.rs` | what lies where in shared memory |
//! | `removing.rs` | removing a log |
//! | `crash.rs` | signals that end the program |
//! | `facade.rs`, `tracing.rs` | backends for the crates `log` and `tracing`, by features of these names |
//!
//! A log is three objects: a segment of its own, a ring or a message queue that the records lie in until they are written, and a
//! lock that its holder writes under. docs/LOG.md tells what holds when who dies.

mod carrier;
mod crash;
#[cfg(feature = "log")]
mod facade;
mod format;
mod journal;
mod layout;
mod options;
mod packing;
mod place;
mod queue;
mod record;
mod removing;
mod running;
#[cfg(feature = "tracing")]
mod tracing;
mod writer;

use std::sync::OnceLock;

use nix::errno::Errno;

pub use options::{LogFormat, LogFull, LogOptions, LogStatistics, LogSync, LogThrough, LogWriter};
pub use record::{LogLevel, LogOrigin, LogRecord, LogValue};
#[cfg(feature = "tracing")]
pub use tracing::LogLayer;

use crate::address::{Address, Scheme};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::segment::WaitMode;
use crate::sync::core::{self, Common, Core, Kind};
use crate::sync::{Mutex, MutexOptions};
use crate::sync_atomics::{AtomicU32, AtomicU64, Ordering};
use crate::sys::lending::Lending;
use crate::sys::shared::Places;
use crate::sys::{SysResult, background, fork};
use crate::timeout::{Timeout, wall_clock};
use crate::wait::{Forked, Turns};
use carrier::Carrier;
use crash::Crashes;
use layout::{Constant, Control};
use record::{Envelope, Parcel};

/// Who opens a log that is removed at that moment opens another, as often as that.
const REMOVALS: u32 = 16;
/// Identities that one block has; each handle uses blocks of its own.
const BLOCK_BITS: u32 = 36;
/// So many before its end a block is given up.
const BLOCK_RESERVE: u64 = 1 << 20;

/// The log's own segment.
pub(crate) struct Base {
    core: Core<Control>,
    journals: Places,
    /// For messages from a queue, if there is one.
    places: Option<Places>,
    /// Bytes that a journal holds.
    room: usize,
    /// What the log was made with.
    made: LogOptions,
}

impl Kind for Base {
    type Control = Control;
    type Options = LogOptions;
    const NUMBER: u32 = 12;

    fn with(options: &mut LogOptions, address: &Address) {
        options.with(address);
    }

    fn common(options: &LogOptions) -> std::result::Result<Common, &'static str> {
        options.check()?;
        options.common().check()
    }

    fn size(options: &LogOptions, _participants: u32) -> usize {
        layout::size(options)
    }

    fn fill(options: &LogOptions, control: &Control) {
        let mode = options.common().check().map_or(0o600, |common| common.mode);
        // A name that no other log has had: two that are made at the same time differ in their process, two of one process in
        // their time.
        let id = wall_clock().rotate_left(20) ^ u64::from(std::process::id());
        control.constant.fill(options, id, mode);
        control.begin();
    }

    fn of(core: Core<Control>, _options: &LogOptions) -> SysResult<Base> {
        let made = Constant::read(&core.control.constant)?;
        let (body, length) = core.member.segment().body();
        if length < layout::size(&made) {
            return Err(Errno::EBADMSG);
        }
        let journals = layout::journals(core.member.segment().memory(), body, made.largest).ok_or(Errno::EBADMSG)?;
        let places = if made.through.is_queue() {
            Some(layout::places(core.member.segment().memory(), body, made.largest).ok_or(Errno::EBADMSG)?)
        } else {
            None
        };
        let room = layout::journal_room(made.largest);
        core.member.bury(|| Ok(()))?; // there is nothing in anybody's name
        Ok(Base { core, journals, places, room, made })
    }
}

impl Base {
    /// What tells this log from all others.
    fn id(&self) -> u64 {
        self.core.control.constant.id.load(Ordering::Relaxed) // constant since before the segment could be seen
    }
}

/// What the handle and its thread share.
pub(crate) struct Shared {
    base: Base,
    carrier: Carrier,
    lock: Mutex,
    full: LogFull,
    room: Timeout,
    writer: LogWriter,
    /// The next identity, and the fork generation that its block belongs to.
    identity: AtomicU64,
    identity_of: AtomicU32,
    /// The fork generation, and one, in which the thread was started; 0: never.
    started: AtomicU32,
    /// Fired when the handle is closed.
    ending: Cancel,
    drains: Turns<NoValue>,
}

/// For turns in which nothing but the turn counts.
struct NoValue;

impl Forked for NoValue {
    fn after_fork(&mut self) {}

    fn replaced(&self) -> NoValue {
        NoValue
    }
}

/// A file that any number of processes log into, without a daemon: the processes elect one that writes, and when it dies
/// another takes over at the exact record.
///
/// What [`Log::log`] has returned for is written once, whoever is killed at whatever instruction: it lies in shared memory until
/// it is in the file, and if nobody is left, the next to open the log writes it. It does not survive the end of the system
/// unless it is on the disk (see [`LogSync`]).
///
/// Logging makes no system call while the writer is awake. A child made by fork that uses the handle takes part as itself. All
/// methods may be called from several threads at once.
///
/// ```
/// use wigwag::{Address, Log, LogLevel, LogOptions, Timeout};
/// let directory = tempfile::tempdir()?;
/// let name = directory.path().join("example"); // or a plain name such as log:app
/// let address = Address::parse(format!("log:{}?file={}.log", name.display(), name.display()))?;
/// let log = Log::open(&address, LogOptions::default())?;
/// log.info("ready")?;
/// log.drain(Timeout::Forever)?;
/// assert!(std::fs::read_to_string(name.with_extension("log"))?.ends_with(": ready\n"));
/// drop(log);
/// Log::remove(&address)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Log {
    /// What logs the signals that end the program; its thread has borrowed the rest.
    crashes: OnceLock<Crashes>,
    shared: Lending<Shared>,
}

/// The address of a part of a log.
fn part(scheme: Scheme, address: &Address, id: u64) -> Result<Address> {
    let mut name = address.name().to_vec();
    name.extend(format!(".{id:016x}").bytes());
    if name.contains(&b'/') {
        name.extend(format!(".{scheme}").bytes()); // a plain name gets this by itself
    }
    Address::from_parts(scheme, name, None, [])
}

impl Log {
    /// Opens the log of this name, or makes it. Never blocks.
    ///
    /// A plain name lies in `$WIGWAG_DIR` or `/dev/shm/wigwag-UID`, a name with a slash is a path on a tmpfs: the name of what is
    /// in memory, not of the file.
    ///
    /// # Errors
    /// `EINVAL` the options do not fit together, or the log that there is was made with others, which are named, or none is
    /// there and no file was named; `ENOSPC` the memory is not free; `EACCES` the directory is somebody else's; `EBADMSG` there
    /// is something else under that name, or it is damaged; `EPROTO` it was made by an incompatible version; `EUSERS` it has no
    /// room for another participant; `ENOMEM` no thread can be had; `EMFILE`, `ENFILE`.
    ///
    /// System calls: openat, fallocate, linkat, mmap, fcntl, clone.
    pub fn open(address: &Address, mut options: LogOptions) -> Result<Log> {
        address.require(&[Scheme::Log], "open")?;
        options.with(address);
        let missing = |error: Error| match error.is(Errno::ENOENT) {
            true => {
                error.with_errno(Errno::EINVAL).because("there is no such log, and no file to make it with: add file=…")
            }
            false => error,
        };
        let mut tries = 0..REMOVALS;
        loop {
            let base: Base = if options.file.as_os_str().is_empty() {
                core::existing(address, options.clone()).map_err(missing)?
            } else {
                core::open(address, options.clone())?
            };
            match Log::of(address, base, &options) {
                Err(error) if error.is(Errno::ESTALE) && tries.next().is_some() => {}
                opened => return opened,
            }
        }
    }

    fn of(address: &Address, base: Base, options: &LogOptions) -> Result<Log> {
        if let Some(differences) = options.differences(&base.made) {
            return Err(base.core.object.error(Errno::EINVAL, "open").because_found(format!(
                "there is a log of that name with {differences}; open it as it is, or remove it first"
            )));
        }
        let participants = base.core.member.segment().participants();
        let carrier = Carrier::open(address, &base, options)?;
        let lock = MutexOptions { participants, mode: base.made.mode, wait: WaitMode::Block, ..Default::default() };
        let of_lock = part(Scheme::Mutex, address, base.id())?;
        let lock = Mutex::open(&of_lock, lock)?;
        if let Err(errno) = base.core.member.segment().check() {
            // Removed meanwhile: nobody else would find the parts, which may have been made anew.
            let _ = (Carrier::remove(address, base.id(), base.made.through), Mutex::remove(&of_lock));
            return Err(base.core.error(errno, "open"));
        }
        let shared = Shared {
            base,
            carrier,
            lock,
            full: options.full,
            room: options.room(),
            writer: options.writer,
            identity: AtomicU64::new(0),
            identity_of: AtomicU32::new(0),
            started: AtomicU32::new(0),
            ending: Cancel::new(),
            drains: Turns::new(NoValue),
        };
        let log = Log { crashes: OnceLock::new(), shared: Lending::new(shared) };
        log.start_writer()?;
        Ok(log)
    }

    /// Logs a record, unless the level filter keeps it out; waits while there is no room, unless the handle's options say
    /// otherwise. Once it has returned, the record cannot be lost by anybody's death.
    ///
    /// # Errors
    /// `EAGAIN` there is no room and the handle does not wait: the record was dropped, and is counted; `ETIMEDOUT`, `ECANCELED`
    /// the same after waiting; `ESTALE` this handle was declared dead because its lock was closed; `EBADMSG` the log is damaged;
    /// `ENOMEM` in a child made by fork, if it can have no thread.
    ///
    /// System calls: futex, if the writer sleeps or it has to wait.
    #[inline]
    pub fn log(&self, record: &LogRecord<'_>) -> Result<()> {
        if !self.is_enabled(record.level) {
            return Ok(());
        }
        self.log_anyway(record, &LogOrigin::default())
    }

    /// As [`Log::log`], with a time, process and thread of the caller's, and whatever the level filter says.
    ///
    /// # Errors
    /// As [`Log::log`].
    pub fn log_anyway(&self, record: &LogRecord<'_>, origin: &LogOrigin) -> Result<()> {
        let room = if self.shared.full == LogFull::Drop { Timeout::Now } else { self.shared.room };
        let sent = self.ready().and_then(|shared| shared.send(record, origin, room));
        sent.inspect_err(|_| self.shared.count_dropped())
    }

    /// As [`Log::log_anyway`], but never waits: false if it would, or would drop the record. Nothing has happened then. A record
    /// that an error keeps out is counted as dropped.
    ///
    /// # Errors
    /// `ESTALE`, `EBADMSG`, `ENOMEM` as [`Log::log`].
    pub fn log_at_once(&self, record: &LogRecord<'_>, origin: &LogOrigin) -> Result<bool> {
        match self.ready().and_then(|shared| shared.send(record, origin, Timeout::Now)) {
            Ok(()) => Ok(true),
            Err(error) if error.is(Errno::EAGAIN) => Ok(false),
            Err(error) => {
                self.shared.count_dropped();
                Err(error)
            }
        }
    }

    /// What is needed to log, in a process that does its part of the writing.
    #[inline]
    fn ready(&self) -> Result<&Shared> {
        if self.shared.started.load(Ordering::Relaxed) != own_generation() {
            self.start_writer()?;
        }
        Ok(&self.shared)
    }

    /// Logs a message of level info. Waits and fails as [`Log::log`].
    ///
    /// # Errors
    /// As [`Log::log`].
    pub fn info(&self, message: &str) -> Result<()> {
        self.log(&LogRecord { level: LogLevel::Info, message, ..Default::default() })
    }

    /// Whether a record of this level would be logged. Never blocks.
    #[inline]
    pub fn is_enabled(&self, level: LogLevel) -> bool {
        // Relaxed: a change is seen soon, and nothing hangs on when.
        level.min(LogLevel::Fatal) as u32 >= self.shared.base.core.control.line.level.load(Ordering::Relaxed)
    }

    /// The lowest level that is logged; info in a new log. Never blocks.
    pub fn level(&self) -> LogLevel {
        LogLevel::from_number(self.shared.base.core.control.line.level.load(Ordering::Relaxed)).unwrap_or(LogLevel::Off)
    }

    /// Sets the lowest level that is logged, for all processes at once. Never blocks.
    pub fn set_level(&self, level: LogLevel) {
        self.shared.base.core.control.line.level.store(level as u32, Ordering::Relaxed);
    }

    /// Waits until all that was logged before, by whatever process, is in the file, and so is how many records had been dropped;
    /// writes it itself if nobody else does.
    ///
    /// # Errors
    /// `ENOSPC` and the like: the file cannot be written at present; what is logged is kept, and written when it can be.
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED`, `ESTALE`, `EBADMSG` as [`Log::log`].
    ///
    /// System calls: futex; as the writer pwrite, fstat, stat, and what the options ask for.
    pub fn drain(&self, timeout: Timeout) -> Result<()> {
        self.shared.drain(timeout)
    }

    /// Is the writer, as soon as there is no other, until the timeout is over or the calling thread's cancel fires: for a process
    /// or thread of its own that does nothing else. How many messages it dealt with.
    ///
    /// # Errors
    /// `ECANCELED`, `ESTALE`, `EBADMSG` as [`Log::log`]. Trouble with the file does not end it: see [`LogStatistics`].
    ///
    /// System calls: as [`Log::drain`].
    pub fn serve(&self, timeout: Timeout) -> Result<u64> {
        self.shared.serve(timeout)
    }

    /// Has the writer open the file anew, as after it was renamed, and waits until it has. What was written before is in the old
    /// one; what was logged and not yet written may be in the new one: [`drain`](Log::drain) first. A writer finds out itself that a file was renamed, but only when it has something to write.
    ///
    /// # Errors
    /// As [`Log::drain`].
    pub fn reopen(&self, timeout: Timeout) -> Result<()> {
        self.shared.base.core.control.line.reopen.fetch_add(1, Ordering::Relaxed); // ordered by the mark that `drain` sends
        self.drain(timeout)
    }

    /// What the log has seen, and how it is. Never blocks; takes time in proportion to the number of records it has room for.
    ///
    /// # Errors
    /// `EBADMSG` the log is damaged; `ESTALE` as [`Log::log`].
    pub fn statistics(&self) -> Result<LogStatistics> {
        let shared = &*self.shared;
        let (load, lock) = (shared.carrier.load(&shared.base)?, shared.lock.statistics()?);
        let control = &shared.base.core.control;
        let sums = shared.base.sums();
        let get = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let writer = lock.participants.iter().find(|participant| participant.holding > 0);
        let participants = shared.base.core.participants(|_| (0, None));
        Ok(LogStatistics {
            written: sums.records,
            queued: load.messages,
            dropped: get(&control.line.dropped),
            cut: get(&control.line.cut),
            damaged: get(&control.progress.damaged),
            skipped: load.skipped,
            bytes: sums.bytes,
            rotations: get(&control.progress.rotations),
            taken_over: get(&control.progress.taken_over),
            disturbed: get(&control.progress.disturbed),
            failures: get(&control.progress.failures),
            trouble: control.progress.trouble.load(Ordering::Relaxed).cast_signed(),
            writer: writer.and_then(|participant| participant.pid),
            level: self.level(),
            memory: shared.base.core.member.segment().size() + load.bytes + lock.bytes,
            participants: participants.map_err(|errno| shared.base.core.error(errno, "statistics"))?,
        })
    }

    /// The file. Never blocks.
    pub fn file(&self) -> &std::path::Path {
        &self.shared.base.made.file
    }

    /// The largest record, in bytes, with all that belongs to it. Never blocks.
    pub fn largest(&self) -> usize {
        self.shared.base.made.largest as usize
    }

    /// Whether the name still stands for this log. Never blocks.
    ///
    /// # Errors
    /// `ESTALE` the name was removed: who opens it from now on gets another.
    ///
    /// System call: fstat.
    pub fn check(&self) -> Result<()> {
        let core = &self.shared.base.core;
        let checked = core.member.segment().check();
        checked.map_err(|errno| core.object.error(errno, "check").because("the name was removed; open it anew"))
    }

    /// Its address.
    pub fn address(&self) -> &str {
        self.shared.base.core.object.address()
    }

    /// Ends the waits of all threads on this handle with `ECANCELED`, now and later; returns when they have left.
    pub fn end_waits(&self) {
        // What a thread waits for inside a call of ours ends first: only then can it leave ours.
        self.shared.carrier.end_waits();
        self.shared.lock.end_waits();
        self.shared.base.core.object.end_waits();
    }

    /// Starts the threads of this process: one stands for election.
    #[cold]
    fn start_writer(&self) -> Result<()> {
        let own = own_generation();
        let before = self.shared.started.load(Ordering::Relaxed);
        let is_ours = before != own
            && self.shared.started.compare_exchange(before, own, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !is_ours {
            return Ok(());
        }
        let started = self.start_threads();
        if started.is_err() {
            self.shared.started.store(before, Ordering::Relaxed);
        }
        started.map_err(|errno| {
            self.shared.base.core.object.error(errno, "open").because("no thread can be had for the writer")
        })
    }

    fn start_threads(&self) -> SysResult<()> {
        if let Some(crashes) = self.crashes.get() {
            crashes.start(&self.shared)?;
        }
        if self.shared.writer == LogWriter::Never {
            return Ok(());
        }
        let shared = self.shared.lend();
        background::spawn("wigwag-log", running::STACK, move || shared.stand_for_election())
    }
}

/// That of this process, never 0.
fn own_generation() -> u32 {
    fork::generation_in_handler().wrapping_add(1).max(1)
}

impl Shared {
    fn send(&self, record: &LogRecord<'_>, origin: &LogOrigin, room: Timeout) -> Result<()> {
        let line = &self.base.core.control.line;
        let parcel = Parcel::new(record, self.base.made.largest as usize);
        let sent = self.carrier.send(&self.base, &parcel, room, || {
            let time = if origin.time == 0 { wall_clock() } else { origin.time };
            let (pid, tid) = if origin.pid == 0 { running::own_ids() } else { (origin.pid, origin.tid) };
            let dropped = line.dropped.load(Ordering::Relaxed);
            Envelope { identity: self.next_identity(), time, dropped, pid, tid }
        });
        if parcel.cut > 0 && sent.is_ok() {
            line.cut.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    #[cold]
    fn count_dropped(&self) {
        // Relaxed: one step, which a death can only leave out or leave done.
        self.base.core.control.line.dropped.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    fn next_identity(&self) -> u64 {
        if self.identity_of.load(Ordering::Acquire) != own_generation() {
            self.new_block();
        }
        // Relaxed: only that no two get the same.
        let identity = self.identity.fetch_add(1, Ordering::Relaxed);
        if (1 << BLOCK_BITS) - (identity & ((1 << BLOCK_BITS) - 1)) < BLOCK_RESERVE {
            self.new_block();
        }
        identity
    }

    #[cold]
    fn new_block(&self) {
        let block = self.base.core.control.line.blocks.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        // Of two threads that come to this at once the later block counts: a handle's identities never go back.
        self.identity.fetch_max(block << BLOCK_BITS, Ordering::Relaxed);
        // Release pairs with the Acquire above: who sees the generation sees a block of this process.
        self.identity_of.store(own_generation(), Ordering::Release);
    }

    /// The error that says what is the matter with the file.
    #[cold]
    fn in_trouble(&self, errno: Errno) -> Error {
        let file = self.base.made.file.display();
        let reason = match errno {
            Errno::EBUSY => format!("another log or program has {file} locked; give each log a file of its own"),
            Errno::EINVAL => format!("{file} is no plain file"),
            errno => format!("{file} cannot be written ({}); what is logged is kept until it can be", errno.desc()),
        };
        self.base.core.object.error(errno, "write").because_found(reason)
    }
}

impl Drop for Log {
    /// Writes what is there if nobody else is the writer, and leaves.
    fn drop(&mut self) {
        self.crashes.take();
        self.shared.ending.fire();
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("address", &self.address()).field("file", &self.file()).finish_non_exhaustive()
    }
}
