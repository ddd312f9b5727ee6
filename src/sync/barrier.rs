//! A meeting point.

use nix::errno::Errno;

use super::core::{Common, Core, Kind, Part, SyncParticipant, explained};
use super::opening::{opening, options};
use super::roster::{PLACE, Roster};
use crate::address::Address;
use crate::error::{Error, Result};
use crate::segment::{Bell, Member, Party, look_around};
use crate::sync_atomics::{AtomicU32, AtomicU64, Ordering};
use crate::sys::SysResult;
use crate::sys::shared::Record;
use crate::timeout::Timeout;

options! {
    /// How to open or make a barrier.
    BarrierOptions {
        /// How many have to arrive before all go on, at most 32767; 0 for 2.
        parties: u32,
    }
}

#[repr(C, align(128))]
pub(crate) struct Control {
    word: AtomicU64,
    bell: Bell,
    parties: AtomicU32,
}

const _: () = assert!(size_of::<Control>() == 128);
const PARTIES_MAX: u32 = 32767;

// SAFETY: atomics only.
#[allow(unsafe_code)]
unsafe impl Record for Control {}

/// `round (32) | how the last 16 rounds ended (16) | broken (1) | arrived (15)`; any 64 bits are one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    fn arrived(self) -> u32 {
        (self.0 & 0x7fff) as u32
    }

    fn is_broken(self) -> bool {
        self.0 & 0x8000 != 0
    }

    fn round(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn with(self, arrived: u32, broken: bool) -> Word {
        Word(self.0 & !0xffff | u64::from(broken) << 15 | u64::from(arrived & 0x7fff))
    }

    /// The next round; whether all have met in this one.
    fn next(self, met: bool) -> Word {
        let history = (self.0 >> 16 & 0xffff) << 1 & 0xffff | u64::from(met);
        Word(u64::from(self.round().wrapping_add(1)) << 32 | history << 16)
    }

    /// Whether all met in an earlier round; those that are too long ago are taken to have ended well.
    fn met_in(self, round: u32) -> bool {
        let ago = self.round().wrapping_sub(round).wrapping_sub(1);
        ago > 15 || self.0 >> (16 + ago) & 1 == 1
    }
}

/// A point where a number of threads, of any processes, wait for each other.
///
/// Named (`barrier:start?parties=4`), or anonymous and inherited by children or passed as a descriptor. When as many have
/// arrived as it has parties, all go on, and the next round begins. It breaks when a process dies that has it open, arrived
/// or not: all who wait then and later get `EOWNERDEAD` until somebody resets it, instead of waiting for the dead. Whoever
/// only waited and gave up takes its arrival back, and harms nobody.
///
/// ```
/// use wigwag::{Barrier, BarrierOptions, Timeout};
/// let barrier = Barrier::anonymous(BarrierOptions { parties: 2, ..Default::default() })?;
/// std::thread::scope(|scope| {
///     scope.spawn(|| barrier.wait(Timeout::Forever).unwrap());
///     barrier.wait(Timeout::Forever).unwrap();
/// });
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Barrier {
    core: Part<Shared>,
    parties: u32,
}

struct Shared {
    core: Core<Control>,
    roster: Roster,
}

impl std::ops::Deref for Shared {
    type Target = Core<Control>;

    fn deref(&self) -> &Core<Control> {
        &self.core
    }
}

opening!(Barrier, BarrierOptions, "barrier:", "barrier");

impl Kind for Barrier {
    type Control = Control;
    type Options = BarrierOptions;
    const NUMBER: u32 = 10;

    fn with(options: &mut BarrierOptions, address: &Address) {
        options.with_common(address);
        if options.parties == 0 {
            options.parties = u32::try_from(address.number("parties").unwrap_or(0)).unwrap_or(u32::MAX);
        }
    }

