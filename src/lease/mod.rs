//! Leases (`lease:name`): a host-wide pool of slots, each with a holder and what is known about what it stands for.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | the API of the pool |
//! | `held.rs` | the API of a lease |
//! | `options.rs` | options |
//! | `statistics.rs` | what it tells about itself |
//! | `slots.rs` | how slots change hands |
//! | `queue.rs` | who waits, and who is next |
//! | `watch.rs` | hearing at once when a holder's process ends |
//! | `information.rs` | what holders keep about a slot |
//! | `word.rs` | the words of all this |
//! | `layout.rs` | what lies where |
//!
//! docs/ALGORITHMS.md tells the whole in one place.

mod held;
mod information;
mod layout;
mod options;
mod queue;
mod slots;
mod statistics;
mod watch;
mod word;

use std::cell::Cell;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

pub use held::Lease;
pub use options::{LeaseGroup, LeaseOptions};
pub use statistics::{LeaseGroupStatistics, LeaseHolder, LeaseStatistics};
pub use word::LEASE_INFORMATION_MAX;

use crate::address::{Address, Scheme};
use crate::doorbell::Doorbells;
use crate::error::{Error, Result};
use crate::lender::Lender;
use crate::segment::look_around;
use crate::sync::core::{self, Common, Core, Kind, Part};
use crate::sync::doorbell::Listener;
use crate::sync::opening::opening_at;
use crate::sync_atomics::{AtomicU32, Ordering};
use crate::sys::SysResult;
use crate::timeout::{Timeout, now};
use layout::{Control, Parts};
use options::{GROUPS_MAX, SLOTS_MAX};
use queue::{Waiting, Wanted};
use slots::{Purpose, Shared};
use statistics::count_wait;
use watch::{WORTH_IT, Watch};
use word::Word;

/// A number of slots that all processes of a host share, each with what its holders keep about it: connections to a
/// database, licences, ports.
///
/// Named (`lease:db?slots=20`), or anonymous and inherited by children or passed as a descriptor. A lease belongs to
/// the handle that has taken it. When its process dies, at whatever instruction, the slot comes back marked dirty, at
/// once if somebody waits for one and the kernel tells (pidfd_open), within two seconds otherwise: whoever gets it
/// first makes sure that nothing is left of what the dead had begun, and learns from the slot's information what that
/// was.
///
/// Taking and releasing are an exchange each and no system call while nobody waits.
///
/// ```
/// use wigwag::{LeaseOptions, LeasePool, Timeout};
/// let pool = LeasePool::anonymous(LeaseOptions { slots: 1, ..Default::default() })?;
/// let mut lease = pool.acquire(Timeout::Now)?;
/// lease.set_information(b"backend 4711")?;
/// assert!(pool.acquire(Timeout::Now).is_err());
/// lease.release()?;
/// let lease = pool.acquire(Timeout::Now)?;
/// assert_eq!((lease.token(), lease.information()?, lease.is_dirty()), (2, b"backend 4711".to_vec(), false));
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct LeasePool {
    /// Before `core`: its helper ends before what it looks at.
    bells: Doorbells<()>,
    /// The same.
    watch: Watch,
    core: Part<Shared>,
}

opening_at!(LeasePool, Lease, LeaseOptions, "lease:", "pool of leases");

impl Kind for LeasePool {
    type Control = Control;
    type Options = LeaseOptions;
    const NUMBER: u32 = 11;

    fn with(options: &mut LeaseOptions, address: &Address) {
        options.with(address);
    }

    fn common(options: &LeaseOptions) -> std::result::Result<Common, &'static str> {
        options.check()?;
        options.common().check()
    }

    fn size(options: &LeaseOptions, participants: u32) -> usize {
        layout::size(options.room(), participants)
    }

    fn fill(options: &LeaseOptions, control: &Control) {
        // Relaxed: nobody else can see the segment yet.
        control.constant.slots.store(options.slots(), Ordering::Relaxed);
        control.constant.room.store(options.room(), Ordering::Relaxed);
        control.constant.fair.store(options.fair.into(), Ordering::Relaxed);
        control.constant.expires_ms.store(options.expires_ms(), Ordering::Relaxed);
        control.constant.groups.store(options.groups.len() as u32, Ordering::Relaxed);
        for (record, group) in control.constant.group.iter().zip(&options.groups) {
            record.fill(&group.name, group.minimum);
        }
        control.line.size.store(options.slots(), Ordering::Relaxed);
    }

    fn of(core: Core<Control>, _options: &LeaseOptions) -> SysResult<LeasePool> {
        let made = made_with(&core.control);
        made.check().map_err(|_| Errno::EBADMSG)?;
        let segment = core.member.segment();
        let (body, length) = segment.body();
        if made.room == 0 || made.room > SLOTS_MAX || length < layout::size(made.room, segment.participants()) {
            return Err(Errno::EBADMSG);
        }
        let parts = Parts::new(segment.memory(), body, made.room, segment.participants()).ok_or(Errno::EBADMSG)?;
        let mut reserved = 0;
        let groups = made.groups.iter().map(|group| {
            let first = reserved;
            reserved += group.minimum;
            (group.name.clone(), first..reserved)
        });
        let groups = groups.collect();
        let shared = Shared {
            parts,
            room: made.room,
            fair: made.fair,
            expires_ms: made.expires_ms(),
            groups,
            reserved,
            near: AtomicU32::new(reserved),
            core,
        };
        // What the dead hold is best taken back by those who come, as nobody else may have a reason to look.
        look_around(&shared)?;
        Ok(LeasePool { bells: Doorbells::default(), watch: Watch::default(), core: Part::new(shared) })
    }
}

