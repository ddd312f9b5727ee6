//! What a ring shall be, and what it has seen.

use std::time::SystemTime;

use nix::errno::Errno;

use crate::address::Address;
use crate::error::{Error, Result};
use crate::segment::{CONSUMER, PRODUCER, WaitMode};

/// What a sender does when the ring is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RingFull {
    /// Waits, as long as its timeout allows.
    #[default]
    Wait,
    /// Fails with `EAGAIN` at once, whatever its timeout.
    Fail,
    /// Drops the message that is being sent, and counts it.
    DropNewest,
    /// Drops the oldest message that nobody has taken, and counts it.
    DropOldest,
}

/// What a handle is for. Others are told when the last of a kind has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RingRole {
    /// Becomes a producer when it first sends and a consumer when it first receives.
    #[default]
    Either,
    /// A producer from the start.
    Producer,
    /// A consumer from the start.
    Consumer,
}

impl RingRole {
    pub(super) fn bits(self) -> u32 {
        match self {
            RingRole::Either => 0,
            RingRole::Producer => PRODUCER,
            RingRole::Consumer => CONSUMER,
        }
    }
}

/// How to open or make a ring. `capacity`, `largest`, `depth`, `participants`, `lanes`, `persistent`, `redeliveries` and `mode`
/// count when it is made and are the ring's from then on; the rest is each handle's own.
#[derive(Clone, Debug, Default)]
pub struct RingOptions {
    /// Memory for messages in bytes, reserved at once; 0 for 1 MiB or, where a depth is given, for so many messages of the
    /// largest size.
    pub capacity: u64,
    /// The largest message in bytes; 0 for 1024 (or a quarter of the capacity, if that is less). A limit only: each message
    /// takes 128 bytes of the capacity, and one of more than 96 bytes its own length besides, rounded up to at most twice that
    /// (an eighth more on the average). Rings whose largest message has at most 112 bytes have 64 or 128 bytes for each instead.
    pub largest: u64,
    /// How many messages there may be at once, all lanes together, rounded up to a power of two in each; 0 for as many as
    /// take a quarter of the capacity, 65536 at most (where the largest message has at most 112 bytes, the whole of it). Not
    /// with a one-to-one ring, which has no such limit.
    pub depth: u64,
    /// How many handles may be open at the same time, at most 256; 0 for 256.
    pub participants: u32,
    /// How many lanes the ring has, at most 8; 0 for 1. Messages of a higher lane are received first. Each lane has its part
    /// of the capacity, and is full by itself. Not with a one-to-one ring.
    pub lanes: u32,
    /// Nobody is told that the other side has gone: the ring is there for those to come.
    pub persistent: bool,
    /// A message that was delivered again so often, and comes back once more, becomes a dead letter instead: it is received
    /// by handles with `dead_letters` only. 0: never. Dead letters take up half of a lane at most; what would go beyond is
    /// dropped, and counted as such. Not with a one-to-one ring.
    pub redeliveries: u32,
    /// Permissions of the file; 0 for 0600.
    pub mode: u32,
    /// What this handle does when the ring is full.
    pub full: RingFull,
    /// What this handle is for.
    pub role: RingRole,
    /// The lane that this handle sends by where it names no other.
    pub lane: u32,
    /// What this handle receives are dead letters, in no particular order, instead of messages; it does not become a consumer
    /// by that. One that is not released stays a dead letter.
    pub dead_letters: bool,
    /// How the calls of this handle wait.
    pub wait: WaitMode,
}