    fn common(options: &BarrierOptions) -> std::result::Result<Common, &'static str> {
        if options.parties > PARTIES_MAX {
            return Err("a barrier has at most 32767 parties");
        }
        options.common().check()
    }

    fn size(_options: &Self::Options, participants: u32) -> usize {
        size_of::<Control>() + participants.next_power_of_two() as usize * PLACE
    }

    fn fill(options: &BarrierOptions, control: &Control) {
        let parties = if options.parties == 0 { 2 } else { options.parties };
        control.parties.store(parties, Ordering::Relaxed); // nobody else can see it yet
    }

    fn of(core: Core<Control>, options: &BarrierOptions) -> SysResult<Barrier> {
        let (segment, (body, length)) = (core.member.segment(), core.member.segment().body());
        // Relaxed: constant since before the segment could be seen.
        let parties = core.control.parties.load(Ordering::Relaxed);
        if !(1..=PARTIES_MAX).contains(&parties) || length < Barrier::size(options, segment.participants()) {
            return Err(Errno::EBADMSG);
        }
        let roster = Roster::new(segment.memory(), body + size_of::<Control>(), segment.participants())?;
        let core = Part::new(Shared { core, roster });
        look_around(&*core)?;
        core.enter()?;
        Ok(Barrier { core, parties })
    }
}

/// Who meets at a barrier.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BarrierStatistics {
    /// How many have to arrive.
    pub parties: u32,
    /// How many have, in this round.
    pub arrived: u32,
    /// Rounds so far, modulo 2^32.
    pub round: u32,
    /// Whether it is broken.
    pub is_broken: bool,
    /// Memory in bytes, all of it.
    pub bytes: usize,
    /// Who takes part.
    pub participants: Vec<SyncParticipant>,
}

impl Barrier {
    /// Arrives, and waits until all have; true for the one that arrived last.
    ///
    /// # Errors
    /// `EOWNERDEAD` it is broken: somebody who had it open died, or it was broken on purpose; [`reset`](Barrier::reset) it.
    /// `EAGAIN` (not all others have arrived), `ETIMEDOUT`, `ECANCELED` as everywhere: the arrival is taken back. `ESTALE`
    /// this handle was declared dead because its lock was closed; `EBADMSG` it is damaged.
    ///
    /// System calls: futex, if it has to wait or others do.
    pub fn wait(&self, timeout: Timeout) -> Result<bool> {
        let parties = self.parties; // whoever meets this thread here may close the barrier
        Ok(self.wait_numbered(timeout)? + 1 == parties)
    }

    /// As [`Barrier::wait`]; how many had arrived in this round before. The one that arrived last gets the number of
    /// parties less one, and no number comes twice unless somebody takes an arrival back.
    ///
    /// # Errors
    /// As [`Barrier::wait`].
    ///
    /// System calls: as [`Barrier::wait`].
    pub fn wait_numbered(&self, timeout: Timeout) -> Result<u32> {
        let mut operation = self.core.object.operation("wait", timeout);
        operation.wait(); // before the others can know of it
        let arrived = match self.core.enter().and_then(|()| self.arrive()) {
            Ok(arrived) => arrived,
            Err(errno) => return Err(self.core.explain(operation.error(errno))),
        };
        let (number, round) = match arrived {
            (number, Some(round)) => (number, round),
            (number, None) => return Ok(number),
        };
        let waited = self.core.patience.wait(&*self.core, &mut operation, || self.look(round));
        match waited {
            Ok(()) => Ok(number),
            Err(error) if operation.wait().is_parents() || self.take_back(round) => Err(error),
            // The round is over: all had arrived before it could be taken back, or it broke.
            Err(error) => match self.look(round) {
                Ok(Some(())) => Ok(number),
                Err(errno) if !error.is(errno) => Err(self.core.explain(operation.error(errno))),
                _ => Err(error),
            },
        }
    }

    /// Breaks it on purpose: all who wait, and all who come until it is reset, get `EOWNERDEAD`. Never blocks.
    ///
    /// # Errors
    /// `ESTALE`, `EBADMSG` as [`Barrier::wait`].
    ///
    /// System call: futex, if somebody waits.
    pub fn break_off(&self) -> Result<()> {
        self.core.enter().map_err(|errno| self.core.error(errno, "break"))?;
        self.core.break_off();
        Ok(())
    }

