//! The one handler of this library, and who wants which signal.
//!
//! For each signal there is a list of sinks. The handler walks it, gives the signal to every sink, then calls the
//! handler that was there before. It takes no lock, allocates nothing and keeps errno. The first subscription to a
//! signal installs it; the end of the last puts back what was there, unless somebody else has put a handler of their
//! own over it meanwhile, which is then left alone.
//!
//! A subscription that finds such a handler puts ours over theirs once more. They may call ours as their earlier one: the
//! signal then comes back here marked, and goes on to what was there before theirs, so that nobody drops out.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{getpid, gettid};

use super::lock::Lock;
use super::queue::Queue;
use super::shutdown;
use super::{DefaultAction, RawHandler, Signal, SignalInfo};
use crate::sys::signal::{Action, KernelInfo};
use crate::sys::{SysResult, fork, signal_send};

/// Who wants a signal.
struct Sink {
    to: To,
    /// Has the earlier handler left out for signals that are taken here.
    unchained: bool,
}

/// Where a signal goes.
pub(super) enum To {
    Queue(Arc<Queue>),
    /// A function that runs inside the handler, and the pointer it wants.
    Raw(RawHandler, usize),
    /// The same in Rust, and the signal is left to what would have become of it.
    Before(Arc<dyn Fn(&SignalInfo) + Send + Sync>),
    Shutdown(Arc<shutdown::State>),
}

impl To {
    /// Async-signal-safe. False for one that belongs to another process, or leaves the signal to its default action.
    fn deliver(&self, info: &SignalInfo) -> bool {
        match self {
            To::Queue(queue) => {
                let own = queue.is_own();
                if own {
                    queue.push(info);
                }
                own
            }
            To::Raw(handler, user) => {
                // SAFETY: whoever subscribed promised a function that may run here with this pointer; `info` is live.
                unsafe { handler(info, *user as *mut libc::c_void) };
                true
            }
            To::Before(function) => {
                function(info);
                false
            }
            To::Shutdown(state) => state.deliver(info),
        }
    }
}

/// A place in the list of a signal; reused, never freed, so that the handler may walk on at any time.
struct Node {
    /// Null while free. Set with Release by `Registration`, read with Acquire by the handler.
    sink: AtomicPtr<Sink>,
    /// Written before the node is published, never after.
    next: AtomicPtr<Node>,
}

/// What ours was put over, the latest first. More than one only if somebody else has put theirs over ours in between.
struct Earlier(Vec<Action>);

struct Slot {
    /// Pushed with Release, walked with Acquire.
    first: AtomicPtr<Node>,
    /// Fork generation and number of handlers that are walking: a sink is freed when none is.
    inside: AtomicU64,
    /// What ours was put over; after it was taken away again, what lies beneath the one that was put back. Null if there is none.
    earlier: AtomicPtr<Earlier>,
    /// Held while subscriptions change.
    lock: Lock,
}

const HIGHEST: usize = 64;

static SLOTS: [Slot; HIGHEST + 1] = [const {
    Slot {
        first: AtomicPtr::new(ptr::null_mut()),
        inside: AtomicU64::new(0),
        earlier: AtomicPtr::new(ptr::null_mut()),
        lock: Lock::new(),
    }
}; HIGHEST + 1];

fn slot(signal: Signal) -> &'static Slot {
    // A signal is 1 to 64 by its type.
    &SLOTS[signal.number().clamp(0, HIGHEST as i32) as usize]
}

extern "C" fn on_signal(number: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let errno = Errno::last();
    if let Ok(signal) = Signal::from_number(number) {
        // SAFETY: the kernel filled it for this handler.
        let kernel = unsafe { KernelInfo::copied_from(info) };
        deliver(signal, &kernel, info, context);
    }
    errno.set();
}

