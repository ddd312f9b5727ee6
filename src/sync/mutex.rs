//! A lock with an owner.

use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use nix::errno::Errno;

use super::core::{Common, Core, Kind, Part, SyncParticipant, lock_explained};
use super::doorbell::{Listener, Ready};
use super::opening::{opening, options};
use super::owner::{Holding, OwnerLine};
use super::threads::{self, Entry, Holdings};
use super::word::{Owner, Phase, Word};
use crate::address::Address;
use crate::doorbell::Doorbells;
use crate::error::{Error, Result};
use crate::lender::Lender;
use crate::segment::{Bell, Member, Party, look_around};
use crate::sync_atomics::{AtomicU32, Ordering};
use crate::sys::SysResult;
use crate::sys::shared::Record;
use crate::timeout::Timeout;

options! {
    /// How to open or make a mutex.
    MutexOptions {
        /// The thread that holds it may take it again, and has to release it as often. The handle's own: others may open
        /// the same mutex without.
        recursive: bool,
    }
}

#[repr(C, align(128))]
pub(crate) struct Control {
    owner: OwnerLine,
}

const _: () = assert!(size_of::<Control>() == 128);

// SAFETY: atomics only.
#[allow(unsafe_code)]
unsafe impl Record for Control {}

/// A lock that knows who holds it, and passes on to the next when its holder dies.
///
/// Named (`mutex:journal`), or anonymous and inherited by children or passed as a descriptor. Whoever takes it over from
/// the dead is told ([`Locked::Inherited`]): what it guards may be half changed. It can make good and say so
/// ([`consistent`](MutexGuard::consistent)); released without, the next is told as well; or it can give the mutex up for
/// good ([`give_up`](MutexGuard::give_up)). The end of the thread that holds it counts as its death.
///
/// Taking it while it is free and releasing it while nobody waits are one exchange each and no system call. Not first come,
/// first served. Where several threads share a handle, each holds it for itself.
///
/// ```
/// use wigwag::{Mutex, MutexOptions, Timeout};
/// let mutex = Mutex::anonymous(MutexOptions::default())?;
/// let guard = mutex.lock(Timeout::After(std::time::Duration::from_secs(1)))?;
/// assert!(!guard.is_inherited());
/// drop(guard);
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Mutex {
    /// Before `core`: ended before what they look at.
    _entry: Entry,
    bells: Doorbells<()>,
    core: Part<Core<Control>>,
    recursive: bool,
    /// How often its holder has taken it again; written by the holder only.
    again: AtomicU32,
}

opening!(Mutex, MutexOptions, "mutex:", "mutex");

impl Kind for Mutex {
    type Control = Control;
    type Options = MutexOptions;
    const NUMBER: u32 = 5;

    fn with(options: &mut MutexOptions, address: &Address) {
        options.with_common(address);
    }

    fn common(options: &MutexOptions) -> std::result::Result<Common, &'static str> {
        options.common().check()
    }

    fn size(_options: &Self::Options, _participants: u32) -> usize {
        size_of::<Control>()
    }

    fn fill(_options: &MutexOptions, _control: &Control) {}

    fn of(core: Core<Control>, options: &MutexOptions) -> SysResult<Mutex> {
        let core = Part::new(core);
        look_around(&*core)?; // whoever comes finds what the dead have left
        // SAFETY: in an Arc, which `core` holds and which is dropped after the entry.
        #[allow(unsafe_code)]
        let entry = unsafe { Entry::new(&*core) };
        let again = AtomicU32::new(0);
        Ok(Mutex { _entry: entry, bells: Doorbells::default(), core, recursive: options.recursive, again })
    }
}

/// A lock that was taken, and whether from the dead.
#[derive(Debug)]
#[must_use]
pub enum Locked<G> {
    /// As its last holder left it.
    Clean(G),
    /// Its last holder died, or one before that and nobody has said since that all is well: what it guards may be half
    /// changed.
    Inherited(G),
}

impl<G> Locked<G> {
    /// Whether it was taken over from the dead.
    pub fn is_inherited(&self) -> bool {
        matches!(self, Locked::Inherited(_))
    }

    /// The guard, in either case.
    pub fn into_guard(self) -> G {
        match self {
            Locked::Clean(guard) | Locked::Inherited(guard) => guard,
        }
    }
}

/// What a mutex's word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MutexState {
    /// Nobody holds it.
    Free,
    /// Somebody does.
    Held,
    /// Somebody holds it who has taken it over from the dead.
    Inherited,
    /// Its holder died.
    Abandoned,
    /// It was given up for good.
    GivenUp,
}

