//! What the one writer does: take records from what carries them, put them into a journal, and the journal into the file.

use std::collections::VecDeque;
use std::time::Duration;

use nix::errno::Errno;

use super::carrier::Carried;
use super::format::Formatter;
use super::journal::{Spot, Sums};
use super::options::LogSync;
use super::packing::Packing;
use super::place::{Place, moved_away, set_aside, written_at};
use super::record::{Arrived, HEADER, MARK};
use super::{BLOCK_BITS, Shared};
use crate::error::{Error, Result};
use crate::sync_atomics::{AtomicU64, Ordering};
use crate::sys::SysResult;
use crate::timeout::{Deadline, Timeout, now, wall_clock};
use crate::wait::scope::any_raised;

/// So long a file may be locked by a writer that is just dying.
const LOCKED_FOR: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// A rotation or a compression that failed is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// A writer that has found nothing naps so often before it sleeps until it is woken: those who log while it naps need not
/// wake it, which is a system call for each.
const NAPS: u32 = 4;
const NAP: Duration = Duration::from_millis(1);
const WHILE_PACKING: Duration = Duration::from_millis(100);

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many messages were dealt with.
    Some(usize),
    /// There are none.
    Nothing,
}

/// By which messages that came back are put in order: marks last, for what was before them may be among the rest.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    is_mark: bool,
    time: u64,
    identity: u64,
}

impl Key {
    fn of(message: &Carried<'_>) -> Key {
        let mut header = [0; HEADER];
        message.read(0, &mut header);
        let number = |from: usize| u64::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|at| header[from + at]));
        Key { is_mark: header[51] == MARK, time: number(8), identity: number(0) }
    }
}

/// Puts what came back in order.
fn put_in_order<T>(returned: &mut [(Key, T)]) {
    returned.sort_by_key(|(key, _)| key.identity);
    let mut last = Key::default();
    for (key, _) in &mut *returned {
        // The order of one producer stands, whatever its clock says. A mark has no identity, and for its time a number that
        // grows with each of one handle: an older one must not be answered after a newer.
        let same = !key.is_mark && key.identity >> BLOCK_BITS == last.identity >> BLOCK_BITS;
        key.time = if same { key.time.max(last.time) } else { key.time };
        last = *key;
    }
    returned.sort_by_key(|(key, _)| *key);
}

/// Asks for an answer.
struct Mark<'a> {
    place: u32,
    answer: u64,
    message: Carried<'a>,
}

/// The writer's part, of whoever holds the lock of the log. Dropped before the lock is released.
pub(super) struct Writer<'a> {
    shared: &'a Shared,
    /// Taken and not yet in a journal.
    waiting: VecDeque<Carried<'a>>,
    /// Whether there may be more than is in the hand.
    more: bool,
    place: Option<Place>,
    /// The journal in force is this writer's own, and nothing has gone wrong since.
    own: bool,
    formatter: Formatter,
    bytes: Vec<u8>,
    scratch: Vec<u8>,
    reopen: u32,
    /// Since when something written is not on the disk.
    unsynced: Option<Duration>,
    trouble: Option<(Errno, Duration)>,
    rotate_from: Duration,
    pack_from: Duration,
    packing: Option<Packing>,
    /// Whether there may be a file to compress.
    to_pack: bool,
    inherited: bool,
    vain: u32,
    /// Until when a file may be waited for.
    end: Deadline,
}