fn deliver(signal: Signal, kernel: &KernelInfo, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let slot = slot(signal);
    let inside = slot.enter();
    let handed_on = kernel.handed_on();
    if handed_on > 0 {
        // The earlier handler has ours as *its* earlier one: on to what was there before it, where the circle ends.
        let next = slot.earlier(usize::from(handed_on));
        slot.leave(inside);
        if let (Some(next), Some(handed_on)) = (next, handed_on.checked_add(1)) {
            // SAFETY: these are the kernel's arguments, and `next` was the installed action.
            unsafe {
                KernelInfo::mark(info, handed_on);
                next.call(signal.number(), info, context);
            }
        }
        return;
    }
    let told = SignalInfo::from_kernel(kernel, signal);
    let (mut taken, mut unchained) = (false, false);
    for node in slot.nodes() {
        // SAFETY: a sink found in a node is freed only when nobody is inside, and we are.
        if let Some(sink) = unsafe { node.sink.load(Ordering::Acquire).as_ref() } {
            let own = sink.to.deliver(&told);
            taken |= own;
            unchained |= own && sink.unchained;
        }
    }
    let earlier = slot.earlier(0);
    slot.leave(inside);

    let earlier = match earlier {
        Some(earlier) => earlier,
        None if taken => return,
        // The last subscription has ended since the kernel chose this handler: whoever is in its place gets the signal.
        None => match Action::of(signal.number()) {
            Ok(current) if !current.is(on_signal) => current,
            _ => return,
        },
    };
    if unchained {
        return;
    }
    // SAFETY: these are the kernel's arguments, and `earlier` was the installed action.
    let called = unsafe {
        KernelInfo::mark(info, 1);
        earlier.call(signal.number(), info, context)
    };
    if !called && !taken && earlier.is_default() {
        act_by_default(signal);
    }
}

/// Nobody here wants it: what was subscribed belongs to the parent of this process. Without subscriptions of its own
/// the process fares as if it had none: SIGTERM ends it.
fn act_by_default(signal: Signal) {
    if matches!(signal.default_action(), DefaultAction::Ignore | DefaultAction::Continue) {
        return;
    }
    // SAFETY: the default action is no handler.
    let reset = unsafe { Action::default().install(signal.number()) };
    if reset.is_ok() {
        // Pending until the handler returns; it is blocked until then.
        let _ = signal_send::thread(getpid().as_raw(), gettid().as_raw(), signal.number());
    }
}

