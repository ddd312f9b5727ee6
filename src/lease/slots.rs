//! How slots change hands.
//!
//! A slot is in one word, and each change of hands is one exchange of it: taken, given back, taken back from the dead. So
//! there is nothing half-done to repair. Whoever finds no free slot looks at who holds them: a word in the name of somebody
//! who is not current, or whose lease has expired, is freed and marked dirty by the same exchange, after which everything
//! that the former holder tries under it fails.

use std::ops::Range;
use std::time::Duration;

use nix::errno::Errno;

use super::layout::{Control, EXPIRY, NOTE_AT, NOTE_MAX, NOTED, Parts, SINCE, USED, WORD};
use super::word::{Expiry, Since, Word};
use crate::error::Error;
use crate::segment::{Bell, Member, Party, Tag};
use crate::sync::core::{Core, explained};
use crate::sync::doorbell::Ready;
use crate::sync_atomics::{AtomicU32, AtomicU64, Ordering};
use crate::sys::SysResult;
use crate::timeout::{about_now, about_wall_clock, now};

/// Whoever fails an exchange so often is not the only one who works, or somebody keeps no rules.
const TRIES: u32 = 10_000;
/// What the fast clock may be behind.
const BEHIND: Duration = Duration::from_millis(5);

pub(super) struct Shared {
    pub core: Core<Control>,
    pub parts: Parts,
    pub room: u32,
    pub fair: bool,
    /// 0: never.
    pub expires_ms: u64,
    /// Each group's name, and the slots that are kept for it; those after the last one's are for all.
    pub groups: Vec<(String, Range<u32>)>,
    pub reserved: u32,
    /// The slot that this handle had last.
    pub near: AtomicU32,
}

impl std::ops::Deref for Shared {
    type Target = Core<Control>;

    fn deref(&self) -> &Core<Control> {
        &self.core
    }
}

/// Which slots somebody may take now.
#[derive(Clone, Copy)]
pub(super) struct Allowed {
    /// Those kept for its group.
    pub own: bool,
    pub common: bool,
}

impl Allowed {
    pub const ALL: Allowed = Allowed { own: true, common: true };
}

/// For whom, and a word about it.
#[derive(Clone, Copy)]
pub(super) struct Purpose<'a> {
    /// 0 for none, else one more than its index.
    pub group: u32,
    pub note: &'a str,
}

