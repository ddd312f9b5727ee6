//! Waiting under a mutex until somebody else has changed something.

use std::time::Duration;

use nix::errno::Errno;

use super::core::{Common, Core, Kind, Part, SyncParticipant, explained};
use super::mutex::{Locked, Mutex, MutexGuard};
use super::opening::{opening, options};
use super::roster::{PLACE, Roster};
use crate::address::Address;
use crate::error::{Error, Result};
use crate::segment::{Bell, Member, Party, look_around};
use crate::sync_atomics::{AtomicU64, Ordering};
use crate::sys::shared::Record;
use crate::sys::{SysResult, fork};
use crate::timeout::{Deadline, Timeout};

options! {
    /// How to open or make a condition.
    ConditionOptions {}
}

#[repr(C, align(128))]
pub(crate) struct Control {
    word: AtomicU64,
    bell: Bell,
    /// Notifications so far.
    notified: AtomicU64,
}

const _: () = assert!(size_of::<Control>() == 128);

// SAFETY: atomics only.
#[allow(unsafe_code)]
unsafe impl Record for Control {}

/// `tickets given out (28) | tickets called (28) | tickets given back (8)`; any 64 bits are one.
///
/// Who waits draws a ticket and goes on when it is called. One that is given back is called in passing, so that no
/// notification goes to somebody who is no longer there.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

const TICKETS: u64 = 1 << 28;
const BACK_MAX: u64 = 255;

impl Word {
    fn new(given: u64, called: u64, back: u64) -> Word {
        Word((given % TICKETS) << 36 | (called % TICKETS) << 8 | back)
    }

    fn given(self) -> u64 {
        self.0 >> 36
    }

    fn called(self) -> u64 {
        self.0 >> 8 & (TICKETS - 1)
    }

    fn back(self) -> u64 {
        self.0 & BACK_MAX
    }

    fn waiting(self) -> u64 {
        self.given().wrapping_sub(self.called()) % TICKETS
    }

    /// One more ticket given out, which is that of `given` before.
    fn draw(self) -> Word {
        Word::new(self.given() + 1, self.called(), self.back())
    }

    fn call_one(self) -> Word {
        let called = (1 + self.back()).min(self.waiting());
        // Those given back may all be behind these.
        Word::new(self.given(), self.called() + called, self.back().min(self.waiting() - called))
    }

    fn call_all(self) -> Word {
        Word::new(self.given(), self.given(), 0)
    }

    /// One ticket given back; where too many are, all are called, and whoever still waits looks for itself.
    fn give_back(self) -> Word {
        if self.back() == BACK_MAX { self.call_all() } else { Word::new(self.given(), self.called(), self.back() + 1) }
    }

    fn is_called(self, ticket: u64) -> bool {
        self.called().wrapping_sub(ticket + 1) % TICKETS < TICKETS / 2
    }
}

