//! Who is the writer, and for how long.

use std::cell::Cell;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::gettid;

use super::record::mark;
use super::writer::{Step, Writer};
use super::{Base, Shared};
use crate::error::{Error, Result};
use crate::segment::{Bell, Member, Party};
use crate::sync::core::explained;
use crate::sync_atomics::Ordering;
use crate::sys::{SysResult, fork};
use crate::timeout::{Deadline, Timeout};
use crate::wait::Operation;

/// What the writer's thread needs of stack, generously.
pub(super) const STACK: usize = 512 << 10;
/// After trouble with the file it is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(100);
/// In trouble with the log itself: it may be damaged, and better be left alone.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Who drains looks again whether there is a writer still.
const WRITER_THERE: Duration = Duration::from_millis(100);
/// Who drains waits so long for room to say so.
const NAP: Duration = Duration::from_millis(1);

thread_local! {
    static OWN: Cell<(u32, u32, u32)> = const { Cell::new((0, 0, 0)) };
}

/// Process and thread.
#[inline]
pub(super) fn own_ids() -> (u32, u32) {
    let (generation, pid, tid) = OWN.get();
    if tid != 0 && generation == fork::generation_in_handler() {
        return (pid, tid);
    }
    let (pid, tid) = (std::process::id(), gettid().as_raw().cast_unsigned());
    OWN.set((fork::generation(), pid, tid));
    (pid, tid)
}

impl Shared {
    /// What the thread of a handle does: waits to be the writer, is it, and when the handle is closed leaves nothing behind
    /// that nobody else would write.
    pub(super) fn stand_for_election(&self) {
        while !self.ending.is_fired() {
            let scope = self.ending.enter();
            let served = self.serve(Timeout::Forever);
            drop(scope);
            if served.is_err() {
                self.sleep(LOOK_AGAIN);
            }
        }
        // Trouble with the file stays in the statistics, and the records in memory.
        // What others log meanwhile is theirs to write. One step at least: not all that is to be written is a message.
        let most = self.carrier.load(&self.base).map_or(u64::MAX, |load| load.messages);
        let _ = self.write_what_is_there(Timeout::Forever, |dealt| dealt > 0 && dealt >= most);
    }

    /// Sleeps, unless the handle is closed meanwhile.
    fn sleep(&self, duration: Duration) {
        const PIECE: Duration = Duration::from_millis(10);
        let end = Deadline::after(duration.into());
        while !end.has_passed() && !self.ending.is_fired() {
            std::thread::sleep(PIECE.min(duration));
        }
    }

    pub(super) fn serve(&self, timeout: Timeout) -> Result<u64> {
        let mut operation = self.base.core.object.operation("serve", timeout);
        let locked = match self.lock.lock(timeout) {
            Err(error) if error.is(Errno::ETIMEDOUT) || error.is(Errno::EAGAIN) => return Ok(0),
            locked => locked?,
        };
        let inherited = locked.is_inherited();
        let guard = locked.into_guard();
        let Some(mut writer) = Writer::new(self, inherited, operation.left())? else { return Ok(0) };
        if inherited {
            guard.consistent()?; // the journal says all that there is to know
        }
        let mut dealt = 0;
        let served = self.keep_writing(&mut writer, &mut operation, &mut dealt);
        // A failure is for the next writer to meet.
        let _ = writer.sync();
        served.map(|()| dealt)
    }

