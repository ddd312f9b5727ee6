//! [`Signals`]: the signals that came, as a queue with a descriptor.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::callbacks::{Callbacks, Turn};
use super::lock::Replaceable;
use super::number::address_of;
use super::queue::Queue;
use super::registry::{self, Registration, To};
use super::{Signal, SignalInfo};
use crate::address::Address;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::limits::{explain_descriptors, setting};
use crate::sys::{SysResult, fork, signal as kernel};
use crate::timeout::Timeout;
use crate::wait::{Object, Operation};

/// How a [`Signals`] is set up.
#[derive(Clone, Debug, Default)]
pub struct SignalsOptions {
    /// Room for at least this many signals that came and were not taken; 0 for the kernel's usual, about 1,300.
    /// Others are lost and counted.
    pub capacity: usize,
    /// Of the signals, those whose earlier handlers are not called.
    pub unchained: Vec<Signal>,
}

/// Most signals that one dispatch hands out, so that it returns also while more keep coming.
const MOST_AT_ONCE: usize = 1024;

/// Signals that came, in order, each with its sender and value: taken one by one, or handed to callbacks.
///
/// The handler only writes to a queue; everything else runs outside of signal context: in the thread that calls
/// [`take`](Signals::take) or [`dispatch`](Signals::dispatch), or on a thread of its own, see
/// [`start`](Signals::start). Several objects may subscribe to one signal, and each gets it. Handlers that were there
/// before are called as well, after the queues are filled (unless the options say otherwise); the end of the last
/// subscription puts them back. One that was installed to act once (`SA_RESETHAND`) is called each time. While the handler
/// runs, other signals wait. Calls that a signal would interrupt go on, as with `SA_RESTART`, unless an earlier
/// handler was installed to interrupt them.
///
/// What queues: of a classic signal the kernel keeps one pending and merges further ones without a word, real-time
/// signals all queue; what came and found this object's queue full is counted in [`lost`](Signals::lost). A process
/// with several threads takes real-time signals in order only if one thread alone does not block them.
///
/// Fork: the subscriptions are the parent's. A child that does nothing about them meets each signal as if nobody had
/// subscribed (SIGTERM ends it); once it calls a method here, the object is its own, with an empty queue and without
/// dispatcher thread, and takes nothing from the parent. `exec` ends them.
///
/// ```
/// use wigwag::{Signal, Signals, Timeout};
/// let signals = Signals::open(&[Signal::USR1, Signal::USR2])?;
/// Signal::USR1.send(std::process::id() as i32)?;
/// let info = signals.take(Timeout::Forever)?;
/// assert_eq!((info.signal, info.pid), (Signal::USR1, std::process::id() as i32));
/// # Ok::<(), wigwag::Error>(())
/// ```
#[doc(alias = "sigaction")]
pub struct Signals {
    registrations: Replaceable<Arc<Vec<Registration>>>,
    inner: Arc<Inner>,
    dispatcher: Replaceable<Option<Arc<Dispatcher>>>,
}

/// What the dispatcher thread shares with the object, and what a call holds on to while callbacks run: one of them may
/// close the object.
struct Inner {
    object: Object,
    signals: Vec<Signal>,
    queue: Arc<Queue>,
    callbacks: Callbacks,
}

struct Dispatcher {
    stop: Cancel,
    generation: u32,
    /// The thread's number once it runs: only it compares equal to its own.
    tid: AtomicI32,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>, // taken once, by whoever took the dispatcher out of the object
}

impl Signals {
    /// Subscribes to these signals. Never blocks. Errors and system calls: as [`Signals::open_with`].
    pub fn open(signals: &[Signal]) -> Result<Signals> {
        Signals::open_with(signals, SignalsOptions::default())
    }

