//! What carries records from those who log to the one that writes: a ring of its own, or a message queue of the kernel's.

use super::layout::{BATCH, PLACES};
use super::options::{LogFull, LogOptions, LogThrough};
use super::queue::{Held, Queue};
use super::record::{Envelope, Parcel};
use super::{Base, part};
use crate::address::{Address, Scheme};
use crate::error::Result;
use crate::ring::{Ring, RingBorrowed, RingFull, RingOptions};
use crate::segment::WaitMode;
use crate::timeout::Timeout;

/// A record of up to 32 bytes less lies in its slot: the path of a source file and a line of text. Those that are longer
/// look for room besides, which takes longer than all else about sending them.
const SLOT: usize = 256;

pub(super) enum Carrier {
    Ring(Ring),
    Queue(Queue),
}

/// How much there is that is not in a journal yet.
pub(super) struct Load {
    pub messages: u64,
    /// Half-sent messages of the dead.
    pub skipped: u64,
    /// Memory beside the log's own.
    pub bytes: usize,
}

impl Carrier {
    /// Opens that of this log, or makes it. Never blocks.
    pub fn open(address: &Address, base: &Base, options: &LogOptions) -> Result<Carrier> {
        // A writer that looks again and again would take the time of those who log.
        let wait = if options.wait == WaitMode::Poll { WaitMode::Poll } else { WaitMode::Block };
        let made = &base.made;
        if made.through != LogThrough::Ring {
            return Queue::open(address, base, wait).map(Carrier::Queue);
        }
        let ring = RingOptions {
            capacity: made.capacity,
            largest: made.largest,
            participants: base.core.member.segment().participants(),
            persistent: true,
            mode: made.mode,
            full: if options.full == LogFull::Drop { RingFull::Fail } else { RingFull::Wait },
            wait,
            ..Default::default()
        };
        Ring::open_with_slots(&part(Scheme::Ring, address, base.id())?, ring, SLOT).map(Carrier::Ring)
    }

    /// Removes that of this log.
    pub fn remove(address: &Address, id: u64, through: LogThrough) -> Result<()> {
        match through {
            LogThrough::Ring | LogThrough::Default => Ring::remove(&part(Scheme::Ring, address, id)?),
            through => Queue::remove(through, address, id),
        }
    }

    /// Sends a record, whose envelope is asked for as late as can be; waits for room.
    #[inline]
    pub fn send(
        &self,
        base: &Base,
        parcel: &Parcel<'_>,
        room: Timeout,
        envelope: impl FnOnce() -> Envelope,
    ) -> Result<()> {
        match self {
            Carrier::Ring(ring) => ring.send_in_pieces(parcel.length, room, |put| parcel.write(&envelope(), put)),
            Carrier::Queue(queue) => queue.send(base, parcel.length, room, |message| {
                parcel.write(&envelope(), |at, bytes| {
                    if let Some(to) = message.get_mut(at..at + bytes.len()) {
                        to.copy_from_slice(bytes);
                    }
                });
            }),
        }
    }

    /// Sends bytes that are no record; `EAGAIN` if there is no room.
    pub fn send_mark(&self, base: &Base, mark: &[u8]) -> Result<()> {
        match self {
            Carrier::Ring(ring) => ring.send(mark, Timeout::Now),
            Carrier::Queue(queue) => {
                queue.send(base, mark.len(), Timeout::Now, |message| message.copy_from_slice(mark))
            }
        }
    }

    /// The next message; waits for one. For the writer, as is `others_hold`.
    pub fn borrow<'a>(&'a self, base: &'a Base, timeout: Timeout) -> Result<Carried<'a>> {
        match self {
            Carrier::Ring(ring) => ring.borrow(timeout).map(Carried::InRing),
            Carrier::Queue(queue) => queue.borrow(base, timeout).map(Carried::InPlace),
        }
    }

    /// Begins to be the writer's. How many messages of those before are still to come back: wait until there are none.
    pub fn others_hold(&self) -> Result<usize> {
        match self {
            Carrier::Ring(ring) => ring.others_hold(),
            Carrier::Queue(queue) => {
                queue.begin(); // whose lock it is has what they left
                Ok(0)
            }
        }
    }

    /// Is done with all of these, and then calls those who wait for room: one that is called for the first slot finds no more
    /// than that, and sleeps again.
    pub fn release_all<'a>(&'a self, messages: Vec<Carried<'a>>) -> Result<()> {
        let mut released = Ok(());
        for message in messages {
            released = released.and(match message {
                Carried::InRing(message) => message.release_quietly(),
                message => message.release(),
            });
        }
        if let Carrier::Ring(ring) = self {
            ring.call_producers();
        }
        released
    }

    /// Messages that a writer can have in its hand at once.
    pub fn most(&self) -> usize {
        match self {
            Carrier::Ring(_) => BATCH,
            Carrier::Queue(_) => PLACES,
        }
    }

    /// Whether what comes back does so in its order.
    pub fn keeps_order(&self) -> bool {
        matches!(self, Carrier::Queue(_))
    }

    pub fn load(&self, base: &Base) -> Result<Load> {
        match self {
            Carrier::Ring(ring) => {
                let seen = ring.statistics()?;
                Ok(Load { messages: seen.queued + seen.borrowed, skipped: seen.skipped, bytes: seen.bytes })
            }
            Carrier::Queue(queue) => queue.load(base),
        }
    }

    /// Ends the waits of all threads on it with `ECANCELED`.
    pub fn end_waits(&self) {
        match self {
            Carrier::Ring(ring) => ring.end_waits(),
            Carrier::Queue(queue) => queue.end_waits(),
        }
    }
}

/// A message in the writer's hand. Released once it is dealt with; dropped before that, it comes back.
pub(super) enum Carried<'a> {
    InRing(RingBorrowed<'a>),
    InPlace(Held<'a>),
}

impl Carried<'_> {
    /// Copies bytes of it, from this offset on; how many.
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> usize {
        match self {
            Carried::InRing(message) => message.read(offset, buffer),
            Carried::InPlace(message) => message.read(offset, buffer),
        }
    }

    /// Whether somebody had it before.
    pub fn is_redelivered(&self) -> bool {
        match self {
            Carried::InRing(message) => message.is_redelivered(),
            Carried::InPlace(message) => message.is_redelivered(),
        }
    }

    pub fn release(self) -> Result<()> {
        match self {
            Carried::InRing(message) => message.release(),
            Carried::InPlace(message) => {
                message.release();
                Ok(())
            }
        }
    }
}
