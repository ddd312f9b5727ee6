//! Something that has happened, or not.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use nix::errno::Errno;

use super::core::{Common, Core, Kind, Part, SyncParticipant, explained};
use super::doorbell::{Listener, Ready};
use super::opening::{opening, options};
use crate::address::Address;
use crate::doorbell::Doorbells;
use crate::error::{Error, Result};
use crate::segment::{Bell, Member, Party, look_around};
use crate::sync_atomics::{AtomicU32, AtomicU64, Ordering};
use crate::sys::SysResult;
use crate::sys::shared::Record;
use crate::timeout::Timeout;

options! {
    /// How to open or make an event.
    EventOptions {
        /// One wait that succeeds takes the event back, so that each time it is set lets one through.
        auto_reset: bool,
    }
}

#[repr(C, align(128))]
pub(crate) struct Control {
    /// How often it was set, above bit 0: whether it is.
    word: AtomicU64,
    bell: Bell,
    auto_reset: AtomicU32,
}

const _: () = assert!(size_of::<Control>() == 128);
const SET: u64 = 1;
const ONCE: u64 = 2;

// SAFETY: atomics only.
#[allow(unsafe_code)]
unsafe impl Record for Control {}

/// A flag that processes set, take back and wait for.
///
/// Named (`event:ready`), or anonymous and inherited by children or passed as a descriptor. Once set, all waits succeed until
/// it is taken back; who waited when it was set goes on even if it is taken back at once. With `auto_reset` each time that
/// it is set lets one wait through. It has no owner: a death changes nothing.
///
/// No call makes a system call unless somebody waits.
///
/// ```
/// use wigwag::{Event, EventOptions, Timeout};
/// let event = Event::anonymous(EventOptions::default())?;
/// assert!(event.wait(Timeout::Now).is_err());
/// event.set()?;
/// event.wait(Timeout::Now)?;
/// assert!(event.is_set());
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Event {
    /// Before `core`: its helper ends before what it looks at.
    bells: Doorbells<()>,
    core: Part<Core<Control>>,
    auto_reset: bool,
}

opening!(Event, EventOptions, "event:", "event");

impl Kind for Event {
    type Control = Control;
    type Options = EventOptions;
    const NUMBER: u32 = 7;

    fn with(options: &mut EventOptions, address: &Address) {
        options.with_common(address);
        options.auto_reset |= address.flag("auto-reset").unwrap_or(false);
    }

    fn common(options: &EventOptions) -> std::result::Result<Common, &'static str> {
        options.common().check()
    }

    fn size(_options: &Self::Options, _participants: u32) -> usize {
        size_of::<Control>()
    }

    fn fill(options: &EventOptions, control: &Control) {
        control.auto_reset.store(options.auto_reset.into(), Ordering::Relaxed); // nobody else can see it yet
    }

    fn of(core: Core<Control>, _options: &EventOptions) -> SysResult<Event> {
        // Relaxed: constant since before the segment could be seen.
        let auto_reset = core.control.auto_reset.load(Ordering::Relaxed) != 0;
        look_around(&core)?; // the places of the dead are free again
        Ok(Event { bells: Doorbells::default(), core: Part::new(core), auto_reset })
    }
}

/// What an event has seen, and who uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventStatistics {
    /// Whether it is set.
    pub is_set: bool,
    /// How often it was set while it was not.
    pub times: u64,
    /// Whether one wait that succeeds takes it back.
    pub auto_reset: bool,
    /// Memory in bytes, all of it.
    pub bytes: usize,
    /// Who takes part.
    pub participants: Vec<SyncParticipant>,
}

impl Event {
    /// Sets it, and wakes those who wait; whether it was not set before. Never blocks.
    ///
    /// # Errors
    /// `ESTALE` this handle was declared dead because its lock was closed.
    ///
    /// System call: futex, if somebody waits.
    pub fn set(&self) -> Result<bool> {
        self.core.member.tag().map_err(|errno| self.core.error(errno, "set"))?;
        let control = &self.core.control;
        // SeqCst: comes before the look at the bell, and releases what was done before.
        let changed = self.change(|word| if word & SET == 0 { Some((word | SET).wrapping_add(ONCE)) } else { None });
        if changed {
            // Those who look and are late wake nobody, so all are woken also where one will be let through.
            control.bell.ring_all();
        }
        Ok(changed)
    }