/// What a pool was made with, as its memory says.
fn made_with(control: &Control) -> LeaseOptions {
    let constant = &control.constant;
    // Relaxed: constant since before the segment could be seen.
    let groups = (constant.groups.load(Ordering::Relaxed) as usize).min(GROUPS_MAX);
    let groups = constant.group.iter().take(groups).map(|record| LeaseGroup {
        name: record.name(),
        minimum: u32::try_from(record.minimum.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
    });
    LeaseOptions {
        slots: constant.slots.load(Ordering::Relaxed),
        room: constant.room.load(Ordering::Relaxed),
        fair: constant.fair.load(Ordering::Relaxed) != 0,
        expires: Duration::from_millis(constant.expires_ms.load(Ordering::Relaxed)),
        groups: groups.collect(),
        ..Default::default()
    }
}

/// What a lease is taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseRequest<'a> {
    /// The group that it counts for, one of those that the pool was made with; empty for none.
    pub group: &'a str,
    /// What it is used for, in at most 64 bytes, for people who look at the statistics.
    pub note: &'a str,
}

impl LeasePool {
    /// Opens the pool of this name, or makes it. Never blocks.
    ///
    /// A plain name lies in `$WIGWAG_DIR` or `/dev/shm/wigwag-UID`, a name with a slash is a path on a tmpfs.
    ///
    /// # Errors
    /// `EINVAL` the options do not fit together, or the pool that there is was made with others, which are named; `ENOSPC` the
    /// memory is not free; `EACCES` the directory is somebody else's; `EBADMSG` there is something else under that name, or it
    /// is damaged; `EPROTO` it was made by an incompatible version; `EUSERS` it has no room for another participant; `EMFILE`,
    /// `ENFILE`.
    ///
    /// System calls: openat, fallocate, linkat, mmap, fcntl.
    pub fn open(address: &Address, mut options: LeaseOptions) -> Result<LeasePool> {
        address.require(&[Scheme::Lease], "open")?;
        options.with(address);
        let pool: LeasePool = core::open(address, options.clone())?;
        match options.differences(&made_with(&pool.core.control)) {
            None => Ok(pool),
            Some(differences) => Err(pool.core.object.error(Errno::EINVAL, "open").because_found(format!(
                "there is a pool of that name with {differences}; open it as it is, or remove it first"
            ))),
        }
    }

