//! What the mechanism of an address can do, said before it is opened.

use crate::address::{Address, Scheme};
use crate::error::Result;
use crate::mq::{MQ_PRIORITY_MAX, Mq, SysvMq};
use crate::pipe::PIPE_ATOMIC;

use super::durable;
use super::framing::{self, Frames, Framing};

/// What outlives what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChannelDurability {
    /// Messages on their way are lost when the receiving process ends.
    Connection,
    /// They lie in the system's memory: every process may end, a reboot loses them.
    System,
    /// They lie on the disk.
    Disk,
}

/// What a channel over an address does and does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The messages of one sender arrive in its order.
    pub ordered: bool,
    /// A message arrives as it was sent, neither split nor joined.
    pub boundaries: bool,
    /// The largest message in bytes; `None` if it is decided by whoever made the object.
    pub largest: Option<usize>,
    /// How many priorities there are; 1 is none.
    pub priorities: u32,
    /// What messages outlive.
    pub durability: ChannelDurability,
    /// Several may send at the same time.
    pub many_senders: bool,
    /// Several may receive at the same time; each message goes to one of them, or to all with `broadcast`.
    pub many_receivers: bool,
    /// Every receiver gets every message.
    pub broadcast: bool,
    /// The receiver knows who sent a message, and can answer.
    pub answers: bool,
    /// The receiver knows the process and user of the sender.
    pub credentials: bool,
    /// Receiving ends (`EPIPE`) once the last sender has gone and everything is received.
    pub ends: bool,
    /// Reaches other hosts.
    pub crosses_hosts: bool,
    /// Messages may be lost, or arrive twice or out of order, without anybody noticing.
    pub may_lose: bool,
}

impl Capabilities {
    /// Of a scheme, with the options that it has by default; `None` if it carries no messages.
    pub(super) fn of_scheme(scheme: Scheme) -> Option<Capabilities> {
        let plain = Capabilities {
            ordered: true,
            boundaries: true,
            largest: Some(framing::LARGEST),
            priorities: 1,
            durability: ChannelDurability::Connection,
            many_senders: true,
            many_receivers: false,
            broadcast: false,
            answers: false,
            credentials: false,
            ends: false,
            crosses_hosts: false,
            may_lose: false,
        };
        let queue = Capabilities { durability: ChannelDurability::System, many_receivers: true, ..plain };
        Some(match scheme {
            Scheme::Tcp => Capabilities { answers: true, crosses_hosts: true, ..plain },
            Scheme::Udp => Capabilities {
                ordered: false,
                largest: Some(65_507),
                answers: true,
                crosses_hosts: true,
                may_lose: true,
                ..plain
            },
            Scheme::Unix => Capabilities { answers: true, credentials: true, ..plain },
            Scheme::UnixDgram => Capabilities { largest: None, answers: true, ..plain },
            Scheme::UnixSeqpacket => Capabilities { largest: None, answers: true, credentials: true, ..plain },
            Scheme::Pipe | Scheme::Fifo => Capabilities { ends: true, ..plain },
            Scheme::Mq => {
                Capabilities { largest: Some(Mq::limits().size_default), priorities: MQ_PRIORITY_MAX + 1, ..queue }
            }
            Scheme::SysvMq => Capabilities { largest: SysvMq::limits().ok().map(|limits| limits.message_max), ..queue },
            Scheme::Ring => Capabilities { largest: Some(1024), ends: true, ..queue },
            Scheme::Topic => Capabilities { largest: Some(1024), broadcast: true, ..queue },
            Scheme::File => {
                Capabilities { durability: ChannelDurability::Disk, many_receivers: true, broadcast: true, ..plain }
            }
            _ => return None,
        })
    }

    /// Of this very address.
    pub(super) fn of(address: &Address) -> Result<Capabilities> {
        let scheme = address.scheme();
        let Some(mut found) = Capabilities::of_scheme(scheme) else {
            return Err(super::carries_no_messages(address, "capabilities"));
        };
        let number = |key| address.number(key).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        match scheme {
            Scheme::Tcp | Scheme::Unix | Scheme::Pipe | Scheme::Fifo => {
                let frames = Frames::of(address);
                found.largest = Some(frames.largest);
                found.boundaries = frames.framing != Framing::None;
                if matches!(scheme, Scheme::Pipe | Scheme::Fifo) && frames.framing != Framing::Length {
                    found.largest = Some(frames.largest.min(PIPE_ATOMIC - 1));
                }
            }
            Scheme::File => {
                found.largest = Some(durable::largest(address));
                found.many_receivers = address.option("reader").is_none();
            }
            Scheme::Mq => found.largest = number("size").or(found.largest),
            Scheme::Ring | Scheme::Topic => {
                let capacity = number("capacity").filter(|bytes| *bytes != 0);
                let usual = found.largest.map(|most| most.min(capacity.unwrap_or(usize::MAX) / 4));
                found.largest = number("largest").filter(|bytes| *bytes != 0).or(usual);
            }
            _ => {}
        }
        if scheme == Scheme::Fifo && address.flag("keep-open") == Some(true)
            || scheme == Scheme::Ring && address.flag("persistent") == Some(true)
        {
            found.ends = false;
        }
        Ok(found)
    }
}
