//! The messages of a topic: how their memory is taken, how they get their place in the order, and how they go again.
//!
//! ```text
//!               claim              append to the index            retire
//! block: FREE ─────────→ HELD(me) ────────────────────→ LIVE ────────────────→ FREE
//!                           │  abort, or the owner died and no entry names it
//!                           ↓
//!                        SKIPPED, if it died ──counted──→ FREE
//! ```
//!
//! A message gets its place in the order by the one exchange that makes it visible, so one that is being made has none:
//! its maker may take its time, stop or die, and nobody waits. An entry of the index is EMPTY(lap), FULL(lap, block),
//! EMPTY(lap + 1); `head` and `oldest` follow, and whoever finds one behind helps it along.
//!
//! The first block of a message stands for all of it. Those behind it name it and its version, and are free as soon as
//! it no longer has that version: a message is taken back whole, by one exchange, whoever dies.
//!
//! Orderings: the exchange that fills an entry releases the message; whoever loads the entry acquires it. A block is
//! freed after its entry was emptied, and claimed after it was freed; so whoever has copied a byte of the next message
//! finds the entry changed (fences in `claim` and `read`). All exchanges are SeqCst, which also orders them before the
//! look at the bell that follows (see `segment/bell.rs`).

use std::ptr::NonNull;

use nix::errno::Errno;

use super::layout::{Control, Geometry, Parts};
use super::word::{Block, Entry, Phase, behind};
use crate::segment::{Bell, Member, Tag, nanos};
use crate::sync_atomics::{AtomicU64, Ordering, fence};
use crate::sys::SysResult;
use crate::timeout::about_now;

/// So many blocks are looked at before an old message is retired instead.
const NEAR: u64 = 8;

/// The words and blocks of a topic, and a part in it.
pub(super) struct Log {
    pub(super) member: Member,
    pub(super) geometry: Geometry,
    pub(super) parts: Parts,
    body: usize,
    shift: u32,
    /// Where this handle looks for free blocks. A hint.
    hand: AtomicU64,
    /// When this handle last called those who sleep. A hint.
    called_at: AtomicU64,
}

/// Blocks in this process's hands, for a message to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    block: u64,
    word: Block,
    pub(super) length: usize,
}

/// What stands at a place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// So many bytes.
    Message(usize),
    /// Nothing yet.
    Nothing,
    /// A message that needs so much room.
    TooLong(usize),
    /// Nothing any more.
    Retired,
}

impl Log {
    pub(super) fn new(member: Member) -> SysResult<Log> {
        let (geometry, parts) = Geometry::read(member.segment())?;
        let (body, _) = member.segment().body();
        let shift = parts.index.count().trailing_zeros();
        Ok(Log { member, geometry, parts, body, shift, hand: AtomicU64::new(0), called_at: AtomicU64::new(0) })
    }

    #[inline(always)]
    pub(super) fn control(&self) -> SysResult<&Control> {
        self.member.segment().memory().record(self.body).ok_or(Errno::EBADMSG)
    }

    #[inline(always)]
    fn entry(&self, sequence: u64) -> &AtomicU64 {
        self.parts.index.word::<0>(sequence)
    }

    /// The entry, and how many laps it is ahead of this place in the order.
    #[inline(always)]
    fn look(&self, sequence: u64) -> (Entry, i64) {
        // SeqCst: for the bell, and for `fence_frontier`. It acquires the message.
        let entry = Entry(self.entry(sequence).load(Ordering::SeqCst));
        (entry, entry.ahead_of(sequence >> self.shift))
    }

    #[inline(always)]
    fn load(&self, block: u64) -> Block {
        // Acquire pairs with the Release in `step`: whoever takes a block sees that its former users are done with it.
        Block(self.parts.records.word::<0>(block).load(Ordering::Acquire))
    }

