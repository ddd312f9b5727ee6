//! Signals.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, LazyLock};

use libc::{pid_t, ssize_t, uid_t};
use wigwag::{
    DefaultAction, Error, RawSubscription, Result, Signal, SignalAction, SignalInfo, SignalMask, Signals,
    SignalsOptions,
};

use crate::boundary::{
    Options, address, bytes, call, close, expect_out, flag, give, invalid, object, options, put, put_if_wanted, take,
    text, timeout,
};

/// The numbers of the classic signals on Linux, so that signal.h is not needed; real-time signals come from
/// ww_signal_number("RTMIN+3"), as their numbers are not constants.
pub const WW_SIGHUP: c_int = 1;
pub const WW_SIGINT: c_int = 2;
pub const WW_SIGQUIT: c_int = 3;
pub const WW_SIGILL: c_int = 4;
pub const WW_SIGTRAP: c_int = 5;
pub const WW_SIGABRT: c_int = 6;
pub const WW_SIGBUS: c_int = 7;
pub const WW_SIGFPE: c_int = 8;
pub const WW_SIGKILL: c_int = 9;
pub const WW_SIGUSR1: c_int = 10;
pub const WW_SIGSEGV: c_int = 11;
pub const WW_SIGUSR2: c_int = 12;
pub const WW_SIGPIPE: c_int = 13;
pub const WW_SIGALRM: c_int = 14;
pub const WW_SIGTERM: c_int = 15;
pub const WW_SIGSTKFLT: c_int = 16;
pub const WW_SIGCHLD: c_int = 17;
pub const WW_SIGCONT: c_int = 18;
pub const WW_SIGSTOP: c_int = 19;
pub const WW_SIGTSTP: c_int = 20;
pub const WW_SIGTTIN: c_int = 21;
pub const WW_SIGTTOU: c_int = 22;
pub const WW_SIGURG: c_int = 23;
pub const WW_SIGXCPU: c_int = 24;
pub const WW_SIGXFSZ: c_int = 25;
pub const WW_SIGVTALRM: c_int = 26;
pub const WW_SIGPROF: c_int = 27;
pub const WW_SIGWINCH: c_int = 28;
pub const WW_SIGIO: c_int = 29;
pub const WW_SIGPWR: c_int = 30;
pub const WW_SIGSYS: c_int = 31;

/// What a signal does to a process that has made no arrangements: it ends it.
pub const WW_SIGNAL_TERMINATES: c_int = 1;
/// It ends the process, with a core dump where they are on.
pub const WW_SIGNAL_DUMPS_CORE: c_int = 2;
/// Nothing.
pub const WW_SIGNAL_IGNORED: c_int = 3;
/// It stops the process.
pub const WW_SIGNAL_STOPS: c_int = 4;
/// It lets a stopped process go on.
pub const WW_SIGNAL_CONTINUES: c_int = 5;

// Compared with the C library's when this is compiled.
const _: () = assert!(WW_SIGCHLD == libc::SIGCHLD && WW_SIGUSR1 == libc::SIGUSR1 && WW_SIGSYS == libc::SIGSYS);

/// One signal that came. What the kernel does not say for a signal's kind is 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_signal_info {
    /// Which signal.
    pub signal: c_int,
    /// How it came, the kernel's si_code: 0 by kill, -1 with a value, -6 to a thread, above 0 from the kernel.
    pub code: c_int,
    /// The sender as this process sees it, 0 if it cannot; with WW_SIGCHLD the child.
    pub pid: pid_t,
    /// The sender's real user.
    pub uid: uid_t,
    /// The number that was sent along.
    pub value: c_int,
    /// With WW_SIGCHLD: the exit status, or the signal that ended or stopped the child.
    pub status: c_int,
    /// With a timer: how many further expirations this signal stands for. With WW_SIGIO: the descriptor.
    pub detail: c_int,
    pub reserved: c_int,
    /// The value as a whole machine word, for senders that send a pointer.
    pub pointer: *mut c_void,
    /// With a fault (WW_SIGSEGV, WW_SIGBUS, WW_SIGFPE, WW_SIGILL): the address.
    pub fault_address: *mut c_void,
}

