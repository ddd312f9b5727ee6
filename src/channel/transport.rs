//! What each mechanism gives a channel.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::poll::PollFlags;

use super::{ChannelPeer, ChannelReceived, ChannelStatistics, Direction};
use crate::error::Result;
use crate::timeout::{Deadline, Timeout};

/// One end of a mechanism that carries messages. What an end does not do is refused before it comes here.
pub(super) trait Transport: Send + Sync {
    /// Sends one message whole, or fails and has sent nothing of it.
    fn send(&self, message: &[u8], priority: u32, timeout: Timeout) -> Result<()>;

    /// Sends several within one deadline: how many were sent, and what stopped it.
    fn send_batch(&self, messages: &[&[u8]], timeout: Timeout) -> (usize, Result<()>) {
        let deadline = Deadline::after(timeout);
        for (done, message) in messages.iter().enumerate() {
            if let Err(error) = self.send(message, 0, deadline.left_of(timeout)) {
                return (done, Err(error));
            }
        }
        (messages.len(), Ok(()))
    }

    /// Receives one message; one that does not fit the buffer stays, and its size is told (EMSGSIZE).
    fn recv(&self, buffer: &mut [u8], timeout: Timeout) -> Result<ChannelReceived>;

    /// Receives one more of a batch: those before it have not been dealt with yet.
    fn recv_more(&self, buffer: &mut [u8], timeout: Timeout) -> Result<ChannelReceived> {
        self.recv(buffer, timeout)
    }

    /// Has what was received and not dealt with received again. False: the mechanism cannot.
    fn put_back(&self) -> Result<bool> {
        Ok(false)
    }

    /// Sends an answer to the sender of a message.
    fn reply(&self, peer: &ChannelPeer, message: &[u8], timeout: Timeout) -> Result<()>;

    /// Waits until the other side's system, or the other side, has everything that was sent.
    fn flush(&self, timeout: Timeout) -> Result<()>;

    /// A descriptor to poll, and for what, before the next call; `ENOTSUP` if there is nothing to poll.
    fn descriptor(&self, direction: Direction) -> Result<(OwnedFd, PollFlags)>;

    /// The descriptor that carries the messages, where that is one and all.
    fn stream(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Has room for the unfinished messages of so many live senders, where messages come in pieces.
    fn expect_senders(&self, _: usize) {}

    /// Fails to send what goes in part when the wait is over, where its rest would be kept to be sent later.
    fn keep_no_rest(&self) {}

    /// Adds the mechanism's own counts.
    fn count(&self, statistics: &mut ChannelStatistics);

    /// Ends the waits of all threads.
    fn end_waits(&self);
}
