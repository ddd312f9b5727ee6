//! How calls on segments wait: look, spin a little if that is worth it, announce it and sleep; and look around for the
//! dead in between.
//!
//! Spinning pays while the wait is likely to be over before a sleeper could have been woken (Karlin et al., "Empirical
//! studies of competitive spinning", 1991). What a wake-up takes is learnt from those that happen (`Bell::learn`), and
//! how long the waits of a handle are, from its last ones. Two who both sleep would never find out that either is quick,
//! so now and then a wait spins for longer, as a trial: for as long as the other takes to wake up and to answer.

use std::time::Duration;

use nix::errno::Errno;

use super::bell::{Bell, nanos};
use super::member::{ASK_EVERY, Member};
use crate::error::{Error, Result};
use crate::sync_atomics::{AtomicU32, AtomicU64, Ordering};
use crate::sys::{SysResult, processors};
use crate::timeout::{Timeout, now};
use crate::wait::Operation;

/// How a handle's calls wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitMode {
    /// Look again and again for about as long as a wake-up takes on this machine, if waits have been that short lately,
    /// then sleep.
    #[default]
    Adaptive,
    /// Sleep at once.
    Block,
    /// Never sleep: look again and again until the timeout. For threads that have a processor to themselves.
    Poll,
}

/// A polling caller looks for the dead once in so many vain tries, and a spinning one at the clock.
const VAIN_TRIES: u32 = 64;
/// A polling wait looks for the dead once in so many rounds of vain tries.
const ROUNDS: u32 = 256;
/// A polling wait asks the interrupt hook this often: no signal interrupts who never sleeps.
const ASK_HOOK: Duration = Duration::from_millis(50);
/// So many tries come before the first pause, as a pause may take as long as a message.
const HASTY_TRIES: u32 = 16;
/// A handle that does not spin tries whether that would pay once in so many waits.
const TRIAL: u32 = 64;
/// A handle looks again how many processors it has after so many sleeps.
const LOOK_WHETHER_BOUND: u32 = 32;
/// A sleeper whose look may have come too early looks again after this.
const SETTLED: Duration = Duration::from_millis(1);

/// What a wake-up takes, in nanoseconds, as far as this process has learnt it.
static WAKE_UP: AtomicU64 = AtomicU64::new(20_000);
/// Whatever the clock says: spinning shorter is in vain, and spinning longer is not bounded enough.
const WAKE_UP_RANGE: (u64, u64) = (2_000, 200_000);
/// Waits that are longer count as one of this length, so that they are soon forgotten.
const LONGEST_USUAL: u64 = 8 * WAKE_UP_RANGE.1;

pub(super) fn learn_wake_up(taken: Duration) {
    let taken = nanos(taken).clamp(WAKE_UP_RANGE.0, WAKE_UP_RANGE.1);
    let known = WAKE_UP.load(Ordering::Relaxed);
    WAKE_UP.store(known - known / 8 + taken / 8, Ordering::Relaxed); // a hint: a lost sample is no harm
}

/// One side of an object in a segment, as far as a wait has to know it.
pub(crate) trait Party {
    fn member(&self) -> &Member;

    /// What rings when it may be worth looking again.
    fn bell(&self) -> SysResult<&Bell>;

    /// Takes from those who are dead what they held.
    fn tidy(&self) -> SysResult<()>;