    /// Subscribes to these signals. Never blocks.
    ///
    /// # Errors
    /// `EINVAL` SIGKILL, SIGSTOP, a signal of the C library, a fault (`SEGV`, `BUS`, `FPE`, `ILL`), or no signal at all;
    /// `EBUSY` the signal that this library uses itself; `EMFILE`, `ENFILE` no descriptor is left; `EPERM` the capacity
    /// is more than fs.pipe-max-size.
    ///
    /// System calls: pipe2, rt_sigaction.
    pub fn open_with(signals: &[Signal], options: SignalsOptions) -> Result<Signals> {
        let mut signals = signals.to_vec();
        let mut seen = std::collections::HashSet::new();
        signals.retain(|signal| seen.insert(*signal));
        let object = Object::new(address_of(&signals));
        if signals.is_empty() {
            return Err(object.error(Errno::EINVAL, "subscribe").because("no signal is named; name at least one"));
        }
        signals.iter().try_for_each(|signal| signal.check_queueable("subscribe"))?;
        let queue = Queue::new(options.capacity).map_err(|errno| {
            let error = object.error(errno, "subscribe");
            match errno {
                Errno::EPERM | Errno::EINVAL | Errno::EBUSY => error.because_found(too_large(options.capacity)),
                _ => explain_descriptors(error),
            }
        })?;
        let queue = Arc::new(queue);
        let registrations = signals
            .iter()
            .map(|signal| {
                let unchained = options.unchained.contains(signal);
                Registration::new(*signal, To::Queue(Arc::clone(&queue)), unchained)
            })
            .collect::<SysResult<Vec<_>>>()
            .map_err(|errno| object.error(errno, "subscribe"))?;
        let inner = Arc::new(Inner { object, signals, queue, callbacks: Callbacks::new() });
        Ok(Signals {
            registrations: Replaceable::new(Arc::new(registrations)),
            inner,
            dispatcher: Replaceable::new(None),
        })
    }

    /// Subscribes to the signals of an address such as `signal:USR1` or `signal:INT,TERM`; its `capacity=` counts where
    /// the options leave it open. Never blocks.
    ///
    /// # Errors
    /// `EINVAL` an address of another kind, or with a pid; otherwise as [`Signals::open_with`].
    pub fn at(address: &Address, mut options: SignalsOptions) -> Result<Signals> {
        let (signals, pid) = Signal::from_address(address)?;
        if pid.is_some() {
            return Err(Error::new(Errno::EINVAL, "subscribe")
                .on_text(address.to_string())
                .because("an address with a pid is for sending; to receive, name the signal alone"));
        }
        if options.capacity == 0 {
            options.capacity =
                address.number("capacity").map_or(0, |number| usize::try_from(number).unwrap_or(usize::MAX));
        }
        Signals::open_with(&signals, options)
    }

    /// Takes the oldest signal that came, waiting for one.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere, with nothing taken.
    ///
    /// System call: read.
    pub fn take(&self, timeout: Timeout) -> Result<SignalInfo> {
        self.inner.ensure_own("take")?;
        let mut operation = self.inner.object.operation("take", timeout);
        operation.until_ready(self.inner.queue.as_fd(), PollFlags::POLLIN, || self.inner.queue.take())
    }

    /// Adds a function that runs when this signal has been taken by [`dispatch`](Signals::dispatch) or the dispatcher
    /// thread; its number, for [`off`](Signals::off). Functions run one at a time, for one signal in the order they
    /// were added. Never blocks.
    ///
    /// # Errors
    /// `EINVAL` the signal is not among those of this object.
    pub fn on(&self, signal: Signal, function: impl Fn(&SignalInfo) + Send + Sync + 'static) -> Result<u64> {
        if self.inner.signals.contains(&signal) {
            return Ok(self.inner.callbacks.add(signal, Arc::new(function)));
        }
        Err(self
            .inner
            .object
            .error(Errno::EINVAL, "on")
            .because_found(format!("{signal} is not among the signals of this object; name it when opening")))
    }

    /// Removes the function that has this number. When it returns, the function neither runs nor will: it waits for one
    /// that is running, unless it is called from there.
    ///
    /// # Errors
    /// `ENOENT` there is none.
    pub fn off(&self, id: u64) -> Result<()> {
        if self.inner.callbacks.remove(id) {
            return Ok(());
        }
        Err(self.inner.object.error(Errno::ENOENT, "off").because("no function has this number, or not any more"))
    }