    /// Takes it back; whether it was set. Never blocks.
    ///
    /// # Errors
    /// As [`Event::set`].
    pub fn clear(&self) -> Result<bool> {
        self.core.member.tag().map_err(|errno| self.core.error(errno, "clear"))?;
        Ok(self.change(|word| if word & SET != 0 { Some(word & !SET) } else { None }))
    }

    /// Whether it is set. Never blocks.
    pub fn is_set(&self) -> bool {
        self.core.control.word.load(Ordering::Acquire) & SET != 0 // pairs with `set`
    }

    /// Waits until it is set, or was set since the call began.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere; `ESTALE` as [`Event::set`].
    ///
    /// System calls: futex, if it has to wait.
    #[inline]
    pub fn wait(&self, timeout: Timeout) -> Result<()> {
        let before = self.core.control.word.load(Ordering::SeqCst);
        match self.attempt(before) {
            Ok(Some(())) => Ok(()),
            first => self.wait_on(first, before, timeout),
        }
    }

    /// A descriptor that is readable while it is set. For poll, a [`WaitSet`](crate::WaitSet), an event loop; a
    /// [`wait`](Event::wait) that finds it not set quiets it. Never blocks.
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

    /// Whether it is set, and who waits. Never blocks.
    ///
    /// # Errors
    /// `EBADMSG` it is damaged.
    pub fn statistics(&self) -> Result<EventStatistics> {
        let word = self.core.control.word.load(Ordering::Acquire);
        let participants = self.core.participants(|_| (0, None));
        Ok(EventStatistics {
            is_set: word & SET != 0,
            times: word / ONCE,
            auto_reset: self.auto_reset,
            bytes: self.core.member.segment().size(),
            participants: participants.map_err(|errno| self.core.error(errno, "statistics"))?,
        })
    }

    /// Changes the word as `to` says; false if there is nothing to change.
    fn change(&self, to: impl Fn(u64) -> Option<u64>) -> bool {
        // SeqCst for the bell; acquires and releases what comes before and after.
        self.core.control.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, to).is_ok()
    }

    #[inline]
    fn attempt(&self, before: u64) -> SysResult<Option<()>> {
        // SeqCst: looked at after announcing sleep.
        let word = self.core.control.word.load(Ordering::SeqCst);
        let happened = match word & SET {
            _ if !self.auto_reset => word & SET != 0 || word / ONCE != before / ONCE,
            0 => false,
            _ => {
                self.core.member.tag()?; // who was declared dead takes nothing from the living
                self.core.control.word.compare_exchange(word, word & !SET, Ordering::SeqCst, Ordering::Relaxed).is_ok()
            }
        };
        Ok(happened.then_some(()))
    }

    #[cold]
    fn wait_on(&self, first: SysResult<Option<()>>, before: u64, timeout: Timeout) -> Result<()> {
        let mut operation = self.core.object.operation("wait", timeout);
        // A child takes part as itself before it waits, so that others see who does.
        if let Err(errno) = first.and_then(|_| self.core.member.tag()) {
            return Err(self.core.explain(operation.error(errno)));
        }
        self.bells.found_nothing(&());
        self.core.patience.wait(&*self.core, &mut operation, || self.attempt(before))
    }
}

impl Party for Core<Control> {
    fn member(&self) -> &Member {
        &self.member
    }

    fn bell(&self) -> SysResult<&Bell> {
        Ok(&self.control.bell)
    }

    fn tidy(&self) -> SysResult<()> {
        Ok(()) // nobody holds anything
    }

    fn over(&self) -> SysResult<Option<(Errno, &'static str)>> {
        Ok(None)
    }

    fn explain(&self, error: Error) -> Error {
        explained(error)
    }
}

impl Ready for Core<Control> {
    fn is_ready(&self) -> SysResult<bool> {
        Ok(self.control.word.load(Ordering::SeqCst) & SET != 0)
    }
}
