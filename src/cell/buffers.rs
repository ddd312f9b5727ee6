//! How buffers change hands between the writers and readers of a cell.
//!
//! A writer takes a buffer that is not the latest, fills it, and makes it the latest by one exchange; until then nobody
//! can see it. A reader copies the latest and then looks whether the buffer was taken meanwhile: no reader writes
//! anything, and no writer waits for one.
//!
//! A reader that was overrun three times, by as many laps of writers through the buffers, stops relying on luck: it asks
//! in its pin for the latest value. It fills in the answer itself, unless a writer was faster, as every writer does who
//! finds a question after it has taken a buffer; one that finds its own buffer pinned gives it back and takes another.
//! So the reader has a buffer that nobody overwrites after a fixed number of steps, whatever the others do or leave
//! undone.
//!
//! Why a pinned buffer is safe: a buffer that a writer takes had ceased to be the latest before it was taken, and
//! writers look at the pins after that. A question that a writer's look comes before is answered from a look at the
//! latest word that comes after (all of these are SeqCst): with another buffer. One that the look finds, it
//! answers itself, or finds the answer of another, and heeds it.

use nix::errno::Errno;

use super::layout::{Control, Geometry, Parts};
use super::word::{Hold, Latest, Phase, Pin, State};
use crate::segment::{Bell, Member, Tag};
use crate::sync_atomics::{AtomicU64, Ordering, fence};
use crate::sys::SysResult;

/// So many buffers are used in turn before others are looked at, for the sake of the caches.
const NEAR: u64 = 8;

/// The words and buffers of a cell, and a part in it.
pub(super) struct Buffers {
    pub(super) member: Member,
    pub(super) geometry: Geometry,
    parts: Parts,
    body: usize,
}

/// A buffer in this process's hands, to write to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    buffer: u64,
    state: State,
    pub(super) length: usize,
}

/// What was read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    Value {
        length: usize,
        sequence: u64,
    },
    /// It needs so much room.
    TooLong(usize),
    /// Somebody was faster, or another thread of this handle is at it.
    Overrun,
}

impl Buffers {
    pub(super) fn new(member: Member) -> SysResult<Buffers> {
        let (geometry, parts) = Geometry::read(member.segment())?;
        let (body, _) = member.segment().body();
        Ok(Buffers { member, geometry, parts, body })
    }

    pub(super) fn control(&self) -> SysResult<&Control> {
        self.member.segment().memory().record(self.body).ok_or(Errno::EBADMSG)
    }

    pub(super) fn bell(&self) -> SysResult<&Bell> {
        Ok(&self.control()?.bell.0)
    }

    #[inline(always)]
    fn state(&self, buffer: u64) -> &AtomicU64 {
        self.parts.states.word::<0>(buffer)
    }

    #[inline(always)]
    fn length(&self, buffer: u64) -> &AtomicU64 {
        self.parts.states.word::<1>(buffer)
    }

    #[inline(always)]
    fn load(&self, buffer: u64) -> State {
        // Acquire pairs with the Release in `step`: whoever takes a buffer sees that its former user is done with it.
        State(self.state(buffer).load(Ordering::Acquire))
    }