    /// Waits for a signal and runs the functions for it and for those that came meanwhile, in this thread; how many
    /// signals that were. Signals without a function are taken too.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere, with nothing taken; `EDEADLK` it is called by one of those
    /// functions.
    ///
    /// System calls: poll, read.
    pub fn dispatch(&self, timeout: Timeout) -> Result<usize> {
        // From here on `self` is not touched: a callback may end it.
        Arc::clone(&self.inner).dispatch(timeout, false)
    }

    /// Starts a thread that dispatches from now on, with all signals blocked in it. Never blocks. A function that
    /// panics is told about on standard error, and the others go on.
    ///
    /// # Errors
    /// `EALREADY` it runs already; `ENOMEM` no thread can be had: memory, or a limit of threads.
    pub fn start(&self) -> Result<()> {
        self.inner.ensure_own("start")?;
        let dispatcher = Arc::new(Dispatcher {
            stop: Cancel::new(),
            generation: fork::generation(),
            tid: AtomicI32::new(0),
            thread: std::sync::Mutex::new(None),
        });
        // Held until the thread is there: who stops it meanwhile waits for that, and then for the thread.
        let mut place = dispatcher.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mine = Arc::clone(&dispatcher);
        let claimed = self.dispatcher.update(|current| match current {
            Some(running) if running.generation == mine.generation => (current.clone(), false),
            _ => (Some(mine), true),
        });
        if !claimed {
            return Err(self.inner.object.error(Errno::EALREADY, "start").because("the dispatcher runs already"));
        }
        let (inner, running) = (Arc::clone(&self.inner), Arc::clone(&dispatcher));
        let spawned = spawn_without_signals(move || {
            running.tid.store(Signal::this_thread(), Ordering::Relaxed);
            inner.dispatch_until(&running.stop);
        });
        match spawned {
            Ok(thread) => {
                *place = Some(thread);
                Ok(())
            }
            Err(error) => {
                self.dispatcher.update(|current| match current {
                    Some(other) if !Arc::ptr_eq(other, &dispatcher) => (current.clone(), ()),
                    _ => (None, ()),
                });
                // Not EAGAIN, as the C library has it: that would look like a call that has to wait.
                let error = format!("no thread can be had, for memory or a limit of threads (ulimit -u): {error}");
                Err(self.inner.object.error(Errno::ENOMEM, "start").because_found(error))
            }
        }
    }

    /// Stops the dispatcher thread and waits for a function that is running, unless it is called from there. Does
    /// nothing if there is none.
    pub fn stop(&self) {
        let Some(dispatcher) = self.dispatcher.update(|current| (None, current.clone())) else { return };
        dispatcher.stop.fire();
        if dispatcher.generation != fork::generation() {
            // Its thread stayed behind in the parent, and so may the one that holds its lock; there is nothing to join, and
            // detaching would touch its remains.
            std::mem::forget(dispatcher);
            return;
        }
        let thread = dispatcher.thread.lock().ok().and_then(|mut place| place.take());
        let Some(thread) = thread else { return };
        if dispatcher.tid.load(Ordering::Relaxed) != Signal::this_thread() && thread.join().is_err() {
            // Callbacks' panics are caught; nothing else in there panics.
        }
    }

    /// How many signals came and were lost because the queue was full. Never blocks.
    pub fn lost(&self) -> u64 {
        self.inner.queue.lost()
    }

    /// The signals that it is for.
    pub fn signals(&self) -> &[Signal] {
        &self.inner.signals
    }

    /// Its address, such as `signal:INT,TERM`.
    pub fn address(&self) -> &str {
        self.inner.object.address()
    }

    /// Ends the waits of all threads on this object with `ECANCELED`, now and later; returns when they have left.
    pub fn end_waits(&self) {
        self.inner.object.end_waits();
    }

    /// Ends the subscriptions, the dispatcher thread and the waits (`ECANCELED`), now and later, and returns when no
    /// function runs any more, unless the caller is one: what dropping does, for those who share the object.
    pub fn end(&self) {
        self.registrations.update(|_| (Arc::default(), ()));
        self.stop();
        // Also when one of its functions ends it: a thread that runs functions has left its wait.
        self.inner.object.end_waits();
        self.inner.callbacks.close();
    }
}

