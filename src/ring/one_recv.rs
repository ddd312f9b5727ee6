//! How a one-to-one ring's consumer takes records and gives their room back.
//!
//! It polls the word where the next header will be. A message that is copied out is done with in one step, after the
//! copy: nobody hears of it before. One that is lent is known to be `taken` before anybody hears of it, and `released`
//! after; the successor of a consumer that died in between finds it between the two. Where the consumer is done the
//! producer learns by `head`, which follows now and then, as each move of it costs both sides a cache line.

use super::one_layout::{Head, Log, Mark, ahead, distance};
use crate::sync_atomics::{AtomicU32, Ordering, fence};
use crate::sys::{SysResult, membarrier};

/// The consumer's own view.
pub(super) struct Receiving {
    /// Where the next record begins, in units.
    head: u64,
    /// The head that the producer knows.
    given: u64,
    released: u64,
    /// Up to here messages may have been heard of before; behind the head, if none.
    heard: Option<u64>,
    /// How often it was found empty, and how many were released when it last was.
    empties: u32,
    emptied: u64,
}

/// Once in so many times that nothing is there, a moment is waited before looking again; and how long, in pauses.
const TRY_EVERY: u32 = 64;
const MOMENT: u32 = 8;

/// A record that is there to be taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// Where its message's bytes begin in the log.
    pub offset: usize,
    pub length: usize,
    pub deliveries: u32,
    at: u64,
    /// Where the next one begins.
    next: u64,
}

pub(super) enum Found {
    Record(Record),
    TooLong(usize),
}

impl Receiving {
    /// Goes on where the one before was done, exactly; what it had taken beyond comes again, marked.
    pub(super) fn resume(log: &Log) -> SysResult<Receiving> {
        let side = &log.control.consumer.0;
        let mark = Mark(side.released.load(Ordering::Acquire));
        let released = mark.whole_count(side.released_count.load(Ordering::Relaxed));
        let head = mark.units();
        let mut state = Receiving { head, given: head, released, heard: None, empties: 0, emptied: released };
        let taken = Mark(side.taken.load(Ordering::Acquire)).units();
        state.heard = [taken, side.heard.load(Ordering::Acquire)]
            .into_iter()
            .filter(|heard| (1..=log.whole()).contains(&distance(head, *heard)))
            .max_by_key(|heard| distance(head, *heard));
        state.give_back(log);
        state.give_room(log);
        Ok(state)
    }

    /// The next record, unless its message is longer than the room for it.
    #[inline(always)]
    pub(super) fn find(&self, log: &Log, room: usize) -> SysResult<Option<Found>> {
        self.find_at(log, self.head, room)
    }