    #[inline(always)]
    fn step(&self, block: u64, from: Block, to: Block) -> bool {
        let word = self.parts.records.word::<0>(block);
        word.compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Moves an index on, unless somebody else did. Release and Acquire: who sees it sees the words that let it pass.
    #[inline(always)]
    fn help(index: &AtomicU64, from: u64) {
        let _ = index.compare_exchange(from, from.wrapping_add(1), Ordering::SeqCst, Ordering::Relaxed);
    }

    /// The sequence number of the next message, exactly.
    pub(super) fn frontier(&self) -> SysResult<u64> {
        let head = &self.control()?.head.0;
        loop {
            let sequence = head.load(Ordering::SeqCst);
            match self.look(sequence) {
                (entry, 0) if !entry.is_full() => return Ok(sequence),
                (_, 0) => Self::help(head, sequence),
                // Of another lap, which nothing reaches but a head that was old.
                _ if head.load(Ordering::SeqCst) == sequence => return Err(Errno::EBADMSG),
                _ => {}
            }
        }
    }

    /// The oldest message that is stored.
    pub(super) fn oldest(&self) -> SysResult<u64> {
        Ok(self.control()?.retired.0.oldest.load(Ordering::Acquire))
    }

    // --- publishers ---

    /// Takes blocks for a message of this length, at most the largest; `None` if there is no room. `may_retire` tells of a message
    /// whether it may go, and is told whether there is no other way.
    #[inline]
    pub(super) fn claim(
        &self,
        me: Tag,
        length: usize,
        may_retire: impl Fn(u64, bool) -> SysResult<bool>,
    ) -> SysResult<Option<Held>> {
        let (control, run) = (self.control()?, self.geometry.run(length));
        loop {
            let (oldest, head) = (self.oldest()?, control.head.0.load(Ordering::Acquire));
            let below_depth = behind(oldest, head) < self.geometry.depth.cast_signed();
            if below_depth
                && let Some(held) =
                    self.find(me, length, run, NEAR).or_else(|| self.find_behind_newest(me, length, run, oldest, head))
            {
                return Ok(Some(held));
            }
            let mut retired =
                if below_depth { self.retire(control, |oldest| may_retire(oldest, false))? } else { None };
            if retired.is_none() {
                if below_depth && let Some(held) = self.find(me, length, run, self.geometry.blocks) {
                    return Ok(Some(held));
                }
                retired = self.retire(control, |oldest| may_retire(oldest, true))?;
            }
            match retired {
                Some(block) => self.hand.store(block, Ordering::Relaxed),
                None => return Ok(None),
            }
        }
    }

    /// Looks where the newest message ends: others have published there since this handle last did, or it never has.
    #[cold]
    fn find_behind_newest(&self, me: Tag, length: usize, run: u64, oldest: u64, head: u64) -> Option<Held> {
        let newest = self.peek(head.wrapping_sub(1)).ok()?.ok();
        let end = newest.map_or(0, |(entry, length)| entry.block().saturating_add(self.geometry.run(length)));
        let end = if end + run <= self.geometry.blocks { end } else { 0 };
        if behind(oldest, head) > 0 && self.look(oldest).0.block() == end {
            return None; // full all around
        }
        self.hand.store(end, Ordering::Relaxed);
        // Further than others may have reserved there.
        self.find(me, length, run, NEAR + 2 * self.geometry.run(self.geometry.largest))
    }

    /// Takes the first free blocks from the hand on that lie together, looking at about `most`.
    #[inline]
    fn find(&self, me: Tag, length: usize, run: u64, most: u64) -> Option<Held> {
        let (mut at, mut looked) = (self.hand.load(Ordering::Relaxed), 0);
        while looked < most {
            if at + run > self.geometry.blocks {
                looked += self.geometry.blocks.saturating_sub(at).max(1);
                at = 0;
            }
            match self.take_run(me, at, run) {
                Ok(word) => {
                    self.hand.store(at + run, Ordering::Relaxed);
                    // Release pairs with the Acquire fence in `read`: who has copied a byte that is written from here on
                    // finds that its message was retired.
                    fence(Ordering::Release);
                    return Some(Held { block: at, word, length });
                }
                Err(passed) => {
                    looked += passed;
                    at += passed;
                }
            }
        }
        None
    }

    /// Takes `run` blocks from this one on; if one is in use, how many to pass over.
    #[inline]
    fn take_run(&self, me: Tag, at: u64, run: u64) -> Result<Block, u64> {
        for block in (at..at + run).rev() {
            if !self.is_free(block, self.load(block)) {
                return Err(block - at + 1);
            }
        }
        let free = self.load(at);
        let held = free.to_held(me);
        if !self.is_free(at, free) || !self.step(at, free, held) {
            return Err(1);
        }
        for block in at + 1..at + run {
            let free = self.load(block);
            if !self.is_free(block, free) || !self.step(block, free, free.to_follow(block - at, held)) {
                // Which frees those that follow. A failure: declared dead, and it was taken.
                self.step(at, held, held.to(Phase::Free));
                return Err(block - at + 1);
            }
        }
        Ok(held)
    }

    #[inline]
    fn is_free(&self, block: u64, word: Block) -> bool {
        match word.phase() {
            Phase::Free => true,
            Phase::Held | Phase::Live | Phase::Skipped => false,
            Phase::Follows => {
                let (distance, version) = word.first();
                // What follows nothing is damage, of which nothing is lost by taking it.
                let Some(first) = block.checked_sub(distance) else { return true };
                let first = self.load(first);
                // Once over, for good: a version does not come back.
                let over = matches!(first.phase(), Phase::Free | Phase::Follows) || first.version() != version;
                distance == 0 || over
            }
        }
    }

    /// Whether the blocks of a message that is being made are still this process's. Whoever stores into them looks first: of
    /// one who was declared dead they may have another owner by now. Between the look and the store lies no promise.
    #[inline(always)]
    pub(super) fn is_still_held(&self, held: &Held) -> bool {
        // Relaxed: nothing is read by this, and a store that depends on it comes after.
        self.parts.records.word::<0>(held.block).load(Ordering::Relaxed) == held.word.0
    }

    /// Copies bytes into a message that is being made.
    #[inline]
    pub(super) fn write(&self, held: &Held, offset: usize, bytes: &[u8]) {
        let room = self.geometry.largest.saturating_sub(offset).min(bytes.len());
        if room > 0 {
            self.parts.payload.put_at(self.at(held.block) + offset, &bytes[..room]);
        }
    }

    /// Where the bytes of a message that is being made lie.
    pub(super) fn payload(&self, held: &Held) -> NonNull<u8> {
        self.parts.payload.pointer(0, self.at(held.block))
    }

    #[inline(always)]
    fn at(&self, block: u64) -> usize {
        block as usize * self.geometry.block
    }

    /// Publishes a message; its place in the order. `ESTALE` if it was taken from this process, declared dead.
    #[inline]
    pub(super) fn append(&self, held: &Held, me: Tag) -> SysResult<u64> {
        let control = self.control()?;
        if !self.is_still_held(held) {
            return Err(Errno::ESTALE);
        }
        // Relaxed: released by the exchange below.
        self.parts.records.word::<1>(held.block).store(held.length as u64, Ordering::Relaxed);
        loop {
            let sequence = control.head.0.load(Ordering::SeqCst);
            match self.look(sequence) {
                (entry, 0) if !entry.is_full() => {
                    // After the look at the entry: whoever declared this process dead and means to free the blocks
                    // changes that entry first (`fence_frontier`). So either the exchange fails, or the declaration is
                    // seen here.
                    if self.member.tag()? != me {
                        return Err(Errno::ESTALE);
                    }
                    let full = entry.to_full(held.block);
                    // SeqCst for the bell; it releases the message.
                    let word = self.entry(sequence);
                    if word.compare_exchange(entry.0, full.0, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                        Self::help(&control.head.0, sequence);
                        // A failure: somebody who retired it, or buried this process, did so.
                        self.step(held.block, held.word, held.word.to(Phase::Live));
                        self.call_subscribers(&control.subscribers_bell.0);
                        control.publishers_bell.0.ring_all(); // what was reserved only can be retired now
                        return Ok(sequence);
                    }
                }
                (_, 0) => Self::help(&control.head.0, sequence),
                // Of another lap: there are more entries than blocks, unless the head was old.
                _ if control.head.0.load(Ordering::SeqCst) == sequence => return Err(Errno::EBADMSG),
                _ => {}
            }
        }
    }

    /// Tells those who sleep that there is a message. All of them, once in a tick of the clock; for further messages in the same
    /// tick one, unless it is on its way already, who tells all the others: to wake them for each message would keep the
    /// publisher from sending another meanwhile.
    #[inline(always)]
    fn call_subscribers(&self, bell: &Bell) {
        if bell.is_slept_on() {
            self.call_sleepers(bell);
        }
    }

    #[cold]
    #[inline(never)]
    fn call_sleepers(&self, bell: &Bell) {
        // Relaxed: a hint of this handle's own. In a model nothing may depend on the clock, and there is more to explore so.
        let tick = nanos(about_now());
        if cfg!(loom) || self.called_at.swap(tick, Ordering::Relaxed) == tick {
            bell.ring_once();
        } else {
            bell.ring_all();
        }
    }

    /// Gives blocks back. `ESTALE` if they were taken from this process, declared dead.
    pub(super) fn abort(&self, held: &Held) -> SysResult<()> {
        if !self.step(held.block, held.word, held.word.to(Phase::Free)) {
            return Err(Errno::ESTALE);
        }
        self.control()?.publishers_bell.0.ring_all();
        Ok(())
    }

    /// Retires the oldest message, if that may be; its block, which is free then.
    fn retire(&self, control: &Control, may_retire: impl Fn(u64) -> SysResult<bool>) -> SysResult<Option<u64>> {
        let oldest = &control.retired.0.oldest;
        loop {
            let sequence = oldest.load(Ordering::Acquire);
            let (entry, ahead) = self.look(sequence);
            match ahead {
                0 if !entry.is_full() => return Ok(None),
                0 => {}
                1 if !entry.is_full() => {
                    Self::help(oldest, sequence);
                    continue;
                }
                _ if oldest.load(Ordering::Acquire) == sequence => return Err(Errno::EBADMSG),
                _ => continue,
            }
            if !may_retire(sequence)? {
                return Ok(None);
            }
            let block = entry.block();
            if block >= self.geometry.blocks {
                return Err(Errno::EBADMSG);
            }
            // The block first, the entry second: if that still stands, the word was of this message.
            let word = self.load(block);
            if self.look(sequence).0 != entry {
                continue;
            }
            let live = word.to(Phase::Live);
            match word.phase() {
                Phase::Live => {}
                // Its maker has not come to mark it. It must not carry a name once the entry is gone.
                Phase::Held if self.step(block, word, live) => {}
                Phase::Held => continue,
                _ => return Err(Errno::EBADMSG),
            }
            let emptied =
                self.entry(sequence).compare_exchange(entry.0, entry.to_empty().0, Ordering::SeqCst, Ordering::Relaxed);
            if emptied.is_ok() {
                Self::help(oldest, sequence);
                // A failure: one who buried the dead found it without an entry.
                self.step(block, live, live.to(Phase::Free));
                return Ok(Some(block));
            }
        }
    }

    // --- subscribers ---

    /// Whether there is, or was, a message at this place in the order.
    #[inline]
    pub(super) fn is_past(&self, sequence: u64) -> bool {
        let (entry, ahead) = self.look(sequence);
        ahead > 0 || ahead == 0 && entry.is_full()
    }

    /// Copies a message out.
    #[inline]
    pub(super) fn read(&self, sequence: u64, target: &mut [u8]) -> SysResult<Found> {
        let (entry, length) = match self.peek(sequence)? {
            Ok(found) => found,
            Err(found) => return Ok(found),
        };
        // What does not fit, or cannot be, is not copied.
        if length <= self.geometry.largest && length <= target.len() {
            self.parts.payload.get_at(self.at(entry.block()), &mut target[..length]);
        }
        // Acquire pairs with the Release fence in `find`: if any byte was a later message's, so is the entry.
        fence(Ordering::Acquire);
        if self.entry(sequence).load(Ordering::Relaxed) != entry.0 {
            return Ok(Found::Retired);
        }
        if entry.block() + self.geometry.run(length) > self.geometry.blocks || length > self.geometry.largest {
            return Err(Errno::EBADMSG);
        }
        Ok(if length > target.len() { Found::TooLong(length) } else { Found::Message(length) })
    }

    /// Where a message lies and how long it is; good for as long as nobody may retire it.
    pub(super) fn borrow(&self, sequence: u64) -> SysResult<Result<(u64, usize), Found>> {
        let (entry, length) = match self.peek(sequence)? {
            Ok(found) => found,
            Err(found) => return Ok(Err(found)),
        };
        if self.look(sequence).0 != entry {
            return Ok(Err(Found::Retired));
        }
        if length > self.geometry.largest || entry.block() + self.geometry.run(length) > self.geometry.blocks {
            return Err(Errno::EBADMSG);
        }
        Ok(Ok((entry.block(), length)))
    }

    #[inline(always)]
    fn peek(&self, sequence: u64) -> SysResult<Result<(Entry, usize), Found>> {
        let (entry, ahead) = self.look(sequence);
        if ahead > 0 {
            return Ok(Err(Found::Retired));
        }
        if ahead < 0 || !entry.is_full() {
            return Ok(Err(Found::Nothing));
        }
        if entry.block() >= self.geometry.blocks {
            return Err(Errno::EBADMSG);
        }
        // Relaxed: visible since the entry was loaded, and the entry is looked at again. Copied once.
        let length = self.parts.records.word::<1>(entry.block()).load(Ordering::Relaxed);
        Ok(Ok((entry, usize::try_from(length).unwrap_or(usize::MAX))))
    }

    /// Copies out of a borrowed message.
    pub(super) fn read_at(&self, block: u64, offset: usize, target: &mut [u8]) {
        if !target.is_empty() {
            self.parts.payload.get_at(self.at(block) + offset, target);
        }
    }

    /// Where a borrowed message's bytes lie.
    pub(super) fn pointer(&self, block: u64) -> NonNull<u8> {
        self.parts.payload.pointer(0, self.at(block))
    }

    // --- whoever comes by ---

    /// Takes from the dead what they held, when their places are `freed`.
    pub(super) fn tidy(&self, freed: bool) -> SysResult<()> {
        // First who holds what, then the fence, then the index: what an entry does not name then, none will.
        let mut suspects = Vec::new();
        let mut changed = freed || self.member.has_dead()?;
        for block in 0..self.geometry.blocks {
            let word = self.load(block);
            match word.phase() {
                Phase::Held if self.member.is_current(word.owner()) => {}
                Phase::Held | Phase::Live | Phase::Skipped => suspects.push((block, word)),
                Phase::Free | Phase::Follows => {}
            }
        }
        self.fence_frontier()?;
        let named = self.named();
        for (block, word) in suspects {
            let is_named = named.binary_search(&block).is_ok();
            match word.phase() {
                Phase::Held if is_named => changed |= self.step(block, word, word.to(Phase::Live)),
                Phase::Held => {
                    let skipped = word.to(Phase::Skipped);
                    if self.step(block, word, skipped) {
                        self.settle(block, skipped);
                        changed = true;
                    }
                }
                Phase::Skipped => {
                    self.settle(block, word);
                    changed = true;
                }
                // Emptied by one who died before freeing it, or is just about to.
                _ if !is_named => changed |= self.step(block, word, word.to(Phase::Free)),
                _ => {}
            }
        }
        // Who died may not have come to do it.
        if changed { self.ring_all() } else { Ok(()) }
    }

    /// Has all who sleep look again.
    pub(super) fn ring_all(&self) -> SysResult<()> {
        self.control()?.publishers_bell.0.ring_all();
        self.control()?.subscribers_bell.0.ring_all();
        Ok(())
    }

    /// Has the exchanges fail by which those who were declared dead, and are not, may be just about to publish.
    fn fence_frontier(&self) -> SysResult<()> {
        loop {
            let sequence = self.frontier()?;
            let (entry, ahead) = self.look(sequence);
            let fenced = entry.fenced();
            if ahead == 0
                && !entry.is_full()
                && self.entry(sequence).compare_exchange(entry.0, fenced.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
            {
                return Ok(());
            }
        }
    }

    /// The blocks that entries name, in order.
    fn named(&self) -> Vec<u64> {
        let entries = (0..self.parts.index.count()).map(|entry| self.look(entry).0);
        let mut named: Vec<u64> = entries.filter(|entry| entry.is_full()).map(Entry::block).collect();
        named.sort_unstable();
        named
    }

    /// Counts a message that was skipped, then frees its blocks. Does nothing if it is done already.
    fn settle(&self, block: u64, word: Block) {
        let account = self.parts.records.word::<2>(block);
        loop {
            // The account first, the word second: if the word still stands, the count was taken while it stood, so that
            // either it includes this message (its mark says so), or the exchange adds it exactly once.
            let counted = account.load(Ordering::Acquire);
            if self.load(block) != word {
                return;
            }
            let mark = counted & u64::from(u32::MAX);
            let next = ((counted >> 32) + 1) << 32 | word.version();
            if mark == word.version()
                || account.compare_exchange(counted, next, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                break;
            }
        }
        self.step(block, word, word.to(Phase::Free));
    }

    /// How many messages were skipped, and how many are being made.
    pub(super) fn skipped_and_reserved(&self) -> (u64, u64) {
        let (mut skipped, mut reserved, named) = (0u64, 0, self.named());
        for block in 0..self.geometry.blocks {
            // As `settle`: a word that stands between the looks at the account says whether it is yet to be counted.
            let (counted, word) = (self.parts.records.word::<2>(block).load(Ordering::Acquire), self.load(block));
            let uncounted = word.phase() == Phase::Skipped && counted & u64::from(u32::MAX) != word.version();
            skipped = skipped.wrapping_add((counted >> 32) + u64::from(uncounted));
            reserved += u64::from(word.phase() == Phase::Held && named.binary_search(&block).is_err());
        }
        (skipped, reserved)
    }
}