fn state_of(phase: Phase) -> SysResult<MutexState> {
    match phase {
        Phase::Free => Ok(MutexState::Free),
        Phase::Held => Ok(MutexState::Held),
        Phase::Inherited => Ok(MutexState::Inherited),
        Phase::Abandoned => Ok(MutexState::Abandoned),
        Phase::GivenUp => Ok(MutexState::GivenUp),
        Phase::Claimed | Phase::ClaimedInherited => Err(Errno::EBADMSG),
    }
}

/// Who uses a mutex.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MutexStatistics {
    /// Whether it is held.
    pub state: MutexState,
    /// The thread that holds it, by its number in the holder's pid namespace.
    pub thread: Option<u32>,
    /// Memory in bytes, all of it.
    pub bytes: usize,
    /// Who takes part.
    pub participants: Vec<SyncParticipant>,
}

impl Mutex {
    /// Takes the mutex; waits while somebody else has it.
    ///
    /// # Errors
    /// `EDEADLK` this thread has it, and the handle is not recursive; `ENOTRECOVERABLE` it was given up for good; `EAGAIN`,
    /// `ETIMEDOUT`, `ECANCELED` as everywhere; `ESTALE` this handle was declared dead because its lock was closed;
    /// `EBADMSG` the mutex is damaged.
    ///
    /// System calls: futex, if it has to wait.
    #[inline]
    pub fn lock(&self, timeout: Timeout) -> Result<Locked<MutexGuard<'_>>> {
        let taken = self.taken(timeout)?;
        Ok(taken.locked(Lender::Lent(self)))
    }

    /// As [`Mutex::lock`], with a guard that keeps the mutex open itself.
    ///
    /// # Errors
    /// As [`Mutex::lock`].
    pub fn lock_owned(self: &Arc<Mutex>, timeout: Timeout) -> Result<Locked<MutexGuard<'static>>> {
        let taken = self.taken(timeout)?;
        Ok(taken.locked(Lender::Kept(self.clone())))
    }

    /// As [`Mutex::lock`], to be released by [`release`](Mutex::release) on the same thread; whether it was taken over from
    /// the dead.
    ///
    /// # Errors
    /// As [`Mutex::lock`].
    #[inline]
    pub fn take(&self, timeout: Timeout) -> Result<bool> {
        Ok(self.taken(timeout)?.inherited)
    }

    /// Releases it, or undoes the last of several takings. Never blocks.
    ///
    /// # Errors
    /// `EPERM` this thread does not hold it; `ESTALE` this handle was declared dead, and the mutex passed on.
    ///
    /// System call: futex, if somebody waits.
    pub fn release(&self) -> Result<()> {
        let held = self.held("release")?;
        self.put(held).map_err(|errno| self.core.error(errno, "release"))
    }

    /// Says that what it guards is consistent again. Never blocks.
    ///
    /// # Errors
    /// `EINVAL` it was not taken over from the dead; `EPERM`, `ESTALE` as [`Mutex::release`].
    pub fn consistent(&self) -> Result<()> {
        let held = self.held("consistent")?;
        self.core.control.owner.make_consistent(held).map_err(|errno| self.core.lock_error(errno, "consistent"))
    }

    /// Gives the held mutex up for good: all who wait for it or come later get `ENOTRECOVERABLE`. Never blocks.
    ///
    /// # Errors
    /// `EPERM`, `ESTALE` as [`Mutex::release`].
    pub fn give_up(&self) -> Result<()> {
        let held = self.held("give up")?;
        self.core.control.owner.give_up(held).map_err(|errno| self.core.error(errno, "give up"))
    }

    /// A descriptor that is readable while the mutex could be taken. For poll, a [`WaitSet`](crate::WaitSet), an event loop;
    /// a [`lock`](Mutex::lock) without waiting that fails quiets it. Never blocks.
    ///
    /// It belongs to this handle, which closes it. In a child made by fork ask again. The cost, from the first call on: a
    /// helper thread that sleeps in the kernel, and two switches of context for each time that it is woken.
    ///
    /// # Errors
    /// `ENOMEM` no helper thread can be had; `EMFILE`, `ENFILE` no descriptor is left.
    ///
    /// System calls: eventfd2, clone; in the helper futex.
    pub fn doorbell(&self) -> Result<BorrowedFd<'_>> {
        self.bells.get((), &self.core.object, || Ok(Box::new(Listener(Arc::clone(self.core.shared())))))
    }

    /// Who holds it and who waits. Never blocks.
    ///
    /// # Errors
    /// `EBADMSG` the mutex is damaged.
    pub fn statistics(&self) -> Result<MutexStatistics> {
        self.read_statistics().map_err(|errno| self.core.error(errno, "statistics"))
    }

    /// Whether this handle lets its holder take it again. Never blocks.
    pub fn is_recursive(&self) -> bool {
        self.recursive
    }

    /// Whether it is held. Never blocks.
    ///
    /// # Errors
    /// `EBADMSG` the mutex is damaged.
    pub fn state(&self) -> Result<MutexState> {
        let state = self.core.control.owner.load().phase().and_then(state_of);
        state.map_err(|errno| self.core.error(errno, "state"))
    }

    /// Whether the calling thread holds it, by this handle. Never blocks.
    pub fn is_mine(&self) -> bool {
        self.held("state").is_ok()
    }

    fn read_statistics(&self) -> SysResult<MutexStatistics> {
        let owner = &self.core.control.owner;
        let word = owner.load();
        let state = state_of(word.phase()?)?;
        let is_held = matches!(state, MutexState::Held | MutexState::Inherited);
        let participants = self.core.participants(|peer| {
            let holds = is_held && peer.tag == word.owner().tag;
            (u64::from(holds), if holds { owner.since(word) } else { None })
        })?;
        let thread = is_held.then(|| word.owner().thread);
        Ok(MutexStatistics { state, thread, bytes: self.core.member.segment().size(), participants })
    }

    /// Takes it from a holder that has died, if it is time to ask: for who tries now and then instead of waiting.
    pub(crate) fn look_for_dead(&self) -> Result<()> {
        look_around(&*self.core).map(drop).map_err(|errno| self.core.lock_error(errno, "lock"))
    }

    // --- what the calls are made of ---

    #[inline]
    fn taken(&self, timeout: Timeout) -> Result<Taken> {
        match self.attempt() {
            Ok(Some(taken)) => Ok(taken),
            first => self.take_on(first, timeout),
        }
    }

    #[cold]
    fn take_on(&self, first: SysResult<Option<Taken>>, timeout: Timeout) -> Result<Taken> {
        let mut operation = self.core.object.operation("lock", timeout);
        match first {
            Ok(_) => {
                self.bells.found_nothing(&());
                self.core.patience.wait(&*self.core, &mut operation, || self.attempt())
            }
            Err(errno) => Err(self.core.explain(operation.error(errno))),
        }
    }

    #[inline]
    fn attempt(&self) -> SysResult<Option<Taken>> {
        let (owner, me) = (&self.core.control.owner, self.core.me()?);
        let found = owner.load();
        let (phase, inherited) = match found.phase()? {
            Phase::Free => (Phase::Held, false),
            Phase::Abandoned => (Phase::Inherited, true),
            Phase::GivenUp => return Err(Errno::ENOTRECOVERABLE),
            Phase::Held | Phase::Inherited if found.owner() == me => return self.take_again(found).map(Some),
            Phase::Held | Phase::Inherited => return Ok(None),
            Phase::Claimed | Phase::ClaimedInherited => return Err(Errno::EBADMSG),
        };
        let word = found.taken(phase, me);
        if !owner.step(found, word) {
            return Ok(None); // somebody was faster
        }
        self.again.store(0, Ordering::Relaxed); // the holder's own, here and below
        Ok(Some(Taken { word, inherited }))
    }

    #[cold]
    fn take_again(&self, word: Word) -> SysResult<Taken> {
        if !self.recursive {
            return Err(Errno::EDEADLK);
        }
        let again = self.again.load(Ordering::Relaxed).checked_add(1).ok_or(Errno::EOVERFLOW)?;
        self.again.store(again, Ordering::Relaxed);
        Ok(Taken { word, inherited: word.phase() == Ok(Phase::Inherited) })
    }

    /// The word, which says that this thread holds the mutex.
    #[inline]
    fn held(&self, operation: &'static str) -> Result<Word> {
        let held = self.core.me().and_then(|me| self.core.control.owner.held_by(me));
        held.map_err(|errno| self.core.lock_error(errno, operation))
    }

    /// Releases it however often this thread has taken it; how often that was, beyond the first.
    pub(super) fn release_whole(&self) -> SysResult<u32> {
        let held = self.core.me().and_then(|me| self.core.control.owner.held_by(me))?;
        let again = self.again.swap(0, Ordering::Relaxed);
        self.put(held).map(|()| again)
    }

    /// Takes it as often as before `release_whole`; whether from the dead.
    pub(super) fn take_whole(&self, again: u32, timeout: Timeout) -> Result<bool> {
        let taken = self.taken(timeout)?;
        self.again.store(again, Ordering::Relaxed);
        Ok(taken.inherited)
    }

    /// Releases what is held under this word, once.
    #[inline]
    fn put(&self, held: Word) -> SysResult<()> {
        let (again, owner) = (self.again.load(Ordering::Relaxed), &self.core.control.owner);
        if again > 0 {
            owner.held_by(held.owner()).map_err(|_| Errno::ESTALE)?;
            self.again.store(again - 1, Ordering::Relaxed);
            return Ok(());
        }
        owner.put(held)?;
        owner.bell.ring();
        Ok(())
    }
}