impl Slot {
    fn nodes(&self) -> impl Iterator<Item = &'static Node> {
        // SAFETY: nodes are leaked boxes, published with Release after they were filled.
        let follow = |next: &AtomicPtr<Node>| unsafe { next.load(Ordering::Acquire).as_ref() };
        std::iter::successors(follow(&self.first), move |node| follow(&node.next))
    }

    /// Counts the calling handler in. SeqCst, as in `drain`: either the handler is seen there, or it sees the sink gone.
    fn enter(&self) -> u64 {
        let generation = u64::from(fork::generation_in_handler()) << 32;
        let mut seen = self.inside.load(Ordering::SeqCst);
        loop {
            // Handlers that were running in other threads when this process was forked are not in it.
            let entered = if seen >> 32 << 32 == generation { seen + 1 } else { generation + 1 };
            match self.inside.compare_exchange_weak(seen, entered, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return generation,
                Err(newer) => seen = newer,
            }
        }
    }

    fn leave(&self, generation: u64) {
        let mut seen = self.inside.load(Ordering::SeqCst);
        while seen >> 32 << 32 == generation {
            match self.inside.compare_exchange_weak(seen, seen - 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(newer) => seen = newer,
            }
        }
    }

    /// Returns when no handler is inside that may have seen what was taken away before.
    fn drain(&self) {
        std::sync::atomic::fence(Ordering::SeqCst);
        loop {
            let seen = self.inside.load(Ordering::SeqCst);
            if seen as u32 == 0 || (seen >> 32) as u32 != fork::generation() {
                return;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    fn is_wanted(&self) -> bool {
        self.nodes().any(|node| !node.sink.load(Ordering::Relaxed).is_null())
    }

    /// What ours was put over, 0 being the latest. For those who are inside or hold the lock.
    fn earlier(&self, nth: usize) -> Option<Action> {
        // SAFETY: replaced only under the lock, and freed only when nobody is inside.
        unsafe { self.earlier.load(Ordering::Acquire).as_ref() }?.0.get(nth).copied()
    }

    /// All of it, from the nth on, for those who hold the lock.
    fn earlier_from(&self, nth: usize) -> Vec<Action> {
        (nth..).map_while(|nth| self.earlier(nth)).collect()
    }

    /// Under the lock: puts our handler in place, whatever is there now.
    fn install(&self, signal: Signal) -> SysResult<()> {
        fork::generation(); // so that the handler finds the count of forks in use
        let current = Action::of(signal.number())?;
        if current.is(on_signal) {
            return Ok(());
        }
        let before = self.earlier_from(0);
        // Where it was there before, it chains to what it did then or to ours: what lies over that place is out.
        let beneath = before.iter().position(|earlier| earlier.is_same(&current)).map_or(0, |place| place + 1);
        let earlier = std::iter::once(current).chain(before[beneath..].iter().copied());
        self.set_earlier(earlier.collect()); // first, so that the first signal finds it
        // SAFETY: the handler is async-signal-safe, and stays mapped: the shared library is never unloaded.
        match unsafe { Action::handler(on_signal, &current).install(signal.number()) } {
            Ok(_) => Ok(()),
            Err(errno) => {
                self.set_earlier(before);
                Err(errno)
            }
        }
    }

    /// Under the lock: the last subscription has ended.
    fn restore(&self, signal: Signal) {
        if Action::of(signal.number()).is_ok_and(|current| current.is(on_signal)) {
            let earlier = self.earlier(0).unwrap_or_else(Action::default);
            // SAFETY: this was installed before, by whoever vouched for it.
            let _ = unsafe { earlier.install(signal.number()) }; // a valid signal cannot fail
            // What lies beneath it may still be called by way of ours.
            self.set_earlier(self.earlier_from(1));
        }
        // Otherwise somebody has installed over us, and may call us as their earlier handler: ours stays reachable.
    }

    fn set_earlier(&self, earlier: Vec<Action>) {
        let new = if earlier.is_empty() { ptr::null_mut() } else { Box::into_raw(Box::new(Earlier(earlier))) };
        let old = self.earlier.swap(new, Ordering::SeqCst);
        if !old.is_null() {
            self.drain();
            // SAFETY: came from Box::into_raw here, is out of reach for new handlers, and no old one is inside.
            drop(unsafe { Box::from_raw(old) });
        }
    }

    fn place(&self, sink: Box<Sink>) -> &'static Node {
        let sink = Box::into_raw(sink);
        for node in self.nodes() {
            // Release publishes the sink to the handler's Acquire.
            if node.sink.compare_exchange(ptr::null_mut(), sink, Ordering::Release, Ordering::Relaxed).is_ok() {
                return node;
            }
        }
        let first = self.first.load(Ordering::Acquire); // pushed under the lock only
        let node: &'static Node = Box::leak(Box::new(Node { sink: AtomicPtr::new(sink), next: AtomicPtr::new(first) }));
        self.first.store(ptr::from_ref(node).cast_mut(), Ordering::Release);
        node
    }

    /// Takes a sink away, and returns when no handler is using it.
    fn displace(&self, node: &Node) {
        let sink = node.sink.swap(ptr::null_mut(), Ordering::SeqCst);
        self.drain();
        if !sink.is_null() {
            // SAFETY: came from `place`, is out of reach for new handlers, and no old one is inside.
            drop(unsafe { Box::from_raw(sink) });
        }
    }
}

/// A subscription to one signal, ended when dropped.
pub(super) struct Registration {
    signal: Signal,
    node: &'static Node,
}

impl Registration {
    pub(super) fn new(signal: Signal, to: To, unchained: bool) -> SysResult<Registration> {
        let slot = slot(signal);
        let _held = slot.lock.lock();
        // The sink first, so that the first signal finds it.
        let node = slot.place(Box::new(Sink { to, unchained }));
        if let Err(errno) = slot.install(signal) {
            slot.displace(node);
            return Err(errno);
        }
        Ok(Registration { signal, node })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let slot = slot(self.signal);
        let _held = slot.lock.lock();
        let others = slot.nodes().any(|node| !ptr::eq(node, self.node) && !node.sink.load(Ordering::Relaxed).is_null());
        // The action first: a signal that comes in between goes to the earlier handler, not astray.
        if !others {
            slot.restore(self.signal);
        }
        slot.displace(self.node);
    }
}

/// Puts the handler in place again, in a child that may have let a signal act by default before.
pub(super) fn reinstall(signal: Signal) -> SysResult<()> {
    let slot = slot(signal);
    let _held = slot.lock.lock();
    slot.install(signal)
}

/// Sets an action in place of the present one, which must not be ours; the one before, or EBUSY.
pub(super) fn set_plain(signal: Signal, action: Action) -> SysResult<Action> {
    let slot = slot(signal);
    let _held = slot.lock.lock();
    if slot.is_wanted() {
        return Err(Errno::EBUSY);
    }
    // SAFETY: callers set SIG_IGN and SIG_DFL only.
    unsafe { action.install(signal.number()) }
}

/// Undoes `set_plain`, also from under subscriptions that were made since.
pub(super) fn unset_plain(signal: Signal, before: &Action, is_still: fn(&Action) -> bool) {
    let slot = slot(signal);
    let _held = slot.lock.lock();
    match Action::of(signal.number()) {
        Ok(current) if is_still(&current) => {
            // SAFETY: was installed before, by whoever vouched for it.
            let _ = unsafe { before.install(signal.number()) }; // a valid signal cannot fail
        }
        Ok(current) if current.is(on_signal) && slot.earlier(0).is_some_and(|earlier| is_still(&earlier)) => {
            slot.set_earlier(std::iter::once(*before).chain(slot.earlier_from(1)).collect());
        }
        _ => {} // somebody else's by now
    }
}