/// What a look at the holders has found.
pub(super) struct Swept {
    pub freed: bool,
    /// How soon the next lease expires.
    pub next_expiry: Option<Duration>,
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Shared {
    #[inline(always)]
    pub fn slot(&self, index: u32) -> &AtomicU64 {
        self.parts.slots.word::<WORD>(index.into())
    }

    #[inline(always)]
    pub fn word(&self, index: u32) -> Word {
        // SeqCst: looked at after announcing sleep. Acquire for what the last holder has left.
        Word(self.slot(index).load(Ordering::SeqCst))
    }

    /// SeqCst: comes before the look at the hint and the bells; acquires what the last holder did, and releases to the next.
    #[inline(always)]
    pub fn step(&self, index: u32, found: Word, next: Word) -> bool {
        self.slot(index).compare_exchange(found.0, next.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// How many slots can be had.
    #[inline(always)]
    pub fn size(&self) -> u32 {
        // SeqCst: looked at after announcing sleep, as it may grow.
        self.control.line.size.load(Ordering::SeqCst).min(self.room)
    }

    /// The slots that are kept for this group.
    pub fn own(&self, group: u32) -> Range<u32> {
        let index = (group as usize).wrapping_sub(1);
        self.groups.get(index).map_or(0..0, |(_, slots)| slots.clone())
    }

    /// The group for which this slot is kept, or 0.
    pub fn kept_for(&self, index: u32) -> u32 {
        let group = self.groups.iter().position(|(_, slots)| slots.contains(&index));
        group.map_or(0, |group| group as u32 + 1)
    }

    pub fn group_name(&self, group: u32) -> Option<&str> {
        self.groups.get((group as usize).wrapping_sub(1)).map(|(name, _)| name.as_str())
    }

    /// Takes a free slot, a clean one if there is any; that which this handle had last if possible.
    #[inline]
    pub fn take(&self, me: Tag, purpose: &Purpose<'_>, allowed: Allowed) -> Option<(u32, Word)> {
        let own = if allowed.own { self.own(purpose.group) } else { 0..0 };
        let common = if allowed.common { self.reserved..self.size() } else { 0..0 };
        let near = self.near.load(Ordering::Relaxed); // a hint
        if own.contains(&near) || common.contains(&near) {
            let found = self.word(near);
            if !found.is_held()
                && !found.is_dirty()
                && let Some(word) = self.try_take(near, found, me, purpose)
            {
                return Some((near, word));
            }
        }
        self.take_any(me, purpose, own, common)
    }

    fn take_any(&self, me: Tag, purpose: &Purpose<'_>, own: Range<u32>, common: Range<u32>) -> Option<(u32, Word)> {
        let mut dirty = false;
        for want_dirty in [false, true] {
            if want_dirty && !dirty {
                break;
            }
            for index in own.clone().chain(common.clone()) {
                let found = self.word(index);
                if found.is_held() {
                    continue;
                }
                dirty |= found.is_dirty();
                if found.is_dirty() == want_dirty
                    && let Some(word) = self.try_take(index, found, me, purpose)
                {
                    self.near.store(index, Ordering::Relaxed);
                    return Some((index, word));
                }
            }
        }
        None
    }

    #[inline(always)]
    fn try_take(&self, index: u32, found: Word, me: Tag, purpose: &Purpose<'_>) -> Option<Word> {
        let word = found.taken(me);
        if !self.step(index, found, word) {
            return None;
        }
        // Relaxed, here and below: they tell by the token whose they are, and nothing else hangs on them.
        let place = u64::from(index);
        let since = Since::new(about_wall_clock(), purpose.group, word);
        self.parts.slots.word::<SINCE>(place).store(since.0, Ordering::Relaxed);
        if self.expires_ms != 0 {
            self.parts.slots.word::<EXPIRY>(place).store(self.expiry(word).0, Ordering::Relaxed);
        }
        if !purpose.note.is_empty() {
            self.write_note(index, word, purpose.note);
        }
        Some(word)
    }

    fn expiry(&self, word: Word) -> Expiry {
        Expiry::new(millis(about_now() + BEHIND).saturating_add(self.expires_ms), word)
    }

    /// Has a lease begin anew.
    pub fn renew(&self, index: u32, word: Word) {
        self.parts.slots.word::<EXPIRY>(index.into()).store(self.expiry(word).0, Ordering::SeqCst);
    }

    #[cold]
    pub fn write_note(&self, index: u32, word: Word, note: &str) {
        let place = u64::from(index);
        let length = (0..=note.len().min(NOTE_MAX)).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
        let noted = self.parts.slots.word::<NOTED>(place);
        noted.store(0, Ordering::Release);
        self.parts.slots.put(place, NOTE_AT, &note.as_bytes()[..length]);
        noted.store(word.token() << 8 | length as u64, Ordering::Release);
    }

    /// What the holder of this lease has noted. For people: of one who is fenced in the middle of noting it may be garbled.
    pub fn note(&self, index: u32, word: Word) -> String {
        let place = u64::from(index);
        let noted = self.parts.slots.word::<NOTED>(place).load(Ordering::Acquire);
        let mut bytes = [0; NOTE_MAX];
        self.parts.slots.get(place, NOTE_AT, &mut bytes);
        let length = (noted & 0xff) as usize;
        if noted >> 8 != word.token() || length > NOTE_MAX {
            return String::new();
        }
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// Gives a slot back; `ESTALE` if it is not this lease's any more.
    #[inline]
    pub fn release(&self, index: u32, word: Word, dirty: bool) -> SysResult<()> {
        for _ in 0..TRIES {
            let found = self.word(index);
            if !found.is_lease_of(word) {
                break;
            }
            // Before it is free, as the next holder reads it.
            self.parts.slots.word::<USED>(index.into()).store(about_wall_clock(), Ordering::Relaxed);
            if self.step(index, found, found.freed(dirty)) {
                self.freed(index);
                return Ok(());
            }
        }
        Err(Errno::ESTALE)
    }

    /// Tells those who wait that a slot is free.
    #[inline(always)]
    fn freed(&self, index: u32) {
        if self.somebody_waits() {
            self.call_next(self.kept_for(index));
        }
        self.control.line.bell.ring();
    }

    /// Takes a slot from who is dead or too late.
    fn take_back(&self, index: u32, word: Word, count: &AtomicU64) -> bool {
        let since = Since(self.parts.slots.word::<SINCE>(index.into()).load(Ordering::Relaxed));
        let taken_back = self.step(index, word, word.freed(true));
        if taken_back {
            if since.is_of(word) {
                self.parts.slots.word::<USED>(index.into()).store(since.millis(), Ordering::Relaxed);
            }
            count.fetch_add(1, Ordering::Relaxed);
            self.freed(index);
        }
        taken_back
    }

    /// Takes back what those hold who are dead or too late.
    pub fn sweep(&self) -> Swept {
        let mut swept = Swept { freed: false, next_expiry: None };
        for index in 0..self.room {
            let word = self.word(index);
            if !word.is_held() {
                continue;
            }
            if !self.member.is_current(word.owner()) {
                swept.freed |= self.take_back(index, word, &self.control.counts.reclaims);
            } else if self.expires_ms != 0 {
                let left = self.left(index, word);
                if left.is_zero() {
                    swept.freed |= self.take_back(index, word, &self.control.counts.expiries);
                } else {
                    swept.next_expiry = Some(swept.next_expiry.map_or(left, |next| next.min(left)));
                }
            }
        }
        swept
    }

    /// How long a lease still lasts. Notes the beginning of one whose holder has not come to that.
    pub fn left(&self, index: u32, word: Word) -> Duration {
        let place = self.parts.slots.word::<EXPIRY>(index.into());
        let found = Expiry(place.load(Ordering::SeqCst));
        if found.is_of(word) {
            return Duration::from_millis(found.millis().saturating_sub(millis(now())));
        }
        let _ = place.compare_exchange(found.0, self.expiry(word).0, Ordering::SeqCst, Ordering::Relaxed);
        Duration::from_millis(self.expires_ms)
    }

    /// Gives back what guards of this handle that were forgotten still hold.
    pub fn leave(&self, me: Tag) {
        for index in 0..self.room {
            let word = self.word(index);
            if word.is_held() && word.owner() == me && self.step(index, word, word.freed(true)) {
                self.freed(index);
            }
        }
    }

    /// Whether there is a free slot that somebody of this group could have.
    pub fn has_free(&self, group: u32) -> bool {
        self.own(group).chain(self.reserved..self.size()).any(|index| !self.word(index).is_held())
    }
}

impl Party for Shared {
    fn member(&self) -> &Member {
        &self.member
    }

    fn bell(&self) -> SysResult<&Bell> {
        Ok(&self.control.line.bell)
    }

    fn tidy(&self) -> SysResult<()> {
        self.sweep();
        self.dismiss_dead();
        Ok(())
    }

    fn over(&self) -> SysResult<Option<(Errno, &'static str)>> {
        Ok(None)
    }

    fn explain(&self, error: Error) -> Error {
        explained(error)
    }

    /// For the helper of a doorbell.
    fn look_again(&self) -> Option<Duration> {
        self.sweep().next_expiry.map(|left| left + Duration::from_millis(1))
    }
}

impl Ready for Shared {
    fn is_ready(&self) -> SysResult<bool> {
        let allowed = self.allowed(None, 0);
        self.sweep();
        Ok(allowed.common && self.has_free(0))
    }
}