impl Core<Control> {
    #[inline]
    fn me(&self) -> SysResult<Owner> {
        Ok(Owner { tag: self.member.tag()?, thread: threads::own() })
    }
}

impl Party for Core<Control> {
    fn member(&self) -> &Member {
        &self.member
    }

    fn bell(&self) -> SysResult<&Bell> {
        Ok(&self.control.owner.bell)
    }

    fn tidy(&self) -> SysResult<()> {
        self.control.owner.tidy(&self.member)
    }

    fn over(&self) -> SysResult<Option<(Errno, &'static str)>> {
        Ok(None) // that it was given up is for the attempt to meet
    }

    fn explain(&self, error: Error) -> Error {
        lock_explained(error)
    }

    fn before_sleep(&self) {
        self.control.owner.note();
    }
}

impl Ready for Core<Control> {
    fn is_ready(&self) -> SysResult<bool> {
        Ok(!matches!(self.control.owner.load().phase()?, Phase::Held | Phase::Inherited))
    }
}

impl Holdings for Core<Control> {
    fn abandon(&self, thread: u32) {
        self.control.owner.give_back(&self.member, Some(thread));
    }
}

impl Drop for Mutex {
    fn drop(&mut self) {
        // Whatever a forgotten guard still holds.
        self.core.control.owner.give_back(&self.core.member, None);
    }
}