impl From<&SignalInfo> for ww_signal_info {
    /// Async-signal-safe.
    fn from(info: &SignalInfo) -> ww_signal_info {
        ww_signal_info {
            signal: info.signal.number(),
            code: info.code,
            pid: info.pid,
            uid: info.uid,
            value: info.value,
            status: info.status,
            detail: info.detail,
            reserved: 0,
            pointer: info.pointer as *mut c_void,
            fault_address: info.fault_address as *mut c_void,
        }
    }
}

/// A function for a signal that came, and the pointer given with it; info is good during the call.
pub type ww_signal_callback = Option<unsafe extern "C" fn(info: *const ww_signal_info, user: *mut c_void)>;

/// Signals that came, in order, each with its sender and value: taken one by one, or handed to callbacks outside of
/// signal context.
///
/// The handler only writes to a queue. Several handles may subscribe to one signal, and each gets it. Handlers that
/// were there before are called as well, after the queues are filled; the end of the last subscription puts them back.
/// Calls that a signal would interrupt go on, unless an earlier handler was installed to interrupt them.
///
/// Of a classic signal the kernel keeps one pending and merges further ones; real-time signals all queue, in order if
/// one thread alone does not block them. What came and found the queue full is counted by ww_signal_lost().
///
/// May be shared between threads. Fork: the subscriptions are the parent's. A child that does nothing about them meets
/// each signal as if nobody had subscribed (WW_SIGTERM ends it); once it calls a function on the handle, that is its
/// own, with an empty queue and without dispatcher thread, and takes nothing from the parent. exec ends them.
pub struct ww_signal(Signals);

/// How signals are received; initialise with WW_SIGNAL_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_signal_options {
    pub size: usize,
    /// Room for at least this many signals that came and were not taken; 0 for the kernel's usual, about 1,300.
    pub capacity: usize,
    /// 1: handlers that were there before are not called for the signals of this handle, until it is closed.
    pub unchained: c_int,
    pub reserved: c_int,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_signal_options {}

/// What the options of a C program ask for; `unchained` goes for all of the signals.
///
/// # Safety
/// As [`options`].
unsafe fn receiving(given: *const ww_signal_options, signals: &[Signal]) -> Result<SignalsOptions> {
    // SAFETY: as the caller promises.
    let given = unsafe { self::options(given, "ww_signal_options") }?;
    if given.reserved != 0 {
        return Err(invalid("ww_signal_options", "the reserved member must be 0"));
    }
    let unchained = flag(given.unchained, "ww_signal_options.unchained")?;
    let unchained = if unchained { signals.to_vec() } else { Vec::new() };
    Ok(SignalsOptions { capacity: given.capacity, unchained })
}

/// A function that runs inside the signal handler.
pub struct ww_signal_raw {
    _subscription: RawSubscription, // ends before the target goes
    _target: Arc<RawTarget>,
}

struct RawTarget {
    handler: unsafe extern "C" fn(*const ww_signal_info, *mut c_void),
    user: usize, // a pointer as a number: the kernel chooses the thread that it is used in
}

/// A signal that is ignored, or left to its default action, until this is closed.
pub struct ww_signal_action {
    _action: SignalAction,
}

/// What ww_signal_block() or ww_signal_unblock() has changed, for ww_signal_restore(). The members are the library's.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_signal_mask {
    pub changed: u64,
    pub blocked: c_int,
    pub reserved: c_int,
}

/// A list of signals as C has it.
///
/// # Safety
/// `signals` is NULL or points to `count` numbers.
pub(crate) unsafe fn list(signals: *const c_int, count: usize) -> Result<Vec<Signal>> {
    let size = count.saturating_mul(size_of::<c_int>());
    // SAFETY: as the caller promises.
    let numbers = unsafe { bytes(signals.cast(), size) }?;
    if count > 1024 {
        return Err(invalid("signals", "more than 1024 signals are named; was the count in bytes?"));
    }
    let numbers = numbers.chunks_exact(size_of::<c_int>()).filter_map(|number| number.try_into().ok());
    numbers.map(|number| Signal::from_number(c_int::from_ne_bytes(number))).collect()
}

/// The number of a signal by its name, with or without SIG: "USR1", "SIGTERM", "RTMIN+3", "10".
///
/// Never blocks. Errors: -EINVAL there is none of that name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_number(name: *const c_char) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        let name = String::from_utf8_lossy(text(name, "name")?);
        name.parse().map(Signal::number)
    })
}

