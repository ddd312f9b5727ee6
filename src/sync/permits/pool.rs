//! How permits leave the pool and come back to it.
//!
//! One exchange of the pool's word moves permits between the pool and whoever makes it, as the word also says what that one
//! holds from then on. So a death finds each permit in exactly one place. Before somebody else changes the pool, it writes
//! down what the last author holds ([`Shared::settle`]).
//!
//! Who is dead or leaves is expelled: its holding is marked, then its permits go back in one exchange made in its name,
//! then the holding is free. An exchange that it had begun itself fails by that, and before the next it finds that it is
//! not enrolled. Each of the steps may be done by several at once, and by others if one dies on the way.

use nix::errno::Errno;

use super::Control;
use super::queue::Queue;
use super::word::{Holding, PERMITS_MAX, Pool, Standing};
use crate::error::Error;
use crate::segment::{Bell, Member, Party, Tag, since};
use crate::sync::core::{Core, explained};
use crate::sync::doorbell::Ready;
use crate::sync_atomics::Ordering;
use crate::sys::SysResult;
use crate::sys::shared::Places;
use crate::timeout::wall_clock;

/// Whoever fails an exchange so often is not the only one who works, or somebody keeps no rules.
const TRIES: u32 = 10_000;

pub(super) struct Shared {
    pub core: Core<Control>,
    /// One line each: the holding, and since when at the latest it is known to be as it is.
    pub holdings: Places,
    pub queue: Option<Queue>,
    pub total: u64,
}

impl std::ops::Deref for Shared {
    type Target = Core<Control>;

    fn deref(&self) -> &Core<Control> {
        &self.core
    }
}

impl Shared {
    #[inline(always)]
    pub fn pool(&self) -> Pool {
        // SeqCst: looked at after announcing sleep. Acquire for the holdings that its author settled.
        Pool(self.control.pool.word.load(Ordering::SeqCst))
    }

