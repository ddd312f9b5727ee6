//! A lock for many readers or one writer.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | the API, and how it is taken |
//! | `guards.rs` | what holds it |
//! | `readers.rs` | who reads |

mod guards;
mod readers;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use nix::errno::Errno;

use super::core::{Common, Core, Kind, Part, SyncParticipant, lock_explained};
use super::doorbell::{Listener, Ready};
use super::mutex::{Locked, MutexState};
use super::opening::{opening, options};
use super::owner::OwnerLine;
use super::threads::{self, Entry, Holdings};
use super::word::{Owner, Phase, Word};
use crate::address::Address;
use crate::doorbell::Doorbells;
use crate::error::{Error, Result};
use crate::lender::Lender;
use crate::segment::{Bell, Member, Party, Tag, look_around};
use crate::sys::SysResult;
use crate::sys::shared::{Places, Record};
use crate::timeout::Timeout;
pub use guards::{RwLockReadGuard, RwLockWriteGuard};
use readers::{PLACE, Readers};

options! {
    /// How to open or make a read-write lock.
    RwLockOptions {}
}

#[repr(C, align(128))]
pub(crate) struct Control {
    owner: OwnerLine,
}

const _: () = assert!(size_of::<Control>() == 128);

// SAFETY: atomics only.
#[allow(unsafe_code)]
unsafe impl Record for Control {}

/// A lock that many may hold for reading, or one for writing, and that passes on when they die.
///
/// Named (`rwlock:table`), or anonymous and inherited by children or passed as a descriptor. A reader's death leaves nothing
/// behind. Whoever takes the lock after a writer that died is told ([`Locked::Inherited`]), readers as well, until a writer
/// makes good ([`consistent`](RwLockWriteGuard::consistent)) or gives the lock up for good.
///
/// A writer that waits keeps new readers out, and waits for all readers, those of its own handle too: a thread that
/// reads must neither read again nor write, or it waits for itself; no `EDEADLK` tells of that. The lock for writing
/// belongs to the thread, whose end counts as its death; read locks belong to the handle, and end with it. Readers do
/// not write to each other's memory; reading is one exchange.
///
/// ```
/// use wigwag::{RwLock, RwLockOptions, Timeout};
/// let lock = RwLock::anonymous(RwLockOptions::default())?;
/// let (one, two) = (lock.read(Timeout::Now)?, lock.read(Timeout::Now)?);
/// assert!(lock.write(Timeout::Now).is_err());
/// drop((one, two));
/// let writer = lock.write(Timeout::Now)?;
/// assert!(lock.read(Timeout::Now).is_err());
/// # drop(writer);
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct RwLock {
    /// Before `core`: ended before what they look at.
    _entry: Entry,
    bells: Doorbells<()>,
    core: Part<Shared>,
}

struct Shared {
    core: Core<Control>,
    readers: Readers,
}

impl std::ops::Deref for Shared {
    type Target = Core<Control>;

    fn deref(&self) -> &Core<Control> {
        &self.core
    }
}

opening!(RwLock, RwLockOptions, "rwlock:", "read-write lock");

impl Kind for RwLock {
    type Control = Control;
    type Options = RwLockOptions;
    const NUMBER: u32 = 9;

    fn with(options: &mut RwLockOptions, address: &Address) {
        options.with_common(address);
    }

    fn common(options: &RwLockOptions) -> std::result::Result<Common, &'static str> {
        options.common().check()
    }

    fn size(_options: &Self::Options, participants: u32) -> usize {
        size_of::<Control>() + participants.next_power_of_two() as usize * PLACE
    }

    fn fill(_options: &RwLockOptions, _control: &Control) {}

    fn of(core: Core<Control>, options: &RwLockOptions) -> SysResult<RwLock> {
        let (segment, (body, length)) = (core.member.segment(), core.member.segment().body());
        if length < RwLock::size(options, segment.participants()) {
            return Err(Errno::EBADMSG);
        }
        let count = u64::from(segment.participants().next_power_of_two());
        let places = Places::new(segment.memory(), body + size_of::<Control>(), PLACE, count).ok_or(Errno::EBADMSG)?;
        let core = Part::new(Shared { core, readers: Readers::new(places) });
        look_around(&*core)?;
        // SAFETY: in an Arc, which `core` holds and which is dropped after the entry.
        #[allow(unsafe_code)]
        let entry = unsafe { Entry::new(&*core) };
        Ok(RwLock { _entry: entry, bells: Doorbells::default(), core })
    }
}