impl<'a> Writer<'a> {
    /// Takes over from whoever was the writer before; not if that one's messages do not come back in time. `inherited`: it
    /// died.
    pub fn new(shared: &'a Shared, inherited: bool, timeout: Timeout) -> Result<Option<Writer<'a>>> {
        let progress = &shared.base.core.control.progress;
        // A dead writer's messages come back to the ring one way, its lock another: what has not come back yet would be
        // unknown as soon as the next journal is in force. Only a writer takes messages, so it is over soon.
        let (end, end_of_handle) = (Deadline::after(timeout), Deadline::after(LOCKED_FOR.into()));
        while shared.carrier.others_hold()? > 0 {
            if end.has_passed() || (shared.ending.is_fired() && end_of_handle.has_passed()) {
                return Ok(None);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        if inherited {
            progress.taken_over.fetch_add(1, Ordering::Relaxed);
        }
        let trouble = Some(progress.trouble.load(Ordering::Relaxed)).filter(|errno| *errno != 0);
        let trouble = trouble.map(|errno| Errno::from_raw(errno.cast_signed()));
        Ok(Some(Writer {
            shared,
            waiting: VecDeque::new(),
            more: true,
            place: None,
            own: false,
            formatter: Formatter::new(shared.base.made.format),
            bytes: Vec::new(),
            scratch: vec![0; shared.base.made.largest as usize],
            reopen: shared.base.core.control.line.reopen.load(Ordering::Relaxed),
            // A writer that died may have left some.
            unsynced: inherited.then(now),
            trouble: trouble.map(|errno| (errno, now())),
            rotate_from: Duration::ZERO,
            pack_from: Duration::ZERO,
            packing: None,
            to_pack: true, // what the one before has left
            inherited,
            vain: 0,
            end,
        }))
    }

    /// Deals with what there is, up to one journal full.
    pub fn step(&mut self) -> Result<Step> {
        match self.try_step() {
            Ok(step) => {
                if step != Step::Nothing {
                    self.vain = 0;
                }
                Ok(step)
            }
            Err(Failure::File(errno)) => Err(self.failed(errno)),
            Err(Failure::Log(error)) => Err(error),
        }
    }

    /// Waits until there may be something to do, or the timeout or the calling thread's cancel ends it.
    pub fn pause(&mut self, timeout: Timeout) -> Result<()> {
        if timeout == Timeout::Now {
            return Ok(());
        }
        self.vain += 1;
        if self.vain <= NAPS && timeout == Timeout::Forever {
            std::thread::sleep(NAP);
            return Ok(());
        }
        let due = self.sync_due().map(|at| at.saturating_sub(now()));
        let packing = self.packing.is_some().then_some(WHILE_PACKING);
        let asked = if let Timeout::After(most) = timeout { Some(most) } else { None };
        let most = [due, packing, asked].into_iter().flatten().min();
        match self.shared.carrier.borrow(&self.shared.base, Timeout::from(most)) {
            Ok(message) => self.take(message),
            Err(error) if error.is(Errno::ETIMEDOUT) || error.is(Errno::EAGAIN) || error.is(Errno::ECANCELED) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Notes that the file cannot be written at present.
    fn failed(&mut self, errno: Errno) -> Error {
        let progress = &self.shared.base.core.control.progress;
        progress.failures.fetch_add(1, Ordering::Relaxed);
        progress.trouble.store(errno as u32, Ordering::Relaxed);
        progress.answered.ring_all();
        self.own = false;
        let since = self.trouble.map_or_else(now, |(_, since)| since);
        self.trouble = Some((errno, since));
        self.shared.in_trouble(errno)
    }

    fn try_step(&mut self) -> Outcome<Step> {
        self.finish()?;
        self.gather().map_err(Failure::Log)?;
        self.sync_if_due()?;
        if now() >= self.pack_from
            && let Err(_errno) = self.pack()
        {
            // Not worth holding up the log.
            self.shared.base.core.control.progress.failures.fetch_add(1, Ordering::Relaxed);
            self.pack_from = now() + TRY_AGAIN;
        }
        let (line, told) = (&self.shared.base.core.control.line, self.shared.base.sums().told);
        let silent = self.waiting.is_empty() && line.dropped.load(Ordering::Relaxed) == told;
        let asked = line.reopen.load(Ordering::Relaxed);
        if silent && self.reopen == asked && self.trouble.is_none() {
            return Ok(Step::Nothing);
        }
        if self.reopen != asked {
            self.sync()?;
            self.reopen = asked;
            self.place = None;
        }
        self.settle()?;
        let (marks, dealt) = self.fill()?;
        self.finish()?;
        if self.trouble.take().is_some() {
            self.shared.base.core.control.progress.trouble.store(0, Ordering::Relaxed);
        }
        self.answer(marks).map_err(Failure::Log)?;
        Ok(if dealt == 0 { Step::Nothing } else { Step::Some(dealt) })
    }

    /// Takes what there is, as much as there is room for in the hand.
    fn gather(&mut self) -> Result<()> {
        if !self.shared.lock.is_mine() {
            return Err(self.shared.base.core.error(Errno::ESTALE, "write")); // what comes now is another's
        }
        self.more = true;
        while self.waiting.len() < self.shared.carrier.most() {
            match self.shared.carrier.borrow(&self.shared.base, Timeout::Now) {
                Ok(message) => self.take(message)?,
                Err(error) if error.is(Errno::EAGAIN) => {
                    self.more = false;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        // What a dead writer had comes back first, and from a ring in any order.
        let back = self.waiting.iter().take_while(|message| message.is_redelivered()).count();
        if back > 1 && !self.shared.carrier.keeps_order() {
            let mut returned: Vec<_> = self.waiting.drain(..back).map(|message| (Key::of(&message), message)).collect();
            put_in_order(&mut returned);
            for (_, message) in returned.into_iter().rev() {
                self.waiting.push_front(message);
            }
        }
        Ok(())
    }

    /// Takes a message into the hand, unless its record is in the journal in force: then its writer died before it could
    /// release it.
    fn take(&mut self, message: Carried<'a>) -> Result<()> {
        if message.is_redelivered() {
            let key = Key::of(&message);
            if !key.is_mark && self.shared.base.identities().contains(&key.identity) {
                return message.release();
            }
        }
        self.waiting.push_back(message);
        Ok(())
    }

    /// Makes sure that the file is open, is the one that its name stands for, and ends where it should.
    fn settle(&mut self) -> SysResult<()> {
        let made = &self.shared.base.made;
        let progress = &self.shared.base.core.control.progress;
        if self.place.as_ref().is_some_and(|place| !place.is_named(&made.file)) {
            progress.disturbed.fetch_add(1, Ordering::Relaxed);
            self.sync()?;
            self.place = None;
        }
        self.open()?;
        if let Some(place) = &mut self.place {
            let size = place.size()?;
            if size != place.end {
                progress.disturbed.fetch_add(1, Ordering::Relaxed);
                place.end = size;
            }
        }
        let period = wall_clock() / 1_000_000_000;
        if let Some(period) = period.checked_div(made.rotate_every.as_secs()) {
            // Relaxed: the writer's own.
            let file = progress.period.load(Ordering::Relaxed);
            let due = file != period && self.place.as_ref().is_some_and(|place| place.end > 0);
            if !due || self.rotate()? {
                progress.period.store(period, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn open(&mut self) -> SysResult<&mut Place> {
        let made = &self.shared.base.made;
        let mut place = match self.place.take() {
            Some(place) => place,
            None => self.while_locked(|| Place::open(&made.file, made.mode))?,
        };
        place.unnamed |= std::mem::take(&mut self.inherited); // who made it may have died before it could see to that
        let every = made.rotate_every.as_secs();
        let period = &self.shared.base.core.control.progress.period;
        if every > 0 && period.load(Ordering::Relaxed) == 0 {
            period.store(written_at(&made.file) / every, Ordering::Relaxed);
        }
        Ok(self.place.insert(place))
    }

    /// Tries again for a while if a writer that is just dying has the file.
    fn while_locked<T>(&self, attempt: impl Fn() -> SysResult<T>) -> SysResult<T> {
        let since = now();
        let may_wait = || {
            let at_once = self.trouble.is_some() || self.end.has_passed() || any_raised();
            !at_once && now().saturating_sub(since) < LOCKED_FOR
        };
        loop {
            match attempt() {
                Err(Errno::EBUSY) if may_wait() => std::thread::sleep(LOOK_AGAIN),
                done => return done,
            }
        }
    }

    /// Sets the file aside and begins a new one; whether it did. If that cannot be, the old one goes on.
    fn rotate(&mut self) -> SysResult<bool> {
        if now() < self.rotate_from {
            return Ok(false);
        }
        self.sync()?;
        let made = &self.shared.base.made;
        let progress = &self.shared.base.core.control.progress;
        match set_aside(&made.file, made.keep) {
            Ok(()) => {
                progress.rotations.fetch_add(1, Ordering::Relaxed);
                self.to_pack = true;
                self.place = None;
                self.open()?;
            }
            Err(_) => {
                progress.failures.fetch_add(1, Ordering::Relaxed);
                self.rotate_from = now() + TRY_AGAIN;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Compresses files that were set aside, one by one, in a thread of its own.
    fn pack(&mut self) -> SysResult<()> {
        let made = &self.shared.base.made;
        if !made.compress {
            return Ok(());
        }
        match self.packing.take() {
            Some(packing) if packing.is_running() => self.packing = Some(packing),
            Some(packing) => packing.finish(&made.file, made.keep)?,
            None => {}
        }
        if self.packing.is_none() && self.to_pack {
            self.packing = Packing::begin(&made.file, made.keep, made.mode)?;
            self.to_pack = self.packing.is_some(); // then there may be another
        }
        Ok(())
    }

    /// Puts what is in the hand into a journal, as far as it fits; the marks among it, and how many messages that were.
    fn fill(&mut self) -> Outcome<(Vec<Mark<'a>>, usize)> {
        let base = &self.shared.base;
        let (control, mut sums) = (&base.core.control, base.sums());
        let (mut batch, mut marks, mut identities) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let mut dealt = 0;
        if self.place.as_ref().is_some_and(|place| place.is_torn().unwrap_or(false)) {
            bytes.push(b'\n');
        }
        if let Some((errno, since)) = self.trouble {
            let lasted = u64::try_from(now().saturating_sub(since).as_millis()).unwrap_or(u64::MAX);
            let message = format!("the file could not be written: {}", errno.desc());
            self.formatter.note(&mut bytes, wall_clock(), &message, "milliseconds", lasted);
        }
        let dropped = control.line.dropped.load(Ordering::Relaxed);
        while let Some(message) = self.waiting.pop_front() {
            let mut scratch = std::mem::take(&mut self.scratch);
            let length = message.read(0, &mut scratch);
            let Some(arrived) = scratch.get(..length).and_then(Arrived::read) else {
                control.progress.damaged.fetch_add(1, Ordering::Relaxed);
                self.scratch = scratch;
                dealt += 1;
                message.release().map_err(Failure::Log)?;
                continue;
            };
            let envelope = arrived.envelope;
            let (start, told) = (bytes.len(), sums.told);
            let untold = envelope.dropped > sums.told && envelope.dropped <= dropped;
            if arrived.kind == MARK {
                if untold {
                    self.tell_dropped(&mut bytes, &mut sums, wall_clock(), envelope.dropped);
                }
                if bytes.len() > base.room && start > 0 {
                    bytes.truncate(start);
                    sums.told = told;
                    self.scratch = scratch;
                    self.waiting.push_front(message);
                    break;
                }
                marks.push(Mark { place: envelope.pid, answer: envelope.time, message });
                self.scratch = scratch;
                dealt += 1;
                continue;
            }
            if untold {
                self.tell_dropped(&mut bytes, &mut sums, envelope.time, envelope.dropped);
            }
            self.formatter.record(&mut bytes, &arrived);
            self.scratch = scratch;
            let fits = bytes.len() <= base.room && self.fits_in_file(bytes.len());
            if !fits && batch.is_empty() && bytes.len() <= base.room {
                // Nothing of this journal is anywhere yet. An empty file does not get emptier.
                if self.place.as_ref().is_some_and(|place| place.end > 0)
                    && let Err(errno) = self.rotate()
                {
                    self.waiting.push_front(message);
                    return Err(errno.into());
                }
            } else if !fits && (!batch.is_empty() || !marks.is_empty() && start > 0) {
                bytes.truncate(start);
                sums.told = told;
                self.waiting.push_front(message);
                break;
            } else if !fits {
                // Longer than a record can become.
                bytes.truncate(start);
                sums.told = told;
                control.progress.damaged.fetch_add(1, Ordering::Relaxed);
                dealt += 1;
                message.release().map_err(Failure::Log)?;
                continue;
            }
            identities.push(envelope.identity);
            batch.push(message);
        }
        if self.waiting.is_empty() && !self.more && dropped > sums.told && bytes.len() + 1024 < base.room {
            self.tell_dropped(&mut bytes, &mut sums, wall_clock(), dropped);
        }
        dealt += batch.len();
        if !bytes.is_empty() {
            sums.records = sums.records.wrapping_add(batch.len() as u64);
            sums.bytes = sums.bytes.wrapping_add(bytes.len() as u64);
            if !self.shared.lock.is_mine() {
                return Err(Failure::Log(base.core.error(Errno::ESTALE, "write")));
            }
            let spot = self.place.as_ref().map_or_else(Spot::default, Place::spot);
            base.commit(spot, sums, &identities, &bytes);
            self.own = true;
            self.shared.carrier.release_all(batch).map_err(Failure::Log)?;
        }
        self.bytes = bytes;
        Ok((marks, dealt))
    }

    fn tell_dropped(&mut self, bytes: &mut Vec<u8>, sums: &mut Sums, time: u64, dropped: u64) {
        let lost = dropped - sums.told;
        self.formatter.note(bytes, time, "records were dropped, as there was no room for them", "dropped", lost);
        sums.told = dropped;
    }

    fn fits_in_file(&self, more: usize) -> bool {
        let most = self.shared.base.made.rotate_size;
        let end = self.place.as_ref().map_or(0, |place| place.end);
        most == 0 || end.saturating_add(more as u64) <= most
    }

    /// Brings the journal in force into the file, if it is not there yet.
    fn finish(&mut self) -> SysResult<()> {
        let base = &self.shared.base;
        let (number, pending) = base.in_force();
        if !pending {
            return Ok(());
        }
        let heading = base.core.control.heading(number);
        let spot = heading.spot();
        if self.own
            && let Some(place) = self.place.as_mut().filter(|place| place.is_at(&spot) && place.end == spot.offset)
        {
            place.write(&self.bytes, spot.offset)?;
        } else {
            let bytes = base.pending();
            let moved = |to| {
                base.core.control.progress.disturbed.fetch_add(1, Ordering::Relaxed);
                heading.move_to(to);
            };
            if self.open()?.is_at(&spot) {
                self.open()?.complete(&bytes, spot.offset, moved)?;
            } else if let Some(mut old) = self.while_locked(|| moved_away(&base.made.file, &spot))? {
                old.complete(&bytes, spot.offset, moved)?;
                if base.made.sync != LogSync::Never {
                    old.sync(&base.made.file)?;
                }
            } else {
                let place = self.open()?;
                let to = place.spot();
                moved(to);
                place.complete(&bytes, to.offset, |_| {})?;
            }
        }
        self.unsynced = self.unsynced.or_else(|| Some(now()));
        if base.made.sync == LogSync::Always {
            self.sync()?;
        }
        base.finished(number);
        Ok(())
    }

    /// When what was written has to be on the disk.
    fn sync_due(&self) -> Option<Duration> {
        match self.shared.base.made.sync {
            LogSync::Interval(every) => self.unsynced.map(|since| since.saturating_add(every)),
            _ => None,
        }
    }

    fn sync_if_due(&mut self) -> SysResult<()> {
        if self.sync_due().is_some_and(|due| due <= now()) { self.sync() } else { Ok(()) }
    }

    /// Brings what was written to the disk, unless that is the kernel's business.
    pub fn sync(&mut self) -> SysResult<()> {
        if self.shared.base.made.sync != LogSync::Never && self.unsynced.is_some() {
            let file = &self.shared.base.made.file;
            self.open()?.sync(file)?;
        }
        self.unsynced = None;
        Ok(())
    }

    /// Tells those who wait that all before their marks is written. If the writer dies before, the marks come back to the
    /// ring with the rest.
    fn answer(&mut self, marks: Vec<Mark<'a>>) -> Result<()> {
        let control = &self.shared.base.core.control;
        if marks.is_empty() {
            return Ok(());
        }
        for mark in marks {
            let place: Option<&AtomicU64> = control.answers.get(mark.place as usize);
            if let Some(place) = place {
                // SeqCst: before the look at the bell, see `Bell`.
                place.store(mark.answer, Ordering::SeqCst);
            }
            mark.message.release()?;
        }
        control.progress.answered.ring_all();
        Ok(())
    }
}

/// What went wrong: with the file, which is tried again, or with the log itself.
enum Failure {
    File(Errno),
    Log(Error),
}

type Outcome<T> = std::result::Result<T, Failure>;

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure::File(errno)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_back_is_put_in_the_order_in_which_it_was_sent() {
        let record = |block: u64, number, time| Key { is_mark: false, time, identity: block << BLOCK_BITS | number };
        let mark = |answer| Key { is_mark: true, time: answer, identity: 0 };
        // A clock that was set back; another producer; and marks, which are for what was before them.
        let order = [record(1, 1, 20), record(2, 1, 10), record(1, 2, 5), mark(7), mark(8), mark(9)];
        for shuffled in [[5, 4, 3, 2, 1, 0], [4, 1, 5, 0, 3, 2], [2, 0, 5, 1, 3, 4]] {
            let mut returned: Vec<_> = shuffled.iter().map(|at: &usize| (order[*at], *at)).collect();
            put_in_order(&mut returned);
            assert_eq!(returned.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [1, 0, 2, 3, 4, 5]);
        }
    }
}
