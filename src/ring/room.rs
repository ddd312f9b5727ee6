//! Room for the messages of a lane that are longer than a slot.
//!
//! ```text
//! chunk      one of the largest message, or split into
//! cells      9 to 16 of equal size, a power of two; a message takes some in a row, or one is split into
//! cells      16, and so on, down to less than 1 KiB
//! ```
//!
//! Each of these *nodes* has a word, which names the tenant whose it is: a slot in the lap in which it was claimed. Nothing is
//! ever given back: a node is vacant as soon as the slot has gone on from its tenant, by the one exchange that ends
//! the message, whoever makes it. So what a process had taken, or was about to take, when it died comes back with its slot, and
//! there is nothing else to recover.
//!
//! Taking a cell is an exchange of its word, from vacant, and then a look whether the node around it is still split; if
//! not, the cell is put back. Making a whole of what was split is an exchange of the node's word to CLEARING, and
//! then a look whether all its cells are vacant; if not, it is put back. Each looks behind a fence after its exchange, so one of two who meet
//! sees the other. A sender that waits leaves the node in CLEARING: nobody takes cells there any more, and as messages are released it
//! becomes whole, so that a long message does not wait for ever behind short ones that come and go.

use std::cell::Cell;
use std::sync::atomic::AtomicUsize;

use super::lane::Lane;
use super::word::{LAP_BITS, Word};
use crate::sync_atomics::{Ordering, fence};
use crate::sys::shared::{Places, Words};

/// The bytes of a cell, at least.
const CELL: usize = 64;
/// A node is split into so many, but a chunk, which may have less.
const FAN: usize = 16;
/// So many nodes that are split already are looked at before another is split, and all of them only if none can be.
const NEAR: usize = 16;

/// The nodes of one size, and how many of the next each is split into (0: it is not).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    pub size: usize,
    pub fan: usize,
}

/// The levels of a room for messages up to this, chunks first.
pub(super) fn levels(largest: usize) -> Vec<Level> {
    let mut size = largest.div_ceil(FAN).next_power_of_two().max(CELL);
    let fan = largest.div_ceil(size).max(1);
    let mut levels = vec![Level { size: size * fan, fan }];
    while size / FAN >= CELL {
        levels.push(Level { size, fan: FAN });
        size /= FAN;
    }
    levels.push(Level { size, fan: 0 });
    levels
}

/// How many words a chunk has, those of all its parts included.
pub(super) fn words_of_chunk(levels: &[Level]) -> usize {
    let mut nodes = 1;
    levels.iter().fold(0, |sum, level| {
        let these = nodes;
        nodes *= level.fan;
        sum + these
    })
}

/// A value of a node's word: kind (2) | slot (23) | lap (39).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tenant(u64);

/// The most slots of a lane with room.
pub(super) const SLOTS_MAX: u64 = 1 << 23;
const KIND_SHIFT: u32 = 62;
const OWNED: u64 = 1 << KIND_SHIFT;
const SPLIT: u64 = 2 << KIND_SHIFT;
const CLEARING: u64 = 3 << KIND_SHIFT;
const FREE: u64 = 0;

impl Tenant {
    pub(super) fn of(slot: u64, claimed: Word) -> Tenant {
        Tenant(OWNED | (slot & (SLOTS_MAX - 1)) << LAP_BITS | claimed.lap())
    }

    fn kind(self) -> u64 {
        self.0 & CLEARING
    }

    fn clearing(self) -> Tenant {
        Tenant(self.0 | CLEARING)
    }

    pub(super) fn slot(self) -> u64 {
        self.0 >> LAP_BITS & (SLOTS_MAX - 1)
    }

    pub(super) fn lap(self) -> u64 {
        self.0 & ((1 << LAP_BITS) - 1)
    }
}

/// What a message takes: so many nodes of one level in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    level: usize,
    run: usize,
}

/// Whether a message would fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Now,
    Not,
    /// Of a slot it cannot be told yet whose it is: it may fit as soon as its owner has said so, for which nobody rings.
    Unsure,
}

/// So often who does not wait looks while it is unsure: the owner of such a slot is a step away from saying so, unless it was
/// stopped there.
pub(super) const UNSURE_LOOKS: u32 = 3;

/// A sender that waits for room.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    /// The node, and its level, that it has others leave.
    stake: Option<(usize, usize)>,
    /// The last look met a slot of which it cannot be told yet whose it is, so it may have been too early, and nobody rings.
    unsure: &'a Cell<bool>,
}