impl RingOptions {
    /// Fills in from the address what is default here.
    pub(super) fn with(&self, address: &Address) -> Result<RingOptions> {
        let number = |own: u64, key: &str| if own == 0 { address.number(key).unwrap_or(0) } else { own };
        let mut options = self.clone();
        options.capacity = number(self.capacity, "capacity");
        options.largest = number(self.largest, "largest");
        options.depth = number(self.depth, "depth");
        let participants = number(self.participants.into(), "participants");
        options.participants = u32::try_from(participants).unwrap_or(u32::MAX);
        let lanes = number(self.lanes.into(), "lanes");
        options.lanes = u32::try_from(lanes).unwrap_or(u32::MAX);
        let lane = number(self.lane.into(), "lane");
        options.lane = u32::try_from(lane).unwrap_or(u32::MAX);
        let redeliveries = number(self.redeliveries.into(), "redeliveries");
        options.redeliveries = u32::try_from(redeliveries).unwrap_or(u32::MAX);
        options.dead_letters |= address.flag("dead-letters").unwrap_or(false);
        options.persistent |= address.flag("persistent").unwrap_or(false);
        if options.mode == 0 {
            options.mode = address.mode().unwrap_or(0o600);
        }
        if options.full == RingFull::default() {
            options.full = match address.option("full") {
                Some(b"fail") => RingFull::Fail,
                Some(b"drop-newest") => RingFull::DropNewest,
                Some(b"drop-oldest") => RingFull::DropOldest,
                _ => RingFull::Wait,
            };
        }
        options.check(&address.to_string())
    }

    pub(super) fn check(mut self, address: &str) -> Result<RingOptions> {
        let refuse = |reason| Err(Error::new(Errno::EINVAL, "open").on_text(address).because(reason));
        if self.participants > 256 {
            return refuse("a ring has at most 256 participants");
        }
        if self.mode > 0o777 {
            return refuse("the mode is permissions, octal 0 to 777");
        }
        if self.participants == 0 {
            self.participants = 256;
        }
        Ok(self)
    }
}

/// A sum of counts that a peer may have written anything to.
pub(super) fn total<const N: usize>(counts: [u64; N]) -> u64 {
    counts.into_iter().fold(0, u64::wrapping_add)
}

/// What a ring has seen, and what it holds. Always `sent = released + borrowed + queued + dropped + dead_lettered`: each
/// is derived from the words by which messages change hands, so that no death, at any instruction, can part them. While others are at
/// work the figures of different slots are of different instants; the sum holds nevertheless.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingStatistics {
    /// Messages that were committed, or dropped by their sender because the ring was full.
    pub sent: u64,
    /// Messages that consumers were done with.
    pub released: u64,
    /// Messages that consumers have taken and not released.
    pub borrowed: u64,
    /// Messages that nobody has taken.
    pub queued: u64,
    /// Messages that were thrown away because the ring, or its room for dead letters, was full.
    pub dropped: u64,
    /// Messages that came back too often and that nobody has taken since.
    pub dead_lettered: u64,
    /// Places that producers have reserved and not committed, or hold while they wait for room.
    pub writing: u64,
    /// Reservations that were given up, and places of senders that waited for room in vain. They were never sent.
    pub aborted: u64,
    /// Half-written messages of producers that died. They were never sent.
    pub skipped: u64,
    /// How often a message was given back after it had been taken, because its consumer died or did not release it.
    /// Advisory: a death at the wrong moment can leave it short by one.
    pub redelivered: u64,
    /// Lanes.
    pub lanes: u32,
    /// Slots of all lanes, each for one message.
    pub slots: u64,
    /// The most messages that were in the ring at once (in one of its lanes, if there are several), those being written
    /// included; may be short by 16, or an eighth of the slots if that is less. 0 with a one-to-one ring.
    pub high_water: u64,
    /// The largest message in bytes.
    pub largest: usize,
    /// Memory in bytes, all of it.
    pub bytes: usize,
    /// Who takes part.
    pub participants: Vec<RingParticipant>,
}

/// One handle on a ring, of this or another process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingParticipant {
    /// The handle that was asked.
    pub is_self: bool,
    /// Its process; `None` if it lives in a pid namespace that this one cannot see.
    pub pid: Option<u32>,
    /// Whether it has sent, or was opened to send.
    pub producer: bool,
    /// Whether it has received, or was opened to receive.
    pub consumer: bool,
    /// When it was opened, to the second.
    pub since: SystemTime,
    /// Messages that it is writing, or has taken and not released.
    pub holding: u64,
    /// How many of its threads wait.
    pub waiting: u32,
    /// Since when the first of them does.
    pub waiting_since: Option<SystemTime>,
}
