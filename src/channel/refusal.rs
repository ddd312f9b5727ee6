//! What a channel says when it refuses: each text names what would do.

use crate::address::Scheme;
use crate::error::Error;
use crate::wait::Operation;

use nix::errno::Errno;

use super::ChannelPeer;
use super::capabilities::Capabilities;
use super::framing::{Frames, Framing, Unfit};

/// A message of `length` bytes that the mechanism cannot carry.
#[cold]
pub(super) fn too_large(error: Error, scheme: Scheme, length: usize) -> Error {
    let able: Vec<_> = Scheme::ALL
        .iter()
        .filter(|other| **other != scheme)
        .filter(|other| Capabilities::of_scheme(**other).is_some_and(|c| c.largest.is_none_or(|most| most >= length)))
        .map(|other| format!("{other}:"))
        .collect();
    let reason = format!("{}; {} would carry a message of {length} bytes", error.reason(), able.join(" "));
    error.with_true_size(length).because_found(reason)
}

/// A received message that stays, because the caller's buffer is too small.
#[cold]
pub(super) fn does_not_fit(error: Error, length: usize, room: usize) -> Error {
    error.with_true_size(length).because_found(format!(
        "the message has {length} bytes and the buffer {room}; it stays, receive it with a larger buffer"
    ))
}

/// A stream that does not keep to the framing.
#[cold]
pub(super) fn not_ours(error: Error, who: &str, size: usize, frames: Option<Frames>) -> Error {
    let largest = frames.map_or(0, |frames| frames.largest);
    error.because_found(match frames.map(|frames| frames.framing) {
        Some(Framing::Line) => format!("{who} sent a line of more than largest={largest} bytes, and was cut off"),
        _ => format!(
            "{who} announced a message of {size} bytes, more than largest={largest}: it speaks something else \
             (framing=line and framing=none are for programs that know nothing of channels), or its largest= differs. \
             It was cut off; others are not affected"
        ),
    })
}

/// An answer that a wait's end has left half sent.
#[cold]
pub(super) fn half_an_answer(ended: Error, peer: &ChannelPeer) -> Error {
    let is_late = ended.is(Errno::ETIMEDOUT) || ended.is(Errno::EAGAIN);
    ended.because_found(match is_late {
        true => format!("{peer} does not read its answers, and was cut off in the middle of this one"),
        false => format!("{peer} was cut off, as it had got a part of this answer already"),
    })
}

/// A message that cannot be framed.
#[cold]
pub(super) fn unfit(operation: &Operation<'_>, frames: Frames, message: &[u8], why: Unfit) -> Error {
    let length = message.len();
    match why {
        Unfit::TooLarge => operation.error(Errno::EMSGSIZE).with_true_size(length).because_found(format!(
            "the message has {length} bytes, more than largest={}; set largest= on both sides",
            frames.largest
        )),
        Unfit::HasLineFeed => operation
            .error(Errno::EINVAL)
            .because("with framing=line a message has no line feed in it; framing=length carries any bytes"),
        Unfit::Empty => operation
            .error(Errno::EINVAL)
            .because("with framing=none an empty message is nothing at all; framing=length carries it"),
    }
}

#[cold]
pub(super) fn not_our_peer(operation: &Operation<'_>, peer: &ChannelPeer) -> Error {
    operation.error(Errno::EINVAL).because_found(format!("{peer} is not a sender to this channel"))
}

#[cold]
pub(super) fn no_answers(operation: &Operation<'_>) -> Error {
    operation.error(Errno::ENOTSUP).because(
        "this mechanism does not tell who sent a message; tcp: unix: unix-seqpacket: udp: unix-dgram: do, and calls \
         (Caller, Server) get their answers over any",
    )
}

/// A priority where there is none.
#[cold]
pub(super) fn no_priorities(error: Error) -> Error {
    error.because("this mechanism keeps no priorities; mq: does")
}