    /// Why nothing can come any more, if that is so. What has come before is still looked for.
    fn over(&self) -> SysResult<Option<(Errno, &'static str)>>;

    /// Adds what the caller can do about an error.
    fn explain(&self, error: Error) -> Error;

    /// Wakes another if a sleeper leaves something to find, for bells that are rung once for several things; `in_vain` if it
    /// leaves without having announced itself since it was called.
    fn pass_on(&self, _in_vain: bool) {}

    /// Wakes all others, for bells that are rung once for what is there for all of them: the caller has taken down that somebody
    /// was called.
    fn relay(&self) {}

    /// Whether its bell rings when somebody joins, whose death may matter: else who sleeps has to ask now and then.
    fn is_told_who_joins(&self) -> bool {
        false
    }

    /// A last word before the caller sleeps.
    fn before_sleep(&self) {}

    /// Makes up for what those who ring leave out between making something and looking at the bell; false if that cannot
    /// be done for certain, and a second look a moment later is needed.
    fn settle(&self) -> bool {
        true
    }

    /// Whether a vain look takes long, so that the clock has to be looked at after each.
    fn looks_long(&self) -> bool {
        false
    }

    /// How soon a sleeper looks again for what no bell tells, if for anything but the dead.
    fn look_again(&self) -> Option<Duration> {
        None
    }
}

/// How the calls of one handle wait, and what they have learnt.
#[derive(Debug)]
pub(crate) struct Patience {
    mode: WaitMode,
    vain: AtomicU32,
    /// Nanoseconds that waits have taken lately.
    usual: AtomicU64,
    /// Waits that came to sleep. Relaxed, as all here: hints.
    sleeps: AtomicU32,
    /// Whether a thread of this handle was bound to one processor when it last looked: the other may be bound to the same, and then
    /// spinning keeps it from running.
    bound: AtomicU32,
}

/// How a wait begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Sleep,
    Spin(Duration),
    /// Spins to find out whether that pays.
    Trial(Duration),
}

impl Patience {
    pub(crate) fn new(mode: WaitMode) -> Patience {
        let patience = Patience {
            mode,
            vain: AtomicU32::new(0),
            usual: AtomicU64::new(0),
            sleeps: AtomicU32::new(0),
            bound: AtomicU32::new(0),
        };
        patience.look_whether_bound();
        patience
    }

    /// Whether a wait would begin with looking again and again, so that a caller who can look faster than by a whole attempt
    /// may do so a few times before.
    #[inline]
    pub(crate) fn begins_spinning(&self, timeout: Timeout) -> bool {
        timeout != Timeout::Now
            && match self.mode {
                WaitMode::Block => false,
                WaitMode::Poll => true,
                WaitMode::Adaptive => self.spinning_pays(),
            }
    }

    fn spinning_pays(&self) -> bool {
        self.usual.load(Ordering::Relaxed) <= 2 * WAKE_UP.load(Ordering::Relaxed)
    }

    fn is_bound(&self) -> bool {
        self.bound.load(Ordering::Relaxed) != 0
    }

    fn start(&self) -> Start {
        let wake_up = Duration::from_nanos(WAKE_UP.load(Ordering::Relaxed));
        match self.mode {
            WaitMode::Block => Start::Sleep,
            WaitMode::Poll => Start::Spin(Duration::MAX),
            // A bound one spins only if a trial has found an answer within this time.
            WaitMode::Adaptive if self.spinning_pays() => {
                Start::Spin(if self.is_bound() { 2 * wake_up } else { wake_up })
            }
            WaitMode::Adaptive if self.is_bound() && processors::online() == 1 => Start::Sleep,
            WaitMode::Adaptive if self.sleeps.load(Ordering::Relaxed) % TRIAL == TRIAL - 1 => Start::Trial(2 * wake_up),
            WaitMode::Adaptive => Start::Sleep,
        }
    }