    /// Looks at the next header until it is there, so often at most; whether it is.
    ///
    /// Where messages come one behind the other, looking at once takes the line from the producer for each of them; a
    /// moment later there are several. That is tried now and then, and goes on for as long as it is so.
    #[inline(always)]
    pub(super) fn poll_header(&mut self, log: &Log, looks: u32) -> bool {
        let since = self.released.wrapping_sub(self.emptied);
        self.emptied = self.released;
        self.empties = self.empties.wrapping_add(1);
        if since > 1 || self.empties.is_multiple_of(TRY_EVERY) {
            (0..MOMENT).for_each(|_| std::hint::spin_loop());
        }
        for _ in 0..looks {
            if log.is_published(self.head) {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// The record that begins here, which is at or behind the head.
    #[inline(always)]
    fn find_at(&self, log: &Log, from: u64, room: usize) -> SysResult<Option<Found>> {
        let Some((at, head, units)) = log.record(from)? else { return Ok(None) };
        let length = head.length();
        if length > room {
            return Ok(Some(Found::TooLong(length)));
        }
        let is_again = self.heard.is_some_and(|heard| (1..=log.whole()).contains(&distance(from, heard)));
        let deliveries = if is_again { head.again() + 2 } else { 1 };
        Ok(Some(Found::Record(Record { at, offset: log.offset(at), length, deliveries, next: ahead(from, units) })))
    }

    /// Counts in the header, before a message is handed out, that it comes again, so that the next after this one counts
    /// on.
    #[inline(always)]
    pub(super) fn count(&self, log: &Log, record: &Record) {
        if record.deliveries > 1 {
            let head = Head::new(record.length).with_again(record.deliveries - 1);
            log.head(record.at).store(head.0, Ordering::Relaxed);
            log.control.consumer.0.redelivered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has it known, before the message is lent, that it is: also to this side itself, should the loan be forgotten.
    pub(super) fn take(&mut self, log: &Log, record: &Record) {
        self.count(log, record);
        let known = self.heard.map_or(0, |heard| distance(self.head, heard));
        if !(distance(self.head, record.next)..=log.whole()).contains(&known) {
            self.heard = Some(record.next);
        }
        // Release: after the count in the header.
        log.control.consumer.0.taken.store(Mark::new(record.next, self.released.wrapping_add(1)).0, Ordering::Release);
    }

    /// Gives a lent message back: it will be delivered again.
    pub(super) fn give_back(&mut self, log: &Log) {
        let side = &log.control.consumer.0;
        let taken = Mark(side.taken.load(Ordering::Relaxed)).units();
        // What was heard of lies behind the head once that is past it.
        self.heard = self.heard.filter(|heard| (1..=log.whole()).contains(&distance(self.head, *heard)));
        let known = self.heard.map_or(0, |heard| distance(self.head, heard));
        if (known + 1..=log.whole()).contains(&distance(self.head, taken)) {
            self.heard = Some(taken);
        }
        // In this order: what was taken is always known by one of the two.
        side.heard.store(self.heard.unwrap_or(self.head), Ordering::Release);
        side.taken.store(Mark::new(self.head, self.released).0, Ordering::Release);
    }

    /// Is done with a message.
    #[inline(always)]
    pub(super) fn release(&mut self, log: &Log, record: &Record) {
        self.done(log, record.next, 1);
    }

    #[inline(always)]
    fn done(&mut self, log: &Log, next: u64, messages: u64) {
        let (side, released) = (&log.control.consumer.0, self.released.wrapping_add(messages));
        // In this order, see `Mark::whole_count`. Release: the message was read before.
        side.released_count.store(released, Ordering::Relaxed);
        side.released.store(Mark::new(next, released).0, Ordering::Release);
        (self.head, self.released) = (next, released);
        if distance(self.given, self.head) >= log.whole() / 8 {
            self.give_room(log);
        }
    }

    /// Hands out this message and those behind it, up to so many and to so much room, and is done with them; how many. Damage ends
    /// it: what was handed out is done with, and the next call meets the damage.
    pub(super) fn batch(
        &mut self,
        log: &Log,
        first: Record,
        most: usize,
        mut room: usize,
        mut hand_out: impl FnMut(usize, &Record),
    ) -> usize {
        let (mut record, mut count) = (first, 0);
        loop {
            self.count(log, &record);
            hand_out(count, &record);
            (room, count) = (room.saturating_sub(record.length), count + 1);
            let next = record.next;
            match if count < most { self.find_at(log, next, room) } else { Ok(None) } {
                Ok(Some(Found::Record(found))) => record = found,
                _ => {
                    self.done(log, next, count as u64);
                    return count;
                }
            }
        }
    }

    /// Lets the producer have what is free.
    #[cold]
    #[inline(never)]
    fn give_room(&mut self, log: &Log) {
        self.given = self.head;
        // These two must not stay so far behind that they seem to be ahead.
        self.give_back(log);
        // Release pairs with the producer's Acquire in `Sending::room_at`.
        log.control.head.0.store(self.head, Ordering::Release);
        // Between the store and the look at the bell: a producer that sleeps has set it before it looked at the head.
        fence(Ordering::SeqCst);
        log.control.producers_bell.0.ring_all();
        log.sleeps.no_more(log);
    }
}

/// Who puts the barrier between the producer's store of a header and its look at the bell: the producer, once it is
/// told that the consumer sleeps often; until then the consumer, who has the kernel do it.
#[derive(Debug, Default)]
pub(super) struct Sleeps {
    /// The producer was told, and has heard of it.
    told: AtomicU32,
    lately: AtomicU32,
}

impl Sleeps {
    /// To be called between setting the bell's bit and the last look before a sleep; false if there may have been no
    /// barrier.
    pub(super) fn settle(&self, log: &Log) -> bool {
        // Relaxed: the consumer's own.
        self.lately.store(1, Ordering::Relaxed);
        if self.told.load(Ordering::Relaxed) != 0 {
            return true;
        }
        log.control.consumers_bell.0.fencing.store(1, Ordering::SeqCst);
        // After this every producer finds the word above.
        let settled = membarrier::barrier().is_ok();
        self.told.store(u32::from(settled), Ordering::Relaxed);
        settled
    }

    /// It has not slept for so long that barriers for every message are not worth while.
    fn no_more(&self, log: &Log) {
        if self.lately.swap(0, Ordering::Relaxed) == 0 {
            self.told.store(0, Ordering::Relaxed);
            log.control.consumers_bell.0.fencing.store(0, Ordering::Relaxed);
        }
    }
}