/// Waiting under a [`Mutex`](crate::Mutex) until somebody else, of any process, has changed what it guards and notifies.
///
/// Named (`condition:changed`), or anonymous and inherited by children or passed as a descriptor. A wait can end without a
/// notification, after somebody died at the latest: look whether what was waited for is so, and else wait again, which
/// [`wait_while`](Condition::wait_while) does.
///
/// ```
/// use wigwag::{Condition, ConditionOptions, Mutex, MutexOptions, Timeout};
/// use std::sync::atomic::{AtomicBool, Ordering};
/// let (mutex, condition) = (Mutex::anonymous(MutexOptions::default())?, Condition::anonymous(ConditionOptions::default())?);
/// let ready = AtomicBool::new(false);
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         let _guard = mutex.lock(Timeout::Forever).unwrap();
///         ready.store(true, Ordering::Relaxed);
///         condition.notify_one().unwrap();
///     });
///     let guard = mutex.lock(Timeout::Forever).unwrap().into_guard();
///     condition.wait_while(guard, Timeout::Forever, |_| !ready.load(Ordering::Relaxed)).unwrap();
/// });
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Condition {
    core: Part<Shared>,
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

opening!(Condition, ConditionOptions, "condition:", "condition");

impl Kind for Condition {
    type Control = Control;
    type Options = ConditionOptions;
    const NUMBER: u32 = 8;

    fn with(options: &mut ConditionOptions, address: &Address) {
        options.with_common(address);
    }

    fn common(options: &ConditionOptions) -> std::result::Result<Common, &'static str> {
        options.common().check()
    }

    fn size(_options: &Self::Options, participants: u32) -> usize {
        size_of::<Control>() + participants.next_power_of_two() as usize * PLACE
    }

    fn fill(_options: &ConditionOptions, _control: &Control) {}

    fn of(core: Core<Control>, options: &ConditionOptions) -> SysResult<Condition> {
        let (segment, (body, length)) = (core.member.segment(), core.member.segment().body());
        if length < Condition::size(options, segment.participants()) {
            return Err(Errno::EBADMSG);
        }
        let roster = Roster::new(segment.memory(), body + size_of::<Control>(), segment.participants())?;
        let core = Part::new(Shared { core, roster });
        look_around(&*core)?;
        Ok(Condition { core })
    }
}

/// How a wait on a condition has ended. The mutex is held again.
#[derive(Debug)]
#[must_use]
pub struct Waited<'a> {
    /// Whether it was notified; else the time has passed.
    pub notified: bool,
    /// The mutex, which may have been taken over from the dead meanwhile.
    pub locked: Locked<MutexGuard<'a>>,
}

/// Who uses a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConditionStatistics {
    /// Notifications so far. Advisory: a death at the wrong moment can leave it short by one.
    pub notified: u64,
    /// Memory in bytes, all of it.
    pub bytes: usize,
    /// Who takes part.
    pub participants: Vec<SyncParticipant>,
}

