//! How a one-to-one ring's producer writes and publishes records.
//!
//! It writes behind the last published record, where nobody looks, clears the word behind what it has written, and
//! publishes by storing the first header: of one record, or of a batch that hangs together behind it. Whoever dies
//! before that store has sent nothing, and whoever dies after it has sent everything; nothing else has to be true.

use nix::errno::Errno;

use super::one_layout::{Head, Log, Mark, ahead, distance, units_of};
use crate::sync_atomics::{Ordering, compiler_fence, fence};
use crate::sys::{SysResult, membarrier};

/// The producer's own view.
pub(super) struct Sending {
    /// Where the next record begins, in units.
    tail: u64,
    sent: u64,
    /// The head as it was last seen; the true one is there or ahead.
    head: u64,
    /// Where the mark is.
    marked: u64,
    /// The kernel cannot put barriers into this process: it makes its own.
    fences: bool,
}

/// Room for a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Where it was asked for.
    from: u64,
    /// Where the header will be: there, or at the front.
    at: u64,
    /// Where the message's bytes go, in the log.
    pub offset: usize,
    pub length: usize,
    next: u64,
}

impl Sending {
    /// Goes on behind what the one before has published, if there was one.
    pub(super) fn resume(log: &Log) -> SysResult<Sending> {
        let (producer, head) = (&log.control.producer.0, log.control.head.0.load(Ordering::Acquire));
        let mark = Mark(producer.mark.load(Ordering::Acquire));
        let before = mark.whole_count(producer.marked_count.load(Ordering::Relaxed));
        let (tail, messages) = log.walk(mark.units())?;
        let fences = membarrier::register().is_err();
        Ok(Sending { tail, sent: before.wrapping_add(messages), head, marked: mark.units(), fences })
    }

    /// Room for a message of this length at the tail.
    #[inline(always)]
    pub(super) fn room(&mut self, log: &Log, length: usize) -> SysResult<Option<Room>> {
        self.room_at(log, self.tail, length)
    }

    /// Where a message of this length would begin, and how many units it would need.
    pub(super) fn refused(&self, log: &Log, length: usize) -> (u64, u64) {
        let (need, to_end) = (units_of(length), log.to_end(self.tail));
        (self.tail, if to_end < need { to_end + need } else { need })
    }

    /// Room from here on, which is at or behind the tail. A unit is kept free for the word that ends the published.
    #[inline(always)]
    fn room_at(&mut self, log: &Log, from: u64, length: usize) -> SysResult<Option<Room>> {
        let (need, whole, to_end) = (units_of(length), log.whole(), log.to_end(from));
        let skipped = if to_end < need { to_end } else { 0 };
        if distance(self.head, from) + skipped + need >= whole {
            // Acquire pairs with the consumer's Release in `Receiving::give_room`: its reads of what is about to be
            // overwritten are over.
            self.head = log.control.head.0.load(Ordering::Acquire);
            let used = distance(self.head, from);
            if used > whole {
                return Err(Errno::EBADMSG);
            }
            if used + skipped + need >= whole {
                return Ok(None);
            }
        }
        let at = ahead(from, skipped);
        Ok(Some(Room { from, at, offset: log.offset(at), length, next: ahead(at, need) }))
    }

    /// Writes a message into this room, from its second line on and then the first, which the consumer polls: so that line
    /// changes hands once, when all that is to be seen in it follows at once.
    #[inline(always)]
    pub(super) fn write(&self, log: &Log, room: &Room, message: &[u8]) {
        self.end_behind(log, room);
        let (first, rest) = message.split_at(log.to_next_line(room.offset).min(message.len()));
        log.bytes.put_at(room.offset + first.len(), rest);
        log.bytes.put_at(room.offset, first);
    }

    /// Says that the published end behind this room, before anything is written into it.
    #[inline(always)]
    pub(super) fn end_behind(&self, log: &Log, room: &Room) {
        log.head(room.next).store(0, Ordering::Relaxed);
    }