/// What taking it gave.
struct Taken {
    word: Word,
    inherited: bool,
}

impl Taken {
    #[inline]
    fn locked(self, mutex: Lender<'_, Mutex>) -> Locked<MutexGuard<'_>> {
        let guard = MutexGuard { mutex, holding: Holding::new(self.word), _of_this_thread: PhantomData };
        if self.inherited { Locked::Inherited(guard) } else { Locked::Clean(guard) }
    }
}

/// Holds a mutex until it is dropped, by the thread that has taken it.
pub struct MutexGuard<'a> {
    mutex: Lender<'a, Mutex>,
    holding: Holding,
    _of_this_thread: PhantomData<*const ()>,
}

impl MutexGuard<'_> {
    /// Whether it was taken over from the dead, and nobody has said yet that what it guards is consistent.
    pub fn is_inherited(&self) -> bool {
        self.mutex.core.control.owner.load().phase() == Ok(Phase::Inherited)
    }

    /// As [`Mutex::consistent`].
    ///
    /// # Errors
    /// As [`Mutex::consistent`].
    pub fn consistent(&self) -> Result<()> {
        self.mutex.consistent()
    }

    /// The mutex, if the guard is that of this process and not of the one that it was forked from.
    pub(super) fn mutex(&self) -> SysResult<&Mutex> {
        if self.holding.is_own() { Ok(&self.mutex) } else { Err(Errno::EPERM) }
    }

    /// As [`Mutex::give_up`].
    ///
    /// # Errors
    /// As [`Mutex::give_up`].
    pub fn give_up(self) -> Result<()> {
        self.mutex.give_up()
    }

    /// Releases the mutex; the same as dropping the guard, but says if it was taken from this handle. Never blocks.
    ///
    /// # Errors
    /// `ESTALE` this handle was declared dead, and the mutex passed on; `EPERM` it is held by the process that this one was
    /// forked from.
    pub fn unlock(mut self) -> Result<()> {
        self.end().map_err(|errno| self.mutex.core.lock_error(errno, "unlock"))
    }

    #[inline]
    fn end(&mut self) -> SysResult<()> {
        match self.holding.end()? {
            Some(held) => self.mutex.put(held),
            None => Ok(()),
        }
    }
}

impl Drop for MutexGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        let _ = self.end(); // a failure: it is not held any more, see `unlock`
    }
}

impl std::fmt::Debug for MutexGuard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MutexGuard").field("mutex", &self.mutex.address()).finish_non_exhaustive()
    }
}