impl<'a> Waiter<'a> {
    pub(super) fn new(unsure: &'a Cell<bool>) -> Waiter<'a> {
        Waiter { stake: None, unsure }
    }
}

#[derive(Debug)]
pub(super) struct Room {
    words: Words,
    pub bytes: Places,
    levels: Vec<Level>,
    /// Where the words of each level begin, and of none behind the last.
    firsts: Vec<usize>,
    pub chunks: usize,
    /// Where something was found the last time, for each level. Relaxed: hints.
    hints: Vec<AtomicUsize>,
}

impl Room {
    pub(super) fn new(words: Words, bytes: Places, largest: usize, chunks: usize) -> Room {
        let levels = levels(largest);
        let mut firsts = vec![0];
        let mut nodes = chunks;
        for level in &levels {
            firsts.push(firsts[firsts.len() - 1] + nodes);
            nodes *= level.fan;
        }
        let hints = levels.iter().map(|_| AtomicUsize::new(0)).collect();
        Room { words, bytes, levels, firsts, chunks, hints }
    }

    fn count(&self, level: usize) -> usize {
        self.firsts[level + 1] - self.firsts[level]
    }

    /// The smallest cells of which less than a whole node's are enough.
    fn shape(&self, length: usize) -> Shape {
        let fitting = (1..self.levels.len()).rev().find_map(|level| {
            let run = length.div_ceil(self.levels[level].size);
            (run < self.levels[level - 1].fan).then_some(Shape { level, run })
        });
        fitting.unwrap_or(Shape { level: 0, run: 1 })
    }

    /// Whether a message may lie there.
    pub(super) fn holds(&self, place: u64, length: usize) -> bool {
        let all = self.chunks * self.levels[0].size;
        let ends_within = |place: usize| place.checked_add(length).is_some_and(|end| end <= all);
        usize::try_from(place).is_ok_and(|place| place.is_multiple_of(CELL) && ends_within(place))
    }
}

impl Lane {
    /// Takes room for what this tenant has to say; where. For one that waits, also prepares for finding it the next time.
    #[cold]
    pub(super) fn take_room(
        &self,
        room: &Room,
        me: Tenant,
        length: usize,
        waiter: Option<&mut Waiter<'_>>,
    ) -> Option<u64> {
        let shape = room.shape(length);
        let mut search = Search::new(self, room, me);
        let mut found = search.find(shape.level, shape.run);
        if let Some(waiter) = waiter {
            found = found.or_else(|| search.find_at_stake(shape, &mut waiter.stake));
            if let Some((level, node)) = waiter.stake.take_if(|_| found.is_some()) {
                search.let_go(level, node);
            }
            waiter.unsure.set(search.unsure);
        } else {
            for _ in 1..UNSURE_LOOKS {
                if found.is_some() || !search.unsure {
                    break;
                }
                std::thread::yield_now();
                search.forget();
                found = search.find(shape.level, shape.run);
            }
        }
        if search.disturbed {
            // Somebody may have looked in vain meanwhile. The fence orders what was put back before the look at the bell.
            fence(Ordering::SeqCst);
            self.ends.room_bell.0.ring_all();
        }
        found.map(|(level, node)| (node * room.levels[level].size) as u64)
    }

    /// Whether there would be room for so many bytes now. Changes nothing.
    #[cold]
    pub(super) fn fit_in_room(&self, room: &Room, length: usize) -> Fit {
        let Shape { level, run } = room.shape(length);
        let mut search = Search::new(self, room, Tenant(FREE));
        match search.may_find(level, run) {
            true => Fit::Now,
            false if search.unsure => Fit::Unsure,
            false => Fit::Not,
        }
    }
}

/// What a node is, as far as a search is concerned.
enum State {
    Vacant(Tenant),
    Split(Tenant),
    Busy,
}

struct Search<'a> {
    lane: &'a Lane,
    room: &'a Room,
    me: Tenant,
    /// The tenant that was looked at last, and whether it had gone.
    known: (Tenant, bool),
    /// Something was put back.
    disturbed: bool,
    unsure: bool,
}

