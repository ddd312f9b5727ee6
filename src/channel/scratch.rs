//! Where messages of unknown size are received, before they get memory of their own: one place for each thread.

use std::cell::Cell;

use nix::errno::Errno;

use super::{Channel, ChannelMessage, ChannelReceived};
use crate::error::{Error, Result};
use crate::sys::SysResult;
use crate::timeout::{Deadline, Timeout};

/// Room for most messages.
const USUAL: usize = 4096;
/// Room for every message: no mechanism carries more.
const MOST: usize = u32::MAX as usize;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The thread's memory, or some that is new; `ENOMEM` if there is none.
fn taken() -> SysResult<Vec<u8>> {
    let mut data = SCRATCH.try_with(Cell::take).unwrap_or_default(); // absent only while the thread ends
    if data.is_empty() {
        data.try_reserve_exact(USUAL).map_err(|_| Errno::ENOMEM)?;
        data.resize(USUAL, 0);
    }
    Ok(data)
}

/// Keeps memory for the next message of this thread, unless it is much.
fn keep(data: Vec<u8>) {
    if data.len() == USUAL {
        let _ = SCRATCH.try_with(|scratch| scratch.set(data)); // the thread ends: nobody needs it
    }
}

/// The first bytes of `data`: in as much memory as they need, since they may be kept for long, or in all there is.
fn handed_over(mut data: Vec<u8>, length: usize) -> Vec<u8> {
    let mut own = Vec::new();
    if data.len() > USUAL || own.try_reserve_exact(length).is_err() {
        data.truncate(length);
        return data;
    }
    own.extend_from_slice(&data[..length]);
    keep(data);
    own
}

impl Channel {
    /// Receives by `recv` into memory that grows as it has to.
    pub(super) fn grown(
        &self,
        timeout: Timeout,
        recv: impl Fn(&mut [u8], Timeout) -> Result<ChannelReceived>,
    ) -> Result<ChannelMessage> {
        let mut data = taken().map_err(|errno| self.error(errno, "recv"))?;
        match self.recv_growing(&mut data, timeout, recv) {
            Ok(received) => Ok(ChannelMessage { data: handed_over(data, received.length), received }),
            Err(error) => {
                keep(data);
                Err(error)
            }
        }
    }

    fn recv_growing(
        &self,
        data: &mut Vec<u8>,
        timeout: Timeout,
        recv: impl Fn(&mut [u8], Timeout) -> Result<ChannelReceived>,
    ) -> Result<ChannelReceived> {
        let deadline = Deadline::after(timeout);
        loop {
            match recv(data, deadline.left_of(timeout)) {
                Err(error) if error.is(Errno::EMSGSIZE) && data.len() < MOST => {
                    let wanted = match error.true_size() {
                        size if size > data.len() => size,
                        // The kernel does not tell it, as of System V queues: the next room is twice this one.
                        _ => data.len() * 2,
                    };
                    data.try_reserve_exact(wanted - data.len()).map_err(|_| self.error(Errno::ENOMEM, "recv"))?;
                    data.resize(wanted, 0);
                }
                received => return received,
            }
        }
    }

    /// Receives up to `most` messages as [`Channel::recv_batch`] does, into the thread's memory, and shows each to `each`.
    /// What it shows is dealt with: it is not received again.
    pub(crate) fn recv_each(&self, most: usize, timeout: Timeout, mut each: impl FnMut(&[u8])) -> Result<()> {
        let mut data = taken().map_err(|errno| self.error(errno, "recv"))?;
        let mut received = self.recv_growing(&mut data, timeout, |buffer, timeout| self.recv(buffer, timeout));
        let first = received.as_ref().map(drop).map_err(Error::clone);
        let mut count = 0;
        while let Ok(message) = &received {
            each(&data[..message.length]);
            count += 1;
            if count == most {
                break;
            }
            received = self.recv_growing(&mut data, Timeout::Now, |buffer, timeout| self.recv(buffer, timeout));
        }
        keep(data);
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_for_messages_whose_size_nobody_tells() {
        let (channel, _sender) = Channel::pair(&"pipe:".parse().unwrap()).unwrap();
        // Of two in a queue, the kernel told that the first is too large, and the size of the second.
        for told in [0, 10, USUAL] {
            let received = channel.grown(Timeout::Now, |buffer, _| match buffer.get_mut(..20_000) {
                None => Err(channel.error(Errno::EMSGSIZE, "recv").with_true_size(told)),
                Some(room) => {
                    room.fill(7);
                    Ok(ChannelReceived { length: 20_000, ..Default::default() })
                }
            });
            assert!(received.unwrap().data == [7; 20_000], "{told}");
        }
    }
}
