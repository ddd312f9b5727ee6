//! Actions, masks and waits of signals, with all real-time signals (nix knows only the classic ones), and how the
//! kernel lays out what it tells about one.
//!
//! System calls: rt_sigaction, rt_sigprocmask, rt_sigtimedwait.

use std::mem::MaybeUninit;
use std::time::Duration;

use nix::errno::Errno;

use super::{SysResult, check, direct};
use crate::timeout::timespec;

/// The kernel's `siginfo_t` on 64-bit Linux: three numbers, and a union whose members begin at byte 16.
#[repr(C)]
#[derive(Clone, Copy)]
struct Layout {
    signal: i32,
    errno: i32,
    code: i32,
    _pad: i32,
    words: [i32; 28],
}

const _: () = assert!(size_of::<Layout>() == size_of::<libc::siginfo_t>());
const _: () = assert!(align_of::<Layout>() <= align_of::<libc::siginfo_t>());

/// The kernel writes a new siginfo for each signal and clears what lies past the 48 bytes that it uses.
const MARK: i32 = 0x7769_6777;
const MARKED_WORD: usize = size_of::<Layout>() / size_of::<i32>() - 1;

/// What a signal came with; the words of the union mean what the code says.
#[derive(Clone, Copy)]
pub(crate) struct KernelInfo(Layout);

impl KernelInfo {
    /// Copies what the kernel handed to a handler. Async-signal-safe.
    ///
    /// # Safety
    /// `info` points to a siginfo that the kernel filled, for the length of the call.
    pub(crate) unsafe fn copied_from(info: *const libc::siginfo_t) -> KernelInfo {
        // SAFETY: same size (asserted above), alignment not relied on, and every bit pattern is a valid Layout.
        KernelInfo(unsafe { info.cast::<Layout>().read_unaligned() })
    }

    /// Marks a siginfo that a handler got with how often it was handed on, so that it is known again should the same one
    /// come back by way of other handlers. Better than remembering the thread, which may leave the handlers by longjmp.
    /// Async-signal-safe.
    ///
    /// # Safety
    /// As [`KernelInfo::copied_from`], and nobody else uses it meanwhile.
    pub(crate) unsafe fn mark(info: *mut libc::siginfo_t, handed_on: u8) {
        // SAFETY: the last word of a whole siginfo.
        unsafe { info.cast::<i32>().add(MARKED_WORD).write_unaligned(MARK + i32::from(handed_on)) };
    }

    /// How often it was handed on, 0 for one that comes from the kernel.
    pub(crate) fn handed_on(&self) -> u8 {
        let mark = self.0.words.last().map_or(0, |word| word.wrapping_sub(MARK));
        u8::try_from(mark).unwrap_or(0)
    }

    pub(crate) fn signal(&self) -> i32 {
        self.0.signal
    }

    pub(crate) fn code(&self) -> i32 {
        self.0.code
    }

    /// The n-th 32-bit word of the union; 0 past its end.
    pub(crate) fn word(&self, n: usize) -> i32 {
        self.0.words.get(n).copied().unwrap_or(0)
    }

    /// The 64-bit word of the union that begins at its n-th 32-bit word.
    pub(crate) fn long(&self, n: usize) -> i64 {
        let low = u64::from(self.word(n).cast_unsigned());
        let high = u64::from(self.word(n + 1).cast_unsigned());
        if cfg!(target_endian = "little") { low | high << 32 } else { low << 32 | high }.cast_signed()
    }
}

/// The signature of a handler that is told about the signal.
pub(crate) type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// A set of signals as the C library has it.
#[derive(Clone, Copy)]
pub(crate) struct Set(libc::sigset_t);

impl Set {
    /// The set of these signals; numbers that are none are left out.
    pub(crate) fn of(signals: impl IntoIterator<Item = libc::c_int>) -> Set {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: the set is a live local that sigemptyset initialises; a number that is no signal is refused.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            Set(set.assume_init())
        }
    }

    /// All signals but those that an instruction of the thread itself may raise.
    pub(crate) fn all_but_faults() -> Set {
        let mut set = Set::of([]);
        // SAFETY: as in `of`.
        unsafe {
            libc::sigfillset(&raw mut set.0);
            for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS] {
                libc::sigdelset(&raw mut set.0, signal);
            }
        }
        set
    }

    pub(crate) fn contains(&self, signal: libc::c_int) -> bool {
        // SAFETY: a live, initialised set; a number that is no signal is refused.
        unsafe { libc::sigismember(&raw const self.0, signal) == 1 }
    }
}

/// What a signal does now, or did before.
#[derive(Clone, Copy)]
pub(crate) struct Action(libc::sigaction);

impl Action {
    /// The action of a signal in this process.
    pub(crate) fn of(signal: libc::c_int) -> SysResult<Action> {
        let mut old = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: the kernel writes to a live local of the right type; zeros are a valid sigaction.
        unsafe {
            check(libc::sigaction(signal, std::ptr::null(), old.as_mut_ptr()))?;
            Ok(Action(old.assume_init()))
        }
    }

    /// `SIG_DFL`. Async-signal-safe.
    pub(crate) fn default() -> Action {
        Action::plain(libc::SIG_DFL)
    }