/// Who uses a read-write lock.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RwLockStatistics {
    /// Whether somebody writes, or is about to.
    pub writer: MutexState,
    /// The thread that writes, by its number in its pid namespace.
    pub thread: Option<u32>,
    /// Read locks.
    pub readers: u64,
    /// Memory in bytes, all of it.
    pub bytes: usize,
    /// Who takes part, and holds how many locks.
    pub participants: Vec<SyncParticipant>,
}

impl RwLock {
    /// Takes the lock for reading; waits while somebody writes or waits to write.
    ///
    /// # Errors
    /// `EDEADLK` this thread writes; `ENOTRECOVERABLE` it was given up for good; `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as
    /// everywhere; `ESTALE` this handle was declared dead because its lock was closed; `EBADMSG` it is damaged.
    ///
    /// System calls: futex, if it has to wait.
    #[inline]
    pub fn read(&self, timeout: Timeout) -> Result<Locked<RwLockReadGuard<'_>>> {
        let read = self.reading(timeout)?;
        Ok(RwLockReadGuard::locked(Lender::Lent(self), read))
    }

    /// As [`RwLock::read`], with a guard that keeps the lock open itself.
    ///
    /// # Errors
    /// As [`RwLock::read`].
    pub fn read_owned(self: &Arc<RwLock>, timeout: Timeout) -> Result<Locked<RwLockReadGuard<'static>>> {
        let read = self.reading(timeout)?;
        Ok(RwLockReadGuard::locked(Lender::Kept(self.clone()), read))
    }

    /// As [`RwLock::read`], to be released by [`release_read`](RwLock::release_read); whether the last writer died.
    ///
    /// # Errors
    /// As [`RwLock::read`].
    #[inline]
    pub fn take_read(&self, timeout: Timeout) -> Result<bool> {
        self.reading(timeout).map(|(_, inherited)| inherited)
    }

    /// Releases one read lock of this handle. Never blocks.
    ///
    /// # Errors
    /// `EPERM` it has none; `ESTALE` it was declared dead.
    ///
    /// System call: futex, if a writer waits.
    pub fn release_read(&self) -> Result<()> {
        let released = self.core.member.tag().and_then(|me| self.core.leave(me));
        released.map_err(|errno| self.core.lock_error(errno, "release"))
    }

    /// Takes the lock for writing; waits while others read or write.
    ///
    /// # Errors
    /// As [`RwLock::read`].
    ///
    /// System calls: futex, if it has to wait.
    #[inline]
    pub fn write(&self, timeout: Timeout) -> Result<Locked<RwLockWriteGuard<'_>>> {
        let word = self.writing(timeout)?;
        Ok(RwLockWriteGuard::locked(Lender::Lent(self), word))
    }

    /// As [`RwLock::write`], with a guard that keeps the lock open itself.
    ///
    /// # Errors
    /// As [`RwLock::write`].
    pub fn write_owned(self: &Arc<RwLock>, timeout: Timeout) -> Result<Locked<RwLockWriteGuard<'static>>> {
        let word = self.writing(timeout)?;
        Ok(RwLockWriteGuard::locked(Lender::Kept(self.clone()), word))
    }

    /// As [`RwLock::write`], to be released by [`release_write`](RwLock::release_write) on the same thread; whether the last
    /// writer died.
    ///
    /// # Errors
    /// As [`RwLock::write`].
    #[inline]
    pub fn take_write(&self, timeout: Timeout) -> Result<bool> {
        self.writing(timeout).map(|word| word.phase() == Ok(Phase::Inherited))
    }

    /// Ends writing. Never blocks.
    ///
    /// # Errors
    /// `EPERM` this thread does not write; `ESTALE` this handle was declared dead, and the lock passed on.
    ///
    /// System call: futex, if somebody waits.
    pub fn release_write(&self) -> Result<()> {
        self.as_writer("release", |held| self.core.put(held))
    }

    /// Says that what it guards is consistent again. Never blocks.
    ///
    /// # Errors
    /// `EINVAL` it was not taken over from the dead; `EPERM`, `ESTALE` as [`RwLock::release_write`].
    pub fn consistent(&self) -> Result<()> {
        self.as_writer("consistent", |held| self.core.control.owner.make_consistent(held))
    }

    /// Gives the lock, held for writing, up for good: all who wait for it or come later get `ENOTRECOVERABLE`. Never blocks.
    ///
    /// # Errors
    /// `EPERM`, `ESTALE` as [`RwLock::release_write`].
    pub fn give_up(&self) -> Result<()> {
        self.as_writer("give up", |held| self.core.control.owner.give_up(held))
    }

    /// A descriptor that is readable while the lock could be taken for reading. For poll, a [`WaitSet`](crate::WaitSet), an
    /// event loop; a [`read`](RwLock::read) without waiting that fails quiets it. Never blocks.
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

    /// Who reads, writes and waits. Never blocks. Of different instants while others are at work.
    ///
    /// # Errors
    /// `EBADMSG` the lock is damaged.
    pub fn statistics(&self) -> Result<RwLockStatistics> {
        self.read_statistics().map_err(|errno| self.core.error(errno, "statistics"))
    }

    fn read_statistics(&self) -> SysResult<RwLockStatistics> {
        let owner = &self.core.control.owner;
        let word = owner.load();
        let (writer, is_held) = match word.phase()? {
            Phase::Free => (MutexState::Free, false),
            Phase::Held | Phase::Claimed => (MutexState::Held, true),
            Phase::Inherited | Phase::ClaimedInherited => (MutexState::Inherited, true),
            Phase::Abandoned => (MutexState::Abandoned, false),
            Phase::GivenUp => (MutexState::GivenUp, false),
        };
        let mut readers = 0;
        let participants = self.core.participants(|peer| {
            let writes = is_held && peer.tag == word.owner().tag;
            let reads = self.core.readers.of(peer.tag);
            readers += reads;
            (u64::from(writes) + reads, if writes { owner.since(word) } else { None })
        })?;
        let thread = is_held.then(|| word.owner().thread);
        Ok(RwLockStatistics { writer, thread, readers, bytes: self.core.member.segment().size(), participants })
    }

    // --- what the calls are made of ---

    /// Whose read lock it is, and whether the last writer died.
    #[inline]
    fn reading(&self, timeout: Timeout) -> Result<(Tag, bool)> {
        match self.core.try_read() {
            Ok(Some(read)) => Ok(read),
            first => self.wait(first, timeout, "read", || self.core.try_read()),
        }
    }

    #[inline]
    fn writing(&self, timeout: Timeout) -> Result<Word> {
        match self.core.try_write() {
            Ok(Some(word)) => Ok(word),
            first => self.wait(first, timeout, "write", || self.core.try_write()),
        }
    }

    #[cold]
    fn wait<T>(
        &self,
        first: SysResult<Option<T>>,
        timeout: Timeout,
        name: &'static str,
        attempt: impl FnMut() -> SysResult<Option<T>>,
    ) -> Result<T> {
        let mut operation = self.core.object.operation(name, timeout);
        let waited = match first {
            Ok(_) => {
                self.bells.found_nothing(&());
                self.core.patience.wait(&*self.core, &mut operation, attempt)
            }
            Err(errno) => Err(self.core.explain(operation.error(errno))),
        };
        if waited.is_err() {
            self.core.give_back_claim(); // a writer that has given up waiting keeps nobody out
        }
        waited
    }

    fn as_writer(&self, operation: &'static str, step: impl FnOnce(Word) -> SysResult<()>) -> Result<()> {
        let held = self.core.me().and_then(|me| self.core.control.owner.held_by(me));
        held.and_then(step).map_err(|errno| self.core.lock_error(errno, operation))
    }
}

