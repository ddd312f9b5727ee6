//! Signals that end the program, logged before they do.
//!
//! A handler has little stack, and whatever the thread held when it crashed. So it only leaves word, and a thread of the log's
//! own logs, while the one that crashed waits; not for ever, should it hold what the other needs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{Log, LogLevel, LogOrigin, LogRecord, LogValue, Shared, own_generation};
use crate::error::Result;
use crate::signal::{Before, Signal, SignalInfo};
use crate::sync_atomics::{AtomicU32, AtomicU64, Ordering};
use crate::sys::lending::Lending;
use crate::sys::{SysResult, background, futex};
use crate::timeout::{Deadline, Timeout};

/// What a crash waits for room: nobody may be left who makes some.
const ROOM: Timeout = Timeout::After(Duration::from_secs(1));
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// How long a thread that crashes waits until that is logged.
const PATIENCE: Duration = Duration::from_millis(1500);
/// A sleep has to end some time; who sleeps looks again.
const SLEEP: Duration = Duration::from_secs(60);
const STACK: usize = 256 << 10;

/// The signals by which programs crash, and one that others end them by.
const NAMES: [(Signal, &str); 6] = [
    (Signal::SEGV, "SIGSEGV"),
    (Signal::BUS, "SIGBUS"),
    (Signal::FPE, "SIGFPE"),
    (Signal::ILL, "SIGILL"),
    (Signal::ABRT, "SIGABRT"),
    (Signal::TERM, "SIGTERM"),
];
const CRASHES: [Signal; 5] = [Signal::SEGV, Signal::BUS, Signal::FPE, Signal::ILL, Signal::ABRT];

// What a desk's `state` is. READY → TAKEN → TOLD by who crashes, → READY by the thread; → CLOSED by who closes the log.
const READY: u32 = 0;
const TAKEN: u32 = 1;
const TOLD: u32 = 2;
const CLOSED: u32 = 3;

/// Where a handler leaves word.
#[derive(Default)]
struct Desk {
    /// The fork generation, as `own_generation` has it, whose thread sits here.
    staffed: AtomicU32,
    /// Changes to TOLD and to READY are Release, and read with Acquire: the words below, and the record's being sent.
    state: AtomicU32,
    signal: AtomicU32,
    about: AtomicU64,
    thread: AtomicU32,
}

impl Desk {
    /// In the handler, hence async-signal-safe: has the thread log it, and waits until it has.
    fn leave_word(&self, info: &SignalInfo) {
        let start = Instant::now();
        let left = || PATIENCE.checked_sub(start.elapsed()).filter(|left| !left.is_zero());
        // A child that has not used the log has nobody here.
        while self.staffed.load(Ordering::Acquire) == own_generation() {
            // Relaxed: the store below publishes.
            match self.state.compare_exchange(READY, TAKEN, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(CLOSED) => return,
                Err(other) => {
                    let Some(left) = left() else { return }; // another thread has crashed as well
                    let _ = futex::wait(&self.state, other, left);
                }
            }
        }
        if self.staffed.load(Ordering::Acquire) != own_generation() {
            return;
        }
        self.signal.store(info.signal.number().cast_unsigned(), Ordering::Relaxed);
        self.about.store(info.fault_address as u64, Ordering::Relaxed);
        // Not what the thread remembers: in a library that was loaded late, the first look at that allocates.
        self.thread.store(nix::unistd::gettid().as_raw().cast_unsigned(), Ordering::Relaxed);
        self.state.store(TOLD, Ordering::Release);
        futex::wake(&self.state, u32::MAX);
        while self.state.load(Ordering::Acquire) == TOLD {
            let Some(left) = left() else { return };
            let _ = futex::wait(&self.state, TOLD, left);
        }
    }

    fn work(&self, shared: &Shared) {
        loop {
            let state = self.state.load(Ordering::Acquire);
            match state {
                CLOSED => return,
                TOLD => {
                    let origin =
                        LogOrigin { pid: std::process::id(), tid: self.thread.load(Ordering::Relaxed), time: 0 };
                    let signal = self.signal.load(Ordering::Relaxed).cast_signed();
                    // There is nobody to tell if it fails.
                    let _ = shared.log_signal(signal, self.about.load(Ordering::Relaxed), &origin);
                    self.move_on(TOLD, READY);
                }
                // It ends early for whatever reason.
                _ => drop(futex::wait(&self.state, state, SLEEP)),
            }
        }
    }