    /// `SIG_IGN`.
    pub(crate) fn ignore() -> Action {
        Action::plain(libc::SIG_IGN)
    }

    fn plain(handler: usize) -> Action {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: zeros are a valid sigaction, with an empty mask.
        unsafe {
            (*action.as_mut_ptr()).sa_sigaction = handler;
            Action(action.assume_init())
        }
    }

    /// `handler`, one signal at a time, in place of `earlier`, whose flags go on to hold where they concern others:
    /// calls that were interrupted stay so, and children that were reaped by themselves too.
    pub(crate) fn handler(handler: Handler, earlier: &Action) -> Action {
        let mut flags = libc::SA_SIGINFO | libc::SA_ONSTACK | earlier.0.sa_flags & libc::SA_NOCLDSTOP;
        if earlier.function().is_none() || earlier.0.sa_flags & libc::SA_RESTART != 0 {
            flags |= libc::SA_RESTART;
        }
        if earlier.is_ignore() || earlier.0.sa_flags & libc::SA_NOCLDWAIT != 0 {
            flags |= libc::SA_NOCLDWAIT; // only looked at for SIGCHLD
        }
        let mut action = Action::plain(handler as *const () as usize);
        action.0.sa_flags = flags;
        action.0.sa_mask = Set::all_but_faults().0;
        action
    }

    /// Makes this the action of a signal; the one before. Async-signal-safe.
    ///
    /// # Safety
    /// A handler in it stays mapped and is async-signal-safe, for as long as it is installed.
    pub(crate) unsafe fn install(&self, signal: libc::c_int) -> SysResult<Action> {
        let mut old = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: the kernel reads a live value and writes a live local; the handler is the caller's promise.
        unsafe {
            check(libc::sigaction(signal, &raw const self.0, old.as_mut_ptr()))?;
            Ok(Action(old.assume_init()))
        }
    }

    pub(crate) fn is(&self, handler: Handler) -> bool {
        self.0.sa_sigaction == handler as *const () as usize
    }

    /// Whether both lead to the same function.
    pub(crate) fn is_same(&self, other: &Action) -> bool {
        self.0.sa_sigaction == other.0.sa_sigaction
    }

    pub(crate) fn is_default(&self) -> bool {
        self.0.sa_sigaction == libc::SIG_DFL
    }

    pub(crate) fn is_ignore(&self) -> bool {
        self.0.sa_sigaction == libc::SIG_IGN
    }

    fn function(&self) -> Option<usize> {
        (!self.is_default() && !self.is_ignore()).then_some(self.0.sa_sigaction)
    }

    /// Calls the handler in it, if there is one; true if so. Async-signal-safe if that is.
    ///
    /// # Safety
    /// `info` and `context` are what the kernel handed to a handler that is running now, and the action was once
    /// installed for the signal.
    pub(crate) unsafe fn call(
        &self,
        signal: libc::c_int,
        info: *mut libc::siginfo_t,
        context: *mut libc::c_void,
    ) -> bool {
        let Some(function) = self.function() else { return false };
        // SAFETY: an address other than SIG_DFL and SIG_IGN in an installed action is a function, whose signature the
        // flag tells; the arguments are the kernel's.
        unsafe {
            if self.0.sa_flags & libc::SA_SIGINFO != 0 {
                std::mem::transmute::<usize, Handler>(function)(signal, info, context);
            } else {
                std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(function)(signal);
            }
        }
        true
    }
}

/// Blocks the signals of `set` for the calling thread; the mask before.
pub(crate) fn block(set: &Set) -> SysResult<Set> {
    change_mask(libc::SIG_BLOCK, set)
}

/// Lets the signals of `set` through to the calling thread; the mask before.
pub(crate) fn unblock(set: &Set) -> SysResult<Set> {
    change_mask(libc::SIG_UNBLOCK, set)
}

/// Makes `set` the mask of the calling thread.
pub(crate) fn set_mask(set: &Set) -> SysResult<Set> {
    change_mask(libc::SIG_SETMASK, set)
}

fn change_mask(how: libc::c_int, set: &Set) -> SysResult<Set> {
    let mut old = Set::of([]);
    // SAFETY: both sets are live and initialised. The call returns its errno.
    match unsafe { libc::pthread_sigmask(how, &raw const set.0, &raw mut old.0) } {
        0 => Ok(old),
        errno => Err(Errno::from_raw(errno)),
    }
}

/// Takes a pending signal of `set`, waiting for one at most this long: EAGAIN if none came, EINTR if a handler ran.
pub(crate) fn timed_wait(set: &Set, timeout: Duration) -> SysResult<KernelInfo> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let timeout = timespec(timeout);
    /// What the kernel takes of a signal set; the C library's type has room for more.
    const KERNEL_SET: usize = 8;
    let (set, to, timeout) = (&raw const set.0, info.as_mut_ptr(), &raw const timeout);
    // SAFETY: the set and the timeout are live, and the kernel fills the live `info` when it succeeds.
    unsafe {
        direct::call6(libc::SYS_rt_sigtimedwait, set as usize, to as usize, timeout as usize, KERNEL_SET, 0, 0)?;
        Ok(KernelInfo::copied_from(info.as_ptr()))
    }
}