impl Shared {
    #[inline]
    fn me(&self) -> SysResult<Owner> {
        Ok(Owner { tag: self.member.tag()?, thread: threads::own() })
    }

    #[inline]
    fn try_read(&self) -> SysResult<Option<(Tag, bool)>> {
        let (me, owner) = (self.member.tag()?, &self.control.owner);
        match owner.load().phase()? {
            Phase::Free | Phase::Abandoned => {}
            Phase::GivenUp => return Err(Errno::ENOTRECOVERABLE),
            _ if owner.load().owner() == self.me()? => return Err(Errno::EDEADLK),
            _ => return Ok(None),
        }
        self.readers.enter(me)?;
        // After that: see `Readers`. What a writer has left is visible.
        match owner.load().phase()? {
            Phase::Free => Ok(Some((me, false))),
            Phase::Abandoned => Ok(Some((me, true))),
            _ => {
                self.leave(me)?;
                Ok(None)
            }
        }
    }

    /// Ends one read.
    #[inline]
    fn leave(&self, me: Tag) -> SysResult<()> {
        self.readers.leave(me)?;
        if matches!(self.control.owner.load().phase()?, Phase::Claimed | Phase::ClaimedInherited) {
            self.control.owner.bell.ring_all();
        }
        Ok(())
    }