    /// Repeats `attempt`, which has just given nothing, until it gives something or the wait has to end.
    #[cold]
    #[inline(never)]
    pub(crate) fn wait<T>(
        &self,
        party: &impl Party,
        operation: &mut Operation<'_>,
        mut attempt: impl FnMut() -> SysResult<Option<T>>,
    ) -> Result<T> {
        let mut attempt = |operation: &Operation<'_>| attempt().map_err(|errno| party.explain(operation.error(errno)));
        if operation.timeout() == Timeout::Now {
            return self.try_in_vain(party, operation, &mut attempt);
        }
        let start = self.start();
        if start != Start::Sleep {
            for tried in 0..vain_tries(party) {
                if tried > HASTY_TRIES {
                    std::hint::spin_loop();
                }
                if let Some(value) = attempt(operation)? {
                    if let Start::Trial(_) = start {
                        self.learn_from(Duration::ZERO);
                    }
                    return Ok(value);
                }
            }
        }
        let started = (self.mode != WaitMode::Block).then(now);
        if let (Some(started), Start::Spin(budget) | Start::Trial(budget)) = (started, start) {
            if let Some(value) = self.spin(party, operation, &mut attempt, started, budget)? {
                let taken = now().saturating_sub(started);
                if let Start::Trial(_) = start {
                    self.learn_from(taken)
                } else {
                    self.learn(taken)
                }
                return Ok(value);
            }
            if self.is_bound() {
                self.usual.store(LONGEST_USUAL, Ordering::Relaxed);
            }
        }
        let value = self.sleep(party, operation, &mut attempt)?;
        if let Some(started) = started {
            self.note_sleep(now().saturating_sub(started));
        }
        Ok(value)
    }