impl Condition {
    /// Releases the mutex, waits to be notified, and takes the mutex again.
    ///
    /// Taking it again may take as long as the timeout, and at least a second, once more. A recursive mutex is released
    /// whole, and is held as often as before again.
    ///
    /// # Errors
    /// The guard is gone after any of these: `ENOLCK` the mutex could not be had again in time, or, once a cancel in
    /// scope has fired or the mutex's waits were ended, without waiting; `ECANCELED` as everywhere;
    /// `ENOTRECOVERABLE` it was given up for good meanwhile; `EPERM` the guard is that of the process that this one was
    /// forked from; `ESTALE` this handle or the mutex's was declared dead; `EBADMSG` one of them is damaged.
    ///
    /// System calls: futex.
    pub fn wait<'a>(&self, guard: MutexGuard<'a>, timeout: Timeout) -> Result<Waited<'a>> {
        let mutex = guard.mutex().map_err(|errno| self.core.error(errno, "wait"))?;
        let (ended, inherited) = self.wait_taken(mutex, timeout)?;
        let notified = match ended {
            Ok(()) => true,
            Err(error) if error.is(Errno::ETIMEDOUT) || error.is(Errno::EAGAIN) => false,
            Err(error) => return Err(error), // which drops the guard
        };
        Ok(Waited { notified, locked: if inherited { Locked::Inherited(guard) } else { Locked::Clean(guard) } })
    }

    /// As [`Condition::wait`], under a mutex that this thread has taken by [`Mutex::take`] and has again: how the wait has
    /// ended (`EAGAIN`, `ETIMEDOUT`, `ECANCELED`; `EINTR` the interrupt hook said so, be it while the mutex was taken again),
    /// and whether the mutex was taken over from the dead.
    ///
    /// # Errors
    /// The mutex is not held: `ENOLCK`, `ENOTRECOVERABLE`, `ESTALE`, `EBADMSG` as [`Condition::wait`]. Nothing was done:
    /// `EPERM` this thread does not hold the mutex.
    pub fn wait_taken(&self, mutex: &Mutex, timeout: Timeout) -> Result<(Result<()>, bool)> {
        let mut operation = self.core.object.operation("wait", timeout);
        operation.wait(); // before whoever takes the mutex next can know of it
        let fail = |errno| self.core.explain(self.core.object.error(errno, "wait"));
        // Before the mutex is released: whoever notifies after that finds the ticket.
        let ticket = self.core.draw().map_err(fail)?;
        let depth = match mutex.release_whole() {
            Ok(depth) => depth,
            Err(errno) => {
                self.core.give_back(ticket);
                return Err(self.core.lock_error(errno, "wait"));
            }
        };
        let called = || Ok(self.core.word().is_called(ticket).then_some(()));
        let waited = match called() {
            Ok(None) => self.core.patience.wait(&*self.core, &mut operation, called),
            first => first.map(drop).map_err(fail),
        };
        if waited.is_err() && operation.wait().is_parents() {
            return Err(fail(Errno::ENOLCK).because(
                "this process was forked by a signal handler in the middle of the wait; the mutex is not held",
            ));
        }
        let mut ended = match waited {
            Err(_) if !self.core.give_back(ticket) => Ok(()), // called at the last moment
            ended => ended,
        };
        let again = match timeout {
            Timeout::Forever => Timeout::Forever,
            Timeout::Now => Timeout::After(AGAIN),
            Timeout::After(time) => Timeout::After(time.max(AGAIN)),
        };
        let lost = fail(Errno::ENOLCK).because("the mutex could not be had again in time; it is not held");
        let mut interrupted = Some(fail(Errno::EINTR));
        let generation = fork::generation_in_handler();
        // Whoever closes the condition may hold the mutex. From here on nothing of the condition is touched.
        drop(operation);
        let deadline = Deadline::after(again);
        loop {
            let error = match mutex.take_whole(depth, deadline.left_of(again)) {
                Ok(inherited) => return Ok((ended, inherited)),
                Err(error) => error,
            };
            match Errno::from_raw(error.errno()) {
                Errno::ENOTRECOVERABLE | Errno::ESTALE | Errno::EBADMSG => return Err(error),
                // The hook wants the wait to end, which it does with the mutex held. If it asks again, not even that.
                Errno::EINTR if generation == fork::generation_in_handler() && interrupted.is_some() => {
                    ended = interrupted.take().map_or(ended, Err);
                }
                // However it was ended: the caller is to know that the mutex is not held.
                _ => return Err(lost),
            }
        }
    }

    /// Waits as often as `is_so`, which is called with the mutex held; `notified` says whether it is no longer so. The
    /// timeout is for all of it.
    ///
    /// # Errors
    /// As [`Condition::wait`].
    pub fn wait_while<'a>(
        &self,
        guard: MutexGuard<'a>,
        timeout: Timeout,
        mut is_so: impl FnMut(&MutexGuard<'a>) -> bool,
    ) -> Result<Waited<'a>> {
        let started = crate::timeout::now();
        let mut waited = Waited { notified: true, locked: Locked::Clean(guard) };
        loop {
            let inherited = waited.locked.is_inherited();
            let guard = waited.locked.into_guard();
            let still = is_so(&guard);
            let locked = if inherited { Locked::Inherited(guard) } else { Locked::Clean(guard) };
            // Taken over from the dead: that is for the caller to know first.
            if !still || !waited.notified || inherited {
                return Ok(Waited { notified: !still, locked });
            }
            let left = match timeout {
                Timeout::After(time) => time.saturating_sub(crate::timeout::now().saturating_sub(started)).into(),
                other => other,
            };
            waited = self.wait(locked.into_guard(), left)?;
        }
    }

    /// Wakes one of those who wait. Never blocks. With or without the mutex held. After waits that have run out while others
    /// went on, it may wake more than one.
    ///
    /// # Errors
    /// `ESTALE` this handle was declared dead because its lock was closed.
    ///
    /// System call: futex, if somebody waits.
    pub fn notify_one(&self) -> Result<()> {
        self.notify(Word::call_one)
    }

    /// Wakes all who wait. Never blocks. With or without the mutex held.
    ///
    /// # Errors
    /// As [`Condition::notify_one`].
    ///
    /// System call: futex, if somebody waits.
    pub fn notify_all(&self) -> Result<()> {
        self.notify(Word::call_all)
    }

    fn notify(&self, call: impl Fn(Word) -> Word) -> Result<()> {
        self.core.member.tag().map_err(|errno| self.core.error(errno, "notify"))?;
        self.core.control.notified.fetch_add(1, Ordering::Relaxed); // for others to see only
        if self.core.word().waiting() > 0 {
            self.core.change(call);
            self.core.control.bell.ring_all();
        }
        Ok(())
    }

    /// Who waits. Never blocks.
    ///
    /// # Errors
    /// `EBADMSG` it is damaged.
    pub fn statistics(&self) -> Result<ConditionStatistics> {
        let participants = self.core.participants(|_| (0, None));
        Ok(ConditionStatistics {
            notified: self.core.control.notified.load(Ordering::Relaxed),
            bytes: self.core.member.segment().size(),
            participants: participants.map_err(|errno| self.core.error(errno, "statistics"))?,
        })
    }
}