impl Inner {
    /// In a child made by fork: makes the object its own.
    fn ensure_own(&self, operation: &'static str) -> Result<()> {
        let moved = self.queue.ensure_own(|| ()).and_then(|moved| {
            if moved { self.signals.iter().try_for_each(|signal| registry::reinstall(*signal)) } else { Ok(()) }
        });
        moved.map_err(|errno| self.object.error(errno, operation))
    }

    fn dispatch(self: Arc<Inner>, timeout: Timeout, catch: bool) -> Result<usize> {
        self.ensure_own("dispatch")?;
        if self.callbacks.is_running_here() {
            return Err(self
                .object
                .error(Errno::EDEADLK, "dispatch")
                .because("a function that dispatch runs must not call it"));
        }
        let mut operation = self.object.operation("dispatch", timeout);
        let (turn, first) = loop {
            operation.until_ready(self.queue.as_fd(), PollFlags::POLLIN, || self.is_readable())?;
            let turn = self.wait_for_turn(&mut operation)?;
            if turn.is_closed() {
                return Err(operation.error(Errno::ECANCELED));
            }
            match self.queue.take() {
                Ok(info) => break (turn, info),
                Err(Errno::EAGAIN | Errno::EINTR) => {} // another thread was faster
                Err(errno) => return Err(operation.error(errno)),
            }
        };
        // No longer a waiter: a callback may close the object, which waits for the waiters to leave.
        drop(operation);
        turn.run(&first, catch);
        let mut done = 1;
        while done < MOST_AT_ONCE
            && !turn.is_closed()
            && let Ok(info) = self.queue.take()
        {
            turn.run(&info, catch);
            done += 1;
        }
        Ok(done)
    }

    fn is_readable(&self) -> SysResult<()> {
        match poll(&mut [PollFd::new(self.queue.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO)? {
            0 => Err(Errno::EAGAIN),
            _ => Ok(()),
        }
    }

    fn wait_for_turn(&self, operation: &mut Operation<'_>) -> Result<Turn<'_>> {
        let pause = Duration::from_millis(1); // only while another thread runs callbacks
        operation.in_call(
            || self.callbacks.turn().ok_or(Errno::EAGAIN),
            |_| {
                std::thread::sleep(pause);
                self.callbacks.turn().ok_or(Errno::EINTR)
            },
        )
    }

    fn dispatch_until(self: Arc<Inner>, stop: &Cancel) {
        let _scope = stop.enter();
        loop {
            match Arc::clone(&self).dispatch(Timeout::Forever, true) {
                Err(error) if !error.is(Errno::EINTR) => return, // stopped, or closed
                _ if stop.is_fired() => return,
                _ => {}
            }
        }
    }
}

/// A thread in which no signal is handled, so that the program's other threads take them as if it were not there.
fn spawn_without_signals(body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let before = kernel::block(&kernel::Set::all_but_faults());
    let spawned = std::thread::Builder::new().name("wigwag-signals".into()).spawn(body);
    if let Ok(before) = before {
        let _ = kernel::set_mask(&before); // cannot fail with a set that came from the kernel
    }
    spawned
}

fn too_large(capacity: usize) -> String {
    format!(
        "a queue of {capacity} signals of {} bytes is more than a pipe may hold, fs.pipe-max-size={}; ask for less, or \
         raise the limit",
        super::info::RECORD,
        setting("fs/pipe-max-size")
    )
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.end();
    }
}

impl AsFd for Signals {
    /// Readable while there is a signal to take. In a child made by fork, call a method that waits first: only then it
    /// is the child's own.
    fn as_fd(&self) -> BorrowedFd<'_> {
        // If the child cannot get a pipe of its own (EMFILE), the next call that can fail says so.
        let _ = self.inner.ensure_own("fd");
        self.inner.queue.as_fd()
    }
}

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signals").field("signals", &self.inner.signals).field("lost", &self.lost()).finish()
    }
}