impl<'a> Search<'a> {
    fn new(lane: &'a Lane, room: &'a Room, me: Tenant) -> Search<'a> {
        Search { lane, room, me, known: (Tenant(FREE), true), disturbed: false, unsure: false }
    }

    /// Looks anew at whoever could not be told.
    fn forget(&mut self) {
        (self.known, self.unsure) = ((Tenant(FREE), true), false);
    }

    /// Acquire pairs with the exchanges of `swap`: what a tenant said of itself before it took the node is visible.
    fn load(&self, level: usize, node: usize) -> Tenant {
        Tenant(self.room.words.at(self.room.firsts[level] + node).load(Ordering::Acquire))
    }

    fn swap(&self, level: usize, node: usize, from: Tenant, to: Tenant) -> bool {
        let word = self.room.words.at(self.room.firsts[level] + node);
        word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn has_gone(&mut self, tenant: Tenant) -> bool {
        if self.known.0 != tenant {
            let (gone, unsure) = self.lane.has_gone(tenant);
            self.known = (tenant, gone);
            self.unsure |= unsure;
        }
        self.known.1
    }

    fn state(&mut self, level: usize, node: usize) -> State {
        let word = self.load(level, node);
        match word.kind() {
            FREE => State::Vacant(word),
            SPLIT => State::Split(word),
            OWNED if self.has_gone(word) => State::Vacant(word),
            // Whoever was at it has gone: it is as split as before.
            CLEARING if word == self.me.clearing() || self.has_gone(word) => State::Split(word),
            _ => State::Busy,
        }
    }

    /// The nodes that a node is split into.
    fn within(&self, level: usize, node: usize) -> std::ops::Range<usize> {
        let fan = self.room.levels[level].fan;
        node * fan..(node + 1) * fan
    }

    fn is_clear(&mut self, level: usize, node: usize) -> bool {
        match self.state(level, node) {
            State::Vacant(_) => true,
            State::Busy => false,
            State::Split(_) => self.within(level, node).all(|cell| self.is_clear(level + 1, cell)),
        }
    }

    fn nodes_from_hint(&self, level: usize) -> impl Iterator<Item = usize> + use<> {
        let (count, hint) = (self.room.count(level), self.room.hints[level].load(Ordering::Relaxed));
        (0..count).map(move |offset| (hint + offset) % count)
    }

    fn hint(&self, level: usize, node: usize) {
        self.room.hints[level].store(node, Ordering::Relaxed);
    }

    // --- looking ---

    fn may_find(&mut self, level: usize, run: usize) -> bool {
        if level == 0 {
            return self.nodes_from_hint(0).any(|chunk| self.is_clear(0, chunk));
        }
        let around = level - 1;
        let has_run = |search: &mut Self, node| {
            matches!(search.state(around, node), State::Split(_))
                && search.clear_run(level, search.within(around, node), run).is_some()
        };
        self.nodes_from_hint(around).take(NEAR).any(|node| has_run(self, node))
            || self.may_find(around, 1)
            || self.nodes_from_hint(around).skip(NEAR).any(|node| has_run(self, node))
    }

    /// The first of so many clear nodes in a row.
    fn clear_run(&mut self, level: usize, within: std::ops::Range<usize>, run: usize) -> Option<usize> {
        let mut clear = 0;
        for node in within {
            clear = if self.is_clear(level, node) { clear + 1 } else { 0 };
            if clear == run {
                return Some(node + 1 - run);
            }
        }
        None
    }

    // --- taking ---

    /// Takes so many nodes of a level in a row: the first of them, or a larger one instead.
    fn find(&mut self, level: usize, run: usize) -> Option<(usize, usize)> {
        if level == 0 {
            return self.find_chunk().map(|chunk| (0, chunk));
        }
        let around = level - 1;
        if let Some(first) = self.find_within(self.nodes_from_hint(around).take(NEAR), around, run) {
            return Some((level, first));
        }
        if let Some((found, node)) = self.find(around, 1) {
            return Some(if found == around { self.split(around, node, run) } else { (found, node) });
        }
        let first = self.find_within(self.nodes_from_hint(around).skip(NEAR), around, run)?;
        Some((level, first))
    }

    fn find_within(&mut self, mut nodes: impl Iterator<Item = usize>, around: usize, run: usize) -> Option<usize> {
        nodes.find_map(|node| {
            let first = self.take_within(around, node, run)?;
            self.hint(around, node);
            Some(first)
        })
    }

    /// One that is whole, or else one that can be made so.
    fn find_chunk(&mut self) -> Option<usize> {
        let is_whole = |search: &mut Self, chunk| matches!(search.state(0, chunk), State::Vacant(_));
        let mut chunks = self.nodes_from_hint(0);
        let whole = chunks.find(|chunk| is_whole(self, *chunk) && self.seize(0, *chunk));
        let found = whole.or_else(|| {
            let mut chunks = self.nodes_from_hint(0);
            chunks.find(|chunk| self.is_clear(0, *chunk) && self.seize(0, *chunk))
        });
        found.inspect(|chunk| self.hint(0, (chunk + 1) % self.room.chunks))
    }

    /// Takes so many nodes in a row of those that this one is split into: the first of them.
    fn take_within(&mut self, around: usize, node: usize, run: usize) -> Option<usize> {
        let State::Split(word) = self.state(around, node) else { return None };
        // Where somebody died while he made it whole, it is split again; where this one is making it whole, it stays so.
        if word == self.me.clearing() || word.kind() == CLEARING && !self.swap(around, node, word, Tenant(SPLIT)) {
            return None;
        }
        let first = self.clear_run(around + 1, self.within(around, node), run)?;
        let taken = (first..first + run).take_while(|cell| self.seize(around + 1, *cell)).count();
        if taken == run {
            // Pairs with the fence in `vacate`: whoever makes the node whole sees these cells taken, or is seen here.
            fence(Ordering::SeqCst);
            if self.load(around, node).kind() == SPLIT {
                return Some(first);
            }
        }
        self.put_back(around + 1, first, taken);
        None
    }

    fn put_back(&mut self, level: usize, first: usize, run: usize) {
        for cell in first..first + run {
            self.swap(level, cell, self.me, Tenant(FREE));
            self.disturbed = true;
        }
    }

    /// Splits a node that is this tenant's, and keeps so many of the parts; or the whole, where somebody who came too late for an
    /// earlier splitting is just about to put one of them back.
    fn split(&mut self, level: usize, node: usize, run: usize) -> (usize, usize) {
        let first = self.within(level, node).start;
        let is_taken = |search: &mut Self, cell| {
            let State::Vacant(word) = search.state(level + 1, cell) else { return false };
            search.swap(level + 1, cell, word, search.me)
        };
        let taken = (first..first + run).take_while(|cell| is_taken(self, *cell)).count();
        if taken == run && self.swap(level, node, self.me, Tenant(SPLIT)) {
            self.hint(level, node);
            self.disturbed = true; // the other parts
            return (level + 1, first);
        }
        self.put_back(level + 1, first, taken);
        (level, node)
    }

    /// Makes a node this tenant's, whole, if all of it is vacant.
    fn seize(&mut self, level: usize, node: usize) -> bool {
        match self.state(level, node) {
            State::Busy => false,
            State::Vacant(word) => self.swap(level, node, word, self.me),
            State::Split(word) => self.clear(level, node, word, self.me, false),
        }
    }

    /// From split to something else, if all of it is vacant; `stay`: else it is left in clearing, and not split again.
    fn clear(&mut self, level: usize, node: usize, found: Tenant, to: Tenant, stay: bool) -> bool {
        let clearing = self.me.clearing();
        if found != clearing && !self.swap(level, node, found, clearing) {
            return false;
        }
        // Pairs with the fence in `take_within`.
        fence(Ordering::SeqCst);
        let mut clear = true;
        for cell in self.within(level, node) {
            clear &= self.vacate(level + 1, cell, stay);
            if !clear && !stay {
                break;
            }
        }
        if clear {
            return self.swap(level, node, clearing, to);
        }
        if !stay {
            self.swap(level, node, clearing, Tenant(SPLIT));
            self.disturbed = true;
        }
        false
    }

    fn vacate(&mut self, level: usize, node: usize, stay: bool) -> bool {
        match self.state(level, node) {
            State::Busy => false,
            State::Vacant(_) => true,
            State::Split(word) => self.clear(level, node, word, Tenant(FREE), stay),
        }
    }

    // --- waiting ---

    /// Has others leave a node that is large enough, until it can be taken.
    fn find_at_stake(&mut self, shape: Shape, stake: &mut Option<(usize, usize)>) -> Option<(usize, usize)> {
        let level = shape.level.saturating_sub(1);
        if stake.is_none() {
            let node = self.nodes_from_hint(level).find(|node| matches!(self.state(level, *node), State::Split(_)))?;
            *stake = Some((level, node));
        }
        let (level, node) = (*stake)?;
        let State::Split(word) = self.state(level, node) else {
            *stake = None; // somebody else was faster: another one next time
            return None;
        };
        if !self.clear(level, node, word, self.me, true) {
            return None;
        }
        Some(if shape.level == 0 { (level, node) } else { self.split(level, node, shape.run) })
    }

    /// No longer needs what it had others leave.
    fn let_go(&mut self, level: usize, node: usize) {
        if self.load(level, node) == self.me.clearing() {
            self.within(level, node).for_each(|cell| self.let_go(level + 1, cell));
            self.swap(level, node, self.me.clearing(), Tenant(SPLIT));
            self.disturbed = true;
        }
    }
}
