//! A lease: what its holder can do.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;

use super::LeasePool;
use super::layout::USED;
use super::word::{LEASE_INFORMATION_MAX, Word};
use crate::error::{Error, Result};
use crate::lender::Lender;
use crate::sync_atomics::Ordering;
use crate::sys::{SysResult, fork};

/// One slot of a pool, until it is released or dropped.
///
/// A lease is lost when its time is over and somebody has looked at the pool since, as those do who wait for a slot, or for one
/// to be wanted, or open it: from then on all that is done under it fails with `ESTALE`, and says who holds the slot now.
/// Its methods may be called from any thread of the process that took it.
pub struct Lease<'a> {
    pool: Lender<'a, LeasePool>,
    index: u32,
    word: Word,
    open: bool,
    /// A child made by fork has a copy of the lease, and the slot stays the parent's.
    generation: u32,
}

impl<'a> Lease<'a> {
    #[inline]
    pub(super) fn new(pool: Lender<'a, LeasePool>, index: u32, word: Word) -> Lease<'a> {
        if word.is_dirty() {
            pool.core.fence_information(index);
        }
        Lease { pool, index, word, open: true, generation: fork::generation_in_handler() }
    }

    /// The number of its slot, from 0.
    pub fn slot(&self) -> u32 {
        self.index
    }

    /// Its fencing token: higher than that of every earlier lease of this slot. What the slot stands for can refuse whoever
    /// comes with a lower one than it has seen. The first is 1; a slot has 2^40 leases.
    pub fn token(&self) -> u64 {
        self.word.token()
    }

    /// Whether somebody has died with the slot, or lost it, and nobody has made it clean since: what the information tells
    /// of may still be alive somewhere. Make sure that it is not, then say [`make_clean`](Lease::make_clean).
    pub fn is_dirty(&self) -> bool {
        let found = self.pool.core.word(self.index);
        if found.is_lease_of(self.word) { found.is_dirty() } else { self.word.is_dirty() }
    }

    /// When the slot was last given back; of one that was not, when its holder took it. `None` if nobody ever had it. To some
    /// milliseconds, by the wall clock.
    pub fn last_used(&self) -> Option<SystemTime> {
        // Relaxed: written before the slot was free, which is acquired.
        let millis = self.pool.core.parts.slots.word::<USED>(self.index.into()).load(Ordering::Relaxed);
        (millis != 0).then(|| UNIX_EPOCH + Duration::from_millis(millis.min(1 << 45)))
    }

    /// How long it still lasts; `None` for as long as its holder lives. Never blocks.
    pub fn expires_in(&self) -> Option<Duration> {
        let shared = &self.pool.core;
        (shared.expires_ms != 0).then(|| shared.left(self.index, self.word))
    }

    /// Whether it is still this lease's slot. Never blocks.
    ///
    /// # Errors
    /// `ESTALE` it was lost; `EPERM` it is that of the process that this one was forked from.
    pub fn check(&self) -> Result<()> {
        self.standing().map_err(|errno| self.error(errno, "check"))
    }

    /// What holders of the slot have last said about it, empty at first. Never blocks.
    ///
    /// # Errors
    /// `ESTALE`, `EPERM` as [`check`](Lease::check); `EBADMSG` it was spoilt by a holder that had lost the slot in the middle of
    /// writing: nothing is known, which [`set_information`](Lease::set_information) ends.
    pub fn information(&self) -> Result<Vec<u8>> {
        let read = self.standing().and_then(|()| self.pool.core.information(self.index));
        let read = read.and_then(|bytes| self.standing().map(|()| bytes));
        read.map_err(|errno| self.error(errno, "information"))
    }

    /// Says what the slot stands for now, in at most 1024 bytes, for those who come later. Never blocks. Who is killed in the
    /// middle of it leaves what was there before.
    ///
    /// # Errors
    /// `EMSGSIZE` it is too long; `ESTALE`, `EPERM` as [`check`](Lease::check).
    pub fn set_information(&mut self, information: &[u8]) -> Result<()> {
        const OPERATION: &str = "set_information";
        if information.len() > LEASE_INFORMATION_MAX {
            let error = self.pool.core.object.error(Errno::EMSGSIZE, OPERATION);
            return Err(error.with_true_size(information.len()).because_found(format!(
                "{} bytes, and a slot keeps {LEASE_INFORMATION_MAX} at most",
                information.len()
            )));
        }
        let set = self.pool.core.set_information(self.index, information, || self.standing());
        set.and_then(|()| self.standing()).map_err(|errno| self.error(errno, OPERATION))
    }

    /// Says what it is used for, in at most 64 bytes, for people who look at the statistics. Never blocks.
    ///
    /// # Errors
    /// `ESTALE`, `EPERM` as [`check`](Lease::check).
    pub fn set_note(&mut self, note: &str) -> Result<()> {
        self.standing().map_err(|errno| self.error(errno, "set_note"))?;
        self.pool.core.write_note(self.index, self.word, note);
        Ok(())
    }

    /// Says that nothing is left of what the one who died with the slot, or lost it, had begun. Never blocks.
    ///
    /// # Errors
    /// `ESTALE`, `EPERM` as [`check`](Lease::check).
    pub fn make_clean(&mut self) -> Result<()> {
        let shared = &self.pool.core;
        let cleaned = self.standing().and_then(|()| {
            let found = shared.word(self.index);
            // Only its own holder changes it while it is this lease's, or who takes it away.
            let cleaned = found.is_lease_of(self.word) && shared.step(self.index, found, found.clean());
            if cleaned { Ok(()) } else { Err(Errno::ESTALE) }
        });
        cleaned.map_err(|errno| self.error(errno, "make_clean"))
    }

    /// Has its time begin anew. Never blocks. Does nothing where leases last as long as their holders.
    ///
    /// # Errors
    /// `ESTALE`, `EPERM` as [`check`](Lease::check).
    pub fn renew(&self) -> Result<()> {
        let renewed = self.standing().and_then(|()| {
            if self.pool.core.expires_ms != 0 {
                self.pool.core.renew(self.index, self.word);
            }
            self.standing()
        });
        renewed.map_err(|errno| self.error(errno, "renew"))
    }

    /// Whether it would do good to give it back soon: somebody waits who could have this slot, or the pool was made smaller.
    /// Never blocks.
    pub fn is_wanted(&self) -> bool {
        let shared = &self.pool.core;
        self.index >= shared.size() || shared.is_waited_for(shared.kept_for(self.index))
    }

    /// How many threads, of all processes, wait in line who could have this slot. Never blocks.
    #[doc(hidden)]
    pub fn waiting(&self) -> u32 {
        let shared = &self.pool.core;
        shared.waiting_for(shared.kept_for(self.index))
    }

    /// Gives the slot back; the same as dropping the lease, but says if it was lost. Never blocks.
    ///
    /// # Errors
    /// `ESTALE`, `EPERM` as [`check`](Lease::check).
    ///
    /// System call: futex, if somebody waits.
    #[inline]
    pub fn release(mut self) -> Result<()> {
        self.end(false).map_err(|errno| self.error(errno, "release"))
    }

    /// Gives the slot back as dirty: for who cannot tell what is left of what it stood for. Never blocks.
    ///
    /// # Errors
    /// `ESTALE`, `EPERM` as [`check`](Lease::check).
    pub fn abandon(mut self) -> Result<()> {
        self.end(true).map_err(|errno| self.error(errno, "abandon"))
    }

    #[inline]
    fn end(&mut self, dirty: bool) -> SysResult<()> {
        if !std::mem::take(&mut self.open) {
            return Ok(());
        }
        if self.generation != fork::generation_in_handler() {
            return Err(Errno::EPERM);
        }
        self.pool.core.release(self.index, self.word, dirty)
    }

    #[inline]
    fn standing(&self) -> SysResult<()> {
        if self.generation != fork::generation_in_handler() {
            Err(Errno::EPERM)
        } else if self.pool.core.word(self.index).is_lease_of(self.word) {
            Ok(())
        } else {
            Err(Errno::ESTALE)
        }
    }

    #[cold]
    fn error(&self, errno: Errno, operation: &'static str) -> Error {
        let shared = &self.pool.core;
        let error = shared.object.error(errno, operation);
        match errno {
            Errno::ESTALE => {
                shared.control.counts.refused.fetch_add(1, Ordering::Relaxed);
                error.because_found(format!(
                    "lease {} of slot {} is over, as its time had passed or its handle was declared dead; the slot {}",
                    self.token(),
                    self.index,
                    self.pool.who_has(self.index)
                ))
            }
            Errno::EPERM => error.because("it is a lease of the process that this one was forked from"),
            Errno::EBADMSG => error.because(
                "a holder that had lost the slot has written over what was said about it; set the information anew",
            ),
            _ => error,
        }
    }
}

impl Drop for Lease<'_> {
    #[inline]
    fn drop(&mut self) {
        let _ = self.end(false); // a failure: it was lost already, see `release`
    }
}

impl std::fmt::Debug for Lease<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pool = self.pool.address();
        let (slot, token, dirty) = (self.index, self.token(), self.is_dirty());
        f.debug_struct("Lease")
            .field("pool", &pool)
            .field("slot", &slot)
            .field("token", &token)
            .field("dirty", &dirty)
            .finish()
    }
}
