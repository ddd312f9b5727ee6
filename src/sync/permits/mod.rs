//! A counting semaphore whose permits have owners.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | the API |
//! | `pool.rs` | how permits change hands |
//! | `queue.rs` | who comes first |
//! | `word.rs` | the words that say where they are |

mod pool;
mod queue;
mod word;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use nix::errno::Errno;

use super::core::{Common, Core, Kind, Part, SyncParticipant, explained};
use super::doorbell::Listener;
use super::opening::{opening, options};
use crate::address::Address;
use crate::doorbell::Doorbells;
use crate::error::{Error, Result};
use crate::lender::Lender;
use crate::segment::{Bell, Party, Tag};
use crate::sync_atomics::{AtomicU32, AtomicU64, Ordering};
use crate::sys::shared::{Places, Record};
use crate::sys::{SysResult, fork};
use crate::timeout::Timeout;
use pool::Shared;
use queue::Queue;
use word::{PERMITS_MAX, Pool};

options! {
    /// How to open or make permits.
    PermitsOptions {
        /// How many permits there are, at most 16383; 0 for 1.
        count: u32,
        /// First come, first served: whoever comes later waits for those who wait already, also if it wants less. Costs a
        /// look at all who wait, and wakes all of them with each release.
        fair: bool,
    }
}

#[repr(C, align(128))]
struct Constant {
    total: AtomicU32,
    fair: AtomicU32,
}

#[repr(C, align(128))]
struct PoolLine {
    word: AtomicU64,
    /// Rings when permits have come back.
    bell: Bell,
    /// Whether anybody ever waited for more than one; only grows.
    weighted: AtomicU32,
}

#[repr(C, align(128))]
struct Rare {
    /// How many have ever waited in the queue.
    arrivals: AtomicU64,
}

#[repr(C, align(128))]
pub(crate) struct Control {
    constant: Constant,
    pool: PoolLine,
    rare: Rare,
}

const _: () = assert!(size_of::<Control>() == 3 * 128);
const HOLDING: usize = 64;

// SAFETY: atomics only.
#[allow(unsafe_code)]
unsafe impl Record for Control {}

/// A number of permits that processes share; those of one that dies come back by themselves.
///
/// Named (`permits:connections?count=20`), or anonymous and inherited by children or passed as a descriptor. Permits belong
/// to the handle that has taken them, whichever of its threads did, and only it can release them. They come back when the
/// handle is closed or its process dies, at the latest two seconds after somebody has begun to wait for them.
///
/// Taking and releasing are an exchange each and no system call while nobody waits. By default not first come, first
/// served.
///
/// ```
/// use wigwag::{Permits, PermitsOptions, Timeout};
/// let permits = Permits::anonymous(PermitsOptions { count: 2, ..Default::default() })?;
/// let both = permits.acquire(2, Timeout::Now)?;
/// assert!(permits.acquire(1, Timeout::Now).is_err());
/// drop(both);
/// assert_eq!(permits.available(), 2);
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Permits {
    /// Before `core`: its helper ends before what it looks at.
    bells: Doorbells<()>,
    core: Part<Shared>,
}

opening!(Permits, PermitsOptions, "permits:", "set of permits");

impl Kind for Permits {
    type Control = Control;
    type Options = PermitsOptions;
    const NUMBER: u32 = 6;

    fn with(options: &mut PermitsOptions, address: &Address) {
        options.with_common(address);
        if options.count == 0 {
            options.count = u32::try_from(address.number("count").unwrap_or(0)).unwrap_or(u32::MAX);
        }
        options.fair |= address.flag("fair").unwrap_or(false);
    }