    /// A caller that polls: now and then it also looks around.
    fn try_in_vain<T>(
        &self,
        party: &impl Party,
        operation: &Operation<'_>,
        attempt: &mut impl FnMut(&Operation<'_>) -> Result<Option<T>>,
    ) -> Result<T> {
        let vain = self.vain.load(Ordering::Relaxed).wrapping_add(1);
        self.vain.store(vain, Ordering::Relaxed); // a hint: a lost count delays a look, no more
        if vain % VAIN_TRIES == 1 {
            let over = look_around(party).map_err(|errno| party.explain(operation.error(errno)))?;
            if let Some(value) = attempt(operation)? {
                return Ok(value);
            }
            end_if(over, operation)?;
        }
        Err(operation.error(Errno::EAGAIN))
    }

    fn spin<T>(
        &self,
        party: &impl Party,
        operation: &mut Operation<'_>,
        attempt: &mut impl FnMut(&Operation<'_>) -> Result<Option<T>>,
        started: Duration,
        budget: Duration,
    ) -> Result<Option<T>> {
        let mut round = 0u32;
        loop {
            for _ in 0..vain_tries(party) {
                std::hint::spin_loop();
                if let Some(value) = attempt(operation)? {
                    return Ok(Some(value));
                }
            }
            operation.wait().check().map_err(|errno| operation.error(errno))?;
            if now().saturating_sub(started) >= budget {
                break;
            }
            round = round.wrapping_add(1);
            if self.mode == WaitMode::Poll && round.is_multiple_of(ROUNDS) {
                let over = look_around(party).map_err(|errno| party.explain(operation.error(errno)))?;
                if let Some(value) = attempt(operation)? {
                    return Ok(Some(value));
                }
                end_if(over, operation)?;
                operation.wait().ask_hook_if_due(ASK_HOOK).map_err(|errno| operation.error(errno))?;
                go_on_if_ours(operation)?;
            }
        }
        Ok(None)
    }

    fn sleep<T>(
        &self,
        party: &impl Party,
        operation: &mut Operation<'_>,
        attempt: &mut impl FnMut(&Operation<'_>) -> Result<Option<T>>,
    ) -> Result<T> {
        let fail = |operation: &Operation<'_>, errno| party.explain(operation.error(errno));
        operation.wait(); // before the statistics tell of it, for whoever closes the object then waits for this call
        let _seen_waiting = party.member().waiting().map_err(|errno| fail(operation, errno))?;
        let mut slept = false;
        let result = self.sleep_until(party, operation, attempt, &mut slept);
        // In a child that was made meanwhile it is the parent that waits, here and wherever something is taken back.
        if slept && !operation.wait().is_parents() {
            party.pass_on(result.is_err());
        }
        result
    }

    fn sleep_until<T>(
        &self,
        party: &impl Party,
        operation: &mut Operation<'_>,
        attempt: &mut impl FnMut(&Operation<'_>) -> Result<Option<T>>,
        slept: &mut bool,
    ) -> Result<T> {
        let fail = |operation: &Operation<'_>, errno| party.explain(operation.error(errno));
        let mut certain = false;
        for _ in 0..u32::MAX {
            look_around(party).map_err(|errno| fail(operation, errno))?;
            let bell = party.bell().map_err(|errno| fail(operation, errno))?;
            let (announced, was_called) = bell.announce_and_tell();
            if was_called {
                party.relay();
            }
            certain |= party.settle();
            // All that follows is looked at after the announcement: who changes it from now on rings. First whether the
            // others have gone, then for what they may have left.
            let over = over_for_good(party).map_err(|errno| fail(operation, errno))?;
            if let Some(value) = attempt(operation)? {
                return Ok(value);
            }
            end_if(over, operation)?;
            // Somebody's death can end this wait only if there is somebody.
            let asks =
                !party.is_told_who_joins() || party.member().has_company().map_err(|errno| fail(operation, errno))?;
            let most = if certain { party.look_again().or(asks.then_some(ASK_EVERY)) } else { Some(SETTLED) };
            certain = true;
            party.before_sleep();
            let before = bell.before_sleep();
            *slept = true;
            let woken = operation.wait().futex(bell.word(), announced, most).map_err(|errno| operation.error(errno))?;
            go_on_if_ours(operation)?;
            if woken {
                bell.learn(before);
            }
        }
        Err(operation.error(Errno::EINTR)) // four thousand million times asleep, in vain
    }

    fn learn(&self, taken: Duration) {
        let taken = nanos(taken).min(LONGEST_USUAL);
        let known = self.usual.load(Ordering::Relaxed);
        self.usual.store(known - known / 4 + taken / 4, Ordering::Relaxed); // a hint
    }

    /// From a trial, which is too rare to be averaged.
    fn learn_from(&self, taken: Duration) {
        self.usual.store(nanos(taken).min(LONGEST_USUAL), Ordering::Relaxed);
    }

    fn note_sleep(&self, taken: Duration) {
        // Two who are bound to the same processor sleep shorter than they would spin.
        if !self.is_bound() {
            self.learn(taken);
        }
        if self.sleeps.fetch_add(1, Ordering::Relaxed) % LOOK_WHETHER_BOUND == LOOK_WHETHER_BOUND - 1 {
            self.look_whether_bound();
        }
    }

    /// Now and then, as it takes a system call.
    fn look_whether_bound(&self) {
        let bound = processors::available() == 1;
        if bound && !self.is_bound() {
            self.usual.store(LONGEST_USUAL, Ordering::Relaxed); // spinning has to prove itself first
        }
        self.bound.store(bound.into(), Ordering::Relaxed);
    }
}

fn vain_tries(party: &impl Party) -> u32 {
    if party.looks_long() { 1 } else { VAIN_TRIES }
}

/// Asks for the dead, if that is due, and takes from them what they held; why nothing can come any more, if that is so.
pub(crate) fn look_around(party: &impl Party) -> SysResult<Option<(Errno, &'static str)>> {
    let member = party.member();
    if member.ask_if_due()? || member.has_dead()? {
        member.bury(|| party.tidy())?;
    }
    over_for_good(party)
}

/// Why nothing can come any more; what the dead held is back by then: they may have been found by others since it was looked.
fn over_for_good(party: &impl Party) -> SysResult<Option<(Errno, &'static str)>> {
    let over = party.over()?;
    if over.is_some() && party.member().has_dead()? {
        party.member().bury(|| party.tidy())?;
    }
    Ok(over)
}

/// Fails in a child that a signal's handler has made in the middle of the wait.
fn go_on_if_ours(operation: &mut Operation<'_>) -> Result<()> {
    if !operation.wait().is_parents() {
        return Ok(());
    }
    Err(operation.error(Errno::EINTR).because(
        "this process was forked by a signal handler in the middle of the call, which is the parent's; call again",
    ))
}

fn end_if(over: Option<(Errno, &'static str)>, operation: &Operation<'_>) -> Result<()> {
    match over {
        None => Ok(()),
        Some((errno, reason)) => Err(operation.error(errno).because(reason)),
    }
}
