//! Where messages of unknown size are received, before they get memory of their own: one place for each thread.

use std::cell::Cell;

use nix::errno::Errno;

use super::{Channel, ChannelMessage, ChannelReceived};
use crate::error::{Error, Result};
use crate::sys::SysResult;
use crate::timeout::{Deadline, Timeout};

/// Room for most messages.
const USUAL: usize = 4096;

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
                Err(error) if error.is(Errno::EMSGSIZE) && error.true_size() > data.len() => {
                    let more = error.true_size() - data.len();
                    data.try_reserve_exact(more).map_err(|_| self.error(Errno::ENOMEM, "recv"))?;
                    data.resize(data.len() + more, 0);
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