    fn common(options: &PermitsOptions) -> std::result::Result<Common, &'static str> {
        if u64::from(options.count) > PERMITS_MAX {
            return Err("there can be at most 16383 permits");
        }
        options.common().check()
    }

    fn size(_options: &Self::Options, participants: u32) -> usize {
        let places = participants.next_power_of_two() as usize;
        size_of::<Control>() + places * HOLDING + 2 * places * size_of::<AtomicU64>()
    }

    fn fill(options: &PermitsOptions, control: &Control) {
        // Relaxed: nobody else can see the segment yet.
        let total = options.count.max(1);
        control.constant.total.store(total, Ordering::Relaxed);
        control.constant.fair.store(options.fair.into(), Ordering::Relaxed);
        control.pool.word.store(Pool(0).next(total.into(), 0, 0).0, Ordering::Relaxed);
    }

    fn of(core: Core<Control>, options: &PermitsOptions) -> SysResult<Permits> {
        let (segment, constant) = (core.member.segment(), &core.control.constant);
        // Relaxed: constant since before the segment could be seen. Each is read once.
        let total = u64::from(constant.total.load(Ordering::Relaxed));
        let is_fair = constant.fair.load(Ordering::Relaxed) != 0;
        let (body, length) = segment.body();
        let places = u64::from(segment.participants().next_power_of_two());
        if !(1..=PERMITS_MAX).contains(&total) || length < Permits::size(options, segment.participants()) {
            return Err(Errno::EBADMSG);
        }
        let at = body + size_of::<Control>();
        let holdings = Places::new(segment.memory(), at, HOLDING, places).ok_or(Errno::EBADMSG)?;
        let at = at + places as usize * HOLDING;
        let queue = Places::new(segment.memory(), at, size_of::<AtomicU64>(), 2 * places).ok_or(Errno::EBADMSG)?;
        let queue = is_fair.then(|| Queue::new(queue, core.control.clone()));
        let shared = Part::new(Shared { core, holdings, queue, total });
        // What the dead hold is best taken back by those who come, as nobody else may have a reason to look.
        crate::segment::look_around(&*shared)?;
        Ok(Permits { bells: Doorbells::default(), core: shared })
    }
}

/// Where permits are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PermitsStatistics {
    /// How many there are.
    pub total: u32,
    /// How many can be had.
    pub available: u32,
    /// Whether first come is first served.
    pub fair: bool,
    /// Memory in bytes, all of it.
    pub bytes: usize,
    /// Who takes part, and holds how many.
    pub participants: Vec<SyncParticipant>,
}

impl Permits {
    /// Takes so many permits, all at once; waits until they can be had.
    ///
    /// # Errors
    /// `EINVAL` none, or more than there are; `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere; `ENOSPC` fair, and more
    /// threads wait than it has room for; `ESTALE` this handle was declared dead because its lock was closed; `EBADMSG` it is
    /// damaged.
    ///
    /// System calls: futex, if it has to wait.
    #[inline]
    pub fn acquire(&self, count: u32, timeout: Timeout) -> Result<PermitsGuard<'_>> {
        let taken = self.taken(count, timeout)?;
        Ok(PermitsGuard::new(Lender::Lent(self), taken, count))
    }

    /// As [`Permits::acquire`], with a guard that keeps the permits open itself.
    ///
    /// # Errors
    /// As [`Permits::acquire`].
    pub fn acquire_owned(self: &Arc<Permits>, count: u32, timeout: Timeout) -> Result<PermitsGuard<'static>> {
        let taken = self.taken(count, timeout)?;
        Ok(PermitsGuard::new(Lender::Kept(self.clone()), taken, count))
    }

    /// As [`Permits::acquire`], to be given back by [`release`](Permits::release).
    ///
    /// # Errors
    /// As [`Permits::acquire`].
    #[inline]
    pub fn take(&self, count: u32, timeout: Timeout) -> Result<()> {
        self.taken(count, timeout).map(drop)
    }

    /// Gives back so many of the permits that this handle holds. Never blocks.
    ///
    /// # Errors
    /// `EPERM` it does not hold as many; `ESTALE` it was declared dead, and they are back; `EBADMSG` it is damaged.
    ///
    /// System call: futex, if somebody waits.
    #[inline]
    pub fn release(&self, count: u32) -> Result<()> {
        let released = self.core.me().and_then(|me| self.core.release(me, count.into()));
        released.map_err(|errno| self.release_error(errno, "release"))
    }

    /// How many can be had now. Never blocks.
    pub fn available(&self) -> u32 {
        self.core.pool().available() as u32
    }

    /// How many there are, held or not. Never blocks.
    pub fn total(&self) -> u32 {
        self.core.total as u32
    }

    /// A descriptor that is readable while a permit can be had. For poll, a [`WaitSet`](crate::WaitSet), an event loop; an
    /// [`acquire`](Permits::acquire) without waiting that fails quiets it. Never blocks.
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

    /// Who holds how many, and who waits. Never blocks. Of different instants while others are at work.
    ///
    /// # Errors
    /// `EBADMSG` they are damaged.
    pub fn statistics(&self) -> Result<PermitsStatistics> {
        let mut held = Vec::new();
        self.core.each(|owner, count, since| held.push((owner, count, since)));
        let participants = self.core.participants(|peer| {
            let found = held.iter().find(|(owner, ..)| *owner == peer.tag);
            found.map_or((0, None), |(_, count, since)| (*count, since.filter(|_| *count > 0)))
        });
        Ok(PermitsStatistics {
            total: self.total(),
            available: self.available(),
            fair: self.core.queue.is_some(),
            bytes: self.core.member.segment().size(),
            participants: participants.map_err(|errno| self.core.error(errno, "statistics"))?,
        })
    }

    // --- what the calls are made of ---

    #[inline]
    fn taken(&self, count: u32, timeout: Timeout) -> Result<Taken> {
        let count = u64::from(count);
        if count != 0 && count <= self.core.total {
            match self.attempt(count) {
                Ok(Some(taken)) => Ok(taken),
                first => self.take_on(count, first, timeout),
            }
        } else {
            let error = self.core.object.error(Errno::EINVAL, "acquire");
            Err(error.because_found(format!("{count} permits of {} can never be had", self.core.total)))
        }
    }

    #[inline]
    fn attempt(&self, count: u64) -> SysResult<Option<Taken>> {
        let me = self.core.member.tag()?;
        if self.core.queue.as_ref().is_some_and(|queue| !queue.is_empty(&self.core.member)) {
            return Ok(None);
        }
        let taken = match self.core.take(me, count) {
            Err(Errno::ESTALE) => self.core.take(self.core.me()?, count)?, // not enrolled, as a child is at first
            taken => taken?,
        };
        Ok(taken.map(|pool| Taken { me, pool }))
    }

    #[cold]
    fn take_on(&self, count: u64, first: SysResult<Option<Taken>>, timeout: Timeout) -> Result<Taken> {
        let mut operation = self.core.object.operation("acquire", timeout);
        let me = match first.and_then(|_| self.core.me()) {
            Ok(me) => me,
            Err(errno) => return Err(self.core.explain(operation.error(errno))),
        };
        self.bells.found_nothing(&());
        if count > 1 {
            // SeqCst, before looking at the pool again: see `Shared::ring`.
            self.core.control.pool.weighted.store(1, Ordering::SeqCst);
        }
        let turn = match &self.core.queue {
            Some(queue) if timeout != Timeout::Now => {
                let full = || {
                    operation.error(Errno::ENOSPC).because(
                        "more threads wait than it has room for; make it with more \
                        participants",
                    )
                };
                Some(queue.join(me).ok_or_else(full)?)
            }
            _ => None,
        };
        self.core.patience.wait(&*self.core, &mut operation, || match &turn {
            Some(turn) if !turn.is_next(&self.core.member) => Ok(None),
            Some(_) => Ok(self.core.take(me, count)?.map(|pool| Taken { me, pool })),
            None => self.attempt(count),
        })
    }

    #[cold]
    fn release_error(&self, errno: Errno, operation: &'static str) -> Error {
        let error = self.core.object.error(errno, operation);
        match errno {
            Errno::EPERM => error.because("this handle does not hold as many; only the holder can give permits back"),
            _ => explained(error),
        }
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        // Whatever forgotten guards still hold. An unused copy in a child has nothing.
        if self.core.member.is_settled()
            && let Ok(me) = self.core.member.tag()
        {
            self.core.leave(me);
        }
    }
}