    /// Begins a new round, whether it was broken or not: who waits gets `EOWNERDEAD`, who comes waits for all. Never blocks.
    ///
    /// # Errors
    /// `ESTALE`, `EBADMSG` as [`Barrier::wait`].
    ///
    /// System call: futex, if somebody waits.
    pub fn reset(&self) -> Result<()> {
        self.core.enter().map_err(|errno| self.core.error(errno, "reset"))?;
        let _ = self.core.change(|word| Some(word.next(false))); // there is always a next round
        self.core.control.bell.ring_all();
        Ok(())
    }

    /// How many have to arrive. Never blocks.
    pub fn parties(&self) -> u32 {
        self.parties
    }

    /// Who has arrived. Never blocks.
    ///
    /// # Errors
    /// `EBADMSG` it is damaged.
    pub fn statistics(&self) -> Result<BarrierStatistics> {
        let word = self.core.word();
        let participants = self.core.participants(|_| (0, None));
        Ok(BarrierStatistics {
            parties: self.parties,
            arrived: word.arrived(),
            round: word.round(),
            is_broken: word.is_broken(),
            bytes: self.core.member.segment().size(),
            participants: participants.map_err(|errno| self.core.error(errno, "statistics"))?,
        })
    }

    /// How many had arrived before, and the round in which this one has; `None` if it was the last to arrive.
    fn arrive(&self) -> SysResult<(u32, Option<u32>)> {
        let found = self.core.change(|word| match word.arrived() + 1 {
            _ if word.is_broken() => None,
            arrived if arrived >= self.parties => Some(word.next(true)),
            arrived => Some(word.with(arrived, false)),
        });
        let found = found.map_err(|_| Errno::EOWNERDEAD)?;
        if found.arrived() + 1 < self.parties {
            return Ok((found.arrived(), Some(found.round())));
        }
        self.core.control.bell.ring_all();
        Ok((self.parties - 1, None))
    }

    fn look(&self, round: u32) -> SysResult<Option<()>> {
        let word = self.core.word();
        if word.round() != round {
            return if word.met_in(round) { Ok(Some(())) } else { Err(Errno::EOWNERDEAD) };
        }
        if word.is_broken() { Err(Errno::EOWNERDEAD) } else { Ok(None) }
    }

    /// Takes an arrival back, unless the round is over.
    fn take_back(&self, round: u32) -> bool {
        let still = |word: Word| word.round() == round && !word.is_broken() && word.arrived() > 0;
        self.core.change(|word| still(word).then(|| word.with(word.arrived() - 1, false))).is_ok()
    }
}

impl Shared {
    fn word(&self) -> Word {
        Word(self.control.word.load(Ordering::SeqCst)) // looked at after announcing sleep
    }

    /// Changes the word as `to` says; what it was, or what it is if there is nothing to change.
    fn change(&self, to: impl Fn(Word) -> Option<Word>) -> std::result::Result<Word, Word> {
        // SeqCst for the bell; whoever goes on has acquired what all released by arriving.
        let changed =
            self.control.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| Some(to(Word(word))?.0));
        changed.map(Word).map_err(Word)
    }

    fn break_off(&self) {
        if self.change(|word| (!word.is_broken()).then(|| word.with(word.arrived(), true))).is_ok() {
            self.control.bell.ring_all();
        }
    }

    /// Takes part from now on.
    fn enter(&self) -> SysResult<()> {
        if self.roster.enter(&self.member, self.member.tag()?)? {
            self.break_off(); // in the place of one who has died
        }
        Ok(())
    }
}

impl Party for Shared {
    fn member(&self) -> &Member {
        &self.member
    }

    fn bell(&self) -> SysResult<&Bell> {
        Ok(&self.control.bell)
    }

    fn tidy(&self) -> SysResult<()> {
        self.roster.tidy(&self.member, || self.break_off());
        Ok(())
    }

    fn over(&self) -> SysResult<Option<(Errno, &'static str)>> {
        Ok(None) // that it is broken is for the attempt to meet
    }

    fn explain(&self, error: Error) -> Error {
        if error.is(Errno::EOWNERDEAD) {
            error.because("it is broken: somebody who had it open died, or broke it or reset it on purpose; reset it")
        } else {
            explained(error)
        }
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        if self.core.member.is_settled()
            && let Ok(me) = self.core.member.tag()
        {
            self.core.roster.leave(me);
        }
    }
}