    fn keep_writing(&self, writer: &mut Writer<'_>, operation: &mut Operation<'_>, dealt: &mut u64) -> Result<()> {
        loop {
            match writer.step() {
                Ok(Step::Some(messages)) => *dealt += messages as u64,
                Ok(Step::Nothing) => writer.pause(operation.left())?,
                Err(error) if self.is_of_the_file(&error) => self.sleep(TRY_AGAIN),
                Err(error) => return Err(error),
            }
            // A cancel and the deadline end it between two steps.
            match operation.wait().check() {
                Ok(()) => {}
                Err(Errno::ETIMEDOUT | Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(operation.error(errno)),
            }
        }
    }

    fn is_of_the_file(&self, error: &Error) -> bool {
        error.operation() == "write" && !error.is(Errno::ESTALE)
    }

    /// Writes what there is, or `enough` of it, which is told how many messages were dealt with, if nobody else is the writer
    /// and the last one's messages come back in time; whether it was done.
    fn write_what_is_there(&self, timeout: Timeout, enough: impl Fn(u64) -> bool) -> Result<bool> {
        let locked = match self.lock.lock(Timeout::Now) {
            Err(error) if error.is(Errno::EAGAIN) => {
                self.lock.look_for_dead()?;
                return Ok(false);
            }
            locked => locked?,
        };
        let inherited = locked.is_inherited();
        let guard = locked.into_guard();
        let Some(mut writer) = Writer::new(self, inherited, timeout)? else { return Ok(false) };
        if inherited {
            guard.consistent()?;
        }
        let mut dealt = 0;
        while !enough(dealt)
            && let Step::Some(more) = writer.step()?
        {
            dealt += more as u64;
        }
        writer.sync().map_err(|errno| self.in_trouble(errno))?;
        Ok(true)
    }

    pub(super) fn drain(&self, timeout: Timeout) -> Result<()> {
        let deadline = Deadline::after(timeout);
        let mut operation = self.base.core.object.operation("drain", timeout);
        let _turn = self.drains.take(&mut operation)?;
        let core = &self.base.core;
        let tag = core.member.tag().map_err(|errno| core.error(errno, "drain"))?;
        let place = tag.index();
        let answer = self.next_identity();
        let mark = mark(place, answer, core.control.line.dropped.load(Ordering::Relaxed));
        let failures = core.control.progress.failures.load(Ordering::Relaxed);
        // There may be no room for the mark, and nobody to make some; what there is, others may take.
        let mut so_far = Ok(());
        loop {
            match self.carrier.send_mark(&self.base, &mark) {
                Ok(()) => break,
                Err(error) if error.is(Errno::EAGAIN) => so_far.map_err(|errno| operation.error(errno))?,
                Err(error) => return Err(error),
            }
            let written = self.write_what_is_there(operation.left(), |dealt| dealt > 0)?;
            so_far = operation.wait().check().map_err(|errno| match timeout {
                Timeout::Now if errno == Errno::ETIMEDOUT => Errno::EAGAIN,
                _ => errno,
            });
            if !written && so_far.is_ok() {
                self.trouble(failures)?;
                std::thread::sleep(NAP);
            }
        }
        let attempt = || -> SysResult<Option<Result<()>>> {
            // SeqCst pairs with the store of the writer's answer, see `Bell`.
            let answered =
                || core.control.answers.get(place as usize).is_none_or(|word| word.load(Ordering::SeqCst) == answer);
            if answered() {
                return Ok(Some(Ok(())));
            }
            // Others may go on logging: not to the end of what there is. Who only tries has no more to write than was there
            // before the mark.
            let enough = |_| answered() || (timeout != Timeout::Now && deadline.has_passed());
            match self.write_what_is_there(deadline.left_of(timeout), enough) {
                Err(error) => return Ok(Some(Err(error))),
                Ok(true) if answered() => return Ok(Some(Ok(()))),
                Ok(_) => {}
            }
            Ok(self.trouble(failures).err().map(Err))
        };
        let first = attempt().map_err(|errno| core.error(errno, "drain"))?;
        match first {
            Some(done) => done,
            None => core.patience.wait(&Draining(&self.base), &mut operation, attempt)?,
        }
    }

    /// An error if the writer cannot write at present, and has found that out since there were so many failures.
    fn trouble(&self, failures: u64) -> Result<()> {
        let progress = &self.base.core.control.progress;
        match progress.trouble.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ if progress.failures.load(Ordering::Relaxed) == failures => Ok(()),
            errno => Err(self.in_trouble(Errno::from_raw(errno.cast_signed()))),
        }
    }
}

/// Waits for an answer of the writer.
struct Draining<'a>(&'a Base);

impl Party for Draining<'_> {
    fn member(&self) -> &Member {
        &self.0.core.member
    }

    fn bell(&self) -> SysResult<&Bell> {
        Ok(&self.0.core.control.progress.answered)
    }

    fn tidy(&self) -> SysResult<()> {
        Ok(())
    }

    fn over(&self) -> SysResult<Option<(Errno, &'static str)>> {
        Ok(None)
    }

    fn explain(&self, error: Error) -> Error {
        explained(error)
    }

    fn look_again(&self) -> Option<Duration> {
        Some(WRITER_THERE)
    }
}