    fn try_write(&self) -> SysResult<Option<Word>> {
        let (me, owner) = (self.me()?, &self.control.owner);
        let found = owner.load();
        let (claimed, then) = match found.phase()? {
            Phase::Free => (found.taken(Phase::Claimed, me), Phase::Held),
            Phase::Abandoned => (found.taken(Phase::ClaimedInherited, me), Phase::Inherited),
            Phase::GivenUp => return Err(Errno::ENOTRECOVERABLE),
            Phase::Claimed if found.owner() == me => (found, Phase::Held),
            Phase::ClaimedInherited if found.owner() == me => (found, Phase::Inherited),
            Phase::Held | Phase::Inherited if found.owner() == me => return Err(Errno::EDEADLK),
            _ => return Ok(None),
        };
        if found != claimed && !owner.step(found, claimed) {
            return Ok(None); // somebody was faster
        }
        if !self.readers.are_none(&self.member) {
            return Ok(None);
        }
        let held = claimed.with(then);
        if owner.step(claimed, held) { Ok(Some(held)) } else { Err(Errno::ESTALE) }
    }

    /// Lets others have what this thread has claimed and not got.
    fn give_back_claim(&self) {
        let found = self.control.owner.load();
        let Ok(me) = self.me() else { return };
        if matches!(found.phase(), Ok(Phase::Claimed | Phase::ClaimedInherited)) && found.owner() == me {
            let _ = self.control.owner.abandon(found); // fails for no word that has just passed
        }
    }

    /// Ends writing.
    fn put(&self, held: Word) -> SysResult<()> {
        self.control.owner.put(held)?;
        self.control.owner.bell.ring_all();
        Ok(())
    }
}

impl Party for Shared {
    fn member(&self) -> &Member {
        &self.member
    }

    fn bell(&self) -> SysResult<&Bell> {
        Ok(&self.control.owner.bell)
    }

    fn tidy(&self) -> SysResult<()> {
        if self.readers.tidy(&self.member) {
            self.control.owner.bell.ring_all();
        }
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

impl Ready for Shared {
    fn is_ready(&self) -> SysResult<bool> {
        Ok(matches!(self.control.owner.load().phase()?, Phase::Free | Phase::Abandoned | Phase::GivenUp))
    }
}

impl Holdings for Shared {
    fn abandon(&self, thread: u32) {
        self.control.owner.give_back(&self.member, Some(thread));
    }
}

impl Drop for RwLock {
    fn drop(&mut self) {
        // Whatever forgotten guards still hold.
        self.core.control.owner.give_back(&self.core.member, None);
        if self.core.member.is_settled()
            && let Ok(me) = self.core.member.tag()
            && self.core.readers.clear(me)
        {
            self.core.control.owner.bell.ring_all();
        }
    }
}