/// The name of a signal, such as "SIGUSR1" or "SIGRTMIN+3"; NULL for a number that is none.
///
/// Never blocks. The text is the library's and good for ever.
#[unsafe(no_mangle)]
pub extern "C" fn ww_signal_name(signal: c_int) -> *const c_char {
    static NAMES: LazyLock<Vec<CString>> = LazyLock::new(|| {
        let names = (1..).map_while(|number| Signal::from_number(number).ok());
        names.map(|signal| CString::new(signal.to_string()).unwrap_or_default()).collect()
    });
    let place = usize::try_from(signal).ok().and_then(|number| number.checked_sub(1));
    place.and_then(|place| NAMES.get(place)).map_or(std::ptr::null(), |name| name.as_ptr())
}

/// What a signal does by default: WW_SIGNAL_TERMINATES and so on. Never blocks. Errors: -EINVAL no signal.
#[unsafe(no_mangle)]
pub extern "C" fn ww_signal_default_action(signal: c_int) -> c_int {
    call(|| {
        Ok(match Signal::from_number(signal)?.default_action() {
            DefaultAction::Terminate => WW_SIGNAL_TERMINATES,
            DefaultAction::Core => WW_SIGNAL_DUMPS_CORE,
            DefaultAction::Ignore => WW_SIGNAL_IGNORED,
            DefaultAction::Stop => WW_SIGNAL_STOPS,
            DefaultAction::Continue => WW_SIGNAL_CONTINUES,
        })
    })
}

/// Subscribes to signals, given as an array of numbers; NULL options mean defaults. Close it with ww_signal_close().
///
/// Never blocks. Errors: -EINVAL WW_SIGKILL, WW_SIGSTOP, a signal of the C library, a fault (for which there is
/// ww_signal_raw_open()), a number that is no signal, or none at all; -EBUSY the signal that this library uses itself;
/// -EMFILE, -ENFILE no descriptor is left; -EPERM the capacity is more than fs.pipe-max-size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_open(
    out: *mut *mut ww_signal,
    signals: *const c_int,
    count: usize,
    options: *const ww_signal_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let signals = list(signals, count)?;
        give(out, ww_signal(Signals::open_with(&signals, receiving(options, &signals)?)?))
    })
}

/// Subscribes to the signals of an address such as "signal:USR1" or "signal:INT,TERM?capacity=64".
///
/// Never blocks. Errors: as ww_signal_open(); -EINVAL the address, also one with a pid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_open_address(
    out: *mut *mut ww_signal,
    address: *const c_char,
    options: *const ww_signal_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let address = self::address(address)?;
        let (signals, _) = Signal::from_address(&address)?;
        give(out, ww_signal(Signals::at(&address, receiving(options, &signals)?)?))
    })
}

/// Ends the subscriptions: threads that wait on them return -ECANCELED, a callback that is running is waited for (unless
/// it is the caller), and no other begins. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_close(signal: *mut ww_signal) {
    // SAFETY: as above.
    unsafe { close(signal, |signal| signal.0.end()) };
}

/// Takes the oldest signal that came into *info, waiting for one.
///
/// Errors, with nothing taken: -EAGAIN, -ETIMEDOUT, -ECANCELED; in a forked child -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_take(signal: *const ww_signal, info: *mut ww_signal_info, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(info)?;
        let taken = object(signal, "signal")?.0.take(timeout(timeout_ns)?)?;
        put(info, ww_signal_info::from(&taken), "info")
    })
}

/// Adds a function that runs when this signal has been taken by ww_signal_dispatch() or the dispatcher thread, and
/// writes its number for ww_signal_off() to *id (which may be NULL). Callbacks run one at a time, for one signal in the
/// order they were added; they may call all of wigwag but ww_signal_dispatch() on this handle.
///
/// Never blocks. Errors: -EINVAL the signal is not among those of this handle; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_on(
    signal: *const ww_signal,
    number: c_int,
    callback: ww_signal_callback,
    user: *mut c_void,
    id: *mut u64,
) -> c_int {
    // SAFETY: as above; the callback and its pointer are the caller's until off or close has returned.
    call(|| unsafe {
        let callback = callback.ok_or_else(|| Error::from_raw(libc::EFAULT, "callback"))?;
        let user = user as usize; // as a number it may go to another thread, which is what the caller wants
        let given = object(signal, "signal")?.0.on(Signal::from_number(number)?, move |info| {
            callback(&ww_signal_info::from(info), user as *mut c_void);
        })?;
        put_if_wanted(id, given);
        Ok(())
    })
}