    fn move_on(&self, from: u32, to: u32) {
        // Fails if the log was closed meanwhile.
        let _ = self.state.compare_exchange(from, to, Ordering::Release, Ordering::Relaxed);
        futex::wake(&self.state, u32::MAX);
    }
}

/// Logs crashes until it is dropped.
pub(super) struct Crashes {
    before: Vec<Before>,
    desk: Arc<Desk>,
}

impl Crashes {
    fn new() -> Result<Crashes> {
        let desk = Arc::new(Desk::default());
        let before = |signal| {
            let desk = Arc::clone(&desk);
            Before::new(signal, Arc::new(move |info| desk.leave_word(info)))
        };
        Ok(Crashes { before: CRASHES.into_iter().map(before).collect::<Result<_>>()?, desk })
    }

    /// Starts the thread of this process, unless it has one.
    pub(super) fn start(&self, shared: &Lending<Shared>) -> SysResult<()> {
        let own = own_generation();
        let before = self.desk.staffed.load(Ordering::Relaxed);
        if before == own
            || self.desk.staffed.compare_exchange(before, own, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return Ok(());
        }
        // What a thread of the parent was about to do when this process was forked off is none of its business.
        self.desk.state.store(READY, Ordering::Release);
        let (desk, shared) = (Arc::clone(&self.desk), shared.lend());
        background::spawn("wigwag-crash", STACK, move || desk.work(&shared))
            .inspect_err(|_| self.desk.staffed.store(before, Ordering::Relaxed))
    }
}

impl Drop for Crashes {
    fn drop(&mut self) {
        self.before.clear(); // which waits for handlers that run
        self.desk.state.store(CLOSED, Ordering::Release);
        futex::wake(&self.desk.state, u32::MAX);
    }
}

impl Log {
    /// Has SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT logged until the handle is closed, before what would have become of
    /// them: the handler that was there runs, or the default action ends the program. Never blocks; a crash waits for 1.5 s at
    /// most until it is logged. Once is enough: it holds for children made by fork too, as soon as they have logged something.
    ///
    /// A stack that has overflowed has no room for a handler in threads without a stack for signals (sigaltstack); Rust's
    /// threads have one.
    ///
    /// # Errors
    /// `ENOMEM` no thread can be had; `EBUSY` one of these signals is used by this library.
    ///
    /// System calls: rt_sigaction, clone.
    pub fn log_crashes(&self) -> Result<()> {
        let shared = self.ready()?;
        if self.crashes.get().is_none() {
            // Of two threads the second takes its own away again.
            let _ = self.crashes.set(Crashes::new()?);
        }
        let started = self.crashes.get().map_or(Ok(()), |crashes| crashes.start(&self.shared));
        started.map_err(|errno| {
            shared.base.core.object.error(errno, "log crashes").because("no thread can be had that logs them")
        })
    }

    /// Logs that a signal ends the program, with the address that it is about (0 for none): for handlers of a program's own;
    /// [`Log::log_crashes`] has one. Async-signal-safe in a process that has used the handle before, given 64 KiB of stack.
    /// Waits a second for room at most.
    ///
    /// # Errors
    /// `EAGAIN` there is no room; `ESTALE`, `EBADMSG` as [`Log::log`].
    pub fn log_signal(&self, signal: i32, about: usize) -> Result<()> {
        self.shared.log_signal(signal, about as u64, &LogOrigin::default())
    }
}

impl Shared {
    fn log_signal(&self, signal: i32, about: u64, origin: &LogOrigin) -> Result<()> {
        let known = NAMES.iter().find(|(known, _)| known.number() == signal);
        let name = known.map_or("unknown", |(_, name)| name);
        // No allocation: the number and the address go as fields, and the message has no parts.
        let number = LogValue::Signed(signal.into());
        let fields = [("signal", number), ("name", LogValue::Text(name)), ("address", LogValue::Unsigned(about))];
        let fields = if about == 0 { &fields[..2] } else { &fields[..] };
        let record =
            LogRecord { level: LogLevel::Fatal, message: "a signal ends the program", fields, ..Default::default() };
        // Who waits for room as others do remembers this thread and may lock, which a handler cannot.
        let end = Deadline::after(ROOM);
        let sent = loop {
            match self.send(&record, origin, Timeout::Now) {
                Err(error) if error.is(Errno::EAGAIN) && !end.has_passed() => std::thread::sleep(LOOK_AGAIN),
                sent => break sent,
            }
        };
        sent.inspect_err(|_| self.count_dropped())
    }
}
