//! What holds a read-write lock.

use std::marker::PhantomData;

use nix::errno::Errno;

use super::RwLock;
use crate::error::Result;
use crate::lender::Lender;
use crate::segment::Tag;
use crate::sync::mutex::Locked;
use crate::sync::owner::Holding;
use crate::sync::word::{Phase, Word};
use crate::sys::{SysResult, fork};

/// Holds a lock for reading until it is dropped, by any thread.
pub struct RwLockReadGuard<'a> {
    lock: Lender<'a, RwLock>,
    /// `None` once it has been released.
    me: Option<Tag>,
    /// A child made by fork has a copy of the guard, and the lock stays the parent's.
    generation: u32,
}

impl<'a> RwLockReadGuard<'a> {
    #[inline]
    pub(super) fn locked(lock: Lender<'a, RwLock>, (me, inherited): (Tag, bool)) -> Locked<RwLockReadGuard<'a>> {
        let guard = RwLockReadGuard { lock, me: Some(me), generation: fork::generation_in_handler() };
        if inherited { Locked::Inherited(guard) } else { Locked::Clean(guard) }
    }

    /// Releases the lock; the same as dropping the guard, but says if it was taken from this handle. Never blocks.
    ///
    /// # Errors
    /// `ESTALE` this handle was declared dead; `EPERM` the lock is that of the process that this one was forked from.
    pub fn unlock(mut self) -> Result<()> {
        self.end().map_err(|errno| self.lock.core.lock_error(errno, "unlock"))
    }

    #[inline]
    fn end(&mut self) -> SysResult<()> {
        match self.me.take() {
            None => Ok(()),
            Some(_) if self.generation != fork::generation_in_handler() => Err(Errno::EPERM),
            Some(me) if self.lock.core.member.tag()? != me => Err(Errno::ESTALE),
            Some(me) => self.lock.core.leave(me),
        }
    }
}

impl Drop for RwLockReadGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        let _ = self.end(); // a failure: it is released already, see `unlock`
    }
}

/// Holds a lock for writing until it is dropped, by the thread that has taken it.
pub struct RwLockWriteGuard<'a> {
    lock: Lender<'a, RwLock>,
    holding: Holding,
    _of_this_thread: PhantomData<*const ()>,
}

impl<'a> RwLockWriteGuard<'a> {
    #[inline]
    pub(super) fn locked(lock: Lender<'a, RwLock>, word: Word) -> Locked<RwLockWriteGuard<'a>> {
        let guard = RwLockWriteGuard { lock, holding: Holding::new(word), _of_this_thread: PhantomData };
        if word.phase() == Ok(Phase::Inherited) { Locked::Inherited(guard) } else { Locked::Clean(guard) }
    }

    /// Whether the last writer died, and nobody has said yet that what it guards is consistent.
    pub fn is_inherited(&self) -> bool {
        self.lock.core.control.owner.load().phase() == Ok(Phase::Inherited)
    }

    /// As [`RwLock::consistent`].
    ///
    /// # Errors
    /// As [`RwLock::consistent`].
    pub fn consistent(&self) -> Result<()> {
        self.lock.consistent()
    }

    /// As [`RwLock::give_up`].
    ///
    /// # Errors
    /// As [`RwLock::give_up`].
    pub fn give_up(self) -> Result<()> {
        self.lock.give_up()
    }

    /// Releases the lock; the same as dropping the guard, but says if it was taken from this handle. Never blocks.
    ///
    /// # Errors
    /// `ESTALE` this handle was declared dead, and the lock passed on; `EPERM` it is held by the process that this one was
    /// forked from.
    pub fn unlock(mut self) -> Result<()> {
        self.end().map_err(|errno| self.lock.core.lock_error(errno, "unlock"))
    }

    #[inline]
    fn end(&mut self) -> SysResult<()> {
        match self.holding.end()? {
            Some(held) => self.lock.core.put(held),
            None => Ok(()),
        }
    }
}

impl Drop for RwLockWriteGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        let _ = self.end(); // a failure: it is not held any more, see `unlock`
    }
}

macro_rules! debug {
    ($($name:ident)*) => {
        $(impl std::fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).field("lock", &self.lock.address()).finish_non_exhaustive()
            }
        })*
    };
}

debug!(RwLockReadGuard RwLockWriteGuard);