/// Removes a callback. When it returns, the callback neither runs nor will: it waits for one that is running, unless it
/// is called from there.
///
/// Errors: -ENOENT none has this number; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_off(signal: *const ww_signal, id: u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(signal, "signal")?.0.off(id) })
}

/// Waits for a signal and runs the callbacks for it and for those that came meanwhile, in this thread; how many signals
/// that were. Signals without a callback are taken too.
///
/// Errors, with nothing taken: -EAGAIN, -ETIMEDOUT, -ECANCELED; -EDEADLK it is called by one of those callbacks; in
/// a child made by fork -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_dispatch(signal: *const ww_signal, timeout_ns: i64) -> ssize_t {
    // SAFETY: as above. A callback may close the handle: it is not touched after dispatch has begun.
    call(|| unsafe { object(signal, "signal")?.0.dispatch(timeout(timeout_ns)?) })
}

/// Starts a thread that dispatches from now on, with all signals blocked in it. Never blocks.
///
/// Errors: -EALREADY it runs already; -ENOMEM no thread can be had; in a child made by fork -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_start(signal: *const ww_signal) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(signal, "signal")?.0.start() })
}

/// Stops the dispatcher thread; waits for a callback that is running (unless it is the caller). Nothing happens if there is
/// none. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_stop(signal: *const ww_signal) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(signal, "signal")?.0.stop();
        Ok(())
    })
}

/// How many signals came and were lost because the queue was full. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_lost(signal: *const ww_signal) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Ok(usize::try_from(object(signal, "signal")?.0.lost()).unwrap_or(usize::MAX)) })
}

/// The descriptor, to poll: readable while there is a signal to take. It stays the handle's; in a child made by fork
/// this makes it the child's own. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_fd(signal: *const ww_signal) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(signal, "signal")?.0.as_fd().as_raw_fd()) })
}

/// Has a function called inside the handler of a signal, in whatever thread the kernel chose, beside other
/// subscriptions, until ww_signal_raw_close().
///
/// The function calls async-signal-safe functions only, none of this library but those that say so, and returns (never
/// by longjmp). For a fault (WW_SIGSEGV, WW_SIGBUS, WW_SIGFPE, WW_SIGILL) returning means that the instruction runs
/// again. After fork it runs in the child as well.
///
/// Never blocks. Errors: -EINVAL WW_SIGKILL, WW_SIGSTOP, a signal of the C library, or none; -EBUSY the signal that this
/// library uses itself; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_raw_open(
    out: *mut *mut ww_signal_raw,
    signal: c_int,
    handler: ww_signal_callback,
    user: *mut c_void,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let handler = handler.ok_or_else(|| Error::from_raw(libc::EFAULT, "handler"))?;
        let target = Arc::new(RawTarget { handler, user: user as usize });
        let pointer = Arc::as_ptr(&target).cast_mut().cast();
        let subscription = RawSubscription::new(Signal::from_number(signal)?, raw_to_c, pointer)?;
        give(out, ww_signal_raw { _subscription: subscription, _target: target })
    })
}

/// Runs in a signal handler: allocates nothing and cannot panic.
unsafe extern "C" fn raw_to_c(info: *const SignalInfo, target: *mut c_void) {
    // SAFETY: the target lives until its subscription has ended, and info is the handler's.
    unsafe {
        let target = &*target.cast_const().cast::<RawTarget>();
        (target.handler)(&ww_signal_info::from(&*info), target.user as *mut c_void);
    }
}

/// Ends the subscription; returns when no thread runs the function any more. Not to be called in a signal handler. NULL
/// is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_raw_close(raw: *mut ww_signal_raw) {
    // SAFETY: as above.
    drop(unsafe { take(raw) });
}

