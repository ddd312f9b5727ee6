//! What a topic and a subscription shall be, and what a topic has seen.

use std::time::{Duration, SystemTime};

use nix::errno::Errno;

use crate::address::Address;
use crate::error::{Error, Result};
use crate::segment::WaitMode;

const PARTICIPANTS_DEFAULT: u32 = 64;

/// How to open or make a topic. All but `wait` count when it is made and are the topic's from then on.
#[derive(Clone, Debug, Default)]
pub struct TopicOptions {
    /// Memory for messages in bytes, reserved at once; 0 for 1 MiB. Each message uses what it needs of it, in blocks of a
    /// sixteenth of the largest, at least 128 bytes.
    pub capacity: u64,
    /// The largest message in bytes; 0 for 1024 (or a quarter of the capacity, if that is less).
    pub largest: u64,
    /// How many messages are stored at most, give or take one for each that is being published at the same time; 0 for as
    /// many as the capacity holds. Those that all lossless subscribers have passed stay as history until there is need
    /// of their room.
    pub depth: u64,
    /// How many handles may be open at the same time, at most 256; 0 for 64.
    pub participants: u32,
    /// How many subscriptions there may be at the same time, at most 1024; 0 for as many as participants.
    pub subscribers: u32,
    /// Permissions of the file; 0 for 0600.
    pub mode: u32,
    /// How the calls of this handle wait.
    pub wait: WaitMode,
}

impl TopicOptions {
    /// Fills in from the address what is default here.
    pub(super) fn with(&self, address: &Address) -> Result<TopicOptions> {
        let number = |own: u64, key: &str| if own == 0 { address.number(key).unwrap_or(0) } else { own };
        let small = |own: u32, key: &str| u32::try_from(number(own.into(), key)).unwrap_or(u32::MAX);
        let mut options = self.clone();
        options.capacity = number(self.capacity, "capacity");
        options.largest = number(self.largest, "largest");
        options.depth = number(self.depth, "depth");
        options.participants = small(self.participants, "participants");
        options.subscribers = small(self.subscribers, "subscribers");
        if options.mode == 0 {
            options.mode = address.mode().unwrap_or(0o600);
        }
        options.check(&address.to_string())
    }

    pub(super) fn check(mut self, address: &str) -> Result<TopicOptions> {
        let refuse = |reason| Err(Error::new(Errno::EINVAL, "open").on_text(address).because(reason));
        if self.participants > 256 {
            return refuse("a topic has at most 256 participants");
        }
        if self.mode > 0o777 {
            return refuse("the mode is permissions, octal 0 to 777");
        }
        if self.participants == 0 {
            self.participants = PARTICIPANTS_DEFAULT;
        }
        if self.subscribers == 0 {
            self.subscribers = self.participants;
        }
        Ok(self)
    }
}

/// How to subscribe.
#[derive(Clone, Debug, Default)]
pub struct SubscribeOptions {
    /// Never slow a publisher: messages that are not received in time are missed, and counted. Otherwise publishers wait
    /// for this subscriber when there is no room, and it gets every message.
    pub lossy: bool,
    /// Of a lossless subscriber: how long it may hold up a publisher without receiving anything before it is cut off, to
    /// the millisecond; `None` for ever.
    pub stuck: Option<Duration>,
    /// Begin with up to so many of the last messages, as far as they are still stored; a lossless subscriber cannot have
    /// the oldest sixteenth of the depth.
    pub history: u64,
}

/// What was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicReceived {
    /// Bytes.
    pub length: usize,
    /// Which message of the topic it is; the first is 1. All subscribers see the same.
    pub sequence: u64,
    /// How many messages this subscriber has missed since the one that it received before.
    pub missed: u64,
}

/// What a topic has seen, and who uses it. Derived from the words by which messages change hands, so that no death, at
/// any instruction, can part them from what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicStatistics {
    /// Messages published so far.
    pub sent: u64,
    /// Messages that were being made by those who died, and were never published.
    pub skipped: u64,
    /// Messages stored, read or not.
    pub stored: u64,
    /// Messages that are being made.
    pub reserved: u64,
    /// Memory for messages in bytes.
    pub capacity: usize,
    /// The largest message in bytes.
    pub largest: usize,
    /// Messages stored at most.
    pub depth: u64,
    /// Memory in bytes, all of it.
    pub bytes: usize,
    /// Who takes part.
    pub participants: Vec<TopicParticipant>,
    /// Who has subscribed.
    pub subscribers: Vec<TopicSubscriber>,
}

/// One handle on a topic, of this or another process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicParticipant {
    /// The handle that was asked.
    pub is_self: bool,
    /// Its process; `None` if it lives in a pid namespace that this one cannot see.
    pub pid: Option<u32>,
    /// When it was opened, to the second.
    pub since: SystemTime,
}

/// One subscription to a topic, of this or another process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicSubscriber {
    /// Made by the handle that was asked.
    pub is_self: bool,
    /// Its process; `None` if it lives in a pid namespace that this one cannot see.
    pub pid: Option<u32>,
    /// When it subscribed, to the millisecond.
    pub since: SystemTime,
    /// Whether publishers wait for it.
    pub lossless: bool,
    /// How many messages it has before it; those that it has borrowed count.
    pub lag: u64,
    /// How many messages it has missed, as far as it has found out itself.
    pub missed: u64,
    /// Whether it was cut off, because it was stuck for longer than its limit.
    pub cut_off: bool,
}