    /// SeqCst: comes before the look at the bell; acquires what those did who released, and releases to those who come.
    #[inline(always)]
    fn step(&self, found: Pool, next: Pool) -> bool {
        self.control.pool.word.compare_exchange(found.0, next.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    #[inline(always)]
    fn holding(&self, index: u64) -> Holding {
        // SeqCst: a holding is marked as leaving before the pool changes in its name, and looked at after the pool.
        Holding(self.holdings.word::<0>(index).load(Ordering::SeqCst))
    }

    #[inline(always)]
    fn hold(&self, index: u64, found: Holding, next: Holding) -> bool {
        self.holdings.word::<0>(index).compare_exchange(found.0, next.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Writes down what the pool's author holds, which the next change of the pool will no longer say.
    fn settle(&self, pool: Pool) {
        for _ in 0..TRIES {
            let found = self.holding(pool.author());
            let settled = found.settled(pool);
            // The pool after the holding: while it still says so, what it says is newer than the holding.
            if found == settled || self.pool() != pool || self.hold(pool.author(), found, settled) {
                return;
            }
        }
    }

    /// What the participant of this index holds, as of this pool.
    fn held(&self, pool: Pool, index: u64, holding: Holding) -> u64 {
        if pool.author() == index { pool.held() } else { holding.held() }
    }

    /// Who this handle is; enrolled.
    #[inline]
    pub fn me(&self) -> SysResult<Tag> {
        let me = self.member.tag()?;
        let index = u64::from(me.index());
        let holding = self.holding(index);
        if holding.standing() == Standing::Enrolled && holding.owner(index) == me { Ok(me) } else { self.enroll(me) }
    }

    #[cold]
    fn enroll(&self, me: Tag) -> SysResult<Tag> {
        let index = u64::from(me.index());
        for _ in 0..TRIES {
            let found = self.holding(index);
            match found.standing() {
                Standing::Enrolled if found.owner(index) == me => {
                    // After it was written: either whoever declares this handle dead finds it, or that is seen here.
                    if self.member.is_current(me) {
                        return Ok(me);
                    }
                    self.expel(index, found);
                    return Err(Errno::ESTALE);
                }
                Standing::Free => {
                    self.hold(index, found, Holding::enrolled(me));
                }
                _ => self.expel(index, found),
            }
        }
        Err(Errno::EBADMSG)
    }

    /// Gives back what this holding says of one who is dead or leaves.
    pub fn expel(&self, index: u64, found: Holding) {
        let owner = found.owner(index);
        // Others settle the holding meanwhile, and may be doing this too.
        for _ in 0..TRIES {
            let pool = self.pool();
            let holding = self.holding(index);
            match holding.standing() {
                _ if holding.owner(index) != owner => return,
                Standing::Free => return,
                Standing::Enrolled => {
                    self.hold(index, holding, holding.leaving());
                }
                Standing::Leaving => {
                    let held = self.held(pool, index, holding);
                    if held == 0 && pool.author() == index {
                        // Given back, and nothing that it had begun can succeed.
                        if self.hold(index, holding, Holding::free()) {
                            return;
                        }
                        continue;
                    }
                    if pool.author() != index {
                        self.settle(pool);
                    }
                    let available = (pool.available() + held).min(PERMITS_MAX);
                    if self.step(pool, pool.next(available, index, 0)) {
                        self.ring(held);
                    }
                }
            }
        }
    }

    /// Gives back all that this handle holds, as it is closed.
    pub fn leave(&self, me: Tag) {
        let index = u64::from(me.index());
        let holding = self.holding(index);
        if holding.standing() != Standing::Free && holding.owner(index) == me {
            self.expel(index, holding);
        }
    }

    /// Moves permits into this handle's hands: the pool as that left it; `None` if there are not as many.
    #[inline]
    pub fn take(&self, me: Tag, count: u64) -> SysResult<Option<Pool>> {
        self.change(me, |available, held| {
            let left = available.checked_sub(count);
            Ok(left.filter(|_| held + count <= self.total).map(|left| (left, held + count)))
        })
    }

    /// Moves permits back; `EPERM` if this handle does not hold as many.
    #[inline]
    pub fn release(&self, me: Tag, count: u64) -> SysResult<()> {
        let released = self.change(me, |available, held| self.put(count, available, held).map(Some))?;
        self.ring(count);
        released.map(drop).ok_or(Errno::EBADMSG)
    }

    /// Moves permits back that were taken when the pool became `taken`.
    #[inline]
    pub fn release_taken(&self, me: Tag, count: u64, taken: Pool) -> SysResult<()> {
        let (available, held) = self.put(count, taken.available(), taken.held())?;
        // Without a look first, which would wait for the exchange that took them. If nobody has changed the pool since, this
        // handle has not been expelled either: that is done by changing it.
        if self.step(taken, taken.next(available, taken.author(), held)) {
            self.ring(count);
            return Ok(());
        }
        self.release(me, count)
    }

    /// What is available and held when so many have been moved back.
    #[inline(always)]
    fn put(&self, count: u64, available: u64, held: u64) -> SysResult<(u64, u64)> {
        let held = held.checked_sub(count).ok_or(Errno::EPERM)?;
        let available = available + count;
        if available > self.total { Err(Errno::EBADMSG) } else { Ok((available, held)) }
    }

    /// Changes the pool and this handle's holding as `to` says of what is available and held; the pool as that left it.
    #[inline]
    fn change(&self, me: Tag, to: impl Fn(u64, u64) -> SysResult<Option<(u64, u64)>>) -> SysResult<Option<Pool>> {
        let index = u64::from(me.index());
        for _ in 0..TRIES {
            let pool = self.pool();
            // After the pool: who was expelled finds out here, or fails the exchange.
            let holding = self.holding(index);
            if holding.standing() != Standing::Enrolled || holding.owner(index) != me {
                return Err(Errno::ESTALE);
            }
            let Some((available, held)) = to(pool.available(), self.held(pool, index, holding))? else {
                return Ok(None);
            };
            if pool.author() != index {
                self.settle(pool);
            }
            let next = pool.next(available, index, held);
            if self.step(pool, next) {
                return Ok(Some(next));
            }
        }
        Err(Errno::EBADMSG)
    }

    #[inline]
    pub fn ring(&self, count: u64) {
        // One permit is for one who waits for one. SeqCst: who waits for more says so before it looks at the pool.
        if count > 1 || self.queue.is_some() || self.control.pool.weighted.load(Ordering::SeqCst) != 0 {
            self.control.pool.bell.ring_all();
        } else {
            self.control.pool.bell.ring();
        }
    }

    /// Each holding of somebody: index, owner, permits, and since when at the latest it has held those.
    pub fn each(&self, mut visit: impl FnMut(Tag, u64, Option<std::time::SystemTime>)) {
        let pool = self.pool();
        for index in 0..self.holdings.count() {
            let holding = self.holding(index);
            if holding.standing() != Standing::Free {
                let noted = self.holdings.word::<1>(index).load(Ordering::Relaxed) == self.key(pool, index, holding);
                let at = self.holdings.word::<2>(index).load(Ordering::Relaxed);
                let since = if noted { since(at) } else { None };
                visit(holding.owner(index), self.held(pool, index, holding), since);
            }
        }
    }

    /// Tells one state of a holding from the next: the change of the pool that it comes from, and what it holds.
    fn key(&self, pool: Pool, index: u64, holding: Holding) -> u64 {
        let holding = if pool.author() == index { holding.settled(pool) } else { holding };
        holding.sequence() << 16 | holding.held()
    }
}

impl Party for Shared {
    fn member(&self) -> &Member {
        &self.member
    }

    fn bell(&self) -> SysResult<&Bell> {
        Ok(&self.control.pool.bell)
    }

    fn tidy(&self) -> SysResult<()> {
        for index in 0..self.holdings.count() {
            let holding = self.holding(index);
            if holding.standing() != Standing::Free && !self.member.is_current(holding.owner(index)) {
                self.expel(index, holding);
            }
        }
        if self.queue.as_ref().is_some_and(|queue| queue.tidy(&self.member)) {
            self.control.pool.bell.ring_all();
        }
        Ok(())
    }

    fn over(&self) -> SysResult<Option<(Errno, &'static str)>> {
        Ok(None)
    }

    fn explain(&self, error: Error) -> Error {
        explained(error)
    }

    fn before_sleep(&self) {
        let pool = self.pool();
        for index in 0..self.holdings.count() {
            let holding = self.holding(index);
            if holding.standing() != Standing::Free && self.held(pool, index, holding) > 0 {
                // Relaxed: for others to see, and nothing hangs on it.
                let (key, noted) = (self.key(pool, index, holding), self.holdings.word::<1>(index));
                if noted.load(Ordering::Relaxed) != key {
                    self.holdings.word::<2>(index).store(wall_clock(), Ordering::Relaxed);
                    noted.store(key, Ordering::Relaxed);
                }
            }
        }
    }
}

impl Ready for Shared {
    fn is_ready(&self) -> SysResult<bool> {
        let first = self.queue.as_ref().is_none_or(|queue| queue.is_empty(&self.member));
        Ok(first && self.pool().available() > 0)
    }
}