    /// Takes a slot; waits until one is free.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere; `ESTALE` this handle was declared dead because its lock was closed.
    ///
    /// System calls: futex, if it has to wait.
    #[inline]
    pub fn acquire(&self, timeout: Timeout) -> Result<Lease<'_>> {
        self.acquire_for(&LeaseRequest::default(), timeout)
    }

    /// As [`LeasePool::acquire`], for a group and with a note.
    ///
    /// # Errors
    /// `EINVAL` the pool has no group of that name; otherwise as [`LeasePool::acquire`].
    #[inline]
    pub fn acquire_for(&self, request: &LeaseRequest<'_>, timeout: Timeout) -> Result<Lease<'_>> {
        let (slot, word) = self.taken(request, timeout)?;
        Ok(Lease::new(Lender::Lent(self), slot, word))
    }

    /// As [`LeasePool::acquire_for`], with a lease that keeps the pool open itself.
    ///
    /// # Errors
    /// As [`LeasePool::acquire_for`].
    #[inline]
    pub fn acquire_owned(
        self: &Arc<LeasePool>,
        request: &LeaseRequest<'_>,
        timeout: Timeout,
    ) -> Result<Lease<'static>> {
        let (slot, word) = self.taken(request, timeout)?;
        Ok(Lease::new(Lender::Kept(Arc::clone(self)), slot, word))
    }

    /// How many slots there are, held or not. Never blocks.
    pub fn slots(&self) -> u32 {
        self.core.size()
    }

    /// How many of them are free, those that are kept for groups included. Never blocks.
    pub fn available(&self) -> u32 {
        (0..self.core.size()).filter(|slot| !self.core.word(*slot).is_held()).count() as u32
    }

    /// How many threads wait in line for one, of all processes. Never blocks.
    pub fn waiting(&self) -> u32 {
        self.core.waiting(None)
    }

    /// Waits until somebody waits in line for a slot: for those who keep one that they do not need just now. Returns at once
    /// if somebody does.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere; `ESTALE` as [`LeasePool::acquire`].
    ///
    /// System calls: futex.
    pub fn wait_wanted(&self, timeout: Timeout) -> Result<()> {
        let shared = &*self.core;
        let mut operation = shared.object.operation("wait_wanted", timeout);
        if shared.waiting(None) > 0 {
            return Ok(()); // who polls tries only now and then below
        }
        let attempt = || Ok((shared.waiting(None) > 0).then_some(()));
        shared.patience.wait(&Wanted(shared), &mut operation, attempt)
    }

    /// Makes the pool larger or smaller, for all who have it open. Never blocks. Slots beyond the new size stay with their
    /// holders until these give them back.
    ///
    /// # Errors
    /// `EINVAL` more than it has room for, or fewer than are kept for groups, or none.
    ///
    /// System call: futex, if somebody waits.
    pub fn resize(&self, slots: u32) -> Result<()> {
        let shared = &*self.core;
        if slots < shared.reserved.max(1) || slots > shared.room {
            let error = shared.object.error(Errno::EINVAL, "resize");
            return Err(error.because_found(format!(
                "{slots} slots: it has room for {}, and {} are kept for groups; make it anew with more room",
                shared.room, shared.reserved
            )));
        }
        // SeqCst: before the bells.
        shared.control.line.size.store(slots, Ordering::SeqCst);
        shared.call_all();
        Ok(())
    }

    /// A descriptor that is readable while a slot can be had that is not kept for a group. For poll, a
    /// [`WaitSet`](crate::WaitSet), an event loop; an [`acquire`](LeasePool::acquire) without waiting that fails quiets it.
    /// Never blocks.
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

    // --- what the calls are made of ---

    #[inline]
    fn taken(&self, request: &LeaseRequest<'_>, timeout: Timeout) -> Result<(u32, Word)> {
        let shared = &*self.core;
        let purpose = Purpose { group: self.group(request.group)?, note: request.note };
        if !shared.is_orderly() {
            let me = shared.member.tag().map_err(|errno| shared.error(errno, "acquire"))?;
            if let Some(taken) = shared.take(me, &purpose, slots::Allowed::ALL) {
                return Ok(taken);
            }
        }
        self.take_on(&purpose, timeout)
    }

    #[inline]
    fn group(&self, name: &str) -> Result<u32> {
        if name.is_empty() { Ok(0) } else { self.find_group(name) }
    }

    #[cold]
    fn find_group(&self, name: &str) -> Result<u32> {
        let groups = &self.core.groups;
        let found = groups.iter().position(|(group, _)| group == name);
        found.map(|index| index as u32 + 1).ok_or_else(|| {
            let names: Vec<_> = groups.iter().map(|(name, _)| name.as_str()).collect();
            let names = if names.is_empty() { "it has none".into() } else { format!("it has {}", names.join(", ")) };
            let error = self.core.object.error(Errno::EINVAL, "acquire");
            error.because_found(format!("there is no group {name:?} in this pool; {names}"))
        })
    }

    #[cold]
    fn take_on(&self, purpose: &Purpose<'_>, timeout: Timeout) -> Result<(u32, Word)> {
        let shared = &self.core;
        let mut operation = shared.object.operation("acquire", timeout);
        let explained = |error: Error| core::explained(error);
        let me = shared.member.tag().map_err(|errno| explained(operation.error(errno)))?;
        self.bells.found_nothing(&());
        let began = now();
        let turn = if timeout == Timeout::Now { None } else { shared.join(me, purpose.group) };
        let waiting = Waiting { shared, turn, again: Cell::new(None) };
        let attempt = || {
            let take = || shared.take(me, purpose, shared.allowed(waiting.turn.as_ref(), purpose.group));
            if let Some(taken) = take() {
                return Ok(Some(taken));
            }
            shared.member.tag()?; // whoever was declared dead has no place in line either
            let swept = shared.sweep();
            if swept.freed
                && let Some(taken) = take()
            {
                return Ok(Some(taken));
            }
            let soon = if waiting.turn.is_none() || !watch::is_worth_it(timeout) {
                None
            } else if now().saturating_sub(began) < WORTH_IT {
                Some(WORTH_IT)
            } else {
                self.watch.keep(shared.shared());
                None
            };
            waiting.found_nothing(purpose.group, swept.next_expiry.into_iter().chain(soon).min());
            Ok(None)
        };
        // Who polls tries only now and then below.
        if timeout == Timeout::Now
            && let Some(taken) = attempt().map_err(|errno| explained(operation.error(errno)))?
        {
            return Ok(taken);
        }
        let taken = shared.patience.wait(&waiting, &mut operation, attempt);
        match &taken {
            Ok(_) if timeout != Timeout::Now => count_wait(&shared.control.counts.waits, now().saturating_sub(began)),
            Err(error) if error.is(Errno::ETIMEDOUT) => {
                shared.control.counts.timeouts.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
        taken
    }
}

impl Drop for LeasePool {
    fn drop(&mut self) {
        // Whatever forgotten leases still hold. An unused copy in a child has nothing.
        if self.core.member.is_settled()
            && let Ok(me) = self.core.member.tag()
        {
            self.core.leave(me);
        }
    }
}