/// Ignores a signal in this process, until ww_signal_action_close(), or for good if out is NULL. Passes over exec.
///
/// Never blocks. Errors: -EBUSY it has subscriptions in this process, or is the one that this library uses itself;
/// -EINVAL WW_SIGKILL, WW_SIGSTOP, a signal of the C library, or none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_ignore(out: *mut *mut ww_signal_action, signal: c_int) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { give_action(out, SignalAction::ignore(Signal::from_number(signal)?)?) })
}

/// Gives a signal its default action, until ww_signal_action_close(), or for good if out is NULL. Never blocks.
/// Errors: as ww_signal_ignore().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_default(out: *mut *mut ww_signal_action, signal: c_int) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { give_action(out, SignalAction::default_for(Signal::from_number(signal)?)?) })
}

/// # Safety
/// `out` is NULL or may be written to.
unsafe fn give_action(out: *mut *mut ww_signal_action, action: SignalAction) -> Result<()> {
    if out.is_null() {
        action.keep();
        return Ok(());
    }
    // SAFETY: as the caller promises.
    unsafe { give(out, ww_signal_action { _action: action }) }
}

/// Puts back what the signal did before. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_action_close(action: *mut ww_signal_action) {
    // SAFETY: as above.
    drop(unsafe { take(action) });
}

/// Blocks signals for the calling thread; *saved, which may be NULL, is for ww_signal_restore() by the same thread.
///
/// The mask is the thread's own and passes to threads and children that it makes: to keep a signal from the whole
/// process, block it in the main thread first. Never blocks the caller. Errors: -EINVAL WW_SIGKILL, WW_SIGSTOP, a signal
/// of the C library, or none; -EBUSY the signal that this library uses itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_block(signals: *const c_int, count: usize, saved: *mut ww_signal_mask) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { save(SignalMask::block(&list(signals, count)?)?, 1, saved) })
}

/// Lets signals through to the calling thread: pending ones act before this returns. Otherwise as ww_signal_block().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_unblock(signals: *const c_int, count: usize, saved: *mut ww_signal_mask) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { save(SignalMask::unblock(&list(signals, count)?)?, 0, saved) })
}

/// # Safety
/// `saved` is NULL or may be written to.
unsafe fn save(mask: SignalMask, blocked: c_int, saved: *mut ww_signal_mask) -> Result<()> {
    let changed = mask.changed().iter().fold(0, |bits, number| bits | 1 << (number - 1)); // 1 to 64
    mask.keep();
    // SAFETY: as the caller promises.
    unsafe { put_if_wanted(saved, ww_signal_mask { changed, blocked, reserved: 0 }) };
    Ok(())
}

/// Undoes what ww_signal_block() or ww_signal_unblock() has changed, in the same thread; what was so before stays.
/// Never blocks the caller. Errors: -EINVAL the struct comes from neither; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_restore(saved: *const ww_signal_mask) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let saved = object(saved, "saved")?;
        let blocked = flag(saved.blocked, "ww_signal_mask")?;
        let changed: Vec<c_int> = (1..=64).filter(|number| saved.changed >> (number - 1) & 1 == 1).collect();
        SignalMask::undo(&changed, blocked);
        Ok(())
    })
}

/// Takes the next pending signal of a set into *info, waiting for one, without a handler.
///
/// The signals are blocked in the calling thread while this runs. Before and after they act as arranged, which for most
/// ends the process, and so they do at any time in a thread that has not blocked them: call ww_signal_block() first,
/// before further threads are made. The lowest number comes first, of one real-time signal the oldest.
///
/// Errors, with nothing taken: -EAGAIN, -ETIMEDOUT, -ECANCELED; -EINVAL WW_SIGKILL, WW_SIGSTOP, a signal of the C
/// library, or none at all; -EBUSY the signal that this library uses itself; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_wait(
    signals: *const c_int,
    count: usize,
    info: *mut ww_signal_info,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(info)?;
        let timeout = timeout(timeout_ns)?;
        let taken = if count == 1 && !signals.is_null() {
            // The usual case, without a list to allocate.
            wigwag::wait_signal(&[Signal::from_number(signals.read_unaligned())?], timeout)?
        } else {
            wigwag::wait_signal(&list(signals, count)?, timeout)?
        };
        put(info, ww_signal_info::from(&taken), "info")
    })
}