    #[inline(always)]
    fn step(&self, buffer: u64, from: State, to: State) -> bool {
        // SeqCst: taking a buffer comes before the look at the pins, see above. It releases what was written before.
        self.state(buffer).compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    #[inline(always)]
    fn latest(&self, control: &Control) -> Latest {
        // SeqCst: see above. It acquires what the exchange in `publish` released.
        Latest(control.latest.0.load(Ordering::SeqCst))
    }

    /// How many values there have been.
    #[inline]
    pub(super) fn sequence(&self) -> SysResult<u64> {
        Ok(self.latest(self.control()?).sequence())
    }

    #[inline(always)]
    fn at(&self, buffer: u64) -> usize {
        buffer as usize * self.geometry.stride()
    }

    // --- writers ---

    /// Takes a buffer for a value of this length, at most the largest; `None` if all are in use.
    #[inline]
    pub(super) fn claim(&self, me: Tag, length: usize) -> SysResult<Option<Held>> {
        let control = self.control()?;
        let (buffers, first) = (self.geometry.buffers(), self.latest(control).buffer());
        let near = NEAR.min(buffers);
        for turn in 1..=near + buffers {
            let buffer = if turn <= near { (first + turn) % near } else { turn - near - 1 };
            // The state first, the latest word second: a buffer found READY has been the latest before, and is not any
            // more if another is now. Then it cannot become so again while its state stays.
            let state = self.load(buffer);
            let may_be_taken = match state.phase() {
                Phase::Free => true,
                Phase::Ready => self.latest(control).buffer() != buffer,
                Phase::Writing | Phase::Publishing => false,
            };
            let held = state.to_writing(me);
            if !may_be_taken || !self.step(buffer, state, held) {
                continue;
            }
            if self.is_pinned(control, buffer) {
                self.step(buffer, held, held.to_free()); // a failure: declared dead, and it was taken
                continue;
            }
            // Release pairs with the Acquire fence in `read`: who has copied a byte that is written from here on finds
            // that the buffer was taken.
            fence(Ordering::Release);
            return Ok(Some(Held { buffer, state: held, length }));
        }
        Ok(None)
    }

    /// Whether a reader has this buffer under its hands; answers all who ask.
    #[inline]
    fn is_pinned(&self, control: &Control, buffer: u64) -> bool {
        for (group, pinners) in control.rare.0.pinners.iter().enumerate() {
            // SeqCst: a reader sets its bit before it asks.
            let mut bits = pinners.load(Ordering::SeqCst);
            while bits != 0 {
                let index = 64 * group as u64 + u64::from(bits.trailing_zeros());
                bits &= bits - 1;
                if index < self.geometry.pins && self.holds_after_answer(control, index, buffer) {
                    return true;
                }
            }
        }
        false
    }

    #[cold]
    fn holds_after_answer(&self, control: &Control, index: u64, buffer: u64) -> bool {
        let word = self.parts.pins.word::<0>(index);
        let mut pin = Pin(word.load(Ordering::SeqCst));
        if pin.hold() == Hold::Asking {
            // The question first, the latest word second: see above.
            let answer = pin.held(self.latest(control).buffer());
            pin = match word.compare_exchange(pin.0, answer.0, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => answer,
                Err(found) => Pin(found), // a later question cannot be answered with this buffer
            };
        }
        pin.hold() == Hold::Held && pin.buffer() == buffer
    }

    /// Whether a buffer is still this process's. Whoever stores into it looks first: of one who was declared dead the buffer
    /// may have another owner by now. Between the look and the store lies no promise.
    #[inline(always)]
    pub(super) fn is_still_held(&self, held: &Held) -> bool {
        // Relaxed: nothing is read by this, and a store that depends on it comes after.
        self.state(held.buffer).load(Ordering::Relaxed) == held.state.0
    }

    /// Copies bytes into a held buffer.
    #[inline]
    pub(super) fn write(&self, held: &Held, offset: usize, bytes: &[u8]) {
        let room = self.geometry.largest.saturating_sub(offset).min(bytes.len());
        if room > 0 {
            self.parts.payload.put(0, self.at(held.buffer) + offset, &bytes[..room]);
        }
    }

    /// Where a held buffer's bytes lie.
    pub(super) fn payload(&self, held: &Held) -> std::ptr::NonNull<u8> {
        self.parts.payload.pointer(0, self.at(held.buffer))
    }

    /// Makes a held buffer the latest; its sequence number. `ESTALE` if it was taken from this process, declared dead.
    #[inline]
    pub(super) fn publish(&self, held: &Held, me: Tag) -> SysResult<u64> {
        let control = self.control()?;
        if !self.is_still_held(held) {
            return Err(Errno::ESTALE);
        }
        // Relaxed: released by the exchange below.
        self.length(held.buffer).store(held.length as u64, Ordering::Relaxed);
        let mut state = held.state;
        loop {
            let latest = self.latest(control);
            let next = latest.next(held.buffer);
            let publishing = State::publishing(next.sequence(), me);
            if publishing != state && !self.step(held.buffer, state, publishing) {
                return Err(Errno::ESTALE);
            }
            state = publishing;
            // After the look at the latest word: whoever declared this process dead and means to free the buffer changes
            // that word first (`recover`). So either the exchange fails, or the declaration is seen here.
            if self.member.tag()? != me {
                return Err(Errno::ESTALE);
            }
            // SeqCst for the pins and for the bell; it releases the value.
            if control.latest.0.compare_exchange(latest.0, next.0, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                // A failure: declared dead, and somebody did this.
                self.step(held.buffer, state, State::ready(next.sequence()));
                control.bell.0.ring_all();
                return Ok(next.sequence());
            }
        }
    }

    /// Gives a held buffer back. `ESTALE` if it was taken from this process, declared dead.
    pub(super) fn abort(&self, held: &Held) -> SysResult<()> {
        if self.step(held.buffer, held.state, held.state.to_free()) { Ok(()) } else { Err(Errno::ESTALE) }
    }

    // --- readers ---

    /// Copies the latest value out, unless it is overwritten meanwhile. `ENODATA` if there has been none.
    #[inline]
    pub(super) fn read(&self, target: &mut [u8]) -> SysResult<Found> {
        // Acquire pairs with the Release of the exchange in `publish`: the value is visible.
        let latest = Latest(self.control()?.latest.0.load(Ordering::Acquire));
        if latest.sequence() == 0 {
            return Err(Errno::ENODATA);
        }
        let length = self.copy(latest.buffer(), target)?;
        // Acquire pairs with the Release fence in `claim`: if any byte was a later writer's, so is the state.
        fence(Ordering::Acquire);
        if !State(self.state(latest.buffer()).load(Ordering::Relaxed)).holds(latest.sequence()) {
            return self.overrun(latest);
        }
        self.found(length, latest.sequence(), target.len())
    }

    /// Nobody takes the buffer of the latest value: if there is no later one, somebody keeps no rules.
    #[cold]
    fn overrun(&self, latest: Latest) -> SysResult<Found> {
        // Pairs with the exchange by which the buffer was taken, after a look at a later value.
        fence(Ordering::Acquire);
        if self.latest(self.control()?).0 == latest.0 { Err(Errno::EBADMSG) } else { Ok(Found::Overrun) }
    }

    /// The same in a fixed number of steps, by way of this handle's pin. `Overrun` if another thread uses that.
    #[cold]
    pub(super) fn read_pinned(&self, me: Tag, target: &mut [u8]) -> SysResult<Found> {
        let control = self.control()?;
        let index = me.index();
        let bit = 1 << (index % 64);
        let pinners = control.rare.0.pinners.get(index as usize / 64).ok_or(Errno::EBADMSG)?;
        // SeqCst, before asking: who misses the bit took its buffer before the question, see `is_pinned`.
        if pinners.load(Ordering::SeqCst) & bit == 0 {
            pinners.fetch_or(bit, Ordering::SeqCst);
        }
        let word = self.parts.pins.word::<0>(index.into());
        let free = Pin(word.load(Ordering::SeqCst));
        let question = free.asking(me);
        if free.hold() != Hold::Free
            || word.compare_exchange(free.0, question.0, Ordering::SeqCst, Ordering::SeqCst).is_err()
        {
            return Ok(Found::Overrun);
        }
        let latest = self.latest(control);
        let own = question.held(latest.buffer());
        let answer = match word.compare_exchange(question.0, own.0, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => own,
            Err(found) => Pin(found), // a writer's answer; the failure acquires what it released
        };
        if !answer.answers(question) {
            return Err(Errno::ESTALE); // declared dead, and the pin was taken
        }
        let before = self.load(answer.buffer()).sequence();
        let copied = self.copy(answer.buffer(), target);
        // Whoever rewrites the buffer while it is pinned keeps no rules: what was copied then is not passed on.
        fence(Ordering::Acquire);
        let after = State(self.state(answer.buffer()).load(Ordering::Relaxed));
        let newest = self.latest(control).sequence();
        // SeqCst releases: the copy is over before a writer finds the buffer free. Exact, so only the holder's.
        let kept = word.compare_exchange(answer.0, answer.free().0, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        let length = copied?;
        if !kept {
            return Err(Errno::ESTALE);
        }
        if after.sequence() != before || newest == 0 {
            return Err(Errno::EBADMSG);
        }
        self.found(length, after.whole_sequence(newest), target.len())
    }

    /// Copies as much of a buffer as it claims to hold; how much that is.
    #[inline(always)]
    fn copy(&self, buffer: u64, target: &mut [u8]) -> SysResult<usize> {
        if buffer >= self.geometry.buffers() {
            return Err(Errno::EBADMSG);
        }
        // Relaxed: published with the value, and looked at again by whoever finds that the buffer was not taken. Copied
        // once. What does not fit, or cannot be, is not copied.
        let length = usize::try_from(self.length(buffer).load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        if length <= self.geometry.largest && length <= target.len() {
            self.parts.payload.get(0, self.at(buffer), &mut target[..length]);
        }
        Ok(length)
    }

    #[inline(always)]
    fn found(&self, length: usize, sequence: u64, room: usize) -> SysResult<Found> {
        match length {
            length if length > self.geometry.largest => Err(Errno::EBADMSG),
            length if length > room => Ok(Found::TooLong(length)),
            length => Ok(Found::Value { length, sequence }),
        }
    }

    // --- whoever comes by ---

    /// Takes from the dead what they held.
    pub(super) fn tidy(&self) -> SysResult<()> {
        let control = self.control()?;
        for buffer in 0..self.geometry.buffers() {
            self.recover(control, buffer);
        }
        for index in 0..self.geometry.pins {
            let word = self.parts.pins.word::<0>(index);
            let pin = Pin(word.load(Ordering::SeqCst));
            if pin.hold() != Hold::Free && !self.member.is_current(pin.owner()) {
                // A failure: a writer has answered the dead meanwhile. Then whoever sweeps next, as the owner may not
                // be buried before.
                let freed = word.compare_exchange(pin.0, pin.free().0, Ordering::SeqCst, Ordering::SeqCst);
                if let Err(found) = freed
                    && Pin(found).answers(pin)
                {
                    let _ = word.compare_exchange(found, pin.free().0, Ordering::SeqCst, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// Takes a buffer out of the hands of an owner who is not current.
    fn recover(&self, control: &Control, buffer: u64) {
        loop {
            let state = self.load(buffer);
            let held = matches!(state.phase(), Phase::Writing | Phase::Publishing);
            if !held || self.member.is_current(state.owner()) {
                return;
            }
            if state.phase() == Phase::Publishing {
                let latest = self.latest(control);
                if latest.buffer() == buffer && state.holds(latest.sequence()) {
                    // It was published; only the last step is missing.
                    self.step(buffer, state, State::ready(state.sequence()));
                    return;
                }
                // Should its owner live, and be just about to publish: that exchange fails from here on, and it looks
                // whether it was declared dead before it tries another.
                let fenced = latest.fenced().0;
                if control.latest.0.compare_exchange(latest.0, fenced, Ordering::SeqCst, Ordering::Relaxed).is_err() {
                    continue;
                }
            }
            if self.step(buffer, state, state.to_free()) {
                // Relaxed: advisory, see `CellStatistics`.
                control.rare.0.skipped.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }

    /// How many buffers each owner holds, in the order of `owners`.
    pub(super) fn holdings(&self, owners: &[Tag]) -> Vec<u64> {
        let mut held = vec![0; owners.len()];
        for buffer in 0..self.geometry.buffers() {
            let state = self.load(buffer);
            if matches!(state.phase(), Phase::Writing | Phase::Publishing)
                && let Some(owner) = owners.iter().position(|owner| *owner == state.owner())
            {
                held[owner] += 1;
            }
        }
        held
    }
}