/// What taking the mutex again may take at least.
const AGAIN: Duration = Duration::from_secs(1);

impl Shared {
    fn word(&self) -> Word {
        Word(self.control.word.load(Ordering::SeqCst)) // looked at after announcing sleep
    }

    /// Changes the word; what it was.
    fn change(&self, to: impl Fn(Word) -> Word) -> Word {
        let changed = |word| Some(to(Word(word)).0);
        // SeqCst for the bell. Never fails, as there is always something to change to.
        let (Ok(word) | Err(word)) = self.control.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, changed);
        Word(word)
    }

    fn draw(&self) -> SysResult<u64> {
        if self.roster.enter(&self.member, self.member.tag()?)? {
            self.call_all(); // in the place of one who has died
        }
        Ok(self.change(Word::draw).given())
    }

    /// Gives back a ticket that was not called; false if it was.
    fn give_back(&self, ticket: u64) -> bool {
        let given = |word| (!Word(word).is_called(ticket)).then(|| Word(word).give_back().0);
        match self.control.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, given) {
            Err(_) => false,
            Ok(word) => {
                if Word(word).back() == BACK_MAX {
                    self.control.bell.ring_all();
                }
                true
            }
        }
    }

    fn call_all(&self) {
        self.change(Word::call_all);
        self.control.bell.ring_all();
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
        // The dead may have had tickets, which nobody gives back; so all look for themselves.
        self.roster.tidy(&self.member, || self.call_all());
        Ok(())
    }

    fn over(&self) -> SysResult<Option<(Errno, &'static str)>> {
        Ok(None)
    }

    fn explain(&self, error: Error) -> Error {
        explained(error)
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        if self.core.member.is_settled()
            && let Ok(me) = self.core.member.tag()
        {
            self.core.roster.leave(me);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_called_in_their_order() {
        let first = Word::new(TICKETS - 1, TICKETS - 1, 0);
        let (one, two) = (first.given(), first.draw().given());
        let word = first.draw().draw();
        assert_eq!((one, two, word.waiting()), (TICKETS - 1, 0, 2));
        assert!(!word.is_called(one) && !word.is_called(two));
        let called = word.call_one();
        assert!(called.is_called(one) && !called.is_called(two) && called.waiting() == 1);
        assert!(called.call_one().is_called(two) && called.call_one().call_one().waiting() == 0);
        // One that is given back does not take the call of another.
        assert!(word.give_back().call_one().is_called(two));
        // Wherever it stands: the last of three is given back, and the next call after the two that live is not lost on it.
        let (word, four) = (word.draw().give_back().call_one(), word.draw().given());
        assert!(word.is_called(two) && word.draw().call_one().is_called(four));
        let word = first.draw().draw();
        assert!((0..=BACK_MAX).fold(word, |word, _| word.give_back()).is_called(two));
    }
}