/// Whose the permits are, and the pool as taking them left it.
struct Taken {
    me: Tag,
    pool: Pool,
}

/// Holds permits until it is dropped.
pub struct PermitsGuard<'a> {
    permits: Lender<'a, Permits>,
    taken: Taken,
    count: u32,
    /// A child made by fork has a copy of the guard, and the permits stay the parent's.
    generation: u32,
}

impl<'a> PermitsGuard<'a> {
    #[inline]
    fn new(permits: Lender<'a, Permits>, taken: Taken, count: u32) -> PermitsGuard<'a> {
        PermitsGuard { permits, taken, count, generation: fork::generation_in_handler() }
    }

    /// How many.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Gives them back; the same as dropping the guard, but says if they were taken from this handle. Never blocks.
    ///
    /// # Errors
    /// `ESTALE` this handle was declared dead, and they are back; `EPERM` they are those of the process that this one was
    /// forked from.
    pub fn release(mut self) -> Result<()> {
        self.end().map_err(|errno| self.permits.release_error(errno, "release"))
    }

    /// Keeps them for the handle, to be given back by [`Permits::release`].
    pub fn keep(mut self) {
        self.count = 0;
    }

    #[inline]
    fn end(&mut self) -> SysResult<()> {
        match std::mem::take(&mut self.count) {
            0 => Ok(()),
            _ if self.generation != fork::generation_in_handler() => Err(Errno::EPERM),
            count => self.permits.core.release_taken(self.taken.me, count.into(), self.taken.pool),
        }
    }
}

impl Drop for PermitsGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        let _ = self.end(); // a failure: they are back already, see `release`
    }
}

impl std::fmt::Debug for PermitsGuard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let permits = &self.permits.address();
        f.debug_struct("PermitsGuard").field("permits", permits).field("count", &self.count).finish_non_exhaustive()
    }
}