    /// Publishes the record in this room, at the tail.
    #[inline(always)]
    pub(super) fn commit(&mut self, log: &Log, room: &Room) {
        let head = Head::new(room.length);
        let first = if room.at == room.from {
            head
        } else {
            log.head(room.at).store(head.0, Ordering::Relaxed);
            Head::FRONT
        };
        self.publish(log, first, room.next, 1);
    }

    /// Sends as many of these messages as there is room for, at one instant; how many. Stops before one that is too large.
    pub(super) fn batch(&mut self, log: &Log, messages: &[&[u8]]) -> SysResult<usize> {
        self.mark(log); // the batch may go around as far as to where the mark was
        let (mut first, mut next, mut sent) = (Head(0), self.tail, 0);
        for message in messages.iter().take_while(|message| message.len() <= log.geometry.largest) {
            let Some(room) = self.room_at(log, next, message.len())? else { break };
            log.bytes.put_at(room.offset, message);
            // All but the first header are stored, and seen once that one is.
            let mut head = Head::new(message.len());
            if room.at != room.from {
                log.head(room.at).store(head.0, Ordering::Relaxed);
                head = Head::FRONT;
            }
            if sent == 0 {
                first = head;
            } else {
                log.head(room.from).store(head.0, Ordering::Relaxed);
            }
            (next, sent) = (room.next, sent + 1);
        }
        if sent == 0 {
            return Ok(0);
        }
        log.head(next).store(0, Ordering::Relaxed);
        self.publish(log, first, next, sent);
        Ok(sent)
    }

    #[inline(always)]
    fn publish(&mut self, log: &Log, first: Head, next: u64, messages: usize) {
        // Release pairs with the Acquire in `Log::record`: who sees the header sees what is behind it.
        log.head(self.tail).store(first.0, Ordering::Release);
        (self.tail, self.sent) = (next, self.sent.wrapping_add(messages as u64));
        // Between the store of the header and the look at the bell: see `Shared::settle` for who makes up for the barrier.
        let bell = &log.control.consumers_bell.0;
        if self.fences || bell.fencing.load(Ordering::Relaxed) != 0 {
            fence(Ordering::SeqCst)
        } else {
            compiler_fence(Ordering::SeqCst)
        }
        bell.bell.ring_all();
        if distance(self.marked, self.tail) >= log.whole() / 8 {
            self.mark(log);
        }
    }

    /// Has those who count begin here. Must be done before the log has gone around once since the last time.
    #[inline(never)]
    fn mark(&mut self, log: &Log) {
        let producer = &log.control.producer.0;
        // In this order, see `Mark::whole_count`.
        producer.marked_count.store(self.sent, Ordering::Relaxed);
        producer.mark.store(Mark::new(self.tail, self.sent).0, Ordering::Release);
        // Pairs with the Acquire fence in `sent`: what is written from now on is not seen with the old mark.
        fence(Ordering::Release);
        self.marked = self.tail;
    }
}

/// How many messages were ever sent: at least that many, while the producer is at work.
pub(super) fn sent(log: &Log) -> u64 {
    let producer = &log.control.producer.0;
    // Acquire: the count was stored before the mark. If it is read first and a newer mark after, it may be behind it.
    let read = || {
        let mark = producer.mark.load(Ordering::Acquire);
        let count = producer.marked_count.load(Ordering::Acquire);
        (Mark(mark), count, producer.mark.load(Ordering::Acquire) == mark)
    };
    let (mark, count, _) = (0..64).map(|_| read()).find(|read| read.2).unwrap_or_else(read);
    let before = mark.whole_count(count);
    let walked = log.walk(mark.units());
    // A mark that has moved on may have been overtaken by what was walked along; what lay before it is certain.
    fence(Ordering::Acquire);
    let stands = producer.mark.load(Ordering::Relaxed) == mark.0;
    before.wrapping_add(walked.ok().filter(|_| stands).map_or(0, |(_, messages)| messages))
}
